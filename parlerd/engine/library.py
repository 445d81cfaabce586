"""The one door to what is stored, for everyone who answers a caller.

    handler -> Library -> memory, where the newest facts of an open room say it for certain
                     `--> the store, by way of the driver

Every question is awaited. A store on this machine answers in the call and no other task runs meanwhile; a store over a
network takes a round trip, and then everything may have changed when the answer is here: the room, who is in it, what
somebody else was told. So whoever asks takes what it knows of a room after the answer and not before, or looks once
more whether that still holds. Questions that belong together are one question, because each is a round trip.

Nothing is remembered here but where a room lives, which its first fact says for good. The stores that can say when a
commit changed an answer remember it themselves (`store.memo`): a second memory above them would not hear of what
another process stored.

Not here: facts (the rooms' actors append them), leases and deadlines, which have no caller. Above: `reading` and the
handlers. Below: `driver`, and the open rooms for what memory knows. Invariant: an answer is what was stored at one
moment; what a room has only decided is in none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from parlerd.bounded import Bounded
from parlerd.core import events as e
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import (
    HOME_ROOM,
    AgentId,
    BlobId,
    ErasedWords,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Prior,
    RoomId,
    Seq,
    Shown,
    View,
    WordsOf,
)
from parlerd.core.receipts import FactRef, audience_of, first_line, has_number, name_of
from parlerd.core.room import Room
from parlerd.core.sealing import OTHER
from parlerd.core.visibility import can_see
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.driver import Driver
from parlerd.engine.recent import Recent
from parlerd.engine.rooms import RoomDoor
from parlerd.engine.submissions import Settled
from parlerd.engine.worker import Told
from parlerd.store.port import (
    Cursor,
    Delivery,
    EpochSecretRow,
    FileSealRow,
    Held,
    KeyExchangeRow,
    KeyTriesRow,
    MadeRecordRow,
    Membership,
    NewFact,
    OutboxRow,
    Page,
    PutSight,
    Receipted,
    SealingKeyRow,
    Store,
    StoredMessage,
    UsedKey,
    Write,
)

T = TypeVar("T")

MAX_LIVES: Final = 4_096
"""Rooms of which it is remembered where they live."""
PAGE_BYTES: Final = 1024 * 1024
"""Bodies in a page that nobody bounds otherwise: past this the middle of a join's page is left out and said so."""
PUBLIC: Final = View(reader=AgentId(""), spans=((0, None),))
"""Who sees what is public, and nothing else."""
FEW_BODIES: Final = 32
"""As many bodies are read on the loop; more are read away from it."""
_WINDOW: Final = 500
"""Facts that are looked at in one go for what an agent did, in 10 ms: the reading thread serves others in between."""
_MAX_WINDOWS: Final = 20
"""How often in a row that is done for one answer."""


class Unread(NamedTuple):
    """How many messages by others a reader has not read, of those up to and at `upto`."""

    number: int
    upto: Position


class Glance(NamedTuple):
    """What an overview shows of a room to one reader."""

    unread: int
    last_at: Millis
    """When the newest message was posted that the reader may see; 0 when there is none."""


class Numbered(NamedTuple):
    """A message with the number that its reader has for it, and what it is called in receipts, where its home gives
    any."""

    header: e.Header
    seq: Seq
    receipt: FactRef | None = None


class Traced(NamedTuple):
    """Where a message is, and how far it got with whom."""

    room: RoomId
    header: e.Header
    marks: list[Delivery]
    sights: list[PutSight]


class Signed(NamedTuple):
    """What somebody signed, and the signature; both empty where nothing was signed."""

    body: bytes = b""
    signature: bytes = b""


class Seen(NamedTuple):
    """Up to where a reader was shown a room, and the room's public messages up to there."""

    upto: Position
    shown: Shown


class Before(NamedTuple):
    """What was said in a room before that a request for a message has to do with."""

    prior: Prior | None = None
    """The earlier use of its idempotency key."""
    words: bytes | None = None
    """What the message says that the key led to then; None where its words were erased."""
    replied_to: e.Header | None = None
    """The message that it replies to."""
    ids: Mapping[Position, MessageId] = {}
    """The messages at the positions that were asked for, as far as there are any."""


