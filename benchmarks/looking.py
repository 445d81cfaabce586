"""What it costs the daemon to look around, in checks of a signature (V), with 10, 100 and 1,000 rooms and agents.

An agent is in all of the rooms; each room had one message that it read. There are as many agents with a public card.
Measured is the daemon's processor time: for a list of the rooms, for a receive over all rooms without news and with
one message that is new in one of them, for a window's tool call that ends with the notice (without rooms the same call
costs what the smallest size shows), and for a search of the directory that finds one agent, and one that finds all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks import common
from parlerd.cli.demo_home import DemoHome
from parlerd.operations import types as t

SIZES: Final = (10, 100, 1_000)
ENOUGH_S: Final = 0.5
"""Processor time over which one figure is taken: the kernel counts in hundredths of a second."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, largest=SIZES[-1])
    report = common.Report("looking", given.place)
    grown: dict[str, dict[str, float]] = {}
    yardstick = common.verification_ms()
    for size in (size for size in SIZES if size <= given.largest):
        with common.empty_home(given.place) as made:
            common.start(made)
            for what, cost in _measured(made, size).items():
                grown.setdefault(what, {})[f"{size:,}"] = float(f"{cost * 1000 / yardstick:.3g}")
    for what, sizes in grown.items():
        report.growth.append({"what": f"{what}: V of processor time, by rooms and agents", **sizes})
        report.add(common.Figure(f"{what}, at {given.largest:,}", "V", list(sizes.values())[-1], 1))
    report.print()


def _measured(made: DemoHome, size: int) -> dict[str, float]:
    """Seconds of the daemon's processor time for one of each."""
    keys = {}
    with common.RawConnection(made, as_name="ann") as ann:
        for number in range(size):
            opened = ann.call("session.open", t.OpenSession(context="benchmark", topic=f"room {number}"))
            keys[opened.room] = opened.session_key
            ann.call("message.recv", t.Recv(room=opened.room, all=True))
        for number in range(size):
            with common.RawConnection(made, as_name=f"agent-{number}") as agent:
                agent.call("directory.register", t.Register(visibility="public", tags=(f"tag-{number}",)))
        found: dict[str, float] = {}

        def cost(act: Callable[[], object]) -> float:
            return _cost(made, act)

        found["a list of the rooms"] = cost(lambda: ann.call("rooms.list", t.ListRooms()))
        found["a receive over all rooms, nothing new"] = cost(lambda: ann.call("message.recv_all", t.Recv()))
        found["a search for one agent"] = cost(lambda: ann.call("directory.discover", t.Discover(tag="tag-3")))
        found["a search that all agents fit"] = cost(lambda: ann.call("directory.discover", t.Discover(query="agent")))
        with common.RawConnection(made, as_name="bob") as bob:
            room, session_key = next(iter(keys.items()))
            bob.call("session.join", t.JoinSession(session_key=session_key))

            def say() -> None:
                bob.call("message.send", t.Send(text=common.TEXT, room=room))

            def hear() -> None:
                say()
                page = ann.call("message.recv_all", t.Recv()).rooms[0]
                ann.call("message.commit", t.Commit(room=page.room, cursor=page.cursor))

            found["a receive over all rooms, one is new"] = cost(hear) - cost(say)
    with common.shim(made, "ann") as window:
        window.handshake()
        for session_key in keys.values():
            window.call("parler_join_session", key=session_key)
        found["a tool call with its notice"] = cost(lambda: window.call("parler_recv", room=room, wait_secs=0))
    return found


def _cost(made: DemoHome, act: Callable[[], object]) -> float:
    """The daemon's processor time for one call."""
    pid = made.daemon()
    act()
    calls, began = 0, common.cpu_seconds(pid)
    while (spent := common.cpu_seconds(pid) - began) < ENOUGH_S:
        act()
        calls += 1
    return spent / calls


if __name__ == "__main__":
    main()
