"""What one conversation remembers: pages acknowledged by the next call, answers that were lost or dropped, a message
that goes on, a key to knock with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from mcp_server.fence import EXPLANATION
from mcp_server.heard import Heard, hear
from mcp_server.repeats import REPLAY_SECONDS, idempotency_key, lost_writes
from mcp_server.window import PROGRESS_WAIT_MS, Answer, Window
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import Millis, Position
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.receiving import LONG_BACKLOG
from parlerd.operations import types as t
from parlerd.operations.traits import HostTraits
from tests.support.engine import Party, Served, engine_world
from tests.support.engine import run as in_engine
from tests.support.fake_mcp_engine import ROOM, FakeMcpEngine, caller, message
from tests.support.git import work_in
from tests.support.mcp_lines import hosted, run, text_of
from tests.support.models import NoForm

SMALL = HostTraits(page=7_500)
WIDE = HostTraits(page=48_000, unit="characters", wait_s=600)


async def call(window: Window, request: int, tool: str, *, written: bool = True, **arguments: Any) -> Answer:
    """Make a tool call, and let its answer reach the host unless told otherwise."""
    answer = await window.call_tool(request, tool, arguments, NoForm())
    if written:
        window.settled(request, written=True)
    return answer


def shown_in(answer: Answer) -> list[int]:
    return hear(answer.text).seqs


def line(id: int | str, tool: str, **arguments: Any) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()


def losing(engine: FakeMcpEngine, *lines: bytes, who: Caller | None = None) -> Window:
    """A window that came back after these requests were lost."""
    return Window(engine, who or caller(), lost=lost_writes("w" * 32, lines))


# -- acknowledging ---------------------------------------------------------------------------------------------------


def test_a_page_is_acknowledged_by_the_next_call_and_not_before() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        engine.post("one")
        assert shown_in(await call(window, 1, "parler_recv")) == [1]
        assert engine.acknowledged == 0
        assert shown_in(await call(window, 2, "parler_recv")) == []
        assert engine.acknowledged == 1

    run(main)


def test_a_page_whose_answer_is_not_out_yet_is_not_acknowledged_by_a_call_that_overtakes_it() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        engine.post("one")
        await call(window, 1, "parler_recv", written=False)
        await call(window, 2, "parler_send", text="meanwhile")
        assert engine.acknowledged == 0
        window.settled(1, written=True)
        await call(window, 3, "parler_recv")
        assert engine.acknowledged == 1

    run(main)


def test_a_page_whose_call_was_cancelled_is_shown_again() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        engine.post("one")
        await call(window, 1, "parler_recv", written=False)
        window.settled(1, written=False)
        assert shown_in(await call(window, 2, "parler_recv")) == [1]
        assert engine.acknowledged == 0

    run(main)


def test_a_call_cancelled_inside_the_engine_leaves_nothing_counted_as_shown() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())

        def late(params: t.Params, who: Any) -> t.Result:
            who.reader.shown.showed(ROOM, Position(7))
            raise Refused("draining")

        engine.script["message.recv"] = late
        with trio.CancelScope() as scope:
            scope.cancel()
            await call(window, 1, "parler_recv")
        assert window.caller.reader.shown.holds(ROOM) is None

    run(main)


def test_a_send_shows_what_arrived_meanwhile_and_that_counts_as_shown() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        engine.post("I was first")
        answer = await call(window, 1, "parler_send", text="on it")
        assert hear(answer.text).sent == 9
        assert hear(answer.text).texts == ["I was first"]
        assert shown_in(await call(window, 2, "parler_recv")) == []

    run(main)


def test_a_send_stands_even_when_the_look_at_the_news_fails() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["message.recv"] = StoreError("store_failed")
        window = Window(engine, caller())
        answer = await call(window, 1, "parler_send", text="on it")
        assert not answer.is_error
        assert hear(answer.text).sent == 9

    run(main)


@pytest.mark.parametrize("cancels_answered", [False, True])
def test_a_page_that_the_host_dropped_after_it_was_answered_is_shown_again(cancels_answered: bool) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller(), traits=HostTraits(cancels_answered=cancels_answered))
        engine.post("one")
        await call(window, 1, "parler_recv")
        # Some hosts withdraw what succeeded: of those a withdrawal after the answer says nothing.
        window.settled(1, written=False)
        assert shown_in(await call(window, 2, "parler_recv")) == ([] if cancels_answered else [1])

    run(main)


def test_a_withdrawal_of_an_answer_that_the_next_call_acknowledged_changes_nothing() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        engine.post("one")
        await call(window, 1, "parler_recv")
        engine.post("two")
        assert shown_in(await call(window, 2, "parler_recv")) == [2]
        window.settled(1, written=False)
        assert shown_in(await call(window, 3, "parler_recv")) == []
        assert engine.acknowledged == 2

    run(main)


# -- pages, with the real engine ---------------------------------------------------------------------------------------


async def in_room(
    served: Served, traits: HostTraits = SMALL, *, context: str = "", more: int = 0
) -> tuple[Party, Window]:
    """Somebody who opened a room with a recap and wrote `more` messages there, and a window that was let in and looked
    at nothing."""
    alice = await served.agent("alice")
    opened = await alice.open("x", context)
    for n in range(more):
        await alice.send(f"message {n} " + "m" * 90)
    window = await another(served, traits)
    await window.engine.call("session.join", t.JoinSession(session_key=str(opened.session_key), limit=0), window.caller)
    person = await served.person()
    await person.approve(str(window.caller.agent))
    return alice, window


async def another(served: Served, traits: HostTraits = SMALL, name: str = "w") -> Window:
    """A connection of the same window, or of another."""
    party = await served.window(name)
    return Window(served.engine, party.caller, traits=traits)


async def heard(window: Window, id: int, tool: str = "parler_recv", **arguments: Any) -> Heard:
    answer = await call(window, id, tool, **arguments)
    assert not answer.is_error, answer.text
    assert window.scribe.budget.size(answer.text) <= window.traits.page
    return hear(answer.text)


async def read_on(window: Window, first: Heard, id: int = 100) -> tuple[list[str], int]:
    """All messages' texts, by making the calls that the answers name and no other, and how many calls that took."""
    texts: dict[int, str] = {}
    calls, page = 1, first
    while True:
        for part in page.parts:
            texts[part.seq] = texts.get(part.seq, "") + part.text
        following = [
            arguments for tool, arguments in page.calls if tool == "parler_recv" and "wait_secs" not in arguments
        ]
        if not following:
            return [texts[seq] for seq in sorted(texts)], calls
        page = await heard(window, id + calls, **following[0])
        calls += 1


