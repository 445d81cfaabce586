"""How long the rooms of a relay that is killed do not answer, until the others have them.

Three relays share a database. Two daemons are at the first, with an agent each in rooms of the third, which is killed.
From then until the second agent has heard, in every one of the rooms, what the first said after it. The killed relay
starts again, and gets its rooms back, before the next run. Ten seconds without a beat, by the database's clock, are the
least in which a relay is dead to the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome
from parlerd.operations import types as t

FLOOR: Final = 15.0
"""Source: the specification of many relays, How it is proved."""
WAIT_MS: Final = 2_000


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, rooms=10, runs=5)
    report = common.Report("several_takeover", given.place)
    with ExitStack() as stack:
        (cluster,) = stack.enter_context(relays.clusters(given.place, 3))
        near, _, victim = cluster.relays
        ann, ben = (stack.enter_context(relays.home(near, given.place)) for _ in range(2))
        rooms = [cluster.room_at(victim, ann, "ann", (ben, "ben")) for _ in range(given.rooms)]
        found: list[float] = []
        for number in range(given.runs):
            cluster.settle()
            assert all(cluster.owner_of(room) is victim for room in rooms)
            victim.process.kill()
            killed = time.monotonic()
            victim.process.wait()
            hear(ann, ben, rooms, f"after kill {number}")
            found.append(time.monotonic() - killed)
            print(f"run {number}: {found[-1]:.1f} s", file=sys.stderr)
            victim.restart()
    what = f"kill of a relay until all of {given.rooms} rooms answer"
    report.add(common.spread(what, "s", found, floor=FLOOR, note=f"the longest took {max(found):.1f} s"))
    report.print()


def hear(ann: DemoHome, ben: DemoHome, rooms: Sequence[str], text: str) -> None:
    """Let the first agent say a text in each room, and wait until the second has heard all of them."""
    with common.RawConnection(ann, as_name="ann") as sender, common.RawConnection(ben, as_name="ben") as reader:
        for room in rooms:
            # The daemon keeps what the relay does not take yet, and says so.
            sender.call("message.send", t.Send(text=text, room=room))
        for room in rooms:
            texts: list[str] = []
            while text not in texts:
                page = reader.call("message.recv", t.Recv(room=room, wait_ms=WAIT_MS))
                texts = [str(message.text) for message in page.messages]
                reader.call("message.commit", t.Commit(room=room, cursor=page.cursor))


if __name__ == "__main__":
    main()
