-- Many people ask about films. Who asks the same as another gets the same answer; a question that is made of
-- others is answered from their answers; and what is asked often, and is not kept yet, is proposed.
--
--   cargo run --release -- run --once examples/questions.sql
--
-- docs/questions.md says how it works. EXPLAIN ANALYZE says what was asked for the last change.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE notes (key TEXT, text TEXT);
CREATE TABLE questions (key TEXT, text TEXT);
-- Questions whose answers are kept, whoever asks.
CREATE TABLE bases (key TEXT, text TEXT);

INSERT INTO notes (key, text) VALUES
  ('Alphaville',      'Alphaville of 1965 is a film by Jean-Luc Godard.'),
  ('Ikiru',           'Ikiru of 1952 is a film by Akira Kurosawa.'),
  ('Vagabond',        'Vagabond of 1985 is a film by Agnes Varda.'),
  ('Agnes Varda',     'Agnes Varda comes from Ixelles, her birthplace.'),
  ('Akira Kurosawa',  'Akira Kurosawa comes from Tokyo, his birthplace.'),
  ('Jean-Luc Godard', 'Jean-Luc Godard comes from Paris, his birthplace.');

INSERT INTO bases (key, text) VALUES
  ('ikiru',    'Who directed Ikiru in 1952?'),
  ('vagabond', 'Who directed Vagabond in 1985?'),
  ('varda',    'Where was the director Agnes Varda born?');

INSERT INTO questions (key, text) VALUES
  ('anna', 'Who directed Alphaville in 1965?'),
  ('ben',  'Who directed the film Alphaville in 1965?'),
  ('carl', 'Who directed Vagabond in 1985? Where was Agnes Varda born?'),
  ('dora', 'Who directed Ikiru in 1952? Where was Akira Kurosawa born?'),
  ('emil', 'Where was Akira Kurosawa born? Where was Agnes Varda born?');

-- One view that is made of others: EXPLAIN shows them.
CREATE CONTINUOUS VIEW answers AS
LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))
WITH (SHARE = 0.82, BASES = bases);

SELECT key, asked_as, out_of, text FROM answers ORDER BY key;
SHOW CANDIDATES FROM answers;
EXPLAIN ANALYZE answers;

-- The same in other words: the model is asked whether it is the same as the two that are similar, nothing else.
INSERT INTO questions (key, text) VALUES ('frida', 'Who directed the movie Alphaville in 1965?');
SELECT key, asked_as, text FROM answers WHERE key = 'frida';
EXPLAIN ANALYZE answers;

-- The same in the same words: nobody is asked.
INSERT INTO questions (key, text) VALUES ('gerd', 'Who directed Alphaville in 1965?');
SELECT key, asked_as, text FROM answers WHERE key = 'gerd';

-- Whose words stand for the others goes; somebody else has said them, too.
DELETE FROM questions WHERE key = 'anna';
SELECT key, asked_as, text FROM answers WHERE key = 'ben';

-- A candidate is kept from now on, by a word. Both questions that are made of it are answered from known answers.
INSERT INTO bases (key, text) VALUES ('kurosawa', 'Where was Akira Kurosawa born?');
SELECT key, out_of, text FROM answers WHERE key = 'dora' OR key = 'emil' ORDER BY key;
SHOW CANDIDATES FROM answers;
EXPLAIN ANALYZE answers;

-- A note is corrected: what is kept follows, and what was made of it.
UPDATE notes SET text = 'Agnes Varda comes from Brussels, her birthplace.' WHERE key = 'Agnes Varda';
SELECT key, text FROM answers WHERE key = 'carl';
EXPLAIN ANALYZE answers;

-- Why it is so, and where it comes from: through the answers that it was read out of, down to the notes.
EXPLAIN WHY answers['carl'];
LINEAGE OF answers['carl'];
