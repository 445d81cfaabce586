"""A PostgreSQL server for a while: in a folder of its own, on a Unix socket alone, and gone without a trace.

PostgreSQL does not run as root. Where root runs this, the server is another user's. Only that user and root can reach
the folder, so everybody who gets to the socket is let in. Text is ordered as people order it and not by bytes, where
the programs can, so that a column which forgot its own order shows.

The files are in memory where there is room: then the settings are those that a relay asks for, and a commit waits for
no disk. `on_disk` is for what a disk is part of. Whoever started a server ends it; a guard does where they died
(`guard.py`). Below: the programs of PostgreSQL.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil

from tests.tools.postgres.installing import MAJOR

PATIENCE_S: Final = 60
"""For starting and ending. A machine that is busy for a moment is not a failure."""
SUPERUSER: Final = "postgres"
_GUARD: Final = Path(__file__).with_name("guard.py")
_PREFIX: Final = "parler-pg-"
_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 1 << 30
"""A cluster takes 60 MB with its log, and each database of a test 8 MB."""
_PLACES: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
"""Where Debian, Fedora and Homebrew keep servers, each version beside the others."""
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "log_line_prefix": "%m [%p] ",
}

NONE: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, order=True)
class Version:
    """A major version that is installed, with the folder of its programs."""

    major: int
    programs: Path

    @property
    def has_icu(self) -> bool:
        """Whether it can order text as people do, whatever the system's own library does."""
        configured = _run([self.programs / "pg_config", "--configure"])
        return "--with-icu" in configured or (self.major > 15 and "--without-icu" not in configured)

    @property
    def pgtap(self) -> Path | None:
        """pgTAP as plain SQL, which needs no right to create an extension; None where it is not installed."""
        shared = _run([self.programs / "pg_config", "--sharedir"]).strip()
        found = sorted(Path(shared, "extension").glob("pgtap--[0-9]*.sql"))
        whole = [path for path in found if re.fullmatch(r"pgtap--[0-9.]+\.sql", path.name)]
        return whole[-1] if whole else None


def versions() -> list[Version]:
    """What is installed that a relay takes, the oldest first."""
    root = Path("/")
    folders = [folder for place in _PLACES for folder in sorted(root.glob(place.lstrip("/")))]
    if (found := shutil.which("postgres")) is not None:
        folders.append(Path(found).resolve().parent)
    majors: dict[int, Path] = {}
    for folder in folders:
        if all((folder / name).is_file() for name in ("postgres", "initdb", "pg_ctl")):
            said = re.search(r"(\d+)(?:\.|\w)", _run([folder / "postgres", "--version"]))
            if said is not None and int(said[1]) >= MAJOR:
                majors.setdefault(int(said[1]), folder)
    return sorted(Version(major, folder) for major, folder in majors.items())


class ServerFailed(Exception):
    """A program of PostgreSQL failed; what it said."""


@dataclass(frozen=True)
class Server:
    """A server whose files are in `folder`. `url` is where it answers."""

    version: Version
    folder: Path

    @classmethod
    def make(cls, version: Version, folder: Path, settings: Mapping[str, str] = NONE) -> Server:
        """An empty cluster in `folder`, which must be empty and whose path must be short enough for a socket (80
        characters). It does not run yet."""
        if (user := _other_user()) is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        folder.chmod(0o700)
        made = cls(version, folder)
        made._program(
            "initdb",
            *("--pgdata", str(made.data), "--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--no-sync"),
            *("--locale=C", "--no-instructions"),
            *(("--locale-provider=icu", "--icu-locale=en") if version.has_icu else ()),
        )
        lines = {"unix_socket_directories": str(folder), **_SETTINGS, **settings}
        with Path(made.data, "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in lines.items())
        return made

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", role: str = SUPERUSER) -> str:
        """Where a database of this server is, for this role."""
        return f"postgresql://{quote(role)}@/{quote(database)}?host={quote(str(self.folder), safe='')}&port=5432"

    @property
    def pid(self) -> int | None:
        """The first process of the server; None when it does not run."""
        try:
            pid = int(Path(self.data, "postmaster.pid").read_text(encoding="utf-8").split()[0])
        except (FileNotFoundError, IndexError):
            return None
        return pid if psutil.pid_exists(pid) else None

    def start(self) -> None:
        """Run it, and return once it answers. Raises `ServerFailed`."""
        log = self.folder / "log"
        try:
            self._control("start", "-l", str(log))
        except ServerFailed as error:
            raise ServerFailed(f"{error}\n{log.read_text(encoding='utf-8')[-2000:]}") from None

    def stop(self, *, at_once: bool = False) -> None:
        """End it: after those who are connected were sent away, or as a loss of power does (`at_once`)."""
        self._control("stop", "-m", "immediate" if at_once else "fast")

    def kill(self) -> None:
        """End every process of it as the kernel does when memory is short. Nothing is said to anybody."""
        if (pid := self.pid) is None:
            return
        first = psutil.Process(pid)
        every = [first, *first.children(recursive=True)]
        for one in every:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(every, PATIENCE_S)

    def _control(self, *words: str) -> None:
        self._program("pg_ctl", *words, "--wait", f"--timeout={PATIENCE_S}", "--silent", "--pgdata", str(self.data))

    def _program(self, name: str, *words: str) -> None:
        _run([self.version.programs / name, *words], folder=self.folder, user=_other_user())


@contextmanager
def throwaway(version: Version, *, on_disk: bool = False, settings: Mapping[str, str] = NONE) -> Iterator[Server]:
    """A server that runs, until the context ends or this process does."""
    folder = _folder(on_disk=on_disk)
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARD), str(version.programs / "pg_ctl"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        server = Server.make(version, folder, settings)
        server.start()
        yield server
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(PATIENCE_S)


def staying(version: Version, *, on_disk: bool = False, settings: Mapping[str, str] = NONE) -> Server:
    """A server that runs until `remove` is called with its folder."""
    folder = _folder(on_disk=on_disk)
    try:
        server = Server.make(version, folder, settings)
        server.start()
    except BaseException:
        shutil.rmtree(folder)
        raise
    return server


def remove(folder: Path) -> None:
    """End the server of this folder, and remove the folder. Raises `ServerFailed` where it holds none of ours."""
    if not folder.name.startswith(_PREFIX) or not (folder / "data" / "PG_VERSION").is_file():
        raise ServerFailed(f"{folder} holds no server that this program started")
    major = int((folder / "data" / "PG_VERSION").read_text(encoding="utf-8"))
    for version in versions():
        if version.major == major:
            server = Server(version, folder)
            if server.pid is not None:
                server.stop(at_once=True)
    shutil.rmtree(folder)


def _folder(*, on_disk: bool) -> Path:
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place(on_disk=on_disk)))


def _place(*, on_disk: bool) -> Path:
    """Where the files of a server stand: in memory, where there is room and nothing asks for a disk."""
    if not on_disk and _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM:
        return _MEMORY
    # Not the folder of the test: a socket's path has at most 107 bytes.
    return Path("/tmp")


def _other_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: somebody else than root, and None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in (SUPERUSER, "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerFailed("PostgreSQL does not run as root, and there is no other user here")


def _run(command: list[Path | str], *, folder: Path = Path("/"), user: pwd.struct_passwd | None = None) -> str:
    """What a program prints. What it starts keeps none of our files open."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        ran = subprocess.run(
            command,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
        said.seek(0)
        if ran.returncode:
            raise ServerFailed(f"{Path(command[0]).name}: {said.read()[-2000:].strip()}")
        return said.read()
