"""Agents that are there only while something is true, and modules: who sees them, what they may do, whose they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import modules
from parlerd.core.model import SHARED, Label
from parlerd.core.room import Room
from parlerd.core.seen import SeenAgent
from tests.core.test_resolver import Present
from tests.support.core import BEN, CAT, DAN, OWNER, Agent, RoomDriver, an_action, doing, opened, refused


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben and Cat in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT)
    return room


LAMP = "has(state._shared.lamp)"


# -- agents ------------------------------------------------------------------------------------------------


def test_an_agent_that_is_not_there_is_missing_with_its_scope_and_its_actions_and_comes_back(talk: RoomDriver) -> None:
    talk.put(BEN, "score", 1, scope="ben")
    talk.register(BEN, "greet", an_action(doing("hello", 1), owner="ben"))
    talk.enable(BEN, LAMP)
    seen = 'has(agents.ben) || "ben" in agents || has(state.ben.score) || state.ben.size() > 0 || has(actions.greet)'
    assert talk.worth(CAT, seen) is False
    assert talk.worth(CAT, "has(state.ben)") is True, "a scope is there, even when it is empty"
    assert talk.look(CAT).agents() == ["cat", "olive"]
    assert talk.shared(CAT, "ben") == {}
    with refused("action_disabled") as caught:
        talk.invoke(CAT, "greet")
    assert caught.value.details == {"action": "greet", "enabled": LAMP}
    talk.put(CAT, "lamp", 1)
    assert talk.worth(CAT, 'has(agents.ben) && "ben" in agents && state.ben.score == 1 && has(actions.greet)') is True
    talk.invoke(CAT, "greet")
    talk.put(CAT, "lamp", act="delete")
    assert talk.worth(CAT, seen) is False
    talk.enable(BEN, None)
    assert talk.worth(CAT, seen) is True
    assert talk.enable(BEN, None).answer == "unchanged"
    talk.verify()


def test_a_disabled_agent_sees_what_it_has_and_does_nothing_but_look_until_it_takes_that_back(talk: RoomDriver) -> None:
    talk.put(BEN, "score", 1, scope="ben")
    talk.register(BEN, "greet", an_action(doing("hello", 1), owner="ben"))
    task, held = talk.task(OWNER), talk.task(OWNER)
    talk.claim(BEN, held)
    talk.enable(BEN, LAMP)
    assert talk.worth(BEN, "has(agents.ben) && state.ben.score == 1 && has(actions.greet)") is True
    assert talk.worth(BEN, "actions.greet.available") is False
    assert talk.why_not(BEN, "greet") == "agent_disabled"
    acts: list[Callable[[], object]] = [
        lambda: talk.put(BEN, "k", 1),
        lambda: talk.put(BEN, "score", 2, scope="ben"),
        lambda: talk.renew_timer(BEN, "score", "ben"),
        lambda: talk.hide(BEN, "ben"),
        lambda: talk.register(BEN, "wave", an_action()),
        lambda: talk.delete_action(BEN, "greet"),
        lambda: talk.invoke(BEN, "greet"),
        lambda: talk.module(BEN, "path"),
        lambda: talk.delete_module(BEN, "path"),
        lambda: talk.claim(BEN, task),
        lambda: talk.post(BEN),
        lambda: talk.remember(BEN, "deploy"),
        lambda: talk.offer(BEN),
        lambda: talk.say(BEN, "working", held),
    ]
    length = len(talk.log)
    for act in acts:
        with refused("agent_disabled") as caught:
            act()
        assert caught.value.details == {"agent": "ben", "enabled": LAMP}
    assert len(talk.log) == length
    talk.put(CAT, "k", 1)
    talk.enable(BEN, "true")
    talk.put(BEN, "k", 2)
    talk.post(BEN)
    talk.enable(BEN, "false")
    talk.release(BEN, held)
    talk.leave(BEN)


def test_what_it_said_is_seen_with_its_own_eyes_for_its_own_acts_and_with_a_readers_for_a_reader(
    talk: RoomDriver,
) -> None:
    talk.enable(BEN, 'self == "cat"')
    assert (talk.worth(CAT, "has(agents.ben)"), talk.worth(OWNER, "has(agents.ben)")) == (True, False)
    with refused("agent_disabled"):
        talk.put(BEN, "k", 1)
    talk.enable(BEN, 'self == "ben"')
    talk.put(BEN, "k", 1)
    assert talk.worth(CAT, "has(agents.ben)") is False


def test_what_an_agent_said_may_read_how_present_others_are(talk: RoomDriver) -> None:
    talk.enable(BEN, 'agents.cat.status == "waiting"')
    waiting = Present({CAT.id: SeenAgent("waiting")})
    assert talk.worth(OWNER, "has(agents.ben)") is False
    assert talk.worth(OWNER, "has(agents.ben)", waiting) is True


def test_one_that_depends_on_itself_is_off_for_others_and_can_still_undo_that(talk: RoomDriver) -> None:
    talk.put(BEN, "on", 1, scope="ben")
    talk.put(CAT, "on", 1, scope="cat")
    talk.enable(BEN, "!has(state.cat.on)")
    talk.enable(CAT, "!has(state.ben.on)")
    for scope in ("ben", "cat"):
        assert talk.shared(OWNER, scope) == {}
    assert talk.worth(OWNER, "has(agents.ben) || has(agents.cat)") is False
    talk.enable(BEN, "actions.mine.available")
    talk.enable(BEN, "has(state.ben.on) && state.ben.on == 1")
    assert talk.worth(OWNER, "has(agents.ben)") is False
    talk.enable(BEN, None)
    assert talk.worth(OWNER, "has(agents.ben)") is True


def test_an_own_action_that_has_to_be_available_for_its_agent_is_not(talk: RoomDriver) -> None:
    talk.register(BEN, "mine", an_action(owner="ben"))
    talk.enable(BEN, "actions.mine.available")
    assert talk.why_not(BEN, "mine") == "agent_disabled"
    with refused("agent_disabled"):
        talk.invoke(BEN, "mine")
    talk.enable(BEN, None)
    talk.invoke(BEN, "mine")


def test_one_that_takes_too_long_is_off_and_can_undo_that(talk: RoomDriver) -> None:
    slow = "true"
    for name in "abcde":
        slow = f"[1,2,3,4,5,6,7,8,9].all({name}, {slow})"
    talk.enable(BEN, slow)
    with refused("agent_disabled"):
        talk.put(BEN, "k", 1)
    assert talk.look(CAT).agents() == ["cat", "olive"]
    talk.enable(BEN, None)
    talk.put(BEN, "k", 1)


def test_what_an_agent_said_holds_again_when_it_comes_back(talk: RoomDriver) -> None:
    talk.enable(BEN, LAMP)
    talk.leave(BEN)
    assert talk.worth(CAT, "has(agents.ben)") is False
    talk.put(CAT, "lamp", 1)
    assert talk.worth(CAT, "has(agents.ben)") is False, "who left is not in"
    talk.admit(BEN)
    assert talk.worth(CAT, "has(agents.ben)") is True
    talk.put(CAT, "lamp", act="delete")
    with refused("agent_disabled"):
        talk.put(BEN, "k", 1)


# -- modules -----------------------------------------------------------------------------------------------


def test_the_path_of_the_guide_appears_when_the_compass_exists(talk: RoomDriver) -> None:
    talk.module(BEN, "path", enabled="has(state._shared.compass)")
    talk.put(BEN, "steps", 3, scope="path")
    talk.register(BEN, "walk", an_action(doing("steps", -1, act="increment", scope="path"), owner="path"))
    for who in (BEN, CAT):
        assert talk.worth(who, "has(agents.path) || has(state.path.steps) || has(actions.walk)") is False
    with refused("action_disabled"):
        talk.invoke(CAT, "walk")
    talk.put(CAT, "compass", True)
    agent = {"status": "module", "role": "module", "waiting_on": None, "last_seen": None}
    assert talk.worth(CAT, "agents.path") == agent
    assert talk.worth(CAT, "agents.map(a, a)") == ["ben", "cat", "olive", "path"]
    talk.invoke(CAT, "walk")
    assert talk.shared(CAT, "path") == {"steps": 2}
    talk.put(CAT, "compass", act="delete")
    assert talk.worth(CAT, "has(agents.path) || has(state.path.steps) || has(actions.walk)") is False
    talk.verify()


def test_its_registrar_alone_writes_what_a_module_has(talk: RoomDriver) -> None:
    talk.module(BEN, "path")
    talk.register(BEN, "walk", an_action(owner="path"))
    for act in (
        lambda: talk.put(CAT, "steps", 1, scope="path"),
        lambda: talk.register(CAT, "run", an_action(owner="path")),
        lambda: talk.module(CAT, "path", "mine"),
        lambda: talk.hide(CAT, "path"),
        lambda: talk.delete_module(CAT, "path"),
    ):
        with refused("scope_denied") as caught:
            act()
        assert caught.value.details == {"write_scope": "path", "invoker": "cat"}
    with refused("action_owned") as owned:
        talk.delete_action(CAT, "walk")
    assert owned.value.details == {"owner": "path"}
    talk.module(BEN, "path", "guide")
    assert talk.worth(CAT, "agents.path.role") == "guide"
    talk.hide(BEN, "path")
    talk.put(BEN, "steps", 1, scope="path")
    assert (talk.shared(BEN, "path"), talk.shared(CAT, "path")) == ({"steps": 1}, {})


def test_of_a_module_that_was_deleted_nothing_is_there_and_its_name_stays_its_registrars(talk: RoomDriver) -> None:
    talk.module(BEN, "path")
    talk.put(BEN, "steps", 1, scope="path")
    talk.register(BEN, "walk", an_action(owner="path"))
    talk.delete_module(OWNER, "path")
    assert talk.worth(CAT, "has(agents.path) || has(state.path.steps) || has(actions.walk)") is False
    with refused("no_such_action"):
        talk.invoke(CAT, "walk")
    with refused("no_such_agent") as caught:
        talk.delete_module(BEN, "path")
    assert caught.value.details == {"agent": "path", "candidates": []}
    with refused("scope_denied"):
        talk.module(CAT, "path")
    talk.module(BEN, "path")
    assert talk.shared(CAT, "path") == {"steps": 1}
    entry = talk.aggregate.modules.module("path")
    assert entry is not None
    assert entry.version == 2


def test_no_member_has_the_name_of_a_module(talk: RoomDriver) -> None:
    for taken in ("ben", "_shared", "_agent", "owner", "two words"):
        with refused("invalid_name"):
            talk.module(BEN, taken)
    with refused("invalid_name"):
        talk.module(BEN, "path", "owner")
    talk.module(BEN, Label(DAN.name))
    talk.admit(DAN)
    assert talk.handle(DAN) == f"{DAN.name}-2"
    talk.delete_module(BEN, Label(DAN.name))
    with refused("scope_denied"):
        talk.put(DAN, "k", 1, scope=DAN.name)


def test_an_agent_has_so_many_names_for_modules(talk: RoomDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_MODULES", 2)
    talk.module(BEN, "a"), talk.module(BEN, "b")
    talk.delete_module(BEN, "b")
    with refused("state_full") as caught:
        talk.module(BEN, "c")
    assert caught.value.details == {"limit": 2, "what": "modules"}
    talk.module(BEN, "b"), talk.module(CAT, "c")


def test_what_was_said_before_is_answered_as_before_and_not_done_again(talk: RoomDriver) -> None:
    talk.enable(BEN, LAMP, key="k1")
    talk.enable(BEN, None)
    assert talk.enable(BEN, LAMP, key="k1").replay is not None
    talk.module(BEN, "path", key="k2")
    talk.delete_module(BEN, "path", key="k3")
    assert talk.module(BEN, "path", key="k2").replay is not None
    assert talk.delete_module(BEN, "path", key="k3").replay is not None
    assert talk.worth(CAT, "has(agents.ben) && !has(agents.path)") is True


# -- properties --------------------------------------------------------------------------------------------

WHO = (OWNER, BEN, CAT)
SCOPES = ("olive", "ben", "cat", "path", "tide")
CONDITIONS = st.one_of(
    st.none(),
    st.sampled_from(SCOPES).map(lambda scope: f"has(state.{scope}.k)"),
    st.sampled_from(SCOPES).map(lambda scope: f"!has(state.{scope}.k)"),
    st.sampled_from(SCOPES).map(lambda scope: f"has(agents.{scope})"),
    st.sampled_from(SCOPES).map(lambda scope: f"has(actions.of_{scope})"),
    st.sampled_from(("self == 'ben'", "self != 'ben'", "has(state._shared.lamp)", "1 / 0 == 1")),
)


@settings(max_examples=60)
@given(conditions=st.tuples(*[CONDITIONS] * len(SCOPES)), lamp=st.booleans())
def test_whoever_is_missing_has_nothing_and_whoever_is_there_has_all_whatever_is_asked_first(
    conditions: tuple[str | None, ...], lamp: bool
) -> None:
    room = opened(approval=False)
    room.admit(BEN, CAT)
    by: dict[str, Agent] = {"olive": OWNER, "ben": BEN, "cat": CAT, "path": BEN, "tide": CAT}
    room.module(BEN, "path"), room.module(CAT, "tide")
    if lamp:
        room.put(OWNER, "lamp", 1)
    for scope, who in by.items():
        room.put(who, "k", 1, scope=scope)
        room.register(who, f"of_{scope}", an_action(owner=scope))
    said = dict(zip(SCOPES, conditions, strict=True))
    # The modules first: who said something of itself may not be able to register anything any more.
    for scope in ("path", "tide"):
        room.module(by[scope], scope, enabled=said[scope])
    for scope in ("olive", "ben", "cat"):
        room.enable(by[scope], said[scope])
    restored = Room.restore(room.aggregate.snapshot())
    for who in WHO:
        resolver = room.look(who)
        there = set(resolver.agents())
        for scope in SCOPES:
            # A new look, which is asked for this alone, and one of a room that was folded from a snapshot.
            assert room.worth(who, f"has(agents.{scope})") is (scope in there)
            assert room.worth(who, f"has(state.{scope}.k)") is (scope in there)
            assert room.worth(who, f"has(actions.of_{scope})") is (scope in there)
            assert restored.look(who.id, room.aggregate.last_at, Present({})).stands(scope) is (scope in there)
        own = next(member.handle for member in room.aggregate.state.members.values() if member.agent == who.id)
        assert own in there
        if resolver.is_enabled():
            room.put(who, "k2", 1, scope=SHARED)
        else:
            with refused("agent_disabled"):
                room.put(who, "k2", 1, scope=SHARED)
        room.enable(who, None)
        assert room.look(who).is_enabled()
        room.enable(who, said[own])
