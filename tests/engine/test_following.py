"""What a link is told of rooms: everything that its agents may see, in the order of the log, and nothing that follows
from what they may not."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
import trio

from parlerd.core.envelope import TextPart, decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.events import Header
from parlerd.core.model import Position, RoomId, View
from parlerd.core.public_line import first_line, next_line
from parlerd.engine import following
from parlerd.engine.cards import Cards
from parlerd.engine.fanout import Followed
from parlerd.engine.reachable import eyes
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import NewFact, Page
from tests.support.engine import Party, Served, SteppedClock, engine_world, run, settle
from tests.support.linked import Elsewhere, LinkParty, Told


def said(messages: list[t.LinkMessage]) -> list[str]:
    found = []
    for message in messages:
        (part,) = decode_envelope(message.body).parts
        assert isinstance(part, TextPart)
        found.append(part.text)
    return found


def members(card: t.Card) -> dict[str, bool]:
    return {member.handle: member.present for member in card.members}


async def room_with_ann(served: Served, **how: str) -> tuple[Party, LinkParty, t.OpenedSession]:
    alice = await served.agent("alice")
    opened = await alice.open(context="", **how)
    link = await Elsewhere("mia").link(served, "ann")
    await link.enter("ann", opened)
    return alice, link, opened


def test_a_link_begins_with_a_whole_card_and_the_newest_messages_and_goes_on_as_they_come() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            for n in range(5):
                await alice.send(f"old {n}")
            async with link.following(opened.room, newest=3) as told:
                (card,) = told.cards
                assert card.whole
                assert members(card) == {"alice": True, "ann": True}
                assert said(told.messages) == ["old 2", "old 3", "old 4"]
                assert told.pages[0].jumped
                assert (told.pages[0].public, told.pages[0].before) == (2, {link.person.agent("ann"): 2})
                assert told.of(opened.room)[-1].level
                await alice.send("new")
                await settle()
                await link.post("ann", opened.room, "mine")
                await settle()
                assert said(told.messages)[3:] == ["new", "mine"]
                assert [page.jumped for page in told.pages] == [True, False, False, False]
                assert [page.public for page in told.pages] == [2, 5, 5, 6]

    run(main)


def test_a_message_crosses_as_the_bytes_that_its_author_signed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, link, opened = await room_with_ann(served)
            envelope = link.person.envelope("ann", opened.room, "as I said")
            async with link.following(opened.room) as told:
                posted = await link.ask("link.post", envelope, t.Posted)
                await settle()
                (message,) = told.messages
                assert (message.body, message.signature) == (envelope.body, envelope.signature)
                assert (message.agent, message.principal) == (link.person.agent("ann"), link.person.principal)
                assert (message.at, message.digest) == (posted.at, b"")

    run(main)


def test_each_page_says_the_public_line_that_follows_from_the_messages_before_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            ann = link.person.agent("ann")
            async with link.following(opened.room) as told:
                for n in range(3):
                    await alice.send(f"{n}")
                    await link.post("ann", opened.room, f"between us {n}", visible_to=(ann,))
                    await settle()
                room, home = RoomId(opened.room), served.world.keys.id
                number, line = 0, first_line(room, home)
                for page in told.pages:
                    assert (page.public, page.line) == (number, line)
                    for message in page.messages:
                        if decode_envelope(message.body).visibility is None:
                            number, line = number + 1, next_line(line, hashlib.sha256(message.body).digest())
                assert number == 3
                pulled = await link.ask("link.pull", t.PullHistory(room=room, agent=ann, after=2), t.LinkPage)
                assert (pulled.public, pulled.line) == (1, told.pages[2].line)

    run(main)


def test_who_comes_and_goes_is_told_in_its_place_among_the_messages() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            bob = await served.agent("bob")
            async with link.following(opened.room) as told:
                await alice.send("before")
                await served.admit(opened, bob)
                await bob.send("hello")
                await bob.close()
                await alice.send("after")
                await alice.close()
                await settle()
                steps: list[object] = []
                for item in told.of(opened.room)[1:]:
                    if item.page is not None:
                        steps += said(item.page.messages)
                    elif item.card is not None:
                        steps.append("closed" if item.card.closed else members(item.card))
                assert steps == ["before", {"bob": True}, "hello", {"bob": False}, "after", "closed"]
                assert [card.moves for card in told.cards] == [2, 3, 4, 4]

    run(main)


def test_somebody_who_comes_while_a_link_begins_to_look_is_told_and_counted_once() -> None:
    """What is counted twice would be taken for told when the link comes back, and whatever came meanwhile with it."""

    async def main() -> None:
        async with engine_world() as served:
            _, link, opened = await room_with_ann(served)
            desk, name = served.engine.desk, RoomId(opened.room)
            room = await (await desk.rooms.get(name)).quiet()
            cards = Cards(desk.library, desk.keys.id)
            followed = Followed(name, t.Resume(room=name, newest=10))
            walk = following._Walk(desk, cards, room, eyes(desk, link.caller, room), followed)
            await served.admit(opened, await served.agent("bob"))
            await walk.begin(anew=False)
            await walk.go_on()
            first = [item.card for item in walk.items if item.card is not None]
            assert [(members(card), card.moves) for card in first] == [({"alice": True, "ann": True}, 2)]
            walk = following._Walk(desk, cards, room, eyes(desk, link.caller, room), followed)
            await walk.go_on()
            [card] = [item.card for item in walk.items if item.card is not None]
            assert (members(card), card.moves) == ({"bob": True}, 3)
            assert followed.moves == room.state.membership.moves
            assert followed.asks == room.state.approvals.asks

    run(main)


def test_the_owners_person_alone_is_told_of_keys_and_of_those_who_knock() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, link, opened = await room_with_ann(served)
            bob = await served.agent("bob")
            async with link.following(opened.room) as told:
                await bob.join(opened.session_key)
                await (await served.person()).deny("bob")
                await settle()
                # Ann knows how her own knock ended, and by which key she came.
                (card,) = told.cards
                assert [(request.agent, request.state) for request in card.requests] == [
                    (link.person.agent("ann"), "approved")
                ]
                assert [(key.users, key.revoked) for key in card.keys] == [([], False)]
                assert card.asks == 0

    run(main)


def test_whoever_knocks_is_told_of_its_own_request_and_of_nothing_else_until_it_is_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("secret topic", context="the recap")
            mia = Elsewhere("mia")
            link = await mia.link(served, "ann")
            await link.knock("ann", opened)
            async with link.following(opened.room) as told:
                await alice.send("not for those outside")
                await settle()
                (item,) = told.of(opened.room)
                assert item.card is not None
                assert (item.card.members, item.page, item.card.moves, item.card.asks) == ([], None, 0, 0)
                assert [request.state for request in item.card.requests] == ["pending"]
                assert b"secret topic" not in msgspec.msgpack.encode(item)
                await (await served.person()).approve(mia.agent("ann"))
                await settle()
                # It is in: the room is told from its newest messages on.
                assert said(told.messages) == ["the recap", "not for those outside"]
                assert told.cards[1].whole
                assert {handle for card in told.cards for handle in members(card)} == {"alice", "ann"}

    run(main)


def test_a_private_message_reaches_the_link_of_those_who_may_read_it_and_no_other() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            other = await Elsewhere("zoe").link(served, "zed")
            await other.enter("zed", opened)
            ann = link.person.agent("ann")
            async with link.following(opened.room) as told, other.following(opened.room) as told_other:
                await alice.send("for ann", visible_to=(ann,))
                await alice.send("for all")
                await settle()
                assert said(told.messages) == ["for ann", "for all"]
                assert said(told_other.messages) == ["for all"]
                # What is hidden leaves no gap: neither in the reader's own numbers nor among the public ones.
                assert told_other.pages[-1].before == {other.person.agent("zed"): 0}
                assert told_other.pages[-1].public == 0
                assert not told_other.pages[-1].jumped

    run(main)


def test_a_public_message_that_no_agent_of_the_link_may_see_is_a_gap_that_is_said() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served, history="none")
            async with link.following(opened.room) as told:
                await alice.send("one")
                await settle()
                await link.leave("ann", opened.room)
                await settle()
                assert told.items[-1].gone
            await alice.send("while ann was away")
            await link.enter("ann", opened)
            async with link.resuming(place(told, opened.room)) as again:
                await alice.send("two")
                await settle()
                assert said(again.messages) == ["two"]
                # The page that says from which number ann goes on is empty.
                assert [page.jumped for page in again.pages] == [False, True, False]
                assert [page.public for page in again.pages] == [1, 2, 2]

    run(main)


# -- resuming ----------------------------------------------------------------------------------------------


def place(told: Told, room: str) -> t.Resume:
    """Where a link stands that was told so much, as its daemon says when it comes back."""
    public = moves = asks = 0
    before: dict[str, int] = {}
    for item in told.of(room):
        if item.card is not None:
            moves, asks = max(moves, item.card.moves), max(asks, item.card.asks)
        if item.page is not None:
            public = item.page.public + sum(decode_envelope(m.body).visibility is None for m in item.page.messages)
            before = {agent: seq + len(item.page.messages) for agent, seq in item.page.before.items()}
    return t.Resume(room=room, public=public, moves=moves, asks=asks, before=before)


def test_a_link_that_comes_back_goes_on_where_it_was_with_nothing_twice_and_nothing_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            bob = await served.agent("bob")
            async with link.following(opened.room) as told:
                await alice.send("one")
                await settle()
            await alice.send("two", visible_to=(link.person.agent("ann"),))
            await served.admit(opened, bob)
            await alice.send("three")
            async with link.resuming(place(told, opened.room)) as again:
                assert said(again.messages) == ["two", "three"]
                assert [(card.whole, members(card)) for card in again.cards] == [(False, {"bob": True})]
                assert not again.pages[0].jumped
                assert (again.pages[0].public, again.pages[0].before) == (1, {link.person.agent("ann"): 1})
            async with link.resuming(place(again, opened.room)) as level:
                assert (level.cards, level.messages) == ([], [])
                assert level.of(opened.room)[-1].level

    run(main)


def test_once_everything_was_told_the_place_where_the_room_ends_is_told_too() -> None:
    """By it a daemon sees whether the home has all that it told before."""

    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            async with link.following(opened.room) as told:
                await alice.send("one")
                await settle()
            await alice.send("two", visible_to=(link.person.agent("ann"),))
            await served.admit(opened, await served.agent("bob"))
            async with link.resuming(place(told, opened.room)) as again:
                await settle()
                last = again.of(opened.room)[-1]
                assert last.level
                assert last.page is not None
                assert (last.page.public, last.page.messages) == (1, [])
                assert last.page.before == {link.person.agent("ann"): 2}

    run(main)


def test_that_somebody_came_as_the_last_thing_that_was_told_is_not_told_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            async with link.following(opened.room) as told:
                await alice.send("one")
                await served.admit(opened, await served.agent("bob"))
                await settle()
            await served.admit(opened, await served.agent("carol"))
            async with link.resuming(place(told, opened.room)) as again:
                assert [members(card) for card in again.cards] == [{"carol": True}]

    run(main)


def test_a_link_that_is_far_behind_begins_anew_with_the_newest_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CATCH_UP", 10)
    monkeypatch.setattr(following, "NEWEST", 4)

    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            async with link.following(opened.room) as told:
                await alice.send("seen")
                await settle()
            for n in range(12):
                await alice.send(f"missed {n}")
            async with link.resuming(place(told, opened.room)) as again:
                assert said(again.messages) == [f"missed {n}" for n in range(8, 12)]
                assert again.cards[0].whole
                assert again.pages[0].jumped
                assert (again.pages[0].public, again.pages[0].before) == (9, {link.person.agent("ann"): 9})

    run(main)


class Counting(MemoryStore):
    """Counts the headers and the whole facts that are read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.headers = 0

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        found = super().facts(room, after, limit)
        self.headers += len(found)
        return found

    def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        found = super().tail(room, view, limit=limit, max_bytes=max_bytes)
        self.headers += len(found.messages)
        return found

    def whole_facts(self, room: RoomId, after: Position, limit: int) -> list[NewFact]:
        found = super().whole_facts(room, after, limit)
        self.headers += len(found)
        return found


