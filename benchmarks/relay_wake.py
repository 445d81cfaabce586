"""How long a message takes to reach a reader who waits at another daemon, through a relay on this machine.

From a send on the socket of one daemon to the answer of a `message.recv` that waits on the socket of another; the
message is on the relay's disk before anybody hears of it. In alternation the same within one daemon, so that the ratio
of the two is the figure.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import common, relays
from parlerd.operations import types as t

REMOTE = "remote send to wake of a waiting call, through two daemons and a relay"
LOCAL = "local send to wake of a waiting call"
RATIO = "remote send to wake, in local ones"
WAIT_MS = 50_000
SETTLE_S = 0.01
"""A pause in which the other side begins to wait again. It ends before the send, and is not measured."""
WARM = 10


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, rounds=100)
    report = common.Report("relay_wake", given.place)
    local: list[float] = []
    remote: list[float] = []
    with (
        relays.running(given.place) as relay,
        relays.home(relay, given.place) as first,
        relays.home(relay, given.place) as second,
    ):
        there = relays.room_of(first, "ann", (second, "ben"))
        here = relays.room_of(first, "cat", (first, "dan"), home="local")
        with (
            common.RawConnection(first, as_name="ann") as ann,
            common.RawConnection(second, as_name="ben") as ben,
            common.RawConnection(first, as_name="cat") as cat,
            common.RawConnection(first, as_name="dan") as dan,
        ):
            for number in range(given.rounds + WARM):
                for sender, reader, room, found in ((ann, ben, there, remote), (cat, dan, here, local)):
                    took = wake(sender, reader, room)
                    if number >= WARM:
                        found.append(took)
    report.add(common.spread(REMOTE, "ms", remote))
    report.add(common.spread(LOCAL, "ms", local))
    ratio = statistics.median(remote) / statistics.median(local)
    report.add(common.Figure(RATIO, "x", round(ratio, 2), len(remote), floor=3.0))
    report.print()


def wake(sender: common.RawConnection, reader: common.RawConnection, room: str) -> float:
    """Milliseconds of one wake."""
    reader.send(reader.pack("message.recv", t.Recv(room=room, wait_ms=WAIT_MS)))
    call = sender.pack("message.send", t.Send(text=common.TEXT, room=room))
    time.sleep(SETTLE_S)
    begun = time.perf_counter()
    sender.send(call)
    page = reader.result(t.Received)
    woken = time.perf_counter()
    assert not sender.result(t.Sent).queued
    assert len(page.messages) == 1
    reader.call("message.commit", t.Commit(room=room, cursor=page.cursor))
    return (woken - begun) * 1000


if __name__ == "__main__":
    main()
