"""The relay as a service of this system: made, started, stopped and taken out again, by systemd, launchd or neither.

    kind        what keeps the relay running                          after a restart of the machine
    systemd     a unit of the user's own systemd                      it comes back once the user logs in or lingers
    launchd     an agent of the user's own launchd                    it comes back once the user logs in
    detached    nothing: a process of its own, started by a command   a command starts it again

What a home has is kept in its file `service.json`, so that exactly this is taken out, whatever the system offers by
then. Not here: what the relay does, and whether it answers, which its socket tells. Above: the command line. Below: the
port `Runner`, by which every program of the system is run. Invariant: to make a service again that is there already
writes nothing and restarts nothing.
"""

from __future__ import annotations

import hashlib
import os
import plistlib
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from parlerd.core.errors import ParlerError
from parlerd.paths import Home

Kind = Literal["systemd", "launchd", "detached"]

RUN_S: Final = 30.0
"""How long a program of the service manager may take."""
FILE: Final = "service.json"
_UNIT: Final = "parler-relay"
_LABEL: Final = "app.parler.relay"
_MAX_BYTES: Final = 16_384


class Ran(NamedTuple):
    """What became of a program: its exit status, 127 where there is none of this name, and what it printed."""

    status: int
    output: str


class Runner(Protocol):
    """Runs programs of the system. `SystemRunner` is the real one."""

    def run(self, words: Sequence[str]) -> Ran:
        """Run a program to its end, for at most `RUN_S`."""
        ...

    def detach(self, words: Sequence[str], *, log: Path, env: Mapping[str, str]) -> int:
        """Start a program that outlives this one, in a session of its own; its pid. Raises `OSError`."""
        ...


class SystemRunner:
    """Runs programs as this user, with the environment `env`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)

    def run(self, words: Sequence[str]) -> Ran:
        import subprocess

        try:
            done = subprocess.run(
                words,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=RUN_S,
                check=False,
            )
        except FileNotFoundError:
            return Ran(127, "")
        except subprocess.TimeoutExpired:
            return Ran(124, f"{words[0]} did not end within {RUN_S:.0f} s")
        except OSError as error:
            return Ran(126, error.strerror or "it cannot be run")
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace").strip())

    def detach(self, words: Sequence[str], *, log: Path, env: Mapping[str, str]) -> int:
        import subprocess

        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env=dict(env),
                umask=0o077,
                start_new_session=True,
                close_fds=True,
            )
        finally:
            os.close(descriptor)
        # The relay outlives this program, and Popen would warn that nobody waited for it.
        child.returncode = 0
        return child.pid


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What was made for one home: of which kind, and in which file of the service manager."""

    v: int = 1
    kind: Kind
    file: str = ""


class Made(NamedTuple):
    """What `Service.make` did: `changed` says that a file was written, so that a relay that runs is an older one."""

    kind: Kind
    changed: bool


