"""What this home does by itself in the sealed rooms of one relay: the next record of a room of its person, the next
step of a key exchange, fresh keys of its agents, and the word that the owner's home is there.

    told of a room -> is something due there that falls to this home? -> done, over the link that is there now

Not here: what is due (`turning`, `exchanging`), the keys themselves (`secrets`). Above: `link`, which says when
something was told or time went by. Below: those. Invariant: nothing is signed on less than all that the relay has of a
room, so never before the link told that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, Millis, RequestId, RoomId
from parlerd.core.room import Room
from parlerd.engine.desk import Desk
from parlerd.engine.ports import Signers
from parlerd.operations import types as t
from parlerd.uplink.connection import CALL_S, LinkConnection
from parlerd.uplink.exchanging import Caller, Exchanges
from parlerd.uplink.mirrors import Mirrors
from parlerd.uplink.secrets import Secrets
from parlerd.uplink.turning import Turning

log = logging.getLogger(__name__)

GATHER_S: Final = 0.5
"""How long a record of a sealed room waits for others that come in at the same time: all of them are one record."""
LINE_AGAIN_MS: Final = 3_600_000
"""After how long a home says again that it is there, where it does not hear that it said so."""
TURN_TRIES: Final = 4
"""How often a record is made anew that came too late."""
TURNED_S: Final = 5.0
"""How long the mirror may take to show one."""


class LinkThere(Caller, Protocol):
    """The link to the relay (`link.Link`)."""

    @property
    def calls(self) -> LinkConnection | None:
        """The connection, while there is one over which rooms are followed."""
        ...

    def is_level(self, room: RoomId) -> bool:
        """Whether the mirror of a room holds all that is there."""
        ...

    def spawn(self, work: Callable[..., Awaitable[Any]], *args: Any) -> object:
        """Run a task until the daemon ends."""
        ...


class SealedRooms:
    """The sealed rooms at one relay."""

    def __init__(
        self,
        link: LinkThere,
        desk: Desk,
        signers: Signers,
        mirrors: Mirrors,
        *,
        secrets: Secrets,
        turning: Turning,
        exchanges: Exchanges,
    ) -> None:
        self.owned: set[RoomId] = set()
        """Sealed rooms of this home's person that go on there."""
        self._link = link
        self._desk = desk
        self._signers = signers
        self._mirrors = mirrors
        self._secrets = secrets
        self._turning = turning
        self._exchanges = exchanges
        self._turned: set[RoomId] = set()
        """Sealed rooms for which a record is being made."""
        self._told_keys: dict[tuple[RoomId, AgentId], int] = {}
        """The newest sealing key of each agent of this home that a sealed room was told on this link."""
        self._lined: dict[RoomId, Millis] = {}
        """When this home last said in each sealed room of its person that it is there, whatever came of that."""

    def begin(self) -> None:
        """A link began."""
        self._exchanges.link_began(self._link.home)

    def end(self) -> None:
        """The link ended: another one is told the keys anew."""
        self._told_keys.clear()

    # -- what was told -------------------------------------------------------------------------------------

    async def load(self, rooms: Iterable[RoomId]) -> None:
        """Find what a daemon before this one left to do: those of these rooms for which this home makes the records,
        which alone are opened for that, and exchanges that nobody answered. Raises `ParlerError`."""
        owned = set(await self._desk.library.owned(self._signers.principal))
        for room in rooms:
            if room in owned and await self._desk.library.epoch_secrets(room):
                await self._desk.rooms.get(room)
                self.note_owned(room)
        await self._exchanges.drop_unanswered()

    def note_told(self, room: RoomId, item: t.LinkItem) -> None:
        """An item of a room was taken in."""
        self.note_owned(room)
        if item.card is not None:
            self._exchanges.note_told(room, [RequestId(each.request) for each in item.card.requests])
        if self._link.is_level(room):
            self._turn_if_due(room)
            self.exchange_if_due(room)

    def note_level(self, room: RoomId) -> None:
        """The mirror of a room holds all that is there for the first time on this link."""
        handle = self._desk.rooms.open_actor(room)
        if handle is not None and self._turning.is_ours(handle.aggregate):
            self._link.spawn(self.send_lost, room)

    def note_owned(self, room: RoomId) -> None:
        """Note whether this home makes the records of a room that is open here."""
        handle = self._desk.rooms.open_actor(room)
        state = None if handle is None else handle.aggregate.state
        if handle is None or state is None:
            return
        if self._turning.is_ours(handle.aggregate) and not state.closed and state.alarm is None:
            self.owned.add(room)
        else:
            self.owned.discard(room)

    def exchange_if_due(self, room: RoomId, *, looks: bool = False) -> None:
        """Go on with the key exchanges at a sealed room, where the next step may fall to this home."""
        handle = self._desk.rooms.open_actor(room)
        if handle is not None and self._link.calls is not None and self._exchanges.may_be_due(handle.aggregate):
            self._link.spawn(partial(self._exchanges.go_on, self._link, room, looks=looks))

    # -- as time goes by -----------------------------------------------------------------------------------

    async def look(self, connection: LinkConnection, rooms: Sequence[RoomId]) -> None:
        """Do what is due in these rooms, of which the link told all that is there. Raises `ParlerError`."""
        for room in rooms:
            self._turn_if_due(room)
            self.exchange_if_due(room, looks=True)
            self._note_all_told(room)
        await self._tell_fresh_keys(connection, rooms)
        await self._tell_lines(connection, rooms)

    def _note_all_told(self, room: RoomId) -> None:
        """Note that this home was told all there is of a sealed room of its person."""
        handle = self._desk.rooms.open_actor(room)
        if handle is not None and self._turning.is_ours(handle.aggregate):
            self._exchanges.note_level(handle.aggregate)

    def _turn_if_due(self, room: RoomId) -> None:
        """Let the next epoch of a sealed room begin, where something waits for it that only this home can sign."""
        handle = self._desk.rooms.open_actor(room)
        if handle is None or room in self._turned or self._link.calls is None:
            return
        if self._turning.is_due(handle.aggregate, self._desk.now_at(self._link.home)):
            self._turned.add(room)
            self._link.spawn(self._turn, room)

    async def _turn(self, room: RoomId) -> None:
        """Make the next record of a room."""
        try:
            await trio.sleep(GATHER_S)
            for _ in range(TURN_TRIES):
                handle = await self._desk.rooms.get(room)
                mirror = await handle.quiet()
                calls, number = self._link.calls, mirror.state.epochs.number
                # On another link that began meanwhile, all that is there comes first: nothing is signed on less.
                if calls is None or not self._link.is_level(room):
                    return
                if not self._turning.is_due(mirror, self._desk.now_at(self._link.home)):
                    return
                epoch = await self._turning.following(mirror)
                if epoch is None:
                    return
                try:
                    await calls.call("link.epoch", t.EpochAtRoom(room=room, epoch=epoch), CALL_S)
                    self._turning.note_made(room, self._desk.now_at(self._link.home))
                except ParlerError as error:
                    if error.code != "stale_epoch":
                        log.warning("an epoch of room %s waits: %s", room, error.code)
                        return
                    # It may lack records that it had, which come first.
                    await self.send_lost(room)
                # What came meanwhile is told before what the next try goes by.
                await self._mirrors.until(room, partial(_is_past, number), TURNED_S)
        finally:
            self._turned.discard(room)

    async def send_lost(self, room: RoomId) -> None:
        """Send the relay the records again that it lost of a sealed room, because an older copy of its store was put in
        place: else nobody could say anything there under the newest one. Where the relay lost as well who came or went,
        it takes none."""
        handle = await self._desk.rooms.get(room)
        mirror = await handle.quiet()
        calls, state = self._link.calls, mirror.state
        if calls is None or state.alarm is not None or not self._turning.is_ours(mirror):
            return
        asked = t.PullEpochs(room=room, agent=state.owner, upto=state.epochs.number, limit=1)
        try:
            await calls.call("link.epochs", asked, CALL_S)
            return
        except ParlerError as error:
            number = error.details.get("number")
            if error.code != "stale_epoch" or type(number) is not int:
                return
        for epoch in await self._turning.since(mirror, number):
            await calls.call("link.epoch", t.EpochAtRoom(room=room, epoch=epoch), CALL_S)

    async def _tell_fresh_keys(self, connection: LinkConnection, rooms: Iterable[RoomId]) -> None:
        """Tell sealed rooms the fresh keys of agents of this home. The next record of each room uses them."""
        for room in rooms:
            handle = self._desk.rooms.open_actor(room)
            state = None if handle is None else handle.aggregate.state
            if state is None or not state.lifecycle.sealed or state.closed or state.alarm is not None:
                continue
            for agent, entry in list(state.epochs.roster.items()):
                if not self._mirrors.is_ours(agent) or agent in state.epochs.leaving:
                    continue
                counter = await self._secrets.fresh(self._link.home, agent, entry.counter)
                if counter <= max(entry.counter, self._told_keys.get((room, agent), 0)):
                    continue
                key = await self._secrets.told_key(self._link.home, agent)
                params = t.SealingKeyAtRoom(room=room, statement=key.body, signature=key.signature)
                try:
                    await connection.call("link.sealing_key", params, CALL_S)
                except ParlerError as error:
                    # The others are told theirs all the same, and how far agents have read.
                    log.warning("room %s takes no fresh key of %s now: %s", room, agent, error.code)
                    if error.spec.retryable:
                        continue
                self._told_keys[room, agent] = counter

    async def _tell_lines(self, connection: LinkConnection, rooms: Iterable[RoomId]) -> None:
        """Say once a day, in each sealed room of this home's person, that this home is there, and how it has the
        room. It is said of what the relay told on this link: nothing is signed on what an older copy held."""
        if "link.owner_line" not in connection.welcome.operations:
            return
        for room in filter(self._link.is_level, rooms):
            handle = self._desk.rooms.open_actor(room)
            line = None if handle is None else self._turning.line_due(handle.aggregate, self._desk.clock.now())
            told = self._lined.get(room)
            if line is None or (told is not None and 0 <= line.at - told < LINE_AGAIN_MS):
                continue
            self._lined[room] = line.at
            signed = self._turning.signed_line(line)
            params = t.OwnerLineAtRoom(room=room, statement=signed.body, signature=signed.signature)
            try:
                await connection.call("link.owner_line", params, CALL_S)
            except ParlerError as error:
                log.warning("room %s takes no line of its owner now: %s", room, error.code)


def _is_past(number: int, room: Room) -> bool:
    """Whether a later epoch than this one is in force."""
    return room.state.epochs.number > number
