"""Runs one git command: with an environment of its own, with bounds, and with nothing of the person's settings.

Not here: which commands are run, and where. Above: every module of this package. Below: the operating system.
Invariants: git is a program from an absolute folder of PATH; it is given no variable of ours but PATH, the language and
the folder for temporary files; whatever ends the wait ends git and every process that git started.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

import msgspec

from parlerd.core.errors import ParlerError

MEMORY_KB: Final = 4 * 1024 * 1024
"""Address space of each process of git, in KiB: what a repository of some GB maps, and less than what stops a
machine."""
CPU_S: Final = 300
WALL_S: Final = 600.0
FILE_BLOCKS: Final = 4 * 1024 * 1024
"""The largest file that git may write, in blocks of 512 bytes: 2 GiB, for a pack of a blob of the largest size whose
missing bases were put in."""
MAX_OUTPUT: Final = 64 * 1024 * 1024
"""Bytes that one command may print: the names of some 500,000 files."""
_LOOK_S: Final = 0.2
"""How often it is asked whether the work is still wanted."""
_TOLD: Final = 2048
"""Bytes of git's own words that are kept."""
_LIMITED: Final = (
    'ulimit -v $1 2>/dev/null; ulimit -t $2 2>/dev/null; ulimit -f $3 2>/dev/null; ulimit -c 0; shift 3; exec "$@"'
)
SETTINGS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.sshCommand=false",
    "core.gitProxy=false",
    "core.alternateRefsCommand=true",
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=false",
    "core.attributesFile=/dev/null",
    "core.logAllRefUpdates=false",
    "core.untrackedCache=false",
    "credential.helper=",
    "diff.external=",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "submodule.recurse=false",
)
"""What stands before every command: it wins over what a repository's own settings say."""


class GitFailed(Exception):
    """git ended with an error. `said` is the end of what git printed, and may hold names that others chose: it is shown
    to a person alone."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"git ended with {code}")
        self.code = code
        self.said = said


class Runner(msgspec.Struct, frozen=True):
    """How git is run. `wanted` is asked again and again while git works, and raises what ends the work."""

    wanted: Callable[[], None] = lambda: None
    path: str = ""
    """The folders in which git is looked for; empty for those of this process."""

    def run(
        self,
        *args: str | bytes,
        cwd: str | bytes,
        env: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        stdin: bytes | IO[bytes] = b"",
    ) -> bytes:
        """What git prints. Raises `GitFailed`, and `ParlerError(git_failed)` where there is no git, or where a bound
        was reached."""
        with tempfile.TemporaryFile() as out:
            self._run(args, cwd, env or {}, settings, stdin, out)
            size = out.tell()
            if size > MAX_OUTPUT:
                raise ParlerError("git_failed", "This repository has more files than Parler looks through.")
            out.seek(0)
            return out.read()

    def line(self, *args: str | bytes, cwd: str | bytes, env: Mapping[str, str] | None = None) -> str:
        """The one line that git prints."""
        return os.fsdecode(self.run(*args, cwd=cwd, env=env)).rstrip("\n")

    def _run(
        self,
        args: Sequence[str | bytes],
        cwd: str | bytes,
        env: Mapping[str, str],
        settings: Sequence[str],
        stdin: bytes | IO[bytes],
        out: IO[bytes],
    ) -> None:
        limits = (str(MEMORY_KB), str(CPU_S), str(FILE_BLOCKS))
        flags = [word for setting in (*SETTINGS, *settings) for word in ("-c", setting)]
        command = ["/bin/sh", "-c", _LIMITED, "sh", *limits, self._program(), "--literal-pathspecs", *flags, *args]
        with tempfile.TemporaryFile() as given:
            if isinstance(stdin, bytes):
                given.write(stdin)
                given.seek(0)
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**_environment(self._folders()), **env},
                stdin=given if isinstance(stdin, bytes) else stdin,
                stdout=out,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                said = self._wait(process)
            finally:
                _end(process)
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            raise ParlerError("git_failed", f"git took more than Parler allows it, and was ended ({name}).")
        if process.returncode:
            raise GitFailed(process.returncode, said)

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the end; the end of what git says. The pipe of its errors closes when the last of its processes
        ends, which can be waited for without a delay."""
        assert process.stderr is not None
        deadline, said = time.monotonic() + WALL_S, b""
        while True:
            self.wanted()
            if time.monotonic() > deadline:
                raise ParlerError("git_failed", f"git did not end within {WALL_S:.0f} seconds.")
            if not select.select([process.stderr], [], [], _LOOK_S)[0]:
                continue
            heard = os.read(process.stderr.fileno(), 65_536)
            if not heard:
                process.wait()
                return said.decode("utf-8", "replace").strip()
            said = (said + heard)[-_TOLD:]

    def _folders(self) -> str:
        folders = (self.path or os.environ.get("PATH") or os.defpath).split(os.pathsep)
        return os.pathsep.join(each for each in folders if os.path.isabs(each))

    def _program(self) -> str:
        found = shutil.which("git", path=self._folders())
        if found is None:
            raise ParlerError("git_failed", "There is no git on this machine.", hint="Install git, and run it again.")
        return found


def _environment(folders: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
    return {
        **kept,
        "PATH": folders,
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started, if any of them is left."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
