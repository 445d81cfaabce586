"""The directory as agents and people ask it: own cards, who finds whom, and the directories of other homes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parlerd.core.statements import AgentCard, check, encode
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run
from tests.support.fake_homes import FAR, FakeHomes, beside


async def register(party: Party, **said: Any) -> t.Registered:
    return await party.ask("directory.register", t.Register(**said), t.Registered)


async def discover(party: Party, **wanted: Any) -> t.FoundAgents:
    return await party.ask("directory.discover", t.Discover(**wanted), t.FoundAgents)


async def names(party: Party, **wanted: Any) -> list[str]:
    return [agent.name for agent in (await discover(party, **wanted)).agents]


async def card(party: Party, agent: str | None = None) -> t.FoundAgent:
    return await party.ask("directory.card", t.ShowCard(agent=agent), t.FoundAgent)


async def three(served: Served) -> tuple[Party, Party, Party]:
    """Alice and Bob share a room, Carol is in none with them. Each acts by name, as an agent and not as the person."""
    alice, bob = await served.room("alice", "bob")
    return alice, bob, await served.agent("carol")


def test_a_card_is_private_at_first_and_only_who_shares_a_room_finds_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await three(served)
            assert (await alice.refused("directory.card", t.ShowCard())).code == "no_card"
            done = await register(alice, tags=("planning",), skills=("decompose",), description="Plans.")
            assert done.homes == [t.CardAt(home="local", status="published")]
            assert done.agent is not None
            assert (done.agent.visibility, done.agent.tags, done.agent.skills) == (
                "private",
                ["planning"],
                ["decompose"],
            )
            assert (await names(bob), await names(carol)) == (["alice"], [])
            assert (await carol.refused("directory.card", t.ShowCard(agent="alice"))).code == "no_card"
            await register(alice, visibility="public")
            assert await names(carol) == ["alice"]
            found = await card(carol, "alice")
            assert (found.name, found.description, found.verified, found.home) == ("alice", "Plans.", "valid", "local")
            assert await card(carol, found.id) == found

    run(main)


def test_what_is_not_given_stays_as_it_was_and_nothing_new_is_no_new_card() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, carol = await three(served)
            await register(alice, visibility="public", tags=("a", "b"), role="planner", description="Plans.")
            done = await register(alice, role="reviewer")
            assert done.agent is not None
            assert (done.agent.visibility, done.agent.role, done.agent.tags) == ("public", "reviewer", ["a", "b"])
            assert done.agent.description == "Plans."
            assert (await register(alice)).homes == [t.CardAt(home="local", status="unchanged")]
            cleared = await register(alice, tags=(), description="")
            assert cleared.agent is not None
            assert (cleared.agent.tags, cleared.agent.description) == ([], "")
            gone = await register(alice, visibility="withdrawn")
            assert (gone.agent, await names(carol)) == (None, [])
            assert (await register(alice, visibility="withdrawn")).homes[0].status == "unchanged"

    run(main)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"tags": ("two words",)}, "tags"),
        ({"tags": ("a", "a")}, "tags"),
        ({"tags": ("",)}, "tags"),
        ({"skills": ("\u202eevil",)}, "skills"),
        ({"role": "the boss of all"}, "role"),
        ({"role": "Owner"}, "role"),
    ],
)
def test_what_cannot_stand_on_a_card_is_refused_by_name_and_changes_nothing(said: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            error = await alice.refused("directory.register", t.Register(**said))
            assert (error.code, error.details["param"]) == ("invalid_param", param)
            assert (await alice.refused("directory.card", t.ShowCard())).code == "no_card"

    run(main)


def test_a_card_outlives_a_restart_and_who_went_is_offline_since_then() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, _ = await three(served)
            await register(alice, visibility="public")
            world = served.world
            (before,) = (await discover(bob)).agents
            assert before.status == "active"
            assert await names(bob, online=True) == ["alice"]
        async with world.serving() as again:
            carol = await again.agent("carol")
            (after,) = (await discover(carol)).agents
            assert (after.name, after.status) == ("alice", "offline")
            assert await names(carol, online=True) == []

    run(main)


def test_who_is_there_comes_first_and_a_long_list_says_that_it_is_cut() -> None:
    async def main() -> None:
        async with engine_world() as served:
            looker = await served.agent("looker")
            parties = [await served.agent(name) for name in ("a", "b", "c")]
            for party in parties:
                await register(party, visibility="public")
            await served.engine.disconnect(parties[0].caller)
            found = await discover(looker)
            assert ([agent.name for agent in found.agents], found.more) == (["b", "c", "a"], False)
            found = await discover(looker, limit=2)
            assert ([agent.name for agent in found.agents], found.more) == (["b", "c"], True)

    run(main)


# -- other homes -------------------------------------------------------------------------------------------


def test_a_card_stands_at_the_default_relay_too_signed_for_that_relay() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice = await served.agent("alice")
            homes.default = homes.home
            done = await register(alice, visibility="public", tags=("web",))
            assert done.homes == [
                t.CardAt(home="local", status="published"),
                t.CardAt(home=FAR, status="published"),
            ]
            (signed,) = homes.signed.values()
            assert check(signed[0], AgentCard).home == homes.home
            # A relay that was restored from a later copy than this home knows of.
            (known,) = homes.cards.items()
            homes.cards[known[0]] = msgspec.structs.replace(known[1], revision=known[1].revision + 10**9)
            assert (await register(alice, role="planner")).homes[1].status == "published"
            assert (await register(alice, role="reviewer", home="local")).homes == done.homes[:1]

    run(main)


def test_a_relay_that_does_not_answer_is_named_and_the_card_stands_here() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice, bob = await served.agent("alice"), await served.agent("bob")
            homes.mood = "silent"
            done = await register(alice, visibility="public", home=FAR)
            assert [(at.home, at.status, at.code) for at in done.homes] == [
                ("local", "published", ""),
                (FAR, "pending", "home_unreachable"),
            ]
            own = await alice.ask("directory.card", t.ShowCard(), t.FoundAgent)
            assert own.pending == [t.CardAt(home=FAR, status="pending")]
            found = await discover(bob)
            assert ([agent.name for agent in found.agents], found.silent) == (["alice"], [FAR])
            assert (await discover(bob, home="local")).silent == []
            error = await bob.refused("directory.card", t.ShowCard(agent="nobody"))
            assert (error.code, "Not every relay answered" in (error.hint or "")) == ("no_card", True)

    run(main)


async def _from_elsewhere(homes: FakeHomes, served: Served, **changed: Any) -> None:
    """Puts the card of an agent of another home into the relay's directory."""
    keys: Any = homes.owner
    made = AgentCard(
        home=homes.home,
        agent=keys.id,
        principal=homes.person.id,  # type: ignore[arg-type]
        name="zoe",
        tags=("web",),
        visibility="public",
        revision=1,
        at=served.world.clock.now(),
        nonce=bytes(16),
    )
    body = encode(msgspec.structs.replace(made, **changed))
    homes.signed[keys.id] = body, keys.sign("parler/card", body)