def test_pages_that_do_not_fit_are_read_on_without_a_gap_or_a_repetition() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served, more=90)
            texts, calls = await read_on(window, await heard(window, 1))
            assert [text.split()[1] for text in texts] == [str(n) for n in range(90)]
            assert calls == 2

    in_engine(main)


def test_sixty_messages_of_seven_bytes_are_one_page_in_any_host() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            for n in range(60):
                await alice.send(f"msg{n:04d}")
            assert (await heard(window, 1)).texts == [f"msg{n:04d}" for n in range(60)]
            assert (await call(window, 2, "parler_recv")).text == "Nothing new.\n"

    in_engine(main)


def test_small_messages_and_then_long_ones_take_as_few_calls_as_they_can() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served, WIDE)
            for n in range(5):
                await alice.send(f"small {n}")
            for n in range(5):
                await alice.send(f"big {n} " + "q" * 15_000)
            texts, calls = await read_on(window, await heard(window, 1))
            assert [text[:7].strip() for text in texts] == [
                *(f"small {n}" for n in range(5)),
                *(f"big {n} q" for n in range(5)),
            ]
            assert calls == 6

    in_engine(main)


@pytest.mark.parametrize(("traits", "calls"), [(WIDE, 1), (HostTraits(page=11_500), 3), (SMALL, 5)])
@pytest.mark.parametrize("by", ["offset", "asking again"])
def test_a_recap_of_30000_characters_comes_whole_in_the_fewest_calls(traits: HostTraits, calls: int, by: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            recap = "".join(f"line {n:04d}: what was decided\n" for n in range(1_000))[:30_000]
            alice = await served.agent("alice")
            opened = await alice.open("x", recap)
            window = await another(served, traits)
            pending = await heard(window, 1, "parler_join_session", key=opened.session_key)
            assert pending.join_code
            await alice.approve("claude-code")
            await alice.send("after it")
            page = await heard(window, 2, "parler_join_session", key=opened.session_key)
            assert (page.you, page.room) == ("claude-code", "x")
            got, made = "", 1
            while True:
                got += page.texts[0]
                (part,) = page.parts
                if part.end in (0, part.whole):
                    break
                # Nothing of it is acknowledged before all of it was shown.
                room = opened.room
                assert served.world.store.cursor(room, window.caller.agent).acknowledged == 0  # type: ignore[arg-type]
                arguments = page.calls[0][1] if by == "offset" else {}
                page = await heard(window, 2 + made, **arguments)
                made += 1
            assert got == recap
            assert made == calls
            assert (await heard(window, 50)).texts == ["after it"]

    in_engine(main)


def test_a_message_that_was_shown_in_part_is_shown_from_its_beginning_after_a_kill() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            await alice.send("z" * 20_000)
            assert (await heard(window, 1)).parts[0].begin == 0
            assert (await heard(window, 2)).parts[0].begin > 0
            again = await another(served)
            assert (await heard(again, 3)).parts[0].begin == 0

    in_engine(main)


@pytest.mark.parametrize("then", [{}, {"since": 0, "offset": 0}])
def test_a_first_part_that_the_host_dropped_is_shown_again_from_its_beginning(then: dict[str, int]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            await alice.send("".join(f"{n:05d}," for n in range(4_000)))
            dropped = await call(window, 1, "parler_recv")
            window.settled(1, written=False)
            again = await call(window, 2, "parler_recv", **then)  # type: ignore[arg-type]
            assert hear(again.text).texts == hear(dropped.text).texts
            # What was said only in the dropped answer is said again, too.
            assert EXPLANATION in again.text
            assert hear(again.text).you == "claude-code"
            window.settled(2, written=False)
            texts, _ = await read_on(window, await heard(window, 3))
            assert texts == ["".join(f"{n:05d}," for n in range(4_000))]

    in_engine(main)


def test_a_notice_in_an_answer_that_was_dropped_is_said_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served, context="recap")
            await heard(window, 1)
            await served.admit(await (await served.agent("carol")).open("other"), Party(*_called(served, window)))
            await heard(window, 2)
            await (await served.agent("carol")).send("news", room="other")
            for id in (3, 4):
                assert "1 new in 'other'" in (await call(window, id, "parler_recv", room="x")).text
                window.settled(id, written=False)

    in_engine(main)


def _called(served: Served, window: Window) -> tuple[Any, Caller]:
    async def ask(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, window.caller)

    return ask, window.caller


def test_a_dropped_part_is_shown_again_by_its_offset() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            await alice.send("".join(f"{n:05d}," for n in range(2_000)))
            first = await heard(window, 1)
            offset = first.calls[0][1]["offset"]
            second = await call(window, 2, "parler_recv", since=0, offset=offset)
            window.settled(2, written=False)
            third = await call(window, 3, "parler_recv", since=0, offset=offset)
            assert hear(second.text).texts == hear(third.text).texts

    in_engine(main)


def test_a_long_backlog_shows_the_recap_and_the_newest_and_says_how_to_page_the_rest() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served, context="the recap", more=LONG_BACKLOG * 2)
            last = LONG_BACKLOG * 2 + 1
            page = await heard(window, 1)
            assert page.texts[0] == "the recap"
            assert page.seqs[0] == 1
            assert page.seqs[1:] == list(range(page.seqs[1], last + 1))
            assert f"Left out: #2 to #{page.seqs[1] - 1}." in page.said
            assert page.calls == [("parler_recv", {"since": 1})]
            back = await heard(window, 2, since=1)
            assert back.seqs[0] == 2
            assert back.calls == [("parler_recv", {"since": back.seqs[-1]})]
            assert (await heard(window, 3)).seqs == []
            await alice.send("more")
            assert (await heard(window, 4)).texts == ["more"]

    in_engine(main)


