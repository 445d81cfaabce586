"""The local door, as its clients see it: hello, calls, streams, windows, drain."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.ipc.connection import Limits
from parlerd.ipc.host import Say
from parlerd.operations import types as t
from parlerd.wire import codec
from parlerd.wire.calls import CREDIT, IN_FLIGHT
from parlerd.wire.frames import frame
from parlerd.wire.messages import PROTOCOL, Call, Failure, Goodbye, Hello, Item, Note, Reply, Welcome
from tests.support.fake_engine import FakeEngine, FakePosting
from tests.support.wire_client import WireClient, connected, expect_goodbye, result_of, serving


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


# -- the hello -------------------------------------------------------------------------------------------------


def test_the_welcome_says_protocol_version_and_process() -> None:
    async def main() -> None:
        async with serving(FakeEngine(), version="3.2.1") as (_, home):
            with WireClient(home) as client:
                assert await client.hello() == Welcome(protocol=PROTOCOL, version="3.2.1", pid=os.getpid())

    run(main)


def test_the_caller_is_what_the_hello_claims_and_the_kernel_knows() -> None:
    engine = FakeEngine()

    async def main() -> None:
        async with serving(engine) as (_, home):
            with WireClient(home) as client, WireClient(home) as window:
                await client.hello(host="Claude Code!", as_name="bob")
                await window.hello(role="stdio", host="codex", window="w-1")
        caller, windowed = engine.connected
        facts = caller.facts
        assert (facts.via, facts.host, facts.as_name, facts.window) == ("cli", "Claude-Code", "bob", "")
        assert (windowed.facts.via, windowed.facts.host, windowed.facts.window) == ("mcp", "codex", "w-1")
        assert caller.facts.session != windowed.facts.session
        assert (caller.facts.peer.pid, caller.facts.peer.uid) == (os.getpid(), os.geteuid())

    run(main)


@pytest.mark.parametrize("field", ["as_name", "window"])
def test_a_name_in_the_hello_that_is_no_label_is_refused(field: str) -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with serving(engine) as (_, home):
            with WireClient(home) as client:
                goodbye = await client.hello(**{field: "b\u043eb"})
                assert isinstance(goodbye, Goodbye)
                assert goodbye.error.code == "invalid_name"
        assert engine.connected == []

    run(main)


def test_who_says_nothing_for_five_seconds_is_sent_away() -> None:
    async def main() -> None:
        async with serving(FakeEngine()) as (server, home):
            with WireClient(home) as client:
                await client.send(b"\x00\x00")
                start = trio.current_time()
                await expect_goodbye(client, "bad_frame")
                assert trio.current_time() - start == pytest.approx(5)
            await trio.testing.wait_all_tasks_blocked()
            assert server.connections == 0

    run(main)


def test_an_older_protocol_gets_goodbye_and_a_newer_one_may_only_stop_the_daemon() -> None:
    async def main() -> None:
        async with serving(FakeEngine()) as (_, home):
            with WireClient(home) as older:
                goodbye = await older.hello(protocol=PROTOCOL - 1)
                assert isinstance(goodbye, Goodbye)
                assert goodbye.error.code == "unsupported_version"
            with WireClient(home) as newer:
                assert isinstance(await newer.hello(protocol=PROTOCOL + 1), Welcome)
                with pytest.raises(ParlerError, match="unsupported_version"):
                    await newer.call("agent.whoami", t.WhoAmI())
                assert await newer.call("daemon.stop", t.StopDaemon(reason="upgrade")) == t.Stopping(pid=1)

    run(main)


def test_every_connection_that_was_told_to_the_engine_is_taken_back() -> None:
    engine = FakeEngine()

    async def main() -> None:
        async with serving(engine) as (_, home):
            with WireClient(home) as client:
                await client.hello()
                await client.begin("message.recv", t.Recv(wait_ms=1_000_000))
            engine.failing["connect"] = ParlerError("store_locked")
            with WireClient(home) as client:
                goodbye = await client.hello()
                assert isinstance(goodbye, Goodbye)
                assert goodbye.error.code == "store_locked"
            with WireClient(home) as client:
                await client.send(b"")
            await trio.testing.wait_all_tasks_blocked()
        assert len(engine.connected) == len(engine.disconnected) == 2
        assert set(engine.disconnected) == set(engine.connected)

    run(main)


# -- calls -----------------------------------------------------------------------------------------------------


def test_a_call_is_answered_with_the_operations_result() -> None:
    async def main() -> None:
        async with connected(FakeEngine()) as client:
            sent = await client.call("message.send", t.Send(text="hello", idempotency_key="k1"))
            assert isinstance(sent, t.Sent)
            assert (sent.seq, sent.idempotency_key) == (5, "k1")

    run(main)


def test_a_call_that_waits_keeps_none_of_the_others_waiting() -> None:
    async def main() -> None:
        async with connected(FakeEngine()) as client:
            waiting = await client.begin("message.recv", t.Recv(wait_ms=50_000))
            start = trio.current_time()
            await client.call("message.send", t.Send(text="meanwhile"))
            assert trio.current_time() == start
            await client.answer("message.recv", waiting)
            assert trio.current_time() - start == pytest.approx(50)

    run(main)


@pytest.mark.parametrize("posts", [False, True])
def test_a_result_follows_its_call_also_when_both_were_in_one_chunk_with_the_hello(posts: bool) -> None:
    engine = FakeEngine()
    engine.posts = posts

    async def main() -> None:
        async with serving(engine) as (_, home):
            with WireClient(home) as client:
                hello = client.peer.hello(Hello(protocol=PROTOCOL, version="1", role="client"))
                _, first = client.peer.call("message.send", b"\x81\xa4text\xa3abc")
                _, second = client.peer.call("message.send", b"\x81\xa4text\xa1a")
                await client.send(hello + first + second)
                assert isinstance(await client.receive(), Welcome)
                seqs: list[int | None] = []
                for _ in range(2):
                    event = await client.receive()
                    assert isinstance(event, Reply)
                    sent = result_of("message.send", event)
                    assert isinstance(sent, t.Sent)
                    seqs.append(sent.seq)
                assert set(seqs) == {1, 3}

    run(main)


@pytest.mark.parametrize("posts", [False, True])
def test_the_engines_refusal_travels_with_its_code_and_details(posts: bool) -> None:
    engine = FakeEngine()
    engine.posts = posts
    engine.failing["message.send"] = ParlerError("ambiguous_name", candidates=["a", "b"])

    async def main() -> None:
        async with connected(engine) as client:
            with pytest.raises(ParlerError) as caught:
                await client.call("message.send", t.Send(text="x"))
            assert caught.value.code == "ambiguous_name"
            assert caught.value.details == {"candidates": ["a", "b"]}

    run(main)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the text someone wrote"),
        ExceptionGroup("g", [ValueError("the text someone wrote"), KeyError("x")]),
        RecursionError("the text someone wrote"),
    ],
)
def test_a_fault_in_the_engine_is_internal_to_the_caller_and_logged_without_its_text(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    engine.failing["message.send"] = error

    async def main() -> None:
        async with connected(engine) as client:
            with pytest.raises(ParlerError) as caught:
                await client.call("message.send", t.Send(text="x"))
            assert caught.value.code == "internal"
            del engine.failing["message.send"]
            await client.call("message.send", t.Send(text="the connection goes on"))

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "message.send failed with" in caplog.text
    assert "someone wrote" not in caplog.text


def test_an_error_wrapped_by_a_nursery_keeps_its_code() -> None:
    engine = FakeEngine()
    engine.failing["message.send"] = ExceptionGroup("g", [ExceptionGroup("g", [ParlerError("no_such_room")])])

    async def main() -> None:
        async with connected(engine) as client:
            with pytest.raises(ParlerError, match="no_such_room"):
                await client.call("message.send", t.Send(text="x"))

    run(main)


def test_an_error_whose_details_cannot_travel_still_gives_its_code() -> None:
    engine = FakeEngine()
    engine.failing["message.send"] = ParlerError("no_such_room", what=object())

    async def main() -> None:
        async with connected(engine) as client:
            with pytest.raises(ParlerError, match="no_such_room") as caught:
                await client.call("message.send", t.Send(text="x"))
            assert caught.value.details == {}

    run(main)


def test_an_unknown_operation_and_parameters_that_do_not_fit_never_reach_the_engine() -> None:
    engine = FakeEngine()

    async def main() -> None:
        async with connected(engine) as client:
            for op, params, code in (
                ("no.such", b"\x80", "unknown_operation"),
                ("message.send", b"\x80", "invalid_param"),
                ("message.send", b"\x82\xa4text\xa1a\xa5roomy\xa1b", "invalid_param"),
            ):
                _, data = client.peer.call(op, params)
                await client.send(data)
                failure = await client.receive()
                assert isinstance(failure, Failure)
                assert failure.error.code == code
        assert not engine.answered

    run(main)


def test_a_withdrawn_call_stops_and_is_answered_cancelled() -> None:
    engine = FakeEngine()

    async def main() -> None:
        async with connected(engine) as client:
            id = await client.begin("message.recv", t.Recv(wait_ms=1_000_000))
            await client.call("message.send", t.Send(text="x"))
            await client.send(client.peer.cancel(id))
            await client.call("message.send", t.Send(text="x"))
            assert engine.cancelled["message.recv"] == 1
            # The peer swallows the answer to what it withdrew; that it came shows in the free place.
            assert client.peer.under_way == 0

    run(main)


def test_a_cancel_that_crosses_the_answer_is_ignored() -> None:
    async def main() -> None:
        async with connected(FakeEngine()) as client:
            id = await client.begin("message.send", t.Send(text="x"))
            await trio.testing.wait_all_tasks_blocked()
            await client.send(client.peer.cancel(id))
            await client.call("message.send", t.Send(text="x"))

    run(main)


def test_the_sixty_fifth_call_is_busy_and_the_others_are_answered() -> None:
    engine = FakeEngine()

    async def main() -> None:
        async with connected(engine) as client:
            for _ in range(IN_FLIGHT):
                await client.begin("message.recv", t.Recv(wait_ms=1_000_000))
            # One more than this end's own count allows.
            await client.send(frame(codec.encode(Call(id=1000, op="rooms.list"))))
            failure = await client.receive_raw()
            assert failure["error"]["code"] == "busy"
            assert failure["id"] == 1000
            engine.wake.set()
            for id in range(IN_FLIGHT):
                await client.answer("message.recv", id)

    run(main)


def test_pipelined_sends_are_each_answered_though_one_of_them_is_refused() -> None:
    class Choosy(FakeEngine):
        def begin(self, op: str, params: t.Params, caller: Caller) -> FakePosting | None:
            if isinstance(params, t.Send) and params.text == "no":
                raise ParlerError("room_busy")
            return super().begin(op, params, caller)

    engine = Choosy()
    engine.posts = True

    async def main() -> None:
        async with serving(engine) as (server, home):
            with WireClient(home) as client:
                await client.hello()
                frames = [client.peer.call("message.send", codec.encode(t.Send(text=x))) for x in ("a", "no", "abc")]
                await client.send(b"".join(data for _, data in frames))
                answers = [await client.receive() for _ in frames]
                assert {answer.id for answer in answers if isinstance(answer, Reply)} == {frames[0][0], frames[2][0]}
                (failure,) = (answer for answer in answers if isinstance(answer, Failure))
                assert (failure.id, failure.error.code) == (frames[1][0], "room_busy")
                with trio.fail_after(1):
                    await server.drain()

    run(main)


def test_calls_end_with_the_connection_that_made_them() -> None:
    engine = FakeEngine()

    async def main() -> None:
        async with serving(engine) as (server, home):
            with WireClient(home) as client:
                await client.hello()
                for _ in range(5):
                    await client.begin("message.recv", t.Recv(wait_ms=1_000_000))
                await trio.testing.wait_all_tasks_blocked()
                assert engine.under_way["message.recv"] == 5
            await trio.testing.wait_all_tasks_blocked()
            assert engine.cancelled["message.recv"] == 5
            assert server.connections == 0

    run(main)


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_stream_gives_its_items_and_its_end() -> None:
    engine = FakeEngine()
    engine.items = 3

    async def main() -> None:
        async with connected(engine) as client:
            id = await client.begin("room.watch", t.WatchRoom())
            seen = []
            while isinstance(event := await client.receive(), Item):
                item = result_of("room.watch", event)
                assert isinstance(item, t.WatchItem)
                seen.append(item.at)
            assert seen == [0, 1, 2]
            assert event == Reply(id=id)

    run(main)


def test_a_stream_sends_what_it_has_credit_for_and_goes_on_when_given_more() -> None:
    engine = FakeEngine()
    engine.items = 500

    async def main() -> None:
        async with connected(engine) as client:
            id = await client.begin("room.watch", t.WatchRoom())
            await trio.testing.wait_all_tasks_blocked()
            items = [await client.receive() for _ in range(CREDIT)]
            with trio.move_on_after(60) as waited:
                items.append(await client.receive())
            assert waited.cancelled_caught
            # What the fake's own channel and the one item in hand hold comes on top.
            assert engine.sent_items < CREDIT + 20
            for _ in range(CREDIT):
                await client.send(client.peer.took(id))
            while len(items) < 500:
                items.append(await client.receive())
                await client.send(client.peer.took(id))
            assert all(isinstance(item, Item) for item in items)
            assert await client.receive() == Reply(id=id)

    run(main)


def test_a_withdrawn_stream_lets_the_engine_go() -> None:
    engine = FakeEngine()
    engine.endless = True

    async def main() -> None:
        async with connected(engine) as client:
            id = await client.begin("room.watch", t.WatchRoom())
            await trio.testing.wait_all_tasks_blocked()
            assert engine.under_way["room.watch"] == 1
            await client.send(client.peer.cancel(id))
            await client.call("message.send", t.Send(text="x"))
            assert engine.under_way["room.watch"] == 0

    run(main)


# -- windows ---------------------------------------------------------------------------------------------------


class Session:
    """A stdio host that answers each line with its number and notes what it saw."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.hellos: list[Hello] = []
        self.ended = 0
        self.stubborn = False
        self.error: Exception | None = None

    async def __call__(
        self,
        hello: Hello,
        caller: Caller,
        incoming: AsyncIterator[bytes],
        say: Say,
    ) -> None:
        self.hellos.append(hello)
        async for line in incoming:
            self.lines.append(line)
            if line == b"quit":
                return
            if self.error is not None:
                raise self.error
            await say(b"%d" % len(self.lines))
        self.ended += 1
        if self.stubborn:
            await trio.sleep_forever()


