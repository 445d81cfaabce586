"""What an agent states of itself, as the others in its room and in the directory see it. Told once, played in every
home."""

from __future__ import annotations

from typing import Any

from parlerd.operations import types as t
from tests.scenario.test_directs import carded
from tests.scenario.test_memory import together
from tests.support.engine import Party
from tests.support.homes import Home, Place, until


async def becomes(who: Party, name: str, stated: tuple[str, str] | None) -> None:
    """Until the roster says this of a member. How present members are is told over a link now and then."""

    async def is_said() -> bool:
        said = (await who.roster())[name].stated
        return ((said.status, said.text) if isinstance(said, t.StatedStatus) else None) == stated

    await until(is_said, pause=0.5)


async def state(who: Party, **said: Any) -> None:
    await who.ask("agent.presence", t.StatePresence(**said), t.PresenceIs)


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
