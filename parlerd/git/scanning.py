"""Looks through what a bundle brings for what is recognised as a secret.

    the files of the newest commit --> every other commit that is new, with each version of a file that it brought
                                   `--> pieces --> `Search`

The newest files come first, so that a search which runs into a bound has seen what matters most. The bound of time is
short, because whoever shares code waits; the bundle goes on its way whatever is found.

Not here: what a secret looks like (`parlerd.core.scrub`), telling anybody. Above: `pushing`. Below: `scratch`.
Invariant: a search that cannot be done whole says so, and never stops a push.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from parlerd.core import searching
from parlerd.core.errors import ParlerError
from parlerd.core.searching import Search, Searched
from parlerd.git.running import GitFailed, Runner
from parlerd.git.scratch import Scratch

MAX_OBJECT: Final = 8 * 1024 * 1024
"""Bytes of one version of a file that is looked through."""
_BATCH: Final = 8 * 1024 * 1024
"""Bytes of files that git is asked for at a time."""
_HEAD: Final = re.compile(rb"[0-9a-f]+ [a-z]+ (\d+)\n")
_NEWEST: Final = ("--max-count=1",)


class _Late(Exception):
    """The time for the search is over."""


class _Object(msgspec.Struct, frozen=True):
    """A version of a file, or a commit with its words."""

    id: bytes
    path: str
    size: int


def search(scratch: Scratch, tip: str, base: str) -> Searched:
    """What is recognised in the commits up to `tip` that `base` does not have, and in the files that came with them."""
    goes_on, runner = searching.in_time(time.monotonic), scratch.of.runner

    def wanted() -> None:
        runner.wanted()
        if not goes_on():
            raise _Late

    hurried = msgspec.structs.replace(scratch.of, runner=Runner(wanted, runner.path))
    found = Search(goes_on)
    try:
        _search(msgspec.structs.replace(scratch, of=hurried), tip, base, found)
    except (_Late, GitFailed):
        found.cut()
    except ParlerError as error:
        if error.code != "git_failed":
            raise
        found.cut()
    return found.result()


def _search(scratch: Scratch, tip: str, base: str, found: Search) -> None:
    seen: set[bytes] = set()
    for which in (_NEWEST, ()):
        objects = _new_objects(scratch, tip, base, which, seen)
        if any(each.size > MAX_OBJECT for each in objects):
            found.cut()
        for batch in _batches([each for each in objects if each.size <= MAX_OBJECT]):
            if found.is_over:
                found.cut()
                return
            _look(scratch, batch, found)


def _new_objects(scratch: Scratch, tip: str, base: str, which: tuple[str, ...], seen: set[bytes]) -> list[_Object]:
    """The commits and files that are new, the newest first, without those in `seen`, to which they are added."""
    listed = scratch.run("rev-list", "--objects", *which, tip, *([f"^{base}"] if base else []))
    named: dict[bytes, bytes] = {}
    for line in listed.splitlines():
        id, _, path = line.partition(b" ")
        if id not in seen:
            named[id] = path
    seen.update(named)
    asked = b"".join(id + b"\n" for id in named)
    said = scratch.run("cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=asked) if asked else b""
    objects: list[_Object] = []
    for (id, path), line in zip(named.items(), said.splitlines(), strict=True):
        kind, _, size = line.partition(b" ")
        if kind == b"blob":
            objects.append(_Object(id, path.decode("utf-8", "replace"), int(size)))
        elif kind == b"commit":
            objects.append(_Object(id, f"commit {id[:12].decode()}", int(size)))
    return objects


def _batches(objects: list[_Object]) -> Iterator[list[_Object]]:
    batch: list[_Object] = []
    size = 0
    for each in objects:
        if batch and size + each.size > _BATCH:
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch


def _look(scratch: Scratch, batch: list[_Object], found: Search) -> None:
    said = scratch.run("cat-file", "--batch", stdin=b"".join(each.id + b"\n" for each in batch))
    at = 0
    for each in batch:
        head = _HEAD.match(said, at)
        if head is None:
            found.cut()
            return
        begin, at = head.end(), head.end() + int(head[1])
        # In pieces, between which the search looks at its time: a hostile file takes a second for a megabyte.
        places = range(begin, at, searching.PIECE)
        found.file(each.path, (said[place : min(place + searching.PIECE, at)] for place in places))
        at += 1