def test_a_long_backlog_is_shown_again_after_a_kill() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served, more=LONG_BACKLOG * 2)
            first = (await heard(window, 1)).seqs
            assert first == (await heard(await another(served), 1)).seqs

    in_engine(main)


def test_ones_own_messages_do_not_fill_the_tail_of_a_backlog() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served, more=LONG_BACKLOG + 1)
            for n in range(20):
                await served.engine.call("message.send", t.Send(text=f"mine {n}"), window.caller)
            page = await heard(window, 1)
            assert len(page.texts) > 5
            assert {part.author for part in page.messages} == {"alice"}

    in_engine(main)


def test_only_what_an_answer_showed_is_on_record_as_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            ids = [(await alice.send(f"{n} " + "m" * 3_000)).id for n in range(5)]
            page = await heard(window, 1)
            shown = len(page.texts)
            assert 1 < shown < 5
            ladders = [(await alice.why(id)).get("claude-code", []) for id in ids]
            assert ["read" in stages for stages in ladders] == [True] * shown + [False] * (5 - shown)

    in_engine(main)


def test_a_look_back_that_does_not_fit_says_what_it_shows_and_what_follows() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            for n in range(3):
                await alice.send(f"small {n}")
            for n in range(13):
                await alice.send(f"big {n} " + "q" * 5_000)
            page = await heard(window, 1, since=0, limit=16)
            assert page.more == 16 - page.seqs[-1]
            texts, _ = await read_on(window, page)
            assert len(texts) == 16

    in_engine(main)


