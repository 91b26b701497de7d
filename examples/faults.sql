-- What is broken in a library, each fault once, however it is said; and a line about each.
--
--   cargo run --release -- run --once examples/faults.sql
--
-- Each report is embedded once. Two of them are the same if they are similar and the model, asked about
-- these two once, says so. A report that comes is compared with all, one that goes costs nothing.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE reports (key TEXT, text TEXT, reported_at TIMESTAMP);

INSERT INTO reports (key, text, reported_at) VALUES
  ('anna', 'The heating in the reading room is broken.',       TIMESTAMP '2024-01-08'),
  ('ben',  'The heating of the reading room does not work.',   TIMESTAMP '2024-01-09'),
  ('carl', 'Water is dripping from the ceiling of the cellar.', TIMESTAMP '2024-01-09'),
  ('dora', 'The reading room has no heating.',                 TIMESTAMP '2024-01-11'),
  ('emil', 'The lamp above the stairs is out.',                TIMESTAMP '2024-01-12');

CREATE VIEW faults AS
SELECT sem_dedup(text, 'Does each {text} report the same fault?', threshold => 0.7) AS fault,
       count(*) AS n, min(reported_at) AS since
FROM reports GROUP BY 1;

CREATE VIEW first_reports AS
SELECT key, text FROM (SELECT key, text, sem_dedup(text, threshold => 0.7) AS fault FROM reports) AS r
WHERE text = fault;

SELECT * FROM faults ORDER BY fault;
SELECT key FROM first_reports ORDER BY key;

-- One report more of the same, and one less of another: what the model said of the others stands.
INSERT INTO reports (key, text, reported_at) VALUES
  ('finn', 'It is cold in the reading room, the heating is broken.', TIMESTAMP '2024-01-13');
DELETE FROM reports WHERE key = 'carl';

SELECT * FROM faults ORDER BY fault;
