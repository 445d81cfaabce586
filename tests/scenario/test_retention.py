"""Old words go where there are too many, and everybody in the room sees the same of it. Told once, played in every
home."""

from __future__ import annotations

import msgspec
import trio

from parlerd.engine.reading import ERASED
from parlerd.operations import types as t
from tests.scenario.test_memory import recall, remember, settled, together
from tests.support.engine import Party, texts
from tests.support.homes import Act, Home, Place, until

FEW = 12
"""Of so many messages a room keeps the words; of twice as many for the sake of who has not read them."""
SAID = 60


async def talk(place: Place) -> None:
    """Alice says much to Bob, who reads everything: some of it to him alone, and in the middle what the room needs."""
    alice, bob = await together(place, "alice", "bob", clear=True)
    await remember(alice, "deploy strategy is blue-green", key="deploy")
    await alice.handoff("review it", to="bob")
    for number in range(SAID):
        await alice.send(f"n{number}", visible_to=("bob",) if number % 3 == 0 else None)
    await settled(alice, bob)
    while (page := await bob.recv(limit=500)).messages:
        await bob.commit(page)


async def erased(reader: Party) -> t.Received:
    """Everything that a reader can look back at, once the newest words alone are left."""

    async def few_are_left() -> t.Received | None:
        page = await reader.recv(since=0, limit=500)
        return page if sum(each.erased is not True for each in page.messages) <= 2 * FEW else None

    return await until(few_are_left)


def test_everybody_is_told_the_same_of_words_that_went_and_reads_on(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        for who in (alice, bob):
            page = await erased(who)
            assert [each.seq for each in page.messages] == list(range(1, len(page.messages) + 1))
            gone = [each for each in page.messages if each.erased is True]
            assert SAID - 2 * FEW <= len(gone) <= SAID
            assert page.notice == f"Words erased by retention or a timer ({len(gone)} messages)."
            assert {(each.text, each.verified) for each in gone} == {(ERASED, "valid")}
            assert {each.kind for each in gone} == {"text"}
            kinds = [each.kind for each in page.messages if each.erased is not True]
            assert kinds[:3] == ["context", "memory", "handoff"], "what the room needs stays"
            assert texts(page)[-3:][:1] == [f"n{SAID - 1}"]
            why = await who.ask("message.why", t.Why(id=gone[0].id), t.WhyResult)
            assert why.erased is True
        assert [each.text for each in await recall(bob, "deploy")] == ["deploy strategy is blue-green"]
        await settled(alice, bob)
        assert [room.alarm for room in await bob.rooms()] == [""]

    home.play(talk, limiting(home), story)


def test_a_room_of_which_words_went_is_sound_and_says_so_after_one_restart_more(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, person = await place.agent("alice"), await place.agent("bob"), await place.person()
        for who in (alice, bob):
            assert (await erased(who)).notice.startswith("Words erased by retention or a timer (")
        checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
        assert [check.detail for check in checks if not check.ok] == []
        [listed] = (await person.ask("rooms.list", t.ListRooms(size=True), t.RoomList)).rooms
        assert isinstance(listed.kept, t.KeptSize)
        assert isinstance(listed.kept.erased, int)
        assert SAID - 2 * FEW <= listed.kept.erased <= SAID

    home.play(talk, limiting(home), story, story)


def limiting(home: Home) -> Act:
    """An act after which the home keeps little."""

    async def limit(place: Place) -> None:
        home.settings = msgspec.structs.replace(home.settings, retention_room_messages=FEW)
        await trio.lowlevel.checkpoint()

    return limit
