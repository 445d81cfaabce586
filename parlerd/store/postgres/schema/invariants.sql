-- What the database refuses, whoever asks: SQLite's list (`../../schema/*.sql`), with the chain, and no TRUNCATE.
--
-- Rows that are added to a table are looked at together, by one trigger for each statement; rows that change, by a
-- condition of the trigger, which calls no function where it does not hold. There are no foreign keys, which cost as
-- much again. A head is looked at when the transaction commits, because it moves before its facts are there.
--
-- Whatever is refused is an error of the class 23. This file is run again by each version that changes it.

-- A relay may write meanwhile. Its transactions come to the tables in this order, so each is done before, or waits for
-- this script with nothing in its hands.
LOCK TABLE heads, facts, bodies, own_lines, rooms, tokens, token_access, token_rooms, revoked_tokens, cursors, deliveries,
           erased_bodies, tombstones, agents, meta IN SHARE ROW EXCLUSIVE MODE;

-- ---- How it is refused -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = TG_ARGV[0];
END $$;

-- Refuses for a reason, where there is one.
CREATE OR REPLACE FUNCTION refuse_for(why text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = why;
    END IF;
END $$;

-- ---- Facts and where their log ends ------------------------------------------------------------------------

-- Each new fact follows the one before it in position, time and chain; the last of a room stands where the head does.
CREATE OR REPLACE FUNCTION facts_follow_one_another() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    SELECT CASE
           WHEN bool_or(t.room IS NOT NULL) THEN 'this room was deleted'
           WHEN bool_or(n.position <> coalesce(n.position_before, p.position, 0) + 1
                        OR n.at < coalesce(n.at_before, p.at, 0))
           THEN 'a fact must follow the last one of its room, in time as well'
           WHEN bool_or(n.digest <> sha256(n.salt || n.header)
                        OR n.chain <> sha256(coalesce(n.chain_before, p.chain, decode(repeat('00', 32), 'hex'))
                                             || n.digest))
           THEN 'a fact must continue the chain of its room'
           WHEN bool_or(n.ends AND (h.position, h.at, h.chain) IS DISTINCT FROM (n.position, n.at, n.chain))
           THEN 'the head of a room moves with its facts'
           WHEN bool_or(k.type IS NULL) THEN 'this type of fact is not known'
           END
      INTO why
      FROM (SELECT a.*, lag(a.position) OVER log AS position_before, lag(a.at) OVER log AS at_before,
                   lag(a.chain) OVER log AS chain_before, lead(a.position) OVER log IS NULL AS ends
              FROM added a WINDOW log AS (PARTITION BY a.room ORDER BY a.position)) n
      LEFT JOIN facts p ON n.position_before IS NULL AND p.room = n.room AND p.position = n.position - 1
      LEFT JOIN heads h ON n.ends AND h.room = n.room
      LEFT JOIN tombstones t ON n.ends AND t.room = n.room
      LEFT JOIN fact_types k ON k.type = n.type AND k.v >= n.v;
    PERFORM refuse_for(why);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER facts_follow_one_another AFTER INSERT ON facts
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION facts_follow_one_another();

CREATE OR REPLACE TRIGGER facts_never_change BEFORE UPDATE ON facts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a fact is never changed');

CREATE OR REPLACE FUNCTION stay_while_their_room_does() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM removed r WHERE NOT EXISTS (SELECT FROM tombstones t WHERE t.room = r.room)
    ) THEN
        PERFORM refuse_for(TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER facts_stay_while_their_room_does AFTER DELETE ON facts
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
    EXECUTE FUNCTION stay_while_their_room_does('a fact is never removed while its room exists');

-- A head stands where its log ends, once the transaction commits. A room that was deleted meanwhile has neither.
CREATE OR REPLACE FUNCTION heads_stand_at_a_fact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM facts f
         WHERE f.room = NEW.room AND f.position = NEW.position AND f.at = NEW.at AND f.chain = NEW.chain
    ) AND NOT EXISTS (SELECT FROM tombstones t WHERE t.room = NEW.room) THEN
        PERFORM refuse_for('the head of a room moves with its facts');
    END IF;
    RETURN NULL;
