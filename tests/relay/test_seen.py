"""Which state of its database a relay saw: an earlier one, or another database, is served by a person's word alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from parlerd.core.errors import ParlerError, StoreError
from parlerd.paths import Home, prepare
from parlerd.store.relays import Mark
from relay import seen as seen_file
from relay.seen import Seen

MARK = Mark(system="7", database=16_384, log="a" * 32, position=1_000)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "relay", explicit=True)
    prepare(found)
    return found


def test_the_same_state_and_a_later_one_are_served_and_so_is_a_first_one() -> None:
    seen_file.check(MARK, None)
    seen_file.check(MARK, MARK)
    seen_file.check(msgspec.structs.replace(MARK, position=1_001), MARK)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"system": "8"}, "not the database"),
        ({"database": 16_385}, "not the database"),
        ({"log": "b" * 32}, "another log"),
        ({"position": 999}, "brought back"),
        ({"system": "8", "position": 5_000}, "not the database"),
    ],
)
def test_an_earlier_state_another_log_and_another_database_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(StoreError) as error:
        seen_file.check(msgspec.structs.replace(MARK, **change), MARK)
    assert error.value.code == "store_went_back"
    assert said in error.value.message
    assert "parler relay accept-restore" in error.value.hint


def test_what_was_seen_is_kept_and_a_relay_without_a_file_saw_nothing(home: Home) -> None:
    assert seen_file.load(home) is None
    for seen in (Seen(relay="r1"), Seen(relay="r1", mark=MARK)):
        seen_file.store(home, seen)
        assert seen_file.load(home) == seen
    assert seen_file.file_of(home).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"relay":""}', b'{"v":2,"relay":"r1"}', b"\xff", b'{"relay":"r","mark":{}}']
)
def test_a_file_that_says_nothing_is_an_error_and_not_a_relay_that_saw_nothing(home: Home, data: bytes) -> None:
    seen_file.file_of(home).write_bytes(data)
    with pytest.raises(ParlerError) as error:
        seen_file.load(home)
    assert error.value.code == "invalid_settings"
