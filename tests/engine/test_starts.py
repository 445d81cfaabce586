"""Which window a start lets in: one, of one host, that descends from the very process, for a few minutes."""

from __future__ import annotations

import trio

from parlerd.core.model import AgentId, By, KeyId, PrincipalId, RoomId
from parlerd.engine.callers import ProcessId
from parlerd.engine.starts import MAX_STARTS, START_S, Start, Starts
from tests.support.engine import run

SHELL: ProcessId = (10, 100)
PARLER: ProcessId = (20, 200)
PROGRAM: ProcessId = (30, 300)
SHIM: ProcessId = (40, 400)
BY = By(actor=AgentId("U"), principal=PrincipalId("A"), session="s", host="cli", via="cli")


def begun(starts: Starts, process: ProcessId = PARLER, *, host: str = "codex", room: str = "r_1") -> None:
    starts.add(process, host=host, room=RoomId(room), key=KeyId("k"), by=BY)


def test_one_window_below_the_process_takes_the_start_and_no_second_one() -> None:
    async def main() -> None:
        starts = Starts()
        assert not starts
        begun(starts)
        assert starts
        taken = starts.take((SHIM, PROGRAM, PARLER, SHELL), "codex")
        assert isinstance(taken, Start)
        assert (taken.room, taken.by) == ("r_1", BY)
        assert starts.take((SHIM, PROGRAM, PARLER, SHELL), "codex") is None
        taken.taken = False  # it could not be let in for now
        assert starts.take((SHIM, PARLER, SHELL), "codex") is taken

    run(main)


def test_nobody_else_takes_it() -> None:
    async def main() -> None:
        starts = Starts()
        begun(starts)
        assert starts.take((SHIM, PROGRAM, SHELL), "codex") is None, "started beside it, from the same shell"
        assert starts.take((SHIM, PARLER, SHELL), "claude-code") is None, "of another host"
        assert starts.take((SHIM, (PARLER[0], PARLER[1] + 1)), "codex") is None, "a later process of that number"
        assert starts.take((), "codex") is None, "whose lineage cannot be seen"
        assert starts.take((SHIM, PARLER), "codex") is not None

    run(main)


def test_of_two_starts_above_a_window_the_nearer_one_is_meant() -> None:
    async def main() -> None:
        starts = Starts()
        begun(starts, SHELL, room="r_far")
        begun(starts, PARLER, room="r_near")
        taken = starts.take((SHIM, PARLER, SHELL), "codex")
        assert taken is not None
        assert taken.room == "r_near"

    run(main)


def test_a_start_lapses() -> None:
    async def main() -> None:
        starts = Starts()
        begun(starts)
        begun(starts, PROGRAM)
        await trio.sleep(START_S - 1)
        assert starts.take((SHIM, PROGRAM), "codex") is not None
        await trio.sleep(1)
        assert starts.take((SHIM, PARLER), "codex") is None

    run(main)


def test_the_last_start_of_a_process_counts_and_the_oldest_of_many_is_forgotten() -> None:
    async def main() -> None:
        starts = Starts()
        begun(starts, room="r_1")
        begun(starts, room="r_2")
        again = starts.of(PARLER)
        assert again is not None
        assert again.room == "r_2"
        for number in range(MAX_STARTS):
            begun(starts, (1_000 + number, 0))
        assert starts.of(PARLER) is None

    run(main)
