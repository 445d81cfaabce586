"""How long a message takes to all who follow a room from another relay, beside those who follow one from its own.

Two relays share a database, and the first has two rooms. Links of readers are open at the first relay, for one of the
rooms, and as many at the second, for the other. An agent, whose daemon is at the first relay, sends to the one and to
the other in turns. Measured is from the send on the daemon's socket until the last link has the page. The 1,000 readers
are on 50 links, and the others have a link each. This process holds the readers' ends of all links, so what it takes
for itself is in both times.
"""

from __future__ import annotations

import resource
import time
from typing import Final

import trio

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome
from parlerd.identity import codes
from parlerd.operations import types as t

FLOOR: Final = 2.0
"""Source: the specification of many relays, How it is proved."""
READERS: Final = ((1, 1), (50, 1), (50, 20))
"""Links, and readers on each."""
WARM: Final = 10
SETTLE_S: Final = 0.02
"""A pause between two sends, in which whatever follows from the one before is done."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, rounds=60)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2_000)), hard))
    report = common.Report("several_wake", given.place)
    with relays.clusters(given.place, 2) as (cluster,), relays.home(cluster.relays[0], given.place) as made:
        for links, each in READERS:
            trio.run(measure, report, cluster, made, links, each, given.rounds)
    report.print()


async def measure(
    report: common.Report, cluster: relays.Cluster, made: DemoHome, links: int, each: int, rounds: int
) -> None:
    """The wake of so many links with so many readers each."""
    ends = {"within": Ends(links), "across": Ends(links)}
    rooms: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for (who, end), relay in zip(ends.items(), cluster.relays, strict=True):
            rooms[who], shown = await trio.to_thread.run_sync(cluster.opened_at, cluster.relays[0], made, "ann")
            key = codes.read_key(shown).key
            await relays.open_links(nursery, relay, links, key, agents=each, heard=end.heard)
        # What is told of readers who came in is over then.
        await trio.sleep(2)
        found: dict[str, list[float]] = {who: [] for who in ends}
        with common.RawConnection(made, as_name="ann") as ann:
            for number in range(rounds + WARM):
                for who in sorted(ends, reverse=bool(number % 2)):
                    took = await ends[who].wake(ann, rooms[who])
                    if number >= WARM:
                        found[who].append(took)
        nursery.cancel_scope.cancel()
    what = f"send to the last of {links * each} readers"
    for who, times in found.items():
        report.add(common.spread(f"{what}, {who}", "ms", times))
    pairs = [far / near for near, far in zip(found["within"], found["across"], strict=True)]
    report.add(common.spread(f"{what}, across relays, in one within", "times", pairs, floor=FLOOR))


class Ends:
    """The readers' ends of the links to one relay."""

    def __init__(self, links: int) -> None:
        self._links = links
        self._missing = 0
        self._whole = trio.Event()
        self._whole_at = 0.0

    def heard(self) -> None:
        """Take note of a page at one of the links."""
        self._missing -= 1
        if not self._missing:
            self._whole_at = time.perf_counter()
            self._whole.set()

    async def wake(self, ann: common.RawConnection, room: str) -> float:
        """Milliseconds from a send until every link had the page."""
        await trio.sleep(SETTLE_S)
        self._missing, self._whole = self._links, trio.Event()
        call = ann.pack("message.send", t.Send(text=common.TEXT, room=room))
        begun = time.perf_counter()
        ann.send(call)
        with trio.fail_after(common.PATIENCE_S):
            await self._whole.wait()
        sent = await trio.to_thread.run_sync(ann.result, t.Sent)
        assert not sent.queued
        return (self._whole_at - begun) * 1000


if __name__ == "__main__":
    main()
