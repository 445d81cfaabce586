"""The names that a place gives an agent."""

from __future__ import annotations

from parlerd.core.model import AgentId, Millis
from parlerd.engine.places import first_free, host_of, numbered, place_of, slots_of
from parlerd.store.port import Lease
from tests.support.callers import caller_of
from tests.support.engine import (
    engine_world,
    run,
)
from tests.support.windows import name_of


def test_a_workspace_and_a_host_with_strange_names_still_give_a_label() -> None:
    async def main() -> None:
        async with engine_world() as served:
            one = await served.window(
                "a", host="Ag\u0435nt \u202e!", workspace="/home/sam/" + "\u65e5\u672c\n" + "x" * 200
            )
            name = await name_of(one)
            assert len(name) <= 64
            assert name.isascii()

    run(main)


def test_slots_are_counted_in_one_place_alone_and_the_first_free_one_is_found() -> None:
    here, there = ("codex", "/home/sam/shop"), ("codex", "/home/sam/other")
    leases = [
        Lease(f"w{n}", agent=AgentId("U"), host=place[0], workspace=place[1], slot=slot, taken_at=Millis(0))
        for n, (place, slot) in enumerate([(here, 0), (here, 2), (there, 1)])
    ]
    assert slots_of(here, leases) == {0, 2}
    assert (first_free(here, leases), first_free(there, leases), first_free(("as", "bob"), leases)) == (1, 0, 0)


def test_an_agent_of_the_first_slot_has_the_name_itself_and_the_others_count() -> None:
    assert [numbered("codex@shop", slot) for slot in (0, 1, 9)] == ["codex@shop", "codex@shop#2", "codex@shop#10"]


def test_a_window_sits_by_the_name_it_was_given_and_otherwise_by_host_and_workspace() -> None:
    caller = caller_of("mcp", session="s", host="Claude Code", workspace="/home/sam/shop")
    assert place_of(caller) == ("Claude-Code", "/home/sam/shop")
    assert place_of(caller_of("mcp", host="codex", as_name="bob")) == ("as", "bob")
    assert host_of(caller_of("mcp", session="s")) == "agent"
