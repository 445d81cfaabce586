from __future__ import annotations

import os
import socket

import pytest

from parlerd import process
from parlerd.core.errors import ParlerError
from parlerd.engine.callers import PeerProcess
from parlerd.ipc import credentials


def test_a_process_of_this_user_is_known_by_pid_uid_and_program() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = credentials.check(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.program == process.program_of(os.getpid()) != ""


@pytest.mark.parametrize("uid", [0, 1, 65_534])
def test_every_other_user_is_refused_and_root_too(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    monkeypatch.setattr(process, "peer_of", lambda _: process.Peer(1, uid))
    with ours, theirs, pytest.raises(ParlerError) as caught:
        credentials.check(ours)
    assert caught.value.code == "not_permitted"


def test_a_socket_that_the_kernel_will_not_identify_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: socket.socket) -> process.Peer:
        raise OSError(57, "Socket is not connected")

    monkeypatch.setattr(process, "peer_of", fail)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ParlerError, match="not_permitted"):
        credentials.check(sock)


def test_inspecting_adds_what_a_persons_decision_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        process, "surroundings_of", lambda pid, hosts: process.Surroundings("parler", "codex", True, "zed")
    )
    inspected = credentials.inspector(process.Hosts())(PeerProcess(pid=5, uid=6, program="python"))
    assert inspected == PeerProcess(pid=5, uid=6, program="parler", agent_host="codex", terminal=True, editor="zed")


def test_a_process_that_is_gone_is_not_taken_for_a_person() -> None:
    inspected = credentials.inspector(process.Hosts())(PeerProcess(pid=2**22 + 1, uid=6, program="python"))
    assert (inspected.program, inspected.agent_host, inspected.terminal) == ("python", process.UNKNOWN_HOST, False)
