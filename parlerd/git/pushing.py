"""Makes a bundle of one commit and what led to it, and says what does not go along.

Not here: where the bundle goes. Above: the command `push` and the tool. Below: `scratch`, `worktree`, `scanning`.
Invariant: what the person may believe to be in the bundle and is not in it is listed, so that nobody takes a part for
the whole; what is recognised in it as a secret is named, and goes along all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.searching import Searched
from parlerd.git import worktree
from parlerd.git.repository import Repository
from parlerd.git.running import GitFailed
from parlerd.git.scanning import search
from parlerd.git.scratch import Scratch, scratch_of
from parlerd.git.worktree import LeftOut

MAX_LISTED: Final = 200
"""Paths that are named; more are counted."""
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER: Final = 1024
"""Bytes. Source: the specification of Git LFS."""


class Bundled(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle in a file that is there as long as the block that made it."""

    path: str
    size: int
    ref: str
    """What was asked for, by the name of its branch where that is known."""
    tip: str
    base: str
    """The commit that whoever applies the bundle needs; empty for a bundle that holds all."""
    left_out: tuple[LeftOut, ...]
    more: int
    """What was left out beyond those."""
    search: Callable[[], Searched]
    """Says, within seconds, what is recognised as a secret in the commits and the files that go along."""


@contextmanager
def bundled(repository: Repository, ref: str = "HEAD", base: str = "", *, changes: bool = False) -> Iterator[Bundled]:
    """The bundle of a ref, against what `base` has. With `changes`, the uncommitted changes of the work tree go along
    as a commit on top of HEAD.

    Raises `Refused`: `invalid_param`, `no_such_ref`, `shallow_repository`, `nothing_to_push`;
    `ParlerError(git_failed)`.
    """
    if repository.is_shallow:
        raise Refused("shallow_repository")
    if changes and (repository.is_bare or ref != "HEAD"):
        raise Refused("invalid_param", "Uncommitted changes go along with HEAD alone.", param="ref")
    is_unborn = changes and repository.resolve(ref) is None
    head = None if is_unborn else repository.commit(ref)
    based = repository.commit(base) if base else ""
    with scratch_of(repository) as scratch:
        left: list[LeftOut] = []
        tip = head
        if not repository.is_bare and (changes or head == repository.resolve("HEAD")):
            worktree.copy_index(scratch)
            if changes:
                made, left = worktree.commit_changes(scratch, head)
                tip = made or head
                left += worktree.ignored(scratch)
            else:
                left = _uncommitted(scratch, head)
        if tip is None:
            raise Refused("no_such_ref", "There is no commit yet, and nothing to make one of.", ref=ref)
        path = scratch.path("bundle")
        _create(scratch, path, tip, based)
        left = sorted({*left, *_unheld(scratch, tip)})
        yield Bundled(
            path=path,
            size=os.path.getsize(path),
            ref=_named(repository, ref),
            tip=tip,
            base=based,
            left_out=tuple(left[:MAX_LISTED]),
            more=max(0, len(left) - MAX_LISTED),
            search=partial(search, scratch, tip, based),
        )


def _create(scratch: Scratch, path: str, tip: str, base: str) -> None:
    scratch.set_ref("refs/heads/tip", tip)
    try:
        scratch.run("bundle", "create", "--quiet", path, "refs/heads/tip", *([f"^{base}"] if base else []))
    except GitFailed as error:
        if "empty bundle" in error.said:
            raise Refused("nothing_to_push", base=base) from None
        raise ParlerError(
            "git_failed",
            "git cannot make a bundle of this repository: some of its objects are not here.",
            hint="In a partial clone, fetch what is missing first: git fetch --refetch --no-filter",
        ) from error


def _named(repository: Repository, ref: str) -> str:
    if ref != "HEAD":
        return ref
    try:
        return repository.runner.line("symbolic-ref", "--quiet", "--short", "HEAD", cwd=repository.top)
    except GitFailed:
        return ref


def _uncommitted(scratch: Scratch, head: str | None) -> list[LeftOut]:
    """What differs from the newest commit, where only commits go along."""
    paths = {change.path for change in worktree.changes(scratch)}
    return [LeftOut(os.fsdecode(path), "uncommitted") for path in paths.union(worktree.staged(scratch, head))]


def _unheld(scratch: Scratch, tip: str) -> list[LeftOut]:
    """What a tree names and no bundle holds: the commits of submodules, and the files behind pointers of LFS."""
    left: list[LeftOut] = []
    small: list[tuple[str, bytes]] = []
    uses_lfs = False
    for line in scratch.run("ls-tree", "-r", "-z", "-l", tip).split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, id, size = about.split()
        if mode == b"160000":
            left.append(LeftOut(os.fsdecode(path), "submodule"))
        elif os.path.basename(path) == b".gitattributes":
            uses_lfs = uses_lfs or b"filter=lfs" in scratch.run("cat-file", "blob", os.fsdecode(id))
        elif size.isdigit() and len(_POINTER) < int(size) <= _LARGEST_POINTER:
            small.append((os.fsdecode(path), id))
    if uses_lfs and small:
        said = scratch.run("cat-file", "--batch", stdin=b"".join(id + b"\n" for _, id in small))
        at = 0
        for small_path, _ in small:
            found = re.compile(rb"[0-9a-f]+ blob (\d+)\n").match(said, at)
            if found is None:
                break
            if said.startswith(_POINTER, found.end()):
                left.append(LeftOut(small_path, "lfs"))
            at = found.end() + int(found[1]) + 1
    return left
