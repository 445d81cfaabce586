"""Leads a connection over HTTP to the relay that has the rooms of its token, where several relays share the rooms.

    first head --> which token, and which room --> this relay: `web.Face`
                                               --> another: its bytes go there over a lane, and the answer comes back

A connection that is led on is answered once and closed, and so is one with a token for several rooms: each request may
be another relay's. What names no room is answered here for such a token, also about rooms of other relays
(`gathering`). Not here: what is asked over HTTP, and whether it may be (`web`, here or there). Above: the relay's
program, which puts this before `web.Face`. Below: `peers`, `holding`. Invariant: nothing of somebody whose token does
not hold here leaves this relay.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote

import trio

from parlerd.connections.transport import Transport
from parlerd.core.errors import ParlerError
from parlerd.core.model import RoomId
from parlerd.core.tokens import Token
from relay.holding import Holding
from relay.lanes import LaneStream
from relay.peers import Peers
from relay.web import Book, Face, Guest

REACH_S: Final = 2.0
"""How long a connection waits for the link to the relay that has its room."""
_BEARER: Final = re.compile(rb"\r\nauthorization:[ \t]*bearer[ \t]+([!-~]+)[ \t]*(?=\r\n)", re.IGNORECASE)
_ROOM: Final = re.compile(rb"[A-Z]+ (?:/v1)?/rooms/([^/? ]+)")
_CLOSED: Final = b"\r\nConnection: close"


class Leading:
    """What stands before `face`. `take_in` makes known which tokens other relays gave, and which rooms were opened with
    them; `named` finds which of some rooms is called so, whoever has it."""

    def __init__(
        self,
        face: Face,
        tokens: Book,
        holding: Holding,
        peers: Peers,
        take_in: Callable[[], Awaitable[None]],
        named: Callable[[frozenset[RoomId], str], Awaitable[RoomId | None]],
    ) -> None:
        self._face = face
        self._tokens = tokens
        self._holding = holding
        self._peers = peers
        self._take_in = take_in
        self._named = named
        self._here: dict[trio.CancelScope, RoomId] = {}
        """The connections of tokens that are served here, with the room of this relay's because of which that is; empty
        for one about no single room, which every relay answers."""

    async def run(self) -> None:
        """Close connections whose room moved, so that whoever asks comes again and is led there; until cancelled."""
        while True:
            await self._holding.changed()
            for scope, room in self._here.items():
                if room and not self._holding.has(room):
                    scope.cancel()

    async def visit(self, transport: Transport, begun: bytes, guest: Guest) -> None:
        """Serve a connection of which `begun` came already, until it ends."""
        token = await self._token(begun)
        if token is None:
            await self._face.visit(transport, begun, guest)
            return
        room = await self._meant(token, begun)
        row = self._holding.owner_of(room) if room else None
        is_here = row is None or row.relay == self._holding.relay
        if not is_here or token.opens or len(token.within) != 1:
            begun = begun.replace(b"\r\n", _CLOSED + b"\r\n", 1)
        if is_here or row is None:
            with trio.CancelScope() as scope:
                self._here[scope] = room
                try:
                    await self._face.visit(transport, begun, guest)
                finally:
                    del self._here[scope]
            return
        try:
            lane = await self._peers.pipe(row, guest.address, REACH_S)
        except ParlerError:
            # It is answered here, as far as that can be.
            await self._face.visit(transport, begun, guest)
            return
        guest.proven()
        await _pass_on(transport, lane, begun)

    async def drain(self) -> None:
        """Let nobody in any more, and see everybody out."""
        await self._face.drain()

    async def _meant(self, token: Token, begun: bytes) -> RoomId:
        """The room that a request is about, of those of its token; empty where that cannot be said of one."""
        if len(token.within) == 1 and not token.opens:
            return min(token.within)
        found = _ROOM.match(begun)
        if found is None:
            return RoomId("")
        wanted = unquote(found[1].decode("latin-1"))
        if wanted not in token.within:
            # Another relay may have opened it a moment ago.
            await self._take_in()
            token = await self._token(begun) or token
        if wanted in token.within:
            return RoomId(wanted)
        return await self._named(token.within, wanted) or RoomId("")

    async def _token(self, begun: bytes) -> Token | None:
        found = _BEARER.findall(begun.partition(b"\r\n\r\n")[0] + b"\r\n")
        if len(found) != 1:
            return None
        text = found[0].decode("ascii")
        token = self._tokens.shown(text)
        if token is None:
            await self._take_in()
            token = self._tokens.shown(text)
        return token


async def _pass_on(transport: Transport, lane: LaneStream, begun: bytes) -> None:
    """Carry bytes both ways until the other relay ends the connection, or whoever asks is gone."""
    async with trio.open_nursery() as nursery:

        async def there() -> None:
            data = begun
            while data:
                if not lane.put(data):
                    await lane.flushed()
                data = await transport.receive()
            nursery.cancel_scope.cancel()

        async def back() -> None:
            while (data := await lane.receive()) is not None:
                transport.write(data)
                await transport.flushed()
            nursery.cancel_scope.cancel()

        try:
            nursery.start_soon(there)
            nursery.start_soon(back)
            await trio.sleep_forever()
        finally:
            lane.shut()
