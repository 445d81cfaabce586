"""What the kernel says of other processes: which one is on the other end of a Unix socket, from which it descends, and
whether it runs.

Not here: what follows from the answers, and which programs are agent hosts (`configs.hosts`). Above: `parlerd.ipc` and
`parlerd.client`, which refuse another user's process, and the engine, which asks for the ancestry when a person's
decision depends on it. Below: psutil, which reads in the same way on every system. The first look at a process imports
psutil, and a one-shot command that finds its daemon looks at none; `peer_of`, `program_of` and `group_of`, which are
asked of every connection, need no psutil on Linux.

Invariants: this module only reads; when a process ends, belongs to another user or is hidden, the answer says less, and
no exception is raised. What the answers cannot do: a user's processes can rename themselves, leave their ancestors and
clear their environment. So the answers stop an agent that was talked into something, and not a program that means to
deceive.
"""

from __future__ import annotations

import _socket
import os
import struct
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_ANCESTORS: Final = 64
"""How many processes above one are looked at. Shells under agents are a handful deep."""

UNKNOWN_HOST: Final = "unknown"
"""The agent host of a process that cannot be seen. Such a process may run in a sandbox, so nobody supposes a person."""

_INTERPRETERS: Final = frozenset({"node", "bun", "deno", "python", "python3"})


class Hosts(NamedTuple):
    """How agent hosts are recognised. `parlerd.daemon` makes this of `configs.hosts`, so that there is one table of
    hosts. Each mapping leads to the id of a host.

    The last three are for hosts that are a person's own editor as well: a terminal inside such a host may be the
    person's.
    """

    programs: Mapping[str, str] = MappingProxyType({})
    """Names of programs."""
    packages: Mapping[str, str] = MappingProxyType({})
    """Pieces of the path of a program, or of the script that an interpreter runs."""
    markers: Mapping[str, str] = MappingProxyType({})
    """Variables that a host sets for what it runs: `NAME`, `NAME*` for a family of names, `NAME=value` for one
    value."""
    editors: Mapping[str, str] = MappingProxyType({})
    editor_packages: Mapping[str, str] = MappingProxyType({})
    editor_markers: Mapping[str, str] = MappingProxyType({})


class Peer(NamedTuple):
    """The process on the other end of a socket. `pid` is 0 when it is in another pid namespace."""

    pid: int
    uid: int


class Surroundings(NamedTuple):
    """What can be seen of a process."""

    program: str
    """The name of its program."""
    agent_host: str
    """The agent host that it runs under; empty when none is in sight."""
    terminal: bool
    """Whether it has a controlling terminal."""
    editor: str = ""
    """The editor with an agent of its own that it runs under; empty when none is in sight."""


class Ancestry(NamedTuple):
    """The processes above one, its parent first. `host` is the id of the agent host or editor that the last of them is;
    empty when the search ended at none."""

    above: tuple[int, ...]
    host: str


class _Process(NamedTuple):
    parent: int
    words: tuple[str, ...]
    """The program's name, then its command line."""


def peer_of(sock: _socket.socket) -> Peer:
    """The process on the other end of a connected Unix socket, as the kernel recorded it when the connection was made.

    Raises OSError when the kernel cannot say, for example after a reset on macOS.
    """
    if sys.platform == "darwin":
        # struct xucred: version, uid, number of groups, 16 groups. LOCAL_PEERCRED is 1, LOCAL_PEERPID is 2.
        xucred = struct.Struct("IIh2x16I")
        _, uid, *_ = xucred.unpack(sock.getsockopt(0, 1, xucred.size))
        (pid,) = struct.unpack("i", sock.getsockopt(0, 2, 4))
    else:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
    return Peer(pid, uid)


def is_alive(pid: int) -> bool:
    """Whether a process runs. A process that has ended and waits for its parent to collect it does not run."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    import psutil

    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        # The process ended between the two looks, which the next call will find, or may not be looked at.
        return True


def running_with(argument: str) -> list[int]:
    """The processes that have `argument` as one word of their command line, as far as they can be seen."""
    import psutil

    # psutil leaves out processes that end meanwhile, and gives no command line for those hidden from this user.
    found = [each for each in psutil.process_iter(["cmdline"]) if argument in (each.info["cmdline"] or ())]
    return [each.pid for each in found if is_alive(each.pid)]


def words_of(pid: int) -> tuple[str, ...]:
    """The command line of a process, word by word; nothing when it cannot be seen."""
    here = _look(pid) if pid > 1 else None
    return here.words[1:] if here is not None else ()


def program_of(pid: int) -> str:
    """The name of a process's program, which Linux cuts to 15 bytes; empty when it cannot be seen.

    Every connection asks for this, so on Linux only the one file is read that holds the name.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                return file.read().decode("utf-8", "replace").rstrip("\n")
        except OSError:
            return ""
    else:
        here = _look(pid) if pid > 0 else None
        return here.words[0] if here is not None else ""


def group_of(pid: int) -> int:
    """The session of processes that a process runs in, as `setsid` made it; 0 when it cannot be seen."""
    try:
        return os.getsid(pid) if pid > 0 else 0
    except OSError:
        return 0


