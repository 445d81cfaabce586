"""The core under test: agents with names, counted ids, and a driver that stands in for the engine.

The driver does what the engine promises the core: it takes in what has run out before it decides, looks up what a
command replies to and an earlier use of its key, makes facts of what was decided, applies them in order and keeps the
log. On the way it checks what must hold at every step: deciding changes nothing, a fact changes only what the facets
that apply it own, and every fact reads back from its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import msgspec
import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import find_request, standing_request
from parlerd.core.claims import Task
from parlerd.core.decision import Decision
from parlerd.core.envelope import (
    RELEASED,
    SIGNED,
    UNSIGNED,
    Envelope,
    GatePart,
    MemoryPart,
    TextPart,
    decode_envelope,
    encode_envelope,
    root_chain,
)
from parlerd.core.epoch_record import encode_record, encode_turned
from parlerd.core.errors import Refused
from parlerd.core.facets import Aggregate
from parlerd.core.gated import encode_signed
from parlerd.core.gates import Program
from parlerd.core.home import HomeRoom
from parlerd.core.membership import is_requester, newest_number
from parlerd.core.messages import thread_of
from parlerd.core.model import (
    DEFAULT_LEASE_MS,
    SHARED,
    VIEWS,
    AgentId,
    Approver,
    By,
    Cause,
    History,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Prior,
    Proof,
    ReplyTarget,
    RequestId,
    RoomId,
    RoomKind,
    RoomLimit,
    StateAct,
    Turn,
    WordsOf,
    first_free,
)
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.core.seen import NOBODY_SEEN, Presences
from parlerd.core.statements import (
    NONCE,
    AgentCard,
    KeyTerms,
    Opening,
    SealingKey,
    Statement,
    Title,
    encode,
    encode_opened,
    title_digest,
)
from parlerd.core.templates import Action, ActionWrite, Param
from parlerd.core.timers import TimerSpec
from parlerd.core.tokens import DAY_MS
from parlerd.core.values import Meter, plain
from parlerd.core.visibility import can_see
from parlerd.core.watch_codes import HOLDS_MS
from parlerd.core.words import KIND_OF, MEMORY, TASK, Said
from parlerd.expr import parse

ROOM = RoomId("r_room")
KEY = KeyId("key-of-the-room")
HOUR = 3_600_000
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as its home knows it."""

    id: AgentId
    principal: PrincipalId
    name: str

    @property
    def by(self) -> By:
        return By(self.id, self.principal, f"s_{self.name}", "codex", "mcp", 4711, "node")


def person(name: str) -> PrincipalId:
    return PrincipalId("A" + name.upper().ljust(55, "B"))


def agent(name: str, *, of: str = "owner", key: str = "") -> Agent:
    """An agent with a name; its id is made of `key`, or of the name without it. Two may share a name but not an id."""
    letters = "".join(character for character in (key or name).upper() if character.isalpha())
    return Agent(AgentId("U" + letters.ljust(55, "A")), person(of), name)


OWNER = agent("olive")
BEN, CAT, DAN, EVE = agent("ben"), agent("cat"), agent("dan"), agent("eve")
STRANGER = agent("stranger", of="stranger")
ITSELF = Agent(AgentId(""), PrincipalId(""), "")
"""The home, where no agent acts."""


HOME = HomeId(OWNER.principal)
"""Where the rooms of these tests live: with the owner's person."""


def ref_of(key: KeyId) -> str:
    """The name of a key in what is signed."""
    return "k_" + "".join(character if character.isalnum() else "_" for character in key)


def open_room(
    owner: Agent,
    *,
    room: RoomId = ROOM,
    home: HomeId = HOME,
    key: KeyId = KEY,
    name: str = "auth-redesign",
    topic: str = "Auth redesign",
    handle: str | None = None,
    host: str = "claude-code",
    history: History = "full",
    approval: bool = True,
    approver: Approver = "person",
    expires_at: int = 2**50,
    max_uses: int = 50,
    preapproved: tuple[AgentId, ...] = (),
    recap: bool = False,
    idempotency_key: str | None = None,
    input: bytes = b"open",
    kind: RoomKind = "session",
) -> c.OpenRoom:
    """The command that opens a room, with all that its owner's person signs. Tests of the core name their rooms
    themselves; the engine makes the id of the opening's hash."""
    title = Title(salt=bytes(NONCE), name=name, topic=topic)
    opening = Opening(
        home=home,
        kind=kind,
        history=history,
        owner=owner.id,
        principal=owner.principal,
        handle=owner.name if handle is None else handle,
        host=host,
        approval=approval,
        approver=approver,
        title=title_digest(encode(title)),
        nonce=bytes(NONCE),
    )
    terms = KeyTerms(
        home=home,
        room=room,
        ref=ref_of(key),
        gated=approval,
        expires_at=Millis(expires_at),
        max_uses=max_uses,
        preapproved=preapproved,
        nonce=b"",
    )
    return c.OpenRoom(
        operation="session.open",
        idempotency_key=idempotency_key,
        input=input,
        room=room,
        opening=opening,
        title=title,
        mint=key,
        terms=terms,
        recap=recap,
    )


