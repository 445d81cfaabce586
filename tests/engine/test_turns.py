"""Which commits the loop makes itself, and what a turn of the loop brings together."""

from __future__ import annotations

import trio

from parlerd.core.model import Position
from parlerd.engine.turns import LIGHT_BYTES, LIGHT_FACTS, QUICK_S, LightCommits, Turns
from parlerd.engine.worker import Errand
from parlerd.store.port import MoveCursor, PutSnapshot
from tests.support import facts as f


def test_few_facts_of_few_bytes_and_marks_are_light_and_a_snapshot_never_is() -> None:
    light = LightCommits()
    few = [f.append(f.opened(), *(f.joined(n, f.ANN) for n in range(2, LIGHT_FACTS + 1)))]
    one_more = [f.append(f.message(1, room=f.OTHER), room=f.OTHER)]
    assert light.takes([few, [MoveCursor(f.ROOM, f.ANN, Position(0))]])
    assert not light.takes([few, one_more])
    assert light.takes([[f.append(f.message(1, body=bytes(LIGHT_BYTES)))]])
    assert not light.takes([[f.append(f.message(1, body=bytes(LIGHT_BYTES + 1)))]])
    assert not light.takes([[PutSnapshot(f.ROOM, 1, Position(1), b"")]])


def test_a_slow_light_commit_keeps_the_loop_from_making_the_next_until_it_faded() -> None:
    light = LightCommits()
    move = [[MoveCursor(f.ROOM, f.ANN, Position(0))]]
    light.took(QUICK_S)
    assert light.takes(move)
    light.took(QUICK_S * 1.2)
    assert not light.takes(move)
    light.took(0.0)
    assert not light.takes(move), "0.9 of it is left"
    light.took(0.0)
    assert light.takes(move)


def test_errands_of_one_turn_are_served_together_and_those_of_the_next_after_them() -> None:
    async def main() -> None:
        served: list[list[str]] = []
        turns = Turns(lambda errands: served.append([errand.asked for errand in errands]))
        for asked in ("a", "b"):
            turns.add(Errand(asked, lambda answer, error: None))
        assert served == [], "never before the turn's end"
        await trio.testing.wait_all_tasks_blocked()
        turns.add(Errand("c", lambda answer, error: None))
        await turns.close()
        assert served == [["a", "b"], ["c"]]

    trio.run(main)
