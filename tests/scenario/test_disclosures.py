"""To whom what somebody wrote was shown, and when first. Told once, played in every home."""

from __future__ import annotations

from typing import Any

from parlerd.operations import types as t
from tests.scenario.test_memory import together
from tests.support.engine import Party
from tests.support.homes import Home, Place, until


async def disclosed(who: Party, *sent: t.Sent, **rest: Any) -> list[list[str]]:
    """The names to whom each of these messages was shown."""
    found = await who.ask("message.disclosures", t.ListDisclosures(**rest), t.Disclosures)
    told = {message.id: [each.name for each in message.shown] for message in found.messages}
    return [told[each.id] for each in sent]


def test_an_author_learns_who_was_shown_its_messages_and_nobody_else_does(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = await together(place, "alice", "bob", "carol")
        everyone = await alice.send("for everyone")
        private = await alice.send("for bob", visible_to=("bob",))
        later = await alice.send("for everyone, later")
        assert await disclosed(alice, everyone, private, later, after=0) == [[], [], []]
        await bob.read()
        # What carol read goes over the place of the private message, which it did not see.
        await carol.read()
        told = [["bob", "carol"], ["bob"], ["bob", "carol"]]

        async def are_told() -> bool | None:
            return await disclosed(alice, everyone, private, later, after=0) == told or None

        assert await until(are_told)
        assert await disclosed(alice, everyone, private, later) == told
        for other in (bob, carol):
            assert (await other.ask("message.disclosures", t.ListDisclosures(), t.Disclosures)).messages == []

    home.play(story)


def test_a_moment_is_the_first_one_and_a_long_room_is_looked_through_in_parts(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        first = await alice.send("one")
        before = (first.seq or 0) - 1
        await bob.read()

        async def first_shown() -> t.Disclosure | None:
            params = t.ListDisclosures(after=before)
            (message,) = (await alice.ask("message.disclosures", params, t.Disclosures)).messages
            return message.shown[0] if message.shown else None

        shown = await until(first_shown)
        for n in range(3):
            await bob.send(str(n))
        await alice.send("two")
        await bob.read()
        again = await alice.ask("message.disclosures", t.ListDisclosures(after=before, limit=2), t.Disclosures)
        assert [message.id for message in again.messages] == [first.id]
        assert again.messages[0].shown == [shown]
        assert again.more
        rest = await alice.ask("message.disclosures", t.ListDisclosures(after=again.upto, limit=9), t.Disclosures)
        assert [message.author for message in rest.messages] == ["alice"]
        assert not rest.more

    home.play(story)


def test_who_left_since_is_not_left_out(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, _ = await together(place, "alice", "bob", "carol")
        sent = await alice.send("for everyone")
        await bob.read()

        async def is_told() -> bool | None:
            [names] = await disclosed(alice, sent, after=0)
            return "bob" in names or None

        assert await until(is_told)
        await bob.ask("room.leave", t.LeaveAsMember(room=sent.room), t.MemberGone)

        async def is_gone() -> bool | None:
            roster = await alice.ask("rooms.roster", t.Roster(), t.RosterResult)
            return all(each.name != "bob" for each in roster.members) or None

        assert await until(is_gone)
        assert await is_told()

    home.play(story)


def test_the_person_learns_it_of_all_their_agents(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        sent = [await bob.send("for alice", visible_to=("alice",)), await alice.send("for bob", visible_to=("bob",))]
        await alice.read()
        await bob.read()
        for name, written in (("bob", sent[0]), ("alice", sent[1])):
            person = await place.person_of(name)
            for after in (0, None):
                params = t.ListDisclosures(room=written.room, after=after)
                found = await person.ask("message.disclosures", params, t.Disclosures)
                assert written.id in [each.id for each in found.messages]
                assert not found.more

    home.play(story)
