"""The demo's recap: what a repository says of itself, and nothing that a repository could make run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from parlerd.cli.demo_recap import COMMITS, README_CHARS, recap_of_file, recap_of_repository
from parlerd.core.errors import ParlerError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    root.mkdir()
    git(root, "init", "-q")
    return root


def git(root: Path, *words: str) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(root.parent), "GIT_CONFIG_NOSYSTEM": "1", **who}
    subprocess.run(["git", *words], cwd=root, check=True, env=environment)


def commit(root: Path, subject: str) -> None:
    git(root, "commit", "-q", "--allow-empty", "-m", subject)


def test_the_last_commits_and_the_readme_are_the_recap_from_anywhere_inside(repository: Path) -> None:
    for number in range(COMMITS + 2):
        commit(repository, f"change {number}")
    (repository / "README.md").write_text("# Shop\n\nSells tea.\n")
    inside = repository / "src"
    inside.mkdir()
    recap = recap_of_repository(inside)
    assert recap.source == f"the last {COMMITS} commits and README.md of shop"
    subjects = [line.split(" ", 2)[2] for line in recap.text.splitlines() if line.startswith("- ")]
    assert subjects == [f"change {number}" for number in range(COMMITS + 1, 1, -1)]
    assert recap.text.endswith("From README.md:\n# Shop\n\nSells tea.")


def test_a_long_subject_and_a_long_readme_are_cut(repository: Path) -> None:
    commit(repository, "x" * 5_000)
    (repository / "README").write_text("y" * 50_000)
    recap = recap_of_repository(repository)
    assert len(recap.text) < README_CHARS + 300
    assert recap.text.count("x") < 101


def test_a_repository_without_commits_or_readme_gets_a_made_up_recap(repository: Path) -> None:
    assert recap_of_repository(repository).source == "a made-up recap"


def test_a_place_without_a_repository_gets_a_made_up_recap(tmp_path: Path) -> None:
    recap = recap_of_repository(tmp_path)
    assert recap.source == "a made-up recap"
    assert "made up" in recap.text


def test_a_readme_that_is_a_link_out_of_the_repository_is_not_read(repository: Path, tmp_path: Path) -> None:
    commit(repository, "first")
    secret = tmp_path / "secret"
    secret.write_text("do not show")
    (repository / "README.md").symlink_to(secret)
    assert "do not show" not in recap_of_repository(repository).text


def test_a_readme_that_is_a_pipe_holds_nothing_up(repository: Path) -> None:
    commit(repository, "first")
    os.mkfifo(repository / "README.md")
    assert recap_of_repository(repository).source == "the last commit of shop"


@pytest.mark.parametrize(
    "setting", ["gpg.program", "core.pager", "pager.log", "core.fsmonitor", "core.sshCommand", "diff.external"]
)
def test_a_program_that_the_repository_names_is_not_run(repository: Path, tmp_path: Path, setting: str) -> None:
    commit(repository, "first")
    canary = tmp_path / "canary"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o700)
    signed = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n"
    signed += "gpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----\n\nsigned\n"
    words = ["git", "hash-object", "-w", "-t", "commit", "--stdin", "--literally"]
    made = subprocess.run(words, cwd=repository, input=signed, text=True, capture_output=True, check=True)
    git(repository, "update-ref", "HEAD", made.stdout.strip())
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", setting, str(program))
    assert "signed" in recap_of_repository(repository).text
    assert not canary.exists()


def test_the_canary_sings_when_git_is_run_without_care(repository: Path, tmp_path: Path) -> None:
    """Or the test above could not fail."""
    test_a_program_that_the_repository_names_is_not_run(repository, tmp_path, "gpg.program")
    git(repository, "log", "-1")
    assert (tmp_path / "canary").exists()


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("where we are\n")
    assert recap_of_file(file) == ("where we are", "notes.txt")


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe"])
def test_a_file_that_cannot_be_a_recap_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "notes.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ParlerError) as refused:
        recap_of_file(file)
    assert refused.value.code == "invalid_param"
