"""The index of what rooms remember, in SQLite: which messages, and by which terms.

The terms are in a contentless FTS5 table. SQLite before 3.43 cannot delete from one by row, but takes a row out when it
is handed the very words that were put in, and these follow from the body: so a body is read before it is erased. A row
that was taken out leaves its words in older segments of the index until those are merged into one. Forgetting merges
them where the index is small, as in most homes; in a large one a row of `meta` says that they are to be merged a little
at a time (`tend`). The row id is that of the body, so the search of one room reads a range.

FTS5 ends at the oldest row of a range for one term alone. Of several terms it gives the rows that have all of them, and
between two of these it goes on however far that is, out of the range and through the older rooms. So each row has a
term as well for the block of ids that it lies in, of both widths of `BLOCKS`. Where a range lies in a block, the search
asks for the term of this block, and FTS5 ends where no row has that.

A file of an older schema has rows that are in no index yet, which the store puts in a little at a time as well.

Not here: how a text is folded, split and judged (`core.recall`). Above: `sqlite`, and `upgrade`, which begins to put
older rows in. Invariants: what is in the index has a body; after a commit that erased bodies nothing leads to them,
and no word of them is left in the file unless a row of `meta` says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from parlerd.core.model import RoomId
from parlerd.core.recall import Term, Words, terms_of, words_of
from parlerd.store.batching import Noted
from parlerd.store.port import BLOCKS

MERGED_PAGES: Final = 200
"""Pages of the index that one step of a merge writes: less than a megabyte. An index of so many, some 12,000 facts, is
merged at once, in 40 ms (measured)."""


_TO_MERGE: Final = "words_to_merge"
"""The row of `meta` that is there while words of what was forgotten are left in the index: its value is one of the
next two."""
_BEGIN: Final = "begin"
_GO_ON: Final = "go on"


def note(writer: sqlite3.Connection, noted: Iterable[Noted], bases: Mapping[RoomId, int]) -> None:
    """Bring the index up to these messages, whose bodies are stored. The ids of a room's begin after its base."""
    for each in noted:
        base = bases[each.room]
        for position in each.note.drops:
            _take_out(writer, base + position)
        words = None if each.body is None else words_of(each.body)
        if words is not None:
            id = base + each.position
            writer.execute("INSERT INTO remembered (id, current, indexed) VALUES (?, 1, 1)", (id,))
            _put_in(writer, id, words)


def add_missing(writer: sqlite3.Connection, limit: int) -> None:
    """Put rows in the index that are in none yet, at most `limit`, the newest of the newest room first."""
    # FTS5 writes a segment of its own for each row that is older than the one before.
    for id, body in reversed(_missing(writer, limit)):
        words = words_of(body)
        if words is not None:
            _put_in(writer, id, words)
        writer.execute("UPDATE remembered SET indexed = 1 WHERE id = ?", (id,))


def tend(writer: sqlite3.Connection, limit: int) -> None:
    """Do a little of what is left to do: put in at most `limit` rows that are in no index yet; where there are none, go
    on merging, so that no word is left of what was forgotten."""
    if _missing(writer, 1):
        add_missing(writer, limit)
        return
    row = writer.execute("SELECT value FROM meta WHERE key = ?", (_TO_MERGE,)).fetchone()
    if row is None:
        return
    if merge(writer, begins=row[0] == _BEGIN):
        writer.execute("DELETE FROM meta WHERE key = ?", (_TO_MERGE,))
    else:
        writer.execute("UPDATE meta SET value = ? WHERE key = ?", (_GO_ON, _TO_MERGE))


def _missing(writer: sqlite3.Connection, limit: int) -> list[tuple[int, bytes]]:
    return writer.execute(_MISSING, (limit,)).fetchall()


