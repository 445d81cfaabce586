"""The store in a PostgreSQL database, which an operator's own server keeps.

Reading takes few questions, because each is a way to the server and back: what a read needs is asked for together where
it can be. The queries of one read need no transaction around them, because facts are append-only (`paging`). Nothing is
remembered here that another relay may change.

Above: `parlerd.engine`. Below: `connections`, `opening`, `roles`, `writing`, `queries`, `checking`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Final

import msgspec
import psycopg

from parlerd.core.errors import Refused, StoreError
from parlerd.core.events import Header, brought
from parlerd.core.model import (
    AgentId,
    BlobId,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Prior,
    RoomId,
    Shown,
    View,
    message_of_key,
)
from parlerd.core.recall import Term
from parlerd.store.checking import remade
from parlerd.store.indexing import line_before
from parlerd.store.judging import first_unchained, whole_snapshot
from parlerd.store.numbering import Numbering, Tally
from parlerd.store.paging import Found, Paged, Wanted
from parlerd.store.port import (
    START,
    Cursor,
    Delivery,
    EpochSecretRow,
    FileSealRow,
    Head,
    Held,
    JobOutcome,
    KeyExchangeRow,
    KeyTriesRow,
    Lease,
    MadeRecordRow,
    Membership,
    NewFact,
    OutboxRow,
    Past,
    PutRenewal,
    PutSight,
    Receipted,
    Remembered,
    SealingKeyRow,
    Snapshot,
    UsedKey,
    Write,
    prior_in,
)
from parlerd.store.postgres import checking, queries
from parlerd.store.postgres.agents import Agents
from parlerd.store.postgres.connections import Server, can_be
from parlerd.store.postgres.deleting import UNCLEARED
from parlerd.store.postgres.opening import check_server, check_tables, shipped_steps
from parlerd.store.postgres.roles import check_doors, check_role
from parlerd.store.postgres.searching import found
from parlerd.store.postgres.tables import Numbers, Texts
from parlerd.store.postgres.writing import Writer
from parlerd.store.staging import EMPTY, MESSAGE, NO_CHAIN

log = logging.getLogger(__name__)

_LAST: Final = 2**63 - 1
"""A position beyond every fact."""
_CHUNK: Final = 500
"""How many facts a check reads at a time."""
_SPAN: Final = 10_000
"""Over how many facts bodies are counted by one question, which takes some 60 ms (measured): a room may have so many
that the time for one question would not do."""
_ROOMS: Final = 1_000
"""About how many rooms one question is."""
_NEWEST_LINES: Final = 64
"""How many of a room's newest public lines are read with a batch: its authors saw one of these, most likely."""


class _Numbering(Numbering):
    """The numbers of a reader, with what is shown of the room at its head."""

    __slots__ = ("shown",)

    shown: tuple[Any, ...]


def _together(spans: Iterable[tuple[RoomId, Position, Position]]) -> Iterator[list[tuple[RoomId, Position, Position]]]:
    """Stretches of logs, as many together as one question may be about."""
    some: list[tuple[RoomId, Position, Position]] = []
    facts = 0
    for span in spans:
        facts += span[2] - span[1]
        if some and (facts > _SPAN or len(some) == _ROOMS):
            yield some
            some, facts = [], span[2] - span[1]
        some.append(span)
    if some:
        yield some


