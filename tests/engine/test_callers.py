"""Who is on the other end: what a connection is before it acts."""

from __future__ import annotations

from parlerd.engine.callers import PeerProcess
from tests.support.callers import caller_of


def test_a_caller_is_no_agent_and_was_shown_nothing_before_it_acts() -> None:
    caller = caller_of("mcp", session="s")
    assert caller.agent is None
    assert caller.reader.shown.take() == {}
    assert not caller.waiting


def test_a_process_nothing_is_known_of_has_no_terminal_and_no_agent_host() -> None:
    peer = PeerProcess()
    assert not peer.terminal
    assert peer.agent_host == ""
    assert (peer.pid, peer.uid) == (0, -1)


def test_two_connections_that_look_alike_are_two() -> None:
    assert caller_of("cli", session="s") != caller_of("cli", session="s")
    assert len({caller_of("cli", session="s"), caller_of("cli", session="s")}) == 2


def test_callers_do_not_share_what_they_were_shown() -> None:
    assert caller_of("mcp", session="a").reader is not caller_of("mcp", session="b").reader
