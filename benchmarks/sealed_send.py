"""What a durable send to a sealed room on a relay costs in processor time, beside one to a clear room there.

One agent sends into rooms of its own, one message at a time and with 16 under way. Counted is the processor time of its
daemon and of the relay together, in pairs: as many sends to the clear room as to the sealed one, in turns. So a daemon
seals each message, signs it, and takes it into its own mirror again; nobody else reads. The unit is V, one check of an
Ed25519 signature in processor time of the same run, because the speed of a machine is no figure of ours. The ratio is
that of the two rooms in one pair, whose order changes from pair to pair: it says something on a busy machine too.

Not here: what sealing alone costs, without a daemon (`sealed`), and a send to a local room (`relay_send`).
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks import common, relays
from benchmarks.relay_send import cost

DEPTHS: Final = (1, 16)


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=400, runs=5)
    report = common.Report("sealed_send", given.place)
    with relays.running(given.place) as relay, relays.home(relay, given.place) as made:
        pids = (made.daemon(), relay.pid)
        clear, sealed = (relays.room_of(made, "ann", sealed=is_sealed) for is_sealed in (False, True))
        with common.RawConnection(made, as_name="ann") as sender:
            for depth in DEPTHS:
                beyond: list[float] = []
                ratios: list[float] = []
                parts: dict[str, list[float]] = {
                    f"{kind} {who}": [] for kind in ("clear", "sealed") for who in ("daemon", "relay")
                }
                for room in (clear, sealed):
                    relays.send(sender, [room], depth, 50)
                for number in range(given.runs):
                    unit = common.verification_ms(200, common.cpu_milliseconds)
                    rooms = (clear, sealed) if number % 2 else (sealed, clear)
                    costs = {room: cost(sender, room, depth, given.messages, pids, unit) for room in rooms}
                    found = [costs[clear], costs[sealed]]
                    for who, each in zip(parts, (part for pair in found for part in pair), strict=True):
                        parts[who].append(each)
                    beyond.append(sum(found[1]) - sum(found[0]))
                    ratios.append(sum(found[1]) / sum(found[0]))
                note = ", ".join(f"{who} {statistics.median(each):.1f} V" for who, each in parts.items())
                name = f"processor time of a sealed durable send beyond a clear one, {depth} under way"
                report.add(common.spread(name, "V", beyond, note=note))
                report.add(common.spread(f"a sealed durable send to a clear one, {depth} under way", "times", ratios))
    report.print()


if __name__ == "__main__":
    main()