def test_a_reply_names_the_reader_s_own_number_and_is_asked_for_by_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            await alice.send("a question")
            await heard(window, 1)
            await heard(window, 2, "parler_send", text="an answer", reply_to=1)
            page = (await alice.recv()).messages[0]
            assert page.reply_seq == 1
            wrong = await call(window, 3, "parler_send", text="x", reply_to=77)
            assert hear(wrong.text).error == "no_such_message"
            ladder = await call(window, 4, "parler_rooms", action="why", id=2)
            assert "alice: stored" in ladder.text

    in_engine(main)


# -- what is said besides ----------------------------------------------------------------------------------------------


def test_the_first_fenced_answer_of_a_conversation_explains_the_fence() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        assert EXPLANATION not in (await call(window, 1, "parler_recv")).text
        engine.post("one")
        assert EXPLANATION in (await call(window, 2, "parler_recv")).text.splitlines()
        engine.post("two")
        assert EXPLANATION not in (await call(window, 3, "parler_recv")).text

    run(main)


def test_a_notice_follows_an_answer_and_an_error() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.line = "Meanwhile: 1 new in other."
        window = Window(engine, caller())
        assert (await call(window, 1, "parler_recv")).text == "Nothing new.\nMeanwhile: 1 new in other.\n"
        failed = await call(window, 2, "parler_send")
        assert failed.is_error
        assert failed.text.endswith("\nMeanwhile: 1 new in other.\n")

    run(main)


def test_an_error_is_held_to_what_the_host_shows_of_one() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller(), traits=HostTraits(page=48_000, error=900))
        engine.script["message.send"] = Refused("ambiguous_name", candidates=[f"agent-{n}" for n in range(1_000)])
        answer = await call(window, 1, "parler_send", text="hi")
        assert answer.is_error
        assert "agent-9, and 990 more\n" in answer.text
        engine.script["message.send"] = Refused("ambiguous_name", candidates=[f"a name {n} " * 9 for n in range(99)])
        answer = await call(window, 2, "parler_send", text="hi")
        # What is wrong and what to do come whole; what does not fit beside that is left out, and no fence is left open.
        assert len(answer.text) <= 900
        assert answer.text.count("[peer ") == answer.text.count("[end ")
        assert answer.text.startswith("ambiguous_name: ")

    run(main)


