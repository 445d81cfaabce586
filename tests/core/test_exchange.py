"""The steps of the key exchange by which somebody comes into a sealed room, as the room's home takes them."""

from __future__ import annotations

import pytest

from parlerd.core import commands as c
from parlerd.core.approvals import knock_of
from parlerd.core.exchange import KNOCK_MS, MAX_FAILED
from parlerd.core.model import AgentId, Millis
from parlerd.core.room import Room
from tests.support.core import BEN, KEY, OWNER, STRANGER, refused
from tests.support.sealed import SealedDriver, sealed_room, sealing_key


def roster(room: SealedDriver) -> set[AgentId]:
    return set(room.aggregate.state.epochs.roster)


STEPS: list[tuple[str, bytes]] = [("answered", b"B" * 33), ("shown", b"p" * 64), ("confirmed", b"c" * 32)]


def test_who_asks_to_come_in_is_a_request_once_both_ends_know_that_the_other_has_the_key() -> None:
    room = sealed_room()
    assert room.begin_exchange(BEN) == "pending"
    assert room.aggregate.pending() == []
    for step, text in STEPS:
        with refused("knock_unfinished"):
            room.answer_to(BEN)
        room.exchange(BEN, step, text)
        # The same once more leaves no fact.
        assert room.exchange(BEN, step, text).events == ()
    assert [each.agent for each in room.aggregate.pending()] == [BEN.id]
    room.answer_to(BEN)
    assert roster(room) == {OWNER.id, BEN.id}
    room.check(Room, Room.restore)


def test_whoever_knows_the_route_of_a_key_alone_does_not_knock_for_ever() -> None:
    room = sealed_room()
    for _ in range(MAX_FAILED):
        assert room.begin_exchange(BEN) == "pending"
        room.exchange(BEN, "failed", b"")
    with refused("unknown_key"):
        room.begin_exchange(BEN)
    # Nobody else is kept out by that.
    assert room.begin_exchange(STRANGER) == "pending"
    assert len(room.aggregate.state.requests) == MAX_FAILED + 1


@pytest.mark.parametrize(
    ("taken", "step"), [(0, "shown"), (0, "confirmed"), (1, "confirmed"), (0, "begun"), (3, "granted")]
)
def test_a_step_is_taken_after_the_one_before_it(taken: int, step: str) -> None:
    room = sealed_room()
    room.begin_exchange(BEN)
    for done, said in STEPS[:taken]:
        room.exchange(BEN, done, said)
    text = {"shown": b"p" * 64, "confirmed": b"c" * 32, "begun": b"A" * 33, "granted": b"g"}[step]
    with refused("statement_refused") as caught:
        room.exchange(BEN, step, text)
    assert caught.value.details["what"] == step


@pytest.mark.parametrize(
    ("step", "text"),
    [("answered", b"B" * 32), ("shown", b"p" * 32), ("shown", b"p" * 4097), ("confirmed", b""), ("failed", b"x")],
)
def test_what_cannot_be_said_at_a_step_is_refused(step: str, text: bytes) -> None:
    room = sealed_room()
    room.begin_exchange(BEN)
    for done, said in STEPS:
        if done == step:
            break
        room.exchange(BEN, done, said)
    with refused("statement_refused"):
        room.exchange(BEN, step, text)


def test_each_step_is_taken_by_the_one_whose_step_it_is() -> None:
    room = sealed_room()
    room.begin_exchange(BEN)
    with refused("no_such_request"):
        room.exchange(BEN, "answered", b"B" * 33, by=STRANGER, principal=STRANGER.principal)
    with refused("statement_refused"):
        room.exchange(BEN, "answered", b"B" * 33, by=BEN, principal=None)
    room.exchange(BEN, "answered", b"B" * 33)
    with refused("statement_refused"):
        room.exchange(BEN, "answered", b"C" * 33)
    with refused("statement_refused"):
        room.exchange(BEN, "shown", b"p" * 64, by=OWNER, principal=OWNER.principal)


def test_an_exchange_that_failed_is_no_denial_and_leaves_the_place_to_another() -> None:
    room = sealed_room()
    room.begin_exchange(BEN)
    room.exchange(BEN, "failed", b"")
    assert room.exchange(BEN, "failed", b"").events == ()
    with refused("already_decided"):
        room.exchange(BEN, "answered", b"B" * 33)
    assert room.ask(BEN) == "pending"
    room.answer_to(BEN)
    assert BEN.id in roster(room)


def test_a_knock_that_nobody_answered_in_seven_days_is_over() -> None:
    room = sealed_room()
    room.begin_exchange(BEN)
    [old] = room.aggregate.state.requests.values()
    room.now += KNOCK_MS
    assert room.begin_exchange(BEN) == "pending"
    assert old.state == "failed"
    assert len(room.aggregate.state.requests) == 2


def test_no_key_lets_anybody_into_a_sealed_room_by_the_word_of_its_home() -> None:
    room = SealedDriver()
    opening = room.opening(approval=False)
    room.run(opening, OWNER)
    assert not next(iter(room.aggregate.state.keys.values())).gated
    state, told = room.aggregate.state, sealing_key(BEN.id)
    said = {"agent": BEN.id, "principal": BEN.principal, "name": BEN.name, "host": "codex", "at": Millis(room.now)}
    clear = knock_of(state.lifecycle, state.keys[KEY], **said)  # type: ignore[arg-type]
    knock = c.Knock(key_id=KEY, name=BEN.name, host="codex", wall=Millis(room.now), statement=clear, sealing_key=told)
    with refused("statement_refused") as caught:
        room.run(knock, BEN)
    assert caught.value.details["what"] == "share"
    assert room.ask(BEN) == "pending"
    assert not (BEN.id in state.members and state.members[BEN.id].present)


@pytest.mark.parametrize("gated", [True, False])
def test_what_the_owner_s_home_lets_in_by_a_key_is_who_has_one_that_asks_nobody(gated: bool) -> None:
    room = SealedDriver()
    room.run(room.opening(approval=gated), OWNER)
    room.ask(BEN)
    [request] = room.aggregate.state.requests.values()
    decide = c.DecideRequest(request=request.id, admit=True, proof="none", principal=OWNER.principal, by_key=True)
    if gated:
        with refused("statement_refused") as caught:
            room.run(decide, OWNER)
        assert caught.value.details["what"] == "by_key"
    else:
        room.run(decide, OWNER)
        assert room.aggregate.state.members[BEN.id].present
