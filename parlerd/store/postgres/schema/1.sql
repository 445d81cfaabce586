-- Parler's store in PostgreSQL, schema 1. From an empty schema.
--
-- Facts (with bodies and own lines) are the record: append-only. The tables after them are derived from facts, in the
-- same transaction, or hold a position or a lease that the next use corrects. Every key starts with the room, but those
-- of ids that are unique in the whole home. Times are milliseconds.
--
-- Keys that are text have the collation "C": the order of another may change with the library of the system, and then
-- an index is wrong. Ids of agents, which are long and stand in very many rows, are numbered in one table.
--
-- A transaction first locks the heads of its rooms, in the order of their ids, and then writes the rows of each table
-- with one statement: heads, facts, bodies, own lines, and after them what is derived. No table has a foreign key.
-- Triggers and functions are in scripts that have a name; whatever refuses a row raises an error of the class 23.

-- The version of this schema, and the Parler that wrote it.
CREATE TABLE meta (
    key   text COLLATE "C" NOT NULL PRIMARY KEY,
    value text NOT NULL
);

-- The kinds of facts that may be written, each with its newest version. The program keeps this in step with its code.
CREATE TABLE fact_types (
    type text COLLATE "C" NOT NULL PRIMARY KEY,
    v    integer NOT NULL CHECK (v >= 1)
);

-- The numbers of agents. One is given once, before the transaction that needs it, and stays also where no row uses it.
CREATE TABLE agents (
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     text COLLATE "C" NOT NULL UNIQUE CHECK (id <> '')
);

-- A room that was deleted. Only while its tombstone stands may its facts be removed, and none may be added.
CREATE TABLE tombstones (
    room text COLLATE "C" NOT NULL PRIMARY KEY CHECK (room <> ''),
    at   bigint NOT NULL CHECK (at >= 0)
);

-- Where the log of each room ends: the position, the time and the chain digest of its last fact. A room that was deleted
-- has no row, and so no log for any reader. `shard` is a hash of the room's id, from 0 to 1023. An update of a row that
-- touches no index stays on its page, if there is room there.
CREATE TABLE heads (
    room     text COLLATE "C" NOT NULL PRIMARY KEY CHECK (room <> ''),
    shard    integer NOT NULL CHECK (shard BETWEEN 0 AND 1023),
    position bigint NOT NULL CHECK (position >= 1),
    at       bigint NOT NULL CHECK (at >= 0),
    chain    bytea NOT NULL CHECK (length(chain) = 32)
) WITH (fillfactor = 50);

-- ---- The record --------------------------------------------------------------------------------------------

-- `header` is what was accepted, without its body; `digest` is SHA-256(salt || header), and the header holds the SHA-256
-- of the body; `chain` is SHA-256(chain of the fact before || digest), from 32 zero bytes.
CREATE TABLE facts (
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL CHECK (position >= 1),
    type     text COLLATE "C" NOT NULL,
    v        integer NOT NULL CHECK (v >= 1),
    at       bigint NOT NULL CHECK (at >= 0),
    header   bytea NOT NULL CHECK (length(header) > 0),
    salt     bytea NOT NULL CHECK (length(salt) = 16),
    digest   bytea NOT NULL CHECK (length(digest) = 32),
    chain    bytea NOT NULL CHECK (length(chain) = 32),
    PRIMARY KEY (room, position)
);

-- The words of a fact, apart from it so that they can be erased: a row may go, and never changes.
CREATE TABLE bodies (
    room      text COLLATE "C" NOT NULL,
    position  bigint NOT NULL,
    body      bytea NOT NULL,
    signature bytea CHECK (signature IS NULL OR length(signature) = 64),
    PRIMARY KEY (room, position)
);

-- Which bodies were erased on purpose, so that a body that somebody took out of the database still shows.
CREATE TABLE erased_bodies (
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (room, position)
);

-- The place of a fact in its actor's own line: `line` is the line up to and with this fact, and `thread` the one that it
-- began with. A row is no index: rows that are lost cannot be made again. `token`, `agent` and `wall` say by which token
-- of which agent the fact came, and when by the wall clock; they are empty, 0 and 0 where it came by none.
CREATE TABLE own_lines (
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    thread   bytea NOT NULL CHECK (length(thread) = 32),
    number   bigint NOT NULL CHECK (number >= 1),
    line     bytea NOT NULL CHECK (length(line) = 32),
    token    text COLLATE "C" NOT NULL,
    agent    bigint NOT NULL CHECK ((agent = 0) = (token = '')),
    wall     bigint NOT NULL,
    PRIMARY KEY (room, position),
    UNIQUE (thread, number)
);