def test_a_window_exchanges_lines_and_its_session_sees_the_whole_hello() -> None:
    session = Session()

    async def main() -> None:
        async with serving(FakeEngine(), session) as (server, home):
            with WireClient(home) as client:
                await client.hello(role="stdio", window="w1", session_key="K", unanswered=(b"{}",))
                await client.send(client.peer.line(b"a") + client.peer.line(b"x" * 300_000))
                assert [await client.receive(), await client.receive()] == [b"1", b"2"]
                assert (server.connections, server.windows) == (1, 1)
        assert session.lines == [b"a", b"x" * 300_000]
        assert (session.hellos[0].session_key, session.hellos[0].unanswered) == ("K", (b"{}",))

    run(main)


@pytest.mark.parametrize("written", [True, False])
def test_an_orderly_end_acknowledges_what_was_shown_only_if_it_was_written(written: bool) -> None:
    engine, session = FakeEngine(), Session()

    async def main() -> None:
        async with serving(engine, session) as (_, home):
            with WireClient(home) as client:
                await client.hello(role="stdio")
                await client.send(client.peer.line(b"a") + client.peer.note(Note(what="eof", written=written)))
                assert await client.receive() == b"1"
                assert await client.receive() is None
        assert session.ended == 1
        assert len(engine.acknowledged) == (1 if written else 0)

    run(main)


