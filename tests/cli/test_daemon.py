"""The daemon commands and the checkup, as seen from outside the daemon."""

from __future__ import annotations

import _socket
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mcp_server.stdio import COPIES
from parlerd import __version__
from parlerd.cli.doctor import _home
from parlerd.cli.program import PACKAGED_SHIM
from parlerd.client import connect as real_client
from parlerd.client.link import FORBIDDEN
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home, prepare
from tests.support.answers import daemon_info
from tests.support.cli import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def ended() -> int:
    """The id of a process that was and is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def zombie() -> Iterator[int]:
    """The id of a process that ended and that its parent has not collected."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


def test_status_of_a_running_daemon(shell: Shell) -> None:
    shell.daemon.answers("daemon.status", daemon_info())
    ran = shell.run("daemon", "status", "--json")
    assert ran.code == 0
    assert ran.document == msgspec.to_builtins(daemon_info())
    said = shell.run("daemon", "status").stdout
    assert "sight" not in said
    assert "pid 4242" in said
    assert "1 room, 2 connections, 1 agent window\n" in said
    assert {start for _name, start in shell.daemon.opened} == {False}


def test_status_says_which_hosts_records_are_watched(shell: Shell) -> None:
    shell.daemon.answers("daemon.status", daemon_info(watched=["claude-code", "codex"]))
    assert "watches what claude-code, codex records, as you chose" in shell.run("daemon", "status").stdout


def test_status_never_starts_one_and_exits_3(shell: Shell) -> None:
    shell.daemon.down = True
    ran = shell.run("daemon", "status", "--json")
    assert ran.code == 3
    assert ran.document == {"running": False, "pid": None}
    assert shell.run("daemon", "status").code == 3
    assert {start for _name, start in shell.daemon.opened} == {False}


@pytest.fixture(params=["connect", "socket"])
def sandboxed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sandbox answers: that this is not permitted."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    class Caged(socket.socket):
        def __init__(self, *about: Any) -> None:
            if request.param == "socket":
                refuse()
            super().__init__(*about)

        connect = refuse

    bare = _socket.socket

    class CagedLink(_socket.socket):  # what the client uses, and what the class above calls by its name
        def __init__(self, *about: Any) -> None:
            if request.param == "socket":
                refuse()
            bare.__init__(self, *about)

        connect = refuse

    monkeypatch.setattr(socket, "socket", Caged)
    monkeypatch.setattr(_socket, "socket", CagedLink)


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("words", [("daemon", "status"), ("daemon", "stop"), ("rooms",)])
def test_what_may_not_connect_does_not_say_that_no_daemon_runs(shell: Shell, words: tuple[str, ...]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "daemon", SimpleNamespace(connect=real_client))
        ran = shell.run(*words, "--json")
    assert ran.code == 3
    assert (ran.document["error"]["code"], ran.document["error"]["message"]) == ("unreachable", FORBIDDEN)


@pytest.mark.usefixtures("sandboxed")
def test_a_checkup_that_may_not_connect_says_so(shell: Shell) -> None:
    home = Home(shell.home / ".parler")
    prepare(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "daemon", SimpleNamespace(connect=real_client))
        ran = shell.run("doctor", "--json")
    assert ran.code == 1
    checks = {check["name"]: check for check in ran.document["checks"]}
    assert (checks["daemon"]["ok"], checks["daemon"]["detail"]) == (False, FORBIDDEN)


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_folder_of_the_socket_that_others_reach_is_named_with_the_way_out(shell: Shell, mode: int) -> None:
    home = Home(shell.home / ("long" * 30), fallback=shell.home)
    prepare(home)
    home.socket.parent.parent.chmod(mode)
    found = {check.name: check for check in _home(home)}
    assert not found["socket"].ok
    assert str(home.socket.parent.parent) in found["socket"].detail
    assert "shorter path" in found["socket"].fix
    with pytest.raises(ParlerError) as refused:
        prepare(home)
    assert "shorter path" in refused.value.hint


def test_start_returns_when_the_daemon_answers(shell: Shell) -> None:
    shell.daemon.answers("daemon.status", daemon_info())
    ran = shell.run("daemon", "start", "--json")
    assert ran.code == 0
    assert ran.document["running"] is True
    assert shell.daemon.opened == [("", True)]


