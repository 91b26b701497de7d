-- Chats that do not see one another: each question is answered from the turns of its own session.
--
--   cargo run --release -- run --once examples/chat.sql
--
-- MATCHING (session) joins questions with turns of the same session. An answer follows its session
-- alone: a turn of one session touches no answer of another.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE turns (key TEXT, session TEXT, text TEXT);
CREATE TABLE questions (key TEXT, session TEXT, text TEXT);

CREATE CONTINUOUS VIEW replies AS
LLM_GENERATE(
  PROMPT      = 'Answer the question from the conversation above, in one sentence.',
  CONTEXT     = STREAM(questions),
  DATA_SOURCE = STREAM(turns) MATCHING (session)
)
WITH (MODEL = qwen, MAX_TOKENS = 48, ORDER_BY = 'key');

-- Keys order the turns of a session.
INSERT INTO turns (key, session, text) VALUES
  ('anna/1', 'anna', 'Anna: My name is Anna, and I live in Bergen. '),
  ('anna/2', 'anna', 'Assistant: Good morning, Anna. How can I help? '),
  ('anna/3', 'anna', 'Anna: My parcel with the blue lamp did not arrive. '),
  ('ben/1',  'ben',  'Ben: Hello, I am Ben from Oslo. '),
  ('ben/2',  'ben',  'Ben: I ordered two chairs, and one of them is broken. ');

INSERT INTO questions (key, session, text) VALUES
  ('anna', 'anna', 'Which thing did the customer order, and where does the customer live?'),
  ('ben',  'ben',  'Which thing did the customer order, and where does the customer live?');

-- What each session holds, counted beside the model.
CREATE VIEW sessions AS SELECT session, count(*) AS n_turns FROM turns GROUP BY session;

-- A correction touches the answer of its session alone.
UPDATE turns SET text = 'Anna: My name is Anna, and I live in Trondheim. ' WHERE key = 'anna/1';

SELECT * FROM sessions ORDER BY session;
