-- Parler's store in PostgreSQL, schema 5: what was delivered takes less of the disk.
--
-- The index of a reader's marks held every column but one. Where they end is enough to find them by, and the three
-- marks of a message that was told, read and acknowledged by itself then share one entry. Two relays that note the same
-- at one moment may both store it, which changes nothing of what it says.
CREATE INDEX deliveries_by_reader ON deliveries (room, reader, upto);
ALTER TABLE deliveries DROP CONSTRAINT deliveries_pkey;
