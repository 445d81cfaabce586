-- The invariants of a PostgreSQL store, as assertions of pgTAP. `python -m tests.store.postgres.tap` makes this file.

BEGIN;
SET LOCAL search_path = public, tap;
SET LOCAL ROLE parler_owner;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT plan(283);
SELECT has_trigger('public', 'facts', 'facts_follow_one_another', 'facts has the trigger facts_follow_one_another');
SELECT has_trigger('public', 'facts', 'facts_never_change', 'facts has the trigger facts_never_change');
SELECT has_trigger('public', 'facts', 'facts_stay_while_their_room_does', 'facts has the trigger facts_stay_while_their_room_does');
SELECT has_trigger('public', 'heads', 'heads_stand_at_a_fact', 'heads has the trigger heads_stand_at_a_fact');
SELECT has_trigger('public', 'heads', 'heads_never_go_back', 'heads has the trigger heads_never_go_back');
SELECT has_trigger('public', 'heads', 'heads_are_of_no_deleted_room', 'heads has the trigger heads_are_of_no_deleted_room');
SELECT has_trigger('public', 'heads', 'heads_stay_while_their_room_does', 'heads has the trigger heads_stay_while_their_room_does');
SELECT has_trigger('public', 'tombstones', 'tombstones_never_change', 'tombstones has the trigger tombstones_never_change');
SELECT has_trigger('public', 'tombstones', 'tombstones_stay', 'tombstones has the trigger tombstones_stay');
SELECT has_trigger('public', 'agents', 'agents_never_change', 'agents has the trigger agents_never_change');
SELECT has_trigger('public', 'agents', 'agents_stay', 'agents has the trigger agents_stay');
SELECT has_trigger('public', 'bodies', 'bodies_belong_to_a_fact', 'bodies has the trigger bodies_belong_to_a_fact');
SELECT has_trigger('public', 'bodies', 'bodies_never_change', 'bodies has the trigger bodies_never_change');
SELECT has_trigger('public', 'bodies', 'bodies_go_with_a_mark', 'bodies has the trigger bodies_go_with_a_mark');
SELECT has_trigger('public', 'erased_bodies', 'erased_bodies_belong_to_a_message', 'erased_bodies has the trigger erased_bodies_belong_to_a_message');
SELECT has_trigger('public', 'erased_bodies', 'erased_bodies_never_change', 'erased_bodies has the trigger erased_bodies_never_change');
SELECT has_trigger('public', 'erased_bodies', 'erased_bodies_stay_while_their_room_does', 'erased_bodies has the trigger erased_bodies_stay_while_their_room_does');
SELECT has_trigger('public', 'own_lines', 'own_lines_go_on', 'own_lines has the trigger own_lines_go_on');
SELECT has_trigger('public', 'own_lines', 'own_lines_never_change', 'own_lines has the trigger own_lines_never_change');
SELECT has_trigger('public', 'own_lines', 'own_lines_are_never_removed', 'own_lines has the trigger own_lines_are_never_removed');
SELECT has_trigger('public', 'tokens', 'tokens_are_no_wider', 'tokens has the trigger tokens_are_no_wider');
SELECT has_trigger('public', 'tokens', 'tokens_never_change', 'tokens has the trigger tokens_never_change');
SELECT has_trigger('public', 'token_access', 'token_access_is_no_wider', 'token_access has the trigger token_access_is_no_wider');
SELECT has_trigger('public', 'token_access', 'token_access_never_changes', 'token_access has the trigger token_access_never_changes');
SELECT has_trigger('public', 'token_rooms', 'token_rooms_are_no_more', 'token_rooms has the trigger token_rooms_are_no_more');
SELECT has_trigger('public', 'token_rooms', 'token_rooms_never_change', 'token_rooms has the trigger token_rooms_never_change');
SELECT has_trigger('public', 'revoked_tokens', 'revoked_tokens_never_change', 'revoked_tokens has the trigger revoked_tokens_never_change');
SELECT has_trigger('public', 'revoked_tokens', 'revoked_tokens_stay', 'revoked_tokens has the trigger revoked_tokens_stay');
SELECT has_trigger('public', 'rooms', 'rooms_are_listed_while_they_exist', 'rooms has the trigger rooms_are_listed_while_they_exist');
SELECT has_trigger('public', 'meta', 'schema_only_goes_on', 'meta has the trigger schema_only_goes_on');
SELECT has_trigger('public', 'cursors', 'cursors_never_go_back', 'cursors has the trigger cursors_never_go_back');
SELECT has_trigger('public', 'cursors', 'cursors_stay_while_their_room_does', 'cursors has the trigger cursors_stay_while_their_room_does');
SELECT has_trigger('public', 'deliveries', 'deliveries_never_change', 'deliveries has the trigger deliveries_never_change');
SELECT has_trigger('public', 'deliveries', 'deliveries_stay_while_their_room_does', 'deliveries has the trigger deliveries_stay_while_their_room_does');
SELECT has_trigger('public', 'agents', 'agents_are_never_emptied', 'agents has the trigger agents_are_never_emptied');
SELECT has_trigger('public', 'tombstones', 'tombstones_are_never_emptied', 'tombstones has the trigger tombstones_are_never_emptied');
SELECT has_trigger('public', 'heads', 'heads_are_never_emptied', 'heads has the trigger heads_are_never_emptied');
SELECT has_trigger('public', 'facts', 'facts_are_never_emptied', 'facts has the trigger facts_are_never_emptied');
SELECT has_trigger('public', 'bodies', 'bodies_are_never_emptied', 'bodies has the trigger bodies_are_never_emptied');
SELECT has_trigger('public', 'erased_bodies', 'erased_bodies_are_never_emptied', 'erased_bodies has the trigger erased_bodies_are_never_emptied');
SELECT has_trigger('public', 'own_lines', 'own_lines_are_never_emptied', 'own_lines has the trigger own_lines_are_never_emptied');
SELECT has_trigger('public', 'cursors', 'cursors_are_never_emptied', 'cursors has the trigger cursors_are_never_emptied');
SELECT has_trigger('public', 'deliveries', 'deliveries_are_never_emptied', 'deliveries has the trigger deliveries_are_never_emptied');
SELECT has_trigger('public', 'rooms', 'rooms_are_never_emptied', 'rooms has the trigger rooms_are_never_emptied');
SELECT has_trigger('public', 'tokens', 'tokens_are_never_emptied', 'tokens has the trigger tokens_are_never_emptied');
SELECT has_trigger('public', 'token_access', 'token_access_are_never_emptied', 'token_access has the trigger token_access_are_never_emptied');
SELECT has_trigger('public', 'token_rooms', 'token_rooms_are_never_emptied', 'token_rooms has the trigger token_rooms_are_never_emptied');
SELECT has_trigger('public', 'revoked_tokens', 'revoked_tokens_are_never_emptied', 'revoked_tokens has the trigger revoked_tokens_are_never_emptied');
SELECT has_trigger('public', 'meta', 'meta_are_never_emptied', 'meta has the trigger meta_are_never_emptied');
SELECT table_privs_are('public', 'meta', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on meta');
SELECT hasnt_fk('public', 'meta', 'meta has no foreign key');
SELECT table_owner_is('public', 'meta', 'parler_owner', 'meta is the owner''s');
SELECT table_privs_are('public', 'fact_types', 'parler', ARRAY['SELECT'], 'a relay has SELECT on fact_types');
SELECT hasnt_fk('public', 'fact_types', 'fact_types has no foreign key');
SELECT table_owner_is('public', 'fact_types', 'parler_owner', 'fact_types is the owner''s');
SELECT table_privs_are('public', 'agents', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on agents');
SELECT hasnt_fk('public', 'agents', 'agents has no foreign key');
SELECT table_owner_is('public', 'agents', 'parler_owner', 'agents is the owner''s');
SELECT table_privs_are('public', 'tombstones', 'parler', ARRAY['SELECT'], 'a relay has SELECT on tombstones');
SELECT hasnt_fk('public', 'tombstones', 'tombstones has no foreign key');
SELECT table_owner_is('public', 'tombstones', 'parler_owner', 'tombstones is the owner''s');
SELECT table_privs_are('public', 'heads', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE'], 'a relay has SELECT, INSERT, UPDATE on heads');
SELECT hasnt_fk('public', 'heads', 'heads has no foreign key');
SELECT table_owner_is('public', 'heads', 'parler_owner', 'heads is the owner''s');
SELECT table_privs_are('public', 'facts', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on facts');
SELECT hasnt_fk('public', 'facts', 'facts has no foreign key');
SELECT table_owner_is('public', 'facts', 'parler_owner', 'facts is the owner''s');
SELECT table_privs_are('public', 'bodies', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on bodies');
SELECT hasnt_fk('public', 'bodies', 'bodies has no foreign key');
SELECT table_owner_is('public', 'bodies', 'parler_owner', 'bodies is the owner''s');
SELECT table_privs_are('public', 'erased_bodies', 'parler', ARRAY['SELECT'], 'a relay has SELECT on erased_bodies');
SELECT hasnt_fk('public', 'erased_bodies', 'erased_bodies has no foreign key');
SELECT table_owner_is('public', 'erased_bodies', 'parler_owner', 'erased_bodies is the owner''s');
SELECT table_privs_are('public', 'own_lines', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on own_lines');
SELECT hasnt_fk('public', 'own_lines', 'own_lines has no foreign key');
SELECT table_owner_is('public', 'own_lines', 'parler_owner', 'own_lines is the owner''s');
SELECT table_privs_are('public', 'cursors', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE'], 'a relay has SELECT, INSERT, UPDATE on cursors');
SELECT hasnt_fk('public', 'cursors', 'cursors has no foreign key');
SELECT table_owner_is('public', 'cursors', 'parler_owner', 'cursors is the owner''s');
SELECT table_privs_are('public', 'deliveries', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on deliveries');
SELECT hasnt_fk('public', 'deliveries', 'deliveries has no foreign key');
SELECT table_owner_is('public', 'deliveries', 'parler_owner', 'deliveries is the owner''s');
SELECT table_privs_are('public', 'tokens', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on tokens');
SELECT hasnt_fk('public', 'tokens', 'tokens has no foreign key');
SELECT table_owner_is('public', 'tokens', 'parler_owner', 'tokens is the owner''s');
SELECT table_privs_are('public', 'token_access', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on token_access');
SELECT hasnt_fk('public', 'token_access', 'token_access has no foreign key');
SELECT table_owner_is('public', 'token_access', 'parler_owner', 'token_access is the owner''s');
SELECT table_privs_are('public', 'token_rooms', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on token_rooms');
SELECT hasnt_fk('public', 'token_rooms', 'token_rooms has no foreign key');
SELECT table_owner_is('public', 'token_rooms', 'parler_owner', 'token_rooms is the owner''s');
SELECT table_privs_are('public', 'revoked_tokens', 'parler', ARRAY['SELECT', 'INSERT'], 'a relay has SELECT, INSERT on revoked_tokens');
SELECT hasnt_fk('public', 'revoked_tokens', 'revoked_tokens has no foreign key');
SELECT table_owner_is('public', 'revoked_tokens', 'parler_owner', 'revoked_tokens is the owner''s');
SELECT table_privs_are('public', 'messages', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on messages');
SELECT hasnt_fk('public', 'messages', 'messages has no foreign key');
SELECT table_owner_is('public', 'messages', 'parler_owner', 'messages is the owner''s');
SELECT table_privs_are('public', 'public_messages', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on public_messages');
SELECT hasnt_fk('public', 'public_messages', 'public_messages has no foreign key');
SELECT table_owner_is('public', 'public_messages', 'parler_owner', 'public_messages is the owner''s');
SELECT table_privs_are('public', 'mirror_places', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on mirror_places');
SELECT hasnt_fk('public', 'mirror_places', 'mirror_places has no foreign key');
SELECT table_owner_is('public', 'mirror_places', 'parler_owner', 'mirror_places is the owner''s');
SELECT table_privs_are('public', 'private_messages', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on private_messages');
SELECT hasnt_fk('public', 'private_messages', 'private_messages has no foreign key');
SELECT table_owner_is('public', 'private_messages', 'parler_owner', 'private_messages is the owner''s');
SELECT table_privs_are('public', 'filtered_messages', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on filtered_messages');
SELECT hasnt_fk('public', 'filtered_messages', 'filtered_messages has no foreign key');
SELECT table_owner_is('public', 'filtered_messages', 'parler_owner', 'filtered_messages is the owner''s');
SELECT table_privs_are('public', 'idempotency', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on idempotency');
SELECT hasnt_fk('public', 'idempotency', 'idempotency has no foreign key');
SELECT table_owner_is('public', 'idempotency', 'parler_owner', 'idempotency is the owner''s');
SELECT table_privs_are('public', 'room_keys', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on room_keys');
SELECT hasnt_fk('public', 'room_keys', 'room_keys has no foreign key');
SELECT table_owner_is('public', 'room_keys', 'parler_owner', 'room_keys is the owner''s');
SELECT table_privs_are('public', 'state_writes', 'parler', ARRAY['SELECT', 'INSERT', 'DELETE'], 'a relay has SELECT, INSERT, DELETE on state_writes');
SELECT hasnt_fk('public', 'state_writes', 'state_writes has no foreign key');
SELECT table_owner_is('public', 'state_writes', 'parler_owner', 'state_writes is the owner''s');
SELECT table_privs_are('public', 'rooms', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on rooms');
SELECT hasnt_fk('public', 'rooms', 'rooms has no foreign key');
SELECT table_owner_is('public', 'rooms', 'parler_owner', 'rooms is the owner''s');
SELECT table_privs_are('public', 'memberships', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on memberships');
SELECT hasnt_fk('public', 'memberships', 'memberships has no foreign key');
SELECT table_owner_is('public', 'memberships', 'parler_owner', 'memberships is the owner''s');
SELECT table_privs_are('public', 'deadlines', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on deadlines');
SELECT hasnt_fk('public', 'deadlines', 'deadlines has no foreign key');
SELECT table_owner_is('public', 'deadlines', 'parler_owner', 'deadlines is the owner''s');
SELECT table_privs_are('public', 'remembered', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on remembered');
SELECT hasnt_fk('public', 'remembered', 'remembered has no foreign key');
SELECT table_owner_is('public', 'remembered', 'parler_owner', 'remembered is the owner''s');
SELECT table_privs_are('public', 'leases', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on leases');
SELECT hasnt_fk('public', 'leases', 'leases has no foreign key');
SELECT table_owner_is('public', 'leases', 'parler_owner', 'leases is the owner''s');
SELECT table_privs_are('public', 'snapshots', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on snapshots');
SELECT hasnt_fk('public', 'snapshots', 'snapshots has no foreign key');
SELECT table_owner_is('public', 'snapshots', 'parler_owner', 'snapshots is the owner''s');
SELECT table_privs_are('public', 'outbox', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on outbox');
SELECT hasnt_fk('public', 'outbox', 'outbox has no foreign key');
SELECT table_owner_is('public', 'outbox', 'parler_owner', 'outbox is the owner''s');
SELECT table_privs_are('public', 'renewals', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on renewals');
SELECT hasnt_fk('public', 'renewals', 'renewals has no foreign key');
SELECT table_owner_is('public', 'renewals', 'parler_owner', 'renewals is the owner''s');
SELECT table_privs_are('public', 'sights', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on sights');
SELECT hasnt_fk('public', 'sights', 'sights has no foreign key');
SELECT table_owner_is('public', 'sights', 'parler_owner', 'sights is the owner''s');
SELECT table_privs_are('public', 'relays', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on relays');
SELECT hasnt_fk('public', 'relays', 'relays has no foreign key');
SELECT table_owner_is('public', 'relays', 'parler_owner', 'relays is the owner''s');
SELECT table_privs_are('public', 'shards', 'parler', ARRAY['SELECT', 'UPDATE'], 'a relay has SELECT, UPDATE on shards');
SELECT hasnt_fk('public', 'shards', 'shards has no foreign key');
SELECT table_owner_is('public', 'shards', 'parler_owner', 'shards is the owner''s');
SELECT table_privs_are('public', 'newest_links', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE'], 'a relay has SELECT, INSERT, UPDATE on newest_links');
SELECT hasnt_fk('public', 'newest_links', 'newest_links has no foreign key');
SELECT table_owner_is('public', 'newest_links', 'parler_owner', 'newest_links is the owner''s');
SELECT table_privs_are('public', 'budgets', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'a relay has SELECT, INSERT, UPDATE, DELETE on budgets');
SELECT hasnt_fk('public', 'budgets', 'budgets has no foreign key');
SELECT table_owner_is('public', 'budgets', 'parler_owner', 'budgets is the owner''s');
SELECT table_privs_are('public', 'kept', 'parler', ARRAY['SELECT', 'INSERT', 'UPDATE'], 'a relay has SELECT, INSERT, UPDATE on kept');
SELECT hasnt_fk('public', 'kept', 'kept has no foreign key');
SELECT table_owner_is('public', 'kept', 'parler_owner', 'kept is the owner''s');
SELECT is_definer('public', 'erase_bodies', 'erase_bodies runs as the owner');
SELECT is_definer('public', 'bury_room', 'bury_room runs as the owner');
SELECT is_definer('public', 'shut_room', 'shut_room runs as the owner');
SELECT is_definer('public', 'clear_facts', 'clear_facts runs as the owner');
SELECT is_definer('public', 'clear_marks', 'clear_marks runs as the owner');
SELECT is_definer('public', 'forget_marks', 'forget_marks runs as the owner');
SELECT is_definer('public', 'forget_index', 'forget_index runs as the owner');
SELECT isnt_superuser('parler', 'a relay is no superuser');
SELECT throws_ok($$UPDATE facts SET at = 1 WHERE position = 1$$, '23000', NULL, 'a fact is never changed');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 3::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained ON CONFLICT (room, position) DO UPDATE SET at = 1$$, '23000', NULL, 'nor by an upsert');
SELECT throws_ok($$DELETE FROM facts WHERE position = 3$$, '23000', NULL, 'a fact is never removed');
SELECT throws_ok($$DELETE FROM facts$$, '23000', NULL, 'nor all of them');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 5::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a position is never skipped');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 3::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23505', NULL, 'nor taken twice');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 0::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'nor below one');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_two'::text AS room, 2::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a room begins at one');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           2999::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'time never goes back');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'gossip'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a type must be known');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 9::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'and so must its version');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 0::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a version counts from one');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, NULL::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce(NULL::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23502', NULL, 'a fact has a header');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, decode(repeat('00', 0), 'hex')::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce(decode(repeat('00', 0), 'hex')::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'that is not empty');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 15), 'hex')::bytea AS salt, sha256(decode(repeat('00', 15), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a salt has sixteen bytes');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, decode(repeat('00', 31), 'hex')::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a digest has thirty-two');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, NULL::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23502', NULL, 'a digest is not absent');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(decode(repeat('00', 33), 'hex')::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a chain digest has thirty-two');
SELECT throws_ok($$INSERT INTO bodies VALUES ('r_one', 9, '\x00', NULL)$$, '23000', NULL, 'a body belongs to a fact');
SELECT throws_ok($$UPDATE bodies SET body = decode(repeat('00', 1), 'hex')$$, '23000', NULL, 'a body is never changed');
SELECT throws_ok($$UPDATE bodies SET signature = NULL$$, '23000', NULL, 'nor its signature');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained;
INSERT INTO bodies VALUES ('r_one', 4, '\x00', decode(repeat('00', 63), 'hex'))$$, '23514', NULL, 'a signature has sixty-four bytes');
SELECT throws_ok($$INSERT INTO messages VALUES ('m_r_one_2', 'r_one', 1)$$, '23505', NULL, 'a message has one id');
SELECT throws_ok($$INSERT INTO room_keys VALUES ('key', 'r_two')$$, '23505', NULL, 'a key has one room');
SELECT throws_ok($$INSERT INTO cursors VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 1, 2)$$, '23514', NULL, 'nobody acknowledges more than was delivered');
SELECT throws_ok($$INSERT INTO cursors VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 1, -1)$$, '23514', NULL, 'nobody acknowledges less than nothing');
SELECT throws_ok($$INSERT INTO deliveries VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 'read', 3, 3, 1)$$, '23514', NULL, 'a mark covers something');
SELECT throws_ok($$INSERT INTO deliveries VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 'guessed', 3, 0, 1)$$, '23514', NULL, 'a stage must be known');
SELECT throws_ok($$INSERT INTO memberships VALUES ((SELECT number FROM agents WHERE id = 'U'), 'r_one', 'owner')$$, '23514', NULL, 'a membership has a known state');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 2, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23000', NULL, 'an own line has no gaps');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 0, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23514', NULL, 'nor begins at none');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, (SELECT thread FROM own_lines LIMIT 1), 1, sha256((SELECT thread FROM own_lines LIMIT 1) || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23505', NULL, 'nor has a number twice');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 2, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 2), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23505', NULL, 'a fact has one place in it');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 9, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 9), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23000', NULL, 'an own line is of a fact');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, decode(repeat('00', 31), 'hex'), '', 0, 0)$$, '23514', NULL, 'an own line has thirty-two bytes');
SELECT throws_ok($$UPDATE own_lines SET line = decode(repeat('00', 32), 'hex')$$, '23000', NULL, 'an own line is never changed');
SELECT throws_ok($$DELETE FROM own_lines$$, '23000', NULL, 'an own line is never removed');
SELECT throws_ok($$UPDATE cursors SET acknowledged = 1 WHERE reader = (SELECT number FROM agents WHERE id = 'V')$$, '23000', NULL, 'nobody''s cursor goes back');
SELECT throws_ok($$UPDATE cursors SET delivered = 2, acknowledged = 0 WHERE reader = (SELECT number FROM agents WHERE id = 'V')$$, '23000', NULL, 'nor what was delivered to it');
SELECT throws_ok($$UPDATE cursors SET reader = (SELECT number FROM agents WHERE id = 'W') WHERE reader = (SELECT number FROM agents WHERE id = 'V')$$, '23000', NULL, 'a cursor is never another''s');
SELECT throws_ok($$DELETE FROM cursors$$, '23000', NULL, 'a cursor is never removed');
SELECT throws_ok($$UPDATE deliveries SET at = 1$$, '23000', NULL, 'what was delivered is never changed');
SELECT throws_ok($$DELETE FROM deliveries$$, '23000', NULL, 'nor removed');
SELECT throws_ok($$DELETE FROM bodies WHERE position = 2$$, '23000', NULL, 'a body goes only with its mark');
SELECT throws_ok($$DELETE FROM erased_bodies$$, '23000', NULL, 'the mark of an erased body stays');
SELECT throws_ok($$UPDATE erased_bodies SET position = 2$$, '23000', NULL, 'and stays where it is');
SELECT throws_ok($$INSERT INTO erased_bodies VALUES ('r_one', 1)$$, '23000', NULL, 'what was erased was a message');
SELECT throws_ok($$INSERT INTO idempotency VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 'message.send', 'key', 3)$$, '23505', NULL, 'a request has one row');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_revoked', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'no fact is by a token that was revoked');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_of_revoked', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'nor by one that was made of such a token');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_one', (SELECT number FROM agents WHERE id = 'U'), 1000)$$, '23000', NULL, 'nor by one that is over');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_none', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'nor by one that there never was');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_one', (SELECT number FROM agents WHERE id = 'V'), 999)$$, '23000', NULL, 'nor by another agent''s');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_two', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'nor by one of another room');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), NULL, NULL, NULL)$$, '23502', NULL, 'a fact says by which token it came');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_none')$$, '23000', NULL, 'no token is made of one that there never was');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_new')$$, '23000', NULL, 'nor of itself');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_revoked')$$, '23000', NULL, 'nor of one that was revoked');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_of_revoked')$$, '23000', NULL, 'nor of one that was made of such a token');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1001, 'tk_one')$$, '23000', NULL, 'nor holds for longer than the one that it is made of');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'V'), 0, 1000, 'tk_one')$$, '23000', NULL, 'nor is another agent''s');
SELECT throws_ok($$INSERT INTO token_access VALUES ('tk_child', 'mint')$$, '23000', NULL, 'nor is for more');
SELECT throws_ok($$INSERT INTO token_rooms VALUES ('tk_child', 'r_two', 0)$$, '23000', NULL, 'nor for more rooms');
SELECT throws_ok($$INSERT INTO token_access VALUES ('tk_none', 'read')$$, '23000', NULL, 'nor is for anything that nobody minted');
SELECT throws_ok($$INSERT INTO token_rooms VALUES ('tk_none', 'r_one', 0)$$, '23000', NULL, 'nor of any room');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_one', (SELECT number FROM agents WHERE id = 'U'), 0, 9, '')$$, '23505', NULL, 'a token is minted once');
SELECT throws_ok($$UPDATE tokens SET expires_at = 2000$$, '23000', NULL, 'and never changed');
SELECT throws_ok($$UPDATE token_access SET access = 'mint'$$, '23000', NULL, 'what a token is for is never changed');
SELECT throws_ok($$UPDATE token_rooms SET room = 'r_two'$$, '23000', NULL, 'nor are its rooms');
SELECT throws_ok($$UPDATE revoked_tokens SET token = 'tk_none'$$, '23000', NULL, 'a token that was revoked stays so');
SELECT throws_ok($$UPDATE meta SET value = '1' WHERE key = 'schema'$$, '23000', NULL, 'the version of the tables never goes back');
SELECT throws_ok($$INSERT INTO meta VALUES ('schema', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value$$, '23000', NULL, 'nor by an upsert of an older Parler');
SELECT throws_ok($$UPDATE meta SET value = '' WHERE key = 'schema'$$, '23000', NULL, 'nor does it come to be none');
SELECT throws_ok($$UPDATE meta SET key = 'other' WHERE key = 'schema'$$, '23000', NULL, 'nor another row''s');
SELECT throws_ok($$DELETE FROM meta WHERE key = 'schema'$$, '23000', NULL, 'nor is it lost');
SELECT throws_ok($$INSERT INTO tombstones VALUES ('', 1)$$, '23514', NULL, 'a tombstone names a room');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(decode(repeat('00', 32), 'hex')::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a fact continues the chain');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, decode(repeat('00', 32), 'hex')::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'and its digest is its own');
SELECT throws_ok($$WITH more AS (SELECT generate_series(4, 5) AS n), moved AS (UPDATE heads SET position = 5, chain = sha256(decode(repeat('00', 32), 'hex'))) INSERT INTO facts SELECT room, n, type, v, at, header, salt, digest, sha256(decode(repeat('00', 32), 'hex')) FROM facts, more WHERE position = 3$$, '23000', NULL, 'so is that of each of several');
SELECT throws_ok($$INSERT INTO facts SELECT room, 4, type, v, at, header, salt, digest, sha256(chain || digest) FROM facts WHERE position = 3$$, '23000', NULL, 'a fact moves the head of its room');
SELECT throws_ok($$INSERT INTO heads VALUES ('r_one', 1, 4, 9000, decode(repeat('00', 32), 'hex')) ON CONFLICT (room) DO UPDATE SET position = excluded.position, at = excluded.at, chain = excluded.chain$$, '23000', NULL, 'a head moves with its facts');
SELECT throws_ok($$INSERT INTO heads VALUES ('r_two', 1, 1, 9000, decode(repeat('00', 32), 'hex')) ON CONFLICT (room) DO UPDATE SET position = excluded.position, at = excluded.at, chain = excluded.chain$$, '23000', NULL, 'nor is there one without facts');
SELECT throws_ok($$UPDATE heads SET (position, at, chain) = (SELECT position, at, chain FROM facts WHERE position = 2)$$, '23000', NULL, 'a head never goes back');
SELECT throws_ok($$UPDATE heads SET position = 4, at = 2999$$, '23000', NULL, 'nor in time');
SELECT throws_ok($$UPDATE heads SET room = 'r_two', position = 4$$, '23000', NULL, 'nor is it another room''s');
SELECT throws_ok($$UPDATE heads SET shard = 2, position = 4$$, '23000', NULL, 'nor of another shard');
SELECT throws_ok($$DELETE FROM heads$$, '23000', NULL, 'a head is never removed');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
INSERT INTO heads SELECT room, 1, position, at, chain FROM facts WHERE position = 3$$, '23000', NULL, 'a deleted room has no head');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
INSERT INTO facts SELECT room, 4, type, v, at, header, salt, digest, sha256(chain || digest) FROM facts WHERE position = 3$$, '23000', NULL, 'and takes no fact');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
DELETE FROM tombstones$$, '23000', NULL, 'a tombstone stands for ever');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
UPDATE tombstones SET room = 'r_two'$$, '23000', NULL, 'and is never changed');
SELECT throws_ok($$UPDATE agents SET id = 'X' WHERE id = 'U'$$, '23000', NULL, 'the number of an agent is never another''s');
SELECT throws_ok($$DELETE FROM agents$$, '23000', NULL, 'nor given up');
SELECT throws_ok($$SELECT erase_bodies('{r_one}', '{2}');
INSERT INTO bodies VALUES ('r_one', 2, '\x00', NULL)$$, '23000', NULL, 'a body that was erased does not come back');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, decode(repeat('00', 32), 'hex'), '', 0, 0)$$, '23000', NULL, 'the line of a fact is over the fact');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, (SELECT thread FROM own_lines LIMIT 1), 3, sha256(decode(repeat('00', 32), 'hex') || (SELECT digest FROM facts WHERE position = 1)), '', 0, 0)$$, '23000', NULL, 'an own line goes on from the one before');
SELECT throws_ok($$INSERT INTO tokens SELECT token, number, 0, 9, parent FROM agents, (VALUES ('tk_a', 'tk_b'), ('tk_b', 'tk_a')) AS made (token, parent) WHERE id = 'U'$$, '23000', NULL, 'no tokens are made of each other');
SELECT throws_ok($$DELETE FROM revoked_tokens$$, '23000', NULL, 'a token that was revoked is not forgotten');
SELECT throws_ok($$DELETE FROM rooms$$, '23000', NULL, 'a room is listed as long as it exists');
SELECT throws_ok($$SELECT forget_index()$$, '23000', NULL, 'the index is not emptied and left so');
SELECT throws_ok($$TRUNCATE agents$$, '23000', NULL, 'no table is emptied: agents');
SELECT throws_ok($$TRUNCATE tombstones$$, '23000', NULL, 'no table is emptied: tombstones');
SELECT throws_ok($$TRUNCATE heads$$, '23000', NULL, 'no table is emptied: heads');
SELECT throws_ok($$TRUNCATE facts$$, '23000', NULL, 'no table is emptied: facts');
SELECT throws_ok($$TRUNCATE bodies$$, '23000', NULL, 'no table is emptied: bodies');
SELECT throws_ok($$TRUNCATE erased_bodies$$, '23000', NULL, 'no table is emptied: erased_bodies');
SELECT throws_ok($$TRUNCATE own_lines$$, '23000', NULL, 'no table is emptied: own_lines');
SELECT throws_ok($$TRUNCATE cursors$$, '23000', NULL, 'no table is emptied: cursors');
SELECT throws_ok($$TRUNCATE deliveries$$, '23000', NULL, 'no table is emptied: deliveries');
SELECT throws_ok($$TRUNCATE rooms$$, '23000', NULL, 'no table is emptied: rooms');
SELECT throws_ok($$TRUNCATE tokens$$, '23000', NULL, 'no table is emptied: tokens');
SELECT throws_ok($$TRUNCATE token_access$$, '23000', NULL, 'no table is emptied: token_access');
SELECT throws_ok($$TRUNCATE token_rooms$$, '23000', NULL, 'no table is emptied: token_rooms');
SELECT throws_ok($$TRUNCATE revoked_tokens$$, '23000', NULL, 'no table is emptied: revoked_tokens');
SELECT throws_ok($$TRUNCATE meta$$, '23000', NULL, 'no table is emptied: meta');
SELECT * FROM finish();
ROLLBACK;

