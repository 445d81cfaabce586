"""Three relays over one database server, each a process: one is killed, and the people in its rooms go on."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio

from parlerd.connections.dial import WebSocketDialer
from parlerd.connections.stream import MessageStream
from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Label, Millis, RoomId
from parlerd.core.shards import shard_of
from parlerd.engine.throttle import CALLER_BURST, CALLER_PER_SECOND
from parlerd.identity import codes, join_line
from parlerd.operations import types as t
from parlerd.uplink.connection import LinkConnection, connected
from relay import place as places
from relay import seen as seen_file
from relay import store_url
from tests.relay.test_program import PATIENCE_S, Running, until
from tests.support import homes
from tests.support import postgres as pg
from tests.support.engine import Party, SteppedClock, texts
from tests.support.postgres import Database
from tests.support.relayed import ADDRESS, Book, Home, Relay, Wires
from tests.support.team import free_port
from tests.support.wire_client import short_home

pytestmark = pytest.mark.e2e

ANSWERS_WITHIN_S = 15.0
"""Source: scale spec, How it is proved."""


class _Wall(SteppedClock):
    def now(self) -> Millis:
        return Millis(int(time.time() * 1000))


class _Roads(Wires):
    """Leads a daemon to the relay at `first`, and wherever relays say that they are."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self._first = first

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MessageStream]:  # type: ignore[override]
        async with WebSocketDialer().dial(self._first if address.startswith(ADDRESS) else address) as stream:
            yield stream


class _Keys:
    def __init__(self, id: HomeId) -> None:
        self.id = id


class Relays:
    """The relays, which have one key."""

    def __init__(self, stack: ExitStack, database: Database, count: int) -> None:
        self.database = database
        self.all: list[Running] = []
        for number in range(count):
            made = Running(stack.enter_context(short_home()), free_port())
            place = places.load(made.relay)
            assert place is not None
            store_url.keep(made.relay, database.relay)
            places.store(made.relay, places.in_database(made.relay, place))
            if number:
                for file in self.all[0].relay.keys.iterdir():
                    (made.relay.keys / file.name).write_bytes(file.read_bytes())
                    (made.relay.keys / file.name).chmod(0o600)
            stack.callback(self._end, made)
            self.info = made.up()
            self.all.append(made)

    @staticmethod
    def _end(running: Running) -> None:
        if running.process is not None:
            running.process.kill()
            running.process.wait(PATIENCE_S)

    def settled(self) -> bool | None:
        """Whether each relay has its part, and reaches the others."""
        found = self.all[0].status()
        return (
            found is not None
            and len(found.relays) == len(self.all)
            and all(r.shards and r.reached for r in found.relays)
        ) or None

    def owner_of(self, room: RoomId) -> Running | None:
        with psycopg.connect(self.database.superuser) as connection:
            row = connection.execute("SELECT relay FROM shards WHERE shard = %s", (shard_of(room),)).fetchone()
        assert row is not None
        return next((each for each in self.all if self._id(each) == row[0]), None)

    def _id(self, running: Running) -> str:
        seen = seen_file.load(running.relay)
        return "" if seen is None else seen.relay


async def enrolled(relays: Relays, at: Running, name: str, folder: Path) -> Home:
    """The home of a person who is enrolled, whose daemon begins at this relay."""
    first = f"wss://127.0.0.1:{at.port}/"
    relay = Relay(_Roads(first), clock=_Wall(), book=Book())
    relay.keys = _Keys(HomeId(relays.info.home))  # type: ignore[assignment]
    home = Home(name, relay, folder)
    secret = codes.secret_bytes(await trio.Path(relays.info.join_secret_file).read_text())
    async with (
        WebSocketDialer().dial(first) as stream,
        connected(
            stream,
            fits=partial(join_line.fits, relays.info.fingerprint.upper()),
            keys=home.keys,
            secret=secret,
            name=Label(name),
            now=relay.clock.now,
        ) as link,
    ):
        # Daemons learn here where the other relays are.
        assert len(link.welcome.addresses) == len(relays.all)
    return home


async def heard(who: Party, wanted: str) -> float:
    """Wait until somebody hears this; how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        page = await who.recv(wait=2)
        await who.commit(page)
        if wanted in texts(page):
            break
    return time.monotonic() - began


@asynccontextmanager
async def linked(
    home: Home, at: Running, info: t.RelayInfo, secret: bytes | None = None
) -> AsyncIterator[tuple[LinkConnection, MessageStream]]:
    """One more link of a person's daemon, to this relay, with its stream."""
    async with (
        WebSocketDialer().dial(f"wss://127.0.0.1:{at.port}/") as stream,
        connected(
            stream,
            fits=partial(join_line.fits, info.fingerprint.upper()),
            keys=home.keys,
            secret=secret,
            name=Label(home.name),
            now=home.world.clock.now,
        ) as link,
    ):
        yield link, stream


