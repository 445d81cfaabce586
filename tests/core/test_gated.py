"""Gated messages: who is shown what, when, and what becomes of their tasks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import events as e
from parlerd.core.envelope import RELEASED, GatedPart, decode_envelope, gated_part
from parlerd.core.errors import Refused
from parlerd.core.gated import MAX_GATED, decode_signed, require_released
from parlerd.core.model import MessageId, Millis
from parlerd.core.room import Room
from parlerd.core.timers import TimerSpec
from parlerd.core.words import TASK
from parlerd.expr import parse
from tests.support.core import BEN, CAT, DAN, EVE, OWNER, Agent, RoomDriver, outcome, writing


@pytest.fixture
def room() -> RoomDriver:
    driver = RoomDriver()
    driver.open(recap=False)
    driver.admit(BEN, CAT)
    return driver


def checked(room: RoomDriver) -> RoomDriver:
    room.check(Room, Room.restore)
    return room


# -- becoming live -----------------------------------------------------------------------------------------


def test_a_message_is_shown_to_everyone_once_its_condition_is_true(room: RoomDriver) -> None:
    id = room.gate(BEN, "has(state._shared.compass)")
    assert [room.shown(who) for who in (OWNER, BEN, CAT)] == [[], [], []]
    room.put(OWNER, "compass", True)
    assert [room.shown(who) for who in (OWNER, BEN, CAT)] == [[id], [id], [id]]
    posted = next(header for header in room.log if isinstance(header.event, e.MessagePosted))
    assert (posted.by, posted.event.id, posted.event.visibility) == (BEN.by, id, None)  # type: ignore[union-attr]
    # It is a message like any other from here on: whoever comes later sees what a newcomer sees.
    room.admit(DAN)
    assert room.shown(DAN) == [id]
    assert room.aggregate.gated.entry(id) is None
    checked(room)


def test_a_condition_that_is_true_already_is_seen_to_at_once(room: RoomDriver) -> None:
    room.put(OWNER, "compass", True)
    id = room.gate(BEN, "state._shared.compass")
    assert room.shown(CAT) == [id]


def test_what_is_shown_depends_on_who_reads(room: RoomDriver) -> None:
    id = room.gate(OWNER, 'agents[self].role == "admin"')
    assert room.shown(BEN) == room.shown(OWNER) == []
    room.give_role(BEN, "admin")
    assert (room.shown(BEN), room.shown(CAT)) == ([id], [])
    # Its author sees what was shown of it.
    assert room.shown(OWNER) == [id]
    room.give_role(CAT, "admin")
    assert (room.shown(BEN), room.shown(CAT)) == ([id], [id])
    # Nobody is shown it twice, and nobody who was shown it loses it.
    room.give_role(BEN, "")
    room.give_role(BEN, "admin")
    assert (room.shown(BEN), room.shown(CAT)) == ([id], [id])
    ids = [header.event.id for header in room.log if isinstance(header.event, e.MessagePosted)]
    assert ids[0] == id
    assert len(set(ids)) == 2
    checked(room)


def test_a_newcomer_for_whom_it_is_true_is_shown_it(room: RoomDriver) -> None:
    id = room.gate(OWNER, 'agents[self].role == "admin"')
    room.knock(DAN, role="admin")
    room.approve(DAN)
    assert room.shown(DAN) == [id]
    assert room.shown(BEN) == []


def test_only_those_are_shown_it_whom_its_author_named(room: RoomDriver) -> None:
    id = room.gate(OWNER, "state._shared.open", visible_to=(BEN.id,), to=(BEN.id,))
    room.put(OWNER, "open", True)
    assert [room.shown(who) for who in (OWNER, BEN, CAT)] == [[id], [id], []]


@pytest.mark.parametrize(
    "enabled",
    ["messages.count > 0", 'agents.ben.status == "active"', "agents.ben.last_seen > now", "now > now", "params.x"],
)
def test_a_condition_reads_state_actions_roles_and_self_only(enabled: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(enabled, "message")
    assert refusal.value.code == "expression_invalid"


@pytest.mark.parametrize("view", ["messages.count >= 0", 'agents.ben.status == "offline"'])
def test_what_no_fact_says_is_not_read_through_a_view_either(room: RoomDriver, view: str) -> None:
    room.write(OWNER, writing("seen", expr=view))
    room.gate(OWNER, "state._view.seen")
    room.put(OWNER, "other", 1)
    assert room.shown(BEN) == []


def test_an_action_that_comes_and_goes_is_seen(room: RoomDriver) -> None:
    from parlerd.core.templates import Action, ActionWrite

    id = room.gate(OWNER, "has(actions.stoke)")
    action = Action(owner="_shared", writes=(ActionWrite(scope="_shared", key="fire", value=1),))
    room.register(BEN, "stoke", action)
    assert room.shown(CAT) == [id]


def test_a_condition_over_a_private_scope_is_true_for_its_owner_alone(room: RoomDriver) -> None:
    room.hide(BEN, "ben")
    room.gate(OWNER, "state[self].ready", visible_to=(BEN.id, CAT.id))
    room.put(BEN, "ready", True, scope="ben")
    assert (room.shown(BEN) != [], room.shown(CAT)) == (True, [])


# -- timers ------------------------------------------------------------------------------------------------


def test_a_dormant_message_is_shown_when_its_timer_ran_out(room: RoomDriver) -> None:
    id = room.gate(BEN, timer=TimerSpec(effect="enable", ms=1000))
    assert room.aggregate.next_deadline(Millis(room.now)) == room.now + 1000
    room.now += 999
    room.run_due()
    assert room.shown(CAT) == []
    room.now += 5_001
    [fired] = room.run_due()
    assert isinstance(fired, e.TimerFired)
    assert (fired.key, fired.late_ms) == (id, 5_000)
    assert room.shown(CAT) == [id]
    checked(room)


def test_a_message_waits_for_writes_of_a_key(room: RoomDriver) -> None:
    id = room.gate(BEN, timer=TimerSpec(effect="enable", ticks=2, watch=("_shared", "turn")))
    room.put(OWNER, "turn", 1)
    assert room.shown(CAT) == []
    room.put(OWNER, "turn", 1)
    assert room.shown(CAT) == [id]


@pytest.mark.parametrize("enabled", ["", 'agents[self].role == "admin"'])
def test_words_go_when_the_timer_says_so(room: RoomDriver, enabled: str) -> None:
    room.give_role(CAT, "admin")
    id = room.gate(BEN, enabled, timer=TimerSpec(effect="delete", ms=1000))
    assert room.shown(CAT) == [id]
    room.now += 1000
    room.run_due()
    assert room.shown(CAT) == []
    # Neither is there anything left of what its author signed.
    bodies = {
        header.position
        for header in room.log
        if header.body and isinstance(header.event, e.MessageGated | e.MessagePosted)
    }
    assert bodies == room.erased
    covers = room.aggregate.state.retention.covers
    assert all(covers(position) for position in bodies)
    checked(room)


def test_what_was_never_shown_goes_too(room: RoomDriver) -> None:
    id = room.gate(BEN, "state._shared.open", timer=TimerSpec(effect="delete", ticks=1, watch=("_shared", "turn")))
    room.put(OWNER, "turn", 1)
    room.put(OWNER, "open", True)
    assert room.shown(CAT) == []
    assert room.aggregate.gated.entry(id) is None
    assert len(room.erased) == 1
    checked(room)


def test_what_was_shown_leaves_no_second_copy_of_its_words(room: RoomDriver) -> None:
    room.gate(BEN, "state._shared.open")
    room.put(OWNER, "open", True)
    [gated] = [header.position for header in room.log if isinstance(header.event, e.MessageGated)]
    assert room.erased == {gated}


# -- taking back -------------------------------------------------------------------------------------------


def test_its_author_takes_a_message_back(room: RoomDriver) -> None:
    id = room.gate(BEN, "state._shared.open")
    assert outcome(lambda: room.withdraw(CAT, id)) == "no_such_gated"
    room.withdraw(BEN, id)
    room.put(OWNER, "open", True)
    assert room.shown(CAT) == []
    assert outcome(lambda: room.withdraw(BEN, id)) == "no_such_gated"
    other = room.gate(BEN, "state._shared.never")
    room.withdraw(OWNER, other)
    checked(room)


def test_a_room_that_closes_shows_nothing_more(room: RoomDriver) -> None:
    room.gate(BEN, timer=TimerSpec(effect="enable", ms=1000))
    room.close()
    room.now += 1000
    room.run_due()
    assert room.shown(CAT) == []
    assert room.aggregate.next_deadline(Millis(room.now)) is None
    checked(room)


def test_whoever_left_says_nothing_more(room: RoomDriver) -> None:
    room.gate(BEN, "state._shared.open")
    room.leave(BEN)
    room.put(OWNER, "open", True)
    assert room.shown(CAT) == []
    checked(room)


def test_a_home_that_lost_whom_it_showed_what_shows_it_under_another_id(room: RoomDriver) -> None:
    id = room.gate(BEN, 'agents[self].role == "admin"')
    room.post(OWNER)
    room.go_back(OWNER)
    room.give_role(CAT, "admin")
    [shown] = [h.event.id for h in room.log if isinstance(h.event, e.MessagePosted) and h.event.envelope_v == RELEASED]
    assert (room.shown(CAT), shown != id) == ([id], True)
    checked(room)


# -- tasks -------------------------------------------------------------------------------------------------


def open_to(room: RoomDriver, who: Agent) -> list[MessageId]:
    return [task.id for task in room.aggregate.claims.open_to(who.id, Millis(room.now))]


def test_a_task_is_open_while_its_condition_is_true(room: RoomDriver) -> None:
    id = room.gate(OWNER, "state._shared.open", kind=TASK)
    assert open_to(room, BEN) == []
    room.put(OWNER, "open", True)
    assert open_to(room, BEN) == [id]
    room.put(OWNER, "open", False)
    assert open_to(room, BEN) == []
    assert outcome(lambda: room.claim(BEN, id)) == "task_not_offered"
    room.put(OWNER, "open", True)
    assert room.claim(BEN)[0] == "claimed"
    # Whoever has it keeps it, and nobody else is offered it.
    room.put(OWNER, "open", False)
    assert room.claim(BEN, id)[0] == "already_yours"
    room.release(BEN, id)
    assert open_to(room, CAT) == []
    room.put(OWNER, "open", True)
    assert open_to(room, CAT) == [id]
    room.claim(CAT)
    room.say(CAT, "done", id)
    assert room.aggregate.gated.entry(id) is None
    checked(room)


def test_one_task_that_was_shown_apart_is_one_task(room: RoomDriver) -> None:
    id = room.gate(OWNER, 'agents[self].role == "admin"', kind=TASK)
    room.give_role(BEN, "admin")
    room.give_role(CAT, "admin")
    [first], [second] = open_to(room, BEN), open_to(room, CAT)
    assert first == id != second
    assert room.claim(BEN)[0] == "claimed"
    assert open_to(room, CAT) == []
    assert outcome(lambda: room.claim(CAT, second)) == "task_not_offered"
    room.release(BEN, first)
    assert open_to(room, CAT) == [second]
    room.claim(CAT)
    room.say(CAT, "done", second)
    assert open_to(room, BEN) == []
    assert outcome(lambda: room.claim(BEN, first)) == "task_over"
    assert room.aggregate.gated.entry(id) is None
    checked(room)


def test_a_lease_that_ends_offers_the_task_again(room: RoomDriver) -> None:
    id = room.gate(OWNER, "state._shared.open", kind=TASK)
    room.put(OWNER, "open", True)
    room.claim(BEN, lease_ms=1000)
    room.put(OWNER, "open", False)
    room.now += 1000
    assert room.lapse() == [id]
    assert open_to(room, CAT) == []
    room.put(OWNER, "open", True)
    assert open_to(room, CAT) == [id]


@pytest.mark.parametrize("spec", [{"ms": 1000}, {"ticks": 1, "watch": ("_shared", "turn")}])
def test_a_tasks_time_stops_while_somebody_has_it(room: RoomDriver, spec: dict[str, Any]) -> None:
    id = room.gate(OWNER, "state._shared.open", kind=TASK, timer=TimerSpec(effect="delete", **spec))
    room.put(OWNER, "open", True)
    room.claim(BEN, id)
    room.now += 2000
    room.put(OWNER, "turn", 1)
    room.look_at_tasks()
    assert room.claim(BEN, id)[0] == "already_yours"
    room.release(BEN, id)
    room.look_at_tasks()
    assert open_to(room, CAT) == []
    assert room.aggregate.gated.entry(id) is None
    checked(room)


@pytest.mark.parametrize("spec", [{"ms": 1000}, {"ticks": 1, "watch": ("_shared", "turn")}])
def test_a_task_that_nobody_had_in_its_time_is_over(room: RoomDriver, spec: dict[str, Any]) -> None:
    id = room.gate(OWNER, "state._shared.open", kind=TASK, timer=TimerSpec(effect="delete", **spec))
    room.put(OWNER, "open", True)
    assert open_to(room, CAT) == [id]
    room.now += 1000
    room.put(OWNER, "turn", 1)
    room.look_at_tasks()
    assert outcome(lambda: room.claim(CAT, id)) == "task_over"
    checked(room)


def test_its_author_ends_a_task_that_is_open(room: RoomDriver) -> None:
    id = room.gate(OWNER, "state._shared.open", kind=TASK)
    room.put(OWNER, "open", True)
    room.say(OWNER, "cancelled", id)
    assert room.aggregate.gated.entry(id) is None
    assert open_to(room, BEN) == []


def test_tasks_of_an_agent_are_there_while_it_is(room: RoomDriver) -> None:
    room.enable(BEN, "has(state._shared.day)")
    room.put(OWNER, "day", True)
    id = room.task(BEN)
    assert open_to(room, CAT) == [id]
    room.write(OWNER, writing("day", act="delete"))
    assert open_to(room, CAT) == []
    room.put(OWNER, "day", True)
    assert open_to(room, CAT) == [id]
    room.claim(CAT)
    room.write(OWNER, writing("day", act="delete"))
    assert room.claim(CAT, id)[0] == "already_yours"
    room.release(CAT, id)
    assert open_to(room, CAT) == []
    room.enable(BEN, None)
    assert open_to(room, CAT) == [id]
    checked(room)


def test_an_agent_whose_presence_is_asked_is_there_for_its_tasks(room: RoomDriver) -> None:
    """How present somebody is changes without a fact, so no fact may rest on it."""
    room.enable(BEN, 'agents.olive.status == "offline"')
    id = room.task(BEN)
    assert open_to(room, CAT) == [id]


def test_an_agent_that_comes_and_goes_with_its_own_tasks_ends_somewhere(room: RoomDriver) -> None:
    room.task(BEN)
    room.enable(BEN, "messages.unclaimed == 0")
    for number in range(5):
        room.put(OWNER, "turn", number)
    checked(room)


def test_messages_of_an_agent_that_is_not_there_wait(room: RoomDriver) -> None:
    room.put(OWNER, "day", True)
    room.enable(BEN, "has(state._shared.day)")
    id = room.gate(BEN, "state._shared.open")
    room.write(OWNER, writing("day", act="delete"))
    room.put(OWNER, "open", True)
    assert room.shown(CAT) == []
    room.put(OWNER, "day", True)
    assert room.shown(CAT) == [id]


# -- bounds ------------------------------------------------------------------------------------------------


def test_so_many_wait_in_one_room(room: RoomDriver) -> None:
    for _ in range(MAX_GATED):
        room.gate(BEN, "state._shared.never")
    assert outcome(lambda: room.gate(CAT, "state._shared.never")) == "too_many_gated"


def test_what_all_of_them_cost_has_a_bound(room: RoomDriver) -> None:
    """What is left over is seen to afterwards."""
    room.put(OWNER, "big", list(range(6_000)))
    costly = "state._shared.open && state[self].x == 1 || state._shared.big.all(x, state._shared.big[x] >= 0)"
    ids = [room.gate(BEN, f"{costly} && state._shared.go") for _ in range(60)]
    room.put(OWNER, "go", True)
    first = room.shown(CAT)
    rounds = 0
    while len(room.shown(CAT)) < len(ids):
        assert room.aggregate.next_deadline(Millis(room.now)) == room.now + 1
        room.now += 1
        before = len(room.shown(CAT))
        room.run_due()
        assert len(room.shown(CAT)) > before
        rounds += 1
    assert 0 < len(first) < len(ids)
    assert rounds


def test_an_expression_that_takes_too_long_is_not_true(room: RoomDriver) -> None:
    room.put(OWNER, "big", list(range(3_000)))
    room.gate(BEN, "state._shared.big.all(x, state._shared.big.exists(y, y == x))")
    assert room.shown(CAT) == []


# -- what its author signs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("altered", "what"),
    [
        ({"room": "r_other"}, "room"),
        ({"to": (CAT.id, CAT.id)}, "to"),
        ({"chain": "c_other"}, "chain"),
        ({"hops": 1}, "hops"),
        ({"visibility": (CAT.id,)}, "visibility"),
    ],
)
def test_what_says_anything_else_is_refused(room: RoomDriver, altered: dict[str, Any], what: str) -> None:
    with pytest.raises(Refused) as refusal:
        room.gate(BEN, "state._shared.open", **altered)
    assert (refusal.value.code, refusal.value.details["what"]) == ("envelope_refused", what)


def test_strangers_and_those_who_left_are_not_named(room: RoomDriver) -> None:
    assert outcome(lambda: room.gate(BEN, "true", to=(EVE.id,))) == "no_such_agent"
    assert outcome(lambda: room.gate(EVE, "true")) == "no_such_room"
    assert outcome(lambda: room.gate(BEN, "true", to=(CAT.id,), visible_to=(OWNER.id,))) == "invalid_param"
    assert outcome(lambda: room.gate(BEN, "true", reply_to=MessageId("m_none"))) == "no_such_message"


def test_the_same_request_is_the_same_message(room: RoomDriver) -> None:
    room.gate(BEN, "state._shared.open", key="once")
    before = len(room.log)
    room.gate(BEN, "state._shared.open", key="once")
    assert len(room.log) == before


def test_a_reply_goes_on_with_its_conversation(room: RoomDriver) -> None:
    first = room.post(CAT)
    id = room.gate(BEN, "state._shared.open", reply_to=first.id)
    room.put(OWNER, "open", True)
    [posted] = [h.event for h in room.log if isinstance(h.event, e.MessagePosted) and h.event.id == id]
    assert (posted.chain, posted.hops, posted.reply_to) == (first.chain, 1, first.id)


def test_a_released_message_is_what_its_author_signed(room: RoomDriver) -> None:
    room.gate(BEN, 'agents[self].role == "admin"', to=(CAT.id,))
    room.give_role(CAT, "admin")
    [body] = [room.bodies[h.position] for h in room.log if isinstance(h.event, e.MessagePosted)]
    envelope, part = decode_envelope(body), gated_part(body)
    within = decode_envelope(part.body)
    require_released(envelope, within)
    assert (envelope.v, envelope.to, part.signature) == (RELEASED, (CAT.id,), b"signature")
    for field, value in {
        "room": "r_other",
        "kind": "task",
        "host": "cursor",
        "hops": 1,
        "counter": 1,
        "key": "k",
        "shown": 1,
        "reply_to": MessageId("m_1"),
        "to": (BEN.id,),
        "authored_at": Millis(1),
    }.items():
        with pytest.raises(Refused) as refusal:
            require_released(msgspec.structs.replace(envelope, **{field: value}), within)
        assert refusal.value.code == "envelope_refused"


def test_nobody_is_shown_more_than_its_author_allowed(room: RoomDriver) -> None:
    room.gate(BEN, "state._shared.open", visible_to=(CAT.id,))
    room.put(OWNER, "open", True)
    [body] = [room.bodies[h.position] for h in room.log if isinstance(h.event, e.MessagePosted)]
    envelope, within = decode_envelope(body), decode_envelope(gated_part(body).body)
    for readers in (None, (BEN.id, CAT.id, DAN.id)):
        with pytest.raises(Refused) as refusal:
            require_released(msgspec.structs.replace(envelope, visibility=readers), within)
        assert refusal.value.details["what"] == "visibility"


@given(st.binary(max_size=64))
def test_what_is_no_signed_message_reads_as_none(data: bytes) -> None:
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        assert isinstance(decode_signed(data), GatedPart)


# -- against a small model ---------------------------------------------------------------------------------

_ROLES = ("", "admin", "tester")
_CONDITIONS: dict[str, Any] = {
    "state._shared.a == 1": lambda model, who: model.keys.get("a") == 1,
    "has(state._shared.b)": lambda model, who: "b" in model.keys,
    'agents[self].role == "admin"': lambda model, who: model.roles.get(who) == "admin",
    'agents[self].role == "tester" && has(state._shared.b)': lambda model, who: (
        model.roles.get(who) == "tester" and "b" in model.keys
    ),
    "self == state._shared.a": lambda model, who: model.keys.get("a") == who,
}
_STEPS = st.one_of(
    st.tuples(st.just("gate"), st.sampled_from(sorted(_CONDITIONS)), st.sampled_from(["text", TASK])),
    st.tuples(st.just("write"), st.sampled_from("ab"), st.sampled_from([1, 2, "ben", "cat"])),
    st.tuples(st.just("delete"), st.sampled_from("ab")),
    st.tuples(st.just("role"), st.sampled_from(["ben", "cat", "dan"]), st.sampled_from(_ROLES)),
    st.tuples(st.just("claim"), st.sampled_from(["ben", "cat", "dan"])),
    st.tuples(st.just("release"), st.sampled_from(["ben", "cat", "dan"])),
    st.tuples(st.just("done"), st.sampled_from(["ben", "cat", "dan"])),
)


class _Model:
    """Everybody evaluates every message after each step, and a task is one thing whoever sees it."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.roles: dict[str, str] = {}
        self.messages: dict[MessageId, tuple[Any, str]] = {}
        self.seen: dict[str, list[MessageId]] = {"ben": [], "cat": [], "dan": []}
        self.holder: dict[MessageId, str] = {}
        self.over: set[MessageId] = set()

    def look(self) -> None:
        for who, seen in self.seen.items():
            for id, (condition, _) in self.messages.items():
                if id not in seen and id not in self.over and condition(self, who):
                    seen.append(id)

    def open_to(self, who: str) -> set[MessageId]:
        tasks = [id for id in self.seen[who] if self.messages[id][1] == TASK]
        return {id for id in tasks if id not in self.holder and id not in self.over and self.messages[id][0](self, who)}


