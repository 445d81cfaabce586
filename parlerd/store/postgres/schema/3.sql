-- Parler's store in PostgreSQL, schema 3: relays of two versions over one database, and what is counted once for all
-- of them. None of it is a fact.
--
-- `kinds` says which kinds of facts a relay knows (`core.events.KINDS`). Which were written is a row of `meta`.
ALTER TABLE relays ADD COLUMN kinds integer NOT NULL DEFAULT 1 CHECK (kinds >= 1);

-- The number of the newest link of each person's daemon, at whichever relay that link is. It only grows.
CREATE TABLE newest_links (
    principal text COLLATE "C" NOT NULL PRIMARY KEY CHECK (principal <> ''),
    number    bigint NOT NULL CHECK (number >= 1)
) WITH (fillfactor = 70);

-- What is left of a budget that comes back steadily: so much at the moment `at`, by this server's clock. A budget that
-- has no row is whole.
CREATE TABLE budgets (
    name   text COLLATE "C" NOT NULL PRIMARY KEY CHECK (name <> ''),
    amount double precision NOT NULL,
    at     timestamptz NOT NULL
) WITH (fillfactor = 70);

-- How many bytes each person keeps in the rooms of this home, and when that changed. The sums follow from the facts, and
-- are counted anew when a relay starts.
CREATE TABLE kept (
    principal text COLLATE "C" NOT NULL PRIMARY KEY CHECK (principal <> ''),
    bytes     bigint NOT NULL,
    changed   timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX kept_by_change ON kept (changed);
