-- Schema 15. What a token is for, its rooms and that it was revoked never change, and the version of the tables only goes
-- on.

CREATE TRIGGER token_access_never_changes BEFORE UPDATE ON token_access
BEGIN
    SELECT RAISE(ABORT, 'what a token is for is never changed');
END;

CREATE TRIGGER token_rooms_never_change BEFORE UPDATE ON token_rooms
BEGIN
    SELECT RAISE(ABORT, 'the rooms of a token are never changed');
END;

CREATE TRIGGER revoked_tokens_never_change BEFORE UPDATE ON revoked_tokens
BEGIN
    SELECT RAISE(ABORT, 'a token that was revoked stays so');
END;

-- A row that replaces another is not deleted as a trigger sees it. An upsert comes by here as well.
CREATE TRIGGER schema_is_not_replaced BEFORE INSERT ON meta
WHEN NEW.key = 'schema'
BEGIN
    SELECT RAISE(ABORT, 'the schema of the tables only goes on')
     WHERE EXISTS (SELECT 1 FROM meta
                    WHERE key = 'schema' AND CAST(NEW.value AS INTEGER) < CAST(value AS INTEGER));
END;

CREATE TRIGGER schema_only_goes_on BEFORE UPDATE ON meta
WHEN OLD.key = 'schema'
 AND (NEW.key <> OLD.key OR CAST(NEW.value AS INTEGER) < CAST(OLD.value AS INTEGER))
BEGIN
    SELECT RAISE(ABORT, 'the schema of the tables only goes on');
END;

CREATE TRIGGER schema_stays BEFORE DELETE ON meta
WHEN OLD.key = 'schema'
BEGIN
    SELECT RAISE(ABORT, 'the schema of the tables only goes on');
END;
