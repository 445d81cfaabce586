"""What an agent states of itself, as the others in its room and in the directory see it. Told once, played in every
home."""

from __future__ import annotations

import trio

from parlerd.operations import types as t
from tests.scenario.test_directs import carded
from tests.scenario.test_memory import together
from tests.support.engine import Party
from tests.support.homes import Home, Place


async def becomes(who: Party, name: str, stated: tuple[str, str] | None) -> None:
    """Until the roster says this of a member. How present members are is told over a link now and then."""
    said: tuple[str, str] | None = None
    for _ in range(300):
        member = (await who.roster())[name]
        said = (member.stated.status, member.stated.text) if isinstance(member.stated, t.StatedStatus) else None
        if said == stated:
            return
        await trio.sleep(0.5)
    raise AssertionError(f"it was {said} to the end")


async def state(who: Party, **said: object) -> None:
    await who.ask("agent.presence", t.StatePresence(**said), t.PresenceIs)  # type: ignore[arg-type]


def test_who_is_in_a_room_sees_what_another_states_until_it_takes_that_back(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, bob = await together(place, "ann", "bob")
        await becomes(ann, "bob", None)
        await state(bob, status="busy", text="running the long tests")
        await becomes(ann, "bob", ("busy", "running the long tests"))
        await becomes(bob, "ann", None)
        await state(bob, status="away")
        await becomes(ann, "bob", ("away", ""))
        await state(bob, status="none")
        await becomes(ann, "bob", None)

    home.play(story)


def test_who_is_found_in_the_directory_is_shown_with_what_it_states(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, bob = await together(place, "ann", "bob")
        await carded(place, "bob")
        await state(bob, status="busy", text="tests")
        await becomes(ann, "bob", ("busy", "tests"))
        found = await ann.ask("directory.discover", t.Discover(query="bob"), t.FoundAgents)
        (agent,) = [each for each in found.agents if each.name == "bob"]
        assert isinstance(agent.stated, t.StatedStatus)
        assert (agent.stated.status, agent.stated.text) == ("busy", "tests")

    home.play(story)