END $$;
-- There is no CREATE OR REPLACE for one that waits for the commit, and whoever drops it locks out readers.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'heads'::regclass AND tgname = 'heads_stand_at_a_fact') THEN
        CREATE CONSTRAINT TRIGGER heads_stand_at_a_fact AFTER INSERT OR UPDATE ON heads
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION heads_stand_at_a_fact();
    END IF;
END $$;

CREATE OR REPLACE TRIGGER heads_never_go_back BEFORE UPDATE ON heads FOR EACH ROW
    WHEN (NEW.room <> OLD.room OR NEW.shard <> OLD.shard OR NEW.position <= OLD.position OR NEW.at < OLD.at)
    EXECUTE FUNCTION refuse('the head of a room only goes on');

CREATE OR REPLACE FUNCTION heads_are_of_no_deleted_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added a JOIN tombstones t ON t.room = a.room) THEN
        PERFORM refuse_for('this room was deleted');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER heads_are_of_no_deleted_room AFTER INSERT ON heads
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION heads_are_of_no_deleted_room();

CREATE OR REPLACE TRIGGER heads_stay_while_their_room_does AFTER DELETE ON heads
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
    EXECUTE FUNCTION stay_while_their_room_does('a head is never removed while its room exists');

CREATE OR REPLACE TRIGGER tombstones_never_change BEFORE UPDATE ON tombstones
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a tombstone is never changed');
CREATE OR REPLACE TRIGGER tombstones_stay BEFORE DELETE ON tombstones
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a tombstone is never removed');

CREATE OR REPLACE TRIGGER agents_never_change BEFORE UPDATE ON agents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the number of an agent is never changed');
CREATE OR REPLACE TRIGGER agents_stay BEFORE DELETE ON agents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the number of an agent is never given up');

-- ---- Bodies ------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION bodies_belong_to_a_fact() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    SELECT CASE
           WHEN bool_or(f.room IS NULL) THEN 'a body belongs to a fact'
           WHEN bool_or(e.room IS NOT NULL) THEN 'a body that was erased does not come back'
           END
      INTO why
      FROM added a
      LEFT JOIN facts f ON f.room = a.room AND f.position = a.position
      LEFT JOIN erased_bodies e ON e.room = a.room AND e.position = a.position;
    PERFORM refuse_for(why);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER bodies_belong_to_a_fact AFTER INSERT ON bodies
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION bodies_belong_to_a_fact();

CREATE OR REPLACE TRIGGER bodies_never_change BEFORE UPDATE ON bodies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a body is never changed');

CREATE OR REPLACE FUNCTION bodies_go_with_a_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM removed r
         WHERE NOT EXISTS (SELECT FROM erased_bodies e WHERE e.room = r.room AND e.position = r.position)
           AND NOT EXISTS (SELECT FROM tombstones t WHERE t.room = r.room)
    ) THEN
        PERFORM refuse_for('a body goes only where a mark says that it was erased');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER bodies_go_with_a_mark AFTER DELETE ON bodies
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION bodies_go_with_a_mark();

CREATE OR REPLACE FUNCTION erased_bodies_belong_to_a_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added a
          LEFT JOIN facts f ON f.room = a.room AND f.position = a.position
         WHERE f.type IS DISTINCT FROM 'message_posted'
    ) THEN
        PERFORM refuse_for('a body that was erased belongs to a message');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER erased_bodies_belong_to_a_message AFTER INSERT ON erased_bodies
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION erased_bodies_belong_to_a_message();

CREATE OR REPLACE TRIGGER erased_bodies_never_change BEFORE UPDATE ON erased_bodies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the mark of a body that was erased is never changed');
CREATE OR REPLACE TRIGGER erased_bodies_stay_while_their_room_does AFTER DELETE ON erased_bodies
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
    EXECUTE FUNCTION stay_while_their_room_does('the mark of a body that was erased is never removed');

-- ---- The index ---------------------------------------------------------------------------------------------

