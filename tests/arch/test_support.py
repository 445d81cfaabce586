"""What tests share: its index is of what is there, and whatever stands in for something real is held to it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.index import README, ROOT, Entry, entries, imports, page

ENTRIES: Final = entries()
EVERY: Final = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)


def test_the_index_is_of_what_is_there() -> None:
    assert README.read_text(encoding="utf-8") == page(), "run: python -m tests.support.index"


@EVERY
def test_every_module_says_what_it_is_and_a_test_uses_it(entry: Entry) -> None:
    assert entry.sentence
    assert entry.users


@EVERY
def test_a_fake_names_the_suite_that_it_passes_as_the_real_one_does(entry: Entry) -> None:
    if Path(entry.path).name.startswith(("fake_", "faulty_")):
        assert entry.suites


@EVERY
def test_a_suite_that_verifies_a_module_is_there_and_uses_it(entry: Entry) -> None:
    for suite in entry.suites:
        files = [ROOT / suite] if suite.endswith(".py") else sorted((ROOT / suite).glob("*.py"))
        assert files
        assert any(path.relative_to(ROOT).as_posix() in entry.users and imports(path) for path in files)


def test_a_class_of_stand_ins_has_one_name_in_one_place() -> None:
    named = [
        line.split("class ", 1)[1].split("(")[0].rstrip(":")
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("class Fake")
    ]
    assert sorted(named) == sorted(set(named))
