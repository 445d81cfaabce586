"""What it costs that somebody leaves a sealed room on a relay: the processor time of all who have to do with it.

The owner's daemon makes the record with its wraps and signs it, the relay checks and stores it, and the daemon of
another person, whose agents are all other members, checks it and opens its wraps. Each is counted by itself, until both
daemons have the new epoch, minus what the three use in as long a time in which nothing happens; what asks whether they
have it is in it. Another agent comes in before the next change, which is not counted. The unit is V, one check of an
Ed25519 signature in processor time just before.

Not here: what the owner's home computes alone for rooms of up to 1,000 members (`sealed`).
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome
from parlerd.operations import types as t

MEMBERS: Final = (2, 10, 50, 200)
AT_ONCE: Final = 8
"""Agents that come in at the same time while a room is filled."""
WHO: Final = ("owner's daemon", "relay", "members' daemon")


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=7, most=MEMBERS[-1])
    report = common.Report("sealed_change", given.place)
    report.growth = [{"what": f"V of the {who} for a change, by members"} for who in WHO]
    report.growth.append({"what": "V of all three for a change, by members"})
    with (
        relays.running(given.place) as relay,
        relays.home(relay, given.place) as owner,
        relays.home(relay, given.place) as other,
    ):
        pids = (owner.daemon(), relay.pid, other.daemon())
        for members in (each for each in MEMBERS if each <= given.most):
            room = Room(owner, other, members)
            found = [room.change(pids) for _ in range(given.runs)]
            for growth, costs in zip(report.growth, [*zip(*found, strict=True), [*map(sum, found)]], strict=True):
                growth[str(members)] = float(f"{statistics.median(costs):.3g}")
            report.add(common.spread(f"a change in a room of {members}", "V", [*map(sum, found)]))
    report.print()


class Room:
    """A sealed room of so many members. Each but the owner is an agent of the other home."""

    def __init__(self, owner: DemoHome, other: DemoHome, members: int) -> None:
        self._owner, self._other = owner, other
        self._name = f"m{members}"
        self._count = 0
        with common.RawConnection(owner, as_name=self._name) as opener:
            say = t.OpenSession(context="benchmark", topic="bench", max_uses=1_000)
            opened = opener.call("session.open", say)
        self.id, self._key = opened.room, opened.session_key
        print(f"filling a room of {members}", file=sys.stderr)
        self._inside: list[str] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self._inside += pool.map(self._come, range(members - 1))
        self._settle(members)

    def _come(self, number: int) -> str:
        name = f"{self._name}-{number}"
        relays._let_in(self.id, self._key, [(self._other, name)])
        self._count = max(self._count, number + 1)
        return name

    def change(self, pids: tuple[int, ...]) -> list[float]:
        """Let one leave, and say what that cost each of these processes. Another one is in afterwards."""
        members = len(self._inside) + 1
        unit = common.verification_ms(50, common.cpu_milliseconds)
        out = self._inside.pop()
        before = _used(pids)
        begun = time.perf_counter()
        with common.RawConnection(self._other, as_name=out) as connection:
            connection.call("room.leave", t.LeaveAsMember(room=self.id))
        self._settle(members - 1)
        after, took = _used(pids), time.perf_counter() - begun
        time.sleep(took)
        idle = _used(pids)
        self._inside.append(self._come(self._count))
        self._settle(members)
        return [
            (2 * ended - started - rested) * 1000 / unit
            for started, ended, rested in zip(before, after, idle, strict=True)
        ]

    def _settle(self, readers: int) -> None:
        """Wait until both daemons have a record of so many readers. The first look comes when nothing is left to do:
        looking costs too."""
        deadline = time.monotonic() + 120
        for home, name in ((self._owner, self._name), (self._other, next(iter(self._inside), ""))):
            while name:
                time.sleep(1.0)
                with common.RawConnection(home, as_name=name) as connection:
                    found = connection.call("room.verify", t.CompareRoom(room=self.id))
                if len(found.readers) == readers:
                    break
                assert time.monotonic() < deadline, (len(found.readers), readers)


def _used(pids: tuple[int, ...]) -> list[float]:
    """Seconds of processor time that these processes used, to the nanosecond."""
    return [
        sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
        for pid in pids
    ]


if __name__ == "__main__":
    main()
