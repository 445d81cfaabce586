"""HTTP on a relay's port: which connections it has, what each request has to show, and what it costs."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.tokens import Token
from parlerd.web.door import MAX_STRANGE_BODY, Message
from relay.door import Secured
from relay.web import GRACE_S, MAX_FILES, MAX_OF_TOKEN, STRANGE_S, Face
from tests.support.doors import Handed, Open, certificate, everything, open_door, run_over_the_network, until, upgrade

GOOD, OTHER = "as_good", "as_other"


def head(target: str = "/a", *lines: str, method: str = "GET", token: str = "", host: str = "127.0.0.1") -> bytes:
    shown = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *shown, *lines, "", ""]).encode()


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split(b" ", 2)[1])


class Book:
    """Two tokens hold."""

    def __init__(self) -> None:
        self.held = {GOOD: self._token("tk_1"), OTHER: self._token("tk_2")}

    def _token(self, id: str) -> Token:
        return Token(id, b"", AgentId("T1"), RoomId("r_1"), ("read",), Millis(0), Millis(1))

    def shown(self, text: str) -> Token | None:
        return self.held.get(text)


class Echo:
    """Answers with the path and the size of what was sent; `/slow` is not answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        if scope["path"] == "/slow":
            await trio.sleep_forever()
        size, is_more = 0, True
        while is_more and (message := await receive())["type"] == "http.request":
            size, is_more = size + len(message["body"]), message["more_body"]
        body = f"{scope['path']} {size}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


class Here(Open):
    """A door that serves links and HTTP."""

    links: Handed
    echo: Echo
    face: Face
    book: Book


@asynccontextmanager
async def both(*, tls: bool = False, served: Secured | None = None) -> AsyncIterator[Here]:
    links, echo, book = Handed(), Echo(), Book()
    face = Face(echo, book, names=lambda: ["relay.example"])
    async with open_door(links, tls=tls, served=served, web=face) as door:
        here = Here(door.door, door.port, door.secured)
        here.links, here.echo, here.face, here.book = links, echo, face, book
        try:
            yield here
        finally:
            await here.close()


