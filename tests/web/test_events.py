"""What happens in a room as a stream: what is told, where it goes on, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from parlerd.core.model import MIN_LEASE_MS
from parlerd.engine.telling import BEHIND
from parlerd.operations import types as t
from parlerd.web.streaming import BREATH_S
from tests.support.engine import Party, Served, SteppedClock, engine_world, run
from tests.support.http import Client, OverHttp, minted, over_http
from tests.support.room_state import put
from tests.uplink.test_relayed import meeting_in


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: Any


class Stream:
    """A client of a stream, which reads one event after another."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._text = b""

    async def next(self) -> Event:
        while True:
            while b"\n\n" not in self._text:
                piece = await self.client.piece()
                assert piece, "the stream ended"
                self._text += piece
            told, _, self._text = self._text.partition(b"\n\n")
            if told.startswith(b":"):
                continue
            fields = dict(line.split(": ", 1) for line in told.decode().split("\n"))
            return Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))

    async def upto(self, name: str) -> list[Event]:
        """The events up to the first of this name."""
        found = [await self.next()]
        while found[-1].name != name:
            found.append(await self.next())
        return found


@dataclass
class House:
    """Alice and bob in a room, and bob's token for it."""

    home: Served
    web: OverHttp
    alice: Party
    bob: Party
    room: str
    key: str | None
    token: str
    id: str

    async def follow(self, after: str = "", token: str = "") -> Stream:
        client = self.web.connect()
        headers = {"Last-Event-ID": after} if after else {}
        await client.begin(f"GET /v1/rooms/{self.room}/events", token=token or self.token, headers=headers)
        return Stream(client)

    async def read(self, what: str, token: str = "") -> Any:
        """What a read of the room says."""
        return (await self.web.ask(f"GET /v1/rooms/{self.room}/{what}", token=token or self.token)).document

    async def revoke(self) -> None:
        await self.bob.ask("token.revoke", t.RevokeToken(id=self.id), t.RevokedToken)


@asynccontextmanager
async def house(**about: Any) -> AsyncIterator[House]:
    async with engine_world(**about) as home, over_http(home) as web:
        alice, bob = await home.agent("alice"), await home.agent("bob")
        opened = await alice.open()
        await home.admit(opened, bob)
        token = await minted(bob)
        yield House(home, web, alice, bob, opened.room, opened.session_key, token.token, token.info.id)


def test_messages_changes_and_who_comes_are_told_as_reads_say_them() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            hello = await stream.next()
            assert (hello.name, hello.data["room"]) == ("hello", at.room)
            await at.alice.send("live")
            message = (await stream.upto("message"))[-1]
            assert (message.data["text"], message.data["author"]["name"]) == ("live", "alice")
            await put(at.alice, "turn", {"n": 1})
            change = (await stream.upto("state"))[-1]
            assert (change.data["key"], change.data["value"], change.data["updated_by"]) == ("turn", {"n": 1}, "alice")
            await at.alice.ask("room.role", t.GiveRole(agent="bob", role="helper"), t.RoleOfMember)
            role = (await stream.upto("roster"))[-1]
            assert (role.data["event"], role.data["agent"], role.data["role"]) == ("role", "bob", "helper")
            # To follow is not to acknowledge.
            assert [each.text for each in (await at.bob.recv(peek=True)).messages] == ["live"]

    run(main)


def test_a_task_is_told_as_the_board_has_it() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await stream.next()
            task = await at.alice.send("wire the login", kind="task")
            # That it is there a message says.
            assert (await stream.next()).data["kind"] == "task"
            held = await at.bob.ask("task.claim", t.ClaimTask(id=task.id), t.TaskHeld)
            claimed = await stream.next()
            assert claimed.name == "claim"
            [on_board] = (await at.read("board"))["tasks"]
            assert claimed.data == on_board
            assert (on_board["holder"], on_board["status"], on_board["lease_until"]) == (
                "bob",
                "claimed",
                held.lease_until,
            )
            await at.bob.ask("task.release", t.ReleaseTask(id=task.id), t.TaskHeld)
            assert (await stream.upto("claim"))[-1].data == (await at.read("board"))["tasks"][0]
            held = await at.bob.ask("task.claim", t.ClaimTask(id=task.id), t.TaskHeld)
            await at.bob.ask("task.complete", t.CompleteTask(id=task.id, fence=held.fence or 0), t.TaskHeld)
            over = [event.data for event in await stream.upto("claim") + await stream.upto("claim")][-1]
            assert (over["id"], over["status"], over["holder"]) == (task.id, "done", "")
            assert (await at.read("board"))["tasks"] == []

    run(main)