-- Rows of the index may go only to be made anew. A transaction that empties the index and fills nothing would hide every
-- room, and let a token that was revoked be minted again; so what these two say is looked at when it commits.
CREATE OR REPLACE FUNCTION rooms_are_listed_while_they_exist() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM heads h WHERE h.room = OLD.room)
       AND NOT EXISTS (SELECT FROM rooms r WHERE r.room = OLD.room) THEN
        PERFORM refuse_for('a room is listed as long as it exists');
    END IF;
    RETURN NULL;
END $$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'rooms'::regclass AND tgname = 'rooms_are_listed_while_they_exist') THEN
        CREATE CONSTRAINT TRIGGER rooms_are_listed_while_they_exist AFTER DELETE ON rooms
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rooms_are_listed_while_they_exist();
    END IF;
END $$;

CREATE OR REPLACE FUNCTION revoked_tokens_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM revoked_tokens r WHERE r.token = OLD.token) THEN
        PERFORM refuse_for('a token that was revoked stays so');
    END IF;
    RETURN NULL;
END $$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'revoked_tokens'::regclass AND tgname = 'revoked_tokens_stay') THEN
        CREATE CONSTRAINT TRIGGER revoked_tokens_stay AFTER DELETE ON revoked_tokens
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION revoked_tokens_stay();
    END IF;
END $$;

-- ---- Own lines ---------------------------------------------------------------------------------------------

-- A token with all that it was made of.
CREATE OR REPLACE FUNCTION tokens_above(of_token text) RETURNS SETOF text STABLE LANGUAGE sql AS $$
    WITH RECURSIVE line (token) AS (
        SELECT of_token COLLATE "C"
         UNION
        SELECT t.parent FROM line l JOIN tokens t ON t.token = l.token WHERE t.parent <> ''
    )
    SELECT token FROM line
$$;

-- Whether a token was revoked, or one that it was made of.
CREATE OR REPLACE FUNCTION is_revoked(of_token text) RETURNS boolean STABLE LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM tokens_above(of_token) AS above JOIN revoked_tokens r ON r.token = above)
$$;

-- Whether a room is one of a token's: by itself, or because it was opened with a token that was made of it.
CREATE OR REPLACE FUNCTION is_of_room(of_token text, in_room text) RETURNS boolean STABLE LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM token_rooms r WHERE r.token = of_token AND r.room = in_room)
        OR EXISTS (
               SELECT FROM token_rooms r
                WHERE r.room = in_room AND r.opened = 1 AND of_token IN (SELECT tokens_above(r.token)))
$$;
CREATE INDEX IF NOT EXISTS token_rooms_opened ON token_rooms (room) WHERE opened = 1;

CREATE OR REPLACE FUNCTION own_lines_go_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    why text; tokens_used boolean;
BEGIN
    SELECT CASE
           WHEN bool_or(f.room IS NULL) THEN 'an own line is of a fact'
           WHEN bool_or(n.number <> coalesce(n.number_before, p.number, 0) + 1) THEN 'an own line has no gaps'
           WHEN bool_or(n.line <> sha256(coalesce(n.line_before, p.line, n.thread) || f.digest))
           THEN 'an own line is over its facts'
           END,
           bool_or(n.token <> '')
      INTO why, tokens_used
      FROM (SELECT a.*, lag(a.number) OVER own AS number_before, lag(a.line) OVER own AS line_before
              FROM added a WINDOW own AS (PARTITION BY a.thread ORDER BY a.number)) n
      LEFT JOIN facts f ON f.room = n.room AND f.position = n.position
      LEFT JOIN own_lines p ON n.number_before IS NULL AND p.thread = n.thread AND p.number = n.number - 1;
    IF why IS NULL AND tokens_used THEN
        SELECT CASE
               WHEN bool_or(t.token IS NULL OR t.agent <> a.agent OR a.wall >= t.expires_at OR is_revoked(a.token))
               THEN 'no fact is by a token that does not hold'
               WHEN bool_or(NOT is_of_room(a.token, a.room)) THEN 'no fact is by a token of other rooms'
               END
          INTO why
          FROM added a
          LEFT JOIN tokens t ON t.token = a.token
         WHERE a.token <> '';
    END IF;
    PERFORM refuse_for(why);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER own_lines_go_on AFTER INSERT ON own_lines
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION own_lines_go_on();

