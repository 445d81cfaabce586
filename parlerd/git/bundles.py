"""The header of a bundle: which commits one must have, which one it brings, and where the pack begins. A pure reader.

git would take the names in a bundle for names of refs, and its settings for its own. This reads the few lines before
the pack, takes the ids out of them and looks at nothing else.

Not here: the pack (`applying`). Above: `applying`. Below: the table of errors. Invariant: for any bytes, `read_header`
gives a header or raises `Refused(bundle_refused)`.
"""

from __future__ import annotations

import re
from typing import IO, Final

import msgspec

from parlerd.core.errors import Refused

MAX_HEADER: Final = 256 * 1024
MAX_BASES: Final = 1024
"""Commits that a bundle may ask for. One against one base asks for those at which the new history leaves the old."""
_FIRST: Final = re.compile(rb"# v([23]) git bundle\n\Z")
_BASE: Final = re.compile(rb"-([0-9a-f]{40}|[0-9a-f]{64})(?: [^\n]*)?\n\Z")
_REF: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) [^\n]+\n\Z")


class BundleHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the pack."""

    tip: str
    """The commit that the bundle brings."""
    bases: tuple[str, ...]
    """The commits that whoever applies it has already."""
    format: str
    size: int
    """Bytes before the pack."""


def read_header(file: IO[bytes]) -> BundleHeader:
    """The header of the bundle that `file` stands at the beginning of; afterwards the file stands at the pack."""
    size, format = 0, "sha1"
    bases: list[str] = []
    tips: list[str] = []

    def next_line() -> bytes:
        nonlocal size
        line = file.readline(8192)
        size += len(line)
        if not line.endswith(b"\n") or size > MAX_HEADER:
            raise refused("header")
        return line

    version = _FIRST.match(next_line())
    if version is None:
        raise refused("header")
    while (line := next_line()) != b"\n":
        if line.startswith(b"@"):
            name, _, value = line[1:-1].partition(b"=")
            if version[1] != b"3" or name != b"object-format" or value not in (b"sha1", b"sha256") or bases or tips:
                # A filter leaves objects out, and whatever else may come means something that is not known here.
                raise refused("capability")
            format = value.decode()
        elif found := _BASE.match(line):
            bases.append(found[1].decode())
        elif found := _REF.match(line):
            tips.append(found[1].decode())
        else:
            raise refused("header")
    if len(set(tips)) != 1:
        raise refused("tips")
    if len(bases) > MAX_BASES:
        raise refused("bases")
    length = 64 if format == "sha256" else 40
    if any(len(id) != length for id in (*bases, *tips)):
        raise refused("format")
    return BundleHeader(tip=tips[0], bases=tuple(bases), format=format, size=size)


def refused(what: str) -> Refused:
    """The error for a bundle that cannot be taken, with a word of ours for what is wrong with it."""
    return Refused("bundle_refused", what=what)
