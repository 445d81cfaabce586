"""How long a message takes to reach a reader who waits for it.

It is measured through two shims, as agents talk: from writing one window's `parler_send` until the other window's
waiting `parler_recv` is answered. It is also measured on the socket, below the shims: to a waiting call, and to a
subscriber. In all cases the message is on the disk before anybody hears of it, and so is the record of who was shown
it.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import common, peers
from mcp_server.heard import hear
from parlerd.operations import types as t
from parlerd.wire.messages import Item

SHIMS = "send on one window to wake of a waiting parler_recv on another, both shims"
PUSH = "socket send to push at a subscriber"
PUSH_RESTED = "the same, after a pause"
WAIT = "socket send to wake of a waiting call"
SETTLE_S = 0.004
"""A pause in which the other side begins to wait again. It ends before the send, and is not measured."""
WARM = 20
WAIT_MS = 50_000


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, rounds=300)
    report = common.Report("wake", given.place)
    report.add(common.spread(SHIMS, "ms", through_shims(given.rounds, given.place), floor=2.0))
    report.add(common.spread(PUSH, "ms", to_a_subscriber(given.rounds, given.place, pause_s=0.0), floor=0.6))
    report.add(common.spread(PUSH_RESTED, "ms", to_a_subscriber(given.rounds, given.place, pause_s=SETTLE_S)))
    report.add(common.spread(WAIT, "ms", to_a_waiting_call(given.rounds, given.place)))
    if given.compare:
        peers.wakes(report, given.peers, SHIMS, {PUSH: 0.0, PUSH_RESTED: SETTLE_S}, given.rounds)
    report.print()


def through_shims(rounds: int, place: Path | None) -> list[float]:
    """Milliseconds of each round."""
    found: list[float] = []
    with common.home(place) as made, common.shim(made, "sender") as sender, common.shim(made, "waiter") as waiter:
        for window in (sender, waiter):
            window.handshake()
        opened = sender.call("parler_open_session", context="benchmark", topic="bench")
        waiter.call("parler_join_session", key=hear(opened).session_key)
        for round in range(rounds + WARM):
            waiting = waiter.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 45}})
            time.sleep(SETTLE_S)
            begun = time.perf_counter()
            sending = sender.ask("tools/call", {"name": "parler_send", "arguments": {"text": f"{round} {common.TEXT}"}})
            page = waiter.result(waiting)
            woken = time.perf_counter()
            sender.result(sending)
            assert len(hear(page).messages) == 1, page
            if round >= WARM:
                found.append((woken - begun) * 1000)
    return found


def to_a_subscriber(rounds: int, place: Path | None, *, pause_s: float) -> list[float]:
    """Milliseconds from a send to the item of a stream that follows the room. Without a pause each send comes right
    after the one before, as the peers are measured and quoted. With a pause, as agents talk, processor and disk may
    fall asleep in between."""
    found: list[float] = []
    with common.home(place) as made:
        room = common.room_of(made, "ann", "ben")
        with common.RawConnection(made, as_name="ann") as sender, common.RawConnection(made, as_name="ben") as watcher:
            watcher.send(watcher.pack("room.watch", t.WatchRoom(room=room, tail=1)))
            assert isinstance(watcher.hear(), Item)
            for round in range(rounds + WARM):
                call = sender.pack("message.send", t.Send(text=common.TEXT, room=room))
                if pause_s:
                    time.sleep(pause_s)
                begun = time.perf_counter()
                sender.send(call)
                item = watcher.hear()
                pushed = time.perf_counter()
                assert isinstance(item, Item)
                sender.hear()
                if round % 32 == 31:
                    watcher.give_credit(32)
                if round >= WARM:
                    found.append((pushed - begun) * 1000)
    return found


def to_a_waiting_call(rounds: int, place: Path | None) -> list[float]:
    """Milliseconds from a send to the answer of a `message.recv` that waits."""
    found: list[float] = []
    with common.home(place) as made:
        room = common.room_of(made, "ann", "ben")
        with common.RawConnection(made, as_name="ann") as sender, common.RawConnection(made, as_name="ben") as reader:
            for round in range(rounds + WARM):
                reader.send(reader.pack("message.recv", t.Recv(room=room, wait_ms=WAIT_MS)))
                call = sender.pack("message.send", t.Send(text=common.TEXT, room=room))
                time.sleep(SETTLE_S)
                begun = time.perf_counter()
                sender.send(call)
                page = reader.result(t.Received)
                woken = time.perf_counter()
                sender.hear()
                assert len(page.messages) == 1
                reader.call("message.commit", t.Commit(room=room, cursor=page.cursor))
                if round >= WARM:
                    found.append((woken - begun) * 1000)
    return found


if __name__ == "__main__":
    main()