def test_to_begin_with_the_newest_reads_them_once_however_many_agents_are_there() -> None:
    async def main() -> None:
        store = Counting()
        async with engine_world(store=store) as served:
            alice = await served.agent("alice")
            opened = await alice.open(context="")
            names = [f"ann{number}" for number in range(12)]
            link = await Elsewhere("mia").link(served, *names)
            for name in names:
                await link.enter(name, opened)
            for n in range(100):
                await alice.send(f"said {n}")
            await alice.send("for two", visible_to=names[:2])
            store.headers = 0
            async with link.following(opened.room, newest=20) as told:
                assert said(told.messages) == [*(f"said {n}" for n in range(81, 100)), "for two"]
            # Once as headers, for who came and went meanwhile, and once whole.
            assert store.headers <= 2 * 20

    run(main)


def test_an_agent_that_saw_little_takes_nothing_of_the_newest_from_the_others() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(context="", history="from-join")
            mia = Elsewhere("mia")
            link = await mia.link(served, "ann", "bea")
            await link.enter("ann", opened)
            for n in range(9):
                await alice.send(f"said {n}")
            await link.enter("bea", opened)
            await alice.send("to both")
            async with link.following(opened.room, newest=4) as told:
                assert said(told.messages) == ["said 6", "said 7", "said 8", "to both"]
                assert told.pages[0].before == {mia.agent("ann"): 6, mia.agent("bea"): 0}
            # None of them saw as many: all that any of them saw.
            async with link.following(opened.room, newest=50) as told:
                assert said(told.messages) == [*(f"said {n}" for n in range(9)), "to both"]
            async with link.following(opened.room, newest=0) as told:
                assert told.messages == []

    run(main)