async def answer(stream: trio.abc.Stream) -> tuple[int, Mapping[str, str], bytes]:
    """One answer, whose connection may go on."""
    lines = (await until(stream, b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += await stream.receive_some(int(headers["content-length"]) - len(body))
    return int(lines[0].split()[1]), headers, body


def test_the_port_answers_over_tls_to_a_client_that_trusts_the_relays_own_authority() -> None:
    async def main() -> None:
        with certificate("127.0.0.1") as made:
            async with both(tls=True, served=Secured(made.context(), made.digest)) as here:
                context = ssl.create_default_context(cadata=made.authority.decode())
                raw = await here.connect(tls=False)
                stream = trio.SSLStream(raw, context, server_hostname="127.0.0.1", https_compatible=True)
                await stream.send_all(head("/openapi.json"))
                code, headers, body = await answer(stream)
                assert (code, headers["connection"], body) == (200, "close", b"/openapi.json 0")

    run_over_the_network(main)


def test_whoever_shows_no_token_is_answered_once() -> None:
    async def main() -> None:
        async with both() as here:
            for shown in ({}, {"token": "as_wrong"}):
                said = await here.ask(head(**shown) + head("/b", **shown))
                assert said.count(b"HTTP/1.1 ") == 1
                assert b"connection: close" in said.lower()
            assert here.echo.asked == ["GET /a", "GET /a"]
            await trio.testing.wait_all_tasks_blocked()
            assert (here.door.unproven, here.face.connections) == (0, 0)

    run_over_the_network(main)


def test_a_connection_that_shows_a_token_goes_on_and_takes_no_place_of_a_stranger() -> None:
    async def main() -> None:
        async with both() as here:
            stream = await here.connect()
            await stream.send_all(head(token=GOOD))
            assert (await answer(stream))[2] == b"/a 0"
            assert (here.door.unproven, here.face.connections) == (0, 1)
            big = MAX_STRANGE_BODY + 1
            await stream.send_all(head("/b", f"Content-Length: {big}", method="POST", token=OTHER) + b"x" * big)
            assert (await answer(stream))[2] == b"/b %d" % big
            await stream.send_all(head("/c"))
            assert (await answer(stream))[1]["connection"] == "close"
            assert await everything(stream) == b""

    run_over_the_network(main)


def test_whoever_shows_no_token_sends_little_and_has_ten_seconds() -> None:
    async def main() -> None:
        async with both() as here:
            size = MAX_STRANGE_BODY + 1
            assert status(await here.ask(head("/a", f"Content-Length: {size}", method="POST"))) == 413
            for begun in (head("/slow"), head("/a", "Content-Length: 9", method="POST")):
                stream, start = await here.connect(), trio.current_time()
                await stream.send_all(begun)
                await everything(stream)
                assert trio.current_time() - start <= STRANGE_S + 1
            await trio.testing.wait_all_tasks_blocked()
            assert here.door.unproven == 0

    run_over_the_network(main)


def test_one_address_has_eight_places_before_it_shows_a_token_and_more_after() -> None:
    async def main() -> None:
        async with both() as here:
            for _ in range(10):
                stream = await here.connect()
                await stream.send_all(head(token=GOOD))
                assert (await answer(stream))[0] == 200
            waiting = [await here.connect() for _ in range(8)]
            for stream in waiting:
                await stream.send_all(head("/slow"))
            await trio.testing.wait_all_tasks_blocked()
            assert here.door.unproven == 8
            assert await here.ask(head(token=GOOD)) == b""

    run_over_the_network(main)


def test_a_token_has_thirty_two_connections() -> None:
    async def main() -> None:
        async with both() as here:
            streams = []
            for number in range(MAX_OF_TOKEN):
                stream = await here.connect(source=f"127.0.0.{number // 6 + 1}")
                streams.append(stream)
                await stream.send_all(head(token=GOOD))
                assert (await answer(stream))[0] == 200
            one_more = await here.connect(source="127.0.0.9")
            await one_more.send_all(head(token=GOOD))
            code, headers, _ = await answer(one_more)
            assert (code, headers["retry-after"]) == (429, "1")
            another = await here.connect(source="127.0.0.9")
            await another.send_all(head(token=OTHER))
            assert (await answer(another))[0] == 200
            await streams[0].aclose()
            await trio.testing.wait_all_tasks_blocked()
            again = await here.connect(source="127.0.0.9")
            await again.send_all(head(token=GOOD))
            assert (await answer(again))[0] == 200

    run_over_the_network(main)


def test_a_token_brings_two_files_at_a_time_and_all_together_sixteen() -> None:
    async def main() -> None:
        async with both() as here:
            begun = head("/v1/rooms/r_1/blobs", "Content-Length: 9", method="PUT", token=GOOD)
            coming = [await here.connect() for _ in range(2)]
            for stream in coming:
                await stream.send_all(begun + b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert status(await here.ask(begun + b"x")) == 429
            other = await here.connect()
            await other.send_all(begun.replace(GOOD.encode(), OTHER.encode()) + b"x" * 9)
            assert (await answer(other))[0] == 200
            # The next request of a connection ends what the one before it brought.
            await other.send_all(head(token=OTHER))
            assert (await answer(other))[0] == 200
            assert here.face._files == {"tk_1": 2}
            for stream in coming:
                await stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert here.face._files == {}
            for number in range(MAX_FILES):
                assert here.face.begin_file(f"tk_{number}")
            assert not here.face.begin_file("tk_other")

    run_over_the_network(main)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (head(host="evil.example", token=GOOD), 421),
        (head(host="relay.example", token=GOOD), 200),
        (head(host="[::1]:7777", token=GOOD), 200),
        (head("/a", "Origin: https://127.0.0.1", token=GOOD), 403),
        (head("/a", "Origin: null", token=GOOD), 403),
        (head("/a", "Upgrade: websocket", "Connection: Upgrade", token=GOOD), 426),
        (head("/link", "Upgrade: websocket", "Connection: Upgrade", token=GOOD), 426),
        (head("/a", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST", token=GOOD), 400),
        (head("https://127.0.0.1/a", token=GOOD), 400),
        (head("/v1/../a", token=GOOD), 400),
    ],
)
def test_every_request_of_a_connection_is_checked(raw: bytes, code: int) -> None:
    async def main() -> None:
        async with both() as here:
            stream = await here.connect()
            await stream.send_all(head(token=GOOD))
            assert (await answer(stream))[0] == 200
            await stream.send_all(raw)
            assert (await answer(stream))[0] == code
            assert here.links.streams.statistics().current_buffer_used == 0

    run_over_the_network(main)


@pytest.mark.parametrize(
    "first", ["/link", "/LINK", "/link/", "/link?x", "/%6cink", "//link", "/healthz/../link", "http://127.0.0.1/link"]
)
def test_the_first_head_says_for_good_what_a_connection_is(first: str) -> None:
    async def main() -> None:
        async with both() as here:
            # What looks like a link and is none comes to HTTP, where nothing is upgraded.
            raw = upgrade(here.port).replace(b"/link", first.encode(), 1)
            stream = await here.connect()
            await stream.send_all(raw + head(token=GOOD))
            said = status(await until(stream, b"\r\n\r\n"))
            await trio.testing.wait_all_tasks_blocked()
            assert (said == 101) is (first == "/link")
            assert here.links.streams.statistics().current_buffer_used == (first == "/link")
            assert here.echo.asked == []

    run_over_the_network(main)


@pytest.mark.parametrize("more", ["", "Content-Length: 3", "Transfer-Encoding: chunked", "Upgrade: h2c"])
def test_no_request_over_http_hides_behind_one_for_the_link(more: str) -> None:
    async def main() -> None:
        async with both() as here:
            said = await here.ask(head("/link", *([more] if more else [])) + b"0\r\n\r\n" + head(token=GOOD))
            assert said.count(b"HTTP/1.1 ") == 1
            assert status(said) in (400, 426)
            assert here.echo.asked == []

    run_over_the_network(main)


def test_no_request_for_the_link_hides_behind_one_over_http() -> None:
    async def main() -> None:
        async with both() as here:
            body = upgrade(here.port)
            stream = await here.connect()
            request = head("/a", f"Content-Length: {len(body)}", method="POST", token=GOOD)
            await stream.send_all(request + body + upgrade(here.port))
            assert (await answer(stream))[2] == b"/a %d" % len(body)
            assert (await answer(stream))[0] == 426
            assert here.links.streams.statistics().current_buffer_used == 0
            assert here.echo.asked == ["POST /a"]

    run_over_the_network(main)


def test_a_head_in_pieces_and_a_body_that_came_with_it_are_one_request() -> None:
    async def main() -> None:
        async with both() as here:
            request = head("/a", "Content-Length: 20000", method="POST", token=GOOD) + b"x" * 20_000
            for at in (3, len(request) - 10_000):
                stream = await here.connect()
                await stream.send_all(request[:at])
                await trio.sleep(1)
                await stream.send_all(request[at:])
                assert (await answer(stream))[2] == b"/a 20000"

    run_over_the_network(main)


def test_pages_of_health_are_answered_beside_the_application() -> None:
    async def main() -> None:
        async with both() as here:
            assert (await here.ask(head("/healthz"))).endswith(b"\r\n\r\nOK\n")
            assert status(await here.ask(head("/readyz", method="POST"))) == 405
            assert here.echo.asked == []

    run_over_the_network(main)


def test_whoever_is_there_is_seen_out() -> None:
    async def main() -> None:
        async with both() as here:
            stream = await here.connect()
            await stream.send_all(head("/slow", token=GOOD))
            await trio.testing.wait_all_tasks_blocked()
            start = trio.current_time()
            await here.door.drain()
            assert await everything(stream) == b""
            assert trio.current_time() - start <= GRACE_S + 1
            await trio.testing.wait_all_tasks_blocked()
            assert here.face.connections == 0

    run_over_the_network(main)
