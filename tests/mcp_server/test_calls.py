"""Tool calls that need no library: answered beside it, once or not at all, as it would answer them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mcp_server.calls import Calls
from parlerd.operations.tools import TOOLS
from tests.support.fake_mcp_engine import FakeMcpEngine
from tests.support.mcp_lines import hosted, run


def taken(*asked: object) -> list[bool]:
    """Which of these params of a `tools/call` are answered here."""
    found: list[bool] = []

    async def test(engine: FakeMcpEngine) -> None:
        async def answer(id: str | int, result: bytes) -> None:
            raise AssertionError("nothing was asked")

        async def progress(token: str | int, times: int) -> None:
            raise AssertionError("nothing was asked")

        calls = Calls(answer, progress)
        found.extend(calls.takes(1, params) for params in asked)
        await trio.lowlevel.checkpoint()

    run(test)
    return found


def test_what_shows_a_form_is_left_to_the_library() -> None:
    names = list(TOOLS)
    answered = taken(*({"name": name} for name in names))
    assert [name for name, here in zip(names, answered, strict=True) if not here] == ["parler_approve"]


def test_what_is_irregular_is_left_to_the_library_to_refuse() -> None:
    irregular: list[object] = [
        None,
        [],
        {},
        {"name": 7},
        {"name": ["parler_send"]},
        {"name": "no_such_tool"},
        {"name": "parler_send", "arguments": []},
    ]
    assert taken(*irregular) == [False] * len(irregular)


def test_the_library_and_the_short_way_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        answers = []
        for short in (True, False):
            if not short:
                monkeypatch.setattr(Calls, "takes", lambda *_: False)
            async with hosted(engine) as host:
                await host.begin()
                answers.append(await host.call("parler_recv"))
                answers.append(await host.call("parler_send", text="hello", kind=7))
        assert answers[0] == answers[2]
        assert answers[1] == answers[3]
        assert answers[1]["isError"] is True

    run(test)


def test_a_withdrawn_call_is_not_answered_and_its_id_may_come_again() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            waiting = await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 40}})
            await trio.testing.wait_all_tasks_blocked()
            await host.tell("notifications/cancelled", {"requestId": waiting})
            await host.tell("notifications/cancelled", {"requestId": "never asked"})
            assert (await host.call("parler_recv"))["isError"] is False
            assert not host.aside
            again = {"name": "parler_recv", "arguments": {}}
            await host.say({"jsonrpc": "2.0", "id": waiting, "method": "tools/call", "params": again})
            assert (await host.answer_to(waiting))["result"]["isError"] is False

    run(test)
