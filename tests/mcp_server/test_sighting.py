"""What a session passes on to whoever watches the records of its host: the host's version, its folders, its calls.

What follows from verdicts is tested with the engine, in `tests/scenario/test_sight.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from mcp_server.sighting import Lookouts
from parlerd.core.sight import MARKER
from tests.support.fake_mcp_engine import FakeMcpEngine, hello
from tests.support.mcp_lines import HostEnd, hosted, run
from tests.support.sights import FakeSight

CLIENT = {"name": "claude-code", "version": "2.1.7"}
PLACES = {"CLAUDE_CONFIG_DIR": "/moved", "CODEX_HOME": "/other"}


@asynccontextmanager
async def watched(engine: FakeMcpEngine, host: str = "claude-code") -> AsyncIterator[tuple[HostEnd, FakeSight]]:
    sight = FakeSight()
    async with trio.open_nursery() as nursery:
        lookouts = Lookouts(engine, lambda: sight, nursery.start_soon)
        lookouts.hosts = frozenset({host})
        said = msgspec.structs.replace(hello(), host="claude-code", places=PLACES)
        async with hosted(engine, said, lookouts=lookouts) as end:
            await end.begin(client=CLIENT)
            await trio.testing.wait_all_tasks_blocked()
            yield end, sight


def text_of(result: dict[str, Any]) -> str:
    text = result["content"][0]["text"]
    assert isinstance(text, str)
    return text


def test_the_folder_is_listened_to_before_the_first_answer_and_nothing_is_expected_of_that() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with watched(engine) as (_, sight):
            (first,) = sight.watches
            assert (first.host, first.version, first.variables) == (
                "claude-code",
                "2.1.7",
                {"CLAUDE_CONFIG_DIR": "/moved"},
            )
            assert first.is_dropped
            assert first.expected is None

    run(test)


def test_a_host_for_which_nobody_asked_is_not_watched() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        engine.post("one")
        async with watched(engine, host="codex") as (end, sight):
            text = text_of(await end.call("parler_recv"))
            assert "one" in text
            assert not MARKER.search(text)
            assert sight.watches == []
            assert engine.sights == []

    run(test)


def test_the_messages_of_an_answer_are_expected_once_it_was_written_with_the_id_of_its_call() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        engine.post("one")
        engine.post("two")
        async with watched(engine) as (end, sight):
            meta = {"claudecode/toolUseId": "toolu_7"}
            call = {"name": "parler_recv", "arguments": {}, "_meta": meta}
            answer = await end.get("tools/call", call)
            await trio.testing.wait_all_tasks_blocked()
            watch = sight.newest
            assert watch.call == "toolu_7"
            assert watch.expected is not None
            assert [each.marker for each in watch.expected] == MARKER.findall(text_of(answer["result"]))
            assert [told.verdict for told in engine.sights] == ["pending", "pending"]
            watch.say("shown", "reply")
            watch.say("cut", "cut_by_host")
            await trio.testing.wait_all_tasks_blocked()
            assert [(told.verdict, told.reason) for told in engine.sights[2:]] == [("shown", "reply")] * 2

    run(test)


@pytest.mark.parametrize("seen", ["nothing of this form", 7, None, {"deep": ["rcpt-0000000000000001"]}])
def test_whatever_a_call_says_that_it_has_seen_the_call_is_answered(seen: object) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        engine.post("one")
        async with watched(engine) as (end, _):
            result = await end.call("parler_recv", seen=seen)
            assert not result["isError"]
            assert "one" in text_of(result)

    run(test)


def test_a_fault_of_the_watcher_is_logged_without_what_it_was_about(caplog: pytest.LogCaptureFixture) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        engine.post("one")
        async with watched(engine) as (end, sight):
            sight.fails = True
            text = text_of(await end.call("parler_recv"))
            (marker,) = MARKER.findall(text)
            await trio.testing.wait_all_tasks_blocked()
            assert [(told.verdict, told.reason) for told in engine.sights] == [("unknown", "unwatched")]
            assert "RuntimeError" in caplog.text
            assert marker not in caplog.text
            assert "a fault of the watcher" not in caplog.text
            assert "/moved" not in caplog.text

    run(test)