def body_of(statement: Statement, command: c.Command) -> bytes:
    """The body of the fact that bears this statement, which the command led to; the nonce is all zeroes."""
    if isinstance(statement, Opening):
        assert isinstance(command, c.OpenRoom)
        return encode_opened(encode(statement), b"" if command.title is None else encode(command.title))
    return encode(msgspec.structs.replace(statement, nonce=bytes(NONCE)))


class CountedIds:
    """Ids in order. `given` counts them."""

    def __init__(self) -> None:
        self.given = 0

    def new(self, prefix: str) -> str:
        self.given += 1
        return f"{prefix}_{self.given:020d}"


def writing(
    key: str,
    value: Any = None,
    *,
    scope: str = SHARED,
    act: StateAct = "set",
    expr: str | None = None,
    gate: str | None = None,
    if_version: int | None = None,
    enabled: str | None = None,
    timer: TimerSpec | None = None,
) -> c.StateWrite:
    """One write to the state, with its expressions as texts."""
    return c.StateWrite(
        scope=VIEWS if expr is not None and scope == SHARED else scope,
        key=key,
        act=act,
        value=value,
        expr=None if expr is None else parse(expr, "view"),
        gate=None if gate is None else parse(gate, "gate"),
        if_version=if_version,
        enabled=None if enabled is None else parse(enabled, "enabled"),
        timer=timer,
    )


def doing(
    key: str,
    value: Any = None,
    *,
    scope: str = SHARED,
    act: StateAct = "set",
    computed: str | None = None,
    expr: str | None = None,
    enabled: str | None = None,
    timer: TimerSpec | None = None,
) -> ActionWrite:
    """One write of an action, with its expressions as texts."""
    return ActionWrite(
        scope=scope,
        key=key,
        act=act,
        value=value,
        computed=None if computed is None else parse(computed, "action"),
        expr=None if expr is None else parse(expr, "view"),
        enabled=None if enabled is None else parse(enabled, "enabled"),
        timer=timer,
    )


def an_action(
    *writes: ActionWrite,
    owner: str = SHARED,
    gate: str | None = None,
    params: Mapping[str, Param] | None = None,
    on_invoke: TimerSpec | None = None,
    result: str | None = None,
) -> Action:
    """An action, with its expressions as texts."""
    return Action(
        owner=owner,
        gate=None if gate is None else parse(gate, "action"),
        params=dict(params or {}),
        writes=writes,
        on_invoke=on_invoke,
        result=None if result is None else parse(result, "action"),
    )


@contextmanager
def refused(code: str) -> Iterator[pytest.ExceptionInfo[Refused]]:
    """What is inside must be refused with this code."""
    with pytest.raises(Refused) as caught:
        yield caught
    assert caught.value.code == code


def outcome(act: Callable[[], object]) -> str:
    """`ok`, or the code of the refusal."""
    try:
        act()
    except Refused as error:
        return error.code
    return "ok"


def types(decision: Decision) -> list[str]:
    """The events of a decision by name."""
    return [type(event).__name__ for event in decision.events]


def parts(aggregate: Aggregate[Any]) -> list[bytes]:
    """The state of each facet, in their order, as a snapshot holds it."""
    return [msgspec.msgpack.encode(facet.state) for facet in aggregate.facets]


A = TypeVar("A", Room, HomeRoom)


def as_room(aggregate: object) -> Room | None:
    """The aggregate, if it is a room."""
    return aggregate if isinstance(aggregate, Room) else None


