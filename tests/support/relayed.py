"""Homes of several people and a relay between them, in one process and under virtual time, over links in memory.

`Relay` and `Home` are what stays when their programs go: a store, keys, a clock. `async with relay.serving()` and
`async with home.serving()` run them, and a second time is a restart. `Wires` stands between: it hands out streams, cuts
them, and lets the relay be away. Verified by `tests/uplink/test_relayed.py`, where the same story is told through it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, KeyId, Label, PrincipalId, RequestId, RoomId, slug
from parlerd.engine.driver import Driver, InlineDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.face import EngineFace
from parlerd.engine.ports import NoSigners
from parlerd.engine.shelf import InlineBlobs
from parlerd.identity import codes
from parlerd.identity.notes import signed_note
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Store
from parlerd.uplink.homes import Homes
from parlerd.uplink.uplinks import Uplinks
from relay.link import Links
from tests.support.engine import CountedKeys, CountedRandomness, HandClock, Served, SteppedClock, World
from tests.support.memory_blobs import MemoryBlobs
from tests.support.message_streams import MemoryStream, pair
from tests.support.signatures import key_of

SECRET: Final = b"s" * 16
ADDRESS: Final = "wss://192.0.2.7:7777"
CERTIFICATE: Final = hashlib.sha256(b"certificate").digest()


def copied(store: Store) -> MemoryStore:
    """A copy of a store in memory as it is now. Facts and rows never change, so both hold the same ones."""
    assert isinstance(store, MemoryStore)
    copy_of = MemoryStore(random_bytes=store._random)
    copy_of._logs = {
        room: replace(log, facts=list(log.facts), bodies=dict(log.bodies), counts=copy.deepcopy(log.counts))
        for room, log in store._logs.items()
    }
    for projection, table in copy_of.index._tables.items():
        source = store.index._tables[projection]
        table.rows = dict(source.rows)
        table._together = {
            columns: {values: list(rows) for values, rows in found.items()}
            for columns, found in source._together.items()
        }
    copy_of._marks = {key: list(marks) for key, marks in store._marks.items()}
    copy_of._cursors = dict(store._cursors)
    copy_of._leases = dict(store._leases)
    copy_of._outbox = dict(store._outbox)
    copy_of._renewals = dict(store._renewals)
    copy_of._sealing_keys = dict(store._sealing_keys)
    copy_of._epoch_secrets = dict(store._epoch_secrets)
    copy_of._made_records = dict(store._made_records)
    copy_of._snapshots = dict(store._snapshots)
    return copy_of


class NamedKeys(CountedKeys):
    """The keys of one of several people: no two have one key."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def _create(self, kind: Any) -> str:
        key = key_of(kind, f"{self._name} {len(self._keys)}")
        self._keys[key.id] = key
        return key.id

    def copied(self) -> NamedKeys:
        """The same keys, in a ring that gets others from now on."""
        copied = copy.copy(self)
        copied._keys = dict(self._keys)
        return copied

    def opening_secret(self, owner: Any, idempotency_key: str) -> bytes:
        return hashlib.sha256(f"{self._name} {owner} {idempotency_key}".encode()).digest()

    def session_key(self, room: RoomId, length: int, invite: str = "") -> str:
        return codes.spell(hashlib.sha256(f"{self._name} {length} {room}{invite}".encode()).digest(), length)

    def join_code(self, request: RequestId) -> str:
        return codes.spell(hashlib.sha256(f"{self._name} join {request}".encode()).digest(), 4)

    def key_id(self, session_key: str) -> KeyId:
        return KeyId(hashlib.sha256(f"{self._name} {codes.normalise(session_key)}".encode()).hexdigest())


class NamedRandomness(CountedRandomness):
    """The ids and bytes of one of several homes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def new(self, prefix: str) -> str:
        self.ids += 1
        return f"{prefix}_{self._name}{self.ids:08d}"

    def bytes(self, count: int) -> bytes:
        self.draws += 1
        return hashlib.shake_256(f"{self._name} {self.draws}".encode()).digest(count)


class RelayKeys(NamedKeys):
    """A relay's own key and secrets; it has nobody else's."""

    def __init__(self, name: str = "relay") -> None:
        super().__init__(name)
        self._own = SigningKey("relay", hashlib.sha256(f"the {name}".encode()).digest())

    @property
    def id(self) -> HomeId:
        return HomeId(self._own.id)

    home = id

    def sign_note(self, text: str) -> str:
        return signed_note(self._own, text)

    address = "192.0.2.7:7777"
    authority = ""

    def admit(self, body: bytes) -> bytes:
        return self._own.sign("parler/admitted", body)

    def admit_room(self, body: bytes) -> bytes:
        return self._own.sign("parler/opened", body)

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        assert id == self._own.id
        return self._own.sign(domain, data)


@dataclass
class Book:
    """Whom the relay knows."""

    enrolled: set[PrincipalId] = field(default_factory=set)
    kicked: set[PrincipalId] = field(default_factory=set)

    def is_enrolled(self, principal: PrincipalId) -> bool:
        return principal in self.enrolled

    def is_kicked(self, principal: PrincipalId) -> bool:
        return principal in self.kicked

    def secret(self) -> bytes:
        return SECRET

    async def enrol(self, principal: PrincipalId, name: Label) -> None:
        self.enrolled.add(principal)
        self.kicked.discard(principal)
        await trio.lowlevel.checkpoint()


class Wires:
    """What lies between daemons and the relay. A dialer for each home is `wires.dialer`."""

    def __init__(self) -> None:
        self.links: Links | None = None
        """The relay's end, while the relay runs."""
        self.nursery: trio.Nursery | None = None
        self.open: list[tuple[MemoryStream, MemoryStream]] = []
        """The streams that were handed out: the daemon's end, the relay's end."""
        self.is_cut = False
        """Whether nobody reaches the relay."""
        self.is_silent = False
        """Whether whoever dials is accepted by somebody who says nothing."""
        self.away: set[str] = set()
        """The homes that do not reach it."""
        self.dialled = 0
        self.addresses: list[str] = []
        """The addresses that were dialled, in order."""
        self._of: dict[MemoryStream, str] = {}
        """Whose end a stream is."""

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MemoryStream]:
        self.dialled += 1
        self.addresses.append(address)
        await trio.lowlevel.checkpoint()
        if self.links is None or self.nursery is None or self.is_cut or home in self.away:
            raise ParlerError("home_unreachable")
        ours, theirs = pair(CERTIFICATE)
        both = ours, theirs
        self.open.append(both)
        self._of[ours] = home
        if not self.is_silent:
            self.nursery.start_soon(self.links.serve, theirs)
        try:
            yield ours
        finally:
            self.open.remove(both)
            del self._of[ours]
            with trio.CancelScope(shield=True):
                await ours.close()

    def cut(self) -> None:
        """The cable is cut: every link breaks off, and no new one comes about."""
        self.is_cut = True
        for ours, _ in list(self.open):
            ours.cut()

    def mend(self) -> None:
        self.is_cut = False

    def cut_off(self, home: str) -> None:
        """One home's cable is cut."""
        self.away.add(home)
        for ours, _ in list(self.open):
            if self._of[ours] == home:
                ours.cut()

    def bring_back(self, home: str) -> None:
        self.away.discard(home)