CREATE OR REPLACE TRIGGER own_lines_never_change BEFORE UPDATE ON own_lines
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('an own line is never changed');
CREATE OR REPLACE TRIGGER own_lines_are_never_removed AFTER DELETE ON own_lines
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
    EXECUTE FUNCTION stay_while_their_room_does('an own line is never removed');

-- ---- Tokens ------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION tokens_are_no_wider() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added a
          LEFT JOIN tokens p ON p.token = a.parent
         WHERE a.parent <> ''
           AND (p.token IS NULL OR a.expires_at > p.expires_at OR (p.joins = 0 AND a.agent <> p.agent)
                OR is_revoked(a.parent)
                -- Tokens that come together could be made of each other.
                OR NOT EXISTS (SELECT FROM tokens_above(a.token) AS above JOIN tokens t ON t.token = above
                                WHERE t.parent = ''))
    ) THEN
        PERFORM refuse_for('a token is made of one that holds, and for no longer');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER tokens_are_no_wider AFTER INSERT ON tokens
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tokens_are_no_wider();
CREATE OR REPLACE TRIGGER tokens_never_change BEFORE UPDATE ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a token is never changed');

CREATE OR REPLACE FUNCTION token_access_is_no_wider() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added a
          LEFT JOIN tokens t ON t.token = a.token
         WHERE t.token IS NULL
            OR t.parent <> ''
               AND NOT EXISTS (SELECT FROM token_access p WHERE p.token = t.parent AND p.access = a.access)
    ) THEN
        PERFORM refuse_for('a token is for nothing that the one is not for of which it was made');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER token_access_is_no_wider AFTER INSERT ON token_access
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION token_access_is_no_wider();
CREATE OR REPLACE TRIGGER token_access_never_changes BEFORE UPDATE ON token_access
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('what a token is for is never changed');

CREATE OR REPLACE FUNCTION token_rooms_are_no_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added a
          LEFT JOIN tokens t ON t.token = a.token
         WHERE a.opened = 0 AND (t.token IS NULL OR t.parent <> '' AND NOT is_of_room(t.parent, a.room))
    ) THEN
        PERFORM refuse_for('a token is of no room of which the one is not of which it was made');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER token_rooms_are_no_more AFTER INSERT ON token_rooms
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION token_rooms_are_no_more();
CREATE OR REPLACE TRIGGER token_rooms_never_change BEFORE UPDATE ON token_rooms
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the rooms of a token are never changed');
CREATE OR REPLACE TRIGGER revoked_tokens_never_change BEFORE UPDATE ON revoked_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a token that was revoked stays so');

-- ---- Marks of readers --------------------------------------------------------------------------------------

CREATE OR REPLACE TRIGGER cursors_never_go_back BEFORE UPDATE ON cursors FOR EACH ROW
    WHEN (NEW.delivered < OLD.delivered OR NEW.acknowledged < OLD.acknowledged
          OR NEW.room <> OLD.room OR NEW.reader <> OLD.reader)
    EXECUTE FUNCTION refuse('a cursor never goes back');
CREATE OR REPLACE TRIGGER cursors_stay_while_their_room_does AFTER DELETE ON cursors
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
    EXECUTE FUNCTION stay_while_their_room_does('a cursor is never removed while its room exists');

CREATE OR REPLACE TRIGGER deliveries_never_change BEFORE UPDATE ON deliveries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('what was delivered is never changed');
-- A mark says something of every message in (after, upto], and goes only once none of them has words.
CREATE OR REPLACE FUNCTION deliveries_stay_while_their_words_do() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM removed r
         WHERE NOT EXISTS (SELECT FROM tombstones t WHERE t.room = r.room)
           AND EXISTS (SELECT FROM bodies b JOIN facts f ON f.room = b.room AND f.position = b.position
                        WHERE b.room = r.room AND b.position > r.after AND b.position <= r.upto
                          AND f.type = 'message_posted')
    ) THEN
        PERFORM refuse_for('what was delivered is never removed while its room has the words');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER deliveries_stay_while_their_room_does AFTER DELETE ON deliveries
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION deliveries_stay_while_their_words_do();

