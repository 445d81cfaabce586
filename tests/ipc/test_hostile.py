"""Clients that send garbage, reset, flood or stall, each beside a well-behaved one that must not notice.

Time is virtual: a well-behaved call that had to wait for anything of the other client's would show as time that passed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from parlerd import process
from parlerd.core.errors import ParlerError
from parlerd.ipc.connection import Limits
from parlerd.ipc.server import Server
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.paths import Home
from parlerd.wire import codec
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, frame
from parlerd.wire.messages import PROTOCOL, Call, Cancel, Credit, Failure, Goodbye, Hello, Welcome
from tests.support.callers import PERSON
from tests.support.fake_engine import FakeEngine
from tests.support.wire_client import WireClient, expect_goodbye, no_windows, serving, short_home

HELLO = frame(codec.encode(Hello(protocol=PROTOCOL, version="1", role="client")))
SEND = msgspec.Raw(codec.encode(t.Send(text="hello")))
WAIT = msgspec.Raw(codec.encode(t.Recv(wait_ms=100)))


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


@contextlib.asynccontextmanager
async def beside_a_good_client(
    engine: FakeEngine | None = None, *, limits: Limits | None = None
) -> AsyncIterator[tuple[Server, Home, WireClient]]:
    """A server with one well-behaved client, which is asked again when the hostile one is done."""
    async with serving(engine or FakeEngine(), limits=limits) as (server, home):
        with WireClient(home) as good:
            await good.hello()
            yield server, home, good
            await still_served(good)
            await wait_all_tasks_blocked()
            assert server.connections == 1


async def still_served(good: WireClient) -> None:
    start = trio.current_time()
    for _ in range(3):
        sent = await good.call("message.send", t.Send(text="four"))
        assert isinstance(sent, t.Sent)
        assert sent.seq == 4
    assert trio.current_time() == start


@pytest.mark.parametrize(
    ("bytes_sent", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "frame_too_large"),
        (b"\x00\x00\x00\x04\xff\xff\xff\xff", "bad_frame"),
        (b"\x00\x00\x00\x00", "bad_frame"),
        (frame(b"\x80"), "bad_frame"),
        (frame(b"\xdd\xff\xff\xff\xff"), "bad_frame"),
        (frame(b"\x91" * 60_000), "bad_frame"),
        (frame(codec.encode(b"a line before any hello")), "bad_frame"),
        (struct.pack(">I", FIRST_FRAME_LIMIT + 1), "frame_too_large"),
        (b"\xff\xff\xff\xff", "frame_too_large"),
        (HELLO + b"\xff\xff\xff\xff", "frame_too_large"),
        (HELLO + struct.pack(">I", FRAME_LIMIT + 1), "frame_too_large"),
        (HELLO + frame(b"nonsense"), "bad_frame"),
        (HELLO + HELLO, "bad_frame"),
        (HELLO + frame(b"\x83\xa1t\xa4call\xa2id\x01\xa6params" + b"\x91" * 1_000_000), "bad_frame"),
        (HELLO + 2 * frame(codec.encode(Call(id=7, op="message.recv", params=WAIT))), "bad_frame"),
        (HELLO + frame(b"\x83\xa1t\xa6credit\xa2id\x01\xa4more\xff"), "bad_frame"),
    ],
)
def test_garbage_gets_a_coded_goodbye(bytes_sent: bytes, code: str) -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            with WireClient(home) as hostile:
                await hostile.send(bytes_sent)
                await still_served(good)
                event = await hostile.receive()
                if isinstance(event, Welcome):
                    event = await hostile.receive()
                assert isinstance(event, Goodbye)
                assert event.error.code == code
                assert await hostile.receive() is None

    run(main)


def test_parameters_nested_beyond_reason_are_refused_and_the_connection_goes_on() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            with WireClient(home) as hostile:
                await hostile.hello()
                # A valid value 900 deep: more than a decoder that counts its own frames takes.
                params = b"\x82\xa4text\xa1x\xa4data" + b"\x91" * 900 + b"\x01"
                _, data = hostile.peer.call("message.send", params)
                await hostile.send(data)
                await still_served(good)
                assert await hostile.receive() is not None
                await still_served(hostile)

    run(main)


def test_more_parameters_than_any_call_takes_are_refused_before_they_are_taken_apart() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            with WireClient(home) as hostile:
                await hostile.hello()
                # Taken apart, the first would be refused for its field, and each element would take eight bytes.
                for params in ({"nope": [1] * (1 << 20)}, {"text": "x" * (2 << 20)}):
                    _, data = hostile.peer.call("message.send", codec.encode(params))
                    await hostile.send(data)
                    answer = await hostile.receive()
                    assert isinstance(answer, Failure)
                    assert answer.error.code == "text_too_long"
                await still_served(good)
                await still_served(hostile)

    run(main)


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("message.send", {"text": "x", "to": ["a"] * 1025}),
        ("message.send", {"text": "x", "visible_to": ["a"] * 1025}),
        ("message.send", {"text": "x", "to": ["a" * 257]}),
        ("session.open", {"preapprove": ["a"] * 1025}),
        ("message.recv", {"room": "a" * 257}),
        ("message.commit", {"room": "a", "cursor": "1" * 257}),
    ],
)
def test_a_list_or_a_name_that_is_too_long_is_refused_at_decoding(operation: str, params: dict[str, Any]) -> None:
    with pytest.raises(ParlerError) as refused:
        codec.Shape[Any](OPERATIONS[operation].params, "invalid_param").decode(codec.encode(params))
    assert refused.value.code == "invalid_param"


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_in_random_pieces_disturb_nobody(seed: int) -> None:
    draw = random.Random(seed)

    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            with WireClient(home) as hostile:
                if seed % 2:
                    await hostile.send(HELLO)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for _ in range(50):
                        piece = draw.randbytes(draw.randrange(1, 200))
                        await hostile.send(frame(piece) if draw.random() < 0.8 else piece)
                await still_served(good)

    run(main)


def test_a_reset_at_any_moment_ends_one_connection_only() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            conversation = HELLO + frame(codec.encode(Call(id=0, op="message.send", params=SEND))) * 2
            for length in range(0, len(conversation), 7):
                with WireClient(home) as hostile:
                    await hostile.send(conversation[:length])
                    if length % 2:
                        await wait_all_tasks_blocked()
            await still_served(good)

    run(main)


def test_hanging_up_with_answers_unread_ends_one_connection_only() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            for _ in range(5):
                with WireClient(home) as hostile:
                    await hostile.hello()
                    for _ in range(30):
                        await hostile.begin("message.send", t.Send(text="x"))
                    # The kernel makes a reset of this: closed with bytes that were not read.
                    await wait_all_tasks_blocked()
                await still_served(good)

    run(main)


def test_half_a_frame_and_then_silence_holds_nothing_up_and_is_given_its_time() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (server, home, good):
            with WireClient(home) as hostile:
                await hostile.hello()
                await hostile.send(struct.pack(">I", FRAME_LIMIT) + b"x" * 1000)
                await trio.sleep(3600)
                await still_served(good)
                # A quiet connection after its hello is a window that nobody uses: it is not an offence.
                assert server.connections == 2

    run(main)


def test_a_client_that_never_reads_is_cut_off_when_its_answers_pass_the_cap() -> None:
    engine = FakeEngine()
    limits = Limits(outbound_cap=20_000)

    async def main() -> None:
        async with beside_a_good_client(engine, limits=limits) as (server, home, good):
            with WireClient(home) as hostile:
                await hostile.hello()
                calls = b"".join(
                    frame(codec.encode(Call(id=number, op="message.send", params=SEND))) for number in range(1, 10_001)
                )
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for start in range(0, len(calls), 50_000):
                        await hostile.send(calls[start : start + 50_000])
                        await still_served(good)
                await wait_all_tasks_blocked()
                assert server.connections == 1
                assert engine.disconnected == [engine.connected[1]]

    run(main)


def test_a_client_that_reads_late_gets_all_of_ten_thousand_answers() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            with WireClient(home) as slow:
                await slow.hello()
                answers = 0
                calls = b"".join(
                    frame(codec.encode(Call(id=number, op="message.send", params=SEND))) for number in range(10_000)
                )
                await slow.send(calls)
                await still_served(good)
                # Read apart from the peer, which did not make these calls: most are `busy`, and each is answered.
                rest = b""
                while answers < 10_000:
                    await trio.lowlevel.wait_readable(slow.sock)
                    rest += slow.sock.recv(1 << 16)
                    while len(rest) >= 4 and len(rest) >= (size := 4 + int.from_bytes(rest[:4], "big")):
                        rest = rest[size:]
                        answers += 1
                assert rest == b""

    run(main)


def test_a_reader_that_takes_nothing_for_half_a_minute_is_cut_off() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (server, home, good):
            with WireClient(home) as hostile:
                hostile.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                await hostile.hello()
                for number in range(4_000):
                    await hostile.send(frame(codec.encode(Call(id=number, op="no.such"))))
                await wait_all_tasks_blocked()
                assert server.connections == 2
                await trio.sleep(29)
                assert server.connections == 2
                await still_served(good)
                await trio.sleep(2)
                assert server.connections == 1

    run(main)


def test_a_stalled_watcher_holds_back_its_own_stream_and_is_not_cut_off() -> None:
    engine = FakeEngine()
    engine.items = 1_000
    engine.item_text = "x" * 100_000

    async def main() -> None:
        async with beside_a_good_client(engine) as (server, home, good):
            with WireClient(home) as watcher:
                await watcher.hello()
                await watcher.begin("room.watch", t.WatchRoom())
                await wait_all_tasks_blocked()
                await still_served(good)
                assert server.connections == 2
                assert engine.sent_items < 100

    run(main)


def test_a_flood_of_cancels_and_credits_for_nothing_is_ignored() -> None:
    async def main() -> None:
        async with beside_a_good_client() as (_, home, good):
            with WireClient(home) as hostile:
                await hostile.hello()
                flood = b"".join(
                    frame(codec.encode(Cancel(id=number))) + frame(codec.encode(Credit(id=number, more=9)))
                    for number in range(5_000)
                )
                await hostile.send(flood)
                await still_served(good)
                await still_served(hostile)

    run(main)


def test_a_window_that_floods_waits_for_its_session_and_keeps_nobody_else_waiting() -> None:
    async def idle(_hello: object, _caller: object, _incoming: object, _say: object) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        engine = FakeEngine()
        async with serving(engine, idle) as (_, home):
            with WireClient(home) as good, WireClient(home) as window:
                await good.hello()
                await window.hello(role="stdio")
                line = window.peer.line(b"x" * 1_000)
                with trio.move_on_after(10) as limit:
                    for _ in range(10_000):
                        await window.send(line)
                # The kernel's buffers are full and the daemon reads no more of it.
                assert limit.cancelled_caught
                await still_served(good)

    run(main)


def test_a_connection_beyond_the_cap_is_told_busy_and_room_that_frees_is_used() -> None:
    limits = Limits(connections=8, kept_back=0)

    async def main() -> None:
        async with beside_a_good_client(limits=limits) as (_, home, good):
            with contextlib.ExitStack() as stack:
                others = [stack.enter_context(WireClient(home)) for _ in range(7)]
                for other in others:
                    assert isinstance(await other.hello(), Welcome)
                for _ in range(20):
                    with WireClient(home) as extra:
                        await expect_goodbye(extra, "busy")
                await still_served(good)
                others[0].close()
                await wait_all_tasks_blocked()
                with WireClient(home) as next_one:
                    assert isinstance(await next_one.hello(), Welcome)

    run(main)


def test_when_every_connection_is_taken_the_daemon_can_still_be_asked_and_stopped_and_nothing_else() -> None:
    limits = Limits(connections=3)

    async def main() -> None:
        async with beside_a_good_client(limits=limits) as (_, home, good):
            with WireClient(home) as second, WireClient(home) as third, WireClient(home) as person:
                await second.hello()
                await third.hello()
                assert isinstance(await person.hello(), Welcome)
                assert await person.call("daemon.check", t.CheckStore()) == t.CheckList(checks=[])
                for op, params in (
                    ("message.send", t.Send(text="x")),
                    ("agent.whoami", t.WhoAmI()),
                    ("room.watch", t.WatchRoom()),
                ):
                    with pytest.raises(ParlerError, match="busy"):
                        await person.call(op, params)
                with WireClient(home) as window:
                    goodbye = await window.hello(role="stdio")
                    assert isinstance(goodbye, Goodbye)
                    assert goodbye.error.code == "busy"
                assert await person.call("daemon.stop", t.StopDaemon()) == t.Stopping(pid=1)
                await still_served(good)

    run(main)


def test_what_is_kept_back_is_not_taken_by_who_does_nothing_or_by_one_process_alone() -> None:
    limits = Limits(connections=1, kept_back=3, kept_back_of_one=2)

    async def main() -> None:
        async with beside_a_good_client(limits=limits) as (server, home, good):
            with WireClient(home) as one, WireClient(home) as two, WireClient(home) as three:
                await one.hello()
                await two.hello()
                await expect_goodbye(three, "busy")
                begun = trio.current_time()
                await expect_goodbye(one, "busy")
                assert trio.current_time() - begun == pytest.approx(limits.kept_back_seconds)
                await expect_goodbye(two, "busy")
            await wait_all_tasks_blocked()
            assert server.connections == 1
            await still_served(good)

    run(main)


def test_a_call_under_way_keeps_a_connection_that_was_kept_back() -> None:
    limits = Limits(connections=0)

    async def main() -> None:
        engine = FakeEngine()
        engine.check_seconds = limits.kept_back_seconds * 3
        async with serving(engine, limits=limits) as (_, home):
            with WireClient(home) as person:
                await person.hello()
                assert await person.call("daemon.check", t.CheckStore()) == t.CheckList(checks=[])
                await expect_goodbye(person, "busy")

    run(main)


def test_one_process_takes_half_of_all_connections_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(connections=8, connections_of_one=4)

    async def main() -> None:
        async with beside_a_good_client(limits=limits) as (_, home, good):
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    assert isinstance(await stack.enter_context(WireClient(home)).hello(), Welcome)
                with WireClient(home) as extra:
                    await expect_goodbye(extra, "busy")
                await still_served(good)
                monkeypatch.setattr(process, "peer_of", lambda _: process.Peer(pid=4321, uid=os.geteuid()))
                with WireClient(home) as other:
                    assert isinstance(await other.hello(), Welcome)

    run(main)


def test_256_connections_are_served_and_the_257th_is_told_busy() -> None:
    limits = Limits(connections_of_one=1_000, kept_back=0)

    async def main() -> None:
        async with beside_a_good_client(limits=limits) as (server, home, good):
            with contextlib.ExitStack() as stack:
                others = []
                for _ in range(255):
                    others.append(stack.enter_context(WireClient(home)))
                    assert isinstance(await others[-1].hello(), Welcome)
                assert server.connections == 256
                with WireClient(home) as extra:
                    await expect_goodbye(extra, "busy")
                await still_served(good)
                await still_served(others[-1])

    run(main)


def test_a_process_of_another_user_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with serving(engine) as (_, home):
            monkeypatch.setattr(process, "peer_of", lambda _: process.Peer(pid=4321, uid=os.geteuid() + 1))
            with WireClient(home) as stranger:
                await expect_goodbye(stranger, "not_permitted")
        assert engine.connected == []

    run(main)


def test_when_no_descriptor_is_left_the_daemon_pauses_and_goes_on_accepting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(24, "Too many open files"), OSError(103, "Software caused connection abort")]

    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop(0)
            return super().accept()

    async def main() -> None:
        with short_home() as home, Exhausted(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(home.socket))
            listener.listen()
            listener.setblocking(False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Server(FakeEngine(), no_windows, principal=PERSON).serve, listener)
                with WireClient(home) as client:
                    start = trio.current_time()
                    assert isinstance(await client.hello(), Welcome)
                    assert trio.current_time() > start
                nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert "no room for another connection" in caplog.text
