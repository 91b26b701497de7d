CREATE VIEW joined AS
SELECT p.key, s.key AS subject FROM passages AS p JOIN subjects AS s
  ON sem_match('The passage {p.text} is about the subject {s.name}.', all_pairs => TRUE);
