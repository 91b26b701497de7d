CREATE VIEW first AS
SELECT key FROM passages ORDER BY sem_rank('Which {text} answers this question better: {question}') LIMIT 3;
