"""The ledger of what was written where: it survives whatever happens to it, and two writers at once."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from configs.disk import Disk
from configs.ledger import Entry, Ledger
from parlerd.core.errors import ParlerError
from parlerd.paths import Home
from tests.support.settings_files import record

FILE = Path("/home/ann/.claude.json")
KEYS = ("mcpServers", "parler")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "parler")


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home)


def recorded(ledger: Ledger, file: Path = FILE, **about: object) -> Entry:
    return record(ledger, "entry", "claude-code", file, KEYS, {"command": "x"}, **about)


def test_a_home_without_a_ledger_has_written_nothing(ledger: Ledger, home: Home) -> None:
    assert ledger.entries() == []
    assert not ledger.damaged()
    assert not home.root.exists()


def test_what_is_recorded_is_there_for_the_next_program(ledger: Ledger, home: Home) -> None:
    made = record(
        ledger,
        "hook",
        "codex",
        FILE,
        ("hooks", "Stop"),
        {"n": [1, None, "ä"]},
        created=True,
        prune=2,
        named=Path("/home/ann/link"),
        folders=(Path("/home/ann"), Path("/home/ann/x")),
        backup=Path("/b"),
        original="aa",
        written="bb",
    )
    assert Ledger(home).entries() == [made]
    assert Ledger(home).find("hook", "codex", FILE, ("hooks", "Stop")) == made
    assert Ledger(home).find("entry", "codex", FILE, ("hooks", "Stop")) is None


def test_entries_are_listed_by_kind_and_host(ledger: Ledger) -> None:
    first = recorded(ledger)
    hook = record(ledger, "hook", "codex", FILE, KEYS, 1)
    assert ledger.entries("entry") == [first]
    assert ledger.entries(host="codex") == [hook]
    assert ledger.entries("entry", "codex") == []


def test_the_ledger_is_the_persons_alone(ledger: Ledger, home: Home) -> None:
    recorded(ledger)
    assert stat.S_IMODE(ledger.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert sorted(path.name for path in home.connect.iterdir()) == ["ledger.json", "ledger.lock"]


def test_a_second_record_of_a_value_takes_the_place_of_the_first_and_keeps_what_that_created(ledger: Ledger) -> None:
    recorded(ledger, created=True, prune=2, folders=(Path("/home/ann"),))
    again = recorded(ledger, written="cc")
    assert ledger.entries() == [again]
    assert (again.created, again.prune, again.folders, again.written) == (True, 2, (Path("/home/ann"),), "cc")


def test_putting_an_entry_takes_it_as_it_is(ledger: Ledger) -> None:
    recorded(ledger, created=True, prune=2)
    plain = Entry(kind="entry", host="claude-code", file=FILE, named=FILE, path=KEYS, value=1)
    ledger.put(plain)
    assert ledger.entries() == [plain]


def test_what_is_forgotten_is_gone_and_the_rest_stays(ledger: Ledger) -> None:
    first, second = recorded(ledger), recorded(ledger, Path("/other"))
    ledger.forget(first)
    ledger.forget(first)
    assert ledger.entries() == [second]


def test_forgetting_what_was_never_written_makes_no_ledger(ledger: Ledger, home: Home) -> None:
    ledger.forget(Entry(kind="entry", host="x", file=FILE, named=FILE, path=KEYS, value=1))
    assert not home.root.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"version": 2, "entries": []}',
        b'{"version": 1}',
        b'{"version": 1, "entries": [1]}',
        b'{"version": 1, "entries": [{"kind": "other"}]}',
        b'{"version": 1, "entries": {"a": "b"}}',
        b"[" * 100_000,
    ],
)
def test_a_ledger_that_cannot_be_read_is_put_aside_and_a_new_one_begun(content: bytes, ledger: Ledger) -> None:
    ledger.file.parent.mkdir(parents=True)
    ledger.file.write_bytes(content)
    assert ledger.damaged()
    assert ledger.entries() == []
    made = recorded(ledger)
    assert ledger.entries() == [made]
    assert not ledger.damaged()
    assert [path.read_bytes() for path in ledger.aside()] == [content]


def test_a_second_damaged_ledger_does_not_take_the_place_of_the_first(ledger: Ledger) -> None:
    recorded(ledger)
    for content in (b"first", b"second"):
        ledger.file.write_bytes(content)
        recorded(ledger)
    assert [path.read_bytes() for path in ledger.aside()] == [b"first", b"second"]


@pytest.mark.parametrize(
    "field", ["host", "file", "named", "path", "folders", "backup", "original", "written", "prune"]
)
def test_a_field_of_the_wrong_type_is_noticed(field: str, ledger: Ledger) -> None:
    recorded(ledger)
    whole = json.loads(ledger.file.read_bytes())
    whole["entries"][0][field] = 1.5 if field in ("path", "folders") else {"a": 1}
    ledger.file.write_text(json.dumps(whole))
    assert ledger.damaged()


def test_two_writers_at_once_both_have_their_say(home: Home) -> None:
    def write(number: int) -> None:
        for each in range(5):
            recorded(Ledger(home), Path(f"/{number}/{each}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(Ledger(home).entries()) == 20


def test_what_a_killed_writer_left_is_written_over(ledger: Ledger, home: Home) -> None:
    recorded(ledger)
    (home.connect / ".ledger.new").write_bytes(b'{"version": 1, "ent')
    made = recorded(ledger, Path("/other"))
    assert made in ledger.entries()
    assert not (home.connect / ".ledger.new").exists()


def test_a_full_disk_leaves_the_ledger_as_it_was(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    first = recorded(ledger)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("configs.ledger.os.fsync", full)
    with pytest.raises(ParlerError, match="home_not_writable"):
        recorded(ledger, Path("/other"))
    assert ledger.entries() == [first]


def test_a_home_that_is_a_file_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "parler").touch()
    with pytest.raises(ParlerError, match="home_not_writable"):
        recorded(Ledger(Home(tmp_path / "parler")))


def test_a_writer_that_never_lets_go_is_not_waited_for_without_end(
    ledger: Ledger, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    recorded(ledger)
    monkeypatch.setattr(Disk, "pause", lambda self, seconds: None)
    descriptor = os.open(home.connect / "ledger.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ParlerError, match="home_not_writable"):
            recorded(ledger, Path("/other"))
    finally:
        os.close(descriptor)
