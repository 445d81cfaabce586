"""A home and a database that fail, under a real daemon: a coded error that says what to do, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from parlerd.client import Client
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support import processes
from tests.support.processes import CAP_DAC, PATIENCE_S, Somebody, can_drop, until, without

pytestmark = pytest.mark.e2e

held_to_modes = pytest.mark.skipif(
    not can_drop(CAP_DAC), reason="modes of files do not hold root, and root cannot be made to obey them here"
)


def send(client: Client, text: str, key: str | None = None) -> t.Sent:
    sent = client.call("message.send", t.Send(text=text, idempotency_key=key))
    assert isinstance(sent, t.Sent)
    return sent


def fills(somebody: Somebody, count: int) -> list[str]:
    """A session of alice's with bob in it and this many messages after the recap; all the texts."""
    somebody.trusts_everyone()
    somebody.enters(somebody.opens().session_key, "bob")
    texts = [f"message {number}" for number in range(count)]
    with somebody.client("alice") as client:
        for text in texts:
            send(client, text)
    return ["the recap", *texts]


def texts(somebody: Somebody, name: str = "bob") -> list[str]:
    return [message.text for message in somebody.reads(name)]


# -- the home --------------------------------------------------------------------------------------------------------


def test_a_home_that_is_a_symlink_is_refused(somebody: Somebody) -> None:
    (somebody.user / "elsewhere").mkdir(mode=0o700)
    somebody.home.root.symlink_to("elsewhere")
    error = somebody.fails("rooms", code="home_unsafe")
    assert "is a symlink" in error["message"]
    assert "PARLER_HOME" in error["hint"]
    assert list((somebody.user / "elsewhere").iterdir()) == []
    assert "is a symlink" in somebody.runs("rooms", expect=1).stderr
    assert somebody.daemons() == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_home_that_others_can_enter_is_refused(somebody: Somebody, mode: int) -> None:
    somebody.home.root.mkdir()
    somebody.home.root.chmod(mode)
    error = somebody.fails("session", "open", "--topic", "x", code="home_unsafe")
    assert error["hint"] == f"Run: chmod 700 {somebody.home.root}"
    assert list(somebody.home.root.iterdir()) == []
    # What the hint says is all that is needed.
    subprocess.run(shlex.split(error["hint"].removeprefix("Run: ")), check=True)
    assert somebody.asks("rooms")["rooms"] == []


def test_a_home_that_is_a_file_or_below_one_is_refused(somebody: Somebody) -> None:
    somebody.home.root.write_text("")
    somebody.fails("rooms", code="home_not_writable")
    below = str(somebody.home.root / "home")
    error = somebody.fails("rooms", code="home_not_writable", variables={"PARLER_HOME": below})
    assert error["message"] == f"{somebody.home.root} is not a directory."


@held_to_modes
def test_a_home_that_cannot_be_written_is_refused_by_command_and_by_tool(somebody: Somebody) -> None:
    somebody.home.root.mkdir(mode=0o500)
    error = somebody.fails("rooms", code="home_not_writable", preexec=without(CAP_DAC))
    assert "cannot be used" in error["message"] or "cannot be written" in error["message"]
    assert somebody.runs("doctor", "--json", expect=1, preexec=without(CAP_DAC)).document["ok"] is False


def test_a_long_path_to_the_home_works_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "/".join(["a-home-in-a-place-with-a-long-name"] * 4)
    with processes.somebody(monkeypatch, where=deep) as somebody:
        somebody.home.root.parent.mkdir(parents=True)
        assert somebody.home.root not in somebody.home.socket.parents
        opened = somebody.asks("session", "open", "--topic", "auth", "--context", "the recap")
        assert somebody.asks("recv", "--all")["messages"][0]["text"] == "the recap"
        assert somebody.home.endpoint.read_text() == f"{somebody.home.socket}\n"
        for private, mode in ((somebody.home.socket, 0o600), (somebody.home.socket.parent, 0o700)):
            assert private.stat().st_mode & 0o777 == mode
        somebody.kills_daemon()
        assert somebody.asks("rooms")["rooms"][0]["room"] == opened["room"]
        somebody.stops()
        assert not somebody.home.socket.exists()


