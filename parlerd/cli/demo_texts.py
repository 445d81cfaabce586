"""The texts of a demo: cut texts are put together again, and all are counted.

Not here: what is sent and when (`demo_story`), how an answer is read (`mcp_server.heard`). Invariant: a text counts as
found only if it is the same to the letter.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Protocol

from mcp_server.fence import reveal
from mcp_server.heard import Heard

TELLING: Final = 8
"""A line with more characters than this cannot turn up elsewhere by chance."""


class Broken(Exception):
    """A step went wrong. The message says how."""


class Reader(Protocol):
    """The part of a window that reading on needs."""

    async def call(self, tool: str, **arguments: Any) -> Heard: ...


class Texts:
    """What was sent and what was found again. Each text is sent once and must be found once."""

    def __init__(self, recap: str) -> None:
        # Every text that was sent, in order; the recap is the first.
        self._sent = [recap]
        # The number that the sender of each text was told.
        self._numbers: dict[str, int] = {}
        self.counts = {"sent": 0, "stored": 0, "lost": 0, "doubled": 0}
        """How many messages were sent, stored, lost and doubled; `found` counts them."""

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
    """The texts of the messages of a page that `reader` was shown. A text that was cut is read to its end, with the
    calls that the answers name. Raises `Broken` when a part is missing, or also stands outside the fence."""
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
