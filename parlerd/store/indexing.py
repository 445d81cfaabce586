"""Index rows from facts: every index is declared here once, for every store, for writing and for rebuilding.

An index is a `Projection`: a table, the shape of its rows, how rows follow from one header, and what happens to a row
whose key is taken. Every store makes its writing, its rebuilding and its upgrading from `PROJECTIONS`, so a new index
is one more entry in that list and one more table in `schema/`.

Not here: where rows are kept (each store), and a reader's numbers (`numbering`). Invariant: feeding a room's headers in
order, from empty counts, always gives the same rows, so an index may be thrown away and made again.

The numbers in two of the tables make a reader's own numbers (`Seq`) cheap: each is a sum of differences of such counts,
and needs no scan. `number` in a public row counts the room's public messages up to and with this one, and `own` counts
those of its author. In a private row `number` counts the private messages that this reader may see, and `own` those
among them that the reader wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.events import Header
from parlerd.core.model import MESSAGES as GATED
from parlerd.core.model import AgentId, HomeId, KeyId, MessageId, Millis, Position, RoomId, drawn_key
from parlerd.core.public_line import first_line, first_number, line_after_rewind, next_line

# -- what the rows are -------------------------------------------------------------------------------------


class RoomRow(NamedTuple):
    """Made of a room's first fact, and again when it changes hands: `opened_at` is when its owner came to own it.
    `owner` and `principal` are empty for rooms that are on nobody's list: the home room, and an agent's private
    memory."""

    room: RoomId
    opened_at: Millis
    owner: str
    principal: str


class MessageRow(NamedTuple):
    """Where a message is."""

    id: MessageId
    room: RoomId
    position: Position


class PublicRow(NamedTuple):
    """A message that is for everyone in the room. `line` is the room's public line there."""

    room: RoomId
    position: Position
    number: int
    author: AgentId
    own: int
    kind: str
    line: bytes


class PlaceRow(NamedTuple):
    """Where the numbers of public messages jump: where a mirror goes on after messages that it leaves out, and where a
    room was rewound. `public` and `line` are the number and the line of the room's newest public message there, by its
    home's count, and `counted` how many of its public messages the log holds so far."""

    room: RoomId
    position: Position
    public: int
    counted: int
    line: bytes


class PrivateRow(NamedTuple):
    """A message with a `visibility`, once for each id that may see it, the author included. `public` is the room's
    count of public messages at that position."""

    room: RoomId
    reader: AgentId
    position: Position
    number: int
    own: int
    public: int
    author: AgentId
    kind: str


ANYBODY: Final = "="
"""The audience of the row by which it is found that some message brings a blob, whoever may see that message."""


class FilterRow(NamedTuple):
    """A message as a filter finds it: by `kind`, by one of the names that it is found under (`e.found_under`), or by
    both. The column that a filter does not ask for is empty. `audience` is empty for a public message, and otherwise
    one of the ids that may see it."""

    room: RoomId
    audience: str
    addressee: str
    kind: str
    position: Position


class PriorRow(NamedTuple):
    """The first fact of a request that carried an idempotency key. A key that follows from a message's id has no
    row."""

    room: RoomId
    actor: AgentId
    operation: str
    key: str
    position: Position


class KeyRow(NamedTuple):
    """The room that a session key opens."""

    key: KeyId
    room: RoomId


class DeadlineRow(NamedTuple):
    """When time alone will change something in a room; `at` is 0 where nothing will change any more. A row replaces the
    one before it of the same `subject`, a name that the facet chooses. The row says when to look at the room, and the
    room says what really changed."""

    room: RoomId
    subject: str
    at: Millis


class MembershipRow(NamedTuple):
    """How an agent stands to a room. A row replaces the one before it for the same agent and room."""

    agent: AgentId
    room: RoomId
    state: str


class TokenRow(NamedTuple):
    """A token that was minted. `joins` is 1 for one with which others come in, who are given tokens of their own."""

    token: str
    agent: AgentId
    joins: int
    expires_at: Millis
    parent: str


class AccessRow(NamedTuple):
    """Something that a token is for."""

    token: str
    access: str


class TokenRoomRow(NamedTuple):
    """A room of a token. One that was `opened` with it is also one of each token that it was made of."""

    token: str
    room: str
    opened: int


class RevokedRow(NamedTuple):
    """A token that holds no more, and no token that was made of it."""

    token: str


class StateRow(NamedTuple):
    """A write to the state, or how a key came to have no value: it was deleted, or its timer ran out."""

    room: RoomId
    scope: str
    key: str
    position: Position


