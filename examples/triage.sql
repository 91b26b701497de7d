-- What readers write to a library, sorted by a model and counted by the engine.
--
--   cargo run --release -- run --once examples/triage.sql
--
-- Each letter is asked about once: one forward pass for its kind, one for whether it mentions
-- children. A letter that comes, changes or goes costs its own questions, and moves the counts.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE letters (key TEXT, text TEXT);

INSERT INTO letters (key, text) VALUES
  ('anna', 'What a friendly library! Thank you for the reading evening, my children loved it.'),
  ('ben',  'The heating was broken again and nobody cared. Terrible.'),
  ('carl', 'The new opening hours are wonderful, I can come after work now.'),
  ('dora', 'I waited an hour, and then the librarian was rude to me.');

CREATE VIEW triage AS
SELECT key,
       sem_classify('Is {text} praise or a complaint?', 'praise', 'complaint') AS kind,
       sem_filter('Does {text} mention children?') AS mentions_children
FROM letters;

CREATE VIEW kinds AS
SELECT kind, count(*) AS n FROM triage GROUP BY kind;

SELECT * FROM triage ORDER BY key;
SELECT * FROM kinds ORDER BY kind;

-- One letter changes: two questions about it, and none about the others.
UPDATE letters SET text = 'The heating works again, thank you, it is lovely and warm.' WHERE key = 'ben';

SELECT * FROM kinds ORDER BY kind;
