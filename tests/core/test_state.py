"""The state of a room: versions, guards, gates, batches, who may write what, and what time and writes let run out."""

from __future__ import annotations

from typing import Any

import pytest

from parlerd.core import commands as c
from parlerd.core import entries, state
from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import MAX_WRITES, VIEWS, Millis, StateAct
from parlerd.core.room import Room
from parlerd.core.seen import SeenAgent
from parlerd.core.state import IN_HEADER
from parlerd.core.timers import TimerSpec
from tests.support.core import BEN, CAT, DAN, HOUR, OWNER, STRANGER, RoomDriver, opened, refused, writing

SOON, LATER = TimerSpec(effect="delete", ms=100), TimerSpec(effect="delete", ms=1_000)
DORMANT = TimerSpec(effect="enable", ms=100)


def ticks(count: int, key: str = "turn", *, scope: str = "_shared", effect: Any = "delete") -> TimerSpec:
    return TimerSpec(effect=effect, ticks=count, watch=(scope, key))


def run_out(room: RoomDriver, since: int = 0) -> list[tuple[str, str, int]]:
    """What ran out after a place of the log: the key, the effect, how late."""
    return [
        (header.event.key, header.event.effect, header.event.late_ms)
        for header in room.log[since:]
        if isinstance(header.event, e.TimerFired)
    ]


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben and Cat in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT)
    return room


# -- values and versions -----------------------------------------------------------------------------------


def test_each_write_makes_the_next_version_whoever_writes_and_whatever_it_does(talk: RoomDriver) -> None:
    acts: list[tuple[StateAct, Any, Any]] = [
        ("set", 1, 1), ("increment", 2, 3), ("set", {"a": 1}, {"a": 1}), ("merge", {"b": 2}, {"a": 1, "b": 2}),
        ("set", [], []), ("append", 1, [1]), ("set", [1], [1]),
    ]  # fmt: skip
    for number, (act, value, expected) in enumerate(acts, 1):
        assert talk.put((BEN, CAT)[number % 2], "k", value, act=act) == number
        assert talk.shared(CAT) == {"k": expected}
    entry = talk.aggregate.entries.table.entry("_shared", "k")
    assert entry is not None
    assert (entry.by, entry.at, entry.position) == (CAT.id, talk.now, talk.log[-1].position)


def test_what_is_done_in_place_begins_with_nothing_of_its_kind(talk: RoomDriver) -> None:
    talk.put(BEN, "n", 2.5, act="increment")
    talk.put(BEN, "o", {"a": 1}, act="merge")
    talk.put(BEN, "l", 1, act="append")
    assert talk.shared(CAT) == {"l": [1], "n": 2.5, "o": {"a": 1}}


@pytest.mark.parametrize(("act", "value"), [("increment", 1), ("merge", {}), ("append", 1)])
def test_what_cannot_be_done_to_the_value_that_is_there_changes_nothing(
    talk: RoomDriver, act: StateAct, value: Any
) -> None:
    talk.put(BEN, "k", "text")
    with refused("wrong_type"):
        talk.put(BEN, "k", value, act=act)
    assert talk.shared(CAT) == {"k": "text"}


def test_a_long_value_stands_in_the_body_of_its_fact_and_a_short_one_in_the_header(talk: RoomDriver) -> None:
    for size, in_body in ((IN_HEADER - 2, False), (IN_HEADER - 1, True)):
        value = "x" * size
        talk.put(BEN, "k", value)
        header = talk.log[-1]
        assert isinstance(header.event, e.StateWritten)
        assert ((header.body is not None), header.event.size) == (in_body, size + 2)
        assert (value.encode() in e.encode_header(header)) is not in_body
        assert talk.shared(CAT) == {"k": value}
    talk.verify()


def test_the_same_long_value_written_twice_has_two_digests(talk: RoomDriver) -> None:
    digests = []
    for _ in range(2):
        talk.put(BEN, "k", "x" * 2 * IN_HEADER)
        digests.append(talk.log[-1].body)
    assert digests[0] != digests[1], "a digest would say whether an erased value was this one"


