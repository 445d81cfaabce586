-- Schema 12. Receipts: the place of each fact in its actor's own line.

-- `line` is the own line up to and with this fact (`core.receipts`), and `thread` the one that it began with: SHA-256 of
-- the room, the actor and the audience. A row is no index: facts from before this schema have none, and an actor's line
-- begins with its first fact after that, so rows that are lost cannot be made again. The id is that of the fact.
CREATE TABLE own_lines (
    id     INTEGER NOT NULL PRIMARY KEY,
    thread BLOB    NOT NULL CHECK (length(thread) = 32),
    number INTEGER NOT NULL CHECK (number >= 1),
    line   BLOB    NOT NULL CHECK (length(line) = 32)
) STRICT;
CREATE UNIQUE INDEX own_lines_by_thread ON own_lines (thread, number);

CREATE TRIGGER own_lines_go_on BEFORE INSERT ON own_lines
BEGIN
    SELECT RAISE(FAIL, 'an own line has no gaps')
     WHERE NEW.number <> coalesce((SELECT max(number) FROM own_lines WHERE thread = NEW.thread), 0) + 1;
    SELECT RAISE(FAIL, 'an own line is of a fact')
     WHERE NOT EXISTS (SELECT 1 FROM facts WHERE id = NEW.id);
END;

CREATE TRIGGER own_lines_never_change BEFORE UPDATE ON own_lines
BEGIN
    SELECT RAISE(ABORT, 'an own line is never changed');
END;

CREATE TRIGGER own_lines_are_never_removed BEFORE DELETE ON own_lines
WHEN NOT EXISTS (
    SELECT 1 FROM tombstones t JOIN logs l ON l.room = t.room WHERE l.number = OLD.id >> 32
)
BEGIN
    SELECT RAISE(ABORT, 'an own line is never removed');
END;