@dataclass
class Driver(Generic[A]):
    """An aggregate with its log. `now` is the wall clock and only moves when a test moves it. `bodies` are those of the
    facts that bear a statement, by position."""

    aggregate: A
    now: int = 1_700_000_000_000
    ids: CountedIds = field(default_factory=CountedIds)
    log: list[e.Header] = field(default_factory=list)
    bodies: dict[Position, bytes] = field(default_factory=dict)
    erased: set[Position] = field(default_factory=set)
    """The messages whose words were taken away."""

    def run(self, command: c.Command, who: Agent) -> Decision:
        """Decide and commit. Raises what the core raises."""
        if command.idempotency_key is not None:
            command = msgspec.structs.replace(
                command, prior=self.prior(who.id, command.operation, command.idempotency_key)
            )
        now = Millis(max(self.now, self.aggregate.last_at))
        for ran_out in self.aggregate.ran_out(now):
            self.commit(ran_out, ITSELF)
        self.follow(now)
        before, given = self.aggregate.snapshot(), self.ids.given
        try:
            decision = self.aggregate.decide(command, by=who.by, now=now, ids=self.ids)
        except Refused:
            assert self.ids.given == given, "a refused command took ids"
            raise
        finally:
            assert self.aggregate.snapshot() == before, "deciding changed the room"
        self.erased.update(decision.erases)
        room = as_room(self.aggregate)
        # What the room's home says itself stands in no thread.
        posts = [event for event in decision.events if isinstance(event, e.MessagePosted) and event.envelope_v]
        previous = b""
        if room is not None and posts:
            previous = thread_of(room.state.messages, who.id, posts[0].visibility).envelope
        assert len(decision.statements) in (0, len(decision.events), len(decision.events) - 1)
        assert len(decision.bodies) in (0, len(decision.events))
        for n, event in enumerate(decision.events):
            statement = decision.statements[n] if n < len(decision.statements) else None
            body = None if statement is None else body_of(statement, command)
            if (
                isinstance(event, e.EpochTurned)
                and isinstance(command, c.OpenRoom | c.DecideRequest | c.Kick | c.TurnEpoch)
                and command.epoch is not None
            ):
                body = encode_turned(encode_record(command.epoch.record), command.epoch.wraps)
            self.commit(
                event,
                who,
                command=command if n == 0 else None,
                authority=decision.authority,
                body=decision.bodies[n] if decision.bodies else body,
            )
        if room is not None and posts and not isinstance(command, c.Arrive):
            is_seen = posts[0].visibility is not None or not is_requester(room.state.members[who.id])
            assert (decision.previous, decision.seq) == (previous, room.newest_seq(who.id) if is_seen else 0)
        if decision.events:
            self.follow(now)
        return decision

    def follow(self, now: Millis) -> None:
        """Commit what follows from the facts so far."""
        for step in self.aggregate.follow(now, self.ids):
            self.commit(step.event, ITSELF, by=step.by, body=step.body)
            self.erased.update(step.erases)

    def commit(
        self,
        event: e.Event,
        who: Agent,
        *,
        command: c.Command | None = None,
        authority: str = "home",
        body: bytes | None = None,
        by: By | None = None,
    ) -> e.Header:
        """Take a fact in, finished as the engine finishes it."""
        if isinstance(event, e.MessagePosted) and event.envelope_v not in (UNSIGNED, RELEASED):
            envelope = hashlib.sha256(event.id.encode()).digest()
            event = msgspec.structs.replace(event, envelope=envelope, verified="valid")
        header = e.Header(
            position=Position(self.aggregate.position + 1),
            at=Millis(max(self.now, self.aggregate.last_at)),
            by=by or who.by,
            authority=authority,
            event=event,
            operation="" if command is None else command.operation,
            key=None if command is None else command.idempotency_key,
            input=None if command is None else command.input,
            body=None if body is None else hashlib.sha256(body).digest(),
        )
        assert e.decode_header(e.encode_header(header)) == header
        before = parts(self.aggregate)
        self.aggregate.apply(header, body)
        rules = self.aggregate.RULES
        appliers = {place for table in (rules.applies, rules.reads) for place, _ in table.get(type(event), ())}
        owned = {id(self.aggregate.facets[place].state) for place in appliers}
        changed = {place for place, part in enumerate(parts(self.aggregate)) if part != before[place]}
        assert {id(self.aggregate.facets[place].state) for place in changed} <= owned, "a facet changed another's state"
        self.log.append(header)
        if body is not None:
            self.bodies[header.position] = body
        return header

    def prior(self, who: AgentId, operation: str, key: str) -> Prior | None:
        for header in self.log:
            if (header.by.actor, header.operation, header.key) == (who, operation, key):
                return Prior(header.position, header.input or b"")
        return None

    def whole_facts(self) -> list[tuple[e.Header, bytes | None]]:
        """The log with the bodies."""
        return [(header, self.bodies.get(header.position)) for header in self.log]

    def saved(self) -> list[bytes]:
        """The log as it is stored."""
        return [e.encode_header(header) for header in self.log]

    def check(self, make: Callable[[], A], restore: Callable[[bytes], A]) -> None:
        """A replay of the stored log, a restored snapshot, and a snapshot in the middle with the rest after it: all are
        what memory holds now."""
        half = len(self.log) // 2
        replayed, resumed = make(), make()
        for n, data in enumerate(self.saved()):
            if n == half:
                resumed = restore(replayed.snapshot())
            header = e.decode_header(data)
            body = self.bodies[header.position] if replayed.reads_body(header) else None
            replayed.apply(header, body)
            if n >= half:
                resumed.apply(header, body)
        state = self.aggregate.state
        assert replayed.state == state
        assert restore(self.aggregate.snapshot()).state == state
        assert resumed.state == state
        assert replayed.snapshot() == restore(replayed.snapshot()).snapshot() == resumed.snapshot()


