"""Own lines: the place of each fact that can have a receipt, from the facts that are appended.

Both stores use this module, so their lines cannot differ. Not here: where rows are kept (each store), and what a line
is (`core.receipts`). Invariant: the numbers of a thread follow one another from 1, in the order of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from parlerd.core.errors import Refused
from parlerd.core.events import Header, decode_header
from parlerd.core.model import Millis, Position, RoomId
from parlerd.core.receipts import (
    FactRef,
    Numbered,
    audience_of,
    content_salt,
    first_line,
    has_number,
    name_of,
    next_line,
)
from parlerd.store.peeking import event_in
from parlerd.store.port import Receipted
from parlerd.store.staging import Staged, is_unaltered


class LineRow(NamedTuple):
    """The own line up to and with a fact, and the line that it began with, which names it; and by which `token` of
    which `agent` the fact came, decided at `wall`, each empty where it came by none. These are None in a row of a time
    before that was noted."""

    position: Position
    thread: bytes
    number: int
    line: bytes
    token: str | None
    agent: str | None
    wall: Millis | None


Ends = dict[bytes, tuple[int, bytes]]
"""Where threads end, by what they began with: the newest number and the line there."""


def lined(
    part: Staged, ends: Ends, load: Callable[[bytes], tuple[int, bytes] | None]
) -> tuple[list[LineRow], dict[tuple[RoomId, Position], FactRef]]:
    """The rows of an append, and what the facts are called that have them. `ends` is kept up to date; `load` reads the
    end of a thread that is not in it, None for a new one."""
    rows: list[LineRow] = []
    names: dict[tuple[RoomId, Position], FactRef] = {}
    if not part.own_lines:
        return rows, names
    for header, fact in zip(part.headers, part.facts, strict=True):
        thread = thread_of(part.room, header)
        if thread is None:
            continue
        number, line = ends.get(thread) or load(thread) or (0, thread)
        number, line = number + 1, next_line(line, fact.digest)
        ends[thread] = number, line
        token = token_of(header)
        about = (token, str(header.by.actor), part.wall) if token else ("", "", Millis(0))
        rows.append(LineRow(header.position, thread, number, line, *about))
        names[part.room, header.position] = FactRef(name_of(header, thread, number), number)
    return rows, names


def thread_of(room: RoomId, header: Header) -> bytes | None:
    """The line that the own line of a fact began with, which names it; None for a fact that has no number."""
    return first_line(room, header.by.actor, audience_of(header)) if has_number(header) else None


def token_of(header: Header) -> str:
    """The token by which a fact came, or nothing. What follows by itself from what was done comes by none: a message
    that waited is shown also after its author's token ended."""
    return "" if header.authority == "home" else header.by.token


class Stored(NamedTuple):
    """A stored fact, and its row among the own lines, if it has one."""

    position: Position
    header: bytes
    digest: bytes
    row: LineRow | None


def first_broken(room: RoomId, facts: Iterable[Stored]) -> Position | None:
    """The first fact of a room that does not go on from the own line before it, or is in another line than its own, or
    in none, or came by another token than its row says. `facts` are in the order of the log. Those before the first row
    are from before own lines were kept; a room of another home has none. Raises `StoreError(store_corrupt)`."""
    ends: Ends = {}
    for fact in facts:
        if fact.row is None and not ends:
            continue
        try:
            header = decode_header(fact.header)
        except Refused:
            # A newer Parler wrote it: whether it has a number, and in which line, is not known here.
            thread = None if fact.row is None else fact.row.thread
        else:
            thread = thread_of(room, header)
            if fact.row is not None and not _says_its_token(fact.row, header):
                return fact.position
        if fact.row is None and thread is None:
            continue
        if fact.row is None or thread is None:
            return fact.position
        number, line = ends.get(thread, (0, thread))
        ends[thread] = number + 1, next_line(line, fact.digest)
        if (fact.row.thread, (fact.row.number, fact.row.line)) != (thread, ends[thread]):
            return fact.position
    return None


def _says_its_token(row: LineRow, header: Header) -> bool:
    """Whether a row says by which token its fact came."""
    token = token_of(header)
    return row.token is None or (row.token, row.agent) == (token, header.by.actor if token else "")


def receipted(
    header: bytes,
    salt: bytes,
    digest: bytes,
    body: tuple[bytes, bytes | None] | None,
    place: tuple[bytes, int] | None,
    before: bytes | None,
) -> Receipted:
    """A stored fact for its receipt. `place` is the thread that it is in and its number there, and `before` the line at
    the number before, None for the first. Raises `Refused(newer_log)`, `StoreError(store_corrupt)`."""
    known = decode_header(header)
    words, signature = body or (None, None)
    numbered: Numbered | None = None
    if place is not None:
        thread, number = place
        numbered = Numbered(number, thread if number == 1 else before or b"")
    return Receipted(
        known,
        digest,
        content_salt(salt),
        event_in(header),
        words,
        signature,
        numbered,
        is_unaltered(salt, header, digest, known, words),
    )