def test_a_value_whose_text_was_erased_is_nothing_that_could_be_changed_in_place(talk: RoomDriver) -> None:
    talk.put(BEN, "k", ["x" * 2 * IN_HEADER])
    bare = Room()
    for header in talk.log:
        is_state = isinstance(header.event, e.StateWritten)
        bare.apply(header, None if is_state else talk.bodies.get(header.position))
    talk.aggregate = bare
    assert talk.shared(CAT) == {"k": None}
    acts: list[tuple[StateAct, Any]] = [("increment", 1), ("merge", {}), ("append", 1)]
    for act, value in acts:
        with refused("wrong_type"):
            talk.put(BEN, "k", value, act=act)
    assert talk.put(BEN, "k", 1) == 2


@pytest.mark.parametrize(("guard", "written"), [(0, 0), (2, 2)])
def test_a_guard_lets_the_version_that_it_names_through(talk: RoomDriver, guard: int, written: int) -> None:
    for number in range(written):
        talk.put(BEN, "k", number)
    assert talk.put(CAT, "k", "new", if_version=guard) == written + 1


@pytest.mark.parametrize(("guard", "written"), [(0, 1), (1, 2), (3, 2)])
def test_a_guard_refuses_any_other_and_shows_what_is_there(talk: RoomDriver, guard: int, written: int) -> None:
    for number in range(written):
        talk.put(BEN, "k", number)
    with refused("version_conflict") as error:
        talk.put(CAT, "k", "new", if_version=guard)
    current = error.value.details["current"]
    assert current == {"value": written - 1, "version": written, "updated_by": "ben", "updated_at": talk.now}


def test_a_guard_on_a_key_that_is_not_there_is_a_conflict_with_nothing(talk: RoomDriver) -> None:
    with refused("version_conflict") as error:
        talk.put(BEN, "k", 1, if_version=1)
    assert error.value.details["current"] is None
    with refused("version_conflict"):
        talk.put(BEN, "k", if_version=1, act="delete")
    assert talk.shared(CAT) == {}


def test_versions_go_on_after_a_deletion_and_after_an_expiry(talk: RoomDriver) -> None:
    talk.put(BEN, "k", 1)
    assert talk.put(CAT, "k", act="delete") == 1
    with refused("no_such_key"):
        talk.put(BEN, "k", act="delete")
    with refused("version_conflict"):
        talk.put(BEN, "k", 2, if_version=1)
    assert talk.put(BEN, "k", 2, if_version=0, timer=SOON) == 2
    talk.now += 100
    with refused("version_conflict") as error:
        talk.put(BEN, "k", 3, if_version=2)
    assert error.value.details["current"] is None
    assert talk.put(BEN, "k", 3, if_version=0) == 3