-- ---- Derived from facts, in the same transaction -----------------------------------------------------------

-- Rooms with a log. `principal` is the person whose agent owns it; both are empty in the home room.
CREATE TABLE rooms (
    room      text COLLATE "C" NOT NULL PRIMARY KEY,
    opened_at bigint NOT NULL,
    owner     text COLLATE "C" NOT NULL,
    principal text COLLATE "C" NOT NULL
);
CREATE INDEX rooms_by_principal ON rooms (principal, opened_at, room);

-- Where a message is.
CREATE TABLE messages (
    id       text COLLATE "C" NOT NULL PRIMARY KEY,
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL
);

-- Messages for everyone. `number` counts them in the room up to this one, `own` those of this author: a reader's own
-- numbering and what it has not read follow from differences of the two, without a scan. `line` is the room's public
-- line there.
CREATE TABLE public_messages (
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    number   bigint NOT NULL,
    author   bigint NOT NULL,
    own      bigint NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    line     bytea NOT NULL CHECK (length(line) = 32),
    PRIMARY KEY (room, position)
);
CREATE INDEX public_messages_by_author ON public_messages (room, author, position) INCLUDE (own);

-- Where the numbers of public messages jump: where a mirror goes on after messages that it leaves out, and where a room
-- was rewound.
CREATE TABLE mirror_places (
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    public   bigint NOT NULL,
    counted  bigint NOT NULL,
    line     bytea NOT NULL,
    PRIMARY KEY (room, position)
);

-- Messages with a visibility: one row per id that may see it, its author included. `public` is the room's count of
-- messages for everyone at that place.
CREATE TABLE private_messages (
    room     text COLLATE "C" NOT NULL,
    reader   bigint NOT NULL,
    position bigint NOT NULL,
    number   bigint NOT NULL,
    own      bigint NOT NULL,
    public   bigint NOT NULL,
    author   bigint NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    PRIMARY KEY (room, reader, position)
);

-- Messages by what a reader may ask for: a kind, whom they are for, or both. `audience` is empty for a message for
-- everyone; one with a visibility has rows for each id that may see it. `addressee` is an id, '@' and a role or handle,
-- '*' for whoever takes it; empty is any, as is an empty `kind`.
CREATE TABLE filtered_messages (
    room      text COLLATE "C" NOT NULL,
    audience  text COLLATE "C" NOT NULL,
    addressee text COLLATE "C" NOT NULL,
    kind      text COLLATE "C" NOT NULL CHECK (addressee <> '' OR kind <> ''),
    position  bigint NOT NULL,
    PRIMARY KEY (room, audience, addressee, kind, position)
);
-- Whether any message brings a blob, whoever may see that message.
CREATE INDEX filtered_messages_that_bring ON filtered_messages (addressee, room, position) WHERE audience = '=';

-- The first fact of each request that carried an idempotency key; the digest of its input is in that fact's header.
CREATE TABLE idempotency (
    room      text COLLATE "C" NOT NULL,
    actor     bigint NOT NULL,
    operation text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (room, actor, operation, key)
);

-- Which room a session key belongs to. The key's code is not here: `key` is an HMAC of it.
CREATE TABLE room_keys (
    key  text COLLATE "C" NOT NULL PRIMARY KEY,
    room text COLLATE "C" NOT NULL
);

-- Where an agent is in (member), was (left), knocks (pending) or was refused (denied).
CREATE TABLE memberships (
    agent bigint NOT NULL,
    room  text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('member', 'left', 'pending', 'denied')),
    PRIMARY KEY (agent, room)
);

-- When time alone changes something in a room: `subject` is what changes, `at` when, by the wall clock; 0 where it no
-- longer will.
CREATE TABLE deadlines (
    room    text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    at      bigint NOT NULL CHECK (at >= 0),
    PRIMARY KEY (room, subject)
);
CREATE INDEX deadlines_by_time ON deadlines (at, room) WHERE at > 0;

-- The facts that wrote or deleted a key of a room's state, or let it run out, by its scope.
CREATE TABLE state_writes (
    room     text COLLATE "C" NOT NULL,
    scope    text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (room, scope, key, position)
);

-- The tokens that were minted in this home, by their ids. `joins` says that others come in with it, who are given tokens
-- of their own.
CREATE TABLE tokens (
    token      text COLLATE "C" NOT NULL PRIMARY KEY CHECK (token <> ''),
    agent      bigint NOT NULL CHECK (agent > 0),
    joins      bigint NOT NULL CHECK (joins IN (0, 1)),
    expires_at bigint NOT NULL,
    parent     text COLLATE "C" NOT NULL
);

