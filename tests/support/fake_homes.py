"""Another home beside the one under test: it has rooms of its own, decides what is asked of them, and may be silent.

Its rooms are real rooms over a store of its own. What it decides comes into the mirror here a moment later, as a link
would bring it. Verified by `tests/contract/test_room_handle.py`, which asks the same of a room that lives here.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, cast

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import Request
from parlerd.core.decision import Decision
from parlerd.core.envelope import TextPart
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import (
    AgentId,
    BlobId,
    By,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
    Seq,
)
from parlerd.core.room import Room
from parlerd.core.statements import (
    NONCE,
    AgentCard,
    Grant,
    KeyTerms,
    Opening,
    Title,
    check,
    decode_opened,
    encode,
    room_id_of,
    title_digest,
)
from parlerd.engine.actor import ActorParts, RoomActor
from parlerd.engine.authors import Admission, Arrived, Attested, LocalAuthor, Words
from parlerd.engine.driver import InlineDriver
from parlerd.engine.handles import Earlier, MirrorRoom, Question, Queued, RoomHandle, Undelivered
from parlerd.engine.join_codes import JoinCodes
from parlerd.engine.rooms import LocalRoom, RoomDoor, fold
from parlerd.engine.submissions import Settled, Submission
from parlerd.identity import codes
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import NewFact
from tests.support.engine import CountedKeys, CountedRandomness, HandClock, Served, World, draft
from tests.support.memory_blobs import MemoryBlobs

FAR: Final = "team-abc123"
AWAY_S: Final = 0.2
"""Seconds of virtual time that a question and its answer take together."""
PATIENCE_S: Final = 5.0
"""How long a question waits for a home that is silent."""
JOIN_LINE: Final = "parler connect --relay wss://192.0.2.7:7777/#abc123"

Mood = Literal["answers", "queues", "silent"]
"""What this home finds: the other answers; it is known to be away, so messages wait here; it takes what it is asked and
says nothing."""


class FakeHomes:
    """The one other home that is known. `keys`, `random` and `clock` are those of the home under test."""

    def __init__(self, keys: CountedKeys, random: CountedRandomness, clock: HandClock) -> None:
        self.mood: Mood = "answers"
        self.asked: list[str] = []
        """What was asked of it, by the names of commands and methods, also what it did not answer."""
        self.default: HomeId | None = None
        self.refused: list[tuple[AgentId, Undelivered]] = []
        """Queued messages that it refused for good."""
        self.waiting: dict[MessageId, Queued] = {}
        """What waits here to leave for it."""
        self.keys, self.random, self.clock = keys, random, clock
        self.person = _key("principal", "far person")
        self.owner = _key("agent", "far owner")
        self.home = HomeId(_key("relay", "far home").id)
        self.codes = JoinCodes(keys)
        self.cards: dict[AgentId, AgentCard] = {}
        self.owed: dict[AgentId, str] = {}
        self.signed: dict[AgentId, tuple[bytes, bytes]] = {}
        """The cards in its directory, and as they were signed: a test may put others there."""
        self.rooms: RoomDoor
        """The rooms of the engine under test: set it once the engine is there."""
        self.store = MemoryStore()
        self.shelf = FakeShelf(self)
        self._actors: dict[RoomId, LocalRoom] = {}

    # -- what the engine asks ----------------------------------------------------------------------------------

    def named(self, name: str) -> HomeId:
        if name != FAR:
            raise Refused("home_not_trusted", host=name[:64])
        return self.home

    def name_of(self, home: HomeId) -> str:
        return FAR if home == self.home else str(home)

    def join_line(self, home: HomeId) -> str | None:
        return JOIN_LINE

    def ahead_ms(self, home: HomeId) -> int:
        return 0

    async def meet(self, home: HomeId) -> None:
        await self.reach("meet")

    async def find(self, home: HomeId, typed: codes.TypedKey) -> tuple[KeyId, RoomId]:
        await self.reach("find")
        key = self.keys.key_id(typed.key)
        room = self.store.room_of_key(key)
        if room is None:
            raise Refused("unknown_key")
        if self.keys.binding(room, typed.key) != typed.binding:
            raise Refused("wrong_room")
        await self.bring(room)
        return key, room

    async def find_direct(self, home: HomeId, room: RoomId, agent: AgentId) -> Opening:
        await self.reach("find_direct")
        opened = self.store.body(room, Position(1))
        if opened is None:
            raise Refused("unknown_key")
        await self.bring(room)
        return check(decode_opened(opened[0])[0], Opening)

    def bring_in_later(self, home: HomeId, room: RoomId, agent: AgentId) -> None:
        self.asked.append("bring_in_later")

    def all(self) -> Sequence[HomeId]:
        return [self.home]

    async def publish(self, home: HomeId, agent: AgentId, card: bytes, signature: bytes) -> t.CardKept:
        await self.reach("publish")
        statement = check(card, AgentCard)
        known = self.cards.get(agent)
        if known is not None and known.revision >= statement.revision:
            return t.CardKept(status="stale", revision=known.revision)
        self.cards[agent] = statement
        self.signed[agent] = card, signature
        return t.CardKept(status="published", revision=statement.revision)

    def owe_card(self, home: HomeId, agent: AgentId, code: str) -> None:
        self.owed[agent] = code

    def card_sent(self, home: HomeId, agent: AgentId) -> None:
        self.owed.pop(agent, None)

    def owed_cards(self, home: HomeId) -> Mapping[AgentId, str]:
        return self.owed

    async def discover(self, home: HomeId, wanted: t.FindCards) -> t.CardPage:
        await self.reach("discover")
        entries = [
            t.CardEntry(card=card, signature=signature, presence="idle", since=1)
            for card, signature in self.signed.values()
        ]
        return t.CardPage(cards=entries)

    def undelivered(self, agent: AgentId) -> Sequence[Undelivered]:
        return [message for author, message in self.refused if author == agent]

    def queued(self, message: MessageId) -> Queued | None:
        return self.waiting.get(message)

    def handle(self, actor: RoomActor[Room], home: HomeId) -> RoomHandle:
        return FakeRoom(actor, self)

    async def reach(self, what: str) -> None:
        """A question on its way there and back. Raises `Refused(home_unreachable)`."""
        self.asked.append(what)
        if self.mood == "answers":
            await trio.sleep(AWAY_S)
            return
        if self.mood == "silent":
            await trio.sleep(PATIENCE_S)
        raise Refused("home_unreachable")

    async def bring(self, room: RoomId) -> None:
        """What was accepted there since the last time comes into the mirror here."""
        handle = await self.rooms.create(room, self.home)
        assert isinstance(handle, FakeRoom)
        await handle.bring()

    def handed_on(self, room: RoomId, session_key: str) -> str:
        """A key of this home as its owner hands it on."""
        return codes.write_key(session_key, self.keys.binding(room, session_key), FAR)

    # -- what happens there ------------------------------------------------------------------------------------

    def actor(self, room: RoomId) -> LocalRoom:
        """The room itself, over there."""
        if room not in self._actors:
            author = LocalAuthor(_Signers(self.keys, self.owner, self.person), self.random)
            parts = ActorParts(
                driver=InlineDriver(self.store),
                clock=self.clock,
                random=self.random,
                author=author,
                admission=Admission(),
                publish=lambda _, facts: None,
                holds=lambda token: True,
            )
            self._actors[room] = LocalRoom(
                room,
                Room(),
                parts,
                lambda store: fold(store, room, Room, Room.restore),
                self.codes,
                self.shelf,
                frozen=False,
            )
        return self._actors[room]

    @property
    def by(self) -> By:
        """The stamp on what the one who lives there does: an agent whose person is there too."""
        return By(AgentId(self.owner.id), PrincipalId(self.person.id), "", "codex", "mcp")

    async def open(self, name: str = "far-work") -> tuple[RoomId, str]:
        """The one who lives there opens a session: its room and its key."""
        title = Title(salt=self.random.bytes(NONCE), name=name, topic=name)
        opening = Opening(
            home=self.home,
            kind="session",
            history="full",
            owner=self.by.actor,
            principal=self.by.principal,
            handle="olive",
            host="codex",
            approval=True,
            approver="person",
            title=title_digest(encode(title)),
            nonce=self.random.bytes(NONCE),
        )
        room = room_id_of(encode(opening))
        session_key = self.keys.session_key(room, codes.GATED_LENGTH)
        terms = KeyTerms(
            home=self.home,
            room=room,
            ref=self.random.new("k"),
            gated=True,
            expires_at=Millis(self.clock.ms + 86_400_000),
            max_uses=50,
            preapproved=(),
            nonce=b"",
        )
        command = c.OpenRoom(
            operation="session.open",
            room=room,
            opening=opening,
            title=title,
            mint=self.keys.key_id(session_key),
            terms=terms,
            recap=True,
        )
        await self.actor(room).submit(command, self.by, draft(TextPart("Chose PKCE.")))
        return room, session_key

    async def approve(self, room: RoomId, who: str) -> None:
        """The person there lets an agent in, and this home hears of it."""
        actor = self.actor(room)
        request = next(each for each in actor.aggregate.pending() if who in (each.agent, each.name))
        await actor.submit(
            c.DecideRequest(request=request.id, admit=True, proof="cli", principal=self.by.principal), self.by
        )
        await self.bring(room)

    async def say(self, room: RoomId, text: str) -> None:
        """The one who lives there says something, and this home hears of it."""
        command = c.PostMessage(kind="text", id=MessageId(self.random.new("m")))
        await self.actor(room).submit(command, self.by, draft(TextPart(text)))
        await self.bring(room)


class FakeShelf:
    """The files of all rooms there."""

    def __init__(self, homes: FakeHomes) -> None:
        self._homes = homes
        self._blobs = MemoryBlobs()

    @property
    def piece(self) -> int:
        return t.MAX_PIECE

    async def name(self, digest: Callable[[], Awaitable[BlobId]]) -> BlobId:
        return await digest()

    async def begin(self, agent: AgentId, blob: BlobId, size: int) -> int:
        await self._homes.reach("blob_begin")
        return self._blobs.begin(agent, blob, size)

    async def write(self, agent: AgentId, blob: BlobId, at: int, data: bytes) -> int:
        await self._homes.reach("blob_write")
        return self._blobs.write(agent, blob, at, data, self._homes.clock.now())

    async def settle(self, agent: AgentId, blob: BlobId, size: int) -> BlobId:
        await self._homes.reach("blob_finish")
        self._blobs.finish(agent, blob, size, self._homes.clock.now())
        return blob

    async def give_up(self, agent: AgentId, blob: BlobId) -> None:
        """The home keeps it for a day."""

    async def require(self, agent: AgentId, blob: BlobId, *, may_read: bool) -> None:
        await self._homes.reach("blob_require")
        if not (may_read or self._blobs.holds(agent, blob)):
            raise Refused("upload_unfinished", offset=0)

    async def read(self, agent: AgentId, blob: BlobId, at: int, length: int) -> bytes:
        await self._homes.reach("blob_read")
        return self._blobs.read(blob, at, length)


class FakeRoom(MirrorRoom):
    """The handle of a room there: what is asked goes there one after the other."""

    def __init__(self, actor: RoomActor[Room], homes: FakeHomes) -> None:
        super().__init__(actor, FAR)
        self._homes = homes
        self.shelf = homes.shelf
        self._waiting: list[Submission] = []
        self._queued: dict[str, MessageId] = {}
        self._came: list[e.Header] = []
        """The facts of the mirror, in order."""
        self._busy = False

    async def submit(self, command: c.Command, by: By, words: Words | None = None) -> Settled:
        return await self.place(command, by, words).result()

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        submission = Submission(self, command, by, words)
        self._waiting.append(submission)
        return submission

    async def catch_up(self) -> bool:
        return False

    async def earlier(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        await self._homes.reach("earlier")
        store, view = self._homes.store, self._homes.actor(self.room).aggregate.view(agent)
        begins = store.position_of(self.room, view, after)
        page = store.page(self.room, view, begins, limit=limit, max_bytes=1_000_000, skip_own=False)
        return Earlier(tuple(page.messages), page.end_seq)

    async def ask(self, question: Question, here: Callable[[RoomHandle], Awaitable[t.Result]]) -> t.Result:
        await self._homes.reach(question.name)
        return await self._homes.actor(self.room).ask(question, here)

    async def delete(self, by: By) -> None:
        await self._homes.reach("delete")

    async def grant(self, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        await self._homes.reach("grant")
        raise Refused("unknown_operation")

    async def grant_many(self, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        await self._homes.reach("grant_many")
        raise Refused("unknown_operation")

    async def ungrant(self, by: By, agent: AgentId) -> None:
        await self._homes.reach("ungrant")
        raise Refused("unknown_operation")

    async def rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        await self._homes.reach("rewind")
        raise Refused("rewind_refused")

    def begin_to_catch_up(self) -> None:
        """Nothing comes by itself: `bring` brings the mirror up to date."""

    def silent_since(self) -> Millis | None:
        return None

    async def check_code(self, request: Request, code: str, door: str) -> None:
        await self._homes.reach("check_code")
        await self._homes.codes.check(request.id, code, door=door)

    def join_code(self, request: RequestId) -> str | None:
        return self._homes.keys.join_code(request)

    # -- the line ----------------------------------------------------------------------------------------------

    def move(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            trio.lowlevel.spawn_system_task(self._carry)

    def withdraw(self, submission: Submission) -> None:
        if submission in self._waiting:
            self._waiting.remove(submission)

    async def _carry(self) -> None:
        while self._waiting:
            submission = self._waiting.pop(0)
            try:
                submission.settled = await self._ask(submission)
            except ParlerError as error:
                submission.error = error
            submission.finish()
        self._busy = False

    async def _ask(self, submission: Submission) -> Settled:
        command, homes = submission.command, self._homes
        if isinstance(command, c.PostMessage) and homes.mood == "queues":
            homes.asked.append("queue")
            return self._queue(submission, command)
        if isinstance(command, c.Knock) and self._is_in(submission.by.actor, command.key_id):
            return Settled(Decision(answer="member"))
        await homes.reach(type(command).__name__)
        settled = await homes.actor(self.room).submit(command, submission.by, submission.words)
        await self.bring()
        there = [fact.position for fact in settled.facts]
        if settled.decision.replay is not None and isinstance(command, c.PostMessage):
            there = [settled.decision.replay]
        facts = tuple(self._came[_index(position)] for position in there)
        if isinstance(command, c.PostMessage):
            seq = homes.store.seq_at(self.room, self.aggregate.view(submission.by.actor), there[0])
            return Settled(settled.decision, facts, seq)
        return Settled(settled.decision, facts)

    def _is_in(self, agent: AgentId, key: KeyId) -> bool:
        """Whether the mirror knows that this agent is in: its knock needs no answer of the room's home."""
        member = self.aggregate.state.members.get(agent)
        return member is not None and member.present and key in self.aggregate.state.keys

    def _queue(self, submission: Submission, command: c.PostMessage) -> Settled:
        assert command.id is not None
        assert command.idempotency_key is not None
        known = self._queued.get(command.idempotency_key)
        if known is None:
            self._queued[command.idempotency_key] = command.id
            self._homes.waiting[command.id] = Queued(
                self.room, submission.by.actor, FAR, self._homes.clock.now(), code=""
            )
            return Settled(Decision(), queued=True)
        submission.command = c.PostMessage(kind=command.kind, id=known, idempotency_key=command.idempotency_key)
        return Settled(Decision(replay=Position(0)), queued=True)

    # -- the mirror --------------------------------------------------------------------------------------------

    async def bring(self) -> None:
        """Facts of the room over there that are not in the mirror yet, each as it came."""
        done = len(self._came) - 1 if self._came else 0
        for fact in self._homes.store.whole_facts(self.room, Position(done), 1_000):
            events, bodies = _as_told(fact)
            settled = await self.actor.submit(
                c.Arrive(events=events, at=fact.header.at), fact.header.by, Arrived(bodies)
            )
            self._came += settled.facts


