"""Actions: who may register and invoke them, what an invocation writes, cooldowns, and what is kept of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import actions, invocations, topics
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.actions import Invocation
from parlerd.core.envelope import decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.invocations import Invoked
from parlerd.core.model import ACTIONS, COOLDOWNS, INVOCATION, Millis
from parlerd.core.public_line import next_line
from parlerd.core.room import Room
from parlerd.core.seen import NOBODY_SEEN
from parlerd.core.state import decode_text
from parlerd.core.templates import Param
from parlerd.core.timers import TimerSpec
from tests.support.core import (
    BEN,
    CAT,
    HOUR,
    OWNER,
    Agent,
    RoomDriver,
    an_action,
    doing,
    opened,
    outcome,
    refused,
    types,
)

ITEM = Param(type="string", enum=("trap", "hut", "cart"))
TURN = ("_shared", "turn")


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben and Cat in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT)
    return room


def invoked(room: RoomDriver) -> e.ActionInvoked:
    """The newest invocation."""
    return [header.event for header in room.log if isinstance(header.event, e.ActionInvoked)][-1]


# -- invoking ----------------------------------------------------------------------------------------------


def test_an_invocation_makes_all_writes_at_once(talk: RoomDriver) -> None:
    talk.put(OWNER, "wood", 5)
    stoke = an_action(
        doing("wood", -1, act="increment"),
        doing("fire", True, timer=TimerSpec(effect="delete", ms=HOUR)),
        gate="state._shared.wood > 0",
        result="state._shared.wood",
    )
    assert talk.register(OWNER, "stoke_fire", stoke) == 1
    decision = talk.invoke(BEN, "stoke_fire")
    assert types(decision) == ["ActionInvoked", "StateWritten", "StateWritten", "MessagePosted"]
    assert talk.shared(CAT) == {"wood": 4, "fire": True}
    # The result is what there was before the writes.
    assert msgspec.json.decode(invoked(talk).text, type=Invocation).result == 5


def test_every_expression_is_evaluated_over_what_there_was_before(talk: RoomDriver) -> None:
    talk.put(OWNER, "n", 1)
    talk.register(OWNER, "double", an_action(doing("n", 10), doing("m", computed="state._shared.n * 2")))
    talk.invoke(BEN, "double")
    assert talk.shared(BEN) == {"n": 10, "m": 2}


def test_that_its_writes_disable_an_action_does_not_undo_the_invocation(talk: RoomDriver) -> None:
    talk.register(OWNER, "once", an_action(doing("used", True)), enabled="!has(state._shared.used)")
    talk.invoke(BEN, "once")
    assert talk.shared(BEN) == {"used": True}
    with refused("action_disabled") as caught:
        talk.invoke(BEN, "once")
    assert caught.value.details == {"action": "once", "enabled": "!has(state._shared.used)"}


def test_parameters_go_into_keys_scopes_values_and_expressions(talk: RoomDriver) -> None:
    talk.put(OWNER, "costs", {"trap": 2, "hut": 3})
    craft = an_action(
        doing("has_${params.item}", 1, act="increment"),
        doing("last", {"item": "${params.item}", "n": "${params.n}"}, scope="${self}"),
        doing("wood", computed="0 - state._shared.costs[params.item]"),
        gate="params.n > 0",
        params={"item": ITEM, "n": Param(type="integer", default=b"1")},
    )
    talk.register(OWNER, "craft", craft)
    talk.invoke(BEN, "craft", item="hut")
    assert talk.shared(BEN) == {"costs": {"trap": 2, "hut": 3}, "has_hut": 1, "wood": -3}
    assert talk.shared(CAT, "ben") == {"last": {"item": "hut", "n": 1}}
    with refused("precondition_failed"):
        talk.invoke(BEN, "craft", item="hut", n=0)


@pytest.mark.parametrize(
    ("params", "problem"), [({}, "missing"), ({"item": "boat"}, "value"), ({"item": "hut", "x": 1}, "unknown")]
)
def test_parameters_that_do_not_fit_are_refused_and_nothing_happens(
    talk: RoomDriver, params: dict[str, Any], problem: str
) -> None:
    item = Param(type="string", enum=("trap", "hut"), required=True)
    talk.register(OWNER, "craft", an_action(doing("has_${params.item}"), params={"item": item}))
    length = len(talk.log)
    with refused("invalid_param") as caught:
        talk.invoke(BEN, "craft", **params)
    assert caught.value.details["problem"] == problem
    assert len(talk.log) == length


def test_the_first_write_that_cannot_be_made_undoes_all_of_them_and_is_named(talk: RoomDriver) -> None:
    talk.put(OWNER, "name", "x")
    talk.register(OWNER, "count", an_action(doing("n", 1), doing("name", 1, act="increment")))
    with refused("wrong_type") as caught:
        talk.invoke(BEN, "count")
    assert caught.value.details["index"] == 1
    assert talk.shared(BEN) == {"name": "x"}


def test_what_a_parameter_makes_of_a_key_has_to_be_a_key(talk: RoomDriver) -> None:
    talk.register(OWNER, "put", an_action(doing("${params.k}", 1), params={"k": Param()}))
    for key in ("", "two words", {"a": 1}, "x" * 65, "\u202e"):
        with refused("invalid_param"):
            talk.invoke(BEN, "put", k=key)
    assert talk.shared(BEN) == {}


def test_an_action_that_there_is_not_is_refused_with_the_nearest(talk: RoomDriver) -> None:
    talk.register(OWNER, "stoke_fire", an_action())
    with refused("no_such_action") as caught:
        talk.invoke(BEN, "stoke_fir")
    assert caught.value.message == "There is no action stoke_fir; did you mean stoke_fire?"


def test_a_gate_that_comes_to_no_value_is_an_error_of_the_expression(talk: RoomDriver) -> None:
    talk.register(OWNER, "go", an_action(gate="state._shared.n > 1"))
    with refused("expression_failed") as caught:
        talk.invoke(BEN, "go")
    assert caught.value.details["path"] == "state._shared.n"
    slow = "true"
    for name in "abcde":
        slow = f"[1,2,3,4,5,6,7,8,9].all({name}, {slow})"
    talk.register(OWNER, "slow", an_action(gate=slow))
    with refused("expression_budget"):
        talk.invoke(BEN, "slow")


def test_a_repeat_gives_the_first_answer_also_in_the_cooldown_that_it_caused(talk: RoomDriver) -> None:
    talk.register(OWNER, "go", an_action(doing("n", 1, act="increment"), on_invoke=TimerSpec(effect="enable", ms=HOUR)))
    talk.invoke(BEN, "go", key="k1")
    place = next(header.position for header in talk.log if isinstance(header.event, e.ActionInvoked))
    assert talk.invoke(BEN, "go", key="k1").replay == place
    with refused("idempotency_conflict"):
        talk.invoke(BEN, "go", key="k1", x=1)
    assert talk.shared(BEN) == {"n": 1}


# -- authority ---------------------------------------------------------------------------------------------


def test_an_action_of_an_agent_lends_that_agents_scope_and_no_other(talk: RoomDriver) -> None:
    talk.register(CAT, "light", an_action(doing("lit", True, scope="cat"), owner="cat"))
    talk.invoke(BEN, "light")
    assert talk.shared(BEN, "cat") == {"lit": True}
    talk.register(CAT, "steal", an_action(doing("gold", 0, scope="owner-agent"), owner="cat"))
    with refused("no_such_agent"):
        talk.invoke(BEN, "steal")
    talk.register(
        CAT, "rob", an_action(doing("gold", 0, scope="${params.whose}"), owner="cat", params={"whose": Param()})
    )
    mine = talk.handle(OWNER)
    with refused("scope_denied") as caught:
        talk.invoke(BEN, "rob", whose=mine)
    assert caught.value.details == {"write_scope": mine, "action_scope": "cat", "invoker": "ben"}
    talk.invoke(BEN, "rob", whose="ben")
    talk.invoke(BEN, "rob", whose="cat")


def test_everybodys_action_writes_the_invokers_scope_and_no_other_agents(talk: RoomDriver) -> None:
    talk.register(OWNER, "fill", an_action(doing("cup", 1, scope="ben")))
    talk.invoke(BEN, "fill")
    with refused("scope_denied"):
        talk.invoke(CAT, "fill")


@pytest.mark.parametrize("scope", [ACTIONS, COOLDOWNS])
def test_what_stands_beside_the_scopes_is_none(talk: RoomDriver, scope: str) -> None:
    talk.register(OWNER, "put", an_action(doing("x", 1, scope="${params.s}"), params={"s": Param()}))
    with refused("no_such_agent"):
        talk.invoke(BEN, "put", s=scope)
    with refused("no_such_agent"):
        talk.put(BEN, "x", 1, scope=scope)
    assert talk.worth(BEN, f"has(state[{msgspec.json.encode(scope).decode()}])") is False
    assert talk.worth(BEN, "state.map(s, s)") == ["_shared", "_view", "ben", "cat", talk.handle(OWNER)]


def test_only_its_owner_changes_an_action_that_has_one(talk: RoomDriver) -> None:
    talk.register(CAT, "light", an_action(owner="cat"))
    for who in (BEN, OWNER):
        with refused("action_owned") as caught:
            talk.register(who, "light", an_action())
        assert caught.value.details == {"owner": "cat"}
        with refused("action_owned"):
            talk.delete_action(who, "light")
    assert talk.register(CAT, "light", an_action()) == 2
    # It is everybody's now.
    assert talk.register(BEN, "light", an_action(owner="ben")) == 3
    talk.delete_action(BEN, "light", if_version=3)
    assert talk.register(CAT, "light", an_action(), if_version=0) == 4


def test_nobody_registers_an_action_in_anothers_name(talk: RoomDriver) -> None:
    with refused("scope_denied"):
        talk.register(BEN, "light", an_action(owner="cat"))


def test_a_version_that_is_not_there_is_a_conflict(talk: RoomDriver) -> None:
    for version, code in ((1, "version_conflict"), (0, "ok"), (0, "version_conflict"), (1, "ok")):
        assert outcome(partial(talk.register, BEN, "go", an_action(), if_version=version)) == code
    with refused("version_conflict"):
        talk.delete_action(BEN, "go", if_version=1)


def test_an_agent_has_so_many_actions_at_most(talk: RoomDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_ACTIONS", 2)
    for id in ("a", "b", "b"):
        talk.register(BEN, id, an_action())
    with refused("state_full") as caught:
        talk.register(BEN, "c", an_action())
    assert caught.value.details == {"limit": 2, "what": "actions"}
    talk.register(CAT, "c", an_action())


# -- cooldowns and timers ----------------------------------------------------------------------------------


def test_after_an_invocation_an_action_cools_down(talk: RoomDriver) -> None:
    talk.register(
        OWNER, "forage", an_action(doing("food", 1, act="increment"), on_invoke=TimerSpec(effect="enable", ms=50))
    )
    talk.invoke(BEN, "forage")
    with refused("action_cooldown") as caught:
        talk.invoke(CAT, "forage")
    assert caught.value.details == {"action": "forage", "available_at": talk.now + 50}
    assert talk.worth(BEN, "actions.forage") == {"available": False, "enabled": True}
    talk.now += 50
    talk.invoke(CAT, "forage")
    assert talk.shared(BEN) == {"food": 2}


def test_a_cooldown_of_ticks_does_not_count_the_writes_that_began_it(talk: RoomDriver) -> None:
    scout = an_action(doing("turn", 1, act="increment"), on_invoke=TimerSpec(effect="enable", ticks=2, watch=TURN))
    talk.register(OWNER, "scout", scout)
    talk.invoke(BEN, "scout")
    for left in (2, 1):
        with refused("action_cooldown") as caught:
            talk.invoke(BEN, "scout")
        assert caught.value.details == {"action": "scout", "ticks_left": left}
        talk.put(CAT, "turn", 9)
    talk.invoke(BEN, "scout")


def test_registering_again_or_deleting_does_not_end_a_cooldown(talk: RoomDriver) -> None:
    cooling = an_action(on_invoke=TimerSpec(effect="enable", ms=HOUR))
    talk.register(BEN, "go", cooling)
    talk.invoke(CAT, "go")
    talk.register(CAT, "go", cooling)
    with refused("action_cooldown"):
        talk.invoke(CAT, "go")
    talk.delete_action(CAT, "go")
    talk.register(CAT, "go", cooling)
    with refused("action_cooldown"):
        talk.invoke(CAT, "go")


def test_its_owner_ends_a_cooldown(talk: RoomDriver) -> None:
    cooling = an_action(on_invoke=TimerSpec(effect="enable", ms=HOUR))
    talk.register(BEN, "go", cooling)
    talk.invoke(CAT, "go")
    with refused("action_owned"):
        talk.register(CAT, "go", cooling, reset_cooldown=True)
    talk.register(BEN, "go", cooling, reset_cooldown=True)
    talk.invoke(CAT, "go")
    # The room's owner does too, of an action that is everybody's.
    talk.register(OWNER, "go", cooling, reset_cooldown=True)
    talk.invoke(CAT, "go")


def test_an_action_may_live_only_so_long_after_it_was_invoked(talk: RoomDriver) -> None:
    talk.register(OWNER, "last", an_action(on_invoke=TimerSpec(effect="delete", ms=50)))
    talk.now += HOUR
    talk.invoke(BEN, "last")
    talk.now += 40
    talk.invoke(BEN, "last")
    talk.now += 40
    talk.invoke(BEN, "last")
    talk.now += 50
    with refused("no_such_action"):
        talk.invoke(BEN, "last")
    assert [
        event.scope
        for event in talk.run_due() or [h.event for h in talk.log if isinstance(h.event, e.TimerFired)]
        if isinstance(event, e.TimerFired)
    ] == [ACTIONS]


def test_an_action_with_a_timer_comes_and_goes(talk: RoomDriver) -> None:
    talk.register(OWNER, "late", an_action(), timer=TimerSpec(effect="enable", ms=50))
    talk.register(OWNER, "soon", an_action(), timer=TimerSpec(effect="delete", ticks=1, watch=TURN))
    with refused("no_such_action"):
        talk.invoke(BEN, "late")
    talk.invoke(BEN, "soon")
    assert talk.worth(BEN, "has(actions.late)") is False
    talk.now += 50
    talk.put(BEN, "turn", 1)
    talk.invoke(BEN, "late")
    with refused("no_such_action"):
        talk.invoke(BEN, "soon")
    assert talk.worth(BEN, "actions.map(a, a)") == ["late"]


# -- what expressions see of actions -----------------------------------------------------------------------


def test_an_action_that_is_not_enabled_is_not_there(talk: RoomDriver) -> None:
    talk.register(OWNER, "embark", an_action(gate="state._shared.wood >= 10"), enabled="has(state._shared.compass)")
    assert talk.worth(BEN, "has(actions.embark)") is False
    talk.put(OWNER, "compass", True)
    talk.put(OWNER, "wood", 1)
    assert talk.worth(BEN, "actions.embark") == {"available": False, "enabled": True}
    talk.put(OWNER, "wood", 10)
    assert talk.worth(BEN, "actions.embark.available") is True


def test_an_action_is_available_to_whom_it_would_let_write(talk: RoomDriver) -> None:
    talk.register(OWNER, "fill", an_action(doing("cup", 1, scope="ben")))
    assert (talk.why_not(BEN, "fill"), talk.why_not(CAT, "fill")) == ("", "scope_denied")
    assert talk.worth(CAT, "actions.fill.available") is False


def test_what_depends_on_a_parameter_needs_it_to_be_known(talk: RoomDriver) -> None:
    talk.put(OWNER, "wood", 5)
    talk.put(OWNER, "costs", {"trap": 3, "hut": 9})
    talk.register(OWNER, "plain", an_action(doing("has_${params.item}", 1), params={"item": ITEM}))
    talk.register(
        OWNER, "craft", an_action(gate="state._shared.wood >= state._shared.costs[params.item]", params={"item": ITEM})
    )
    assert talk.why_not(BEN, "plain") == ""
    assert talk.why_not(BEN, "craft") == "needs_params"
    found = {item: talk.why_not(BEN, "craft", item=item) for item in ("trap", "hut", "cart")}
    assert found == {"trap": "", "hut": "precondition_failed", "cart": "expression_failed"}


def test_an_action_whose_condition_asks_whether_it_is_available_is_not(talk: RoomDriver) -> None:
    talk.register(OWNER, "a", an_action(gate="!actions.b.available"))
    talk.register(OWNER, "b", an_action(gate="!actions.a.available"))
    talk.register(OWNER, "c", an_action(gate="actions.c.available"))
    talk.register(OWNER, "d", an_action(gate="!actions.c.available"))
    found = [talk.worth(BEN, f"actions.{id}.available") for id in "abcd"]
    assert found == [False, False, False, True]


def test_an_action_that_enables_itself_by_being_there_is_not_there(talk: RoomDriver) -> None:
    talk.register(OWNER, "a", an_action(), enabled="has(actions.a)")
    talk.register(OWNER, "b", an_action(), enabled="!has(actions.b)")
    assert talk.worth(BEN, "actions.map(a, a)") == []


# -- what the room is told ---------------------------------------------------------------------------------


def tellings(room: RoomDriver) -> list[Invoked]:
    """What the room was told of invocations."""
    posted = [header for header, event in room.posted() if event.kind == INVOCATION]
    return [invocations.read(decode_envelope(room.bodies[each.position]), each.by.actor) for each in posted]


def test_the_room_is_told_who_invoked_what_with_which_parameters(talk: RoomDriver) -> None:
    talk.register(OWNER, "craft", an_action(params={"item": ITEM, "n": Param(default=b"1")}))
    talk.invoke(BEN, "craft", item="trap")
    assert tellings(talk) == [Invoked("craft", {"item": "trap", "n": 1})]
    header, event = talk.posted()[-1]
    assert (header.by.actor, event.verified, event.visibility, event.to) == (BEN.id, "unsigned", None, ())
    talk.verify()


def test_what_is_told_of_an_invocation_is_a_message_and_in_nobodys_thread(talk: RoomDriver) -> None:
    talk.register(OWNER, "go", an_action())
    first = talk.post(BEN)
    before, state = talk.aggregate.newest_seq(CAT.id), talk.aggregate.state
    line, public = state.shown.line, state.shown.number
    threads = msgspec.msgpack.encode(state.messages.threads)
    talk.invoke(BEN, "go")
    _, event = talk.posted()[-1]
    assert talk.aggregate.newest_seq(CAT.id) == before + 1
    assert talk.worth(CAT, "messages.count") == before + 1
    assert talk.worth(CAT, "messages.unclaimed") == 0
    assert msgspec.msgpack.encode(state.messages.threads) == threads
    assert state.shown == (public + 1, next_line(line, event.envelope))
    assert talk.post(BEN).counter == first.counter + 1
    talk.verify()


def test_what_is_told_of_an_invocation_wakes_who_waits_for_a_number_of_messages_and_nobody_else(
    talk: RoomDriver,
) -> None:
    talk.register(OWNER, "go", an_action())
    talk.invoke(BEN, "go")
    assert talk.aggregate.topics(talk.log[-1]) == [topics.quiet(talk.aggregate.state.room)]


def test_a_repeated_and_a_refused_invocation_tell_nothing(talk: RoomDriver) -> None:
    talk.register(OWNER, "go", an_action(gate="!has(params.x)", params={"x": Param(default=b"1")}))
    with refused("precondition_failed"):
        talk.invoke(BEN, "go")
    talk.register(OWNER, "go", an_action())
    talk.invoke(BEN, "go", key="k1")
    talk.invoke(BEN, "go", key="k1")
    assert len(tellings(talk)) == 1


def test_nobody_posts_that_an_action_was_invoked(talk: RoomDriver) -> None:
    with refused("invalid_param") as caught:
        talk.run(c.PostMessage(kind=INVOCATION), BEN)
    assert caught.value.details["param"] == "kind"
    assert tellings(talk) == []


# -- what is kept ------------------------------------------------------------------------------------------


def test_a_secret_parameter_stands_in_no_fact_and_in_no_body(talk: RoomDriver) -> None:
    params = {"word": Param(secret=True), "note": Param()}
    talk.register(
        OWNER, "open", an_action(doing("tries", 1, act="increment"), gate="params.word == 'canary'", params=params)
    )
    talk.invoke(BEN, "open", word="canary", note="n" * 2_000)
    decision = talk.invoke(BEN, "open", word="canary", note="short")
    kept = msgspec.json.decode(invoked(talk).text, type=Invocation)
    assert kept.params == {"word": "(secret)", "note": "short"}
    assert decision.bodies[:-1] == (None, None)
    assert [told.params for told in tellings(talk)] == [
        {"word": "(secret)", "note": "n" * 2_000}, {"word": "(secret)", "note": "short"},
    ]  # fmt: skip
    assert not any(b"canary" in (body or b"") for body in talk.bodies.values())
    facts = b"".join(e.encode_header(header) for header in talk.log if not isinstance(header.event, e.ActionRegistered))
    assert b"canary" not in facts


def test_a_long_invocation_stands_in_the_body(talk: RoomDriver) -> None:
    talk.register(OWNER, "note", an_action(params={"text": Param()}, result="params.text"))
    decision = talk.invoke(BEN, "note", text="n" * 2_000)
    assert invoked(talk).text == b""
    assert msgspec.json.decode(decode_text(decision.bodies[0] or b""), type=Invocation).result == "n" * 2_000


def test_what_looks_like_a_credential_is_refused_where_all_would_see_it(talk: RoomDriver) -> None:
    token = "ghp_" + "a1B2" * 9
    params = {"text": Param(), "word": Param(secret=True)}
    talk.register(OWNER, "note", an_action(doing("note", "${params.text}"), params=params))
    talk.register(OWNER, "tell", an_action(doing("note", "${params.word}"), params=params))
    asks: list[tuple[str, dict[str, Any]]] = [("note", {"text": token}), ("tell", {"word": token})]
    for id, asked in [*asks, ("tell", {"text": token, "word": ""})]:
        with refused("secret_refused"):
            talk.invoke(BEN, id, **asked)
    talk.invoke(BEN, "note", text="x", word=token)


# -- whatever happens --------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["register", "invoke", "delete", "put", "wait", "reset"]),
        st.sampled_from([OWNER, BEN, CAT]),
        st.sampled_from("ab"),
        st.integers(0, 3),
    ),
    max_size=30,
)


def _kind(who: Agent, number: int, room: RoomDriver) -> Any:
    mine = room.handle(who)
    return (
        an_action(doing("n", 1, act="increment"), gate="!has(state._shared.n) || state._shared.n < 4"),
        an_action(doing("m", 1, scope=mine), owner=mine, on_invoke=TimerSpec(effect="enable", ms=30)),
        an_action(
            doing("m", 1, scope="${self}"), on_invoke=TimerSpec(effect="enable", ticks=2, watch=("_shared", "n"))
        ),
        an_action(doing("m", 1, scope="cat"), on_invoke=TimerSpec(effect="delete", ms=30)),
    )[number]


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_what_is_listed_as_available_is_never_refused_and_what_is_not_always_is(
    steps: list[tuple[str, Agent, str, int]],
) -> None:
    room = opened(approval=False)
    room.admit(BEN, CAT)
    for act, who, id, number in steps:
        try:
            match act:
                case "register":
                    room.register(who, id, _kind(who, number, room))
                case "reset":
                    room.register(who, id, _kind(who, number, room), reset_cooldown=True)
                case "invoke":
                    room.run_due()
                    is_there = room.aggregate.actions.entry(id) is not None
                    why = room.why_not(who, id) if is_there else "no_such_action"
                    assert outcome(partial(room.invoke, who, id)) == (why or "ok")
                case "delete":
                    room.delete_action(who, id)
                case "put":
                    room.put(who, "n", number)
                case "wait":
                    room.now += 20
        except Refused:
            continue
    again = Room.restore(room.aggregate.snapshot())
    for agent in (OWNER, BEN, CAT):
        now = Millis(max(room.now, room.aggregate.last_at))
        assert again.look(agent.id, now, NOBODY_SEEN).actions() == room.look(agent).actions()
