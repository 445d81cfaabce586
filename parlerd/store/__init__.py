"""Where facts, cursors and leases are kept: one protocol (`port`), SQLite and memory behind it."""
