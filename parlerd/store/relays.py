"""What a database says of the relays that serve it, and of itself, as the relay knows it without a database driver.

Not here: where it comes from (`postgres.relays`, `memory_relays`). Above: `relay.beats`, `relay.holding`, `relay.seen`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from parlerd.core.events import KINDS

DEAD_AFTER_S: Final = 10
"""After so long without a beat a relay is dead to the others, by the database's clock. Source: spec, one owner a
room."""


class Row(msgspec.Struct, frozen=True):
    """One relay that runs: which, which process of it, where it listens for daemons (`host:port`, empty while it does
    not), its version, and where it listens for the other relays of its home: while it does not, it has no rooms. Of
    facts it knows the `kinds` up to this number (`core.events.KINDS`)."""

    relay: str
    incarnation: str
    address: str
    version: str
    inner: str = ""
    kinds: int = KINDS


class Tenure(msgspec.Struct, frozen=True):
    """By which right a relay decides in the rooms of a shard: it has the shard, since that changed hands for the
    `term`th time. Of one shard the number only grows."""

    shard: int
    relay: str
    incarnation: str
    term: int


class Seen(msgspec.Struct, frozen=True):
    """How it is at one moment: the relays that live, and who has each shard. A shard that nobody had yet has an empty
    relay and the term 0."""

    living: Sequence[Row]
    shards: Sequence[Tenure]
    epoch: str = ""
    """From which the secret follows that enrols people: another one with each person who is put out."""
    written: int = 1
    """The kinds of facts that may be in the store: a relay that does not know all of them gets no shard."""


class Mark(msgspec.Struct, frozen=True):
    """Which state of which database this is: the server's own id, the database's, the name of the log in it, and how
    many bytes of write-ahead log the server has flushed. Of one database the last number only grows."""

    system: str
    database: int
    log: str
    position: int


class SharedOut(Protocol):
    """Who has which shard, as the store says it. Every method raises `StoreError`, and is one transaction."""

    def look(self) -> Seen:
        """How it is now."""
        ...

    def take(self, row: Row, shards: Collection[int]) -> list[Tenure]:
        """Let the relay of `row` have those of these shards that nobody has, or a relay that is dead or gone; which
        these are. It gets none while it is not alive itself, or does not know all kinds of facts that were written."""
        ...

    def give(self, row: Row, shards: Mapping[int, int], to: str) -> list[Tenure]:
        """Hand these shards, each with the term in which the relay of `row` has it, to the relay `to`; which of them
        were handed over: none where `to` does not live, or does not know all kinds of facts that were written. With an
        empty `to` they are nobody's, and whoever asks first takes them."""
        ...

    def begin(self, kinds: int) -> bool:
        """Let facts of the kinds up to this number be written from now on, if every relay that lives knows them;
        whether that is so. Whoever writes the first fact of a new kind asks this before."""
        ...

    def step_back(self, row: Row) -> None:
        """Say nothing any more of where the relay of `row` listens for the others: nothing falls to it then."""
        ...

    def renew(self, epoch: str) -> None:
        """Let another epoch begin."""
        ...


class Numbers(msgspec.Struct, frozen=True):
    """How a database is: the relay's own connections, for how many seconds the oldest transaction that its role may see
    is under way, and how many dead rows wait for the server to clear them away."""

    connections: int
    oldest_s: float
    dead: int
