"""Finding what was remembered: how a text is folded, what a query asks for, and how well a text answers it.

Text is found literally: with its hyphens, dots, dates and quotes, and in scripts that put no blanks between words. So
text and query are folded alike, an index narrows the texts down by their words, and the folded text itself has the last
word. A score rests on the one text and on the order of what the reader may see, so it tells nothing of what is hidden.

Not here: the index (each store has one), and which texts a reader may see. Above: the stores, which fold what they
index, and `parlerd.engine`. Below: the envelope. Invariant: no text is an error as a query, but the empty one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from math import log2
from typing import Final, NamedTuple

import msgspec

from parlerd.core.envelope import Envelope, TextPart, decode_envelope, memory_of
from parlerd.core.errors import Refused

MAX_WORDS: Final = 8
"""Words of a query that count: more narrow nothing down that a person would miss."""
MAX_QUERY: Final = 1_024
"""Characters of a query that count."""
NEWEST: Final = 0.1
"""What being the newest counts: it decides among facts that answer alike, and outweighs no word."""
PREFIX: Final = 2
"""Letters that a word needs before its `*`: one letter begins half of all words."""
# Scripts whose words are not set apart: Thai, Lao, Myanmar, Khmer, kana, CJK and its extensions, hangul.
_UNSPACED: Final = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff])"
)


class Word(NamedTuple):
    """One word of a query, folded. With `is_prefix` it is the beginning of a word."""

    text: str
    is_prefix: bool = False

    @property
    def is_indexed(self) -> bool:
        """Whether an index of words can find it: it has a letter or a digit."""
        return any(map(_is_letter, self.text))


class Query(NamedTuple):
    """What is asked for. `text` is as it was typed, without the blanks around it, and `literal` the same folded."""

    text: str
    literal: str
    words: tuple[Word, ...]


class Words(NamedTuple):
    """What a message remembers: the key, empty for none, and the text."""

    key: str
    text: str


def words_of(body: bytes) -> Words | None:
    """What a body remembers. None for bytes that are no envelope, and for a message that remembers nothing."""
    try:
        envelope: Envelope = decode_envelope(body)
    # msgspec raises the latter two itself, for text that is not UTF-8 and for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    part = memory_of(envelope.parts)
    if part is None or part.forgets:
        return None
    return Words(part.key, "\n".join(each.text for each in envelope.parts if isinstance(each, TextPart)))


def fold(text: str) -> str:
    """A text as it is compared: forms that look alike are one, capitals are small letters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().replace("\0", " ")


def spaced(folded: str) -> str:
    """A folded text as it is indexed: each character of a script without blanks is a word of its own."""
    return folded if folded.isascii() else _UNSPACED.sub(r" \1 ", folded)


def indexed(words: Words) -> str:
    """What is indexed of a message."""
    return spaced(searched(words))


def searched(words: Words) -> str:
    """What a query is compared with: the key and the text."""
    return fold(f"{words.key}\n{words.text}")


def tokens(text: str) -> list[str]:
    """The words of a text as an index sees them: what stands between anything but letters and digits."""
    return "".join(char if _is_letter(char) else " " for char in text).split()


def parse(text: str) -> Query:
    """What a query asks for. Raises `Refused(invalid_param)` for an empty one."""
    typed = " ".join(text[:MAX_QUERY].replace("\0", " ").split())
    if not typed:
        raise Refused("invalid_param", "The query is empty.", hint="Name a word of what you look for.", param="query")
    words = tuple(dict.fromkeys(map(_word, fold(typed).split())))
    return Query(typed, fold(typed), words[:MAX_WORDS])


def _word(folded: str) -> Word:
    stem = folded[:-1]
    is_prefix = folded.endswith("*") and len(stem) >= PREFIX and _is_letter(stem[-1])
    return Word(stem, is_prefix=True) if is_prefix else Word(folded)


def holds(text: str, words: Iterable[Word]) -> bool:
    """Whether a text that is `searched` has every one of these words, literally."""
    return all(count(text, word) for word in words)


def count(text: str, word: Word) -> int:
    """How often a text that is `searched` has a word."""
    if not word.is_prefix:
        return text.count(word.text)
    at, found = -1, 0
    while (at := text.find(word.text, at + 1)) >= 0:
        found += at == 0 or not _is_letter(text[at - 1])
    return found


def matches(text: str, words: Sequence[Word]) -> bool:
    """Whether an index finds a text that is `indexed` by these words: the plain reading of what FTS5 answers."""
    found = tokens(text)
    return all(_has_phrase(found, tokens(spaced(word.text)), is_prefix=word.is_prefix) for word in words)


def _has_phrase(found: list[str], phrase: list[str], *, is_prefix: bool) -> bool:
    *first, last = phrase
    for at in range(len(found) - len(first)):
        end = found[at + len(first)]
        if found[at : at + len(first)] == first and (end.startswith(last) if is_prefix else end == last):
            return True
    return False


def score(query: Query, words: Words, text: str, weights: Sequence[float], rank: int) -> float:
    """How well a text answers a query; higher is better. `text` is what is `searched` of it, `weights` say how much
    each word of the query counts, and `rank` how many newer texts the reader may see among those that are compared.

    The exact key comes first, then the query as it was typed; then how often the words stand there for the length of
    the text; and at last what is newest.
    """
    counts = [min(count(text, word), 5) for word in query.words]
    counts = [min(count(text, word), 5) for word in query.words]
    found = sum(weight * times for weight, times in zip(weights, counts, strict=True))
    exact = 1000.0 if words.key and words.key == query.text else 0.0
    literal = 10.0 if query.literal in text else 0.0
    return round(exact + literal + found / (1 + log2(1 + len(text) / 80)) + NEWEST / (1 + rank), 3)


def _is_letter(char: str) -> bool:
    """Whether the index takes a character for a part of a word. Source: SQLite's unicode61, its default categories."""
    return char.isalnum() or unicodedata.category(char) in ("Co", "No", "Nl")
