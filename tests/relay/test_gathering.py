"""Programs with a token whose rooms are at several relays: any relay answers them as a single one would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import RoomId
from parlerd.identity import tokens
from parlerd.operations import types as t
from relay.gathering import Known
from relay.leading import Leading
from relay.peers import heard_whole, told_whole
from relay.web import Face, application
from tests.support.engine import Party, run, texts
from tests.support.http import Answer, Client
from tests.support.many_relays import DEAD_S, Cluster, Node, cluster_in

ROOMS = 16
"""So many rooms that both relays have some of them: that one of two has none happens once in 30,000 times."""


class Transport:
    """A stream as the connection that a relay's door hands on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._late = b""

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some())

    def write(self, data: bytes) -> None:
        self._late += data

    async def flushed(self) -> None:
        late, self._late = self._late, b""
        await self._stream.send_all(late)

    def close(self) -> None:
        pass


class Guest:
    address = "192.0.2.99"

    def proven(self) -> None:
        pass


class Program:
    """A program with a token for rooms at several relays, which asks any of them."""

    def __init__(self, cluster: Cluster, alice: Party, room: str, minted: t.MintedToken) -> None:
        self.cluster, self.alice, self.minted, self.first = cluster, alice, minted, room
        self.rooms: list[str] = []
        """The rooms that it opened."""

    async def ask(self, node: Node, line: str, body: object = None, **rest: Any) -> Answer:
        async with self.connection(node) as client:
            return await client.ask(line, body, token=self.minted.token, **rest)

    @asynccontextmanager
    async def connection(self, node: Node) -> AsyncIterator[Client]:
        leading = leading_of(node, self.cluster)
        mine, its = trio.testing.memory_stream_pair()

        async def serve() -> None:
            transport, begun = Transport(its), b""
            while b"\r\n\r\n" not in begun:
                if not (data := await transport.receive()):
                    return
                begun += data
            try:
                await leading.visit(cast(Any, transport), begun, Guest())
            finally:
                await its.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                async with mine:
                    yield Client(mine)
            finally:
                nursery.cancel_scope.cancel()

    async def opens(self, node: Node, name: str, **rest: Any) -> str:
        opened = await self.ask(node, "POST /v1/rooms", {"name": name}, **rest)
        assert opened.status == 201, opened.document
        self.rooms.append(opened.document["room"])
        return self.rooms[-1]

    async def in_order(self, node: Node) -> list[str]:
        """All of its rooms, in the order in which the tables tell them."""
        desk = node.engine.desk
        digest = tokens.digest_of(self.minted.token)
        [agent] = {each.agent for each in desk.rooms.home.aggregate.tokens.all() if each.digest == digest}
        return list(await desk.library.my_rooms(agent))

    def room_at(self, node: Node) -> str:
        """One of its rooms that this relay has."""
        return next(room for room in self.rooms if node.holding.has(RoomId(room)))


def leading_of(node: Node, cluster: Cluster) -> Leading:
    """What answers over HTTP at a relay."""
    together, bearers = node.together, node.engine.bearers
    known = Known(bearers, together.take_in)
    web = Face(application(together.gathering, known, cluster.keys.id, cluster.folder), bearers)
    together.served.web = web
    return Leading(web, bearers, together.holding, together.peers, together.take_in, together.named)


@asynccontextmanager
async def program(folder: Path, count: int = 2, *, opens: int = ROOMS) -> AsyncIterator[tuple[Program, list[Node]]]:
    """Ann's program, which opened so many rooms at the first relay."""
    async with cluster_in(folder) as cluster:
        nodes = [cluster.relay() for _ in range(count)]
        for node in nodes:
            await cluster.start(node)
            leading_of(node, cluster)
        await cluster.settled()
        async with cluster.home("ann", nodes[0]).serving() as ann:
            alice = await ann.agent("alice")
            room = (await alice.open("a room", "hello", clear=True)).room
            minted = await alice.ask("token.mint", t.MintToken(room=room, name="ci", opens=opens), t.MintedToken)
            made = Program(cluster, alice, room, minted)
            for number in range(opens):
                await made.opens(nodes[number % count], f"build-{number}")
            if opens >= ROOMS:
                assert all(made.room_at(node) for node in nodes)
            yield made, nodes


def names(listed: Answer) -> list[str]:
    return [each["name"] for each in listed.document["rooms"]]


def heard(page: Answer) -> dict[str, list[str]]:
    """What was said in each room of an answer about all of them."""
    return {each["room"]: [said["text"] for said in each["messages"]] for each in page.document["rooms"]}


