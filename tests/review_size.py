"""Faults found by a review: what keeps the event loop longer than 50 ms of processor time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from mcp_server.budget import Budget
from mcp_server.tools.results import Scribe
from mcp_server.window import Window
from parlerd.core import membership
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Millis, PeerText, PrincipalId
from parlerd.engine.messaging import check_data
from parlerd.operations import types as t
from parlerd.operations.traits import HostTraits
from tests.support import answers
from tests.support.engine import Served, World, engine_world, run

MOST_S = 0.050
CLAUDE = HostTraits(page=48_000, unit="characters")


class NoForm:
    offered = False

    async def ask_code(self, message: str) -> str | None:
        raise AssertionError(message)


def held(work: Callable[[], object]) -> float:
    """The least processor time of three runs, in seconds."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(Refused):
            work()
        taken.append(time.thread_time() - began)
    return min(taken)


@pytest.mark.parametrize("char", ["\x01", "\u200b", "\u65e5"], ids=["control", "zero-width", "cjk"])
def test_a_message_of_256_kib_is_laid_out_in_time(char: str) -> None:
    scribe = Scribe(budget=Budget(CLAUDE))
    message = answers.message(char * (262_144 // len(char.encode())))
    page = answers.page(message, message)
    assert held(lambda: (scribe.front([message, message], "me"), scribe.write(page))) < MOST_S


def test_a_second_text_that_has_no_room_left_is_not_looked_through() -> None:
    scribe = Scribe(budget=Budget(CLAUDE))
    ceiling = CLAUDE.page - 700
    worst = 0.0
    for less in (60, 70, 80, 90):
        handoff = t.Handoff(next=PeerText("a" * (ceiling - less)), summary=PeerText("\x01" * 262_000))
        page = answers.page(answers.message("", kind="handoff", handoff=handoff))
        worst = max(worst, held(lambda page=page: scribe.write(page)))  # type: ignore[misc]
    assert worst < MOST_S


def test_data_of_many_small_values_is_shown_in_time() -> None:
    scribe = Scribe(budget=Budget(CLAUDE))
    message = answers.message("hello", data=[0] * 262_000)
    assert held(lambda: (scribe.front([message], "me"), scribe.write(answers.page(message)))) < MOST_S


def test_data_of_8_mb_is_refused_before_it_is_walked() -> None:
    data = [0] * 7_900_000
    assert held(lambda: check_data(data)) < MOST_S


def test_near_names_are_found_in_time_among_a_thousand_members() -> None:
    members = {
        AgentId(f"U{n:055}"): membership.Member(
            agent=AgentId(f"U{n:055}"),
            principal=PrincipalId("P"),
            handle="a" * 60 + f"{n:04}",
            host="x",
            role="",
            joined_at=Millis(0),
            spans=[(0, None)],
        )
        for n in range(1000)
    }
    assert held(lambda: membership.resolve(members, "a" * 64)) < MOST_S


def test_a_list_of_readers_as_long_as_a_line_allows_is_refused_in_time() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            began = time.thread_time()
            await alice.call("message.send", t.Send(text="x", visible_to=("bob",) * 1_300_000))
            assert time.thread_time() - began < MOST_S

    run(main)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("parler_rooms", {}),
        ("parler_rooms", {"action": "roster", "room": "room5"}),
    ],
    ids=["list", "roster"],
)
def test_a_call_of_an_agent_in_2000_rooms_leaves_the_loop_free(tool: str, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            bob = await served.window("w1", workspace="/home/sam/shop")
            await _open(served, bob, 2_000)
            window = Window(served.engine, bob.caller)
            await window.call_tool(1, "parler_rooms", {}, NoForm())
            # Every room is open, so nothing below waits for anything: all of this is one turn of the loop.
            taken = []
            for number in range(2, 5):
                began = time.thread_time()
                await window.call_tool(number, tool, arguments, NoForm())
                taken.append(time.thread_time() - began)
                window.settled(number, written=True)
            assert min(taken) < MOST_S

    run(main)


async def _open(served: Served, party: Any, count: int) -> None:
    await party.whoami()
    for n in range(count):
        # Its quota is not what this is about.
        served.engine._desk.quotas._agents.clear()
        served.engine._desk.quotas._home._messages = 1e9
        await party.open(f"room{n}", context="")


def test_a_call_opens_no_room_that_it_is_not_about() -> None:
    """A notice looks into each room of its agent: of 2,000 closed ones each is folded anew, for one line."""

    async def main() -> None:
        world = World()
        async with world.serving() as served:
            await _open(served, await served.window("w1", workspace="/home/sam/shop"), 20)
        async with world.serving() as served:
            bob = await served.window("w1", workspace="/home/sam/shop")
            await Window(served.engine, bob.caller).call_tool(1, "parler_send", {"text": "x"}, NoForm())
            assert len(served.engine._desk.rooms) <= 2

    run(main)
