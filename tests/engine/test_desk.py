"""The stamp that the desk puts on what a caller does."""

from __future__ import annotations

from parlerd.engine.callers import PeerProcess
from tests.support.engine import (
    engine_world,
    run,
)


def test_the_stamp_on_an_act_says_who_for_whom_through_what_and_what_the_kernel_says() -> None:
    async def main() -> None:
        async with engine_world() as served:
            peer = PeerProcess(pid=4711, uid=1000, program="node")
            party = await served.connect("mcp", window="w1", host="codex", peer=peer)
            desk = served.engine._desk
            me = await desk.me(party.caller)
            by = desk.by(party.caller, me)
            assert (by.actor, by.principal, by.session) == (me.id, me.principal, "w1")
            assert (by.host, by.via, by.pid, by.program) == ("codex", "mcp", 4711, "node")
            command = await served.agent("bob")
            assert desk.by(command.caller, await desk.me(command.caller)).session == command.caller.facts.session

    run(main)
