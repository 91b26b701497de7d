-- What readers of a library write, as columns; the most urgent first; and which letter is about what.
--
--   cargo run --release -- run --once examples/facts.sql
--
-- A letter is one call for all of its columns, one forward pass for its score, and one for each
-- topic of its branch. A letter that comes costs its own, one that goes costs nothing.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE letters (key TEXT, branch TEXT, text TEXT);
CREATE TABLE topics (key TEXT, branch TEXT, topic TEXT);

INSERT INTO letters (key, branch, text) VALUES
  ('anna', 'north', 'I borrowed 3 books on May 2nd and paid a fee of 4.50 euros, although I was not late.'),
  ('ben',  'north', 'The heating in the reading room has been broken for 2 weeks. It is freezing!'),
  ('carl', 'south', 'Thank you for the concert on Friday, my daughter loved the violin.'),
  ('dora', 'south', 'There is water running down the wall of the cellar, right now, next to the fuse box.');

INSERT INTO topics (key, branch, topic) VALUES
  ('money', 'north', 'fees and payments'), ('house', 'north', 'the building and its heating'),
  ('music', 'south', 'music and concerts'), ('damage', 'south', 'damage to the building');

CREATE VIEW facts AS
SELECT key, sem_extract('Read from {text}: the sum of money in euros, the number of books, and the mood.',
                        euros => FLOAT, books => INTEGER, mood => ('happy', 'unhappy'))
FROM letters;

CREATE VIEW urgent AS
SELECT key, sem_score('How urgently must somebody act because of {text}?') AS urgency
FROM letters ORDER BY urgency DESC LIMIT 2;

CREATE VIEW about AS
SELECT l.key, t.topic FROM letters l JOIN topics t
  ON l.branch = t.branch AND sem_match('Is {l.text} about {t.topic}?');

SELECT * FROM facts ORDER BY key;
SELECT * FROM urgent ORDER BY urgency DESC;
SELECT * FROM about ORDER BY key, topic;

-- One letter changes: one call and three passes, and none for the others.
UPDATE letters SET text = 'Thank you for the new heating, it is lovely and warm now.' WHERE key = 'ben';

SELECT * FROM facts ORDER BY key;
SELECT * FROM about ORDER BY key, topic;