-- What a token is for.
CREATE TABLE token_access (
    token  text COLLATE "C" NOT NULL,
    access text COLLATE "C" NOT NULL,
    PRIMARY KEY (token, access)
);

-- The rooms of a token; one that was `opened` with it is also one of each token that it was made of.
CREATE TABLE token_rooms (
    token  text COLLATE "C" NOT NULL,
    room   text COLLATE "C" NOT NULL,
    opened bigint NOT NULL CHECK (opened IN (0, 1)),
    PRIMARY KEY (token, room)
);

CREATE TABLE revoked_tokens (
    token text COLLATE "C" NOT NULL PRIMARY KEY
);

-- The messages that rooms remember something by, with the terms of their words; a version that another followed has no
-- row, nor has one whose body was erased. A term goes into the index at once, so that nothing is left to be done.
CREATE TABLE remembered (
    room     text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    terms    text[] COLLATE "C" NOT NULL,
    PRIMARY KEY (room, position)
);
CREATE INDEX remembered_by_terms ON remembered USING gin (terms) WITH (fastupdate = off);

-- ---- Not facts: positions, leases, caches ------------------------------------------------------------------

-- How far a reader was given messages and how far it acknowledged them. Neither goes back.
CREATE TABLE cursors (
    room         text COLLATE "C" NOT NULL,
    reader       bigint NOT NULL,
    delivered    bigint NOT NULL CHECK (delivered >= acknowledged),
    acknowledged bigint NOT NULL CHECK (acknowledged >= 0),
    PRIMARY KEY (room, reader)
) WITH (fillfactor = 70);

-- The ladder behind `why`: by `at`, every message in (after, upto] had reached `stage` for this reader.
CREATE TABLE deliveries (
    room   text COLLATE "C" NOT NULL,
    reader bigint NOT NULL,
    stage  text COLLATE "C" NOT NULL CHECK (stage IN ('stored', 'pushed', 'read', 'acknowledged', 'acted')),
    upto   bigint NOT NULL,
    after  bigint NOT NULL CHECK (0 <= after AND after < upto),
    at     bigint NOT NULL,
    PRIMARY KEY (room, reader, stage, upto, after)
);

-- Which window acts as which agent.
CREATE TABLE leases (
    "window"  text COLLATE "C" NOT NULL PRIMARY KEY,
    agent     text COLLATE "C" NOT NULL,
    host      text NOT NULL,
    workspace text NOT NULL,
    slot      bigint NOT NULL,
    taken_at  bigint NOT NULL
);

-- A folded room, so that a long one opens fast, with the SHA-256 of `data`. A cache: another `fold_version` discards it.
CREATE TABLE snapshots (
    room         text COLLATE "C" NOT NULL PRIMARY KEY,
    fold_version bigint NOT NULL,
    position     bigint NOT NULL,
    data         bytea NOT NULL,
    digest       bytea NOT NULL CHECK (length(digest) = 32)
);

-- Requests that wait to leave for a home elsewhere, and those that it refused for good, until their author was told. A
-- row with a larger `number` came later. `refused` is the code of the other home's refusal, and empty while it waits.
CREATE TABLE outbox (
    number  bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message text COLLATE "C" NOT NULL UNIQUE,
    home    text COLLATE "C" NOT NULL,
    room    text COLLATE "C" NOT NULL,
    agent   text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    at      bigint NOT NULL CHECK (at >= 0),
    request bytea NOT NULL,
    refused text COLLATE "C" NOT NULL
);
CREATE INDEX outbox_by_home ON outbox (home, number);
CREATE INDEX outbox_by_room ON outbox (room);

-- Until when claims of tasks were renewed. No fact says what a row says. `fence` is the number of the claim.
CREATE TABLE renewals (
    room  text COLLATE "C" NOT NULL,
    task  text COLLATE "C" NOT NULL,
    fence bigint NOT NULL CHECK (fence > 0),
    until bigint NOT NULL CHECK (until >= 0),
    PRIMARY KEY (room, task)
);

-- ---- The relays that serve this database -------------------------------------------------------------------

-- A relay that runs has a row. `relay` is drawn once for each folder of a relay, and `incarnation` by each process. `beat`
-- is when it last said that it lives, by this server's clock: nobody else's is asked.
CREATE TABLE relays (
    relay       text COLLATE "C" NOT NULL PRIMARY KEY CHECK (relay <> ''),
    incarnation text COLLATE "C" NOT NULL CHECK (incarnation <> ''),
    address     text NOT NULL,
    version     text NOT NULL,
    beat        timestamptz NOT NULL
) WITH (fillfactor = 50);
