-- Schema 21. What readers were told of messages goes with the words of these.

-- A mark says something of every message in (after, upto], and goes only once none of them has words.
DROP TRIGGER deliveries_stay_while_their_room_does;
CREATE TRIGGER deliveries_stay_while_their_words_do BEFORE DELETE ON deliveries
WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE room = OLD.room)
 AND EXISTS (SELECT 1 FROM logs l JOIN bodies b ON b.id > (l.number << 32) + OLD.after AND b.id <= (l.number << 32) + OLD.upto
               JOIN facts f ON f.id = b.id
              WHERE l.room = OLD.room AND f.type = 'message_posted')
BEGIN
    SELECT RAISE(ABORT, 'what was delivered is never removed while its room has the words');
END;
