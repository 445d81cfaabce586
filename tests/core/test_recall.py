"""How a text is folded, what a query asks for, and in which order texts answer it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.recall import (
    MAX_QUERY,
    MAX_WORDS,
    Word,
    Words,
    count,
    fold,
    holds,
    indexed,
    matches,
    parse,
    score,
    searched,
    spaced,
    words_of,
)
from parlerd.store.searching import matching


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


@given(st.text(max_size=60), st.text(max_size=20))
def test_whatever_stands_literally_in_a_text_is_found_by_the_index_too(text: str, query: str) -> None:
    """A query taken from the text as it was typed, blank to blank."""
    for typed in text.split():
        with suppress(Refused):
            words = [word for word in parse(typed).words if word.is_indexed and not word.is_prefix]
            if holds(fold(text), words):
                assert matches(spaced(fold(text)), words)
    with suppress(Refused):
        holds(fold(text), parse(query).words)


@given(st.text(max_size=60), st.text(min_size=1, max_size=20))
def test_fts5_finds_what_the_plain_reading_finds(text: str, query: str) -> None:
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE f USING fts5 (w, content='', tokenize=\"unicode61 remove_diacritics 0\")")
    index.execute("INSERT INTO f (rowid, w) VALUES (1, ?)", (indexed(Words("", text)),))
    with suppress(Refused):
        words = [word for word in parse(query).words if word.is_indexed]
        if words:
            found = index.execute("SELECT rowid FROM f WHERE f MATCH ?", (matching(words),)).fetchall()
            if words and all(each.text.isascii() for each in words) and text.isascii():
                assert bool(found) is matches(indexed(Words("", text)), words)
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
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE f USING fts5 (w, content='', tokenize=\"unicode61 remove_diacritics 0\")")
    index.execute("INSERT INTO f (rowid, w) VALUES (1, ?)", (indexed(Words("", f"so {hostile} it is")),))
    words = [word for word in parse(hostile).words if word.is_indexed]
    if words:
        assert index.execute("SELECT rowid FROM f WHERE f MATCH ?", (matching(words),)).fetchall() == [(1,)]
    index.close()
