"""Bells: news of a window's agent rings once for each turn it may begin, and a program that fails costs one wake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

from mcp_server import ringing
from mcp_server.ringing import PAUSE_S, SLICE_MS, CodexQueue, bells
from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.fake_mcp_engine import FakeMcpEngine, caller
from tests.support.mcp_lines import hosted, run

REMOTE: Final = "unix:///run/codex.sock"
ROOM: Final = "r_0123456789abcdef01234567"
LINE: Final = f"Parler: 2 unread ({ROOM}). Call parler_recv."


def waiting(*, wake: bool) -> t.Waiting:
    return t.Waiting(agent="U", unread=2, rooms=[ROOM], handoffs=0, requests=0, wake=wake, paused=False)


class HeardBell:
    """A bell that remembers. The first `busy` times its agent is at work."""

    def __init__(self, busy: int = 0) -> None:
        self.rings: list[tuple[str, str]] = []
        self.busy = busy

    def address(self, window: Caller, directory: str) -> str:
        return window.facts.conversation

    async def ring(self, address: str, line: str) -> bool:
        await trio.lowlevel.checkpoint()
        self.rings.append((address, line))
        return len(self.rings) > self.busy


class Checked(FakeMcpEngine):
    """An engine whose checks are answered one after another, and then never."""

    def __init__(self, *answers: t.Waiting | ParlerError) -> None:
        super().__init__()
        self.answers = list(answers)
        self.checks: list[tuple[t.WakeCheck, str, str]] = []

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op != "wake.check":
            return await super().call(op, params, caller)
        assert isinstance(params, t.WakeCheck)
        self.checks.append((params, caller.facts.via, caller.facts.conversation))
        if not self.answers:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0)
        if isinstance(answer, ParlerError):
            raise answer
        return answer


async def calls(engine: Checked, bell: HeardBell, threads: Sequence[str | None], host: str = "codex") -> None:
    """A window of `host` makes a call for each of `threads`, which names it."""
    async with hosted(engine, who=caller(host=host), bells={"codex": bell}) as window:
        await window.begin()
        for thread in threads:
            meta = {} if thread is None else {"_meta": {"threadId": thread}}
            await window.get("tools/call", {"name": "parler_rooms", "arguments": {}, **meta})
            await trio.testing.wait_all_tasks_blocked()


def test_a_window_that_names_its_thread_is_rung_for_when_a_turn_may_begin_and_only_then() -> None:
    async def main(_: FakeMcpEngine) -> None:
        engine, bell = Checked(waiting(wake=False), waiting(wake=True), waiting(wake=False)), HeardBell()
        await calls(engine, bell, ["t-1"])
        assert bell.rings == [("t-1", LINE)]
        assert [(params, via) for params, via, _ in engine.checks] == [
            (t.WakeCheck(turn=True, wait_ms=SLICE_MS), "hook")
        ] * 4

    run(main)


def test_each_conversation_has_one_watch_that_rings_for_its_own_thread() -> None:
    async def main(_: FakeMcpEngine) -> None:
        engine, bell = Checked(), HeardBell()
        await calls(engine, bell, ["t-1", "t-2", "t-1"])
        assert [conversation for _, _, conversation in engine.checks] == ["t-1", "t-2"]
        engine, bell = Checked(waiting(wake=False)), HeardBell()
        await calls(engine, bell, ["t-1"])
        assert [conversation for _, _, conversation in engine.checks] == ["t-1", "t-1"]

    run(main)


@pytest.mark.parametrize(("host", "threads"), [("codex", [None]), ("claude-code", ["t-1"])])
def test_without_a_thread_or_a_bell_nothing_is_watched(host: str, threads: list[str | None]) -> None:
    async def main(_: FakeMcpEngine) -> None:
        engine = Checked(waiting(wake=True))
        await calls(engine, HeardBell(), threads, host)
        assert engine.checks == []

    run(main)


def test_an_engine_that_refuses_is_asked_again_later() -> None:
    async def main(_: FakeMcpEngine) -> None:
        engine, bell = Checked(ParlerError("draining"), waiting(wake=True)), HeardBell()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ringing.watch, engine, caller(host="codex"), "/", bell)
            await trio.sleep(PAUSE_S / 2)
            assert len(engine.checks) == 1
            await trio.sleep(PAUSE_S)
            assert len(bell.rings) == 1
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize(("unread", "rings"), [(3, 2), (0, 1)])
def test_an_agent_at_work_is_rung_for_later_unless_it_has_read_all_meanwhile(unread: int, rings: int) -> None:
    async def main(_: FakeMcpEngine) -> None:
        later = t.Waiting(agent="U", unread=unread, rooms=[ROOM], handoffs=0, requests=0, wake=False, paused=False)
        engine, bell = Checked(waiting(wake=True), later), HeardBell(busy=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ringing.watch, engine, caller(conversation="t"), "/", bell)
            await trio.sleep(PAUSE_S / 2)
            assert len(bell.rings) == 1
            await trio.sleep(PAUSE_S)
            assert [line for _, line in bell.rings] == [LINE, LINE.replace("2", "3", 1)][:rings]
            assert [params.turn for params, _, _ in engine.checks] == [True, False, True]
            nursery.cancel_scope.cancel()

    run(main)


# -- codex ---------------------------------------------------------------------------------------------------


def program(tmp_path: Path, more: str = "") -> Path:
    """A program that writes down what it is started with."""
    path = tmp_path / "codex"
    said = f'for word; do printf "%s\\n" "$word"; done > {tmp_path}/words; env > {tmp_path}/env'
    path.write_text(f"#!/bin/sh\n{said}\n{more}\n")
    path.chmod(0o755)
    return path


def rings(bell: CodexQueue, conversation: str) -> None:
    assert trio.run(bell.ring, conversation, LINE), "nothing is left to be rung for"


def test_codex_is_asked_to_queue_the_line_for_the_thread_and_to_resume_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEX_SECRET", "x")
    rings(CodexQueue(str(program(tmp_path)), REMOTE), "019-a")
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["queue", "--thread", "019-a", "--message", LINE, "--resume", "--remote", REMOTE]
    assert "CODEX_SECRET" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("thread", ["", "--help", "a b", "a\nb", "../x", "x" * 200, "-"])
def test_a_thread_that_is_none_is_passed_to_no_program(tmp_path: Path, thread: str) -> None:
    rings(CodexQueue(str(program(tmp_path)), REMOTE), thread)
    assert not (tmp_path / "words").exists()


def test_a_program_that_fails_hangs_or_is_not_there_costs_one_wake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rings(CodexQueue(str(program(tmp_path, "echo CANARY >&2; exit 3")), REMOTE), "t")
    assert "status 3" in caplog.text
    rings(CodexQueue(str(tmp_path / "absent"), REMOTE), "t")
    assert "does not start" in caplog.text
    monkeypatch.setattr(ringing, "RING_S", 0.2)
    rings(CodexQueue(str(program(tmp_path, "exec sleep 600")), REMOTE), "t")
    assert "did not end" in caplog.text
    assert "CANARY" not in caplog.text
    assert ROOM not in caplog.text


def test_there_is_a_bell_where_the_person_set_up_both_of_its_settings() -> None:
    assert bells(Settings()) == {}
    assert bells(Settings(wake_codex_program="/opt/codex")) == {}
    assert list(bells(Settings(wake_codex_program="/opt/codex", wake_codex_remote=REMOTE))) == ["codex"]
    assert list(bells(Settings(wake_opencode_server="http://127.0.0.1:1"))) == ["opencode"]
    assert list(bells(Settings(wake_kilo_server="http://127.0.0.1:1"))) == ["kilo"]
