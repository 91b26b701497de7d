CREATE VIEW named AS
SELECT title, sem_agg('Name in one sentence the subject that all of {text} are about.', max_tokens => 48) AS name
FROM passages GROUP BY title;
