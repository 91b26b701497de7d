-- Two tenants, one engine, no word of one in what the other reads.
--
--   cargo run --release -- serve --token-file examples/tenants.tokens examples/tenants.sql
--
-- Who may post to, or read, what is said by tokens (examples/tenants.tokens): each tenant feeds its own
-- tables, and reads its own view. Which tenant a row is of follows from the table it came by, so nobody
-- posts in another's name. MATCHING (tenant) lets each question see the notes of its tenant alone.

CREATE TABLE acme_notes      (key TEXT, text TEXT);
CREATE TABLE acme_questions  (key TEXT, text TEXT);
CREATE TABLE birch_notes     (key TEXT, text TEXT);
CREATE TABLE birch_questions (key TEXT, text TEXT);

CREATE VIEW notes AS
  SELECT 'acme/'  || key AS key, 'acme'  AS tenant, text FROM acme_notes  UNION ALL
  SELECT 'birch/' || key AS key, 'birch' AS tenant, text FROM birch_notes;

CREATE VIEW questions AS
  SELECT 'acme/'  || key AS key, 'acme'  AS tenant, text FROM acme_questions  UNION ALL
  SELECT 'birch/' || key AS key, 'birch' AS tenant, text FROM birch_questions;

-- Weights, threads and equal instructions are shared; what is read is not.
CREATE CONTINUOUS VIEW replies AS
LLM_GENERATE(
  PROMPT      = 'Answer the question from the notes above, in one sentence.',
  CONTEXT     = STREAM(questions),
  DATA_SOURCE = STREAM(notes) MATCHING (tenant)
)
WITH (MAX_TOKENS = 48, ORDER_BY = 'key');

CREATE VIEW acme_replies  AS SELECT key, question, text FROM replies WHERE key LIKE 'acme/%';
CREATE VIEW birch_replies AS SELECT key, question, text FROM replies WHERE key LIKE 'birch/%';
