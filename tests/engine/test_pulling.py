"""What a link asks of a room's past, and how far it says that its agents have read."""

from __future__ import annotations

import pytest

from parlerd.core.envelope import TextPart, decode_envelope
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from tests.support.engine import Served, engine_world, run
from tests.support.linked import Elsewhere, LinkParty


def said(page: t.LinkPage) -> list[str]:
    found = []
    for message in page.messages:
        (part,) = decode_envelope(message.body).parts
        assert isinstance(part, TextPart)
        found.append(part.text)
    return found


async def pull(link: LinkParty, room: str, *, after: int | None = None, limit: int = 100) -> t.LinkPage:
    params = t.PullHistory(room=room, agent=link.person.agent("ann"), after=after, limit=limit)
    return await link.ask("link.pull", params, t.LinkPage)


async def ann(served: Served, opened: t.OpenedSession) -> LinkParty:
    link = await Elsewhere("mia").link(served, "ann")
    await link.enter("ann", opened)
    return link


def test_history_is_read_from_any_number_on_or_from_the_end() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(context="the recap")
            link = await ann(served, opened)
            me = link.person.agent("ann")
            await alice.send("for ann", visible_to=(me,))
            for n in range(3):
                await alice.send(f"{n}")
            whole = await pull(link, opened.room)
            assert (said(whole), whole.public, whole.before) == (["the recap", "for ann", "0", "1", "2"], 0, {me: 0})
            some = await pull(link, opened.room, after=1, limit=2)
            assert (said(some), some.public, some.before) == (["for ann", "0"], 1, {me: 1})
            newest = await pull(link, opened.room, limit=2)
            assert (said(newest), newest.public, newest.before) == (["1", "2"], 2, {me: 3})
            none = await pull(link, opened.room, after=5)
            assert (said(none), none.public, none.before) == ([], 4, {me: 5})

    run(main)


def test_a_page_of_history_ends_where_public_messages_are_hidden_from_the_reader() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(context="the recap", history="from-join")
            await alice.send("before ann came")
            link = await ann(served, opened)
            me = link.person.agent("ann")
            await alice.send("after")
            first = await pull(link, opened.room, after=0)
            assert (said(first), first.public, first.before) == (["the recap"], 0, {me: 0})
            second = await pull(link, opened.room, after=1)
            assert (said(second), second.public, second.before) == (["after"], 2, {me: 1})
            assert said(await pull(link, opened.room)) == ["after"]

    run(main)


