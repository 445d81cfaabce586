"""The door over HTTP against whatever a client may send: every request is checked, and bounded in size and time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.web.door import BODY_S, HEAD_S, IDLE_S, MAX_BODY, MAX_CONNECTIONS, MAX_HEAD, Message
from tests.support.engine import run
from tests.support.http import NAME, Client, connect, served


class Echo:
    """An application that answers with what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
            if not message["more_body"]:
                break
        body = f"{scope['path']} {size}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


def head(*lines: str, target: str = "/a", method: str = "GET", host: str = NAME) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), *lines, "", ""]).encode()


async def status_of(client: Client) -> int:
    """The status of the answer, after which the connection ends; 0 for none."""
    got = b""
    while b"\r\n" not in got:
        piece = await client.stream.receive_some()
        if not piece:
            return 0
        got += piece
    return int(got.split()[1])


def answered(raw: bytes) -> tuple[int, list[str]]:
    """What these bytes are answered with, and what reached the application."""
    found: list[int] = []
    echo = Echo()

    async def main() -> None:
        async with served(echo) as (door, nursery):
            client = connect(door, nursery)
            await client.stream.send_all(raw)
            found.append(await status_of(client))

    run(main)
    return found[0], echo.asked


def test_requests_follow_each_other_on_one_connection_and_each_is_checked() -> None:
    async def main() -> None:
        echo = Echo()
        async with served(echo) as (door, nursery):
            client = connect(door, nursery)
            assert (await client.ask("GET /a")).body == b"/a 0"
            assert (await client.ask("POST /b", b"x" * 5_000)).body == b"/b 5000"
            answer = await client.ask("GET /c", headers={"Host": "evil.example:8756"})
            assert (answer.status, answer.headers["connection"]) == (421, "close")
            assert not await client.stream.receive_some()
            assert echo.asked == ["GET /a", "POST /b"]

    run(main)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head(host=""), 400),
        (head(f"Host: {NAME}"), 400),
        (head(host="127.0.0.1"), 421),
        (head(host="localhost.evil.example:8756"), 421),
        (head("Origin: http://evil.example"), 403),
        (head("Origin: null"), 403),
        (head("Upgrade: websocket", "Connection: Upgrade"), 426),
        (head("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: x"), 426),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (head("Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", 400),
        (head("Transfer-Encoding: chunked", "Content-Length: 3", method="POST") + b"abc", 400),
        (head("Content-Length: 3", "Content-Length: 4", method="POST") + b"abcd", 400),
        (head("Content-Length: -1", method="POST"), 400),
        (head(f"Content-Length: {MAX_BODY + 1}", method="POST"), 413),
        (head("Expect: 100-continue", "Content-Length: 1", method="POST"), 100),
        (head("Expect: 100-continue", "Content-Length: 1", method="POST") + b"x", 200),
        (head("Expect: 100-continue", "Content-Length: 1", method="POST", host="evil.example"), 421),
        (head("Expect: more", "Content-Length: 1", method="POST") + b"x", 417),
        (head(target="http://evil.example/a"), 400),
        (head(target="/v1/../a"), 400),
        (head(target="/v1/./a"), 400),
        (head(target="/v1/%2e%2e/a"), 400),
        (head(target="/v1/%00"), 400),
        (head(target="/v1/%ff"), 400),
        (head(target="/v1/%zz"), 400),
        (head(target="/a?q=%ff"), 400),
        (head("Content-Length: 3", method="POST") + b"abcd", 200),
        (head(target="*", method="OPTIONS"), 400),
        (head(target="a"), 400),
        (head(f"X: {'x' * MAX_HEAD}"), 431),
        (b"GET /a HTTP/1.0\r\nHost: " + NAME.encode() + b"\r\n\r\n", 505),
        (b"GET  /a HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (head("Bad Header: x"), 400),
        (head("X: a\r\n b"), 200),
        (head(target="/v1/agents/codex%40web"), 200),
        (head(target="/v1/agents/a%2Fb"), 200),
    ],
)
def test_what_is_no_plain_request_is_answered_here(raw: bytes, status: int) -> None:
    found, asked = answered(raw)
    assert found == status
    assert bool(asked) is (status == 200)


def test_a_request_that_hides_behind_another_is_checked_like_the_first() -> None:
    smuggled = head(host="evil.example", target="/secret")
    found, asked = answered(head("Content-Length: 0", method="POST") + smuggled)
    assert (found, asked) == (200, ["POST /a"])