async def says(alice: Party, room: str, text: str) -> None:
    """The person's own agent says something in a room that its program opened."""
    with trio.fail_after(60):
        while True:
            try:
                await alice.send(text, room=room)
                return
            except Refused:
                # Her daemon does not follow it yet.
                await trio.sleep(0.5)


def test_a_token_opens_rooms_at_any_relay_and_a_retry_at_another_one_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            for node in nodes:
                listed = await ci.ask(node, "GET /v1/rooms")
                assert listed.status == 200, listed.document
                assert sorted(names(listed)) == sorted(["a-room", *(f"build-{number}" for number in range(ROOMS))])
                assert [each["room"] for each in listed.document["rooms"]] == await ci.in_order(node)
                used_up = await ci.ask(node, "POST /v1/rooms", {"name": "more"})
                assert used_up.code == "token_used_up"

    run(main)


def test_the_same_opening_with_the_same_key_is_the_same_room_at_any_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path, opens=8) as (ci, nodes):
            owner = next(node for node in nodes if node.holding.has(RoomId(ci.rooms[0])))
            other = next(node for node in nodes if node is not owner)
            # The first was opened at the first relay without a key of its own, so another program's minting is asked.
            minted = await ci.alice.ask("token.mint", t.MintToken(room=ci.first, name="cd", opens=2), t.MintedToken)
            cd = Program(ci.cluster, ci.alice, ci.first, minted)
            headers = {"Idempotency-Key": "once"}
            one = await cd.ask(other, "POST /v1/rooms", {"name": "again"}, headers=headers)
            two = await cd.ask(owner, "POST /v1/rooms", {"name": "again"}, headers=headers)
            assert (one.status, two.status) == (201, 200), (one.document, two.document)
            assert one.document["room"] == two.document["room"]
            assert two.document["replayed"] is True
            for node in nodes:
                assert sorted(names(await cd.ask(node, "GET /v1/rooms"))) == ["a-room", "again"]

    run(main)


def test_a_room_is_found_by_its_id_and_by_its_name_at_any_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            for number, room in enumerate(ci.rooms):
                for node in nodes:
                    for path in (f"/v1/rooms/{room}", f"/v1/rooms/build-{number}", f"/rooms/build-{number}"):
                        said = await ci.ask(node, f"POST {path}/messages", _body(path, f"{node.name} {path}"))
                        assert said.status == 201, said.document
                posted = [each for each in await _said(ci, room) if each]
                assert len(posted) == 3 * len(nodes) == len(set(posted))
            assert (await ci.ask(nodes[0], "GET /v1/rooms/nowhere/messages")).code == "no_such_room"

    run(main)


READS = (
    "messages",
    "affordances",
    "agents",
    "board",
    "state",
    "state/changes",
    "actions",
    "modules",
    "receipts",
    "llms.txt",
    "handoffs",
    "memory?query=x",
    "disclosures",
)


def test_whatever_is_read_of_one_room_is_answered_alike_at_every_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            for owner in nodes:
                room = ci.room_at(owner)
                for path in READS:
                    answers = [await ci.ask(node, f"GET /v1/rooms/{room}/{path}") for node in nodes]
                    assert [answer.status for answer in answers] == [200, 200], (path, answers[0].body)

    run(main)


def _body(path: str, text: str) -> dict[str, str]:
    return {"text": text} if path.startswith("/v1") else {"body": text}


async def _said(ci: Program, room: str) -> list[str]:
    """All that was said in a room, as the person's own agent is told it."""
    with trio.fail_after(60):
        while True:
            try:
                return texts(await ci.alice.recv(room=room))
            except ParlerError:
                await trio.sleep(0.5)


def test_what_is_new_in_all_rooms_is_told_at_any_relay_with_places_that_hold_at_any_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            for number, room in enumerate(ci.rooms):
                for text in ("first", "second"):
                    await says(ci.alice, room, f"{text} {number}")
            new = {room: [f"first {number}", f"second {number}"] for number, room in enumerate(ci.rooms)}
            page: Answer
            for node in nodes:
                page = await ci.ask(node, "GET /v1/messages")
                assert page.status == 200, page.document
                found = heard(page)
                assert {room: found[room] for room in ci.rooms} == new
                # In the order in which a single relay tells them.
                assert list(found) == [room for room in await ci.in_order(node) if room in found]
            # Each place is acknowledged at the relay that did not tell it.
            for each in page.document["rooms"]:
                done = await ci.ask(nodes[0], f"POST /v1/rooms/{each['room']}/commit", {"cursor": each["cursor"]})
                assert done.status == 200, done.document
            for node in nodes:
                assert heard(await ci.ask(node, "GET /v1/messages")) == {}

    run(main)


