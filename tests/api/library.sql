-- What requests that are made of the description find. One answer is written at the start; rows that are posted
-- go where no question is asked of them.
CREATE TABLE notes (key TEXT, text TEXT, title TEXT, stars INT);
CREATE SOURCE posts (key TEXT, text TEXT, author TEXT) FROM HTTP;
CREATE VIEW starred AS SELECT key, text, stars FROM notes WHERE stars > 2;
CREATE VIEW authors AS SELECT author, COUNT(*) AS n FROM posts GROUP BY author;
INSERT INTO notes VALUES
    ('hours', 'The library opens at nine on weekdays.', 'Opening hours', 5),
    ('cards', 'A library card costs five euros a year.', 'Cards', 1);

CREATE TABLE leaflets (key TEXT, text TEXT);
CREATE TABLE questions (key TEXT, text TEXT);
CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
    CONTEXT = STREAM(questions),
    DATA_SOURCE = STREAM(leaflets)
) WITH (MAX_TOKENS = 4);
INSERT INTO leaflets VALUES ('hours', 'The library opens at nine on weekdays.');
INSERT INTO questions VALUES ('q', 'When does the library open?');
