"""One call after another about the same two agents."""

from __future__ import annotations

from functools import partial

import trio

from parlerd.core.model import AgentId
from parlerd.engine.pair_lines import PairLines
from tests.support.engine import gather, run

ANN, BEN, CAT = map(AgentId, ("ann", "ben", "cat"))


def test_calls_about_a_pair_follow_each_other_whoever_is_named_first() -> None:
    async def main() -> None:
        lines, log = PairLines(), list[str]()

        async def call(name: str, one: AgentId, other: AgentId) -> None:
            async with lines.alone(one, other):
                log.append(f"{name} begins")
                await trio.sleep(1)
                log.append(f"{name} ends")

        await gather(partial(call, "a", ANN, BEN), partial(call, "b", BEN, ANN))
        assert sorted(log[:2]) in (["a begins", "a ends"], ["b begins", "b ends"])

    run(main)


def test_calls_about_other_pairs_are_not_held_up_and_nothing_is_kept() -> None:
    async def main() -> None:
        lines = PairLines()
        async with lines.alone(ANN, BEN):
            with trio.fail_after(1):
                async with lines.alone(ANN, CAT), lines.alone(BEN, CAT):
                    assert len(lines) == 3
        with trio.move_on_after(1):
            async with lines.alone(ANN, BEN), lines.alone(CAT, BEN):
                await trio.sleep(2)
        assert len(lines) == 0

    run(main)
