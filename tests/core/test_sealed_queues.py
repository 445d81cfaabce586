"""Sealed queues by the rules of their home: who only asks for work, by which record, and what each is shown then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.epoch_record import check_record, encode_record, requesters_of, roster_digest, seated
from parlerd.core.membership import REQUESTER, is_requester, newest_seq
from parlerd.core.model import AgentId, Millis
from parlerd.core.statements import Claim
from tests.support.core import BEN, CAT, OWNER, STRANGER, Agent, agent, refused, types
from tests.support.sealed import ASKING_WRAP, WRAP, SealedDriver, sealed_room, sealing_key, wraps_of


def claim(who: Agent) -> Claim:
    return Claim(who.id, who.principal, who.name)


def queue() -> SealedDriver:
    room = SealedDriver(kind="service")
    room.begin(approval=False)
    return room


def let_in(room: SealedDriver, who: Agent, *, asking: tuple[AgentId, ...] = (), **more: Any) -> None:
    """Let somebody in with a record in which these only ask."""
    assert room.ask(who) == "pending"
    room.answer_to(who, asking=asking, **more)


def test_a_record_says_who_only_asks_and_nobody_else_does() -> None:
    room = queue()
    let_in(room, BEN, asking=(BEN.id,))
    let_in(room, CAT, asking=(BEN.id,))
    state = room.aggregate.state
    assert {agent: seat.requester for agent, seat in state.epochs.roster.items()} == {
        OWNER.id: False,
        BEN.id: True,
        CAT.id: False,
    }
    assert [who for who, member in state.members.items() if is_requester(member)] == [BEN.id]
    room.run(room.message(CAT), CAT)
    assert newest_seq(state.membership, CAT.id) == 1
    assert newest_seq(state.membership, BEN.id) == 0
    assert not room.aggregate.view(BEN.id).spans


def test_another_record_makes_a_requester_a_worker_who_sees_all_and_the_other_way() -> None:
    room = queue()
    let_in(room, BEN, asking=(BEN.id,))
    room.run(room.message(OWNER), OWNER)
    decision = room.turn(room.record())
    [turned] = decision.events
    assert isinstance(turned, e.EpochTurned)
    assert [(agent, seat.requester) for agent, seat in turned.added] == [(BEN.id, False)]
    member = room.aggregate.state.members[BEN.id]
    assert not is_requester(member)
    assert member.role == ""
    assert newest_seq(room.aggregate.state.membership, BEN.id) == 1
    room.turn(room.record(asking=(BEN.id,)))
    assert is_requester(room.aggregate.state.members[BEN.id])
    room.run(room.message(OWNER), OWNER)
    # What was said while it worked stays its own, and nothing comes to it.
    assert newest_seq(room.aggregate.state.membership, BEN.id) == 1
    room.run(room.message(OWNER, visible_to=(BEN.id,)), OWNER)
    assert newest_seq(room.aggregate.state.membership, BEN.id) == 2


def test_what_an_agent_calls_itself_changes_nothing_of_what_it_is_shown() -> None:
    room = queue()
    room.counters[BEN.id] = 1
    assert room.ask(BEN) == "pending"
    [request] = room.aggregate.state.requests.values()
    request.role = REQUESTER
    room.answer_to(BEN)
    assert not is_requester(room.aggregate.state.members[BEN.id])


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"asking": (CAT.id,)}, "requesters"),
        ({"wrapped": wraps_of([OWNER.id, BEN.id])}, "wraps"),
        ({"wrapped": wraps_of([OWNER.id, BEN.id], [OWNER.id, BEN.id])}, "wraps"),
        ({"requesters": msgspec.UNSET}, "roster"),
    ],
    ids=["who is not in", "with a secret for who only asks", "with none for who works", "in the roster alone"],
)
def test_a_record_that_does_not_fit_to_who_asks_is_refused(more: dict[str, Any], what: str) -> None:
    room = queue()
    room.ask(BEN)
    with refused("statement_refused") as caught:
        room.answer_to(BEN, **{"asking": (BEN.id,), **more})
    assert caught.value.details["what"] == what


def test_nobody_only_asks_in_a_room_that_is_no_queue() -> None:
    room = sealed_room(BEN)
    with refused("statement_refused") as caught:
        room.turn(room.record(asking=(BEN.id,)))
    assert caught.value.details["what"] == "requesters"


def test_a_record_without_requesters_has_the_bytes_that_it_always_had() -> None:
    record = queue().record().record
    assert b"requesters" not in encode_record(record)
    assert requesters_of(record) == ()
    for wrong in ((), (BEN.id, BEN.id), tuple(sorted((BEN.id, CAT.id), reverse=True)), (AgentId("ben"),)):
        with refused("statement_refused") as caught:
            check_record(encode_record(replace(record, requesters=wrong)))
        assert caught.value.details["what"] == "requesters"
    roster = queue().aggregate.state.epochs.roster
    assert roster_digest(roster) != roster_digest(seated(roster, [OWNER.id]))
    assert len(WRAP) != len(ASKING_WRAP)


OWN = agent("oz")


def own_knock(room: SealedDriver, **more: Any) -> c.Knock:
    """The knock of another agent of the owner's person, with the record of its machine."""
    key = next(iter(room.aggregate.state.keys.values()))
    said = room.aggregate.decide(
        c.Knock(key_id=key.id, name="oz", host=""), by=OWN.by, now=Millis(room.now), ids=room.ids
    )
    statement = said.statements[0]
    assert statement is not None
    return c.Knock(
        **{
            "operation": "queue.serve",
            "key_id": key.id,
            "name": "oz",
            "host": "",
            "statement": statement,
            "sealing_key": sealing_key(OWN.id),
            "epoch": room.record(add=[Claim(OWN.id, OWN.principal, "oz")]),
            **more,
        }
    )


def test_the_owner_s_machine_brings_in_its_own_with_a_record() -> None:
    room = queue()
    decision = room.run(own_knock(room), OWN)
    assert types(decision) == ["MemberJoined", "SealingKeyTold", "EpochTurned"]
    assert not room.aggregate.state.members[OWN.id].waits


def test_nobody_comes_in_so_without_a_record_that_holds_it_or_who_is_another_s() -> None:
    room = queue()
    with refused("statement_refused") as caught:
        room.run(own_knock(room, epoch=room.record()), OWN)
    assert caught.value.details["what"] == "added"
    with refused("statement_refused") as caught:
        room.run(own_knock(room, epoch=None), OWN)
    assert caught.value.details["what"] == "share"
    with refused("statement_refused") as caught:
        room.run(own_knock(room, sealing_key=sealing_key(STRANGER.id)), STRANGER)
    assert caught.value.details["what"] == "share"
    # Whom the owner's person put out, that person lets in again.
    knock = own_knock(room)
    room.run(knock, OWN)
    room.put_out(OWN, room.record(remove=[OWN.id]))
    with refused("statement_refused") as caught:
        room.run(replace(knock, epoch=room.record(add=[Claim(OWN.id, OWN.principal, "oz")])), OWN)
    assert caught.value.details["what"] == "share"
