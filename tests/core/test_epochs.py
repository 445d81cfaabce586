"""Who can read what is said in a sealed room: records, what waits for one, and messages under the one in force."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import knock_of
from parlerd.core.decision import Decision
from parlerd.core.envelope import SIGNED, TextPart
from parlerd.core.epochs import LINE_MS
from parlerd.core.lifecycle import owners_of
from parlerd.core.membership import newest_seq, view_of
from parlerd.core.model import AgentId, History, HomeId, Millis, Position, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import NONCE, Claim, OwnerLine, Transfer, signer_at
from parlerd.core.visibility import can_see
from tests.support.core import (
    BEN,
    CAT,
    DAN,
    EVE,
    HOME,
    HOUR,
    KEY,
    OWNER,
    ROOM,
    STRANGER,
    Agent,
    agent,
    open_room,
    outcome,
    refused,
    types,
)
from tests.support.sealed import SealedDriver, linked, sealed_room

HISTORIES: list[History] = ["full", "from-join", "none"]


def claim(who: Agent) -> Claim:
    return Claim(who.id, who.principal, who.name)


def seen(room: SealedDriver, who: Agent) -> list[int]:
    """The positions of the public messages that a member may see."""
    view = room.aggregate.view(who.id)
    return [
        header.position
        for header in room.log
        if isinstance(header.event, e.MessagePosted)
        and can_see(view, position=header.position, visibility=header.event.visibility)
    ]


def roster(room: SealedDriver) -> set[AgentId]:
    return set(room.aggregate.state.epochs.roster)


# -- opening -----------------------------------------------------------------------------------------------


def test_a_sealed_room_begins_with_a_record_that_holds_its_owner_alone() -> None:
    room = SealedDriver()
    decision = room.begin(recap=True)
    assert types(decision) == ["RoomOpened", "MemberJoined", "EpochTurned", "KeyMinted", "MessagePosted"]
    state = room.aggregate.state
    assert (state.is_sealed, state.name, state.topic) == (True, "", "")
    assert (state.epochs.number, roster(room)) == (1, {OWNER.id})
    assert seen(room, OWNER) == [5]
    assert room.aggregate.epochs.waiting() is None
    room.check(Room, Room.restore)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"epoch": None}, "sealed"),
        ({"title": open_room(OWNER).title}, "title"),
        ({"opening": open_room(OWNER).opening}, "sealed"),
    ],
    ids=["without a record", "with a title in clear", "with a record, and not sealed"],
)
def test_a_room_is_sealed_wholly_or_not_at_all(changes: dict[str, Any], what: str) -> None:
    room = SealedDriver()
    command = room.opening()
    with refused("statement_refused") as caught:
        room.run(replace(command, **changes), OWNER)
    assert caught.value.details["what"] == what


@pytest.mark.parametrize("kind", ["private"])
def test_a_room_of_one_is_not_sealed(kind: Any) -> None:
    room = SealedDriver()
    command = room.opening()
    terms = None if kind == "private" else replace(command.terms, max_uses=1)  # type: ignore[type-var]
    with refused("sealed_room"):
        room.run(replace(command, opening=replace(command.opening, kind=kind), terms=terms), OWNER)


# -- coming in ---------------------------------------------------------------------------------------------


def test_a_decision_and_its_epoch_are_one_batch_of_facts() -> None:
    room = sealed_room()
    room.ask(BEN)
    decision = room.answer_to(BEN)
    assert types(decision) == ["JoinApproved", "MemberJoined", "EpochTurned"]
    assert roster(room) == {OWNER.id, BEN.id}
    assert room.aggregate.state.epochs.number == 2


def test_nobody_comes_in_without_a_key_to_be_given_the_secrets() -> None:
    room = sealed_room()
    state = room.aggregate.state
    said = {"agent": BEN.id, "principal": BEN.principal, "name": BEN.name, "host": "codex", "at": Millis(room.now)}
    signed = knock_of(state.lifecycle, state.keys[KEY], **said)  # type: ignore[arg-type]
    with refused("statement_refused") as caught:
        room.run(c.Knock(key_id=KEY, name=BEN.name, host="codex", wall=Millis(room.now), statement=signed), BEN)
    assert caught.value.details["what"] == "sealing_key"
    clear = SealedDriver()
    clear.open()
    with refused("statement_refused") as caught:
        clear.ask(BEN, key=KEY)
    assert caught.value.details["what"] == "sealing_key"


def test_who_waits_is_in_and_is_shown_nothing_until_a_record_holds_it() -> None:
    room = sealed_room()
    room.let_in(BEN, with_epoch=False)
    room.post_sealed(OWNER)
    assert seen(room, BEN) == []
    assert room.aggregate.newest_seq(BEN.id) == 0
    with refused("not_sealed_in"):
        room.post_sealed(BEN)
    waiting = room.aggregate.epochs.waiting()
    assert waiting is not None
    assert (waiting.entering, waiting.leaving, waiting.since) == ((BEN.id,), (), room.now)
    assert room.aggregate.epochs.pending_since() == room.now
    room.turn()
    assert room.aggregate.epochs.waiting() is None
    assert len(seen(room, BEN)) == 1
    assert room.aggregate.newest_seq(BEN.id) == 1
    room.post_sealed(BEN)


def test_with_from_join_nobody_is_shown_what_was_said_before_it_had_a_key() -> None:
    room = sealed_room(history="from-join")
    room.let_in(BEN, with_epoch=False)
    room.post_sealed(OWNER)
    room.turn()
    told = room.post_sealed(OWNER)
    assert [room.log[at - 1].event for at in seen(room, BEN)] == [told]


def test_several_who_wait_are_one_record() -> None:
    room = sealed_room()
    room.let_in(BEN, CAT, DAN, with_epoch=False)
    room.turn()
    assert roster(room) == {OWNER.id, BEN.id, CAT.id, DAN.id}
    assert room.aggregate.state.epochs.number == 2


# -- going -------------------------------------------------------------------------------------------------


def test_a_kick_and_its_epoch_are_one_batch_of_facts() -> None:
    room = sealed_room(BEN, CAT)
    decision = room.put_out(BEN, room.record(remove=[BEN.id]))
    assert types(decision) == ["MemberLeft", "EpochTurned"]
    assert roster(room) == {OWNER.id, CAT.id}


def test_the_epoch_of_a_kick_leaves_out_who_is_put_out() -> None:
    room = sealed_room(BEN, CAT)
    with refused("statement_refused") as caught:
        room.put_out(BEN, room.record())
    assert caught.value.details["what"] == "removed"
    assert room.aggregate.state.members[BEN.id].present


def test_what_one_who_left_could_read_is_pending_until_a_record_leaves_it_out() -> None:
    room = sealed_room(BEN)
    room.now += HOUR
    room.leave(BEN)
    assert room.aggregate.epochs.pending_since() == room.now
    waiting = room.aggregate.epochs.waiting()
    assert waiting is not None
    assert waiting.leaving == (BEN.id,)
    room.turn()
    assert roster(room) == {OWNER.id}
    assert room.aggregate.epochs.pending_since() == 0


@pytest.mark.parametrize("history", HISTORIES)
def test_one_who_comes_back_reads_on_with_the_next_record(history: History) -> None:
    room = sealed_room(BEN, history=history)
    first = room.post_sealed(OWNER)
    room.put_out(BEN, room.record(remove=[BEN.id]))
    room.post_sealed(OWNER)
    room.ask(BEN)
    room.answer_to(BEN, with_epoch=False)
    room.post_sealed(OWNER)
    assert [room.log[at - 1].event for at in seen(room, BEN)] == [first]
    assert room.aggregate.newest_seq(BEN.id) == 1
    room.turn()
    room.post_sealed(OWNER)
    assert len(seen(room, BEN)) == (4 if history == "full" else 2)
    assert room.aggregate.newest_seq(BEN.id) == len(seen(room, BEN))


def test_an_owner_hands_a_sealed_room_only_to_who_can_read_it_and_nobody_takes_one_over() -> None:
    room = sealed_room()
    room.let_in(BEN, with_epoch=False)
    with refused("not_sealed_in"):
        room.run(c.ChangeOwner(owner=BEN.id, principal=OWNER.principal), OWNER)
    room.turn()
    other = agent("zoe", of="stranger")
    room.let_in(other)
    with refused("not_successor"):
        room.run(c.ChangeOwner(owner=other.id, principal=other.principal, takes=True), other)
    room.run(c.ChangeOwner(owner=other.id, principal=OWNER.principal), OWNER)
    with refused("not_owner"):
        room.turn(room.record(), principal=OWNER.principal)
    room.turn(room.record(), principal=other.principal)


# -- whom the owner named, and that the owner is there ------------------------------------------------------


ZOE = agent("zoe", of="stranger")


def take(room: SealedDriver, who: Agent, **more: Any) -> Decision:
    """Take the room over."""
    return room.run(c.ChangeOwner(owner=who.id, principal=who.principal, takes=True, **more), who)


def test_whom_the_record_in_force_names_takes_a_sealed_room_over_and_goes_on_with_the_records() -> None:
    room = sealed_room(ZOE)
    room.turn(room.record(successor=ZOE.principal))
    take(room, ZOE)
    state = room.aggregate.state
    assert (state.owner, state.lifecycle.owners[-1].record, state.lifecycle.owners[-1].taken) == (ZOE.id, 3, True)
    with refused("not_owner"):
        room.turn(room.record(), principal=OWNER.principal)
    room.run(c.TurnEpoch(operation="link.epoch", epoch=room.record(), principal=ZOE.principal), ZOE)
    assert (state.epochs.number, state.epochs.signers) == (4, [OWNER.principal, ZOE.principal])
    room.check(Room, Room.restore)


def test_a_name_counts_as_long_as_the_record_in_force_gives_it() -> None:
    room = sealed_room(ZOE)
    room.turn(room.record(successor=ZOE.principal))
    room.turn(room.record())
    with refused("not_successor"):
        take(room, ZOE)


def test_what_an_owner_before_named_counts_no_more_once_the_room_changed_hands() -> None:
    room = sealed_room(BEN, ZOE)
    cat = agent("cat", of="another")
    room.let_in(cat)
    room.turn(room.record(successor=ZOE.principal))
    room.run(c.ChangeOwner(owner=cat.id, principal=OWNER.principal), OWNER)
    with refused("not_successor"):
        take(room, ZOE)


@pytest.mark.parametrize("more", [{"is_owner_here": True}, {"away_ms": Millis(86_400_000)}], ids=["there", "lately"])
def test_a_successor_waits_until_the_owner_s_person_was_away_for_long(more: dict[str, Any]) -> None:
    room = sealed_room(ZOE)
    room.turn(room.record(successor=ZOE.principal))
    with refused("owner_is_there"):
        take(room, ZOE, **more)
    room.now += 86_400_000
    if "away_ms" in more:
        room.run(c.TellOwnerLine(statement=owner_line(room), principal=OWNER.principal), OWNER)
        with refused("owner_is_there"):
            take(room, ZOE, **more)
        room.now += 86_400_000
        take(room, ZOE, **more)


def test_a_transfer_that_was_signed_under_an_older_record_is_signed_again() -> None:
    room = sealed_room(ZOE)
    state = room.aggregate.state
    signed = Transfer(
        home=HOME,
        room=ROOM,
        number=1,
        owner=ZOE.id,
        principal=ZOE.principal,
        taken=False,
        record=state.epochs.number,
        at=Millis(5),
        nonce=bytes(NONCE),
    )
    room.turn(room.record())
    give = c.ChangeOwner(owner=ZOE.id, principal=OWNER.principal, statement=signed)
    with refused("stale_epoch") as caught:
        room.run(give, OWNER)
    assert caught.value.details == {"number": 3, "what": "record"}
    room.run(replace(give, statement=replace(signed, record=3)), OWNER)
    assert room.log[-1].event == e.OwnerChanged(owner=ZOE.id, principal=ZOE.principal, record=3)


def owner_line(of: SealedDriver, **more: Any) -> OwnerLine:
    """What the owner's home says of the room as it is."""
    state = of.aggregate.state
    said: dict[str, Any] = {
        "home": HOME,
        "room": ROOM,
        "record": state.epochs.number,
        "digest": state.epochs.record,
        "public": state.shown.number,
        "line": bytes(32),
        "at": Millis(of.now),
        "nonce": bytes(NONCE),
    }
    return OwnerLine(**said | more)