def test_a_key_that_was_forgotten_is_never_given_a_version_that_it_may_have_had(
    talk: RoomDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MAX_KEYS", 2)
    for _ in range(5):
        talk.put(BEN, "old", 1)
    for key in ("old", "b", "c"):
        if key != "old":
            talk.put(BEN, key, 1)
        talk.put(BEN, key, act="delete")
    with refused("version_conflict"):
        talk.put(BEN, "old", 1, if_version=5)
    assert talk.put(BEN, "old", 1, if_version=0) == 6
    assert talk.put(BEN, "new", 1, if_version=0) == 6
    talk.verify()


def test_a_conflict_over_a_key_that_is_not_there_for_the_writer_says_its_version_and_no_value(talk: RoomDriver) -> None:
    talk.put(BEN, "door", "shut", timer=DORMANT)
    talk.put(BEN, "hint", "left", enabled='self == "ben"')
    for key in ("door", "hint"):
        with refused("version_conflict") as error:
            talk.put(CAT, key, 1, if_version=0)
        assert error.value.details["current"] == {"version": 1, "dormant": True}
    assert talk.put(CAT, "door", 1, if_version=1) == 2


# -- gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["false", "1", '"true"', "null", "state._shared.n == 2"])
def test_a_gate_that_is_anything_but_true_refuses_the_write(talk: RoomDriver, gate: str) -> None:
    talk.put(BEN, "n", 1)
    with refused("precondition_failed") as error:
        talk.put(BEN, "k", 1, gate=gate)
    assert error.value.details == {"expression": gate, "evaluated": False}
    assert talk.put(BEN, "k", 1, gate="state._shared.n == 1") == 1


def test_a_gate_that_comes_to_no_value_or_takes_too_long_says_so(talk: RoomDriver) -> None:
    with refused("expression_failed") as failed:
        talk.put(BEN, "k", 1, gate="state._shared.missing == 1")
    assert failed.value.details["path"] == "state._shared.missing"
    talk.put(BEN, "many", list(range(900)))
    with refused("expression_budget") as spent:
        talk.put(BEN, "k", 1, gate="state._shared.many.exists(x, state._shared.many.exists(y, y == -1))")
    assert spent.value.details["bound"] == "steps"


def test_a_gate_is_asked_before_a_guard(talk: RoomDriver) -> None:
    talk.put(BEN, "k", 1)
    with refused("precondition_failed"):
        talk.put(BEN, "k", 2, gate="false", if_version=9)
    with refused("version_conflict"):
        talk.put(BEN, "k", 2, gate="true", if_version=9)


def test_who_writes_is_who_the_gate_is_asked_for(talk: RoomDriver) -> None:
    assert talk.put(CAT, "k", 1, gate='self == "cat"') == 1
    with refused("precondition_failed"):
        talk.put(BEN, "k", 1, gate='self == "cat"')


def test_a_gate_sees_how_present_the_agents_are(talk: RoomDriver) -> None:
    class Seen:
        def of(self, agent: object) -> SeenAgent:
            return SeenAgent("active", None, Millis(1))

    talk.write(BEN, writing("k", 1, gate='agents.cat.status == "active"'), presence=Seen())
    with refused("precondition_failed"):
        talk.put(BEN, "k", 2, gate='agents.cat.status == "active"')


# -- batches -----------------------------------------------------------------------------------------------


def test_the_writes_of_a_batch_stand_on_each_other_and_its_expressions_on_what_was_before(talk: RoomDriver) -> None:
    talk.put(BEN, "n", 1)
    gate = "state._shared.n == 1 && !has(state._shared.new)"
    decision = talk.write(
        BEN,
        writing("new", 1, act="increment"),
        writing("new", 1, act="increment"),
        writing("n", 5, gate=gate),
        writing("n", 1, act="increment", gate=gate, if_version=2),
        writing("n", act="delete", if_version=3),
        writing("n", "again", if_version=0),
        gate=gate,
    )
    versions = [(event.key, event.version) for event in decision.events if isinstance(event, e.StateWritten)]
    assert versions == [("new", 1), ("new", 2), ("n", 2), ("n", 3), ("n", 4)]
    assert talk.shared(CAT) == {"n": "again", "new": 2}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (writing("n", 1, if_version=7), "version_conflict"),
        (writing("n", 1, gate="false"), "precondition_failed"),
        (writing("text", 1, act="increment"), "wrong_type"),
        (writing("x", 1, scope="cat"), "scope_denied"),
        (writing("x", 1, scope="nobody"), "no_such_agent"),
        (writing("x", act="delete"), "no_such_key"),
        (writing("no key", 1), "invalid_param"),
        (writing("x", b"bytes"), "invalid_param"),
        (writing("x", "x" * 70_000), "value_too_large"),
        (writing("x", 1, timer=TimerSpec(effect="delete")), "invalid_timer"),
        (writing("x", 1, scope=VIEWS), "invalid_param"),
        (writing("x", expr="1", scope="ben"), "invalid_param"),
    ],
)
def test_a_batch_with_one_bad_write_does_nothing_ticks_nothing_and_names_the_write(
    talk: RoomDriver, bad: c.StateWrite, code: str
) -> None:
    talk.put(BEN, "text", "text")
    talk.put(BEN, "lamp", 1, timer=ticks(1, "n"))
    stood = len(talk.log)
    with refused(code) as error:
        talk.write(BEN, writing("n", 1), writing("n", 2), bad)
    assert error.value.details["index"] == 2
    with refused(code) as alone:
        talk.write(BEN, bad)
    assert "index" not in alone.value.details
    assert len(talk.log) == stood
    assert talk.shared(CAT) == {"lamp": 1, "text": "text"}


