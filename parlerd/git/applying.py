"""Puts the commits of a bundle into a repository, under one ref below `refs/parler/` and with nothing else changed.

    header --> bases are here? --> the pack, checked in a scratch --> whole? --> the pack's files --> the ref

Nothing of the bundle is believed: the names in it are not used, its objects are checked one by one, and everything that
its commit leads to must be there before a ref says so. What the repository's own refs lead to counts as there, as it
does for `git fetch`: otherwise ten commits on top of a long history would cost a walk through all of it. There is no
checkout and no merge, and no hook runs.

Not here: where the bundle came from. Above: the command `apply` and the tool. Below: `bundles`, `scratch`. Invariant:
until the ref is written, a repository has at most a pack more, which its next cleaning takes out.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from parlerd import beneath
from parlerd.core.errors import ParlerError, Refused
from parlerd.git.bundles import read_header, refused
from parlerd.git.repository import Repository
from parlerd.git.running import GitFailed
from parlerd.git.scratch import Scratch, scratch_of

PLACE: Final = "refs/parler/"
_ID: Final = re.compile(r"[0-9a-f]{8,64}\Z")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGE: Final = "core.bigFileThreshold=1m"
"""Objects above this size are not taken apart in memory: a blob of 300 MB of zeros takes 5 MB. Source: recipe."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """Which ref now holds the commit."""

    ref: str
    tip: str
    is_new: bool
    """Whether the ref was written now; otherwise it held this commit before."""


def apply(repository: Repository, bundle: str, id: str, *, tip: str, force: bool = False) -> Applied:
    """Take the bundle in the file `bundle` in, and let `refs/parler/<id>` be its commit, which is `tip` as its author
    said.

    Raises `Refused`: `bundle_refused` with a word for what is wrong with it, `missing_base` with the commits that this
    repository lacks, `target_exists` where the ref holds another commit and nothing was said of `force`;
    `ParlerError(git_failed)` where the repository cannot be written.
    """
    assert _ID.match(id), "an id is made by Parler"
    if repository.is_shallow:
        raise Refused("shallow_repository")
    ref = PLACE + id
    with open(bundle, "rb") as file:
        header = read_header(file)
        if header.format != repository.format:
            raise refused("format")
        if header.tip != tip:
            raise refused("tip")
        refs = repository.refs()
        held = refs.get(ref)
        if held not in (None, header.tip) and not force:
            raise Refused("target_exists", f"{ref} holds another commit.", target=ref)
        with scratch_of(repository) as scratch:
            tip_is_here, *bases_are_here = _are_commits(scratch, (header.tip, *header.bases))
            if held == header.tip and tip_is_here:
                return Applied(ref=ref, tip=header.tip, is_new=False)
            lacking = [base for base, is_here in zip(header.bases, bases_are_here, strict=True) if not is_here]
            if lacking:
                raise Refused("missing_base", commits=lacking[:16])
            os.lseek(file.fileno(), header.size, os.SEEK_SET)
            try:
                pack = scratch.line_from(file, "index-pack", "--stdin", "--fix-thin", "--strict", settings=[_LARGE])
                if scratch.line("cat-file", "-t", header.tip) != "commit":
                    raise refused("tip")
                _require_whole(scratch, header.tip, refs.values())
            except GitFailed as error:
                raise refused("objects") from error
            _install(scratch, pack.partition("\t")[2])
    _write_ref(repository, ref, header.tip, held)
    return Applied(ref=ref, tip=header.tip, is_new=True)


def _are_commits(scratch: Scratch, ids: tuple[str, ...]) -> list[bool]:
    """Whether each of these is a commit that is here."""
    asked = "".join(f"{id}\n" for id in ids).encode()
    said = scratch.run("cat-file", "--batch-check=%(objecttype)", stdin=asked).decode("ascii", "replace").splitlines()
    return [kind == "commit" for _, kind in zip(ids, said, strict=True)]


def _require_whole(scratch: Scratch, tip: str, known: Iterable[str]) -> None:
    """Raise `GitFailed` unless everything is here that the tip, which is here, leads to and what is known does not."""
    asked = "".join((f"{tip}\n", *(f"^{id}\n" for id in dict.fromkeys(known))))
    # A ref of the repository may name an object that is not here, and then says nothing.
    options = ("--objects", "--quiet", "--ignore-missing", "--stdin")
    scratch.run("rev-list", *options, settings=[_LARGE], stdin=asked.encode())


def _install(scratch: Scratch, name: str) -> None:
    """Put the pack, and then its index, into the real repository, each whole. git finds a pack by its index."""
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) is None:
        raise ParlerError("git_failed", "git did not say which pack it made.")
    try:
        with beneath.folder(scratch.of.common) as common:
            objects = os.open("objects", _FOLDER, dir_fd=common)
            try:
                with suppress(FileExistsError):
                    os.mkdir("pack", dir_fd=objects)
                packs = os.open("pack", _FOLDER, dir_fd=objects)
            finally:
                os.close(objects)
        try:
            for kind in ("pack", "idx"):
                _put(os.path.join(scratch.objects, "pack", f"pack-{name}.{kind}"), packs, f"pack-{name}.{kind}")
            os.fsync(packs)
        finally:
            os.close(packs)
    except OSError as error:
        raise ParlerError("git_failed", f"The pack cannot be put into this repository: {error.strerror}.") from error


def _put(source: str, folder: int, name: str) -> None:
    """Copy a file into a folder, under its name only once it is whole and on the disk."""
    unfinished = f"tmp_parler_{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o444, dir_fd=folder)
    try:
        with open(descriptor, "wb") as target, open(source, "rb") as found:
            shutil.copyfileobj(found, target, 1024 * 1024)
            target.flush()
            os.fsync(descriptor)
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)
        raise


def _write_ref(repository: Repository, ref: str, tip: str, held: str | None) -> None:
    for name in ("refs", PLACE):
        if os.path.islink(os.path.join(repository.common, name.rstrip("/"))):
            raise ParlerError("git_failed", "The folder of the refs is a link, which Parler does not follow.")
    try:
        repository.runner.run("update-ref", "--no-deref", ref, tip, held or repository.no_id, cwd=repository.top)
    except GitFailed as error:
        raise ParlerError("git_failed", "git cannot write the ref: another program may hold its lock.") from error
