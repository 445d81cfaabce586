"""The relay's one port before everybody who can reach it: who is let in, what is answered, and what it costs."""

from __future__ import annotations

import logging
import os
import random
import ssl
import struct
from typing import Final

import pytest
import trio
import trio.testing

from parlerd.connections.dial import WebSocketDialer
from parlerd.connections.websocket import CLOSE_SECONDS, PING_SECONDS
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.wire.frames import FIRST_FRAME_LIMIT, PREFIX
from relay.door import Door, Secured
from relay.turnstile import Limits, counted_as
from tests.support.doors import Handed, certificate, everything, open_door, run_over_the_network, until, upgrade
from tests.support.fake_engine import FakeEngine
from tests.support.links import SECRET, Book, dialled, links_of

GET: Final = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split(b" ", 2)[1])


def masked(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0) -> bytes:
    """A WebSocket frame as a client sends it."""
    first = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | size])
    elif size < 65_536:
        head = bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head = bytes([0x80 | 127]) + struct.pack(">Q", size)
    return first + head + bytes(4) + payload  # masked with zeros


async def closed_with(stream: trio.abc.Stream) -> int:
    """The code of the close frame that the door sends; 0 where it hangs up without one."""
    data = await everything(stream)
    while data:
        opcode, size = data[0] & 0x0F, data[1] & 0x7F
        if opcode == 8:
            (code,) = struct.unpack(">H", data[2:4])
            assert isinstance(code, int)
            return code
        data = data[2 + size :]
    return 0


async def trickle(stream: trio.abc.Stream, data: bytes) -> None:
    """Send one byte every half second, until the other side hangs up."""
    try:
        for byte in data:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.5)
    except trio.BrokenResourceError:
        return
    raise AssertionError("all of it was taken")


# -- requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
def test_health_and_readiness_are_answered_and_everything_else_is_not_there(tls: bool) -> None:
    async def main() -> None:
        ready = [False]
        async with open_door(Handed(), tls=tls, is_ready=lambda: ready[0]) as door:
            healthy = await door.ask(GET % b"/healthz")
            assert healthy.endswith(b"\r\n\r\nOK\n")
            assert b"\r\nConnection: close\r\n" in healthy
            assert b"server:" not in healthy.lower()
            assert status(await door.ask(GET % b"/readyz")) == 503
            ready[0] = True
            assert status(await door.ask(GET % b"/readyz")) == 200
            for path in (
                b"/",
                b"/link/",
                b"/link?x",
                b"/LINK",
                b"//healthz",
                b"/healthz/",
                b"http://127.0.0.1/healthz",
            ):
                assert status(await door.ask(GET % path)) == 404
            assert (await door.ask((GET % b"/healthz").replace(b"GET", b"HEAD"))).endswith(b"\r\n\r\n")
            assert status(await door.ask((GET % b"/healthz").replace(b"GET", b"POST"))) == 405
            await trio.testing.wait_all_tasks_blocked()
            assert door.door.unproven == 0

    run_over_the_network(main)