class Counts:
    """The running counts of one room. Counting begins at nothing; a store that goes on from rows which it has already
    overrides the two `load_` methods."""

    __slots__ = ("_authored", "_private", "line", "public")

    def __init__(self, public: int = 0, line: bytes | None = None) -> None:
        self.public = public
        """How many public messages the room has."""
        self.line = line
        """The room's public line; None where no opening and no message was counted yet."""
        # How many of these an author wrote, for the authors that were asked for.
        self._authored: dict[AgentId, int] = {}
        # How many private messages a reader may see, and how many of those it wrote, for the readers asked for.
        self._private: dict[AgentId, tuple[int, int]] = {}

    def load_authored(self, author: AgentId) -> int:
        """How many public messages this author has in the room so far."""
        return 0

    def load_private(self, reader: AgentId) -> tuple[int, int]:
        """How many private messages this reader may see so far, and how many of these it wrote."""
        return 0, 0

    def load_line(self, room: RoomId) -> bytes:
        """The line that the room begins with, where its opening was not counted here."""
        return line_before(room, None)

    def next_line(self, room: RoomId, envelope: bytes) -> bytes:
        """The room's public line with one message more, whose envelope has this hash."""
        self.line = next_line(self.load_line(room) if self.line is None else self.line, envelope)
        return self.line

    def next_public(self, author: AgentId) -> tuple[int, int]:
        """Count one more public message; the new totals of the room and of the author."""
        authored = self._authored.get(author)
        if authored is None:
            authored = self.load_authored(author)
        self._authored[author] = authored + 1
        self.public += 1
        return self.public, authored + 1

    def next_private(self, reader: AgentId, *, own: bool) -> tuple[int, int]:
        """Count one more private message for this reader; its new totals."""
        number, owned = self._private.get(reader) or self.load_private(reader)
        counted = number + 1, owned + own
        self._private[reader] = counted
        return counted


def line_before(room: RoomId, opening: e.Event | None) -> bytes:
    """The line that a room begins with, by its first fact. A log that nobody opened is of no home."""
    return first_line(room, opening.home if isinstance(opening, e.RoomOpened) else HomeId(""))


# -- how they follow from a fact ---------------------------------------------------------------------------


def _room(rows: list[RoomRow], room: RoomId, header: Header, counts: Counts) -> None:
    event, owner, principal = header.event, "", ""
    if isinstance(event, e.OwnerChanged):
        rows.append(RoomRow(room, header.at, str(event.owner), str(event.principal)))
        return
    if header.position != 1:
        return
    if isinstance(event, e.RoomOpened) and event.kind != "private":
        owner, principal = str(event.owner), str(event.owner_principal)
    rows.append(RoomRow(room, header.at, owner, principal))


