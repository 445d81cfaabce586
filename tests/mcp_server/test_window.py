"""What one window remembers: pages acknowledged by the next call, answers that were lost, a backlog, a key to knock
with.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio

from mcp_server.window import LONG_BACKLOG, REPLAY_SECONDS, Answer, Window, idempotency_key
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import Position
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from tests.support.fake_mcp_engine import ME, ROOM, FakeMcpEngine, caller, hello, message
from tests.support.mcp_lines import hosted, run, text_of


class NoForm:
    """A host that cannot ask its person."""

    offered = False

    async def ask_code(self, message: str) -> str | None:
        raise AssertionError(message)


async def call(window: Window, id: int, tool: str, *, written: bool = True, **arguments: Any) -> Answer:
    """Make a tool call, and let its answer reach the host unless told otherwise."""
    answer = await window.call_tool(id, tool, arguments, NoForm())
    if written:
        window.settled(id, written=True)
    return answer


def shown_in(answer: Answer) -> list[int]:
    return [shown["seq"] for shown in answer.content["messages"]]


def line(id: int | str, tool: str, **arguments: Any) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()


# -- acknowledging ---------------------------------------------------------------------------------------------------


def test_a_page_is_acknowledged_by_the_next_call_and_not_before() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        engine.post("one")
        assert shown_in(await call(window, 1, "parler_recv")) == [1]
        assert engine.acknowledged == 0
        assert shown_in(await call(window, 2, "parler_recv")) == []
        assert engine.acknowledged == 1

    run(main)


def test_a_page_whose_answer_is_not_out_yet_is_not_acknowledged_by_a_call_that_overtakes_it() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
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
        window = Window(engine, hello(), caller())
        engine.post("one")
        await call(window, 1, "parler_recv", written=False)
        window.settled(1, written=False)
        assert shown_in(await call(window, 2, "parler_recv")) == [1]
        assert engine.acknowledged == 0

    run(main)


def test_a_call_cancelled_inside_the_engine_leaves_nothing_counted_as_shown() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())

        def late(params: t.Params, who: Any) -> t.Result:
            who.shown[ROOM] = Position(7)
            raise Refused("draining")

        engine.script["message.recv"] = late
        with trio.CancelScope() as scope:
            scope.cancel()
            await call(window, 1, "parler_recv")
        assert window.caller.shown == {}

    run(main)


def test_a_send_shows_what_arrived_meanwhile_and_that_counts_as_shown() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        engine.post("I was first")
        answer = await call(window, 1, "parler_send", text="on it")
        assert "Sent to" in answer.text
        assert "I was first" in answer.text
        assert shown_in(answer) == [1]
        assert answer.content["id"] == "m_sent"
        assert shown_in(await call(window, 2, "parler_recv")) == []

    run(main)


def test_a_send_stands_even_when_the_look_at_the_news_fails() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["message.recv"] = StoreError("store_failed")
        window = Window(engine, hello(), caller())
        answer = await call(window, 1, "parler_send", text="on it")
        assert not answer.is_error
        assert answer.content["id"] == "m_sent"

    run(main)


# -- pages -----------------------------------------------------------------------------------------------------------


def test_pages_that_do_not_fit_are_read_on_without_a_gap_or_a_repetition() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        for index in range(60):
            engine.post(f"message {index} " + "x" * 400)
        seen: list[int] = []
        for id in range(1, 100):
            answer = await call(window, id, "parler_recv")
            assert len(msgspec.json.encode([answer.text, answer.content])) < 20_000
            seen += shown_in(answer)
            if not answer.content["more"]:
                break
            assert f"{answer.content['unread']} more" in answer.text
        assert seen == list(range(1, 61))

    run(main)


def test_a_long_backlog_shows_the_recap_and_the_newest_and_says_how_to_page_the_rest() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        engine.post("the recap", opening=True)
        for index in range(LONG_BACKLOG * 3):
            engine.post(f"message {index}")
        last = len(engine.messages)
        answer = await call(window, 1, "parler_recv")
        seqs = shown_in(answer)
        assert seqs[0] == 1
        assert seqs[1:] == list(range(seqs[1], last + 1))
        gap = (answer.content["first_unshown"], answer.content["last_unshown"])
        assert gap == (2, seqs[1] - 1)
        assert f'"since":{gap[0] - 1}' in answer.text
        assert len(msgspec.json.encode([answer.text, answer.content])) < 20_000
        back = await call(window, 2, "parler_recv", since=1)
        assert shown_in(back)[0] == 2
        assert shown_in(await call(window, 3, "parler_recv")) == []
        assert engine.acknowledged == last

    run(main)


def test_a_long_backlog_is_shown_again_after_a_kill() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        for index in range(LONG_BACKLOG * 3):
            engine.post(f"message {index}")
        first = shown_in(await call(Window(engine, hello(), caller()), 1, "parler_recv"))
        again = shown_in(await call(Window(engine, hello(reconnect=True), caller()), 1, "parler_recv"))
        assert first == again

    run(main)


def test_ones_own_messages_do_not_fill_the_tail_of_a_backlog() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        mine = t.Author(id=ME, name="me", role="member", host="codex")
        for index in range(LONG_BACKLOG * 2):
            engine.post(f"message {index}", **({"author": mine} if index % 2 else {}))
        answer = await call(window, 1, "parler_recv")
        assert {shown["author"]["id"] for shown in answer.content["messages"]}.isdisjoint({ME})

    run(main)


def test_a_text_that_is_too_long_is_cut_inside_its_fence_and_the_rest_can_be_read() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        text = "".join(f"{index:06d}," for index in range(6000))
        engine.post(text)
        answer = await call(window, 1, "parler_recv")
        got, offset = "", 0
        for id in range(2, 30):
            body = answer.text.split("]\n", 1)[1].rpartition("\n[end ")[0]
            got += body
            assert len(msgspec.json.encode([answer.text, answer.content])) < 20_000
            if '"offset":' not in answer.text:
                break
            offset = int(answer.text.rpartition('"offset":')[2].split("}")[0])
            assert offset == len(got)
            answer = await call(window, id, "parler_recv", room=ROOM, since=0, limit=1, offset=offset)
        assert got == text

    run(main)


# -- lost answers ----------------------------------------------------------------------------------------------------


def test_a_write_without_a_key_gets_one_that_follows_from_the_request() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        answer = await call(window, 7, "parler_send", text="hi")
        expected = idempotency_key("w" * 32, 7)
        assert engine.made("message.send")[0].key == expected
        assert answer.content["key"] == expected
        assert expected in answer.text

    run(main)


def test_a_request_that_is_made_again_after_its_answer_was_lost_carries_the_same_key() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line(7, "parler_send", text="hi", room="auth"),))
        window = Window(engine, lost, caller())
        await call(window, 8, "parler_send", room="auth", text="hi")
        await call(window, 9, "parler_send", room="auth", text="hi")
        first, second = engine.made("message.send")
        assert first.key == idempotency_key("w" * 32, 7)
        assert second.key == idempotency_key("w" * 32, 9)

    run(main)


def test_only_a_key_made_for_this_very_call_is_said_to_be_unused() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line(7, "parler_send", text="hi"),))
        who = caller()
        window = Window(engine, lost, who)
        unused: list[bool] = []

        def sent(params: t.Params, by: Caller) -> t.Result:
            assert isinstance(params, t.Send)
            unused.append(params.key in by.fresh)
            return t.Sent(room=ROOM, id="m_sent", seq=9, at=0, replayed=False, key=params.key or "")

        engine.script["message.send"] = sent
        await call(window, 8, "parler_send", text="hi")  # repeats the lost one
        await call(window, 9, "parler_send", text="hi", key="mine")
        await call(window, 10, "parler_send", text="hi")
        assert unused == [False, False, True]
        assert who.fresh == set()

    run(main)


def test_a_repetition_that_fails_can_be_repeated_again() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line(7, "parler_send", text="hi"),))
        window = Window(engine, lost, caller())
        engine.script["message.send"] = Refused("draining")
        await call(window, 8, "parler_send", text="hi")
        del engine.script["message.send"]
        await call(window, 9, "parler_send", text="hi")
        await call(window, 10, "parler_send", text="hi")
        keys = [params.key for params in engine.made("message.send")]
        assert keys == [idempotency_key("w" * 32, request) for request in (7, 7, 10)]

    run(main)


def test_another_input_or_a_named_key_is_no_repetition() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line(7, "parler_send", text="hi"),))
        window = Window(engine, lost, caller())
        await call(window, 8, "parler_send", text="other")
        await call(window, 9, "parler_send", text="hi", key="mine")
        keys = [params.key for params in engine.made("message.send")]
        assert keys == [idempotency_key("w" * 32, 8), "mine"]

    run(main)


def test_a_lost_request_is_remembered_for_ten_minutes() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line(7, "parler_send", text="hi"),))
        window = Window(engine, lost, caller())
        await trio.sleep(REPLAY_SECONDS + 1)
        await call(window, 8, "parler_send", text="hi")
        assert engine.made("message.send")[0].key == idempotency_key("w" * 32, 8)

    run(main)


def test_a_key_named_in_the_lost_request_is_kept() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line("a b", "parler_open_session", topic="x"),))
        window = Window(engine, lost, caller())
        engine.script["session.open"] = Refused("store_failed")
        answer = await call(window, 8, "parler_open_session", topic="x")
        assert engine.made("session.open")[0].key == idempotency_key("w" * 32, "a b")
        assert answer.content["error"]["key"] == idempotency_key("w" * 32, "a b")
        assert "pass key" in answer.text

    run(main)


@pytest.mark.parametrize(
    "garbage", [b"", b"[]", b"{}", b'{"method":"tools/call","id":1,"params":[]}', b'{"method":5}', b"\xff", b"[" * 9000]
)
def test_lines_that_are_no_requests_are_passed_over(garbage: bytes) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        good = line(7, "parler_send", text="hi")
        window = Window(engine, hello(reconnect=True, unanswered=(garbage, good)), caller())
        await call(window, 8, "parler_send", text="hi")
        assert engine.made("message.send")[0].key == idempotency_key("w" * 32, 7)

    run(main)


def test_a_host_that_repeats_its_ids_still_sends_two_messages() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        for _ in range(3):
            await call(window, 1, "parler_send", text="hi")
        keys = {params.key for params in engine.made("message.send")}
        assert len(keys) == 3

    run(main)


def test_keys_fit_the_rule_for_keys_whatever_the_id() -> None:
    for id in (0, -5, 10**30, "x", "a/b", "\u202e", "z" * 500):
        key = idempotency_key("w" * 32, id)
        assert msgspec.convert({"text": "", "key": key}, t.Send).key == key


def test_a_replay_does_not_acknowledge() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        lost = hello(reconnect=True, unanswered=(line(7, "parler_send", text="hi"),))
        window = Window(engine, lost, caller())
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
        window = Window(engine, hello(session_key="A3KE7DJR"), caller())
        await window.knock()
        assert engine.made("session.join") == [t.JoinSession(key="A3KE7DJR", limit=0)]
        assert shown_in(await call(window, 1, "parler_recv")) == [1]
        assert engine.acknowledged == 0

    run(main)


def test_a_pending_knock_is_looked_at_again_by_each_call_until_it_is_decided() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = came("pending", code="K7QD")
        window = Window(engine, hello(session_key="A3KE7DJR"), caller())
        assert "K7QD" in (await call(window, 1, "parler_recv")).text
        assert "K7QD" in (await call(window, 2, "parler_recv")).content["notice"]
        engine.script["session.join"] = came("denied")
        assert "declined" in (await call(window, 3, "parler_recv")).text
        assert "declined" not in (await call(window, 4, "parler_recv")).text
        assert len(engine.made("session.join")) == 3

    run(main)


@pytest.mark.parametrize(("code", "said", "tries"), [("unknown_key", True, 1), ("throttled", True, 2)])
def test_a_key_that_is_not_accepted_is_said_once_and_never_fails_a_call(code: str, said: bool, tries: int) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = Refused(code)
        window = Window(engine, hello(session_key="A3KE7DJR"), caller())
        first = await call(window, 1, "parler_recv")
        assert not first.is_error
        assert (code in first.text) is said
        await call(window, 2, "parler_recv")
        assert len(engine.made("session.join")) == tries

    run(main)


def test_a_key_of_a_session_that_one_is_in_is_not_worth_a_word() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = came("already_member")
        window = Window(engine, hello(session_key="A3KE7DJR"), caller())
        for number in (1, 2):
            assert (await call(window, number, "parler_recv")).text == "Nothing new."
        assert len(engine.made("session.join")) == 1

    run(main)


# -- through a session -----------------------------------------------------------------------------------------------


def test_an_answer_that_was_written_is_acknowledged_by_the_next_call_of_the_host() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.post("one")
        async with hosted(engine) as host:
            await host.begin()
            assert "one" in text_of(await host.call("parler_recv"))
            assert text_of(await host.call("parler_recv")) == "Nothing new."
            assert engine.acknowledged == 1

    run(main)


def test_a_page_in_a_call_that_failed_afterwards_was_not_shown() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        for n in range(30):
            engine.post("x" * 3000 + str(n))
        first: list[t.Params] = []

        def fails_when_asked_again(params: t.Params, who: Caller) -> t.Result:
            # The page is too long, so it is asked for again with fewer: and that read fails.
            assert isinstance(params, t.Recv)
            if first:
                raise StoreError("store_full")
            first.append(params)
            who.shown[ROOM] = Position(30)
            page = engine.messages
            return t.Received(room=ROOM, name="auth", messages=page, cursor="30", more=False, unread=0)

        engine.script["message.recv"] = fails_when_asked_again
        assert (await call(window, 1, "parler_recv")).is_error
        del engine.script["message.recv"]
        assert 1 in shown_in(await call(window, 2, "parler_recv"))

    run(main)


def test_an_answer_stands_when_what_else_waits_cannot_be_said() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        window = Window(engine, hello(), caller())
        engine.post("one")

        async def fails(caller: Caller) -> str:
            await trio.lowlevel.checkpoint()
            raise StoreError("store_locked")

        engine.notice = fails  # type: ignore[method-assign]
        assert shown_in(await call(window, 1, "parler_recv")) == [1]

    run(main)
