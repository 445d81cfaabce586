"""The daemon: builds the parts of one home, puts them together, and takes them down in order. No rules live here.

Order matters. On the way up, directories are checked before anything is opened, the lock is held before the database is
touched, and the socket is served before the MCP face is imported; the MCP library is loaded when a window first needs
it. On the way down, no new call is taken, waits are answered, rooms keep their snapshots, the store is closed, and last
the socket and the lock are given up. Above: `parlerd.__main__`. Below: every part.
"""

from __future__ import annotations

import contextlib
import gc
import getpass
import importlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from configs.hosts import HOSTS, recognised
from configs.model import first
from configs.sight import watched
from configs.watch import HostFiles, Watcher
from mcp_server.stdio import COPIES
from parlerd import __version__, floor, process
from parlerd.core.errors import ParlerError
from parlerd.core.model import PrincipalId, slug
from parlerd.engine.callers import Caller
from parlerd.engine.driver import ThreadDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.ports import SystemRandomness, WallClock
from parlerd.engine.shelf import ThreadBlobs
from parlerd.groups import unwrapped
from parlerd.identity.keyring import KeyRing
from parlerd.ipc import credentials, workspace
from parlerd.ipc.host import Say
from parlerd.ipc.recorder import Recorder
from parlerd.ipc.server import Server
from parlerd.listener import listening, standing
from parlerd.logs import logging_to
from parlerd.paths import Home, home_from
from parlerd.settings import Era, Settings, load_settings
from parlerd.store.blobs import DiskBlobs
from parlerd.store.sqlite import SqliteStore
from parlerd.uplink.homes import Homes
from parlerd.uplink.uplinks import Uplinks
from parlerd.wire.messages import Hello

if TYPE_CHECKING:
    from mcp_server.session import McpHost
    from mcp_server.sighting import Lookouts
    from parlerd.connections.stream import MessageStream
    from parlerd.sight.port import Sight
    from parlerd.web.local import LocalDoor

log = logging.getLogger("parlerd")

LOOK_S: Final = 1.0
"""How often the daemon looks whether it can still be found. The three looks at the file system take some 10
microseconds."""
SWITCH_INTERVAL: Final = 0.001
"""How many seconds a thread may keep the interpreter while another asks for it. The writer's thread asks once for each
statement. With Python's own 5 ms it would wait that long for each while the loop is busy (see
benchmarks/durable_sends.py)."""