# -- one daemon ------------------------------------------------------------------------------------------------------


def test_a_daemon_in_the_foreground_is_the_command_itself_and_ends_with_an_interrupt(somebody: Somebody) -> None:
    command = somebody.starts("daemon", "start", "--foreground")
    until(somebody.listens, "daemon that listens")
    assert somebody.status().pid == command.pid
    command.send_signal(signal.SIGINT)
    somebody.ends(command)
    assert not somebody.home.socket.exists()


def test_a_second_daemon_ends_at_once_and_the_first_one_is_undisturbed(somebody: Somebody) -> None:
    first = somebody.daemon()
    with somebody.client("alice") as client:
        client.call("session.open", t.OpenSession(topic="auth"))
        second = somebody.runs(program=[*SECOND, "--home", str(somebody.home.root)], expect=75)
        assert second.stderr.startswith("parlerd: already_running: ")
        assert send(client, "still here").seq == 1
        assert client.daemon_pid == first.pid
        assert somebody.asks("daemon", "status")["pid"] == first.pid


SECOND = [sys.executable, "-I", "-m", "_parler", "parlerd"]


def test_without_its_lock_file_a_running_daemon_is_found_by_its_socket(somebody: Somebody) -> None:
    first = somebody.daemon()
    somebody.home.lock.unlink()
    somebody.runs(program=[*SECOND, "--home", str(somebody.home.root)], expect=75)
    assert somebody.asks("daemon", "status")["pid"] == first.pid


def test_commands_that_start_at_the_same_moment_end_up_at_one_daemon(somebody: Somebody) -> None:
    commands = [somebody.starts("daemon", "start", "--json") for _ in range(4)]
    pids = {somebody.ends(command).document["pid"] for command in commands}
    assert len(pids) == 1
    until(lambda: somebody.daemons() == list(pids), "end of the daemons that came too late")


def test_a_socket_that_a_killed_daemon_left_is_replaced(somebody: Somebody) -> None:
    opened = somebody.opens()
    pid = somebody.kills_daemon()
    assert somebody.home.socket.exists()
    assert somebody.home.endpoint.exists()
    assert somebody.asks("daemon", "status", expect=3) == {"running": False, "pid": None}
    assert somebody.asks("rooms", "--as", "alice")["rooms"][0]["room"] == opened.room
    assert somebody.status().pid != pid


def test_a_file_in_the_place_of_the_socket_is_left_alone(somebody: Somebody) -> None:
    somebody.opens()
    somebody.kills_daemon()
    somebody.home.socket.unlink()
    somebody.home.socket.write_text("precious")
    error = somebody.fails("rooms", code="home_unsafe")
    assert str(somebody.home.socket) in error["message"]
    assert somebody.home.socket.read_text() == "precious"


# -- the database ----------------------------------------------------------------------------------------------------