@pytest.mark.parametrize(
    ("traits", "progress", "allowed", "seconds"),
    [
        (HostTraits(), False, None, 50),
        (HostTraits(wait_s=600), False, None, 600),
        (HostTraits(wait_s=25), True, None, 25),
        (HostTraits(wait_s=55, progress=True), False, None, 55),
        (HostTraits(wait_s=55, progress=True), True, None, PROGRESS_WAIT_MS // 1000),
        (HostTraits(wait_s=600), False, 10_000, 10),
    ],
)
def test_a_wait_is_cut_to_what_the_host_sits_out_and_that_is_said(
    traits: HostTraits, progress: bool, allowed: int | None, seconds: int
) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        limits: Mapping[str, Any] = {} if allowed is None else {"wait_max_ms": Millis(allowed)}
        window = Window(engine, caller(), traits=traits, **limits)
        began = trio.current_time()
        answer = await window.call_tool(1, "parler_recv", {"wait_secs": 3_600}, NoForm(), progress=progress)
        assert trio.current_time() - began == seconds
        assert f"One call waits {seconds} s at most here" in answer.text
        short = await window.call_tool(2, "parler_recv", {"wait_secs": 5}, NoForm())
        assert short.text == "Nothing new.\n"

    run(main)


# -- lost answers ----------------------------------------------------------------------------------------------------


def test_a_write_without_a_key_gets_one_that_follows_from_the_request() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        answer = await call(window, 7, "parler_send", text="hi")
        assert not answer.is_error
        assert engine.made("message.send")[0].idempotency_key == idempotency_key("w" * 32, 7)

    run(main)


def test_a_request_that_is_made_again_after_its_answer_was_lost_carries_the_same_key() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = losing(engine, line(7, "parler_send", text="hi", room="auth"))
        await call(window, 8, "parler_send", room="auth", text="hi")
        await call(window, 9, "parler_send", room="auth", text="hi")
        first, second = engine.made("message.send")
        assert first.idempotency_key == idempotency_key("w" * 32, 7)
        assert second.idempotency_key == idempotency_key("w" * 32, 9)

    run(main)


def test_a_repetition_that_fails_can_be_repeated_again() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = losing(engine, line(7, "parler_send", text="hi"))
        engine.script["message.send"] = Refused("draining")
        await call(window, 8, "parler_send", text="hi")
        del engine.script["message.send"]
        await call(window, 9, "parler_send", text="hi")
        await call(window, 10, "parler_send", text="hi")
        keys = [params.idempotency_key for params in engine.made("message.send")]
        assert keys == [idempotency_key("w" * 32, request) for request in (7, 7, 10)]

    run(main)


def test_another_input_or_a_named_key_is_no_repetition() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = losing(engine, line(7, "parler_send", text="hi"))
        await call(window, 8, "parler_send", text="other")
        await call(window, 9, "parler_send", text="hi", key="mine")
        keys = [params.idempotency_key for params in engine.made("message.send")]
        assert keys == [idempotency_key("w" * 32, 8), "mine"]

    run(main)


def test_a_lost_request_is_remembered_for_ten_minutes() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = losing(engine, line(7, "parler_send", text="hi"))
        await trio.sleep(REPLAY_SECONDS + 1)
        await call(window, 8, "parler_send", text="hi")
        assert engine.made("message.send")[0].idempotency_key == idempotency_key("w" * 32, 8)

    run(main)


def test_a_key_named_in_the_lost_request_is_kept() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = losing(engine, line("a b", "parler_open_session", topic="x"))
        engine.script["session.open"] = Refused("store_failed")
        answer = await call(window, 8, "parler_open_session", topic="x")
        assert answer.is_error
        await call(window, 9, "parler_open_session", topic="x")
        keys = [params.idempotency_key for params in engine.made("session.open")]
        assert keys == [idempotency_key("w" * 32, "a b")] * 2

    run(main)


@pytest.mark.parametrize(
    ("tool", "arguments", "operation"),
    [
        ("parler_open_session", {"topic": "x"}, "session.open"),
        ("parler_handoff", {"next": "go"}, "handoff.give"),
        ("parler_act", {"action": "claim"}, "task.claim"),
        ("parler_memory", {"action": "remember", "text": "x"}, "memory.remember"),
        ("parler_share", {"action": "push"}, "share.push"),
    ],
)
def test_a_tool_that_takes_no_key_names_none_and_the_same_call_again_is_the_same_request(
    tool: str, arguments: dict[str, Any], operation: str
) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        await trio.sleep(2 * REPLAY_SECONDS)
        engine.script[operation] = Refused("draining", key="k")
        first = await call(window, 1, tool, **arguments)
        assert first.is_error
        assert hear(first.text).retry_key == ""
        await call(window, 2, tool, **arguments)
        await trio.sleep(REPLAY_SECONDS + 1)
        await call(window, 3, tool, **arguments)
        keys = [params.idempotency_key for params in engine.made(operation)]
        assert keys == [idempotency_key("w" * 32, request) for request in (1, 1, 3)]

    run(main)


@pytest.mark.parametrize(
    "garbage", [b"", b"[]", b"{}", b'{"method":"tools/call","id":1,"params":[]}', b'{"method":5}', b"\xff", b"[" * 9000]
)
def test_lines_that_are_no_requests_are_passed_over(garbage: bytes) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        good = line(7, "parler_send", text="hi")
        window = losing(engine, garbage, good)
        await call(window, 8, "parler_send", text="hi")
        assert engine.made("message.send")[0].idempotency_key == idempotency_key("w" * 32, 7)

    run(main)


def test_a_host_that_repeats_its_ids_still_sends_two_messages() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        for _ in range(3):
            await call(window, 1, "parler_send", text="hi")
        keys = {params.idempotency_key for params in engine.made("message.send")}
        assert len(keys) == 3

    run(main)


def test_keys_fit_the_rule_for_keys_whatever_the_id() -> None:
    for id in (0, -5, 10**30, "x", "a/b", "\u202e", "z" * 500):
        key = idempotency_key("w" * 32, id)
        assert msgspec.convert({"text": "", "idempotency_key": key}, t.Send).idempotency_key == key


def test_a_replay_does_not_acknowledge() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = losing(engine, line(7, "parler_send", text="hi"))
        await call(window, 8, "parler_send", text="hi")
        assert engine.acknowledgements == 0
        await call(window, 9, "parler_recv")
        assert engine.acknowledgements == 1

    run(main)


# -- knocking --------------------------------------------------------------------------------------------------------


def came(status: str, **more: Any) -> t.JoinedSession:
    return t.JoinedSession(
        room=ROOM, status=status, messages=[message(1, "recap")], truncated=False, name="auth", **more
    )


def test_a_knock_asks_for_no_page_so_the_first_read_gives_the_context() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.post("recap")
        engine.script["session.join"] = came("joined")
        window = Window(engine, caller(), session_key="A3KE7DJR")
        await window.knock()
        assert engine.made("session.join") == [t.JoinSession(session_key="A3KE7DJR", limit=0)]
        assert shown_in(await call(window, 1, "parler_recv")) == [1]
        assert engine.acknowledged == 0

    run(main)


@pytest.mark.parametrize(("code", "tries"), [("unknown_key", 1), ("throttled", 2)])
def test_a_key_that_is_not_accepted_is_said_with_its_reason_and_never_fails_a_call(code: str, tries: int) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = Refused(code)
        window = Window(engine, caller(), session_key="A3KE7DJR")
        first = await call(window, 1, "parler_recv")
        assert not first.is_error
        assert f"PARLER_SESSION_KEY was not accepted: {code}: {Refused(code).message}" in first.text
        await call(window, 2, "parler_recv")
        assert len(engine.made("session.join")) == tries

    run(main)


def test_a_refused_key_is_said_wherever_a_session_is_asked_for() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = Refused("unknown_key")
        engine.script["message.send"] = Refused("no_active_session")
        window = Window(engine, caller(), session_key="A3KE7DJR")
        for id in (1, 2, 3):
            assert "PARLER_SESSION_KEY was not accepted" in (await call(window, id, "parler_send", text="hi")).text

    run(main)


@pytest.mark.parametrize(("code", "tries"), [("no_live_key", 1), ("home_unreachable", 2)])
def test_why_the_persons_start_did_not_let_the_window_in_is_said_and_never_fails_a_call(code: str, tries: int) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.arrivals = Refused(code)
        window = Window(engine, caller())
        first = await call(window, 1, "parler_recv")
        assert not first.is_error
        assert f"`parler bring` could not let you in: {code}: {Refused(code).message}" in first.text
        await call(window, 2, "parler_recv")
        assert engine.arrived_times == tries

    run(main)


def test_a_window_asks_once_whether_it_comes_from_a_start_and_before_its_call_is_answered() -> None:
    async def main() -> None:
        async with engine_world(lineage=lambda peer: ((peer.pid, 1), (7, 1))) as served:
            me = await served.connect(peer=PeerProcess(pid=7))
            await me.open("x", "the recap")
            await me.ask("session.bring", t.BringAgent(host="codex"), t.Bringing)
            party = await served.connect("mcp", window="w", host="codex", peer=PeerProcess(pid=70))
            window = Window(served.engine, party.caller)
            assert hear((await call(window, 1, "parler_recv")).text).texts == ["the recap"]
            later = await served.connect("mcp", window="w2", host="codex", peer=PeerProcess(pid=71))
            refused = await call(Window(served.engine, later.caller), 1, "parler_recv")
            assert hear(refused.text).error == "no_active_session"

    in_engine(main)


def test_what_became_of_a_knock_is_said_by_every_call_and_approval_alone_opens_the_session() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("x", "the recap")
            party = await served.window("w")
            window = Window(served.engine, party.caller, session_key=str(opened.session_key))
            calls: list[tuple[str, dict[str, Any]]] = [
                ("parler_recv", {}),
                ("parler_send", {"text": "hi"}),
                ("parler_handoff", {"next": "go"}),
                ("parler_rooms", {"action": "roster"}),
                ("parler_rooms", {}),
            ]
            codes = {
                hear((await call(window, id, tool, **arguments)).text).join_code
                for id, (tool, arguments) in enumerate(calls)
            }
            (code,) = codes
            assert len(code) == 4
            await alice.approve("claude-code", join_code=code)
            answer = await call(window, 10, "parler_recv")
            assert hear(answer.text).texts == ["the recap"]
            assert hear(answer.text).you == "claude-code"

    in_engine(main)


def test_a_declined_request_is_said_wherever_a_session_is_asked_for() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("x", "the recap")
            party = await served.window("w")
            window = Window(served.engine, party.caller, session_key=str(opened.session_key))
            await call(window, 1, "parler_recv")
            await alice.deny("claude-code")
            for id in (2, 3):
                assert hear((await call(window, id, "parler_send", text="hi")).text).error == "join_denied"

    in_engine(main)


def test_a_call_that_waits_for_messages_waits_for_the_admission_first() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("x", "the recap")
            window = await another(served, WIDE)
            await call(window, 1, "parler_join_session", key=opened.session_key)
            answers: list[Answer] = []

            async def wait() -> None:
                answers.append(await call(window, 2, "parler_recv", wait_secs=600))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                assert answers == []
                await alice.approve("claude-code")
            assert hear(answers[0].text).texts == ["the recap"]

    in_engine(main)


# -- through a session -----------------------------------------------------------------------------------------------


def test_an_answer_that_was_written_is_acknowledged_by_the_next_call_of_the_host() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.post("one")
        async with hosted(engine) as host:
            await host.begin()
            assert "one" in text_of(await host.call("parler_recv"))
            assert text_of(await host.call("parler_recv")) == "Nothing new.\n"
            assert engine.acknowledged == 1

    run(main)


def test_an_answer_stands_when_what_else_waits_cannot_be_said() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, caller())
        engine.post("one")

        engine.no_notice = StoreError("store_locked")
        assert shown_in(await call(window, 1, "parler_recv")) == [1]

    run(main)


