"""The daemon's life as a client sees it: start it when it is absent, wait until it answers, replace one that is older.

Not here: what the daemon does when it starts, and how it stops. Above: `connection`. Below: `link`. Invariants: a newer
client replaces an older daemon, and an older client never replaces a newer one; a start changes neither the directory
nor the mask nor the environment of this process.
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
"""How long a daemon may take to answer after it was started, also when another one ends meanwhile."""
STOP_SECONDS: Final = 10.0
"""How long an older daemon may take to end after it was asked to; it drains for 2 s at most."""
EXIT_ALREADY_RUNNING: Final = 75
"""The exit status of a daemon that found another one serving its home: EX_TEMPFAIL of sysexits(3)."""
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_LOG_TAIL: Final = 4096
"""How many bytes at the end of the log are read."""
_LINE: Final = 2000
"""How many characters of one line of the log are shown: a command that restores a backup names several paths."""

Spawn = Callable[[Home], "subprocess.Popen[bytes]"]


def daemon_command(home: Home) -> list[str]:
    """The command line that starts the daemon: this interpreter, isolated from the directory and the environment in
    which it is started."""
    return [sys.executable, "-I", "-m", "_parler", "parlerd", "--home", os.fspath(home.root)]


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
            answer = None  # the daemon ended before it answered
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
            # The child is looked at before the connection is tried: where another client's daemon was faster, ours
            # ends, and the connection reaches the other.
            status = child.poll()
            try:
                return open_link(home, hello)
            except Absent:
                pass
            if status is not None and status != EXIT_ALREADY_RUNNING:
                # A daemon that was killed wrote no last line, so the end of the log is about an earlier daemon.
                raise (last_failure(home) if status > 0 else None) or ParlerError(
                    "unreachable", f"The daemon ended while it started. {_last_line(home)}".strip(), status=status
                )
            if time.monotonic() > deadline:
                break
            time.sleep(pause)
            if status is not None and pause == _LONGEST_PAUSE:
                # Another daemon held the lock and still does not answer, so it was about to end: start ours again.
                child = spawn(home)
    finally:
        _let_go(child)
    raise ParlerError("unreachable", f"The daemon did not answer within {START_SECONDS:.0f} s.")


def _pauses() -> Iterator[float]:
    """How long to wait between tries. The pauses are short at first, because most daemons are up in a third of a
    second, and then grow to `_LONGEST_PAUSE`. There is no end of them."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """Leave the daemon to itself. It is meant to outlive this process, and Popen would warn that nobody waited for
    it."""
    if child.poll() is None:
        child.returncode = 0


def holder(home: Home) -> int:
    """The pid of the daemon that holds this home's lock, whether or not it can be reached; 0 when none does."""
    try:
        with open(home.lock, "rb") as file:
            said = file.read(32).strip()
    except OSError:
        # Somebody removed the lock's file. A daemon names its home on its command line, so the processes are searched.
        return next(filter(_is_daemon, process.running_with(os.fspath(home.root))), 0)
    pid = int(said) if said.isdigit() else 0
    # The file outlives its process, and another process may have got the pid by now.
    return pid if _is_daemon(pid) and process.is_alive(pid) else 0


def _is_daemon(pid: int) -> bool:
    return any(os.path.basename(word) == "parlerd" for word in process.words_of(pid))


def last_failure(home: Home, *, program: str = "parlerd") -> ParlerError | None:
    """Why the last daemon of this home, or the last relay, could not serve; None when the log does not end with a
    failure of this program."""
    failure = failure_in(_last_line(home), program=program)
    if failure is None or failure.code == "already_running":
        return None
    what = "daemon" if program == "parlerd" else program
    return ParlerError(failure.code, f"The {what} could not start: {failure.message}", hint=failure.hint)


def failure_in(line: str, *, program: str) -> ParlerError | None:
    """The failure that a program of this name told in its last line; None for another line."""
    name, _, rest = line.partition(": ")
    code, _, said = rest.partition(": ")
    if name != program or code not in ERRORS:
        return None
    said, _, hint = said.partition(" hint: ")
    return ParlerError(code, said, hint=hint or None)


def _last_line(home: Home) -> str:
    """The last line of the log, in which a daemon that cannot start says why."""
    try:
        with open(home.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL))
            lines = file.read(_LOG_TAIL).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:_LINE] for line in reversed(lines) if line.strip()), "")
