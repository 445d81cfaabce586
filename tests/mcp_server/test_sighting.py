"""What a session passes on to whoever watches the records of its host: the host's version, its folders, its calls.

What follows from verdicts is tested with the engine, in `tests/scenario/test_sight.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.sighting import Lookout, Lookouts, Marked
from parlerd.core.sight import MARKER, Reason, Verdict
from parlerd.operations import types as t
from tests.support.fake_mcp_engine import FakeMcpEngine, caller, hello
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


@asynccontextmanager
async def looking_out(engine: FakeMcpEngine) -> AsyncIterator[tuple[FakeSight, Lookout]]:
    """One conversation without a host, and the watcher of its record."""
    sight = FakeSight()
    async with trio.open_nursery() as nursery:
        lookouts = Lookouts(engine, lambda: sight, nursery.start_soon)
        lookouts.hosts = frozenset({"codex"})
        yield sight, Lookout(lookouts, caller(), "1", {})


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


def test_the_watcher_is_told_when_the_connection_with_the_host_is_over() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        engine.post("one")
        async with watched(engine) as (end, sight):
            await end.call("parler_recv")
            await trio.testing.wait_all_tasks_blocked()
            watch = sight.newest
            assert watch.expected is not None
            assert not watch.is_ended
        assert watch.is_ended

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


PROVED: Final[list[tuple[Verdict, Reason]]] = [
    ("shown", "reply"),
    ("cut", "cut_by_host"),
    ("not_shown", "cancelled"),
    ("summarised", "compacted"),
    ("unknown", "timeout"),
]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_message_in_parts_is_shown_exactly_when_each_part_was_whatever_the_order(data: st.DataObject) -> None:
    """The host's verdicts come in any order, also before later parts are asked for; a part may be shown twice."""
    ends = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted))
    parts = list(zip([0, *ends], ends, strict=False))
    verdicts = [data.draw(st.sampled_from(PROVED)) for _ in parts]

    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            waiting: list[int] = []
            for number, (start, end) in enumerate(parts):
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, start, end, ends=end == ends[-1])], {})
                lookout.settled(number, written=True, cancels_answered=False)
                waiting.append(number)
                for now in data.draw(st.permutations(waiting).map(lambda order: order[: len(order) // 2])):
                    waiting.remove(now)
                    sight.watches[now].say(*verdicts[now])
            for now in data.draw(st.permutations(waiting)):
                sight.watches[now].say(*verdicts[now])
            await trio.testing.wait_all_tasks_blocked()
        said = [told.verdict for told in engine.sights if told.verdict != "pending" and told.reason != "begun"]
        assert len(said) == 1, "a message is told of once"
        assert (said == ["shown"]) == all(verdict == "shown" for verdict, _ in verdicts)
        bad = [verdict for verdict, _ in verdicts if verdict in ("cut", "not_shown", "summarised")]
        assert said[0] in bad if bad else said[0] in ("shown", "unknown")

    run(test)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_message_in_parts_is_shown_after_all_when_each_part_is_proved_to_be(data: st.DataObject) -> None:
    """Some parts were in requests that failed; of these the proof comes later or never."""
    count = data.draw(st.integers(1, 4))
    first = [data.draw(st.sampled_from(["shown", "stays", "over"])) for _ in range(count)]
    # What comes, part by part: the first word of each before its second one, in any order otherwise.
    proofs = [number for number in range(count) if first[number] == "stays" and data.draw(st.booleans())]
    order = data.draw(st.permutations([*range(count), *proofs]))

    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            for number in range(count):
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, number, number + 1, ends=number + 1 == count)], {})
                lookout.settled(number, written=True, cancels_answered=False)
            heard: set[int] = set()
            for number in order:
                if number in heard or first[number] == "shown":
                    sight.watches[number].say("shown", "reply")
                else:
                    sight.watches[number].say("not_shown", "failed_request", stays=first[number] == "stays")
                heard.add(number)
            await trio.testing.wait_all_tasks_blocked()
        said = [told.verdict for told in engine.sights if told.verdict != "pending"]
        assert said in (["shown"], ["not_shown"], ["not_shown", "shown"])
        is_shown = all(word == "shown" or number in proofs for number, word in enumerate(first))
        assert (said[-1] == "shown") == is_shown

    run(test)


