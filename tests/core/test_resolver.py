"""The room as one agent sees it: who sees what, and answers that depend on nothing but the room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.expressions import Failed, Spent
from parlerd.core.gates import Program
from parlerd.core.model import SHARED, VIEWS, AgentId, Millis
from parlerd.core.resolver import MAX_WAY, reads_presence
from parlerd.core.seen import NOBODY_SEEN, SeenAgent
from parlerd.core.timers import TimerSpec
from parlerd.core.topics import ANY
from parlerd.expr import parse
from tests.support.core import BEN, CAT, DAN, OWNER, Agent, RoomDriver, opened

DELETE_SOON = TimerSpec(effect="delete", ms=100)


class Present:
    """Agents that somebody sees; everybody else is offline."""

    def __init__(self, seen: dict[AgentId, SeenAgent]) -> None:
        self._seen = seen

    def of(self, agent: AgentId) -> SeenAgent:
        return self._seen.get(agent) or NOBODY_SEEN.of(agent)


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben and Cat in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT)
    return room


def failure(room: RoomDriver, who: Agent, source: str) -> Failed:
    with pytest.raises(Failed) as failed:
        room.worth(who, source)
    return failed.value


# -- what is there -----------------------------------------------------------------------------------------


def test_an_expression_reads_what_is_there_and_each_asker_is_itself(talk: RoomDriver) -> None:
    talk.put(BEN, "turn", 3)
    talk.put(BEN, "score", 1.5, scope="ben")
    assert talk.worth(CAT, 'state._shared.turn == 3 && state.ben.score > 1 && self == "cat"') is True
    assert talk.worth(BEN, "self") == "ben"
    assert talk.worth(CAT, "has(state._shared.nothing) || has(state.cat.nothing) || has(state.nobody.nothing)") is False
    assert talk.worth(CAT, "state") == {
        "_shared": {"turn": 3},
        "_view": {},
        "ben": {"score": 1.5},
        "cat": {},
        "olive": {},
    }


def test_what_has_run_out_is_absent_and_what_waits_is_not_there_yet(talk: RoomDriver) -> None:
    talk.put(BEN, "fire", 1, timer=DELETE_SOON)
    talk.put(BEN, "door", 1, timer=TimerSpec(effect="enable", ms=200))
    assert talk.shared(CAT) == {"fire": 1}
    talk.now += 100
    talk.run_due()
    assert talk.shared(CAT) == {}
    talk.now += 100
    talk.run_due()
    assert talk.shared(CAT) == {"door": 1}


def test_enabled_is_looked_at_anew_each_time_and_is_exactly_true_or_the_entry_is_off(talk: RoomDriver) -> None:
    talk.put(BEN, "market", "open", enabled="state._shared.population > 5")
    assert talk.shared(CAT) == {}, "what its condition needs is missing"
    talk.put(BEN, "population", 5)
    assert talk.shared(CAT) == {"population": 5}
    talk.put(BEN, "population", 6)
    assert talk.shared(CAT) == {"market": "open", "population": 6}
    talk.put(BEN, "market", "open", enabled="state._shared.population")
    assert talk.shared(CAT) == {"population": 6}, "a number opens nothing"


def test_enabled_may_depend_on_who_asks(talk: RoomDriver) -> None:
    talk.put(BEN, "hint", "left", enabled='self == "cat"')
    assert (talk.shared(CAT), talk.shared(BEN)) == ({"hint": "left"}, {})
    assert talk.worth(BEN, "has(state._shared.hint)") is False


# -- hidden scopes -----------------------------------------------------------------------------------------


def test_a_hidden_scope_is_empty_for_everybody_but_its_agent_however_one_asks(talk: RoomDriver) -> None:
    talk.put(BEN, "plan", "attack", scope="ben")
    talk.put(BEN, "leak", expr='state["be" + "n"].plan')
    talk.hide(BEN, "ben")
    assert talk.shared(CAT, "ben") == {}
    assert talk.shared(BEN, "ben") == {"plan": "attack"}
    for source in (
        'has(state["be" + "n"].plan)',
        'state["be" + "n"].size() > 0',
        'state.exists(s, state[s].exists(k, k == "plan"))',
    ):
        assert (talk.worth(CAT, source), talk.worth(BEN, source)) == (False, True), source
    assert talk.worth(BEN, "state._view.leak") == "attack"
    assert "no value" in failure(talk, CAT, "state._view.leak").reason
    talk.hide(BEN, "ben", hidden=False)
    assert talk.worth(CAT, "state._view.leak") == "attack"


def test_a_failure_in_a_hidden_scope_names_nothing_that_is_there(talk: RoomDriver) -> None:
    talk.put(BEN, "secret-plan", 1, scope="ben")
    talk.hide(BEN, "ben")
    failed = failure(talk, CAT, 'state["be" + "n"].secret_plan')
    assert failed.suggest() is None
    assert failure(talk, BEN, 'state["be" + "n"].secret_plan').suggest() is not None


def test_what_the_asker_may_not_see_is_not_looked_at(talk: RoomDriver) -> None:
    talk.put(BEN, "plan", 1, scope="ben")
    talk.hide(BEN, "ben")
    looker = talk.look(CAT)
    assert looker.evaluate(Program(parse('has(state["be" + "n"].plan)', "wait"))) is False
    assert not any(scope == "ben" and key == "plan" for _, scope, key in looker.looked)


# -- views -------------------------------------------------------------------------------------------------


def test_a_view_is_worth_what_its_expression_is_worth_now_to_whoever_reads_it(talk: RoomDriver) -> None:
    talk.put(BEN, "double", expr="state._shared.n * 2")
    talk.put(BEN, "whose", expr="self")
    talk.put(BEN, "n", 2)
    assert talk.worth(CAT, "state._view.double") == 4
    talk.put(BEN, "n", 5)
    assert talk.worth(CAT, "state._view.double + 1") == 11
    assert talk.shared(CAT, VIEWS) == {"double": 10, "whose": "cat"}


def test_a_view_that_errs_is_an_error_wherever_it_is_read_and_never_true(talk: RoomDriver) -> None:
    talk.put(BEN, "bad", expr="state._shared.missing == 1")
    talk.put(BEN, "over", expr="state._view.bad")
    assert failure(talk, CAT, "state._view.bad").reason.startswith("the view bad came to no value: ")
    assert "the view over came to no value" in failure(talk, CAT, "state._view.over").reason
    assert talk.worth(CAT, "state._view.bad || true") is True, "an or goes on without what came to no value"
    talk.put(BEN, "gated", 1, enabled="state._view.bad")
    assert talk.shared(CAT) == {}


def test_a_view_costs_its_steps_and_one_that_takes_too_many_ends_the_expression(talk: RoomDriver) -> None:
    talk.put(BEN, "many", list(range(1_000)))
    # Each element compares the whole list.
    talk.put(BEN, "slow", expr="state._shared.many.all(x, state._shared.many.exists(y, y == 999))")
    with pytest.raises(Spent):
        talk.worth(CAT, "state._view.slow || true")


def test_what_depends_on_too_many_others_in_a_row_is_too_much(talk: RoomDriver) -> None:
    talk.put(BEN, "v0", expr="1")
    for number in range(1, MAX_WAY + 1):
        talk.put(BEN, f"v{number}", expr=f"state._view.v{number - 1} + 1")
    assert talk.worth(CAT, f"state._view.v{MAX_WAY - 1}") == MAX_WAY
    with pytest.raises(Spent):
        talk.worth(CAT, f"state._view.v{MAX_WAY}")


# -- cycles ------------------------------------------------------------------------------------------------


def there_in_order(room: RoomDriver, order: Sequence[str]) -> dict[str, bool]:
    """Which keys are there, asked one after the other of one resolver."""
    resolver = room.look(CAT)
    return dict(sorted((key, resolver.there(SHARED, key) is not None) for key in order))


def of_every_order(room: RoomDriver, keys: Sequence[str]) -> dict[str, bool]:
    answers = [there_in_order(room, order) for order in permutations(keys)]
    assert all(answer == answers[0] for answer in answers), "the answer depends on who asks first"
    return answers[0]


def enabled_by(room: RoomDriver, conditions: dict[str, str]) -> None:
    """Keys with these conditions, in which `?A` stands for: A is there."""
    for key, condition in conditions.items():
        for other in conditions:
            condition = condition.replace(f"?{other}", f"has(state._shared.{other})")
        room.put(BEN, key, 1, enabled=condition)


@pytest.mark.parametrize(
    ("conditions", "there"),
    [
        ({"A": "?A"}, ""),
        ({"A": "!?A"}, ""),
        ({"A": "?B", "B": "?A"}, ""),
        ({"A": "?B || true", "B": "?A || true"}, ""),
        ({"A": "!?B", "B": "!?A"}, ""),
        # Outside the cycle, and over it.
        ({"A": "?B", "B": "?A", "C": "!?A"}, "C"),
        ({"A": "?B", "B": "?A", "C": "true", "D": "?C"}, "CD"),
        # Two cycles that share a part: all of them are one.
        ({"A": "?B || ?C", "B": "?A", "C": "!?B"}, ""),
        ({"A": "?B || ?C", "B": "!?A", "C": "!?A"}, ""),
        ({"A": "?B || ?C || ?D", "B": "?A", "C": "?B", "D": "!?C"}, ""),
        # A part that is never looked at closes no cycle.
        ({"A": "false && ?B", "B": "!?A"}, "B"),
        ({"A": "true || ?B", "B": "?A"}, "AB"),
    ],
)
def test_all_that_depends_on_itself_is_off_whoever_is_asked_for_first(conditions: dict[str, str], there: str) -> None:
    room = opened(approval=False)
    room.admit(BEN, CAT)
    enabled_by(room, conditions)
    assert of_every_order(room, list(conditions)) == {key: key in there for key in conditions}


CONDITION = st.recursive(
    st.sampled_from(["?A", "?B", "?C", "?D", "true", "false"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"!{part}"),
    ),
    max_leaves=4,
)


@given(st.fixed_dictionaries(dict.fromkeys("ABCD", CONDITION)))
def test_no_order_of_asking_makes_a_difference(conditions: dict[str, str]) -> None:
    room = opened(approval=False)
    room.admit(BEN, CAT)
    enabled_by(room, conditions)
    found = of_every_order(room, "ABCD")
    # Whatever is there has a condition that is true of what is there.
    for key in (key for key, is_there in found.items() if is_there):
        text = conditions[key].replace("&&", " and ").replace("||", " or ").replace("!", " not ")
        for other, is_there in found.items():
            text = text.replace(f"?{other}", str(is_there))
        assert eval(text.replace("true", "True").replace("false", "False")) is True  # made above


def test_views_that_depend_on_themselves_are_errors_whichever_is_read_first(talk: RoomDriver) -> None:
    talk.put(BEN, "a", expr="state._view.b || state._view.c")
    talk.put(BEN, "b", expr="state._view.a")
    talk.put(BEN, "c", expr="!state._view.b")
    talk.put(BEN, "d", expr="state._view.b || true")
    for order in permutations("abcd"):
        resolver = talk.look(CAT)
        found: dict[str, Any] = {}
        for key in order:
            entry = resolver.there(VIEWS, key)
            assert entry is not None
            try:
                found[key] = resolver.value(VIEWS, key, entry)
            except Failed as failed:
                found[key] = failed.reason
        assert found == {"d": True, **{key: f"the view {key} depends on itself" for key in "abc"}}, order


# -- agents, messages, time --------------------------------------------------------------------------------


def test_an_expression_sees_who_is_in_with_status_role_and_what_it_waits_for(talk: RoomDriver) -> None:
    seen = Present({BEN.id: SeenAgent("waiting", "state._shared.go", Millis(talk.now))})
    assert (
        talk.worth(CAT, 'agents.ben.status == "waiting" && agents.ben.waiting_on == "state._shared.go"', seen) is True
    )
    assert talk.worth(CAT, "agents.cat.status", seen) == "offline"
    assert talk.worth(CAT, "agents.cat.waiting_on == null && agents.cat.last_seen == null", seen) is True
    assert talk.worth(CAT, f'agents.ben.last_seen == timestamp("{_iso(talk.now)}")', seen) is True
    assert talk.worth(CAT, "size(agents) == 3 && has(agents.ben) && !has(agents.dan)", seen) is True
    talk.leave(BEN)
    assert talk.worth(CAT, "has(agents.ben)", seen) is False
    assert talk.worth(CAT, "has(state.ben.x)") is False, "a scope stays, and what is in it"


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def test_messages_are_counted_as_the_asker_may_know_them(talk: RoomDriver) -> None:
    before = talk.worth(CAT, "messages.count")
    talk.post(BEN)
    talk.post(BEN, visible_to=(OWNER.id,))
    talk.task(BEN)
    talk.task(BEN, visible_to=(OWNER.id,))
    assert talk.worth(CAT, "messages.count") == before + 2
    assert talk.worth(CAT, "messages.unclaimed == 1 && messages.unclaimed_by_kind.task == 1") is True
    assert talk.worth(OWNER, "messages.unclaimed") == 2
    talk.claim(CAT)
    assert talk.worth(CAT, "messages.unclaimed == 0 && !has(messages.unclaimed_by_kind.task)") is True


def test_now_is_the_moment_of_the_look_and_params_are_there_where_there_are_some(talk: RoomDriver) -> None:
    assert talk.worth(CAT, f'now == timestamp("{_iso(talk.now)}")') is True
    talk.now += 1_000
    assert talk.worth(CAT, f'now == timestamp("{_iso(talk.now)}")') is True
    with pytest.raises(Failed):
        talk.look(CAT).root("params")


LOOKED: list[tuple[str, Callable[[set[tuple[str, str, str]]], bool]]] = [
    ("state._shared.turn == 1", lambda looked: ("state", "_shared", "turn") in looked),
    ("has(state._shared.nothing)", lambda looked: ("state", "_shared", "nothing") in looked),
    ("state._shared.size() == 0", lambda looked: ("state", "_shared", "") in looked),
    ("state._view.v", lambda looked: {("state", "_view", "v"), ("state", "_shared", "turn")} <= looked),
    ("has(state._shared.gated)", lambda looked: ("state", "_shared", "turn") in looked),
    ('agents.ben.status == "x"', lambda looked: ("agents", "ben", "") in looked),
    ("agents.all(a, a == a)", lambda looked: ("agents", "", "") in looked),
    ("has(state.dan.x)", lambda looked: ("agents", "", "") in looked),
    ("messages.count > 0", lambda looked: ("messages", "", "") in looked),
    ("now > now", lambda looked: ("now", "", "") in looked),
    ("agents.ben.last_seen == null", lambda looked: ("now", "", "") in looked),
]


@pytest.mark.parametrize(("source", "is_noted"), LOOKED, ids=[source for source, _ in LOOKED])
def test_everything_that_an_answer_depends_on_is_noted(
    talk: RoomDriver, source: str, is_noted: Callable[[set[tuple[str, str, str]]], bool]
) -> None:
    talk.put(BEN, "turn", 1)
    talk.put(BEN, "gated", 1, enabled="state._shared.turn == 1")
    talk.put(BEN, "v", expr="state._shared.turn == 1")
    looker = talk.look(CAT)
    looker.evaluate(Program(parse(source, "wait")))
    assert is_noted(
        {(root, "" if scope == ANY else scope, "" if key == ANY else key) for root, scope, key in looker.looked}
    )


def test_only_what_may_look_at_agents_or_views_reads_presence() -> None:
    def reads(*sources: str) -> bool:
        return reads_presence([parse(source, "gate") for source in sources])

    assert not reads("state._shared.turn == 1", "messages.count > 0", "self == self")
    assert reads("state._shared.turn == 1", 'agents.ben.status == "active"')
    assert reads("state._view.ready")
    assert reads("state[self].x == 1"), "a scope that is computed may be that of the views"
    assert not reads_presence([None])


def test_who_is_not_in_the_room_looks_at_nothing(talk: RoomDriver) -> None:
    with pytest.raises(Refused, match="no_such_room"):
        talk.look(DAN)
