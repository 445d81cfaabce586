"""A room as handlers come to it, wherever it lives, and the other homes that this machine knows.

    handler -> RoomHandle = LocalRoom     the room's own line (`actor`), in this home
                          `- another      made by `Homes` over the mirror of a room that lives elsewhere

What is read is read from this home's log in both cases. What is asked goes to the room's own line, or by way of the
handle to the room's home, whose answer comes back as facts of the mirror. No handler knows the difference: a result
that names the room's home names it as the handle does. Somebody who reads lets the log catch up first (`catch_up`).

Not here: which handle a room gets (`rooms`), how another home is reached (whoever implements `Homes`). Above: `rooms`,
the desk, the handlers. Below: the actor, which is the line of a local room and the log of a mirror. Invariant: `quiet`,
`aggregate`, `recent` and `arm` never wait for another home.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from parlerd.core import commands as c
from parlerd.core.approvals import KeyState, Request
from parlerd.core.envelope import Envelope
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, BlobId, By, HomeId, KeyId, MessageId, Millis, RequestId, RoomId, Seq
from parlerd.core.room import Room
from parlerd.core.statements import Grant, Opening
from parlerd.engine.actor import RoomActor
from parlerd.engine.armed import Armed
from parlerd.engine.authors import Attested, Words
from parlerd.engine.recent import Recent
from parlerd.engine.submissions import Settled, Submission
from parlerd.identity.codes import TypedKey
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage

LOCAL: Final = "local"
"""The name of this machine's home, which no other home gets."""


class SpentKey(NamedTuple):
    """A key of a sealed room with which wrong ones were tried too often: it is dead, or no agent of one person comes in
    with it any more."""

    key: KeyState
    person: str = ""
    """What an agent of that person calls itself; empty where the key is dead."""


class Question(NamedTuple):
    """An operation that the home of a room answers, whole: its name, its parameters, and who asks."""

    name: str
    params: t.Params
    by: By


class Shelf(Protocol):
    """Where the files are that the messages of a room bring: with the room's home. Each method raises `Refused` where
    that home does not answer: nothing of this waits."""

    @property
    def piece(self) -> int:
        """How many bytes go at once, at most."""
        ...

    async def name(self, digest: Callable[[], Awaitable[BlobId]]) -> BlobId:
        """What an upload is called while it lasts: its digest, which `digest` finds, where a home must know that
        before."""
        ...

    async def begin(self, agent: AgentId, blob: BlobId, size: int) -> int:
        """Begin an upload, or go on with it: how many of its bytes are there. Raises `Refused`: `blob_too_large`."""
        ...

    async def write(self, agent: AgentId, blob: BlobId, at: int, data: bytes) -> int:
        """Bring the next bytes; how many are there then. Raises `Refused`: `upload_unfinished` with the `offset` to go
        on from, `blob_too_large`, `too_many_blobs`, `throttled`."""
        ...

    async def settle(self, agent: AgentId, blob: BlobId, size: int) -> BlobId:
        """Say that all are there; which blob they are. Raises `Refused`: `upload_unfinished`, `blob_mismatch`."""
        ...

    async def give_up(self, agent: AgentId, blob: BlobId) -> None:
        """Nobody goes on with this upload now. A home to which it can go on later keeps what it has."""
        ...

    async def require(self, agent: AgentId, blob: BlobId, *, may_read: bool) -> None:
        """Raise `Refused(upload_unfinished)` unless the agent may post a message that brings the blob: it finished the
        upload, or may read the blob. A home elsewhere finds that out when the message comes."""
        ...

    async def read(self, agent: AgentId, blob: BlobId, at: int, length: int) -> bytes:
        """Some bytes of a blob, for an agent that may see a message which brings it. Raises
        `Refused(no_such_blob)`."""
        ...


