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


class Numbers(msgspec.Struct, frozen=True):
    """How a database is: the relay's own connections, for how many seconds the oldest transaction that its role may see
    is under way, and how many dead rows wait for the server to clear them away."""

    connections: int
    oldest_s: float
    dead: int
