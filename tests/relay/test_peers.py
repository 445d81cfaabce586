"""Links between relays: who proves the home's key comes in and is answered, and nobody else hears anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
import trio
from trio.testing import MockClock

from parlerd.core.errors import ParlerError
from parlerd.core.model import PrincipalId
from parlerd.engine import authority
from parlerd.engine.callers import Caller, Facts
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from parlerd.store.memory_counts import MemoryCounts
from parlerd.store.relays import Row
from parlerd.wire.calls import pack
from parlerd.wire.lanes import ANSWERING, OpenLane, PeerHello, PeerProof, PeerWelcome, Reader
from parlerd.wire.messages import Goodbye
from relay.counting import Counting
from relay.newest import Newest
from relay.peers import PROOF_S, Away, Lost, Peers, Self, Served
from relay.turnstile import Anybody
from tests.support.fake_engine import FakeEngine
from tests.support.links import OFFERED, OTHER_RELAY, PERSON, RELAY, OneKey
from tests.support.message_streams import MemoryStream, pair

CERTIFICATE = b"c" * 32
ONE = Row("one", "i1", "192.0.2.1:7777", "1.0", "10.0.0.1:7778")
TWO = Row("two", "i2", "192.0.2.2:7777", "1.0", "10.0.0.2:7778")


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def own_of(row: Row, key: SigningKey = RELAY) -> Self:
    return Self(OneKey(key), row.relay, row.incarnation)


def newest() -> Newest:
    return Newest(Counting(MemoryCounts(trio.current_time)))


class Road:
    """Leads from one relay to another. `between` is what stands in the middle: it gives other streams."""

    def __init__(self, served: Served, nursery: trio.Nursery) -> None:
        self.served = served
        self.nursery = nursery
        self.streams: list[MemoryStream] = []
        self.is_cut = False
        self.shown = CERTIFICATE
        """The certificate that whoever dials is shown."""
        self.dialled = 0

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[MemoryStream]:
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        if self.is_cut:
            raise ParlerError("home_unreachable")
        ours, theirs = pair(CERTIFICATE)
        ours.certificate = self.shown
        self.streams.append(ours)
        self.nursery.start_soon(self.served.serve, theirs, Anybody())
        try:
            yield ours
        finally:
            with trio.CancelScope(shield=True):
                await ours.close()


class Two:
    """The first relay, which has links to the second."""

    def __init__(self, nursery: trio.Nursery, here: Self, there: Self) -> None:
        self.engine = FakeEngine()
        self.served = Served(there, self.engine, OFFERED, newest())
        self.road = Road(self.served, nursery)
        self.living = [ONE, TWO]
        self.peers = Peers(here, self.road, lambda: self.living)

    async def lane(self, caller: Caller | None = None) -> Away:
        return await self.peers.open(TWO, caller or daemon(), 5.0)


@asynccontextmanager
async def two(here: Self | None = None, there: Self | None = None) -> AsyncIterator[Two]:
    async with trio.open_nursery() as nursery:
        made = Two(nursery, here or own_of(ONE), there or own_of(TWO))
        nursery.start_soon(made.peers.run)
        await trio.sleep(0.1)
        yield made
        nursery.cancel_scope.cancel()


def daemon(session: str = "s1") -> Caller:
    principal = PrincipalId(PERSON.id)
    return Caller(Facts(session, "link", authority.of_link(principal), channel=b"h" * 32))


def test_a_daemon_is_answered_at_the_other_relay_with_what_it_proved_here() -> None:
    async def main() -> None:
        async with two() as made:
            assert made.peers.unreached == []
            lane = await made.lane()
            answer = await lane.call("agent.whoami", t.WhoAmI())
            assert msgspec.msgpack.decode(answer)
            [caller] = made.engine.connected
            assert caller.facts.authority == authority.of_link(PrincipalId(PERSON.id))
            assert (caller.facts.session, caller.facts.channel) == ("s1", b"h" * 32)
            lane.close()
            await trio.sleep(0.1)
            assert made.engine.disconnected == [caller]
            assert made.served.lanes == 0

    run(main)


def test_what_is_not_offered_over_links_is_not_answered_over_lanes() -> None:
    async def main() -> None:
        async with two() as made:
            lane = await made.lane()
            with pytest.raises(ParlerError) as error:
                await lane.call("daemon.stop", t.StopDaemon())
            assert error.value.code == "unknown_operation"

    run(main)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (own_of(ONE, OTHER_RELAY), own_of(TWO)),
        (own_of(ONE), own_of(TWO, OTHER_RELAY)),
        (own_of(ONE), own_of(msgspec.structs.replace(TWO, incarnation="i9"))),
        (own_of(ONE), own_of(msgspec.structs.replace(TWO, relay="three"))),
    ],
    ids=["another key dials", "another key answers", "another process answers", "another relay answers"],
)
def test_between_two_that_are_not_of_one_home_or_not_meant_there_is_no_link(here: Self, there: Self) -> None:
    async def main() -> None:
        async with two(here, there) as made:
            await trio.sleep(5)
            assert made.road.dialled > 2
            assert made.peers.unreached == ["two"]
            assert made.served.carriers == set()
            assert made.engine.connected == []
            with pytest.raises(ParlerError) as error:
                await made.lane()
            assert error.value.code == "home_unreachable"

    run(main)


def test_whoever_stands_between_two_relays_shows_another_certificate_and_is_found_out() -> None:
    async def main() -> None:
        async with two() as made:
            for stream in made.road.streams:
                stream.cut()
            made.road.shown = b"x" * 32
            await trio.sleep(5)
            assert made.peers.unreached == ["two"]
            assert made.served.carriers == set()

    run(main)


class Stranger:
    """Somebody who dials a relay by hand."""

    def __init__(self, served: Served, nursery: trio.Nursery) -> None:
        self.stream, theirs = pair(CERTIFICATE)
        nursery.start_soon(served.serve, theirs, Anybody())
        self.stream.limit = 1 << 20

    async def rest(self) -> list[object]:
        """All that is said to it, to the end."""
        reader = Reader(ANSWERING)
        return [message async for data in self._all() for message in reader.feed(data)]

    async def _all(self) -> AsyncIterator[bytes]:
        while (data := await self.stream.receive()) is not None:
            yield data


def hello() -> PeerHello:
    return PeerHello(
        protocol=1, version="1", nonce=b"n" * 32, relay="one", incarnation="i1", to_relay="two", to_incarnation="i2"
    )


@pytest.mark.parametrize(
    "said",
    [
        b"\0\0\0\2hi",
        pack(OpenLane(lane=1, principal=PrincipalId(PERSON.id), session="s", channel=b"c")),
        pack(hello()) + pack(PeerProof(signature=b"s" * 64)),
        pack(msgspec.structs.replace(hello(), protocol=2)),
        pack(msgspec.structs.replace(hello(), to_incarnation="i1")),
    ],
    ids=["garbage", "a lane at once", "a false proof", "another version", "somebody else is meant"],
)
def test_who_proves_nothing_hears_a_goodbye_and_nothing_else(said: bytes) -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with trio.open_nursery() as nursery:
            served = Served(own_of(TWO), engine, OFFERED, newest())
            stranger = Stranger(served, nursery)
            await stranger.stream.send(said)
            heard = await stranger.rest()
            assert not any(isinstance(message, PeerWelcome) for message in heard)
            assert isinstance(heard[-1], Goodbye)
            assert (served.carriers, engine.connected, served.refused) == (set(), [], 1)

    run(main)


def test_who_says_nothing_has_some_seconds() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            served = Served(own_of(TWO), FakeEngine(), OFFERED, newest())
            stranger, began = Stranger(served, nursery), trio.current_time()
            [goodbye] = await stranger.rest()
            assert isinstance(goodbye, Goodbye)
            assert goodbye.error.code == "proof_late"
            assert PROOF_S <= trio.current_time() - began <= PROOF_S + 3

    run(main)


def test_a_link_that_breaks_loses_what_was_asked_and_is_made_again() -> None:
    async def main() -> None:
        async with two() as made:
            lane = await made.lane()
            async with trio.open_nursery() as nursery:
                lost: list[bool] = []

                async def wait() -> None:
                    try:
                        await lane.call("message.recv", t.Recv(wait_ms=60_000))
                    except Lost:
                        lost.append(True)

                nursery.start_soon(wait)
                await trio.sleep(1)
                for stream in made.road.streams:
                    stream.cut()
            assert lost == [True]
            assert lane.is_lost
            again = await made.lane()
            assert await again.call("agent.whoami", t.WhoAmI())

    run(main)


def test_a_relay_that_does_not_live_any_more_is_not_dialled() -> None:
    async def main() -> None:
        async with two() as made:
            made.living.remove(TWO)
            made.peers.look()
            await trio.sleep(0.1)
            dialled = made.road.dialled
            await trio.sleep(30)
            assert made.road.dialled == dialled
            assert made.peers.unreached == []
            with pytest.raises(ParlerError):
                await made.lane()

    run(main)


def test_a_new_process_of_a_relay_gets_a_link_of_its_own() -> None:
    async def main() -> None:
        async with two() as made:
            made.served._own = replace(made.served._own, incarnation="i3")
            made.living[1] = msgspec.structs.replace(TWO, incarnation="i3")
            made.peers.look()
            await trio.sleep(1)
            assert made.peers.unreached == []
            lane = await made.peers.open(made.living[1], daemon(), 1.0)
            assert await lane.call("agent.whoami", t.WhoAmI())

    run(main)
