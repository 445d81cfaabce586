"""What may be looked at of the local socket: shapes, bounded, and nothing that anybody wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import msgpack
import msgspec
import pytest
import trio
from trio.testing import MockClock

from parlerd.engine.callers import Caller
from parlerd.ipc.host import Say
from parlerd.ipc.recorder import KEPT, LARGE, Recorder
from parlerd.operations import types as t
from parlerd.wire import codec
from parlerd.wire.frames import frame
from parlerd.wire.messages import Hello
from tests.support.fake_engine import FakeEngine
from tests.support.wire_client import WireClient, serving

NOW = 1_795_860_000_000
SECRETS = ("A3KE7DJR", "the launch is on friday", "K7QM-key", "ann", "someone-elses-field")


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


async def taken(frames: AsyncIterator[t.FrameInfo], count: int) -> list[t.FrameInfo]:
    """The next frames."""
    return [await anext(frames) for _ in range(count)]


def shaped(payload: bytes) -> t.FrameInfo:
    """What is told of one payload that came in."""
    found: list[t.FrameInfo] = []

    async def main() -> None:
        recorder = Recorder(lambda: NOW)
        tap = recorder.tap()
        with recorder.follow() as frames:
            tap.heard(payload)
            found.extend(await taken(frames, 1))

    run(main)
    return found[0]


def test_a_conversation_is_told_by_types_names_ids_and_sizes_and_without_a_word_of_it() -> None:
    async def main() -> None:
        recorder = Recorder(lambda: NOW)
        async with serving(FakeEngine(), recorder=recorder) as (_, home):
            with recorder.follow() as frames, WireClient(home) as client:
                await client.hello(as_name="ann", session_key="A3KE7DJR")
                await client.call("message.send", t.Send(text="the launch is on friday", idempotency_key="K7QM-key"))
                hello, welcome, call, reply = await taken(frames, 4)
        assert (hello.type, hello.direction, hello.connection, hello.at) == ("hello", "in", 1, NOW)
        assert hello.fields["session_key"] == "text of 8"
        assert (welcome.type, welcome.direction) == ("welcome", "out")
        assert (call.type, call.operation, call.direction) == ("call", "message.send", "in")
        assert call.fields == {"text": "text of 23", "idempotency_key": "text of 8"}
        assert (reply.type, reply.operation, reply.id, reply.direction) == ("reply", "message.send", call.id, "out")
        assert reply.fields["seq"] == "a number"
        said = msgspec.json.encode([hello, welcome, call, reply]).decode()
        assert not [secret for secret in SECRETS if secret in said]

    run(main)


def test_a_failure_is_told_by_its_code() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with serving(FakeEngine(), recorder=recorder) as (_, home):
            with recorder.follow() as frames, WireClient(home) as client:
                await client.hello()
                await client.send(client.peer.call("no.such", b"\x80")[1])
                *_, call, failure = await taken(frames, 4)
        assert (call.type, call.operation, call.fields) == ("call", msgspec.UNSET, {})
        assert (failure.type, failure.code, failure.id) == ("failure", "unknown_operation", call.id)

    run(main)


def test_the_lines_of_a_window_are_told_by_method_and_id() -> None:
    async def host(hello: Hello, caller: Caller, incoming: AsyncIterator[bytes], say: Say) -> None:
        async for _ in incoming:
            await say(b'{"jsonrpc":"2.0","id":7,"result":{"content":"the launch is on friday"}}')

    async def main() -> None:
        recorder = Recorder()
        async with serving(FakeEngine(), host, recorder=recorder) as (_, home):
            with recorder.follow() as frames, WireClient(home) as window:
                await window.hello(role="stdio", window="w-1")
                line = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"key":"A3KE7DJR"}}'
                await window.send(frame(codec.encode(line)))
                *_, asked, answered = await taken(frames, 4)
        assert (asked.type, asked.operation, asked.id, asked.direction) == ("line", "tools/call", 7, "in")
        assert (answered.type, answered.operation, answered.id) == ("line", msgspec.UNSET, 7)
        said = msgspec.json.encode([asked, answered]).decode()
        assert not [secret for secret in SECRETS if secret in said]

    run(main)


@pytest.mark.parametrize(
    ("payload", "type"),
    [
        (b"\xc1", "unreadable"),
        (b"\x81\x90\x01", "unreadable"),
        (b"\x91" * 100_000, "unreadable"),
        (msgpack.packb({"t": "A3KE7DJR"}), "unreadable"),
        (msgpack.packb({"t": "call", "id": "A3KE7DJR", "op": "A3KE7DJR", "params": "ann"}), "call"),
        (msgpack.packb({"t": "call", "id": 1, "op": "message.send", "params": {"someone-elses-field": "ann"}}), "call"),
        (msgpack.packb({"t": "goodbye", "error": {"code": "A3KE7DJR", "message": "ann"}}), "goodbye"),
        (msgpack.packb(b'{"id":"A3KE7DJR","method":"A3KE7DJR"}'), "line"),
        (msgpack.packb(b"the launch is on friday"), "line"),
        (msgpack.packb({"t": "call", "text": "x" * LARGE}), "large"),
    ],
)
def test_what_a_hostile_client_sends_is_told_without_a_word_of_it(payload: bytes, type: str) -> None:
    told = shaped(payload)
    assert (told.type, told.size) == (type, len(payload) + 4)
    assert not [secret for secret in SECRETS if secret in msgspec.json.encode(told).decode()]
    assert told.fields == {}


def test_what_a_slow_follower_has_no_room_for_is_counted() -> None:
    async def main() -> None:
        recorder = Recorder()
        tap = recorder.tap()
        with recorder.follow() as frames:
            for _ in range(KEPT + 5):
                tap.heard(msgpack.packb({"t": "cancel", "id": 1}))
            kept = await taken(frames, KEPT)
            tap.heard(msgpack.packb({"t": "cancel", "id": 2}))
            (after,) = await taken(frames, 1)
        assert {told.left_out for told in kept} == {0}
        assert (after.id, after.left_out) == (2, 5)

    run(main)


def test_nothing_is_kept_while_nobody_follows_and_a_connection_that_follows_is_left_out() -> None:
    async def main() -> None:
        recorder = Recorder()
        one, other = recorder.tap(), recorder.tap()
        one.heard(msgpack.packb({"t": "cancel", "id": 1}))
        with recorder.follow() as frames:
            other.is_left_out = True
            other.told(frame(msgpack.packb({"t": "cancel", "id": 2})))
            one.told(frame(msgpack.packb({"t": "cancel", "id": 3})))
            (told,) = await taken(frames, 1)
            assert (told.connection, told.id) == (1, 3)
        assert not recorder.is_on

    run(main)


def test_the_independent_reader_is_imported_by_whoever_follows() -> None:
    code = (
        "import sys; from parlerd.ipc.recorder import Recorder; before = 'msgpack' in sys.modules\n"
        "recorder = Recorder(); recorder.tap().heard(b'x'); print(before, 'msgpack' in sys.modules)\n"
        "with recorder.follow(): print('msgpack' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False", "True"]
