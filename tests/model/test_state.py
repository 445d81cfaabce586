"""The state of a room against a small, slow, obvious model.

The model keeps a plain record for each key and goes through all of them each time. It copies everything before a batch
and puts it back where a write is refused; it counts ticks one by one, and looks through all timers at each step.
Expressions are of a few forms, of which it knows the meaning.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.model import StateAct
from parlerd.core.room import Room
from parlerd.core.timers import TimerSpec
from tests.support.core import BEN, CAT, OWNER, Agent, RoomDriver, opened, writing

PEOPLE = [BEN, CAT]
KEYS = ["a", "b", "c"]
SCOPES = ["_shared", "ben", "cat"]
LARGE = "x" * 1_500
"""Too long for the header of a fact."""


@dataclass
class Thing:
    """What stands under a key."""

    value: Any
    version: int
    by: str
    effect: str = ""
    due: int = 0
    span: int = 0
    left: int = 0
    watch: tuple[str, str] | None = None
    order: int = 0
    needs: str = ""
    """The key of `_shared` that has to be there for it to be there."""
    is_new: bool = False
    """Whether the batch that is carried out set its timer."""


@dataclass(frozen=True)
class Wanted:
    """One write, in the words of the model."""

    scope: str
    key: str
    act: StateAct
    value: Any
    guard: int | None
    gate: str
    timer: TimerSpec | None
    needs: str

    def write(self) -> c.StateWrite:
        is_set = self.act != "delete"
        return writing(
            self.key,
            self.value if is_set else None,
            scope=self.scope,
            act=self.act,
            gate=f"has(state._shared.{self.gate})" if self.gate else None,
            if_version=self.guard,
            enabled=f"has(state._shared.{self.needs})" if self.needs and is_set else None,
            timer=self.timer if is_set else None,
        )


class NotDone(Exception):
    pass


class Model:
    def __init__(self) -> None:
        self.things: dict[tuple[str, str], Thing] = {}
        self.gone: dict[tuple[str, str], int] = {}
        self.hidden: set[str] = set()
        self.order = 0

    def run_out(self, now: int) -> None:
        due = [(thing.due, thing.order, name) for name, thing in self.things.items() if thing.due and thing.due <= now]
        for _, _, name in sorted(due):
            self._fire(name)

    def _fire(self, name: tuple[str, str]) -> None:
        thing = self.things[name]
        if thing.effect == "delete":
            self.gone[name] = self.things.pop(name).version
        else:
            thing.effect, thing.due, thing.span, thing.left, thing.watch = "", 0, 0, 0, None

    def there(self, who: str, scope: str, key: str, seen: tuple[tuple[str, str], ...] = ()) -> bool:
        """Whether a key is there. Whoever comes back to a key that is being found out finds nothing."""
        thing = self.things.get((scope, key))
        if thing is None or thing.effect == "enable" or (scope in self.hidden and who != scope):
            return False
        if not thing.needs:
            return True
        return (scope, key) not in seen and self.there(who, "_shared", thing.needs, (*seen, (scope, key)))

    def carry_out(self, who: str, writes: list[Wanted], now: int) -> None:
        """Raises `NotDone` with the code and the number of the write."""
        before = copy.deepcopy((self.things, self.gone, self.order))
        is_open = {key: self.there(who, "_shared", key) for key in KEYS}
        written: list[tuple[str, str]] = []
        watching = {name: thing.watch for name, thing in self.things.items() if thing.watch is not None}
        try:
            for number, wanted in enumerate(writes):
                self.order += 1
                code = self._write(who, wanted, is_open, now)
                if code:
                    raise NotDone(code, number)
                if wanted.act != "delete":
                    written.append((wanted.scope, wanted.key))
        except NotDone:
            self.things, self.gone, self.order = before
            raise
        for name, watch in sorted(watching.items(), key=lambda each: self._order_of(each[0])):
            thing = self.things.get(name)
            if thing is None or thing.is_new or thing.watch != watch:
                continue
            thing.left -= written.count(watch)
            if thing.left <= 0:
                self._fire(name)
        for thing in self.things.values():
            thing.is_new = False

    def _order_of(self, name: tuple[str, str]) -> int:
        return self.things[name].order if name in self.things else 0

    def _write(self, who: str, wanted: Wanted, is_open: dict[str, bool], now: int) -> str:
        name = (wanted.scope, wanted.key)
        if wanted.scope not in ("_shared", who):
            return "scope_denied"
        if wanted.gate and not is_open[wanted.gate]:
            return "precondition_failed"
        thing = self.things.get(name)
        if wanted.guard is not None and wanted.guard != (0 if thing is None else thing.version):
            return "version_conflict"
        if wanted.act == "delete":
            if thing is None:
                return "no_such_key"
            self.gone[name] = self.things.pop(name).version
            return ""
        old = None if thing is None else thing.value
        match wanted.act:
            case "increment":
                if thing is not None and type(old) not in (int, float):
                    return "wrong_type"
                value = (0 if thing is None else old) + wanted.value
            case "append":
                if thing is not None and not isinstance(old, list):
                    return "wrong_type"
                value = [*(old or []), wanted.value]
            case "merge":
                if thing is not None and not isinstance(old, dict):
                    return "wrong_type"
                value = {**(old or {}), **wanted.value}
            case _:
                value = wanted.value
        version = (self.gone.pop(name, 0) if thing is None else thing.version) + 1
        made = Thing(value, version, who, order=self.order)
        keeps = wanted.act != "set" and thing is not None and wanted.timer is None and not wanted.needs
        if keeps and thing is not None:
            made.effect, made.due, made.span, made.left = thing.effect, thing.due, thing.span, thing.left
            made.watch, made.needs, made.is_new = thing.watch, thing.needs, thing.is_new
        elif wanted.timer is not None:
            spec = wanted.timer
            made.effect, made.watch, made.left = spec.effect, spec.watch, spec.ticks or 0
            made.span = spec.ms or 0
            made.due = now + spec.ms if spec.ms else spec.at or 0
            made.is_new = True
        if not keeps:
            made.needs = wanted.needs
        self.things[name] = made
        return ""


ACTS: list[tuple[StateAct, Any]] = [
    ("set", 1), ("set", 1), ("set", [1]), ("set", {"k": 1}), ("set", LARGE), ("set", None), ("increment", 2),
    ("increment", 2), ("increment", 0.5), ("append", LARGE), ("append", 1), ("merge", {"m": 1}), ("delete", None),
]  # fmt: skip
EFFECTS = st.sampled_from(["delete", "enable"])
TIMERS = st.one_of(
    st.builds(TimerSpec, effect=EFFECTS, ms=st.sampled_from([10, 50, 90])),
    st.builds(
        TimerSpec,
        effect=EFFECTS,
        ticks=st.integers(1, 3),
        watch=st.tuples(st.sampled_from(["_shared", "_shared", "ben"]), st.sampled_from(["a", "a", "b"])),
    ),
)


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    act, value = draw(st.sampled_from(ACTS))
    return Wanted(
        scope=draw(st.sampled_from(["_shared"] * 7 + SCOPES)),
        key=draw(st.sampled_from(["a", *KEYS])),
        act=act,
        value=value,
        guard=draw(st.sampled_from([None] * 15 + [0, 1, 2])),
        # Most writes succeed, or batches would seldom do.
        gate=draw(st.sampled_from([""] * 12 + KEYS)),
        timer=draw(TIMERS) if draw(st.integers(0, 3)) == 0 else None,
        needs=draw(st.sampled_from(["", "", "", *KEYS])),
    )


BATCHES = st.lists(wanted(), min_size=1, max_size=3)


class Coordination(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.room: RoomDriver = opened(approval=False, ttl_ms=10**9)
        self.room.admit(*PEOPLE)
        self.model = Model()

    @property
    def now(self) -> int:
        return max(self.room.now, self.room.aggregate.last_at)

    @rule(batches=st.lists(st.tuples(st.sampled_from(PEOPLE), BATCHES), min_size=2, max_size=6))
    def write(self, batches: list[tuple[Agent, list[Wanted]]]) -> None:
        for who, writes in batches:
            self.write_one(who, writes)

    @rule(who=st.sampled_from(PEOPLE), keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4))
    def add(self, who: Agent, keys: list[str]) -> None:
        """Plain writes that keep whatever timers there are, and tick others."""
        self.write_one(who, [Wanted("_shared", key, "increment", 1, None, "", None, "") for key in keys])

    @rule(who=st.sampled_from(PEOPLE), key=st.sampled_from(KEYS), timer=TIMERS)
    def begin_to_count(self, who: Agent, key: str, timer: TimerSpec) -> None:
        self.write_one(who, [Wanted("_shared", key, "set", 1, None, "", timer, "")])

    def write_one(self, who: Agent, writes: list[Wanted]) -> None:
        self.model.run_out(self.now)
        try:
            self.model.carry_out(who.name, writes, self.now)
            expected: tuple[str, int | None] = ("", None)
        except NotDone as error:
            code, number = error.args
            expected = (code, number if len(writes) > 1 else None)
        command = c.WriteState(writes=tuple(each.write() for each in writes))
        again = RoomDriver()
        again.aggregate, again.now = Room.restore(self.room.aggregate.snapshot()), self.room.now
        stood = len(self.room.log)
        assert self.heard(self.room, command, who) == expected
        assert self.heard(again, command, who) == expected
        # A room that was restored decides the same, in the same order.
        assert [header.event for header in again.log] == [header.event for header in self.room.log[stood:]]

    def heard(self, room: RoomDriver, command: c.WriteState, who: Agent) -> tuple[str, int | None]:
        try:
            room.run(command, who)
        except Refused as error:
            return error.code, error.details.get("index")
        return "", None

    @rule(who=st.sampled_from(PEOPLE), scope=st.sampled_from(SCOPES), key=st.sampled_from(KEYS))
    def renew(self, who: Agent, scope: str, key: str) -> None:
        self.model.run_out(self.now)
        thing = self.model.things.get((scope, key))
        expected = "ok"
        if scope not in ("_shared", who.name):
            expected = "scope_denied"
        elif thing is None:
            expected = "no_such_key"
        elif not thing.span:
            expected = "invalid_timer"
        else:
            thing.due = self.now + thing.span
        found = "ok"
        try:
            self.room.renew_timer(who, key, scope)
        except Refused as error:
            found = error.code
        assert found == expected

    @rule(ms=st.sampled_from([1, 9, 30, 60, 200]))
    def pass_time(self, ms: int) -> None:
        self.room.now += ms

    @rule(ms=st.sampled_from([40, 5_000]))
    def set_the_clock_back(self, ms: int) -> None:
        self.room.now -= ms

    @rule()
    def look_what_is_due(self) -> None:
        self.model.run_out(self.now)
        self.room.run_due()

    @rule(who=st.sampled_from(PEOPLE), hidden=st.booleans())
    def hide(self, who: Agent, hidden: bool) -> None:
        self.model.run_out(self.now)
        self.room.hide(who, who.id, hidden=hidden)
        (self.model.hidden.add if hidden else self.model.hidden.discard)(who.name)

    @rule()
    def restart(self) -> None:
        self.room.aggregate = Room.restore(self.room.aggregate.snapshot())

    @invariant()
    def entries_are_those_of_the_model(self) -> None:
        # What is due and of which no fact says so yet stands in both.
        table = self.room.aggregate.entries.table
        found = {
            (scope, key): (table.value(scope, key, entry), entry.version, self.room.aggregate.entries.handle(entry.by))
            for scope, entries in table.state.scopes.items()
            for key, entry in entries.items()
        }
        things = self.model.things
        assert found == {name: (thing.value, thing.version, thing.by) for name, thing in things.items()}
        for (scope, key), thing in things.items():
            entry = table.entry(scope, key)
            assert entry is not None
            left = (entry.timer.due, entry.ticks) if entry.timer is not None else (0, 0)
            assert left == (thing.due, thing.left)
        assert table.keys == len(things)

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        for who in (*PEOPLE, OWNER):
            for scope in SCOPES:
                expected = [key for key in KEYS if self.model.there(who.name, scope, key)]
                assert list(self.room.shared(who, scope)) == expected

    @invariant()
    def the_next_moment_is_that_of_the_first_timer(self) -> None:
        due = [thing.due for thing in self.model.things.values() if thing.due]
        first = self.room.aggregate.entries.table.next_due()
        assert (None if first is None else first.at) == min(due, default=None)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.room.verify()


TestCoordination = Coordination.TestCase
TestCoordination.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
