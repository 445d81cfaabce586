"""The directory of a home: the newest card of each agent counts, and who is found by what somebody looks for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.directory import Wanted
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId
from tests.support.core import Agent, HomeDriver, agent

ANN, BEN, CAT = (agent(name, of=name) for name in ("ann", "ben", "cat"))


def found(home: HomeDriver, **wanted: Any) -> list[str]:
    return sorted(card.name for card in home.aggregate.cards() if Wanted(**wanted).fits(card))


def test_the_newest_card_of_an_agent_counts_whatever_comes_later() -> None:
    home = HomeDriver()
    assert home.publish(ANN, revision=5, role="planner").answer == "published"
    for late in (5, 4):
        assert home.publish(ANN, revision=late, role="reviewer").events == ()
    assert found(home, role="planner") == ["ann"]
    home.publish(ANN, revision=6, role="reviewer", visibility="public")
    assert (found(home, role="planner"), found(home, role="reviewer")) == ([], ["ann"])
    home.verify()


def test_a_card_that_was_taken_back_is_none_and_may_come_again() -> None:
    home = HomeDriver()
    home.publish(ANN, tags=("web",))
    home.publish(ANN, revision=2, tags=("web",), visibility="withdrawn")
    assert found(home) == []
    assert home.aggregate.card_of(ANN.id) is None
    home.publish(ANN, revision=3)
    assert found(home) == ["ann"]
    home.verify()


def test_the_cards_of_a_person_who_is_sent_away_are_gone() -> None:
    home = HomeDriver()
    home.enrol(ANN)
    home.publish(ANN)
    home.publish(BEN)
    home.kick(ANN)
    assert found(home) == ["ben"]
    home.verify()


def test_one_person_has_cards_for_so_many_agents_and_no_more() -> None:
    home = HomeDriver()
    others = [Agent(AgentId(f"U{letter * 55}"), ANN.principal, letter.lower()) for letter in "BCD"]
    for each in others[:2]:
        home.publish(each, most=2)
    with pytest.raises(Refused) as refused:
        home.publish(others[2], most=2)
    assert refused.value.code == "too_many_cards"
    home.publish(others[0], revision=2, most=2)
    home.publish(BEN, most=2)
    home.publish(others[0], revision=3, most=2, visibility="withdrawn")
    home.publish(others[2], most=2)
    assert found(home) == ["ben", "c", "d"]


def test_an_agent_is_found_by_literal_text_and_by_labels_whatever_the_capitals() -> None:
    home = HomeDriver()
    home.publish(
        ANN,
        role="Planner",
        tags=("web-ui",),
        skills=("code.review",),
        description="Plans 100% of _everything_ (even %).",
        visibility="public",
    )
    home.publish(BEN, tags=("web",))
    for query in ("ann", "PLANNER", "web-u", "CODE.", "100%", "_every", "(even %)", "", ANN.id):
        assert "ann" in found(home, query=query), query
    assert found(home, query="web") == ["ann", "ben"]
    assert found(home, query="webXui") == []
    assert (found(home, tag="WEB"), found(home, tag="web-ui"), found(home, skill="code")) == (["ben"], ["ann"], [])
    assert found(home, public=True) == ["ann"]
    assert found(home, tag="web-ui", role="planner", query="everything") == ["ann"]
    assert found(home, tag="web-ui", role="reviewer") == []


def test_a_card_says_whether_its_person_is_asked_and_the_bytes_of_every_other_card_say_nothing_of_it() -> None:
    home = HomeDriver()
    home.publish(ANN, direct="ask")
    home.publish(BEN)
    assert [card.direct for card in home.aggregate.cards()] == ["ask", "open"]
    asks, open = (b"direct" in body for body in home.bodies.values())
    assert (asks, open) == (True, False)
    home.verify()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ANN, BEN, CAT]),
            st.integers(1, 6),
            st.sampled_from(["private", "public", "withdrawn"]),
            st.sampled_from(["publish", "publish", "publish", "kick"]),
        ),
        max_size=20,
    )
)
def test_a_directory_is_as_a_table_of_the_newest_cards(acts: list[tuple[Agent, int, str, str]]) -> None:
    home = HomeDriver()
    newest: dict[str, tuple[int, str]] = {}
    for who, revision, visibility, act in acts:
        if act == "kick":
            with suppress(Refused):
                home.kick(who)
                if who.name in newest:
                    newest[who.name] = newest[who.name][0], "withdrawn"
            continue
        home.enrol(who)
        if home.publish(who, revision=revision, visibility=visibility).events:
            assert revision > newest.get(who.name, (0, ""))[0]
            newest[who.name] = revision, visibility
        else:
            assert revision <= newest[who.name][0]
    assert found(home) == sorted(name for name, (_, visibility) in newest.items() if visibility != "withdrawn")
    home.verify()
