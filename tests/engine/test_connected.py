"""Who is connected: counted from the hello to the end, and remembered by when each agent went."""

from __future__ import annotations

from parlerd.core.model import AgentId
from parlerd.engine.connected import Connected
from tests.support.callers import caller_of
from tests.support.engine import START_MS, HandClock


def test_a_caller_counts_until_it_goes_and_its_agent_was_seen_then() -> None:
    clock = HandClock()
    connected = Connected(clock)
    command, window = caller_of("cli", session="c"), caller_of("mcp", session="w", window="w1")
    for caller in (command, window):
        connected.add(caller)
    assert (len(connected), list(connected.windows()), set(connected)) == (2, [window], {command, window})
    window.agent = AgentId("U1")
    clock.move(seconds=5)
    connected.remove(window)
    assert (list(connected), list(connected.windows())) == ([command], [])
    assert connected.last_seen(AgentId("U1")) == START_MS + 5000
    assert connected.last_seen(AgentId("U2")) == 0


def test_a_window_is_open_while_any_connection_of_it_is_there() -> None:
    connected = Connected(HandClock())
    first, second = [caller_of("mcp", session=name, window="w1") for name in ("a", "b")]
    connected.add(first)
    connected.add(second)
    connected.remove(first)
    assert connected.is_open("w1")
    connected.remove(second)
    assert not connected.is_open("w1")
