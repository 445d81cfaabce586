"""A repository on this disk as it is found: where its objects are, and which commit a name means.

Not here: changing anything (`applying`). Above: `pushing`, `worktree`, `applying`. Below: `running`. Invariant: the
work tree is the folder in which `.git` stands, whatever the settings of the repository say, and a `.git` that leads
elsewhere counts only where that place names this work tree as its own.
"""

from __future__ import annotations

import os
import re
from typing import Final

import msgspec

from parlerd.core.errors import ParlerError, Refused
from parlerd.git.running import GitFailed, Runner

_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/-]{0,254}\Z")
"""What a ref or a commit may be called. No sign of git's own little language is among these."""
_ID: Final = {"sha1": re.compile(r"[0-9a-f]{40}\Z"), "sha256": re.compile(r"[0-9a-f]{64}\Z")}


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """One repository, seen from one of its work trees."""

    top: str
    """The folder of the work tree, or of a bare repository itself."""
    git_dir: str
    """Where this work tree's own files of git are: its index, its HEAD."""
    common: str
    """Where the refs and the objects of all its work trees are."""
    format: str
    """How its objects are named: `sha1` or `sha256`."""
    is_bare: bool
    is_shallow: bool
    """Whether a part of its history was never fetched."""
    runner: Runner

    @property
    def objects(self) -> str:
        return os.path.join(self.common, "objects")

    @property
    def no_id(self) -> str:
        """The id of nothing."""
        return "0" * (64 if self.format == "sha256" else 40)

    def is_id(self, text: str) -> bool:
        return _ID[self.format].match(text) is not None

    def commit(self, name: str) -> str:
        """The id of the commit that a name means. Raises `Refused`: `invalid_param` for a name that is no ref's, and
        `no_such_ref`."""
        if _NAME.match(name) is None:
            raise Refused(
                "invalid_param",
                "A ref or a commit is named by letters, digits and . _ / - alone, and begins with a letter or a digit.",
                param="ref",
            )
        found = self.resolve(name)
        if found is None:
            raise Refused("no_such_ref", ref=name)
        return found

    def resolve(self, name: str) -> str | None:
        """The same, or None."""
        try:
            found = self.runner.line(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", cwd=self.top
            )
        except GitFailed:
            return None
        return found if self.is_id(found) else None

    def refs(self) -> dict[str, str]:
        """What each ref names, by its full name. Nothing says that the object of an id is here, or is a commit."""
        said = self.runner.line("for-each-ref", "--format=%(objectname) %(refname)", cwd=self.top)
        named = (line.partition(" ") for line in said.split("\n"))
        return {name: id for id, _, name in named if self.is_id(id)}


def find(directory: str, runner: Runner) -> Repository:
    """The repository around a directory. Raises `Refused(no_repository)`."""
    top = _top_of(os.path.realpath(directory))
    try:
        said = runner.line(
            "rev-parse",
            "--absolute-git-dir",
            "--git-common-dir",
            "--show-object-format",
            "--is-shallow-repository",
            "--is-bare-repository",
            cwd=top or directory,
        ).split("\n")
    except GitFailed as error:
        if "dubious ownership" in error.said:
            raise Refused("no_repository", "This repository belongs to another user.") from None
        raise Refused("no_repository") from None
    except (NotADirectoryError, FileNotFoundError):
        raise Refused("no_repository") from None
    if len(said) != 5 or said[2] not in _ID:
        raise ParlerError("git_failed", "git said of this repository what Parler does not understand.")
    git_dir, common, format, is_shallow, is_bare = said
    common = os.path.realpath(os.path.join(top or directory, common))
    if top and not _belongs(top, git_dir):
        raise Refused("no_repository", "The file .git here names a repository that does not know this folder.")
    if not top and is_bare != "true":
        raise Refused("no_repository")
    return Repository(
        top=top or git_dir,
        git_dir=git_dir,
        common=common,
        format=format,
        is_bare=not top,
        is_shallow=is_shallow == "true",
        runner=runner,
    )


def _top_of(directory: str) -> str:
    """The folder at or above this one in which a `.git` stands; empty where there is none."""
    here = directory
    while True:
        if os.path.lexists(os.path.join(here, ".git")):
            return here
        above = os.path.dirname(here)
        if above == here:
            return ""
        here = above


def _belongs(top: str, git_dir: str) -> bool:
    """Whether the repository that `.git` leads to is this work tree's: it stands right here, it lists this folder among
    its work trees, or its settings name this folder (a submodule's do). Otherwise a file that came with a checkout
    would let whoever wrote it have the commits of any repository of this person."""
    own = os.path.join(top, ".git")
    if os.path.isdir(own) and not os.path.islink(own):
        return os.path.realpath(git_dir) == os.path.realpath(own)
    try:
        with open(os.path.join(git_dir, "gitdir"), "rb") as file:
            if os.path.realpath(os.path.join(git_dir, os.fsdecode(file.read(4097).strip()))) == os.path.realpath(own):
                return True
    except OSError:
        pass
    try:
        with open(os.path.join(git_dir, "config"), "rb") as file:
            settings = os.fsdecode(file.read(1024 * 1024))
    except OSError:
        return False
    named = re.findall(r"(?im)^\s*worktree\s*=\s*(.+?)\s*$", settings)
    return any(os.path.realpath(os.path.join(git_dir, each.strip('"'))) == os.path.realpath(top) for each in named)
