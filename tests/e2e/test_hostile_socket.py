"""Clients that send garbage, reset, flood or stall at a real daemon's socket, while somebody works with it."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from parlerd.operations import types as t
from parlerd.wire import codec
from parlerd.wire.frames import frame
from parlerd.wire.messages import PROTOCOL, Goodbye, Hello
from parlerd.wire.peer import ClientPeer
from tests.support.processes import PATIENCE_S, Somebody, until

pytestmark = pytest.mark.e2e

CROWD = 12
"""Of each kind."""


def greeting(**fields: object) -> bytes:
    hello = {"protocol": PROTOCOL, "version": "1.0", "role": "client", "as_name": "mallory", **fields}
    return ClientPeer().hello(Hello(**hello))  # type: ignore[arg-type]  # tests name the fields


def garbage(sock: socket.socket, draw: random.Random) -> None:
    sock.sendall(draw.randbytes(draw.randrange(1, 5000)))


def a_frame_without_end(sock: socket.socket, draw: random.Random) -> None:
    sock.sendall(b"\xff\xff\xff\xff" + draw.randbytes(100))


def garbage_after_a_hello(sock: socket.socket, draw: random.Random) -> None:
    sock.sendall(greeting(role=draw.choice(["client", "stdio"])) + frame(draw.randbytes(200)))


def a_reset(sock: socket.socket, draw: random.Random) -> None:
    whole = greeting() + frame(codec.encode({"t": "call", "id": 1, "op": "rooms.list", "params": {}}))
    sock.sendall(whole[: draw.randrange(len(whole))])
    # Closed with what was sent to it unread, a Unix socket resets the other side.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def a_stall(sock: socket.socket, draw: random.Random) -> None:
    sock.sendall(greeting()[: draw.randrange(1, 20)])


def a_flood(sock: socket.socket, draw: random.Random) -> None:
    """Calls without end, and no answer is ever read: until the daemon takes no more, or hangs up."""
    sock.setblocking(False)
    calls = [frame(codec.encode({"t": "call", "id": id, "op": "rooms.list", "params": {}})) for id in range(5000)]
    data = greeting() + b"".join(calls)
    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
        while data:
            data = data[sock.send(data) :]


def a_window_that_floods(sock: socket.socket, draw: random.Random) -> None:
    sock.setblocking(False)
    line = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    data = greeting(role="stdio", window="w" * 32) + frame(codec.encode(line)) * 2000
    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
        while data:
            data = data[sock.send(data) :]


KINDS: list[Callable[[socket.socket, random.Random], None]] = [
    garbage,
    a_frame_without_end,
    garbage_after_a_hello,
    a_reset,
    a_stall,
    a_flood,
    a_window_that_floods,
]


@contextlib.contextmanager
def crowd(somebody: Somebody) -> Iterator[list[socket.socket]]:
    """Connections of every kind, made while the block runs and all open until it ends."""
    socks: list[socket.socket] = []
    failures: list[BaseException] = []
    draw = random.Random(7)

    def come() -> None:
        try:
            for _ in range(CROWD):
                for act in KINDS:
                    sock = socket.socket(socket.AF_UNIX)
                    sock.settimeout(PATIENCE_S)
                    socks.append(sock)
                    sock.connect(str(somebody.home.socket))
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        act(sock, draw)
        except BaseException as error:
            failures.append(error)

    coming = threading.Thread(target=come)
    coming.start()
    try:
        yield socks
    finally:
        coming.join(PATIENCE_S)
        for sock in socks:
            sock.close()
    assert failures == []
    assert len(socks) == CROWD * len(KINDS)


def test_whoever_misbehaves_at_the_socket_disturbs_nobody_who_works(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice")
    somebody.enters(opened.session_key, "bob")
    pid = somebody.status().pid
    said: list[str] = []
    with crowd(somebody) as socks, somebody.client("alice") as alice, somebody.client("bob") as bob:
        heard: list[str] = []
        while len(socks) < CROWD * len(KINDS) or len(said) < 50:
            said.append(f"message {len(said)}")
            alice.call("message.send", t.Send(text=said[-1]))
            page = bob.call("message.recv", t.Recv(wait_ms=20_000))
            assert isinstance(page, t.Received)
            heard += [message.text for message in page.messages]
            bob.call("message.commit", t.Commit(room=page.room, cursor=page.cursor))
        assert heard == said
        assert (alice.daemon_pid, bob.daemon_pid) == (pid, pid), "one of them had to connect again"
    until(lambda: somebody.status().connections == 1, "daemon that let go of every one of them")
    assert somebody.status().pid == pid
    assert [message.text for message in somebody.reads("bob")] == ["the recap", *said]
    assert somebody.asks("doctor")["ok"] is True
    assert "Traceback" not in somebody.log()
    assert "failed with" not in somebody.log()


def test_garbage_is_answered_with_a_code_before_the_daemon_hangs_up(somebody: Somebody) -> None:
    somebody.runs("daemon", "start")
    for sent, code in (
        (b"\xff\xff\xff\xff", "frame_too_large"),
        (frame(b"\xc1"), "bad_frame"),
        (greeting(protocol=0), "unsupported_version"),
        (greeting(as_name="a\u202eb"), "invalid_name"),
        (frame(codec.encode({"t": "call", "id": 1, "op": "daemon.stop"})), "bad_frame"),
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(somebody.home.socket))
            sock.sendall(sent)
            (said,) = ClientPeer().receive(b"".join(iter(lambda sock=sock: sock.recv(4096), b"")))  # type: ignore[misc]
            assert isinstance(said, Goodbye)
            assert said.error.code == code
