"""The texts of a demo: put together where they were cut, and counted.

Not here: what is sent and when (`demo_story`), how a text is read (`mcp_server.heard`). Invariant: a text counts only
if it is the same to the letter.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Protocol

from mcp_server.fence import reveal
from mcp_server.heard import Heard

TELLING: Final = 8
"""Characters of a line that cannot turn up elsewhere by chance."""


class Broken(Exception):
    """A step is not as it should be, and how it is instead."""


class Reader(Protocol):
    """The part of a window that reading on needs."""

    async def call(self, tool: str, **arguments: Any) -> Heard: ...


class Texts:
    """What was sent, by whom, and what was found again: each text goes out once and must be there once."""

    def __init__(self, recap: str) -> None:
        self._sent = [recap]
        self._numbers: dict[str, int] = {}
        self.counts = {"sent": 0, "stored": 0, "lost": 0, "doubled": 0}

    def sent(self, text: str, number: int) -> None:
        """`text` went out and was acknowledged as message `number`."""
        self._sent.append(text)
        self._numbers[text] = number

    def number_of(self, text: str) -> int:
        return self._numbers[text]

    def found(self, messages: list[tuple[int, str, str]]) -> None:
        """What the room holds: number, author and text of each message. Raises `Broken` when a message is not the one
        that was acknowledged."""
        sent, stored = Counter(self._sent), Counter(text for _, _, text in messages)
        self.counts = {
            "sent": sent.total(),
            "stored": stored.total(),
            "lost": (sent - stored).total(),
            "doubled": (stored - sent).total(),
        }
        for number, _, text in messages[1:]:
            told = self._numbers.get(text, number)
            expect(told == number, "A message has another number than the one its sender was told.")


def expect(held: bool, otherwise: str) -> None:
    """Raise `Broken(otherwise)` unless `held`."""
    if not held:
        raise Broken(otherwise)


def visible(text: str) -> str:
    """`text` with hidden characters written out, as every reader is shown it."""
    return reveal(text).text


async def whole_texts(reader: Reader, page: Heard) -> list[str]:
    """The texts of the messages of a page that `reader` was shown. What was cut is read on as the answer says. Raises
    `Broken` when a part is missing or stands outside the fence too."""
    texts = page.texts
    _expect_fenced(page)
    shown = page.messages[-1].end if page.messages else 0
    while (call := page.rest_call) is not None:
        page = await reader.call("parler_recv", **call)
        expect(len(page.messages) == 1, "The rest of a long message was not shown.")
        (part,) = page.messages
        _expect_fenced(page)
        expect(part.begin == shown, f"The rest of a long message begins at {part.begin}, not at {shown}.")
        texts[-1] += part.text
        shown = part.end
    return texts


def _expect_fenced(page: Heard) -> None:
    leaked = any(len(line) > TELLING and line in page.said for text in page.texts for line in text.splitlines())
    expect(not leaked, "Text of another agent was shown outside a fence.")