class Service:
    """The service of one person's relay. `home` is the person's own home, and `relay` the relay's."""

    def __init__(self, home: Home, relay: Home, runner: Runner, env: Mapping[str, str], *, is_macos: bool) -> None:
        self._home = home
        self._relay = relay
        self._runner = runner
        self._env = env
        self._is_macos = is_macos

    # -- what is there -------------------------------------------------------------------------------------

    @property
    def record(self) -> Record | None:
        """What was made; None where nothing was. Raises `ParlerError(invalid_settings)`."""
        path = self._relay.root / FILE
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error.strerror or "it cannot be opened") from error
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                # The record names a file that `remove` deletes.
                raise _unreadable(path, "others can write to it")
            data = file.read(_MAX_BYTES)
        try:
            return msgspec.json.decode(data, type=Record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _unreadable(path, "it is not what Parler wrote") from error

    @property
    def command(self) -> list[str]:
        """The command line of the relay: this interpreter, isolated from where and by whom it is started."""
        return [sys.executable, "-I", "-m", "_parler", "relay", "--home", os.fspath(self._home.root)]

    def lingers(self) -> bool:
        """Whether what runs in this user's systemd goes on after the user logs out. True where systemd has no part."""
        record = self.record
        if record is None or record.kind != "systemd":
            return True
        shown = self._runner.run(["loginctl", "show-user", str(os.getuid()), "--property=Linger"])
        return shown.status != 0 or shown.output != "Linger=no"

    # -- making, starting, stopping ------------------------------------------------------------------------

    def make(self) -> Made:
        """See to it that the service is there and starts with the user's session. Raises `ParlerError`."""
        known = self.record
        kind = self._offered() if known is None else known.kind
        if kind == "detached":
            changed = known is None
            if changed:
                self._keep(Record(kind=kind))
            return Made(kind, changed)
        path = self._file(kind)
        changed = _replace(path, self._text(kind))
        if known is None or known.file != str(path):
            self._keep(Record(kind=kind, file=str(path)))
        if changed and kind == "systemd":
            self._must(["systemctl", "--user", "daemon-reload"])
        return Made(kind, changed)

    def start(self, *, again: bool = False) -> None:
        """Start the relay, or with `again` end one that runs first. A relay that runs already is left alone without it.

        The relay may still fail: it answers on its socket once it serves. Raises `ParlerError`.
        """
        record = self._made()
        match record.kind:
            case "systemd":
                self._must(["systemctl", "--user", "enable", self._unit])
                # A unit that failed too often in a row is started again only after this.
                self._runner.run(["systemctl", "--user", "reset-failed", self._unit])
                self._must(["systemctl", "--user", "restart" if again else "start", self._unit])
            case "launchd":
                if again:
                    self._runner.run(["launchctl", "bootout", f"{self._domain}/{self._label}"])
                if self._runner.run(["launchctl", "print", f"{self._domain}/{self._label}"]).status != 0:
                    self._must(["launchctl", "bootstrap", self._domain, record.file])
                self._must(["launchctl", "kickstart", f"{self._domain}/{self._label}"])
            case "detached":
                try:
                    self._runner.detach(self.command, log=self._relay.log, env=self._plain_environment())
                except OSError as error:
                    raise _failed("the relay", error.strerror or "it cannot be run") from error

    def stop(self) -> None:
        """Stop the relay until somebody starts it, or the user logs in again. A detached relay is asked over its
        socket, which is not done here."""
        record = self.record
        if record is None:
            return
        match record.kind:
            case "systemd":
                self._runner.run(["systemctl", "--user", "stop", self._unit])
            case "launchd":
                self._runner.run(["launchctl", "bootout", f"{self._domain}/{self._label}"])
            case "detached":
                pass

    def remove(self) -> Record | None:
        """Stop the relay and take the service out; what was there, or None. The relay's home stays."""
        record = self.record
        if record is None:
            return None
        self.stop()
        if record.kind == "systemd":
            self._runner.run(["systemctl", "--user", "disable", self._unit])
        if record.file:
            Path(record.file).unlink(missing_ok=True)
        if record.kind == "systemd":
            self._runner.run(["systemctl", "--user", "daemon-reload"])
        (self._relay.root / FILE).unlink(missing_ok=True)
        return record

    # -- details -------------------------------------------------------------------------------------------

    @property
    def _suffix(self) -> str:
        """What tells the services of several homes of one user apart: nothing for the usual home."""
        usual = os.path.join(self._env.get("HOME", ""), ".parler")
        root = os.fspath(self._home.root)
        return "" if root == usual else "-" + hashlib.sha256(os.fsencode(root)).hexdigest()[:8]

    @property
    def _unit(self) -> str:
        return f"{_UNIT}{self._suffix}.service"

    @property
    def _label(self) -> str:
        return f"{_LABEL}{self._suffix.replace('-', '.')}"

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"

    def _offered(self) -> Kind:
        """What this system offers. A systemd without a session of this user (in a container, or under `su`) answers no
        question, and is none."""
        if self._is_macos:
            return "launchd" if self._runner.run(["launchctl", "print", self._domain]).status == 0 else "detached"
        known = self._runner.run(["systemctl", "--user", "show", "--property=Version"])
        return "systemd" if known.status == 0 and known.output.startswith("Version=") else "detached"

    def _file(self, kind: Kind) -> Path:
        home = Path(self._env["HOME"])
        if kind == "launchd":
            return home / "Library" / "LaunchAgents" / f"{self._label}.plist"
        configured = self._env.get("XDG_CONFIG_HOME", "")
        base = Path(configured) if configured.startswith("/") else home / ".config"
        return base / "systemd" / "user" / self._unit

    def _text(self, kind: Kind) -> bytes:
        if kind == "launchd":
            return plistlib.dumps(
                {
                    "Label": self._label,
                    "ProgramArguments": self.command,
                    "RunAtLoad": True,
                    "KeepAlive": {"SuccessfulExit": False},
                    "Umask": 0o077,
                    "WorkingDirectory": "/",
                    "StandardErrorPath": os.fspath(self._relay.log),
                }
            )
        return _systemd_unit(self.command, self._relay.log).encode()

    def _plain_environment(self) -> dict[str, str]:
        kept = {name: self._env[name] for name in ("HOME", "LANG") if name in self._env}
        return {**kept, "PATH": self._env.get("PATH", os.defpath)}

    def _made(self) -> Record:
        record = self.record
        if record is None:
            raise ParlerError("relay_not_running")
        return record

    def _must(self, words: Sequence[str]) -> None:
        ran = self._runner.run(words)
        if ran.status != 0:
            raise _failed(" ".join(words), ran.output or f"exit status {ran.status}")

    def _keep(self, record: Record) -> None:
        _replace(self._relay.root / FILE, msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def _systemd_unit(command: Sequence[str], log: Path) -> str:
    """The unit. It is of the user and needs nothing of root; `Restart` also covers a machine whose network comes
    late."""
    return f"""\
# Parler made this file. `parler connect --remove` takes it out.
[Unit]
Description=Parler relay

[Service]
ExecStart={" ".join(map(_quoted, command))}
WorkingDirectory=/
UMask=0077
NoNewPrivileges=yes
StandardError=append:{os.fspath(log).replace("%", "%%")}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """A word as systemd reads it on a command line. Source: systemd.service(5), Command lines; systemd.syntax(7)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9/._:+=-]+", word) else f'"{escaped}"'


def _replace(path: Path, data: bytes) -> bool:
    """Write a file whole, unless it is so already; whether it was written. Raises `ParlerError(home_not_writable)`."""
    try:
        if path.read_bytes() == data:
            return False
    except OSError:
        pass
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise ParlerError("home_not_writable", f"{path} cannot be written: {error.strerror}.") from error
    return True


def _failed(what: str, why: str) -> ParlerError:
    return ParlerError(
        "relay_not_running",
        f"The relay could not be started: {what} failed: {why[:300]}",
        hint="`parler relay` runs it in this terminal instead.",
    )


def _unreadable(path: Path, why: str) -> ParlerError:
    return ParlerError(
        "invalid_settings", f"{path} cannot be used: {why}.", hint="Move the file away and run: parler connect --team"
    )
