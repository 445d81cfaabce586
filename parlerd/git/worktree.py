"""Uncommitted changes as a commit of their own, without a change to the work tree, its index or its repository.

    a copy of the index --> what differs on the disk --> loose objects --> a tree --> a commit       (all in the
    scratch)

Files are read as they are: no filter of a repository is run on them, so a line ending or a pointer of LFS goes along as
the bytes that are on the disk. A link goes along as a link. What does not go along is listed.

Not here: the bundle (`pushing`). Above: `pushing`. Below: `scratch`, and `beneath` for the files. Invariant: no file
outside the work tree is read, whatever links stand in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal

import msgspec

from parlerd import beneath
from parlerd.core.errors import ParlerError
from parlerd.git.repository import Repository
from parlerd.git.running import GitFailed
from parlerd.git.scratch import Scratch

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes of the largest uncommitted file that goes along: a quarter of the largest bundle."""
_PIECE: Final = 1024 * 1024
_AUTHOR: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Parler"), ("EMAIL", "parler@localhost"))
}
Why = Literal["uncommitted", "ignored", "nested", "too_large", "submodule", "lfs", "unreadable"]


class LeftOut(msgspec.Struct, frozen=True, order=True):
    """A file or folder that does not go along, and why not."""

    path: str
    why: Why


class Changed(msgspec.Struct, frozen=True):
    """One path that differs from the index."""

    path: bytes
    is_gone: bool


def changes(scratch: Scratch) -> Iterator[Changed]:
    """What is on the disk and not in the copy of the index, or differs from it; ignored files are not looked at."""
    said = _files(scratch, "-t", "-d", "-m", "-o", "--exclude-standard")
    gone = {line[2:] for line in said if line.startswith(b"R ")}
    for path in sorted({line[2:] for line in said}):
        yield Changed(path, path in gone)


def ignored(scratch: Scratch) -> list[LeftOut]:
    """What the repository says that nobody wants, whole folders as one."""
    found = _files(scratch, "-o", "-i", "--exclude-standard", "--directory")
    return [LeftOut(os.fsdecode(path), "ignored") for path in found]


def staged(scratch: Scratch, head: str | None) -> list[bytes]:
    """The paths that differ between the index and the newest commit."""
    against = head or scratch.line("hash-object", "-t", "tree", "--stdin", "-w")
    return _split(scratch.run("diff-index", "--cached", "--name-only", "-z", against, "--", env=_index_env(scratch)))


def copy_index(scratch: Scratch) -> None:
    """Put a copy of the work tree's index, and of what says which files are ignored, into the scratch."""
    repository = scratch.of
    for name in os.listdir(repository.git_dir):
        if name == "index" or name.startswith("sharedindex."):
            # With its time: by it git knows which files may have changed in the instant in which it was written.
            shutil.copy2(os.path.join(repository.git_dir, name), os.path.join(scratch.folder, name))
    with suppress(OSError):
        shutil.copyfile(
            os.path.join(repository.common, "info", "exclude"), os.path.join(scratch.folder, "info/exclude")
        )


def commit_changes(scratch: Scratch, head: str | None) -> tuple[str | None, list[LeftOut]]:
    """The commit that holds the index and what differs from it, on top of `head`; None where nothing differs."""
    left: list[LeftOut] = []
    gone: list[bytes] = []
    entries: list[bytes] = []
    with beneath.folder(scratch.of.top) as top:
        for change in changes(scratch):
            entry = None if change.is_gone else _entry(scratch, top, change.path, left)
            if entry is not None:
                entries.append(entry)
            elif change.is_gone:
                gone.append(b"0 %s\t%s" % (scratch.of.no_id.encode(), change.path))
    lines = b"".join(line + b"\0" for line in (*gone, *entries))
    env = _index_env(scratch)
    if lines:
        scratch.run("update-index", "--add", "--replace", "-z", "--index-info", env=env, stdin=lines)
    try:
        tree = scratch.line("write-tree", env=env)
    except GitFailed as error:
        raise ParlerError(
            "git_failed",
            "git cannot make a tree of the index: a merge may be under way, or objects may be missing.",
            hint="Finish the merge, or commit what you want to share, and run it again.",
        ) from error
    if head is not None and tree == scratch.line("rev-parse", "--verify", f"{head}^{{tree}}"):
        return None, left
    parents = [] if head is None else ["-p", head]
    said = "Uncommitted changes, shared with Parler\n"
    made = scratch.run("commit-tree", tree, *parents, "-F", "-", env=_AUTHOR, stdin=said.encode())
    return made.decode("ascii").strip(), left


