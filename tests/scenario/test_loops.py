"""Two agents that wake each other for ever: where they stop, what is said of it, and who lets them go on. Told once,
played in every home."""

from __future__ import annotations

import pytest

from parlerd.core.loops import WAKES_AN_HOUR, WAKES_OF_PAIR
from parlerd.operations import types as t
from tests.scenario.test_memory import heard, settled, together
from tests.support.engine import Party
from tests.support.homes import Home, Place

NAMES = ("ann", "bob")


class Talk:
    """Ann and Bob, each of whom reads whatever wakes it and answers it."""

    def __init__(self, place: Place, *who: Party) -> None:
        self.place = place
        self.who = who
        self.last = ""
        """The newest message."""
        self.next = 1
        """Whom it would wake: 0 for Ann, 1 for Bob."""
        self.turns = 0
        """How many turns began."""

    @classmethod
    async def begin(cls, place: Place) -> Talk:
        talk = cls(place, *await together(place, *NAMES))
        await settled(*talk.who)
        for who in talk.who:
            await who.read(limit=500)
        await talk.say("shall we?")
        return talk

    async def say(self, text: str, *, replies: bool = False) -> None:
        """Whoever is not next says something to the one that is."""
        author = self.who[1 - self.next]
        self.last = (await author.send(text, reply_to=self.last if replies else None)).id
        await heard(self.who[self.next], self.last)

    async def wakes(self) -> bool:
        hook = await self.place.hook(NAMES[self.next])
        return (await hook.ask("wake.check", t.WakeCheck(turn=True), t.Waiting)).wake

    async def go_on(self, *, replies: bool = True) -> None:
        """Until the next one is not woken."""
        while await self.wakes():
            self.turns += 1
            assert self.turns <= 2 * WAKES_AN_HOUR
            await self.who[self.next].read(limit=500)
            self.next = 1 - self.next
            await self.say("and you?", replies=replies)

    async def let_go_on(self, name: str) -> t.ContinuedRoom:
        room = (await self.who[NAMES.index(name)].rooms())[0].room
        person = await self.place.person_of(name)
        return await person.ask("room.continue", t.ContinueRoom(room=room), t.ContinuedRoom)

    async def bound(self, name: str, turns: int | None) -> t.RoomTurns:
        """The person of this agent sets how many turns two agents may begin, or looks."""
        room = (await self.who[NAMES.index(name)].rooms())[0].room
        person = await self.place.person_of(name)
        return await person.ask("room.turns", t.TurnsInRoom(room=room, turns=turns), t.RoomTurns)


def test_two_agents_that_answer_each_other_stop_and_go_on_when_their_person_lets_them(home: Home) -> None:
    async def story(place: Place) -> None:
        talk = await Talk.begin(place)
        await talk.go_on()
        assert talk.turns == WAKES_OF_PAIR
        # Whoever asks is answered.
        assert (await talk.who[talk.next].recv()).messages[-1].id == talk.last
        principals = {(await who.whoami()).principal for who in talk.who}
        for name in NAMES[: len(principals)]:
            assert (await talk.let_go_on(name)).status == "continued"
        # What came while they were held back wakes too.
        await talk.go_on()
        assert talk.turns == 2 * WAKES_OF_PAIR

    home.play(story)


def test_two_agents_stop_after_as_many_turns_as_their_people_set_also_after_a_restart(home: Home) -> None:
    last: list[tuple[str, int]] = []

    async def before(place: Place) -> None:
        talk = await Talk.begin(place)
        principals = {(await who.whoami()).principal for who in talk.who}
        for name in NAMES[: len(principals)]:
            assert (await talk.bound(name, 4)).turns == 4
        await talk.go_on()
        assert talk.turns == 4
        last.append((talk.last, talk.next))

    async def after(place: Place) -> None:
        talk = Talk(place, *[await place.agent(name) for name in NAMES])
        talk.last, talk.next = last[0]
        await heard(talk.who[talk.next], talk.last)
        assert not await talk.wakes()
        principals = {(await who.whoami()).principal for who in talk.who}
        for name in NAMES[: len(principals)]:
            assert (await talk.bound(name, None)).turns == 4
            assert (await talk.bound(name, 6)).turns == 6
        await talk.go_on()
        assert talk.turns == 2

    home.play(before, after)


def test_two_agents_that_hand_the_turn_to_and_fro_stop_and_go_on_when_their_person_lets_them(home: Home) -> None:
    async def story(place: Place) -> None:
        talk = await Talk.begin(place)
        await talk.who[talk.next].read(limit=500)

        async def give() -> None:
            """Whoever is not next offers the turn to the one that is."""
            talk.last = (await talk.who[1 - talk.next].handoff("your turn", to=NAMES[talk.next])).id
            await heard(talk.who[talk.next], talk.last)

        async def go_on() -> None:
            while await talk.wakes():
                talk.turns += 1
                assert talk.turns <= 2 * WAKES_AN_HOUR
                who = talk.who[talk.next]
                await who.read(limit=500)
                await who.ask("handoff.accept", t.AcceptHandoff(id=talk.last), t.AnsweredHandoff)
                talk.next = 1 - talk.next
                await give()

        await give()
        await go_on()
        assert talk.turns == WAKES_OF_PAIR
        # Whoever asks is answered, and may take the turn.
        assert (await talk.who[talk.next].recv()).messages[-1].id == talk.last
        principals = {(await who.whoami()).principal for who in talk.who}
        for name in NAMES[: len(principals)]:
            assert (await talk.let_go_on(name)).status == "continued"
        await go_on()
        assert talk.turns == 2 * WAKES_OF_PAIR

    home.play(story)


def test_a_hand_off_that_is_asked_for_again_is_the_same_one_also_once_its_giver_holds_another_turn(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, bob = await together(place, *NAMES)
        await settled(ann, bob)
        first = await ann.handoff("begin", to="bob")
        await heard(bob, first.id)
        await bob.ask("handoff.accept", t.AcceptHandoff(id=first.id), t.AnsweredHandoff)
        given = await bob.handoff("your turn", to="ann", idempotency_key="once")
        await heard(ann, given.id)
        await ann.ask("handoff.accept", t.AcceptHandoff(id=given.id), t.AnsweredHandoff)
        await settled(ann, bob)
        again = await bob.handoff("your turn", to="ann", idempotency_key="once")
        assert (again.id, again.replayed) == (given.id, True)
        other = t.GiveHandoff(next="another", for_="ann", idempotency_key="once")
        assert (await bob.refused("handoff.give", other)).code == "idempotency_conflict"
        [message] = [each for each in (await ann.recv(all=True, limit=500)).messages if each.id == given.id]
        assert message.reply_to == first.id

    home.play(story)


@pytest.mark.parametrize("home", ["memory", "two homes"], indirect=True)
def test_a_new_conversation_each_time_meets_the_bound_of_the_hour(home: Home) -> None:
    async def story(place: Place) -> None:
        talk = await Talk.begin(place)
        await talk.go_on(replies=False)
        principals = {(await who.whoami()).principal for who in talk.who}
        # Of two homes each lets its own agents begin so many; the first turn was Bob's.
        assert talk.turns == len(principals) * WAKES_AN_HOUR
        assert (await talk.who[talk.next].recv()).messages[-1].id == talk.last

    home.play(story)
