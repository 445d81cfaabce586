"""What a write to a room's state costs, and who pays for views, conditions, actions and waits that it does not concern.

Durable writes of one counter by many agents at once, each with a connection of its own, against durable sends of the
same agents in the same run; the sum has to be exact. Then the CPU that the daemon spends on one write while others
have registered views, conditions, actions, waits or gated messages: such that read the key that is written, and such
that do not. What does not concern a write has to cost it nothing. A write behind a condition, and one that is an
action, are told in plain writes.
"""

from __future__ import annotations

import selectors
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count as count_from
from typing import Final

from benchmarks import common
from parlerd.operations import types as t

KEY: Final = "counter"
WRITES: Final = 200
"""Writes of one measurement."""
WAKES: Final = 100
"""Waits that begin and are woken in one measurement."""
GATED: Final = (1, 10, 100)
"""How many messages wait: a room may have 100."""
GATED_WRITES: Final = 50
COUNTS: Final = (10, 100, 200)
"""How many views and conditions there are: one agent may have 200 views."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, agents=50, each=20)
    report = common.Report("state", given.place)
    names = [f"agent-{number}" for number in range(given.agents)]
    with common.home(given.place) as made:
        common.room_of(made, "olive", *names)
        daemon = Daemon(made.daemon())
        owner = common.RawConnection(made, as_name="olive")
        agents = [common.RawConnection(made, as_name=name) for name in names]
        try:
            _race(report, agents, given.each)
            for what, register in (("views", _view), ("entries with a condition", _conditional)):
                _beside(report, owner, daemon, what, register)
            _gated(report, owner, daemon)
            _guarded(report, owner, daemon)
            _waiters(report, owner, daemon, agents)
        finally:
            for connection in (owner, *agents):
                connection.sock.close()
    report.print()


class Daemon:
    """The daemon that is measured, by the processor's time that it spends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def us_of(self, act: Callable[[], object], times: int = WRITES) -> float:
        """Microseconds of one act."""
        before = common.cpu_seconds(self._pid)
        for _ in range(times):
            act()
        return (common.cpu_seconds(self._pid) - before) * 1e6 / times


def _race(report: common.Report, agents: Sequence[common.RawConnection], each: int) -> None:
    """All agents increment one counter, and all agents send, in turns."""
    increment = [agent.pack("state.set", t.SetState(key=KEY, value=1, increment=True)) for agent in agents]
    send = [agent.pack("message.send", t.Send(text=common.TEXT)) for agent in agents]
    writes, sends = [], []
    for _ in range(3):
        writes.append(_all_at_once(agents, increment, each))
        sends.append(_all_at_once(agents, send, each))
    found = agents[0].call("state.get", t.GetState(key=KEY))
    assert isinstance(found, t.StateRead)
    if found.value != 3 * each * len(agents):
        raise RuntimeError(f"{3 * each * len(agents)} increments made {found.value}")
    write, sent = statistics.median(writes), statistics.median(sends)
    name = f"an increment of one counter by {len(agents)} agents at once, in durable sends"
    note = f"{write:,.0f} increments and {sent:,.0f} sends a second; the sum is exact"
    report.add(common.Figure(name, "x", float(f"{sent / write:.4g}"), len(writes), note=note))


def _all_at_once(agents: Sequence[common.RawConnection], packed: Sequence[bytes], each: int) -> float:
    """How many of these calls are answered in a second when every agent makes its next one at the answer."""
    left = dict.fromkeys(agents, each)
    with selectors.DefaultSelector() as selector:
        for agent, call in zip(agents, packed, strict=True):
            selector.register(agent, selectors.EVENT_READ, (agent, call))
        begun = time.perf_counter()
        for agent, call in zip(agents, packed, strict=True):
            agent.send(call)
        open_calls = len(agents)
        while open_calls:
            for key, _ in selector.select(common.PATIENCE_S):
                agent, call = key.data
                agent.take()
                agent.hear()
                left[agent] -= 1
                if left[agent]:
                    agent.send(call)
                else:
                    open_calls -= 1
        return each * len(agents) / (time.perf_counter() - begun)


def _view(number: int, read: str) -> t.BatchedWrite:
    return t.BatchedWrite(key=f"view-{number}", scope="_view", expr=f"state._shared.{read} > {number}")


def _conditional(number: int, read: str) -> t.BatchedWrite:
    return t.BatchedWrite(key=f"entry-{number}", value=1, enabled=f"state._shared.{read} > {number}")