def test_a_page_is_answered_by_a_door_that_has_it_and_links_by_one_that_has_links() -> None:
    async def main() -> None:
        async def page() -> str:
            await trio.lowlevel.checkpoint()
            return "links 3\n"

        async with open_door(None, tls=False, pages={"/metrics": page}) as door:
            answer = await door.ask(GET % b"/metrics")
            assert status(answer) == 200
            assert answer.endswith(b"\r\n\r\nlinks 3\n")
            assert (await door.ask((GET % b"/metrics").replace(b"GET", b"HEAD"))).endswith(b"\r\n\r\n")
            assert status(await door.ask((GET % b"/metrics").replace(b"GET", b"POST"))) == 405
            assert status(await door.ask(GET % b"/metrics/x")) == 404
            assert status(await door.ask(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")) == 421
            assert status(await door.ask(upgrade(door.port))) == 404
        async with open_door(Handed(), tls=False) as door:
            assert status(await door.ask(GET % b"/metrics")) == 404

    run_over_the_network(main)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:7777", 200),
        ("192.0.2.7", 200),
        ("[::1]", 200),
        ("[2001:db8::1]:7777", 200),
        ("relay.example", 200),
        ("Relay.Example:7777", 200),
        ("evil.example", 421),
        ("localhost", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("2130706433", 421),
        ("0x7f.1", 421),
        ("::1", 421),
        ("[127.0.0.1]", 421),
        ("[::1", 421),
        ("[::1]x", 421),
        ("127.0.0.1:", 200),
        ("127.0.0.1:x", 421),
        ("127.0.0.1:99999999", 421),
        ("", 421),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/link"])
def test_a_request_names_an_address_or_a_name_of_this_relay(host: str, code: int, path: str) -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False, names=lambda: ["relay.example"]) as door:
            if path == "/healthz":
                request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
                assert status(await door.ask(request)) == code
            else:
                stream = await door.connect()
                request = upgrade(door.port).replace(f"127.0.0.1:{door.port}".encode(), host.encode(), 1)
                await stream.send_all(request)
                answered = status(await until(stream, b"\r\n\r\n"))
                assert answered == (101 if code == 200 else code)
                await trio.aclose_forcefully(stream)

    run_over_the_network(main)


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False) as door:
            assert status(await door.ask(b"GET /healthz HTTP/1.1\r\n\r\n")) == 400
            two = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
            assert status(await door.ask(two)) == 400

    run_over_the_network(main)


@pytest.mark.parametrize("origin", ["null", "https://127.0.0.1", "http://evil.example", "x"])
def test_a_page_in_a_browser_has_no_business_at_the_link(origin: str) -> None:
    async def main() -> None:
        links = Handed()
        async with open_door(links) as door:
            assert status(await door.ask(upgrade(door.port, Origin=origin))) == 403
            assert links.streams.statistics().current_buffer_used == 0

    run_over_the_network(main)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /h\xe4 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n folded: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\r\n\r\n",
    ],
)
def test_what_is_no_request_without_a_body_is_a_bad_request(request_: bytes) -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False) as door:
            assert status(await door.ask(request_)) == 400

    run_over_the_network(main)


def test_a_second_request_on_one_connection_is_not_looked_at() -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False) as door:
            answer = await door.ask((GET % b"/healthz") + (GET % b"/readyz"))
            assert answer.count(b"HTTP/1.1 ") == 1

    run_over_the_network(main)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Upgrade": ""}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": "close"}, 426),
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Version": "8"}, 400),
    ],
)
def test_a_request_for_the_link_that_is_no_websocket_is_refused(headers: dict[str, str], code: int) -> None:
    async def main() -> None:
        links = Handed()
        async with open_door(links) as door:
            assert status(await door.ask(upgrade(door.port, **headers))) == code
            await trio.testing.wait_all_tasks_blocked()
            assert links.streams.statistics().current_buffer_used == 0
            assert door.door.unproven == 0

    run_over_the_network(main)


# -- those who are slow, many or mute ----------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
def test_who_sends_nothing_is_sent_away_after_five_seconds(tls: bool) -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=tls) as door:
            stream = await door.connect(tls=False)
            start = trio.current_time()
            assert await everything(stream) == b""
            assert 5 <= trio.current_time() - start <= 6
            await trio.testing.wait_all_tasks_blocked()
            assert door.door.unproven == 0

    run_over_the_network(main)


def test_a_head_that_trickles_in_is_not_waited_for() -> None:
    async def main() -> None:
        async with open_door(Handed()) as door:
            stream = await door.connect()
            start = trio.current_time()
            await trickle(stream, upgrade(door.port) * 10)
            assert trio.current_time() - start <= 7

    run_over_the_network(main)


