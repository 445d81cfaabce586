"""What an agent states of itself, as the others in its room and in the directory see it. Told once, played in every
home."""

from __future__ import annotations

from functools import partial
from typing import Any

from parlerd.operations import types as t
from tests.scenario.test_directs import carded
from tests.scenario.test_memory import together
from tests.support.engine import Party, gather
from tests.support.homes import Home, Place, until
from tests.support.room_state import put


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
        ann, bob = await together(place, "ann", "bob", clear=True)
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
        ann, bob = await together(place, "ann", "bob", clear=True)
        await carded(place, "bob")
        await state(bob, status="busy", text="tests")
        await becomes(ann, "bob", ("busy", "tests"))
        found = await ann.ask("directory.discover", t.Discover(query="bob"), t.FoundAgents)
        (agent,) = [each for each in found.agents if each.name == "bob"]
        assert isinstance(agent.stated, t.StatedStatus)
        assert (agent.stated.status, agent.stated.text) == ("busy", "tests")

    home.play(story)


def test_what_an_agent_states_is_its_status_in_expressions_and_wakes_who_waits_for_it(home: Home) -> None:
    async def story(place: Place) -> None:
        ann, bob = await together(place, "ann", "bob", clear=True)

        async def waits(status: str) -> None:
            wanted = t.WaitUntil(condition=f'agents.bob.status == "{status}"', wait_ms=20_000)
            assert (await ann.ask("state.wait", wanted, t.WaitEnded)).triggered

        await gather(partial(waits, "busy"), partial(state, bob, status="busy"))
        # A wait of its own comes before what it states, which is its status again after the wait.
        own = t.WaitUntil(condition="has(state._shared.done)", wait_ms=20_000, include=("agents",))
        ended: list[t.WaitEnded] = []

        async def wait() -> None:
            ended.append(await bob.ask("state.wait", own, t.WaitEnded))

        async def let_go() -> None:
            await waits("waiting")
            await put(ann, "done", True)

        await gather(wait, let_go)
        assert isinstance(ended[0].agents, dict)
        assert ended[0].agents["bob"]["status"] == "busy"
        await gather(partial(waits, "active"), partial(state, bob, status="none"))

    home.play(story)
