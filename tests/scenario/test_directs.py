"""Direct messages: an agent writes to another by its name, and the two have a room. Told once, played in every home."""

from __future__ import annotations

from functools import partial
from typing import Any

from parlerd.operations import types as t
from tests.support.engine import Party, gather, texts
from tests.support.homes import Home, Place


async def carded(place: Place, name: str, **said: Any) -> Party:
    """An agent that everybody at its home finds."""
    who = await place.agent(name)
    card = t.Register(**{"visibility": "public", **said})
    await who.ask("directory.register", card, t.Registered)
    return who


async def to(who: Party, name: str, text: str = "got a minute?", **rest: Any) -> t.Sent:
    return await who.send(text, to=(name,), **rest)


async def said(who: Party, room: str) -> list[str]:
    """What the agent is shown of its direct room."""
    assert [(each.room, each.kind) for each in await who.rooms()] == [(room, "dm")]
    return texts(await who.recv(room=room, all=True, limit=500))


def test_a_message_to_a_name_reaches_an_agent_with_whom_no_room_was_opened(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await carded(place, "ben")
        sent = await to(ann, "ben")
        assert (sent.opened, sent.name) == (True, "dm/ann/ben")
        page = await ben.recv()
        assert (page.room, texts(page)) == (sent.room, ["got a minute?"])
        answer = await ben.send("yes", reply_to=page.messages[0].id)
        assert answer.room == sent.room
        assert await said(ann, sent.room) == await said(ben, sent.room) == ["got a minute?", "yes"]
        assert (await ann.why(sent.id))["ben"][0] == "stored"
        assert set(await ann.roster(sent.room)) == {"ann", "ben"}

    home.play(story)


def test_the_room_of_two_is_one_from_both_sides(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await carded(place, "ben")
        rooms = [(await to(who, name, str(n))).room for n, (who, name) in enumerate([(ann, "ben"), (ben, "ann")] * 2)]
        assert len(set(rooms)) == 1
        assert await said(ann, rooms[0]) == await said(ben, rooms[0]) == ["0", "1", "2", "3"]

    home.play(story)


def test_two_who_write_to_each_other_at_once_have_one_room(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await carded(place, "ben")
        sent: list[t.Sent] = []

        async def write(who: Party, name: str, text: str) -> None:
            sent.append(await to(who, name, text))

        await gather(partial(write, ann, "ben", "from ann"), partial(write, ben, "ann", "from ben"))
        assert len({each.room for each in sent}) == 1
        assert sum(each.opened is True for each in sent) == 1
        for who in (ann, ben):
            assert sorted(await said(who, sent[0].room)) == ["from ann", "from ben"]

    home.play(story)


def test_the_same_request_again_is_one_message_also_after_a_restart(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await carded(place, "ben")
        first = await to(ann, "ben", idempotency_key="once")
        again = await to(ann, "ben", idempotency_key="once")
        assert (again.room, again.id, again.replayed) == (first.room, first.id, True)
        assert await said(ben, first.room) == ["got a minute?"]

    async def later(place: Place) -> None:
        ann, ben = await place.agent("ann"), await place.agent("ben")
        again = await to(ann, "ben", idempotency_key="once")
        assert again.replayed
        assert await said(ben, again.room) == ["got a minute?"]

    home.play(story, later)


def test_who_wants_to_be_asked_is_reached_when_the_person_agreed(home: Home) -> None:
    async def story(place: Place) -> None:
        ben, ann = await carded(place, "ben", direct="ask"), await carded(place, "ann")
        sent = await to(ann, "ben")
        assert sent.awaits == "ben"
        assert await ben.rooms() == []
        person = await place.person()
        found = await person.ask("approvals.list", t.ListApprovals(), t.RequestList)
        assert [(each.name, each.direct_to, each.room) for each in found.requests] == [("ann", "ben", sent.room)]
        await person.deny("ann")
        assert (await to(ann, "ben", "please")).awaits == "ben"
        assert await ben.rooms() == []
        assert (await person.approve("ann")).direct_to == "ben"
        assert await said(ben, sent.room) == ["got a minute?", "please"]
        assert (await to(ben, "ann", "well?")).room == sent.room
        assert await said(ann, sent.room) == ["got a minute?", "please", "well?"]

    home.play(story)


def test_an_agent_that_wants_to_be_asked_has_its_person_asked_in_a_form_for_the_code_of_the_sender(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await place.window("ben")
        await ben.ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
        sent = await to(ann, (await ben.whoami()).name)
        assert isinstance(sent.join_code, str)
        found = await ben.ask("window.find_request", t.FindRequest(agent="ann"), t.FoundRequest)
        assert (found.request.room, found.owner_decides) == (sent.room, False)
        typed = t.DecideByForm(agent="ann", room=sent.room, join_code=sent.join_code)
        decided = await ben.ask("window.decide", typed, t.Decided)
        assert (decided.status, decided.proof) == ("approved", "form")
        assert await said(ben, sent.room) == ["got a minute?"]

    home.play(story)


def test_a_room_that_was_closed_is_followed_by_another_and_who_left_comes_back(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await carded(place, "ben")
        first = await to(ann, "ben", "one")
        assert await said(ben, first.room) == ["one"]
        assert await ben.close(first.room) == "left"
        assert await ben.rooms() == []
        assert (await to(ann, "ben", "two")).room == first.room
        assert await said(ben, first.room) == ["one", "two"]
        assert await ann.close(first.room) == "closed"
        await ben.rooms()
        second = await to(ben, "ann", "three")
        assert (second.opened, second.room == first.room) == (True, False)
        assert (await to(ann, "ben", "four")).room == second.room
        assert texts(await ben.recv(room=second.room, all=True)) == ["three", "four"]

    home.play(story)


def test_a_code_for_one_gives_whoever_has_it_a_direct_room_and_the_two_have_no_other(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await place.agent("ann"), await place.agent("ben")
        invited = await ann.ask("room.invite", t.Invite(approval=False), t.Invited)
        assert (invited.kind, invited.max_uses, invited.approval) == ("dm", 1, False)
        joined = await ben.join(invited.code)
        assert (joined.status, joined.room) == ("joined", invited.room)
        await ben.commit(joined)
        for who, name in ((ann, "ben"), (ben, "ann")):
            sent = await to(who, name, f"to {name}")
            assert (sent.room, sent.opened is True) == (invited.room, False)
        assert await said(ann, invited.room) == await said(ben, invited.room) == ["to ben", "to ann"]
        cat = await place.agent("cat")
        assert (await cat.refused("session.join", t.JoinSession(session_key=invited.code))).code == "unknown_key"
        another = await ann.ask("room.invite", t.Invite(approval=False), t.Invited)
        again = await ben.join(another.code)
        assert (again.status, again.room) == ("already_member", invited.room)
        assert (await cat.join(another.code)).room == another.room

    home.play(story)


def test_a_room_that_was_deleted_is_followed_by_another(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await carded(place, "ben")
        first = await to(ann, "ben", "one")
        assert await said(ben, first.room) == ["one"]
        person = await place.person()
        gone = await person.ask("room.delete", t.DeleteRoom(room=first.room, confirmed=True), t.DeletedRoom)
        assert gone.status != "asked"
        await ben.rooms()
        second = await to(ann, "ben", "two")
        assert (second.opened, second.room == first.room) == (True, False)
        assert texts(await ben.recv(room=second.room, all=True)) == ["two"]
        assert (await to(ben, "ann", "three")).room == second.room
        await person.ask("room.delete", t.DeleteRoom(room=second.room, confirmed=True), t.DeletedRoom)
        await ben.rooms()
        third = await to(ann, "ben", "four")
        assert third.room not in (first.room, second.room)
        assert texts(await ben.recv(room=third.room, all=True)) == ["four"]

    home.play(story)


def test_an_agent_without_a_card_is_like_one_that_is_not_there(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, ben = await carded(place, "ann"), await place.agent("ben")
        await ben.whoami()
        codes = [await ann.refused("message.send", t.Send(text="x", to=(name,))) for name in ("ben", "nobody")]
        assert [error.code for error in codes] == ["no_such_agent", "no_such_agent"]
        id = (await ben.whoami()).id
        assert (await ann.refused("message.send", t.Send(text="x", to=(id,)))).code == "no_such_agent"
        assert await ben.rooms() == []

    home.play(story)