def test_stop_returns_when_the_process_has_ended(shell: Shell, ended: int) -> None:
    shell.daemon.answers("daemon.stop", t.Stopping(pid=ended))
    ran = shell.run("daemon", "stop", "--json")
    assert ran.code == 0
    assert ran.document == {"running": False, "pid": None, "stopped": ended}


def test_a_process_that_nobody_collected_has_ended(shell: Shell, zombie: int) -> None:
    shell.daemon.answers("daemon.stop", t.Stopping(pid=zombie))
    assert shell.run("daemon", "stop").code == 0


def test_stop_where_none_runs_is_done(shell: Shell) -> None:
    shell.daemon.down = True
    ran = shell.run("daemon", "stop", "--json")
    assert ran.code == 0
    assert ran.document == {"running": False, "pid": None, "stopped": None}


def test_stop_that_the_daemon_refuses_is_an_error(shell: Shell) -> None:
    shell.daemon.answers("daemon.stop", ParlerError("not_permitted"))
    assert shell.run("daemon", "stop").code == 1


def test_restart_stops_and_starts(shell: Shell, ended: int) -> None:
    shell.daemon.answers("daemon.stop", t.Stopping(pid=ended)).answers("daemon.status", daemon_info())
    ran = shell.run("daemon", "restart", "--json")
    assert ran.code == 0
    assert ran.document["pid"] == 4242
    assert shell.daemon.opened == [("", False), ("", True)]


def test_logs_prints_the_end_of_the_log_and_nothing_that_draws(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / ".parler" / "log" / "parlerd.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}\n" for number in range(100)) + "\x1b[2Klast\n")
    ran = shell.run("daemon", "logs", "-n", "2")
    assert ran.stdout == "line 99\n\\x1b[2Klast\n"
    document = shell.run("daemon", "logs", "-n", "2", "--json").document
    assert document == {"path": str(log), "lines": ["line 99", "\x1b[2Klast"]}
    assert shell.daemon.opened == []


def test_logs_of_a_home_without_a_log_says_so(shell: Shell) -> None:
    ran = shell.run("daemon", "logs", "--json")
    assert ran.code == 3
    assert "no log" in ran.document["error"]["message"]


def test_frames_are_followed_one_a_line_until_as_many_came_as_were_asked_for(shell: Shell) -> None:
    call = t.FrameInfo(
        at=1_795_860_000_123,
        connection=3,
        direction="in",
        size=90,
        type="call",
        id=7,
        operation="message.send",
        fields={"text": "text of 23"},
    )
    reply = t.FrameInfo(at=1_795_860_000_124, connection=3, direction="out", size=70, type="reply", id=7, left_out=2)
    shell.daemon.streams("daemon.frames", call, reply, reply)
    ran = shell.run("daemon", "logs", "--frames", "-n", "2")
    assert ran.code == 0
    first, second = ran.stdout.splitlines()
    assert first.endswith(".123 #3 -> call 7 message.send 90 bytes; text: text of 23")
    assert second.endswith(".124 #3 <- reply 7 70 bytes")
    assert "2 frames left out here" in ran.stderr
    shell.daemon.streams("daemon.frames", call, reply)
    items = shell.run("daemon", "logs", "--frames", "--json").items
    assert [item["type"] for item in items] == ["call", "reply"]
    assert items[0]["fields"] == {"text": "text of 23"}


# -- doctor ------------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(shell: Shell, tmp_path: Path) -> Path:
    """A home in which everything is in order, with a daemon that says so."""
    home = tmp_path / ".parler"
    for folder in (home, home / "run", home / "run/stdio", home / "keys", home / "backups", home / "log"):
        folder.mkdir(mode=0o700)
    for name in ("parler.db", "keys/seed", "backups/parler.db.1"):
        (home / name).touch(mode=0o600)
    for name in COPIES:
        (home / "run" / name).write_bytes((PACKAGED_SHIM.parent / name).read_bytes())
    checks = t.CheckList(checks=[t.Check(name="store", ok=True, detail="fine", fix="")])
    shell.daemon.answers("daemon.status", daemon_info(version=__version__)).answers("daemon.check", checks)
    return home


