"""Two agents in one session, over everything that is real: the library's own client, the shim, the daemon, the
database.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import mcp_types as types
import pytest
import trio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_server import static
from mcp_server.heard import Heard
from parlerd.client import connect
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.mcp_windows import Agent as Window
from tests.support.mcp_windows import texts

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


def room_id(home: Home, agent: str) -> str:
    """The id of the one room of an agent, which no text for a model has."""
    with connect(home, as_name=agent, start=False) as client:
        listed = client.call("rooms.list", t.ListRooms())
    assert isinstance(listed, t.RoomList)
    (room,) = listed.rooms
    return room.room


class Agent(Window):
    """One agent window, whose person types `code` into forms."""

    code = ""


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
        assert "type the code that its own window shows" in params.message
        assert isinstance(params, types.ElicitRequestFormParams)
        assert "the 4 characters" in json.dumps(params.requested_schema)
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
    assert opened.session_key
    pending = await bob.call("parler_join_session", key=opened.session_key)
    assert (pending.status, pending.parts) == ("pending", [])
    assert "PKCE" not in pending.text
    alice.code = pending.join_code
    decision = (await alice.call("parler_approve")).decision
    assert decision is not None
    assert (decision.admitted, decision.by_person) == (True, True)
    joined = await bob.call("parler_join_session", key=opened.session_key, wait_secs=20)
    assert joined.status == "joined"
    assert texts(joined) == ["Chose PKCE.\nLeft: rotation."]
    assert joined.room == opened.room == "auth-redesign"
    return joined.room


def test_two_agents_meet_talk_and_hand_over(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            listed = await alice.session.list_tools()
            table = json.loads(static.raw()["tools/list"])["tools"]
            assert [tool.name for tool in listed.tools] == [tool["name"] for tool in table]
            assert [tool.name for tool in listed.tools if tool.output_schema is not None] == []

            room = await come_together(alice, bob)
            assert texts(await bob.call("parler_recv")) == []

            async with trio.open_nursery() as nursery:
                heard: list[Heard] = []

                async def wait() -> None:
                    heard.append(await bob.call("parler_recv", wait_secs=20))

                nursery.start_soon(wait)
                sent = await alice.call("parler_send", text="who takes rotation?")
            assert texts(heard[0]) == ["who takes rotation?"]
            assert heard[0].seqs == [sent.sent]
            assert heard[0].messages[0].verified
            assert heard[0].messages[0].author == "claude-code@one"

            await bob.call("parler_send", text="I do", reply_to=sent.sent)
            await bob.call("parler_handoff", next="review it", state="rotation done")
            news = await alice.call("parler_send", text="thanks")
            assert [message.reply_to for message in news.messages] == [sent.sent, 0]
            assert [message.turn_to for message in news.messages] == ["", "anyone"]
            assert texts(news) == ["I do", "review it"]
            assert news.further(news.seqs[1], "state") == "rotation done"

            why = await alice.call("parler_rooms", action="why", id=sent.sent)
            assert [(reader.name, "acted" in reader.words) for reader in why.entries] == [("codex@two", True)]
            rooms = await bob.call("parler_rooms")
            assert [one.name for one in rooms.entries] == [room]
            assert {"2 members", "active"} <= set(rooms.entries[0].facts)
            roster = await bob.call("parler_rooms", action="roster")
            hosts = {"claude-code", "codex"}
            assert {fact for member in roster.entries for fact in member.facts} & hosts == hosts

            read = await bob.session.read_resource(f"parler://room/{room}/messages")
            assert isinstance(read.contents[0], types.TextResourceContents)
            assert "who takes rotation?" in read.contents[0].text

    trio.run(main)


def test_an_agent_writes_to_another_by_its_name_and_is_answered_without_any_session(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            unknown = await alice.refused("parler_send", to="codex@two", text="got a minute?")
            assert unknown.error == "no_such_agent"
            assert "parler_discover" in unknown.said
            await bob.call("parler_discover", action="register", visibility="public")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(alice.call, "parler_send", to="codex@two", text="got a minute?"))
                waited = await bob.insist("parler_recv", wait_secs=20)
                while not waited.texts:
                    waited = await bob.insist("parler_recv", wait_secs=20)
            assert texts(waited) == ["got a minute?"]
            assert "dm/claude-code@one/codex@two" in alice.heard[-1]
            assert "for you two alone" in alice.heard[-1]
            await bob.call("parler_send", text="yes", reply_to=waited.seqs[0])
            assert texts(await alice.call("parler_recv", wait_secs=20)) == ["yes"]
            again = await bob.call("parler_send", to="claude-code@one", text="and now?")
            assert "for you two alone" not in again.said
            (room,) = (await alice.call("parler_rooms")).entries
            assert "2 members" in room.facts
            wrong = await bob.refused("parler_discover", action="register", direct="never")
            assert wrong.error == "invalid_param"
            asks = await bob.call("parler_discover", action="register", direct="ask")
            assert "its person is asked before you reach it directly" in asks.said

    trio.run(main)


def test_a_killed_daemon_loses_and_doubles_nothing_and_everyone_is_who_they_were(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            await come_together(alice, bob)
            before = {member.name for member in (await bob.call("parler_rooms", action="roster")).entries}
            assert before == {"claude-code@one", "codex@two"}
            said: list[str] = []
            heard: dict[int, str] = {}
            for number in range(12):
                if number in (3, 7):
                    os.kill(daemon_pid(home), signal.SIGKILL)
                text = f"message {number}"
                said.append(text)
                await alice.insist("parler_send", text=text)
                got = await bob.insist("parler_recv", wait_secs=20)
                # A page that no call followed before the kill is shown again; by its numbers it is known as the same.
                heard.update(zip(got.seqs, texts(got), strict=True))
            assert list(heard.values()) == said
            after = {member.name for member in (await bob.call("parler_rooms", action="roster")).entries}
            assert after == before

    trio.run(main)


def test_a_wait_that_the_daemons_death_cut_short_is_told_and_can_be_made_again(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as bob:
            await come_together(alice, bob)
            cut: list[Heard] = []

            async def wait() -> None:
                cut.append(await bob.call("parler_recv", wait_secs=50))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                # Bob is seen to wait: then the call is under way.
                while True:
                    roster = await alice.call("parler_rooms", action="roster")
                    if "waiting" in {fact for member in roster.entries for fact in member.facts}:
                        break
                os.kill(daemon_pid(home), signal.SIGKILL)
            assert cut[0].error == "connection_lost"
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
            assert page.left_out is not None
            assert page.left_out_call is not None
            assert len(page.text.encode()) < 8_700
            back = await bob.call("parler_recv", room=room, since=page.left_out[0] - 1)
            assert texts(back)[0] == "message 0"
            assert texts(await bob.call("parler_recv", **page.left_out_call)) == texts(back)
            assert texts(await bob.call("parler_recv")) == []
            await alice.call("parler_send", text="one more")
            assert texts(await bob.call("parler_recv")) == ["one more"]

    trio.run(main)


def test_the_key_in_the_environment_knocks_and_the_notice_tells_what_becomes_of_it(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice:
            opened = await alice.call("parler_open_session", topic="auth", context="the recap")
            async with agent(home, "codex", "two", PARLER_SESSION_KEY=opened.session_key) as bob:
                first = await bob.call("parler_rooms")
                assert "You wait to be let into a session" in first.said
                alice.code = first.join_code
                decision = (await alice.call("parler_approve")).decision
                assert decision is not None
                assert decision.admitted
                told = await bob.call("parler_rooms")
                assert "you were let into 'auth'" in told.news
                assert texts(await bob.call("parler_recv")) == ["the recap"]

    trio.run(main)


def test_an_outsider_learns_nothing_of_a_room(home: Home) -> None:
    async def main() -> None:
        async with agent(home, "claude-code", "one") as alice, agent(home, "codex", "two") as eve:
            opened = await alice.call("parler_open_session", topic="auth", context="the recap")
            room = room_id(home, opened.you)
            for tool, arguments in (
                ("parler_recv", {"room": room}),
                ("parler_recv", {"room": opened.room}),
                ("parler_send", {"room": room, "text": "hello"}),
                ("parler_rooms", {"action": "roster", "room": room}),
            ):
                refused = await eve.refused(tool, **arguments)
                assert refused.error == "no_such_room"
                assert "recap" not in refused.text
            assert (await eve.call("parler_rooms")).entries == []
            assert (await eve.refused("parler_join_session", key="AAAAAAAA")).error == "unknown_key"

    trio.run(main)
