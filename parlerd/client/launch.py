"""The daemon's life as a client sees it: start it when it is absent, wait until it answers, replace one that is older.

Not here: what the daemon does when it starts, and how it stops. Invariants: a newer client replaces an older daemon and
never the other way round; a start changes nothing of this process: not its directory, its mask or its environment.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import parlerd
from parlerd import process
from parlerd.client.link import HELLO_SECONDS, Absent, Link, open_link
from parlerd.client.versions import is_older
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.operations.types import StopDaemon
from parlerd.paths import STARTED_BELOW, Home, prepare
from parlerd.wire import codec
from parlerd.wire.messages import PROTOCOL, Hello, Reply, Welcome
from parlerd.wire.peer import UPGRADE_OPERATION

if TYPE_CHECKING:
    import subprocess

START_SECONDS: Final = 10.0
"""For a daemon to answer after it was started, one more that ends meanwhile included."""
STOP_SECONDS: Final = 10.0
"""For an older daemon to end after it was asked to; it drains for 2 s at most."""
EXIT_ALREADY_RUNNING: Final = 75
"""The status with which a daemon ends that found another one serving its home. It is EX_TEMPFAIL of sysexits(3)."""
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_LOG_TAIL: Final = 4096
_LINE: Final = 2000
"""Characters of one line of the log that are shown; a command to restore from a backup names several paths."""

Spawn = Callable[[Home], "subprocess.Popen[bytes]"]


def daemon_command(home: Home) -> list[str]:
    """What starts the daemon: this interpreter, isolated from the directory and the environment it is started in."""
    return [sys.executable, "-I", "-m", "parlerd", "--home", os.fspath(home.root)]


def spawn(home: Home, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
    """Start a daemon that outlives this process. Raises what `paths.prepare` raises, and `unreachable`."""
    import subprocess

    prepare(home)
    environment = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    environment["PATH"] = os.environ.get("PATH", os.defpath)
    if STARTED_BELOW in os.environ:
        environment[STARTED_BELOW] = os.environ[STARTED_BELOW]
    log = os.open(home.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            command or daemon_command(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            umask=0o077,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise ParlerError("unreachable", f"The daemon cannot be started: {error.strerror}.") from error
    finally:
        os.close(log)


def reach(home: Home, hello: Hello, *, start: bool, hello_s: float = HELLO_SECONDS, spawn: Spawn = spawn) -> Link:
    """A link to the daemon of this home. With `start`, one is started if there is none and replaced if it is older.

    A daemon that runs has `hello_s` seconds to answer the hello.

    Raises `unreachable`, what `open_link` raises, and what a daemon that could not start says is wrong.
    """
    try:
        link = open_link(home, hello, hello_s)
    except Absent:
        if not start:
            raise ParlerError("unreachable", "No daemon is running.", hint="Run `parler daemon start`.") from None
    else:
        assert link.welcome is not None
        if not (start and _is_older(link.welcome)):
            return link
        _stop_older(link, link.welcome.pid)
    return _start(home, hello, spawn)


def _is_older(daemon: Welcome) -> bool:
    """Whether this daemon came before this program: by its version, or by the calls that it serves."""
    return is_older(daemon.version, parlerd.__version__) or daemon.protocol < PROTOCOL


def _stop_older(link: Link, pid: int) -> None:
    """Ask an older daemon to end, and wait until it has: its lock and its store are free only then."""
    try:
        id = link.begin(UPGRADE_OPERATION, codec.encode(StopDaemon(reason="upgrade")), STOP_SECONDS)
        try:
            answer = link.next(id, STOP_SECONDS)
        except ParlerError as error:
            if error.code not in ("connection_lost", "draining"):
                raise
            answer = None  # it was quicker than its answer
        if answer is not None and not isinstance(answer, Reply):
            raise ParlerError("unreachable", "An older daemon runs and does not stop when asked.")
    finally:
        link.close()
    deadline = time.monotonic() + STOP_SECONDS
    for pause in _pauses():
        if not process.is_alive(pid):
            return
        if time.monotonic() > deadline:
            raise ParlerError("unreachable", f"An older daemon (pid {pid}) was asked to stop and still runs.")
        time.sleep(pause)


def _start(home: Home, hello: Hello, spawn: Spawn) -> Link:
    deadline = time.monotonic() + START_SECONDS
    child = spawn(home)
    try:
        for pause in _pauses():
            # Looked at before connecting: another client may have started one that answers where ours gave way.
            status = child.poll()
            try:
                return open_link(home, hello)
            except Absent:
                pass
            if status is not None and status != EXIT_ALREADY_RUNNING:
                # One that was killed said nothing: the log ends with what another one said.
                raise (last_failure(home) if status > 0 else None) or ParlerError(
                    "unreachable", f"The daemon ended while it started. {_last_line(home)}".strip(), status=status
                )
            if time.monotonic() > deadline:
                break
            time.sleep(pause)
            if status is not None and pause == _LONGEST_PAUSE:
                # Another one held the lock and still does not answer, so it was about to end: take its place.
                child = spawn(home)
    finally:
        _let_go(child)
    raise ParlerError("unreachable", f"The daemon did not answer within {START_SECONDS:.0f} s.")


def _pauses() -> Iterator[float]:
    """Short at first, because most daemons are up in a third of a second; then longer, without end."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """Leave the daemon to itself: it is meant to outlive us, and Popen would warn that nobody waited for it."""
    if child.poll() is None:
        child.returncode = 0


def holder(home: Home) -> int:
    """The pid of the daemon that holds this home's lock, whether or not it can be reached; 0 when none does."""
    try:
        with open(home.lock, "rb") as file:
            said = file.read(32).strip()
    except OSError:
        # The lock was removed with what stood beside it: those that name this home are looked through.
        return next(filter(_is_daemon, process.running_with(os.fspath(home.root))), 0)
    pid = int(said) if said.isdigit() else 0
    # The file outlives the process, and the pid may be another's by now.
    return pid if _is_daemon(pid) and process.is_alive(pid) else 0


def _is_daemon(pid: int) -> bool:
    return any(os.path.basename(word) == "parlerd" for word in process.words_of(pid))


def last_failure(home: Home) -> ParlerError | None:
    """Why the last daemon of this home could not serve, when the log ends with that."""
    program, _, rest = _last_line(home).partition(": ")
    code, _, said = rest.partition(": ")
    if program != "parlerd" or code not in ERRORS or code == "already_running":
        return None
    return ParlerError(code, f"The daemon could not start: {said}")


def _last_line(home: Home) -> str:
    """The end of the log, for the person: a daemon that cannot start says there why."""
    try:
        with open(home.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL))
            lines = file.read(_LOG_TAIL).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:_LINE] for line in reversed(lines) if line.strip()), "")
