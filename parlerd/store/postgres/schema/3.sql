-- Parler's store in PostgreSQL, schema 3: relays of two versions over one database.
--
-- `kinds` says which kinds of facts a relay knows (`core.events.KINDS`). Which were written is a row of `meta`.
ALTER TABLE relays ADD COLUMN kinds integer NOT NULL DEFAULT 1 CHECK (kinds >= 1);
