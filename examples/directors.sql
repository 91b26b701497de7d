-- How old were directors when their films came out, and of which nationality are they? Answers in two steps, of
-- which the first is shared.
--
--   cargo run --release -- run --once examples/directors.sql
--
-- Who made a film a model reads once, from the film's own note. Both second steps go on from there: one reads notes
-- about births, the other notes about nationalities. So a birth that is corrected is read again by what used
-- it, and by nothing else. EXPLAIN ANALYZE says what was asked for the last change.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE films (key TEXT, year INTEGER, text TEXT);
CREATE TABLE births (key TEXT, text TEXT);
CREATE TABLE nationalities (key TEXT, text TEXT);

INSERT INTO films (key, year, text) VALUES
  ('Alphaville',         1965, 'Alphaville, directed by Jean-Luc Godard .'),
  ('Breathless',         1960, 'Breathless, directed by Jean-Luc Godard .'),
  ('Cleo from 5 to 7',   1962, 'Cleo from 5 to 7, directed by Agnes Varda .'),
  ('Ikiru',              1952, 'Ikiru, directed by Akira Kurosawa .'),
  ('Ran',                1985, 'Ran, directed by Akira Kurosawa .'),
  ('Vagabond',           1985, 'Vagabond, directed by Agnes Varda .');

-- One of these is wrong: Agnes Varda was born in 1928.
INSERT INTO births (key, text) VALUES
  ('Jean-Luc Godard', 'Jean-Luc Godard was born in Paris on 3 December 1930.'),
  ('Agnes Varda',     'Agnes Varda was born in Ixelles on 30 May 1918.'),
  ('Akira Kurosawa',  'Akira Kurosawa was born in Tokyo on 23 March 1910.');

INSERT INTO nationalities (key, text) VALUES
  ('Jean-Luc Godard', 'Jean-Luc Godard had a passport of Switzerland and one of France.'),
  ('Agnes Varda',     'Agnes Varda was a citizen of France.'),
  ('Akira Kurosawa',  'Akira Kurosawa was a citizen of Japan.');

-- The first step: one call a film.
CREATE VIEW directors AS
SELECT key, year, sem_map('Who directed the film of {text}? Answer with the name.') AS director FROM films;

-- The second steps: one call for what is known of each director, however many films are theirs.
CREATE VIEW ages AS
SELECT d.key, b.key AS director,
       d.year - sem_extract('Read from {b.text}: the year of birth.', born => INTEGER) AS age
FROM directors AS d JOIN births AS b ON d.director LIKE '%' || b.key || '%';

CREATE VIEW citizens AS
SELECT d.key, n.key AS director,
       sem_extract('Read from {n.text}: of which country.', country => TEXT) AS country
FROM directors AS d JOIN nationalities AS n ON d.director LIKE '%' || n.key || '%';

SELECT * FROM ages ORDER BY key;
SELECT * FROM citizens ORDER BY key;
EXPLAIN ANALYZE ages;

-- A birth is corrected: one call, and the ages of two films follow.
UPDATE births SET text = replace(text, '1918', '1928') WHERE key = 'Agnes Varda';

SELECT * FROM ages ORDER BY key;
EXPLAIN ANALYZE ages;
EXPLAIN WHY ages['Vagabond'];

-- What did not use it was not asked again, nor was who made the films.
SELECT * FROM citizens ORDER BY key;
EXPLAIN ANALYZE citizens;

-- A film comes: who made it is asked once for both, and of its director all is known.
INSERT INTO films (key, year, text) VALUES ('Le Bonheur', 1965, 'Le Bonheur, directed by Agnes Varda .');

SELECT * FROM ages WHERE key = 'Le Bonheur';
SELECT * FROM citizens WHERE key = 'Le Bonheur';
EXPLAIN ANALYZE ages;
EXPLAIN ANALYZE citizens;

-- Where an age comes from, down to the rows that were given.
LINEAGE OF ages['Vagabond'];
