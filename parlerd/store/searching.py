"""The index of what rooms remember, in SQLite: which messages, and by which words.

The words are in a contentless FTS5 table. SQLite before 3.43 cannot delete from one by row, but takes a row out when it
is handed the very words that were put in, and these follow from the body: so a body is read before it is erased. A row
that was taken out leaves its words in older segments of the index until those are merged, so forgetting merges all of
them into one. The row id is that of the body, so the search of one room reads a range and never looks at other rooms.

Not here: how a text is folded and judged (`core.recall`). Above: `sqlite`. Invariants: what is in the index has a body;
after a commit that erased bodies, no word of them is left in the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from parlerd.core.model import MemoryNote
from parlerd.core.recall import Word, indexed, spaced, words_of

MERGED_PAGES: Final = 200
"""Pages of the index that one step of a merge writes: less than a megabyte."""


class Noted(NamedTuple):
    """A message that does something in its room's memory. `base` is the number after which the ids of its room
    begin, and `id` its own."""

    base: int
    id: int
    note: MemoryNote
    body: bytes | None


def note(writer: sqlite3.Connection, noted: Iterable[Noted]) -> None:
    """Bring the index up to these messages, whose bodies are stored."""
    for each in noted:
        for position in each.note.drops:
            _take_out(writer, each.base + position)
        words = None if each.body is None else words_of(each.body)
        if words is not None:
            writer.execute("INSERT INTO remembered (id, current) VALUES (?, 1)", (each.id,))
            writer.execute("INSERT INTO remembered_words (rowid, words) VALUES (?, ?)", (each.id, indexed(words)))


def forget(writer: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Leave nothing of these bodies in the index. They are still stored, and about to be erased."""
    if take_out(writer, ids):
        writer.execute("INSERT INTO remembered_words (remembered_words) VALUES ('optimize')")


def take_out(writer: sqlite3.Connection, ids: Iterable[int]) -> bool:
    """Let nothing lead to these bodies, which are still stored; whether anything did. Their words stay in older
    segments of the index until `merge` is done."""
    found = [id for id in ids if writer.execute("SELECT 1 FROM remembered WHERE id = ?", (id,)).fetchone()]
    for id in found:
        _take_out(writer, id)
        writer.execute("DELETE FROM remembered WHERE id = ?", (id,))
    return bool(found)


def merge(writer: sqlite3.Connection, *, begins: bool) -> bool:
    """Merge the segments of the index into one, a little at a time, so that nothing is left of words that were taken
    out before it began; whether that is done. Source: the FTS5 documentation, "The 'merge' Command"."""
    before = writer.total_changes
    pages = -MERGED_PAGES if begins else MERGED_PAGES
    writer.execute("INSERT INTO remembered_words (remembered_words, rank) VALUES ('merge', ?)", (pages,))
    return writer.total_changes - before < 2


def clear(writer: sqlite3.Connection) -> None:
    """Empty the index."""
    writer.execute("DELETE FROM remembered")
    writer.execute("INSERT INTO remembered_words (remembered_words) VALUES ('delete-all')")


def _take_out(writer: sqlite3.Connection, id: int) -> None:
    row = writer.execute(
        "SELECT b.body FROM remembered r JOIN bodies b ON b.id = r.id WHERE r.id = ? AND r.current", (id,)
    ).fetchone()
    words = None if row is None else words_of(row[0])
    if words is not None:
        writer.execute(
            "INSERT INTO remembered_words (remembered_words, rowid, words) VALUES ('delete', ?, ?)",
            (id, indexed(words)),
        )
        writer.execute("UPDATE remembered SET current = 0 WHERE id = ?", (id,))


def matching(words: Sequence[Word]) -> str:
    """The words as FTS5 is asked for them: quoted, so that none is taken for an operator."""
    return " AND ".join(_quoted(word) for word in words)


def _quoted(word: Word) -> str:
    text = spaced(word.text).replace('"', '""')
    return f'"{text}"*' if word.is_prefix else f'"{text}"'


# With CROSS JOIN SQLite begins at the index, newest first, and reads a body only for what it gives.
BY_WORDS: Final = """
    SELECT f.header, b.body, f.salt, f.digest
      FROM remembered_words w CROSS JOIN facts f ON f.id = w.rowid CROSS JOIN bodies b ON b.id = w.rowid
     WHERE w.rowid > ? AND w.rowid < ? AND w.remembered_words MATCH ? ORDER BY w.rowid DESC LIMIT ?"""
NEWEST: Final = """
    SELECT f.header, b.body, f.salt, f.digest
      FROM remembered r CROSS JOIN facts f ON f.id = r.id CROSS JOIN bodies b ON b.id = r.id
     WHERE r.id > ? AND r.id < ? AND r.current ORDER BY r.id DESC LIMIT ?"""