def test_what_stands_in_no_record_yet_may_have_any_verdict_later() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            for number in range(2):
                await lookout.begin(number, [Marked(f"m_{number}", f"words\n[mark {lookout.draw()}")], {})
                lookout.settled(number, written=True, cancels_answered=False)
            for watch in sight.watches:
                watch.say("unknown", "no_record", stays=True)
            sight.watches[0].say("not_shown", "failed_request", stays=True)
            sight.watches[0].say("shown", "reply")
            sight.watches[1].say("unknown", "record_unreadable")
            sight.watches[1].say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
        told = {id: [each.verdict for each in engine.sights if each.id == id] for id in ("m_0", "m_1")}
        assert told == {
            "m_0": ["pending", "unknown", "not_shown", "shown"],
            "m_1": ["pending", "unknown"],
        }

    run(test)


def test_the_beginning_of_a_message_that_was_shown_after_all_proves_nothing_of_the_rest() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            await lookout.begin(1, [Marked("m_1", f"part\n[mark {lookout.draw()}", 0, 5, ends=False)], {})
            lookout.settled(1, written=True, cancels_answered=False)
            sight.newest.say("not_shown", "failed_request", stays=True)
            sight.newest.say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
            assert [told.verdict for told in engine.sights] == ["pending", "not_shown"]
            await lookout.begin(2, [Marked("m_1", f"rest\n[mark {lookout.draw()}", 5, 9)], {})
            lookout.settled(2, written=True, cancels_answered=False)
            sight.newest.say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
            assert [told.verdict for told in engine.sights] == ["pending", "not_shown", "shown"]

    run(test)


def test_what_a_quoted_marker_proved_is_told_once() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            marker = lookout.draw()
            await lookout.begin(1, [Marked("m_1", f"words\n[mark {marker}")], {})
            lookout.settled(1, written=True, cancels_answered=False)
            sight.newest.say("not_shown", "failed_request", stays=True)
            for _ in range(2):
                lookout.quoted({"seen": marker})
            sight.newest.say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
        assert [told.verdict for told in engine.sights] == ["pending", "not_shown", "quoted"]

    run(test)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_message_of_which_one_part_was_not_shown_is_shown_when_the_last_proof_comes(order: tuple[int, int]) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            for number in range(2):
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, number, number + 1, ends=number == 1)], {})
                lookout.settled(number, written=True, cancels_answered=False)
            for watch in sight.watches:
                watch.say("not_shown", "failed_request", stays=True)
            sight.watches[order[0]].say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
            assert [told.verdict for told in engine.sights] == ["pending", "not_shown"]
            for _ in range(2):
                sight.watches[order[1]].say("shown", "reply")
            sight.watches[0].say("not_shown", "rolled_back")
            await trio.testing.wait_all_tasks_blocked()
            assert [told.verdict for told in engine.sights] == ["pending", "not_shown", "shown"]

    run(test)


@pytest.mark.parametrize("start", [1, 5])
def test_a_part_after_a_gap_proves_nothing(start: int) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            for number, (begins, ends) in enumerate([(0, start - 1), (start, 9)]):
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, begins, ends, ends=ends == 9)], {})
                lookout.settled(number, written=True, cancels_answered=False)
            for watch in sight.watches:
                watch.say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
        assert ("shown", "reply") not in [(told.verdict, told.reason) for told in engine.sights]

    run(test)


def test_each_part_names_the_one_before_it_and_says_whether_the_message_goes_on() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            # The second part is asked for twice, and the whole is asked for anew after that.
            for number, (start, end) in enumerate([(0, 3), (3, 6), (3, 6), (6, 9), (0, 3), (3, 9)]):
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, start, end, ends=end == 9)], {})
                lookout.settled(number, written=True, cancels_answered=False)
            await trio.testing.wait_all_tasks_blocked()
        made = [each for watch in sight.watches for each in watch.expected or ()]
        numbers = {each.marker: number for number, each in enumerate(made)}
        assert [numbers.get(each.after) for each in made] == [None, 0, 0, 2, None, 4]
        assert [each.goes_on for each in made] == [True, True, True, False, True, False]

    run(test)