def _index(position: Position) -> int:
    """Which fact of the mirror a fact over there became: the mirror has one more after the first."""
    return 0 if position == 1 else position


def _as_told(fact: NewFact) -> tuple[tuple[e.RoomEvent, ...], tuple[tuple[bytes, bytes] | None, ...]]:
    """A fact as it comes into a mirror. The mirror begins with the room."""
    event = cast(e.RoomEvent, fact.header.event)
    body = None if fact.body is None else (fact.body, fact.signature or b"")
    if isinstance(event, e.RoomOpened):
        return (event, e.MirrorPlaced(public=0, line=bytes(32))), (body, None)
    return (event,), (body,)


def _key(kind: Literal["agent", "principal", "relay"], name: str) -> SigningKey:
    return SigningKey(kind, hashlib.sha256(name.encode()).digest())


class _Signers:
    """Who signs in the rooms there: those who live there, and the agents and the person of the home under test."""

    def __init__(self, keys: CountedKeys, *others: SigningKey) -> None:
        self._keys = keys
        self._others = {key.id: key for key in others}

    @property
    def principal(self) -> PrincipalId:
        return self._keys.principal

    def create_agent(self) -> AgentId:
        raise AssertionError("agents are made at home")

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        other = self._others.get(id)
        return self._keys.sign(id, domain, data) if other is None else other.sign(domain, data)


@asynccontextmanager
async def beside() -> AsyncIterator[tuple[Served, FakeHomes]]:
    """A home under test with the other one beside it."""
    world = World()
    world.homes = homes = FakeHomes(world.keys, world.random, world.clock)
    async with world.serving() as served:
        homes.rooms = served.engine.rooms
        yield served, homes