-- ---- The version of the tables -------------------------------------------------------------------------------

-- A relay has other rows of `meta` to change, and must not make its tables out to be of another schema.
CREATE OR REPLACE FUNCTION schema_only_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.key = OLD.key
       AND (CASE WHEN NEW.value ~ '^[0-9]{1,9}$' THEN NEW.value::integer >= OLD.value::integer ELSE false END)
       AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    PERFORM refuse_for('the schema of the tables only goes on, and is their owner''s to say');
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER schema_only_goes_on BEFORE UPDATE OR DELETE ON meta FOR EACH ROW
    WHEN (OLD.key = 'schema') EXECUTE FUNCTION schema_only_goes_on();

-- ---- No table is emptied -----------------------------------------------------------------------------------

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['agents', 'tombstones', 'heads', 'facts', 'bodies', 'erased_bodies', 'own_lines',
                                'rooms', 'tokens', 'token_access', 'token_rooms', 'revoked_tokens', 'cursors', 'deliveries',
                                'meta'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %1$I BEFORE TRUNCATE ON %2$I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse(%3$L)',
                       name || '_are_never_emptied', name, 'no table of the record is emptied');
    END LOOP;
END $$;

-- ---- What takes away -----------------------------------------------------------------------------------------

-- These are the owner's, and run as the owner: a relay has no DELETE on the record. They keep to the rules above.

