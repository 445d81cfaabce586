-- Schema 21. What readers were told of messages takes a third of the bytes, and goes with the words of these.

-- A reader of a room, by the number under which its marks are.
CREATE TABLE marked (
    number INTEGER PRIMARY KEY,
    room   TEXT    NOT NULL,
    reader TEXT    NOT NULL,
    UNIQUE (room, reader)
) STRICT;

-- The ladder behind `why`: by `at`, every message in (after, upto] had reached `stage` for the reader `of`.
CREATE TABLE marks (
    of    INTEGER NOT NULL,
    stage TEXT    NOT NULL CHECK (stage IN ('stored', 'pushed', 'read', 'acknowledged', 'acted')),
    upto  INTEGER NOT NULL,
    after INTEGER NOT NULL CHECK (0 <= after AND after < upto),
    at    INTEGER NOT NULL,
    PRIMARY KEY (of, stage, upto, after)
) STRICT, WITHOUT ROWID;

INSERT INTO marked (room, reader) SELECT DISTINCT room, reader FROM deliveries ORDER BY room, reader;
INSERT INTO marks
SELECT m.number, d.stage, d.upto, d.after, d.at FROM deliveries d JOIN marked m ON m.room = d.room AND m.reader = d.reader;
-- With its triggers, of which one would not let the rows go.
DROP TRIGGER deliveries_stay_while_their_room_does;
DROP TABLE deliveries;

CREATE VIEW deliveries AS
SELECT m.room, m.reader, k.stage, k.upto, k.after, k.at FROM marked m CROSS JOIN marks k ON k.of = m.number;

-- A mark that says nothing new is left out, so the first time stands.
CREATE TRIGGER deliveries_are_marks INSTEAD OF INSERT ON deliveries
BEGIN
    INSERT INTO marked (room, reader) VALUES (NEW.room, NEW.reader) ON CONFLICT DO NOTHING;
    INSERT INTO marks
    SELECT m.number, NEW.stage, NEW.upto, NEW.after, NEW.at FROM marked m
     WHERE m.room = NEW.room AND m.reader = NEW.reader
       AND NOT EXISTS (SELECT 1 FROM marks
                        WHERE of = m.number AND stage = NEW.stage AND upto >= NEW.upto AND after <= NEW.after);
END;

CREATE TRIGGER deliveries_go_as_marks INSTEAD OF DELETE ON deliveries
BEGIN
    DELETE FROM marks
     WHERE of = (SELECT number FROM marked WHERE room = OLD.room AND reader = OLD.reader)
       AND stage = OLD.stage AND upto = OLD.upto AND after = OLD.after;
END;

CREATE TRIGGER deliveries_never_change INSTEAD OF UPDATE ON deliveries
BEGIN
    SELECT RAISE(ABORT, 'what was delivered is never changed');
END;

CREATE TRIGGER marks_never_change BEFORE UPDATE ON marks
BEGIN
    SELECT RAISE(ABORT, 'what was delivered is never changed');
END;

-- A mark says something of every message in (after, upto], and goes only once none of them has words.
CREATE TRIGGER marks_stay_while_their_words_do BEFORE DELETE ON marks
WHEN EXISTS (SELECT 1 FROM marked m
              WHERE m.number = OLD.of AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.room = m.room)
                AND (NOT EXISTS (SELECT 1 FROM logs l WHERE l.room = m.room)
                     OR EXISTS (SELECT 1 FROM logs l CROSS JOIN bodies b CROSS JOIN facts f
                                 WHERE l.room = m.room AND f.id = b.id AND f.type = 'message_posted'
                                   AND b.id > (l.number << 32) + OLD.after AND b.id <= (l.number << 32) + OLD.upto)))
BEGIN
    SELECT RAISE(ABORT, 'what was delivered is never removed while its room has the words');
END;

CREATE TRIGGER marked_never_change BEFORE UPDATE ON marked
BEGIN
    SELECT RAISE(ABORT, 'the number of a reader is never changed');
END;

CREATE TRIGGER marked_stay_while_their_marks_do BEFORE DELETE ON marked
WHEN EXISTS (SELECT 1 FROM marks WHERE of = OLD.number)
BEGIN
    SELECT RAISE(ABORT, 'a reader has a number while it has marks');
END;