def run(home: Home, *, below_agent: bool = False) -> None:
    """Serve `home` until asked to stop. The caller prepared the home and holds its lock.

    `below_agent` says that an agent host is among the processes that started this one; the function also looks for one
    itself. Such a daemon approves at least as strictly as the last one. Raises `ParlerError` if the home cannot be
    served at all.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    hosts = recognised()
    below_agent = below_agent or _is_below_agent(hosts)
    with logging_to(home.log), listening(home, is_locked=True) as listener:
        settings = floor.held(home, load_settings(home.settings), below_agent=below_agent)
        keys = KeyRing(home.keys)
        store = SqliteStore(home.database, backups=home.backups)
        _refresh_shim(home, settings.mcp_era)
        records = _Records(home)
        watcher = Watcher(HostFiles(home), looked=records.changed)
        recorder = Recorder()
        user = _user()
        web = _LateWeb(home.root)
        uplinks = Uplinks(Homes(home.homes), _LateDialer(), keys, called=slug(user, fallback="someone"))

        async def main() -> None:
            stopping = trio.Event()
            async with open_engine(
                driver=ThreadDriver(store),
                blobs=ThreadBlobs(DiskBlobs(home.blobs)),
                clock=WallClock(),
                random=SystemRandomness(),
                keys=keys,
                signers=keys,
                settings=settings,
                settings_now=lambda: load_settings(home.settings),
                user=user,
                home_path=str(home.root),
                copies=lambda: [str(path) for path in sorted(home.backups.glob("*.db"))],
                default_home=home.root == home_from({"HOME": str(Path.home())}).root,
                socket=str(home.socket),
                inspect=credentials.inspector(hosts),
                lineage=credentials.lineage_of,
                host_files=watcher,
                frames=recorder,
                home_book=uplinks,
                homes=uplinks,
                stop=stopping.set,
                web=web,
            ) as engine:
                host = _LateHost(engine, settings, home, records)

                async def load_and_watch() -> None:
                    # One after the other: all import, and the first window waits for its part.
                    await host.load(nursery)
                    await watcher.run()

                server = Server(engine, host, principal=keys.principal, hosts=hosts, recorder=recorder)
                async with trio.open_nursery() as nursery:
                    web.ready(engine, keys.principal, nursery)
                    # A handler that means a room elsewhere finds its link.
                    await nursery.start(uplinks.run, engine.desk)
                    nursery.start_soon(_stop_on_signal, stopping)
                    nursery.start_soon(_leave_when_lost, home, stopping)
                    nursery.start_soon(server.serve, listener)
                    nursery.start_soon(load_and_watch)
                    nursery.start_soon(engine.keep_shelf)
                    nursery.start_soon(engine.keep_file_seals)
                    log.info("serving %s, version %s, pid %d", home.root, __version__, os.getpid())
                    await stopping.wait()
                    log.info("stopping")
                    await engine.drain()
                    await server.drain()
                    nursery.cancel_scope.cancel()

        # What was imported stays for good: collecting it again and again costs a pause in the middle of a wake.
        gc.freeze()
        try:
            trio.run(main)
        except ExceptionGroup as group:
            raise _coded(group) from None
        log.info("stopped")


def _is_below_agent(hosts: process.Hosts) -> bool:
    """Whether an agent host is in sight above this process. A client starts a daemon without its own environment, waits
    for the daemon, and so can be looked at itself."""
    looked_at = [pid for pid in (os.getpid(), os.getppid()) if pid > 1]
    return any(process.surroundings_of(pid, hosts).agent_host for pid in looked_at)


def _coded(error: Exception) -> Exception:
    """What went wrong, out of the nurseries that it passed: with a code it is an answer, and not a crash."""
    found = unwrapped(error)
    return found if isinstance(found, ParlerError) else error


class _LateDialer:
    """Dials relays. The WebSocket library is imported for the first one, in a thread: most homes know no relay."""

    @contextlib.asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[MessageStream]:
        dial = await trio.to_thread.run_sync(importlib.import_module, "parlerd.connections.dial")
        async with dial.WebSocketDialer().dial(address) as stream:
            yield stream


class _LateWeb:
    """The door over HTTP. Its libraries are imported for the first who asks for it, in a thread: most homes have
    none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._door: LocalDoor | None = None
        self._parts: tuple[Engine, PrincipalId, trio.Nursery] | None = None

    def ready(self, engine: Engine, principal: PrincipalId, nursery: trio.Nursery) -> None:
        """There is an engine to ask, and a nursery to run in."""
        self._parts = engine, principal, nursery

    @property
    def url(self) -> str | None:
        return None if self._door is None else self._door.url

    @property
    def lets_in(self) -> bool:
        return self._door is not None and self._door.lets_in

    async def open(self, port: int, *, lets_in: bool) -> str:
        assert self._parts is not None, "nobody asks before the engine serves"
        if self._door is None:
            local = await trio.to_thread.run_sync(importlib.import_module, "parlerd.web.local")
            engine, principal, nursery = self._parts
            if self._door is None:  # nobody else opened one meanwhile
                self._door = local.LocalDoor(engine, engine.bearers, engine.viewers, principal, nursery, self._folder)
        return await self._door.open(port, lets_in=lets_in)

    async def close(self) -> None:
        if self._door is not None:
            await self._door.close()


