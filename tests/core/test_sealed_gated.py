"""Gated messages in a sealed room: sealed where they are taken in to wait, shown to who was in then and is in now."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core.envelope import SIGNED, GatePart, TaskPart, TextPart, decode_envelope, encode_envelope
from parlerd.core.membership import view_of
from parlerd.core.model import AgentId, History, MessageId, Millis, Prior
from parlerd.core.room import Room
from parlerd.core.sealing import check_gate, check_sealed
from parlerd.core.timers import TimerSpec
from parlerd.core.visibility import can_see
from parlerd.core.words import TASK
from tests.support.core import BEN, CAT, DAN, EVE, OWNER, Agent, outcome, refused
from tests.support.sealed import SealedDriver, linked, sealed_room

OPEN = "has(state._shared.open)"
LATER: list[History] = ["from-join", "none"]


def open_it(room: SealedDriver) -> None:
    room.put(OWNER, "open", True)


def seen_by(room: SealedDriver, *who: Agent) -> list[list[str]]:
    return [room.told(each) for each in who]


@pytest.mark.parametrize("history", ["full", "from-join", "none"])
def test_a_message_is_shown_to_everyone_who_was_in_and_is_in(history: History) -> None:
    room = sealed_room(BEN, CAT, history=history)
    id = room.gate_sealed(BEN, OPEN)
    assert seen_by(room, OWNER, BEN, CAT) == [[], [], []]
    open_it(room)
    assert seen_by(room, OWNER, BEN, CAT) == [[id], [id], [id]]
    [posted] = [header.event for header in room.log if isinstance(header.event, e.MessagePosted)]
    assert posted.visibility is None
    assert room.aggregate.gated.entry(id) is None
    # The epoch is in use, so that another one begins after some days.
    assert room.aggregate.state.epochs.used == 1
    room.check(Room, Room.restore)


def test_the_record_in_force_is_asked_for_where_the_message_is_taken_in_to_wait() -> None:
    room = sealed_room(BEN)
    epochs = room.aggregate.state.epochs
    with refused("stale_epoch") as caught:
        room.gate_sealed(BEN, OPEN, sealed={"record": b"r" * 32})
    assert caught.value.details == {"number": epochs.number, "what": "record"}
    with refused("envelope_refused") as caught:
        room.gate_sealed(BEN, OPEN, sealed={"epoch": epochs.number + 1})
    assert caught.value.details["what"] == "epoch"
    id = room.gate_sealed(BEN, OPEN)
    room.let_in(CAT)
    # The epoch in which it is shown may be another.
    open_it(room)
    assert room.told(OWNER) == [id]


def test_who_is_in_no_record_yet_writes_nothing_that_waits() -> None:
    room = sealed_room(BEN)
    room.let_in(CAT, with_epoch=False)
    with refused("not_sealed_in"):
        room.gate_sealed(CAT, OPEN)


def test_a_repeated_request_is_answered_as_before_whatever_was_sealed_again() -> None:
    room = sealed_room(BEN)
    room.gate_sealed(BEN, OPEN, key="k_once")
    [place] = [header.position for header in room.log if isinstance(header.event, e.MessageGated)]
    room.let_in(CAT)
    again = room.gating_sealed(BEN, OPEN, key="k_once")
    assert room.run(replace(again, prior=Prior(place, b"gate")), linked(BEN)).replay == place
    stale = room.gating_sealed(BEN, OPEN, key="k_once", sealed={"record": b"r" * 32})
    assert room.run(replace(stale, prior=Prior(place, b"gate")), linked(BEN)).replay == place


@pytest.mark.parametrize(
    ("altered", "what"),
    [
        ({"v": SIGNED, "parts": (TextPart("in clear"), GatePart(OPEN))}, "v"),
        ({"shown": 9}, "shown"),
        ({"wraps": (BEN.id,)}, "wraps"),
    ],
)
def test_what_its_author_signed_has_to_be_what_the_room_would_decide(altered: dict[str, Any], what: str) -> None:
    room = sealed_room(BEN)
    with refused("envelope_refused") as caught:
        room.gate_sealed(BEN, OPEN, **altered)
    assert caught.value.details["what"] == what


def test_a_clear_room_takes_no_sealed_message_that_waits() -> None:
    room = SealedDriver()
    room.open()
    with refused("envelope_refused") as caught:
        room.gate_sealed(OWNER, OPEN)
    assert caught.value.details["what"] == "v"


# -- who came, and who went --------------------------------------------------------------------------------


def test_with_the_history_for_everyone_who_came_later_is_shown_it_too() -> None:
    room = sealed_room(BEN)
    id = room.gate_sealed(BEN, OPEN)
    room.let_in(CAT)
    room.let_in(DAN, with_epoch=False)
    open_it(room)
    assert seen_by(room, OWNER, CAT, DAN) == [[id], [id], []]
    room.turn()
    assert room.told(DAN) == [id]


@pytest.mark.parametrize("history", LATER)
def test_elsewhere_who_came_after_it_was_written_is_not_shown_it(history: History) -> None:
    room = sealed_room(BEN, history=history)
    id = room.gate_sealed(BEN, OPEN)
    room.let_in(CAT)
    later = room.gate_sealed(OWNER, OPEN)
    open_it(room)
    assert seen_by(room, OWNER, BEN, CAT) == [[id, later], [id, later], [later]]
    # Nobody else can read it, so nothing is left of it to look at.
    assert room.aggregate.gated.entry(id) is None
    room.let_in(DAN)
    assert room.told(DAN) == []
    room.check(Room, Room.restore)


def test_a_condition_for_some_does_not_show_it_to_who_came_later_either() -> None:
    room = sealed_room(BEN, history="from-join")
    id = room.gate_sealed(OWNER, 'agents[self].role == "admin"')
    room.let_in(CAT)
    room.give_role(CAT, "admin")
    assert room.told(CAT) == []
    room.give_role(BEN, "admin")
    assert seen_by(room, OWNER, BEN, CAT) == [[id], [id], []]


def test_who_was_put_out_in_between_is_not_shown_it() -> None:
    room = sealed_room(BEN, CAT)
    id = room.gate_sealed(BEN, OPEN)
    room.put_out(CAT, room.record(remove=[CAT.id]))
    open_it(room)
    assert seen_by(room, OWNER, BEN) == [[id], [id]]
    assert not room.aggregate.state.members[CAT.id].present


def test_a_private_message_is_for_its_readers_who_are_in() -> None:
    room = sealed_room(BEN, CAT)
    id = room.gate_sealed(OWNER, OPEN, visible_to=(BEN.id, CAT.id))
    room.put_out(CAT, room.record(remove=[CAT.id]))
    room.let_in(DAN)
    open_it(room)
    assert seen_by(room, OWNER, BEN, DAN) == [[id], [id], []]
    [posted] = [header.event for header in room.log if isinstance(header.event, e.MessagePosted)]
    assert posted.visibility == tuple(sorted((OWNER.id, BEN.id)))
    assert room.aggregate.gated.entry(id) is None


def test_nobody_writes_privately_to_somebody_without_a_key() -> None:
    room = sealed_room(BEN)
    room.let_in(CAT, with_epoch=False)
    with refused("not_sealed_in"):
        room.gate_sealed(BEN, OPEN, visible_to=(CAT.id,))


def test_nothing_is_shown_of_an_author_who_went() -> None:
    room = sealed_room(BEN, CAT)
    room.gate_sealed(BEN, OPEN)
    room.put_out(BEN, room.record(remove=[BEN.id]))
    open_it(room)
    assert seen_by(room, OWNER, CAT) == [[], []]


def test_behind_a_rewind_nothing_is_shown_before_a_record_makes_the_roster_who_is_in() -> None:
    room = sealed_room(BEN)
    id = room.gate_sealed(BEN, OPEN)
    lost = room.record()
    shown = room.aggregate.state.shown
    room.commit(e.RoomRewound(epoch=1, public=shown.number, line=shown.line), OWNER, authority="person")
    open_it(room)
    assert room.told(OWNER) == []
    room.turn(lost)
    assert room.told(OWNER) == [id]


def test_its_words_go_with_a_timer_and_it_is_shown_by_one() -> None:
    room = sealed_room(BEN, history="from-join")
    shown = room.gate_sealed(BEN, timer=TimerSpec(effect="enable", ms=1000))
    gone = room.gate_sealed(BEN, timer=TimerSpec(effect="delete", ms=1000))
    room.let_in(CAT)
    assert seen_by(room, OWNER, CAT) == [[gone], []]
    room.now += 1000
    room.run_due()
    assert seen_by(room, OWNER, CAT) == [[gone, shown], []]
    assert room.erased
    assert room.aggregate.gated.entry(gone) is None


def test_a_task_that_waits_is_offered_to_who_can_read_it() -> None:
    room = sealed_room(BEN, CAT, history="from-join")
    id = room.gate_sealed(OWNER, "state._shared.day == true", kind=TASK)
    room.let_in(DAN)
    room.put(OWNER, "day", True)
    assert seen_by(room, BEN, DAN) == [[id], []]
    assert outcome(lambda: room.claim(DAN, id)) != "ok"
    room.put(OWNER, "day", False)
    assert outcome(lambda: room.claim(BEN, id)) == "task_not_offered"
    room.put(OWNER, "day", True)
    room.claim(BEN, id)
    room.check(Room, Room.restore)


def test_the_oldest_secret_that_is_needed_yet_is_that_of_what_waits() -> None:
    room = sealed_room(BEN, history="from-join")
    gated = room.aggregate.gated
    assert gated.waits_from([OWNER.id, BEN.id]) == 0
    id = room.gate_sealed(OWNER, OPEN)
    room.let_in(CAT)
    room.gate_sealed(OWNER, OPEN, visible_to=(CAT.id,))
    numbers = [gated.waits_from([who.id]) for who in (OWNER, BEN, CAT)]
    assert numbers == [2, 2, 3]
    room.withdraw(OWNER, id)
    assert [gated.waits_from([who.id]) for who in (OWNER, BEN, CAT)] == [3, 0, 3]
    open_it(room)
    assert gated.waits_from([OWNER.id, CAT.id]) == 0
    # Whoever was shown it needs that no more.
    room.gate_sealed(OWNER, f'self == "{room.handle(BEN)}"')
    assert [gated.waits_from([who.id]) for who in (BEN, CAT)] == [0, 3]


# -- all of it ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), history=st.sampled_from(["full", "from-join", "none"]))
def test_nobody_is_shown_what_was_sealed_for_others(seed: int, history: History) -> None:
    """Random agents come, go and write what waits. Of whatever is shown, each reader was in the roster where it was
    written, or may read everything; and it is in the room and in the roster where it is shown, as its author is."""
    draw, room = random.Random(seed), sealed_room(history=history)
    sealed_for: dict[str, set[AgentId]] = {}
    for _ in range(40):
        who = draw.choice((BEN, CAT, DAN, EVE))
        state = room.aggregate.state
        member = state.members.get(who.id)
        is_in = member is not None and member.present
        match draw.randrange(7):
            case 0 | 1 if not is_in:
                room.let_in(who, with_epoch=draw.random() < 0.6)
            case 2 if is_in:
                room.leave(who)
            case 3 if is_in and who.id in state.epochs.roster:
                room.put_out(who, room.record(remove=[who.id]))
            case 4 if room.aggregate.epochs.waiting() is not None:
                room.turn()
            case 5:
                room.put(OWNER, "open", draw.random() < 0.5)
            case _:
                author = who if is_in and who.id in state.epochs.roster and not state.members[who.id].waits else OWNER
                inside = {each for each in state.epochs.roster if state.members[each].present}
                others = tuple(each for each in sorted(inside - {author.id}) if draw.random() < 0.5)
                visible_to = others if others and draw.random() < 0.4 else None
                name = f'"{room.handle(draw.choice((BEN, OWNER)))}"' if state.members.get(BEN.id) else '"olga"'
                enabled = draw.choice(("state._shared.open == true", f"state._shared.open == true && self == {name}"))
                id = room.gate_sealed(author, enabled, visible_to=visible_to)
                everybody = {each.id for each in (OWNER, BEN, CAT, DAN, EVE)} if history == "full" else inside
                sealed_for[id] = everybody if visible_to is None else {author.id, *visible_to}
    views = {agent: view_of(member) for agent, member in room.aggregate.state.members.items()}
    gates: dict[MessageId, MessageId] = {}
    roster: set[AgentId] = set()
    present: set[AgentId] = set()
    for header in room.log:
        match header.event:
            case e.EpochTurned(added=added, removed=removed, anew=anew):
                roster = (set() if anew else roster - {*removed}) | {agent for agent, _ in added}
            case e.MemberJoined(agent=agent):
                present.add(agent)
            case e.MemberLeft(agent=agent):
                present.discard(agent)
            case e.MessageReleased(gate=gate, id=id):
                gates[id] = gate
            case e.MessagePosted(id=id, visibility=visibility) if id in gates:
                assert header.by.actor in roster & present
                if visibility is not None:
                    assert set(visibility) <= roster & present
                shown = {
                    each
                    for each, seen in views.items()
                    if can_see(seen, position=header.position, visibility=visibility)
                }
                assert shown <= sealed_for[gates[id]]
    room.check(Room, Room.restore)


OTHERWISE: list[dict[str, Any]] = [
    {"counter": 1},
    {"previous": b"p" * 32},
    {"role": "admin"},
    {"kind": "handoff"},
    {"kind": "note"},
    {"host": "codex"},
    {"authored_at": Millis(5)},
]


def test_the_outside_has_its_gate_and_nothing_else() -> None:
    said = sealed_room(BEN).gating_sealed(BEN, OPEN).envelope
    assert check_gate(said) == GatePart(OPEN)
    assert decode_envelope(encode_envelope(said)) == said
    more: list[dict[str, Any]] = [
        {"parts": said.parts[:1]},
        {"parts": (*said.parts, TaskPart(ttl_ms=Millis(5)))},
        {"parts": said.parts[1:]},
    ]
    for altered in (*OTHERWISE, *more):
        with refused("envelope_refused"):
            check_gate(replace(said, **altered))
    # Nor is it a message of its own.
    with refused("envelope_refused"):
        check_sealed(said)
