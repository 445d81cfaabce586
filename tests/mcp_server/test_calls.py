"""Tool calls: what is irregular is refused, and a call is answered once or not at all."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mcp_server.calls import fault_of
from mcp_server.session import INVALID_PARAMS
from parlerd.operations.tools import TOOLS
from tests.support.fake_mcp_engine import FakeMcpEngine
from tests.support.mcp_lines import ENVELOPE, Json, hosted, run


def test_a_call_of_every_tool_is_answered() -> None:
    assert [fault_of({"name": name}) for name in TOOLS] == [""] * len(TOOLS)
    assert fault_of({"name": "parler_send", "arguments": None, "_meta": {"progressToken": [1]}}) == ""


@pytest.mark.parametrize("is_modern", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": 7},
        {"name": ["parler_send"]},
        {"name": "no_such_tool"},
        {"name": "parler_send", "arguments": []},
    ],
)
def test_what_is_irregular_is_refused_and_never_run(params: Json, is_modern: bool) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            if is_modern:
                answer = await host.get("tools/call", {**params, "_meta": ENVELOPE})
            else:
                await host.begin()
                answer = await host.get("tools/call", params)
        assert answer["error"]["code"] == INVALID_PARAMS
        assert engine.calls == []

    run(test)


@pytest.mark.parametrize(
    "line", [b"", b',"params":null', b',"params":[]', b',"params":{"name":"parler_recv","_meta":5}']
)
def test_parameters_that_are_no_object_are_refused(line: bytes) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            await host.say(b'{"jsonrpc":"2.0","id":9,"method":"tools/call"' + line + b"}")
            assert (await host.answer_to(9))["error"]["code"] == INVALID_PARAMS

    run(test)


def test_two_calls_under_one_id_are_both_answered() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            waiting = await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 5}})
            again = {"name": "parler_send", "arguments": {"text": "hello"}}
            await host.say({"jsonrpc": "2.0", "id": waiting, "method": "tools/call", "params": again})
            texts = [(await host.answer_to(waiting))["result"]["content"][0]["text"] for _ in range(2)]
        assert [text.split()[0] for text in texts] == ["Sent", "Nothing"]

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
