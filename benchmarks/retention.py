"""What it costs to let the words of 100,000 messages go, and how long others wait for a send meanwhile.

A room is filled while no daemon runs. The daemon that starts then keeps little of the room, so it lets the words go a
step at a time, while one client sends messages to another room and to this one, one after the other. Then the same
client sends as many with nothing else going on. The ratio is between the two of one run; the processor time is that of
the daemon, without what the sends alone took afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Final

from benchmarks import common, filling
from parlerd.core.events import BodiesErased
from parlerd.core.model import Position
from parlerd.operations import types as t
from parlerd.store.sqlite import SqliteStore

KEPT: Final = 1_000
CPU: Final = "processor time of letting the words of {:,} messages go"
STEPS: Final = "steps of letting the words of {:,} messages go"
SEND: Final = "a send {}, {}"
RATIO: Final = "p99 of a send {} while words go, in p99 of one without"
WHERE: Final = ("to another room", "to the same room")
ROUND: Final = 20
MAX_ROUNDS: Final = 500
MIN_SENDS: Final = 200
_PAGE: Final = 5_000


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=100_000)
    report = common.Report("retention", given.place)
    with common.empty_home(given.place) as made:
        room = filling.long_room(made, given.messages)
        made.home.settings.write_text(common.SETTINGS.replace("room_messages = 0", f"room_messages = {KEPT}"))
        made.start()
        with (
            common.RawConnection(made, as_name=filling.AUTHOR) as author,
            closing(sqlite3.connect(f"file:{made.home.database}?mode=ro", uri=True)) as database,
        ):
            pid = author.call("daemon.status", t.DaemonStatus()).pid
            other = author.call("session.open", t.OpenSession(context="benchmark", topic="beside")).room
            rooms = dict(zip(WHERE, (other, room.id), strict=True))
            begun = common.cpu_seconds(pid)
            meanwhile = _sends(author, rooms, lambda done: _gone(database) >= given.messages - 3 * KEPT)
            took = common.cpu_seconds(pid) - begun
            sends = max(MIN_SENDS, len(meanwhile[WHERE[0]]))
            begun = common.cpu_seconds(pid)
            without = _sends(author, rooms, lambda done: done >= sends)
            alone = (common.cpu_seconds(pid) - begun) / sum(map(len, without.values()))
        made.end(keep=True)
        with filling.opened_store(made) as store:
            steps, gone = _steps(store, room)
    took -= alone * sum(map(len, meanwhile.values()))
    report.add(common.Figure(CPU.format(gone), "s", round(took, 3), 1))
    report.add(common.Figure(STEPS.format(gone), "steps", steps, 1))
    for where in WHERE:
        report.add(common.spread(SEND.format(where, "while words go"), "ms", meanwhile[where]))
        report.add(common.spread(SEND.format(where, "without"), "ms", without[where]))
        ratio = common.percentile(meanwhile[where], 0.99) / common.percentile(without[where], 0.99)
        report.add(common.Figure(RATIO.format(where), "x", round(ratio, 2), len(meanwhile[where])))
    report.print()


def _sends(
    author: common.RawConnection, rooms: Mapping[str, str], is_done: Callable[[int], bool]
) -> dict[str, list[float]]:
    """How long each send took, in turn to each room, until so many were enough."""
    times: dict[str, list[float]] = {where: [] for where in rooms}
    for number in range(MAX_ROUNDS):
        if is_done(number * ROUND):
            break
        for _ in range(ROUND):
            for where, room in rooms.items():
                say = t.Send(text=common.TEXT, room=room)
                times[where].append(common.milliseconds(partial(author.call, "message.send", say)))
    return times


def _gone(database: sqlite3.Connection) -> int:
    count: int = database.execute("SELECT count(*) FROM erased_bodies").fetchone()[0]
    return count


def _steps(store: SqliteStore, room: filling.LongRoom) -> tuple[int, int]:
    """How many steps the room's log names, and how many messages lost their words by them."""
    steps = gone = 0
    after = Position(0)
    while facts := store.facts(room.id, after, _PAGE):
        after = facts[-1].position
        for fact in facts:
            if isinstance(fact.event, BodiesErased):
                steps, gone = steps + 1, gone + fact.event.messages
    return steps, gone


if __name__ == "__main__":
    main()
