-- Schema 13. Marks of readers only go on, and words go only where a mark says that they were erased.

-- A row for a reader that has one moves that row on, whichever way it is inserted, and never back.
CREATE TRIGGER cursors_go_on BEFORE INSERT ON cursors
WHEN EXISTS (SELECT 1 FROM cursors WHERE room = NEW.room AND reader = NEW.reader)
BEGIN
    -- A row that would stay the same is not written, and neither is its page.
    UPDATE cursors
       SET delivered = max(delivered, NEW.delivered), acknowledged = max(acknowledged, NEW.acknowledged)
     WHERE room = NEW.room AND reader = NEW.reader
       AND (NEW.delivered > delivered OR NEW.acknowledged > acknowledged);
    SELECT RAISE(IGNORE);
END;

CREATE TRIGGER cursors_never_go_back BEFORE UPDATE ON cursors
WHEN NEW.delivered < OLD.delivered OR NEW.acknowledged < OLD.acknowledged
  OR NEW.room <> OLD.room OR NEW.reader <> OLD.reader
BEGIN
    -- FAIL, because the trigger above fires this one: for what may abort SQLite keeps a journal for each statement.
    SELECT RAISE(FAIL, 'a cursor never goes back');
END;

CREATE TRIGGER cursors_stay_while_their_room_does BEFORE DELETE ON cursors
WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE room = OLD.room)
BEGIN
    SELECT RAISE(ABORT, 'a cursor is never removed while its room exists');
END;

CREATE TRIGGER deliveries_never_change BEFORE UPDATE ON deliveries
BEGIN
    SELECT RAISE(ABORT, 'what was delivered is never changed');
END;

CREATE TRIGGER deliveries_stay_while_their_room_does BEFORE DELETE ON deliveries
WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE room = OLD.room)
BEGIN
    SELECT RAISE(ABORT, 'what was delivered is never removed while its room exists');
END;

CREATE TRIGGER bodies_go_with_a_mark BEFORE DELETE ON bodies
WHEN NOT EXISTS (SELECT 1 FROM erased_bodies WHERE id = OLD.id)
 AND NOT EXISTS (SELECT 1 FROM tombstones t JOIN logs l ON l.room = t.room WHERE l.number = OLD.id >> 32)
BEGIN
    SELECT RAISE(ABORT, 'a body goes only where a mark says that it was erased');
END;

CREATE TRIGGER erased_bodies_never_change BEFORE UPDATE ON erased_bodies
BEGIN
    SELECT RAISE(ABORT, 'the mark of a body that was erased is never changed');
END;

CREATE TRIGGER erased_bodies_stay_while_their_room_does BEFORE DELETE ON erased_bodies
WHEN NOT EXISTS (SELECT 1 FROM tombstones t JOIN logs l ON l.room = t.room WHERE l.number = OLD.id >> 32)
BEGIN
    SELECT RAISE(ABORT, 'the mark of a body that was erased is never removed');
END;