def test_a_tls_greeting_that_trickles_in_is_not_waited_for() -> None:
    async def main() -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        greeting = context.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            greeting.do_handshake()
        async with open_door(Handed()) as door:
            stream = await door.connect(tls=False)
            start = trio.current_time()
            await trickle(stream, outgoing.read())
            assert trio.current_time() - start <= 7

    run_over_the_network(main)


@pytest.mark.parametrize("noise", [b"GET /healthz HTTP/1.1\r\n\r\n", b"\x00" * 1_000, os.urandom(1_000), b"\r\n\r\n"])
def test_who_speaks_no_tls_gets_nothing_and_costs_nothing(noise: bytes) -> None:
    async def main() -> None:
        async with open_door(Handed()) as door:
            stream = await door.connect(tls=False)
            await stream.send_all(noise)
            start = trio.current_time()
            answer = await everything(stream)
            assert not answer.startswith(b"HTTP/")
            assert trio.current_time() - start <= 6
            await trio.testing.wait_all_tasks_blocked()
            assert door.door.unproven == 0

    run_over_the_network(main)


def test_an_older_tls_is_not_spoken() -> None:
    async def main() -> None:
        async with open_door(Handed()) as door:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            stream = trio.SSLStream(await door.connect(tls=False), context, https_compatible=True)
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()

    run_over_the_network(main)


@pytest.mark.parametrize("head", [b"GET /" + b"a" * 20_000, b"X: y\r\n" * 4_000])
def test_a_head_of_more_than_16_kib_is_refused(head: bytes) -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False) as door:
            assert status(await door.ask(head)) == 431
            assert status(await door.ask(b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000)) == 431

    run_over_the_network(main)


def test_a_head_of_just_16_kib_is_read() -> None:
    async def main() -> None:
        limit = Limits().head_bytes
        start, line = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X: " + b"y" * 4_000 + b"\r\n"
        rest = limit - len(start) - 3 * len(line) - len(b"Y: \r\n\r\n")
        full = start + 3 * line + b"Y: " + b"z" * rest + b"\r\n\r\n"
        assert len(full) == limit
        async with open_door(Handed(), tls=False) as door:
            assert status(await door.ask(full)) == 200
            assert status(await door.ask(full.replace(b"Y: z", b"Y: zz"))) == 431

    run_over_the_network(main)


def test_one_address_has_eight_places_and_keeps_nobody_else_out() -> None:
    async def main() -> None:
        async with open_door(Handed()) as door:
            async with trio.open_nursery() as nursery:
                flood = [await door.connect(tls=False) for _ in range(40)]
                await trio.testing.wait_all_tasks_blocked()
                assert door.door.unproven == 8
                turned_away = 0
                for stream in flood:
                    with trio.move_on_after(0.01):
                        turned_away += await everything(stream) == b""
                assert turned_away == 32
                # Somebody at another address of the loopback is served meanwhile.
                other = await door.connect(tls=False, source="127.0.0.2")
                await trio.testing.wait_all_tasks_blocked()
                assert door.door.unproven == 9
                await other.aclose()
                for stream in flood:
                    await stream.aclose()
                nursery.cancel_scope.cancel()
            await trio.sleep(6)
            assert door.door.unproven == 0
            assert status(await door.ask(GET % b"/healthz")) == 200

    run_over_the_network(main)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_who_has_one_address_of_a_network_has_all_of_it(address: str, counted: str) -> None:
    assert counted_as(address) == counted


def test_a_flood_from_many_addresses_is_held_to_sixty_four() -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False) as door:
            flood = [await door.connect(source=f"127.0.1.{n % 20 + 1}") for n in range(160)]
            await trio.testing.wait_all_tasks_blocked()
            assert door.door.unproven == 64
            await trio.sleep(6)
            assert door.door.unproven == 0
            for stream in flood:
                await stream.aclose()
            assert status(await door.ask(GET % b"/healthz")) == 200

    run_over_the_network(main)


