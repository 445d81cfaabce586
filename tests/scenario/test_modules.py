"""Who is in a room only while something is true: agents that say so, and the module of the guide. Told once, played in
every home."""

from __future__ import annotations

from typing import Any

import trio

from parlerd.operations import types as t
from tests.scenario.test_actions import actions, register
from tests.scenario.test_memory import together
from tests.scenario.test_state import listed
from tests.support.engine import Party, gather
from tests.support.homes import Home, Place
from tests.support.room_state import put, value


async def enable(who: Party, enabled: str | None, key: str | None = None) -> t.AgentEnabled:
    call = t.EnableAgent(enabled=enabled, idempotency_key=key)
    return await who.ask("agent.enable", call, t.AgentEnabled)


async def module(who: Party, id: str, **rest: Any) -> t.ModuleRegistered:
    return await who.ask("module.register", t.RegisterModule(id=id, **rest), t.ModuleRegistered)


async def modules(who: Party) -> dict[str, t.ModuleShown]:
    found = await who.ask("module.list", t.ListModules(), t.ModulesListed)
    return {each.id: each for each in found.modules}


async def worth(who: Party, expr: str) -> Any:
    return (await who.ask("state.evaluate", t.Evaluate(expr=expr), t.Evaluated)).value


def test_the_path_of_the_guide_is_there_when_the_compass_is(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        path = await module(alice, "path", enabled="has(state._shared.compass)")
        assert (path.id, path.role, path.version, path.registered_by, path.dormant) == (
            "path", "module", 1, "alice", True,
        )  # fmt: skip
        written = await put(alice, "steps", 3, scope="path")
        assert (written.scope, written.updated_by, written.dormant) == ("path", "alice", True)
        writes = [{"key": "steps", "value": -1, "increment": True, "scope": "path"}]
        registered = await register(alice, id="walk", scope="path", writes=writes)
        assert registered.dormant is True
        assert (await modules(bob), await actions(bob), await listed(bob)) == ({}, {}, {})
        assert (await modules(alice))["path"].dormant is True
        error = await bob.refused("action.invoke", t.InvokeAction(id="walk"))
        assert (error.code, error.details["enabled"]) == ("action_disabled", "has(state._shared.compass)")
        error = await bob.refused("state.set", t.SetState(key="steps", value=1, scope="path"))
        assert error.code == "scope_denied"
        assert (await bob.refused("module.register", t.RegisterModule(id="path"))).code == "scope_denied"
        error = await bob.refused("module.register", t.RegisterModule(id="alice"))
        assert error.code == "invalid_name"

        async def look() -> Any:
            call = t.WaitUntil(condition='has(agents.path) && agents.path.role == "module"', wait_ms=30_000,
                               include=("agents",))  # fmt: skip
            return await bob.ask("state.wait", call, t.WaitEnded)

        async def show() -> None:
            await trio.sleep(1)
            await put(alice, "compass", True)

        ended, _ = await gather(look, show)
        assert ended.triggered is True
        assert ended.agents["path"] == {"status": "module", "role": "module", "waiting_on": None, "last_seen": None}
        [shown] = (await modules(bob)).values()
        assert (shown.enabled, shown.dormant is True) == ("has(state._shared.compass)", False)
        await bob.ask("action.invoke", t.InvokeAction(id="walk"), t.ActionInvoked)
        assert await value(bob, "steps", "path") == 2
        assert (await bob.refused("module.delete", t.DeleteModule(id="path"))).code == "scope_denied"
        gone = await alice.ask("module.delete", t.DeleteModule(id="path"), t.ModuleDeleted)
        assert gone.id == "path"
        assert await worth(bob, "has(agents.path) || has(state.path.steps) || has(actions.walk)") is False
        assert (await alice.refused("module.delete", t.DeleteModule(id="path"))).code == "no_such_agent"

    home.play(story)


def test_an_agent_that_is_not_there_reads_and_waits_and_can_come_back(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(bob, "score", 1, scope="bob")
        said = await enable(bob, "has(state._shared.lamp)", key="k1")
        assert (said.agent, said.enabled, said.disabled, said.replayed) == (
            "bob", "has(state._shared.lamp)", True, False,
        )  # fmt: skip
        assert (await enable(bob, "has(state._shared.lamp)", key="k1")).replayed is True
        assert await worth(alice, "has(agents.bob) || has(state.bob.score)") is False
        assert await worth(bob, "has(agents.bob) && state.bob.score == 1") is True
        task = await alice.ask("message.send", t.Send(text="Weed.", kind="task"), t.Sent)
        for operation, params in (
            ("state.set", t.SetState(key="k", value=1)),
            ("action.register", t.RegisterAction(id="a")),
            ("module.register", t.RegisterModule(id="m")),
            ("task.claim", t.ClaimTask(id=task.id)),
            ("message.send", t.Send(text="Hello.")),
            ("memory.remember", t.Remember(text="Ports are odd.", key="ports")),
            ("handoff.give", t.GiveHandoff(next="Weed.")),
        ):
            error = await bob.refused(operation, params)
            assert error.code == "agent_disabled", operation
        await bob.ask("agent.presence", t.StatePresence(status="busy"), t.PresenceIs)

        async def wait() -> t.WaitEnded:
            return await bob.ask(
                "state.wait", t.WaitUntil(condition="has(state._shared.lamp)", wait_ms=30_000), t.WaitEnded
            )

        async def light() -> None:
            await trio.sleep(1)
            await put(alice, "lamp", 1)

        ended, _ = await gather(wait, light)
        assert ended is not None
        assert ended.triggered is True
        assert await worth(alice, "has(agents.bob) && state.bob.score == 1") is True
        assert (await bob.ask("task.claim", t.ClaimTask(id=task.id), t.TaskHeld)).id == task.id
        await put(bob, "k", 1)
        assert (await bob.ask("message.send", t.Send(text="Here."), t.Sent)).seq is not None
        assert (await enable(bob, "false")).disabled is True
        assert (await enable(bob, None)).disabled is False
        await put(bob, "k", 2)

    home.play(story)


def test_a_wait_wakes_when_somebody_says_that_it_is_there_no_more(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")

        async def wait() -> t.WaitEnded:
            return await alice.ask("state.wait", t.WaitUntil(condition="!has(agents.bob)", wait_ms=30_000), t.WaitEnded)

        async def hide() -> None:
            await trio.sleep(1)
            await enable(bob, "false")

        ended, _ = await gather(wait, hide)
        assert ended is not None
        assert ended.triggered is True
        assert ended.elapsed_ms < 30_000

    home.play(story)


def test_a_module_is_nobody_for_whom_a_deadlock_waits(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await module(alice, "path")

        async def wait(who: Party, condition: str) -> t.WaitEnded:
            return await who.ask("state.wait", t.WaitUntil(condition=condition, wait_ms=60_000), t.WaitEnded)

        first, second = await gather(
            lambda: wait(alice, "has(state._shared.a)"), lambda: wait(bob, "has(state._shared.b)")
        )
        for ended in (first, second):
            assert ended.deadlock_suspected == {"alice": ["has(state._shared.a)"], "bob": ["has(state._shared.b)"]}

    home.play(story)


def test_what_has_to_be_true_names_no_scope_that_its_agent_does_not_read(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        for operation, params in (
            ("agent.enable", t.EnableAgent(enabled="has(state.alice.plan)")),
            ("module.register", t.RegisterModule(id="path", enabled="has(state.alice.plan)")),
        ):
            assert (await bob.refused(operation, params)).code == "scope_denied"
        await module(alice, "path", enabled="!has(state.alice.plan)")
        assert (await modules(bob))["path"].enabled == "(private)"
        for enabled in ("now > 1", "1 ==", "agents.alice.last_seen > 1"):
            assert (await bob.refused("agent.enable", t.EnableAgent(enabled=enabled))).code == "expression_invalid"

    home.play(story)