class RoomDriver(Driver[Room]):
    """A driver with the acts of a room by name."""

    def __init__(self) -> None:
        super().__init__(Room())

    # -- acts ----------------------------------------------------------------------------------------------

    def open(
        self,
        *,
        owner: Agent = OWNER,
        history: History = "full",
        approval: bool = True,
        approver: Approver = "person",
        ttl_ms: int = DAY,
        max_uses: int = 50,
        preapproved: tuple[AgentId, ...] = (),
        recap: bool = True,
        key: str | None = None,
        kind: RoomKind = "session",
    ) -> Decision:
        command = open_room(
            owner,
            kind=kind,
            idempotency_key=key,
            history=history,
            approval=approval,
            approver=approver,
            expires_at=self.now + ttl_ms,
            max_uses=max_uses,
            preapproved=preapproved,
            recap=recap,
        )
        return self.run(command, owner)

    def mint(
        self,
        key: KeyId,
        *,
        gated: bool = True,
        ttl_ms: int = DAY,
        max_uses: int = 50,
        preapproved: tuple[AgentId, ...] = (),
    ) -> None:
        """One more key, as a fact: also one that no command makes, such as an open key of a gated room."""
        event = e.KeyMinted(
            key=key,
            ref=ref_of(key),
            gated=gated,
            expires_at=Millis(self.now + ttl_ms),
            max_uses=max_uses,
            preapproved=preapproved,
        )
        self.commit(event, OWNER, authority="owner")

    def knock(self, who: Agent, key: KeyId = KEY, *, role: str = "") -> str:
        """The answer: joined, member, pending or denied."""
        knock = c.Knock(operation="session.join", key_id=key, name=who.name, host="codex", role=role)
        return self.run(knock, who).answer

    def decide(
        self,
        who: str,
        *,
        admit: bool,
        proof: Proof = "cli",
        principal: PrincipalId = OWNER.principal,
        by: Agent = OWNER,
    ) -> Decision:
        """Decide about whoever is meant, as a handler does: who may not decide hears so, whomever they name."""

        def answer(request: RequestId) -> Decision:
            return self.run(c.DecideRequest(request=request, admit=admit, proof=proof, principal=principal), by)

        room = as_room(self.aggregate)
        assert room is not None
        try:
            meant = find_request(room.state.requests, who).id
        except Refused as unclear:
            with pytest.raises(Refused) as refusal:
                answer(RequestId("q_none"))
            raise (unclear if refusal.value.code == "no_such_request" else refusal.value) from None
        return answer(meant)

    def approve(self, who: Agent) -> None:
        self.decide(who.id, admit=True)

    def deny(self, who: Agent) -> None:
        self.decide(who.id, admit=False)

    def admit(self, *agents: Agent) -> None:
        """Bring agents in through the front door."""
        for who in agents:
            if self.knock(who) == "pending":
                self.approve(who)

    def leave(self, who: Agent) -> None:
        self.run(c.CloseRoom(operation="session.close"), who)

    def give_role(self, who: Agent, role: str, *, lock: bool = False, by: Agent = OWNER) -> Decision:
        return self.run(c.GiveRole(operation="room.role", agent=who.id, role=role, locks=lock), by)

    def close(self, by: Agent = OWNER, *, principal: PrincipalId | None = None) -> Decision:
        return self.run(c.CloseRoom(operation="session.close", principal=principal), by)

    def revoke(self, key: KeyId = KEY, *, by: Agent = OWNER, principal: PrincipalId | None = None) -> Decision:
        return self.run(c.RevokeKey(revoke=key, principal=principal), by)

    def post(
        self,
        who: Agent,
        *,
        to: tuple[str, ...] = (),
        visible_to: tuple[str, ...] | None = None,
        reply_to: MessageId | None = None,
        key: str | None = None,
        input: bytes = b"input",
        memory: MemoryPart | None = None,
    ) -> e.MessagePosted:
        """The message as it was posted, or the one that this request posted before."""
        command = c.PostMessage(
            operation="message.send",
            kind="note" if memory is None else MEMORY,
            memory=memory,
            to=to,
            visibility=visible_to,
            reply_to=reply_to,
            reply=None if reply_to is None else self.target(reply_to),
            idempotency_key=key,
            input=input,
        )
        decision = self.run(command, who)
        header = self.log[-1] if decision.replay is None else self.log[decision.replay - 1]
        assert isinstance(header.event, e.MessagePosted)
        return header.event

    def offer(
        self,
        who: Agent,
        *,
        taker: str = "",
        ttl_ms: int = HOUR,
        visible_to: tuple[str, ...] | None = None,
        reply_to: MessageId | None = None,
    ) -> MessageId:
        """The message that offers the turn."""
        command = c.PostMessage(
            operation="handoff.give",
            kind="handoff",
            taker=taker,
            turn="offered",
            ttl_ms=Millis(ttl_ms),
            visibility=visible_to,
            reply_to=reply_to,
            reply=None if reply_to is None else self.target(reply_to),
        )
        [event] = self.run(command, who).events
        assert isinstance(event, e.MessagePosted)
        return event.id

    def answer(self, who: Agent, turn: Turn, offer: MessageId) -> e.MessagePosted:
        """The message that answers an offer, or the one in which this agent said the same before."""
        command = c.PostMessage(
            operation="handoff.accept", kind=f"handoff-{turn}", turn=turn, reply_to=offer, reply=self.target(offer)
        )
        decision = self.run(command, who)
        header = self.log[-1] if decision.replay is None else self.log[decision.replay - 1]
        assert isinstance(header.event, e.MessagePosted)
        return header.event

    # -- work ----------------------------------------------------------------------------------------------

    def task(
        self,
        who: Agent,
        *,
        to: tuple[str, ...] = (),
        visible_to: tuple[str, ...] | None = None,
        open_ms: int = 0,
    ) -> MessageId:
        """The message that is a task, which may be claimed for so long."""
        command = c.PostMessage(
            operation="message.send", kind=TASK, to=to, visibility=visible_to, ttl_ms=Millis(open_ms)
        )
        [event] = self.run(command, who).events
        assert isinstance(event, e.MessagePosted)
        return event.id

    def claim(
        self, who: Agent, task: MessageId | None = None, *, lease_ms: int = DEFAULT_LEASE_MS, key: str | None = None
    ) -> tuple[str, Task | None]:
        """The answer, and the task that this worker then has."""
        command = c.ClaimTask(
            operation="task.claim", task=task, lease_ms=Millis(lease_ms), idempotency_key=key, input=b"claim"
        )
        decision = self.run(command, who)
        if decision.answer == "already_yours":
            return decision.answer, None if task is None else self.aggregate.claims.get(task)
        if not decision.events:
            return decision.answer, None
        [event] = decision.events
        assert isinstance(event, e.TaskClaimed)
        return decision.answer, self.aggregate.claims.get(event.task)

    def release(self, who: Agent, task: MessageId) -> Decision:
        return self.run(c.ReleaseTask(operation="task.release", task=task), who)

    def say(self, who: Agent, said: Said, task: MessageId, *, fence: int = 0, plainly: bool = False) -> Decision:
        """A worker says how a task is; `plainly` as in a message like any other."""
        command = c.PostMessage(
            operation="message.send" if plainly else "task.say",
            kind=KIND_OF[said],
            reply_to=task,
            reply=self.target(task),
            said=not plainly,
            fence=Position(fence),
        )
        return self.run(command, who)

    def lapse(self) -> list[MessageId]:
        """The room's home looks what time ended: the tasks whose leases have ended."""
        return [event.task for event in self.look_at_tasks() if isinstance(event, e.TaskLapsed)]

    def look_at_tasks(self) -> list[e.TaskLapsed | e.TaskCompleted]:
        """The same: all that it finds."""
        events = self.run(c.LapseTasks(upto=Millis(self.now)), OWNER).events
        return [event for event in events if isinstance(event, e.TaskLapsed | e.TaskCompleted)]

    # -- gated messages ------------------------------------------------------------------------------------

    def gate(self, who: Agent, enabled: str = "", **asked: Any) -> MessageId:
        """A gated message, which is `asked` for as `gating` takes it."""
        command = self.gating(who, enabled, **asked)
        self.run(command, who)
        return command.envelope.id

    def gating(
        self,
        who: Agent,
        enabled: str = "",
        *,
        kind: str = "text",
        timer: TimerSpec | None = None,
        to: tuple[AgentId, ...] = (),
        visible_to: tuple[AgentId, ...] | None = None,
        reply_to: MessageId | None = None,
        key: str = "",
        **altered: Any,
    ) -> c.GateMessage:
        """The command of a gated message. What its author signs is what the room decides itself, but for what is
        `altered`."""
        id = MessageId(self.ids.new("m"))
        replied = None if reply_to is None else self.target(reply_to)
        fields: dict[str, Any] = {
            "v": SIGNED,
            "id": id,
            "room": ROOM,
            "key": key or f"m:{id}",
            "kind": kind,
            "chain": root_chain(id) if replied is None else replied.chain,
            "hops": 0 if replied is None else replied.hops + 1,
            "authored_at": Millis(self.now),
            "counter": 0,
            "previous": b"",
            "line": b"\0" * 32,
            "nonce": b"\0" * 16,
            "host": who.by.host,
            "via": who.by.via,
            "parts": (TextPart(f"the words of {id}"), GatePart(enabled)),
            "to": to,
            "visibility": visible_to if visible_to is None else tuple(sorted({who.id, *visible_to})),
            "reply_to": reply_to,
        }
        envelope = Envelope(**{**fields, **altered})
        return c.GateMessage(
            operation="message.send",
            idempotency_key=envelope.key,
            input=b"gate",
            envelope=envelope,
            enabled=parse(enabled, "message") if enabled else None,
            timer=timer,
            signed=encode_signed(encode_envelope(envelope), b"signature"),
            reply=replied,
        )

    def withdraw(self, who: Agent, id: MessageId) -> Decision:
        return self.run(c.WithdrawMessage(operation="message.withdraw", id=id), who)

    def shown(self, who: Agent) -> list[str]:
        """The words of the messages that an agent sees, in order, as far as they were gated and are not erased."""
        view = self.aggregate.view(who.id)
        found = []
        for header in self.log:
            event = header.event
            if not isinstance(event, e.MessagePosted) or event.envelope_v != RELEASED or header.position in self.erased:
                continue
            if can_see(view, position=header.position, visibility=event.visibility):
                [part] = decode_envelope(self.bodies[header.position]).parts
                assert isinstance(part, TextPart)
                found.append(part.text.removeprefix("the words of "))
        return found

    # -- the state -----------------------------------------------------------------------------------------

    def write(
        self,
        who: Agent,
        *writes: c.StateWrite,
        gate: str | None = None,
        presence: Presences = NOBODY_SEEN,
        key: str | None = None,
        input: bytes = b"write",
    ) -> Decision:
        """Several writes at once; `gate` is that of all of them."""
        command = c.WriteState(
            operation="state.batch",
            idempotency_key=key,
            input=input,
            writes=writes,
            gate=None if gate is None else parse(gate, "gate"),
            presence=presence,
        )
        return self.run(command, who)

    def put(self, who: Agent, key: str, value: Any = None, **how: Any) -> int:
        """One write, as `writing` makes it: the version that is there then."""
        event = self.write(who, writing(key, value, **how)).events[0]
        assert isinstance(event, e.StateWritten | e.StateDeleted)
        return event.version

    def renew_timer(self, who: Agent, key: str, scope: str = SHARED, *, idempotency_key: str | None = None) -> Decision:
        command = c.RenewTimer(
            operation="timer.renew", scope=scope, key=key, idempotency_key=idempotency_key, input=b"renew"
        )
        return self.run(command, who)

    def hide(self, who: Agent, scope: str, *, hidden: bool = True) -> Decision:
        return self.run(c.HideScope(operation="state.hide", scope=scope, hidden=hidden), who)

    def register(
        self,
        who: Agent,
        id: str,
        action: Action,
        *,
        enabled: str | None = None,
        timer: TimerSpec | None = None,
        if_version: int | None = None,
        reset_cooldown: bool = False,
        key: str | None = None,
    ) -> int:
        """An action, with its `enabled` as a text: the version that is there then."""
        command = c.RegisterAction(
            operation="action.register",
            id=id,
            action=action,
            enabled=None if enabled is None else parse(enabled, "enabled"),
            timer=timer,
            if_version=if_version,
            reset_cooldown=reset_cooldown,
            idempotency_key=key,
            input=b"register",
        )
        self.run(command, who)
        entry = self.aggregate.actions.entry(id)
        return 0 if entry is None else entry.version

    def delete_action(self, who: Agent, id: str, *, if_version: int | None = None) -> Decision:
        return self.run(c.DeleteAction(operation="action.delete", id=id, if_version=if_version), who)

    def invoke(
        self, who: Agent, id: str, *, presence: Presences = NOBODY_SEEN, key: str | None = None, **params: Any
    ) -> Decision:
        command = c.InvokeAction(
            operation="action.invoke",
            id=id,
            params=params,
            presence=presence,
            idempotency_key=key,
            input=hashlib.sha256(repr(params).encode()).digest(),
        )
        return self.run(command, who)

    def enable(self, who: Agent, enabled: str | None, *, key: str | None = None) -> Decision:
        """An agent says what has to be true for it to be there."""
        command = c.EnableAgent(
            operation="agent.enable",
            enabled=None if enabled is None else parse(enabled, "enabled"),
            idempotency_key=key,
            input=b"enable",
        )
        return self.run(command, who)

    def module(
        self, who: Agent, name: str, role: str = "module", *, enabled: str | None = None, key: str | None = None
    ) -> Decision:
        command = c.RegisterModule(
            operation="module.register",
            name=name,
            role=role,
            enabled=None if enabled is None else parse(enabled, "enabled"),
            idempotency_key=key,
            input=b"module",
        )
        return self.run(command, who)

    def delete_module(self, who: Agent, name: str, *, key: str | None = None) -> Decision:
        command = c.DeleteModule(operation="module.delete", name=name, idempotency_key=key, input=b"delete")
        return self.run(command, who)

    def why_not(self, who: Agent, id: str, **params: Any) -> str:
        """Why an agent may not invoke an action now; empty where it may."""
        return self.aggregate.actions.why_not(self.look(who), id, params)

    def run_due(self) -> list[e.RoomEvent]:
        """The room's home looks what has run out: the facts that this left."""
        before = len(self.log)
        assert self.run(c.RunDue(), ITSELF).events == ()
        return [header.event for header in self.log[before:] if isinstance(header.event, e.TimerFired)]

    def look(self, who: Agent, presence: Presences = NOBODY_SEEN) -> Resolver:
        """The room as an agent sees it now."""
        return self.aggregate.look(who.id, Millis(max(self.now, self.aggregate.last_at)), presence)

    def worth(self, who: Agent, source: str, presence: Presences = NOBODY_SEEN) -> Any:
        """What an expression is worth to an agent now."""
        resolver = self.look(who, presence)
        return plain(resolver.evaluate(Program(parse(source, "wait"))), Meter())

    def shared(self, who: Agent, scope: str = SHARED) -> dict[str, Any]:
        """The keys and values of a scope that are there for an agent."""
        resolver, found = self.look(who), {}
        for key in resolver.keys(scope):
            entry = resolver.there(scope, key)
            assert entry is not None
            found[key] = resolver.value(scope, key, entry)
        return found

    def words(self) -> list[WordsOf]:
        """The messages that have words, the oldest first; a body is as large as a message's id is long."""
        return [
            WordsOf(
                header.position, event.id, header.at, header.by.principal, len(event.id), event.opening, event.memory
            )
            for header, event in self.posted()
            if header.position not in self.erased
        ]

    def prune(self, count: int | None = None, *, after: int = 0) -> Decision:
        """The room's home lets the words of so many of the oldest messages go, or of all, where the room needs none."""
        old = [each for each in self.words() if each.position > after][:count]
        return self.run(c.PruneBodies(old=tuple(old), after=Position(after)), OWNER)

    # -- mirrors -------------------------------------------------------------------------------------------

    def arrive(self, *events: e.RoomEvent, at: int | None = None, who: Agent = OWNER, taken: str = "") -> Decision:
        """Facts of a room that lives elsewhere come into its mirror."""
        command = c.Arrive(
            events=events,
            at=Millis(self.now if at is None else at),
            taken=frozenset({MessageId(taken)} if taken else ()),
        )
        return self.run(command, who)

    def leave_out(self, count: int, *readers: Agent) -> None:
        """A mirror goes on after so many public messages that it does not hold, and that these agents may see."""
        room = as_room(self.aggregate)
        assert room is not None
        public = newest_number(room.state.membership) + count
        before = tuple((who.id, room.newest_seq(who.id) + count) for who in readers)
        self.commit(e.MirrorPlaced(public=public, line=bytes(32), before=before), OWNER, authority="arrived")

    def go_back(self, *readers: Agent) -> None:
        """A mirror hears that its room's home lost the newest public message, which these agents saw, and that the room
        goes on without it."""
        room = as_room(self.aggregate)
        assert room is not None
        public = max(0, newest_number(room.state.membership) - 1)
        numbers = tuple((who.id, max(0, room.newest_seq(who.id) - 1)) for who in readers)
        threads = tuple((who.id, "", 0, b"") for who in readers)
        upto = Position(room.position - 1)
        epoch = room.state.epoch + 1
        event = e.RoomRewound(epoch=epoch, public=public, line=bytes(32), upto=upto, numbers=numbers, threads=threads)
        self.commit(event, OWNER, authority="arrived", body=b"rewind")

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The folded state as JSON text, for messages of failed assertions."""
        return msgspec.json.encode(self.aggregate.state).decode()

    def posted(self) -> list[tuple[e.Header, e.MessagePosted]]:
        return [(header, header.event) for header in self.log if isinstance(header.event, e.MessagePosted)]

    def target(self, message: MessageId) -> ReplyTarget | None:
        for header, event in self.posted():
            if event.id == message:
                return ReplyTarget(
                    id=event.id,
                    position=header.position,
                    author=header.by.actor,
                    visibility=event.visibility,
                    chain=event.chain,
                    hops=event.hops,
                    memory=event.memory,
                )
        return None

    # -- memory --------------------------------------------------------------------------------------------

    def remember(self, who: Agent, key: str = "", *, if_version: int | None = None) -> e.MessagePosted:
        """Something is remembered, under a key or without one."""
        return self.post(who, memory=MemoryPart(key=key, if_version=if_version))

    def forget(self, who: Agent, key: str = "", *, id: MessageId | None = None) -> e.MessagePosted:
        """What is under the key, or this one message, is forgotten."""
        return self.post(who, reply_to=id, memory=MemoryPart(key=key, forgets=True))

    def seen_by(self, who: Agent) -> list[MessageId]:
        """What a present member sees; its newest seq must say the same number."""
        view = self.aggregate.view(who.id)
        seen = [
            event.id
            for header, event in self.posted()
            if can_see(view, position=header.position, visibility=event.visibility)
        ]
        assert self.aggregate.newest_seq(who.id) == len(seen) + sum(count for _, count in view.gaps)
        return seen

    def handle(self, who: Agent) -> str:
        return self.aggregate.state.members[who.id].handle

    def request_of(self, who: Agent) -> RequestId:
        request = standing_request(self.aggregate.state.requests, who.id)
        assert request is not None
        return request.id

    def waiting(self) -> list[AgentId]:
        return [request.agent for request in self.aggregate.pending()]

    def verify(self) -> None:
        self.check(Room, Room.restore)


class HomeDriver(Driver[HomeRoom]):
    """A driver with the acts of a home by name."""

    def __init__(self) -> None:
        super().__init__(HomeRoom())

    def create(self, who: Agent, *, host: str = "codex", workspace: str = "", slot: int = 0) -> Decision:
        command = c.CreateAgent(
            agent=who.id, principal=who.principal, name=who.name, host=host, workspace=workspace, slot=slot
        )
        return self.run(command, who)

    def name_room(self, owner: Agent, wanted: str, *, key: str | None = None, input: bytes = b"input") -> RoomId:
        """The room that this request named, now or before: the first free of `wanted`, `wanted-2` and so on."""
        name = first_free(wanted, self.aggregate.state.room_names.get(owner.id, {}))
        command = c.NameRoom(
            operation="session.open",
            idempotency_key=key,
            input=input,
            owner=owner.id,
            room=RoomId(f"r_{self.aggregate.position}"),
            name=name,
        )
        decision = self.run(command, owner)
        header = self.log[-2] if decision.replay is None else self.log[decision.replay - 1]
        assert isinstance(header.event, e.RoomNamed)
        return header.event.room

    def delete(self, room: RoomId, who: Agent) -> Decision:
        return self.run(c.DeleteRoom(operation="room.delete", room=room), who)

    def bind(self, who: Agent, conversation: str, *, place: int = 0) -> Decision:
        command = c.BindConversation(agent=who.id, host="codex", conversation=conversation, place=place)
        return self.run(command, who)

    def renew(self, who: Agent) -> Decision:
        until = Millis(self.now + 30 * DAY)
        return self.run(c.RenewDelegation(agent=who.id, principal=who.principal, expires_at=until), who)

    def publish(self, who: Agent, *, revision: int = 1, most: int = 0, **said: Any) -> Decision:
        """Publish a card, which is private unless `said` says otherwise."""
        card = AgentCard(
            home=HOME,
            agent=who.id,
            principal=who.principal,
            name=who.name,
            visibility=said.pop("visibility", "private"),
            revision=revision,
            at=Millis(self.now),
            nonce=bytes(NONCE),
            **said,
        )
        return self.run(c.PublishCard(card=card, most=most), who)

    def tell_direct_key(self, who: Agent, counter: int = 1) -> Decision:
        """An agent tells by which key it is given the secrets of direct rooms."""
        key = SealingKey(
            home=HOME, agent=who.id, key=bytes(32), counter=counter, at=Millis(self.now), nonce=bytes(NONCE)
        )
        return self.run(c.TellDirectKey(key=key), who)

    def attend(self, who: Agent, **said: Any) -> Decision:
        return self.run(c.SetAttention(agent=who.id, **said), who)

    def activate(self, who: Agent, room: RoomId | None) -> Decision:
        return self.run(c.Activate(agent=who.id, room=room), who)

    def pair(
        self, one: Agent, other: Agent, room: str, *, instead: str | None = None, unopened: bool = False
    ) -> Decision:
        """Let a room be that of two agents, as the first of them asks."""
        before = None if instead is None else RoomId(instead)
        command = c.PairAgents(one=one.id, other=other.id, room=RoomId(room), instead=before, unopened=unopened)
        return self.run(command, one)

    def ask(self, asker: Agent, agent: Agent) -> Decision:
        """One agent wants to write to another, which wants its person to be asked."""
        command = c.AskDirect(agent=agent.id, asker=asker.id, principal=asker.principal, name=asker.name)
        return self.run(command, asker)

    def answer(self, agent: Agent, asker: Agent, *, admit: bool = True) -> Decision:
        """The person of an agent says whether somebody may write to it."""
        request = self.aggregate.state.pairs.asks[agent.id][asker.id].request
        return self.run(c.DecideDirect(request=request, admit=admit, proof="cli"), agent)

    def wake(
        self,
        who: Agent,
        *authors: Agent,
        room: str = "r_a",
        chain: str = "c1",
        turns: int = 1,
        asked: bool = False,
    ) -> Decision:
        """A turn of an agent would begin, by the messages of these in one conversation."""
        causes = tuple(Cause(RoomId(room), chain, author.id, turns) for author in authors)
        return self.run(c.Wake(agent=who.id, begun=Millis(self.now), causes=causes, asked=asked), who)

    def let_go_on(self, who: Agent, *, room: str = "r_a", chain: str = "") -> Decision:
        """The person lets their agents go on in a room."""
        return self.run(c.ContinueWakes(room=RoomId(room), chain=chain), who)

    def bound(self, who: Agent, most: int | None, *, room: str = "r_a") -> Decision:
        """The person says how many turns two agents may begin in each conversation of a room."""
        return self.run(c.BoundWakes(room=RoomId(room), most=most), who)

    def limit(self, who: Agent, limit: RoomLimit, *, room: str = "r_a") -> Decision:
        """The person says how much is kept of the words of a room."""
        return self.run(c.LimitRoom(room=RoomId(room), limit=limit), who)

    def enrol(self, who: Agent) -> Decision:
        return self.run(c.EnrolPerson(principal=who.principal, name=who.name), who)

    def kick(self, who: Agent) -> Decision:
        return self.run(c.KickPerson(principal=who.principal), who)

    def mint(self, who: Agent, *, days: int = 30, text: str = "a token", room: str = "r_a", **more: Any) -> str:
        """A token for an agent in a room: its id. `more` is what a token of another kind has."""
        command = c.MintToken(
            digest=text.encode(),
            agent=who.id,
            room=RoomId(room),
            access=("read", "post"),
            wall=Millis(self.now),
            expires_at=Millis(self.now + days * DAY_MS),
            label="a script",
            **more,
        )
        [minted] = self.run(command, who).events
        assert isinstance(minted, e.TokenMinted)
        return minted.token

    def revoke_token(self, who: Agent, token: str) -> Decision:
        return self.run(c.RevokeToken(token=token), who)

    def mint_watch_code(self, who: Agent, *, text: str = "a code", room: str = "r_a", **times: int) -> str:
        """A watch code of an agent for a room: its id. `use_by` and `expires_at` are spans."""
        command = c.MintWatchCode(
            digest=text.encode(),
            agent=who.id,
            as_person=True,
            room=RoomId(room),
            wall=Millis(self.now),
            use_by=Millis(self.now + times.get("use_by", HOLDS_MS)),
            expires_at=Millis(self.now + times.get("expires_at", HOLDS_MS)),
        )
        [minted] = self.run(command, who).events
        assert isinstance(minted, e.WatchCodeMinted)
        return minted.code

    def use_watch_code(self, who: Agent, code: str) -> Decision:
        return self.run(c.UseWatchCode(code=code, wall=Millis(self.now)), who)

    def revoke_watch_code(self, who: Agent, code: str) -> Decision:
        return self.run(c.RevokeWatchCode(code=code), who)

    def join(self, who: Agent, token: str, *, request: str = "k1", name: str = "") -> str:
        """A new agent begins to join with a token: the id of the join, also where it was begun before."""
        command = c.BeginJoin(
            token=token,
            agent=who.id,
            name=name or who.name,
            role="",
            request=request,
            asked=(name or who.name).encode(),
            wall=Millis(self.now),
        )
        self.run(command, who)
        join = self.aggregate.tokens.asked(token, request)
        assert join is not None
        return join.id

    def end_join(self, who: Agent, join: str, *, denied: bool = True) -> Decision:
        return self.run(c.EndJoin(join=join, denied=denied), who)

    def verify(self) -> None:
        self.check(HomeRoom, HomeRoom.restore)


class Options(TypedDict, total=False):
    """How a room is opened; see `RoomDriver.open`."""

    history: History
    approval: bool
    approver: Approver
    ttl_ms: int
    max_uses: int
    preapproved: tuple[AgentId, ...]
    recap: bool
    key: str | None
    kind: RoomKind


def opened(**options: Unpack[Options]) -> RoomDriver:
    """A room that `OWNER` opened."""
    room = RoomDriver()
    room.open(**options)
    return room