@pytest.mark.parametrize(
    ("read", "acknowledged", "unread", "stages"),
    [
        (1, 0, 2, ["stored", "read"]),
        (1, 1, 1, ["stored", "read", "acknowledged"]),
        (9, 9, 0, ["stored", "read", "acknowledged"]),
    ],
)
def test_how_far_an_agent_has_read_is_known_here(read: int, acknowledged: int, unread: int, stages: list[str]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(context="")
            link = await ann(served, opened)
            me = link.person.agent("ann")
            sent = await alice.send("one")
            await alice.send("two")
            told = t.LinkCursor(room=opened.room, agent=me, read=read, acknowledged=acknowledged)
            for _ in range(2):
                await link.ask("link.cursors", t.TellCursors(cursors=(told,)), t.Noted)
            room = await (await served.engine._desk.rooms.get(RoomId(opened.room))).quiet()
            cursor = await served.engine._desk.library.cursor(RoomId(opened.room), me)
            left = await served.engine._desk.library.unread(room, room.view(me), cursor.acknowledged)
            assert left.number == unread
            assert (await alice.why(sent.id))["ann"] == stages
            # A place that is told again, or one that lies behind, changes nothing.
            back = t.LinkCursor(room=opened.room, agent=me, read=0, acknowledged=0)
            await link.ask("link.cursors", t.TellCursors(cursors=(back,)), t.Noted)
            assert await served.engine._desk.library.cursor(RoomId(opened.room), me) == cursor

    run(main)


def test_a_place_in_a_room_that_an_agent_may_not_know_is_passed_over_without_a_word() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened, other = await alice.open(context=""), await alice.open("other")
            link = await ann(served, opened)
            me = link.person.agent("ann")
            await alice.send("one", room=opened.room)
            cursors = tuple(
                t.LinkCursor(room=room, agent=agent, read=1, acknowledged=1)
                for room, agent in ((other.room, me), ("r_nowhere", me), (opened.room, "U"), (opened.room, me))
            )
            await link.ask("link.cursors", t.TellCursors(cursors=cursors), t.Noted)
            library = served.engine._desk.library
            assert (await library.cursor(RoomId(opened.room), me)).acknowledged
            assert not (await library.cursor(RoomId(other.room), me)).acknowledged

    run(main)


def test_an_author_elsewhere_learns_where_its_message_got_to_and_a_reader_of_itself_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(context="")
            link = await ann(served, opened)
            bob = await served.agent("bob")
            await served.admit(opened, bob)
            me, bobs = link.person.agent("ann"), (await bob.whoami()).id
            posted = await link.post("ann", opened.room, "hello")
            await bob.read(room=opened.room)
            others = await alice.send("between us", room=opened.room, visible_to=(bobs,))
            public = await alice.send("for all", room=opened.room)

            async def why(id: str) -> dict[str, list[str]]:
                params = t.WhyAtRoom(room=opened.room, agent=me, id=id)
                answer = await link.ask("link.why", params, t.LaddersAtRoom)
                return {each.agent: [reached.stage for reached in each.stages] for each in answer.readers}

            assert await why(posted.id) == {
                (await alice.whoami()).id: ["stored"],
                bobs: ["stored", "read", "acknowledged"],
            }
            assert await why(public.id) == {me: ["stored"]}
            elsewhere = (await alice.open("other")).room
            hidden = await alice.send("elsewhere", room=elsewhere)
            for id in (others.id, hidden.id, "m_none"):
                params = t.WhyAtRoom(room=opened.room, agent=me, id=id)
                assert (await link.refused("link.why", params)).code == "no_such_message"
            nowhere = t.WhyAtRoom(room=elsewhere, agent=me, id=hidden.id)
            assert (await link.refused("link.why", nowhere)).code == "no_such_room"

    run(main)


def test_who_was_put_out_learns_which_of_its_own_messages_are_in_the_room_and_nothing_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened, other = await alice.open(context=""), await alice.open("other")
            link = await ann(served, opened)
            me = link.person.agent("ann")
            mine = await link.post("ann", opened.room, "hello")
            hers = await alice.send("for all", room=opened.room)
            kick = t.KickMember(agent="ann", room=opened.room)
            assert (await alice.ask("room.kick", kick, t.MemberGone)).status == "kicked"

            def of(id: str, room: str = opened.room, agent: str = me) -> t.PostedAtRoom:
                return t.PostedAtRoom(room=room, agent=agent, id=id)

            await link.ask("link.posted", of(mine.id), t.Noted)
            for id in (hers.id, "m_none", (await alice.send("elsewhere", room=other.room)).id):
                assert (await link.refused("link.posted", of(id))).code == "no_such_message"
            for unknown in (of(mine.id, other.room), of(mine.id, "r_nowhere"), of(mine.id, agent="U")):
                assert (await link.refused("link.posted", unknown)).code == "no_such_room"
            # The same key under another person was never there.
            eve = Elsewhere("eve")
            eve.adopt("ann", link.person)
            stolen = await eve.link(served, "ann")
            assert (await stolen.refused("link.posted", of(mine.id))).code == "no_such_room"
            delete = t.DeleteRoom(room=opened.room, confirmed=True)
            await (await served.person()).ask("room.delete", delete, t.DeletedRoom)
            assert (await link.refused("link.posted", of(mine.id))).code == "room_deleted"

    run(main)