class RoomHandle(Protocol):
    """One room, for whoever answers a caller. What holds a handle over a long wait asks for the room again: a room that
    nobody uses is closed."""

    @property
    def room(self) -> RoomId:
        """The room's id."""
        ...

    @property
    def aggregate(self) -> Room:
        """The room in memory, which may be ahead of the store: a read takes what `quiet` returns."""
        ...

    @property
    def home_name(self) -> str:
        """The name of the home that the room lives in: `local`, or a relay's."""
        ...

    @property
    def shelf(self) -> Shelf:
        """Where the files of this room are."""
        ...

    @property
    def recent(self) -> Recent | None:
        """What memory knows of the newest facts; None while memory is ahead of the store."""
        ...

    async def submit(self, command: c.Command, by: By, words: Words | None = None) -> Settled:
        """Run a command; returns once it is durable where the room lives and this home's log of the room holds what
        came of it, or (`Settled.queued`) once a message is durable here that goes out when the room's home answers. The
        knock of a member asks for nothing, and is answered also while the room's home is silent. For a message that the
        same request led to before, `Settled.facts` may hold that message, and `seq` its number then. Raises
        `ParlerError`; of a room that lives elsewhere also `home_unreachable`."""
        ...

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        """Give a command its place in the room's line. What one agent asks keeps the order of calls; a room of this
        home keeps the order of all. Nothing happens until somebody asks a submission for its outcome. Raises
        `Refused`."""
        ...

    def told_key(self, key: str) -> str:
        """An idempotency key as the room's home is told it, which may learn nothing from the key of a sealed room."""
        ...

    async def told(self, composed: Envelope, author: AgentId) -> Envelope:
        """What an agent of this home signs of a message that it composed for this room: the message, and in a sealed
        room its words encrypted for the members as they are now. Raises `Refused`: `not_sealed_in`, and what sealing
        raises for words."""
        ...

    async def quiet(self) -> Room:
        """The room when nothing of it is ahead of the store: what a read may show. Raises `StoreError`."""
        ...

    async def catch_up(self) -> bool:
        """Let this home's log of the room come up to where the room is, for somebody who is about to read; whether that
        took a wait, in which the room may have changed. Waits only while a link to the room's home is being made, and a
        few seconds at most: never for a room of this home, nor for a home that was just found out of reach."""
        ...

    def begin_to_catch_up(self) -> None:
        """Begin what `catch_up` waits for, for a look that answers at once."""
        ...

    def silent_since(self) -> Millis | None:
        """When the room's home was last heard from, where this home's log of the room may lack what is new there; 0
        where nothing was heard since this daemon started. None for a log that lacks nothing."""
        ...

    def arm(self, armed: Armed) -> AbstractContextManager[None]:
        """Let the next commit write the delivery range of a reader that is about to wait."""
        ...

    async def check_code(self, request: Request, code: str, door: str) -> None:
        """Raise `Refused(code_mismatch)` for a code that is not the one of this request, and `throttled` after a few of
        them at the same door (see `join_codes.DOORS`)."""
        ...

    def join_code(self, request: RequestId) -> str | None:
        """The code of a request that an agent of this home made; None where the room's home made the code and this home
        was not told."""
        ...

    async def message_key(self, body: bytes, author: AgentId) -> bytes | None:
        """What opens one sealed message of the room, whose author signed these bytes, and no other message; None in a
        room that is not sealed, and where this home has the key no more."""
        ...

    def host_of(self, request: Request) -> str:
        """On which agent host somebody is who knocks, as it says: at a sealed room, as the owner's home alone was
        told."""
        ...

    def standing(self, request: Request) -> str:
        """How the key exchange stands of an agent of this home that knocks at a sealed room: `unanswered` while the
        owner's home has not confirmed that the agent has the key, `failed` where the exchange ended; empty otherwise,
        and at every other room."""
        ...

    def spent_keys(self) -> Sequence[SpentKey]:
        """The keys of a sealed room of this home's person with which wrong ones were tried too often. After `quiet`."""
        ...

    def owner_heard(self, agent: AgentId) -> Millis:
        """When the owner's person was last heard of, as the home of a sealed room told this agent, which knocked there;
        0 where that is not known."""
        ...

    async def ladders(self, agent: AgentId, message: MessageId) -> t.LaddersAtRoom:
        """How far a message got with readers of other homes, as far as this agent may know it, and what becomes of one
        of its own: what the room's home tells. Nothing of a room that lives here. Raises `Refused`: what that home
        refuses, `offline` or `home_unreachable` where it does not answer, and `relay_older` for a message of this agent
        that an older one has and tells nothing of."""
        ...

    def tell_sights(self, words: Sequence[t.SightAtRoom]) -> None:
        """Tell the room's home what agent hosts' records say of messages that agents of this home were given. That
        happens in a while, and while the daemon runs; a room that lives here needs not be told."""
        ...

    async def earlier(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        """This reader's messages after its own number `after`, for a place where this home's log leaves some out: what
        the room's home tells, checked and not stored, at most `limit`. A room that lives here leaves nothing out, and
        tells nothing. Raises `Refused`: `home_unreachable` at once where no link to the room's home is up."""
        ...

    async def ask(self, question: Question, here: Callable[[RoomHandle], Awaitable[t.Result]]) -> t.Result:
        """What the room's home answers: `here` says it of a room of this home. Raises `Refused`: what that home
        refuses, or `offline` or `home_unreachable` where it does not answer; nothing of this waits for a link."""
        ...

    async def rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        """Let the room go on from where it stands at its home, which lost a part of it, as `by`'s person, whose agent
        opened the room; unless `confirmed`, only say what would be lost. Raises `Refused`: `room_is_here` for a room of
        this home, and `rewind_refused` where what the home holds is no beginning of what is here."""
        ...

    async def grant(self, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        """Let the room's home speak for an agent that has no key, as `by`'s person, whose agent owns the room, signed;
        and keep the `token` with which it acts. Raises `Refused`: `room_is_here` for a room of this home, whose agents
        all have keys."""
        ...

    async def grant_many(self, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        """Let the room's home speak for as many such agents as the grant counts, which come in with the `token`. Raises
        as `grant` does."""
        ...

    async def ungrant(self, by: By, agent: AgentId) -> None:
        """Have the room's home speak no more for an agent of `by`'s person, whose token ends there too. Raises
        `Refused`: `room_is_here`, `home_unreachable`."""
        ...

    async def delete(self, by: By) -> None:
        """Have the room deleted in its home, as `by`'s person, whose agent owns it. A room of this home is its own log,
        and is deleted with that. Raises `Refused`: `home_unreachable` where that home does not answer."""
        ...

    def presence(self, agent: AgentId) -> Present | None:
        """How present an agent of another home is, as the room's home last told; None where nothing was told, and for
        the agents of this home, of whom this home knows better."""
        ...


class Earlier(NamedTuple):
    """Messages that a log here leaves out, each with the reader's own number. All up to and at number `upto` were told;
    of those that are not in `messages` nothing can be shown: their words were erased, or nothing proves whose they
    are."""

    messages: tuple[StoredMessage, ...]
    upto: Seq


class Present(NamedTuple):
    """How present an agent is, in one word, since when, and what it states."""

    presence: str
    since: Millis
    stated: t.StatedStatus | None = None


class Undelivered(NamedTuple):
    """A message that its author was told is queued, and that the room's home refused for good with this code."""

    id: MessageId
    room: RoomId
    code: str


class Queued(NamedTuple):
    """A message that waits on this machine to leave for its room's home."""

    room: RoomId
    agent: AgentId
    """Its author."""
    home: str
    """The name of the home that it is for."""
    at: Millis
    """When its author asked."""
    code: str
    """The code with which that home refused it for good; empty while it waits."""


class Homes(Protocol):
    """The other homes that the person added. None but these is ever asked anything. Source: security spec D12."""

    @property
    def default(self) -> HomeId | None:
        """Where a session opens whose opener names no home; None for this machine."""
        ...

    def named(self, name: str) -> HomeId:
        """The home of this name. Raises `Refused(home_not_trusted)`."""
        ...

    def name_of(self, home: HomeId) -> str:
        """What people call this home. One that is not added any more has a name too."""
        ...

    def join_line(self, home: HomeId) -> str | None:
        """The command that adds this home on another machine; None where nobody needs one."""
        ...

    def ahead_ms(self, home: HomeId) -> int:
        """How many milliseconds the clock of this home is ahead of ours, as far as it was ever asked."""
        ...

    async def meet(self, home: HomeId) -> None:
        """See to it that this home can be asked now. Raises `Refused` as `find` does, `offline` first of all."""
        ...

    async def find(self, home: HomeId, typed: TypedKey) -> tuple[KeyId, RoomId]:
        """What a key opens at another home. The room's mirror is there afterwards, with the key in it, so that an agent
        can knock. Raises `Refused`: `unknown_key`, `wrong_room` where the home tells a room to which the key is not
        bound, or one that is sealed for a key that is none of such a room, or the other way round (nothing of that
        room is kept), or `offline` or `home_unreachable` where the home does not answer."""
        ...

    async def find_direct(self, home: HomeId, room: RoomId, agent: AgentId) -> Opening:
        """How a direct room at another home was opened that names an agent of this home in the terms of its key. The
        room's mirror is there afterwards, with the key in it, so that the agent can knock. Raises as `find` does, but
        `relay_equivocation` for any other room in the place of `wrong_room`."""
        ...

    def bring_in_later(self, home: HomeId, room: RoomId, agent: AgentId) -> None:
        """Let an agent of this home come into a direct room of another home that could not take its knock now: as soon
        as that home can, over the link that there is or the next one."""
        ...

    def all(self) -> Sequence[HomeId]:
        """Every home that was added."""
        ...

    async def publish(self, home: HomeId, agent: AgentId, card: bytes, signature: bytes) -> t.CardKept:
        """Put the card of an agent of this home into another home's directory. Raises `Refused`: what that home
        refuses, or `offline` or `home_unreachable`."""
        ...

    def owe_card(self, home: HomeId, agent: AgentId, code: str) -> None:
        """Keep, durably, that the card of an agent has to be put into another home's directory once that home answers;
        or with a `code`, that the home refused it with that."""
        ...

    def card_sent(self, home: HomeId, agent: AgentId) -> None:
        """Keep that another home has the card of an agent as it is."""
        ...

    def owed_cards(self, home: HomeId) -> Mapping[AgentId, str]:
        """The agents whose card another home does not have as it is: with the code with which it refused the card, or
        with nothing where it did not answer."""
        ...

    async def discover(self, home: HomeId, wanted: t.FindCards) -> t.CardPage:
        """What the directory of another home shows to an agent of this one. Waits a few seconds at most. Raises as
        `publish` does."""
        ...

    def undelivered(self, agent: AgentId) -> Sequence[Undelivered]:
        """Queued messages of this agent that will never be in their rooms, the oldest first."""
        ...

    def queued(self, message: MessageId) -> Queued | None:
        """The message of this id, if it waits here or was refused after it waited."""
        ...

    def handle(self, actor: RoomActor[Room], home: HomeId) -> RoomHandle:
        """The handle of a room that lives in `home`; `actor` keeps its mirror, which is empty for a room that is about
        to be opened or found there. Called once for each time that the mirror is opened."""
        ...


class MirrorRoom:
    """What a handle over a mirror reads, and what waits for it. Never asks the room's home."""

    def __init__(self, actor: RoomActor[Room], home_name: str) -> None:
        self.actor = actor
        """Keeps the mirror: facts arrive by it, and it is the line of nothing else."""
        self.home_name = home_name

    @property
    def room(self) -> RoomId:
        return self.actor.room

    @property
    def aggregate(self) -> Room:
        return self.actor.aggregate

    @property
    def recent(self) -> Recent | None:
        return self.actor.recent

    def told_key(self, key: str) -> str:
        return key

    async def told(self, composed: Envelope, author: AgentId) -> Envelope:
        return composed

    async def quiet(self) -> Room:
        return await self.actor.quiet()

    def arm(self, armed: Armed) -> AbstractContextManager[None]:
        return self.actor.arm(armed)

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


def taken_out(name: str) -> Refused:
    """What is asked of a session whose relay, called `name`, the person took out."""
    said = f"This session lives on {name}, which was taken out of this machine."
    hint = "To add the relay again: parler connect --relay LINE, with the line that whoever runs it has."
    return Refused("home_not_trusted", said, hint=hint, host=name)


class ForsakenShelf:
    """The files of a room whose home is asked nothing: none of them is here."""

    def __init__(self, home_name: str) -> None:
        self._home_name = home_name

    @property
    def piece(self) -> int:
        return 1

    async def name(self, digest: Callable[[], Awaitable[BlobId]]) -> BlobId:
        raise taken_out(self._home_name)

    async def begin(self, agent: AgentId, blob: BlobId, size: int) -> int:
        raise taken_out(self._home_name)

    async def write(self, agent: AgentId, blob: BlobId, at: int, data: bytes) -> int:
        raise taken_out(self._home_name)

    async def settle(self, agent: AgentId, blob: BlobId, size: int) -> BlobId:
        raise taken_out(self._home_name)

    async def give_up(self, agent: AgentId, blob: BlobId) -> None:
        raise taken_out(self._home_name)

    async def require(self, agent: AgentId, blob: BlobId, *, may_read: bool) -> None:
        raise taken_out(self._home_name)

    async def read(self, agent: AgentId, blob: BlobId, at: int, length: int) -> bytes:
        raise taken_out(self._home_name)


class ForsakenRoom(MirrorRoom):
    """A room whose home is not among those added, or was removed: it can be read as far as it is here."""

    @property
    def shelf(self) -> Shelf:
        return ForsakenShelf(self.home_name)

    async def submit(self, command: c.Command, by: By, words: Words | None = None) -> Settled:
        raise self._refused()

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        raise self._refused()

    async def check_code(self, request: Request, code: str, door: str) -> None:
        raise self._refused()

    def join_code(self, request: RequestId) -> str | None:
        return None

    async def catch_up(self) -> bool:
        return False

    def begin_to_catch_up(self) -> None:
        """Its home is asked nothing."""

    async def earlier(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        raise self._refused()

    async def ask(self, question: Question, here: Callable[[RoomHandle], Awaitable[t.Result]]) -> t.Result:
        raise self._refused()

    async def rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        raise self._refused()

    async def grant(self, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        raise self._refused()

    async def grant_many(self, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        raise self._refused()

    async def ungrant(self, by: By, agent: AgentId) -> None:
        raise self._refused()

    async def delete(self, by: By) -> None:
        raise self._refused()

    def silent_since(self) -> Millis | None:
        return Millis(0)

    def _refused(self) -> Refused:
        return taken_out(self.home_name)


class NoHomes:
    """For an engine that knows no home but its own."""

    default: HomeId | None = None

    def named(self, name: str) -> HomeId:
        raise Refused("home_not_trusted", host=name[:64])

    def name_of(self, home: HomeId) -> str:
        return str(home)

    def join_line(self, home: HomeId) -> str | None:
        return None

    def ahead_ms(self, home: HomeId) -> int:
        return 0

    async def meet(self, home: HomeId) -> None:
        raise Refused("home_not_trusted", host=self.name_of(home))

    async def find(self, home: HomeId, typed: TypedKey) -> tuple[KeyId, RoomId]:
        raise Refused("home_not_trusted", host=self.name_of(home))

    async def find_direct(self, home: HomeId, room: RoomId, agent: AgentId) -> Opening:
        raise Refused("home_not_trusted", host=self.name_of(home))

    def bring_in_later(self, home: HomeId, room: RoomId, agent: AgentId) -> None:
        pass

    def all(self) -> Sequence[HomeId]:
        return ()

    async def publish(self, home: HomeId, agent: AgentId, card: bytes, signature: bytes) -> t.CardKept:
        raise Refused("home_not_trusted", host=self.name_of(home))

    def owe_card(self, home: HomeId, agent: AgentId, code: str) -> None:
        pass

    def card_sent(self, home: HomeId, agent: AgentId) -> None:
        pass

    def owed_cards(self, home: HomeId) -> Mapping[AgentId, str]:
        return {}

    async def discover(self, home: HomeId, wanted: t.FindCards) -> t.CardPage:
        raise Refused("home_not_trusted", host=self.name_of(home))

    def undelivered(self, agent: AgentId) -> Sequence[Undelivered]:
        return ()

    def queued(self, message: MessageId) -> Queued | None:
        return None

    def handle(self, actor: RoomActor[Room], home: HomeId) -> RoomHandle:
        return ForsakenRoom(actor, self.name_of(home))