def test_a_batch_whose_own_gate_is_shut_names_no_write(talk: RoomDriver) -> None:
    with refused("precondition_failed") as error:
        talk.write(BEN, writing("a", 1), writing("b", 1), gate="false")
    assert "index" not in error.value.details
    assert talk.shared(CAT) == {}


def test_a_batch_takes_as_many_writes_as_there_may_be(talk: RoomDriver) -> None:
    talk.write(BEN, *(writing("n", 1, act="increment") for _ in range(MAX_WRITES)))
    assert talk.shared(CAT) == {"n": MAX_WRITES}


def test_the_same_request_again_writes_nothing_also_when_what_it_wrote_is_gone(talk: RoomDriver) -> None:
    talk.write(BEN, writing("n", 1, act="increment"), writing("lamp", 1, timer=SOON), key="k-1")
    first = talk.log[-2].position
    talk.now += 200
    again = talk.write(BEN, writing("n", 1, act="increment"), writing("lamp", 1, timer=SOON), key="k-1")
    assert (again.events, again.replay) == ((), first)
    assert talk.shared(CAT) == {"n": 1}
    with refused("idempotency_conflict"):
        talk.write(BEN, writing("n", 1), key="k-1", input=b"other")
    assert talk.write(CAT, writing("n", 9), key="k-1").replay is None, "the key is of one agent"


# -- scopes ------------------------------------------------------------------------------------------------


def test_an_agent_writes_its_own_scope_and_the_rooms_and_no_other(talk: RoomDriver) -> None:
    for scope in ("_shared", "ben", BEN.id):
        assert talk.put(BEN, "k", 1, scope=scope) >= 1
    for scope in ("cat", CAT.id, "olive"):
        with refused("scope_denied") as error:
            talk.put(BEN, "k", 1, scope=scope)
        assert error.value.details["invoker"] == "ben"
        with refused("scope_denied"):
            talk.put(BEN, "k", scope=scope, act="delete")
    with refused("scope_denied"):
        talk.put(OWNER, "k", 2, scope="ben")
    assert talk.shared(CAT, "ben") == {"k": 1}


def test_who_is_not_in_the_room_writes_renews_and_hides_nothing(talk: RoomDriver) -> None:
    talk.put(BEN, "k", 1, timer=SOON)
    talk.leave(CAT)
    for who in (CAT, DAN, STRANGER):
        with refused("no_such_room"):
            talk.put(who, "k", 2)
        with refused("no_such_room"):
            talk.renew_timer(who, "k")
        with refused("no_such_room"):
            talk.hide(who, who.id)


def test_a_closed_room_takes_no_writes_shows_what_is_there_and_lets_timers_run_out(talk: RoomDriver) -> None:
    talk.put(BEN, "k", 1, timer=SOON)
    talk.put(BEN, "n", 1)
    talk.close()
    for act in (
        lambda: talk.put(BEN, "n", 2),
        lambda: talk.put(BEN, "n", act="delete"),
        lambda: talk.renew_timer(BEN, "k"),
        lambda: talk.hide(BEN, "ben"),
    ):
        with refused("room_closed"):
            act()
    assert talk.aggregate.entries.table.entry("_shared", "n") is not None
    talk.now += 100
    assert [type(event) for event in talk.run_due()] == [e.TimerFired]
    assert talk.aggregate.entries.table.entry("_shared", "k") is None
    talk.verify()


