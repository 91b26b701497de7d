-- A reading list of papers that keeps itself: which of them are relevant, what each has found, and a digest of that.
--
--   cargo run --release -- run --once examples/papers.sql
--
-- Each paper is asked about once: one forward pass for whether it is relevant, one sentence for what it has found
-- if it is; the digest is a call or two over these sentences. A paper that comes, goes or is corrected costs
-- its own questions, and the part of the digest that it stands in. EXPLAIN ANALYZE says what was asked for
-- the last change, operator by operator.
--
-- The abstracts are those of 34 papers of December 2022 (examples/papers/README.md says where they are from).
-- On two cores it takes two minutes or so, most of it for the first reading; CREATE MODEL with 'smollm2-135m'
-- takes a quarter of that, and is wrong more often.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

-- What was collected, a paper a line. Without --once, lines that are added to the file are read as they come.
CREATE SOURCE archive (key TEXT, title TEXT, text TEXT) FROM FILE 'examples/papers/abstracts.jsonl';

-- What readers add, and which papers are withdrawn.
CREATE TABLE desk (key TEXT, title TEXT, text TEXT);
CREATE TABLE withdrawn (key TEXT, reason TEXT);

CREATE VIEW papers AS
SELECT key, title, text FROM archive AS a
WHERE NOT EXISTS (SELECT 1 FROM withdrawn AS w WHERE w.key = a.key)
UNION ALL
SELECT key, title, text FROM desk;

CREATE VIEW relevant AS
SELECT key, title, text FROM papers WHERE sem_filter('Is the paper {text} about neural networks?');

CREATE VIEW insights AS
SELECT key, title, sem_map('Say in one short sentence what {text} proposes.', max_tokens => 96) AS insight
FROM relevant;

CREATE VIEW digest AS
SELECT count(*) AS papers,
       sem_agg('Summarize {insight} in two sentences.', max_tokens => 80) AS digest
FROM insights;

SELECT key, insight FROM insights ORDER BY key;
SELECT * FROM digest;
EXPLAIN ANALYZE digest;

-- A paper comes: it is read, and nothing else is but the digest.
INSERT INTO desk (key, title, text) VALUES ('2212.11803',
  'EuclidNets: An Alternative Operation for Efficient Inference of Deep Learning Models',
  'With the advent of deep learning application on edge devices, researchers actively try to optimize their deployments on low-power and restricted memory devices. There are established compression method such as quantization, pruning, and architecture search that leverage commodity hardware. Apart from conventional compression algorithms, one may redesign the operations of deep learning models that lead to more efficient implementation. To this end, we propose EuclidNet, a compression method, designed to be implemented on hardware which replaces multiplication, $xw$, with Euclidean distance $(x-w)^2$. We show that EuclidNet is aligned with matrix multiplication and it can be used as a measure of similarity in case of convolutional layers. Furthermore, we show that under various transformations and noise scenarios, EuclidNet exhibits the same performance compared to the deep learning models designed with multiplication operations.');

SELECT key, insight FROM insights WHERE key = '2212.11803';
SELECT * FROM digest;
EXPLAIN ANALYZE digest;

-- A paper is withdrawn: no paper is read.
INSERT INTO withdrawn (key, reason) VALUES ('2212.11791', 'its authors ask for it');

SELECT * FROM digest;
EXPLAIN ANALYZE digest;

-- A paper is corrected: it is read again, and no other is.
UPDATE desk SET text = replace(text, 'exhibits the same performance', 'loses some performance')
WHERE key = '2212.11803';

SELECT key, insight FROM insights WHERE key = '2212.11803';
SELECT * FROM digest;
EXPLAIN ANALYZE digest;

-- The title of one is corrected, which no question names: nobody is asked anything.
UPDATE desk SET title = 'EuclidNets' WHERE key = '2212.11803';

SELECT key, title FROM insights WHERE key = '2212.11803';
EXPLAIN ANALYZE digest;
