"""What happens in a room as a stream: what is told, where it goes on, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.testing

from parlerd.operations import types as t
from parlerd.web.events import BREATH_S
from tests.support.engine import Party, Served, engine_world, run
from tests.support.http import Client, OverHttp, minted, over_http
from tests.support.room_state import put


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
    token: str
    id: str

    async def follow(self, after: str = "") -> Stream:
        client = self.web.connect()
        headers = {"Last-Event-ID": after} if after else {}
        await client.begin(f"GET /v1/rooms/{self.room}/events", token=self.token, headers=headers)
        return Stream(client)

    async def revoke(self) -> None:
        await self.bob.ask("token.revoke", t.RevokeToken(id=self.id), t.RevokedToken)


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with engine_world() as home, over_http(home) as web:
        alice, bob = await home.room("alice", "bob")
        token = await minted(bob)
        yield House(home, web, alice, bob, token.info.room, token.token, token.info.id)


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
                late = [event.data for event in await (await at.follow(after)).upto("end") if event.name == "message"]
                assert [each["text"] for each in late] == missed
                after = f"{late[0]['seq']}."

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


@pytest.mark.parametrize("after", ["x", "12", "x.y", "-1.", "9999999999999999.", "1.%%", "."])
def test_an_id_that_is_none_is_refused_or_begins_anew(after: str) -> None:
    async def main() -> None:
        async with house() as at:
            stream = await at.follow(after)
            if after in (".",):
                assert (await stream.next()).name == "hello"
            elif after == "1.%%":
                assert (await stream.upto("end"))[-1].data["error"]["code"] == "invalid_param"
            else:
                answer = await stream.client.answer()
                assert (answer.status, answer.code) == (400, "invalid_param")

    run(main)


def test_whoever_follows_and_reads_nothing_is_followed_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with house() as at:
            token, _ = await at.home.engine.bearers.caller_of(at.token, at.bob.caller)
            mine, its = trio.testing.lockstep_stream_pair()
            at.web.nursery.start_soon(at.web.door.visit, its)
            client = Client(mine)
            await client.begin(f"GET /v1/rooms/{at.room}/events", token=at.token)
            assert b"hello" in await client.piece()
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
