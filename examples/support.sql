-- Replies of a library's support desk, kept right while its documents change.
--
--   cargo run --release -- run examples/support.sql
--
-- shows a reply to each conversation, and stays. Change a file in examples/support/docs, or append
-- a line to examples/support/conversations.jsonl, and see what follows. With --once it answers and
-- ends; with --state FOLDER it goes on where it ended, and writes no reply again that still stands.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

-- One document a file.
CREATE SOURCE support_docs FROM FOLDER 'examples/support/docs';

-- One conversation a line, followed as the file grows.
CREATE SOURCE conversation_events FROM FILE 'examples/support/conversations.jsonl';

CREATE CONTINUOUS VIEW response_stream AS
LLM_GENERATE(
  PROMPT      = 'Given the conversation and the support docs, write a helpful reply in one sentence.',
  CONTEXT     = STREAM(conversation_events),
  DATA_SOURCE = STREAM(support_docs)
)
WITH (MODEL = qwen, MAX_TOKENS = 64, ORDER_BY = 'key');
