-- Made by `python -m configs.package`: the database and the two roles of a relay, for the server of compose.postgres.yaml,
-- which runs this once, when its volume is empty. One role owns the tables; the relays' own owns nothing.
\set owner_password `cat /run/secrets/owner`
\set relay_password `cat /run/secrets/relay`
CREATE ROLE parler_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE parler LOGIN PASSWORD :'relay_password';
CREATE DATABASE parler OWNER parler_owner ENCODING 'UTF8' TEMPLATE template0;