def test_that_the_owner_is_there_is_noted_when_nothing_was_heard_of_it_for_half_a_day() -> None:
    room = sealed_room()
    room.post_sealed(OWNER)
    state, signed_at = room.aggregate.state, room.now
    assert state.epochs.heard == signed_at
    room.now += LINE_MS - 1

    def tell(line: OwnerLine) -> Decision:
        return room.run(c.TellOwnerLine(statement=line, principal=OWNER.principal), OWNER)

    assert types(tell(owner_line(room, at=Millis(signed_at + LINE_MS - 1)))) == []
    decision = tell(owner_line(room, at=Millis(signed_at + LINE_MS)))
    assert decision.events == (e.OwnerLineTold(record=1, public=1, made_at=Millis(signed_at + LINE_MS)),)
    assert (state.epochs.heard, state.epochs.lined) == (signed_at + LINE_MS, room.aggregate.position)
    assert types(tell(owner_line(room, at=Millis(signed_at)))) == []
    room.check(Room, Room.restore)


@pytest.mark.parametrize(
    ("wrong", "code", "what"),
    [
        ({"home": HomeId("U" * 56)}, "statement_refused", "home"),
        ({"room": RoomId("r_other")}, "statement_refused", "room"),
        ({"record": 2}, "stale_epoch", "record"),
        ({"digest": bytes(32)}, "stale_epoch", "record"),
        ({"public": 1}, "statement_refused", "public"),
    ],
)
def test_a_home_notes_no_line_of_another_room_than_it_has(wrong: dict[str, Any], code: str, what: str) -> None:
    room = sealed_room()
    room.now += 2 * LINE_MS
    with refused(code) as caught:
        room.run(c.TellOwnerLine(statement=owner_line(room, **wrong), principal=OWNER.principal), OWNER)
    assert caught.value.details["what"] == what