def test_who_comes_again_and_again_is_let_in_ten_times_a_second_and_slows_nobody_else() -> None:
    async def main() -> None:
        async with open_door(Handed(), tls=False) as door:

            async def answered(source: str) -> bool:
                stream = await door.connect(source=source)
                try:
                    await stream.send_all(GET % b"/healthz")
                    return bool(await everything(stream))
                except trio.BrokenResourceError:
                    return False
                finally:
                    await stream.aclose()

            limits = Limits()
            at_once = [await answered("127.0.0.1") for _ in range(200)]
            # The clock may go on by a few hundredths between two of them.
            assert limits.burst_of_one <= sum(at_once) <= limits.burst_of_one + 40
            assert await answered("127.0.0.2")
            await trio.sleep(1)
            later = [await answered("127.0.0.1") for _ in range(100)]
            assert limits.rate_of_one <= sum(later) <= limits.rate_of_one + 30

    run_over_the_network(main)


def test_a_flood_does_not_reach_those_who_are_proven() -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with (
            open_door(links_of(engine)) as door,
            WebSocketDialer().dial(door.address) as stream,
            dialled(stream) as link,
        ):
            assert door.door.unproven == 0
            flood = [await door.connect(tls=False) for _ in range(100)]
            await trio.testing.wait_all_tasks_blocked()
            assert isinstance(await link.call("message.send", t.Send(text="x")), t.Sent)
            for each in flood:
                await each.aclose()

    run_over_the_network(main)


# -- those who got a WebSocket -----------------------------------------------------------------------------------


def test_who_is_upgraded_and_proves_nothing_is_sent_away_and_its_place_is_free() -> None:
    async def main() -> None:
        async with open_door(links_of(FakeEngine())) as door:
            stream = await door.upgraded()
            assert door.door.unproven == 1
            start = trio.current_time()
            assert await closed_with(stream) == 1013
            assert trio.current_time() - start <= 5 + 2 + 2 + 1
            await trio.testing.wait_all_tasks_blocked()
            assert door.door.unproven == 0

    run_over_the_network(main)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (random.Random(0).randbytes(100), 1002),
        (masked(2, b"x", reserved=4), 1002),
        (masked(2, b"", reserved=7), 1002),
        (masked(3, b"x"), 1002),
        (masked(0, b"x"), 1002),
        (masked(9, b"x" * 126), 1002),
        (b"\x82\x01x", 1002),
        (masked(2, b"x" * (FIRST_FRAME_LIMIT + PREFIX + 1))[:14], 1009),
        (masked(1, b"text"), 1003),
        (masked(1, b"\xff"), 1003),
        (masked(8, struct.pack(">H", 1000)), 1000),
    ],
    ids=[
        "noise",
        "compressed",
        "reserved bits",
        "an unknown sort",
        "a rest without a beginning",
        "a long ping",
        "not masked",
        "too large",
        "text",
        "text that is none",
        "a close",
    ],
)
def test_whatever_comes_after_the_upgrade_ends_one_connection(frames: bytes, code: int) -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with open_door(links_of(engine)) as door:
            stream = await door.upgraded()
            await stream.send_all(frames)
            assert await closed_with(stream) == code
            await trio.sleep(CLOSE_SECONDS + 1)
            assert door.door.unproven == 0
            assert engine.connected == []

    run_over_the_network(main)


