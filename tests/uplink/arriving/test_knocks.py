"""Who knocked at a room, and what was decided: each counts as it was signed."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core.model import RequestId
from parlerd.engine.audit import Audited, is_signed
from tests.support.honest_home import ANN, BEN, CAT, DAN, Asked, HonestHome
from tests.support.told import Daemon


def test_a_request_and_its_decision_arrive_with_what_was_signed() -> None:
    home = HonestHome()
    request = home.request(BEN)
    owner = Daemon(home, (ANN,)).hear(home.items([ANN]))
    assert [each.name for each in owner.room.pending()] == ["ben"]
    knocker = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert knocker.room.state.requests[RequestId(request.request)].state == "pending"
    assert knocker.room.state.name == ""
    assert knocker.handles == {}
    before = len(home.log)
    home.decide(BEN, request)
    for daemon, party in ((owner, ANN), (knocker, BEN)):
        daemon.hear(home.items([party], before))
        assert daemon.room.state.requests[RequestId(request.request)].state == "approved"
        assert daemon.handles == {"ann": True, "ben": True}
        about = Audited.of(daemon.room.state, daemon.facts[0].body)
        assert all(is_signed(fact, about) for fact in daemon.facts)
    [titled] = [fact for fact in knocker.facts if isinstance(fact.header.event, e.RoomTitled)]
    about = Audited.of(knocker.room.state, knocker.facts[0].body)
    assert not is_signed(replace(titled, body=(titled.body or b"").replace(b"plan", b"plot")), about)
    assert knocker.room.state.name == "plan"


def test_a_denial_counts_only_as_the_owners_side_signed_it() -> None:
    home = HonestHome()
    request = home.request(BEN)
    home.decide(BEN, request, admit=False)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.room.state.requests[RequestId(request.request)].state == "denied"
    forged = HonestHome()
    asked = forged.request(BEN)
    body, signature = forged.decision(BEN, asked.request, admit=False, by=CAT)
    forged.log.append(
        Asked(msgspec.structs.replace(asked, state="denied", decision=body, decision_signature=signature))
    )
    deceived = Daemon(forged, (BEN,)).hear(forged.items([BEN]))
    assert deceived.room.state.requests[RequestId(asked.request)].state == "pending"


def test_a_decision_that_is_for_somebody_else_or_by_somebody_else_makes_nobody_a_member() -> None:
    for by, whose in ((CAT, BEN), (ANN, DAN)):
        home = HonestHome()
        home.join(CAT)
        body, signature = home.decision(whose, "q_1", by=by)
        home._move(BEN, home._entry(BEN, proof=body, proof_signature=signature))
        daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
        assert daemon.handles == {"ann": True, "cat": True}
        assert daemon.contradicted == ""


def test_a_knock_with_a_gated_key_makes_nobody_a_member() -> None:
    home = HonestHome()
    home.join(CAT)
    knock, signature = home.knock(BEN, "k_gated")
    terms, terms_signature = home.gated
    home._move(
        BEN, home._entry(BEN, knock=knock, knock_signature=signature, terms=terms, terms_signature=terms_signature)
    )
    assert Daemon(home, (CAT,)).hear(home.items([CAT])).handles == {"ann": True, "cat": True}