def test_only_the_owner_s_person_says_that_the_owner_is_there_and_in_sealed_rooms_alone() -> None:
    room = sealed_room(ZOE)
    room.now += 2 * LINE_MS
    with refused("not_owner"):
        room.run(c.TellOwnerLine(statement=owner_line(room), principal=ZOE.principal), ZOE)
    clear = SealedDriver()
    clear.open()
    with refused("not_sealed"):
        clear.run(c.TellOwnerLine(statement=owner_line(clear), principal=OWNER.principal), OWNER)


# -- keys and records alone --------------------------------------------------------------------------------


def test_the_same_record_again_is_harmless_and_an_older_one_is_refused() -> None:
    room = sealed_room()
    first, second = room.record(), None
    assert types(room.turn(first)) == ["EpochTurned"]
    assert types(room.turn(first)) == []
    second = room.record()
    room.turn(second)
    with refused("stale_epoch") as caught:
        room.turn(first)
    assert caught.value.details["number"] == 3


def test_only_the_person_of_the_owner_begins_an_epoch() -> None:
    room = sealed_room(BEN)
    with refused("not_owner"):
        room.turn(room.record(), principal=STRANGER.principal)


def test_a_fresh_key_is_told_once_a_day_by_who_is_in_or_knocks() -> None:
    room = sealed_room(BEN)
    with refused("throttled"):
        room.tell_key(BEN, 2)
    room.now += 24 * HOUR
    room.tell_key(BEN, 2)
    with refused("no_such_room"):
        room.tell_key(EVE, 1)


