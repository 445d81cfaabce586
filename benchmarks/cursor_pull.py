"""How long it takes to read what is new, in a short room and in a very long one, which must be the same.

Measured are the pull alone, as the store does it; the durable row that records who was shown the page; the whole read
as a client sees it, with this row and the way through the daemon; and a join that lands in a long backlog.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import common, filling
from parlerd.cli.demo_home import DemoHome
from parlerd.core.model import Millis, Position, RoomId, View
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery

NEW = 50
PULL = "pull of 50 new messages from a room of {:,}"
ROW = "durable delivery row, in a room of {:,}"
READ = "page read by a client, delivery row included, from a room of {:,}"
ACKNOWLEDGE = "acknowledging it, in a room of {:,}"
JOIN = "join to first page, backlog {:,}"
PULL_FLOOR_MS = 1.0
ROW_FLOOR_MS = 0.5
JOIN_FLOOR_MS = 100.0
JOINS = 7


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=200, small=1_000, large=1_000_000, backlog=10_000)
    report = common.Report("cursor_pull", given.place)
    grown: dict[str, common.Json] = {}
    for messages in dict.fromkeys((given.small, given.backlog, given.large)):
        with common.empty_home(given.place) as made:
            room = filling.long_room(made, messages)
            found = {
                **pull(report, made, room, messages, given.runs),
                **read(report, made, room, messages, given.runs),
                **join(report, made, room, messages),
            }
            grown[f"{messages:,}"] = found
    report.growth.append({"what": "ms, by messages in the room", **grown})
    if given.compare:
        report.add(
            common.spread(
                PULL.format(given.large),
                "ms",
                _raw(given.large, given.runs, given.place),
                who="raw SQLite, one plain table",
            )
        )
    report.print()


def pull(report: common.Report, made: DemoHome, room: filling.LongRoom, messages: int, runs: int) -> common.Json:
    """The store alone."""
    with filling.opened_store(made) as store:
        view = View(reader=room.reader, spans=((0, None),))
        head = store.head(room.id).position
        after = Position(head - NEW)

        def once() -> None:
            page = store.page(room.id, view, after, limit=NEW, max_bytes=1 << 20, skip_own=True)
            assert len(page.messages) == NEW

        once()
        times = [common.milliseconds(once) for _ in range(runs)]
        marks = [
            MarkDelivery(room.id, room.reader, "pushed", upto=Position(step + 1), at=Millis(step), after=Position(step))
            for step in range(runs)
        ]
        rows = [common.milliseconds(partial(store.transact, [[mark]])) for mark in marks]
    pulled = report.add(common.spread(PULL.format(messages), "ms", times, floor=PULL_FLOOR_MS))
    marked = report.add(common.spread(ROW.format(messages), "ms", rows, floor=ROW_FLOOR_MS))
    return {"pull": pulled.median, "row": marked.median}


def read(report: common.Report, made: DemoHome, room: filling.LongRoom, messages: int, runs: int) -> common.Json:
    """As a client: 50 new messages, read and acknowledged, again and again."""
    common.start(made)
    reads: list[float] = []
    commits: list[float] = []
    with (
        common.RawConnection(made, as_name=filling.AUTHOR) as author,
        common.RawConnection(made, as_name=filling.READER) as reader,
    ):
        _skip_to_the_end(reader, room.id)
        for round in range(max(10, runs // 4)):
            say = t.Send(text=common.TEXT, room=room.id)
            author.send(b"".join(author.pack("message.send", say) for _ in range(NEW)))
            for _ in range(NEW):
                author.hear()
            begun = time.perf_counter()
            page = reader.call("message.recv", t.Recv(room=room.id, limit=NEW))
            shown = time.perf_counter()
            reader.call("message.commit", t.Commit(room=room.id, cursor=page.cursor))
            acknowledged = time.perf_counter()
            assert len(page.messages) == NEW
            assert not page.more
            if round:
                reads.append((shown - begun) * 1000)
                commits.append((acknowledged - shown) * 1000)
    made.end(keep=True)
    seen = report.add(common.spread(READ.format(messages), "ms", reads))
    done = report.add(common.spread(ACKNOWLEDGE.format(messages), "ms", commits))
    return {"read": seen.median, "acknowledge": done.median}


def join(report: common.Report, made: DemoHome, room: filling.LongRoom, messages: int) -> common.Json:
    """A newcomer lands in the backlog."""
    common.start(made)
    times: list[float] = []
    for number in range(JOINS):
        with common.RawConnection(made, as_name=f"new{number}") as joiner:
            joiner.call("agent.whoami", t.WhoAmI())  # makes the agent's key, which the figure leaves out
            begun = time.perf_counter()
            joined = joiner.call("session.join", t.JoinSession(session_key=room.session_key))
            times.append((time.perf_counter() - begun) * 1000)
            assert joined.truncated or messages <= len(joined.messages)
    made.end(keep=True)
    landed = report.add(common.spread(JOIN.format(messages), "ms", times, floor=JOIN_FLOOR_MS))
    return {"join": landed.median}


def _skip_to_the_end(reader: common.RawConnection, room: RoomId) -> None:
    look = reader.call("message.recv", t.Recv(room=room, limit=1, peek=True))
    last = int(look.cursor) + look.unread
    page = reader.call("message.recv", t.Recv(room=room, since=max(0, last - 1), limit=1))
    reader.call("message.commit", t.Commit(room=room, cursor=page.cursor))


def _raw(large: int, runs: int, place: Path | None) -> list[float]:
    """What SQLite alone takes: 50 rows by primary key, out of a plain table of as many rows with bodies as long."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        database = sqlite3.connect(Path(directory) / "raw.db")
        database.execute("CREATE TABLE m (position INTEGER PRIMARY KEY, header BLOB, body BLOB) STRICT")
        rows = ((position, bytes(300), bytes(500)) for position in range(large))
        database.executemany("INSERT INTO m VALUES (?, ?, ?)", rows)
        database.commit()

        def once() -> None:
            found = database.execute("SELECT * FROM m WHERE position > ? LIMIT ?", (large - NEW - 1, NEW)).fetchall()
            assert len(found) == NEW

        once()
        times = [common.milliseconds(once) for _ in range(runs)]
        database.close()
    return times


if __name__ == "__main__":
    main()