def test_a_window_that_is_cut_acknowledges_nothing() -> None:
    engine, session = FakeEngine(), Session()

    async def main() -> None:
        async with serving(engine, session) as (server, home):
            with WireClient(home) as client:
                await client.hello(role="stdio")
                await client.send(client.peer.line(b"a"))
                assert await client.receive() == b"1"
            await trio.testing.wait_all_tasks_blocked()
            assert server.connections == 0
        assert (session.ended, engine.acknowledged) == (1, [])
        assert engine.disconnected == engine.connected

    run(main)


def test_lines_for_a_host_that_is_gone_go_nowhere_and_end_quietly(caplog: pytest.LogCaptureFixture) -> None:
    said: list[int] = []

    async def talkative(hello: Hello, caller: Caller, incoming: AsyncIterator[bytes], say: Say) -> None:
        async for _ in incoming:
            for number in range(100):
                await say(bytes(100_000))
                said.append(number)
            await trio.sleep_forever()

    async def main() -> None:
        async with serving(FakeEngine(), talkative) as (server, home):
            with WireClient(home) as client:
                await client.hello(role="stdio")
                await client.send(client.peer.line(b"a"))
                # As much as may wait for a host that reads nothing, and what the kernel takes.
                await trio.testing.wait_all_tasks_blocked()
                assert 0 < len(said) < 100
            await trio.testing.wait_all_tasks_blocked()
            assert server.connections == 0
        assert caplog.text == ""

    run(main)


