"""`./check`, run over programs that only write down that they were started."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

CHECK = Path(__file__).resolve().parents[2] / "check"
WORKERS = min(os.sysconf("SC_NPROCESSORS_ONLN") + 1, 4)
"""As many processes as run tests: one more than there are processors, and at most four."""
STARTED = {
    "lint": "ruff check .",
    "format": "ruff format --check .",
    "types": "mypy",
    "contracts": "lint-imports --no-logo",
    "tests": f"python -m pytest -n {WORKERS} --dist worksteal",
}


class Checkout:
    """A folder with `check` and programs of the names that it starts; those in `failing` end with 1."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copy(CHECK, root / "check")
        programs = root / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in ("ruff", "mypy", "lint-imports", "python"):
            program = programs / name
            program.write_text(
                f'#!/bin/sh\necho "{name}${{*:+ $*}}" >> started\n! grep -qxF "{name}${{*:+ $*}}" failing 2>/dev/null\n'
            )
            program.chmod(0o755)

    def run(self, *words: str, failing: str = "", expect: int = 0) -> subprocess.CompletedProcess[str]:
        (self.root / "failing").write_text(f"{failing}\n" if failing else "")
        ran = subprocess.run(
            ["/bin/sh", str(self.root / "check"), *words],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == expect, ran.stderr
        return ran

    @property
    def started(self) -> list[str]:
        """The command lines that were run, in order."""
        log = self.root / "started"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_every_check_runs_when_none_is_named_and_the_tests_run_last(checkout: Checkout) -> None:
    checkout.run()
    assert checkout.started == list(STARTED.values())


@pytest.mark.parametrize("name", STARTED)
def test_a_check_that_is_named_runs_alone(checkout: Checkout, name: str) -> None:
    checkout.run(name)
    assert checkout.started == [STARTED[name]]


def test_what_follows_tests_goes_to_pytest(checkout: Checkout) -> None:
    checkout.run("types", "tests", "tests/core", "-q")
    assert checkout.started == ["mypy", f"{STARTED['tests']} tests/core -q"]


@pytest.mark.parametrize("name", STARTED)
def test_a_check_that_fails_does_not_stop_the_others_and_fails_the_run(checkout: Checkout, name: str) -> None:
    ran = checkout.run(failing=STARTED[name], expect=1)
    assert checkout.started == list(STARTED.values())
    assert (f"FAILED so far: {name}" in ran.stderr) is (name != "tests")


@pytest.mark.parametrize("words", [["lnit"], ["lint", "lnit"]])
def test_a_name_that_is_no_check_is_a_usage_error_before_anything_runs(checkout: Checkout, words: list[str]) -> None:
    assert "usage:" in checkout.run(*words, expect=2).stderr
    assert checkout.started == []


def test_help_names_every_check(checkout: Checkout) -> None:
    said = checkout.run("--help").stdout
    assert all(f"\n  {name} " in said for name in STARTED)


def test_without_an_environment_it_says_how_to_make_one(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".venv")
    assert "./install.sh --test" in checkout.run(expect=2).stderr
