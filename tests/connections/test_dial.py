"""Dialling a relay over the network: where it goes, what it shows, and how it fails."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest
import trio

from parlerd.connections.dial import DIAL_SECONDS, Address, WebSocketDialer, parse
from parlerd.core.errors import ParlerError
from tests.support.doors import Handed, Open, everything, open_door, run_over_the_network, until
from tests.support.message_streams import send


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:7777", Address("192.0.2.1", 7777, True)),
        ("wss://192.0.2.1:7777", Address("192.0.2.1", 7777, True)),
        ("[2001:db8::1]:7777", Address("2001:db8::1", 7777, True)),
        ("relay.example:443", Address("relay.example", 443, True)),
        ("ws://127.0.0.1:1", Address("127.0.0.1", 1, False)),
        ("ws://[::1]:1", Address("::1", 1, False)),
    ],
)
def test_an_address_has_a_host_and_a_port_and_is_secured(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize("text", ["", ":", "host:0", "host:65536", "http://a:1", "ws://192.0.2.1:7777"])
def test_what_is_no_address_or_would_be_read_on_the_way_is_not_dialled(text: str) -> None:
    with pytest.raises(ParlerError, match="home_unreachable"):
        parse(text)


@pytest.mark.parametrize("tls", [True, False])
def test_a_stream_shows_the_certificate_that_the_door_serves(tls: bool) -> None:
    async def main() -> None:
        links = Handed()
        async with open_door(links, tls=tls) as door, WebSocketDialer().dial(door.address) as ours:
            theirs = await links.streams.receive()
            assert ours.certificate == theirs.certificate == (door.secured.digest if door.secured else b"")
            await send(ours, b"hello")
            assert await theirs.receive() == b"hello"

    run_over_the_network(main)


def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:9")
        monkeypatch.setenv(name.upper(), "http://192.0.2.1:9")

    async def main() -> None:
        links = Handed()
        async with open_door(links) as door, WebSocketDialer().dial(door.address):
            await links.streams.receive()

    run_over_the_network(main)


def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    async def main() -> None:
        async with open_door(Handed()) as door:
            with pytest.raises(ZeroDivisionError):
                async with WebSocketDialer().dial(door.address):
                    raise ZeroDivisionError

    run_over_the_network(main)


def test_a_block_that_ends_closes_the_stream_for_the_other_side() -> None:
    async def main() -> None:
        links = Handed()
        async with open_door(links) as door:
            async with WebSocketDialer().dial(door.address):
                theirs = await links.streams.receive()
            assert await theirs.receive() is None
            assert theirs.close_code == 1000

    run_over_the_network(main)


# -- how it fails ----------------------------------------------------------------------------------------------


async def refused(address: str) -> str:
    """What is said of a relay that cannot be dialled."""
    with pytest.raises(ParlerError) as caught:
        async with WebSocketDialer().dial(address):
            raise AssertionError("there is a stream")
    assert caught.value.code == "home_unreachable"
    return caught.value.message


Answer = Callable[[trio.SocketStream], Awaitable[None]]


async def dialled(answer: Answer, scheme: str = "ws") -> str:
    """What is said of a program on the loopback that answers in its own way."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    said = ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        said = await refused(f"{scheme}://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()
    return said


class NoNames(trio.abc.HostnameResolver):
    """Knows no machine, and says so at once: whom this machine asks for names is not for a test to wait for."""

    async def getaddrinfo(self, *asked: Any, **how: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async def getnameinfo(self, *asked: Any, **how: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")


def test_nobody_there_is_unreachable() -> None:
    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        assert "no relay runs there on this port" in await refused(f"127.0.0.1:{port}")
        trio.socket.set_custom_hostname_resolver(NoNames())
        assert "No machine of this name" in await refused(f"nobody.invalid:{port}")

    run_over_the_network(main)


def test_a_way_that_is_not_there_is_said_and_no_text_of_another_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        for number, said in (
            (errno.EHOSTUNREACH, "No machine answers at this address."),
            (errno.ENETUNREACH, "No machine answers at this address."),
            (errno.EMFILE, "The relay could not be reached."),
        ):
            failure = OSError(number, "IGNORE ALL RULES")

            async def fails(_host: str, _port: int, failure: OSError = failure) -> NoReturn:
                raise OSError("all attempts failed") from ExceptionGroup("all", [failure])

            monkeypatch.setattr(trio, "open_tcp_stream", fails)
            assert said in await refused("192.0.2.1:7777")

    run_over_the_network(main)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_program_that_accepts_and_is_silent_is_given_up_in_time(scheme: str) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await everything(stream)

    async def main() -> None:
        start = trio.current_time()
        assert "in time" in await dialled(silent, scheme)
        assert DIAL_SECONDS <= trio.current_time() - start <= DIAL_SECONDS + 1

    run_over_the_network(main)


def test_a_program_that_trickles_is_given_up_in_time() -> None:
    async def trickles(stream: trio.SocketStream) -> None:
        await until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n")
        try:
            while True:
                await trio.sleep(0.5)
                await stream.send_all(b"X: y\r\n")
        except trio.BrokenResourceError:
            pass

    async def main() -> None:
        start = trio.current_time()
        await dialled(trickles)
        assert trio.current_time() - start <= DIAL_SECONDS + 1

    run_over_the_network(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/link\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["a page", "a redirect", "a wrong accept", "ssh", "zeros", "a huge page", "a huge head", "nothing"],
)
def test_what_answers_and_is_no_relay_is_one_error_and_is_not_followed(answer: bytes) -> None:
    asked = []

    async def other(stream: trio.SocketStream) -> None:
        asked.append(await until(stream, b"\r\n\r\n"))
        try:
            await stream.send_all(answer)
            await stream.send_eof()
            await everything(stream)
        except trio.BrokenResourceError:
            pass

    async def main() -> None:
        said = await dialled(other)
        assert "SSH" not in said
        assert len(asked) == 1
        (head,) = asked
        assert b"user-agent" not in head.lower()
        assert b"extensions" not in head.lower()

    run_over_the_network(main)


def test_a_program_without_tls_behind_a_secured_address_is_one_error() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        await dialled(plain, "wss")

    run_over_the_network(main)


def test_a_door_that_refuses_is_no_relay_for_us() -> None:
    async def main() -> None:
        async with open_door(Handed(), names=tuple) as door:
            stream = await door.connect()
            await stream.aclose()
            await refused(Open(door.door, door.port, None).address)  # without TLS

    run_over_the_network(main)
