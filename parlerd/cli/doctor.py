"""`parler doctor`: a checkup that names the fix for each thing that is wrong.

The command exits 1 when anything is wrong. Not here: the checks of agent hosts (`doctor_hosts`), and the other checkup,
`--probe` (`probe`). Invariant: the checkup only looks. It starts no daemon, creates no file and takes no lock; only the
daemon may look at the store, so the daemon is asked, if one runs.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcp_server.stdio import COPIES
from parlerd import __version__
from parlerd.cli.context import Context, unreachable
from parlerd.cli.daemon import at_socket, hidden
from parlerd.cli.doctor_hosts import host_checks
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE, FAILED, moment
from parlerd.cli.parsing import Parser, UsageError
from parlerd.cli.program import PACKAGED_SHIM
from parlerd.cli.render import show_checks, size_of, span_of
from parlerd.client.launch import last_failure
from parlerd.client.link import FORBIDDEN
from parlerd.client.versions import is_older
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import SHORTER, as_text, is_text

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.paths import Home

MIN_PYTHON: Final = (3, 11)
MIN_SQLITE: Final = (3, 37, 0)
"""The first release with STRICT tables."""
MIN_FREE: Final = 100 * 1024 * 1024
PROBE_S: Final = 10.0


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "--probe", metavar="HOST", help="instead: send something through this agent host, and say how far it gets"
    )
    parser.add_argument(
        "--yes", action="store_true", help="with --probe: let the host's model be asked, without asking you"
    )


def _doctor(ctx: Context, args: Namespace) -> int:
    if args.probe is not None:
        from parlerd.cli import probe

        return probe.run(ctx, args.probe, yes=args.yes)
    if args.yes:
        raise UsageError("--yes goes with --probe", path="parler doctor")
    with ctx.out.progress("Looking at everything"):
        checks = list(checkup(ctx))
    ok = all(check.ok for check in checks)
    out = ctx.out
    if out.json:
        out.document({"ok": ok, "checks": checks})
        return DONE if ok else FAILED
    show_checks(out, checks)
    wrong = sum(not check.ok for check in checks)
    out.say("Everything is in order." if ok else (f"{wrong} of {len(checks)} checks failed.", "bad"))
    return DONE if ok else FAILED


def checkup(ctx: Context) -> Iterator[t.Check]:
    """Every check, in the order in which one depends on the next."""
    yield _python()
    yield _sqlite()
    yield from _home(ctx.home)
    if not ctx.home.root.is_dir():
        return
    yield _disk(ctx.home)
    yield from _daemon(ctx)
    yield from _relay(ctx)
    yield _backups(ctx.home)
    yield _shim(ctx.home)
    yield from host_checks(ctx)


def _relay(ctx: Context) -> Iterator[t.Check]:
    """Whether the relay runs that this person made, where they made one."""
    from parlerd.cli import team

    if team.service_of(ctx).record is None:
        return
    try:
        info = team.status(ctx)
    except ParlerError as error:
        yield _check("relay", False, error.message, error.hint)
        return
    if info is None:
        fix = "parler relay start; or take it out for good: parler connect --remove"
        yield _check("relay", False, "it does not run, and nobody reaches its sessions", fix)
        return
    outdated = is_older(info.version, __version__)
    which = f", version {info.version}, older than this command" if outdated else ""
    where = f"at {info.url}" if info.url else "without an address in a network"
    yield _check("relay", not outdated, f"{info.name} {where}{which}", f"Put this release in its place: {team.MAKE}")
    if info.store:
        takes = "takes what is written" if info.store_ok else "takes nothing now, and nobody's messages are stored"
        fix = "See whether the database server runs and has space. The relay's log says more: parler relay logs"
        yield _check("relay's store", info.store_ok, f"{info.store} {takes}", fix)


def _check(name: str, ok: bool, detail: str, fix: str = "") -> t.Check:
    return t.Check(name=name, ok=ok, detail=detail, fix="" if ok else fix)


def _python() -> t.Check:
    version = sys.version_info[:3]
    detail = f"{'.'.join(map(str, version))} at {sys.executable}"
    return _check("python", version >= MIN_PYTHON, detail, "Install Python 3.11 or newer and run install.sh again.")


def _sqlite() -> t.Check:
    # A fresh interpreter is asked, because only the store may import a database driver, and because this also finds a
    # driver that cannot be imported.
    probe = [sys.executable, "-I", "-c", "import sqlite3; print(sqlite3.sqlite_version)"]
    fix = "Use a Python that was built with SQLite 3.37 or newer, and run install.sh again."
    try:
        found = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_S, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return _check("sqlite", False, "this Python cannot load its sqlite3 module", fix)
    version = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
    return _check("sqlite", version >= MIN_SQLITE, found, fix)


def _home(home: Home) -> Iterator[t.Check]:
    root = home.root
    if not is_text(root):
        detail = f"{as_text(root)} is not UTF-8, so no settings file of an agent host could name it"
        yield _check("home", False, detail, "Set PARLER_HOME to a folder whose path is plain text.")
        return
    try:
        info = root.lstat()
    except FileNotFoundError:
        yield _check("home", True, f"{root} is not there yet; the first command makes it")
        return
    except OSError as error:
        yield _check("home", False, f"{root} cannot be looked at: {error.strerror}", "Check the folders above it.")
        return
    wrong = _unsafe(info, directory=True)
    yield _check("home", not wrong, wrong or str(root), f"chmod 700 {root}, and make it a real folder that is yours.")
    loose = [path for path in _private_files(home) if path.exists() and _unsafe(path.lstat(), directory=path.is_dir())]
    shown = ", ".join(str(path.relative_to(root)) for path in loose[:5])
    fix = "chmod -R go-rwx " + str(root)
    yield _check("private files", not loose, f"others can read: {shown}" if loose else "only you can read them", fix)
    yield from _socket_folder(home)
    if not os.access(root, os.W_OK | os.X_OK):
        yield _check("writable", False, f"{root} cannot be written", "Check its owner and mode, or set PARLER_HOME.")


def _socket_folder(home: Home) -> Iterator[t.Check]:
    """Check the folder of the socket. For a home with a long path this is a folder below /tmp, which another user may
    have made."""
    if home.socket.parent == home.run:
        return
    for folder in (home.socket.parent.parent, home.socket.parent):
        try:
            info = folder.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield _check("socket", False, f"{folder} cannot be looked at: {error.strerror}", SHORTER)
            return
        if wrong := _unsafe(info, directory=True):
            detail = f"the path of this home is too long for a socket, so it is to stand in {folder}, and {wrong}"
            yield _check("socket", False, detail, SHORTER)
            return


def _private_files(home: Home) -> Iterator[Path]:
    yield from (home.run, home.keys, home.backups, home.connect, home.log.parent)
    yield from (home.log, home.settings, home.floor, home.endpoint)
    for folder, pattern in ((home.root, "parler.db*"), (home.keys, "*"), (home.backups, "*"), (home.connect, "*")):
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield from sorted(folder.glob(pattern))


def _unsafe(info: os.stat_result, *, directory: bool) -> str:
    if stat.S_ISLNK(info.st_mode):
        return "it is a symlink"
    if directory != stat.S_ISDIR(info.st_mode):
        return "it is not a folder"
    if info.st_uid != os.getuid():
        return f"it belongs to another user (uid {info.st_uid})"
    if info.st_mode & 0o077:
        return f"others can reach it (mode {stat.S_IMODE(info.st_mode):03o})"
    return ""


def _disk(home: Home) -> t.Check:
    free = shutil.disk_usage(home.root).free
    detail = f"{size_of(free)} free"
    return _check("disk", free >= MIN_FREE, detail, "Free some space; nothing can be stored on a full disk.")


def _daemon(ctx: Context) -> Iterator[t.Check]:
    try:
        info = ctx.call("daemon.status", t.DaemonStatus(), t.DaemonInfo, start=False)
    except ParlerError as error:
        where = at_socket(ctx.home)
        if error.code != "unreachable":
            yield _check("daemon", False, error.message, error.hint)
        elif where == "forbidden":
            yield _check("daemon", False, FORBIDDEN, "Run parler doctor in a shell outside the sandbox.")
        elif where == "nobody" and (found := hidden(ctx.home)) is not None:
            yield _check("daemon", False, found.message, "parler daemon restart")
        elif where == "somebody":
            fix = "parler daemon restart; then look at parler daemon logs"
            yield _check("daemon", False, "something listens on its socket and does not answer", fix)
        elif failure := last_failure(ctx.home):
            # What is wrong in a settings file ends without a stop.
            stop = "" if failure.message.endswith((".", "?")) else "."
            said = f"{failure.message}{stop} {failure.hint}"
            yield _check("daemon", False, said, "do what it says; then: parler daemon start")
        else:
            yield _check("daemon", True, "not running; the next command starts it. The store was not looked at")
        return
    detail = f"pid {info.pid}, version {info.version}, up {span_of(info.uptime_ms / 1000)}, socket {info.socket}"
    yield _check("daemon", True, detail)
    same = info.version == __version__
    versions = f"daemon {info.version}, this command {__version__}"
    yield _check("version", same, versions, "parler daemon restart, or upgrade the older of the two installs")
    try:
        yield from ctx.call("daemon.check", t.CheckStore(), t.CheckList, start=False).checks
    except ParlerError as error:
        yield _check("store", False, error.message, error.hint if not unreachable(error) else "parler daemon logs")


def _backups(home: Home) -> t.Check:
    found = sorted(home.backups.glob("*"), key=lambda path: path.stat().st_mtime) if home.backups.is_dir() else []
    if not found:
        return _check("backups", True, "none yet; one is made before every upgrade of the store")
    newest = found[-1]
    at = moment(round(newest.stat().st_mtime * 1000))
    return _check("backups", True, f"{len(found)}; the newest is {newest.name}, of {at}")


def _shim(home: Home) -> t.Check:
    fix = "parler daemon restart: the daemon copies the shim at every start."
    if not home.shim.exists() and not home.database.exists():
        return _check("shim", True, "not there yet; the daemon copies it when it first starts")
    for name in COPIES:
        copy = home.run / name
        try:
            same = copy.read_bytes() == (PACKAGED_SHIM.parent / name).read_bytes()
        except FileNotFoundError:
            return _check("shim", False, f"{copy} is missing, and agent hosts need it", fix)
        except OSError as error:
            return _check("shim", False, f"{copy} cannot be read: {error.strerror}", f"Take {copy} away, then {fix}")
        if not same:
            return _check("shim", False, f"{copy} is of another version than this install", fix)
    return _check("shim", True, f"{home.shim} is this install's")


HANDLERS: Final = {
    "doctor": Handler(
        _arguments,
        _doctor,
        section="This install",
        rank=10,
        summary="Check everything, and name the fix for what is wrong.",
        examples=(
            "parler doctor",
            "parler doctor --probe claude-code",
        ),
    ),
}
