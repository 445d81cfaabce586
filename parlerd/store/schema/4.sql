-- Schema 4. When time alone changes something in a room, so that it is noticed also in a room that nobody has open.

-- `subject` is what changes ('key:' and a key's id), `at` when, by the wall clock; 0 where it no longer will.
CREATE TABLE deadlines (
    room    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    at      INTEGER NOT NULL CHECK (at >= 0),
    PRIMARY KEY (room, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX deadlines_by_time ON deadlines (at, room);