class PostgresStore(Paged):
    """`Store` over the database at `url`, in the schema that its role works in.

    One thread at a time writes, and others that want to write wait for it; at most four threads read at the same time,
    and others wait. The tables are made by their owner (`roles.prepare`). Opening raises `StoreError`:
    `invalid_settings` for a server that is not good enough, a role for which the rules of the tables would not hold, or
    tables that are not there or of an older Parler; `newer_store` for those of a newer one; and a `store_*` code where
    the server cannot be reached or refuses.
    """

    def __init__(
        self,
        url: str,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._server = Server(url)
        self._agents = Agents(self._server)
        self._writer = Writer(self._server, self._agents, random_bytes)
        try:
            check_server(self._server.writer)
            check_role(self._server.writer)
            check_tables(self._server.writer, max(shipped_steps()))
            check_doors(self._server.writer)
            self._remake_index_if_asked()
        except BaseException as error:
            self._server.close()
            if isinstance(error, psycopg.Error):
                raise self._server.meaning(error) from None
            raise

    # -- writing -------------------------------------------------------------------------------------------

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        return self._writer.transact(jobs)

    # -- the log -------------------------------------------------------------------------------------------

    def head(self, room: RoomId) -> Head:
        row = self._server.row(queries.HEAD, (room,))
        return EMPTY if row is None else Head(*row)

    def chain_at(self, room: RoomId, position: Position) -> bytes:
        row = self._server.row(queries.CHAIN, {"room": room, "position": position})
        chain: bytes = NO_CHAIN if row is None else row[0]
        return chain

    def shown_at(self, room: RoomId, position: Position) -> Shown:
        return self._shown_in(room, self._server.row(queries.SHOWN, {"room": room, "position": position}))

    def _shown_in(self, room: RoomId, row: tuple[Any, ...]) -> Shown:
        *shown, first = row
        before = line_before(room, None if first is None else self._header(first).event)
        return self._shown(before, tuple(shown))

    def is_deleted(self, room: RoomId) -> bool:
        return self._server.row(queries.IS_DELETED, (room,)) is not None

    def uncleared(self) -> list[RoomId]:
        return [RoomId(room) for (room,) in self._server.rows(UNCLEARED)]

    def is_memory_indexed(self) -> bool:
        return True

    def newest_unindexed(self, room: RoomId) -> Position:
        return START

    def rooms(self) -> list[RoomId]:
        return [RoomId(room) for (room,) in self._server.rows(queries.ROOMS)]

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        rows = self._server.rows(queries.FACTS, {"room": room, "after": after, "limit": limit})
        return [self._header(header) for (header,) in rows]

    def whole_facts(self, room: RoomId, after: Position, limit: int) -> list[NewFact]:
        rows = self._server.rows(queries.BODIED_FACTS, {"room": room, "after": after, "limit": limit})
        return [NewFact(self._header(header), body, signature) for header, body, signature in rows]

    def body(self, room: RoomId, position: Position) -> tuple[bytes, bytes | None] | None:
        row = self._server.row(queries.BODY, {"room": room, "position": position})
        return None if row is None else (row[0], row[1])

    def receipted(self, room: RoomId, position: Position) -> Receipted | None:
        return self._receipted(self._server.row(queries.RECEIPTED, {"room": room, "position": position}))

    def place_in_line(self, room: RoomId, thread: bytes, number: int) -> Position | None:
        row = self._server.row(queries.PLACE_IN_LINE, {"room": room, "thread": thread, "number": number})
        return None if row is None else Position(row[0])

    def first_unlined(self, room: RoomId) -> Position | None:
        (stray,) = self._server.row(queries.STRAY_LINE, {"room": room})
        return self._first_unlined(room, self._each(queries.OWN_LINES, room), stray)

    def _each(self, query: str, room: RoomId) -> Iterator[Any]:
        """The rows of a query over a whole log, read a little at a time: a log may be larger than the memory. Each row
        begins with its position."""
        after = START
        while True:
            rows = self._server.rows(query, {"room": room, "after": after, "limit": _CHUNK})
            yield from rows
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def erased(self, room: RoomId, after: Position, upto: Position) -> set[Position]:
        rows = self._server.rows(queries.ERASED, {"room": room, "after": after, "upto": upto})
        return {Position(position) for (position,) in rows}

    def held(self, room: RoomId, after: Position = START, upto: Position | None = None) -> Held:
        messages = size = 0
        last, low = _LAST if upto is None else upto, after
        while low < last:
            high = min(last, low + _SPAN)
            asked = {"room": room, "after": low, "upto": high, "type": MESSAGE}
            some, their_size, head = self._server.row(queries.HELD, asked)
            messages, size, low, last = messages + some, size + their_size, Position(high), min(last, head)
        return Held(messages, size)

    def heads(self, rooms: Iterable[RoomId]) -> dict[RoomId, Head]:
        return {RoomId(room): Head(*head) for room, *head in self._of_rooms(queries.HEADS, rooms)}

    def openings(self, rooms: Iterable[RoomId]) -> dict[RoomId, Header]:
        found: dict[RoomId, Header] = {}
        for room, header in self._of_rooms(queries.OPENINGS, rooms):
            # Where a newer Parler wrote it.
            with suppress(Refused):
                found[RoomId(room)] = self._header(header)
        return found

    def grown(self, after: Mapping[RoomId, Position]) -> dict[RoomId, tuple[Held, Position]]:
        heads = self.heads(after)
        ends = {room: heads[room].position if room in heads else START for room in after}
        found = {room: Held() for room in after}
        spans = [(room, low, ends[room]) for room, low in after.items() if low < ends[room]]
        for span in (each for each in spans if each[2] - each[1] > _SPAN):
            found[span[0]] = self.held(*span)
        for some in _together([each for each in spans if each[2] - each[1] <= _SPAN]):
            rooms, lows, highs = zip(*some, strict=True)
            asked = {"rooms": Texts(rooms), "lows": Numbers(lows), "highs": Numbers(highs), "type": MESSAGE}
            for room, *held in self._server.rows(queries.HELD_IN, asked):
                found[RoomId(room)] = Held(*held)
        return {room: (held, ends[room]) for room, held in found.items()}

    def _of_rooms(self, query: str, rooms: Iterable[RoomId]) -> Iterator[Any]:
        """The rows of a query about rooms, some of which may be about none that there is."""
        every = iter([room for room in rooms if can_be(room)])
        while some := list(islice(every, _ROOMS)):
            yield from self._server.rows(query, {"rooms": Texts(some)})

    def oldest_bodies(self, room: RoomId, after: Position, limit: int) -> list[tuple[Position, int]]:
        asked = {"room": room, "after": after, "type": MESSAGE, "limit": limit}
        return [(Position(position), size) for position, size in self._server.rows(queries.OLDEST_BODIES, asked)]

    def written(self, room: RoomId, after: Position, upto: Position) -> dict[PrincipalId, int]:
        return self._written(self._server.rows(queries.WRITTEN, {"room": room, "after": after, "upto": upto}))

    def snapshot(self, room: RoomId) -> Snapshot | None:
        return whole_snapshot(self._server.row(queries.SNAPSHOT, (room,)))

    # -- what rooms remember ---------------------------------------------------------------------------------

    def is_brought(self, blob: BlobId) -> bool:
        return self._server.row(queries.BROUGHT, (brought(blob),)) is not None

    def brought(self, room: RoomId) -> list[BlobId]:
        return [BlobId(name[1:]) for (name,) in self._server.rows(queries.BROUGHT_IN, (room,))]

    def remembered(
        self, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
    ) -> list[Remembered]:
        return self._remembered(found(self._server, room, terms, after, before, limit))

    def state_versions(self, room: RoomId, scope: str, key: str, before: Position, limit: int) -> list[Position]:
        asked = {"room": room, "scope": scope, "key": key, "before": before, "limit": limit}
        return [Position(position) for (position,) in self._server.rows(queries.STATE_VERSIONS, asked)]

    def state_at(self, room: RoomId, upto: Position) -> list[Position]:
        return [Position(at) for (at,) in self._server.rows(queries.STATE_AT, {"room": room, "upto": upto})]

    # -- messages as a reader sees them ----------------------------------------------------------------------

    def _numbering(self, room: RoomId, view: View, places: Sequence[Position]) -> Numbering:
        edges = [edge for span in view.spans for edge in span if edge is not None]
        head, known, shown = self._tallies(room, view.reader, [*places, *edges, _LAST])

        def ask(position: int) -> Tally:
            _, found, _ = self._tallies(room, view.reader, [position])
            return found[position]

        numbering = _Numbering(view, head, ask, known)
        numbering.shown = shown
        return numbering

    def _tallies(
        self, room: RoomId, reader: AgentId, places: Sequence[int]
    ) -> tuple[Position, dict[int, Tally], tuple[Any, ...]]:
        """The head of a room; the tallies at some positions, with the head's for those beyond it; what is shown at the
        head."""
        asked = {"room": room, "reader": self._agents.number(reader), "places": Numbers(places)}
        rows = self._server.rows(queries.TALLIES, asked)
        return Position(rows[0][0]), {row[7]: Tally(*row[8:]) for row in rows}, rows[0][1:7]

    def _shown_with(self, numbering: Numbering, room: RoomId, position: Position) -> Shown:
        if isinstance(numbering, _Numbering) and position == numbering.head:
            return self._shown_in(room, numbering.shown)
        return self.shown_at(room, position)

    @contextmanager
    def _scan(self, wanted: Wanted) -> Iterator[Sequence[Found]]:
        asked: dict[str, Any] = {
            "room": wanted.room,
            "reader": self._agents.number(wanted.reader),
            "lows": Numbers([low for low, _ in wanted.spans]),
            "highs": Numbers([high for _, high in wanted.spans]),
            "after": wanted.after,
            "head": wanted.head,
            "skip_own": wanted.skip_own,
            "limit": wanted.limit + 1,
            "max_bytes": wanted.max_bytes,
        }
        query = queries.TAIL if wanted.newest_first else queries.PAGE
        if wanted.filter is not None:
            names, kind = wanted.filter
            asked |= {"names": Texts(names or ("",)), "kind": kind, "reader_id": wanted.reader}
            query = queries.FILTERED_PAGE
        yield self._server.rows(query, asked)

    # -- looking things up -----------------------------------------------------------------------------------

    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None:
        row = self._server.row(queries.MESSAGE_PLACE, (message,))
        return None if row is None else (row[0], row[1])

    def message(self, room: RoomId, position: Position) -> Header | None:
        row = self._server.row(queries.HEADER, {"room": room, "position": position})
        return self._message_at(None if row is None else row[0])

    def prior(self, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
        used = (actor, operation, key)
        return self.past(room, [used], []).priors.get(used)

    def past(
        self, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId], lines: Sequence[int] = ()
    ) -> Past:
        keys = [key for key in keys if can_be(*key)]
        messages = [id for id in messages if can_be(id)]
        drawn = {key: id for key in keys if (id := message_of_key(key[2])) is not None}
        asked: list[tuple[str, dict[str, Any]]] = []
        actors, operations, used = (Texts([key[place] for key in keys]) for place in range(3))
        asked.append((queries.PRIORS, {"room": room, "actors": actors, "operations": operations, "keys": used}))
        asked.append((queries.PAST_MESSAGES, {"room": room, "ids": Texts([*messages, *drawn.values()])}))
        asked.append((queries.SHOWN, {"room": room, "position": _LAST}))
        asked.append((queries.NEWEST_LINES, {"room": room, "limit": _NEWEST_LINES}))
        found = self._server.together(asked if lines else asked[:2])
        priors = {keys[place - 1]: self._prior(header) for place, header in found[0]}
        headers = {MessageId(id): None if stored is None else self._message_at(stored) for id, _, stored in found[1]}
        for key, id in drawn.items():
            if key not in priors and (prior := prior_in(headers.get(id), key)) is not None:
                priors[key] = prior
        known = self._lines_in(room, found[2][0], found[3]) if lines else {}
        named = {
            number: line
            for number in set(lines)
            if (line := known[number] if number in known else self.line_at(room, number)) is not None
        }
        return Past(priors, {id: headers[id] for id in messages if id in headers}, named)

    def _lines_in(self, room: RoomId, newest: tuple[Any, ...], rows: Sequence[tuple[int, bytes]]) -> dict[int, bytes]:
        """The lines at the newest numbers of a room, from its newest public messages."""
        shown = self._shown_in(room, newest)
        # Where a mirror leaves messages out, the numbers of the room are not those of the log.
        return {shown.number: shown.line} | (dict(rows) if newest[2] is None else {}) if rows else {}

    def room_of_key(self, key: KeyId) -> RoomId | None:
        row = self._server.row(queries.ROOM_OF_KEY, (key,))
        return None if row is None else RoomId(row[0])

    def memberships(self, agent: AgentId) -> list[Membership]:
        rows = self._server.rows(queries.MEMBERSHIPS, (self._agents.number(agent),))
        return [Membership(RoomId(room), agent, state) for room, state in rows]

    def owned(self, principal: str) -> list[RoomId]:
        return [RoomId(room) for (room,) in self._server.rows(queries.OWNED, (principal,))]

    def deadlines(self, after: Millis) -> dict[RoomId, Millis]:
        return {RoomId(room): Millis(at) for room, at in self._server.rows(queries.DEADLINES, (after,))}

    def cursor(self, room: RoomId, reader: AgentId) -> Cursor:
        row = self._server.row(queries.CURSOR, (room, self._agents.number(reader)))
        return Cursor() if row is None else Cursor(*row)

    def deliveries(self, room: RoomId, position: Position) -> list[Delivery]:
        return [Delivery(*row) for row in self._server.rows(queries.DELIVERIES, {"room": room, "position": position})]

    def has_marks(self, room: RoomId, first: Position, last: Position) -> bool:
        which = {"room": room, "first": first, "last": last}
        return any(self._server.row(query, which) is not None for query in (queries.HAS_MARKS, queries.HAS_SIGHTS))

    def sights(self, room: RoomId, position: Position) -> list[PutSight]:
        return [PutSight(*row) for row in self._server.rows(queries.SIGHTS, (room, position))]

    def sights_to_show_again(self, room: RoomId, reader: AgentId, most: int) -> list[PutSight]:
        whose = (self._agents.number(reader), room, most)
        return [PutSight(*row) for row in self._server.rows(queries.SIGHTS_TO_SHOW_AGAIN, whose)]

    def sights_of_nobody(self, after: Millis, upto: Millis, limit: int) -> list[PutSight]:
        return [PutSight(*row) for row in self._server.rows(queries.SIGHTS_OF_NOBODY, (after, upto, limit))]

    def leases(self) -> list[Lease]:
        return [Lease(*row) for row in self._server.rows(queries.LEASES)]

    def outbox(self, home: HomeId) -> list[OutboxRow]:
        return [OutboxRow(*row) for row in self._server.rows(queries.OUTBOX, (home,))]

    def renewals(self, room: RoomId) -> list[PutRenewal]:
        return [PutRenewal(*row) for row in self._server.rows(queries.RENEWALS, (room,))]

    def sealing_keys(self, home: HomeId) -> list[SealingKeyRow]:
        return []

    def epoch_secrets(self, room: RoomId) -> list[EpochSecretRow]:
        return []

    def key_exchanges(self, room: RoomId) -> list[KeyExchangeRow]:
        return []

    def unanswered_exchanges(self, before: Millis) -> list[KeyExchangeRow]:
        return []

    def key_tries(self, room: RoomId) -> list[KeyTriesRow]:
        return []

    def made_records(self, room: RoomId) -> list[MadeRecordRow]:
        return []

    def file_seals(self, room: RoomId, agent: AgentId) -> list[FileSealRow]:
        return []

    # -- care ------------------------------------------------------------------------------------------------

    def verify_chain(self, room: RoomId) -> Position | None:
        return first_unchained(self._each(queries.WHOLE_FACTS, room))

    def check(self) -> list[str]:
        found = checking.of_facts(self._server)
        try:
            wrong = checking.of_index(self._server)
        except msgspec.DecodeError as error:
            raise self._found_damage() from error
        if wrong:
            self._note_index_damage()
            found += [*wrong, "The index is remade from the facts, if they are whole, when the relay starts again."]
        return found + checking.of_snapshots(self._server)

    def rebuild_index(self) -> None:
        self._writer.alone(lambda connection: checking.rebuild(connection, self._writer))

    def _found_damage(self) -> StoreError:
        return self._server.found_damage()

    def _index_damage(self) -> StoreError:
        self._note_index_damage()
        return self._found_damage()

    def _note_index_damage(self) -> None:
        # Where this cannot be noted, the index stays damaged, and is found to be so again.
        with suppress(StoreError):
            self._server.ask(lambda connection: connection.execute(checking.NOTE_DAMAGE))

    def _remake_index_if_asked(self) -> None:
        """Make the index anew where it was found damaged."""
        if self._server.row(checking.IS_NOTED) is None:
            return
        try:
            rooms = [RoomId(room) for (room,) in self._server.rows("SELECT room FROM heads")]
            if remade(self, rooms, lacks_facts=bool(self._server.slowly(checking.WITHOUT_FACT))):
                self._writer.alone(lambda connection: connection.execute(checking.FORGET_DAMAGE))
        except (StoreError, Refused) as error:
            # The damaged index stays in use, and whoever reads a damaged part of it gets the error.
            log.error("the index could not be remade: %s", error.code)

    def close(self) -> None:
        self._server.close()