class Library:
    """What is stored, for the handlers. Every method may raise `StoreError`."""

    def __init__(self, driver: Driver, rooms: RoomDoor) -> None:
        self._driver = driver
        self._rooms = rooms
        """The open rooms, for what memory knows of them."""
        self._lives: Bounded[RoomId, HomeId] = Bounded(MAX_LIVES)
        """Where rooms live, of those that were asked about: what a room's first fact says never changes."""

    def over(self, narrowed: Callable[[Driver], Driver], rooms: RoomDoor) -> Library:
        """The same library for whoever there are only these rooms for."""
        return Library(narrowed(self._driver), rooms)

    @property
    def kind(self) -> str:
        """Which store it is, for a person."""
        return self._driver.kind

    # -- rooms and who is in them ----------------------------------------------------------------------------

    async def all_rooms(self) -> list[RoomId]:
        """Every room of this home but the home room, in the order in which they were opened."""
        return await self._driver.look(lambda store: [room for room in store.rooms() if room != HOME_ROOM])

    async def my_rooms(self, agent: AgentId) -> list[RoomId]:
        """The rooms that the agent is in, without its private memory."""
        return await self._driver.look(lambda store: _rooms_in(store, agent))

    async def rooms_of(self, agents: Iterable[AgentId]) -> dict[AgentId, list[RoomId]]:
        """The rooms that each of these agents is in."""
        asked = list(agents)
        return await self._driver.look(lambda store: {agent: _rooms_in(store, agent) for agent in asked})

    async def doors(self, agent: AgentId) -> list[RoomId]:
        """The rooms at whose door the agent waits for a person's decision."""
        return [each.room for each in await self.memberships(agent) if each.state == "pending"]

    async def memberships(self, agent: AgentId) -> list[Membership]:
        """How the agent stands in every room that it ever knocked at or was in."""
        return await self._driver.look(lambda store: store.memberships(agent))

    async def standings(self, agent: AgentId) -> list[tuple[Membership, Position]]:
        """The same, each with how far that room's log goes."""
        return await self._driver.look(
            lambda store: [(each, store.head(each.room).position) for each in store.memberships(agent)]
        )

    async def heads(self, rooms: Collection[RoomId]) -> dict[RoomId, Position]:
        """Where the logs of these rooms end, in the store."""
        return await self._driver.look(lambda store: {room: head.position for room, head in store.heads(rooms).items()})

    async def going_on(self, agent: AgentId) -> list[RoomId]:
        """The rooms that the agent is in and whose log goes on after what it acknowledged."""
        return await self._driver.look(partial(_going_on, agent=agent))

    async def owned(self, principal: str) -> list[RoomId]:
        """Rooms whose owner acts for this person, without private memories."""
        return await self._driver.look(lambda store: store.owned(principal))

    async def room_of_key(self, key: KeyId) -> RoomId | None:
        """The room that a key leads to."""
        return await self._driver.look(lambda store: store.room_of_key(key))

    async def is_deleted(self, room: RoomId) -> bool:
        """Whether there was such a room, and it was deleted."""
        return await self._driver.look(lambda store: store.is_deleted(room))

    async def few_facts(self, room: RoomId, after: Position, limit: int) -> list[e.Header]:
        """A few facts after a position: no more than may be read on the loop. Raises `Refused(newer_log)`."""
        return await self._driver.look(lambda store: store.facts(room, after, limit))

    async def facts_of(self, room: RoomId, settled: Settled, limit: int) -> Sequence[e.Header]:
        """The facts that a command led to, at least the first `limit` of them; those of the first time where the same
        request was carried out before. Raises `Refused(newer_log)`."""
        replay = settled.decision.replay
        return settled.facts if replay is None else await self.few_facts(room, Position(replay - 1), limit)

    # -- where a reader stands -------------------------------------------------------------------------------

    async def cursor(self, room: RoomId, reader: AgentId) -> Cursor:
        """How far the reader was shown a room, and how far it acknowledged."""
        return await self._driver.look(lambda store: store.cursor(room, reader))

    async def unread(self, room: Room, view: View, after: Position) -> Unread:
        """What others posted after a position that this reader may see."""
        recent = self._recent(room)
        if recent is not None and (known := recent.unread(room, view, after)) is not None:
            return Unread(known, room.position)
        name = room.state.room
        # The head first: what is stored between the two reads is counted and said once more, and never overlooked.
        return await self._driver.look(
            lambda store: Unread(upto=store.head(name).position, number=store.unread(name, view, after))
        )

    async def glance(self, room: RoomId, view: View) -> Glance:
        """What is unread for this reader, and when it could last see something: the room's own newest message would
        tell of hidden ones."""

        def look(store: Store) -> Glance:
            newest = store.position_of(room, view, store.seq_at(room, view, store.head(room).position))
            header = store.message(room, newest)
            unread = store.unread(room, view, store.cursor(room, view.reader).acknowledged)
            return Glance(unread, Millis(0) if header is None else header.at)

        return await self._driver.look(look)

    async def seq_at(self, room: Room, view: View, position: Position) -> Seq:
        """The reader's own number for what stands at a position."""
        recent = self._recent(room)
        if recent is not None and (known := recent.seq_at(room, view, position)) is not None:
            return known
        name = room.state.room
        return await self._driver.look(lambda store: store.seq_at(name, view, position))

    async def position_of(self, room: RoomId, view: View, seq: Seq) -> Position:
        """Where the reader's message of that number stands; 0 for 0, and the head for a number beyond the last."""
        return await self._driver.look(lambda store: store.position_of(room, view, seq))

    async def read_up_to(self, room: RoomId, view: View, seq: Seq) -> Position | None:
        """Where a page ends that the reader names by its last number: where it was shown the room, if that number is
        the newest it was shown, else at the message itself. None where there is no such number."""

        def look(store: Store) -> Position | None:
            delivered = store.cursor(room, view.reader).delivered
            if store.seq_at(room, view, delivered) == seq:
                return delivered
            position = store.position_of(room, view, seq)
            return position if store.seq_at(room, view, position) == seq else None

        return await self._driver.look(look)

    async def seen(self, room: RoomId, reader: AgentId) -> Seen:
        """How far the reader was shown a room, with the public line there."""
        return await self._driver.look(partial(_seen, room=room, reader=reader))

    def seen_now(self, room: RoomId, reader: AgentId) -> Seen | None:
        """The same in the call; None where the store is not at hand."""
        return self._at_once(partial(_seen, room=room, reader=reader))

    async def shown_at(self, room: RoomId, position: Position) -> Shown:
        """The room's public messages up to a position, with the public line there."""
        return await self._driver.look(lambda store: store.shown_at(room, position))

    # -- messages ----------------------------------------------------------------------------------------------

    async def numbered(self, room: RoomId, view: View, seq: Seq) -> MessageId | None:
        """The message that has this number for the reader."""
        return await self._driver.look(partial(_numbered, room=room, view=view, seq=seq))

    def numbered_now(self, room: RoomId, view: View, seq: Seq) -> MessageId | None:
        """The same in the call; None also where the store is not at hand."""
        return self._at_once(partial(_numbered, room=room, view=view, seq=seq))

    async def replied_to(self, room: RoomId, view: View, messages: Iterable[MessageId]) -> Mapping[MessageId, Seq]:
        """The reader's numbers of these messages, as far as they are in the room and it may see them."""
        asked = list(messages)

        def look(store: Store) -> dict[MessageId, Seq]:
            found: dict[MessageId, Seq] = {}
            for message in asked:
                place = store.find_message(message)
                header = None if place is None or place[0] != room else store.message(*place)
                if header is None or not isinstance(header.event, e.MessagePosted):
                    continue
                position = header.position
                if can_see(view, position=position, visibility=header.event.visibility):
                    found[message] = store.seq_at(room, view, position)
            return found

        return await self._driver.look(look)

    def ask_posted(self, room: RoomId, view: View, position: Position, told: Told) -> None:
        """The message at a position with the reader's number of it (`Numbered`), or None when it is gone. `told` is
        called once, as `Driver.ask` does: for whoever answers without a task."""
        self._driver.ask(partial(_posted, room=room, view=view, position=position), told)

    async def receipt_ref(self, room: RoomId, position: Position) -> FactRef | None:
        """What the fact at a position is called in receipts; None where it got no number."""
        return await self._driver.look(partial(_ref, room=room, position=position))

    async def receipted(self, room: RoomId, position: Position) -> Receipted | None:
        """The fact at a position, for its receipt."""
        return await self._driver.look(lambda store: store.receipted(room, position))

    async def following(
        self, room: RoomId, position: Position, limit: int, goes_on: Callable[[e.Header], bool]
    ) -> list[Receipted]:
        """The facts behind a position as long as `goes_on` says so of each, for the receipt of a request that led to
        several. Nothing is read behind the first of which it does not, but its header."""

        def look(store: Store) -> list[Receipted]:
            found: list[Receipted] = []
            for place in range(position, position + limit):
                header = next(iter(store.facts(room, Position(place), 1)), None)
                if header is None or not goes_on(header):
                    break
                fact = store.receipted(room, header.position)
                if fact is None:
                    break
                found.append(fact)
            return found

        return await self._driver.look(look)

    async def done_by(
        self, room: RoomId, agent: AgentId, upto: Position, limit: int
    ) -> tuple[list[Receipted], Position]:
        """What an agent did in a room that can have a receipt, from a position back, at most so much of it, the newest
        first; and up to where the log was not looked at: it is gone through a part at a time."""

        def look(store: Store) -> tuple[list[Receipted], Position]:
            found: list[Receipted] = []
            end = upto
            for _ in range(_MAX_WINDOWS):
                begin = Position(max(0, end - _WINDOW))
                for header in reversed(store.facts(room, begin, end - begin)):
                    if header.by.actor == agent and has_number(header):
                        fact = store.receipted(room, header.position)
                        if fact is not None and (fact.numbered or isinstance(header.event, e.MessagePosted)):
                            found.append(fact)
                    if len(found) == limit:
                        return found, Position(header.position - 1)
                end = begin
                if end == 0:
                    break
            return found, end

        return await self._driver.read(look)

    async def place_in_line(self, room: RoomId, thread: bytes, number: int) -> Position | None:
        """Where the fact stands that has this number in an own line."""
        return await self._driver.look(lambda store: store.place_in_line(room, thread, number))

    async def trace(self, message: MessageId) -> Traced | None:
        """Where a message is, and its marks, whoever may see it."""

        def look(store: Store) -> Traced | None:
            place = store.find_message(message)
            header = None if place is None else store.message(*place)
            if place is None or header is None:
                return None
            return Traced(place[0], header, store.deliveries(*place), store.sights(*place))

        return await self._driver.look(look)

    async def sights_to_show_again(self, room: RoomId, reader: AgentId, most: int) -> list[PutSight]:
        """What a host cut or did not show of a room to this reader, shown again less than `most` times so far."""
        return await self._driver.look(lambda store: store.sights_to_show_again(room, reader, most))

    async def sights_of_nobody(self, after: Millis, upto: Millis, limit: int) -> list[tuple[PutSight, e.Header]]:
        """The newest words in that time on messages that no reader is known to have been shown, with these messages."""

        def look(store: Store) -> list[tuple[PutSight, e.Header]]:
            found = store.sights_of_nobody(after, upto, limit)
            headers = [store.message(row.room, row.position) for row in found]
            return [(row, header) for row, header in zip(found, headers, strict=True) if header is not None]

        return await self._driver.look(look)

    # -- what may take longer ----------------------------------------------------------------------------------

    async def page(
        self,
        room: Room,
        view: View,
        after: Position,
        *,
        limit: int,
        max_bytes: int = PAGE_BYTES,
        skip_own: bool,
        kind: str | None = None,
        names: Sequence[str] = (),
    ) -> Page:
        """Messages after a position: from memory when they are the newest, else read away from the loop. `kind` and
        `names` leave out others, as `Store.page` does."""
        name = room.state.room
        recent = self._recent(room)
        if recent is not None:
            page = recent.page(
                room, view, after, limit=limit, max_bytes=max_bytes, skip_own=skip_own, kind=kind, names=names
            )
            if page is not None:
                return page
        return await self._driver.read(
            lambda store: store.page(
                name, view, after, limit=limit, max_bytes=max_bytes, skip_own=skip_own, kind=kind, names=names
            )
        )

    async def message_at(self, room: Room, view: View, position: Position) -> StoredMessage | None:
        """The message at a position; None where there is none that this reader may see."""
        page = await self.page(room, view, Position(position - 1), limit=1, skip_own=False)
        return next((each for each in page.messages if each.header.position == position), None)

    async def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        """The newest messages this reader may see."""
        return await self._driver.read(lambda store: store.tail(room, view, limit=limit, max_bytes=max_bytes))

    async def facts(self, room: RoomId, after: Position, limit: int) -> list[e.Header]:
        """Facts after a position, in order. Raises `Refused(newer_log)`."""
        return await self._driver.read(lambda store: store.facts(room, after, limit))

    async def headers(self, room: RoomId, positions: Sequence[Position]) -> list[e.Header]:
        """The facts at these positions, all of which the room has, in the same order: one question for all of them.
        Raises `Refused(newer_log)`."""

        def look(store: Store) -> list[e.Header]:
            return [header for at in positions for header in store.facts(room, Position(at - 1), 1)]

        return await self._driver.read(look)

    async def bodies(self, room: RoomId, positions: Iterable[int]) -> Mapping[int, Signed]:
        """The bodies of facts, as far as there are any, with their signatures: one question for all of them."""
        asked = list(positions)

        def look(store: Store) -> dict[int, Signed]:
            found = ((position, store.body(room, Position(position))) for position in asked)
            return {position: Signed(body[0], body[1] or b"") for position, body in found if body is not None}

        return await (self._driver.look if len(asked) <= FEW_BODIES else self._driver.read)(look)

    async def whole_facts(self, room: Room, after: Position, upto: Position, limit: int) -> list[NewFact]:
        """At most `limit` of the facts in (after, upto] with their bodies: from memory when they are the newest. One at
        least, where there should be any, so that whoever goes on from fact to fact comes to the end. Raises
        `StoreError(store_failed)` where the log ends before the room does: it may be deleted meanwhile."""
        recent = self._recent(room)
        if recent is not None and (known := recent.after(after, upto)) is not None:
            return known[:limit]
        name, limit = room.state.room, min(limit, upto - after)

        def look(store: Store) -> list[NewFact]:
            found = store.whole_facts(name, after, limit)
            if limit > 0 and not found:
                raise StoreError("store_failed")
            return found

        return await self._driver.read(look)

    def newest_facts(self, room: Room, after: Position) -> list[NewFact] | None:
        """The facts of a room after a position with their bodies, without waiting; None where memory does not hold all
        of them, or is ahead of the store."""
        recent = self._recent(room)
        return None if recent is None else recent.after(after, room.position)

    async def aside(self, work: Callable[[], T]) -> T:
        """Run what takes a while and asks the store nothing, away from the loop."""
        return await self._driver.read(lambda _: work())

    # -- whether it is sound -----------------------------------------------------------------------------------

    async def problems(self) -> list[str]:
        """What is wrong with the store's own structures, in plain sentences."""
        return await self._driver.read(lambda store: store.check())

    async def logs(self) -> dict[RoomId, Position]:
        """Every log, the home room's included, and how far it goes."""
        return await self._driver.read(
            lambda store: {room: head.position for room, head in store.heads(store.rooms()).items()}
        )

    async def written(self, room: RoomId, after: Position, upto: Position) -> dict[PrincipalId, int]:
        """The bytes of the bodies in (after, upto], by the person whose agent acted."""
        return await self._driver.read(lambda store: store.written(room, after, upto))

    async def first_broken(self, room: RoomId) -> Position | None:
        """The first fact of a log that does not match its digest."""
        return await self._driver.read(lambda store: store.verify_chain(room))

    async def first_unlined(self, room: RoomId) -> Position | None:
        """The first fact of a log whose own line does not go on from the one before."""
        return await self._driver.read(lambda store: store.first_unlined(room))

    async def unsigned(self, log: RoomId, after: Position, upto: Position, about: Audited | None) -> list[Position]:
        """The facts in (after, upto] that are not what their author signed. `about` is the room whose log it is, None
        for the home room's."""
        return await self._driver.read(partial(_unsigned, log=log, after=after, upto=upto, about=about))

    # -- what is kept beside the facts ---------------------------------------------------------------------------

    async def record(self, writes: Sequence[Write]) -> None:
        """Store marks and cursors, durably."""
        await self._driver.commit(writes)

    # -- rooms of other homes ------------------------------------------------------------------------------------

    async def standings_at(self, home: HomeId, agents: Iterable[AgentId]) -> list[tuple[AgentId, RoomId]]:
        """The rooms that live in another home and that each of these agents is in or knocks at."""
        asked = list(agents)
        return await self._driver.look(partial(_standings_at, home=home, agents=asked, lives=self._lives))

    async def rooms_at(self, home: HomeId) -> list[RoomId]:
        """The rooms that live in another home and have a mirror here."""

        def look(store: Store) -> list[RoomId]:
            return [room for room, other in _homes_of(store, store.rooms()).items() if other == home]

        return await self._driver.read(look)

    def ask_before(
        self,
        room: RoomId,
        key: UsedKey | None,
        reply_to: MessageId | None,
        told: Told,
        *,
        positions: Sequence[Position] = (),
    ) -> None:
        """What a request for a message has to do with (`Before`): an earlier use of its idempotency key, the message
        that it replies to, and those at some positions. `told` is called once, as `Driver.ask` does."""
        self._driver.ask(partial(_before, room=room, key=key, reply_to=reply_to, positions=positions), told)

    async def erased_words(self, room: RoomId, messages: Sequence[MessageId]) -> tuple[ErasedWords, ...]:
        """These messages as far as a room has them, for whoever lets their words go."""
        return await self._driver.read(partial(_erased_words, room=room, messages=messages))

    async def rooms_elsewhere(self, own: HomeId) -> list[RoomId]:
        """The rooms that have a mirror here: those of every home but this one."""

        def look(store: Store) -> list[RoomId]:
            return [room for room, home in _homes_of(store, store.rooms()).items() if home not in ("", own)]

        return await self._driver.read(look)

    async def held(self, room: RoomId) -> Held:
        """The messages of a room whose words are here."""
        return await self._driver.read(lambda store: store.held(room))

    async def grown(self, after: Mapping[RoomId, Position]) -> dict[RoomId, tuple[Held, Position]]:
        """The messages of some rooms after a position of each whose words are here, and up to where the log was looked
        at."""
        return await self._driver.read(lambda store: store.grown(after))

    async def oldest_words(self, room: RoomId, after: Position, limit: int) -> list[WordsOf]:
        """The oldest messages of a room after a position whose words are here."""
        return await self._driver.read(partial(_oldest_words, room=room, after=after, limit=limit))

    async def has_marks(self, room: RoomId, first: Position, last: Position) -> bool:
        """Whether there are delivery marks that cover messages without words alone, from `first` to `last`."""
        return await self._driver.read(lambda store: store.has_marks(room, first, last))

    async def read_by_all(self, room: Room) -> Position:
        """Up to where every present member of a room has acknowledged what others said there."""
        name, upto = room.state.room, room.position
        views = [room.view(member.agent) for member in room.state.members.values() if member.present]

        def look(store: Store) -> Position:
            read = upto
            for view in views:
                acknowledged = store.cursor(name, view.reader).acknowledged
                if store.unread(name, view, acknowledged):
                    first = store.position_of(name, view, Seq(store.seq_at(name, view, acknowledged) + 1))
                    read = min(read, Position(first - 1))
            return read

        return await self._driver.read(look)

    async def oldest_bodies(self, room: RoomId, after: Position, limit: int) -> list[tuple[Position, int]]:
        """The oldest messages of a room after a position whose words are here, each with the size of its body."""
        return await self._driver.read(lambda store: store.oldest_bodies(room, after, limit))

    async def public_positions(self, room: RoomId, numbers: Iterable[int]) -> list[Position]:
        """Where the public messages with these numbers of the room stand, as far as its log has them."""
        asked = sorted(numbers)
        return await self._driver.look(
            lambda store: [at for number in asked if (at := store.public_position(room, number)) is not None]
        )

    async def mirrored(
        self, room: RoomId, numbers: Iterable[int], messages: Iterable[MessageId]
    ) -> tuple[Mapping[int, bytes], Mapping[MessageId, bool]]:
        """What a mirror holds of its room: the public line at these numbers, and which of these messages there are,
        each with whether it is of this room."""
        asked, named = sorted(numbers), list(messages)

        def look(store: Store) -> tuple[Mapping[int, bytes], Mapping[MessageId, bool]]:
            lines = {number: line for number in asked if (line := store.line_at(room, number)) is not None}
            places = {message: place for message in named if (place := store.find_message(message)) is not None}
            return lines, {message: place[0] == room for message, place in places.items()}

        return await self._driver.look(look)

    async def body(self, room: RoomId, position: Position) -> bytes | None:
        """The words of a message as they were signed; None where there are none any more."""
        stored = await self._driver.look(lambda store: store.body(room, position))
        return None if stored is None else stored[0]

    async def numbers_read(self, room: RoomId, view: View) -> tuple[Seq, Seq]:
        """The reader's own numbers up to which it was shown a room, and up to which it acknowledged."""

        def look(store: Store) -> tuple[Seq, Seq]:
            cursor = store.cursor(room, view.reader)
            return store.seq_at(room, view, cursor.delivered), store.seq_at(room, view, cursor.acknowledged)

        return await self._driver.look(look)

    async def outbox(self, home: HomeId) -> list[OutboxRow]:
        """What waits to leave for another home, and what was refused there."""
        return await self._driver.look(lambda store: store.outbox(home))

    async def sealing_keys(self, home: HomeId) -> list[SealingKeyRow]:
        """The keys of this home's agents for the sealed rooms of a home."""
        return await self._driver.look(lambda store: store.sealing_keys(home))

    async def epoch_secrets(self, room: RoomId) -> list[EpochSecretRow]:
        """The secrets of a sealed room's epochs that this home has."""
        return await self._driver.look(lambda store: store.epoch_secrets(room))

    async def made_records(self, room: RoomId) -> list[MadeRecordRow]:
        """The records of a sealed room's epochs that this home signed."""
        return await self._driver.look(lambda store: store.made_records(room))

    async def file_seals(self, room: RoomId, agent: AgentId) -> list[FileSealRow]:
        """How the files are sealed that an agent of this home shares in a sealed room elsewhere."""
        return await self._driver.look(lambda store: store.file_seals(room, agent))

    async def key_exchanges(self, room: RoomId) -> list[KeyExchangeRow]:
        """The key exchanges at a sealed room elsewhere of which an end is in this home."""
        return await self._driver.look(lambda store: store.key_exchanges(room))

    async def unanswered_exchanges(self, before: Millis) -> list[KeyExchangeRow]:
        """The exchanges that agents of this home began before a moment, and that no owner's home answered."""
        return await self._driver.look(lambda store: store.unanswered_exchanges(before))

    async def key_tries(self, room: RoomId) -> list[KeyTriesRow]:
        """How often wrong secrets were tried with the keys of a sealed room of this home's person."""
        return await self._driver.look(lambda store: store.key_tries(room))

    # -- what is remembered --------------------------------------------------------------------------------------

    async def is_brought(self, blob: BlobId) -> bool:
        """Whether any message brings this blob, whoever may see that message."""
        return await self._driver.read(lambda store: store.is_brought(blob))

    async def brought(self, room: RoomId) -> list[BlobId]:
        """The blobs that messages of a room bring whose words are here."""
        return await self._driver.read(lambda store: store.brought(room))

    async def search(self, work: Callable[[Store], T]) -> T:
        """Look through what rooms remember, away from the loop."""
        return await self._driver.read(work)

    # -- the state of a room -------------------------------------------------------------------------------------

    async def state_history(
        self, room: RoomId, scope: str, key: str, before: Position, limit: int
    ) -> list[tuple[e.Header, bytes | None]]:
        """The newest facts about a key of the room's state before a position, the newest first, with their bodies."""

        def read(store: Store) -> list[tuple[e.Header, bytes | None]]:
            return [_whole(store, room, place) for place in store.state_versions(room, scope, key, before, limit)]

        return await self._driver.read(read)

    async def state_at(self, room: RoomId, upto: Position) -> list[tuple[e.Header, bytes | None]]:
        """The newest fact about each key of the room's state up to and at a position, with its body, in the order of
        scopes and keys."""

        def read(store: Store) -> list[tuple[e.Header, bytes | None]]:
            return [_whole(store, room, place) for place in store.state_at(room, upto)]

        return await self._driver.read(read)

    # -- inside --------------------------------------------------------------------------------------------------

    def _at_once(self, query: Callable[[Store], T | None]) -> T | None:
        """For whoever has no task to wait in. Raises as the query does."""
        if not self._driver.is_at_hand:
            return None
        found: list[T | None] = []
        failed: list[BaseException] = []

        def told(answer: T | None, error: BaseException | None) -> None:
            found.append(answer)
            if error is not None:
                failed.append(error)

        self._driver.ask(query, told)
        if failed:
            raise failed[0]
        return found[0]

    def _recent(self, room: Room) -> Recent | None:
        """What memory knows of a room's newest facts; None for a room that is not open, or not this one any more."""
        actor = self._rooms.open_actor(room.state.room)
        return None if actor is None or actor.aggregate is not room else actor.recent


