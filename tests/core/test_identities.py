"""The agents of a home: their names, seats and conversations."""

from __future__ import annotations

import pytest

from parlerd.core import commands as c
from parlerd.core.events import AgentCreated, DelegationIssued
from parlerd.core.model import Millis, PrincipalId
from tests.support.core import BEN, CAT, DAY, OWNER, Agent, HomeDriver, agent, person, refused

# -- agents ------------------------------------------------------------------------------------------------


def test_an_agent_is_found_by_its_name_and_by_its_seat(home: HomeDriver) -> None:
    found = home.aggregate.by_name("ben")
    assert found is not None
    assert (found.id, found.principal, found.created_at) == (BEN.id, BEN.principal, home.now)
    assert home.aggregate.by_seat("codex", "/w/a", 1) is found
    assert home.aggregate.by_name("cat") is None
    assert home.aggregate.by_seat("codex", "/w/a", 0) is None


def test_a_name_is_given_once_and_an_agent_is_created_once(home: HomeDriver) -> None:
    for who in (agent("ben", key="other"), BEN, agent("other", key="ben")):
        with refused("ambiguous_name"):
            home.create(who)


def test_an_agent_cannot_be_named_like_an_id(home: HomeDriver) -> None:
    with refused("invalid_name"):
        home.create(agent(BEN.id, key="other"))
    with refused("invalid_name"):
        home.create(agent("no name", key="other"))
    with refused("invalid_name"):
        home.create(agent("Owner", key="other"))


def test_a_free_name_is_the_one_wanted_or_a_numbered_one(home: HomeDriver) -> None:
    assert home.aggregate.free_name("cat") == "cat"
    assert home.aggregate.free_name("ben") == "ben-2"
    assert home.aggregate.free_name("system") == "system-2"


def test_an_agent_that_got_a_reserved_name_before_is_still_found_by_it(home: HomeDriver) -> None:
    old = agent("owner", key="old")
    home.commit(AgentCreated(agent=old.id, principal=old.principal, name="owner"), old)
    found = home.aggregate.by_name("owner")
    assert found is not None
    assert found.id == old.id
    home.verify()


def test_a_delegation_lasts_until_the_newest_one_says(home: HomeDriver) -> None:
    assert home.aggregate.state.agents[BEN.id].delegated_until == 0
    for days in (30, 60):
        until = Millis(home.now + days * DAY)
        decision = home.run(c.RenewDelegation(agent=BEN.id, principal=BEN.principal, expires_at=until), BEN)
        assert decision.events == (DelegationIssued(agent=BEN.id, principal=BEN.principal, expires_at=until),)
        assert decision.authority == "person"
        assert home.aggregate.state.agents[BEN.id].delegated_until == until


@pytest.mark.parametrize(("who", "principal"), [(CAT, CAT.principal), (BEN, person("stranger"))])
def test_only_an_agent_of_this_home_is_delegated_to_by_its_own_person(
    home: HomeDriver, who: Agent, principal: PrincipalId
) -> None:
    with refused("no_such_agent"):
        home.run(c.RenewDelegation(agent=who.id, principal=principal, expires_at=Millis(1)), who)


# -- conversations -----------------------------------------------------------------------------------------


def bind(home: HomeDriver, who: Agent, conversation: str, place: int = 0) -> None:
    command = c.BindConversation(agent=who.id, host="codex", conversation=conversation, place=place)
    assert home.run(command, who).authority == "home"


def test_a_conversation_is_one_agent_s_and_may_be_open_beside_itself(home: HomeDriver) -> None:
    assert not home.aggregate.is_bound(BEN.id)
    bind(home, BEN, "t-1")
    bind(home, OWNER, "t-1", place=1)
    found = [home.aggregate.by_conversation("codex", "t-1", place) for place in (0, 1, 2)]
    assert [record and record.id for record in found] == [BEN.id, OWNER.id, None]
    assert home.aggregate.by_conversation("droid", "t-1", 0) is None
    assert home.aggregate.is_bound(BEN.id)
    home.verify()


def test_a_conversation_is_bound_once_and_to_an_agent_of_this_home(home: HomeDriver) -> None:
    bind(home, BEN, "t-1")
    with refused("ambiguous_name"):
        bind(home, OWNER, "t-1")
    with refused("no_such_agent"):
        bind(home, CAT, "t-2")
