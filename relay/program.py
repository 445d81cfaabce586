"""The relay's program: builds the parts of one relay, puts them together, and takes them down in order. No rules here.

On the way up, the key, the people and the store are opened before anybody can connect. On the way down nobody is let in
any more, every daemon is told to come back, the rooms keep their snapshots and the store is closed. Above:
`relay.__main__`, which prepared the home and holds its lock. Below: every part.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from configs.hosts import recognised
from parlerd import __version__
from parlerd.connections.dial import WebSocketDialer
from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Millis, PrincipalId
from parlerd.engine.callers import Caller
from parlerd.engine.driver import Driver, ThreadDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.network_driver import NetworkDriver
from parlerd.engine.ports import NoSigners, SystemRandomness, WallClock
from parlerd.engine.shelf import ThreadBlobs
from parlerd.groups import unwrapped
from parlerd.identity import join_line
from parlerd.identity.relay_keys import RelayKeys
from parlerd.identity.signatures import Domain
from parlerd.listener import listening
from parlerd.logs import logging_to
from parlerd.paths import Home
from parlerd.settings import Settings, load_settings
from parlerd.store.blobs import DiskBlobs
from parlerd.store.sqlite import SqliteStore
from relay import link, turnstile
from relay import place as places
from relay.admin import Admin
from relay.backup import forget_unfinished
from relay.beats import Beats
from relay.control import RelayControl
from relay.counting import Counting
from relay.door import Door
from relay.enrolment import Enrolment, SharedSecret
from relay.gathering import Known
from relay.holding import Holding
from relay.leading import Leading
from relay.link import OFFERED, Links
from relay.metrics import CountingDriver, Metrics
from relay.network import Network, SystemNetwork, spelled
from relay.newest import Newest
from relay.peers import Self
from relay.place import Place
from relay.standing import Standing, listen
from relay.together import Together
from relay.voice import Voice
from relay.web import Face, application

log = logging.getLogger("relay")

_LOG_ID: Final = re.compile(rb"[0-9a-f]{32}\Z")
TOLD: Final = 16
"""How many addresses of relays a welcome has at most (`wire.link.LinkWelcome`); a daemon keeps four."""
AWAY_S: Final = 60.0
"""Within this time a relay that ends sends its daemons to the others. Source: scale spec, One owner a room."""
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
        forget_unfinished(home)
        clock = WallClock()
        settings = load_settings(home.settings)
        keys = RelayKeys(home.keys)
        kept = _database(home, keys) if place.store == "postgresql" else _file(home)
        voice = Voice(keys)

        async def main() -> None:
            stopping = trio.Event()
            driver = CountingDriver(kept.driver())
            async with (
                kept.served(),
                open_engine(
                    driver=driver,
                    blobs=ThreadBlobs(DiskBlobs(home.blobs, shared=kept.counting is not None)),
                    clock=clock,
                    random=SystemRandomness(),
                    keys=keys,
                    signers=NoSigners(),
                    settings=settings,
                    user="relay",
                    home_path=str(home.root),
                    copies=kept.copies,
                    socket=str(home.socket),
                    web=voice,
                    voice=voice,
                    owns=kept.holding,
                    counts=kept.counting,
                ) as engine,
            ):
                await _serve(
                    Parts(
                        home,
                        place,
                        keys,
                        Enrolment(home, engine.people, settings, shared=kept.secret, counts=kept.counting),
                        engine,
                        driver,
                        settings,
                        kept,
                        clock.now,
                        network or SystemNetwork(),
                        voice,
                    ),
                    listener,
                    stopping,
                )

        gc.freeze()
        try:
            trio.run(main)
        except ExceptionGroup as group:
            raise _coded(group) from None
        log.info("stopped")


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """A store in a file is this relay's alone by the lock of its folder, and there is nobody to leave."""
    yield


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the relay's rooms are kept. `shown` says where for people; `beats` are there for a database, which others
    may serve as well; `copy` writes a copy to a file, where the store is one."""

    driver: Callable[[], Driver]
    """Drives the store. Called once, inside the trio run."""
    log_id: str
    shown: str
    copies: Callable[[], list[str]]
    copy: Callable[[Path], None] | None = None
    beats: Beats | None = None
    holding: Holding | None = None
    counting: Counting | None = None
    """What is counted once for all relays, where there may be others."""
    secret: SharedSecret | None = None
    """The secret that enrols people, where other relays have it too."""
    served: Callable[[], AbstractAsyncContextManager[None]] = _alone
    """While the relay runs; entered before the store is driven, and left when that is closed."""


def _file(home: Home) -> Kept:
    """The file of the relay's folder."""
    log_id = _log_id(home.root / "log.id", is_new=not home.database.exists())
    store = SqliteStore(home.database, backups=home.backups)
    return Kept(
        driver=lambda: ThreadDriver(store),
        log_id=log_id,
        shown=str(home.database),
        copies=lambda: [str(path) for path in sorted(home.backups.glob("*.db"))],
        copy=store.copy,
    )


