"""Cards that a relay is owed: sent again by themselves where it was away, and never where it refused them."""

from __future__ import annotations

import pytest

from parlerd.core.errors import Refused
from parlerd.engine.publishing import Publishing
from parlerd.operations import types as t
from tests.engine.test_directory import card, register
from tests.support.engine import Served, run
from tests.support.fake_homes import FAR, FakeHomes, beside


def publishing(served: Served) -> Publishing:
    """What the link to a relay does once the relay answers."""
    engine = served.engine
    return Publishing(engine._desk, engine._author)


def test_what_is_sent_when_the_relay_answers_is_what_the_card_says_then() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice = await served.agent("alice")
            homes.mood = "silent"
            await register(alice, visibility="public", role="planner", home=FAR)
            await register(alice, role="reviewer", home="local")
            homes.mood = "answers"
            await publishing(served).send_owed(homes.home)
            assert [each.role for each in homes.cards.values()] == ["reviewer"]
            assert homes.owed == {}

    run(main)


def test_what_the_relay_refuses_waits_for_the_agent_and_is_sent_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice = await served.agent("alice")
            homes.mood = "silent"
            await register(alice, visibility="public", home=FAR)

            async def refuse(self: FakeHomes, *_: object) -> t.CardKept:
                raise Refused("too_many_cards", limit=1)

            homes.mood = "answers"
            with monkeypatch.context() as patched:
                patched.setattr(FakeHomes, "publish", refuse)
                await publishing(served).send_owed(homes.home)
            assert (await card(alice)).pending == [t.CardAt(home=FAR, status="failed", code="too_many_cards")]
            await publishing(served).send_owed(homes.home)
            assert homes.cards == {}
            assert (await register(alice, home=FAR)).homes[1].status == "published"
            assert (len(homes.cards), homes.owed) == (1, {})

    run(main)


def test_a_relay_that_falls_silent_again_is_owed_the_rest() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            homes.mood = "silent"
            for name in ("alice", "bob"):
                await register(await served.agent(name), visibility="public", home=FAR)
            await publishing(served).send_owed(homes.home)
            assert list(homes.owed.values()) == ["", ""]
            homes.mood = "answers"
            await publishing(served).send_owed(homes.home)
            assert (len(homes.cards), homes.owed) == (2, {})

    run(main)