# -- work --------------------------------------------------------------------------------------------------------------


def test_a_worker_serves_claims_and_completes_by_one_tool_and_the_requester_reads_the_result() -> None:
    async def main() -> None:
        async with engine_world() as served:
            dev = Window(served.engine, (await served.window("w1")).caller)
            worker = Window(served.engine, (await served.window("w2", host="codex")).caller)
            asked = await call(dev, 1, "parler_send", service="review", text="review PR #42")
            assert asked.text.startswith("Sent #1 to review.")
            other = Window(served.engine, (await served.window("w3", host="cursor")).caller)
            mine = await call(other, 1, "parler_send", service="review", text="review PR #43")
            assert "Sent to the workers of review, as m_" in mine.text
            serving = await call(worker, 1, "parler_act", action="serve", service="review")
            assert "You work for review. 2 wait." in serving.text
            claiming = {"action": "claim", "service": "review", "wait_secs": 50}
            assert hear(serving.text).calls == [("parler_act", claiming)]
            await call(worker, 2, "parler_act", action="claim", service="review")
            held = await call(worker, 3, "parler_act", action="claim", service="review")
            heard = hear(held.text)
            assert [message.text for message in heard.messages] == ["review PR #43"]
            (end,) = [arguments for _, arguments in heard.calls if arguments.get("action") == "complete"]
            said = await call(worker, 4, "parler_act", action="task", id=end["id"], status="working")
            assert "working" in said.text
            done = await call(worker, 5, "parler_act", **{**end, "text": "approved"})
            assert "is done; whoever asked is told" in done.text
            result = await call(other, 2, "parler_recv", room="review")
            assert [message.text for message in hear(result.text).messages] == ["working", "approved"]
            assert f"reply to {end['id']}" in result.text
            nothing = await call(worker, 6, "parler_act", action="claim", service="review")
            assert nothing.text.startswith("There is nothing to claim in review.")
            why = await call(dev, 2, "parler_rooms", action="why", id="1", room="review")
            assert "holds the task until" in why.text

    in_engine(main)


