-- Schema 7. Which bodies were erased on purpose, so that a body that somebody took out of the file still shows.

-- By the id of the message, as in `bodies`.
CREATE TABLE erased_bodies (
    id       INTEGER PRIMARY KEY,
    log      INTEGER NOT NULL GENERATED ALWAYS AS (id >> 32),
    position INTEGER NOT NULL GENERATED ALWAYS AS (id & 4294967295)
) STRICT;

CREATE TRIGGER erased_bodies_belong_to_a_message BEFORE INSERT ON erased_bodies
WHEN NOT EXISTS (SELECT 1 FROM facts WHERE id = NEW.id AND type = 'message_posted')
BEGIN
    SELECT RAISE(FAIL, 'a body that was erased belongs to a message');
END;
