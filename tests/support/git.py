"""Repositories for tests: made by the real git, with an author, a date and no settings of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from parlerd.git.repository import Repository, find
from parlerd.git.running import Runner

ENV: Final = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_AUTHOR_DATE": "2026-11-28T10:00:00Z",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_COMMITTER_DATE": "2026-11-28T10:00:00Z",
}


class Work:
    """A work tree, and what a test does in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *args: str, stdin: bytes = b"") -> str:
        """What git prints, without its last line break."""
        done = subprocess.run(["git", *args], cwd=self.folder, env=ENV, input=stdin, capture_output=True, check=True)
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def write(self, path: str, data: str | bytes) -> Path:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
        return place

    def commit(self, said: str = "a change", **files: str) -> str:
        """Commit these files and whatever else differs; the id of the commit."""
        for path, text in files.items():
            self.write(path, text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", said)
        return self.git("rev-parse", "HEAD")

    @property
    def repository(self) -> Repository:
        return find(str(self.folder), Runner())

    def refs(self) -> dict[str, str]:
        """Every ref of the repository, and the id it holds."""
        said = self.git("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in said.splitlines())

    def tree(self, ref: str) -> dict[str, str]:
        """The paths of a commit, with their modes."""
        said = self.git("ls-tree", "-r", ref)
        return {line.partition("\t")[2]: line.split(" ")[0] for line in said.splitlines()}

    def state(self) -> dict[str, bytes]:
        """Every file below `.git`, to see that nothing was changed there."""
        return {str(path): path.read_bytes() for path in sorted((self.folder / ".git").rglob("*")) if path.is_file()}


def work_in(folder: Path, *, format: str = "sha1") -> Work:
    """A new repository in a new folder."""
    folder.mkdir(parents=True)
    work = Work(folder)
    work.git("init", "-q", "-b", "main", f"--object-format={format}")
    return work
