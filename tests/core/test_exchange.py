"""The steps of the key exchange by which somebody comes into a sealed room, as the room's home takes them."""

from __future__ import annotations

import pytest

from parlerd.core import commands as c
from parlerd.core.approvals import knock_of, standing_request
from parlerd.core.exchange import KNOCK_MS, MAX_EXCHANGES, MAX_FAILED
from parlerd.core.model import MAX_PENDING_PER_KEY, AgentId, Millis
from parlerd.core.room import Room
from tests.support.core import BEN, KEY, OWNER, STRANGER, Agent, agent, refused
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


def crowd(room: SealedDriver, count: int) -> list[Agent]:
    """So many agents, each of a person of its own, begin to come in."""
    people = [agent(f"ex{chr(97 + n)}", of=f"person{chr(97 + n)}") for n in range(count)]
    for each in people:
        assert room.begin_exchange(each) == "pending"
    return people


def state_of(room: SealedDriver, who: Agent) -> str:
    found = standing_request(room.aggregate.state.requests, who.id)
    assert found is not None
    return found.state


def test_those_who_know_the_route_alone_keep_nobody_out() -> None:
    room = sealed_room()
    people = crowd(room, MAX_EXCHANGES)
    assert room.begin_exchange(BEN) == "pending"
    # The oldest makes place, and comes again in the place of the next.
    assert [state_of(room, each) for each in people[:2]] == ["lapsed", "pending"]
    assert room.begin_exchange(people[0]) == "pending"
    assert [state_of(room, each) for each in (people[0], people[1], BEN)] == ["pending", "lapsed", "pending"]
    room.exchange(people[0], "answered", b"B" * 33)
    with refused("already_decided"):
        room.exchange(people[1], "answered", b"B" * 33)
    room.check(Room, Room.restore)


def test_who_is_not_there_makes_place_first() -> None:
    room = sealed_room()
    people = crowd(room, MAX_EXCHANGES)
    assert room.begin_exchange(BEN, away=frozenset({people[5].id, people[3].id})) == "pending"
    assert state_of(room, people[3]) == "lapsed"


def test_who_has_shown_something_keeps_its_place() -> None:
    room = sealed_room()
    people = crowd(room, MAX_EXCHANGES)
    for each in people[:-1]:
        room.exchange(each, "answered", b"B" * 33)
        room.exchange(each, "shown", b"p" * 64)
    assert room.begin_exchange(BEN) == "pending"
    assert state_of(room, people[-1]) == "lapsed"
    room.exchange(BEN, "answered", b"B" * 33)
    room.exchange(BEN, "shown", b"p" * 64)
    with refused("too_many_pending") as caught:
        room.begin_exchange(people[-1])
    assert caught.value.details == {"limit": MAX_EXCHANGES}


def test_a_person_is_asked_about_five_and_the_exchanges_under_way_do_not_count_among_them() -> None:
    room = sealed_room()
    people = crowd(room, MAX_PENDING_PER_KEY + 1)
    for each in people:
        room.exchange(each, "answered", b"B" * 33)
        room.exchange(each, "shown", b"p" * 64)
    for each in people[:-1]:
        room.exchange(each, "confirmed", b"c" * 32)
    with refused("too_many_pending") as caught:
        room.exchange(people[-1], "confirmed", b"c" * 32)
    assert caught.value.details == {"limit": MAX_PENDING_PER_KEY}
    with refused("too_many_pending"):
        room.begin_exchange(BEN)
    # Once one is decided on, the next is a request, and others may begin.
    room.answer_to(people[0])
    room.exchange(people[-1], "confirmed", b"c" * 32)
    room.answer_to(people[1])
    assert room.begin_exchange(BEN) == "pending"


def test_who_made_place_hears_nothing_of_a_denial_but_what_covers_its_person() -> None:
    room = sealed_room()
    mine, other = agent("exmine", of="somebody"), agent("exother", of="somebody")
    room.begin_exchange(mine)
    crowd(room, MAX_EXCHANGES)
    assert state_of(room, mine) == "lapsed"
    assert room.ask(other) == "pending"
    [request] = room.aggregate.pending()
    room.run(c.DecideRequest(request=request.id, admit=False, proof="cli", principal=OWNER.principal), OWNER)
    # With a request that nobody decided about it would come round the denial.
    assert room.begin_exchange(mine) == "denied"


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


def test_who_began_may_ask_whether_its_exchange_is_there_still() -> None:
    room = sealed_room()
    room.begin_exchange(BEN)
    told = {"by": BEN, "principal": None}
    for step, text in STEPS:
        assert room.exchange(BEN, "begun", b"A" * 33, **told).events == ()
        room.exchange(BEN, step, text)
    for text, who in ((b"B" * 33, BEN), (b"A" * 33, OWNER)):
        with refused("statement_refused"):
            room.exchange(BEN, "begun", text, by=who, principal=None if who is BEN else OWNER.principal)
    with refused("no_such_request"):
        room.exchange(BEN, "begun", b"A" * 33, by=STRANGER, principal=None)


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
    assert old.state == "lapsed"
    assert len(room.aggregate.state.requests) == 2


def test_who_took_its_knock_back_is_asked_about_no_more_and_may_knock_again() -> None:
    room = sealed_room()
    assert room.ask(BEN) == "pending"
    [old] = room.aggregate.pending()
    withdraw = c.WithdrawKnock(request=old.id)
    with refused("no_such_request"):
        room.run(withdraw, STRANGER)
    assert room.run(withdraw, BEN).answer == "withdrawn"
    assert room.run(withdraw, BEN).events == ()
    assert room.aggregate.pending() == []
    with refused("already_decided"):
        room.run(c.DecideRequest(request=old.id, admit=True, proof="cli", principal=OWNER.principal), OWNER)
    assert room.ask(BEN) == "pending"
    room.answer_to(BEN)
    assert BEN.id in roster(room)
    room.check(Room, Room.restore)


def test_a_knock_that_was_decided_on_is_not_taken_back() -> None:
    room = sealed_room()
    room.ask(BEN)
    [request] = room.aggregate.pending()
    room.run(c.DecideRequest(request=request.id, admit=False, proof="cli", principal=OWNER.principal), OWNER)
    with refused("already_decided"):
        room.run(c.WithdrawKnock(request=request.id), BEN)


def test_nobody_takes_knocks_back_for_ever() -> None:
    room = sealed_room()
    for _ in range(MAX_FAILED):
        assert room.begin_exchange(STRANGER) == "pending"
        [request] = [each for each in room.aggregate.state.requests.values() if each.state == "pending"]
        room.run(c.WithdrawKnock(request=request.id), STRANGER)
    with refused("unknown_key"):
        room.begin_exchange(STRANGER)


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
