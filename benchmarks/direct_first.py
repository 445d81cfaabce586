"""What a first direct message over a relay costs in processor time, until the agent that it is for has it.

One agent writes to others of another machine, each for the first time: every message opens a room of two at the relay,
the other comes in, and is shown the message. Counted is the processor time of both daemons and of the relay, from the
first send until the last of them has its message. The unit is V, one check of an Ed25519 signature in processor time
of the same run, because the speed of a machine is no figure of ours.

Such a room is always sealed, so no run has a clear one beside it: a version from before sealed rooms of two runs the
same script. Not here: what each later message costs (`sealed_send`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmarks import common, relays
from parlerd.operations import types as t

LOOK_S: Final = 0.05
WAIT_S: Final = 120.0


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=20, runs=3)
    report = common.Report("direct_first", given.place)
    with (
        relays.running(given.place) as relay,
        relays.home(relay, given.place) as ann,
        relays.home(relay, given.place) as ben,
        common.RawConnection(ann, as_name="ann") as sender,
    ):
        pids = (ann.daemon(), relay.pid, ben.daemon())
        costs: list[float] = []
        # The first run warms all three.
        for number in range(given.runs + 1):
            unit = common.verification_ms(200, common.cpu_milliseconds)
            names = [f"b{number}x{each}" for each in range(given.messages)]
            readers = [common.RawConnection(ben, as_name=name) for name in names]
            for reader in readers:
                reader.call("directory.register", t.Register(visibility="public"))
            before = sum(map(common.cpu_seconds, pids))
            for name in names:
                sender.call("message.send", t.Send(text="got a minute?", to=(name,)))
            _all_have_it(readers)
            after = sum(map(common.cpu_seconds, pids))
            for reader in readers:
                reader.sock.close()
            if number:
                costs.append((after - before) * 1000 / given.messages / unit)
        report.add(common.spread("processor time of a first direct message over a relay, all together", "V", costs))
    report.print()


def _all_have_it(readers: Sequence[common.RawConnection]) -> None:
    """Wait until each of these agents is in a room of two."""
    until = time.monotonic() + WAIT_S
    for reader in readers:
        while not reader.call("rooms.list", t.ListRooms()).rooms:
            if time.monotonic() > until:
                raise RuntimeError("an agent that was written to never came in")
            time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
