"""A daemon whose socket, lock or run directory is removed under it is found, leaves, and has no other beside it."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE_S, Somebody, until

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("removed", ["socket", "lock", "endpoint", "run"])
def test_a_daemon_that_nobody_can_find_leaves_and_the_next_command_starts_another(
    somebody: Somebody, removed: str
) -> None:
    somebody.opens(topic="kept")
    (first,) = somebody.daemons()
    if removed == "run":
        shutil.rmtree(somebody.home.run)
    else:
        {"socket": somebody.home.socket, "lock": somebody.home.lock, "endpoint": somebody.home.endpoint}[
            removed
        ].unlink()
    # At once: it waits for the other one to leave, for two daemons would write to one database.
    assert [room["name"] for room in somebody.asks("rooms", "--as", "alice")["rooms"]] == ["kept"]
    until(lambda: first not in somebody.daemons(), "end of the daemon that lost its files")
    assert len(somebody.daemons()) <= 1
    assert somebody.asks("rooms", "--as", "alice")["rooms"]
    assert somebody.home.socket.exists()
    assert somebody.home.shim.exists()


def told_to_end(pid: int) -> bool:
    """Whether a SIGTERM waits for a process that is stopped."""
    lines = dict(line.partition(":")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(lines["ShdPnd"], 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only there it is told which signals wait for a process")
@pytest.mark.parametrize("removed", ["socket", "run"])
def test_a_daemon_without_a_socket_is_named_and_can_be_stopped(somebody: Somebody, removed: str) -> None:
    child = somebody.daemon()
    assert somebody.status().pid == child.pid
    # Held by a signal, so that it cannot leave by itself meanwhile.
    child.send_signal(signal.SIGSTOP)
    if removed == "run":
        shutil.rmtree(somebody.home.run)
    else:
        somebody.home.socket.unlink()
    error = somebody.fails("daemon", "status", code="unreachable", expect=3)
    assert str(child.pid) in error["message"]
    checks = {check["name"]: check for check in somebody.asks("doctor", expect=1)["checks"]}
    assert not checks["daemon"]["ok"]
    assert str(child.pid) in checks["daemon"]["detail"]
    stopping = somebody.starts("daemon", "stop", "--json")
    until(lambda: told_to_end(child.pid), "signal that waits for the daemon")
    child.send_signal(signal.SIGCONT)
    assert somebody.ends(stopping).document["stopped"] == child.pid
    assert child.wait(PATIENCE_S) == 0
