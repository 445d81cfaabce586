"""A shorter wait than the call asked for, and nothing else changed."""

from __future__ import annotations

from mcp_server.waits import LONGEST, BriefEngine
from parlerd.core.model import Millis
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.fake_mcp_engine import FakeMcpEngine, caller, hello
from tests.support.mcp_lines import hosted, run


def test_a_wait_is_cut_to_the_limit_and_a_shorter_one_is_left() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        brief = BriefEngine(engine, Millis(20))
        who = caller()
        for asked, got in ((50_000, 20), (20, 20), (5, 5), (0, 0)):
            await brief.call("message.recv", t.Recv(room="auth", wait_ms=asked), who)
            assert engine.made("message.recv")[-1] == t.Recv(room="auth", wait_ms=got)

    run(main)


def test_a_call_that_cannot_wait_is_passed_on_as_it_is() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        params = t.ListRooms()
        engine.script["rooms.list"] = t.RoomList(rooms=[])
        await BriefEngine(engine, Millis(20)).call("rooms.list", params, caller())
        assert engine.made("rooms.list") == [params]

    run(main)


def test_a_tool_call_of_a_window_waits_no_longer_than_the_setting_says() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, hello(), wait_max_ms=Millis(3000)) as host:
            await host.begin()
            await host.call("parler_recv", wait_secs=45)
        assert engine.made("message.recv")[0].wait_ms == 3000

    run(main)


def test_the_default_is_what_tools_allow() -> None:
    assert Settings().mcp_wait_max_ms == LONGEST