class _Records:
    """The records of agent hosts, watched for those for which the person asked for it (`configs.sight`). Where there is
    none, no watcher is imported and no task runs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._engine: Engine | None = None
        self._nursery: trio.Nursery | None = None
        self._lookouts: Lookouts | None = None
        # The watcher while there is one, and what ends it.
        self._sight: Sight | None = None
        self._scope = trio.CancelScope()
        self._changing = trio.Lock()

    async def ready(self, engine: Engine, nursery: trio.Nursery) -> Lookouts:
        """There is an engine to tell, and a nursery to run in."""
        from mcp_server.sighting import Lookouts

        self._engine, self._nursery = engine, nursery
        self._lookouts = Lookouts(engine, self._now, nursery.start_soon)
        await self._choose()
        return self._lookouts

    def changed(self) -> None:
        """The person may have chosen other hosts."""
        if self._nursery is not None:
            self._nursery.start_soon(self._choose)

    def _now(self) -> Sight:
        assert self._sight is not None, "of no host a conversation is watched"
        return self._sight

    async def _choose(self) -> None:
        """Watch what the person chose, and nothing else. What was expected until now is unknown where that changes."""
        assert self._engine is not None
        assert self._nursery is not None
        assert self._lookouts is not None
        async with self._changing:
            measured = {host.id: host.sight for host in HOSTS if host.sight is not None}
            chosen = await trio.to_thread.run_sync(watched, self._home)
            hosts = frozenset(measured).intersection(chosen)
            if hosts == self._lookouts.hosts:
                return
            self._lookouts.hosts = self._engine.desk.sightings.hosts = frozenset()
            self._scope.cancel()
            if not hosts:
                return
            module = await trio.to_thread.run_sync(importlib.import_module, "parlerd.sight.watching")
            records = {id: record for id, record in measured.items() if id in hosts}
            sight = self._sight = module.HostSight(records, first, os.environ)
            self._scope = trio.CancelScope()
            await self._nursery.start(self._run, sight.run, self._scope)
            self._lookouts.hosts = self._engine.desk.sightings.hosts = hosts
            log.info("watching the records of %s, as the person chose", ", ".join(sorted(hosts)))

    async def _run(
        self,
        run: Callable[..., Awaitable[None]],
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with scope:
            await run(task_status=task_status)


class _LateHost:
    """Hosts the windows of agent hosts; a window that comes before the MCP face is imported waits for it."""

    def __init__(self, engine: Engine, settings: Settings, home: Home, records: _Records) -> None:
        self._engine = engine
        self._records = records
        self._settings = settings
        self._home = home
        self._host: McpHost | None = None
        self._ready = trio.Event()

    async def load(self, nursery: trio.Nursery) -> None:
        """Import the MCP face in a thread, while the socket is served already. The library behind it is imported when
        a window first asks for what needs it (`mcp_server.library`)."""
        session = await trio.to_thread.run_sync(importlib.import_module, "mcp_server.session")
        # Loaded with the session.
        from mcp_server import conversations
        from mcp_server.ringing import bells

        settings = self._settings
        shared = conversations.Shared(
            self._engine,
            _workspace_of,
            bells(settings, self._home),
            settings.mcp_wait_max_ms,
            traits={host.id: host.traits for host in HOSTS},
            words_of=process.words_of,
            lookouts=await self._records.ready(self._engine, nursery),
        )
        self._host = session.McpHost(shared, settings.mcp_era)
        self._ready.set()

    async def __call__(self, hello: Hello, caller: Caller, incoming: AsyncIterator[bytes], say: Say) -> None:
        await self._ready.wait()
        assert self._host is not None
        await self._host(hello, caller, incoming, say)


async def _leave_when_lost(home: Home, stopping: trio.Event) -> None:
    """End in order once the socket, the lock or the endpoint file is gone or another's: nobody finds this daemon then,
    and the next client starts one that has all of them."""
    mine = standing(home)
    while True:
        await trio.sleep(LOOK_S)
        if standing(home) != mine:
            log.error("the socket, the lock or the endpoint file of this home was removed or replaced: leaving")
            stopping.set()
            return


async def _stop_on_signal(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stopping.set()


def in_home(table: bytes, era: Era) -> bytes:
    """The static table as it stands in a home: shims read in it that they are to offer the modern era on their own."""
    return table.replace(b"{\n", b'{\n"era":"modern",\n', 1) if era == "modern" else table


def _refresh_shim(home: Home, era: Era) -> None:
    """Put this version's shim and its table where host configs point, each whole or not at all. Source: decision 20."""
    package = Path(__file__).parent.parent / "mcp_server"
    for name in COPIES:
        target = home.run / name
        wanted = (package / name).read_bytes()
        if target == home.static:
            wanted = in_home(wanted, era)
        with contextlib.suppress(OSError):
            if target.read_bytes() == wanted:
                continue
        temporary = target.with_name(f".{target.name}.new")
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_bytes(wanted)
            temporary.chmod(0o600)
            temporary.replace(target)
        except OSError as error:
            raise ParlerError("home_not_writable", f"{target} cannot be written: {error.strerror}.") from error


async def _workspace_of(directory: str) -> str:
    """The work tree around a directory; in a thread, which a dead network mount may hang."""
    return await trio.to_thread.run_sync(workspace.find, directory, abandon_on_cancel=True)


def _user() -> str:
    """The login name: what the person's own agent is called."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "person"