def test_a_compressed_bomb_is_not_unpacked_because_nothing_is() -> None:
    """The extension is asked for, is not granted, and a frame that uses it all the same ends the connection."""

    async def main() -> None:
        async with open_door(links_of(FakeEngine())) as door:
            stream = await door.upgraded(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
            await stream.send_all(masked(2, b"\xec\xc1\x01\x01" * 1_000, reserved=4))
            assert await closed_with(stream) == 1002

    run_over_the_network(main)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_fragments_without_an_end_are_not_kept_without_end(size: int) -> None:
    async def main() -> None:
        async with open_door(links_of(FakeEngine())) as door:
            stream = await door.upgraded()
            sent = 0
            with trio.move_on_after(30):
                try:
                    await stream.send_all(masked(2, b"x" * size, fin=False))
                    while True:
                        await stream.send_all(masked(0, b"x" * size, fin=False) * 500)
                        sent += 500
                except trio.BrokenResourceError:
                    pass
            assert sent < 200_000
            await stream.aclose()
            await trio.sleep(10)
            assert door.door.unproven == 0

    run_over_the_network(main)


def test_frames_that_come_together_with_the_request_are_not_lost() -> None:
    async def main() -> None:
        links = Handed()
        async with open_door(links) as door:
            stream = await door.connect()
            await stream.send_all(upgrade(door.port) + masked(2, b"early"))
            theirs = await links.streams.receive()
            assert await theirs.receive() == b"early"
            await trio.aclose_forcefully(stream)

    run_over_the_network(main)


def test_a_peer_that_is_gone_without_a_word_is_noticed_within_45_seconds() -> None:
    async def main() -> None:
        links = Handed()
        links.proves = True
        async with open_door(links) as door:
            stream = await door.upgraded()  # and never answers a ping
            theirs = await links.streams.receive()
            start = trio.current_time()
            assert await theirs.receive() is None
            assert 2 * PING_SECONDS <= trio.current_time() - start <= 45
            await trio.aclose_forcefully(stream)

    run_over_the_network(main)


def test_a_relay_that_is_gone_without_a_word_is_noticed_within_45_seconds() -> None:
    """Somebody between the two stops passing anything on."""

    async def main() -> None:
        links = Handed()
        async with open_door(links, tls=False) as door:
            stopped = trio.Event()

            async def carry(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
                while data := await source.receive_some(65_536):
                    if stopped.is_set():
                        await trio.sleep_forever()
                    await target.send_all(data)

            async def between(ours: trio.SocketStream) -> None:
                theirs = await door.connect(tls=False)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(carry, ours, theirs)
                    nursery.start_soon(carry, theirs, ours)

            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, between, listeners)
                async with WebSocketDialer().dial(f"ws://127.0.0.1:{port}") as stream:
                    await links.streams.receive()
                    start = trio.current_time()
                    stopped.set()
                    assert await stream.receive() is None
                    assert trio.current_time() - start <= 45
                nursery.cancel_scope.cancel()

    run_over_the_network(main)


# -- links -------------------------------------------------------------------------------------------------------


def test_a_link_over_the_network_enrols_calls_streams_and_ends() -> None:
    async def main() -> None:
        engine, book = FakeEngine(), Book()
        engine.items = 300
        links = links_of(engine, book)
        async with open_door(links) as door:
            async with WebSocketDialer().dial(door.address) as stream, dialled(stream, secret=SECRET) as link:
                assert links.proven == 1
                assert door.door.unproven == 0
                assert isinstance(await link.call("message.send", t.Send(text="x" * 200_000)), t.Sent)
                async with link.stream("room.watch", t.WatchRoom()) as items:
                    assert len([item async for item in items]) == 300
            await trio.sleep(10)
            assert links.proven == 0
            async with WebSocketDialer().dial(door.address) as stream, dialled(stream) as link:
                assert link.welcome.name == "team"

    run_over_the_network(main)


def test_a_certificate_that_was_renewed_is_served_to_the_next_and_disturbs_no_open_link() -> None:
    async def main() -> None:
        engine = FakeEngine()
        with certificate() as one, certificate() as two:
            served = [Secured(one.context(), one.digest)]
            door = Door(links_of(engine), secured=lambda: served[0])
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.serve, listeners)
                async with WebSocketDialer().dial(address) as stream, dialled(stream) as link:
                    served[0] = Secured(two.context(), two.digest)
                    async with WebSocketDialer().dial(address) as other, dialled(other) as newer:
                        assert (stream.certificate, other.certificate) == (one.digest, two.digest)
                        for each in (link, newer):
                            assert isinstance(await each.call("message.send", t.Send(text="x")), t.Sent)
                nursery.cancel_scope.cancel()

    run_over_the_network(main)


