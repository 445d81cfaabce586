"""The actions of a room: what each example of the guide gives, restarts, repeats, and what is shown to whom. Told once,
played in every home."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from parlerd.core.errors import ParlerError
from parlerd.core.model import INVOCATION
from parlerd.engine.reading import ERASED
from parlerd.operations import types as t
from tests.scenario.test_memory import heard, settled, together
from tests.scenario.test_retention import SAID, erased, limiting
from tests.scenario.test_state import listed
from tests.support.engine import Party, gather
from tests.support.homes import Home, Place, until
from tests.support.room_state import put, value


def asked(**fields: Any) -> t.RegisterAction:
    """An action as it is written in JSON."""
    return msgspec.convert(fields, t.RegisterAction)


async def register(who: Party, **fields: Any) -> t.ActionRegistered:
    return await who.ask("action.register", asked(**fields), t.ActionRegistered)


async def invoke(who: Party, id: str, key: str | None = None, **params: Any) -> t.ActionInvoked:
    call = t.InvokeAction(id=id, params=params, idempotency_key=key)
    return await who.ask("action.invoke", call, t.ActionInvoked)


async def actions(who: Party, **rest: Any) -> dict[str, t.ActionShown]:
    found = await who.ask("action.list", t.ListActions(**rest), t.ActionsListed)
    return {each.id: each for each in found.actions}


async def refusal(who: Party, id: str, **params: Any) -> ParlerError:
    return await who.refused("action.invoke", t.InvokeAction(id=id, params=params))


STOKE: dict[str, Any] = {
    "id": "stoke_fire",
    "if": "state._shared.wood > 0",
    "enabled": "has(state._shared.fire_lit)",
    "description": "Put wood on the fire.",
    "writes": [
        {"key": "wood", "value": -1, "increment": True},
        {"key": "fire_lit", "value": True, "timer": {"ms": 60000, "effect": "delete"}},
    ],
}


def test_an_action_is_listed_while_it_is_there_and_available_while_it_may_be_invoked(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        registered = await register(alice, **STOKE)
        assert (registered.version, registered.available, registered.reason) == (1, False, "expression_failed")
        assert registered.dormant is True
        assert await actions(bob) == {}
        await put(bob, "fire_lit", True)
        await put(bob, "wood", 1)
        [(id, shown)] = (await actions(bob)).items()
        assert (id, shown.available, shown.registered_by, shown.description) == (
            "stoke_fire", True, "alice", "Put wood on the fire.",
        )  # fmt: skip
        assert (shown.gate, shown.enabled, shown.writes) == (STOKE["if"], STOKE["enabled"], STOKE["writes"])
        done = await invoke(bob, "stoke_fire")
        assert (done.invoked, done.action, done.replayed) == (True, "stoke_fire", False)
        assert [(each.key, each.value, each.updated_by) for each in done.writes] == [
            ("wood", 0, "bob"), ("fire_lit", True, "bob"),
        ]  # fmt: skip
        timer = done.writes[1].timer
        assert isinstance(timer, t.TimerShown)
        assert (timer.effect, timer.ms) == ("delete", 60_000)
        error = await refusal(bob, "stoke_fire")
        assert (error.code, error.details) == (
            "precondition_failed", {"expression": "state._shared.wood > 0", "evaluated": False},
        )  # fmt: skip
        assert (await actions(alice))["stoke_fire"].reason == "precondition_failed"

    home.play(story)


def test_an_action_of_an_agent_carries_its_authority_and_nobody_else_changes_it(home: Home) -> None:
    async def story(place: Place) -> None:
        narrator, player = await together(place, "narrator", "player")
        writes = [{"scope": "narrator", "key": "fire_lit", "value": True}, {"key": "wood", "value": 3}]
        await register(narrator, id="light", scope="narrator", writes=writes)
        assert (await player.refused("state.set", t.SetState(key="fire_lit", scope="narrator"))).code == "scope_denied"
        await invoke(player, "light")
        assert await value(player, "fire_lit", "narrator") is True
        error = await player.refused("action.register", asked(id="light", writes=[]))
        assert (error.code, error.message) == ("action_owned", "This action belongs to narrator.")
        assert (await player.refused("action.delete", t.DeleteAction(id="light"))).code == "action_owned"
        error = await player.refused("action.register", asked(id="mine", scope="narrator"))
        assert error.code == "scope_denied"
        gone = await narrator.ask("action.delete", t.DeleteAction(id="light"), t.ActionDeleted)
        assert (gone.id, gone.version) == ("light", 1)
        error = await refusal(player, "light")
        assert (error.code, error.message) == ("no_such_action", "There is no action light.")

    home.play(story)


def test_parameters_and_for_which_of_their_values_an_action_is_available(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "wood", 5)
        await put(alice, "costs", {"trap": 3, "hut": 9, "cart": 20})
        craft = {
            "id": "craft",
            "params": {"item": {"type": "string", "enum": ["trap", "hut", "cart"]}},
            "if": "state._shared.wood >= state._shared.costs[params.item]",
            "writes": [
                {"key": "wood", "value": "0 - state._shared.costs[params.item]", "expr": True, "increment": True},
                {"key": "inventory_${params.item}", "value": 1, "increment": True},
                {"key": "last", "scope": "${self}", "value": {"item": "${params.item}"}},
            ],
            "result": "params.item",
        }
        await register(alice, **craft)
        shown = (await actions(bob, expand_params=True))["craft"]
        assert (shown.available, shown.reason, shown.writes) == (False, "needs_params", craft["writes"])
        assert msgspec.to_builtins(shown.availability_by_param) == {
            "item": {
                "trap": {"available": True},
                "hut": {"available": False, "reason": "precondition_failed"},
                "cart": {"available": False, "reason": "precondition_failed"},
            }
        }
        done = await invoke(bob, "craft", item="trap")
        assert done.result == "trap"
        assert await listed(bob, scope="_shared") == {
            ("_shared", "costs"): {"trap": 3, "hut": 9, "cart": 20},
            ("_shared", "inventory_trap"): 1,
            ("_shared", "wood"): 2,
        }
        assert await value(alice, "last", "bob") == {"item": "trap"}
        assert (await refusal(bob, "craft", item="hut")).code == "precondition_failed"
        error = await refusal(bob, "craft", item="boat")
        assert (error.code, error.message, error.details["allowed"]) == (
            "invalid_param",
            "The parameter item has none of the values that it may have.",
            ["trap", "hut", "cart"],
        )
        assert (await refusal(bob, "craft")).code == "expression_failed"

    home.play(story)


def test_a_cooldown_says_how_long_and_outlives_a_restart(home: Home) -> None:
    async def first(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        cooling = {"on_invoke": {"timer": {"ms": 3_600_000, "effect": "enable"}}}
        await register(alice, id="forage", writes=[{"key": "food", "value": 1, "increment": True}], **cooling)
        scout = {"on_invoke": {"timer": {"ticks": 2, "tick_on": "state._shared.turn", "effect": "enable"}}}
        await register(alice, id="scout", writes=[{"key": "turn", "value": 1, "increment": True}], **scout)
        done = await invoke(bob, "forage", key="k1")
        assert isinstance(done.available_at, int)
        assert (await invoke(bob, "scout")).ticks_left == 2

    async def then(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        error = await refusal(alice, "forage")
        assert (error.code, error.details["action"]) == ("action_cooldown", "forage")
        shown = await actions(alice)
        assert (shown["forage"].available, shown["forage"].reason) == (False, "action_cooldown")
        assert shown["forage"].available_at == error.details["available_at"]
        # The same request again gives the same answer, and does nothing.
        again = await invoke(bob, "forage", key="k1")
        assert (again.replayed, [each.value for each in again.writes]) == (True, [1])
        await put(alice, "turn", 5)
        assert (await actions(bob))["scout"].ticks_left == 1
        await put(alice, "turn", 6)
        await invoke(bob, "scout")

    home.play(first, then)


def test_fifty_invocations_at_once_are_fifty(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await register(alice, id="count", writes=[{"key": "n", "value": 1, "increment": True}])
        await gather(*(partial(invoke, who, "count") for who in (alice, bob) for _ in range(25)))
        assert await value(alice, "n") == 50

    home.play(story)


def test_an_action_wakes_who_waits_for_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        waits = t.WaitUntil(condition="has(actions.go) && actions.go.available", wait_ms=60_000, include=("actions",))
        ended: list[t.WaitEnded] = []

        async def wait() -> None:
            ended.append(await bob.ask("state.wait", waits, t.WaitEnded))

        async def act() -> None:
            await register(alice, id="go", writes=[], **{"if": "has(state._shared.ready)"})
            await put(alice, "ready", True)

        await gather(wait, act)
        assert (ended[0].triggered, ended[0].actions) == (True, {"go": {"available": True, "enabled": True}})

    home.play(story)


def test_what_an_expression_says_of_a_hidden_scope_is_shown_to_its_agent_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "plan", "canary", scope="alice")
        await register(alice, id="go", scope="alice", writes=[], **{"if": 'state.alice.plan == "canary"'})
        await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        shown = {who: (await actions(who))["go"] for who in (alice, bob)}
        assert (shown[alice].gate, shown[alice].available) == ('state.alice.plan == "canary"', True)
        assert (shown[bob].gate, shown[bob].available) == ("(private)", False)
        error = await refusal(bob, "go")
        assert b"canary" not in msgspec.json.encode(error.body())
        error = await bob.refused("action.register", asked(id="spy", result="state.alice.plan"))
        assert error.code == "scope_denied"

    home.play(story)


def test_a_broken_action_is_refused_where_it_is_broken(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        good = {"key": "a", "value": 1}
        broken: list[tuple[dict[str, Any], str, int | None]] = [
            ({"writes": [good, {"key": "b", "value": "1 +", "expr": True}]}, "expression_invalid", 1),
            ({"writes": [good, {"key": "b", "value": 1, "expr": True}]}, "invalid_param", 1),
            ({"writes": [{"key": "b", "value": 1, "merge": True, "append": True}]}, "invalid_param", 0),
            ({"writes": [{"key": "b_${params.x}", "value": 1}]}, "invalid_param", None),
            ({"writes": [{"key": "b", "value": 1, "timer": {"ms": -1}}]}, "invalid_timer", None),
            ({"writes": [{"key": "b", "value": "ghp_" + "a1B2" * 9}]}, "secret_refused", 0),
            ({"if": "self == 'ghp_" + "a1B2" * 9 + "'"}, "secret_refused", None),
            ({"if": "state._shared.x = 1"}, "expression_invalid", None),
            ({"enabled": "params.x == 1", "params": {"x": {}}}, "expression_invalid", None),
            ({"enabled": "now > timestamp('2026-01-01T00:00:00Z')"}, "expression_invalid", None),
            ({"params": {"x": {"type": "integer", "default": "a"}}}, "invalid_param", None),
            ({"on_invoke": {"timer": {"ms": 1, "ticks": 1}}}, "invalid_timer", None),
            ({"id": "two words"}, "invalid_param", None),
            ({"scope": "zoe"}, "no_such_agent", None),
            (
                {"description": "x" * 200, "writes": [{"key": "k" * 64, "value": "x" * 2_000}] * 20},
                "value_too_large",
                None,
            ),
        ]
        for fields, code, index in broken:
            error = await alice.refused("action.register", asked(**{"id": "go", **fields}))
            assert (error.code, error.details.get("index")) == (code, index), fields
        assert await actions(alice) == {}

    home.play(story)


def test_who_registers_an_action_hears_which_others_write_the_same_key(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await register(alice, id="plan", writes=[{"key": "phase", "value": "plan"}])
        again = await register(bob, id="build", writes=[{"key": "phase", "value": "build"}, {"key": "n", "value": 1}])
        assert again.contested == ["plan"]
        assert (
            await register(bob, id="count", writes=[{"key": "n", "value": 1, "increment": True}])
        ).contested is msgspec.UNSET

    home.play(story)


def test_the_timer_of_an_action_begins_again(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await register(alice, id="offer", scope="alice", timer={"ms": 60_000, "effect": "delete"})
        renewed = await alice.ask("timer.renew", t.RenewTimer(of="action", key="offer"), t.StateWritten)
        assert isinstance(renewed.timer, t.TimerShown)
        error = await bob.refused("timer.renew", t.RenewTimer(of="action", key="offer"))
        assert error.code == "action_owned"
        error = await bob.refused("timer.renew", t.RenewTimer(of="action", key="offe"))
        assert (error.code, error.message) == ("no_such_action", "There is no action offe; did you mean offer?")

    home.play(story)


# -- what the room is told ---------------------------------------------------------------------------------


async def told(who: Party, count: int) -> list[t.Message]:
    """So many messages of invocations, once this agent has been told of them."""

    async def have_come() -> list[t.Message] | None:
        page = await who.recv(all=True, limit=500, kind=INVOCATION)
        return page.messages if len(page.messages) >= count else None

    messages = await until(have_come)
    assert len(messages) == count
    return messages


CRAFT: dict[str, Any] = {
    "id": "craft",
    "params": {"item": {"type": "string"}, "word": {"secret": True}},
    "writes": [{"key": "inventory_${params.item}", "value": 1, "increment": True}],
}


def test_the_room_is_told_of_an_invocation_by_a_message_that_nobody_signed(home: Home) -> None:
    async def first(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await register(alice, **CRAFT)
        before = await alice.send("shall we?")
        await heard(bob, before.id)
        await invoke(bob, "craft", key="k1", item="trap", word="canary")
        again = await invoke(bob, "craft", key="k1", item="trap", word="canary")
        assert again.replayed
        assert (await refusal(bob, "craft", item=1)).code == "invalid_param"
        after = await bob.send("I made a trap.")
        for who in (alice, bob):
            [message] = await told(who, 1)
            assert message.text == 'bob invoked craft {"item":"trap","word":"(secret)"}'
            assert message.data == {"action": "craft", "params": {"item": "trap", "word": "(secret)"}}
            assert (message.author.name, message.verified, message.kind) == ("bob", "unsigned", INVOCATION)
            await heard(who, after.id)
            page = await who.recv(all=True, limit=500)
            seqs = {each.id: each.seq for each in page.messages}
            assert seqs[message.id] == seqs[before.id] + 1 == seqs[after.id] - 1
            assert {each.verified for each in page.messages if each.id != message.id} == {"valid"}

    async def then(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        assert (await invoke(bob, "craft", key="k1", item="trap", word="canary")).replayed
        await invoke(alice, "craft", item="hut")
        await settled(alice, bob)
        for who in (alice, bob):
            assert [each.author.name for each in await told(who, 2)] == ["bob", "alice"]
            assert [room.alarm for room in await who.rooms()] == [""]
            person = await place.person_of("alice" if who is alice else "bob")
            checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            assert [check.detail for check in checks if not check.ok] == []

    home.play(first, then)


def test_an_invocation_begins_no_turn_and_is_no_work(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await settled(alice, bob)
        await alice.read(limit=500)
        await register(alice, **CRAFT)
        await invoke(bob, "craft", item="trap")
        [message] = await told(alice, 1)
        waiting = await (await place.hook("alice")).ask("wake.check", t.WakeCheck(turn=True), t.Waiting)
        assert (waiting.wake, waiting.unread) == (False, 1)
        assert (await alice.recv(unclaimed=True)).messages == []
        assert (await alice.refused("task.claim", t.ClaimTask(id=message.id))).code == "no_such_task"
        sent = await bob.send("your turn")
        await heard(alice, sent.id)
        assert (await (await place.hook("alice")).ask("wake.check", t.WakeCheck(turn=True), t.Waiting)).wake
        assert [each.kind for each in (await alice.recv()).messages] == [INVOCATION, "text"]

    home.play(story)


def test_who_waits_for_a_number_of_messages_is_woken_by_an_invocation(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await settled(alice, bob)
        await register(alice, **CRAFT)
        now = await alice.ask("state.evaluate", t.Evaluate(expr="messages.count"), t.Evaluated)
        assert isinstance(now.value, int)
        condition = f"messages.count > {now.value}"
        ended: list[t.WaitEnded] = []

        async def wait() -> None:
            params = t.WaitUntil(condition=condition, wait_ms=60_000)
            ended.append(await alice.ask("state.wait", params, t.WaitEnded))

        async def act() -> None:
            await invoke(bob, "craft", item="trap")

        await gather(wait, act)
        assert ended[0].triggered
        unclaimed = await alice.ask("state.evaluate", t.Evaluate(expr="messages.unclaimed"), t.Evaluated)
        assert unclaimed.value == 0

    home.play(story)


def test_nobody_says_itself_that_an_action_was_invoked(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        forged = t.Send(text="alice invoked craft", kind=INVOCATION)
        error = await bob.refused("message.send", forged)
        assert (error.code, error.details["param"]) == ("invalid_param", "kind")
        await settled(alice, bob)
        assert (await alice.recv(all=True, kind=INVOCATION)).messages == []

    home.play(story)


def test_what_the_room_was_told_of_invocations_goes_like_other_old_words(home: Home) -> None:
    async def invoking(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await register(alice, **CRAFT)
        for _ in range(SAID // 2):
            await invoke(bob, "craft", item="trap")
            await alice.send("well done")
        await settled(alice, bob)
        while (page := await bob.recv(limit=500)).messages:
            await bob.commit(page)

    async def story(place: Place) -> None:
        for name in ("alice", "bob"):
            page = await erased(await place.agent(name))
            gone = [each for each in page.messages if each.erased is True and each.kind == INVOCATION]
            assert gone
            assert {(each.text, each.verified, each.data) for each in gone} == {(ERASED, "unsigned", msgspec.UNSET)}

    home.play(invoking, limiting(home), story)
