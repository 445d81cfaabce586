"""The rooms of pairs: one counts of each, whoever opened it; and the answers to those who asked first."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, PrincipalId
from parlerd.core.pairs import MAX_ASKS
from tests.support.core import Agent, HomeDriver, agent

ANN, BEN, CAT = (agent(name, of=name) for name in ("ann", "ben", "cat"))


def other_of(who: Agent, letter: str) -> Agent:
    """Another agent of the same person."""
    return Agent(AgentId(f"U{letter * 55}"), who.principal, f"{who.name}-{letter.lower()}")


def stranger(number: int) -> Agent:
    """Somebody of a person of its own."""
    digits = f"{number:02d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ"))
    return Agent(AgentId(f"U{digits * 27}A"), PrincipalId(f"A{digits * 27}A"), f"stranger{number}")


def room(home: HomeDriver, one: Agent, other: Agent) -> str | None:
    there, back = home.aggregate.pairs.room_of(one.id, other.id), home.aggregate.pairs.room_of(other.id, one.id)
    assert there == back
    return there


def refused(home: HomeDriver, act: str, *who: Agent, **rest: bool) -> str:
    with pytest.raises(Refused) as error:
        getattr(home, act)(*who, **rest)
    return error.value.code


def test_the_first_room_of_a_pair_counts_whoever_of_the_two_names_it() -> None:
    home = HomeDriver()
    assert home.pair(ANN, BEN, "r_a").answer == "paired"
    assert (home.pair(BEN, ANN, "r_b").answer, room(home, ANN, BEN)) == ("taken", "r_a")
    again = home.pair(BEN, ANN, "r_a")
    assert (again.answer, again.events) == ("paired", ())
    home.verify()


def test_a_room_that_is_over_makes_room_for_one_other() -> None:
    home = HomeDriver()
    home.pair(ANN, BEN, "r_a")
    assert home.pair(BEN, ANN, "r_b", instead="r_a").answer == "paired"
    assert (home.pair(ANN, BEN, "r_c", instead="r_a").answer, room(home, ANN, BEN)) == ("taken", "r_b")
    home.verify()


def test_a_room_that_gave_way_before_it_was_opened_is_never_opened() -> None:
    home = HomeDriver()
    assert home.pair(ANN, BEN, "r_a", unopened=True).shuts == ()
    assert home.pair(BEN, ANN, "r_b", instead="r_a", unopened=True).shuts == ("r_a",)
    assert home.pair(ANN, BEN, "r_c", instead="r_a", unopened=True).shuts == ()
    assert home.pair(ANN, BEN, "r_b", instead="r_b", unopened=True).shuts == ()
    assert home.pair(ANN, BEN, "r_c", instead="r_b").shuts == ()


def test_an_agent_has_a_room_with_each_other_and_none_with_itself() -> None:
    home = HomeDriver()
    home.pair(ANN, BEN, "r_a")
    home.pair(CAT, ANN, "r_b")
    assert dict(home.aggregate.pairs.rooms_of(ANN.id)) == {BEN.id: "r_a", CAT.id: "r_b"}
    with pytest.raises(Refused) as error:
        home.pair(ANN, ANN, "r_c")
    assert error.value.code == "invalid_param"


def test_who_asks_again_hears_how_its_request_stands() -> None:
    home = HomeDriver()
    home.create(ANN)
    assert (home.ask(BEN, ANN).answer, home.ask(BEN, ANN).events) == ("pending", ())
    home.answer(ANN, BEN)
    asked_again = home.ask(BEN, ANN)
    assert (asked_again.answer, asked_again.events) == ("approved", ())
    assert refused(home, "answer", ANN, BEN, admit=False) == "already_decided"
    home.verify()


def test_a_refusal_stands_until_the_person_agrees_after_all() -> None:
    home = HomeDriver()
    home.create(ANN)
    home.ask(BEN, ANN)
    home.answer(ANN, BEN, admit=False)
    assert home.ask(BEN, ANN).answer == "denied"
    assert refused(home, "answer", ANN, BEN, admit=False) == "already_decided"
    assert home.answer(ANN, BEN).answer == "approved"
    home.verify()


def test_a_refusal_covers_the_other_agents_of_another_person_and_none_of_ones_own() -> None:
    home, bens, anns = HomeDriver(), other_of(BEN, "B"), other_of(ANN, "A")
    home.create(ANN)
    for asker in (BEN, anns):
        home.ask(asker, ANN)
        home.answer(ANN, asker, admit=False)
    assert (home.ask(bens, ANN).answer, home.ask(other_of(ANN, "C"), ANN).answer) == ("denied", "pending")


def test_one_person_of_another_home_has_one_request_waiting_and_all_together_have_so_many() -> None:
    home = HomeDriver()
    home.create(ANN)
    home.ask(BEN, ANN)
    assert refused(home, "ask", other_of(BEN, "B"), ANN) == "too_many_pending"
    for number in range(1, MAX_ASKS):
        home.ask(stranger(number), ANN)
    assert refused(home, "ask", CAT, ANN) == "too_many_pending"
    home.answer(ANN, BEN, admit=False)
    assert home.ask(CAT, ANN).answer == "pending"


def test_nobody_is_asked_about_an_agent_of_another_home_or_answers_for_another_person() -> None:
    home = HomeDriver()
    assert refused(home, "ask", BEN, ANN) == "no_such_agent"
    home.create(ANN)
    home.ask(BEN, ANN)
    imposter = Agent(ANN.id, CAT.principal, "cat")
    assert refused(home, "answer", imposter, BEN) == "no_such_request"


@given(
    st.lists(
        st.tuples(st.permutations([ANN, BEN, CAT]), st.sampled_from(["r_a", "r_b", "r_c"]), st.booleans()), max_size=20
    )
)
def test_pairs_are_as_a_table_of_who_has_which_room(acts: list[tuple[list[Agent], str, bool]]) -> None:
    home, table = HomeDriver(), dict[frozenset[str], str]()
    for (one, other, _), wanted, is_over in acts:
        pair = frozenset((one.id, other.id))
        known = table.get(pair)
        home.pair(one, other, wanted, instead=known if is_over else None)
        if known is None or is_over:
            table[pair] = wanted
    for one in (ANN, BEN, CAT):
        for other in (ANN, BEN, CAT):
            if one != other:
                assert room(home, one, other) == table.get(frozenset((one.id, other.id)))
    home.verify()


@given(
    st.lists(
        st.tuples(st.sampled_from([BEN, CAT, other_of(BEN, "B")]), st.sampled_from(["ask", "admit", "deny"])),
        max_size=20,
    )
)
def test_of_each_ask_at_most_one_answer_stands(acts: list[tuple[Agent, str]]) -> None:
    home, table = HomeDriver(), dict[str, str]()
    home.create(ANN)
    for asker, act in acts:
        asked = home.aggregate.state.pairs.asks.get(ANN.id, {})
        if act == "ask":
            with suppress(Refused):
                if home.ask(asker, ANN).events:
                    assert asker.id not in table
                    table[asker.id] = "pending"
        elif asker.id in asked:
            with suppress(Refused):
                said = home.answer(ANN, asker, admit=act == "admit").answer
                assert (table[asker.id], said) in {
                    ("pending", "approved"),
                    ("pending", "denied"),
                    ("denied", "approved"),
                }
                table[asker.id] = said
    assert {ask.asker: ask.state for ask in home.aggregate.pairs.asks()} == table
    home.verify()
