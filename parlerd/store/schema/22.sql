-- Schema 22. What agent hosts' records say of a message goes with its words, as the marks of its delivery do.

DROP TRIGGER sights_stay_while_their_room_does;

CREATE TRIGGER sights_stay_while_their_words_do BEFORE DELETE ON sights
WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE room = OLD.room)
 AND (NOT EXISTS (SELECT 1 FROM logs WHERE room = OLD.room)
      OR EXISTS (SELECT 1 FROM logs l CROSS JOIN bodies b CROSS JOIN facts f
                  WHERE l.room = OLD.room AND b.id = (l.number << 32) + OLD.position
                    AND f.id = b.id AND f.type = 'message_posted'))
BEGIN
    SELECT RAISE(ABORT, 'what is known of a reader is never removed while its room has the words');
END;
