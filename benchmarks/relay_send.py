"""What a durable send to a room on a relay costs in processor time, beyond a send to a local room.

One agent sends into a room of its own: one message at a time, and with 16 under way. Counted is the processor time of
its daemon and of the relay together, minus what the same daemon takes for as many sends to a local room, in turns. The
unit is V, one check of an Ed25519 signature in the same run, because the speed of a machine is no figure of ours.
"""

from __future__ import annotations

import statistics
from collections import deque

from benchmarks import common, relays
from parlerd.operations import types as t

FLOORS = {1: 3.0, 16: 1.5}


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=600, runs=3)
    report = common.Report("relay_send", given.place)
    with relays.running(given.place) as relay, relays.home(relay, given.place) as made:
        daemon = made.daemon()
        here, there = (relays.room_of(made, "ann", home=home) for home in ("local", ""))
        for depth, floor in FLOORS.items():
            beyond: list[float] = []
            parts: dict[str, list[float]] = {"daemon": [], "relay": [], "local": []}
            with common.RawConnection(made, as_name="ann") as sender:
                send(sender, there, depth, 50)
                for _ in range(given.runs):
                    unit = common.verification_ms()
                    used = {}
                    for room in (here, there):
                        before = common.cpu_seconds(daemon), common.cpu_seconds(relay.pid)
                        send(sender, room, depth, given.messages)
                        after = common.cpu_seconds(daemon), common.cpu_seconds(relay.pid)
                        used[room] = [
                            (ended - begun) * 1000 / given.messages / unit
                            for begun, ended in zip(before, after, strict=True)
                        ]
                    parts["local"].append(used[here][0])
                    parts["daemon"].append(used[there][0])
                    parts["relay"].append(used[there][1])
                    beyond.append(sum(used[there]) - used[here][0])
            note = ", ".join(f"{who} {statistics.median(found):.1f} V" for who, found in parts.items())
            name = f"processor time of a remote durable send beyond a local one, {depth} under way"
            report.add(common.spread(name, "V", beyond, floor=floor, note=note))
    report.print()


def send(sender: common.RawConnection, room: str, depth: int, count: int) -> None:
    """Send so many messages, with `depth` under way, and wait for all answers."""
    under_way: deque[int] = deque()
    for number in range(count):
        sender.send(sender.pack("message.send", t.Send(text=common.TEXT, room=room)))
        under_way.append(number)
        if len(under_way) == depth:
            assert not sender.result(t.Sent).queued
            under_way.popleft()
    for _ in under_way:
        assert not sender.result(t.Sent).queued


if __name__ == "__main__":
    main()
