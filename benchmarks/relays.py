"""A relay in a process of its own for the benchmarks, or several over one database, and homes that are enrolled there.

Not here: any figure. The relay listens on the loopback, with TLS. Its bounds are wide, because a benchmark brings more
links in a second than people do. Above: the scripts. Below: `relay`, used as its person uses it, and `parlerd.uplink`.
Invariant: as in `common`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import trio

from benchmarks import common
from parlerd.cli.demo_home import DemoHome
from parlerd.client import connect
from parlerd.connections.dial import WebSocketDialer
from parlerd.core import statements as st
from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, HomeId, Label, Millis, PrincipalId, RoomId
from parlerd.core.shards import shard_of
from parlerd.identity import codes, join_line
from parlerd.identity.delegation import issue
from parlerd.identity.keyring import KeyRing
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.identity.transcript import attach_bytes
from parlerd.operations import types as t
from parlerd.paths import Home, prepare, relay_home
from parlerd.uplink.connection import Keys, LinkConnection, connected
from parlerd.uplink.homes import Homes
from relay import place as places
from relay import seen, store_url
from tests.support.postgres import Database, serving, with_tables
from tests.tools.postgres.server import versions

WIDE: Final = """
[relay]
links = 100000
people = 100000
enrolments = 100000
unproven = 1000
unproven_per_address = 1000
rate = 100000
rate_per_address = 100000
"""
START_S: Final = 60.0
STOP_S: Final = 10.0
SETTLE_S: Final = 60.0
"""How long relays may take until each has its part of the rooms."""
TRIES: Final = 200
"""How many rooms are opened until one falls to a certain relay: of four relays each gets every fourth."""
_AT_ONCE: Final = 8
"""Links that are opened at the same time."""


@dataclass
class Relay:
    """A relay that runs."""

    made: DemoHome
    process: subprocess.Popen[bytes]
    id: HomeId
    url: str
    pin: str
    secret: bytes

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def home(self) -> Home:
        return relay_home(self.made.home)

    @asynccontextmanager
    async def link(self, keys: Keys, *, enrol: bool = False) -> AsyncIterator[LinkConnection]:
        """A link of somebody who has these keys."""
        async with (
            WebSocketDialer().dial(self.url) as stream,
            connected(
                stream,
                fits=partial(join_line.fits, self.pin),
                keys=keys,
                secret=self.secret if enrol else None,
                name=Label("bench"),
                now=now,
            ) as connection,
        ):
            yield connection

    def restart(self) -> None:
        """Run it again after its process ended."""
        self.process = _started(self.made)
        _status(self.made)


def now() -> Millis:
    return Millis(int(time.time() * 1000))


@contextlib.contextmanager
def running(place: Path | None = None, *, store: str = "", like: Relay | None = None) -> Iterator[Relay]:
    """A relay in a throw-away home. Its rooms are in the database at `store`, where one is named, and it is another
    relay of the same home as `like`."""
    with common.empty_home(place) as made:
        own = relay_home(made.home)
        prepare(own)
        own.settings.write_text(WIDE)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = int(sock.getsockname()[1])
        where = places.Place(name="bench", address="127.0.0.1", port=port)
        if store:
            store_url.keep(own, store)
            where = places.in_database(own, where)
        places.store(own, where)
        for file in like.home.keys.iterdir() if like is not None else ():
            copy = own.keys / file.name
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o600)
        process = _started(made)
        relay = None
        try:
            info = _status(made)
            relay = Relay(
                made,
                process,
                HomeId(info.home),
                info.url,
                join_line.parse(info.join_line).pin,
                codes.secret_bytes(Path(info.join_secret_file).read_text()),
            )
            yield relay
        finally:
            last = process if relay is None else relay.process
            last.terminate()
            try:
                last.wait(STOP_S)
            except subprocess.TimeoutExpired:
                last.kill()
                last.wait()


def _started(made: DemoHome) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "_parler", "relay", "--home", str(made.home.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


@dataclass(frozen=True)
class Cluster:
    """Relays of one home over one database."""

    relays: Sequence[Relay]
    database: Database

    def settle(self) -> None:
        """Wait until each relay has its part of the rooms and reaches the others."""
        deadline = time.monotonic() + SETTLE_S
        while not all(self._is_whole(_status(relay.made)) for relay in self.relays):
            if time.monotonic() > deadline:
                raise RuntimeError("the relays did not come to share the rooms")
            time.sleep(0.2)

    def _is_whole(self, info: t.RelayInfo) -> bool:
        return len(info.relays) == len(self.relays) and all(each.shards and each.reached for each in info.relays)

    def room_at(self, relay: Relay, owner: DemoHome, name: str, *others: tuple[DemoHome, str]) -> str:
        """Open a session as `name` whose room falls to this relay, with the others in it. Gives the room's id."""
        room, session_key = self.opened_at(relay, owner, name)
        _let_in(room, session_key, others)
        return room

    def opened_at(self, relay: Relay, owner: DemoHome, name: str) -> tuple[str, str]:
        """Open sessions as `name`, until the room of one falls to this relay. Gives the room and the key to it."""
        say = t.OpenSession(context="benchmark", topic="bench", max_uses=2_000, clear=True)
        with common.RawConnection(owner, as_name=name) as opener:
            for _ in range(TRIES):
                opened = opener.call("session.open", say)
                if self.owner_of(opened.room) is relay:
                    return opened.room, opened.session_key
        raise RuntimeError(f"none of {TRIES} rooms fell to the relay")

    def owner_of(self, room: str) -> Relay | None:
        """The relay that decides in a room now."""
        with psycopg.connect(self.database.superuser) as connection:
            row = connection.execute("SELECT relay FROM shards WHERE shard = %s", (shard_of(RoomId(room)),)).fetchone()
        named = None if row is None else row[0]
        return next((one for one in self.relays if (mark := seen.load(one.home)) and mark.relay == named), None)


