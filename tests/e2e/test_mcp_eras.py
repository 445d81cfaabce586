"""Both eras of the protocol over everything that is real: the library's own client, the shim of a home, the daemon."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import mcp_types as types
import pytest
import trio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.subscriptions import Subscription

from mcp_server.heard import Heard
from parlerd.operations.tools import TOOLS
from tests.support.mcp_windows import heard_in, texts
from tests.support.processes import PATIENCE_S, Somebody

pytestmark = pytest.mark.e2e

Mode = Literal["legacy", "auto"]


def sets(somebody: Somebody, era: str, *, asks: bool = True) -> None:
    """The person's choice, made before a daemon runs; without `asks`, whoever knocks is let in."""
    somebody.home.root.mkdir(mode=0o700, exist_ok=True)
    somebody.home.settings.write_text(f'[mcp]\nera = "{era}"\n[approval]\ndefault = {str(asks).lower()}\n')
    somebody.home.settings.chmod(0o600)
    somebody.asks("daemon", "start")


@asynccontextmanager
async def client(
    somebody: Somebody, mode: Mode = "auto", *, name: str = "host", form: Any = None
) -> AsyncIterator[Client]:
    place = somebody.user / name
    place.mkdir(exist_ok=True)
    shim = str(somebody.home.shim)
    server = StdioServerParameters(
        command=sys.executable,
        args=["-I", "-S", shim, "--host", name, "--home", str(somebody.home.root)],
        env=somebody.environment(),
        cwd=str(place),
    )
    with trio.fail_after(2 * PATIENCE_S):
        async with Client(stdio_client(server), mode=mode, elicitation_callback=form) as found:
            yield found


async def call(host: Client, tool: str, **arguments: Any) -> Heard:
    return heard_in(await host.call_tool(tool, arguments))


@pytest.mark.parametrize(
    ("era", "mode", "version"),
    [
        ("legacy", "legacy", "2025-11-25"),
        ("legacy", "auto", "2025-11-25"),
        ("modern", "auto", "2026-07-28"),
        ("modern", "legacy", "2025-11-25"),
    ],
)
def test_a_host_gets_the_era_that_is_set_if_it_asks_for_one(
    somebody: Somebody, era: str, mode: Mode, version: str
) -> None:
    sets(somebody, era)

    async def main() -> None:
        async with client(somebody, mode) as host:
            assert host.protocol_version == version
            assert [tool.name for tool in (await host.list_tools()).tools] == list(TOOLS)
            rooms = await call(host, "parler_rooms", action="list")
            assert rooms.entries == []
            assert "You are in no room." in rooms.said
            prompt = await host.get_prompt("catch-up")
            assert isinstance(prompt.messages[0].content, types.TextContent)
            assert "parler_recv" in prompt.messages[0].content.text

    trio.run(main)


def test_a_person_admits_by_the_code_in_a_form_inside_an_answer(somebody: Somebody) -> None:
    sets(somebody, "modern")
    codes: list[str] = ["", "0000"]

    async def person(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"code": codes.pop(0)})

    async def main() -> None:
        async with client(somebody, name="alice", form=person) as alice, client(somebody, name="bob") as bob:
            opened = await call(alice, "parler_open_session", topic="auth", context="the recap")
            knock = await call(bob, "parler_join_session", key=opened.session_key, wait_secs=0)
            assert knock.status == "pending"
            codes.append(knock.join_code)
            for _ in range(2):
                undecided = await call(alice, "parler_approve")
                assert undecided.error == "form_undecided"
            decision = (await call(alice, "parler_approve")).decision
            assert decision is not None
            assert decision.admitted
            assert (await call(bob, "parler_join_session", key=opened.session_key, wait_secs=0)).status == "joined"

    trio.run(main)


def test_a_stream_tells_of_a_message_and_outlives_the_daemon(somebody: Somebody) -> None:
    sets(somebody, "modern", asks=False)

    async def told(stream: Subscription) -> str:
        return str(getattr(await stream.__anext__(), "uri", ""))

    async def main() -> None:
        async with client(somebody, name="alice") as alice, client(somebody, name="bob") as bob:
            opened = await call(alice, "parler_open_session", topic="auth", context="the recap")
            assert (await call(bob, "parler_join_session", key=opened.session_key, wait_secs=0)).status == "joined"
            uri = f"parler://room/{opened.room}/messages"
            async with alice.listen(resource_subscriptions=[uri]) as stream:
                assert (await call(bob, "parler_send", text="one")).sent == 2
                assert await told(stream) == uri
                await trio.to_thread.run_sync(lambda: somebody.runs("daemon", "restart"))
                assert await told(stream) == uri, "what may have changed meanwhile"
                assert (await call(bob, "parler_send", text="two")).sent == 3
                assert await told(stream) == uri
            page = await call(alice, "parler_recv", wait_secs=0)
            assert texts(page)[-2:] == ["one", "two"]

    trio.run(main)
