"""How long a long room takes to open after a restart: from its snapshot, and folded from the start.

A room is folded from the start when it is first opened after an upgrade that changes the fold. Measured is the first
call that needs the room, on a daemon that already answers. With a snapshot the time must not grow with the history.
"""

from __future__ import annotations

import time

from benchmarks import common, filling
from parlerd.cli.demo_home import DemoHome
from parlerd.operations import types as t

SNAPSHOT = "reopening a room of {:,} facts from its snapshot"
FOLD = "the same, {:,} facts folded from the start"
FLOOR_MS = 300.0


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=7, facts=1_000_000)
    report = common.Report("reopen", given.place)
    grown: dict[str, common.Json] = {}
    for facts in dict.fromkeys((max(10, given.facts // 100), max(10, given.facts // 10), given.facts)):
        with common.empty_home(given.place) as made:
            room = filling.long_room(made, facts)
            # The room was filled while no daemon ran, so its newest snapshot is of its beginning.
            folding = first_call(made, room)
            times = [first_call(made, room) for _ in range(given.runs)]
        floor = FLOOR_MS if facts == given.facts else None
        opened = report.add(common.spread(SNAPSHOT.format(facts), "ms", times, floor=floor))
        folded = report.add(common.spread(FOLD.format(facts), "ms", [folding]))
        grown[f"{facts:,}"] = {"snapshot": opened.median, "fold": folded.median}
    report.growth.append({"what": "ms, by facts in the room", **grown})
    report.print()


def first_call(made: DemoHome, room: filling.LongRoom) -> float:
    """Milliseconds of the first call that needs the room, on a daemon that has just come up.

    A message follows the call, so that the daemon leaves a new snapshot when it stops.
    """
    common.start(made)
    with common.RawConnection(made, as_name=filling.AUTHOR) as author:
        author.call("agent.whoami", t.WhoAmI())
        begun = time.perf_counter()
        author.call("rooms.roster", t.Roster(room=room.id))
        took = (time.perf_counter() - begun) * 1000
        author.call("message.send", t.Send(text=common.TEXT, room=room.id))
    made.end(keep=True)
    return took


if __name__ == "__main__":
    main()
