-- Parler's store in PostgreSQL, schema 4: what readers' homes tell of the messages that their agents were given, from the
-- records of agent hosts (`../../schema/18.sql`). One row for a message and a reader, the newest word on it.
CREATE TABLE sights (
    room     text COLLATE "C" NOT NULL CHECK (room <> ''),
    reader   bigint NOT NULL,
    position bigint NOT NULL CHECK (position >= 1),
    verdict  text COLLATE "C" NOT NULL
        CHECK (verdict IN ('pending', 'shown', 'quoted', 'summarised', 'cut', 'not_shown', 'unknown')),
    reason   text COLLATE "C" NOT NULL,
    host     text COLLATE "C" NOT NULL,
    at       bigint NOT NULL,
    again    bigint NOT NULL CHECK (again >= 0),
    evidence text COLLATE "C" NOT NULL,
    PRIMARY KEY (room, position, reader)
);
CREATE INDEX sights_to_show_again ON sights (reader, room, position) WHERE verdict IN ('cut', 'not_shown');
CREATE INDEX sights_by_time ON sights (at) WHERE verdict NOT IN ('shown', 'quoted');