def _whole(store: Store, room: RoomId, position: Position) -> tuple[e.Header, bytes | None]:
    """A fact with its body."""
    [header] = store.facts(room, Position(position - 1), 1)
    stored = None if header.body is None else store.body(room, position)
    return header, None if stored is None else stored[0]


def _seen(store: Store, room: RoomId, reader: AgentId) -> Seen:
    upto = store.cursor(room, reader).delivered
    return Seen(upto, store.shown_at(room, upto))


def _numbered(store: Store, room: RoomId, view: View, seq: Seq) -> MessageId | None:
    position = store.position_of(room, view, seq)
    header = store.message(room, position)
    if seq < 1 or header is None or not isinstance(header.event, e.MessagePosted):
        return None
    return header.event.id if store.seq_at(room, view, position) == seq else None


def _rooms_in(store: Store, agent: AgentId) -> list[RoomId]:
    return [each.room for each in store.memberships(agent) if each.state == "member"]


def _homes_of(store: Store, rooms: Sequence[RoomId]) -> dict[RoomId, HomeId]:
    """Where rooms live; empty for the home room, and for one whose first fact is a newer Parler's."""
    events = {room: opening.event for room, opening in store.openings(rooms).items()}
    return {room: event.home if isinstance(event := events.get(room), e.RoomOpened) else HomeId("") for room in rooms}


