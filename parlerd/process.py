"""What the kernel says of other processes: who is on the far end of a Unix socket, whom it descends from, if it lives.

Not here: what follows from the answers, and which programs are agent hosts (`configs.hosts`). `parlerd.ipc` and
`parlerd.client` refuse another user's process; the engine asks for the ancestry when a person's decision depends on it.
Everything here only reads. psutil does the reading, for every system alike, and is imported by the first look at a
process: a one-shot command that finds its daemon looks at none. What is asked of every connection (`peer_of`,
`program_of`, `group_of`) needs no psutil on Linux. Invariant: a process that ends, is another user's or is hidden while
it is looked at gives less, and never an exception.

What this cannot do: one user's processes can rename themselves, fork away from their ancestors and clear their
environment. This stops an agent that was talked into something, not a program that means to deceive.
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
"""A deeper chain of processes is not looked through; shells under agents are a handful deep."""

UNKNOWN_HOST: Final = "unknown"
"""The agent host of a process that cannot be seen: it may be in a sandbox, so a person is not assumed."""

_INTERPRETERS: Final = frozenset({"node", "bun", "deno", "python", "python3"})


class Hosts(NamedTuple):
    """How agent hosts are recognised: what `parlerd.daemon` takes from `configs.hosts`, so that there is one table.

    Each leads to a host's id. `programs` are names of programs, `packages` pieces of the path of a program or of the
    script that an interpreter runs, `markers` variables that a host sets for what it runs: `NAME`, `NAME*` for a
    family, `NAME=value` for one value. `editors` and `editor_markers` are the programs and markers of those that are a
    person's own editor as well: a terminal inside one may be the person's.
    """

    programs: Mapping[str, str] = MappingProxyType({})
    packages: Mapping[str, str] = MappingProxyType({})
    markers: Mapping[str, str] = MappingProxyType({})
    editors: Mapping[str, str] = MappingProxyType({})
    editor_packages: Mapping[str, str] = MappingProxyType({})
    editor_markers: Mapping[str, str] = MappingProxyType({})


class Peer(NamedTuple):
    """The process on the other end of a socket. `pid` is 0 when it is in another pid namespace."""

    pid: int
    uid: int


class Facts(NamedTuple):
    """What can be seen of a process. `agent_host` is empty when no agent host is in sight, `editor` when no editor is
    that has an agent of its own."""

    program: str
    agent_host: str
    terminal: bool
    editor: str = ""


class Line(NamedTuple):
    """The processes above one, its parent first. `host` is the agent host that the last of them is, or empty."""

    above: tuple[int, ...]
    host: str


class _Process(NamedTuple):
    parent: int
    words: tuple[str, ...]
    """The program's name, then its command line."""


def peer_of(sock: _socket.socket) -> Peer:
    """Who is on the other end of a connected Unix socket, as the kernel recorded it when the connection was made.

    Raises OSError when the kernel cannot say, e.g. after a reset on macOS.
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
    """Whether a process runs. One that has ended and waits to be collected by its parent does not."""
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
        # It ended between the two looks, which the next look will tell, or it may not be looked at.
        return True


def running_with(argument: str) -> list[int]:
    """The processes that have `argument` as one word of their command line, as far as they can be seen."""
    import psutil

    # What ends meanwhile is left out by psutil, and what is hidden from this user has no command line.
    found = [each for each in psutil.process_iter(["cmdline"]) if argument in (each.info["cmdline"] or ())]
    return [each.pid for each in found if is_alive(each.pid)]


def words_of(pid: int) -> tuple[str, ...]:
    """The command line of a process, word by word; nothing when it cannot be seen."""
    here = _look(pid) if pid > 1 else None
    return here.words[1:] if here is not None else ()


def program_of(pid: int) -> str:
    """The name of a process's program, which Linux cuts to 15 bytes; empty when it cannot be seen.

    It is asked of every connection, so on Linux the one file is read that says it.
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


def line_of(pid: int, hosts: Hosts) -> Line:
    """Whom a process descends from, up to the agent host or the editor that it runs under, or as far as can be seen."""
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
            return Line(tuple(above), host)
    return Line(tuple(above), "")


def facts_of(pid: int, hosts: Hosts) -> Facts:
    """The program of a process, the agent host and the editor it runs under, and whether it has a controlling terminal.

    They are found in the environment of the process or among the programs it descends from, itself included.
    """
    here = _look(pid) if pid > 0 else None
    if here is None:
        return Facts("", UNKNOWN_HOST, False)
    host, editor = _marked(_environment(pid), hosts)
    process: _Process | None = here
    for _ in range(_MAX_ANCESTORS):
        if host or process is None:
            break
        host = _named(process.words, hosts.programs, hosts.packages)
        editor = editor or _named(process.words, hosts.editors, hosts.editor_packages)
        process = _look(process.parent) if process.parent > 1 else None
    return Facts(here.words[0], host, _has_terminal(pid), "" if host else editor)


def _named(words: tuple[str, ...], programs: Mapping[str, str], packages: Mapping[str, str]) -> str:
    """The host that a program's name and command line are, or nothing."""
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
    """The agent host and the editor that an environment names, or nothing."""
    host = editor = ""
    for name, value in environment.items():
        if not value:
            continue
        host = host or _marker(name, value, hosts.markers)
        editor = editor or _marker(name, value, hosts.editor_markers)
        if name == "AGENT" and not host:
            # The one variable that several hosts share: it holds the name.
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


def _environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it cannot be seen."""
    import psutil

    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        # It is another user's process, or one that is not dumpable: its ancestors still tell.
        return {}


def _readable(text: str) -> str:
    """Text with a mark in the place of each byte that is not UTF-8: a process may call itself anything."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _has_terminal(pid: int) -> bool:
    """Whether a process has a controlling terminal.

    psutil reads the list of terminals once, and would not know one that was opened since; the daemon runs for weeks.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name stands in parentheses and may itself contain any of `) (` and spaces; nothing after it can.
                # The fifth field after the name is the terminal's number, 0 where there is none.
                return file.read().rpartition(b")")[2].split()[4] != b"0"
        except (OSError, IndexError):
            return False
    else:
        import subprocess

        # No shell, a fixed program, and a deadline: `ps` must never hold up the daemon.
        words = ["/bin/ps", "-o", "tty=", "-p", str(pid)]
        try:
            said = subprocess.run(words, capture_output=True, text=True, timeout=2, check=False).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return False
        return bool(said) and not said.startswith("?")