@pytest.mark.parametrize("visible_to", [(), ("ann",)])
@pytest.mark.parametrize("names_its_numbers", [True, False])
def test_a_place_long_ago_costs_no_more_than_to_begin_anew_whatever_the_asker_leaves_out(
    monkeypatch: pytest.MonkeyPatch, visible_to: tuple[str, ...], names_its_numbers: bool
) -> None:
    monkeypatch.setattr(following, "CATCH_UP", 20)
    monkeypatch.setattr(following, "NEWEST", 5)

    async def main() -> None:
        store = Counting()
        async with engine_world(store=store) as served:
            alice, link, opened = await room_with_ann(served)
            async with link.following(opened.room) as told:
                await alice.send("seen")
                await settle()
                resume = place(told, opened.room)
            for n in range(300):
                await alice.send(f"missed {n}", visible_to=visible_to)
            if not names_its_numbers:
                resume = msgspec.structs.replace(resume, before={})
            store.headers = 0
            async with link.resuming(resume) as again:
                assert said(again.messages) == [f"missed {n}" for n in range(295, 300)]
                assert again.pages[0].jumped
                assert again.pages[0].before == {link.person.agent("ann"): 296}
            # Its own newest messages, once as headers and once whole, and nothing before them.
            assert store.headers <= 12

    run(main)


