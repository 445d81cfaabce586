"""The rooms that there are for a caller: the one place where the rooms of an authority are enforced.

    handler -> Desk -> rooms, library                              a caller of this machine
    handler -> Desk -> RoomsWithin, library over DriverWithin -'   a caller whose door lets it reach certain rooms

A handler comes to a room by `Desk.rooms`, and asks what is stored by `Desk.library`. A caller that may reach certain
rooms only is served by handlers over a desk on which both know no other rooms. So no handler can forget to check, and
every other room is one that does not exist.

Not here: which rooms an agent is in (the store says so), what it may do there (the rooms' own rules). Above: the
engine, which puts handlers over such a desk. Below: the rooms and the driver. Invariant: nothing that a store or an
open room says of another room passes here; a question that is not known to be about one room, or to be filtered, is
not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, Final, TypeVar, cast

from parlerd.core.errors import Refused
from parlerd.core.events import Header
from parlerd.core.home import HomeRoom
from parlerd.core.model import AgentId, By, HomeId, KeyId, MessageId, Position, RoomId
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.desk import Desk
from parlerd.engine.driver import Driver, Job, Settle
from parlerd.engine.handles import RoomHandle
from parlerd.engine.rooms import RoomDoor
from parlerd.engine.worker import Told
from parlerd.store.port import JobOutcome, Membership, Store

T = TypeVar("T")
Within = frozenset[RoomId]

OF_ONE_ROOM: Final = frozenset({
    "body", "brought", "chain_at", "cursor", "deliveries", "erased", "facts", "has_marks", "head", "held", "is_deleted",
    "line_at",
    "message", "newest_unindexed", "oldest_bodies", "page", "past", "place_in_line", "position_of", "prior",
    "public_position", "receipted", "remembered", "renewals", "seq_at", "shown_at", "sights",
    "sights_to_show_again", "snapshot", "state_at", "state_versions", "tail", "unread", "verify_chain", "whole_facts",
    "written",
})  # fmt: skip
"""Questions to a store whose first argument is the room that they are about."""
FILTERED: Final = frozenset({"find_message", "memberships", "openings", "owned", "room_of_key", "rooms"})
"""Questions whose answer names rooms."""
NOT_ASKED: Final = frozenset({
    "check", "close", "deadlines", "epoch_secrets", "file_seals", "first_unlined", "grown", "heads", "is_brought",
    "is_memory_indexed", "key_exchanges", "key_tries", "leases", "made_records", "outbox", "rebuild_index",
    "sealing_keys", "sights_of_nobody", "transact", "unanswered_exchanges", "uncleared",
})  # fmt: skip
"""Questions about the home as a whole, and about its secrets: no caller of certain rooms has one."""


def within(desk: Desk, rooms: Within) -> Desk:
    """The same desk for callers that there are only these rooms for. Every other part is shared."""
    narrowed = copy(desk)
    narrowed.rooms = RoomsWithin(desk.rooms, rooms)
    narrowed.library = desk.library.over(lambda driver: DriverWithin(driver, rooms), narrowed.rooms)
    return narrowed


class RoomsWithin:
    """The open rooms, as far as they are among these. The home room is everybody's: it says who an agent is."""

    def __init__(self, rooms: RoomDoor, within: Within) -> None:
        self._rooms = rooms
        self._within = within

    @property
    def home(self) -> RoomActor[HomeRoom]:
        return self._rooms.home

    def reaches(self, room: RoomId) -> bool:
        return room in self._within

    async def get(self, room: RoomId) -> RoomHandle:
        if room not in self._within:
            raise Refused("no_such_room")
        return await self._rooms.get(room)

    async def seen(self, room: RoomId) -> Room:
        if room not in self._within:
            raise Refused("no_such_room")
        return await self._rooms.seen(room)

    async def peek(self, room: RoomId) -> Room:
        if room not in self._within:
            raise Refused("no_such_room")
        return await self._rooms.peek(room)

    def has(self, room: RoomId) -> bool:
        return self._rooms.has(room)

    def open_actor(self, room: RoomId) -> RoomHandle | None:
        return self._rooms.open_actor(room) if room in self._within else None

    def is_here(self, room: Room) -> bool:
        return self._rooms.is_here(room)

    async def create(self, room: RoomId, home: HomeId | None = None) -> RoomHandle:
        if room not in self._within:
            raise Refused("no_such_room")
        return await self._rooms.create(room, home)

    async def delete(self, room: RoomId, by: By) -> None:
        if room not in self._within:
            raise Refused("no_such_room")
        await self._rooms.delete(room, by)


class StoreWithin:
    """A store as far as it is about these rooms. Methods that are not written out here are those of `OF_ONE_ROOM`."""

    def __init__(self, store: Store, within: Within) -> None:
        self._store = store
        self._within = within

    def rooms(self) -> list[RoomId]:
        return [room for room in self._store.rooms() if room in self._within]

    def memberships(self, agent: AgentId) -> list[Membership]:
        return [each for each in self._store.memberships(agent) if each.room in self._within]

    def owned(self, principal: str) -> list[RoomId]:
        return [room for room in self._store.owned(principal) if room in self._within]

    def room_of_key(self, key: KeyId) -> RoomId | None:
        room = self._store.room_of_key(key)
        return room if room in self._within else None

    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None:
        found = self._store.find_message(message)
        return found if found is not None and found[0] in self._within else None

    def openings(self, rooms: Iterable[RoomId]) -> dict[RoomId, Header]:
        return self._store.openings(room for room in rooms if room in self._within)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in OF_ONE_ROOM:
            raise AttributeError(name)
        ask: Callable[..., Any] = getattr(self._store, name)

        def asked(room: RoomId, *args: Any, **rest: Any) -> Any:
            if room not in self._within:
                raise Refused("no_such_room")
            return ask(room, *args, **rest)

        return asked


class DriverWithin:
    """A driver whose store is one within these rooms. What is written is written as ever: whoever writes came to its
    room before."""

    def __init__(self, driver: Driver, within: Within) -> None:
        self._driver = driver
        self._within = within

    def _of(self, store: Store) -> Store:
        return cast(Store, StoreWithin(store, self._within))

    @property
    def kind(self) -> str:
        return self._driver.kind

    @property
    def is_at_hand(self) -> bool:
        return self._driver.is_at_hand

    async def commit(self, job: Job) -> JobOutcome:
        return await self._driver.commit(job)

    def hand_over(self, job: Job, settled: Settle) -> None:
        self._driver.hand_over(job, settled)

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        self._driver.ask(lambda store: query(self._of(store)), told)

    async def look(self, query: Callable[[Store], T]) -> T:
        return await self._driver.look(lambda store: query(self._of(store)))

    async def read(self, query: Callable[[Store], T]) -> T:
        return await self._driver.read(lambda store: query(self._of(store)))

    async def close(self) -> None:
        raise AssertionError("the driver is closed by whoever opened it")
