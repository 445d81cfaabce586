"""Cards at a relay, over real links: published, found by whoever may see them, and not while the relay is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.model import AgentId, HomeId, Millis
from parlerd.core.statements import AgentCard, encode
from parlerd.operations import types as t
from tests.support.engine import Party, run
from tests.support.relayed import Home
from tests.uplink.test_relayed import Meeting, meeting_in, met


async def register(party: Party, **said: Any) -> t.Registered:
    return await party.ask("directory.register", t.Register(**said), t.Registered)


async def found(party: Party, **wanted: Any) -> dict[str, str]:
    """Names and homes."""
    answer = await party.ask("directory.discover", t.Discover(**wanted), t.FoundAgents)
    return {agent.name: agent.home for agent in answer.agents}


def relay_name(meeting: Meeting) -> str:
    [entry] = meeting.ann.uplinks.listed()
    return entry.name


def test_a_public_card_is_found_from_another_machine_and_a_private_one_by_who_shares_a_room(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            name = relay_name(meeting)
            dora = await ben.agent("dora")
            done = await register(meeting.alice, home=name, tags=("web",), role="planner")
            assert [(at.home, at.status) for at in done.homes] == [("local", "published"), (name, "published")]
            assert (await found(meeting.bob), await found(dora)) == ({"alice": name}, {})
            await register(meeting.alice, home=name, visibility="public")
            assert await found(dora, tag="web", role="planner") == {"alice": name}
            assert await found(dora, tag="other") == {}
            (alice,) = (await dora.ask("directory.discover", t.Discover(), t.FoundAgents)).agents
            assert (alice.id, alice.verified) == ((await meeting.alice.whoami()).id, "valid")
            assert alice.status != "offline"
            await register(meeting.alice, home=name, visibility="withdrawn")
            assert await found(dora) == {}

    run(main)


def test_a_card_outlives_its_relay_and_a_relay_that_is_away_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.meet(ann, ben)
                name = relay_name(meeting)
                await register(meeting.alice, visibility="public", home=name)
            await trio.sleep(5)
            begun = trio.current_time()
            answer = await meeting.bob.ask("directory.discover", t.Discover(), t.FoundAgents)
            assert (answer.agents, answer.silent) == ([], [name])
            assert trio.current_time() - begun < 0.1
            kept = await register(meeting.alice, role="planner", home=name)
            assert [(at.home, at.status) for at in kept.homes] == [("local", "published"), (name, "pending")]
            async with meeting.relay.serving():
                await trio.sleep(120)
                assert await found(meeting.bob, role="planner") == {"alice": name}

    run(main)


@pytest.mark.parametrize("lie", ["agent", "principal", "home", "signature"])
def test_a_relay_takes_a_card_only_from_the_agent_that_it_is_of(tmp_path: Path, lie: str) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            [link] = meeting.ann.uplinks._links.values()
            me, bob = await meeting.alice.whoami(), await meeting.bob.whoami()
            said = {"agent": me.id, "principal": me.principal, "home": link.home}
            wrong = {"agent": bob.id, "principal": bob.principal, "home": HomeId(me.principal)}
            card = AgentCard(
                **{**said, **({lie: wrong[lie]} if lie in wrong else {})},  # type: ignore[arg-type]
                name="alice",
                visibility="public",
                revision=1,
                at=Millis(1),
                nonce=bytes(16),
            )
            body = encode(card)
            signature = meeting.ann.world.keys.sign(me.id, "parler/card", body)
            if lie == "signature":
                signature = meeting.ann.world.keys.sign(me.id, "parler/message", body)
            error = await _refusal(link, t.PublishCard(agent=me.id, card=body, signature=signature), me.id)
            assert (error.code, error.details["what"]) == ("statement_refused", lie)
            assert await found(meeting.bob) == {}

    run(main)


async def _refusal(link: Any, params: t.PublishCard, agent: str) -> Any:
    try:
        await link.call("link.publish", params, by=AgentId(agent))
    except Exception as error:
        return error
    raise AssertionError("the relay took it")


def owed(home: Home) -> int:
    """How many cards wait at this side for its relay."""
    (entry,) = home.uplinks.listed()
    return entry.cards


async def pending(party: Party) -> list[tuple[str, str]]:
    """What the agent is told of its own card at homes where it does not stand as it is here."""
    card = await party.ask("directory.card", t.ShowCard(), t.FoundAgent)
    return [] if isinstance(card.pending, msgspec.UnsetType) else [(at.status, at.code) for at in card.pending]


def test_a_card_for_a_relay_that_was_away_goes_there_by_itself_after_a_restart_and_the_newest_wins(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                async with meeting.relay.serving():
                    await meeting.meet(ann, ben)
                    name = relay_name(meeting)
                    await register(meeting.alice, visibility="public", home=name)
                await trio.sleep(5)
                await register(meeting.alice, role="planner", home=name)
                kept = await register(meeting.alice, role="reviewer", home=name)
                assert kept.homes[1].status == "pending"
                assert (owed(meeting.ann), await pending(meeting.alice)) == (1, [("pending", "")])
            async with meeting.relay.serving(), meeting.ann.serving() as ann:
                for _ in range(300):
                    # Ben's home finds out by itself, too, that the relay is back.
                    if await found(meeting.bob, role="reviewer"):
                        break
                    await trio.sleep(1)
                assert await found(meeting.bob, role="reviewer") == {"alice": name}
                assert owed(meeting.ann) == 0
                assert await found(meeting.bob, role="planner") == {}
                assert await pending(await ann.agent("alice")) == []

    run(main)


def test_a_card_that_was_taken_back_while_its_relay_was_away_is_taken_back_there_too(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.meet(ann, ben)
                name = relay_name(meeting)
                await register(meeting.alice, visibility="public", home=name)
                assert await found(meeting.bob) == {"alice": name}
            await trio.sleep(5)
            gone = await register(meeting.alice, visibility="withdrawn", home=name)
            assert (gone.agent, gone.homes[1].status) == (None, "pending")
            async with meeting.relay.serving():
                await trio.sleep(120)
                assert (owed(meeting.ann), await found(meeting.bob)) == (0, {})

    run(main)


def test_a_relay_that_is_taken_out_is_owed_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.meet(ann, ben)
                name = relay_name(meeting)
            await trio.sleep(5)
            await register(meeting.alice, visibility="public", home=name)
            assert owed(meeting.ann) == 1
            await meeting.ann.uplinks.remove(name)
            assert await pending(meeting.alice) == []

    run(main)