@pytest.fixture(params=pg.majors(), ids=lambda version: f"postgres-{version.major if version else 'missing'}")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with pg.serving(request.param) as server, server.database(pg.with_tables) as found:
        yield found


def test_a_relay_is_killed_and_its_rooms_answer_at_another(database: Database, tmp_path: Path) -> None:
    with ExitStack() as stack:
        relays = Relays(stack, database, 3)
        until(relays.settled, "three relays that share the rooms")
        first, second, third = relays.all

        async def main() -> None:
            ann_home = await enrolled(relays, first, "ann", tmp_path)
            ben_home = await enrolled(relays, second, "ben", tmp_path)
            async with ann_home.serving() as ann, ben_home.serving() as ben:
                alice, bob = await ann.agent("alice"), await ben.agent("bob")
                opened = await alice.open("a room", "hello", clear=True)
                while relays.owner_of(RoomId(opened.room)) is not third:
                    opened = await alice.open("another room", "hello", clear=True)
                waits = await bob.join(opened.session_key)
                person = await ann.person()
                # The request is on its way to the owner's daemon.
                await homes.until(person.requests)
                await person.approve("bob", join_code=waits.join_code)
                assert (await bob.join(opened.session_key, wait=PATIENCE_S)).status == "joined"
                await alice.send("before")
                assert await heard(bob, "before") < PATIENCE_S

                assert third.process is not None
                third.process.kill()
                killed_at = time.monotonic()
                await alice.send("after the relay of the room died")
                await heard(bob, "after the relay of the room died")
                assert time.monotonic() - killed_at < ANSWERS_WITHIN_S

                assert first.process is not None
                first.process.kill()
                await alice.send("after the relay of the daemon died")
                assert await heard(bob, "after the relay of the daemon died") < PATIENCE_S
                await bob.send("yes")
                assert await heard(alice, "yes") < PATIENCE_S

                history = await bob.ask("message.recv", t.Recv(all=True, limit=100), t.Received)
                assert len(set(texts(history))) == len(texts(history))

        trio.run(main)


@pytest.mark.parametrize("stands_still", [False, True], ids=["both run", "the older relay stands still"])
def test_of_two_links_of_a_daemon_at_two_relays_the_newer_one_stays(
    database: Database, tmp_path: Path, stands_still: bool
) -> None:
    with ExitStack() as stack:
        relays = Relays(stack, database, 2)
        until(relays.settled, "two relays that share the rooms")
        first, second = relays.all
        process = first.process
        assert process is not None

        async def main() -> None:
            home = await enrolled(relays, first, "ann", tmp_path)
            nobody = t.Attach(agents=())
            async with linked(home, first, relays.info) as (older, stream):
                await older.call("link.attach", nobody)
                if stands_still:
                    process.send_signal(signal.SIGSTOP)
                async with linked(home, second, relays.info) as (newer, _), trio.open_nursery() as nursery:
                    nursery.start_soon(newer.call, "link.attach", nobody)
                    if stands_still:
                        # Not so long that the others take the relay for dead: then it would send everybody away.
                        await trio.sleep(2)
                        assert older.lost is None
                        process.send_signal(signal.SIGCONT)
                    with trio.fail_after(PATIENCE_S):
                        await older.closed.wait()
                    assert older.lost is not None
                    assert older.lost.code == "draining"
                    with trio.fail_after(PATIENCE_S):
                        while stream.close_code is None:
                            await stream.receive()
                    assert stream.close_code == 1012
                    await trio.sleep(3)
                    assert newer.lost is None

        trio.run(main)


def test_wrong_join_secrets_at_two_relays_are_of_one_budget(database: Database, tmp_path: Path) -> None:
    with ExitStack() as stack:
        relays = Relays(stack, database, 2)
        until(relays.settled, "two relays that share the rooms")

        async def guess(at: Running, number: int) -> str:
            home = Home(f"guest {number}", Relay(_Roads("wss://127.0.0.1:1/"), clock=_Wall(), book=Book()), tmp_path)
            with pytest.raises(ParlerError) as refused:
                async with linked(home, at, relays.info, secret=bytes(16)):
                    pytest.fail("the secret was none")
            return refused.value.code

        async def main() -> None:
            began = time.monotonic()
            codes = [await guess(relays.all[number % 2], number) for number in range(int(CALLER_BURST) + 6)]
            came_back = int((time.monotonic() - began) * CALLER_PER_SECOND) + 1
            assert set(codes) == {"wrong_secret", "throttled"}
            assert CALLER_BURST <= codes.count("wrong_secret") <= CALLER_BURST + came_back

        trio.run(main)
