"""What the kernel says of other processes: who is on the far end of a Unix socket, whom it descends from, if it lives.

Not here: what follows from it, and which programs are agent hosts (`configs.hosts`). `parlerd.ipc` and
`parlerd.client` refuse another user's process; the engine asks for the ancestry when a person's decision depends on it.
Standard library only, and it only reads.

What it cannot do: one user's processes can rename themselves, fork away from their ancestors and clear their
environment. This stops an agent that was talked into something, not a program that means to deceive.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

_MAX_ANCESTORS: Final = 64
"""A deeper chain of processes is not looked through; shells under agents are a handful deep."""
_MAX_READ: Final = 1 << 20
"""Bytes of one file below /proc. The kernel's own limits on an environment are lower by default."""

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
    terminal: bool
    words: tuple[str, ...]
    """The program's name, then its command line."""


def peer_of(sock: socket.socket) -> Peer:
    """Who is on the other end of a connected Unix socket, as the kernel recorded it when the connection was made.

    Raises OSError when the kernel cannot say, e.g. after a reset on macOS.
    """
    import socket as module

    if sys.platform == "darwin":
        # struct xucred: version, uid, number of groups, 16 groups. LOCAL_PEERCRED is 1, LOCAL_PEERPID is 2.
        xucred = struct.Struct("IIh2x16I")
        _, uid, *_ = xucred.unpack(sock.getsockopt(0, 1, xucred.size))
        (pid,) = struct.unpack("i", sock.getsockopt(0, 2, 4))
    else:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(module.SOL_SOCKET, module.SO_PEERCRED, 12))
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
    try:
        return _stat(pid)[0] not in ("Z", "X")
    except OSError:
        # No /proc (macOS), or it ended between the two looks; the next look will tell.
        return True


def running_with(argument: str) -> list[int]:
    """The processes that have `argument` as one word of their command line, as far as they can be seen."""
    return [pid for pid, words in _commands() if argument in words and is_alive(pid)]


def words_of(pid: int) -> tuple[str, ...]:
    """The command line of a process, word by word; nothing when it cannot be seen."""
    here = _look(pid) if pid > 1 else None
    return here.words[1:] if here is not None else ()


def program_of(pid: int) -> str:
    """The name of a process's program; empty when it cannot be seen. Cheap on Linux, so it is asked per connection."""
    try:
        return _text(pid, "comm").rstrip("\n")
    except OSError:
        return ""


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
    here = _look(pid)
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
    return Facts(here.words[0], host, here.terminal, "" if host else editor)


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


def _marked(environment: list[str], hosts: Hosts) -> tuple[str, str]:
    """The agent host and the editor that an environment names, or nothing."""
    host = editor = ""
    for entry in environment:
        name, _, value = entry.partition("=")
        if not value:
            continue
        host = host or _marker(name, entry, hosts.markers)
        editor = editor or _marker(name, entry, hosts.editor_markers)
        if name == "AGENT" and not host:
            # The one variable that several hosts share: it holds the name.
            host = hosts.programs.get(value, "agent")
    return host, editor


def _marker(name: str, entry: str, markers: Mapping[str, str]) -> str:
    found = markers.get(name) or markers.get(entry)
    if found:
        return found
    return next((host for marker, host in markers.items() if marker[-1] == "*" and name.startswith(marker[:-1])), "")


if sys.platform == "darwin":

    def _ps(pid: int, *columns: str) -> str:
        import subprocess

        # No shell, a fixed program, and a deadline: `ps` must never hold up the daemon.
        words = ["/bin/ps", *columns, "-p", str(pid)]
        try:
            return subprocess.run(words, capture_output=True, text=True, timeout=2, check=False).stdout.strip()
        except subprocess.SubprocessError:
            return ""

    def _look(pid: int) -> _Process | None:
        # One -o each: all that follows a `=` in one option would be a heading.
        parent, _, rest = _ps(pid, "-o", "ppid=", "-o", "tty=", "-o", "comm=").partition(" ")
        terminal, _, program = rest.strip().partition(" ")
        if not parent.isdigit():
            return None
        command = _ps(pid, "-ww", "-o", "command=").split(" ")
        return _Process(int(parent), not terminal.startswith("?"), (program.strip(), *command))

    def _commands() -> Iterator[tuple[int, list[str]]]:
        import subprocess

        words = ["/bin/ps", "-x", "-ww", "-o", "pid=", "-o", "command="]
        listed = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout
        for line in listed.splitlines():
            pid, _, command = line.strip().partition(" ")
            if pid.isdigit():
                yield int(pid), command.split(" ")

    def _environment(pid: int) -> list[str]:
        # `-E` puts the environment behind the command. Words with a space in them cannot be told apart, which is
        # harmless: only whole names are compared.
        return _ps(pid, "-E", "-ww", "-o", "command=").split(" ")

else:

    def _look(pid: int) -> _Process | None:
        try:
            _, parent, terminal = _stat(pid)
            command = _text(pid, "cmdline").split("\0")
            return _Process(parent, terminal, (program_of(pid), *command))
        except OSError:
            return None

    def _commands() -> Iterator[tuple[int, list[str]]]:
        for name in os.listdir("/proc"):
            if name.isdigit():
                # What ends between the two looks, or is hidden from this user, is left out.
                with contextlib.suppress(OSError):
                    yield int(name), _text(int(name), "cmdline").split("\0")

    def _environment(pid: int) -> list[str]:
        try:
            return _text(pid, "environ").split("\0")
        except OSError:
            # Another user's process, or one that is not dumpable: its ancestors still tell.
            return []


def _text(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(_MAX_READ).decode("utf-8", "replace")


def _stat(pid: int) -> tuple[str, int, bool]:
    """State, parent and whether there is a controlling terminal."""
    # The name stands in parentheses and may itself contain any of `) (` and spaces; nothing after it can.
    fields = _text(pid, "stat").rpartition(")")[2].split()
    return fields[0], int(fields[1]), fields[4] != "0"
