"""Rooms that a program without a token opens and comes into: whose they are, who comes in, and what is left of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.core.tokens import DAY_MS
from parlerd.engine import newcomers
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.visitors import TOPIC
from parlerd.operations import types as t
from tests.support.engine import Party, Served, SteppedClock, World, engine_world, run


def visitor(served: Served, *, is_let_in: bool = True) -> Party:
    authority = of_visitor(served.world.keys.principal, is_let_in=is_let_in, is_own=False)
    caller = Caller(Facts("http 1", "http", authority))

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, caller)

    return Party(call, caller)


async def begin(guest: Party, name: str = "team") -> t.RoomBegun:
    return await guest.ask("room.begin", t.BeginRoom(name=name), t.RoomBegun)


async def enter(guest: Party, name: str, room: str = "team", **more: Any) -> t.RoomEntered:
    return await guest.ask("room.enter", t.EnterRoom(room=room, name=name, **more), t.RoomEntered)


async def acting(served: Served, token: str) -> Party:
    _, caller = await served.engine.bearers.caller_of(token, visitor(served).caller)

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, caller)

    return Party(call, caller)


def test_such_a_room_is_the_persons_and_says_what_it_is() -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest = visitor(served)
            room = (await begin(guest)).room
            person = await served.person()
            (listed,) = await person.rooms()
            assert (listed.room, listed.name, listed.topic, listed.home) == (room, "team", TOPIC, "local")
            came = await enter(guest, "agent-a", role="worker", label="Alice")
            assert (came.room, came.agent, came.role) == (room, "agent-a", "worker")
            assert came.expires_at == served.world.clock.now() + t.DEFAULT_DAYS * DAY_MS
            (token,) = (await person.ask("token.list", t.ListTokens(), t.TokenList)).tokens
            assert (token.id, token.agent, token.room, token.label) == (came.id, "agent-a", room, "Alice")
            # The person looks after it as after any other room.
            await person.ask("token.revoke", t.RevokeToken(id=came.id), t.RevokedToken)
            with pytest.raises(Refused):
                await acting(served, came.token)

    run(main)


def test_whoever_comes_in_acts_in_that_room_alone_and_signs_what_it_says() -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest = visitor(served)
            await begin(guest)
            await begin(guest, "annex")
            one, two = await enter(guest, "agent-a"), await enter(guest, "agent-b")
            first, second = await acting(served, one.token), await acting(served, two.token)
            assert [room.name for room in await first.rooms()] == ["team"]
            await first.send("hello", room=one.room)
            (message,) = (await second.recv(room=one.room)).messages
            assert (message.author.name, message.verified, message.via) == ("agent-a", "valid", "http")
            assert (await first.refused("message.send", t.Send(text="x", room="annex"))).code == "no_such_room"

    run(main)


def test_a_name_that_an_agent_of_this_machine_has_leads_to_another_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            await alice.open(topic="private")
            guest = visitor(served)
            await begin(guest)
            came = await enter(guest, "alice")
            assert came.agent == "alice"
            other = await acting(served, came.token)
            assert (await other.whoami()).id != (await alice.whoami()).id
            assert [room.name for room in await other.rooms()] == ["team"]

    run(main)


def test_two_who_come_at_once_with_one_name_are_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest, came, refused = visitor(served), list[str](), list[str]()
            await begin(guest)

            async def try_it() -> None:
                try:
                    came.append((await enter(guest, "agent-a")).agent)
                except Refused as error:
                    refused.append(error.code)

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(try_it)
            assert (came, refused) == (["agent-a"], ["agent_exists"] * 4)

    run(main)


def test_a_room_and_its_agents_are_there_after_a_restart() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            await begin(visitor(served))
            token = (await enter(visitor(served), "agent-a")).token
        async with world.serving() as served:
            guest = visitor(served)
            assert (await guest.refused("room.begin", t.BeginRoom(name="team"))).code == "room_exists"
            assert (await guest.refused("room.enter", t.EnterRoom(room="team", name="agent-a"))).code == "agent_exists"
            assert (await (await acting(served, token)).whoami()).name == "agent-a"
            assert (await enter(guest, "agent-b")).agent == "agent-b"

    run(main)


def test_where_nobody_is_let_in_a_visitor_can_do_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            await begin(visitor(served))
            guest = visitor(served, is_let_in=False)
            for op, params in (
                ("room.begin", t.BeginRoom(name="annex")),
                ("room.enter", t.EnterRoom(room="team", name="agent-a")),
            ):
                assert (await guest.refused(op, params)).code == "not_permitted"
            # Whoever is let in can do these two things and nothing else.
            let_in = visitor(served)
            for op, more, code in (
                ("rooms.list", t.ListRooms(), "not_permitted"),
                ("session.open", t.OpenSession(), "not_permitted"),
                ("token.mint", t.MintToken(), "person_only"),
            ):
                assert (await let_in.refused(op, more)).code == code
            alice = await served.agent("alice")
            assert (await alice.refused("room.begin", t.BeginRoom(name="annex"))).code == "not_permitted"

    run(main)


def test_a_newcomer_whose_condition_is_none_is_not_left_in_the_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest = visitor(served)
            await begin(guest)
            wrong = t.EnterRoom(room="team", name="path", enabled="has(state._shared.compass")
            assert (await guest.refused("room.enter", wrong)).code == "expression_invalid"
            other = await acting(served, (await enter(guest, "hider")).token)
            await other.ask("state.hide", t.HideScope(hidden=True, room="team"), t.ScopeShown)
            peeks = t.EnterRoom(room="team", name="path", enabled="has(state.hider.compass)")
            before = len(served.engine.desk.rooms.home.aggregate.state.agents)
            assert (await guest.refused("room.enter", peeks)).code == "scope_denied"
            assert len(served.engine.desk.rooms.home.aggregate.state.agents) == before
            assert (await enter(guest, "path", enabled="has(state._shared.compass)")).agent == "path"

    run(main)


def test_a_closed_room_takes_nobody_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest = visitor(served)
            room = (await begin(guest)).room
            owner = await served.agent("http")
            await owner.ask("room.archive", t.ArchiveRoom(room=room), t.ArchivedRoom)
            assert (await guest.refused("room.enter", t.EnterRoom(room="team", name="a"))).code == "room_closed"

    run(main)


def test_an_agent_that_is_silent_is_there_no_more_and_comes_back_with_its_next_call() -> None:
    async def main() -> None:
        async with World(clock=SteppedClock()).serving() as served:
            guest = visitor(served)
            await begin(guest)
            token = (await enter(guest, "agent-a")).token
            person = await served.person()

            async def presence() -> str:
                found = await person.ask("rooms.roster", t.Roster(room="team"), t.RosterResult)
                return {member.name: member.presence for member in found.members}["agent-a"]

            assert await presence() == "offline"
            await (await acting(served, token)).whoami()
            assert await presence() == "active"
            for asks, seconds, seen in ((False, 300, "idle"), (True, 599, "idle"), (False, 2, "offline")):
                if asks:
                    await (await acting(served, token)).whoami()
                await trio.sleep(seconds)
                assert await presence() == seen
            await (await acting(served, token)).whoami()
            assert await presence() == "active"

    run(main)


class Died(Exception):
    pass


def test_a_room_whose_opening_was_cut_off_is_opened_by_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest, rooms = visitor(served), served.engine.desk.rooms
            with monkeypatch.context() as patch:

                async def dies(*_: object) -> None:
                    raise Died

                patch.setattr(rooms, "create", dies)
                with pytest.raises(Died):
                    await begin(guest)
            room = (await begin(guest)).room
            assert (await guest.refused("room.begin", t.BeginRoom(name="team"))).code == "room_exists"
            assert (await enter(guest, "agent-a")).room == room

    run(main)


def test_whoever_gets_no_token_is_not_in_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest = visitor(served)
            await begin(guest)
            await enter(guest, "agent-a")
            monkeypatch.setattr(newcomers, "MAX_NEWCOMERS", 1)
            refused = await guest.refused("room.enter", t.EnterRoom(room="team", name="agent-b"))
            assert refused.code == "too_many_tokens"
            monkeypatch.undo()
            assert (await enter(guest, "agent-b")).agent == "agent-b"

    run(main)


def test_a_name_that_looks_like_an_id_leads_to_no_other_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            guest = visitor(served)
            room = (await begin(guest)).room
            assert (await guest.refused("room.begin", t.BeginRoom(name=room))).code == "invalid_name"
            assert (await enter(guest, "agent-a", room)).room == room

    run(main)