def _entry(scratch: Scratch, top: int, path: bytes, left: list[LeftOut]) -> bytes | None:
    """The line of the index for a file as it is on the disk; None for what is left out."""
    shown = os.fsdecode(path)
    if path.endswith(b"/"):
        left.append(LeftOut(shown, "nested"))
        return None
    try:
        with beneath.parent_of(top, path) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                text = os.readlink(name, dir_fd=folder)
                return _line(b"120000", _write(scratch, [text], len(text)), path)
            if stat.S_ISDIR(found.st_mode):
                left.append(LeftOut(shown, "submodule"))
                return None
        if found.st_size > MAX_FILE:
            left.append(LeftOut(shown, "too_large"))
            return None
        descriptor = beneath.open_regular(top, path)
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            pieces = iter(lambda: file.read(_PIECE), b"")
            id = _write(scratch, pieces, found.st_size)
        return _line(b"100755" if found.st_mode & 0o100 else b"100644", id, path)
    except (OSError, ValueError):
        # It changed while it was read, or may not be read.
        left.append(LeftOut(shown, "unreadable"))
        return None


def _line(mode: bytes, id: str, path: bytes) -> bytes:
    return b"%s %s 0\t%s" % (mode, id.encode(), path)


def _write(scratch: Scratch, pieces: Iterator[bytes] | list[bytes], size: int) -> str:
    """Write a blob as a loose object, as git does, without a process for each file. Its id. Raises `ValueError` where
    the bytes are not as many as was said."""
    digest = hashlib.new(scratch.of.format, usedforsecurity=False)
    packer = zlib.compressobj(1)
    head = b"blob %d\0" % size
    place = os.path.join(scratch.objects, "tmp_obj")
    written = 0
    with open(place, "wb") as file:
        digest.update(head)
        file.write(packer.compress(head))
        for piece in pieces:
            written += len(piece)
            digest.update(piece)
            file.write(packer.compress(piece))
        file.write(packer.flush())
    if written != size:
        raise ValueError("the file changed")
    id = digest.hexdigest()
    folder = os.path.join(scratch.objects, id[:2])
    os.makedirs(folder, exist_ok=True)
    os.replace(place, os.path.join(folder, id[2:]))
    return id


def _files(scratch: Scratch, *which: str) -> list[bytes]:
    """What `ls-files` says of the real work tree, by the copy of its index and the settings of the scratch."""
    env = {**_index_env(scratch), "GIT_WORK_TREE": scratch.of.top}
    excludes = _excludes(scratch.of)
    settings = ["core.bare=false", *([f"core.excludesFile={excludes}"] if excludes else [])]
    return _split(scratch.run("ls-files", "-z", *which, cwd=scratch.of.top, env=env, settings=settings))


def _excludes(repository: Repository) -> str:
    """The person's own list of files that nobody wants: what it names must not go along either. To read a setting runs
    nothing, so here the person's own settings count."""
    home = os.environ.get("HOME", "")
    own = {"GIT_CONFIG_GLOBAL": os.path.join(home, ".gitconfig"), "HOME": home} if home else {}
    try:
        named = repository.runner.line(
            "config", "--includes", "--type=path", "--get", "core.excludesFile", cwd=repository.top, env=own
        )
    except GitFailed:
        named = ""
    settings = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return named or (os.path.join(settings, "git", "ignore") if home else "")


def _index_env(scratch: Scratch) -> dict[str, str]:
    return {"GIT_INDEX_FILE": os.path.join(scratch.folder, "index")}


def _split(said: bytes) -> list[bytes]:
    return said.split(b"\0")[:-1]
