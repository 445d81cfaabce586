"""The messages that wait to leave for one home: kept as what was asked for, and never as an envelope.

An envelope names the author's message before it, so it is composed and signed when it leaves. A request that the other
home refuses for good stays, with the code, until its author was told.

Not here: sending (`lanes`). Above: `lanes`, `link`. Below: the store's rows, by way of the library. Invariant: what is
in memory is what is stored or being stored; a request that was answered `queued` is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core.envelope import Part, blob_of, due_of, turn_of
from parlerd.core.errors import Refused
from parlerd.core.model import By, HomeId, MessageId, Millis, RoomId, Shown
from parlerd.engine.authors import Draft
from parlerd.engine.library import Library
from parlerd.store.port import DropOutbox, OutboxRow, PutOutbox

MAX_MESSAGES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
"""Both for one relay. Source: relay spec, Offline."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent asked for, as a row of the store holds it."""

    v: int
    operation: str
    by: By
    kind: str
    parts: tuple[Part, ...]
    shown: int
    line: bytes
    """Up to where the author was shown the room when it asked."""
    input: bytes = b""
    to: tuple[str, ...] = ()
    taker: str = ""
    visibility: tuple[str, ...] | None = None
    reply_to: MessageId | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Request)


def row_of(home: HomeId, room: RoomId, command: c.PostMessage, by: By, draft: Draft, at: Millis) -> OutboxRow:
    """A request as a row. The command has its message's id and its idempotency key. The process behind the request is
    left out: nobody asks for it again."""
    assert command.id is not None
    assert command.idempotency_key is not None
    request = Request(
        v=1,
        operation=command.operation,
        by=msgspec.structs.replace(by, pid=0, program=""),
        kind=command.kind,
        parts=draft.parts,
        shown=draft.shown.number,
        line=draft.shown.line,
        input=command.input or b"",
        to=command.to,
        taker=command.taker,
        visibility=command.visibility,
        reply_to=command.reply_to,
    )
    return OutboxRow(
        message=command.id,
        home=home,
        room=room,
        agent=by.actor,
        key=command.idempotency_key,
        at=at,
        request=_ENCODER.encode(request),
    )


def request_of(row: OutboxRow) -> tuple[c.PostMessage, By, Draft]:
    """The request again. Raises `msgspec.DecodeError` for a row that a newer Parler wrote."""
    request = _DECODER.decode(row.request)
    turn, ttl_ms = turn_of(request.parts)
    command = c.PostMessage(
        operation=request.operation,
        idempotency_key=row.key,
        input=request.input,
        kind=request.kind,
        id=row.message,
        to=request.to,
        taker=request.taker,
        visibility=request.visibility,
        reply_to=request.reply_to,
        turn=turn,
        ttl_ms=ttl_ms,
        due=due_of(request.parts),
        blob=blob_of(request.parts),
    )
    return command, request.by, Draft(parts=request.parts, shown=Shown(request.shown, request.line))


class Outbox:
    """The rows of one home, in the order in which they were asked for."""

    def __init__(self, home: HomeId, library: Library) -> None:
        self._home = home
        self._library = library
        self._rows: dict[MessageId, OutboxRow] = {}
        self._bytes = 0
        """Of all rows together."""

    async def load(self) -> None:
        """Read what was kept. Call this once, first."""
        self._rows = {row.message: row for row in await self._library.outbox(self._home)}
        self._bytes = sum(len(row.request) for row in self._rows.values())

    def __iter__(self) -> Iterator[OutboxRow]:
        return iter(tuple(self._rows.values()))

    @property
    def waiting(self) -> int:
        """How many messages wait to leave."""
        return sum(1 for row in self._rows.values() if not row.refused)

    def get(self, message: MessageId) -> OutboxRow | None:
        return self._rows.get(message)

    async def put(self, row: OutboxRow) -> None:
        """Keep a request, durably. Raises `Refused(outbox_full)` and `StoreError`."""
        known = self._rows.get(row.message)
        more = len(row.request) - (0 if known is None else len(known.request))
        if known is None and (len(self._rows) >= MAX_MESSAGES or self._bytes + more > MAX_BYTES):
            raise Refused("outbox_full", limit=MAX_MESSAGES)
        # Counted before it is stored, because others are put meanwhile.
        self._rows[row.message] = row
        self._bytes += more
        try:
            await self._library.record([PutOutbox(row)])
        except BaseException:
            if self._rows.get(row.message) is row:
                self._bytes -= more
                if known is None:
                    del self._rows[row.message]
                else:
                    self._rows[row.message] = known
            raise

    async def refuse(self, message: MessageId, code: str) -> None:
        """The other home refused this request for good."""
        known = self._rows.get(message)
        if known is not None:
            await self.put(msgspec.structs.replace(known, refused=code))

    async def drop(self, message: MessageId) -> None:
        """Forget a request: it is done, or its author was told why it never will be."""
        known = self._rows.pop(message, None)
        if known is not None:
            self._bytes -= len(known.request)
            await self._library.record([DropOutbox(message)])