# -- messages ----------------------------------------------------------------------------------------------


def test_a_message_goes_under_the_record_in_force_and_under_no_other() -> None:
    room = sealed_room(BEN)
    old = room.message(BEN)
    room.turn(room.record())
    with refused("stale_epoch") as caught:
        room.run(old, linked(BEN))
    assert caught.value.details["number"] == 3
    assert room.post_sealed(BEN).envelope_v == 4
    with refused("envelope_refused") as caught:
        room.post_sealed(BEN, sealed={"epoch": 2})
    assert caught.value.details["what"] == "epoch"


def test_a_kicked_member_and_the_room_s_home_add_nothing_later() -> None:
    room = sealed_room(BEN)
    kept = room.message(BEN)
    room.put_out(BEN, room.record(remove=[BEN.id]))
    with refused("no_such_room"):
        room.run(kept, linked(BEN))


def test_a_clear_message_is_refused_in_a_sealed_room_and_a_sealed_one_elsewhere() -> None:
    room = sealed_room(BEN)
    with refused("envelope_refused") as caught:
        room.post_sealed(BEN, v=SIGNED, parts=(TextPart("in clear"),))
    assert caught.value.details["what"] == "v"
    clear = SealedDriver()
    clear.open()
    with refused("envelope_refused") as caught:
        clear.post_sealed(OWNER)
    assert caught.value.details["what"] == "v"