def test_a_lease_that_ends_is_told() -> None:
    async def main() -> None:
        async with house(clock=SteppedClock()) as at:
            stream = await at.follow(token=(await minted(at.alice)).token)
            await stream.next()
            task = await at.alice.send("wire the login", kind="task")
            await at.bob.ask("task.claim", t.ClaimTask(id=task.id, lease_ms=MIN_LEASE_MS), t.TaskHeld)
            assert (await stream.upto("claim"))[-1].data["holder"] == "bob"
            await at.revoke()
            await at.home.leave(at.bob)
            ended = (await stream.upto("claim"))[-1]
            assert (ended.data["id"], ended.data["holder"], ended.data["status"]) == (task.id, "", "open")

    run(main)


def test_presence_is_told_as_the_roster_has_it_and_only_where_it_changed() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await stream.next()
            carol = await at.home.agent("carol")
            await at.home.admit(await at.alice.open("another room", "ctx"), carol)
            await carol.ask("agent.presence", t.StatePresence(status="busy"), t.PresenceIs)
            # She is in another room: the next event is not of her.
            await at.alice.ask("agent.presence", t.StatePresence(status="busy", text="tests"), t.PresenceIs)
            told = await stream.next()
            assert told.name == "presence"
            roster = {each["name"]: each for each in (await at.read("agents"))["members"]}
            assert told.data == roster["alice"]
            assert (told.data["stated"]["status"], told.data["stated"]["text"]) == ("busy", "tests")
            await at.home.leave(at.alice)
            gone = await stream.next()
            assert (gone.name, gone.data["name"], gone.data["presence"]) == ("presence", "alice", "offline")
            # To wait and to act again is no event.
            await at.bob.recv(room=at.room, wait=1)
            await at.bob.send("still here", room=at.room)
            assert (await stream.next()).name == "message"

    run(main)


def test_a_knock_is_told_to_whoever_may_decide_about_it_and_to_nobody_else() -> None:
    async def main() -> None:
        async with house() as at:
            owner = (await minted(at.alice)).token
            own, other = await at.follow(token=owner), await at.follow()
            await own.next(), await other.next()
            dan = await at.home.agent("dan")
            await dan.join(at.key)
            knock = (await own.upto("request"))[-1]
            assert [knock.data] == (await at.read("requests", owner))["requests"]
            assert (knock.data["name"], knock.data["room"]) == ("dan", at.room)
            await at.alice.send("after the knock")
            told = await other.upto("message")
            assert [event.name for event in told] == ["message"]
            await (await at.home.person()).deny("dan")
            denied = (await own.upto("roster"))[-1]
            assert (denied.data["event"], denied.data["agent"]) == ("denied", "dan")
            await at.alice.send("after the answer")
            assert [event.name for event in await other.upto("message")] == ["message"]
            # What was decided meanwhile waits no more.
            again = await at.follow(knock.id, token=owner)
            assert "request" not in [event.name for event in await again.upto("message")]

    run(main)


@pytest.mark.parametrize("missed", [BEHIND, BEHIND + 1])
def test_whoever_is_too_far_behind_is_told_where_the_reads_go_on(missed: int) -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await at.alice.send("seen")
            seen = (await stream.upto("message"))[-1]
            await stream.client.stream.aclose()
            for number in range(missed - 1):
                await at.alice.send(f"number {number}")
            await put(at.alice, "turn", 1)
            again = await at.follow(seen.id)
            assert (await again.next()).name == "hello"
            if missed == BEHIND:
                told = [await again.next() for _ in range(missed)]
                assert [event.name for event in told] == ["message"] * (missed - 1) + ["state"]
            else:
                resync = await again.next()
                assert (resync.name, resync.data["since"]) == ("resync", seen.data["seq"])
                page = await at.read(f"messages?since={resync.data['since']}&limit=500")
                assert [each["text"] for each in page["messages"]] == [f"number {n}" for n in range(missed - 1)]
                changes = await at.read(f"state/changes?after={resync.data['after']}&wait_ms=0")
                assert [each["key"] for each in changes["changes"]] == ["turn"]
                # Its id is behind what it left out.
                await again.client.stream.aclose()
                again = await at.follow(resync.id)
                assert (await again.next()).name == "hello"
            await at.alice.send("what follows")
            assert (await again.next()).data["text"] == "what follows"

    run(main)


def test_a_reader_that_stopped_reading_is_told_no_more_than_where_to_read_on() -> None:
    """Nothing is held for it: what it did not read when it comes again is one event."""

    async def main() -> None:
        async with house() as at:
            mine, its = trio.testing.lockstep_stream_pair()
            at.web.nursery.start_soon(at.web.door.visit, its)
            client = Client(mine)
            await client.begin(f"GET /v1/rooms/{at.room}/events", token=at.token)
            stream = Stream(client)
            await stream.next()
            for number in range(3 * BEHIND):
                await at.alice.send(f"number {number}")
            *before, resync = await stream.upto("resync")
            # What was found before it stopped was on its way.
            assert 0 < len(before) < 5
            assert resync.data["since"] == before[-1].data["seq"]
            await at.alice.send("what follows")
            assert (await stream.next()).data["text"] == "what follows"

    run(main)