-- Take away the bodies of messages, each with a mark that this was meant. The n-th room and position name one message;
-- what is no message, or has no body any more, stays as it is.
CREATE OR REPLACE FUNCTION erase_bodies(of_rooms text[], at_positions bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO erased_bodies
    SELECT f.room, f.position
      FROM (SELECT DISTINCT * FROM unnest(of_rooms, at_positions) AS named (room, position)) n
      JOIN bodies b ON b.room = n.room COLLATE "C" AND b.position = n.position
      JOIN facts f ON f.room = b.room AND f.position = b.position
     WHERE f.type = 'message_posted';
    DELETE FROM bodies b
     USING unnest(of_rooms, at_positions) AS n (room, position), erased_bodies e
     WHERE b.room = n.room COLLATE "C" AND b.position = n.position AND e.room = b.room AND e.position = b.position;
END $$;

-- Delete a room: from this commit on it has no log, and takes nothing. Its rows stay until they are cleared.
CREATE OR REPLACE FUNCTION bury_room(which text, deleted_at bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- Whoever adds to the room holds its head until then.
    PERFORM FROM heads WHERE room = which FOR UPDATE;
    INSERT INTO tombstones VALUES (which, deleted_at) ON CONFLICT DO NOTHING;
    DELETE FROM heads WHERE room = which;
END $$;

-- Let a room that nobody opened be one that nobody can open. Where somebody else is storing its first fact at this moment
-- this waits, and fails with a serialization failure if that happened: the transaction is to begin anew.
CREATE OR REPLACE FUNCTION shut_room(which text, shut_at bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM tombstones WHERE room = which) THEN
        RETURN;
    END IF;
    -- No two transactions have put in a head of one room, so whoever opens the room waits for this one, too.
    INSERT INTO heads VALUES (which, 0, 1, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = 'a room was opened that is to be none';
    END IF;
    INSERT INTO tombstones VALUES (which, shut_at) ON CONFLICT DO NOTHING;
    DELETE FROM heads WHERE room = which;
END $$;

-- Take away the facts of a deleted room from a position on, with their bodies, marks and places in own lines.
CREATE OR REPLACE FUNCTION clear_facts(of_room text, from_position bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM bodies WHERE room = of_room AND position >= from_position;
    DELETE FROM erased_bodies WHERE room = of_room AND position >= from_position;
    DELETE FROM own_lines WHERE room = of_room AND position >= from_position;
    DELETE FROM facts WHERE room = of_room AND position >= from_position;
END $$;

-- Take away at most so many cursors, and as many deliveries, of a deleted room; how many these were.
CREATE OR REPLACE FUNCTION clear_marks(of_room text, at_most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    cursors_gone bigint; deliveries_gone bigint;
BEGIN
    DELETE FROM cursors WHERE ctid = ANY (ARRAY (SELECT ctid FROM cursors WHERE room = of_room LIMIT at_most));
    GET DIAGNOSTICS cursors_gone = ROW_COUNT;
    DELETE FROM deliveries WHERE ctid = ANY (ARRAY (SELECT ctid FROM deliveries WHERE room = of_room LIMIT at_most));
    GET DIAGNOSTICS deliveries_gone = ROW_COUNT;
    RETURN cursors_gone + deliveries_gone;
END $$;

-- Take away at most so many of a room's deliveries that say something of messages in a piece of its log alone, where none
-- of these messages has words.
CREATE OR REPLACE FUNCTION forget_marks(of_room text, from_position bigint, to_position bigint, at_most bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM deliveries WHERE ctid = ANY (ARRAY (
        SELECT m.ctid FROM cursors c
         CROSS JOIN LATERAL (
            SELECT d.ctid FROM deliveries d
             WHERE d.room = c.room AND d.reader = c.reader
               AND d.upto >= from_position AND d.upto <= to_position AND d.after >= from_position - 1
               AND NOT EXISTS (SELECT FROM bodies b JOIN facts f ON f.room = b.room AND f.position = b.position
                                WHERE b.room = d.room AND b.position > d.after AND b.position <= d.upto
                                  AND f.type = 'message_posted')
             LIMIT at_most) m
         WHERE c.room = of_room COLLATE "C"
         LIMIT at_most));
END $$;

-- Empty every table that is derived from facts, for whoever fills them again from the facts in the same transaction.
-- Nothing is committed where the rooms, or the tokens that were revoked, are not there again.
CREATE OR REPLACE FUNCTION forget_index() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- Every writer locks the heads of its rooms, and so waits.
    LOCK TABLE heads IN EXCLUSIVE MODE;
    DELETE FROM rooms;
    DELETE FROM messages;
    DELETE FROM public_messages;
    DELETE FROM mirror_places;
    DELETE FROM private_messages;
    DELETE FROM filtered_messages;
    DELETE FROM idempotency;
    DELETE FROM room_keys;
    DELETE FROM memberships;
    DELETE FROM deadlines;
    DELETE FROM state_writes;
    DELETE FROM tokens;
    DELETE FROM token_access;
    DELETE FROM token_rooms;
    DELETE FROM revoked_tokens;
    DELETE FROM remembered;
END $$;

-- ---- No function can be led astray -----------------------------------------------------------------------------

-- Whoever calls one chooses where names are looked for, and could put a table of its own before ours. A plan is made
-- once for each connection, maybe while a table is small, so a plan that reads a whole table is never one. What takes
-- away is for the relays alone that the owner lets in.
DO $$
DECLARE
    which regprocedure;
BEGIN
    FOR which IN
        SELECT oid FROM pg_proc
         WHERE pronamespace = current_schema()::regnamespace
           AND proname IN (
               'facts_follow_one_another', 'stay_while_their_room_does', 'heads_stand_at_a_fact',
               'heads_are_of_no_deleted_room', 'bodies_belong_to_a_fact', 'bodies_go_with_a_mark',
               'erased_bodies_belong_to_a_message', 'rooms_are_listed_while_they_exist', 'revoked_tokens_stay',
               'schema_only_goes_on', 'tokens_above', 'is_revoked', 'is_of_room', 'own_lines_go_on',
               'tokens_are_no_wider', 'token_access_is_no_wider', 'token_rooms_are_no_more',
               'deliveries_stay_while_their_words_do', 'forget_marks',
               'erase_bodies', 'bury_room', 'shut_room', 'clear_facts', 'clear_marks', 'forget_index')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', which, current_schema());
        EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off', which);
        EXECUTE format('ALTER FUNCTION %s SET enable_hashjoin = off', which);
        EXECUTE format('ALTER FUNCTION %s SET enable_mergejoin = off', which);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION erase_bodies, bury_room, shut_room, clear_facts, clear_marks, forget_marks, forget_index
  FROM PUBLIC;