def test_only_its_agent_hides_a_scope_and_the_owner_those_of_all_who_said_nothing(talk: RoomDriver) -> None:
    for who, scope, code in (
        (BEN, "cat", "scope_denied"), (OWNER, "ben", "scope_denied"), (BEN, "_shared", "scope_denied"),
        (BEN, "", "not_owner"), (BEN, "zoe", "no_such_agent"),
    ):  # fmt: skip
        with refused(code):
            talk.hide(who, scope)
    talk.put(BEN, "k", 1, scope="ben"), talk.put(CAT, "k", 2, scope="cat")
    talk.hide(BEN, BEN.id, hidden=False)
    talk.hide(OWNER, "")
    assert (talk.shared(CAT, "ben"), talk.shared(BEN, "cat"), talk.shared(CAT, "cat")) == ({"k": 1}, {}, {"k": 2})
    assert talk.hide(OWNER, "").answer == "unchanged"
    talk.hide(OWNER, "", hidden=False)
    assert talk.shared(BEN, "cat") == {"k": 2}
    talk.verify()


def test_a_view_is_an_expression_in_its_own_scope_and_cannot_be_written_otherwise(talk: RoomDriver) -> None:
    assert talk.put(BEN, "ready", expr="true") == 1
    assert talk.put(CAT, "ready", expr="false") == 2
    with refused("invalid_param"):
        talk.put(BEN, "ready", 1, scope=VIEWS)
    acts: list[StateAct] = ["increment", "merge", "append"]
    for act in acts:
        with refused("invalid_param"):
            talk.put(BEN, "ready", 1, scope=VIEWS, act=act)
    assert talk.put(CAT, "ready", scope=VIEWS, act="delete") == 2


def test_a_missing_key_is_named_with_the_nearest_one(talk: RoomDriver) -> None:
    talk.put(BEN, "counter", 1)
    with refused("no_such_key") as error:
        talk.put(BEN, "countr", act="delete")
    assert error.value.message == "There is no key countr; did you mean counter?"


# -- bounds ------------------------------------------------------------------------------------------------


