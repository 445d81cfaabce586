"""The daemon's eye on the settings files of connected hosts: it notices a lost entry, and puts it back if the person
chose so.

    watchfiles -> something changed -> a moment of quiet -> `Files.drift` -> a notice, or `Files.put_back`

Not here: what is wrong with a file and how one is edited (`connect`), the choice (`keep`). Above: `parlerd.daemon`,
which runs one `Watcher` beside its socket. Invariants: a file that nothing wrote is not read but once an hour; a host
that keeps rewriting its file is given up and named, not fought with; nothing that goes wrong here ends the daemon.

What is connected is read at the start, once an hour, when the ledger changes, and when `look` is called: the command
that connects calls it on a running daemon. So beside no connected host there is no watching thread, and watchfiles is
not even imported; a watch on an empty ledger's folder would cost both, and looking at it often would wake a machine
that sleeps.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import trio

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

    from configs.detect import Place
    from configs.drift import Drift
    from configs.model import Host
    from configs.outcome import Outcome
    from parlerd.paths import Home

log = logging.getLogger("parlerd.hosts")

QUIET_S: Final = 1.0
"""Seconds between a change and the look at the file: hosts write in several steps, and our entry may be missing after
some of them."""
AGAIN_S: Final = 3600.0
"""Seconds between two looks at everything without a change: a watch may miss one, and hosts get installed."""
MAX_TRIES: Final = 3
WITHIN_S: Final = 600.0
"""A file that lost its entry this often within this time is given up until somebody runs `parler connect`."""
DEBOUNCE_MS: Final = 1600
"""How long a batch may grow while changes go on. Source: the default of watchfiles."""
STEP_MS: Final = 500
"""How often the watching thread looks whether it is to end; at watchfiles' 50 ms an idle daemon wakes 20 times a
second."""
TIMEOUT_MS: Final = 600_000
"""How long the thread sleeps through when nothing changes; then it begins again."""
BACK: Final = frozenset({"lost", "missing_file"})
"""Kinds of drift after which an entry is put back. A changed or disabled entry is somebody's choice."""

Changes = Callable[[frozenset[Path]], "AsyncGenerator[set[Path], None]"]
"""What changed in these folders, not below them, as often as something does; first an empty set, as soon as nothing is
missed any more. Ends only when it is closed. May raise `OSError` or `RuntimeError`."""

InThread = Callable[..., Awaitable[Any]]
"""`trio.to_thread.run_sync`."""


class Files(Protocol):
    """The files that are watched. Everything here may block; it is called in a thread."""

    def paths(self) -> list[Path]:
        """The real files with an entry of ours, and the ledger; none when nothing is connected."""
        ...

    def drift(self) -> list[Drift]:
        """What is not as it was written."""
        ...

    def kept(self) -> frozenset[str]:
        """The ids of the hosts whose entries are put back."""
        ...

    def put_back(self, drift: Drift) -> Outcome:
        """Write the entry again, into the same file."""
        ...

    def newcomers(self) -> list[Host]:
        """Hosts that are installed and not connected, while others are."""
        ...

    def is_connected(self) -> bool:
        """Whether the ledger has an entry in some host. Quick enough to be asked where an answer is made."""
        ...


@dataclass(slots=True)
class _Tries:
    """How often an entry was put back into one file. `problem` says why the last try failed, if it did."""

    times: deque[float]
    given_up: bool = False
    problem: str = ""


