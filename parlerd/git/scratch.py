"""A bare repository that is thrown away, over the objects of a real one: no setting of the real one counts in it.

Not here: what is done in it. Above: `pushing`, `worktree`, `applying`. Below: `repository`. Invariant: what is written
here is in a folder of its own, which is gone afterwards.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

import msgspec

from parlerd.core.errors import Refused
from parlerd.git.repository import Repository


class Scratch(msgspec.Struct, frozen=True):
    """The folder, and the real repository whose objects are seen in it."""

    folder: str
    of: Repository

    @property
    def objects(self) -> str:
        return os.path.join(self.folder, "objects")

    def path(self, name: str) -> str:
        """A file of our own beside the repository."""
        return os.path.join(os.path.dirname(self.folder), name)

    def run(
        self,
        *args: str | bytes,
        cwd: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        stdin: bytes | IO[bytes] = b"",
    ) -> bytes:
        """What git prints in this repository."""
        here = {"GIT_DIR": self.folder, **(env or {})}
        return self.of.runner.run(*args, cwd=cwd or self.folder, env=here, settings=settings, stdin=stdin)

    def line(self, *args: str | bytes, env: Mapping[str, str] | None = None) -> str:
        return os.fsdecode(self.run(*args, env=env)).rstrip("\n")

    def line_from(self, stdin: IO[bytes], *args: str, settings: Sequence[str] = ()) -> str:
        """The same for a command that reads a file from where the file's descriptor stands."""
        return os.fsdecode(self.run(*args, stdin=stdin, settings=settings)).rstrip("\n")

    def set_ref(self, name: str, id: str) -> None:
        """Let a ref of this repository be a commit."""
        place = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="ascii") as file:
            file.write(id + "\n")


@contextmanager
def scratch_of(repository: Repository) -> Iterator[Scratch]:
    """A throw-away repository over the objects of `repository`. Raises `Refused(no_repository)` for one whose path git
    could not read from a list of paths."""
    if "\n" in repository.objects or repository.objects.startswith(('"', "#")):
        raise Refused("no_repository", "The path of this repository has a sign that git does not take in a list.")
    with tempfile.TemporaryDirectory(prefix="parler-git-") as outer:
        folder = os.path.join(outer, "scratch.git")
        for name in ("objects/info", "objects/pack", "refs/heads", "info"):
            os.makedirs(os.path.join(folder, name))
        _write(folder, "HEAD", "ref: refs/heads/tip\n")
        version = 1 if repository.format == "sha256" else 0
        extension = "[extensions]\n\tobjectFormat = sha256\n" if version else ""
        _write(folder, "config", f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extension}")
        _write(folder, "objects/info/alternates", repository.objects + "\n")
        yield Scratch(folder, repository)


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "wb") as file:
        file.write(os.fsencode(text))
