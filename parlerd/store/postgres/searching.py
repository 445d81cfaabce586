"""The index of what rooms remember, in PostgreSQL: which messages, and by which terms.

The terms of a message are an array, with a GIN index over all of them, and the beginnings of its words are terms as
well. That index gives every text of every room that has the terms, in no order. So the newest of a room are looked
through first, which is enough for terms that many texts have, and the index is asked only for the rest, for terms that
few have: what it costs depends on how many texts have all of them, in all rooms. A row that is removed is gone for
every reader at once, and from the server's files when it cleans its tables (VACUUM), so nothing is left for a store to
do.

Not here: how a text is folded and split (`core.recall`). Above: `writing`, `store`. Invariant: what is in the index has
a body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from parlerd.core.model import Position, RoomId
from parlerd.core.recall import MAX_BEGINNING, PREFIX, Term, terms_of, words_of
from parlerd.store.batching import Noted
from parlerd.store.postgres.connections import Connection, Server
from parlerd.store.postgres.tables import PLACES, Texts, arrays, removal

_BEGINS: Final = "\ue001"
"""Before a term that is a beginning. It is no letter, so no text has such a term."""
_LENGTHS: Final = range(PREFIX, MAX_BEGINNING + 1)
LOOKED_THROUGH: Final = 1_000
"""How many of the newest that a room remembers are looked through before the index is asked: some 2 ms (measured)."""


def note(connection: Connection, noted: Iterable[Noted]) -> None:
    """Bring the index up to these messages, whose bodies are stored."""
    dropped: set[tuple[RoomId, Position]] = set()
    added: dict[tuple[RoomId, Position], str] = {}
    for each in noted:
        for position in each.note.drops:
            dropped.add((each.room, position))
            added.pop((each.room, position), None)
        words = None if each.body is None else words_of(each.body)
        if words is not None:
            added[each.room, each.position] = " ".join(_indexed(terms_of(words)))
    drop(connection, dropped)
    if added:
        connection.execute(_REMEMBER, [*arrays(PLACES, list(added), {}), Texts(list(added.values()))])


def drop(connection: Connection, places: Iterable[tuple[RoomId, Position]]) -> None:
    """Let nothing lead to these messages."""
    gone = sorted(set(places))
    if gone:
        connection.execute(_DROP, arrays(PLACES, gone, {}))


def found(
    server: Server, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """The newest messages that a room remembers between two positions and that have all of the terms, if there are any:
    header, body, salt and digest of each."""
    asked: dict[str, Any] = {
        "room": room,
        "after": after,
        "before": before,
        "terms": Texts(asked_for(terms)),
        "limit": limit,
        "looked": LOOKED_THROUGH,
    }
    rows, last = server.together([(_AMONG_NEWEST, asked), (_LAST_LOOKED, asked)])
    if last and len(rows) < limit:
        older = {**asked, "before": last[0][0], "limit": limit - len(rows)}
        rows += server.rows(_BY_INDEX, older)
    return rows


def asked_for(terms: Sequence[Term]) -> list[str]:
    """What a row must have in the index to be found by every one of these terms."""
    return [f"{_BEGINS}{term.text}" if term.is_beginning else term.text for term in terms]


def _indexed(terms: Sequence[str]) -> list[str]:
    """What a row has in the index: its terms, and how they begin. No term holds a blank."""
    return [*terms, *sorted({f"{_BEGINS}{term[:n]}" for term in terms for n in _LENGTHS if len(term) >= n})]


_DROP: Final = removal(PLACES._replace(name="remembered"))
_REMEMBER: Final = """
    INSERT INTO remembered (room, position, terms)
    SELECT room, position, string_to_array(terms, ' ')
      FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS new (room, position, terms)"""
_ROWS: Final = """
     CROSS JOIN LATERAL (SELECT header, salt, digest FROM facts
                          WHERE room = r.room AND position = r.position LIMIT 1) f
     CROSS JOIN LATERAL (SELECT body FROM bodies WHERE room = r.room AND position = r.position LIMIT 1) b
     ORDER BY r.position DESC"""
_BETWEEN: Final = """
    room = %(room)s AND position > %(after)s AND position < %(before)s
    AND EXISTS (SELECT FROM heads WHERE room = %(room)s)"""
_AMONG_NEWEST: Final = f"""
    SELECT f.header, b.body, f.salt, f.digest
      FROM (SELECT room, position
              FROM (SELECT room, position, terms FROM remembered WHERE {_BETWEEN}
                     ORDER BY position DESC LIMIT %(looked)s) newest
             WHERE terms @> %(terms)s::text[] ORDER BY position DESC LIMIT %(limit)s) r {_ROWS}"""  # noqa: S608
_LAST_LOOKED: Final = f"""
    SELECT position FROM remembered WHERE {_BETWEEN} ORDER BY position DESC OFFSET %(looked)s - 1 LIMIT 1"""  # noqa: S608
# With OFFSET the planner asks the index for the terms alone, and not the key for a whole room.
_BY_INDEX: Final = f"""
    SELECT f.header, b.body, f.salt, f.digest
      FROM (SELECT room, position
              FROM (SELECT room, position FROM remembered WHERE terms @> %(terms)s::text[] OFFSET 0) found
             WHERE {_BETWEEN} ORDER BY position DESC LIMIT %(limit)s) r {_ROWS}"""  # noqa: S608
