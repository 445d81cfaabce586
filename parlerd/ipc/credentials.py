"""Who is on the other end of a connection: another user is turned away, and more is looked up when it matters.

Only the user id is a security boundary. A process can choose its program's name and its ancestors, as `parlerd.process`
explains, so these are labels. Above: `server`, `connection`, and the engine, which is given an `inspector`. Below:
`parlerd.process`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from parlerd import process
from parlerd.core.errors import ParlerError
from parlerd.engine.callers import PeerProcess, ProcessId


def check(sock: socket.socket) -> PeerProcess:
    """The process on the other end: its pid, uid, program and session of processes, none of which takes long to find.

    Raises `ParlerError` `not_permitted` for another user's process, root's included, or when the kernel does not say.
    """
    try:
        peer = process.peer_of(sock)
    except OSError:
        raise ParlerError("not_permitted", "The other side could not be identified.") from None
    if peer.uid != os.geteuid():
        raise ParlerError("not_permitted", uid=peer.uid)
    program = process.program_of(peer.pid)
    return PeerProcess(pid=peer.pid, uid=peer.uid, program=program, group=process.group_of(peer.pid))


def ancestry_of(peer: PeerProcess, hosts: process.Hosts) -> process.Ancestry | None:
    """The processes that the other side descends from; None when they cannot be seen, for example because the other
    side is in another pid namespace."""
    ancestry = process.ancestry_of(peer.pid, hosts)
    return ancestry if ancestry.above else None


def lineage_of(peer: PeerProcess) -> tuple[ProcessId, ...]:
    """The process on the other end and all above it, itself first; nothing when they cannot be seen. It takes tens of
    microseconds, so only what `parler bring` started is asked."""
    return process.lineage_of(peer.pid)


def inspector(hosts: process.Hosts) -> Callable[[PeerProcess], PeerProcess]:
    """A function that looks up the agent host, the editor and the terminal of a process. It takes about a millisecond,
    so only a person's decision asks it.

    The answer is about the process that has this pid now. A process that waits for an answer holds its connection open,
    so no other process can have got its pid, unless it handed its socket on and ended.
    """

    def inspect(peer: PeerProcess) -> PeerProcess:
        seen = process.surroundings_of(peer.pid, hosts)
        return PeerProcess(
            pid=peer.pid,
            uid=peer.uid,
            program=seen.program or peer.program,
            agent_host=seen.agent_host,
            terminal=seen.terminal,
            editor=seen.editor,
            group=peer.group,
        )

    return inspect