@pytest.mark.parametrize("code", ["room_closed", "draining"])
def test_a_browser_that_comes_again_after_the_end_is_told_to_stop_unless_the_error_passes(code: str) -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            hello = await stream.next()
            if code == "draining":
                await at.home.engine.drain()
                end = (await stream.upto("end"))[-1]
                assert (end.data["error"]["code"], end.id) == (code, "")
                return
            await at.alice.ask("room.archive", t.ArchiveRoom(room=at.room), t.ArchivedRoom)
            end = (await stream.upto("end"))[-1]
            assert (end.data["error"]["code"], end.id) == (code, "end")
            for path in (f"rooms/{at.room}/events", "approvals/events", f"rooms/{at.room}/wait?condition=true"):
                line, headers = f"GET /v1/{path}", {"Accept": "text/event-stream", "Last-Event-ID": end.id}
                answer = await at.web.ask(line, token=at.token, headers=headers)
                assert (answer.status, answer.body) == (204, b"")
            # An earlier id is a place.
            assert (await (await at.follow(hello.id)).next()).name == "hello"

    run(main)


def test_who_came_and_went_meanwhile_is_told_to_whoever_comes_again_once() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await at.alice.send("before")
            seen = (await stream.upto("message"))[-1]
            await stream.client.stream.aclose()
            await at.alice.ask("room.role", t.GiveRole(agent="bob", role="helper"), t.RoleOfMember)
            await at.alice.send("after")
            again = await at.follow(seen.id)
            told = [await again.next() for _ in range(3)]
            # In the order in which it happened.
            assert [event.name for event in told] == ["hello", "roster", "message"]
            once = await at.follow(told[1].id)
            assert [(await once.next()).name for _ in range(2)] == ["hello", "message"]

    run(main)


def test_whoever_comes_again_is_told_what_it_missed_and_nothing_twice() -> None:
    async def main() -> None:
        async with house() as at:
            first = await at.follow()
            await first.next()
            await at.alice.send("one")
            await put(at.alice, "turn", 1)
            seen = [await first.next(), await first.next()]
            assert {event.name for event in seen} == {"message", "state"}
            await first.client.stream.aclose()
            for number in (2, 3):
                await at.alice.send(f"number {number}")
                await put(at.alice, "turn", number)
            again = await at.follow(seen[-1].id)
            assert (await again.next()).name == "hello"
            missed = [await again.next() for _ in range(4)]
            assert [event.data["text"] for event in missed if event.name == "message"] == ["number 2", "number 3"]
            assert [event.data["value"] for event in missed if event.name == "state"] == [2, 3]
            # Each event has the whole place, so that one id is enough to go on from.
            await again.client.stream.aclose()
            await at.alice.send("number 4")
            last = await at.follow(missed[-1].id)
            await last.next()
            assert (await last.next()).data["text"] == "number 4"

    run(main)


def test_what_was_not_read_yet_comes_first() -> None:
    async def main() -> None:
        async with house() as at:
            await at.alice.send("before")
            stream = await at.follow()
            assert (await stream.upto("message"))[-1].data["text"] == "before"

    run(main)


def test_a_revoked_token_ends_the_stream_and_opens_no_other() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await stream.next()
            await at.revoke()
            end = (await stream.upto("end"))[-1]
            assert end.data["error"]["code"] == "token_invalid"
            answer = await at.web.ask(f"GET /v1/rooms/{at.room}/events", token=at.token)
            assert (answer.status, answer.code) == (401, "token_invalid")

    run(main)


def test_who_leaves_is_told_nothing_more() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await stream.next()
            await at.alice.ask("room.kick", t.KickMember(agent="bob"), t.MemberGone)
            await at.alice.send("after bob")
            told = await stream.upto("end")
            assert told[-1].data["error"]["code"] == "no_such_room"
            assert "after bob" not in json.dumps([event.data for event in told])

    run(main)


def test_a_closed_room_ends_the_stream() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await stream.next()
            for text in ("one", "two", "three"):
                await at.alice.send(text)
            await at.alice.ask("room.archive", t.ArchiveRoom(room=at.room), t.ArchivedRoom)
            told = await stream.upto("end")
            assert told[-1].data["error"]["code"] == "room_closed"
            assert "parler_" not in told[-1].data["error"]["hint"]
            assert "closed" in [event.data.get("event") for event in told]
            # Whoever comes after that is told what it missed.
            after = ""
            for missed in (["one", "two", "three"], ["two", "three"]):
                late = [event for event in await (await at.follow(after)).upto("end") if event.name == "message"]
                assert [event.data["text"] for event in late] == missed
                after = late[0].id

    run(main)


