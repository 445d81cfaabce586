"""How a text is folded, what a query asks for, and in which order texts answer it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.recall import (
    MAX_QUERY,
    MAX_WORDS,
    PAIR,
    Term,
    Word,
    Words,
    asked,
    count,
    fold,
    has_terms,
    holds,
    parse,
    score,
    searched,
    terms_of,
    words_of,
)
from parlerd.store.searching import matching
from parlerd.store.upgrade import shipped_schema


def test_a_query_is_its_words_each_once_and_folded() -> None:
    assert parse("  Blue-Green  deploy blue-green ").words == (Word("blue-green"), Word("deploy"))
    assert parse("dep* d* *").words == (Word("dep", is_prefix=True), Word("d*"), Word("*"))
    assert parse("  Deploy\tNow ").text == "Deploy Now"


@pytest.mark.parametrize("empty", ["", "  ", "\n\t", "\0"])
def test_no_query_is_an_error_but_an_empty_one(empty: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(empty)
    assert refused.value.code == "invalid_param"


def test_of_a_very_long_query_the_beginning_counts() -> None:
    assert len(parse(" ".join(f"w{n}" for n in range(999))).words) == MAX_WORDS
    (word,) = parse("x" * 10**6).words
    assert len(word.text) == MAX_QUERY


def test_a_text_has_a_word_where_it_stands_literally() -> None:
    text = searched(Words("deploy-strategy", "Blue-green, since 2026-11-28."))
    assert holds(text, parse("blue-green 11-28").words)
    assert not holds(text, parse("blue green-").words)
    assert count(text, Word("de", is_prefix=True)) == 1
    assert count(text, Word("trategy", is_prefix=True)) == 0


def test_the_exact_key_comes_first_then_the_query_as_typed_then_the_more_frequent_then_the_newer() -> None:
    query = parse("deploy now")
    texts = [
        Words("deploy now", "x"),
        Words("", "do deploy now"),
        Words("", "deploy, deploy, and now deploy"),
        Words("", "now or later, deploy"),
    ]
    scores = [score(query, words, searched(words), (1.0, 1.0), 3 - rank) for rank, words in enumerate(texts)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    alike = [score(query, texts[1], searched(texts[1]), (1.0, 1.0), rank) for rank in range(3)]
    assert alike == sorted(alike, reverse=True)


def test_what_is_no_envelope_of_a_memory_has_no_words() -> None:
    for body in (b"", b"\xff", b"\x80", b"\x91" * 5000):
        assert words_of(body) is None


def test_an_index_has_the_words_of_a_text_and_the_pairs_with_no_blank_between_them() -> None:
    found = terms_of(Words("a_b", "Blue-green, on 2026."))
    assert found == ["a", "b", f"a{PAIR}b", "blue", "green", f"blue{PAIR}green", "on", "2026"]
    assert terms_of(Words("", "戦略x")) == ["戦", "略", "x", f"戦{PAIR}略", f"略{PAIR}x"]
    assert terms_of(Words("", "-> …")) == []


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("blue", [Term("blue")]),
        ("blue-green", [Term(f"blue{PAIR}green")]),
        ("2026-11-28", [Term(f"2026{PAIR}11"), Term(f"11{PAIR}28")]),
        ("dep*", [Term("dep", is_beginning=True)]),
        ("deployment*", [Term("depl", is_beginning=True)]),
        ("blue-gre*", [Term("gre", is_beginning=True), Term("blue")]),
        ("2026-1*", [Term("2026")]),
        ("戦略*", [Term(f"戦{PAIR}略")]),
        ("-a*", []),
        ("->", []),
    ],
)
def test_what_an_index_is_asked_for(query: str, terms: list[Term]) -> None:
    assert list(asked(parse(query).words)) == terms


@given(st.text(max_size=60), st.text(max_size=20))
def test_whatever_stands_whole_in_a_text_is_found_by_the_index_too(text: str, query: str) -> None:
    """A query taken from the text as it was typed, blank to blank."""
    for typed in text.split():
        with suppress(Refused):
            words = [word for word in parse(typed).words if not word.is_prefix]
            if holds(fold(text), words):
                assert has_terms(terms_of(Words("", text)), asked(words))
    with suppress(Refused):
        holds(fold(text), parse(query).words)


@given(st.from_regex(r"[a-c]{1,6}([-.][a-c]{1,6}){0,2}", fullmatch=True), st.integers(2, 20))
def test_what_begins_with_a_word_is_found_by_the_index_too(text: str, length: int) -> None:
    with suppress(Refused):
        words = [word for word in parse(text[:length] + "*").words if word.is_prefix]
        assert has_terms(terms_of(Words("", f"x {text}")), asked(words))


def _index(*texts: str) -> sqlite3.Connection:
    """An index as the store makes it, with these texts."""
    index = sqlite3.connect(":memory:")
    (made,) = re.findall(r"CREATE VIRTUAL TABLE.*?;", shipped_schema().scripts[11], re.DOTALL)
    index.execute(made)
    for number, text in enumerate(texts, 1):
        said = " ".join(terms_of(Words("", text)))
        index.execute("INSERT INTO remembered_words (rowid, words) VALUES (?, ?)", (number, said))
    return index


def _finds(index: sqlite3.Connection, terms: Sequence[Term]) -> bool:
    asked_for = matching(terms, 0, 2)
    return bool(index.execute("SELECT 1 FROM remembered_words WHERE remembered_words MATCH ?", (asked_for,)).fetchall())


@given(st.text(max_size=60), st.text(min_size=1, max_size=20))
def test_fts5_finds_what_the_plain_reading_finds(text: str, query: str) -> None:
    index = _index(text)
    with suppress(Refused):
        for word in parse(query).words:
            if terms := asked([word]):
                assert _finds(index, terms[:1]) is has_terms(terms_of(Words("", text)), terms[:1])
    index.close()


@pytest.mark.parametrize(
    "hostile",
    [
        '"',
        '""',
        "a AND",
        "NOT x",
        "x OR y",
        "w:x",
        "a*b*",
        "(",
        "NEAR(a b, 2)",
        "^x",
        "-x",
        "{a b}: c",
        "a\0b",
        "'; --",
    ],
)
def test_no_query_is_an_operator_of_the_index(hostile: str) -> None:
    index = _index(f"so {hostile} it is")
    for word in parse(hostile).words:
        if terms := asked([word]):
            assert _finds(index, terms[:1])
    index.close()
