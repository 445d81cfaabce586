"""`parler demo` as somebody with an empty HOME runs it: a real daemon, real shims, a real kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parlerd import process
from tests.support.team import skip_below_an_agent_host

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PARLER = [sys.executable, "-c", "import sys; sys.argv[0] = 'parler'; from parlerd.cli.main import entry; entry()"]
PATIENCE_S = 90.0
STEPS = [
    "daemon",
    "windows",
    "open",
    "knock",
    "blind",
    "approve",
    "landed",
    "talk",
    "kill",
    "count",
    "handoff",
    "tidy",
]
STEPS_OF_TEAM = [
    "homes",
    "relay",
    "add",
    "windows",
    "open",
    "knock",
    "blind",
    "approve",
    "landed",
    "talk",
    "crash",
    "back",
    "count",
    "handoff",
    "tidy",
]


class Newcomer:
    """An empty HOME, a directory for temporary files that shows what was left there, and a small repository."""

    def __init__(self, place: Path) -> None:
        self.home = place / "home"
        self.temporary = place / "tmp"
        self.repository = place / "shop"
        for directory in (self.home, self.temporary, self.repository):
            directory.mkdir()
        (self.repository / "README.md").write_text("# Shop\n\nSells tea.\n")
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "cart: count leaves, not bags"]):
            subprocess.run(["git", *words], cwd=self.repository, check=True, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        who = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            **who,
        }

    def starts(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PARLER, "demo", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.repository,
            env={**self.environment, **more},
        )

    def runs(self, *words: str, expect: int = 0, **more: str) -> Any:
        """The one JSON document."""
        with self.starts("--json", *words, **more) as demo:
            printed, said = demo.communicate(timeout=PATIENCE_S)
        assert demo.returncode == expect, (demo.returncode, printed, said)
        assert printed.count("\n") == 1
        return json.loads(printed)

    def nothing_is_left(self) -> bool:
        return list(self.temporary.iterdir()) == [] and list(self.home.iterdir()) == []


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path)


def test_every_step_of_the_demo_holds_and_nothing_is_left_of_it(newcomer: Newcomer) -> None:
    # As an agent host runs it too: no step takes a command that only a person may give.
    told = newcomer.runs(CLAUDECODE="1")
    assert [step["step"] for step in told["steps"]] == STEPS
    assert all(step["ok"] and step["ms"] >= 0 and step["detail"] for step in told["steps"])
    assert told["ok"] is True
    steps = {step["step"]: step for step in told["steps"]}
    assert steps["open"]["context"] == "the last commit and README.md of shop"
    assert steps["blind"]["refused"] == 5
    assert steps["approve"]["proof"] == "form"
    assert steps["landed"]["verified"] == "valid"
    assert steps["landed"]["characters"] == steps["open"]["characters"]
    assert steps["kill"]["pid"] != steps["daemon"]["pid"]
    assert "acknowledged" in steps["count"]["ladder"]
    messages = told["messages"]
    assert messages["sent"] == messages["stored"] == 19
    assert messages["lost"] == messages["doubled"] == 0
    assert not process.is_alive(steps["daemon"]["pid"])
    assert not process.is_alive(steps["kill"]["pid"])
    assert newcomer.nothing_is_left()


def test_a_long_file_is_shared_to_its_last_letter(newcomer: Newcomer, tmp_path: Path) -> None:
    recap = tmp_path / "notes.txt"
    recap.write_text(
        "".join(f"Line {number} of the notes, with an é and a \u202e in it.\r\n" for number in range(1500))
    )
    told = newcomer.runs("--context-file", str(recap))
    steps = {step["step"]: step for step in told["steps"]}
    assert steps["open"]["context"] == "notes.txt"
    assert steps["landed"]["characters"] > 60_000
    assert told["ok"] is True


def test_an_interrupted_demo_leaves_no_process_and_no_file(newcomer: Newcomer) -> None:
    pid = 0
    with newcomer.starts() as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if found := re.search(r"\(pid (\d+)\)", line):
                pid = int(found[1])
            if "Two windows open" in line:
                break
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 130
    assert pid
    assert not process.is_alive(pid)
    assert newcomer.nothing_is_left()


def test_every_step_of_the_second_act_holds_and_nothing_is_left_of_it(newcomer: Newcomer) -> None:
    skip_below_an_agent_host()
    told = newcomer.runs("--team")
    assert [(step["step"], step["ok"]) for step in told["steps"]] == [(name, True) for name in STEPS_OF_TEAM], told
    steps = {step["step"]: step for step in told["steps"]}
    assert steps["open"]["context"] == "the last commit and README.md of shop"
    assert steps["relay"]["line"].startswith("wss://127.0.0.1:")
    assert steps["add"]["refused_without_secret"] is True
    assert steps["approve"]["proof"] == "form"
    assert steps["crash"]["queued"] >= 2
    assert steps["crash"]["answered"] + steps["crash"]["queued"] == 12
    assert steps["back"]["pid"] != steps["relay"]["pid"]
    messages = told["messages"]
    assert messages["sent"] == messages["stored"] == 19
    assert messages["lost"] == messages["doubled"] == 0
    assert told["next"] == "parler connect --team"
    started = [*steps["homes"]["pids"], steps["relay"]["pid"], steps["back"]["pid"]]
    assert [pid for pid in started if process.is_alive(pid)] == []
    assert newcomer.nothing_is_left()


def test_an_interrupted_second_act_leaves_no_process_and_no_file(newcomer: Newcomer) -> None:
    skip_below_an_agent_host()
    started: list[int] = []
    with newcomer.starts("--team") as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if found := re.search(r"\(pids? (\d+)(?: and (\d+))?\)", line):
                started += [int(pid) for pid in found.groups() if pid]
            if "Two windows open" in line:
                break
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 130
    assert len(started) == 3
    assert [pid for pid in started if process.is_alive(pid)] == []
    assert newcomer.nothing_is_left()


def test_a_file_that_cannot_be_read_is_said_before_anything_starts(newcomer: Newcomer) -> None:
    told = newcomer.runs("--context-file", "absent.txt", expect=1)
    assert told["error"]["code"] == "invalid_param"
    assert "absent.txt" in told["error"]["message"]
    assert newcomer.nothing_is_left()
