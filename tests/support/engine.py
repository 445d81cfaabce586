"""An engine under test: named people and agents, counted randomness, keys in memory, a clock moved by hand.

`World` is the home (store, keys, clock, settings) and outlives engines: `async with world.serving()` runs one over it,
and a second one afterwards is a restart. A `Party` is one connection with the calls a test makes; it knows nothing of
the engine, so scenarios can hand it any other way of calling. The clocks, keys, randomness and drivers of a store that
stand here pass what the real ones pass. Verified by `tests/engine/test_ports.py` and `tests/engine/test_driver.py`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import trio
import trio.testing

from parlerd.core.envelope import Part
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import AgentId, HomeId, KeyId, Millis, PrincipalId, RequestId, RoomId, Shown, Via
from parlerd.engine.authors import Draft
from parlerd.engine.bearers import WebPort
from parlerd.engine.callers import Caller, PeerProcess, ProcessId
from parlerd.engine.driver import Driver, InlineDriver, Job, Settle
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.handles import Homes
from parlerd.engine.ports import HomeBook, HostFiles, NoHomeBook, NoHostFiles
from parlerd.engine.rooms import Rooms
from parlerd.engine.shelf import InlineBlobs
from parlerd.engine.worker import Told
from parlerd.identity import codes
from parlerd.identity.notes import signed_note
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.blobs import Blobs
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Store
from tests.support.callers import caller_of
from tests.support.memory_blobs import MemoryBlobs

T = TypeVar("T")
R = TypeVar("R", bound=t.Result)

START_MS = 1_700_000_000_000
USER = "sam"
ROUND_TRIP_S = 0.1
LONGEST = 30 * 86_400.0
"""Virtual seconds of one test; the engine's own pauses make time pass for ever where everyone else waits."""


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run under virtual time: a wait passes at once when nothing else can happen. One that never ends fails."""

    async def bounded() -> T:
        with trio.fail_after(LONGEST):
            return await main()

    return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


class HandClock:
    """The wall clock; it stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = START_MS

    def now(self) -> Millis:
        return Millis(self.ms)

    def move(self, *, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class SteppedClock(HandClock):
    """A wall clock that goes with the loop's virtual time, and that a test may set forward or back."""

    def now(self) -> Millis:
        return Millis(self.ms + int(trio.current_time() * 1000))

    def step(self, *, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class CountedRandomness:
    """Ids that count, and bytes that are different each time and the same in every run."""

    def __init__(self) -> None:
        self.ids = 0
        self.draws = 0

    def new(self, prefix: str) -> str:
        self.ids += 1
        return f"{prefix}_{self.ids:020d}"

    def bytes(self, count: int) -> bytes:
        self.draws += 1
        return hashlib.shake_256(f"draw {self.draws}".encode()).digest(count)


UNSHOWN: Final = Shown(0, bytes(32))
"""How far somebody was shown a room who was shown nothing, where no test looks at the line."""


def draft(*parts: Part) -> Draft:
    """What a local author wants to say who was shown nothing."""
    return Draft(parts, UNSHOWN)


class CountedKeys:
    """A key ring in memory: real keys from counted seeds. `forget` loses one, as a deleted file would."""

    def __init__(self) -> None:
        self._keys: dict[str, SigningKey] = {}
        self.principal = PrincipalId(self._create("principal"))

    def create_agent(self) -> AgentId:
        return AgentId(self._create("agent"))

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        key = self._keys.get(id)
        if key is None:
            raise Refused("no_such_agent")
        return key.sign(domain, data)

    def sign_note(self, text: str) -> str:
        return signed_note(self._keys[self.principal], text)

    def key_id(self, session_key: str) -> KeyId:
        return KeyId(hashlib.sha256(b"key" + codes.normalise(session_key).encode()).hexdigest())

    def session_key(self, room: RoomId, length: int, invite: str = "") -> str:
        return codes.spell(hashlib.sha256(f"session {length} {room}{invite}".encode()).digest(), length)

    def binding(self, room: RoomId, session_key: str) -> str:
        return codes.spell(hashlib.sha256(f"binding {room} {codes.normalise(session_key)}".encode()).digest(), 8)

    def join_code(self, request: RequestId) -> str:
        return codes.spell(hashlib.sha256(b"join" + request.encode()).digest(), 4)

    @property
    def id(self) -> HomeId:
        return HomeId(self.principal)

    def opening_secret(self, owner: AgentId, idempotency_key: str) -> bytes:
        return hashlib.sha256(f"opening {owner} {idempotency_key}".encode()).digest()

    def hiding_key(self) -> bytes:
        return hashlib.sha256(f"hiding {self.principal}".encode()).digest()

    def cursor_key(self) -> bytes:
        return hashlib.sha256(f"cursor {self.principal}".encode()).digest()

    @property
    def ids(self) -> list[str]:
        """Everyone there is a key of."""
        return list(self._keys)

    def forget(self, id: str) -> None:
        del self._keys[id]

    def _create(self, kind: Any) -> str:
        key = SigningKey(kind, hashlib.sha256(f"seed {len(self._keys)}".encode()).digest())
        self._keys[key.id] = key
        return key.id


class PlugDriver(InlineDriver):
    """An `InlineDriver` whose engine can die at a commit: `cut` says at which one, and whether that one still counts.

    Nothing the engine tries after that reaches the store: to the store it is a killed process.
    """

    def __init__(self, store: Store, died: Callable[[], None] = lambda: None) -> None:
        super().__init__(store)
        self.cut: tuple[int, bool] | None = None
        self.commits = 0
        self.dead = False
        self.is_full = False
        """Whether the disk takes nothing more for the moment."""
        self.lag = 0.0
        """How long each commit takes, in seconds of virtual time."""
        self._line: deque[tuple[Job, Settle]] = deque()
        self._died = died

    def hand_over(self, job: Job, settled: Settle) -> None:
        if not (self.lag or self._line):
            self._take(job, settled)
            return
        self._line.append((job, settled))
        trio.lowlevel.spawn_system_task(self._later, self.lag)

    async def _later(self, lag: float) -> None:
        # Of two that wake at the same time either may run first; jobs stay in the order in which they were given.
        await trio.sleep(lag)
        self._take(*self._line.popleft())

    def _take(self, job: Job, settled: Settle) -> None:
        if self.cut is not None and self.commits == self.cut[0] and not self.dead:
            self.dead = True
            if self.cut[1]:
                super().hand_over(job, lambda *_: self._die(settled))
            else:
                trio.lowlevel.current_trio_token().run_sync_soon(self._die, settled)
        elif self.dead or self.is_full:
            trio.lowlevel.current_trio_token().run_sync_soon(settled, None, StoreError("store_failed"))
        else:
            self.commits += 1
            super().hand_over(job, settled)

    def _die(self, settled: Settle) -> None:
        self._died()
        settled(None, StoreError("store_failed"))


class SlowDriver(PlugDriver):
    """Every commit takes a second of virtual time, so what is asked meanwhile waits and becomes one batch."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.lag = 1.0


class FarDriver(PlugDriver):
    """A store over a network: each look at it takes a tenth of a second of virtual time, and so does each read. `looks`
    counts the looks, `travelling` the questions of all such drivers that are on their way."""

    travelling = 0

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.looks = 0

    @property
    def is_at_hand(self) -> bool:
        return False

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        self.looks += 1

        async def travel() -> None:
            await self._travel()
            InlineDriver.ask(self, query, told)

        trio.lowlevel.spawn_system_task(travel)

    async def look(self, query: Callable[[Store], T]) -> T:
        self.looks += 1
        await self._travel()
        return await super().look(query)

    async def read(self, query: Callable[[Store], T]) -> T:
        await self._travel()
        return await super().read(query)

    async def _travel(self) -> None:
        FarDriver.travelling += 1
        try:
            await trio.sleep(ROUND_TRIP_S)
        finally:
            FarDriver.travelling -= 1


class HookDriver(PlugDriver):
    """Does `then` once, right after the next query was answered by the store and before its caller hears."""

    then: Callable[[], Awaitable[object]] | None = None

    async def read(self, query: Callable[[Store], T]) -> T:
        value = await super().read(query)
        if self.then is not None:
            then, self.then = self.then, None
            await then()
        return value


DRIVER: Callable[[Store], Driver] = PlugDriver
"""How the store of a home is driven where a test says nothing of it."""

Call = Callable[[str, t.Params], Awaitable[t.Result]]


NOTHING: Final = t.AskNotice()
"""What an answer is that says no news itself."""


class Party:
    """Someone who calls: an agent's window, a command, or the person. Each method is one operation, typed."""

    def __init__(self, call: Call, caller: Caller | None = None) -> None:
        self.call = call
        self._caller = caller

    @property
    def caller(self) -> Caller:
        assert self._caller is not None, "this party is not a connection to an engine"
        return self._caller

    async def ask(self, op: str, params: t.Params, result: type[R]) -> R:
        answer = await self.call(op, params)
        assert isinstance(answer, result)
        return answer

    async def refused(self, op: str, params: t.Params) -> ParlerError:
        """The error this call is answered with; a test fails when it is not."""
        try:
            await self.call(op, params)
        except ParlerError as error:
            return error
        raise AssertionError(f"{op} was not refused")

    async def open(self, topic: str = "auth redesign", context: str = "Chose PKCE.", **rest: Any) -> t.OpenedSession:
        return await self.ask("session.open", t.OpenSession(topic=topic, context=context, **rest), t.OpenedSession)

    async def join(self, key: str | None, *, wait: float = 0, limit: int = 100, role: str = "") -> t.JoinedSession:
        assert key is not None
        params = t.JoinSession(session_key=key, wait_ms=int(wait * 1000), limit=limit, role=role)
        return await self.ask("session.join", params, t.JoinedSession)

    async def approve(self, who: str, **rest: Any) -> t.Decided:
        return await self.ask("session.approve", t.DecideJoin(agent=who, **rest), t.Decided)

    async def deny(self, who: str, **rest: Any) -> t.Decided:
        return await self.ask("session.deny", t.DecideJoin(agent=who, **rest), t.Decided)

    async def requests(self, room: str | None = None) -> list[t.RequestInfo]:
        return (await self.ask("session.requests", t.SessionRequests(room=room), t.RequestList)).requests

    async def send(self, text: str, **rest: Any) -> t.Sent:
        return await self.ask("message.send", t.Send(text=text, **rest), t.Sent)

    async def recv(self, *, wait: float = 0, **rest: Any) -> t.Received:
        return await self.ask("message.recv", t.Recv(wait_ms=int(wait * 1000), **rest), t.Received)

    async def commit(self, page: t.Received | t.JoinedSession) -> None:
        await self.call("message.commit", t.Commit(room=page.room, cursor=page.cursor))

    async def read(self, **rest: Any) -> list[str]:
        """The texts of what is new, acknowledged as a command acknowledges what it printed. What is on its way over a
        link comes in first."""
        await trio.testing.wait_all_tasks_blocked()
        page = await self.recv(**rest)
        if page.acknowledges:
            await self.commit(page)
        return texts(page)

    async def come_in(self, key: str | None, **rest: Any) -> t.JoinedSession:
        """Join as someone who is let in, and acknowledge what that showed."""
        page = await self.join(key, **rest)
        assert page.status == "joined"
        await self.commit(page)
        return page

    async def handoff(self, next: str, *, to: str = "", **rest: Any) -> t.GivenHandoff:
        return await self.ask("handoff.give", t.GiveHandoff(next=next, for_=to, **rest), t.GivenHandoff)

    async def why(self, id: str) -> dict[str, list[str]]:
        """Reader to the stages a message reached."""
        found = await self.ask("message.why", t.Why(id=id), t.WhyResult)
        return {reader.name: [step.stage for step in reader.stages] for reader in found.readers}

    async def rooms(self) -> list[t.RoomInfo]:
        return (await self.ask("rooms.list", t.ListRooms(), t.RoomList)).rooms

    async def roster(self, room: str | None = None) -> dict[str, t.RosterMember]:
        found = await self.ask("rooms.roster", t.Roster(room=room), t.RosterResult)
        return {member.name: member for member in found.members}

    async def whoami(self) -> t.Me:
        return await self.ask("agent.whoami", t.WhoAmI(), t.Me)

    async def close(self, room: str | None = None) -> str:
        return (await self.ask("session.close", t.CloseSession(room=room), t.ClosedSession)).status


def texts(page: t.Received | t.JoinedSession) -> list[str]:
    return [str(message.text) for message in page.messages]


def lineage(peer: PeerProcess) -> Sequence[ProcessId]:
    """The processes of tests are related by their numbers: 7_001 is below 7, and 7_001_002 below that. Number 0 cannot
    be seen."""
    pids = [peer.pid]
    while pids[-1]:
        pids.append(pids[-1] // 1000)
    return tuple((pid, 1) for pid in pids[:-1])


@dataclass
class World:
    """A home: what stays when its daemon goes. Change a field before `serving`; the engine takes it as it is then."""

    store: Store = field(default_factory=MemoryStore)
    blobs: Blobs = field(default_factory=MemoryBlobs)
    keys: CountedKeys = field(default_factory=CountedKeys)
    random: CountedRandomness = field(default_factory=CountedRandomness)
    clock: HandClock = field(default_factory=HandClock)
    settings: Settings = field(default_factory=Settings)
    settings_now: Callable[[], Settings] | None = None
    default_home: bool = True
    inspect: Callable[[PeerProcess], PeerProcess] = lambda peer: peer
    lineage: Callable[[PeerProcess], Sequence[ProcessId]] = field(default_factory=lambda: lineage)
    host_files: HostFiles = field(default_factory=NoHostFiles)
    homes: Homes | None = None
    home_book: HomeBook = field(default_factory=NoHomeBook)
    web: WebPort | None = None
    driver: Callable[[Store], Driver] = field(default_factory=lambda: DRIVER)
    stopped: bool = False
    connections: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Served]:
        """An engine over this home, closed in order at the end."""

        def stop() -> None:
            self.stopped = True

        driver = self.driver(self.store)
        async with open_engine(
            driver=driver,
            blobs=InlineBlobs(self.blobs),
            clock=self.clock,
            random=self.random,
            keys=self.keys,
            signers=self.keys,
            settings=self.settings,
            user=USER,
            home_path="/home/sam/other",
            default_home=self.default_home,
            socket="/run/parlerd.sock",
            settings_now=self.settings_now,
            inspect=self.inspect,
            lineage=self.lineage,
            host_files=self.host_files,
            homes=self.homes,
            home_book=self.home_book,
            stop=stop,
            web=self.web,
        ) as engine:
            yield Served(self, engine, driver)


@dataclass
class Served:
    """A home with its engine running, and ways to connect to it."""

    world: World
    engine: Engine
    driver: Driver

    async def connect(self, via: Via = "cli", **about: Any) -> Party:
        """A new connection. It is no agent before its first call that needs one."""
        self.world.connections += 1
        session = f"session{self.world.connections}"
        caller = caller_of(via, **{"session": session, "principal": self.world.keys.principal, **about})
        await self.engine.connect(caller)

        async def call(op: str, params: t.Params) -> t.Result:
            return await self.engine.call(op, params, caller)

        return Party(call, caller)

    @property
    def open_rooms(self) -> int:
        """How many rooms are open, the home room not among them."""
        return open_rooms(self.engine)

    async def person(self) -> Party:
        """The person at a shell: a command that names no agent."""
        return await self.connect()

    async def agent(self, name: str) -> Party:
        """A command run with `--as name`."""
        return await self.connect(as_name=name, host="shell")

    async def window(self, name: str, *, host: str = "claude-code", workspace: str = "", as_name: str = "") -> Party:
        """An agent host's window, over MCP; `name` is its window id."""
        return await self.connect("mcp", window=name, host=host, workspace=workspace, as_name=as_name)

    async def leave(self, party: Party) -> None:
        """The connection ends."""
        await self.engine.disconnect(party.caller)

    async def room(self, *names: str, **how: Any) -> tuple[Party, ...]:
        """Parties in one open room, the first its owner, everyone with nothing unread; `how` is for opening it."""
        parties = [await self.agent(name) for name in names]
        owner, *others = parties
        opened = await owner.open(**how)
        await self.admit(opened, *others)
        return tuple(parties)

    async def admit(self, opened: t.OpenedSession, *parties: Party) -> None:
        """Knock, be approved, come in and acknowledge: the whole way into a room."""
        person = await self.person()
        for party in parties:
            joined = await party.join(opened.session_key)
            if joined.status == "pending":
                me = await party.whoami()
                await person.approve(me.id, room=opened.room)
                joined = await party.join(opened.session_key)
            assert joined.status == "joined"
            await party.commit(joined)
        await self.leave(person)

    # -- what a window's door asks beside the tools ---------------------------------------------------------

    async def acknowledge(self, window: Party) -> None:
        """What the window was shown has reached its model."""
        await window.ask("window.acknowledge", t.AcknowledgeShown(), t.Noted)

    async def notice(self, window: Party, said: t.AskNotice = NOTHING) -> str:
        """The line that says what else is new, beside an answer that said so much itself."""
        return (await window.ask("window.notice", said, t.Notice)).line

    async def introduce(self, window: Party, host: str) -> None:
        """The window says of which host it is."""
        await window.ask("window.introduce", t.Introduce(host=host), t.Noted)

    async def find_request(self, window: Party, agent: str) -> t.FoundRequest:
        """The request that a form would be about."""
        return await window.ask("window.find_request", t.FindRequest(agent=agent), t.FoundRequest)

    async def decide_by_form(
        self, window: Party, agent: str, *, admit: bool = True, join_code: str | None = None
    ) -> t.Decided:
        """A person typed into the form of the window's host."""
        params = t.DecideByForm(agent=agent, join_code=join_code, admit=admit)
        return await window.ask("window.decide", params, t.Decided)

    @asynccontextmanager
    async def changes(self, party: Party) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
        """Rooms as something is posted there that the agent of `party` may see: what a window of it is told."""
        me = await party.whoami()
        window = await self.connect("mcp", window=f"changes-{me.name}", as_name=me.name)
        send, receive = trio.open_memory_channel[str](0)

        async def pump(items: AsyncIterator[t.Result]) -> None:
            with send:
                async for item in items:
                    assert isinstance(item, t.RoomChanged)
                    await send.send(item.room)

        async with self.engine.stream("window.changes", t.WatchChanges(), window.caller) as items:
            await anext(items)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, items)
                yield receive
                nursery.cancel_scope.cancel()
        await self.leave(window)

    @property
    def plug(self) -> PlugDriver:
        return cast(PlugDriver, self.driver)


@asynccontextmanager
async def engine_world(**about: Any) -> AsyncIterator[Served]:
    """A new home, served: for tests of one engine's life."""
    async with World(**about).serving() as served:
        yield served


def open_rooms(engine: Engine) -> int:
    """How many rooms an engine has open, the home room not among them."""
    rooms = engine.desk.rooms
    assert isinstance(rooms, Rooms)
    return len(rooms)


async def settle() -> None:
    """Let every task come to where it waits for somebody else, and not for an answer of the store."""
    await trio.testing.wait_all_tasks_blocked()
    while FarDriver.travelling:
        await trio.sleep(ROUND_TRIP_S)
        await trio.testing.wait_all_tasks_blocked()


async def gather(*calls: Callable[[], Awaitable[T]], overtaking: bool = False) -> Sequence[T]:
    """Run calls at the same time, started in this order: each is where it waits before the next begins. With
    `overtaking` the next begins also while an earlier one waits for a far store."""
    answers: dict[int, T] = {}

    async def one(n: int, call: Callable[[], Awaitable[T]]) -> None:
        answers[n] = await call()

    async with trio.open_nursery() as nursery:
        for n, call in enumerate(calls):
            nursery.start_soon(one, n, call)
            await (trio.testing.wait_all_tasks_blocked() if overtaking else settle())
    return [answers[n] for n in range(len(calls))]
