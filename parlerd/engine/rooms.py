"""The open rooms: a room is folded when somebody first asks for it, kept while it is used, and closed when nobody does.

This is the one place where a room of this home and a room of another home part: the first is a `LocalRoom`, the second
gets its handle from `Homes`. Not here: what happens in a room (`actor`), and who may enter it. Above: the handlers,
which ask for a room by its id. Below: the store's log and its snapshots. Invariant: a room has at most one actor at a
time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.approvals import Request
from parlerd.core.claims import Renewal
from parlerd.core.envelope import Envelope
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.home import HomeRoom
from parlerd.core.model import HOME_ROOM, AgentId, By, HomeId, MessageId, Millis, RequestId, RoomId, Seq
from parlerd.core.room import Room
from parlerd.core.statements import Grant
from parlerd.engine.actor import ActorParts, RoomActor
from parlerd.engine.authors import Attested
from parlerd.engine.deciding import Aggregate
from parlerd.engine.handles import LOCAL, Earlier, Homes, Present, Question, RoomHandle, Shelf, SpentKey
from parlerd.engine.join_codes import JoinCodes
from parlerd.operations import types as t
from parlerd.store.port import Store

log = logging.getLogger(__name__)

FOLD_PAGE: Final = 5_000
"""Facts that are read at once when a room is folded."""
IDLE_SECONDS: Final = 600.0
"""A room that nobody used for this long is closed. To open it again from its snapshot takes milliseconds."""
MOVED_MS: Final = 200
"""After so long who asked for a room that another relay has may ask again: by then it is known which one has it."""
REOPEN_SECONDS: Final = 1.0
"""Between two attempts to read the home room, while the store cannot be read."""
MAX_OPEN: Final = 512
"""Rooms that stay open. Past this number those are closed that were not used for the longest time."""
AT_ONCE: Final = 100
"""Rooms that a call looks through before it lets others have the loop: some 10 ms of work."""

A = TypeVar("A", bound=Aggregate)


class LocalRoom(RoomActor[Room]):
    """A room that lives here, as a handle: its own line."""

    home_name = LOCAL

    def __init__(
        self,
        room: RoomId,
        aggregate: Room,
        context: ActorParts,
        load: Callable[[Store], tuple[Room, bool]],
        codes: JoinCodes,
        shelf: Shelf,
        *,
        frozen: bool,
    ) -> None:
        super().__init__(room, aggregate, context, load, frozen=frozen)
        self._codes = codes
        """The codes that a person types for newcomers."""
        self.shelf = shelf
        """The files of this home."""

    def told_key(self, key: str) -> str:
        return key

    async def told(self, composed: Envelope, author: AgentId) -> Envelope:
        return composed

    async def catch_up(self) -> bool:
        return False

    def begin_to_catch_up(self) -> None:
        """Nothing to begin: this log is the room's own."""

    def silent_since(self) -> Millis | None:
        return None

    async def check_code(self, request: Request, code: str, door: str) -> None:
        await self._codes.check(request.id, code, door=door)

    def join_code(self, request: RequestId) -> str | None:
        return self._codes.code(request)

    async def message_key(self, body: bytes, author: AgentId) -> bytes | None:
        return None

    def host_of(self, request: Request) -> str:
        return request.host

    def standing(self, request: Request) -> str:
        return ""

    def spent_keys(self) -> Sequence[SpentKey]:
        return ()

    def owner_heard(self, agent: AgentId) -> Millis:
        return Millis(0)

    def presence(self, agent: AgentId) -> Present | None:
        return None

    async def ladders(self, agent: AgentId, message: MessageId) -> t.LaddersAtRoom:
        return t.LaddersAtRoom(readers=[])

    def tell_sights(self, words: Sequence[t.SightAtRoom]) -> None:
        return None

    async def earlier(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        return Earlier((), after)

    async def ask(self, question: Question, here: Callable[[RoomHandle], Awaitable[t.Result]]) -> t.Result:
        return await here(self)

    async def rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        raise Refused("room_is_here")

    async def grant(self, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        raise Refused("room_is_here")

    async def grant_many(self, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        raise Refused("room_is_here")

    async def ungrant(self, by: By, agent: AgentId) -> None:
        raise Refused("room_is_here")

    async def delete(self, by: By) -> None:
        """Nothing more than this log to delete."""


class _Open(NamedTuple):
    """An open room: what keeps its log, and how handlers come to it. For a room of this home both are one object."""

    actor: RoomActor[Room]
    handle: RoomHandle


def fold(store: Store, room: RoomId, make: Callable[[], A], restore: Callable[[bytes], A]) -> tuple[A, bool]:
    """A room, folded from its newest usable snapshot and the facts that follow it. The flag says that the log holds
    facts of a newer Parler: the room is shown as far as it could be folded, and takes no more commands."""
    snapshot = store.snapshot(room)
    aggregate = make()
    if snapshot is not None and snapshot.fold_version == aggregate.fold_version:
        try:
            aggregate = restore(snapshot.data)
        # msgspec raises the latter two itself, for text that is not UTF-8 and for nesting without end.
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            log.warning("room %s: its snapshot could not be read; folding from the start", room)
    limit = FOLD_PAGE
    while True:
        try:
            facts = store.facts(room, aggregate.position, limit)
        except Refused as error:
            if limit == 1:
                log.warning("room %s: read-only from fact %d: %s", room, aggregate.position + 1, error.code)
                return aggregate, True
            # One fact of an unknown kind spoils the whole page: smaller pages come closer to that fact.
            limit = max(1, limit // 8)
            continue
        for header in facts:
            stored = store.body(room, header.position) if aggregate.reads_body(header) else None
            aggregate.apply(header, None if stored is None else stored[0])
        if len(facts) < limit:
            return aggregate, False


def fold_room(store: Store, room: RoomId) -> tuple[Room, bool]:
    """A room as `fold` gives it, which knows the renewals of claims in it."""
    folded, frozen = fold(store, room, Room, Room.restore)
    for row in store.renewals(room):
        folded.claims.renew(row.task, Renewal(row.fence, row.until))
    return folded, frozen


class RoomDoor(Protocol):
    """The rooms as a handler comes to them."""

    @property
    def home(self) -> RoomActor[HomeRoom]:
        """The home room, which is always open."""
        ...

    def reaches(self, room: RoomId) -> bool:
        """Whether this room is among those that there are, as far as this door is concerned."""
        ...

    async def get(self, room: RoomId) -> RoomHandle:
        """The room, opened if need be. Raises `Refused`: `room_deleted`, `no_such_room` if it has no log,
        or `room_moved` for one that another process has."""
        ...

    async def seen(self, room: RoomId) -> Room:
        """The room as it is here, or, where another process has it, as the store holds it. Raises `Refused`:
        `room_deleted`, `no_such_room`."""
        ...

    async def peek(self, room: RoomId) -> Room:
        """How the store holds a room that another process has; empty where it has no log."""
        ...

    def has(self, room: RoomId) -> bool:
        """Whether a room is decided in here, and in no other process."""
        ...

    def open_actor(self, room: RoomId) -> RoomHandle | None:
        """The room if it is open now."""
        ...

    def is_here(self, room: Room) -> bool:
        """Whether a room lives in this home, and is no mirror."""
        ...

    async def create(self, room: RoomId, home: HomeId | None = None) -> RoomHandle:
        """A room that may be new, in `home` (None: this home). Its first command must be `OpenRoom`, and that of the
        mirror of another home's room an `Arrive`. Raises `Refused(room_deleted)`."""
        ...

    async def delete(self, room: RoomId, by: By) -> None:
        """Let a room be gone from this home; returns once that is durable. What was asked in it before is answered
        first. Raises `ParlerError`; then the room is as it was."""
        ...


class Rooms:
    """Handles by room. The home room, which no id leads to, is always open."""

    def __init__(
        self, context: ActorParts, nursery: trio.Nursery, *, own: HomeId, homes: Homes, codes: JoinCodes, shelf: Shelf
    ) -> None:
        self._context = context
        """What every actor shares."""
        self._owns = context.owns
        """Which rooms are this process's."""
        self._own = own
        """This home's id: rooms that say another home are mirrors."""
        self._homes = homes
        """Makes the handles of mirrors."""
        self._codes = codes
        """The codes that a person types for newcomers to rooms of this home."""
        self._shelf = shelf
        """The files of the rooms of this home."""
        self._nursery = nursery
        """Runs the actors' tasks."""
        self._rooms: dict[RoomId, _Open] = {}
        """The open rooms."""
        self._opening: dict[RoomId, trio.Event] = {}
        """Rooms that are being folded now, each with what tells that it is done: who asks for one meanwhile waits."""
        self._closed = trio.Event()
        """Set when the engine stops."""
        self.home: RoomActor[HomeRoom]
        """The home room's actor, from `start` on."""

    def __len__(self) -> int:
        """How many rooms are open, the home room not among them."""
        return len(self._rooms)

    async def start(self) -> None:
        """Fold the home room and start its task."""
        self.home = await self._open_home()
        self._nursery.start_soon(self._run_home)
        self._nursery.start_soon(self._close_idle)

    async def _open_home(self) -> RoomActor[HomeRoom]:
        def load(store: Store) -> tuple[HomeRoom, bool]:
            return fold(store, HOME_ROOM, HomeRoom, HomeRoom.restore)

        home, frozen = await self._context.driver.read(load)
        return RoomActor(HOME_ROOM, home, self._context, load, frozen=frozen)

    async def _run_home(self) -> None:
        """Serve the home room. When it could not be made to agree with its store again, open it anew as soon as the
        store can be read."""
        while True:
            await self.home.run()
            while self.home.dead and not self._closed.is_set():
                try:
                    self.home = await self._open_home()
                except ParlerError:
                    await self._pause(REOPEN_SECONDS)
            if self._closed.is_set():
                return

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._closed.wait()

    def reaches(self, room: RoomId) -> bool:
        """Every room is reached here."""
        return True

    async def get(self, room: RoomId) -> RoomHandle:
        """The room, opened if need be. Raises `Refused`: `room_deleted`, `no_such_room` if it has no log, `room_moved`
        for one that another process has, or `draining` for one that is not open when the engine stops."""
        found = await self._existing(room)
        if found is None:
            raise Refused("no_such_room")
        return found

    async def seen(self, room: RoomId) -> Room:
        """The room as it is here, or, where another process has it, as the store holds it. Raises `Refused`:
        `room_deleted`, `no_such_room`."""
        if self._owns.has(room):
            try:
                return (await self.get(room)).aggregate
            except Refused as error:
                if error.code != "room_moved":
                    raise
        held = await self.peek(room)
        if held.position == 0:
            raise Refused("no_such_room")
        return held

    async def peek(self, room: RoomId) -> Room:
        """How the store holds a room that another process has; empty where it has no log."""
        folded, _ = await self._context.driver.read(lambda store: fold_room(store, room))
        return folded

    def has(self, room: RoomId) -> bool:
        """Whether a room is decided in here, and in no other process."""
        return self._owns.has(room)

    def open_actor(self, room: RoomId) -> RoomHandle | None:
        """The room if it is open now."""
        found = self._rooms.get(room)
        return None if found is None or found.actor.dead or not self._owns.has(room) else found.handle

    def is_here(self, room: Room) -> bool:
        """Whether a room lives in this home, and is no mirror."""
        return room.state.home == self._own

    async def create(self, room: RoomId, home: HomeId | None = None) -> RoomHandle:
        """A room that may be new, in `home` (None: this home). Its first command must be `OpenRoom`, and that of the
        mirror of another home's room an `Arrive`. Raises `Refused(room_deleted)`."""
        found = await self._existing(room)
        if found is None:
            found = self._start(room, Room(), home or self._own, frozen=False)
        return found

    async def delete(self, room: RoomId, by: By) -> None:
        """Let a room be gone from this home; returns once that is durable. What was asked in it before is answered
        first. Raises `ParlerError`; then the room is as it was."""
        while (opening := self._opening.get(room)) is not None:
            await opening.wait()
        # Whoever asks for the room meanwhile waits until it is known whether it is gone.
        self._opening[room] = trio.Event()
        try:
            found = self._rooms.get(room)
            self._require(room)
            if found is not None and found.actor.frozen:
                # Which rows a newer Parler made of its facts is not known here.
                raise Refused("newer_log")
            if found is not None:
                del self._rooms[room]
                await found.actor.give_up()
            await self.home.submit(c.DeleteRoom(operation="room.delete", room=room), by)
        finally:
            self._opening.pop(room).set()

    def _require(self, room: RoomId) -> None:
        if not self._owns.has(room):
            raise Refused("room_moved", retry_after_ms=MOVED_MS, room=room)

    async def let_go(self) -> None:
        """Close the rooms that are not this process's any more; returns when what waited in them was answered."""
        gone = [each.actor for room, each in self._rooms.items() if not self._owns.has(room)]
        async with trio.open_nursery() as nursery:
            for actor in gone:
                self._rooms.pop(actor.room)
                nursery.start_soon(actor.give_up, "room_moved")

    async def _existing(self, room: RoomId) -> RoomHandle | None:
        while True:
            self._require(room)
            found = self._rooms.get(room)
            if found is not None and not found.actor.dead:
                found.actor.used_at = trio.current_time()
                return found.handle
            opening = self._opening.get(room)
            if opening is None:
                break
            await opening.wait()
        self._opening[room] = trio.Event()
        try:
            folded, frozen = await self._context.driver.read(lambda store: fold_room(store, room))
            self._require(room)
            if folded.position == 0 and not frozen:
                if await self._context.driver.look(lambda store: store.is_deleted(room)):
                    raise Refused("room_deleted")
                return None
            # A log whose first fact is a newer Parler's says nothing of a home; nothing is asked of such a room.
            home = folded.state.home if folded.position else self._own
            return self._start(room, folded, home, frozen=frozen)
        finally:
            self._opening.pop(room).set()

    def _start(self, room: RoomId, folded: Room, home: HomeId, *, frozen: bool) -> RoomHandle:
        if self._closed.is_set():
            # Its log was read while the engine stopped: nobody would close this room, and the engine waits for all.
            raise Refused("draining")

        def load(store: Store) -> tuple[Room, bool]:
            return fold_room(store, room)

        if home == self._own:
            local = LocalRoom(room, folded, self._context, load, self._codes, self._shelf, frozen=frozen)
            opened = _Open(local, local)
        else:
            actor = RoomActor(room, folded, self._context, load, frozen=frozen)
            opened = _Open(actor, self._homes.handle(actor, home))
        self._rooms[room] = opened
        self._nursery.start_soon(self._run, opened.actor)
        return opened.handle

    async def _run(self, actor: RoomActor[Room]) -> None:
        try:
            await actor.run()
        finally:
            found = self._rooms.get(actor.room)
            if found is not None and found.actor is actor:
                del self._rooms[actor.room]

    async def _close_idle(self) -> None:
        while not self._closed.is_set():
            await self._pause(IDLE_SECONDS / 10)
            now = trio.current_time()
            by_use = sorted((each.actor for each in self._rooms.values()), key=lambda actor: actor.used_at)
            surplus = len(by_use) - MAX_OPEN
            for n, actor in enumerate(by_use):
                if actor.idle and (n < surplus or now - actor.used_at > IDLE_SECONDS):
                    # Whoever waits for something in this room holds no actor meanwhile, and asks for the room again.
                    del self._rooms[actor.room]
                    actor.close()

    async def close(self) -> None:
        """Let every room finish what waits and keep its snapshot; the nursery ends when they have."""
        self._closed.set()
        for each in list(self._rooms.values()):
            each.actor.close()
        self.home.close()


async def pause_among(number: int) -> None:
    """Called with 1, 2, 3 and so on by a loop over rooms: from time to time the event loop is given to others."""
    if number % AT_ONCE == 0:
        await trio.lowlevel.checkpoint()
