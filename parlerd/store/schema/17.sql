-- Schema 17. How the files are sealed that agents of this home share in sealed rooms elsewhere.

-- `digest` is the SHA-256 of the file itself, and `blob` names its ciphertext at the home of the room. A row is there
-- before any of the ciphertext leaves, and goes once nobody can go on with that upload. `used_at` is of the wall clock.
CREATE TABLE file_seals (
    room    TEXT    NOT NULL CHECK (room <> ''),
    agent   TEXT    NOT NULL CHECK (agent <> ''),
    digest  BLOB    NOT NULL CHECK (length(digest) = 32),
    size    INTEGER NOT NULL CHECK (size >= 0),
    blob    TEXT    NOT NULL CHECK (length(blob) = 64),
    key     BLOB    NOT NULL CHECK (length(key) = 32),
    prefix  BLOB    NOT NULL CHECK (length(prefix) = 19),
    used_at INTEGER NOT NULL,
    PRIMARY KEY (room, agent, digest)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER file_seals_never_change BEFORE UPDATE ON file_seals
WHEN NEW.blob <> OLD.blob OR NEW.size <> OLD.size OR NEW.key <> OLD.key OR NEW.prefix <> OLD.prefix
BEGIN
    SELECT RAISE(ABORT, 'a file is sealed in one way while it is on its way');
END;
