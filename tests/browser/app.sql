-- What the browser tests look at. Posted documents, so that refused ones go to quarantine.
CREATE SOURCE docs FROM HTTP;
CREATE TABLE questions (key TEXT, text TEXT);

CREATE CONTINUOUS VIEW answers AS
LLM_GENERATE(
  PROMPT      = 'Answer the question from the documents above, in one full sentence.',
  CONTEXT     = STREAM(questions),
  DATA_SOURCE = STREAM(docs)
)
WITH (MAX_TOKENS = 32);

CREATE VIEW long_docs AS SELECT key, text FROM docs WHERE length(text) > 20;