BEGIN;
SET LOCAL search_path = public, tap;
SET LOCAL ROLE parler;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT plan(115);
SELECT throws_ok($$UPDATE facts SET at = 1 WHERE position = 1$$, '42501', NULL, 'a fact is never changed');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 3::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained ON CONFLICT (room, position) DO UPDATE SET at = 1$$, '42501', NULL, 'nor by an upsert');
SELECT throws_ok($$DELETE FROM facts WHERE position = 3$$, '42501', NULL, 'a fact is never removed');
SELECT throws_ok($$DELETE FROM facts$$, '42501', NULL, 'nor all of them');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 5::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a position is never skipped');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 3::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23505', NULL, 'nor taken twice');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 0::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'nor below one');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_two'::text AS room, 2::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a room begins at one');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           2999::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'time never goes back');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'gossip'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a type must be known');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 9::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'and so must its version');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 0::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a version counts from one');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, NULL::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce(NULL::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23502', NULL, 'a fact has a header');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, decode(repeat('00', 0), 'hex')::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce(decode(repeat('00', 0), 'hex')::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'that is not empty');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 15), 'hex')::bytea AS salt, sha256(decode(repeat('00', 15), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a salt has sixteen bytes');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, decode(repeat('00', 31), 'hex')::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a digest has thirty-two');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, NULL::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23502', NULL, 'a digest is not absent');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(decode(repeat('00', 33), 'hex')::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23514', NULL, 'a chain digest has thirty-two');
SELECT throws_ok($$INSERT INTO bodies VALUES ('r_one', 9, '\x00', NULL)$$, '23000', NULL, 'a body belongs to a fact');
SELECT throws_ok($$UPDATE bodies SET body = decode(repeat('00', 1), 'hex')$$, '42501', NULL, 'a body is never changed');
SELECT throws_ok($$UPDATE bodies SET signature = NULL$$, '42501', NULL, 'nor its signature');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained;
INSERT INTO bodies VALUES ('r_one', 4, '\x00', decode(repeat('00', 63), 'hex'))$$, '23514', NULL, 'a signature has sixty-four bytes');
SELECT throws_ok($$INSERT INTO messages VALUES ('m_r_one_2', 'r_one', 1)$$, '23505', NULL, 'a message has one id');
SELECT throws_ok($$INSERT INTO room_keys VALUES ('key', 'r_two')$$, '23505', NULL, 'a key has one room');
SELECT throws_ok($$INSERT INTO cursors VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 1, 2)$$, '23514', NULL, 'nobody acknowledges more than was delivered');
SELECT throws_ok($$INSERT INTO cursors VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 1, -1)$$, '23514', NULL, 'nobody acknowledges less than nothing');
SELECT throws_ok($$INSERT INTO deliveries VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 'read', 3, 3, 1)$$, '23514', NULL, 'a mark covers something');
SELECT throws_ok($$INSERT INTO deliveries VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 'guessed', 3, 0, 1)$$, '23514', NULL, 'a stage must be known');
SELECT throws_ok($$INSERT INTO memberships VALUES ((SELECT number FROM agents WHERE id = 'U'), 'r_one', 'owner')$$, '23514', NULL, 'a membership has a known state');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 2, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23000', NULL, 'an own line has no gaps');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 0, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23514', NULL, 'nor begins at none');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, (SELECT thread FROM own_lines LIMIT 1), 1, sha256((SELECT thread FROM own_lines LIMIT 1) || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23505', NULL, 'nor has a number twice');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 2, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 2), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23505', NULL, 'a fact has one place in it');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 9, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 9), decode(repeat('00', 32), 'hex'))), '', 0, 0)$$, '23000', NULL, 'an own line is of a fact');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, decode(repeat('00', 31), 'hex'), '', 0, 0)$$, '23514', NULL, 'an own line has thirty-two bytes');
SELECT throws_ok($$UPDATE own_lines SET line = decode(repeat('00', 32), 'hex')$$, '42501', NULL, 'an own line is never changed');
SELECT throws_ok($$DELETE FROM own_lines$$, '42501', NULL, 'an own line is never removed');
SELECT throws_ok($$UPDATE cursors SET acknowledged = 1 WHERE reader = (SELECT number FROM agents WHERE id = 'V')$$, '23000', NULL, 'nobody''s cursor goes back');
SELECT throws_ok($$UPDATE cursors SET delivered = 2, acknowledged = 0 WHERE reader = (SELECT number FROM agents WHERE id = 'V')$$, '23000', NULL, 'nor what was delivered to it');
SELECT throws_ok($$UPDATE cursors SET reader = (SELECT number FROM agents WHERE id = 'W') WHERE reader = (SELECT number FROM agents WHERE id = 'V')$$, '23000', NULL, 'a cursor is never another''s');
SELECT throws_ok($$DELETE FROM cursors$$, '42501', NULL, 'a cursor is never removed');
SELECT throws_ok($$UPDATE deliveries SET at = 1$$, '42501', NULL, 'what was delivered is never changed');
SELECT throws_ok($$DELETE FROM deliveries$$, '42501', NULL, 'nor removed');
SELECT throws_ok($$DELETE FROM bodies WHERE position = 2$$, '42501', NULL, 'a body goes only with its mark');
SELECT throws_ok($$DELETE FROM erased_bodies$$, '42501', NULL, 'the mark of an erased body stays');
SELECT throws_ok($$UPDATE erased_bodies SET position = 2$$, '42501', NULL, 'and stays where it is');
SELECT throws_ok($$INSERT INTO erased_bodies VALUES ('r_one', 1)$$, '42501', NULL, 'what was erased was a message');
SELECT throws_ok($$INSERT INTO idempotency VALUES ('r_one', (SELECT number FROM agents WHERE id = 'U'), 'message.send', 'key', 3)$$, '23505', NULL, 'a request has one row');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_revoked', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'no fact is by a token that was revoked');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_of_revoked', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'nor by one that was made of such a token');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_one', (SELECT number FROM agents WHERE id = 'U'), 1000)$$, '23000', NULL, 'nor by one that is over');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_none', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'nor by one that there never was');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_one', (SELECT number FROM agents WHERE id = 'V'), 999)$$, '23000', NULL, 'nor by another agent''s');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), 'tk_two', (SELECT number FROM agents WHERE id = 'U'), 999)$$, '23000', NULL, 'nor by one of another room');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, sha256(decode(repeat('00', 32), 'hex') || coalesce((SELECT digest FROM facts WHERE room = 'r_one' AND position = 1), decode(repeat('00', 32), 'hex'))), NULL, NULL, NULL)$$, '23502', NULL, 'a fact says by which token it came');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_none')$$, '23000', NULL, 'no token is made of one that there never was');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_new')$$, '23000', NULL, 'nor of itself');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_revoked')$$, '23000', NULL, 'nor of one that was revoked');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1000, 'tk_of_revoked')$$, '23000', NULL, 'nor of one that was made of such a token');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'U'), 0, 1001, 'tk_one')$$, '23000', NULL, 'nor holds for longer than the one that it is made of');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_new', (SELECT number FROM agents WHERE id = 'V'), 0, 1000, 'tk_one')$$, '23000', NULL, 'nor is another agent''s');
SELECT throws_ok($$INSERT INTO token_access VALUES ('tk_child', 'mint')$$, '23000', NULL, 'nor is for more');
SELECT throws_ok($$INSERT INTO token_rooms VALUES ('tk_child', 'r_two', 0)$$, '23000', NULL, 'nor for more rooms');
SELECT throws_ok($$INSERT INTO token_access VALUES ('tk_none', 'read')$$, '23000', NULL, 'nor is for anything that nobody minted');
SELECT throws_ok($$INSERT INTO token_rooms VALUES ('tk_none', 'r_one', 0)$$, '23000', NULL, 'nor of any room');
SELECT throws_ok($$INSERT INTO tokens VALUES ('tk_one', (SELECT number FROM agents WHERE id = 'U'), 0, 9, '')$$, '23505', NULL, 'a token is minted once');
SELECT throws_ok($$UPDATE tokens SET expires_at = 2000$$, '42501', NULL, 'and never changed');
SELECT throws_ok($$UPDATE token_access SET access = 'mint'$$, '42501', NULL, 'what a token is for is never changed');
SELECT throws_ok($$UPDATE token_rooms SET room = 'r_two'$$, '42501', NULL, 'nor are its rooms');
SELECT throws_ok($$UPDATE revoked_tokens SET token = 'tk_none'$$, '42501', NULL, 'a token that was revoked stays so');
SELECT throws_ok($$UPDATE meta SET value = '1' WHERE key = 'schema'$$, '23000', NULL, 'the version of the tables never goes back');
SELECT throws_ok($$INSERT INTO meta VALUES ('schema', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value$$, '23000', NULL, 'nor by an upsert of an older Parler');
SELECT throws_ok($$UPDATE meta SET value = '' WHERE key = 'schema'$$, '23000', NULL, 'nor does it come to be none');
SELECT throws_ok($$UPDATE meta SET key = 'other' WHERE key = 'schema'$$, '23000', NULL, 'nor another row''s');
SELECT throws_ok($$DELETE FROM meta WHERE key = 'schema'$$, '23000', NULL, 'nor is it lost');
SELECT throws_ok($$INSERT INTO tombstones VALUES ('', 1)$$, '42501', NULL, 'a tombstone names a room');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, sha256(decode(repeat('00', 16), 'hex')::bytea || coalesce('\x01'::bytea, ''))::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(decode(repeat('00', 32), 'hex')::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'a fact continues the chain');
SELECT throws_ok($$WITH new AS (
    SELECT 'r_one'::text AS room, 4::bigint AS position, 'message_posted'::text AS type, 1::integer AS v,
           9000::bigint AS at, '\x01'::bytea AS header, decode(repeat('00', 16), 'hex')::bytea AS salt, decode(repeat('00', 32), 'hex')::bytea AS digest
), chained AS (
    SELECT new.*, coalesce(NULL::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), decode(repeat('00', 32), 'hex')
           ) || new.digest), decode(repeat('00', 32), 'hex')) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained$$, '23000', NULL, 'and its digest is its own');
