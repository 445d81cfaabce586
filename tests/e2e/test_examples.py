"""The programs in `examples` run as their page says, and leave the state that each pattern is for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import processes
from tests.support.pages import ROOT, blocks, shell_lines
from tests.support.processes import PATIENCE_S, Somebody, put_program, skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e

PAGE: Final = ROOT / "examples" / "README.md"
PROGRAMS: Final = sorted(
    path.stem for path in PAGE.parent.glob("*.py") if path.stem not in ("__init__", "agents")
)  # fmt: skip
Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def somebody() -> Iterator[Somebody]:
    """Somebody whose one daemon serves all examples."""
    skip_where_nobody_may_decide(["session", "open", "--no-approval"])
    with pytest.MonkeyPatch.context() as patch, processes.somebody(patch) as one:
        yield one


@pytest.fixture
def run(somebody: Somebody, tmp_path: Path) -> Run:
    """Run an example in the folder of the clone: the lines that it prints, without the columns before the names."""
    put_program(tmp_path)
    # `python3` is whichever runs the tests, and finds nothing but its own library.
    (tmp_path / "python3").symlink_to(Path(sys.executable).resolve())
    environment = somebody.environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    del environment["PYTHONPATH"]

    def runs(name: str, *words: str) -> list[str]:
        ran = subprocess.run(
            ["python3", "-S", "-m", f"examples.{name}", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return [line.strip() for line in ran.stdout.splitlines()]

    return runs


def state(somebody: Somebody, agent: str) -> dict[str, Any]:
    """What the example left in its room, which stays readable after its session is over: shared keys by their names,
    and others by scope and key."""
    (room,) = (room["room"] for room in somebody.asks("--as", agent, "rooms", "--all")["rooms"])
    entries = somebody.asks("--as", agent, "state", "list", "--room", room)["entries"]
    return {each["key"] if each["scope"] == "_shared" else f"{each['scope']}.{each['key']}": each["value"]
            for each in entries}  # fmt: skip


def test_two_agents_take_turns(run: Run, somebody: Somebody) -> None:
    said = run("turn_based")
    assert [line.partition(":")[0] for line in said] == ["white", "black"] * 3 + ["white"]
    board = ["e2e4", "e7e5", "g1f3", "b8c6", "f1b5", "a7a6"]
    assert state(somebody, "white") == {"board": board, "turn": 6, "player": "white"}


def test_every_task_is_done_once_and_all_results_come_back(run: Run, somebody: Somebody) -> None:
    said = run("fan_out")
    assert said[-1] == "coordinator: 5 results, 0 tasks are left"
    assert len({line.partition(" was reviewed by ")[0] for line in said[:-1]}) == 5
    assert state(somebody, "coordinator") == {"tasks_total": 5, "tasks_done": 5, "posted": True}


def test_programs_that_speak_only_http_do_the_same(run: Run, somebody: Somebody) -> None:
    url = somebody.asks("serve-http", "--open")["url"]
    said = run("over_http", url)
    assert said[-1] == "coordinator: 5 results, 0 tasks are left"
    assert len({line.partition(" was reviewed by ")[0] for line in said[:-1]}) == 5
    somebody.asks("serve-http", "--stop")


def test_no_vote_is_lost_and_one_decides(run: Run, somebody: Somebody) -> None:
    said = run("consensus")
    assert sorted(line.partition(": ")[2] for line in said[:3]) == [
        "I count among votes_against", "I count among votes_for", "I count among votes_for",
    ]  # fmt: skip
    left = state(somebody, "chair")
    first = left["decided_by"]
    other = {"chair": "deputy", "deputy": "chair"}[first]
    assert sorted(said[3:]) == sorted([f"{first}: it is approved", f"{other}: {first} was first"])
    assert (left["votes_for"], left["votes_against"], left["outcome"], left["phase"]) == (2, 1, "approved", "decided")


def test_each_stage_begins_after_the_one_before(run: Run, somebody: Somebody) -> None:
    assert [line.partition(":")[0] for line in run("pipeline")] == ["output", "ingestion", "processing", "output"]
    assert state(somebody, "ingestion") == {"data": ["1. apple", "2. fig", "3. pear"], "stage": "done"}


def test_the_dark_room_discloses_one_thing_after_the_other(run: Run, somebody: Somebody) -> None:
    (shown,) = (block.text for block in blocks(PAGE) if block.language == "text")
    assert run("dark_room", "200") == [line.strip() for line in shown.splitlines()]
    left = state(somebody, "narrator")
    assert (left["wood"], left["turn"], left["narrator.embarked"], left["narrator.compass"]) == (2, 3, True, True)


def test_the_page_runs_every_program() -> None:
    typed = [words[2].removeprefix("examples.") for words in shell_lines(PAGE) if words[:2] == ["python3", "-m"]]
    assert sorted(typed) == PROGRAMS
