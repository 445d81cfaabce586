-- Schema 19. What this home keeps of the key exchanges by which agents come into sealed rooms of other homes.

-- `share` is the joiner's, which names the exchange; `role` says which end is here, and `request` to what the room's home
-- says that it belongs, empty while that is not known here. `state` is what
-- the exchange goes on from, a secret, and `said` what this end said or was told. `at` is of the wall clock, and
-- `idle_ms` how long both ends were there while the joiner showed nothing. A row goes when the exchange is over.
CREATE TABLE key_exchanges (
    room    TEXT    NOT NULL CHECK (room <> ''),
    share   BLOB    NOT NULL CHECK (length(share) = 33),
    role    TEXT    NOT NULL CHECK (role IN ('joiner', 'owner')),
    agent   TEXT    NOT NULL CHECK (agent <> ''),
    request TEXT    NOT NULL,
    stage   TEXT    NOT NULL CHECK (stage IN ('begun', 'agreed', 'confirmed')),
    state   BLOB    NOT NULL,
    said    BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    idle_ms INTEGER NOT NULL CHECK (idle_ms >= 0),
    PRIMARY KEY (room, share, role)
) STRICT, WITHOUT ROWID;

-- How often a wrong secret was tried with a key of a room of this home's person, by whom. Tries are never taken back.
CREATE TABLE key_tries (
    room      TEXT    NOT NULL CHECK (room <> ''),
    ref       TEXT    NOT NULL CHECK (ref <> ''),
    principal TEXT    NOT NULL CHECK (principal <> ''),
    tries     INTEGER NOT NULL CHECK (tries >= 1),
    PRIMARY KEY (room, ref, principal)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER key_tries_only_grow BEFORE UPDATE ON key_tries
WHEN NEW.tries < OLD.tries
BEGIN
    SELECT RAISE(ABORT, 'a try is never taken back');
END;
