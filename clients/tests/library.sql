-- What the clients of the tests ask.
CREATE TABLE notes (key TEXT, text TEXT, title TEXT);
CREATE TABLE questions (key TEXT, text TEXT);
CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
    CONTEXT = STREAM(questions),
    DATA_SOURCE = STREAM(notes)
) WITH (MAX_TOKENS = 48);
INSERT INTO notes VALUES
    ('hours', 'The library opens at nine on weekdays and at eleven on Sundays.', 'Opening hours'),
    ('https://library.example/cards', 'A library card costs five euros a year.', 'Cards');
