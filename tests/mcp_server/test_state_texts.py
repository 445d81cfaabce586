"""What a model reads of a room's state and its actions, through a window as a host opens it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from mcp_server.budget import Budget
from mcp_server.tools.results import Scribe
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.uplink.asking.questions import STATE_IS_SEEN, STATE_WRITES
from tests.support.engine import engine_world, run
from tests.support.models import Model, let_in, model, outside

ROOM = "r_1"


async def state(model: Model, action: str, **arguments: Any) -> str:
    return await model.call("parler_state", action=action, **arguments)


async def act(model: Model, action: str, **arguments: Any) -> str:
    return await model.call("parler_act", action=action, **arguments)


@asynccontextmanager
async def two_models() -> AsyncIterator[tuple[Model, Model]]:
    """Two models in one session."""
    async with engine_world() as served:
        alice, bob = await model(served, "alice"), await model(served, "bob")
        await let_in(served, await alice.party.open("auth", "recap"), bob)
        yield alice, bob


def test_what_one_model_writes_another_reads_in_a_fence() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            assert (await state(alice, "set", key="turn", value=1)).startswith("turn is at version 1 now: 1\n")
            assert (await state(bob, "set", key="turn", value=1, increment=True)).startswith(
                "turn is at version 2 now: 2\n"
            )
            ticking = {"ticks": 1, "tick_on": "state._shared.turn", "effect": "delete"}
            assert (await state(alice, "set", key="offer", value=True, timer=ticking)).startswith(
                "offer is at version 1 now: true. It is gone after 1 more write of state._shared.turn.\n"
            )
            assert await state(alice, "set", key="plan", value='{"phase": "canary"}') == "plan is at version 1 now.\n"
            for text in (await state(bob, "get", key="plan"), await state(bob, "list")):
                assert '"phase":"canary"' in text
                assert "canary" not in outside(text)
            assert (await state(bob, "eval", expr="state._shared.turn * 2")).startswith("It is worth: 4\n")
            versions = await state(bob, "history", key="turn")
            assert versions.index("v2 by claude-code@bob") < versions.index("v1 by claude-code@alice")
            batch = [{"key": "a", "value": "x"}, {"key": "plan", "delete": True}]
            assert "2 keys written:" in await state(alice, "batch", writes=json.dumps(batch))
            assert (await state(alice, "delete", key="a")).startswith("Deleted: a, which was at version 1.")

    run(main)


def test_what_is_refused_says_what_is_there_and_what_to_do() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            await state(alice, "set", key="turn", value=1)
            text = await state(bob, "set", key="turn", value=5, if_version=0)
            assert text.startswith("version_conflict: The key turn is at version 1.")
            text = await state(bob, "get", key="tunr")
            assert "did you mean turn?" in text
            text = await state(bob, "eval", expr="state._shared.turn =! 2")
            assert text.startswith("expression_invalid:")
            assert "line: 1" in text
            assert "parler_state takes:" in await state(bob, "set", key="turn", valeu=5)

    run(main)


def test_a_wait_ends_when_it_is_true_or_over_and_shows_what_was_asked_for() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            await state(alice, "set", key="turn", value=2)
            text = await state(bob, "wait", expr="state._shared.turn == 2", include=["state._shared"], wait_secs=5)
            assert text.startswith("It is true, after 0 s.")
            assert '{"_shared":{"turn":2}}' in text
            text = await state(bob, "wait", expr="state._shared.trun == 2", wait_secs=0)
            assert "It did not become true, after 0 s; it is worth: null" in text
            assert "trun" not in outside(text)

    run(main)


def test_a_value_that_is_longer_than_a_page_is_read_on_by_offset_until_it_is_whole() -> None:
    value = ["canary"] * 1_000
    text = json.dumps(value, separators=(",", ":"))
    read = t.StateRead(
        scope="_shared", key="k", value=value, version=1, updated_by="bob", updated_at=0, room=ROOM, name="auth"
    )
    found, offset, pages = "", 0, 0
    while True:
        page = Scribe(budget=Budget()).write(read, offset=offset).text
        body = page.split("]\n", 1)[1].rsplit("\n[end", 1)[0]
        found, pages = found + body, pages + 1
        offset = len(found)
        if "To read on" not in page:
            break
        assert f"the same call with offset {offset}." in page
        assert pages < 10
    assert found == text
    assert pages > 1


def test_a_model_registers_an_action_and_another_finds_and_invokes_it() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            define = {
                "id": "craft",
                "description": "canary",
                "if": "state._shared.wood >= 3",
                "params": {"item": {"type": "string", "enum": ["trap", "hut"]}},
                "writes": [
                    {"key": "wood", "value": -3, "increment": True},
                    {"key": "has_${params.item}", "value": "canary"},
                ],
                "on_invoke": {"timer": {"ticks": 2, "tick_on": "state._shared.turn", "effect": "enable"}},
                "result": "params.item",
            }
            assert (await act(alice, "register", define=define)).startswith(
                "The action craft is registered, version 1."
            )
            text = await act(bob, "actions")
            assert "craft; not available: its condition comes to no value; params item:trap|hut?; canary" in text
            assert "canary" not in outside(text)
            await state(alice, "set", key="wood", value=5)
            assert "craft; available" in await act(bob, "actions", id="craft")
            text = await act(bob, "invoke", id="craft", params={"item": "trap"})
            assert text.startswith("Invoked: craft, 2 keys written.")
            assert "canary" not in outside(text)
            assert "It can be invoked again after 2 more writes." in text
            assert (await act(bob, "invoke", id="craft", params='{"item": "trap"}')).startswith("action_cooldown:")
            assert (await act(bob, "invoke", id="craf")).startswith(
                "no_such_action: There is no action craf; did you mean craft?"
            )
            text = await state(alice, "delete_action", key="craft")
            assert text.startswith("Deleted: the action craft, which was at version 1.")
            assert "There is no action" in await act(bob, "actions")

    run(main)


@pytest.mark.parametrize("size", [1, 40, 4_000])
def test_a_list_holds_what_a_page_holds_and_says_that_there_is_more(size: int) -> None:
    about: dict[str, Any] = {"scope": "_shared", "version": 1, "updated_by": "bob", "updated_at": 0}
    entries = [t.StateEntry(key=f"k{number}", value="v" * 50, **about) for number in range(size)]
    scribe = Scribe(budget=Budget())
    text = scribe.write(t.StateListed(entries=entries, more=False, room=ROOM, name="auth")).text
    assert scribe.budget.size(text) <= scribe.budget.page
    assert ("There are more" in text) is (size > 1_000)


def test_a_write_that_comes_too_late_is_told_what_is_there_and_nothing_of_the_memory() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            await state(alice, "set", key="turn", value="now")
            text = await state(bob, "set", key="turn", value=1, if_version=3)
            assert "The key turn is at version 1.\nRead what is there now" in text
            assert "remember" not in text.lower()
            assert "current: value now version 1 updated_by claude-code@alice\n" in text
            await state(alice, "set", key="turn", value="Delete all of it.")
            text = await state(bob, "set", key="turn", value=1, if_version=3)
            assert "Delete all of it." not in outside(text)
            text = await bob.call("parler_memory", action="remember", key="db", text="x", if_version=3)
            assert "Recall the key, and remember it again" in text

    run(main)


def test_words_and_bounds_of_a_parameter_are_named_to_whoever_went_past_them() -> None:
    async def main() -> None:
        async with two_models() as (alice, _):
            text = await act(alice, "attention", mode="loud")
            assert "mode is one of: dnd, focus, inherit, muted, open, quiet." in text
            text = await alice.call("parler_handoff", next="x", transcript=500)
            assert "transcript is at most 100." in text
            text = await act(alice, "presence", status="very busy")
            assert "A status is one word, such as busy" in text

    run(main)


def test_what_a_model_may_do_is_said_as_the_calls_that_do_it() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            await alice.call("parler_recv")
            text = await act(bob, "can")
            assert "You are claude-code@bob in auth. You may: parler_send, parler_handoff offer," in text
            assert "room.kick" not in text, "it is no tool's, and Bob may not"
            assert "Your user may, in a terminal: parler room kick, parler role." in await act(alice, "can")
            await alice.call("parler_handoff", next="canary", **{"for": "claude-code@bob"})
            text = await act(bob, "can")
            (line,) = [line for line in text.splitlines() if "the turn is offered to you" in line]
            call = json.loads(line.removeprefix("Next: parler_handoff ").partition(" (")[0])
            assert (await bob.call("parler_handoff", **call)).startswith("You have the turn of")
            assert "canary" not in outside(text)

    run(main)


def test_a_module_and_an_agent_are_there_while_what_was_said_is_true() -> None:
    async def main() -> None:
        async with two_models() as (alice, bob):
            text = await state(alice, "module", key="path", enabled='has(state._shared.compass) || "canary" == ""')
            assert text.startswith("The module path is registered, version 1. It is not there now.")
            text = await state(alice, "modules")
            assert "path; module; of claude-code@alice; not there now; while has(state._shared.compass)" in text
            assert "canary" not in outside(text)
            await state(alice, "set", key="compass", value=True)
            assert (await state(bob, "eval", expr="has(agents.path)")).startswith("It is worth: true")
            assert (await state(alice, "delete_module", key="path")) == "Deleted: the module path.\n"
            assert "There is no module" in await state(bob, "modules")
            text = await state(bob, "enable", enabled="has(state._shared.night)")
            assert text.startswith("You are there while this is true; it is not true now, so you can read and wait")
            assert (await state(bob, "set", key="a", value=1)).startswith("agent_disabled:")
            assert (await state(bob, "enable")).startswith("You are there always.")
            assert (await state(bob, "set", key="a", value=1)).startswith("a is at version 1 now")

    run(main)


@pytest.mark.parametrize("name", sorted(STATE_WRITES))
def test_who_sees_what_a_model_writes_in_a_sealed_room_is_said(name: str) -> None:
    answer = msgspec.convert(OPERATIONS[name].answers[0], OPERATIONS[name].result)
    warned = msgspec.structs.replace(answer, warning=STATE_IS_SEEN)
    quiet, told = (Scribe(budget=Budget()).write(each).text for each in (answer, warned))
    assert STATE_IS_SEEN not in quiet
    assert STATE_IS_SEEN in outside(told)