def test_parts_of_two_windows_do_not_follow_each_other() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        sight = FakeSight()
        async with trio.open_nursery() as nursery:
            lookouts = Lookouts(engine, lambda: sight, nursery.start_soon)
            lookouts.hosts = frozenset({"codex"})
            for number, (start, end) in enumerate([(0, 5), (5, 9)]):
                lookout = Lookout(lookouts, caller(), "1", {})
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, start, end, ends=end == 9)], {})
                lookout.settled(number, written=True, cancels_answered=False)
                sight.newest.say("shown", "reply", stays=not start)
                await trio.testing.wait_all_tasks_blocked()
        assert [(told.verdict, told.reason) for told in engine.sights if told.verdict != "pending"] == [
            ("unknown", "begun"),
            ("unknown", "part"),
        ]

    run(test)


def test_quoted_markers_of_parts_prove_nothing_of_the_message() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            for number in range(2):
                marker = lookout.draw()
                text = f"part {number}\n[mark {marker}"
                await lookout.begin(number, [Marked("m_1", text, number, number + 1, ends=number == 1)], {})
                lookout.settled(number, written=True, cancels_answered=False)
                lookout.quoted({"seen": marker})
            sight.watches[0].say("shown", "reply", stays=True)
            sight.watches[1].say("unknown", "apart")
            await trio.testing.wait_all_tasks_blocked()
        assert [(told.verdict, told.reason) for told in engine.sights][1:] == [("unknown", "apart")]

    run(test)


def test_a_message_of_which_the_rest_is_never_asked_for_is_not_waited_for_any_more() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):

            async def show(number: int, start: int, end: int) -> None:
                text = f"part {number}\n[mark {lookout.draw()}"
                await lookout.begin(number, [Marked("m_1", text, start, end, ends=end == 9)], {})
                lookout.settled(number, written=True, cancels_answered=False)
                sight.newest.say("shown", "reply")
                await trio.testing.wait_all_tasks_blocked()

            await show(1, 0, 5)
            assert [(told.verdict, told.reason) for told in engine.sights] == [("pending", ""), ("unknown", "begun")]
            # The rest may be asked for after all.
            await show(2, 5, 9)
            assert [told.verdict for told in engine.sights[2:]] == ["pending", "shown"]

    run(test)


def test_a_call_that_has_the_number_of_an_older_one_takes_nothing_back_of_that() -> None:
    async def test(engine: FakeMcpEngine) -> None:
        async with looking_out(engine) as (sight, lookout):
            await lookout.begin(1, [Marked("m_1", f"words\n[mark {lookout.draw()}")], {})
            lookout.settled(1, written=True, cancels_answered=False)
            await lookout.begin(1, [], {})
            lookout.settled(1, written=False, cancels_answered=False)
            lookout.quoted({"text": "no text of UTF-8: \ud800"})
            assert not sight.newest.is_dropped
            sight.newest.say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
        assert [told.verdict for told in engine.sights] == ["pending", "shown"]

    run(test)


def test_a_fault_while_a_verdict_is_told_ends_nothing_and_is_logged_without_its_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(engine: FakeMcpEngine) -> None:
        real, sight = engine.call, FakeSight()

        async def fails(*_: object) -> t.Result:
            await trio.lowlevel.checkpoint()
            raise ValueError("words of a peer")

        async with trio.open_nursery() as nursery:
            lookouts = Lookouts(engine, lambda: sight, nursery.start_soon)
            lookout = Lookout(lookouts, caller(), "1", {})
            monkeypatch.setattr(engine, "call", fails)
            await lookout.begin(1, [Marked("m_1", f"words\n[mark {lookout.draw()}")], {})
            lookout.settled(1, written=True, cancels_answered=False)
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(engine, "call", real)
            sight.newest.say("shown", "reply")
            await trio.testing.wait_all_tasks_blocked()
        assert [told.verdict for told in engine.sights] == ["shown"]
        assert "ValueError" in caplog.text
        assert "words of a peer" not in caplog.text

    run(test)