@dataclass
class Wire:
    """The way of one home to the relay."""

    wires: Wires
    home: str

    def dial(self, address: str) -> AbstractAsyncContextManager[MemoryStream]:
        return self.wires.dial(address, self.home)


@dataclass
class Relay:
    """A relay: what stays when its program goes."""

    wires: Wires
    store: Store = field(default_factory=MemoryStore)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    keys: RelayKeys = field(default_factory=RelayKeys)
    random: CountedRandomness = field(default_factory=partial(NamedRandomness, "relay"))
    clock: HandClock = field(default_factory=SteppedClock)
    book: Book = field(default_factory=Book)
    driver: Callable[[Store], Driver] = InlineDriver
    log_id: str = "log1"
    settings: Settings = field(default_factory=Settings)
    face: Callable[[Engine], EngineFace] = lambda engine: engine
    """What the links come to: the engine, or somebody who stands before it."""

    def copied(self) -> MemoryStore:
        """A copy of the store as it is now, as a backup holds it."""
        return copied(self.store)

    def begin_anew(self) -> None:
        """The disk is lost, and the relay keeps another log under its old key."""
        self.store, self.log_id = MemoryStore(), "log2"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Engine]:
        async with (
            open_engine(
                driver=self.driver(self.store),
                blobs=InlineBlobs(self.blobs),
                clock=self.clock,
                random=self.random,
                keys=self.keys,
                signers=NoSigners(),
                settings=self.settings,
                user="relay",
                voice=self.keys,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            self.wires.links = Links(
                self.face(engine),
                self.book,
                self.keys,
                name="team",
                log_id=self.log_id,
                now=self.clock.now,
                random_bytes=self.random.bytes,
            )
            self.wires.nursery = nursery
            try:
                yield engine
            finally:
                links, self.wires.links, self.wires.nursery = self.wires.links, None, None
                with trio.CancelScope(shield=True):
                    await links.drain(1.0)
                nursery.cancel_scope.cancel()


class Home:
    """The home of one person, who added the relay: what stays when the daemon goes."""

    def __init__(self, name: str, relay: Relay, folder: Path, keys: NamedKeys | None = None) -> None:
        self.name = name
        self.relay = relay
        self.keys = keys or NamedKeys(name)
        self.world = World(keys=self.keys, random=NamedRandomness(name), clock=relay.clock, driver=InlineDriver)
        self.uplinks: Uplinks
        """The links of the daemon that runs."""
        self.file = folder / f"{name}.json"
        """Which relays it knows."""
        relay.book.enrolled.add(self.world.keys.principal)
        Homes(self.file).add(relay.keys.id, "team", ADDRESS, relay.keys.id, default=True)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Served]:
        world = self.world
        self.uplinks = uplinks = Uplinks(
            Homes(self.file), Wire(self.relay.wires, self.name), world.keys, called=slug(self.name, fallback="home")
        )
        async with (
            open_engine(
                driver=(driver := world.driver(world.store)),
                blobs=InlineBlobs(world.blobs),
                clock=world.clock,
                random=world.random,
                keys=world.keys,
                signers=world.keys,
                settings=world.settings,
                user=self.name,
                lineage=world.lineage,
                home_book=uplinks,
                homes=uplinks,
                web=world.web,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            world.home_book = uplinks
            await nursery.start(uplinks.run, engine.desk)
            yield Served(world, engine, driver)
            nursery.cancel_scope.cancel()


def homes_of(folder: Path) -> tuple[Wires, Relay, Callable[[str], Home]]:
    """A relay, what lies before it, and a way to make homes that know it."""
    wires = Wires()
    relay = Relay(wires)
    return wires, relay, lambda name: Home(name, relay, folder)
