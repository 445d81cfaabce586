-- Schema 3. What a reader may filter by is an index, and a snapshot that rotted is noticed.

-- Messages by what a reader may ask for: a kind, whom they are for, or both. `audience` is empty for a message for
-- everyone; one with a visibility has rows for each id that may see it, so that a filter passes over nothing that its
-- reader may not see. `addressee` is an id, '@' and a role or handle, '*' for whoever takes it; empty is any, as is an
-- empty `kind`. By the number of the room's log and not by its id, because every message has a row here.
CREATE TABLE filtered_messages (
    log       INTEGER NOT NULL,
    audience  TEXT    NOT NULL,
    addressee TEXT    NOT NULL,
    kind      TEXT    NOT NULL CHECK (addressee <> '' OR kind <> ''),
    position  INTEGER NOT NULL,
    PRIMARY KEY (log, audience, addressee, kind, position)
) STRICT, WITHOUT ROWID;

-- A folded room, as before, with the SHA-256 of `data`. A cache: those from before are made anew.
DROP TABLE snapshots;
CREATE TABLE snapshots (
    room         TEXT    NOT NULL PRIMARY KEY,
    fold_version INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    data         BLOB    NOT NULL,
    digest       BLOB    NOT NULL CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;
