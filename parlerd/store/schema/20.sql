-- Schema 20. Which epoch records this home signed, for the sealed rooms of its person: one that bears the person's
-- signature and is not here was signed with the same key elsewhere.

-- `record` is the SHA-256 of a record. A row is there before the record leaves. One number may have several: a record that
-- came too late is made anew.
CREATE TABLE made_records (
    room   TEXT    NOT NULL CHECK (room <> ''),
    number INTEGER NOT NULL CHECK (number >= 1),
    record BLOB    NOT NULL CHECK (length(record) = 32),
    PRIMARY KEY (room, number, record)
) STRICT, WITHOUT ROWID;
