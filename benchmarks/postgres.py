"""What a store over PostgreSQL takes beside the one in a SQLite file, on the same disk and in the same run.

Measured are the stores alone, by one thread that writes as the engine does: commits of many jobs, each with one message
that has a place in its author's own line, in ten rooms; and the pull of a page. The server runs on this machine, on a
Unix socket, and is ended with the run.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks import common
from parlerd.core import events as e
from parlerd.core.model import (
    AgentId,
    By,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RoomId,
    View,
    drawn_key,
)
from parlerd.store.port import Append, NewFact, Store
from parlerd.store.postgres import PostgresStore
from parlerd.store.sqlite import SqliteStore
from tests.support.postgres import serving, with_tables
from tests.tools.postgres.server import versions

NEW: Final = 50
ROOMS: Final = 10
BATCHES: Final = (1, 10, 100)
SHARE: Final = 0.7
"""How much of SQLite's rate one writer over PostgreSQL reaches at least. Source: the specification of many relays."""
APPENDS: Final = "messages appended, {} a commit"
PULL: Final = "pull of 50 new messages from a room of {:,}"
AUTHORS: Final = tuple(AgentId(f"U{name * 55}") for name in "ABC")
READER: Final = AUTHORS[0]


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, seconds=5, rounds=3, messages=10_000, runs=200)
    report = common.Report("postgres", given.place)
    version = versions()[-1]
    with (
        tempfile.TemporaryDirectory(prefix="parler-bench-", dir=given.place) as folder,
        serving(version, on_disk=True) as running,
        running.database(with_tables) as made,
        closing(SqliteStore(Path(folder) / "parler.db", backups=Path(folder) / "backups")) as file,
        closing(PostgresStore(made.relay)) as database,
    ):
        stores: dict[str, Store] = {"sqlite": file, f"postgres {version.major}": database}
        loads = {who: _Load(store) for who, store in stores.items()}
        for batch in BATCHES:
            rates: dict[str, list[float]] = {who: [] for who in stores}
            # In turns, because other work of the machine comes and goes.
            for _ in range(given.rounds):
                for who, load in loads.items():
                    rates[who].append(load.rate(batch, given.seconds))
            for who, found in rates.items():
                report.add(common.spread(APPENDS.format(batch), "messages/s", found, who=who))
            shares = [theirs / ours for ours, theirs in zip(*rates.values(), strict=True)]
            report.add(
                common.spread(
                    f"share of SQLite's rate, {batch} a commit",
                    "times",
                    shares,
                    floor=SHARE if batch > 1 else None,
                    note="postgres",
                )
            )
        for who, load in loads.items():
            report.add(
                common.spread(PULL.format(given.messages), "ms", load.pulls(given.messages, given.runs), who=who)
            )
    report.print()


class _Load:
    """What is written to one store, and read from it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rooms = {RoomId(f"r_{number:026d}"): Position(0) for number in range(ROOMS)}

    def rate(self, batch: int, seconds: int) -> float:
        """How many messages a second are committed, in commits of so many jobs."""
        done, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds:
            self.commit(batch)
            done += batch
        return done / spent

    def commit(self, jobs: int, each: int = 1) -> None:
        """One transaction of jobs with so many messages each."""
        made = []
        for number in range(jobs):
            room = list(self.rooms)[number % ROOMS]
            made.append([self._append(room, each)])
        for outcome in self.store.transact(made):
            if outcome.error is not None:
                raise outcome.error

    def pulls(self, messages: int, runs: int) -> list[float]:
        """How long it takes to read the newest 50 messages of a room of so many."""
        room = next(iter(self.rooms))
        while self.rooms[room] < messages:
            (outcome,) = self.store.transact([[self._append(room, min(1_000, messages - self.rooms[room]))]])
            if outcome.error is not None:
                raise outcome.error
        view = View(reader=READER, spans=((0, None),))
        after = Position(self.rooms[room] - NEW)

        def once() -> None:
            page = self.store.page(room, view, after, limit=NEW, max_bytes=1 << 20, skip_own=False)
            assert len(page.messages) == NEW

        once()
        return [common.milliseconds(once) for _ in range(runs)]

    def _append(self, room: RoomId, count: int) -> Append:
        head = self.rooms[room]
        self.rooms[room] = Position(head + count)
        return Append(room, head, [_message(room, head + 1 + number) for number in range(count)], own_lines=True)


def _message(room: RoomId, position: int) -> NewFact:
    body = common.TEXT.encode()
    id = MessageId(f"m_{hashlib.sha256(f'{room}{position}'.encode()).hexdigest()[:26]}")
    author = AUTHORS[position % len(AUTHORS)]
    header = e.Header(
        position=Position(position),
        at=Millis(position),
        by=By(author, PrincipalId(f"A{'P' * 55}"), "session", "host", "cli"),
        authority="member",
        event=e.MessagePosted(id=id, kind="note", chain="c", counter=position, envelope=bytes(32), verified="valid"),
        operation="message.send",
        key=drawn_key(id),
        body=hashlib.sha256(body).digest(),
    )
    return NewFact(header, body, bytes(64))


if __name__ == "__main__":
    main()
