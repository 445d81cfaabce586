-- Schema 14. No fact is by a token that does not hold, and no token is wider than the one that it was made of.

-- The tokens that were minted in this home (`core.tokens`), by their ids. `joins` says that others come in with it, who
-- are given tokens of their own.
CREATE TABLE tokens (
    token      TEXT    NOT NULL PRIMARY KEY CHECK (token <> ''),
    agent      TEXT    NOT NULL CHECK (agent <> ''),
    joins      INTEGER NOT NULL CHECK (joins IN (0, 1)),
    expires_at INTEGER NOT NULL,
    parent     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- What a token is for.
CREATE TABLE token_access (
    token  TEXT NOT NULL,
    access TEXT NOT NULL,
    PRIMARY KEY (token, access)
) STRICT, WITHOUT ROWID;

-- The rooms of a token; one that was `opened` with it is also one of each token that it was made of.
CREATE TABLE token_rooms (
    token  TEXT    NOT NULL,
    room   TEXT    NOT NULL,
    opened INTEGER NOT NULL CHECK (opened IN (0, 1)),
    PRIMARY KEY (token, room)
) STRICT, WITHOUT ROWID;

CREATE TABLE revoked_tokens (
    token TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Each token with itself and all that it was made of. The triggers below fill it; a trigger cannot follow a chain.
CREATE TABLE token_lines (
    token TEXT NOT NULL,
    above TEXT NOT NULL,
    PRIMARY KEY (token, above)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_lines_from_above ON token_lines (above, token);

CREATE TRIGGER tokens_are_no_wider BEFORE INSERT ON tokens
WHEN NEW.parent <> ''
BEGIN
    SELECT RAISE(FAIL, 'a token is made of one that holds, and for no longer')
     WHERE NOT EXISTS (
               SELECT 1 FROM tokens p
                WHERE p.token = NEW.parent AND NEW.expires_at <= p.expires_at AND (p.joins OR NEW.agent = p.agent))
        OR EXISTS (
               SELECT 1 FROM token_lines l JOIN revoked_tokens r ON r.token = l.above WHERE l.token = NEW.parent);
END;

CREATE TRIGGER tokens_have_a_line AFTER INSERT ON tokens
BEGIN
    INSERT INTO token_lines SELECT NEW.token, above FROM token_lines WHERE token = NEW.parent;
    INSERT INTO token_lines VALUES (NEW.token, NEW.token);
END;

CREATE TRIGGER tokens_leave_no_line AFTER DELETE ON tokens
BEGIN
    DELETE FROM token_lines WHERE token = OLD.token;
END;

CREATE TRIGGER tokens_never_change BEFORE UPDATE ON tokens
BEGIN
    SELECT RAISE(ABORT, 'a token is never changed');
END;

CREATE TRIGGER token_access_is_no_wider BEFORE INSERT ON token_access
BEGIN
    SELECT RAISE(FAIL, 'a token is for nothing that the one is not for of which it was made')
     WHERE EXISTS (
               SELECT 1 FROM tokens t
                WHERE t.token = NEW.token AND t.parent <> ''
                  AND NOT EXISTS (SELECT 1 FROM token_access a WHERE a.token = t.parent AND a.access = NEW.access))
        OR NOT EXISTS (SELECT 1 FROM tokens WHERE token = NEW.token);
END;

CREATE TRIGGER token_rooms_are_no_more BEFORE INSERT ON token_rooms
WHEN NOT NEW.opened
BEGIN
    SELECT RAISE(FAIL, 'a token is of no room of which the one is not of which it was made')
     WHERE EXISTS (
               SELECT 1 FROM tokens t
                WHERE t.token = NEW.token AND t.parent <> ''
                  AND NOT EXISTS (SELECT 1 FROM token_rooms r WHERE r.token = t.parent AND r.room = NEW.room)
                  AND NOT EXISTS (
                          SELECT 1 FROM token_lines l JOIN token_rooms r ON r.token = l.token AND r.opened
                           WHERE l.above = t.parent AND r.room = NEW.room))
        OR NOT EXISTS (SELECT 1 FROM tokens WHERE token = NEW.token);
END;

-- By which token of which agent a fact came, and when by the wall clock, by which tokens hold; empty where it came by
-- none. A row from before this schema has nothing there, and no row is added without it.
ALTER TABLE own_lines ADD COLUMN token TEXT;
ALTER TABLE own_lines ADD COLUMN agent TEXT;
ALTER TABLE own_lines ADD COLUMN wall INTEGER;

CREATE TRIGGER own_lines_say_by_which_token BEFORE INSERT ON own_lines
WHEN NEW.token IS NULL OR NEW.agent IS NULL OR NEW.wall IS NULL
BEGIN
    SELECT RAISE(FAIL, 'a fact says by which token it came, or that it came by none');
END;

CREATE TRIGGER own_lines_are_of_tokens_that_hold BEFORE INSERT ON own_lines
WHEN NEW.token <> ''
BEGIN
    SELECT RAISE(FAIL, 'no fact is by a token that does not hold')
     WHERE NOT EXISTS (
               SELECT 1 FROM tokens
                WHERE token = NEW.token AND agent = NEW.agent AND NEW.wall < expires_at)
        OR EXISTS (
               SELECT 1 FROM token_lines l JOIN revoked_tokens r ON r.token = l.above WHERE l.token = NEW.token);
    SELECT RAISE(FAIL, 'no fact is by a token of other rooms')
     WHERE NOT EXISTS (
               SELECT 1 FROM logs g JOIN token_rooms r ON r.room = g.room
                WHERE g.number = NEW.id >> 32 AND (
                      r.token = NEW.token
                   OR r.opened AND EXISTS (
                          SELECT 1 FROM token_lines l WHERE l.above = NEW.token AND l.token = r.token)));
END;