def test_a_door_that_is_drained_sends_the_unproven_away_and_says_to_links_to_come_back() -> None:
    async def main() -> None:
        engine = FakeEngine()
        links = links_of(engine)
        with certificate() as made:
            secured = Secured(made.context(), made.digest)
            door = Door(links, secured=lambda: secured)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.serve, listeners)
                idle = await trio.open_tcp_stream("127.0.0.1", port)
                async with WebSocketDialer().dial(f"127.0.0.1:{port}") as stream, dialled(stream) as link:
                    await door.drain()
                    await link.closed.wait()
                    assert link.lost is not None
                    assert link.lost.code == "draining"
                    await trio.sleep(5)
                    assert stream.close_code == 1012
                assert await everything(idle) == b""
                await idle.aclose()
                # The nursery ends by itself: `serve` returned.
            with pytest.raises(OSError, match="127"):
                await trio.open_tcp_stream("127.0.0.1", port)

    run_over_the_network(main)


def test_an_error_inside_a_link_ends_it_and_says_no_words_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Handed):
        async def serve(self, stream: object, visitor: object) -> None:
            raise RuntimeError("someone wrote this")

    async def main() -> None:
        async with open_door(Failing()) as door:
            stream = await door.upgraded()
            await everything(stream)
            assert status(await door.ask(GET % b"/healthz")) == 200

    with caplog.at_level(logging.DEBUG):
        run_over_the_network(main)
    assert "a connection failed" in caplog.text
    assert "someone wrote" not in caplog.text


def test_an_error_in_a_link_while_the_relay_ends_is_logged_and_ends_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Handed):
        async def serve(self, stream: object, visitor: object) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                try:
                    await trio.sleep_forever()
                finally:
                    raise RuntimeError("someone wrote this")

    async def main() -> None:
        door = Door(Failing(), secured=lambda: None)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.serve, listeners)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(upgrade(port))
            await until(stream, b"\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
            # The program ends while the link is there: what fails in it then goes no further either.
            nursery.cancel_scope.cancel()
        await stream.aclose()

    with caplog.at_level(logging.DEBUG):
        run_over_the_network(main)
    assert "a connection failed with RuntimeError" in caplog.text
    assert "someone wrote" not in caplog.text


def test_a_peer_that_hangs_up_inside_a_link_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Handed):
        async def serve(self, stream: object, visitor: object) -> None:
            raise ConnectionResetError

    async def main() -> None:
        async with open_door(Gone()) as door:
            await everything(await door.upgraded())

    with caplog.at_level(logging.DEBUG):
        run_over_the_network(main)
    assert "a connection failed" not in caplog.text


def test_no_frame_is_in_the_log_whatever_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with (
            open_door(links_of(engine)) as door,
            WebSocketDialer().dial(door.address) as stream,
            dialled(stream) as link,
        ):
            await link.call("message.send", t.Send(text="canary-text"))

    with caplog.at_level(logging.DEBUG):
        run_over_the_network(main)
    # The library shows the bytes of a frame in hexadecimal.
    assert b"canary-text".hex(" ") not in caplog.text
    assert "BINARY" not in caplog.text


# -- where it may listen -----------------------------------------------------------------------------------------


def test_a_relay_without_a_certificate_listens_on_this_machine_alone() -> None:
    async def main() -> None:
        door = Door(Handed(), secured=lambda: None)
        listeners = await trio.open_tcp_listeners(0, host="0.0.0.0")
        with pytest.raises(ParlerError, match="invalid_settings"):
            await door.serve(listeners)
        for listener in listeners:
            await listener.aclose()

    run_over_the_network(main)
