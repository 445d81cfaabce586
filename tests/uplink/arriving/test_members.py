"""Who is in a room: nobody whose coming nothing shows, and nobody under the name of another."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core.model import AgentId
from parlerd.engine.audit import Audited, is_signed
from tests.support.honest_home import ANN, BEN, CAT, DAN, HonestHome, Moved
from tests.support.told import Daemon, busy


def test_what_arrived_passes_the_check_of_what_is_stored_and_a_member_that_was_made_up_later_does_not() -> None:
    home = busy()
    request = home.request(DAN)
    for agents in ((ANN,), (BEN, CAT), (DAN,)):
        daemon = Daemon(home, agents).hear(home.items(list(agents)))
        about = Audited.of(daemon.room.state, daemon.facts[0].body)
        assert about.is_mirror
        assert all(is_signed(fact, about) for fact in daemon.facts)
        joined = [fact for fact in daemon.facts if isinstance(fact.header.event, e.MemberJoined)]
        assert (len(joined) == 0) is (agents == (DAN,) and not daemon.handles)
        for fact in joined:
            came = fact.header.event
            assert isinstance(came, e.MemberJoined)
            made_up = replace(came, agent=AgentId("U" + "X" * 55))
            assert not is_signed(replace(fact, header=replace(fact.header, event=made_up)), about)
            bare = replace(fact, header=replace(fact.header, body=None), body=None, signature=None)
            # The opening shows the owner, and a decision that arrived whom it admits; nothing else shows the others.
            assert is_signed(bare, about) is (came.agent == ANN.agent or came.request is not None)
    assert request.state == "pending"


def test_a_member_whose_coming_nothing_shows_is_left_out_with_its_words() -> None:
    home = HonestHome()
    home.post(ANN, "recap")
    home.join(BEN)
    home.join(CAT)
    home.members[CAT.agent] = home._entry(CAT)
    home.log[-1] = Moved(home._entry(CAT))
    home.post(CAT, "who am I")
    home.post(ANN, "hello")
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == ""
    assert daemon.handles == {"ann": True, "ben": True}
    assert daemon.texts(BEN) == ["recap", "hello"]


def test_a_role_that_the_owner_gave_is_told_and_what_is_told_again_changes_nothing() -> None:
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    before = len(home.log)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    home.give_role(CAT, "reviewer")
    home.give_role(BEN, "tester", lock=True)
    daemon.hear(home.items([BEN], before))
    assert daemon.roles == {"ann": ("", False), "ben": ("tester", True), "cat": ("reviewer", False)}
    position = daemon.room.position
    daemon.hear(home.items([BEN], len(home.log)))
    assert daemon.room.position == position
    # What no agent can be given is none, whoever says it.
    home.give_role(CAT, "owner")
    home.give_role(BEN, "")
    daemon.hear(home.items([BEN], len(home.log) - 2))
    assert daemon.roles == {"ann": ("", False), "ben": ("", False), "cat": ("", False)}
    assert daemon.contradicted == ""


def test_a_newcomer_is_told_which_roles_are_locked_and_who_left_has_the_one_it_had() -> None:
    home = HonestHome()
    home.join(BEN)
    home.give_role(BEN, "lead", lock=True)
    home.leave(BEN)
    home.join(CAT)
    daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
    assert daemon.roles == home.roles == {"ann": ("", False), "ben": ("lead", True), "cat": ("", False)}
    assert daemon.handles == {"ann": True, "ben": False, "cat": True}


def test_an_agent_of_this_home_is_in_no_room_at_which_it_did_not_knock() -> None:
    """Whoever opened a room can sign that anybody is let in. Others may believe that, and the agent itself knows."""
    for knock, knock_signature in ((b"", b""), HonestHome(owner=CAT).knock(BEN)):
        home = HonestHome()
        proof, signature = home.decision(BEN, "q_1")
        proofs = {"proof": proof, "proof_signature": signature, "knock": knock, "knock_signature": knock_signature}
        home._move(BEN, home._entry(BEN, **proofs))
        home.post(ANN, "do as I say")
        daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
        assert daemon.handles == {"ann": True}
        assert daemon.contradicted == ""


@pytest.mark.parametrize(("role", "shown"), [("planner", "planner"), ("owner", ""), ("Person", ""), ("no role", "")])
def test_nobody_has_a_role_that_stands_for_somebody_else_whatever_a_relay_says(role: str, shown: str) -> None:
    home = HonestHome()
    home.join(BEN)
    home.members[BEN.agent] = replace(home.members[BEN.agent], role=role)
    home.log[-1] = Moved(home.members[BEN.agent])
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.room.state.members[BEN.agent].role == shown
