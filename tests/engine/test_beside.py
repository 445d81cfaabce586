"""Beside which agent a host's hook runs."""

from __future__ import annotations

from parlerd.operations import types as t
from tests.support.engine import (
    engine_world,
    run,
)
from tests.support.windows import REPO, talking


def test_a_hook_is_told_of_the_conversation_it_is_in_before_a_window_acts_in_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            window = await talking(served, "w1", "A")
            await served.admit(await alice.open(), window)
            await served.leave(window)
            await talking(served, "w2", "B")
            await alice.send("for A")
            hook = await served.connect("hook", host="claude-code", workspace=REPO, conversation="A")
            waiting = await hook.ask("wake.check", t.WakeCheck(), t.Waiting)
            assert waiting.unread == 1

    run(main)
