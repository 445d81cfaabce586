"""Where a home is, and that nobody else can get at it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.paths import MAX_SOCKET_PATH, Home, home_from, prepare


def test_the_home_is_named_by_the_caller_else_the_environment_else_the_default() -> None:
    env = {"HOME": "/home/ann", "PARLER_HOME": "/srv/parler"}
    assert home_from(env, "/elsewhere").root == Path("/elsewhere")
    assert home_from(env).root == Path("/srv/parler")
    assert home_from({"HOME": "/home/ann"}).root == Path("/home/ann/.parler")
    assert home_from({"HOME": "/home/ann", "PARLER_HOME": ""}).root == Path("/home/ann/.parler")


def test_a_tilde_is_the_home_of_the_environment_that_was_given() -> None:
    env = {"HOME": "/home/ann", "PARLER_HOME": "~/p"}
    assert home_from(env).root == Path("/home/ann/p")
    assert home_from(env, "~").root == Path("/home/ann")
    assert home_from(env, "~bob/p").root == Path.cwd() / "~bob/p", "other users' homes are not looked up"


def test_without_a_home_in_the_environment_the_systems_answer_is_used() -> None:
    assert home_from({}).root == Path(os.path.expanduser("~")) / ".parler"


def test_a_relative_home_is_made_absolute_and_dots_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_from({}, "a/../b").root == tmp_path / "b"


def test_everything_is_below_the_root() -> None:
    home = Home(Path("/home/ann/.parler"))
    below = {
        name: str(getattr(home, name).relative_to(home.root))
        for name in (
            *("run", "endpoint", "socket", "lock", "database", "backups"),
            *("keys", "log", "shim", "static", "settings"),
        )
    }
    assert below == {
        "run": "run",
        "endpoint": "run/endpoint",
        "socket": "run/parlerd.sock",
        "lock": "run/parlerd.lock",
        "database": "parler.db",
        "backups": "backups",
        "keys": "keys",
        "log": "log/parlerd.log",
        "shim": "run/shim.py",
        "static": "run/static.json",
        "settings": "settings.toml",
    }


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives this user no folder for sockets."""
    monkeypatch.setattr("parlerd.paths._runtime_folder", lambda: "")


@pytest.mark.usefixtures("no_runtime")
def test_a_path_too_long_for_a_socket_falls_back_to_a_short_one_of_this_home() -> None:
    suffix = len("/run/parlerd.sock")
    fits = Home(Path("/" + "a" * (MAX_SOCKET_PATH - suffix - 1)))
    assert len(str(fits.socket)) == MAX_SOCKET_PATH
    assert fits.socket.parent == fits.run
    long, other = Home(Path(f"{fits.root}b")), Home(Path(f"{fits.root}c"))
    assert long.socket.parts[:3] == ("/", "tmp", f"parler-{os.getuid()}")
    assert len(long.socket.parts[3]) == 16
    assert long.socket != other.socket
    # The limit is in bytes and not in characters.
    assert Home(Path("/" + "é" * 60)).socket.parts[1] == "tmp"


def test_a_socket_without_room_in_its_home_stands_where_the_system_keeps_the_sockets_of_this_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def home() -> Home:
        return Home(Path("/" + "a" * MAX_SOCKET_PATH))

    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        assert home().socket.parent.parent == Path(runtime, "parler")
        assert len(home().socket.parent.name) == 16
        stays = home()
        assert stays.socket.parent.parent == Path(runtime, "parler")
        # What it holds may be made by anybody: then it is no better than /tmp.
        os.chmod(runtime, 0o755)
        assert Path(runtime) not in home().socket.parents
        # Whoever asked already stays where it is.
        assert Path(runtime) in stays.socket.parents
        long = Path(runtime, "b" * 60)
        long.mkdir(mode=0o700)
        os.chmod(runtime, 0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        assert Path(runtime) not in home().socket.parents
        assert len(os.fsencode(home().socket)) <= MAX_SOCKET_PATH
        # A home with room has its socket inside, and asks nobody.
        assert Home("/home/ann/.parler").socket == Path("/home/ann/.parler/run/parlerd.sock")


def test_a_client_goes_to_the_socket_that_the_daemon_wrote_whatever_its_own_environment_says(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.address() == str(home.socket)
    prepare(home)
    home.endpoint.write_text("/run/elsewhere.sock\n")
    assert home.address() == "/run/elsewhere.sock"
    home.endpoint.write_bytes(b"\xff")
    assert home.address() == str(home.socket)


def test_the_directories_are_made_for_this_user_alone_and_again_is_harmless(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    before = os.umask(0)
    try:
        prepare(home)
        prepare(home)
    finally:
        os.umask(before)
    for directory in (home.root, home.run, home.keys, home.backups, home.log.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_fallback_of_the_socket_is_made_and_checked_too(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 25), fallback=tmp_path)
    prepare(home)
    for directory in (home.socket.parent, home.socket.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    home.socket.parent.parent.chmod(0o777)
    assert _refusal(home) == "home_unsafe"


def _refusal(home: Home) -> str:
    with pytest.raises(ParlerError) as caught:
        prepare(home)
    assert caught.value.hint
    return caught.value.code


@pytest.mark.parametrize("name", ["root", "run", "keys", "backups"])
@pytest.mark.parametrize("mode", [0o710, 0o701, 0o755])
def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    directory: Path = getattr(home, name)
    directory.chmod(mode)
    assert _refusal(home) == "home_unsafe"
    directory.chmod(0o700)
    prepare(home)


@pytest.mark.parametrize("name", ["root", "run", "keys"])
def test_a_symlink_in_the_place_of_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    directory: Path = getattr(home, name)
    directory.rename(tmp_path / "moved")
    directory.symlink_to(tmp_path / "moved")
    assert _refusal(home) == "home_unsafe"


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert _refusal(home) == "home_unsafe"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    assert _refusal(Home(tmp_path / "home")) == "home_not_writable"
    assert _refusal(Home(tmp_path / "home" / "deeper")) == "home_not_writable"


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home.keys)
    assert _refusal(home) == "home_not_writable"


@pytest.mark.parametrize("git", ["directory", "file"])
def test_a_home_inside_a_git_work_tree_must_be_named_by_the_person(tmp_path: Path, git: str) -> None:
    """A repository must not be able to bring its own home, by its files or by what it puts into the environment."""
    marker = tmp_path / "repo" / ".git"
    marker.parent.mkdir()
    if git == "directory":
        marker.mkdir()
    else:
        marker.write_text("gitdir: elsewhere")
    where = str(tmp_path / "repo" / "sub" / "home")
    assert _refusal(home_from({"PARLER_HOME": where})) == "home_unsafe"
    assert not (tmp_path / "repo" / "sub").exists()
    prepare(home_from({}, where))


def test_a_home_whose_path_is_no_text_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "caf\udce9")
    with pytest.raises(ParlerError) as refused:
        prepare(home)
    assert refused.value.code == "home_unsafe"
    assert "caf\\xe9 is a path that is not UTF-8" in refused.value.message
    assert "PARLER_HOME" in refused.value.hint
    assert list(tmp_path.iterdir()) == []