def test_agents_of_other_homes_are_found_by_cards_that_they_signed_and_by_no_others() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            bob = await served.agent("bob")
            await _from_elsewhere(homes, served)
            (zoe,) = (await discover(bob)).agents
            assert (zoe.name, zoe.home, zoe.status, zoe.verified) == ("zoe", FAR, "idle", "valid")
            assert (await card(bob, "zoe")).id == zoe.id
            for lie in ({"home": served.world.keys.id}, {"visibility": "withdrawn"}, {"name": "not a name"}):
                await _from_elsewhere(homes, served, **lie)
                assert (await discover(bob)).agents == [], lie
            await _from_elsewhere(homes, served)
            body, _ = homes.signed[homes.owner.id]  # type: ignore[index]
            homes.signed[homes.owner.id] = body, bytes(64)  # type: ignore[index]
            assert (await discover(bob)).agents == []

    run(main)


def test_a_name_that_two_agents_have_is_no_answer_but_a_question_with_candidates() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            bob, zoe = await served.agent("bob"), await served.agent("zoe")
            await _from_elsewhere(homes, served)
            await register(zoe, visibility="public", home="local")
            error = await bob.refused("directory.card", t.ShowCard(agent="zoe"))
            assert error.code == "ambiguous_name"
            candidates = error.details["candidates"]
            assert sorted(each.rpartition(", ")[2] for each in candidates) == ["local)", f"{FAR})"]
            here = (await register(zoe)).agent
            assert here is not None
            assert (await card(bob, here.id)).home == "local"
            assert (await bob.refused("directory.card", t.ShowCard(agent="Zoe"))).code == "no_card"

    run(main)
