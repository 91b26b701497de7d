-- What people write to a library, sorted by a model and counted by the engine.
--
--   cargo run --release -- run --once examples/triage.sql
--
-- Each message is asked about once: one forward pass for its topic, one for whether it is about
-- money. A message that comes, changes or goes costs its own questions, and moves the counts.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE messages (key TEXT, text TEXT);

INSERT INTO messages (key, text) VALUES
  ('anna', 'When does the library close on Saturday?'),
  ('ben',  'What does a library card cost for a child of twelve?'),
  ('carl', 'My book is two weeks late. How much do I have to pay?'),
  ('dora', 'Are you open on Sunday morning?');

CREATE VIEW triage AS
SELECT key,
       sem_classify('What is {text} about?', 'opening hours', 'cards', 'late books') AS topic,
       sem_filter('Is {text} a question about money?') AS is_about_money
FROM messages;

CREATE VIEW topics AS
SELECT topic, count(*) AS n FROM triage GROUP BY topic;

SELECT * FROM triage ORDER BY key;
SELECT * FROM topics ORDER BY topic;

-- One message changes: one question about its topic, one about money, and no other.
UPDATE messages SET text = 'When do you open on Monday?' WHERE key = 'ben';

SELECT * FROM topics ORDER BY topic;
