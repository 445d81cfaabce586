"""What a durable send to a room on a relay costs in processor time, beyond a send to a local room.

One agent sends into a room of its own: one message at a time, and with 16 under way. Counted is the processor time of
its daemon and of the relay together, minus what the same daemon takes for as many sends to a local room, in turns. The
unit is V, one check of an Ed25519 signature in the same run, because the speed of a machine is no figure of ours.

The growth says what the two take for one send while the daemon's link follows more rooms, in which nothing happens.
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks import common, relays

FLOORS: Final = {1: 3.0, 16: 1.5}
ROOMS: Final = (1, 10, 100)
"""How many rooms on the relay the daemon follows."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=600, runs=3)
    report = common.Report("relay_send", given.place)
    with relays.running(given.place) as relay, relays.home(relay, given.place) as made:
        daemon = made.daemon()
        here, there = (relays.room_of(made, "ann", home=home) for home in ("local", ""))
        with common.RawConnection(made, as_name="ann") as sender:
            for depth, floor in FLOORS.items():
                beyond: list[float] = []
                parts: dict[str, list[float]] = {"daemon": [], "relay": [], "local": []}
                relays.send(sender, [there], depth, 50)
                for _ in range(given.runs):
                    unit = common.verification_ms()
                    local, _ = cost(sender, here, depth, given.messages, (daemon, relay.pid), unit)
                    own, theirs = cost(sender, there, depth, given.messages, (daemon, relay.pid), unit)
                    for who, found in zip(parts, (own, theirs, local), strict=True):
                        parts[who].append(found)
                    beyond.append(own + theirs - local)
                note = ", ".join(f"{who} {statistics.median(found):.1f} V" for who, found in parts.items())
                name = f"processor time of a remote durable send beyond a local one, {depth} under way"
                report.add(common.spread(name, "V", beyond, floor=floor, note=note))
            for depth in FLOORS:
                report.growth.append(
                    {"what": f"V of daemon and relay for one send, {depth} under way, by rooms followed"}
                )
            followed = 1
            for rooms in ROOMS:
                while followed < rooms:
                    relays.room_of(made, "ann")
                    followed += 1
                for depth, growth in zip(FLOORS, report.growth, strict=True):
                    relays.send(sender, [there], depth, 50)
                    runs = [
                        sum(cost(sender, there, depth, given.messages, (daemon, relay.pid), common.verification_ms()))
                        for _ in range(given.runs)
                    ]
                    growth[str(rooms)] = round(statistics.median(runs), 1)
    report.print()


def cost(
    sender: common.RawConnection, room: str, depth: int, messages: int, pids: tuple[int, ...], unit: float
) -> list[float]:
    """What each of these processes takes for one send, in units of so many milliseconds."""
    before = [common.cpu_seconds(pid) for pid in pids]
    relays.send(sender, [room], depth, messages)
    after = [common.cpu_seconds(pid) for pid in pids]
    return [(ended - begun) * 1000 / messages / unit for begun, ended in zip(before, after, strict=True)]


if __name__ == "__main__":
    main()