def _beside(
    report: common.Report,
    owner: common.RawConnection,
    daemon: Daemon,
    what: str,
    register: Callable[[int, str], t.BatchedWrite],
) -> None:
    """One write while so many of these are registered, which read another key and then the one that is written."""
    others = t.SetState(key="other", value=0)
    write = t.SetState(key=KEY, value=1, increment=True)
    owner.call("state.set", others)
    grown: dict[str, dict[str, float]] = {}
    for count in COUNTS:
        for read in ("other", KEY):
            # One agent may have 200 views: those that are there are written anew.
            for begin in range(0, count, 100):
                writes = tuple(register(number, read) for number in range(begin, min(count, begin + 100)))
                owner.call("state.batch", t.BatchState(writes=writes))
            name = f"us a write, {what} that read " + ("the key" if read == KEY else "another key")
            grown.setdefault(name, {})[str(count)] = daemon.us_of(lambda: owner.call("state.set", write))
    report.growth.extend({"what": name, **figures} for name, figures in grown.items())


def _gated(report: common.Report, owner: common.RawConnection, daemon: Daemon) -> None:
    """One write while so many messages wait for something: for another key, for this key, and for this key with an
    answer that may be another one for each of the agents. None of them is ever shown."""
    write = t.SetState(key=KEY, value=1, increment=True)
    conditions = {
        "that wait for another key": "state._shared.other == 1",
        "that wait for the key": f"state._shared.{KEY} == -1",
        "that wait for the key and for whoever reads": f"self != '' && state._shared.{KEY} == -1",
    }
    for what, enabled in conditions.items():
        grown: dict[str, float] = {}
        waiting: list[str] = []
        for count in GATED:
            while len(waiting) < count:
                sent = owner.call("message.send", t.Send(text=common.TEXT, enabled=enabled))
                assert isinstance(sent, t.Sent)
                waiting.append(sent.id)
            grown[str(count)] = daemon.us_of(lambda: owner.call("state.set", write), GATED_WRITES)
        for id in waiting:
            owner.call("message.withdraw", t.WithdrawMessage(id=id))
        report.growth.append({"what": f"us a write, gated messages {what}", **grown})


def _guarded(report: common.Report, owner: common.RawConnection, daemon: Daemon) -> None:
    """A write behind a condition, and the same write as an action, while there are so many other actions whose
    conditions read the key that is written."""
    write = t.SetState(key="guarded", value=1, increment=True)
    gated = t.SetState(key="guarded", value=1, increment=True, gate="state._shared.guarded >= 0")
    writes = (t.ActionWriteAsked(key="guarded", value=1, increment=True),)
    owner.call("state.set", write)
    owner.call("action.register", t.RegisterAction(id="count", writes=writes, gate="state._shared.guarded >= 0"))
    plain: list[float] = []
    others: dict[str, list[float]] = {"with a condition": [], "as an action": []}
    invoke = t.InvokeAction(id="count")
    for _ in range(3):
        plain.append(daemon.us_of(lambda: owner.call("state.set", write)))
        others["with a condition"].append(daemon.us_of(lambda: owner.call("state.set", gated)))
        others["as an action"].append(daemon.us_of(lambda: owner.call("action.invoke", invoke)))
    for what, found in others.items():
        worth = statistics.median(found) / statistics.median(plain)
        report.add(common.Figure(f"CPU of a write {what}, in plain writes", "x", float(f"{worth:.4g}"), len(found)))
    grown: dict[str, float] = {}
    for count in COUNTS[:2]:
        for number in range(count):
            gate = f"state._shared.guarded > {number}"
            owner.call("action.register", t.RegisterAction(id=f"other-{number}", writes=writes, gate=gate))
        grown[str(count)] = daemon.us_of(lambda: owner.call("action.invoke", invoke))
    report.growth.append({"what": "us of an invocation, other actions whose conditions read the key", **grown})


def _waiters(
    report: common.Report, owner: common.RawConnection, daemon: Daemon, agents: Sequence[common.RawConnection]
) -> None:
    """A write that wakes one of so many waits, which are shared by all agents but the first."""
    found: dict[str, float] = {}
    numbers, waiting = count_from(0), 0
    for count in (10, 1_000):
        while waiting < count:
            agent = agents[1 + waiting % (len(agents) - 1)]
            agent.send(_wait(agent, f"never-{waiting}"))
            waiting += 1
        wake = partial(_wake, agents[0], owner, numbers)
        wake()
        found[str(count)] = daemon.us_of(wake, WAKES)
    report.growth.append({"what": "us of a wait that begins and of the write that wakes it, by other waits", **found})
    name = "CPU of a wait and the write that wakes it among 1,000 waiters, in those among 10"
    report.add(common.Figure(name, "x", float(f"{found['1000'] / found['10']:.4g}"), WAKES, floor=2.0))


def _wake(one: common.RawConnection, owner: common.RawConnection, numbers: Iterator[int]) -> None:
    """A wait begins, and a write ends it."""
    key = f"wake-{next(numbers)}"
    one.send(_wait(one, key))
    owner.call("state.set", t.SetState(key=key, value=1))
    if not one.result(t.WaitEnded).triggered:
        raise RuntimeError("a write did not wake who waited for it")


def _wait(connection: common.RawConnection, key: str) -> bytes:
    return connection.pack("state.wait", t.WaitUntil(condition=f'state._shared["{key}"] == 1', wait_ms=600_000))


if __name__ == "__main__":
    main()