def _going_on(store: Store, agent: AgentId) -> list[RoomId]:
    rooms = _rooms_in(store, agent)
    return [room for room in rooms if store.head(room).position > store.cursor(room, agent).acknowledged]


def _standings_at(
    store: Store, home: HomeId, agents: Sequence[AgentId], lives: dict[RoomId, HomeId]
) -> list[tuple[AgentId, RoomId]]:
    found: list[tuple[AgentId, RoomId]] = []
    for agent in agents:
        for each in store.memberships(agent):
            if each.state not in ("member", "pending"):
                continue
            where = lives.get(each.room)
            if where is None:
                where = lives[each.room] = _homes_of(store, [each.room])[each.room]
            if where == home:
                found.append((agent, each.room))
    return found


def _before(
    store: Store, room: RoomId, key: UsedKey | None, reply_to: MessageId | None, positions: Sequence[Position]
) -> Before:
    past = store.past(room, () if key is None else (key,), () if reply_to is None else (reply_to,))
    prior = None if key is None else past.priors.get(key)
    stored = None if prior is None else store.body(room, prior.position)
    words = None if stored is None else stored[0]
    ids = {at: event.id for at in positions if isinstance(event := _event(store, room, at), e.MessagePosted)}
    return Before(prior, words, None if reply_to is None else past.messages.get(reply_to), ids)


