"""What an append takes that another relay is asked for, beside one at the relay that has the room.

Two relays share a database. One daemon, at the first of them, has an agent in a room of each. From the send on the
daemon's socket to its answer, which comes when the message is stored; in turns, so that each pair has the same noise.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from benchmarks import common, relays

FLOOR: Final = 1.6
"""Source: the specification of many relays, How it is proved."""
ALONE: Final = "a durable send, one at a time"
MANY: Final = "a durable send, 16 under way"
UNDER_WAY: Final = 16


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, sends=400, batches=40, batch=64)
    report = common.Report("several_door", given.place)
    with ExitStack() as stack:
        (cluster,) = stack.enter_context(relays.clusters(given.place, 2))
        made = stack.enter_context(relays.home(cluster.relays[0], given.place))
        rooms = {
            "owner": cluster.room_at(cluster.relays[0], made, "ann"),
            "door": cluster.room_at(cluster.relays[1], made, "ann"),
        }
        with common.RawConnection(made, as_name="ann") as ann:
            for what, depth, count, runs in (
                (ALONE, 1, 1, given.sends),
                (MANY, UNDER_WAY, given.batch, given.batches),
            ):
                found: dict[str, list[float]] = {who: [] for who in rooms}
                for room in rooms.values():
                    relays.send(ann, [room], depth, given.batch)
                for number in range(runs):
                    for who in sorted(rooms, reverse=bool(number % 2)):
                        found[who].append(relays.send(ann, [rooms[who]], depth, count) * 1000 / count)
                for who, took in found.items():
                    report.add(common.spread(f"{what}, at the {who}", "ms", took))
                pairs = [far / near for near, far in zip(found["owner"], found["door"], strict=True)]
                report.add(common.spread(f"{what}, through a door, in one at the owner", "times", pairs, floor=FLOOR))
    report.print()


if __name__ == "__main__":
    main()