class Watcher:
    """Runs until cancelled. `parlerd.engine.ports.HostFiles` is what the engine sees of it. `looked` is called whenever
    the person changed what is connected, or what they let Parler do there."""

    def __init__(
        self,
        files: Files,
        changes: Changes | None = None,
        in_thread: InThread = trio.to_thread.run_sync,
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._changes = changes or file_changes
        self._in_thread = in_thread
        self._looked = looked
        self._poked = trio.Event()
        self._names: frozenset[Path] = frozenset()
        self._following = False
        self._lost: tuple[Drift, ...] = ()
        self._tries: dict[Path, _Tries] = {}
        self._logged: frozenset[tuple[str, str, Path]] = frozenset()
        self._newcomers: frozenset[str] = frozenset()

    # -- what the engine sees ----------------------------------------------------------------------------------

    def look(self) -> None:
        """What is connected was changed by the person: read it anew, and try again what was given up."""
        self._tries.clear()
        self._poked.set()
        self._looked()

    def notice(self) -> str:
        names = sorted({drift.host.name for drift in self._lost})
        if not names:
            return ""
        return f"{', '.join(names)} lost Parler's entry in its settings; the person can run: parler doctor"

    def failures(self) -> list[tuple[str, str]]:
        found = []
        for drift in self._lost:
            tries = self._tries.get(drift.path)
            if tries is None or not tries.given_up:
                continue
            name = drift.host.name
            what = (
                tries.problem or f"{name} rewrites {drift.path}: putting our entry back {MAX_TRIES} times did not last"
            )
            found.append((what, f"quit {name}, then run: parler connect {drift.host.id}"))
        return found

    def is_connected(self) -> bool:
        """Whether any host was connected here, by the ledger as it is now. Blocks for one small file."""
        return self._files.is_connected()

    # -- the loop ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch. Raises nothing but cancellation."""
        async with trio.open_nursery() as nursery:
            folders: frozenset[Path] = frozenset()
            following = trio.CancelScope()
            while True:
                self._poked = trio.Event()
                paths = await self._in_thread(self._paths, abandon_on_cancel=True)
                self._names = frozenset(paths)
                wanted = frozenset(path.parent for path in paths)
                if wanted != folders or (wanted and not self._following):
                    following.cancel()
                    folders, following = wanted, trio.CancelScope()
                    if wanted:
                        self._following = True
                        # The watch begins before the files are looked at: a change in between would be missed for an
                        # hour.
                        await nursery.start(self._follow, wanted, following)
                if paths:
                    await self._examine()
                with trio.move_on_after(AGAIN_S):
                    await self._poked.wait()
                    await trio.sleep(QUIET_S)

    def _paths(self) -> list[Path]:
        try:
            return [path for path in self._files.paths() if path.parent.is_dir()]
        except Exception as error:
            _report("the ledger could not be read", error)
            return []

    async def _follow(
        self,
        folders: frozenset[Path],
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Follow what changes; started once nothing is missed any more, or once it is clear that nothing is told."""
        armed = False
        with scope:
            try:
                async with aclosing(self._changes(folders)) as changes:
                    async for changed in changes:
                        if not armed:
                            armed = True
                            task_status.started()
                        if not self._names.isdisjoint(changed):
                            self._poked.set()
            except (OSError, RuntimeError) as error:
                # The system has no watches left, or a folder went away: the hourly look remains, and tries again.
                _report("settings files of agent hosts are not watched", error)
                self._following = False
                if not armed:
                    task_status.started()

    # -- what is wrong -----------------------------------------------------------------------------------------

    async def _examine(self) -> None:
        try:
            drifts = await self._in_thread(self._files.drift, abandon_on_cancel=True)
            kept = await self._in_thread(self._files.kept)
            newcomers = await self._in_thread(self._files.newcomers, abandon_on_cancel=True)
        except Exception as error:
            _report("the settings files of agent hosts could not be looked at", error)
            return
        left = [drift for drift in drifts if not await self._is_back(drift, kept)]
        self._lost = tuple(drift for drift in left if drift.kind in BACK)
        self._log(left, newcomers)

    async def _is_back(self, drift: Drift, kept: frozenset[str]) -> bool:
        """Put an entry back, if that is wanted; whether it stands there again."""
        if drift.kind not in BACK or drift.hook or drift.host.id not in kept:
            return False
        now = trio.current_time()
        tries = self._tries.setdefault(drift.path, _Tries(deque(maxlen=MAX_TRIES)))
        if tries.given_up or (len(tries.times) == MAX_TRIES and now - tries.times[0] < WITHIN_S):
            tries.given_up = True
            return False
        tries.times.append(now)
        try:
            # This is not abandoned when the daemon ends: a file is written whole or not at all.
            outcome: Outcome = await self._in_thread(self._files.put_back, drift)
        except Exception as error:
            _report(f"the entry of {drift.host.id} could not be put back", error)
            tries.problem = f"our entry could not be put back into {drift.path}; see parler daemon logs"
            return False
        log.info("the entry of %s was lost; putting it back: %s", drift.host.id, outcome.status)
        tries.problem = outcome.reason if outcome.status == "failed" else ""
        if outcome.status == "skipped":
            tries.times.pop()  # the host is not installed any more, so nothing was tried
        return outcome.status not in ("failed", "skipped")

    def _log(self, left: list[Drift], newcomers: list[Host]) -> None:
        """Each thing once, as long as it lasts."""
        found = frozenset((drift.host.id, drift.kind, drift.path) for drift in left)
        for host, kind, _path in sorted(found - self._logged):
            log.warning("the entry of %s: %s; see parler doctor", host, kind)
        self._logged = found
        here = frozenset(host.id for host in newcomers)
        for id in sorted(here - self._newcomers):
            log.info("%s is installed and not connected; see parler doctor", id)
        self._newcomers = here


class HostFiles:
    """`Files` of a real home: what its ledger says was written.

    What reads files is imported by the first thread that looks, when the daemon serves already.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    def paths(self) -> list[Path]:
        if not (self._home.connect / "ledger.json").exists():
            return []
        from configs.drift import watched
        from configs.ledger import Ledger

        found = watched(self._place())
        return [*found, Ledger(self._home).file] if found else []

    def drift(self) -> list[Drift]:
        from configs.drift import drift

        return drift(self._place())

    def kept(self) -> frozenset[str]:
        from configs.keep import kept

        return kept(self._home)

    def put_back(self, drift: Drift) -> Outcome:
        from configs.connect import connect
        from configs.ledger import Ledger

        place = self._place()
        entries = Ledger(self._home).entries("entry", drift.host.id)
        named = next(each.named for each in entries if Path(os.path.realpath(each.named)) == drift.path)
        host = msgspec.structs.replace(drift.host, files={place.system: (str(named),)})
        return next(connect(place, [host], chosen=False))

    def newcomers(self) -> list[Host]:
        from configs.detect import detected
        from configs.hosts import HOSTS
        from configs.ledger import Ledger

        connected = {each.host for each in Ledger(self._home).entries("entry")}
        if not connected:
            return []
        return [host for host in HOSTS if host.id not in connected and detected(self._place(), host)]

    def is_connected(self) -> bool:
        # The file is read as plain JSON: importing what reads it as entries takes longer than this may take.
        try:
            found = json.loads((self._home.connect / "ledger.json").read_bytes())
            return any(each["kind"] == "entry" for each in found["entries"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def _place(self) -> Place:
        from configs.detect import Place
        from configs.model import this_system

        # The daemon's environment is a fixed one, so only HOME can be leant on: where a host keeps its files is the
        # ledger's word, and never looked for anew.
        return Place(env=os.environ, system=this_system(), python=sys.executable, home=self._home)


async def file_changes(folders: frozenset[Path]) -> AsyncGenerator[set[Path], None]:
    """`Changes` of the real file system."""
    # The library's own loop for trio notices its cancellation only when something changes, and never says that it
    # listens; what is under it does both. In threads, the import too.
    limiter = trio.CapacityLimiter(1)
    watcher = await trio.to_thread.run_sync(_listening, folders, limiter=limiter)
    stop = threading.Event()
    try:
        yield set()
        while True:
            batch = await trio.to_thread.run_sync(
                watcher.watch, DEBOUNCE_MS, STEP_MS, TIMEOUT_MS, stop, abandon_on_cancel=True, limiter=limiter
            )
            # Without a change the library answers with the word `timeout`.
            if isinstance(batch, set):
                yield {Path(name) for _, name in batch}
    finally:
        stop.set()


def _listening(folders: frozenset[Path]) -> RustNotify:
    """A watch that is in place."""
    # Imported here, so that a daemon beside which no host is connected never pays for the import.
    from watchfiles._rust_notify import RustNotify

    return RustNotify(
        sorted(map(str, folders)),
        debug=False,
        force_polling=False,
        poll_delay_ms=0,
        recursive=False,
        ignore_permission_denied=True,
    )


def _report(what: str, error: Exception) -> None:
    # An exception is told by its type alone: its text may hold a line of somebody's settings.
    log.error("%s: %s", what, type(error).__name__)
