"""A room that lives elsewhere is read like any other, and what is asked of it goes to nobody but its home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, RoomId
from parlerd.engine.handles import ForsakenRoom, NoHomes
from parlerd.engine.rooms import LocalRoom
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run, texts
from tests.support.mirrors import Elsewhere, elsewhere


@asynccontextmanager
async def inside(public: int = 0) -> AsyncIterator[tuple[Served, Elsewhere, Party]]:
    """An engine with the mirror of a room that bob of this home is a member of."""
    async with engine_world() as served:
        bob = await served.agent("bob")
        me = await bob.whoami()
        there = await elsewhere(served.engine, public=public)
        await there.let_in(AgentId(me.id), served.world.keys.principal, "bob")
        yield served, there, bob


def test_a_room_of_this_home_is_its_own_line_and_any_other_a_mirror() -> None:
    async def main() -> None:
        async with inside() as (served, there, bob):
            rooms = served.engine.rooms
            here = await rooms.get(RoomId((await bob.open()).room))
            assert (type(here), here.home_name) == (LocalRoom, "local")
            far = await rooms.get(there.room)
            assert (type(far), far.home_name, far.room) == (ForsakenRoom, str(there.principal), there.room)
            assert [rooms.is_here(each.aggregate) for each in (here, far)] == [True, False]
            assert far is rooms.open_actor(there.room) is await rooms.create(there.room, HomeId("N"))

    run(main)


def test_a_mirror_is_read_waited_for_and_acknowledged_like_any_room() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await there.say("hello from elsewhere")
            page = await bob.recv(room=there.room)
            [message] = page.messages
            assert (texts(page), message.seq, message.verified) == (["hello from elsewhere"], 1, "valid")
            assert (message.author.name, message.at) == ("olive", there.at)
            await bob.commit(page)
            assert await bob.read(room=there.room) == []
            assert sorted(await bob.roster(there.room)) == ["bob", "olive"]

    run(main)


def test_a_mirror_that_leaves_messages_out_keeps_the_numbers_that_its_home_gave() -> None:
    async def main() -> None:
        async with inside(public=40) as (_, there, bob):
            await there.leave_out(40, bob=43)
            await there.say("first here")
            await there.leave_out(99, bob=103)
            await there.say("then")
            page = await bob.recv(room=there.room)
            assert [message.seq for message in page.messages] == [44, 104]
            assert (page.unread, page.cursor) == (0, "104")
            await bob.commit(page)
            assert [message.seq for message in (await bob.recv(room=there.room, since=50)).messages] == [104]
            assert [message.seq for message in (await bob.recv(room=there.room, since=43)).messages] == [44, 104]

    run(main)


def test_words_that_were_erased_or_are_nobodys_are_shown_as_not_verified() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await there.say("gone", erased=True)
            await there.say("of a stranger", proved=False)
            shown = [(message.text, message.verified) for message in (await bob.recv(room=there.room)).messages]
            assert shown == [("", "invalid"), ("of a stranger", "invalid")]

    run(main)


def test_a_message_whose_id_another_room_has_does_not_arrive() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await bob.open()
            sent = await bob.send("mine")
            with pytest.raises(Refused) as refused:
                await there.say("not mine", id=sent.id)
            assert (refused.value.code, refused.value.details["what"]) == ("relay_equivocation", "id")
            await there.say("once", id="m_once")
            with pytest.raises(Refused):
                await there.say("twice", id="m_once")
            assert texts(await bob.recv(room=there.room)) == ["once"]

    run(main)


def test_a_log_goes_on_in_time_whatever_its_home_says() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await there.say("one")
            said = there.at
            there.at = 5
            await there.say("two")
            assert [message.at for message in (await bob.recv(room=there.room)).messages] == [said, said]

    run(main)


def test_nothing_is_asked_of_a_room_whose_home_is_not_added() -> None:
    async def main() -> None:
        async with inside() as (served, there, bob):
            for op, params in (
                ("message.send", t.Send(text="x", room=there.room)),
                ("handoff.give", t.GiveHandoff(next="x", room=there.room)),
                ("session.close", t.CloseSession(room=there.room)),
            ):
                assert (await bob.refused(op, params)).code == "home_not_trusted", op
            handle = await served.engine.rooms.get(there.room)
            with pytest.raises(Refused, match="home_not_trusted"):
                await handle.check_code(None, "ABCD", "cli")  # type: ignore[arg-type]

    run(main)


def test_no_homes_know_none() -> None:
    async def main() -> None:
        homes = NoHomes()
        assert (homes.default, homes.join_line(HomeId("N")), homes.name_of(HomeId("N"))) == (None, None, "N")
        with pytest.raises(Refused, match="home_not_trusted"):
            homes.named("team")
        with pytest.raises(Refused, match="home_not_trusted"):
            await homes.find(HomeId("N"), "A3KE7DJR")

    run(main)