def test_a_session_that_ends_ends_its_connection_after_its_last_line() -> None:
    async def main() -> None:
        async with serving(FakeEngine(), Session()) as (_, home):
            with WireClient(home) as client:
                await client.hello(role="stdio")
                await client.send(client.peer.line(b"a") + client.peer.line(b"quit"))
                assert await client.receive() == b"1"
                assert await client.receive() is None

    run(main)


def test_a_session_that_ignores_the_end_of_its_input_is_ended() -> None:
    session = Session()
    session.stubborn = True

    async def main() -> None:
        async with serving(FakeEngine(), session) as (_, home):
            with WireClient(home) as client:
                await client.hello(role="stdio")
                start = trio.current_time()
                await client.send(client.peer.note(Note(what="eof")))
                assert await client.receive() is None
                assert trio.current_time() - start == pytest.approx(Limits().session_seconds)

    run(main)


def test_a_session_that_fails_says_goodbye_to_its_window_alone(caplog: pytest.LogCaptureFixture) -> None:
    session = Session()
    session.error = RuntimeError("the text someone wrote")

    async def main() -> None:
        async with serving(FakeEngine(), session) as (_, home):
            with WireClient(home) as client, WireClient(home) as other:
                await other.hello()
                await client.hello(role="stdio")
                await client.send(client.peer.line(b"a"))
                await expect_goodbye(client, "internal")
                await other.call("message.send", t.Send(text="x"))

    run(main)
    assert "someone wrote" not in caplog.text