def failing(shell: Shell) -> dict[str, str]:
    """The checks that fail, and their fixes. The exit code has to agree."""
    ran = shell.run("doctor", "--json")
    document = ran.document
    assert set(document) == {"ok", "checks"}
    bad = {check["name"]: check["fix"] for check in document["checks"] if not check["ok"]}
    assert all(set(check) == {"name", "ok", "detail", "fix"} for check in document["checks"])
    assert document["ok"] is (not bad)
    assert ran.code == (1 if bad else 0)
    assert all(bad.values())
    assert shell.run("doctor").code == ran.code
    return bad


def test_a_healthy_home_has_nothing_wrong(shell: Shell, healthy: Path) -> None:
    assert failing(shell) == {}


def test_a_home_that_is_not_there_yet_is_fine_and_is_not_made(shell: Shell, tmp_path: Path) -> None:
    shell.daemon.down = True
    assert failing(shell) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_does_not_run_is_fine_and_is_not_started(shell: Shell, healthy: Path) -> None:
    shell.daemon.down = True
    assert failing(shell) == {}
    assert {start for _name, start in shell.daemon.opened} == {False}


def test_a_daemon_that_could_not_start_is_wrong_and_its_last_words_are_told(shell: Shell, healthy: Path) -> None:
    shell.daemon.down = True
    log = healthy / "log" / "parlerd.log"
    log.write_text("... INFO parlerd: stopped\nparlerd: store_corrupt: The database is damaged. Run `cp a b`.\n")
    log.chmod(0o600)
    assert "parler daemon start" in failing(shell)["daemon"]
    assert "cp a b" in shell.run("doctor").stdout
    log.write_text("parlerd: invalid_settings: settings.toml: a value is missing hint: Correct what is named.\n")
    assert "a value is missing. Correct what is named." in shell.run("doctor").stdout, "two sentences stay two"
    log.write_text("parlerd: already_running: Another daemon serves this home.\n... INFO parlerd: stopped\n")
    assert failing(shell) == {}


def test_the_checkup_leaves_the_home_as_it_was(shell: Shell, healthy: Path) -> None:
    before = {path: path.stat() for path in healthy.rglob("*")}
    shell.run("doctor")
    after = {path: path.stat() for path in healthy.rglob("*")}
    assert before.keys() == after.keys()
    assert all(before[path].st_mtime_ns == after[path].st_mtime_ns for path in before)


def test_a_home_that_others_can_enter_is_wrong(shell: Shell, healthy: Path) -> None:
    healthy.chmod(0o755)
    assert "chmod 700" in failing(shell)["home"]


def test_a_home_that_is_a_symlink_is_wrong(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / ".parler").symlink_to(tmp_path / "real")
    shell.daemon.down = True
    assert "home" in failing(shell)


@pytest.mark.parametrize("name", ["keys/seed", "parler.db", "backups/parler.db.1", "keys"])
def test_a_file_that_others_can_read_is_wrong(shell: Shell, healthy: Path, name: str) -> None:
    (healthy / name).chmod(0o755)
    assert "chmod" in failing(shell)["private files"]


def test_another_version_of_the_daemon_is_wrong(shell: Shell, healthy: Path) -> None:
    shell.daemon._answers["daemon.status"].clear()
    shell.daemon.answers("daemon.status", daemon_info(version="0.0.0-other"))
    assert "daemon restart" in failing(shell)["version"]


def test_what_the_daemon_finds_wrong_with_its_store_is_wrong(shell: Shell, healthy: Path) -> None:
    shell.daemon._answers["daemon.check"].clear()
    bad = t.Check(name="store integrity", ok=False, detail="page 7", fix="restore the newest backup")
    shell.daemon.answers("daemon.check", t.CheckList(checks=[bad]))
    assert failing(shell) == {"store integrity": "restore the newest backup"}


def test_a_daemon_that_cannot_be_asked_is_wrong(shell: Shell, healthy: Path) -> None:
    shell.daemon._answers["daemon.status"].clear()
    shell.daemon.answers("daemon.status", ParlerError("not_permitted"))
    assert "daemon" in failing(shell)


@pytest.mark.parametrize("name", COPIES)
def test_a_shim_that_is_missing_or_of_another_version_is_wrong(shell: Shell, healthy: Path, name: str) -> None:
    (healthy / "run" / name).write_text("old")
    assert "daemon restart" in failing(shell)["shim"]
    (healthy / "run" / name).unlink()
    assert "daemon restart" in failing(shell)["shim"]