def forget(writer: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Let nothing lead to these bodies, which are still stored and about to be erased, and leave none of their words in
    the index; or, where the index is large, what says that `tend` is to see to that."""
    if not take_out(writer, ids):
        return
    pages = writer.execute("SELECT count(*) FROM (SELECT 1 FROM remembered_words_idx LIMIT ?)", (MERGED_PAGES + 1,))
    if pages.fetchone()[0] <= MERGED_PAGES:
        writer.execute("INSERT INTO remembered_words (remembered_words) VALUES ('optimize')")
    else:
        # What is being merged already may leave out the newest segments, so this begins anew.
        writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_TO_MERGE, _BEGIN))


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
    writer.execute("DELETE FROM meta WHERE key = ?", (_TO_MERGE,))


def _take_out(writer: sqlite3.Connection, id: int) -> None:
    row = writer.execute(
        "SELECT b.body, r.indexed FROM remembered r JOIN bodies b ON b.id = r.id WHERE r.id = ? AND r.current", (id,)
    ).fetchone()
    if row is None:
        return
    words = words_of(row[0])
    if words is not None and row[1]:
        writer.execute(
            "INSERT INTO remembered_words (remembered_words, rowid, words) VALUES ('delete', ?, ?)",
            (id, _said(id, words)),
        )
    writer.execute("UPDATE remembered SET current = 0 WHERE id = ?", (id,))


def _put_in(writer: sqlite3.Connection, id: int, words: Words) -> None:
    writer.execute("INSERT INTO remembered_words (rowid, words) VALUES (?, ?)", (id, _said(id, words)))


def _said(id: int, words: Words) -> str:
    """What a row says in the index."""
    return " ".join([*terms_of(words), *(_block(id, bits) for bits in BLOCKS)])


def _block(id: int, bits: int) -> str:
    """The term of the block that a row lies in. Its first character is no letter, so no text has this term."""
    return f"{chr(_FIRST_BLOCK + bits)}{id >> bits:x}"


_FIRST_BLOCK: Final = 0xE100


def matching(terms: Sequence[Term], after: int, before: int) -> str:
    """The terms as FTS5 is asked for them between two ids: quoted, so that none is taken for an operator."""
    found = [f'"{term.text}"*' if term.is_beginning else f'"{term.text}"' for term in terms]
    if len(terms) > 1:
        around = [bits for bits in BLOCKS if (after + 1) >> bits == (before - 1) >> bits]
        found += [f'"{_block(after + 1, bits)}"' for bits in around[:1]]
    return " AND ".join(found)


# With CROSS JOIN SQLite begins at the index, newest first, and reads a body only for what it gives.
BY_TERMS: Final = """
    SELECT f.header, b.body, f.salt, f.digest
      FROM remembered_words w CROSS JOIN facts f ON f.id = w.rowid CROSS JOIN bodies b ON b.id = w.rowid
     WHERE w.rowid > ? AND w.rowid < ? AND w.remembered_words MATCH ? ORDER BY w.rowid DESC LIMIT ?"""
NEWEST: Final = """
    SELECT f.header, b.body, f.salt, f.digest
      FROM remembered r CROSS JOIN facts f ON f.id = r.id CROSS JOIN bodies b ON b.id = r.id
     WHERE r.id > ? AND r.id < ? AND r.current ORDER BY r.id DESC LIMIT ?"""
_MISSING: Final = """
    SELECT r.id, b.body FROM remembered r CROSS JOIN bodies b ON b.id = r.id
     WHERE NOT r.indexed AND r.current ORDER BY r.id DESC LIMIT ?"""
NEWEST_MISSING: Final = """
    SELECT id FROM remembered WHERE NOT indexed AND current AND id > ? AND id < ? ORDER BY id DESC LIMIT 1"""
IS_LEFT: Final = f"""
    SELECT 1 WHERE EXISTS (SELECT 1 FROM remembered WHERE NOT indexed AND current)
                OR EXISTS (SELECT 1 FROM meta WHERE key = '{_TO_MERGE}')"""  # noqa: S608 - our own name