def _event(store: Store, room: RoomId, position: Position) -> e.Event | None:
    header = store.message(room, position)
    return None if header is None else header.event


def _erased_words(store: Store, room: RoomId, messages: Sequence[MessageId]) -> tuple[ErasedWords, ...]:
    found: list[ErasedWords] = []
    for header in store.past(room, (), messages).messages.values():
        if header is None or not isinstance(event := header.event, e.MessagePosted):
            continue
        body = store.body(room, header.position)
        may_be_memory = event.kind == OTHER and event.visibility is None and not event.opening
        by = header.by
        size = 0 if body is None else len(body[0])
        found.append(ErasedWords(header.position, by.actor, by.principal, size, may_be_memory))
    return tuple(found)


def _oldest_words(store: Store, room: RoomId, after: Position, limit: int) -> list[WordsOf]:
    found: list[WordsOf] = []
    for position, size in store.oldest_bodies(room, after, limit):
        header = store.message(room, position)
        if header is not None and isinstance(event := header.event, e.MessagePosted):
            by = header.by.principal
            found.append(WordsOf(position, event.id, header.at, by, size, event.opening, event.memory))
    return found


def _posted(store: Store, room: RoomId, view: View, position: Position) -> Numbered | None:
    header = store.message(room, position)
    return None if header is None else Numbered(header, store.seq_at(room, view, position), _ref(store, room, position))


def _ref(store: Store, room: RoomId, position: Position) -> FactRef | None:
    found = store.receipted(room, position)
    if found is None or found.numbered is None:
        return None
    thread = first_line(room, found.header.by.actor, audience_of(found.header))
    return FactRef(name_of(found.header, thread, found.numbered.number), found.numbered.number)


def _unsigned(store: Store, log: RoomId, after: Position, upto: Position, about: Audited | None) -> list[Position]:
    try:
        facts = store.whole_facts(log, after, upto - after)
    except Refused as error:
        if error.code != "newer_log":
            raise
        # Facts of a newer Parler: what they are signed for is not known here.
        return []
    erased = store.erased(log, after, upto) if any(fact.body is None for fact in facts) else ()
    return [
        position for fact in facts if not is_signed(fact, about, is_erased=(position := fact.header.position) in erased)
    ]
