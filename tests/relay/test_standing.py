"""Where a relay stands: it follows its interface to another address, and waits while there is none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from parlerd.connections.stream import MessageStream
from parlerd.core.errors import ParlerError
from parlerd.core.model import Millis
from parlerd.paths import Home, prepare
from relay import certificate, standing
from relay.place import Place
from relay.standing import Standing
from relay.turnstile import Visitor
from tests.support.fake_network import FakeNetwork
from tests.support.team import free_port

DAY_MS = 86_400_000
BEGIN = 1_795_860_000_000


class NoLinks:
    """Nobody is linked."""

    def __init__(self) -> None:
        self.drained = 0

    async def serve(self, stream: MessageStream, visitor: Visitor) -> None:
        raise AssertionError("nobody came")

    async def drain(self) -> None:
        self.drained += 1
        await trio.lowlevel.checkpoint()


class Machine:
    """A relay on an interface, in virtual time. Every address of the loopback is this machine's."""

    def __init__(self, home: Home) -> None:
        self.network = FakeNetwork(usual="127.0.0.2", addresses={"eth0": ["127.0.0.2"]})
        self.clock = BEGIN
        self.links = NoLinks()
        self.port = free_port()
        self.home = home
        self.standing = Standing(home, Place(interface="eth0", port=self.port), self.network, self.now)

    def now(self) -> Millis:
        return Millis(self.clock)

    def has(self, *addresses: str) -> None:
        self.network.addresses["eth0"] = list(addresses)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        await self.standing.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.standing.serve, self.links)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    async def status(self, path: str) -> int:
        """The status with which the relay answers for a path."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with trio.SSLStream(tcp, context, https_compatible=True) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return int((await stream.receive_some(64)).split()[1])

    async def answers(self, address: str) -> bool:
        try:
            stream = await trio.open_tcp_stream(address, self.port)
        except OSError:
            return False
        await stream.aclose()
        return True


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    home = Home(tmp_path / "relay", explicit=True)
    prepare(home)
    return Machine(home)


def run(main: Callable[[], object]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0.01))  # type: ignore[arg-type]


def test_a_relay_follows_its_interface_to_another_address(machine: Machine) -> None:
    async def main() -> None:
        async with machine.serving():
            assert machine.standing.addresses() == [f"127.0.0.2:{machine.port}"]
            assert await machine.answers("127.0.0.2")
            machine.has("127.0.0.3")
            await trio.sleep(1.5 * standing.LOOK_S)
            assert machine.standing.addresses() == [f"127.0.0.3:{machine.port}"]
            assert (await machine.answers("127.0.0.2"), await machine.answers("127.0.0.3")) == (False, True)
            assert machine.links.drained == 0

    run(main)


def test_while_the_machine_has_no_address_none_is_told_and_the_relay_comes_back_with_one(machine: Machine) -> None:
    async def main() -> None:
        async with machine.serving():
            machine.has()
            await trio.sleep(1.5 * standing.LOOK_S)
            assert machine.standing.addresses() == []
            assert not await machine.answers("127.0.0.2")
            machine.has("127.0.0.3")
            await trio.sleep(standing.LOOK_S)
            assert machine.standing.addresses() == [f"127.0.0.3:{machine.port}"]
            assert await machine.answers("127.0.0.3")

    run(main)


def test_the_relays_own_machine_finds_it_at_the_loopback_whatever_becomes_of_the_network(machine: Machine) -> None:
    async def main() -> None:
        async with machine.serving():
            for addresses in (["127.0.0.2"], [], ["127.0.0.3"]):
                machine.has(*addresses)
                await trio.sleep(1.5 * standing.LOOK_S)
                assert await machine.answers("127.0.0.1"), addresses
                told = [f"{address}:{machine.port}" for address in addresses]
                assert machine.standing.addresses() == told, "others are told no address that is theirs alone"

    run(main)


def test_a_relay_whose_port_of_the_loopback_is_another_programs_serves_without_it(machine: Machine) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", machine.port)):
            async with machine.serving():
                assert await machine.answers("127.0.0.2")
                machine.has()
                await trio.sleep(1.5 * standing.LOOK_S)
                assert not await machine.answers("127.0.0.2")
                machine.has("127.0.0.2")
                await trio.sleep(standing.LOOK_S)
                assert await machine.answers("127.0.0.2")
                assert machine.standing.addresses() == [f"127.0.0.2:{machine.port}"]

    run(main)


def test_a_certificate_that_is_due_while_the_machine_has_no_address_is_for_the_machine_itself(machine: Machine) -> None:
    async def main() -> None:
        async with machine.serving():
            path = machine.home.root / "tls" / "certificate.pem"
            machine.has()
            await trio.sleep(1.5 * standing.LOOK_S)
            first = path.read_bytes()
            machine.clock += (certificate.DAYS - certificate.RENEWED_AT + 1) * DAY_MS
            await trio.sleep(standing.LOOK_S)
            assert path.read_bytes() != first
            made = certificate.keep(path.parent, {"127.0.0.1"}, Millis(machine.clock))
            assert made.names == frozenset({"127.0.0.1"})

    run(main)


def test_a_certificate_is_made_anew_before_it_ends_while_the_relay_runs(machine: Machine) -> None:
    async def main() -> None:
        async with machine.serving():
            path = machine.home.root / "tls" / "certificate.pem"
            first = path.read_bytes()
            machine.clock += (certificate.DAYS - certificate.RENEWED_AT - 1) * DAY_MS
            await trio.sleep(2 * standing.LOOK_S)
            assert path.read_bytes() == first
            machine.clock += 2 * DAY_MS
            await trio.sleep(2 * standing.LOOK_S)
            assert path.read_bytes() != first
            assert machine.standing.addresses() == [f"127.0.0.2:{machine.port}"]

    run(main)


def test_draining_ends_the_door_and_every_link(machine: Machine) -> None:
    async def main() -> None:
        await machine.standing.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.standing.serve, machine.links)
            await trio.testing.wait_all_tasks_blocked()
            await machine.standing.drain(machine.links)
        assert machine.links.drained == 1
        for address in ("127.0.0.1", "127.0.0.2"):
            assert not await machine.answers(address)

    run(main)


def test_an_address_that_is_not_there_or_taken_at_the_start_is_an_error(machine: Machine) -> None:
    async def main() -> None:
        machine.has()
        with pytest.raises(ParlerError) as failed:
            await machine.standing.open()
        assert failed.value.code == "no_address"
        machine.has("127.0.0.2")
        with socket.create_server(("127.0.0.2", machine.port)), pytest.raises(ParlerError) as failed:
            await machine.standing.open()
        assert failed.value.code == "port_taken"
        assert machine.standing.addresses() == []

    run(main)


def test_whoever_asks_whether_the_relay_is_ready_hears_what_it_says_of_itself(machine: Machine) -> None:
    async def main() -> None:
        ready = [True]
        machine.standing = Standing(
            machine.home,
            Place(interface="eth0", port=machine.port),
            machine.network,
            machine.now,
            is_ready=lambda: ready[0],
        )
        async with machine.serving():
            assert await machine.status("/readyz") == 200
            ready[0] = False
            assert await machine.status("/readyz") == 503
            assert await machine.status("/healthz") == 200

    run(main)