def test_a_private_message_is_wrapped_for_its_readers_and_for_nobody_else() -> None:
    room = sealed_room(BEN, CAT)
    assert room.post_sealed(BEN, visible_to=(OWNER.id,)).visibility == tuple(sorted((OWNER.id, BEN.id)))
    for wraps in ((BEN.id, OWNER.id, CAT.id), (BEN.id,), (BEN.id, CAT.id)):
        with refused("envelope_refused") as caught:
            room.post_sealed(BEN, visible_to=(OWNER.id,), wraps=wraps)
        assert caught.value.details["what"] == "wraps"


def test_nobody_writes_privately_to_somebody_without_a_key() -> None:
    room = sealed_room(BEN)
    room.let_in(CAT, with_epoch=False)
    with refused("not_sealed_in") as caught:
        room.post_sealed(BEN, visible_to=(CAT.id,))
    assert caught.value.details["agent"] == "cat"


def test_the_bytes_of_the_kept_messages_are_those_that_were_counted_under_their_record() -> None:
    room = sealed_room(BEN)
    room.post_sealed(BEN)
    room.post_sealed(OWNER)
    assert room.aggregate.state.epochs.used == 2
    room.turn(room.record())
    assert room.aggregate.state.epochs.used == 0


def test_behind_a_rewind_nothing_is_said_before_a_record_makes_the_roster_who_is_in() -> None:
    """The home went back to before a kick, and knows nothing of it: the owner's machine sends the record again, and
    whoever is in for the home alone waits until it is put out again or let in."""
    room = sealed_room(BEN, CAT)
    lost = room.record(remove=[BEN.id])
    room.now += HOUR
    shown = room.aggregate.state.shown
    room.commit(e.RoomRewound(epoch=1, public=shown.number, line=shown.line), OWNER, authority="person")
    for who in (BEN, CAT):
        with refused("stale_epoch") as caught:
            room.post_sealed(who)
        assert caught.value.details["what"] == "rewound"
    waiting = room.aggregate.epochs.waiting()
    assert waiting is not None
    assert (waiting.rewound, waiting.since, room.aggregate.epochs.pending_since()) == (True, room.now, room.now)
    room.turn(lost)
    assert room.aggregate.state.members[BEN.id].waits
    assert seen(room, BEN) == []
    with refused("stale_epoch"):
        room.post_sealed(CAT)
    room.put_out(BEN)
    room.turn(room.record())
    room.post_sealed(CAT)
    assert room.aggregate.epochs.waiting() is None
    room.check(Room, Room.restore)


def test_lost_records_come_again_in_order_also_those_of_agents_whose_coming_was_lost() -> None:
    room = sealed_room(BEN)
    shown = room.aggregate.state.shown
    lost = room.record(add=[claim(CAT)])
    room.commit(e.RoomRewound(epoch=1, public=shown.number, line=shown.line), OWNER, authority="person")
    room.turn(lost)
    assert room.aggregate.state.epochs.leaving.keys() == {CAT.id}
    room.turn()
    assert roster(room) == {OWNER.id, BEN.id}
    room.post_sealed(BEN)


# -- all of it ---------------------------------------------------------------------------------------------