def test_the_task_of_a_claim_that_is_longer_than_a_page_is_read_on_by_its_offset() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            await alice.send(" ".join(f"w{n}" for n in range(4_000)), kind="task")
            held = await call(window, 1, "parler_act", action="claim")
            goes_on = next(arguments for name, arguments in hear(held.text).calls if name == "parler_recv")
            assert goes_on["offset"] > 0
            assert "w3999" not in held.text
            rest = await call(window, 2, "parler_recv", **goes_on)
            assert not rest.is_error

    in_engine(main)


def test_a_lost_claim_and_a_queue_that_is_not_served_say_what_to_do_by_tools_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await in_room(served)
            await alice.ask("queue.serve", t.Serve(service="review"), t.Served)
            refused = await call(window, 1, "parler_act", action="claim", service="review")
            assert refused.is_error
            assert 'parler_act {"action":"serve"' in refused.text
            assert "`parler " not in refused.text
            task = (await alice.send("mine", kind="task")).id
            lost = await call(window, 2, "parler_act", action="release", id=task)
            assert lost.is_error
            assert "nobody holds it now" in lost.text

    in_engine(main)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_room_remembers_recalls_and_forgets_by_one_tool() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served)
            kept = await call(window, 1, "parler_memory", action="remember", key="deploy", text="blue-green")
            assert kept.text.startswith("Remembered as deploy version 1 in x.")
            found = await call(window, 2, "parler_memory", query="deploy")
            assert "[peer" in found.text
            assert "deploy v1; " in found.text
            assert "blue-green" in found.text
            gone = await call(window, 3, "parler_memory", action="forget", key="deploy")
            assert "Forgotten: deploy in x." in gone.text
            assert (
                "Nothing that is remembered has these words."
                in (await call(window, 4, "parler_memory", action="recall", query="deploy")).text
            )
            own = await call(window, 5, "parler_memory", action="remember", text="mine", private=True)
            assert "Remembered in your private memory." in own.text

    in_engine(main)


