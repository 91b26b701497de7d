-- Questions about an island, kept right while its notes change in a browser.
--
--   cargo run --release -- serve examples/island.sql
--
-- Then open http://127.0.0.1:7070, go to "Try a change", and correct a price. What a rerun of this file
-- inserts takes the place of rows with the same keys.

CREATE TABLE notes (key TEXT, title TEXT, text TEXT);
CREATE TABLE questions (key TEXT, text TEXT);

INSERT INTO notes (key, title, text) VALUES
  ('tickets', 'Ferry tickets',
   'A return ticket for the ferry costs 12 crowns. Children under six travel free, and dogs travel free if they stay on deck. Tickets are sold on board by the purser, who takes cards and coins but no notes over fifty. A return ticket is valid for thirty days, so there is no need to decide in advance when you want to go home.'),
  ('ferry', 'Ferry timetable',
   'The ferry Kittiwake leaves Port Anselm for the island at 9:00 and 14:30 every day, and goes back at 11:00 and 17:00. The crossing takes about an hour. Be at the quay fifteen minutes before it leaves. In strong westerly wind the afternoon boat may be cancelled; a red flag on the quay says so, and the morning boat of the next day takes everyone who was left behind.'),
  ('bakery', 'The bakery',
   'Ines Halloran opens the bakery at seven, and the cardamom buns are gone by nine. There is rye bread on weekdays and a plaited loaf with almonds on Saturdays. Bread for a whole boat party should be ordered the evening before, by a note in the box beside the door. The benches in front of the bakery have the morning sun and the best view of the harbour.'),
  ('lantern-night', 'Lantern night',
   'On the second Saturday in August the harbour is lit with paper lanterns, one for every boat that ever failed to come home. The choir sings from the breakwater at nine. After it there is soup for everyone in the sail loft, and an extra ferry goes back to Port Anselm at midnight. Lanterns can be made the day before, in the school, from paper that is provided.'),
  ('camping', 'Camping',
   'There is one meadow for tents, behind the chapel, with room for thirty. Put up your tent where you like, then write your name in the book at the gate. Fires are allowed only in the stone rings, and only when the fire warden''s flag is green. Water comes from the pump; it is cold and good. The meadow is closed in April and May, when lapwings nest in it.'),
  ('bicycles', 'Bicycles',
   'The harbour master''s shed has sixteen bicycles and two with a trailer for children. Take one, hang your name on its hook, and bring it back before the last boat. There is no charge; a tin by the door is for new tyres. The track around the island is nine kilometres of gravel and grass, with one steep stretch below the chapel where it is wiser to push.'),
  ('birds', 'Watching the terns',
   'The colony is on the north point. A marked path leads to the hide, which holds twelve people; from the path itself the birds can be watched at any hour. Keep to the path, since the eggs lie open on the shingle and look exactly like it. Terns dive at visitors who come too close: hold a stick or an umbrella above your head, and they will attack that instead.');

INSERT INTO questions (key, text) VALUES
  ('ferry', 'How much does a return ticket for the ferry cost?'),
  ('boat', 'When does the ferry leave Port Anselm for the island?'),
  ('bread', 'When does the bakery open?'),
  ('choir', 'When does the choir sing at the lantern night?'),
  ('tent', 'Where can visitors put up a tent?'),
  ('bicycle', 'How many bicycles does the shed of the harbour master have?');

CREATE CONTINUOUS VIEW answers AS
LLM_GENERATE(
  PROMPT      = 'Answer the question from the documents above, in one full sentence.',
  CONTEXT     = STREAM(questions),
  DATA_SOURCE = STREAM(notes)
)
WITH (MAX_TOKENS = 48);

-- A view over rows and no model: which notes name a price.
CREATE VIEW prices AS
SELECT key, title FROM notes WHERE text LIKE '%crown%';