def _message(rows: list[MessageRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    assert isinstance(event, e.MessagePosted)
    rows.append(MessageRow(event.id, room, header.position))


def _public(rows: list[PublicRow], room: RoomId, header: Header, counts: Counts) -> None:
    event, author = header.event, header.by.actor
    if isinstance(event, e.RoomOpened):
        counts.line = line_before(room, event)
        return
    if isinstance(event, e.MirrorPlaced):
        counts.line = event.line
        return
    if isinstance(event, e.RoomRewound):
        counts.line = _line_rewound(event, header)
        return
    assert isinstance(event, e.MessagePosted)
    if event.visibility is None:
        number, own = counts.next_public(author)
        line = counts.next_line(room, event.envelope)
        rows.append(PublicRow(room, header.position, number, author, own, event.kind, line))


def _place(rows: list[PlaceRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    if isinstance(event, e.RoomRewound):
        public, line = first_number(event.epoch), _line_rewound(event, header)
    else:
        assert isinstance(event, e.MirrorPlaced)
        public, line = event.public, event.line
    rows.append(PlaceRow(room, header.position, public, counts.public, line))


def _line_rewound(event: e.RoomRewound, header: Header) -> bytes:
    return line_after_rewind(event.line, header.body or b"")


def _private(rows: list[PrivateRow], room: RoomId, header: Header, counts: Counts) -> None:
    event, author, position = header.event, header.by.actor, header.position
    assert isinstance(event, e.MessagePosted)
    for reader in _audience(event, author):
        number, own = counts.next_private(reader, own=reader == author)
        rows.append(PrivateRow(room, reader, position, number, own, counts.public, author, event.kind))


def _filters(rows: list[FilterRow], room: RoomId, header: Header, counts: Counts) -> None:
    event, position = header.event, header.position
    assert isinstance(event, e.MessagePosted)
    names = e.found_under(event)
    for audience in _audience(event, header.by.actor) or ("",):
        rows.append(FilterRow(room, audience, "", event.kind, position))
        for name in names:
            # A reader filters by its own id, by roles and handles, and by a blob, and never by another reader's id.
            if not audience or name == audience or name[0] in "@*=":
                rows.append(FilterRow(room, audience, name, "", position))
                rows.append(FilterRow(room, audience, name, event.kind, position))
    if event.blob:
        rows.append(FilterRow(room, ANYBODY, e.brought(event.blob), "", position))


def _audience(event: e.MessagePosted, author: AgentId) -> list[AgentId]:
    """The ids that may see a message with a `visibility`, sorted; no id for a message that is for everyone."""
    return [] if event.visibility is None else sorted({*event.visibility, author})


def _prior(rows: list[PriorRow], room: RoomId, header: Header, counts: Counts) -> None:
    key, event = header.key, header.event
    if key is not None and not (isinstance(event, e.MessagePosted) and key == drawn_key(event.id)):
        rows.append(PriorRow(room, header.by.actor, header.operation, key, header.position))


def _key(rows: list[KeyRow], room: RoomId, header: Header, counts: Counts) -> None:
    assert isinstance(header.event, e.KeyMinted)
    rows.append(KeyRow(header.event.key, room))


def _deadline(rows: list[DeadlineRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    match event:
        case e.KeyMinted(key=key, expires_at=at):
            rows.append(DeadlineRow(room, f"key:{key}", at))
        case e.KeyRevoked(key=key):
            rows.append(DeadlineRow(room, f"key:{key}", Millis(0)))
        case e.TaskClaimed(task=task, until=until):
            rows.append(DeadlineRow(room, f"task:{task}", until))
        case e.TaskReleased(task=task) | e.TaskLapsed(task=task):
            rows.append(DeadlineRow(room, f"task:{task}", Millis(0)))
        case e.TaskCompleted(task=task):
            rows.append(DeadlineRow(room, f"task:{task}", Millis(0)))
            rows.append(DeadlineRow(room, f"task:{task}:open", Millis(0)))
        case e.MessageGated(id=id, timer=timer) if timer is not None and timer.due:
            rows.append(DeadlineRow(room, f"gated:{id}", timer.due))
        case e.MessageWithdrawn(id=id):
            rows.append(DeadlineRow(room, f"gated:{id}", Millis(0)))
        case e.TimerFired(scope=scope, key=key) if scope == GATED:
            rows.append(DeadlineRow(room, f"gated:{key}", Millis(0)))
        case e.MessagePosted(kind="task", id=id, ttl_ms=ttl_ms) if ttl_ms:
            rows.append(DeadlineRow(room, f"task:{id}:open", Millis(header.at + ttl_ms)))
        case e.MessagePosted(turn="offered", id=id, ttl_ms=ttl_ms):
            rows.append(DeadlineRow(room, f"handoff:{id}", Millis(header.at + ttl_ms)))
        case e.MessagePosted(turn="accepted" | "withdrawn", reply_to=offer):
            rows.append(DeadlineRow(room, f"handoff:{offer}", Millis(0)))
        case _:
            pass


def _state(rows: list[StateRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    assert isinstance(event, e.StateWritten | e.StateDeleted | e.TimerFired)
    if isinstance(event, e.TimerFired) and event.effect != "delete":
        return
    rows.append(StateRow(room, event.scope, event.key, header.position))


def _token(rows: list[TokenRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    assert isinstance(event, e.TokenMinted)
    rows.append(TokenRow(event.token, event.agent, int(event.kind == "aj"), event.expires_at, event.parent))


def _access(rows: list[AccessRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    assert isinstance(event, e.TokenMinted)
    rows.extend(AccessRow(event.token, access) for access in dict.fromkeys(event.access))


def _token_rooms(rows: list[TokenRoomRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    if isinstance(event, e.RoomNamed):
        if event.token:
            rows.append(TokenRoomRow(event.token, event.room, 1))
        return
    assert isinstance(event, e.TokenMinted)
    rows.extend(TokenRoomRow(event.token, each, 0) for each in dict.fromkeys((event.room, *event.rooms)) if each)


def _revoked(rows: list[RevokedRow], room: RoomId, header: Header, counts: Counts) -> None:
    assert isinstance(header.event, e.TokenRevoked)
    rows.append(RevokedRow(header.event.token))


_STATES: Final[Mapping[type[e.Event], str]] = {
    e.MemberJoined: "member",
    e.MemberLeft: "left",
    e.JoinRequested: "pending",
    e.JoinDenied: "denied",
    e.KnockEnded: "left",
}


def _membership(rows: list[MembershipRow], room: RoomId, header: Header, counts: Counts) -> None:
    event = header.event
    if isinstance(event, e.KeyExchanged):
        if event.step == "failed":
            rows.append(MembershipRow(event.agent, room, "left"))
        return
    assert isinstance(event, e.MemberJoined | e.MemberLeft | e.JoinRequested | e.JoinDenied | e.KnockEnded)
    rows.append(MembershipRow(event.agent, room, _STATES[type(event)]))


# -- the indexes -------------------------------------------------------------------------------------------

R = TypeVar("R", bound=tuple[Any, ...])
Conflict = Literal["refuse", "keep", "replace"]
"""What happens to a new row whose key is taken: `refuse` refuses the fact, `keep` keeps the older row, `replace` keeps
the new one."""


@dataclass(frozen=True, eq=False)
class Projection(Generic[R]):
    """One index."""

    table: str
    row: type[R]
    """A named tuple whose fields are the columns of the table, in their order."""
    derive: Callable[[list[R], RoomId, Header, Counts], None]
    """Adds the rows that a header leads to, and moves the counts on."""
    key: tuple[str, ...]
    """The columns that no two rows share."""
    on_conflict: Conflict = "refuse"
    of: tuple[type[e.Event], ...] = ()
    """The types of facts that `derive` is asked about; an empty tuple stands for all types."""
    found_by: tuple[tuple[str, ...], ...] = ()
    """The sets of columns by which rows are looked for together (in SQL: the table's indexes)."""
    by_log: bool = False
    """Whether the table holds the number of the room's log in place of the room's id."""
    since: int = 1
    """The version of the schema that made the table as it is. In an older file the rows of older facts are filled in
    from the projections of that version alone, so they must not build on the counts that an older one moves."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return tuple("log" if self.by_log and name == "room" else name for name in self._fields)

    @property
    def is_placed(self) -> bool:
        """Whether the position of the fact is part of a row's key."""
        return "position" in self.key

    @cached_property
    def key_of(self) -> Callable[[R], tuple[Any, ...]]:
        """A function that takes the key out of a row."""
        return self.picker(self.key)

    def picker(self, columns: tuple[str, ...]) -> Callable[[R], tuple[Any, ...]]:
        """A function that takes the values of some columns out of a row."""
        places = [self._fields.index(column) for column in columns]
        return lambda row: tuple(row[place] for place in places)

    @property
    def _fields(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.row._fields  # type: ignore[attr-defined] # a named tuple has them
        return names


_MESSAGE: Final = (e.MessagePosted,)
ROOMS: Final = Projection("rooms", RoomRow, _room, key=("room",), on_conflict="replace")
MESSAGES: Final = Projection("messages", MessageRow, _message, key=("id",), of=_MESSAGE)
PUBLIC: Final = Projection(
    "public_messages",
    PublicRow,
    _public,
    key=("room", "position"),
    of=(e.RoomOpened, e.MirrorPlaced, e.RoomRewound, *_MESSAGE),
    found_by=(("room",), ("room", "author")),
    since=6,
)
PLACES: Final = Projection(
    "mirror_places",
    PlaceRow,
    _place,
    key=("room", "position"),
    of=(e.MirrorPlaced, e.RoomRewound),
    found_by=(("room",),),
    since=6,
)
PRIVATE: Final = Projection(
    "private_messages",
    PrivateRow,
    _private,
    key=("room", "reader", "position"),
    of=_MESSAGE,
    found_by=(("room", "reader"),),
)
FILTERS: Final = Projection(
    "filtered_messages",
    FilterRow,
    _filters,
    key=("room", "audience", "addressee", "kind", "position"),
    of=_MESSAGE,
    found_by=(("room", "audience", "addressee", "kind"),),
    by_log=True,
    since=3,
)
# One request may lead to several facts; the row of the first stands for the request.
PRIORS: Final = Projection(
    "idempotency", PriorRow, _prior, key=("room", "actor", "operation", "key"), on_conflict="keep"
)
KEYS: Final = Projection("room_keys", KeyRow, _key, key=("key",), of=(e.KeyMinted,))
MEMBERSHIPS: Final = Projection(
    "memberships",
    MembershipRow,
    _membership,
    key=("agent", "room"),
    on_conflict="replace",
    of=(*_STATES, e.KeyExchanged),
)
DEADLINES: Final = Projection(
    "deadlines",
    DeadlineRow,
    _deadline,
    key=("room", "subject"),
    on_conflict="replace",
    of=(
        e.KeyMinted,
        e.KeyRevoked,
        e.MessageGated,
        e.MessageWithdrawn,
        e.TimerFired,
        e.MessagePosted,
        e.TaskClaimed,
        e.TaskReleased,
        e.TaskCompleted,
        e.TaskLapsed,
    ),
    since=4,
)

STATE_WRITES: Final = Projection(
    "state_writes",
    StateRow,
    _state,
    key=("room", "scope", "key", "position"),
    of=(e.StateWritten, e.StateDeleted, e.TimerFired),
    found_by=(("room",), ("room", "scope", "key")),
    by_log=True,
    since=10,
)

TOKENS: Final = Projection("tokens", TokenRow, _token, key=("token",), of=(e.TokenMinted,), since=14)
TOKEN_ACCESS: Final = Projection(
    "token_access", AccessRow, _access, key=("token", "access"), of=(e.TokenMinted,), since=14
)
TOKEN_ROOMS: Final = Projection(
    "token_rooms",
    TokenRoomRow,
    _token_rooms,
    key=("token", "room"),
    on_conflict="keep",
    of=(e.TokenMinted, e.RoomNamed),
    since=14,
)
REVOKED_TOKENS: Final = Projection(
    "revoked_tokens", RevokedRow, _revoked, key=("token",), on_conflict="keep", of=(e.TokenRevoked,), since=14
)

PROJECTIONS: Final[tuple[Projection[Any], ...]] = (
    ROOMS,
    MESSAGES,
    PUBLIC,
    PLACES,
    PRIVATE,
    FILTERS,
    PRIORS,
    KEYS,
    MEMBERSHIPS,
    DEADLINES,
    STATE_WRITES,
    TOKENS,
    TOKEN_ACCESS,
    TOKEN_ROOMS,
    REVOKED_TOKENS,
)
"""Every index, in the order in which rows are derived from a fact. `PLACES` and `PRIVATE` stand after `PUBLIC`, because
their rows hold the count that `PUBLIC` moves on."""


class Rows:
    """The rows that some facts add, for each index, in the order of the facts."""

    __slots__ = ("tables",)

    def __init__(self) -> None:
        self.tables: list[list[Any]] = [[] for _ in PROJECTIONS]
        """The rows of each index, in the order of `PROJECTIONS`."""

    def of(self, projection: Projection[R]) -> list[R]:
        """The rows of one index."""
        rows: list[R] = self.tables[PROJECTIONS.index(projection)]
        return rows


_PLACES: Final = tuple(enumerate(PROJECTIONS))
_OF_ALL: Final = tuple((place, projection.derive) for place, projection in _PLACES if not projection.of)
_OF_TYPE: Final[Mapping[type[e.Event], tuple[tuple[int, Callable[..., None]], ...]]] = {
    event: tuple((place, each.derive) for place, each in _PLACES if not each.of or event in each.of)
    for projection in PROJECTIONS
    for event in projection.of
}


def derive(rows: Rows, room: RoomId, header: Header, counts: Counts) -> None:
    """Add to `rows` the rows of every index that `header` leads to, and move `counts` on."""
    tables = rows.tables
    for place, add in _OF_TYPE.get(type(header.event), _OF_ALL):
        add(tables[place], room, header, counts)


OF_THE_HOME: Final[tuple[Projection[Any], ...]] = (TOKENS, TOKEN_ACCESS, TOKEN_ROOMS, REVOKED_TOKENS)
"""The indexes of facts that stand in the home's own room alone, which is never deleted (`core.naming`)."""


def rows_made_of(room: RoomId, headers: Iterable[bytes]) -> Rows:
    """The rows that stored headers of a room which is deleted once led to, to find them by their keys. The counts in
    them are not right, and no key holds one. What a newer Parler wrote is passed over, because its rows are not known
    here. There are none of the tokens: those are the home's, and no relay may take one away."""
    rows, counts = Rows(), Counts(line=b"")
    for stored in headers:
        try:
            header = e.decode_header(stored)
        except Refused:
            continue
        derive(rows, room, header, counts)
    for place, projection in _PLACES:
        if projection in OF_THE_HOME:
            rows.tables[place].clear()
    return rows


def counted_for(header: Header) -> tuple[AgentId | None, list[AgentId]]:
    """Whose counts a fact moves on: the author of a message for everyone, or else those who may see a private one."""
    event = header.event
    if not isinstance(event, e.MessagePosted):
        return None, []
    if event.visibility is None:
        return header.by.actor, []
    return None, _audience(event, header.by.actor)
