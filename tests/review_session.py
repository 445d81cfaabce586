"""Faults found by a review: several conversations in one process."""

from __future__ import annotations

import json

import trio

from mcp_server.session import MAX_CONVERSATIONS
from mcp_server.window import REPLAY_SECONDS
from parlerd.operations import types as t
from tests.support.fake_mcp_engine import FakeMcpEngine, caller, hello
from tests.support.mcp_lines import HostEnd, hosted, run


async def on_thread(host: HostEnd, thread: str, tool: str, **arguments: object) -> None:
    await host.get("tools/call", {"name": tool, "arguments": arguments, "_meta": {"threadId": thread}})


def test_a_thread_that_comes_an_hour_after_a_reconnect_repeats_no_request_of_before() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        params = {"name": "parler_send", "arguments": {"text": "yes"}, "_meta": {"threadId": "t-2"}}
        lost = json.dumps({"jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params}).encode()
        async with hosted(engine, hello(unanswered=(lost,), reconnect=True), caller(host="codex")) as host:
            await host.begin()
            await on_thread(host, "t-1", "parler_recv")
            await trio.sleep(6 * REPLAY_SECONDS)
            await on_thread(host, "t-2", "parler_send", text="yes")
            (send,) = engine.made("message.send")
            assert isinstance(send, t.Send)
            assert send.key is not None
            assert not send.key.endswith(":900")

    run(main)


def test_a_process_keeps_no_more_conversations_than_it_serves() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, who=caller(host="codex")) as host:
            await host.begin()
            for n in range(MAX_CONVERSATIONS + 20):
                await on_thread(host, f"t-{n}", "parler_recv")
            assert len(host.caller.siblings) <= MAX_CONVERSATIONS

    run(main)