def test_a_slow_reader_is_told_at_its_own_pace_and_then_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CATCH_UP", 10)
    monkeypatch.setattr(following, "NEWEST", 4)

    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            params = t.FollowRooms(rooms=(t.Resume(room=opened.room),))
            async with served.engine.stream("link.follow", params, link.caller) as items:
                told = Told()

                async def hear(count: int) -> None:
                    while len(told.of(opened.room)) < count:
                        item = await anext(items)
                        assert isinstance(item, t.LinkItem)
                        told.items.append(item)

                await hear(2)
                await alice.send("in time")
                await hear(3)
                for n in range(20):
                    await alice.send(f"late {n}")
                await hear(5)
                assert said(told.messages) == ["in time", *(f"late {n}" for n in range(16, 20))]
                assert [card.whole for card in told.cards] == [True, True]

    run(main)


# -- which rooms -------------------------------------------------------------------------------------------


def test_a_room_of_which_the_link_may_not_know_is_gone_at_once_and_so_is_one_that_its_agent_left() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            other = await alice.open("other")
            async with link.following("r_nowhere", other.room, "home", opened.room) as told:
                gone = [item for item in told.items if item.gone]
                assert gone == [t.LinkItem(room=room, gone=True) for room in ("r_nowhere", other.room, "home")]
                await link.ask("link.detach", t.Detach(agents=(link.person.agent("ann"),)), t.Noted)
                await settle()
                assert told.items[-1] == t.LinkItem(room=opened.room, gone=True)
                await alice.send("unheard", room=opened.room)
                await settle()
                assert told.items[-1].gone

    run(main)


def test_a_delegation_that_ends_ends_what_its_agent_is_told() -> None:
    async def main() -> None:
        async with engine_world(clock=SteppedClock()) as served:
            _, link, opened = await room_with_ann(served)
            await link.attach("ann", days=1)
            async with link.following(opened.room) as told:
                await trio.sleep(86_400)
                await settle()
                assert told.items[-1] == t.LinkItem(room=opened.room, gone=True)

    run(main)


