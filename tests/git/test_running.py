"""One git command: what it is given, and what ends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.git import running
from parlerd.git.running import GitFailed, Runner


def program(tmp_path: Path, script: str) -> Runner:
    """A runner that finds this script where git should be."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    return Runner(path=f"{folder}:/usr/bin:/bin")


def test_git_gets_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "SECRET", "LD_PRELOAD", "HOME"):
        monkeypatch.setenv(name, "trap")
    said = program(tmp_path, "env").run("version", cwd=str(tmp_path)).decode()
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names.isdisjoint({"GIT_DIR", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "SECRET", "LD_PRELOAD"})
    assert "trap" not in said
    assert {"GIT_ALLOW_PROTOCOL=file", "GIT_NO_LAZY_FETCH=1", "GIT_CONFIG_NOSYSTEM=1"} <= set(said.splitlines())


def test_git_is_never_found_where_the_command_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "echo trap")
    monkeypatch.chdir(tmp_path / "bin")
    with pytest.raises(ParlerError) as caught:
        Runner(path=".:").run("version", cwd=str(tmp_path / "bin"))
    assert caught.value.code == "git_failed"


def test_an_error_of_git_says_how_it_ended(tmp_path: Path) -> None:
    with pytest.raises(GitFailed) as caught:
        program(tmp_path, "echo why >&2; exit 3").run("x", cwd=str(tmp_path))
    assert (caught.value.code, caught.value.said) == (3, "why")
    assert "why" not in str(caught.value)


def test_a_git_that_writes_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "FILE_BLOCKS", 8)
    with pytest.raises(ParlerError) as caught:
        program(tmp_path, "exec cat /dev/zero").run("x", cwd=str(tmp_path))
    assert caught.value.code == "git_failed"
    monkeypatch.setattr(running, "MAX_OUTPUT", 100)
    with pytest.raises(ParlerError) as caught:
        program(tmp_path, "head -c 200 /dev/zero").run("x", cwd=str(tmp_path))
    assert caught.value.code == "git_failed"


def test_a_git_that_computes_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CPU_S", 1)
    with pytest.raises(ParlerError) as caught:
        program(tmp_path, "while :; do :; done").run("x", cwd=str(tmp_path))
    assert caught.value.code == "git_failed"


def test_whatever_ends_the_wait_ends_git_and_what_it_started(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def unwanted() -> None:
        if (tmp_path / "child").exists():
            raise Stopped

    runner = program(
        tmp_path, f"sleep 600 & echo $! > {tmp_path}/child.new; mv {tmp_path}/child.new {tmp_path}/child; wait"
    )
    with pytest.raises(Stopped):
        Runner(unwanted, runner.path).run("x", cwd=str(tmp_path))
    child = int((tmp_path / "child").read_text())
    while True:
        # The kernel hands a killed orphan to whoever reaps it.
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            break
        if state in "ZX":
            break
        os.sched_yield()


def test_no_wait_is_longer_than_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "WALL_S", 0.0)
    with pytest.raises(ParlerError) as caught:
        program(tmp_path, "sleep 600").run("x", cwd=str(tmp_path))
    assert caught.value.code == "git_failed"