SELECT throws_ok($$WITH more AS (SELECT generate_series(4, 5) AS n), moved AS (UPDATE heads SET position = 5, chain = sha256(decode(repeat('00', 32), 'hex'))) INSERT INTO facts SELECT room, n, type, v, at, header, salt, digest, sha256(decode(repeat('00', 32), 'hex')) FROM facts, more WHERE position = 3$$, '23000', NULL, 'so is that of each of several');
SELECT throws_ok($$INSERT INTO facts SELECT room, 4, type, v, at, header, salt, digest, sha256(chain || digest) FROM facts WHERE position = 3$$, '23000', NULL, 'a fact moves the head of its room');
SELECT throws_ok($$INSERT INTO heads VALUES ('r_one', 1, 4, 9000, decode(repeat('00', 32), 'hex')) ON CONFLICT (room) DO UPDATE SET position = excluded.position, at = excluded.at, chain = excluded.chain$$, '23000', NULL, 'a head moves with its facts');
SELECT throws_ok($$INSERT INTO heads VALUES ('r_two', 1, 1, 9000, decode(repeat('00', 32), 'hex')) ON CONFLICT (room) DO UPDATE SET position = excluded.position, at = excluded.at, chain = excluded.chain$$, '23000', NULL, 'nor is there one without facts');
SELECT throws_ok($$UPDATE heads SET (position, at, chain) = (SELECT position, at, chain FROM facts WHERE position = 2)$$, '23000', NULL, 'a head never goes back');
SELECT throws_ok($$UPDATE heads SET position = 4, at = 2999$$, '23000', NULL, 'nor in time');
SELECT throws_ok($$UPDATE heads SET room = 'r_two', position = 4$$, '23000', NULL, 'nor is it another room''s');
SELECT throws_ok($$UPDATE heads SET shard = 2, position = 4$$, '23000', NULL, 'nor of another shard');
SELECT throws_ok($$DELETE FROM heads$$, '42501', NULL, 'a head is never removed');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
INSERT INTO heads SELECT room, 1, position, at, chain FROM facts WHERE position = 3$$, '23000', NULL, 'a deleted room has no head');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
INSERT INTO facts SELECT room, 4, type, v, at, header, salt, digest, sha256(chain || digest) FROM facts WHERE position = 3$$, '23000', NULL, 'and takes no fact');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
DELETE FROM tombstones$$, '42501', NULL, 'a tombstone stands for ever');
SELECT throws_ok($$SELECT bury_room('r_one', 1);
UPDATE tombstones SET room = 'r_two'$$, '42501', NULL, 'and is never changed');
SELECT throws_ok($$UPDATE agents SET id = 'X' WHERE id = 'U'$$, '42501', NULL, 'the number of an agent is never another''s');
SELECT throws_ok($$DELETE FROM agents$$, '42501', NULL, 'nor given up');
SELECT throws_ok($$SELECT erase_bodies('{r_one}', '{2}');
INSERT INTO bodies VALUES ('r_one', 2, '\x00', NULL)$$, '23000', NULL, 'a body that was erased does not come back');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, decode(repeat('00', 32), 'hex'), 1, decode(repeat('00', 32), 'hex'), '', 0, 0)$$, '23000', NULL, 'the line of a fact is over the fact');
SELECT throws_ok($$INSERT INTO own_lines VALUES ('r_one', 1, (SELECT thread FROM own_lines LIMIT 1), 3, sha256(decode(repeat('00', 32), 'hex') || (SELECT digest FROM facts WHERE position = 1)), '', 0, 0)$$, '23000', NULL, 'an own line goes on from the one before');
SELECT throws_ok($$INSERT INTO tokens SELECT token, number, 0, 9, parent FROM agents, (VALUES ('tk_a', 'tk_b'), ('tk_b', 'tk_a')) AS made (token, parent) WHERE id = 'U'$$, '23000', NULL, 'no tokens are made of each other');
SELECT throws_ok($$DELETE FROM revoked_tokens$$, '42501', NULL, 'a token that was revoked is not forgotten');
SELECT throws_ok($$DELETE FROM rooms$$, '23000', NULL, 'a room is listed as long as it exists');
SELECT throws_ok($$SELECT forget_index()$$, '23000', NULL, 'the index is not emptied and left so');
SELECT throws_ok($$TRUNCATE agents$$, '42501', NULL, 'no table is emptied: agents');
SELECT throws_ok($$TRUNCATE tombstones$$, '42501', NULL, 'no table is emptied: tombstones');
SELECT throws_ok($$TRUNCATE heads$$, '42501', NULL, 'no table is emptied: heads');
SELECT throws_ok($$TRUNCATE facts$$, '42501', NULL, 'no table is emptied: facts');
SELECT throws_ok($$TRUNCATE bodies$$, '42501', NULL, 'no table is emptied: bodies');
SELECT throws_ok($$TRUNCATE erased_bodies$$, '42501', NULL, 'no table is emptied: erased_bodies');
SELECT throws_ok($$TRUNCATE own_lines$$, '42501', NULL, 'no table is emptied: own_lines');
SELECT throws_ok($$TRUNCATE cursors$$, '42501', NULL, 'no table is emptied: cursors');
SELECT throws_ok($$TRUNCATE deliveries$$, '42501', NULL, 'no table is emptied: deliveries');
SELECT throws_ok($$TRUNCATE rooms$$, '42501', NULL, 'no table is emptied: rooms');
SELECT throws_ok($$TRUNCATE tokens$$, '42501', NULL, 'no table is emptied: tokens');
SELECT throws_ok($$TRUNCATE token_access$$, '42501', NULL, 'no table is emptied: token_access');
SELECT throws_ok($$TRUNCATE token_rooms$$, '42501', NULL, 'no table is emptied: token_rooms');
SELECT throws_ok($$TRUNCATE revoked_tokens$$, '42501', NULL, 'no table is emptied: revoked_tokens');
SELECT throws_ok($$TRUNCATE meta$$, '42501', NULL, 'no table is emptied: meta');
SELECT * FROM finish();
ROLLBACK;
