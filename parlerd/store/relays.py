"""What a database says of the relays that serve it, and of itself, as the relay knows it without a database driver.

Not here: where it comes from (`postgres.relays`). Above: `relay.beats`, `relay.seen`.
"""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One relay that runs: which, which process of it, where it listens (`host:port`, empty while it does not), and its
    version."""

    relay: str
    incarnation: str
    address: str
    version: str


class Mark(msgspec.Struct, frozen=True):
    """Which state of which database this is: the server's own id, the database's, the name of the log in it, and how
    many bytes of write-ahead log the server has flushed. Of one database the last number only grows."""

    system: str
    database: int
    log: str
    position: int
