-- A graph of what texts say, and answers from the texts to which it leads.
--
--   cargo run --release -- run --once examples/graph.sql
--
-- A model reads facts out of each text, once. Walks over the graph begin at what a question names, and go from
-- there to the texts that speak of it, to all that these speak of, and on: so the second question is answered from
-- a text that has no word of it. A text that goes takes its facts with it, and asks nobody; an answer is given again
-- where the texts that it is given from are others.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE passages (key TEXT, text TEXT);
CREATE TABLE questions (key TEXT, text TEXT);

INSERT INTO passages (key, text) VALUES
  ('ferry',   'The ferry Skarven belongs to the Lysefjord Line.'),
  ('line',    'The Lysefjord Line is led by Ragna Moe.'),
  ('person',  'Ragna Moe was born in Tromso.'),
  ('harbour', 'The harbour of Haugesund was built by Einar Dahl.'),
  ('museum',  'Einar Dahl founded the Herring Museum.');

INSERT INTO questions (key, text) VALUES
  ('owner', 'Which company does the ferry Skarven belong to?'),
  ('born',  'Where was the head of the company born that Skarven belongs to?'),
  ('built', 'Which museum was founded by who built the harbour of Haugesund?');

-- What each text says: rows, as many as the model finds.
CREATE VIEW triples AS
SELECT key AS passage,
       sem_extract_all('List the facts of {text}: the name each is about, the relation, and the name it leads to.',
                       subject => TEXT, relation => TEXT, object => TEXT, max_rows => 4, max_tokens => 160)
FROM passages;

CREATE VIEW mentions AS
SELECT passage, lower(subject) AS name FROM triples WHERE subject IS NOT NULL
UNION SELECT passage, lower(object) FROM triples WHERE object IS NOT NULL;

-- Names of the same are one entity.
CREATE VIEW names AS
SELECT name, sem_dedup(name, threshold => 0.8) AS entity
FROM (SELECT DISTINCT name FROM mentions) AS m;

-- An edge from each text to what it speaks of, and back.
CREATE VIEW links AS
SELECT 'passage ' || m.passage AS source, n.entity AS target FROM mentions m JOIN names n USING (name)
UNION ALL
SELECT n.entity, 'passage ' || m.passage FROM mentions m JOIN names n USING (name);

-- What a question names.
CREATE VIEW starts AS
SELECT q.key AS question, n.entity AS node
FROM questions q JOIN names n ON strpos(lower(q.text), n.name) > 0;

CREATE VIEW found AS
SELECT r.question, p.key AS passage, r.score
FROM pagerank(edges => links, seeds => starts, per => question) AS r
JOIN passages p ON r.node = 'passage ' || p.key;

-- The first three texts of each question.
CREATE VIEW chosen AS
SELECT f.question || ' ' || f.passage AS key, min(f.question) AS question, min(p.text) AS text
FROM top(rows => found, n => 3, per => question, by => score) AS f
JOIN passages p ON p.key = f.passage
GROUP BY 1;

CREATE VIEW asked AS SELECT key, text, key AS question FROM questions;

CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
  PROMPT      = 'Answer the question with a short phrase from the documents, nothing else.',
  CONTEXT     = STREAM(asked),
  DATA_SOURCE = STREAM(chosen) MATCHING (question)
) WITH (MAX_TOKENS = 16);

SELECT passage, subject, relation, object FROM triples ORDER BY passage, subject;
SELECT question, passage, round(score, 3) AS score FROM found ORDER BY question, score DESC;
SELECT key, text FROM answers ORDER BY key;

-- The museum is forgotten: its facts, its edges and what was answered from it.
DELETE FROM passages WHERE key = 'museum';

SELECT question, passage, round(score, 3) AS score FROM found ORDER BY question, score DESC;
SELECT key, text FROM answers ORDER BY key;
