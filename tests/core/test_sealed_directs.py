"""Direct rooms that their home cannot read: who is held by the first record, who comes in, and who does not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core.decision import Decision
from parlerd.core.model import AgentId, PrincipalId
from parlerd.core.room import Room
from parlerd.core.statements import Claim
from tests.support.core import HOUR, OWNER, Agent, agent, refused, types
from tests.support.sealed import SealedDriver, sealing_key

BEN, CAT = agent("ben", of="ben"), agent("cat", of="cat")
WITH_KEY = "with a key"


class Direct(SealedDriver):
    """The owner's direct room with Ben. `held` are those whom the first record holds beside the owner."""

    def open_for(self, who: Agent, *held: Agent, **more: Any) -> Decision:
        command = self.opening()
        assert command.terms is not None
        claims = [Claim(each.id, each.principal, each.name) for each in (OWNER, *held)]
        return self.run(
            replace(
                command,
                opening=replace(command.opening, kind="dm", host="", **more),
                terms=replace(command.terms, max_uses=1, gated=True, preapproved=(who.id,)),
                epoch=self.record(add=claims),
            ),
            OWNER,
        )

    def come_in(self, who: Agent, counter: int = 1, **more: Any) -> Decision:
        self.counters[who.id] = counter
        said: dict[str, Any] = {"name": who.name, "host": "codex", "sealing_key": sealing_key(who.id, counter), **more}
        return self.run(c.Knock(operation="session.join", key_id=self.key, **said), who)


def direct(*held: Agent) -> Direct:
    room = Direct()
    room.open_for(BEN, *held)
    return room


def roster(room: SealedDriver) -> set[AgentId]:
    return set(room.aggregate.state.epochs.roster)


def shown(room: SealedDriver, who: Agent) -> bool:
    member = room.aggregate.state.members[who.id]
    return member.present and not member.waits


def test_the_first_record_may_hold_the_agent_that_the_terms_name_before_it_comes() -> None:
    room = direct(BEN)
    assert roster(room) == {OWNER.id, BEN.id}
    assert room.aggregate.epochs.waiting() is None
    assert room.aggregate.epochs.pending_since() == 0
    room.post_sealed(OWNER)
    decision = room.come_in(BEN)
    assert (types(decision), decision.answer) == (["MemberJoined"], "joined")
    assert shown(room, BEN)
    assert room.aggregate.state.members[BEN.id].host == ""
    assert room.aggregate.epochs.waiting() is None
    room.post_sealed(BEN)
    room.check(Room, Room.restore)


def test_no_first_record_holds_anybody_else() -> None:
    for held in ((CAT,), (BEN, CAT)):
        with refused("stale_epoch"):
            Direct().open_for(BEN, *held)
    session = SealedDriver()
    command = session.opening()
    claims = [Claim(each.id, each.principal, each.name) for each in (OWNER, BEN)]
    assert command.terms is not None
    both = replace(command, terms=replace(command.terms, preapproved=(BEN.id,)), epoch=session.record(add=claims))
    with refused("stale_epoch"):
        session.run(both, OWNER)


def test_whom_no_record_holds_waits_for_one() -> None:
    room = direct()
    room.post_sealed(OWNER)
    decision = room.come_in(BEN)
    assert types(decision) == ["MemberJoined", "SealingKeyTold"]
    assert not shown(room, BEN)
    waiting = room.aggregate.epochs.waiting()
    assert waiting is not None
    assert waiting.entering == (BEN.id,)
    room.turn()
    assert shown(room, BEN)
    room.check(Room, Room.restore)


def test_whoever_comes_with_another_key_than_the_record_holds_waits_and_is_shown_nothing() -> None:
    room = direct(BEN)
    room.post_sealed(OWNER)
    decision = room.come_in(BEN, counter=2)
    assert types(decision) == ["MemberJoined", "SealingKeyTold"]
    assert not shown(room, BEN)
    assert room.aggregate.epochs.pending_since() > 0
    with refused("not_sealed_in"):
        room.post_sealed(BEN)
    waiting = room.aggregate.epochs.waiting()
    assert waiting is not None
    assert (waiting.entering, waiting.fresh) == ((BEN.id,), (BEN.id,))
    claims = Claim(BEN.id, BEN.principal, BEN.name)
    room.turn(room.record(add=[claims]))
    assert shown(room, BEN)
    assert room.aggregate.epochs.pending_since() == 0
    room.check(Room, Room.restore)


def test_no_old_key_comes_in() -> None:
    room = Direct()
    room.counters[BEN.id] = 3
    room.open_for(BEN, BEN)
    with refused("statement_refused") as caught:
        room.come_in(BEN, counter=2)
    assert caught.value.details["what"] == "counter"


def test_nobody_comes_in_whom_the_terms_do_not_name_with_an_exchange_or_without() -> None:
    room = direct(BEN)
    with refused("unknown_key"):
        room.come_in(CAT)
    with refused("unknown_key"):
        room.begin_exchange(CAT)


def test_whoever_is_named_brings_no_card_of_an_exchange() -> None:
    room = direct(BEN)
    with refused("statement_refused") as caught:
        room.begin_exchange(BEN)
    assert caught.value.details["what"] == "share"


def test_whoever_is_named_comes_in_for_the_person_whom_the_record_names() -> None:
    room = direct(BEN)
    other = Agent(BEN.id, PrincipalId(CAT.principal), BEN.name)
    with refused("statement_refused") as caught:
        room.come_in(other)
    assert caught.value.details["what"] == "principal"


def test_whoever_left_comes_back_by_its_name_and_reads_with_the_next_record() -> None:
    room = direct(BEN)
    room.come_in(BEN)
    room.leave(BEN)
    room.turn()
    assert roster(room) == {OWNER.id}
    assert room.come_in(BEN).answer == "joined"
    assert not shown(room, BEN)
    room.turn()
    assert shown(room, BEN)
    room.check(Room, Room.restore)


def test_whoever_was_put_out_does_not_come_back_by_its_name() -> None:
    room = direct(BEN)
    room.come_in(BEN)
    room.put_out(BEN, room.record(remove=[BEN.id]))
    assert room.come_in(BEN).answer == "denied"
    assert roster(room) == {OWNER.id}


def test_a_later_record_holds_the_awaited_still() -> None:
    room = direct(BEN)
    room.now += 200 * HOUR
    room.turn(room.record())
    assert roster(room) == {OWNER.id, BEN.id}
    assert room.aggregate.epochs.waiting() is None


@pytest.mark.parametrize("held", [(), (BEN,)], ids=["without a key", WITH_KEY])
def test_a_direct_room_in_which_two_meet_by_a_code_takes_the_exchange(held: tuple[Agent, ...]) -> None:
    room = Direct()
    command = room.opening()
    assert command.terms is not None
    opening = replace(command.opening, kind="dm")
    claims = [Claim(each.id, each.principal, each.name) for each in (OWNER, *held)]
    terms = replace(command.terms, max_uses=1)
    by_code = replace(command, opening=opening, terms=terms, epoch=room.record(add=claims))
    if held:
        with refused("stale_epoch"):
            room.run(by_code, OWNER)
        return
    room.run(by_code, OWNER)
    assert room.ask(BEN) == "pending"
    room.answer_to(BEN)
    assert roster(room) == {OWNER.id, BEN.id}