@settings(max_examples=60, deadline=None)
@given(st.lists(_STEPS, max_size=25))
def test_everybody_sees_what_a_small_model_shows(steps: list[tuple[Any, ...]]) -> None:
    room, model = RoomDriver(), _Model()
    room.open(recap=False)
    room.admit(BEN, CAT, DAN)
    who = {"ben": BEN, "cat": CAT, "dan": DAN}
    gate_of: dict[MessageId, MessageId] = {}

    def mine(name: str) -> list[MessageId]:
        held = room.aggregate.claims.held_by(who[name].id, Millis(room.now))
        return [task.id for task in held]

    for step in steps:
        match step:
            case ("gate", str(condition), str(kind)):
                id = room.gate(OWNER, condition, kind=kind)
                model.messages[id] = (_CONDITIONS[condition], kind)
            case ("write", str(key), value):
                room.put(OWNER, key, value)
                model.keys[key] = value
            case ("delete", str(key)) if key in model.keys:
                room.write(OWNER, writing(key, act="delete"))
                del model.keys[key]
            case ("role", str(name), str(role)):
                room.give_role(who[name], role)
                model.roles[name] = role
            case ("claim", str(name)):
                answer, task = room.claim(who[name])
                assert (answer == "claimed") is bool(model.open_to(name))
                if task is not None:
                    assert gate_of[task.id] in model.open_to(name)
                    model.holder[gate_of[task.id]] = name
            case ("release", str(name)) if held := mine(name):
                room.release(who[name], held[0])
                del model.holder[gate_of[held[0]]]
            case ("done", str(name)) if held := mine(name):
                room.say(who[name], "done", held[0])
                del model.holder[gate_of[held[0]]]
                model.over.add(gate_of[held[0]])
            case _:
                pass
        model.look()
        for header in room.log:
            if isinstance(header.event, e.MessageReleased):
                gate_of[header.event.id] = header.event.gate
        for name, agent in who.items():
            assert sorted(room.shown(agent)) == sorted(model.seen[name]), name
            assert {gate_of[id] for id in open_to(room, agent)} == model.open_to(name), name
    checked(room)
