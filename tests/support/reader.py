"""What a model can take from the text of a result: what peers wrote, what is ours, and which calls the text names.

It knows no more than the text says: fences by their marks, calls where a line of ours writes them out with their
arguments. What stands inside a fence names no call. Not here: where the text came from (`model_server`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from parlerd.core.errors import ERRORS
from tests.support.dialects.blocks import Block, calls

_OPENING: Final = re.compile(r"\[peer ([0-9a-z]+) ?(.*)\]")
_CALL: Final = re.compile(r"\b(parler_[a-z_]+) (?=\{)")
_ERROR: Final = re.compile(r"(?:^|\W)([a-z_]+): ")
_KEY: Final = re.compile(r"session ([0-9A-HJKMNP-TV-Z]{8,})\b")
_HEAD: Final = re.compile(r"#(\d+) ([^\s;]+)")


class Part(NamedTuple):
    """What a peer wrote, and what the line above it says of it."""

    head: str
    text: str

    @property
    def number(self) -> int:
        """The number of the message."""
        return int(self._found[1])

    @property
    def author(self) -> str:
        """Who wrote it: a name, or `you`."""
        return self._found[2]

    @property
    def _found(self) -> re.Match[str]:
        found = _HEAD.match(self.head)
        assert found is not None, self.head
        return found


class Reading(NamedTuple):
    """A text, read: the parts that peers wrote, and the lines around them."""

    parts: list[Part]
    ours: str

    @property
    def calls(self) -> list[Block]:
        """The calls that our lines write out, in order."""
        return list(_calls(self.ours))

    @property
    def more(self) -> Block | None:
        """The call that brings what is there already; None when nothing more is. One that waits is none of these."""
        reads = (call for call in self.calls if call.tool == "parler_recv" and "wait_secs" not in call.arguments)
        return next(reads, None)

    @property
    def error(self) -> str | None:
        """The code of the error that it says; None when it says none."""
        return next((code for code in _ERROR.findall(self.ours) if code in ERRORS), None)

    @property
    def says_nothing(self) -> bool:
        """Whether a read brought neither a message nor word of anything else."""
        return not self.parts and "Nothing new." in self.ours and "Meanwhile" not in self.ours


def read(text: str) -> Reading:
    """A text as a careful reader takes it."""
    parts: list[tuple[str, list[str]]] = []
    ours: list[str] = []
    mark = ""
    for line in text.split("\n"):
        opening = _OPENING.fullmatch(line)
        if opening is not None and mark in ("", opening[1]):
            mark = opening[1]
            parts.append((opening[2], []))
        elif mark and line == f"[end {mark}]":
            mark = ""
        elif mark:
            parts[-1][1].append(line)
        else:
            ours.append(line)
    return Reading([Part(head, "\n".join(lines)) for head, lines in parts], "\n".join(ours))


def key_in(text: str) -> str:
    """The key of the session that a text says was opened."""
    found = _KEY.search(read(text).ours)
    assert found is not None, text
    return found[1]


def _calls(ours: str) -> Iterator[Block]:
    for found in _CALL.finditer(ours):
        try:
            arguments, _ = json.JSONDecoder().raw_decode(ours, found.end())
        except json.JSONDecodeError:
            continue
        yield calls(found[1], **arguments)