def test_a_fact_that_is_longer_than_a_page_is_read_on_by_its_offset() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served)
            text = " ".join(f"w{n}" for n in range(4_000))
            await call(window, 1, "parler_memory", action="remember", key="long", text=text)
            read, offset = "", 0
            for id in range(2, 40):
                answer = (await call(window, id, "parler_memory", query="long", offset=offset)).text
                body = answer.replace(f"{EXPLANATION}\n", "").split("]\n", 1)[1].split("\n[end", 1)[0]
                read += body
                if "the same call with offset" not in answer:
                    break
                offset = int(answer.rsplit("the same call with offset ", 1)[1].split(".")[0])
            assert read.replace("\n", "") == text

    in_engine(main)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"action": "remember"}, "text is missing."),
        ({"action": "remember", "text": "x", "private": "yes"}, "private is true or false."),
        ({"text": "x"}, "text goes with the action remember."),
        ({"query": "x", "private": True}, "private does not go with this action."),
        ({"query": " "}, "The query is empty."),
        ({"action": "forget"}, "Name a fact by its key, or by its id."),
        ({"action": "remember", "text": "x", "key": "two words"}, "A key is 1 to 64"),
        ({"action": "remember", "text": "x", "if_version": 0}, "A version is that of a key"),
    ],
)
def test_what_a_memory_call_lacks_is_said(arguments: dict[str, Any], said: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, window = await in_room(served)
            answer = await call(window, 1, "parler_memory", **arguments)
            assert answer.is_error
            assert said in answer.text
            # The key of this tool is that of a fact: no answer offers one to try again with.
            assert "pass key" not in answer.text

    in_engine(main)


# -- files and code ----------------------------------------------------------------------------------------


def test_files_and_code_are_shared_and_taken_by_the_calls_that_the_answers_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            work, other = work_in(tmp_path / "work"), work_in(tmp_path / "other")
            tip = work.commit(f="1")
            work.write("notes \u202e.md", "not committed")
            alice = await served.window("a" * 32, workspace=str(work.folder))
            bob = await served.window("b" * 32, workspace=str(other.folder))
            await served.admit(await alice.open("code", "context"), bob)
            here, there = Window(served.engine, alice.caller), Window(served.engine, bob.caller)
            pushed = await call(here, 1, "parler_share", action="push", note="the way in")
            assert f"It is main at {tip[:12]}." in pushed.text
            assert "It is NOT everything; left out: 1 path (1 uncommitted)." in pushed.text
            assert "\u202e" not in pushed.text
            sent = await call(here, 2, "parler_share", action="send", path="f", note="the way out")
            assert not sent.is_error
            read = await call(there, 1, "parler_recv")
            assert [text in read.text for text in ("the way in", "the way out")] == [True, True]
            assert f" bytes; at {tip[:12]}; 1 path left out]" in read.text
            named = [line for line in read.text.splitlines() if line.startswith("To take what #")]
            assert named == [
                'To take what #2 brings: parler_share {"action":"apply","blob":"2"}',
                'To take what #3 brings: parler_share {"action":"fetch","blob":"3"}',
            ]
            fetched = await call(there, 2, "parler_share", blob="3", path="mine")
            assert fetched.text.startswith("Fetched 1 bytes from claude-code")
            assert (other.folder / "mine").read_text() == "1"
            applied = await call(there, 3, "parler_share", action="apply", blob=2)
            assert f"at {tip[:12]}. Its author left 1 path out." in applied.text
            assert list(other.refs().values()) == [tip]
            offered = await call(here, 3, "parler_handoff", next="merge it", bundle=2, transcript=2)
            assert "2 messages belong to it, to be read in the room." in offered.text
            read = await call(there, 6, "parler_recv")
            assert "with #2 to #3 of the room" in read.text
            assert 'To take what #4 brings: parler_share {"action":"apply","blob":"4"}' in read.text.splitlines()
            again = await call(there, 7, "parler_share", action="apply", blob="4")
            assert f"at {tip[:12]}." in again.text
            unpinned = await call(here, 4, "parler_handoff", next="merge it", bundle="3")
            assert (unpinned.is_error, "pins code that was pushed" in unpinned.text) == (True, True)
            wrong = await call(there, 4, "parler_share", action="fetch", blob="3", path="../out")
            assert wrong.is_error
            assert "file_refused" in wrong.text
            wrong = await call(there, 6, "parler_share", action="apply", blob="2", note="x")
            assert (wrong.is_error, "note does not go with this action" in wrong.text) == (True, True)
            wrong = await call(there, 5, "parler_share", action="fetch", path="x")
            assert (wrong.is_error, "blob is missing" in wrong.text) == (True, True)

    in_engine(main)