@contextlib.contextmanager
def clusters(place: Path | None, *counts: int) -> Iterator[list[Cluster]]:
    """For each count a home of so many relays, with a database of its own at one server, whose files are on a disk."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(versions()[-1], on_disk=True, settings={"max_connections": "200"}))
        made = []
        for count in counts:
            database = stack.enter_context(server.database(with_tables))
            found: list[Relay] = []
            for _ in range(count):
                first = found[0] if found else None
                found.append(stack.enter_context(running(place, store=database.relay, like=first)))
            made.append(Cluster(found, database))
        for each in made:
            each.settle()
        yield made


def bare_send(readers: int, bursts: int) -> float:
    """Microseconds of processor time for one TLS send to one of so many readers (`peer_tls_send`)."""
    with tempfile.TemporaryDirectory() as folder:
        sender = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peer_tls_send", folder, str(readers), str(bursts)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sender.stdout is not None
        port = int(sender.stdout.readline())
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with selectors.DefaultSelector() as waiting, contextlib.ExitStack() as open_ends:
            for _ in range(readers):
                end = open_ends.enter_context(socket.create_connection(("127.0.0.1", port)))
                end = open_ends.enter_context(context.wrap_socket(end))
                end.setblocking(False)
                waiting.register(end, selectors.EVENT_READ)
            while waiting.get_map():
                for ready, _ in waiting.select():
                    assert isinstance(ready.fileobj, ssl.SSLSocket)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        while ready.fileobj.recv(65_536):
                            pass
                        waiting.unregister(ready.fileobj)
        found = float(sender.stdout.readline())
        sender.wait(STOP_S)
    return found


def _status(made: DemoHome) -> t.RelayInfo:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with connect(relay_home(made.home), start=False) as client:
                found = client.call("relay.status", t.RelayStatus())
        except ParlerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            assert isinstance(found, t.RelayInfo)
            return found


@contextlib.contextmanager
def home(relay: Relay, place: Path | None = None) -> Iterator[DemoHome]:
    """A throw-away home whose person is enrolled at the relay, with its daemon running. New sessions open at the
    relay."""
    with common.empty_home(place) as made:
        prepare(made.home)
        keys = KeyRing(made.home.keys)

        async def enrol() -> None:
            async with relay.link(keys, enrol=True) as connection:
                assert connection.home == relay.id

        # As `parler connect --relay` does, which only a person may run.
        trio.run(enrol)
        Homes(made.home.homes).add(relay.id, "bench", relay.url, relay.pin, default=True)
        common.start(made)
        yield made


def room_of(owner: DemoHome, name: str, *others: tuple[DemoHome, str], home: str = "", sealed: bool = False) -> str:
    """Open a session as `name`, at the relay or where `home` says, with the others in it. Gives the room's id."""
    with common.RawConnection(owner, as_name=name) as opener:
        opened = opener.call(
            "session.open",
            t.OpenSession(context="benchmark", topic="bench", home=home, max_uses=1_000, clear=not sealed),
        )
    _let_in(opened.room, opened.session_key, others)
    room: str = opened.room
    return room


