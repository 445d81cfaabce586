-- Schema 18. What agent hosts' own records say of the messages that readers were given: whether a model was shown them.

-- One row for a message and a reader: the newest word on it. `verdict` is 'pending' while the host's record is watched;
-- a row that a daemon left so when it ended says nothing more. `reason` is one of the words of the judge, never a text of
-- a record and never a path. `again` is how often the message was shown once more, because it had been cut or not shown.
-- `evidence` is the host with its version and our own names of the entries that decided.
CREATE TABLE sights (
    room     TEXT    NOT NULL CHECK (room <> ''),
    reader   TEXT    NOT NULL CHECK (reader <> ''),
    position INTEGER NOT NULL CHECK (position >= 1),
    verdict  TEXT    NOT NULL
        CHECK (verdict IN ('pending', 'shown', 'quoted', 'summarised', 'cut', 'not_shown', 'unknown')),
    reason   TEXT    NOT NULL,
    host     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    again    INTEGER NOT NULL CHECK (again >= 0),
    evidence TEXT    NOT NULL,
    PRIMARY KEY (room, position, reader)
) STRICT, WITHOUT ROWID;

-- What is to be shown again is looked for at each read of a reader whose host is watched, and there is little of it.
CREATE INDEX sights_to_show_again ON sights (reader, room, position) WHERE verdict IN ('cut', 'not_shown');
CREATE INDEX sights_by_time ON sights (at) WHERE verdict NOT IN ('shown', 'quoted');

CREATE TRIGGER sights_that_prove_never_change BEFORE UPDATE ON sights
WHEN OLD.verdict IN ('shown', 'quoted')
BEGIN
    SELECT RAISE(ABORT, 'what was shown stays shown');
END;

CREATE TRIGGER sights_stay_while_their_room_does BEFORE DELETE ON sights
WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE room = OLD.room)
BEGIN
    SELECT RAISE(ABORT, 'what is known of a reader is never removed while its room exists');
END;