def test_rooms_are_added_to_a_stream_and_taken_out_of_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            second = await alice.open("second", context="")
            await link.enter("ann", second)
            async with link.following(opened.room) as told:
                await link.ask("link.watch", t.FollowRoom(resume=t.Resume(room=second.room)), t.Noted)
                await settle()
                await alice.send("here", room=second.room)
                await settle()
                assert said(told.messages) == ["here"]
                await link.ask("link.unwatch", t.UnfollowRoom(room=opened.room), t.Noted)
                await alice.send("not any more", room=opened.room)
                await alice.send("here still", room=second.room)
                await settle()
                assert said(told.messages) == ["here", "here still"]
                with pytest.raises(Refused) as refused:
                    async with served.engine.stream("link.follow", t.FollowRooms(), link.caller) as items:
                        await anext(aiter(items))
                assert refused.value.code == "busy"
            for op, params in (
                ("link.watch", t.FollowRoom(resume=t.Resume(room=opened.room))),
                ("link.unwatch", t.UnfollowRoom(room=opened.room)),
            ):
                assert (await link.refused(op, params)).code == "invalid_param"

    run(main)


@pytest.mark.parametrize("directly", [True, False])
def test_a_stream_says_how_much_it_told_and_goes_on_where_it_is_found_behind(
    monkeypatch: pytest.MonkeyPatch, directly: bool
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            room = RoomId(opened.room)

            async def head() -> int:
                return (await served.engine.desk.library.heads([room]))[room]

            async def compare() -> t.HeadsCompared:
                params = t.CompareHeads(heads={str(room): await head(), "r_of_nobody": 7})
                return await link.ask("link.compare", params, t.HeadsCompared)

            assert (await link.refused("link.compare", t.CompareHeads())).code == "invalid_param"
            is_deaf = False
            stored = following.Following._stored

            def hears(each: following.Following, room: RoomId) -> None:
                if not is_deaf:
                    stored(each, room)

            monkeypatch.setattr(following.Following, "_stored", hears)
            async with link.following(room, directly=directly) as told:
                await alice.send("one")
                await settle()
                assert said(told.messages) == ["one"]
                assert await compare() == t.HeadsCompared(items=len(told.items))
                is_deaf = True
                before = await head()
                await alice.send("two")
                await settle()
                assert said(told.messages) == ["one"]
                assert (await compare()).behind == {room: before}
                await settle()
                assert said(told.messages) == ["one", "two"]
                assert await compare() == t.HeadsCompared(items=len(told.items))

    run(main)


def test_an_agent_that_is_attached_later_goes_on_by_its_own_number() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            await link.attach("bea")
            await link.enter("bea", opened)
            bea = link.person.agent("bea")
            await link.ask("link.detach", t.Detach(agents=(bea,)), t.Noted)
            async with link.following(opened.room) as told:
                await alice.send("for bea", visible_to=(bea,))
                await alice.send("for all")
                await settle()
                assert said(told.messages) == ["for all"]
                await link.attach("bea")
                await settle()
                assert told.pages[-1].before == {link.person.agent("ann"): 1, bea: 2}
                await alice.send("for bea again", visible_to=(bea,))
                await settle()
                assert said(told.messages) == ["for all", "for bea again"]

    run(main)


def test_how_present_members_are_is_told_as_it_changes() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            async with link.following(opened.room) as told:
                presence = [each for item in told.items for each in item.presence]
                assert [each.presence for each in presence] == ["active"]
                await served.leave(alice)
                await trio.sleep(following.PRESENCE_S + 1)
                await settle()
                presence = [each for item in told.items for each in item.presence]
                assert [each.presence for each in presence] == ["active", "offline"]
                me = (await (await served.agent("alice")).whoami()).id
                assert {each.agent for each in presence} == {me}

    run(main)


def test_what_was_sent_to_a_link_is_on_record_as_pushed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            sent = await alice.send("one")
            async with link.following(opened.room, newest=10):
                await trio.sleep(following.MARKS_S + 1)
                assert (await alice.why(sent.id))["ann"] == ["stored", "pushed"]
                told = t.LinkCursor(room=opened.room, agent=link.person.agent("ann"), read=1, acknowledged=1)
                await link.call("link.cursors", t.TellCursors(cursors=(told,)))
                assert (await alice.why(sent.id))["ann"] == ["stored", "pushed", "read", "acknowledged"]

    run(main)


# -- what nobody may learn ---------------------------------------------------------------------------------


async def heard(*, hidden_here: bool) -> bytes:
    """Every byte that an outsider's link hears of a room. What is hidden from the outsider happens there, or else the
    very same happens in another room."""
    async with engine_world() as served:
        alice, link, opened = await room_with_ann(served)
        bob = await served.agent("bob")
        await served.admit(opened, bob)
        other = await alice.open("other", context="")
        await served.admit(other, bob)
        where = opened if hidden_here else other
        strangers = iter("tuvwxyz")

        async def hide() -> None:
            who = (await bob.whoami()).id
            await alice.send("between us", room=where.room, visible_to=(who,))
            await (await served.agent(next(strangers))).join(where.session_key)

        told_all: list[object] = []
        await hide()
        async with link.following(opened.room, newest=10) as told:
            await alice.send("open one", room=opened.room)
            await hide()
            await bob.send("open two", room=opened.room)
            await settle()
            told_all += told.items
        await hide()
        async with link.resuming(place(told, opened.room)) as again:
            await alice.send("open three", room=opened.room)
            await hide()
            await settle()
            told_all += again.items
        ann = link.person.agent("ann")
        told_all += [await link.post("ann", opened.room, "mine"), await link.attach("ann")]
        for params in (
            t.PullHistory(room=opened.room, agent=ann),
            t.PullHistory(room=opened.room, agent=ann, after=1, limit=2),
        ):
            told_all.append(await link.call("link.pull", params))
        assert b"open three" in msgspec.msgpack.encode(told_all)
        return msgspec.msgpack.encode(told_all)


def test_an_outsider_hears_the_same_bytes_whatever_is_hidden_from_it() -> None:
    async def main() -> None:
        assert await heard(hidden_here=True) == await heard(hidden_here=False)

    run(main)


def tasks(told: Told) -> list[tuple[str, str]]:
    """What was told of tasks: which, and how it stands."""
    return [(each.task, each.state) for item in told.items for each in item.tasks]


def test_how_tasks_stand_is_told_to_those_who_see_them_and_once_more_to_a_link_that_begins() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            bob = await served.agent("bob")
            await served.admit(opened, bob)
            async with link.following(opened.room) as told:
                seen = await alice.send("for all", kind="task")
                hidden = await alice.send("for bob", kind="task", visible_to=["bob"])
                await settle()
                for task in (seen, hidden):
                    await bob.ask("task.claim", t.ClaimTask(id=task.id), t.TaskHeld)
                    await settle()
                assert tasks(told) == [(seen.id, "claimed")]
                await bob.ask("task.complete", t.CompleteTask(id=seen.id), t.TaskHeld)
                await bob.ask("task.release", t.ReleaseTask(id=hidden.id), t.TaskHeld)
                await settle()
                assert tasks(told)[1:] == [(seen.id, "done")]
            async with link.following(opened.room) as told:
                assert set(tasks(told)) == {(seen.id, "done")}

    run(main)


def test_an_agent_elsewhere_claims_renews_gives_back_and_ends_a_task_over_its_link() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, link, opened = await room_with_ann(served)
            ann = link.person.agent("ann")
            task = await alice.send("review PR #42", kind="task")
            claim = t.ClaimAtRoom(room=opened.room, agent=ann, lease_ms=60_000, idempotency_key="k")
            first = await link.ask("link.claim", claim, t.ClaimedAtRoom)
            assert first.task == task.id
            assert await link.ask("link.claim", claim, t.ClaimedAtRoom) == first
            renew = t.RenewAtRoom(room=opened.room, agent=ann, task=task.id, lease_ms=3_600_000)
            assert (await link.ask("link.renew", renew, t.RenewedAtRoom)).until > first.until
            await link.ask("link.release", t.ReleaseAtRoom(room=opened.room, agent=ann, task=task.id), t.Noted)
            assert (await link.refused("link.renew", renew)).code == "claim_lost"
            again = await link.ask("link.claim", msgspec.structs.replace(claim, idempotency_key="l"), t.ClaimedAtRoom)
            assert again.fence > first.fence
            none = msgspec.structs.replace(claim, idempotency_key="m")
            assert (await link.ask("link.claim", none, t.ClaimedAtRoom)).task == ""
            stranger = msgspec.structs.replace(claim, agent="U" + "A" * 55)
            assert (await link.refused("link.claim", stranger)).code == "no_such_room"

    run(main)