def _let_in(room: str, session_key: str, others: Sequence[tuple[DemoHome, str]]) -> None:
    for made, who in others:
        with common.RawConnection(made, as_name=who) as joiner:
            joined = joiner.call("session.join", t.JoinSession(session_key=session_key))
            assert joined.status == "joined", joined.status
            joiner.call("message.commit", t.Commit(room=room, cursor=joined.cursor))


def send(sender: common.RawConnection, rooms: Sequence[str], depth: int, count: int) -> float:
    """Send so many messages, to one room after the other, with `depth` under way. Gives how many seconds it took until
    all were answered, each of them by the room's home."""
    under_way: deque[None] = deque()
    begun = time.perf_counter()
    for number in range(count):
        sender.send(sender.pack("message.send", t.Send(text=common.TEXT, room=rooms[number % len(rooms)])))
        under_way.append(None)
        if len(under_way) == depth:
            assert not sender.result(t.Sent).queued
            under_way.popleft()
    for _ in under_way:
        assert not sender.result(t.Sent).queued
    return time.perf_counter() - begun


@dataclass
class Person:
    """Somebody elsewhere, with one agent or several, who has nothing but a link."""

    count: int = 1
    key: SigningKey = field(default_factory=lambda: SigningKey("principal", os.urandom(32)))
    keys: dict[str, SigningKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(self.count):
            agent = SigningKey("agent", os.urandom(32))
            self.keys[agent.id] = agent

    @property
    def principal(self) -> PrincipalId:
        return PrincipalId(self.key.id)

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        return (self.key if id == self.key.id else self.keys[id]).sign(domain, data)

    async def attach(self, link: LinkConnection) -> None:
        attachments = []
        for agent in map(AgentId, self.keys):
            delegation, signed = issue(self, agent, now())
            signature = self.sign(agent, "parler/link", attach_bytes(link.channel, agent, self.principal))
            attachments.append(
                t.Attachment(agent=agent, delegation=delegation, delegation_signature=signed, signature=signature)
            )
        await link.call("link.attach", t.Attach(agents=tuple(attachments)))

    async def come_in(self, link: LinkConnection, session_key: str) -> str:
        """All agents join with a key that asks nobody. Gives the room."""
        room = ""
        for agent in map(AgentId, self.keys):
            room = await self._join(link, session_key, agent)
        return room

    async def _join(self, link: LinkConnection, session_key: str, agent: AgentId) -> str:
        found = await link.call("link.find", t.FindKey(session_key=session_key))
        assert isinstance(found, t.FoundKey)
        statement = st.encode(
            st.KnockStatement(
                home=HomeId(link.home),
                room=RoomId(found.room),
                ref=found.ref,
                agent=agent,
                principal=self.principal,
                name="sub",
                host="bench",
                at=now(),
                nonce=os.urandom(st.NONCE),
            )
        )
        signature = self.sign(agent, st.KnockStatement.TAG, statement)
        knock = t.KnockAtRoom(session_key=session_key, statement=statement, signature=signature)
        knocked = await link.call("link.knock", knock)
        assert isinstance(knocked, t.Knocked)
        assert knocked.status == "joined"
        return found.room


async def open_links(
    nursery: trio.Nursery,
    relay: Relay,
    count: int,
    *session_keys: str,
    agents: int = 1,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Open so many links, and keep them until the nursery ends. `heard` is called for each page of
    messages that one of them gets."""
    places = trio.Semaphore(_AT_ONCE)

    async def open_one() -> None:
        async with places:
            await nursery.start(_keep, relay, session_keys, agents, heard)

    async with trio.open_nursery() as opening:
        for _ in range(count):
            opening.start_soon(open_one)


async def _keep(
    relay: Relay,
    session_keys: Sequence[str],
    agents: int,
    heard: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """One link of somebody new, which follows the rooms that keys lead to."""
    person = Person(agents)
    async with relay.link(person, enrol=True) as link:
        await person.attach(link)
        rooms = tuple([t.Resume(room=await person.come_in(link, key)) for key in session_keys])
        async with link.stream("link.follow", t.FollowRooms(rooms=rooms)) as items:
            task_status.started()
            async for item in items:
                if isinstance(item, t.LinkItem) and item.page is not None:
                    heard()
