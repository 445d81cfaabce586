-- Requests that wait to leave for a home elsewhere, and those that it refused for good, until their author was told.

-- A row with a larger `number` came later. `request` is what the uplink needs to carry the request out; no row holds an
-- envelope, which is composed and signed when the request leaves. `refused` is the code of the other home's refusal,
-- and empty while the request waits.
CREATE TABLE outbox (
    number  INTEGER NOT NULL PRIMARY KEY,
    message TEXT    NOT NULL UNIQUE,
    home    TEXT    NOT NULL,
    room    TEXT    NOT NULL,
    agent   TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    at      INTEGER NOT NULL CHECK (at >= 0),
    request BLOB    NOT NULL,
    refused TEXT    NOT NULL
) STRICT;
CREATE INDEX outbox_by_home ON outbox (home, number);