def ancestry_of(pid: int, hosts: Hosts) -> Ancestry:
    """The processes above a process, up to the agent host or the editor that it runs under, or as far as they can be
    seen."""
    above: list[int] = []
    process = _look(pid) if pid > 1 else None
    while process is not None and process.parent > 1 and len(above) < _MAX_ANCESTORS:
        above.append(process.parent)
        process = _look(process.parent)
        if process is None:
            break
        host = _named(process.words, hosts.programs, hosts.packages)
        host = host or _named(process.words, hosts.editors, hosts.editor_packages)
        if host:
            return Ancestry(tuple(above), host)
    return Ancestry(tuple(above), "")


def lineage_of(pid: int) -> tuple[tuple[int, int], ...]:
    """A process and all that can be seen above it, itself first, each with when it began: a later process that gets the
    same number began at another time. The unit of that time differs between systems."""
    lineage: list[tuple[int, int]] = []
    while pid > 1 and len(lineage) < _MAX_ANCESTORS and (found := _parent_and_begin(pid)) is not None:
        parent, began = found
        lineage.append((pid, began))
        pid = parent
    return tuple(lineage)


def surroundings_of(pid: int, hosts: Hosts) -> Surroundings:
    """The program of a process, the agent host and the editor it runs under, and whether it has a controlling terminal.

    Host and editor are found in the environment of the process, or among the programs from itself upwards.
    """
    here = _look(pid) if pid > 0 else None
    if here is None:
        return Surroundings("", UNKNOWN_HOST, False)
    host, editor = _marked(_environment(pid), hosts)
    process: _Process | None = here
    for _ in range(_MAX_ANCESTORS):
        if host or process is None:
            break
        host = _named(process.words, hosts.programs, hosts.packages)
        editor = editor or _named(process.words, hosts.editors, hosts.editor_packages)
        process = _look(process.parent) if process.parent > 1 else None
    return Surroundings(here.words[0], host, _has_terminal(pid), "" if host else editor)


def _named(words: tuple[str, ...], programs: Mapping[str, str], packages: Mapping[str, str]) -> str:
    """The host that a program's name and command line show; empty when they show none."""
    for word in words[:2]:
        found = programs.get(os.path.basename(word)) or _package(word, packages)
        if found:
            return found
    if not any(os.path.basename(word).rstrip("0123456789.") in _INTERPRETERS for word in words[:2]):
        return ""
    for word in words[2:]:
        if word.startswith("-") or word == "run":
            continue
        stem = os.path.basename(word).partition(".")[0]
        return programs.get(stem) or _package(word, packages)
    return ""


def _package(path: str, packages: Mapping[str, str]) -> str:
    return next((host for piece, host in packages.items() if f"/{piece}/" in path), "")


def _marked(environment: Mapping[str, str], hosts: Hosts) -> tuple[str, str]:
    """The agent host and the editor that an environment names; empty when it names none."""
    host = editor = ""
    for name, value in environment.items():
        if not value:
            continue
        host = host or _marker(name, value, hosts.markers)
        editor = editor or _marker(name, value, hosts.editor_markers)
        if name == "AGENT" and not host:
            # Several hosts share this variable, and put their name into it.
            host = hosts.programs.get(value, "agent")
    return host, editor


def _marker(name: str, value: str, markers: Mapping[str, str]) -> str:
    found = markers.get(name) or markers.get(f"{name}={value}")
    if found:
        return found
    return next((host for marker, host in markers.items() if marker[-1] == "*" and name.startswith(marker[:-1])), "")


def _look(pid: int) -> _Process | None:
    """The parent, the name and the command line of a process; None when it cannot be seen."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            parent, name = process.ppid(), process.name()
            try:
                command = process.cmdline()
            except (psutil.AccessDenied, psutil.ZombieProcess):
                command = []  # the name and the parent still tell
    except psutil.Error:
        return None
    return _Process(parent, tuple(map(_readable, (name, *command))))


def _parent_and_begin(pid: int) -> tuple[int, int] | None:
    """The parent of a process, and when the process began; None when it cannot be seen.

    Linux counts the begin in ticks since the system started, which no change of the clock moves. psutil gives it by the
    clock.
    """
    if sys.platform == "linux":
        fields = _stat(pid)
        return (int(fields[1]), int(fields[19])) if len(fields) > 19 else None
    else:
        import psutil

        try:
            process = psutil.Process(pid)
            return process.ppid(), int(process.create_time() * 1_000_000)
        except psutil.Error:
            return None


def _stat(pid: int) -> list[bytes]:
    """What Linux says of a process, from its state on; nothing when it cannot be seen.

    The name stands before that in parentheses, and may itself hold parentheses and spaces; no later field can.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it cannot be seen."""
    import psutil

    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        # The process is another user's, or is not dumpable. Its ancestors still tell the host.
        return {}


def _readable(text: str) -> str:
    """Text with a replacement mark for each byte that is not UTF-8. A process may call itself anything."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _has_terminal(pid: int) -> bool:
    """Whether a process has a controlling terminal.

    psutil is not asked: it reads the list of terminals once, and the daemon, which runs for weeks, would not see a
    terminal that was opened later.
    """
    if sys.platform == "linux":
        # The number of the terminal, 0 without one.
        return _stat(pid)[4:5] not in ([], [b"0"])
    else:
        import subprocess

        # A deadline, because `ps` must never hold up the daemon.
        words = ["/bin/ps", "-o", "tty=", "-p", str(pid)]
        try:
            said = subprocess.run(words, capture_output=True, text=True, timeout=2, check=False).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return False
        return bool(said) and not said.startswith("?")