def test_a_database_that_another_program_holds_fails_writes_and_then_goes_on(somebody: Somebody) -> None:
    fills(somebody, 1)
    errors: list[ParlerError] = []

    def write() -> None:
        with somebody.client("alice") as client:
            try:
                send(client, "later", "k1")
            except ParlerError as error:
                errors.append(error)

    with closing(sqlite3.connect(somebody.home.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = threading.Thread(target=write)
        writing.start()
        # Of the room only what was committed is shown, so its readers wait with the writer. Nobody else does.
        with somebody.client("alice") as client:
            assert isinstance(client.call("agent.whoami", t.WhoAmI()), t.Me)
        assert writing.is_alive()
        writing.join(PATIENCE_S)
        other.execute("ROLLBACK")
    (error,) = errors
    assert (error.code, error.spec.retryable) == ("store_locked", True)
    assert "Another program holds the database." in error.message
    with somebody.client("alice") as client:
        assert send(client, "later", "k1").replayed is False
    assert texts(somebody) == ["the recap", "message 0", "later"]


@held_to_modes
def test_a_database_that_may_not_be_written_is_named_and_works_when_it_may(somebody: Somebody) -> None:
    kept = fills(somebody, 2)
    somebody.leaves_one_file()
    somebody.home.database.chmod(0o400)
    error = somebody.fails("recv", "--all", "--as", "bob", code="store_readonly", preexec=without(CAP_DAC))
    assert str(somebody.home.database) in error["message"]
    assert "mode and owner" in error["hint"]
    checkup = somebody.asks("doctor", expect=1, preexec=without(CAP_DAC))
    (wrong,) = (check for check in checkup["checks"] if check["name"] == "daemon")
    assert str(somebody.home.database) in wrong["detail"]
    somebody.home.database.chmod(0o600)
    assert texts(somebody) == kept


def damage(path: Path, *, holding: bytes) -> None:
    """Overwrite every page of the database that holds these bytes."""
    pages = path.read_bytes()
    size = int.from_bytes(pages[16:18], "big")
    with open(path, "r+b") as file:
        for start in range(0, len(pages), size):
            if holding in pages[start : start + size]:
                file.seek(start)
                file.write(random.Random(start).randbytes(size))


@pytest.mark.parametrize("holding", [b"SQLite format 3", b"agent_created"], ids=["header", "home room"])
def test_a_damaged_database_that_cannot_be_opened_says_how_to_recover_and_that_works(
    somebody: Somebody, holding: bytes
) -> None:
    kept = fills(somebody, 3)
    somebody.leaves_one_file()
    backup = somebody.home.backups / "parler-schema-1-20260101T000000000.db"
    shutil.copy(somebody.home.database, backup)
    damage(somebody.home.database, holding=holding)

    error = somebody.fails("recv", "--as", "bob", code="store_corrupt")
    assert error["retryable"] is False
    assert str(backup) in error["hint"]
    assert f"store_corrupt: {error['message'].removeprefix('The daemon could not start: ')}" in somebody.log()
    checkup = somebody.asks("doctor", expect=1)
    (wrong,) = (check for check in checkup["checks"] if not check["ok"])
    assert str(backup) in wrong["detail"]

    restore = error["hint"].partition("then run: ")[2]
    subprocess.run(restore, shell=True, check=True)
    assert texts(somebody) == kept
    assert somebody.asks("doctor")["ok"] is True


def test_damage_that_is_found_while_it_runs_stops_writing_and_says_how_to_recover(somebody: Somebody) -> None:
    kept = fills(somebody, 3)
    somebody.leaves_one_file()
    backup = somebody.home.backups / "parler-schema-1-20260101T000000000.db"
    shutil.copy(somebody.home.database, backup)
    damage(somebody.home.database, holding=b"message 2")
    before = somebody.home.database.read_bytes()

    with pytest.raises(ParlerError) as caught:
        texts(somebody)
    assert caught.value.code == "store_corrupt"
    assert str(backup) in caught.value.hint
    assert f"store_corrupt: {caught.value.message} {caught.value.hint}" in somebody.log()
    pid = somebody.status().pid
    checkup = somebody.asks("doctor", expect=1)
    assert "store" in {check["name"] for check in checkup["checks"] if not check["ok"]}
    somebody.fails("send", "more", "--as", "alice", code="store_corrupt")
    # It goes on to answer what needs no store.
    assert somebody.status().pid == pid
    somebody.stops()
    assert somebody.home.database.read_bytes() == before

    subprocess.run(caught.value.details["restore"], shell=True, check=True)
    assert texts(somebody) == kept
    assert somebody.asks("doctor")["ok"] is True


def test_a_text_that_rotted_on_the_disk_is_marked_not_passed_on_and_is_found_by_a_checkup(somebody: Somebody) -> None:
    fills(somebody, 1)
    sent = somebody.sends("alice", "x" * 20_000)
    somebody.leaves_one_file()
    # In the middle of a text, where the database itself notices nothing.
    pages = somebody.home.database.read_bytes()
    assert pages.count(b"x" * 1000 + b"x" * 8) > 1
    somebody.home.database.write_bytes(pages.replace(b"x" * 1000, b"\xff" * 1000, 1))
    rotten = somebody.asks("recv", "--as", "bob")["messages"][-1]
    assert (rotten["id"], rotten["text"], rotten["verified"]) == (sent.id, "", "invalid")
    chain, signatures = (check for check in somebody.asks("doctor", expect=1)["checks"] if not check["ok"])
    assert (chain["name"], signatures["name"]) == ("chain", "signatures")
    assert sent.room in chain["detail"]
    assert sent.room in signatures["detail"]


def test_words_that_somebody_changed_in_the_file_are_shown_as_invalid_and_found_by_a_checkup(
    somebody: Somebody,
) -> None:
    fills(somebody, 1)
    somebody.sends("alice", "pay ben 10")
    somebody.leaves_one_file()
    file = somebody.home.database.read_bytes()
    assert file.count(b"pay ben 10") == 1
    somebody.home.database.write_bytes(file.replace(b"pay ben 10", b"pay eve 99"))
    changed = somebody.asks("recv", "--as", "bob")["messages"][-1]
    assert (changed["text"], changed["verified"]) == ("pay eve 99", "invalid")
    wrong = [check["name"] for check in somebody.asks("doctor", expect=1)["checks"] if not check["ok"]]
    assert wrong == ["chain", "signatures"]


def test_a_log_that_lost_its_end_gives_whole_messages_up_to_there(somebody: Somebody) -> None:
    kept = fills(somebody, 40)
    somebody.kills_daemon()
    wal = somebody.home.database.with_name("parler.db-wal")
    os.truncate(wal, wal.stat().st_size * 3 // 4 + 13)
    found = texts(somebody)
    assert kept[: len(found)] == found
    assert 1 < len(found) < len(kept)
    assert somebody.asks("doctor")["ok"] is True
    somebody.sends("alice", "and on")
    assert texts(somebody) == [*found, "and on"]


# -- the disk --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root can mount a small file system; the limit on file size is tried instead")
    place = Path(tempfile.mkdtemp(prefix="parler-disk-"))
    try:
        words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "parler-test", str(place)]
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield place
        finally:
            # Lazily: whatever still holds a file there must not keep the mount.
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    finally:
        place.rmdir()


def writes_until_that_fails(client: Client, kept: list[str]) -> tuple[str, str, ParlerError]:
    """Send large messages until one is refused: its text, its key and the refusal. The others join `kept`."""
    for number in range(200):
        text, key = f"{number} " + "x" * 50_000, f"k{number}"
        try:
            send(client, text, key)
        except ParlerError as error:
            return text, key, error
        kept.append(text)
    raise AssertionError("the disk does not fill")


def test_on_a_full_disk_nothing_is_lost_and_it_goes_on_when_there_is_space(monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(12) as disk, processes.somebody(monkeypatch, base=str(disk)) as somebody:
        kept = fills(somebody, 2)
        ballast = disk / "ballast"
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with somebody.client("alice") as client:
            text, key, failure = writes_until_that_fails(client, kept)
            assert (failure.code, failure.spec.retryable) == ("store_full", True)
            assert "Free some space" in failure.hint
            pid = client.daemon_pid
            # What needs no write is answered; the key and the text are the caller's to try again with.
            assert isinstance(client.call("rooms.list", t.ListRooms()), t.RoomList)
            somebody.fails("send", text, "--as", "alice", "--key", key, code="store_full")
            somebody.fails("whoami", "--as", "newcomer", code="home_not_writable")
            ballast.unlink()
            assert send(client, text, key).replayed is False
            assert client.daemon_pid == pid
        assert texts(somebody) == [*kept, text]
        checkup = somebody.asks("doctor", expect=None)
        assert {check["name"] for check in checkup["checks"] if not check["ok"]} <= {"disk"}


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process cannot be set here")
def test_a_commit_that_fails_is_told_and_the_same_key_works_when_it_can_be_made(somebody: Somebody) -> None:
    kept = fills(somebody, 2)
    with somebody.client("alice") as client:
        pid = client.daemon_pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        for _ in range(2):
            with pytest.raises(ParlerError) as caught:
                send(client, "later", "k1")
            assert caught.value.code in ("store_failed", "store_full")
            assert caught.value.spec.retryable
            assert caught.value.details["key"] == "k1"
        assert isinstance(client.call("rooms.list", t.ListRooms()), t.RoomList)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        assert send(client, "later", "k1").replayed is False
        assert client.daemon_pid == pid
    assert texts(somebody) == [*kept, "later"]
    assert somebody.asks("doctor")["ok"] is True
