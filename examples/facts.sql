-- What is ordered by mail, read into columns by a model; what follows from that, by the engine.
--
--   cargo run --release -- run --once examples/facts.sql
--
-- The small model of the default reads short texts well that say what is asked for: numbers, names, and which of
-- a few clearly different words fits. Whatever it reads is a column like any other.
--
-- A letter is one call for all of its numbers and names, and one forward pass each for its kind and its mood. A letter
-- that comes costs its own, one that goes costs nothing.

CREATE MODEL qwen FROM 'qwen2.5-coder-0.5b';

CREATE TABLE letters (key TEXT, text TEXT);
CREATE TABLE couriers (key TEXT, city TEXT, days INTEGER);

INSERT INTO letters (key, text) VALUES
  ('anna', 'Please send 3 maps to Bergen. I will pay 12 euros. What a lovely shop!'),
  ('ben',  'I would like 2 posters for 30 euros. Send them to Oslo, please.'),
  ('carl', 'One calendar for 9 euros, to Turku. The last one came broken, that was terrible.'),
  ('dora', 'We order 5 postcards for 10 euros. Our address is in Bergen. Thank you!');

INSERT INTO couriers (key, city, days) VALUES
  ('north', 'Bergen', 2), ('east', 'Oslo', 1), ('sea', 'Turku', 4);

CREATE VIEW orders AS
SELECT key,
       sem_classify('What is ordered in {text}?', 'maps', 'posters', 'calendars', 'postcards') AS product,
       sem_extract('Read from {text}: how many pieces, the price in euros, and the city.',
                   pieces => INTEGER, euros => INTEGER, city => TEXT)
FROM letters;

CREATE VIEW moods AS
SELECT key, sem_classify('Is {text} praise or a complaint?', 'praise', 'complaint') AS mood FROM letters;

-- What is known as columns, queries join, count and add up. No model is asked.
CREATE VIEW parcels AS
SELECT c.city, c.days, count(*) AS n, sum(o.pieces) AS pieces, sum(o.euros) AS euros
FROM orders o JOIN couriers c ON o.city = c.city GROUP BY c.city, c.days;

CREATE VIEW to_be_called AS
SELECT o.key, o.product, o.city FROM orders o JOIN moods m ON o.key = m.key WHERE m.mood = 'complaint';

SELECT * FROM orders ORDER BY key;
SELECT * FROM parcels ORDER BY city;
SELECT * FROM to_be_called ORDER BY key;

-- One letter changes: three questions about it, and none about the others; the sums of two cities move.
UPDATE letters SET text = 'Please send 4 maps to Oslo. I will pay 16 euros.' WHERE key = 'anna';

SELECT * FROM orders ORDER BY key;
SELECT * FROM parcels ORDER BY city;