def act(room: SealedDriver, draw: random.Random, who: Agent, readers: dict[int, set[AgentId]]) -> None:
    """One random act. Of each message it is noted who was in the room and in the roster then."""
    member = room.aggregate.state.members.get(who.id)
    is_in = member is not None and member.present
    match draw.randrange(6):
        case 0 | 1 if not is_in:
            room.let_in(who, with_epoch=draw.random() < 0.5)
        case 2 if is_in:
            room.leave(who)
        case 3 if is_in:
            new = room.record(remove=[who.id]) if who.id in roster(room) else None
            room.put_out(who, new if draw.random() < 0.5 else None)
        case 4 if room.aggregate.epochs.waiting() is not None:
            room.turn()
        case 5 if is_in and draw.random() < 0.3:
            room.tell_key(who, room.counters[who.id] + 1)
        case _:
            room.post_sealed(who if draw.random() < 0.5 else OWNER)
            inside = {member.agent for member in room.aggregate.state.members.values() if member.present}
            readers[room.aggregate.position] = roster(room) & inside


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), history=st.sampled_from(HISTORIES))
def test_nobody_is_shown_what_it_has_no_key_of_and_everybody_what_it_has(seed: int, history: History) -> None:
    """Random agents come, go, tell keys and speak, and records hold them sooner or later. Whatever happens, a member is
    shown a message if and only if it was in the room and in the roster when that was said, and with history `full`
    everything that came before it was given a key."""
    draw, room = random.Random(seed), sealed_room(history=history)
    people = [BEN, CAT, DAN, EVE]
    readers: dict[int, set[AgentId]] = {}
    for _ in range(40):
        who = draw.choice(people)
        room.now += draw.choice([0, 1, 25 * HOUR])
        code = outcome(partial(act, room, draw, who, readers))
        assert code in {"ok", "not_sealed_in", "no_such_room", "throttled"}
        state = room.aggregate.state
        assert set(state.epochs.roster) <= set(state.members)
        assert set(state.epochs.entering) == {
            m.agent for m in state.members.values() if m.present and m.agent not in state.epochs.roster
        }
        assert set(state.epochs.leaving) == {agent for agent in state.epochs.roster if not state.members[agent].present}
        for member in state.members.values():
            assert member.waits is (member.agent in state.epochs.entering)
            if not member.present:
                continue
            view = view_of(member)
            shown = {at for at in readers if can_see(view, position=at, visibility=None)}
            had = {at for at, agents in readers.items() if member.agent in agents}
            if history != "full":
                assert shown == had
            elif not member.waits:
                assert shown == set(readers)
            else:
                assert shown <= set(readers)
            assert newest_seq(state.membership, member.agent) == len(shown)
    room.check(Room, Room.restore)


def test_positions_of_records_are_kept_by_their_numbers() -> None:
    room = sealed_room(BEN)
    turned = [(h.event.number, h.position) for h in room.log if isinstance(h.event, e.EpochTurned)]
    assert room.aggregate.state.epochs.turned == turned
    assert turned[0] == (1, Position(3))
    assert room.aggregate.state.epochs.at == Millis(room.now)


def change_hands(room: SealedDriver, draw: random.Random, people: list[Agent], did: list[str]) -> None:
    """Something that may make the room another's, or say who may make it so; `did` gets a word for it."""
    state = room.aggregate.state
    owner = next(each for each in people if each.id == state.owner)
    who = draw.choice(people)
    match draw.randrange(5):
        case 0:
            named = draw.choice([None, *people])
            more: dict[str, Any] = {} if named is None else {"successor": named.principal}
            turn = c.TurnEpoch(operation="link.epoch", epoch=room.record(**more), principal=who.principal)
            room.run(turn, who)
            did.append("turned")
        case 1:
            room.run(c.ChangeOwner(owner=who.id, principal=owner.principal), owner)
            did.append("given")
        case 2 | 3:
            take(room, who, away_ms=Millis(HOUR))
            did.append("taken")
        case _:
            room.run(c.TellOwnerLine(statement=owner_line(room), principal=who.principal), who)
            did.append("told")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_sealed_room_is_another_s_only_by_its_owner_s_word_and_each_record_is_of_whose_it_was(seed: int) -> None:
    """Random records, transfers and attempts to take over. Whoever takes a room over is named by the record in force,
    which the owner signed; and by the numbers at which it changed hands each record is of the owner of its time."""
    draw = random.Random(seed)
    people = [OWNER, *(agent(name, of=name) for name in ("ben", "cat", "dan"))]
    room = sealed_room(*people[1:])
    signed_by: dict[int, str] = dict.fromkeys(range(1, 5), OWNER.principal)
    for _ in range(30):
        room.now += draw.choice([0, HOUR, 25 * HOUR])
        state = room.aggregate.state
        before, named, number = state.owner_principal, state.epochs.successor, state.epochs.number
        owned_from = state.lifecycle.owners[-1].record
        did: list[str] = []
        code = outcome(partial(change_hands, room, draw, people, did))
        assert code in {"ok", "not_owner", "not_successor", "owner_is_there", "invalid_param"}
        if did == ["taken"]:
            assert (state.owner_principal, signed_by[number]) == (named, before)
            assert number > owned_from
        if did != ["taken"] and did != ["given"]:
            assert state.owner_principal == before
        if did == ["turned"]:
            signed_by[number + 1] = before
        owners = owners_of(state.lifecycle)
        assert [each.record for each in owners] == sorted(each.record for each in owners)
        assert {each: signer_at(owners, each).principal for each in signed_by} == signed_by
    room.check(Room, Room.restore)
