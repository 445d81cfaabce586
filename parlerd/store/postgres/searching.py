"""The index of what rooms remember, in PostgreSQL: which messages, and by which terms.

The terms of a message are an array, with a GIN index over all of them, and the beginnings of its words are terms as
well. The planner knows how frequent each term is: for one that many texts have it reads a room from its newest end, and
for a rare one it asks the index. A row that is removed is gone for every reader at once, and from the server's files
when it cleans its tables (VACUUM), so nothing is left for a store to do.

Not here: how a text is folded and split (`core.recall`). Above: `writing`, `store`. Invariant: what is in the index has
a body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from parlerd.core.model import Position, RoomId
from parlerd.core.recall import MAX_BEGINNING, PREFIX, Term, terms_of, words_of
from parlerd.store.batching import Noted
from parlerd.store.postgres.connections import Connection
from parlerd.store.postgres.tables import PLACES, Texts, arrays, removal

_BEGINS: Final = "\ue001"
"""Before a term that is a beginning. It is no letter, so no text has such a term."""
_LENGTHS: Final = range(PREFIX, MAX_BEGINNING + 1)


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
FOUND: Final = """
    SELECT f.header, b.body, f.salt, f.digest
      FROM (SELECT room, position FROM remembered
             WHERE room = %(room)s AND position > %(after)s AND position < %(before)s AND terms @> %(terms)s::text[]
               AND EXISTS (SELECT FROM heads WHERE room = %(room)s)
             ORDER BY position DESC LIMIT %(limit)s) r
     CROSS JOIN LATERAL (SELECT header, salt, digest FROM facts
                          WHERE room = r.room AND position = r.position LIMIT 1) f
     CROSS JOIN LATERAL (SELECT body FROM bodies WHERE room = r.room AND position = r.position LIMIT 1) b
     ORDER BY r.position DESC"""
"""The newest messages that a room remembers between two positions and that have all of the terms, if there are any."""
