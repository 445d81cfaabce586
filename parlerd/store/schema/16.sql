-- Schema 16. What opens the sealed rooms of other homes: a daemon's secrets, which are in its backups as well.

-- The X25519 keys of this home's agents, for the sealed rooms of a home: the newest, and older ones while an epoch is
-- kept that was wrapped to them. `made_at` is of the wall clock.
CREATE TABLE sealing_keys (
    home    TEXT    NOT NULL CHECK (home <> ''),
    agent   TEXT    NOT NULL CHECK (agent <> ''),
    counter INTEGER NOT NULL CHECK (counter >= 1),
    made_at INTEGER NOT NULL,
    private BLOB    NOT NULL CHECK (length(private) = 32),
    PRIMARY KEY (home, agent, counter)
) STRICT, WITHOUT ROWID;

-- The secrets of a sealed room's epochs. `record` is the SHA-256 of the record that began the epoch, by which messages
-- name it.
CREATE TABLE epoch_secrets (
    room   TEXT    NOT NULL CHECK (room <> ''),
    number INTEGER NOT NULL CHECK (number >= 1),
    record BLOB    NOT NULL CHECK (length(record) = 32),
    secret BLOB    NOT NULL CHECK (length(secret) = 32),
    PRIMARY KEY (room, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER epoch_secrets_never_change BEFORE UPDATE ON epoch_secrets
WHEN NEW.record <> OLD.record OR NEW.secret <> OLD.secret
BEGIN
    SELECT RAISE(ABORT, 'an epoch has one record and one secret');
END;

CREATE TRIGGER sealing_keys_never_change BEFORE UPDATE ON sealing_keys
BEGIN
    SELECT RAISE(ABORT, 'a sealing key is never changed');
END;
