"""Starting and replacing the daemon, with real processes: a small daemon on a real socket, without engine and store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import parlerd
from parlerd import __main__ as program
from parlerd import process
from parlerd.client import connect, launch
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import STARTED_BELOW, Home, prepare
from tests.support import small_daemon
from tests.support.wire_client import short_home

SEND = t.Send(text="hello")


def fake(home: Home, version: str = parlerd.__version__) -> list[str]:
    return [sys.executable, str(small_daemon.__file__), str(home.root), version]


STARTED: list[subprocess.Popen[bytes]] = []


def spawning(home: Home, version: str = parlerd.__version__) -> launch.Spawn:
    def spawn(_: Home) -> subprocess.Popen[bytes]:
        started = launch.spawn(home, command=fake(home, version))
        STARTED.append(started)
        return started

    return spawn


@pytest.fixture
def home() -> Iterator[Home]:
    with short_home() as home:
        yield home
        stop(home)
        # One of several that were started together may come up only when the others are gone.
        while STARTED:
            end(STARTED.pop().pid)
        assert process.running_with(str(home.root)) == []


def end(pid: int) -> None:
    """End a process that this one started. Not by its `Popen`: the client let go of it, which takes it for ended."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def stop(home: Home) -> None:
    """End whatever daemon a test left behind."""
    try:
        client = connect(home, start=False)
    except ParlerError:
        return
    with client:
        pid = client.daemon_pid
        client.call("daemon.stop", t.StopDaemon())
        with pytest.raises(ParlerError):
            client.call("message.recv", t.Recv(wait_ms=60_000))
    wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    """Wait until a daemon that this process started has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def test_an_absent_daemon_is_started_once_and_found_by_the_next_client(home: Home) -> None:
    with connect(home, spawn=spawning(home)) as client, connect(home, spawn=no_spawn) as second:
        client.call("message.send", SEND)
        second.call("message.send", SEND)
        assert client.daemon_pid == second.daemon_pid != os.getpid()


def no_spawn(_: Home) -> subprocess.Popen[bytes]:
    raise AssertionError("a daemon is there already")


def test_a_started_daemon_has_a_fixed_environment_directory_mask_and_session(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLER_SESSION_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD_LIKE", "x")
    with connect(home, spawn=spawning(home)) as client:
        assert os.getsid(client.daemon_pid) == client.daemon_pid != os.getsid(0)
    directory, environment, mask = (home.root / "started").read_text().splitlines()
    assert directory == "/"
    assert set(environment.split()) <= {"HOME", "LANG", "LC_CTYPE", "PATH", STARTED_BELOW}
    assert mask == "77"
    assert (home.log.stat().st_mode & 0o777) == 0o600


def test_a_daemon_is_told_that_an_agent_host_is_above_who_starts_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STARTED_BELOW, "agent")
    with connect(home, spawn=spawning(home)):
        assert STARTED_BELOW in (home.root / "started").read_text().splitlines()[1].split()


def test_the_holder_of_a_home_is_a_daemon_that_lives(home: Home) -> None:
    prepare(home)
    assert launch.holder(home) == 0
    for said in ("", "no pid", "999999999", "1", str(os.getpid())):
        home.lock.write_text(said)
        # This process lives, and is no daemon: the pid was another's before.
        assert launch.holder(home) == 0


def test_a_daemon_that_cannot_start_is_reported_with_the_last_line_of_its_log(home: Home) -> None:
    words = [
        sys.executable,
        "-c",
        "import sys; print('first', flush=True); sys.exit('settings.toml: no such key: colour')",
    ]
    with pytest.raises(ParlerError) as caught:
        connect(home, spawn=partial(launch.spawn, command=words))
    assert caught.value.code == "unreachable"
    assert "settings.toml: no such key: colour" in caught.value.message
    assert caught.value.details == {"status": 1}


def test_a_daemon_that_says_what_is_wrong_with_the_home_is_reported_with_its_code(home: Home) -> None:
    said = "parlerd: newer_store: The database has schema 7. Upgrade this install. hint: Take a copy first."
    words = [sys.executable, "-c", f"import sys; sys.exit({said!r})"]
    with pytest.raises(ParlerError) as caught:
        connect(home, spawn=partial(launch.spawn, command=words))
    assert caught.value.code == "newer_store"
    assert caught.value.message == ("The daemon could not start: The database has schema 7. Upgrade this install.")
    assert caught.value.hint == "Take a copy first."


def test_a_daemon_that_was_killed_is_not_reported_with_what_an_earlier_one_said(home: Home) -> None:
    home.log.write_text("parlerd: newer_store: The database has schema 7.\n")
    home.log.chmod(0o600)
    words = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    with pytest.raises(ParlerError) as caught:
        connect(home, spawn=partial(launch.spawn, command=words))
    assert caught.value.code == "unreachable"


def test_a_program_that_is_not_there_is_unreachable(home: Home) -> None:
    with pytest.raises(ParlerError) as caught:
        connect(home, spawn=partial(launch.spawn, command=["/no/such/program"]))
    assert caught.value.code == "unreachable"


def test_an_unsafe_home_is_refused_before_anything_is_started(home: Home) -> None:
    home.root.chmod(0o755)
    with pytest.raises(ParlerError) as caught:
        connect(home, spawn=spawning(home))
    assert caught.value.code == "home_unsafe"
    home.root.chmod(0o700)


def test_clients_that_start_at_the_same_time_end_up_at_one_daemon(home: Home) -> None:
    pids: list[int] = []
    errors: list[BaseException] = []

    def use() -> None:
        try:
            with connect(home, spawn=spawning(home)) as client:
                client.call("message.send", SEND)
                pids.append(client.daemon_pid)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(pids) == 3
    assert len(set(pids)) == 1


def test_a_daemon_that_a_test_started_is_gone_when_the_test_is(home: Home) -> None:
    started = spawning(home)(home)
    launch._let_go(started)
    end(started.pid)
    assert not process.is_alive(started.pid)
    assert process.running_with(str(home.root)) == []


def test_an_older_daemon_is_asked_to_stop_for_an_upgrade_and_replaced(home: Home) -> None:
    with connect(home, spawn=spawning(home, "0.0.1")) as old:
        old_pid = old.daemon_pid
        with connect(home, spawn=spawning(home)) as client:
            assert client.daemon_version == parlerd.__version__
            assert client.daemon_pid != old_pid
            assert not process.is_alive(old_pid)
            client.call("message.send", SEND)
        # The older window finds the new daemon by itself.
        assert isinstance(old.call("message.send", SEND), t.Sent)
        assert old.daemon_pid != old_pid
    assert (home.root / "reasons").read_text() == "0.0.1 upgrade\n"


def test_a_newer_daemon_is_never_replaced_by_an_older_client(home: Home) -> None:
    with connect(home, spawn=spawning(home, "99.0")) as first, connect(home, spawn=no_spawn) as client:
        client.call("message.send", SEND)
        assert client.daemon_pid == first.daemon_pid


def test_a_client_that_may_not_start_a_daemon_uses_an_older_one_as_it_is(home: Home) -> None:
    with connect(home, spawn=spawning(home, "0.0.1")) as first, connect(home, start=False) as client:
        client.call("message.send", SEND)
        assert client.daemon_pid == first.daemon_pid


def test_the_next_call_after_a_crash_starts_a_daemon_again(home: Home) -> None:
    with connect(home, spawn=spawning(home)) as client:
        pid = client.daemon_pid
        os.kill(pid, 9)
        wait_for_end(pid)
        client.call("message.send", SEND)
        assert client.daemon_pid != pid


def test_the_daemon_is_started_by_this_interpreter_isolated_and_told_its_home() -> None:
    home = Home(root=Path("/somewhere/home"), explicit=True)
    assert launch.daemon_command(home) == [
        sys.executable,
        "-I",
        "-m",
        "_parler",
        "parlerd",
        "--home",
        "/somewhere/home",
    ]


def test_a_mistake_of_the_daemon_ends_it_with_the_one_line_that_clients_read(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(_: Home) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(program, "prepare", breaks)
    monkeypatch.setattr(program, "harden", lambda: None)
    monkeypatch.setattr(sys, "argv", ["parlerd", "--home", str(home.root)])
    with pytest.raises(SystemExit) as ended:
        program.entry()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("parlerd: internal: ")
    assert said.count("\n") == 1
    assert "a secret" not in said
    assert "RuntimeError" in said
