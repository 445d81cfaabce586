from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.listener import listening, locked, standing
from parlerd.paths import Home, prepare
from tests.support.wire_client import short_home


@pytest.fixture
def home() -> Iterator[Home]:
    with short_home() as home:
        yield home


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


def refused(home: Home) -> ParlerError:
    with pytest.raises(ParlerError) as caught, listening(home):
        pass
    return caught.value


def test_the_socket_is_private_and_the_endpoint_file_names_it(home: Home) -> None:
    with listening(home) as sock:
        assert not sock.getblocking()
        assert connects(home.socket)
        assert stat.S_IMODE(os.stat(home.socket).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(home.socket.parent).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(home.endpoint).st_mode) == 0o600
        assert home.endpoint.read_text() == f"{home.socket}\n"
        assert [path.name for path in home.run.iterdir() if path.name.startswith("endpoint")] == ["endpoint"]


def test_socket_and_endpoint_are_gone_after_an_orderly_end_and_the_home_can_be_served_again(home: Home) -> None:
    for _ in range(2):
        with listening(home):
            pass
        assert not home.socket.exists()
        assert not home.endpoint.exists()


def test_a_second_daemon_is_refused_and_the_first_keeps_its_socket(home: Home) -> None:
    with listening(home):
        assert refused(home).code == "already_running"
        assert connects(home.socket)
        assert home.endpoint.exists()


def test_a_second_daemon_in_another_process_is_refused(home: Home) -> None:
    program = (
        "import sys; from pathlib import Path; from parlerd.paths import Home\n"
        "from parlerd.listener import listening; from parlerd.core.errors import ParlerError\n"
        "try:\n with listening(Home(root=Path(sys.argv[1]), explicit=True)): print('served')\n"
        "except ParlerError as error: print(error.code)"
    )
    with listening(home):
        done = subprocess.run(
            [sys.executable, "-c", program, str(home.root)], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "already_running"


def test_what_a_killed_daemon_left_behind_is_replaced(home: Home) -> None:
    program = (
        "import sys, time; from pathlib import Path; from parlerd.paths import Home\n"
        "from parlerd.listener import listening\n"
        "with listening(Home(root=Path(sys.argv[1]), explicit=True)):\n print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(home.root)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"up\n"
        daemon.send_signal(signal.SIGKILL)
    assert home.socket.exists()
    assert not connects(home.socket)
    with listening(home):
        assert connects(home.socket)


def test_the_lock_can_be_taken_before_the_socket_is_made(home: Home) -> None:
    with locked(home):
        with listening(home, is_locked=True):
            assert connects(home.socket)
        assert refused(home).code == "already_running"
    with listening(home):
        assert connects(home.socket)


def test_a_socket_that_somebody_serves_without_the_lock_is_left_alone(home: Home) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(home.socket))
        other.listen()
        assert refused(home).code == "already_running"
        assert connects(home.socket)


def test_a_file_in_the_sockets_place_is_not_removed(home: Home) -> None:
    home.socket.write_text("someone's")
    assert refused(home).code == "home_unsafe"
    assert home.socket.read_text() == "someone's"


def test_a_link_in_the_sockets_place_is_not_followed(home: Home) -> None:
    target = home.root / "target"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(target))
    home.socket.symlink_to(target)
    assert refused(home).code == "home_unsafe"
    assert target.exists()


def test_a_link_in_the_locks_place_is_not_followed(home: Home) -> None:
    home.lock.symlink_to(home.root / "elsewhere")
    assert refused(home).code == "home_unsafe"
    assert not (home.root / "elsewhere").exists()


def test_a_directory_that_went_away_is_a_coded_error_that_names_it(home: Home) -> None:
    home.run.rmdir()
    error = refused(home)
    assert error.code == "home_not_writable"
    assert str(home.lock) in error.message


@pytest.mark.parametrize("removed", ["socket", "lock", "run"])
def test_no_second_daemon_starts_beside_one_whose_files_were_removed(home: Home, removed: str) -> None:
    with listening(home):
        before = standing(home)
        assert None not in before
        home.socket.unlink()
        if removed != "socket":
            home.lock.unlink()
        if removed == "run":
            shutil.rmtree(home.run)
            prepare(home)
        assert refused(home).code == "already_running"
        assert standing(home) != before
    with listening(home):
        assert connects(home.socket)


def test_a_socket_that_another_program_bound_meanwhile_outlives_us(home: Home) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        with listening(home):
            before = standing(home)
            home.socket.unlink()
            other.bind(str(home.socket))
            other.listen()
            assert standing(home) != before
        assert connects(home.socket)


def test_a_home_with_a_long_path_gets_a_short_socket_that_its_endpoint_names(home: Home) -> None:
    deep = home.root / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir()
    far = Home(root=deep, explicit=True, fallback=home.root)
    prepare(far)
    with listening(far):
        assert len(os.fsencode(far.socket)) <= 107
        assert far.socket.parent != far.run
        named = Path(far.endpoint.read_text().strip())
        assert connects(named)
        assert stat.S_IMODE(os.stat(named.parent).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(named.parent.parent).st_mode) == 0o700