def test_a_client_that_is_gone_is_followed_no_more() -> None:
    async def main() -> None:
        async with house() as at:
            token, _ = await at.home.engine.bearers.caller_of(at.token, at.bob.caller)
            stream = await at.follow()
            await stream.next()
            assert at.home.engine.bearers.count(token) == 1
            await stream.client.stream.aclose()
            await trio.sleep(1)
            assert at.home.engine.bearers.count(token) == 0

    run(main)


def test_a_silent_stream_breathes() -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow()
            await stream.next()
            began = trio.current_time()
            assert await stream.client.piece() == b":\n\n"
            assert trio.current_time() - began >= BREATH_S

    run(main)


@pytest.mark.parametrize("after", ["x", "12", "x.y", "-1.", "9999999999999999.", "1.%%", "AAAA"])
def test_an_id_that_was_told_nobody_ends_the_stream(after: str) -> None:
    async def main() -> None:
        async with house() as at:
            end = await (await at.follow(after)).next()
            assert (end.name, end.data["error"]["code"]) == ("end", "invalid_param")

    run(main)


def test_whoever_follows_and_reads_nothing_is_followed_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with house() as at:
            token, _ = await at.home.engine.bearers.caller_of(at.token, at.bob.caller)
            mine, its = trio.testing.lockstep_stream_pair()
            at.web.nursery.start_soon(at.web.door.visit, its)
            client = Client(mine)
            await client.begin(f"GET /v1/rooms/{at.room}/events", token=at.token)
            assert (await Stream(client).next()).name == "hello"
            await trio.sleep(1)
            assert at.home.engine.bearers.count(token) == 1
            # The next piece is never read.
            await at.alice.send("x" * 1_000)
            await trio.sleep(60)
            assert at.home.engine.bearers.count(token) == 0
            assert caplog.records == []

    run(main)


def test_a_stream_of_another_kind_ends_with_its_token() -> None:
    async def main() -> None:
        async with house() as at:
            client = at.web.connect()
            await client.begin("GET /v1/approvals/events", token=at.token)
            stream = Stream(client)
            assert (await stream.next()).name == "item"
            await at.revoke()
            end = await stream.next()
            assert (end.name, end.data["error"]["code"]) == ("end", "token_invalid")

    run(main)


def test_a_condition_is_waited_for_without_an_end() -> None:
    async def main() -> None:
        async with house() as at:
            client = at.web.connect()
            line = f"GET /v1/rooms/{at.room}/wait?condition=has(state._shared.go)"
            await client.begin(line, token=at.token, headers={"Accept": "text/event-stream"})
            await trio.sleep(300)
            await put(at.alice, "go", True)
            event = await Stream(client).next()
            assert (event.name, event.data["triggered"]) == ("wait", True)
            assert await client.piece() == b""
            # The connection serves the next request.
            assert (await client.ask("GET /v1/me", token=at.token)).status == 200
            broken = at.web.connect()
            await broken.begin(line + "%20%2B", token=at.token, headers={"Accept": "text/event-stream"})
            end = await Stream(broken).next()
            assert (end.name, end.data["error"]["code"]) == ("end", "expression_invalid")

    run(main)


def test_the_state_of_a_room_elsewhere_is_told_by_its_home(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            room = meeting.opened.room
            async with over_http(ben) as web:
                token = await minted(meeting.bob, room=room, here=True)

                async def follow(after: str = "") -> Stream:
                    client, headers = web.connect(), {"Last-Event-ID": after} if after else {}
                    await client.begin(f"GET /v1/rooms/{room}/events", token=token.token, headers=headers)
                    return Stream(client)

                stream = await follow()
                assert (await stream.next()).data["home"] != "local"
                await trio.sleep(1)
                await put(meeting.alice, "turn", 1, room=room)
                change = (await stream.upto("state"))[-1]
                assert (change.data["key"], change.data["value"]) == ("turn", 1)
                await meeting.alice.send("hello", room=room)
                message = (await stream.upto("message"))[-1]
                await meeting.alice.ask("agent.presence", t.StatePresence(status="busy", text="tests"), t.PresenceIs)
                presence = (await stream.upto("presence"))[-1]
                while "stated" not in presence.data:
                    presence = (await stream.upto("presence"))[-1]
                assert (presence.data["name"], presence.data["stated"]["text"]) == ("alice", "tests")
                await stream.client.stream.aclose()
                await put(meeting.alice, "turn", 2, room=room)
                await meeting.alice.send("again", room=room)
                again = await follow(message.id)
                told = [await again.next() for _ in range(3)]
                assert {event.name for event in told} == {"hello", "message", "state"}
                assert [event.data["value"] for event in told if event.name == "state"] == [2]
                assert [event.data["text"] for event in told if event.name == "message"] == ["again"]

    run(main)
