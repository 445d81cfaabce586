"""Which room a name means, for whom, and what a stranger is told."""

from __future__ import annotations

import msgspec
import pytest
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import RoomId
from parlerd.engine.lookup import only, room_of, rooms_named
from parlerd.operations import types as t
from tests.support.engine import (
    engine_world,
    run,
    settle,
)


def test_a_room_is_found_by_id_by_name_and_as_the_active_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            desk = served.engine._desk
            me = await desk.me(alice.caller)
            room = (await alice.rooms())[0].room
            for wanted in (room, "auth-redesign", None):
                actor, state = await room_of(desk, me, wanted)
                assert actor.room == room
                assert state.state.owner == me.id
            assert await rooms_named(desk, "auth-redesign", [RoomId(room)]) == [room]
            assert await rooms_named(desk, "auth-redesign@local", [RoomId(room)]) == [room]
            assert await rooms_named(desk, "auth-redesign@team", [RoomId(room)]) == []
            assert await rooms_named(desk, "auth-redesign", []) == []
            assert await rooms_named(desk, "r_none", [RoomId(room)]) == []

    run(main)


def test_a_room_of_others_and_one_that_is_not_there_are_told_apart_by_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            room = (await alice.rooms())[0].room
            bob = await served.agent("bob")
            errors = [
                await bob.refused(op, make(wanted))
                for wanted in (room, "auth-redesign", "r_none", "nothing", "", "\u202e")
                for op, make in (
                    ("message.recv", lambda wanted: t.Recv(room=wanted)),
                    ("rooms.roster", lambda wanted: t.Roster(room=wanted)),
                    ("session.requests", lambda wanted: t.SessionRequests(room=wanted)),
                    ("session.close", lambda wanted: t.CloseSession(room=wanted)),
                )
            ]
            assert {msgspec.json.encode(error.body()) for error in errors} == {
                msgspec.json.encode(Refused("no_such_room").body())
            }

    run(main)


def test_an_owner_among_rooms_of_one_name_means_its_own_and_learns_of_no_other() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            mine, his = await alice.open("same"), await bob.open("same")
            await carol.join(mine.session_key)
            assert [request.room for request in await alice.requests("same")] == [mine.room]
            assert await bob.requests("same") == []
            # Who owns neither is told nothing of either, not even that the name is taken twice.
            assert (await carol.refused("session.requests", t.SessionRequests(room="same"))).code == "no_such_room"
            person = await served.person()
            error = await person.refused("session.requests", t.SessionRequests(room="same"))
            assert sorted(error.details["candidates"]) == sorted([mine.room, his.room])

    run(main)


def test_an_agent_that_was_put_out_of_its_active_session_is_told_so_and_so_is_its_wait() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)
            await bob.read()
            heard: list[ParlerError] = []

            async def wait() -> None:
                heard.append(await bob.refused("message.recv", t.Recv(wait_ms=60_000)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                await alice.ask("room.kick", t.KickMember(agent="bob"), t.MemberGone)
            said = "You were put out of 'auth-redesign': a person decides before you come in again."
            assert [(error.code, error.message) for error in heard] == [("no_such_room", said)]
            for op, params in (("message.recv", t.Recv()), ("message.send", t.Send(text="x"))):
                error = await bob.refused(op, params)
                assert (error.code, error.message) == ("no_active_session", said)
            # By its name the room is as one that is not there, as for everybody who is not in.
            assert (await bob.refused("message.recv", t.Recv(room="auth-redesign"))).message != said
            await bob.join(opened.session_key)
            assert (await bob.refused("message.recv", t.Recv())).code == "join_pending"
            await (await served.person()).deny("bob")
            assert (await bob.refused("message.recv", t.Recv())).code == "join_denied"

    run(main)


def test_an_agent_that_left_by_itself_is_told_nothing_of_the_room_it_left() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob = await served.room("alice", "bob")
            await bob.close()
            error = await bob.refused("message.recv", t.Recv())
            assert (error.code, error.message) == ("no_active_session", Refused("no_active_session").message)

    run(main)


def test_a_member_that_asks_for_requests_hears_that_it_is_not_the_owner() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob = await served.room("alice", "bob")
            assert (await bob.refused("session.requests", t.SessionRequests(room="auth-redesign"))).code == "not_owner"

    run(main)


def test_one_of_none_and_one_of_many_are_refused() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            desk = served.engine._desk
            mine, other = RoomId((await alice.rooms())[0].room), RoomId((await alice.open("other")).room)
            assert await only(desk, [mine], "x") == mine
            with pytest.raises(Refused, match="no_such_room"):
                await only(desk, [], "x")
            with pytest.raises(Refused, match="ambiguous_name") as refused:
                await only(desk, [mine, other], "x")
            assert refused.value.details["candidates"] == ["auth-redesign@local", "other@local"]

    run(main)
