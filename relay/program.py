"""The relay's program: builds the parts of one relay, puts them together, and takes them down in order. No rules here.

On the way up, the key, the people and the store are opened before anybody can connect. While it runs, it looks whether
its address is still this machine's and whether its certificate is due; a new address gets a new door over the same
links. On the way down nobody is let in any more, every daemon is told to come back, the rooms keep their snapshots and
the store is closed. Above: `relay.__main__`, which prepared the home and holds its lock. Below: every part.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from configs.hosts import recognised
from parlerd import __version__
from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Millis
from parlerd.engine.driver import ThreadDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.ports import NoSigners, SystemRandomness, WallClock
from parlerd.groups import unwrapped
from parlerd.identity import join_line
from parlerd.identity.relay_keys import RelayKeys
from parlerd.identity.signatures import Domain
from parlerd.listener import listening
from parlerd.logs import logging_to
from parlerd.paths import Home
from parlerd.settings import load_settings
from parlerd.store.sqlite import SqliteStore
from relay import certificate as certificates
from relay import place as places
from relay.admin import Admin
from relay.control import RelayControl
from relay.door import Door, Secured
from relay.enrolment import Enrolment
from relay.link import Links
from relay.network import Network, SystemNetwork, spelled
from relay.place import Place

log = logging.getLogger("relay")

LOOK_S: Final = 30.0
"""How often the relay looks whether its address is still there and its certificate due."""
SWITCH_INTERVAL: Final = 0.001
"""As for the daemon: how many seconds a thread may keep the interpreter while another asks for it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The relay's key, as links ask for it."""

    keys: RelayKeys

    @property
    def home(self) -> HomeId:
        return self.keys.id

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        assert id == self.keys.id
        return self.keys.sign(domain, data)


def run(home: Home, *, network: Network | None = None) -> None:
    """Serve the relay whose own home this is until asked to stop. The caller prepared the home and holds its lock.

    Raises `ParlerError` if it cannot be served at all.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    with logging_to(home.log), listening(home, is_locked=True) as listener:
        place = places.load(home)
        if place is None:
            raise ParlerError("relay_not_running", "Nobody said where this relay listens.")
        clock = WallClock()
        settings = load_settings(home.settings)
        keys = RelayKeys(home.keys)
        enrolment = Enrolment(home, clock.now)
        store = SqliteStore(home.database, backups=home.backups)

        async def main() -> None:
            stopping = trio.Event()
            async with open_engine(
                driver=ThreadDriver(store),
                clock=clock,
                random=SystemRandomness(),
                keys=keys,
                signers=NoSigners(),
                settings=settings,
                user="relay",
                home_path=str(home.root),
                socket=str(home.socket),
            ) as engine:
                await _serve(
                    Parts(home, place, keys, enrolment, engine, store, clock.now, network or SystemNetwork()),
                    listener,
                    stopping,
                )

        gc.freeze()
        try:
            trio.run(main)
        except ExceptionGroup as group:
            raise _coded(group) from None
        log.info("stopped")


@dataclass(frozen=True, slots=True)
class Parts:
    """What one relay is made of."""

    home: Home
    place: Place
    keys: RelayKeys
    enrolment: Enrolment
    engine: Engine
    store: SqliteStore
    now: Callable[[], Millis]
    network: Network


async def _serve(parts: Parts, listener: socket.socket, stopping: trio.Event) -> None:
    name = join_line.home_name(parts.place.name, parts.keys.id)
    standing = _Standing(parts)
    links = Links(
        parts.engine,
        parts.enrolment,
        Identity(parts.keys),
        name=name,
        log_id=_log_id(parts.home.root / "log.id"),
        addresses=standing.urls,
        now=parts.now,
    )
    control = RelayControl(
        home=parts.home,
        id=parts.keys.id,
        name=name,
        engine=parts.engine,
        enrolment=parts.enrolment,
        links=links,
        copy_store=parts.store.copy,
        addresses=standing.addresses,
        begin_stop=stopping.set,
        now=parts.now,
        started_at=trio.current_time(),
    )
    # What keeps the relay from serving at all shows here, before anybody is told that it runs.
    await standing.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, stopping)
        nursery.start_soon(standing.serve, links)
        nursery.start_soon(Admin(control, recognised()).serve, listener)
        log.info("serving %s, version %s, pid %d", parts.home.root, __version__, os.getpid())
        await stopping.wait()
        log.info("stopping")
        await parts.engine.drain()
        await standing.drain(links)
        nursery.cancel_scope.cancel()


class _Standing:
    """Where the relay stands now: its address, its certificate and its door, which change while it runs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._address = ""
        """The address that the relay listens at; empty while this machine has none for it."""
        self._listeners: list[trio.SocketListener] = []
        self._certificate: certificates.Certificate | None = None
        self._secured: Secured | None = None
        self._door: Door | None = None
        """Takes connections in at the address; None while there is none."""

    def addresses(self) -> list[str]:
        return [spelled(self._address, self._parts.place.port)] if self._address else []

    def urls(self) -> list[str]:
        return [f"wss://{address}" for address in self.addresses()]

    async def open(self) -> None:
        """Listen at the address of this moment. Raises `ParlerError`: `no_address`, `port_taken`."""
        address = places.resolve(self._parts.network, self._parts.place)
        self._certify(address)
        self._listeners = await _listen(address, self._parts.place.port)
        self._address = address

    async def serve(self, links: Links) -> None:
        """Serve at the address, and at another one when it changes, until cancelled or drained."""
        while True:
            self._door = Door(links, secured=lambda: self._secured)
            with trio.CancelScope() as moved:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, moved)
                    await self._door.serve(self._listeners)
                    return  # drained
            log.warning("the address is another one now")
            self._address, self._door = "", None
            while not self._address:
                await trio.sleep(LOOK_S)
                with suppress(ParlerError):
                    await self.open()

    async def drain(self, links: Links) -> None:
        if self._door is not None:
            await self._door.drain()
        else:
            await links.drain()

    async def _watch(self, moved: trio.CancelScope) -> None:
        while True:
            await trio.sleep(LOOK_S)
            try:
                now = places.resolve(self._parts.network, self._parts.place)
            except ParlerError:
                now = ""
            if now != self._address:
                moved.cancel()
                return
            if self._certificate is not None and self._parts.now() >= self._certificate.renew_at:
                self._certify(now)

    def _certify(self, address: str) -> None:
        made = certificates.keep(self._parts.home.root / "tls", {address, "127.0.0.1"}, self._parts.now())
        self._certificate = made
        self._secured = Secured(made.context(), made.digest)


async def _listen(address: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ParlerError("port_taken", f"Another program has the port {spelled(address, port)}.") from None
        if error.errno == errno.EACCES:
            raise ParlerError("port_taken", f"This user may not listen on port {port}.") from None
        raise ParlerError("no_address", f"{address} cannot be used: {error.strerror}.") from error


def _log_id(path: Path) -> str:
    """Which log this relay keeps: drawn once, and another one in a home that was made anew."""
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
            file.flush()
            os.fsync(descriptor)
    return path.read_text(encoding="ascii").strip()


async def _stop_on_signal(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stopping.set()


def _coded(error: Exception) -> Exception:
    """What went wrong, out of the nurseries that it passed: with a code it is an answer, and not a crash."""
    found = unwrapped(error)
    return found if isinstance(found, ParlerError) else error
