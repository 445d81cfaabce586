-- Parler's store in PostgreSQL, schema 2: many relays over one database.
--
-- `inner_address` is where a relay listens for the others of its home.
ALTER TABLE relays ADD COLUMN inner_address text COLLATE "C" NOT NULL DEFAULT '';

-- Which relay decides in the rooms of which shard. `term` grows with every change of hands, and an append names the one
-- in which it was decided. A shard that nobody has yet, or that was given up, has an empty relay.
CREATE TABLE shards (
    shard       integer NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 1023),
    relay       text COLLATE "C" NOT NULL DEFAULT '',
    incarnation text COLLATE "C" NOT NULL DEFAULT '',
    term        bigint NOT NULL DEFAULT 0 CHECK (term >= 0)
);
INSERT INTO shards (shard) SELECT generate_series(0, 1023);
