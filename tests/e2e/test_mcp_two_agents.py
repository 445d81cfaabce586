"""Two agents in one session, over everything that is real: the library's own client, the shim, the daemon, the
database.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
import trio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_server import static
from parlerd.client import connect
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home

pytestmark = pytest.mark.e2e

SHIM = static.PATH.with_name("shim.py")


@pytest.fixture
def home() -> Iterator[Home]:
    """An empty home with a short path, and no daemon of it left behind."""
    root = Path(tempfile.mkdtemp(prefix="parler-e2e-"))
    found = Home(root / "home", explicit=True)
    try:
        yield found
    finally:
        stop(found)
        shutil.rmtree(root, ignore_errors=True)


def daemon_pid(home: Home) -> int:
    with connect(home, start=False) as client:
        status = client.call("daemon.status", t.DaemonStatus())
    assert isinstance(status, t.DaemonInfo)
    return status.pid


def stop(home: Home) -> None:
    try:
        with connect(home, start=False) as client:
            client.call("daemon.stop", t.StopDaemon())
    except ParlerError:
        return  # none runs


class Agent:
    """One agent window."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.code = ""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Structured content of a tool call, checked to be said in the text too."""
        result = await self.session.call_tool(tool, arguments)
        assert isinstance(result.content[0], types.TextContent)
        assert result.structured_content is not None
        return {**result.structured_content, "text": result.content[0].text}

    async def insist(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same, made again as it is while the answer is an error that says a retry helps."""
        while True:
            content = await self.call(tool, **arguments)
            if "error" not in content:
                return content
            assert content["error"]["retryable"], content


def texts(content: dict[str, Any]) -> list[str]:
    """The texts of messages, out of their fences."""
    return ["\n".join(message["text"].split("\n")[1:-1]) for message in content["messages"]]


@asynccontextmanager
async def agent(home: Home, host: str, workspace: str, **environment: str) -> AsyncIterator[Agent]:
    """A window of `host` in a workspace of its own, whose person types `agent.code` into forms."""
    place = home.root.parent / workspace
    place.mkdir(exist_ok=True)
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-I", "-S", str(SHIM), "--host", host, "--home", str(home.root)],
        env={"HOME": str(home.root.parent), **environment},
        cwd=str(place),
    )
    found: list[Agent] = []

    async def person(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert "4-character code" in params.message
        return types.ElicitResult(action="accept", content={"code": found[0].code})

    async with (
        stdio_client(parameters) as (read, write),
        ClientSession(read, write, elicitation_callback=person) as session,
    ):
        await session.initialize()
        found.append(Agent(session))
        yield found[0]


async def come_together(alice: Agent, bob: Agent) -> str:
    """Alice opens, Bob knocks, Alice's person admits him by the code he shows. Gives the room."""
    opened = await alice.call("parler_open_session", topic="auth-redesign", context="Chose PKCE.\nLeft: rotation.")
    assert opened["key"] in opened["text"]
    pending = await bob.call("parler_join_session", key=opened["key"])
    assert (pending["status"], pending["messages"]) == ("pending", [])
    assert "PKCE" not in json.dumps(pending)
    alice.code = pending["code"]
    decided = await alice.call("parler_approve")
    assert (decided["status"], decided["proof"]) == ("approved", "form")
    joined = await bob.call("parler_join_session", key=opened["key"], wait_secs=20)
    assert joined["status"] == "joined"
    assert texts(joined) == ["Chose PKCE.\nLeft: rotation."]
    room: str = joined["room"]
    return room


def test_two_agents_meet_talk_and_hand_over(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            listed = await alice.session.list_tools()
            table = json.loads(static.raw()["tools/list"])["tools"]
            assert [tool.name for tool in listed.tools] == [tool["name"] for tool in table]

            room = await come_together(alice, bob)
            assert texts(await bob.call("parler_recv")) == []

            async with trio.open_nursery() as nursery:
                heard: list[dict[str, Any]] = []

                async def wait() -> None:
                    heard.append(await bob.call("parler_recv", wait_secs=20))

                nursery.start_soon(wait)
                sent = await alice.call("parler_send", text="who takes rotation?")
            assert texts(heard[0]) == ["who takes rotation?"]
            assert heard[0]["messages"][0]["verified"] == "valid"
            assert heard[0]["messages"][0]["author"]["host"] == "claude-code"

            await bob.call("parler_send", text="I do", reply_to=sent["id"])
            await bob.call("parler_handoff", next="review it", summary="rotation done")
            news = await alice.call("parler_send", text="thanks")
            assert [message.get("reply_to") for message in news["messages"]] == [sent["id"], None]
            assert "review it" in news["messages"][1]["handoff"]["next"]

            why = await alice.call("parler_rooms", action="why", id=sent["id"])
            assert "acted" in json.dumps(why["readers"])
            rooms = await bob.call("parler_rooms")
            assert [(one["room"], one["members"], one["active"]) for one in rooms["rooms"]] == [(room, 2, True)]
            roster = await bob.call("parler_rooms", action="roster")
            assert {member["host"] for member in roster["members"]} == {"claude-code", "codex"}

            read = await bob.session.read_resource(f"parler://room/{room}/messages")
            assert isinstance(read.contents[0], types.TextResourceContents)
            assert "who takes rotation?" in read.contents[0].text

    trio.run(main)


def test_a_killed_daemon_loses_and_doubles_nothing_and_everyone_is_who_they_were(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            await come_together(alice, bob)
            before = {member["id"] for member in (await bob.call("parler_rooms", action="roster"))["members"]}
            said: list[str] = []
            heard: dict[str, str] = {}
            for number in range(12):
                if number in (3, 7):
                    os.kill(daemon_pid(home), signal.SIGKILL)
                text = f"message {number}"
                said.append(text)
                await alice.insist("parler_send", text=text)
                got = await bob.insist("parler_recv", wait_secs=20)
                # A page that no call followed before the kill is shown again; by its ids it is known as the same.
                heard.update(zip((message["id"] for message in got["messages"]), texts(got), strict=True))
            assert list(heard.values()) == said
            after = {member["id"] for member in (await bob.call("parler_rooms", action="roster"))["members"]}
            assert after == before

    trio.run(main)


def test_a_wait_that_the_daemons_death_cut_short_is_told_and_can_be_made_again(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            await come_together(alice, bob)
            cut: list[dict[str, Any]] = []

            async def wait() -> None:
                cut.append(await bob.call("parler_recv", wait_secs=50))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                # Bob is seen to wait: then the call is under way.
                while True:
                    roster = await alice.call("parler_rooms", action="roster")
                    if "waiting" in {member["presence"] for member in roster["members"]}:
                        break
                os.kill(daemon_pid(home), signal.SIGKILL)
            assert cut[0]["error"]["code"] == "connection_lost"
            await alice.insist("parler_send", text="still there?")
            assert texts(await bob.insist("parler_recv", wait_secs=20)) == ["still there?"]

    trio.run(main)


def test_a_window_that_closes_in_order_has_read_what_it_was_shown_and_a_killed_one_has_not(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice:
            async with agent(home, "codex", "two") as bob:
                await come_together(alice, bob)
                await alice.call("parler_send", text="first")
                assert texts(await bob.call("parler_recv", wait_secs=20)) == ["first"]
            async with agent(home, "codex", "two") as bob:
                assert texts(await bob.call("parler_recv")) == []
                await alice.call("parler_send", text="second")
                assert texts(await bob.call("parler_recv", wait_secs=20)) == ["second"]
                os.kill(daemon_pid(home), signal.SIGKILL)
                assert texts(await bob.insist("parler_recv")) == ["second"]

    trio.run(main)


def test_a_backlog_of_hundreds_comes_as_its_newest_part_and_can_be_paged(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            room = await come_together(alice, bob)
            for number in range(240):
                await alice.call("parler_send", text=f"message {number}")
            page = await bob.call("parler_recv")
            assert texts(page)[-1] == "message 239"
            assert page["truncated"] is True
            assert len(page["text"].encode()) < 20_000
            back = await bob.call("parler_recv", room=room, since=page["first_unshown"] - 1)
            assert texts(back)[0] == "message 0"
            assert texts(await bob.call("parler_recv")) == []
            await alice.call("parler_send", text="one more")
            assert texts(await bob.call("parler_recv")) == ["one more"]

    trio.run(main)


def test_the_key_in_the_environment_knocks_and_the_notice_tells_what_becomes_of_it(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice:
            opened = await alice.call("parler_open_session", topic="auth", context="the recap")
            async with agent(home, "codex", "two", PARLER_SESSION_KEY=opened["key"]) as bob:
                first = await bob.call("parler_rooms")
                found = re.search(r"code to tell them is (\w{4})", first["notice"])
                assert found is not None
                alice.code = found[1]
                assert (await alice.call("parler_approve"))["status"] == "approved"
                told = await bob.call("parler_rooms")
                assert "You are in auth now" in told["notice"]
                assert texts(await bob.call("parler_recv")) == ["the recap"]

    trio.run(main)


def test_an_outsider_learns_nothing_of_a_room(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as eve:
            opened = await alice.call("parler_open_session", topic="auth", context="the recap")
            for tool, arguments in (
                ("parler_recv", {"room": opened["room"]}),
                ("parler_send", {"room": opened["room"], "text": "hello"}),
                ("parler_rooms", {"action": "roster", "room": opened["room"]}),
            ):
                refused = await eve.call(tool, **arguments)
                assert refused["error"]["code"] == "no_such_room"
                assert "recap" not in json.dumps(refused)
            assert (await eve.call("parler_rooms"))["rooms"] == []
            unknown = await eve.call("parler_join_session", key="AAAAAAAA")
            assert unknown["error"]["code"] == "unknown_key"

    trio.run(main)