@pytest.mark.parametrize("asked", [0, 1])
@pytest.mark.parametrize("spoken", [0, 1])
def test_whoever_waits_for_all_rooms_is_told_of_any_of_them(tmp_path: Path, asked: int, spoken: int) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            await _all_read(ci, nodes[0])
            room = ci.room_at(nodes[spoken])
            found: list[Answer] = []

            async def wait() -> None:
                found.append(await ci.ask(nodes[asked], "GET /v1/messages?wait_ms=50000"))

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(20)
                assert not found
                await says(ci.alice, room, "now")
            assert heard(found[0]) == {room: ["now"]}
            assert trio.current_time() - began < 25

    run(main)


def test_whoever_waits_in_vain_is_told_so_when_the_time_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            await _all_read(ci, nodes[0])
            began = trio.current_time()
            page = await ci.ask(nodes[1], "GET /v1/messages?wait_ms=30000")
            assert heard(page) == {}
            assert 30 <= trio.current_time() - began < 32

    run(main)


async def _all_read(ci: Program, node: Node) -> None:
    page = await ci.ask(node, "GET /v1/messages")
    for each in page.document["rooms"]:
        await ci.ask(node, f"POST /v1/rooms/{each['room']}/commit", {"cursor": each["cursor"]})


def test_a_wait_goes_on_where_a_relay_that_it_asks_dies_and_hears_what_is_said_at_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            await _all_read(ci, nodes[0])
            room = ci.room_at(nodes[1])
            found: list[Answer] = []

            async def wait() -> None:
                found.append(await ci.ask(nodes[0], "GET /v1/messages?wait_ms=50000"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(5)
                ci.cluster.kill(nodes[1])
                await trio.sleep(DEAD_S)
                assert not found
                await says(ci.alice, room, "after")
            assert heard(found[0]) == {room: ["after"]}
            assert len((await ci.ask(nodes[0], "GET /v1/rooms")).document["rooms"]) == ROOMS + 1

    run(main)


def test_where_a_relay_lives_and_is_not_reached_the_answer_is_an_error_and_never_about_fewer_rooms(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            nodes[0].cut_from.add(nodes[1].name)
            for stream in list(nodes[0].streams):
                stream.cut()
            began = trio.current_time()
            for path in ("/v1/rooms", "/v1/messages", "/v1/requests", "/v1/sessions", "/v1/approvals"):
                answer = await ci.ask(nodes[0], f"GET {path}")
                assert (answer.status, answer.code) == (503, "home_unreachable"), path
            assert trio.current_time() - began < 5 * 20

    run(main)


def test_a_relay_that_is_alone_and_cannot_beat_shows_no_room_as_if_it_were_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path, 1, opens=2) as (ci, [node]):
            found: list[Answer] = []

            async def wait() -> None:
                found.append(await ci.ask(node, "GET /v1/messages?wait_ms=50000"))

            await _all_read(ci, node)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(1)
                node.is_mute = True
                began = trio.current_time()
            assert (found[0].status, found[0].code) == (503, "store_unreachable")
            assert trio.current_time() - began < 30
            for path in ("rooms", f"rooms/{ci.rooms[0]}/messages", "messages"):
                answer = await ci.ask(node, f"GET /v1/{path}")
                assert (answer.status, answer.code) == (503, "store_unreachable"), path
            node.is_mute = False
            await trio.sleep(5)
            assert (await ci.ask(node, "GET /v1/rooms")).status == 200

    run(main)


@pytest.mark.parametrize(
    "path", ["/v1/rooms", "/v1/messages", "/v1/requests", "/v1/sessions", "/v1/approvals", "/rooms"]
)
def test_every_question_about_all_rooms_is_answered_alike_at_every_relay(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            answers = [await ci.ask(node, f"GET {path}") for node in nodes]
            assert [answer.status for answer in answers] == [200, 200]
            documents = [json.loads(answer.body) for answer in answers]
            for document in documents:
                for each in document["rooms"] if isinstance(document, dict) and "rooms" in document else ():
                    # A place is sealed anew each time that it is told.
                    each.pop("cursor", None)
            assert documents[0] == documents[1]

    run(main)


def test_what_names_a_room_in_its_body_is_asked_at_the_relay_that_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            for node in nodes:
                for other in nodes:
                    room = ci.room_at(other)
                    quiet = await ci.ask(node, "PUT /v1/attention", {"mode": "quiet", "room": room})
                    assert quiet.status == 200, quiet.document
                    assert room in [each["room"] for each in quiet.document["rooms"]]

    run(main)


def test_a_stream_about_all_rooms_is_one_and_goes_on_where_rooms_move(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes), ci.connection(nodes[0]) as client:
            await client.begin("GET /v1/approvals/events", token=ci.minted.token)
            told = await _event(client)
            assert told["requests"] == []
            await ci.cluster.stop(nodes[1])
            await ci.cluster.settled()
            # Nothing is told twice, and the stream did not end.
            with trio.move_on_after(20) as waited:
                await _event(client)
            assert waited.cancelled_caught

    run(main)


async def _event(client: Client) -> Any:
    """The next event of a stream, without the breaths in between."""
    while True:
        piece = await client.piece()
        assert piece, "the stream ended"
        for line in piece.decode().splitlines():
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("asked", [0, 1])
def test_a_stream_of_one_room_goes_on_at_another_relay_from_the_place_that_the_first_told(
    tmp_path: Path, asked: int
) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            room, place = ci.room_at(nodes[1]), ""
            for node, text in ((nodes[asked], "one"), (nodes[1 - asked], "two")):
                await says(ci.alice, room, text)
                async with ci.connection(node) as client:
                    headers = {"Last-Event-ID": place} if place else {}
                    line = f"GET /v1/rooms/{room}/events"
                    await client.begin(line, token=ci.minted.token, headers=headers)
                    heard, place = await _messages(client)
                assert heard == [text]

    run(main)


async def _messages(client: Client) -> tuple[list[str], str]:
    """What a stream of a room tells at once, and the last place in it."""
    heard, place = list[str](), ""
    with trio.move_on_after(2):
        while piece := await client.piece():
            for block in piece.decode().split("\n\n"):
                lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
                place = lines.get("id", place)
                if lines.get("event") == "message":
                    heard.append(json.loads(lines["data"])["text"])
    return heard, place


@pytest.mark.parametrize("at", [0, 1])
def test_a_stream_ends_within_a_second_or_two_where_its_token_is_revoked_at_another_relay(
    tmp_path: Path, at: int
) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            async with ci.connection(nodes[at]) as client:
                await client.begin("GET /v1/approvals/events", token=ci.minted.token)
                await _event(client)
                await ci.alice.ask("token.revoke", t.RevokeToken(id=ci.minted.info.id), t.RevokedToken)
                with trio.fail_after(3):
                    ended = await _event(client)
                assert ended["error"]["code"] == "token_invalid"
            assert (await ci.ask(nodes[at], "GET /v1/rooms")).code == "token_invalid"
            # Its agent is in none of its rooms any more, whichever relay has them.
            for room in ci.rooms:
                owner = next(node for node in nodes if node.holding.has(RoomId(room)))
                members = (await owner.engine.rooms.get(RoomId(room))).aggregate.state.members
                assert [each.handle for each in members.values() if each.present] == ["alice"]

    run(main)


def test_a_stream_ends_at_a_relay_that_has_no_room_of_its_token_and_only_hears_that_the_token_was_revoked(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with program(tmp_path, 3, opens=1) as (ci, nodes):
            rooms = [RoomId(room) for room in (ci.first, *ci.rooms)]
            node = next(node for node in nodes if not any(map(node.holding.has, rooms)))
            async with ci.connection(node) as client:
                await client.begin("GET /v1/approvals/events", token=ci.minted.token)
                await _event(client)
                await ci.alice.ask("token.revoke", t.RevokeToken(id=ci.minted.info.id), t.RevokedToken)
                with trio.fail_after(3):
                    assert (await _event(client))["error"]["code"] == "token_invalid"

    run(main)


def test_a_relay_that_does_not_know_all_rooms_of_a_token_says_nothing_of_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with program(tmp_path) as (ci, nodes):
            [token] = {each.id for each in nodes[1].engine.desk.rooms.home.aggregate.tokens.all()}
            here, unknown = RoomId(ci.room_at(nodes[1])), RoomId("r_of_which_it_did_not_hear_yet")
            for rooms, code in (([here], ""), ([here, unknown], "room_moved")):
                engine, caller = nodes[1].together.gathering.acting(token, rooms)
                try:
                    listed = await engine.call("rooms.list", t.ListRooms(), caller)
                except ParlerError as error:
                    found = error.code
                else:
                    found = ""
                    assert isinstance(listed, t.RoomList)
                    assert [each.room for each in listed.rooms] == rooms
                assert found == code
            engine, caller = nodes[1].together.gathering.acting("tk_of_nobody", [])
            with pytest.raises(Refused, match="token_invalid"):
                await engine.call("rooms.list", t.ListRooms(), caller)

    run(main)


def test_an_error_between_relays_of_one_home_says_all_that_it_says() -> None:
    error = Refused("ambiguous_name", "Two are called so.", tool_hint="Say which.", candidates=["a", "b"])
    again = heard_whole(told_whole(error))
    assert (again.code, again.message, again.tool_hint) == (error.code, error.message, error.tool_hint)
    assert (again.details, again.retry_after_ms) == (error.details, error.retry_after_ms)