# -- drain -----------------------------------------------------------------------------------------------------


def test_a_drain_answers_what_waits_finishes_what_works_and_says_goodbye() -> None:
    engine = FakeEngine()
    engine.endless = True

    async def main() -> None:
        async with serving(engine, Session()) as (server, home):
            with WireClient(home) as client, WireClient(home) as window:
                await client.hello()
                await window.hello(role="stdio")
                waiting = await client.begin("message.recv", t.Recv(wait_ms=50_000))
                stream = await client.begin("room.watch", t.WatchRoom())
                await trio.testing.wait_all_tasks_blocked()
                start = trio.current_time()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.drain)
                    for id in (waiting, stream):
                        with pytest.raises(ParlerError, match="draining") as caught:
                            await client.answer("message.recv", id)
                        assert caught.value.spec.retryable
                    await expect_goodbye(client, "draining")
                    await expect_goodbye(window, "draining")
                assert trio.current_time() == start
        assert set(engine.disconnected) == set(engine.connected)

    run(main)


def test_a_call_made_while_draining_is_told_to_come_again_and_stopping_again_is_not_an_error() -> None:
    class Slow(FakeEngine):
        async def _answer(self, op: str, params: t.Params, caller: Caller) -> t.Result:
            if op == "rooms.list":
                await trio.sleep(1)
                return t.RoomList(rooms=[])
            return await super()._answer(op, params, caller)

    engine = Slow()

    async def main() -> None:
        async with serving(engine) as (server, home):
            with WireClient(home) as client:
                await client.hello()
                slow = await client.begin("rooms.list", t.ListRooms())
                await trio.testing.wait_all_tasks_blocked()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.drain)
                    await trio.testing.wait_all_tasks_blocked()
                    with pytest.raises(ParlerError, match="draining"):
                        await client.call("message.send", t.Send(text="x"))
                    await client.call("daemon.stop", t.StopDaemon())
                    assert await client.answer("rooms.list", slow) == t.RoomList(rooms=[])
                    await expect_goodbye(client, "draining")

    run(main)


def test_a_drain_takes_two_seconds_at_most_and_serve_returns() -> None:
    class Stuck(FakeEngine):
        async def _answer(self, op: str, params: t.Params, caller: Caller) -> t.Result:
            await trio.sleep_forever()
            raise AssertionError

    async def main() -> None:
        async with serving(Stuck()) as (server, home):
            with WireClient(home) as client:
                await client.hello()
                await client.begin("rooms.list", t.ListRooms())
                await trio.testing.wait_all_tasks_blocked()
                start = trio.current_time()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(server.drain, 2.0))
                    await expect_goodbye(client, "draining")
                assert trio.current_time() - start == pytest.approx(2)
            await trio.testing.wait_all_tasks_blocked()
            assert server.connections == 0

    run(main)
