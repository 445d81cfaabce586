"""When the MCP library runs for a connection, and what it hears."""

from __future__ import annotations

import pytest

from mcp_server import library
from mcp_server.conversations import Shared
from mcp_server.session import METHOD_NOT_FOUND, McpHost
from tests.support.fake_mcp_engine import FakeMcpEngine
from tests.support.mcp_lines import heard_in, hosted, run


def test_the_library_is_loaded_once_for_all_windows() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        host = McpHost(Shared(engine))
        assert await host.load() is await host.load()

    run(main)


def test_the_library_is_not_loaded_for_what_every_window_asks() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, is_loaded=False) as host:
            await host.begin()
            for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "ping"):
                assert "result" in await host.get(method)
            assert heard_in(await host.call("parler_recv")).error == ""
            assert (await host.get("logging/setLevel", {"level": "debug"}))["error"]["code"] == METHOD_NOT_FOUND
            await host.say({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
            assert (await host.get("ping"))["result"] == {}
            assert not host.server.is_loaded

    run(main)


@pytest.mark.parametrize("again", [False, True])
def test_the_library_is_loaded_by_the_first_request_that_it_answers_and_hears_of_the_handshake(again: bool) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, is_loaded=False) as host:
            await host.begin()
            if again:
                await host.begin()
            asked = await host.get("resources/read", {"uri": "parler://guide"})
            assert asked["result"]["contents"][0]["uri"] == "parler://guide"
            assert host.server.is_loaded
            # The library answered the handshake too, and the host heard of that once.
            assert host.aside == []
            assert (await host.get("ping"))["result"] == {}

    run(main)


def test_each_request_that_is_left_to_the_library_has_an_answer_there() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            for method in sorted(library.METHODS - {"subscriptions/listen"}):
                answer = await host.get(method, {"uri": "parler://rooms", "name": "parler"})
                assert answer.get("error", {}).get("code") != METHOD_NOT_FOUND, method

    run(main)
