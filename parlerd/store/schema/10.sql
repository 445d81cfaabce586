-- Schema 10. What was written to the state of rooms.

-- The facts that wrote or deleted a key, or let it run out, by its scope. An index: it follows from the headers.
CREATE TABLE state_writes (
    log      INTEGER NOT NULL,
    scope    TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (log, scope, key, position)
) STRICT, WITHOUT ROWID;
