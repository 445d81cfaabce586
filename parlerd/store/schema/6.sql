-- Schema 6. The public line of a room, which authors sign, at each of its public messages.

-- Messages for everyone, as before, with `line`: SHA-256 of the line before and the digest of the message's envelope. The
-- rows of older messages are made from their facts.
DROP TABLE public_messages;
CREATE TABLE public_messages (
    room     TEXT    NOT NULL,
    position INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    author   TEXT    NOT NULL,
    own      INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    line     BLOB    NOT NULL CHECK (length(line) = 32),
    PRIMARY KEY (room, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX public_messages_by_author ON public_messages (room, author, position, own);

-- Where a mirror goes on after messages that it leaves out: `public` and `line` are the number and the line of the room's
-- newest public message there, by its home's count, and `counted` how many of its public messages are in this log so far.
CREATE TABLE mirror_places (
    room     TEXT    NOT NULL,
    position INTEGER NOT NULL,
    public   INTEGER NOT NULL,
    counted  INTEGER NOT NULL,
    line     BLOB    NOT NULL,
    PRIMARY KEY (room, position)
) STRICT, WITHOUT ROWID;
