"""Who may open links to a home: people come in once, are sent away, and may come again."""

from __future__ import annotations

import pytest

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, PrincipalId
from tests.support.core import Agent, HomeDriver, agent


def standing(home: HomeDriver) -> dict[PrincipalId, tuple[str, bool]]:
    return {each.principal: (each.name, each.kicked) for each in home.aggregate.state.people.values()}


def test_a_person_is_enrolled_once_and_again_after_they_were_sent_away() -> None:
    home, ben = HomeDriver(), agent("ben")
    assert len(home.enrol(ben).events) == 1
    assert home.enrol(ben).events == ()
    assert standing(home) == {ben.principal: ("ben", False)}
    assert len(home.kick(ben).events) == 1
    assert home.kick(ben).events == ()
    assert standing(home) == {ben.principal: ("ben", True)}
    home.enrol(ben)
    assert standing(home) == {ben.principal: ("ben", False)}
    home.verify()


def test_nobody_is_sent_away_who_was_never_here() -> None:
    home = HomeDriver()
    with pytest.raises(Refused) as refused:
        home.kick(agent("ben"))
    assert refused.value.code == "no_such_agent"


def test_a_name_that_is_none_is_not_taken() -> None:
    home = HomeDriver()
    with pytest.raises(Refused) as refused:
        home.enrol(Agent(AgentId("U"), PrincipalId("A"), "b\x1b[2Ken"))
    assert refused.value.code == "invalid_name"
    assert standing(home) == {}
