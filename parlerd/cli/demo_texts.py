"""The texts of a demo: taken out of their fences, put together where they were cut, and counted.

Not here: what is sent and when (`demo_story`). Invariant: a text counts only if it is the same to the letter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Protocol

from mcp_server.fence import Fencer

_FENCE: Final = re.compile(r"\[peer text (\w+)[^\]\n]*\]\n(.*)\n\[end \1([^\n]*)\]", re.DOTALL)
_READ_ON: Final = re.compile(r'"offset":(\d+)')


class Broken(Exception):
    """A step is not as it should be, and how it is instead."""


class Reader(Protocol):
    """The part of a window that reading on needs."""

    async def call_for_text(self, tool: str, **arguments: Any) -> str: ...


class Texts:
    """What was sent, by whom, and what was found again: each text goes out once and must be there once."""

    def __init__(self, recap: str) -> None:
        self._sent = [recap]
        self._ids: dict[str, str] = {}
        self.counts = {"sent": 0, "stored": 0, "lost": 0, "doubled": 0}

    def sent(self, text: str, id: str) -> None:
        """`text` went out and was acknowledged as message `id`."""
        self._sent.append(text)
        self._ids[text] = id

    def id_of(self, text: str) -> str:
        return self._ids[text]

    def found(self, messages: list[tuple[str, str, str]]) -> None:
        """What the room holds. Raises `Broken` when a message is not the one that was acknowledged."""
        sent, stored = Counter(self._sent), Counter(text for _, _, text in messages)
        self.counts = {
            "sent": sent.total(),
            "stored": stored.total(),
            "lost": (sent - stored).total(),
            "doubled": (stored - sent).total(),
        }
        for id, _, text in messages[1:]:
            expect(self._ids.get(text, id) == id, "A message has another id than the one its sender was told.")


def expect(held: bool, otherwise: str) -> None:
    """Raise `Broken(otherwise)` unless `held`."""
    if not held:
        raise Broken(otherwise)


def visible(text: str) -> str:
    """`text` with hidden characters written out, as every reader is shown it."""
    return unfenced(Fencer().wrap(text))[0]


def unfenced(shown: str) -> tuple[str, int]:
    """The text inside the one fence, and the character to read on from (0 when that is all). Raises `Broken`."""
    found = _FENCE.search(shown)
    if found is None:
        raise Broken("Text of another agent was shown outside a fence.")
    read_on = _READ_ON.search(found[3])
    return found[2], int(read_on[1]) if read_on else 0


async def whole_text(reader: Reader, room: str, message: Mapping[str, Any]) -> str:
    """The text of a message that `reader` was shown. What was cut is read as the cut says."""
    text, read_on = unfenced(message["text"])
    while read_on:
        after = {"room": room, "since": message["seq"] - 1, "limit": 1}
        part, read_on = unfenced(await reader.call_for_text("parler_recv", **after, offset=read_on))
        text += part
    return text
