"""The tutorial of the coordination page, typed block after block by a real shell: it prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import processes
from tests.support.pages import ROOT, blocks
from tests.support.processes import PATIENCE_S, Somebody, put_program, skip_where_nobody_may_decide, until

pytestmark = pytest.mark.e2e

PAGE: Final = ROOT / "docs" / "coordination.md"
EXAMPLE_KEY: Final = "A3KE7DJR"
_CHANGING: Final = (
    (re.compile(r"\b\d+ seconds?\b"), "SECONDS"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "MOMENT"),
    (re.compile(r"\b\d\d:\d\d(:\d\d)?\b"), "TIME"),
    (re.compile(r"\bm_[0-9a-f]+\b"), "ID"),
    (re.compile(r"--fence \d+"), "--fence N"),
    (re.compile(r"\n +"), "\n "),
    (re.compile(r" +"), " "),
)
"""What differs from run to run, with what stands in its place when a page and a run are compared. Columns of a table
are as wide as what stands in them."""


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Somebody]:
    with processes.somebody(monkeypatch) as one:
        yield one


def comparable(text: str) -> str:
    for pattern, stands in _CHANGING:
        text = pattern.sub(stands, text)
    return text.strip()


class Terminals:
    """Two terminals in one folder. In the first one every block is typed; in the second one waits what waits."""

    def __init__(self, somebody: Somebody, folder: Path) -> None:
        self._somebody = somebody
        self._folder = folder
        put_program(folder)
        self._environment = somebody.environment(PATH=f"{folder}:{os.environ['PATH']}")
        self._waiting: subprocess.Popen[str] | None = None
        self._printed = ""

    def types(self, script: str) -> None:
        """Type a block. One that waits without end is typed in the second terminal, and waits when this returns."""
        if re.search(r"parler [^\n]*\bwait\b(?![^\n]*--timeout)", script):
            self._waiting = self._shell(script)
            until(lambda: self._somebody.asks("--as", "bob", "eval", "agents.bob.waiting_on")["value"], "wait of bob")
            return
        self._printed += self._ended(self._shell(script))

    def shown(self) -> str:
        """What was printed since this was asked last; in the second terminal, where nothing was in the first."""
        printed, self._printed = self._printed, ""
        if not printed:
            assert self._waiting is not None, "a page shows what nothing printed"
            printed, self._waiting = self._ended(self._waiting), None
        return printed

    def _shell(self, script: str) -> subprocess.Popen[str]:
        # Notes stand on stderr, which a terminal shows after the line that they belong to.
        child = subprocess.Popen(
            ["/bin/sh", "-u", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._somebody.children.append(child)
        return child

    def _ended(self, child: subprocess.Popen[str]) -> str:
        printed, _ = child.communicate(timeout=2 * PATIENCE_S)
        return printed


def test_the_tutorial_prints_what_the_page_shows(somebody: Somebody, tmp_path: Path) -> None:
    tutorial = [block for block in blocks(PAGE) if block.language in ("sh", "text")]
    opening, *rest = tutorial
    first, second = opening.text.splitlines()
    skip_where_nobody_may_decide(shlex.split(first)[1:])
    terminals = Terminals(somebody, tmp_path)
    terminals.types(first)
    found = re.search(r"^KEY: (\S+)$", terminals.shown(), re.MULTILINE)
    assert found is not None
    terminals.types(second.replace(EXAMPLE_KEY, found[1]))
    assert "Joined 'chess' as bob." in terminals.shown()
    for block in rest:
        if block.language == "sh":
            terminals.types(block.text)
        else:
            assert comparable(terminals.shown()) == comparable(block.text)
    assert sum(block.language == "text" for block in rest) > 10