def test_a_room_has_a_bounded_number_of_keys_and_may_always_shrink(
    talk: RoomDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MAX_KEYS", 2)
    talk.write(BEN, writing("a", 1), writing("b", 1))
    with refused("state_full") as error:
        talk.put(BEN, "c", 1)
    assert error.value.details == {"limit": 2, "what": "keys"}
    talk.put(BEN, "a", 2)
    talk.write(BEN, writing("a", act="delete"), writing("c", 1))
    assert talk.shared(CAT) == {"b": 1, "c": 1}


def test_the_values_of_a_room_take_a_bounded_number_of_bytes_together(
    talk: RoomDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MAX_BYTES", 20)
    talk.write(BEN, writing("a", "x" * 8), writing("b", "x" * 8))
    with refused("state_full") as error:
        talk.put(BEN, "c", 1)
    assert error.value.details["what"] == "bytes"
    talk.write(BEN, writing("a", 1), writing("c", "x" * 7))
    talk.put(BEN, "b", act="delete")
    # What another version let in may stay, and shrink.
    monkeypatch.setattr(state, "MAX_BYTES", 5)
    talk.put(BEN, "c", "x" * 7)
    with refused("state_full"):
        talk.put(BEN, "c", "x" * 8)


def test_one_agent_has_a_bounded_number_of_views_and_of_timers(
    talk: RoomDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MAX_VIEWS", 2)
    monkeypatch.setattr(state, "MAX_TIMERS", 2)
    for key in ("a", "b"):
        talk.put(BEN, key, expr="1")
        talk.put(BEN, key, 1, timer=ticks(5) if key == "a" else LATER)
    with refused("state_full") as views:
        talk.put(BEN, "c", expr="1")
    with refused("state_full") as timers:
        talk.put(BEN, "c", 1, timer=LATER)
    assert (views.value.details["what"], timers.value.details["what"]) == ("views", "timers")
    # Those that are there may be written anew, and replaced by others in one batch.
    talk.put(BEN, "a", expr="2")
    talk.put(BEN, "b", 2, timer=SOON)
    talk.write(BEN, writing("a", scope=VIEWS, act="delete"), writing("c", expr="1"))
    talk.write(BEN, writing("a", act="delete"), writing("c", 1, timer=LATER))
    talk.put(CAT, "d", expr="1")
    talk.put(CAT, "d", 1, timer=LATER)


# -- timers on the room's time -----------------------------------------------------------------------------


def test_a_key_is_there_until_its_moment_and_absent_for_everything_from_then_on(talk: RoomDriver) -> None:
    talk.put(BEN, "fire", 1, timer=SOON)
    talk.now += 99
    assert talk.put(CAT, "seen", 1, gate="has(state._shared.fire)") == 1
    talk.now += 1
    with refused("precondition_failed"):
        talk.put(CAT, "seen", 2, gate="has(state._shared.fire)")
    with refused("no_such_key"):
        talk.put(CAT, "fire", act="delete")
    assert talk.put(CAT, "fire", 5, act="increment") == 2
    assert talk.shared(CAT)["fire"] == 5, "what was there before its time ran out was added to"


def test_a_dormant_key_is_reached_by_writes_and_by_nothing_else(talk: RoomDriver) -> None:
    talk.put(BEN, "door", 1, timer=DORMANT)
    assert talk.shared(BEN) == {}
    assert talk.put(CAT, "door", 1, act="increment") == 2
    assert talk.shared(BEN) == {}
    talk.now += 100
    talk.run_due()
    assert talk.shared(BEN) == {"door": 2}
    talk.put(BEN, "other", 1, timer=DORMANT)
    assert talk.put(CAT, "other", act="delete") == 1


def test_what_ran_out_is_one_fact_in_its_order_before_whatever_is_decided_next_with_how_late_it_is(
    talk: RoomDriver,
) -> None:
    talk.put(BEN, "b", 1, timer=TimerSpec(effect="enable", ms=70))
    talk.put(BEN, "c", 1, timer=TimerSpec(effect="delete", at=talk.now + 50))
    talk.put(BEN, "a", 1, timer=TimerSpec(effect="delete", ms=50))
    talk.now += 80
    stood = len(talk.log)
    with refused("precondition_failed"):
        talk.put(CAT, "x", 1, gate="has(state._shared.a) || has(state._shared.c) || !has(state._shared.b)")
    assert run_out(talk, stood) == [("c", "delete", 30), ("a", "delete", 30), ("b", "enable", 10)]
    assert {header.authority for header in talk.log[stood:]} == {"home"}
    talk.post(CAT)
    assert len(run_out(talk, stood)) == 3
    assert talk.run_due() == []
    talk.verify()


@pytest.mark.parametrize("value", [1, "x" * 2 * IN_HEADER])
def test_a_timer_runs_out_once_also_when_it_was_renewed_at_once(talk: RoomDriver, value: Any) -> None:
    talk.put(BEN, "fire", value, timer=SOON)
    talk.renew_timer(BEN, "fire")
    talk.now += 100
    talk.post(BEN)
    assert run_out(talk) == [("fire", "delete", 0)]


def test_set_replaces_timer_and_condition_and_every_other_act_keeps_them_unless_it_brings_some(
    talk: RoomDriver,
) -> None:
    def stands() -> tuple[int | None, str | None]:
        entry = talk.aggregate.entries.table.entry("_shared", "k")
        assert entry is not None
        due = None if entry.timer is None else int(entry.timer.due)
        return due, None if entry.enabled is None else entry.enabled.source

    first = talk.now + 1_000
    talk.put(BEN, "k", 1, timer=LATER, enabled="true")
    assert stands() == (first, "true")
    talk.now += 10
    talk.put(CAT, "k", 1, act="increment")
    assert stands() == (first, "true")
    talk.put(CAT, "k", 1, act="increment", timer=LATER, enabled="1 == 1")
    assert stands() == (first + 10, "1 == 1")
    talk.put(CAT, "k", {})
    assert stands() == (None, None)
    talk.put(CAT, "k", {}, act="merge", timer=LATER)
    talk.put(CAT, "k", {}, act="merge")
    assert stands() == (first + 10, None)
    talk.verify()


def test_renewing_begins_the_span_again_and_makes_no_version(talk: RoomDriver) -> None:
    talk.put(BEN, "fire", 1, timer=SOON)
    talk.now += 99
    assert [type(event) for event in talk.renew_timer(CAT, "fire").events] == [e.TimerRenewed]
    talk.now += 99
    assert talk.run_due() == []
    assert talk.put(CAT, "fire", 1, act="increment", if_version=1) == 2
    talk.now += 1
    assert run_out(talk) == []
    assert len(talk.run_due()) == 1
    with refused("no_such_key"):
        talk.renew_timer(CAT, "fire")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({}, "invalid_timer"),
        ({"timer": ticks(3)}, "invalid_timer"),
        ({"timer": TimerSpec(effect="delete", at=1_700_000_000_000 + HOUR)}, "invalid_timer"),
    ],
)
def test_only_a_timer_that_runs_for_a_span_is_renewed(talk: RoomDriver, how: dict[str, Any], code: str) -> None:
    talk.put(BEN, "k", 1, **how)
    with refused(code):
        talk.renew_timer(BEN, "k")


def test_a_timer_in_anothers_scope_is_not_renewed_and_a_renewal_happens_once(talk: RoomDriver) -> None:
    talk.put(BEN, "k", 1, scope="ben", timer=SOON)
    with refused("scope_denied"):
        talk.renew_timer(CAT, "k", "ben")
    talk.renew_timer(BEN, "k", "ben", idempotency_key="r-1")
    talk.now += 60
    assert talk.renew_timer(BEN, "k", "ben", idempotency_key="r-1").replay is not None
    talk.now += 40
    assert len(talk.run_due()) == 1


def test_the_next_deadline_is_the_first_moment_that_counts(talk: RoomDriver) -> None:
    entries_, now = talk.aggregate.entries, talk.now
    talk.put(BEN, "b", 1, timer=LATER)
    talk.put(BEN, "a", 1, timer=SOON)
    talk.put(BEN, "c", 1, timer=ticks(1))
    assert entries_.next_deadline(Millis(now)) == now + 100
    talk.put(BEN, "a", 1)
    assert entries_.next_deadline(Millis(now)) == now + 1_000
    # What has run out already is looked at at once.
    assert entries_.next_deadline(Millis(now + 5_000)) == now + 5_001
    talk.put(BEN, "b", act="delete")
    assert entries_.next_deadline(Millis(now)) is None


# -- timers on writes --------------------------------------------------------------------------------------


def test_each_write_of_the_watched_key_is_a_tick_also_of_the_same_value(talk: RoomDriver) -> None:
    talk.put(BEN, "compass", 1, timer=ticks(3, effect="enable"))
    for number in range(3):
        assert talk.shared(CAT).get("compass") is None, number
        talk.put(CAT, "turn", "same")
    assert talk.shared(CAT) == {"compass": 1, "turn": "same"}
    talk.put(CAT, "turn", "same")
    assert run_out(talk) == [("compass", "enable", 0)]
    talk.verify()


def test_ticks_are_counted_after_the_last_write_of_the_batch_and_each_write_counts(talk: RoomDriver) -> None:
    talk.put(BEN, "lamp", 1, timer=ticks(2))
    decision = talk.write(
        CAT, writing("turn", 1), writing("seen", 1, gate="has(state._shared.lamp)"), writing("turn", 2), writing("z", 1)
    )
    names = [type(event).__name__ for event in decision.events]
    assert names == ["StateWritten"] * 4 + ["TimersTicked", "TimerFired"]
    assert talk.shared(CAT) == {"seen": 1, "turn": 2, "z": 1}


def test_a_timer_does_not_count_the_batch_that_set_it(talk: RoomDriver) -> None:
    talk.write(BEN, writing("turn", 1), writing("lamp", 1, timer=ticks(1)), writing("turn", 2))
    assert talk.shared(CAT) == {"lamp": 1, "turn": 2}
    talk.write(BEN, writing("turn", 3), writing("lamp", 1, timer=ticks(1)))
    assert talk.shared(CAT) == {"lamp": 1, "turn": 3}, "it was set anew"
    talk.write(BEN, writing("turn", 3), writing("lamp", 1, act="increment"))
    assert talk.shared(CAT) == {"turn": 3}, "it was kept, and counts"


def test_a_write_that_keeps_a_timer_keeps_the_ticks_that_are_left(talk: RoomDriver) -> None:
    talk.put(BEN, "lamp", 1, timer=ticks(3))
    talk.put(BEN, "turn", 1)
    talk.put(CAT, "lamp", 1, act="increment")
    entry = talk.aggregate.entries.table.entry("_shared", "lamp")
    assert entry is not None
    assert (entry.version, entry.ticks) == (2, 2)
    talk.put(BEN, "turn", 2)
    assert talk.shared(CAT) == {"lamp": 2, "turn": 2}
    talk.put(BEN, "turn", 3)
    assert talk.shared(CAT) == {"turn": 3}


def test_a_batch_that_takes_a_timer_away_lets_it_count_no_more(talk: RoomDriver) -> None:
    talk.write(BEN, writing("a", 1, timer=ticks(1)), writing("b", 1, timer=ticks(1)))
    decision = talk.write(BEN, writing("turn", 1), writing("a", 2), writing("b", act="delete"))
    assert [type(event).__name__ for event in decision.events] == ["StateWritten", "StateWritten", "StateDeleted"]
    assert talk.shared(CAT) == {"a": 2, "turn": 1}


def test_deletions_expiries_renewals_and_refused_writes_tick_nothing(talk: RoomDriver) -> None:
    talk.put(BEN, "turn", 1, timer=SOON)
    talk.put(BEN, "lamp", 1, timer=ticks(1))
    talk.renew_timer(BEN, "turn")
    with refused("version_conflict"):
        talk.put(BEN, "turn", 2, if_version=9)
    talk.now += 100
    talk.run_due()
    talk.put(CAT, "other", 1)
    assert talk.shared(CAT) == {"lamp": 1, "other": 1}
    talk.put(BEN, "turn", 1)
    assert talk.shared(CAT) == {"other": 1, "turn": 1}


def test_a_key_may_count_its_own_writes_and_an_ended_timer_ticks_nothing_further(talk: RoomDriver) -> None:
    talk.put(BEN, "a", 1, timer=ticks(2, "a"))
    talk.put(BEN, "b", 1, timer=ticks(1, "a"))
    talk.put(BEN, "a", 1, act="increment")
    assert talk.shared(CAT) == {"a": 2}
    talk.put(BEN, "c", 1, timer=ticks(1, "a"))
    talk.put(BEN, "a", 1, act="increment")
    assert talk.shared(CAT) == {}, "its own last write took it away, and is a tick for others"
    assert talk.put(BEN, "a", 1) == 4


def test_ticks_of_any_scope_are_counted_in_the_order_of_the_facts_that_set_the_timers(talk: RoomDriver) -> None:
    for key, scope in (("b", "ben"), ("a", "_shared"), ("c", "ben")):
        talk.put(BEN, key, 1, scope=scope, timer=ticks(1, "score", scope="ben"))
    talk.put(BEN, "score", 1, scope="_shared")
    restored = Room.restore(talk.aggregate.snapshot())
    command = c.WriteState(writes=(writing("score", 1, scope="ben"),))
    ids = type(talk.ids)()
    assert restored.decide(command, by=BEN.by, now=Millis(talk.now), ids=ids).events == talk.run(command, BEN).events
    assert [key for key, _, _ in run_out(talk)] == ["b", "a", "c"]


def test_a_refusal_after_time_has_passed_leaves_what_ran_out_as_a_fact(talk: RoomDriver) -> None:
    talk.put(BEN, "fire", 1, timer=SOON)
    talk.now += 150
    with refused("no_such_key"):
        talk.put(BEN, "nothing", act="delete")
    assert run_out(talk) == [("fire", "delete", 50)]
    with pytest.raises(Refused):
        talk.put(BEN, "nothing", act="delete")
    assert len(run_out(talk)) == 1
