"""Finding what was remembered: how a text is folded, what a query asks for, and how well a text answers it.

Text is found literally: with its hyphens, dots, dates and quotes, and in scripts that put no blanks between words. So
text and query are folded alike, an index narrows the texts down by their terms, and the folded text itself has the last
word. A score rests on the one text and on the order of what the reader may see, so it tells nothing of what is hidden.

    blue-green now   ->  the terms of a text:   blue, green, now, and the pair of blue and green
    blue-green no*   ->  what an index is asked for:   the pair of blue and green, and a term that begins with `no`

A pair stands for two terms with no blank between them. With pairs an index needs no places of words: it would look for
a phrase through all texts that have one of its words, however many these are.

Not here: the index (each store has one), and which texts a reader may see. Above: the stores, which index the terms,
and `parlerd.engine`. Below: the envelope. Invariants: no text is an error as a query, but the empty one; a text in
which the words of a query stand whole has every term that an index is asked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
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
MAX_BEGINNING: Final = 4
"""Letters of a beginning that an index is asked for: with each letter more, an index of the beginnings of terms has one
term more for each. Of four letters it takes 24 bytes for a fact of 80 characters, of three 12 fewer (measured)."""
PAIR: Final = "\ue000"
"""Between the two terms of a pair. No text has it in a term, because it is no letter."""
_TERM: Final = re.compile(r"[^\W_]+")
# Scripts whose words are not set apart: Thai, Lao, Myanmar, Khmer, kana, CJK and its extensions, hangul.
_UNSPACED: Final = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff])"
)


class Word(NamedTuple):
    """One word of a query, folded. With `is_prefix` it is the beginning of a word."""

    text: str
    is_prefix: bool = False


class Term(NamedTuple):
    """One term that an index is asked for. With `is_beginning` it is what the term begins with: `PREFIX` to
    `MAX_BEGINNING` letters."""

    text: str
    is_beginning: bool = False


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
    return Words(part.key, "\n".join([each.text for each in envelope.parts if isinstance(each, TextPart)]))


def fold(text: str) -> str:
    """A text as it is compared: forms that look alike are one, capitals are small letters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().replace("\0", " ")


def terms_of(words: Words) -> list[str]:
    """What is indexed of a message: each term once."""
    found: dict[str, None] = {}
    for terms in _runs(searched(words)):
        found |= dict.fromkeys(terms)
        found |= dict.fromkeys(map(PAIR.join, pairwise(terms)))
    return list(found)


def asked(words: Iterable[Word]) -> tuple[Term, ...]:
    """The terms that an index is asked for, which every text has in which the words stand whole. There are none for
    words without a letter or a digit, and for a beginning that is too short to be looked for."""
    found: dict[Term, None] = {}
    for word in words:
        terms = next(_runs(word.text), [])
        if word.is_prefix and not _UNSPACED.match(terms[-1]):
            # The last term may go on, so it is in no pair.
            beginning = terms.pop()[:MAX_BEGINNING]
            if len(beginning) >= PREFIX:
                found[Term(beginning, is_beginning=True)] = None
        found |= dict.fromkeys(map(Term, terms[:1] if len(terms) == 1 else map(PAIR.join, pairwise(terms))))
    return tuple(found)


def has_terms(found: Iterable[str], terms: Iterable[Term]) -> bool:
    """Whether a text with the terms `found` is one that an index gives for these: the plain reading of an index."""
    known = set(found)
    return all(
        any(each.startswith(term.text) for each in known) if term.is_beginning else term.text in known for term in terms
    )


def _runs(folded: str) -> Iterator[list[str]]:
    """The terms of what stands between two blanks, one after the other: letters and digits. Each character of a script
    without blanks is a term of its own."""
    for run in folded.split():
        terms = _TERM.findall(run if run.isascii() else _UNSPACED.sub(r" \1 ", run))
        if terms:
            yield terms


def searched(words: Words) -> str:
    """What a query is compared with: the key and the text."""
    return fold(f"{words.key}\n{words.text}")


def parse(text: str) -> Query:
    """What a query asks for. Raises `Refused(invalid_param)` for an empty one."""
    typed = " ".join(text[:MAX_QUERY].replace("\0", " ").split())
    if not typed:
        raise Refused("invalid_param", "The query is empty.", hint="Name a word of what you look for.", param="query")
    words = tuple(dict.fromkeys(map(_word, fold(typed).split())))
    return Query(typed, fold(typed), words[:MAX_WORDS])


def _word(folded: str) -> Word:
    stem = folded[:-1]
    is_prefix = folded.endswith("*") and len(stem) >= PREFIX and stem[-1].isalnum()
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
        found += at == 0 or not text[at - 1].isalnum()
    return found


def score(query: Query, words: Words, text: str, weights: Sequence[float], rank: int) -> float:
    """How well a text answers a query; higher is better. `text` is what is `searched` of it, `weights` say how much
    each word of the query counts, and `rank` how many newer texts the reader may see among those that are compared.

    The exact key comes first, then the query as it was typed; then how often the words stand there for the length of
    the text; and at last what is newest.
    """
    counts = [min(count(text, word), 5) for word in query.words]
    found = sum(weight * times for weight, times in zip(weights, counts, strict=True))
    exact = 1000.0 if words.key and words.key == query.text else 0.0
    literal = 10.0 if query.literal in text else 0.0
    return round(exact + literal + found / (1 + log2(1 + len(text) / 80)) + NEWEST / (1 + rank), 3)
