"""What the pages tell somebody to type does what they say: real processes, an empty HOME, line after line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from parlerd.cli.parsing import split_globals
from tests.support import processes
from tests.support.pages import ROOT, blocks, rows, shell_lines
from tests.support.processes import PATIENCE_S, Somebody, put_program

pytestmark = pytest.mark.e2e

EXAMPLE_KEY: Final = "A3KE7DJR"
TAUGHT: Final = ("README.md", "docs/getting-started.md")
"""Pages whose commands are one story, typed from the first to the last."""
OPERATIONS: Final = ROOT / "docs" / "operations.md"


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Somebody]:
    with processes.somebody(monkeypatch) as one:
        yield one


@pytest.mark.parametrize("page", TAUGHT)
def test_the_story_of_a_page_can_be_typed_as_it_stands(somebody: Somebody, page: str) -> None:
    key = EXAMPLE_KEY
    knocked: set[str] = set()
    printed = []
    for words in shell_lines(ROOT / page):
        if words[0] != "parler":
            continue
        line = [key if word == EXAMPLE_KEY else word for word in words[1:]]
        if "--watch" in line:
            printed.append(watched(somebody, line, "HANDOFF TO YOU"))
            continue
        _, command = split_globals(line)
        knocks = command[:2] == ["session", "join"] and shlex.join(line) not in knocked
        ran = somebody.runs(*line, expect=4 if knocks else 0)
        printed.append(ran.stdout)
        if knocks:
            knocked.add(shlex.join(line))
        if command[:2] == ["session", "open"]:
            found = re.search(r"^KEY: (\S+)$", ran.stdout, re.MULTILINE)
            assert found is not None
            key = found[1]
    told = "\n".join(printed)
    for said in (
        "bob (says: cli) wants to join",
        "TODO: rotation.",
        "on it, taking token rotation",
        "wire the login UI",
    ):
        assert said in told


def watched(somebody: Somebody, line: list[str], wanted: str) -> str:
    """What a command that goes on prints until it has said what is wanted; then it is interrupted."""
    child = somebody.starts(*line)
    assert child.stdout is not None
    seen = []
    for text in child.stdout:
        seen.append(text)
        # The words follow their banner.
        if wanted in "".join(seen[:-1]) and "next:" in "".join(seen[:-1]):
            break
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 130
    return "".join(seen)


def test_everything_in_a_home_is_on_the_page_that_says_what_is_kept(somebody: Somebody) -> None:
    somebody.opens()
    named = " ".join(row[0] for row in rows(OPERATIONS))
    for path in somebody.home.root.rglob("*"):
        inside = path.relative_to(somebody.home.root)
        if inside.parts[0] == "run":
            shown = "`run/`"
        elif path.suffix == ".seed" and path.stem != "principal":
            shown = "`keys/U....seed`"
        elif inside.name.startswith("parler.db-"):
            shown = f"`{inside.name.removeprefix('parler.db')}`"
        else:
            shown = f"`{inside.as_posix()}"
        assert path.is_dir() or shown in named, path


def test_a_home_is_restored_by_the_lines_of_the_page(somebody: Somebody, tmp_path: Path) -> None:
    somebody.opens(topic="kept")
    somebody.stops()
    (script,) = (block.text for block in blocks(OPERATIONS) if "mv ~/.parler/parler.db" in block.text)
    found = re.search(r"backups/(\S+\.db)", script)
    assert found is not None
    backup = somebody.home.backups / found[1]
    backup.write_bytes(somebody.home.database.read_bytes())
    backup.chmod(0o600)
    somebody.home.database.write_bytes(b"damaged" * 1000)

    put_program(tmp_path)
    environment = somebody.environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    ran = subprocess.run(
        ["/bin/sh", "-eu"], input=script, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE_S
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert [room["name"] for room in somebody.asks("--as", "alice", "rooms")["rooms"]] == ["kept"]
