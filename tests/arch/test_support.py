"""What tests share: its index is of what is there, and whatever stands in for something real is held to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.index import README, ROOT, Entry, entries, page


@pytest.fixture(scope="module")
def index() -> list[Entry]:
    """Made when a test asks for it: it reads every test, and whoever collects tests needs nothing of it."""
    return entries()


def test_the_index_is_of_what_is_there(index: list[Entry]) -> None:
    assert README.read_text(encoding="utf-8") == page(index), "run: python -m tests.support.index"


def test_every_module_says_what_it_is_and_a_test_uses_it(index: list[Entry]) -> None:
    assert [entry.path for entry in index if not (entry.sentence and entry.users)] == []


def test_a_fake_names_the_suite_that_it_passes_as_the_real_one_does(index: list[Entry]) -> None:
    fakes = [entry for entry in index if Path(entry.path).name.startswith(("fake_", "faulty_"))]
    assert fakes
    assert [entry.path for entry in fakes if not entry.suites] == []


def test_a_suite_that_verifies_a_module_is_there_and_uses_it(index: list[Entry]) -> None:
    verified = [(entry, suite) for entry in index for suite in entry.suites]
    assert verified
    for entry, suite in verified:
        files = [ROOT / suite] if suite.endswith(".py") else sorted((ROOT / suite).glob("*.py"))
        assert {path.relative_to(ROOT).as_posix() for path in files} & set(entry.users), (entry.path, suite)


def test_a_class_of_stand_ins_has_one_name_in_one_place() -> None:
    named = [
        line.split("class ", 1)[1].split("(")[0].rstrip(":")
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("class Fake")
    ]
    assert sorted(named) == sorted(set(named))