@pytest.mark.parametrize(
    ("sent", "limit", "status"),
    [(b"", IDLE_S, 0), (b"GET /a HT", HEAD_S, 408), (head("Content-Length: 9", method="POST") + b"x", BODY_S, 408)],
)
def test_whoever_is_slow_is_seen_out(sent: bytes, limit: float, status: int) -> None:
    async def main() -> None:
        async with served(Echo()) as (door, nursery):
            client, began = connect(door, nursery), trio.current_time()
            if sent:
                await client.stream.send_all(sent)
            assert await status_of(client) == status
            assert limit <= trio.current_time() - began < limit + 1

    run(main)


def test_a_head_that_trickles_is_seen_out() -> None:
    async def main() -> None:
        async with served(Echo()) as (door, nursery):
            client, began = connect(door, nursery), trio.current_time()
            with trio.move_on_after(3 * HEAD_S):
                for byte in head("X: " + "x" * 1_000):
                    await client.stream.send_all(bytes([byte]))
                    await trio.sleep(0.5)
                    if trio.current_time() - began > HEAD_S:
                        break
            assert await status_of(client) == 408
            assert trio.current_time() - began < HEAD_S + 1

    run(main)


def test_so_many_connections_are_taken_at_a_time() -> None:
    async def main() -> None:
        async with served(Echo()) as (door, nursery):
            clients = [connect(door, nursery) for _ in range(MAX_CONNECTIONS)]
            assert (await clients[0].ask("GET /a")).status == 200
            await trio.testing.wait_all_tasks_blocked()
            assert not await connect(door, nursery).stream.receive_some()
            for client in clients:
                await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert (await connect(door, nursery).ask("GET /a")).status == 200

    run(main)


def test_a_head_request_has_the_head_of_the_answer_alone() -> None:
    async def main() -> None:
        async with served(Echo()) as (door, nursery):
            client = connect(door, nursery)
            answer = await client.ask("HEAD /a")
            assert (answer.status, answer.headers["content-length"], answer.body) == (200, "4", b"")
            assert (await client.ask("GET /a")).status == 200

    run(main)


def test_an_application_that_fails_ends_its_connection_alone() -> None:
    async def failing(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await trio.lowlevel.checkpoint()
        if scope["path"] == "/bad":
            raise ValueError("what somebody sent")
        await Echo()(scope, receive, send)

    async def main() -> None:
        async with served(failing) as (door, nursery):
            bad = connect(door, nursery)
            await bad.begin("GET /bad")
            assert not await bad.stream.receive_some()
            assert (await connect(door, nursery).ask("GET /a")).status == 200

    run(main)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda tail: head() + tail)))
def test_no_bytes_do_more_than_end_a_connection(raw: bytes) -> None:
    async def main() -> None:
        async with served(Echo()) as (door, nursery):
            client = connect(door, nursery)
            await client.stream.send_all(raw or b"x")
            await client.stream.send_eof()  # type: ignore[attr-defined]  # a memory stream has it
            while await client.stream.receive_some():
                pass
            assert (await connect(door, nursery).ask("GET /a")).status == 200

    run(main)


def test_whatever_the_door_refuses_has_a_code() -> None:
    async def main() -> None:
        async with served(Echo()) as (door, nursery):
            answer = await connect(door, nursery).ask("GET /a", headers={"Host": "evil.example"})
            assert (answer.status, answer.code) == (421, "request_refused")
            assert answer.document["error"].keys() >= {
                "code",
                "message",
                "action",
                "scope",
                "retryable",
                "hint",
                "request",
            }
            head_only = await connect(door, nursery).ask("HEAD /a", headers={"Host": "evil.example"})
            assert (head_only.status, head_only.body) == (421, b"")

    run(main)


def test_a_body_that_is_cut_off_reaches_no_application() -> None:
    async def main() -> None:
        echo = Echo()
        async with served(echo) as (door, nursery):
            client = connect(door, nursery)
            await client.stream.send_all(head("Content-Length: 9", method="POST") + b"x")
            await client.stream.send_eof()  # type: ignore[attr-defined]  # a memory stream has it
            assert await status_of(client) == 400
            assert echo.asked == []

    run(main)


def test_whoever_reads_nothing_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def endless(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1_000, "more_body": True})

    async def main() -> None:
        async with served(endless) as (door, nursery):
            mine, its = trio.testing.lockstep_stream_pair()
            client, ended = Client(mine), trio.Event()

            async def visit() -> None:
                await door.visit(its)
                ended.set()

            nursery.start_soon(visit)
            began = trio.current_time()
            await client.begin("GET /a")
            await ended.wait()
            assert IDLE_S <= trio.current_time() - began < 2 * IDLE_S
        assert caplog.records == []

    run(main)
