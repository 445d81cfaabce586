-- Schema 23. Who only asks a sealed queue for work has no secret of an epoch, but two keys that follow from it.

DROP TRIGGER epoch_secrets_never_change;

ALTER TABLE epoch_secrets RENAME TO epoch_secrets_of_22;

-- The secrets of a sealed room's epochs. `record` is the SHA-256 of the record that began the epoch, by which messages
-- name it. `requester` is empty for the secret of the epoch itself; else it is an agent that only asks for work, and
-- `secret` is what its own messages are sealed with, and the key of the room's card.
CREATE TABLE epoch_secrets (
    room      TEXT    NOT NULL CHECK (room <> ''),
    number    INTEGER NOT NULL CHECK (number >= 1),
    requester TEXT    NOT NULL,
    record    BLOB    NOT NULL CHECK (length(record) = 32),
    secret    BLOB    NOT NULL CHECK (length(secret) = iif(requester = '', 32, 64)),
    PRIMARY KEY (room, number, requester)
) STRICT, WITHOUT ROWID;

INSERT INTO epoch_secrets (room, number, requester, record, secret)
SELECT room, number, '', record, secret FROM epoch_secrets_of_22;

DROP TABLE epoch_secrets_of_22;

CREATE TRIGGER epoch_secrets_never_change BEFORE UPDATE ON epoch_secrets
WHEN NEW.record <> OLD.record OR NEW.secret <> OLD.secret
BEGIN
    SELECT RAISE(ABORT, 'an epoch has one record and one secret');
END;