def _database(home: Home, keys: RelayKeys) -> Kept:
    """The database whose URL the relay's folder keeps. Raises `ParlerError`."""
    try:
        from relay import database
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise ParlerError("store_driver_missing") from None
    opened = database.open_database(home, keys.id, keys.mark())

    @asynccontextmanager
    async def served() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await opened.leave()

    return Kept(
        driver=lambda: NetworkDriver(opened.store, may_write=opened.beats.may_decide),
        log_id=opened.log_id,
        shown=opened.shown,
        copies=list,
        beats=opened.beats,
        holding=opened.holding,
        counting=opened.counting,
        secret=SharedSecret(opened.epoch, opened.renew, keys.join_secret),
        served=served,
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What one relay is made of."""

    home: Home
    place: Place
    keys: RelayKeys
    enrolment: Enrolment
    engine: Engine
    driver: CountingDriver
    settings: Settings
    kept: Kept
    now: Callable[[], Millis]
    network: Network
    voice: Voice


async def _serve(parts: Parts, listener: socket.socket, stopping: trio.Event) -> None:
    name = join_line.home_name(parts.place.name, parts.keys.id)
    settings, bearers = parts.settings, parts.engine.bearers
    together = _together(
        parts,
        lambda principal: links.end(principal),
        lambda is_so: links.cut_off(is_so),
        lambda caller: links.supersede(caller),
    )
    leading: Leading | None = None
    if together is None:
        web = Face(application(parts.engine, bearers, parts.keys.id, parts.home.root), bearers)
    else:
        known = Known(bearers, together.take_in)
        web = Face(application(together.gathering, known, parts.keys.id, parts.home.root), bearers)
        together.served.web = web
        leading = Leading(web, bearers, together.holding, together.peers, together.take_in, together.named)
    standing = Standing(
        parts.home,
        parts.place,
        parts.network,
        parts.now,
        limits=turnstile.Limits(
            unproven=settings.relay_unproven,
            unproven_of_one=settings.relay_unproven_per_address,
            rate=settings.relay_rate,
            rate_of_one=settings.relay_rate_per_address,
        ),
        is_ready=lambda: metrics.is_ready(),
        web=leading or web,
        counts=parts.kept.counting,
    )
    parts.voice.standing = standing

    def addresses() -> list[str]:
        return [*standing.addresses(), *(() if together is None else together.addresses())][:TOLD]

    links = Links(
        parts.engine if together is None else together.routing,
        parts.enrolment,
        Identity(parts.keys),
        # Each home makes its own name of this label and of the key that was proved.
        name=parts.place.name,
        log_id=parts.kept.log_id,
        addresses=addresses,
        now=parts.now,
        keep_up=trio.lowlevel.checkpoint if together is None else together.take_in,
        limits=link.Limits(
            links=settings.relay_links,
            links_of_one=settings.relay_links_per_person,
            bytes_under_way=settings.relay_bytes_under_way,
            calls_of_one_agent=settings.relay_calls_per_agent,
            bytes_of_one_agent=settings.relay_bytes_per_agent,
            calls_a_second=settings.relay_calls_per_second,
        ),
    )
    started_at = trio.current_time()
    metrics = Metrics(
        driver=parts.driver,
        links=links,
        enrolment=parts.enrolment,
        engine=parts.engine,
        unproven=lambda: standing.unproven,
        over_http=lambda: web.connections,
        has_address=lambda: bool(standing.addresses()),
        started_at=started_at,
        beats=parts.kept.beats,
        together=together,
    )
    control = RelayControl(
        home=parts.home,
        id=parts.keys.id,
        name=name,
        engine=parts.engine,
        enrolment=parts.enrolment,
        links=links,
        kept=parts.kept.shown,
        copy_store=parts.kept.copy,
        is_sound=lambda: metrics.is_sound(),
        addresses=standing.addresses,
        begin_stop=stopping.set,
        now=parts.now,
        started_at=started_at,
        together=together,
    )
    # What keeps the relay from serving at all shows here, before anybody is told that it runs.
    await standing.open()
    port = settings.relay_metrics_port
    # A door of its own: the page is for this machine alone, and whoever reads it speaks no TLS.
    page = Door(None, secured=lambda: None, pages={"/metrics": metrics.page}, is_ready=metrics.is_ready)
    listeners = await listen("127.0.0.1", port) if port else []
    inner, inner_listeners = await _inner(parts, standing, together)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, stopping)
        if (beats := parts.kept.beats) is not None:
            beats.address = lambda: next(iter(standing.addresses()), "")
        if beats is not None and together is not None and inner is not None:
            nursery.start_soon(inner.serve, inner_listeners)
            # The others hear where this relay listens, and rooms fall to it, before it serves anybody.
            await beats.beat()
            await nursery.start(together.run)
            nursery.start_soon(beats.run)
        if parts.kept.counting is not None:
            nursery.start_soon(parts.kept.counting.run)
        if leading is not None:
            nursery.start_soon(leading.run)
        nursery.start_soon(standing.serve, links)
        nursery.start_soon(parts.engine.count_kept)
        nursery.start_soon(parts.engine.share_kept)
        nursery.start_soon(parts.engine.keep_shelf)
        if listeners:
            nursery.start_soon(page.serve, listeners)
        nursery.start_soon(Admin(control, recognised()).serve, listener)
        log.info("serving %s, version %s, pid %d", parts.home.root, __version__, os.getpid())
        await stopping.wait()
        log.info("stopping")
        if together is not None:
            if beats is not None:
                beats.inner = ""
            # Who comes from now on finds the rooms at relays that stay.
            await together.holding.drain()
            if len(together.holding.living) > 1:
                await links.send_away(AWAY_S)
        await parts.engine.drain()
        await standing.drain(links)
        if inner is not None:
            await inner.drain()
        nursery.cancel_scope.cancel()


def _together(
    parts: Parts,
    gone: Callable[[PrincipalId], None],
    cut_off: Callable[[bool], None],
    superseded: Callable[[Caller], None],
) -> Together | None:
    """What makes this relay one of several; None where its rooms are in a file."""
    holding, beats, counting = parts.kept.holding, parts.kept.beats, parts.kept.counting
    if holding is None or beats is None or counting is None:
        return None
    own = Self(Identity(parts.keys), beats.row.relay, beats.row.incarnation)
    return Together(
        parts.engine,
        holding,
        own,
        WebSocketDialer(),
        OFFERED,
        Newest(counting),
        gone=gone,
        epoch=parts.enrolment.begun,
        cut_off=cut_off,
        superseded=superseded,
    )


async def _inner(
    parts: Parts, standing: Standing, together: Together | None
) -> tuple[Door | None, list[trio.SocketListener]]:
    """The door for the other relays, and where it listens, which they are told. Raises `ParlerError`: `no_address`,
    `port_taken`."""
    beats, settings = parts.kept.beats, parts.settings
    if together is None or beats is None:
        return None, []
    address = settings.relay_inner_address or places.resolve(parts.network, parts.place)
    listeners = await listen(address, settings.relay_inner_port)
    beats.inner = spelled(address, listeners[0].socket.getsockname()[1])
    return Door(together.served, secured=standing.secured), listeners


def _log_id(path: Path, *, is_new: bool) -> str:
    """Which log this relay keeps: drawn once, and another one where there is no store from before, so that daemons know
    that their rooms are not there any more."""
    if is_new:
        path.unlink(missing_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
            file.flush()
            os.fsync(descriptor)
    found = path.read_bytes()
    if _LOG_ID.match(found) is None:
        raise ParlerError(
            "invalid_settings",
            f"{path} does not hold the name of this relay's log.",
            hint="Bring it back from a backup. Without it the relay takes a new name, and on the machines of all its "
            "people its rooms become archives.",
        )
    return found.decode("ascii")


async def _stop_on_signal(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stopping.set()


def _coded(error: Exception) -> Exception:
    """What went wrong, out of the nurseries that it passed: with a code it is an answer, and not a crash."""
    found = unwrapped(error)
    return found if isinstance(found, ParlerError) else error
