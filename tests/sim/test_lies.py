"""A relay that lies is found out or achieves nothing, or what it can do unnoticed is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim import direct_lies, direct_stories, first_contact, lies, queue_lies, sealed_lies, sealed_stories, tales
from tests.sim.world import Plan, Simulation

SEEDS = 3
FEW = 2
"""How often what has no weather in it is played: the order of tasks alone is drawn."""
DOCS = Path(__file__).parents[2] / "docs"
RELAY = DOCS / "relay.md"
SEALED = DOCS / "sealed.md"


@pytest.mark.parametrize(
    "liar",
    [
        lies.Dropping,
        lies.Withholding,
        lies.Reordering,
        lies.Repeating,
        lies.Altering,
        lies.Swapping,
        lies.Inventing,
    ],
)
@pytest.mark.parametrize("plan", [lies.STORY, sealed_lies.STORY], ids=["clear", "sealed"])
def test_a_lie_about_messages_is_found_out(plan: Plan, liar: type[lies.Liar]) -> None:
    told = [outcome for seed in range(5) if (outcome := lies.lie(seed, liar, plan)).has_lied]
    assert len(told) >= 2, "the relay had no occasion to lie"
    found_out = [bool(outcome.contradicted) for outcome in told]
    assert all(found_out), found_out


@pytest.mark.parametrize("liar", sealed_lies.LIES)
def test_what_a_relay_tells_of_the_records_of_a_sealed_room(liar: type[sealed_lies.RecordLiar]) -> None:
    fates = {sealed_lies.lie(seed, liar) for seed in range(SEEDS)}
    assert fates == {(liar.fate, True)}
    assert (liar.fate == "unnoticed") is bool(liar.listed)
    assert liar.listed in " ".join(SEALED.read_text().split())


@pytest.mark.parametrize("story", [sealed_lies.Overtaken, sealed_lies.Lost])
def test_a_sealed_room_goes_on_where_a_record_overtakes_a_message_or_is_lost(story: type[Simulation]) -> None:
    for seed in range(SEEDS):
        story(seed).run()


@pytest.mark.parametrize("story", sealed_stories.STORIES)
def test_what_a_relay_and_a_member_could_do_together_in_a_sealed_room_and_an_owner_who_was_away(
    story: type[Simulation],
) -> None:
    lied = 0
    for seed in range(SEEDS):
        told = story(seed)
        told.run()
        lied += isinstance(told, lies.Lied) and told.liar.has_lied
    assert lied >= 2 or not issubclass(story, lies.Lied), "the relay had no occasion to lie"


@pytest.mark.parametrize("story", [*direct_lies.LIES, *direct_stories.STORIES])
def test_what_a_relay_tells_of_rooms_of_two_and_machines_that_went_back_lose_and_leak_nothing(
    story: type[direct_lies.Two],
) -> None:
    for seed in range(FEW):
        story(seed).run()


@pytest.mark.parametrize("story", queue_lies.LIES)
def test_what_a_relay_tells_who_asks_a_sealed_queue_for_work(story: type[queue_lies.Asked]) -> None:
    for seed in range(FEW):
        story(seed).run()


@pytest.mark.parametrize("tale", tales.TALES)
def test_what_else_a_relay_tells_is_impossible_or_found_out_or_on_the_list(tale: type[tales.Tale]) -> None:
    """There is no fourth class: the story says where another one came of it than the tale is in."""
    told = 0
    for seed in range(SEEDS):
        teller = tale()
        tales.Told(seed, teller).run()
        told += teller.has_lied
    assert told >= 2, "the relay had no occasion to lie"
    assert (tale.fate == "unnoticed") is bool(tale.listed)
    assert tale.listed in RELAY.read_text()


@pytest.mark.parametrize("told", first_contact.LIES)
def test_a_home_that_hears_of_a_room_for_the_first_time_believes_what_was_signed(told: first_contact.Lie) -> None:
    first_contact.FirstContact(0, told).run()
