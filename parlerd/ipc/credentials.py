"""Who is on the other end of a connection: another user is turned away, and the rest is looked up when it matters.

The uid is the one fact here that is a boundary. Program and ancestry are what `parlerd.process` says they are: labels.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from parlerd import process
from parlerd.core.errors import ParlerError
from parlerd.engine.callers import PeerProcess


def check(sock: socket.socket) -> PeerProcess:
    """The process on the other end: pid, uid and program, nothing that takes long.

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


def line_of(peer: PeerProcess, hosts: process.Hosts) -> process.Line | None:
    """Whom the other side descends from; None when that cannot be seen, as from another pid namespace."""
    line = process.line_of(peer.pid, hosts)
    return line if line.above else None


def inspector(hosts: process.Hosts) -> Callable[[PeerProcess], PeerProcess]:
    """What looks up the agent host, the editor and the terminal of a process: about a millisecond, for a person's
    decision only.

    The answer is about the process that has this pid now. It holds its connection open while it waits for an answer, so
    the pid cannot have been given to another unless it handed its socket on and ended.
    """

    def inspect(peer: PeerProcess) -> PeerProcess:
        facts = process.facts_of(peer.pid, hosts)
        return PeerProcess(
            pid=peer.pid,
            uid=peer.uid,
            program=facts.program or peer.program,
            agent_host=facts.agent_host,
            terminal=facts.terminal,
            editor=facts.editor,
            group=peer.group,
        )

    return inspect
