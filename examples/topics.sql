-- What readers of a library write about, and how much of each.
--
--   cargo run --release -- run --once examples/topics.sql
--
-- Each letter is embedded once. Letters that are similar, or that others connect, are one topic, and its
-- name is one call over them. It is asked for again only where the letters of a topic are others.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE letters (key TEXT, text TEXT);

INSERT INTO letters (key, text) VALUES
  ('anna', 'The heating in the reading room is broken.'),
  ('ben',  'The heating of the reading room does not work.'),
  ('carl', 'Thank you for the concert on Friday, my daughter loved the violin.'),
  ('dora', 'The concert on Friday was wonderful, thank you for the violin.'),
  ('emil', 'I lost my library card.');

CREATE VIEW topics AS
SELECT sem_dedup(text, threshold => 0.6) AS stands_for,
       sem_group('Name in at most four words what {text} are about.', threshold => 0.6) AS topic,
       count(*) AS n
FROM letters GROUP BY 1, 2;

SELECT topic, n FROM topics ORDER BY n DESC, topic;

-- One letter more of a topic, one call; one less that was alone, none.
INSERT INTO letters (key, text) VALUES ('finn', 'Is the heating in the reading room still broken?');
DELETE FROM letters WHERE key = 'emil';

SELECT topic, n FROM topics ORDER BY n DESC, topic;
