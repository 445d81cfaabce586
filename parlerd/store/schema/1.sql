-- Parler's store, schema 1. From an empty file.
--
-- Two kinds of tables. Facts (with bodies) are the record: append-only, and the triggers below hold that even against
-- our own mistakes. Everything else is either derived from facts (index tables, which the start after damage remakes) or
-- is a position or a lease that the next use corrects. Every key starts with the room. Times are milliseconds.

-- One row for the version of this schema and for the Parler that wrote it.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The kinds of facts that may be written, each with its newest version. The program keeps this in step with its code.
CREATE TABLE fact_types (
    type TEXT NOT NULL PRIMARY KEY,
    v    INTEGER NOT NULL CHECK (v >= 1)
) STRICT, WITHOUT ROWID;

-- A room that was deleted. Only while its tombstone stands may its facts be removed, and none may be added.
CREATE TABLE tombstones (
    room TEXT NOT NULL PRIMARY KEY CHECK (room <> ''),
    at   INTEGER NOT NULL CHECK (at >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tombstones_stay BEFORE DELETE ON tombstones
BEGIN
    SELECT RAISE(ABORT, 'a tombstone is never removed');
END;

CREATE TRIGGER tombstones_never_change BEFORE UPDATE ON tombstones
BEGIN
    SELECT RAISE(ABORT, 'a tombstone is never changed');
END;

-- The record. `header` is what was accepted, without its body; `digest` is SHA-256(salt || header), and the header
-- holds the SHA-256 of the body; `chain` is SHA-256(chain of the fact before || digest), from 32 zero bytes.
CREATE TABLE facts (
    room     TEXT    NOT NULL CHECK (room <> ''),
    position INTEGER NOT NULL CHECK (position >= 1),
    type     TEXT    NOT NULL,
    v        INTEGER NOT NULL CHECK (v >= 1),
    at       INTEGER NOT NULL CHECK (at >= 0),
    actor    TEXT    NOT NULL CHECK (actor <> ''),
    header   BLOB    NOT NULL CHECK (length(header) > 0),
    salt     BLOB    NOT NULL CHECK (length(salt) = 16),
    digest   BLOB    NOT NULL CHECK (length(digest) = 32),
    chain    BLOB    NOT NULL CHECK (length(chain) = 32),
    PRIMARY KEY (room, position)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER facts_follow_one_another BEFORE INSERT ON facts
BEGIN
    SELECT RAISE(ABORT, 'a fact must follow the last one of its room')
     WHERE NEW.position <> coalesce((SELECT max(position) FROM facts WHERE room = NEW.room), 0) + 1;
    SELECT RAISE(ABORT, 'the time of a room never goes back')
     WHERE NEW.at < (SELECT at FROM facts WHERE room = NEW.room ORDER BY position DESC LIMIT 1);
    SELECT RAISE(ABORT, 'this type of fact is not known')
     WHERE NOT EXISTS (SELECT 1 FROM fact_types WHERE type = NEW.type AND v >= NEW.v);
    SELECT RAISE(ABORT, 'this room was deleted')
     WHERE EXISTS (SELECT 1 FROM tombstones WHERE room = NEW.room);
END;

CREATE TRIGGER facts_never_change BEFORE UPDATE ON facts
BEGIN
    SELECT RAISE(ABORT, 'a fact is never changed');
END;

CREATE TRIGGER facts_stay_while_their_room_does BEFORE DELETE ON facts
WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE room = OLD.room)
BEGIN
    SELECT RAISE(ABORT, 'a fact is never removed while its room exists');
END;

-- The words of a fact, apart from it so that they can be erased: a row may go, and never changes.
CREATE TABLE bodies (
    room      TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    body      BLOB    NOT NULL,
    signature BLOB    CHECK (signature IS NULL OR length(signature) = 64),
    PRIMARY KEY (room, position)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER bodies_belong_to_a_fact BEFORE INSERT ON bodies
WHEN NOT EXISTS (SELECT 1 FROM facts WHERE room = NEW.room AND position = NEW.position)
BEGIN
    SELECT RAISE(ABORT, 'a body belongs to a fact');
END;

CREATE TRIGGER bodies_never_change BEFORE UPDATE ON bodies
BEGIN
    SELECT RAISE(ABORT, 'a body is never changed');
END;

-- ---- Derived from facts, in the same transaction -----------------------------------------------------------

-- Rooms with a log. `principal` is the person whose agent owns it; both are empty in the home room.
CREATE TABLE rooms (
    room      TEXT    NOT NULL PRIMARY KEY,
    opened_at INTEGER NOT NULL,
    owner     TEXT    NOT NULL,
    principal TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX rooms_by_principal ON rooms (principal, opened_at, room);

-- Where a message is.
CREATE TABLE messages (
    id       TEXT    NOT NULL PRIMARY KEY,
    room     TEXT    NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Messages for everyone. `number` counts them in the room up to this one, `own` those of this author: a reader's own
-- numbering and what it has not read follow from differences of the two, without a scan.
CREATE TABLE public_messages (
    room     TEXT    NOT NULL,
    position INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    author   TEXT    NOT NULL,
    own      INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    PRIMARY KEY (room, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX public_messages_by_author ON public_messages (room, author, position, own);

-- Messages with a visibility: one row per id that may see it, its author included. `public` is the room's count of
-- messages for everyone at that place.
CREATE TABLE private_messages (
    room     TEXT    NOT NULL,
    reader   TEXT    NOT NULL,
    position INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    own      INTEGER NOT NULL,
    public   INTEGER NOT NULL,
    author   TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    PRIMARY KEY (room, reader, position)
) STRICT, WITHOUT ROWID;

-- The first fact of each request that carried an idempotency key; the digest of its input is in that fact's header.
CREATE TABLE idempotency (
    room      TEXT    NOT NULL,
    actor     TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (room, actor, operation, key)
) STRICT, WITHOUT ROWID;

-- Which room a session key belongs to. The key's code is not here: `key` is an HMAC of it.
CREATE TABLE room_keys (
    key  TEXT NOT NULL PRIMARY KEY,
    room TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Where an agent is in (member), was (left), knocks (pending) or was refused (denied).
CREATE TABLE memberships (
    agent TEXT NOT NULL,
    room  TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('member', 'left', 'pending', 'denied')),
    PRIMARY KEY (agent, room)
) STRICT, WITHOUT ROWID;

-- ---- Not facts: positions, leases, caches ------------------------------------------------------------------

-- How far a reader was given messages and how far it acknowledged them. Neither goes back.
CREATE TABLE cursors (
    room         TEXT    NOT NULL,
    reader       TEXT    NOT NULL,
    delivered    INTEGER NOT NULL CHECK (delivered >= acknowledged),
    acknowledged INTEGER NOT NULL CHECK (acknowledged >= 0),
    PRIMARY KEY (room, reader)
) STRICT, WITHOUT ROWID;

-- The ladder behind `why`: by `at`, every message in (after, upto] had reached `stage` for this reader.
CREATE TABLE deliveries (
    room   TEXT    NOT NULL,
    reader TEXT    NOT NULL,
    stage  TEXT    NOT NULL CHECK (stage IN ('stored', 'pushed', 'read', 'acknowledged', 'acted')),
    upto   INTEGER NOT NULL,
    after  INTEGER NOT NULL CHECK (0 <= after AND after < upto),
    at     INTEGER NOT NULL,
    PRIMARY KEY (room, reader, stage, upto, after)
) STRICT, WITHOUT ROWID;

-- A mark that says nothing new is left out, so the first time stands.
CREATE TRIGGER deliveries_say_something_new BEFORE INSERT ON deliveries
WHEN EXISTS (
    SELECT 1 FROM deliveries
     WHERE room = NEW.room AND reader = NEW.reader AND stage = NEW.stage AND upto >= NEW.upto AND after <= NEW.after
)
BEGIN
    SELECT RAISE(IGNORE);
END;

-- Which window acts as which agent.
CREATE TABLE leases (
    window    TEXT    NOT NULL PRIMARY KEY,
    agent     TEXT    NOT NULL,
    host      TEXT    NOT NULL,
    workspace TEXT    NOT NULL,
    slot      INTEGER NOT NULL,
    taken_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A folded room, so that a long one opens fast. A cache: another `fold_version` discards it.
CREATE TABLE snapshots (
    room         TEXT    NOT NULL PRIMARY KEY,
    fold_version INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    data         BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
