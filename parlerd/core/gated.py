"""Gated messages: those that readers are shown once something is true or a timer ran out, and those that go with a
timer.

    message_gated     the message stands in the table of the state, beside its scopes, as an action does
    message_released  it is shown: to everyone who may be shown it where that depends on no reader, else to those for
                      whom it is true now. A message follows that each of them reads, counts and acknowledges as any
    task_offered      who may claim a task now: not those for whom it is not true any more, nor anybody else while
                      somebody has the same task that was shown to others apart
    bodies_erased     the words are gone with a timer, or stand in the messages now and are not needed here

What a change leads to is a fact of the batch that brought the change (`follow`). So nobody evaluates anything to read a
message or to count tasks, a mirror is told what its agents were shown and never why, and what a reader was shown stays
shown.

An author signs a gated message once, before anybody knows who will be shown it when. The home shows it in an envelope
of its own (`RELEASED`) that holds what the author signed, so every reader can check the words, the room, the kind and
for whom it may be. That the condition came true is the home's word, as the state is.

In a sealed room the words are sealed under the record that is in force where `message_gated` stands. So the roster and
the history of that place say who may be shown them, as of any message; and nobody is shown them whom the record in
force does not hold, or whose author it does not.

Not here: what stands in the table (`entries`), whether something is true (`resolver`). Above: `room`. Below: those, and
`claims`. Invariants: no reader is shown a gated message twice; what decides is told to nobody; what `follow` leads
to ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics, visibility
from parlerd.core.claims import Claims, Task
from parlerd.core.decision import Decision, replayed
from parlerd.core.entries import EntriesState, Entry, Gate
from parlerd.core.envelope import (
    RELEASED,
    SEALED,
    SIGNED,
    Envelope,
    GatedPart,
    TaskPart,
    decode_envelope,
    encode_envelope,
    root_chain,
    span_until,
)
from parlerd.core.errors import Refused
from parlerd.core.expressions import Failed
from parlerd.core.facets import Facet, Follow, applies, decides, nobody, reads, touches
from parlerd.core.lifecycle import LifecycleState
from parlerd.core.membership import (
    Member,
    MembershipState,
    is_requester,
    newest_number,
    present,
    reads_on,
    resolve,
    view_of,
    with_keys,
)
from parlerd.core.model import (
    ACTIONS,
    AGENTS,
    COOLDOWNS,
    MESSAGES,
    AgentId,
    By,
    Ids,
    MessageId,
    Millis,
    Position,
    TaskOutcome,
)
from parlerd.core.refusals import refusal
from parlerd.core.resolver import Asker, Counted, Resolver
from parlerd.core.sealing import check_gate
from parlerd.core.seen import SeenAgent
from parlerd.core.state import MAX_BYTES, MAX_TIMERS, Entries, Look, nearest
from parlerd.core.timers import Timer, started
from parlerd.core.topics import ANY, Topic
from parlerd.core.turning import EpochsState, are_wrapped_to, require_in_force
from parlerd.core.words import TASK, check_frame

EVERYONE: Final = AgentId("")
"""In place of a reader, where a mirror keeps to whom a message was shown."""
MAX_GATED: Final = 100
"""Gated messages of one room. Source: coordination spec, Messages as work."""
KEPT_SHOWN: Final = 1_024
"""Gated messages of which a mirror knows whom of its readers they were shown to, so that a home cannot show the same
words again."""
FOLLOW_STEPS: Final = 400_000
"""Steps of all evaluations that one command may lead to here. What is left is looked at with the next command, or as
soon as the room is looked at again."""
EVALUATION_STEPS: Final = 200
"""What it costs to look at the room as one reader, in steps: as much as the 12 us that were measured."""
MAX_ROUNDS: Final = 3
"""How often it is looked again because a step changed how many messages there are. Agents that come and go with that
may go on for ever."""
_NONCE: Final = 16
Looked = tuple[str, str, str]
"""What an evaluation looked at, as `Resolver.looked` names it."""


class _Signed(msgspec.Struct, frozen=True, array_like=True):
    body: bytes
    signature: bytes


def encode_signed(body: bytes, signature: bytes) -> bytes:
    """The body of the fact of a gated message: what its author signed, with the signature."""
    return msgspec.msgpack.encode(_Signed(body, signature))


def decode_signed(data: bytes) -> GatedPart:
    """The same again. Raises `msgspec.DecodeError`."""
    signed = msgspec.msgpack.decode(data, type=_Signed)
    return GatedPart(signed.body, signed.signature)


def released(
    signed: GatedPart, id: MessageId, readers: tuple[AgentId, ...] | None, *, open_until: Millis = Millis(0)
) -> Envelope:
    """The envelope in which a home shows what an author signed to these readers, None for everyone who may be shown it.
    A task may be claimed until `open_until`, 0 for ever. The same arguments give the same envelope, so a home that lost
    what it told last tells the same again. Nobody can guess the nonce who was not shown what the author signed."""
    told = msgspec.msgpack.encode((signed.body, id, readers))
    within = decode_envelope(signed.body)
    return Envelope(
        v=RELEASED,
        id=id,
        room=within.room,
        key="",
        kind=within.kind,
        chain=within.chain,
        hops=within.hops,
        authored_at=within.authored_at,
        counter=0,
        previous=b"",
        nonce=hashlib.sha256(told).digest()[:_NONCE],
        host=within.host,
        via=within.via,
        parts=(signed, TaskPart(at=open_until)) if open_until else (signed,),
        to=tuple(agent for agent in within.to if readers is None or agent in readers),
        visibility=readers,
        reply_to=within.reply_to,
    )


def require_released(envelope: Envelope, within: Envelope) -> None:
    """Check what a home may show as a released message: `envelope` holds `within`, which was read from what the author
    signed. Raises `Refused(envelope_refused)`, with the wrong field as `what`. It is not looked at here whether the
    author signed it, and whether a reader was shown it before."""
    check_gate(within)
    is_for_all = within.visibility is None
    readers = () if envelope.visibility is None else envelope.visibility
    sound = {
        "v": envelope.v == RELEASED,
        "key": envelope.key == "",
        "counter": envelope.counter == 0 and envelope.previous == b"",
        "line": envelope.shown == 0 and envelope.line == b"",
        "visibility": is_for_all or (envelope.visibility is not None and set(readers) <= set(within.visibility or ())),
        "to": set(envelope.to) <= set(within.to) and not envelope.role,
        **{
            name: getattr(envelope, name) == getattr(within, name)
            for name in ("room", "kind", "reply_to", "chain", "hops", "authored_at", "host", "via")
        },
    }
    for what, is_sound in sound.items():
        if not is_sound:
            raise Refused("envelope_refused", what=what)
    # The conversation is named by the id under which the message was shown first.
    chain = root_chain(envelope.id) if envelope.reply_to is None else envelope.chain
    check_frame(msgspec.structs.replace(envelope, chain=chain))


class _Unseen:
    """How present agents are, for evaluations whose outcome is a fact: that is not asked. `is_asked` says that it
    was."""

    def __init__(self) -> None:
        self.is_asked = False

    def of(self, agent: AgentId) -> SeenAgent:
        self.is_asked = True
        raise Failed("how present an agent is cannot be read here: it is no fact of the room")


class Gone(NamedTuple):
    """A body that is to be erased: how many bytes it has, and whether it is that of a message."""

    size: int
    is_message: bool


class Live(NamedTuple):
    """For whom something is true now, among those who were asked for; `is_for_all` where it depends on no reader."""

    readers: tuple[AgentId, ...]
    is_for_all: bool


class Gated(Facet[EntriesState]):
    """Takes gated messages, and shows them."""

    __slots__ = (
        "_claims",
        "_dirty",
        "_entries",
        "_epochs",
        "_gone",
        "_left",
        "_lifecycle",
        "_look",
        "_looked",
        "_may_invoke",
        "_membership",
        "_watchers",
    )

    def __init__(
        self,
        entries: Entries,
        lifecycle: LifecycleState,
        membership: MembershipState,
        claims: Claims,
        look: Look,
        may_invoke: Callable[[Resolver, str], bool],
        epochs: EpochsState,
    ) -> None:
        super().__init__(entries.state)
        self._entries = entries
        """Where they stand too."""
        self._lifecycle = lifecycle
        self._membership = membership
        self._claims = claims
        self._look = look
        """How an agent sees the room, for decisions."""
        self._may_invoke = may_invoke
        """Whether whoever looks may invoke an action."""
        self._epochs = epochs
        """Who can read what is said in a sealed room."""
        # What is looked at again after a change: gated messages by their ids, and beside them the agents whose tasks
        # are there only while they are, by their handles. No id is a handle.
        self._dirty: set[str] = {*self._messages, *self._authors()}
        """What may have changed since it was evaluated. After a restart that is everything."""
        self._looked: dict[str, frozenset[Looked]] = {}
        """What each of them looked at when it was evaluated last."""
        self._watchers: dict[Looked, set[str]] = {}
        """The same the other way round."""
        self._gone: dict[Position, Gone] = {}
        """The facts whose bodies are to be erased with the next facts."""
        self._left = 0
        """Steps that may still be taken now."""

    @property
    def _messages(self) -> dict[str, Entry]:
        return self.state.scopes.get(MESSAGES, {})

    # -- asking --------------------------------------------------------------------------------------------

    def entry(self, id: str) -> Entry | None:
        """What stands under the id of a gated message, whoever may be shown it; None once everyone was, or nobody will
        be."""
        return self._entries.table.entry(MESSAGES, id)

    @property
    def has_work(self) -> bool:
        """Whether something is to be looked at, or to go."""
        return bool(self._dirty or self._gone)

    def next_deadline(self, after: Millis) -> Millis | None:
        """What was not looked at for its cost is looked at soon."""
        return Millis(after + 1) if self._dirty and self._left < 0 else None

    # -- deciding ------------------------------------------------------------------------------------------

    def _gate(self, command: c.GateMessage, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        if author.waits:
            raise Refused("not_sealed_in", agent=author.handle)
        if self._lifecycle.sealed and command.envelope.v == SEALED:
            require_in_force(self._epochs, command.envelope)
        self._entries.require_writable(author, self._look(by.actor, now, command.presence))
        said = command.envelope
        if len(self._messages) >= MAX_GATED:
            raise refusal("too_many_gated", {"limit": MAX_GATED})
        if said.kind == TASK:
            self._claims.require_space()
        timer = None if command.timer is None else started(command.timer, now)
        self._require_room(author, len(command.signed), timer)
        self._require_same(command, by, author)
        gated = e.MessageGated(
            id=said.id,
            kind=said.kind,
            visibility=said.visibility,
            enabled=command.enabled,
            timer=timer,
            size=len(command.signed),
        )
        return Decision((gated,), bodies=(command.signed,), authority="member")

    def _require_same(self, command: c.GateMessage, by: By, author: Member) -> None:
        """Refuse what the author signed unless it says what this room decides itself."""
        said, members = command.envelope, self._membership.members
        target = command.reply
        if said.reply_to is not None and (
            target is None
            or not visibility.can_see(view_of(author), position=target.position, visibility=target.visibility)
        ):
            raise Refused("no_such_message", id=said.reply_to)
        replied = None if target is None else target.visibility
        named = None if said.visibility is None or said.visibility == replied else said.visibility
        chosen = None if named is None else tuple(_known(members, named))
        readers = visibility.audience(by.actor, chosen, replied)
        is_sealed = self._lifecycle.sealed > 0
        if is_sealed and readers is not None:
            readers = with_keys(members, self._epochs.roster, chosen or (), readers)
        addressed = tuple(_known(members, said.to))
        if readers is not None and not set(addressed) <= set(readers):
            raise Refused("invalid_param", "A message cannot be addressed to someone it is hidden from.", param="to")
        sound = {
            "v": said.v == (SEALED if is_sealed else SIGNED),
            "room": said.room == self._lifecycle.room,
            "key": command.idempotency_key == said.key,
            "visibility": readers == said.visibility,
            "to": addressed == said.to,
            "chain": said.chain == (root_chain(said.id) if target is None else target.chain),
            "hops": said.hops == (0 if target is None else target.hops + 1),
            "shown": said.shown <= newest_number(self._membership),
            "id": not command.is_id_taken and self.entry(said.id) is None,
        }
        for what, is_sound in sound.items():
            if not is_sound:
                raise Refused("envelope_refused", what=what)
        if is_sealed and not are_wrapped_to(said, by.actor):
            raise Refused("envelope_refused", what="wraps")

    def _require_room(self, author: Member, size: int, timer: Timer | None) -> None:
        table = self._entries.table
        if table.size + size > max(MAX_BYTES, table.size):
            raise Refused("state_full", limit=MAX_BYTES, what="bytes")
        if timer is not None:
            mine = sum(entry.by == author.agent for name in table.timed() if (entry := table.entry(*name)) is not None)
            if mine >= MAX_TIMERS:
                raise Refused("state_full", limit=MAX_TIMERS, what="timers")

    def _withdraw(self, command: c.WithdrawMessage, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._entries.require_open(author)
        entry = self.entry(command.id)
        if entry is None or by.actor not in (entry.by, self._lifecycle.owner):
            mine = [id for id, each in self._messages.items() if each.by == by.actor]
            raise refusal("no_such_gated", {"id": command.id, "near": nearest(command.id, mine)})
        return Decision((e.MessageWithdrawn(id=command.id),), authority="member")

    # -- what follows --------------------------------------------------------------------------------------

    def follow(self, now: Millis, ids: Ids) -> Iterator[Follow]:
        """What the facts since the last call lead to. Whoever asks applies each step before the next."""
        self._left = FOLLOW_STEPS
        for _ in range(MAX_ROUNDS):
            for name in self._in_order():
                if self._left < 0:
                    break
                self._dirty.discard(name)
                if self._lifecycle.closed:
                    continue
                if self.entry(name) is not None:
                    yield from self._show(MessageId(name), now, ids)
                else:
                    yield from self._offer_of(name, now)
        if self._gone:
            positions, gone = tuple(sorted(self._gone)), list(self._gone.values())
            erased = e.BodiesErased(
                spans=tuple((position, position) for position in positions),
                messages=sum(each.is_message for each in gone),
                bytes=sum(each.size for each in gone),
            )
            yield Follow(erased, erases=positions)

    def _in_order(self) -> list[str]:
        """What is to be looked at, the oldest first."""
        messages = self._messages
        return sorted(self._dirty, key=lambda name: (messages[name].position if name in messages else 0, name))

    def _show(self, id: MessageId, now: Millis, ids: Ids) -> Iterator[Follow]:
        """Show a message to those for whom it is true now and who were not shown it, and see to its tasks."""
        entry = self._messages[id]
        gate = entry.gate
        assert gate is not None
        if entry.is_dormant or not entry.text:
            return
        live = self._live(id, entry, gate, now)
        author = self._membership.members.get(entry.by)
        # Behind a rewind a sealed room does not know of everybody who was put out.
        is_here = author is not None and author.present and not self._epochs.rewound
        is_over = gate.ended is not None or 0 < gate.open_until <= now or not is_here
        if live.readers and not gate.is_public and not is_over:
            is_for_all = live.is_for_all and not gate.readers
            new = tuple(agent for agent in live.readers if agent not in gate.readers)
            if is_for_all or set(new) - {entry.by}:
                named = None if is_for_all and self._are_all(entry, gate) else new
                yield from self._release(id, entry, gate, named, now, ids)
                if is_for_all and named is not None and _is_settled(self._messages[id]):
                    # Nobody else can read it.
                    yield Follow(e.MessageWithdrawn(id=id))
        if gate.kind == TASK and (current := self._messages.get(id)) is not None:
            yield from self._offer(current, live, now)

    def _are_all(self, entry: Entry, gate: Gate) -> bool:
        """Whether everybody who reads what is shown to everyone who may be shown it can read it. In a sealed room that
        is not so of whoever came in after the message was written, where the history is not for everyone, and of a
        reader who is out."""
        if not self._lifecycle.sealed:
            return True
        if gate.visibility is not None:
            return len(self._audience(entry, gate)) == len(gate.visibility)
        return all(self._can_read(each, entry, gate) for each in self._members() if reads_on(each) and not each.waits)

    def _release(
        self,
        id: MessageId,
        entry: Entry,
        gate: Gate,
        new: tuple[AgentId, ...] | None,
        now: Millis,
        ids: Ids,
    ) -> Iterator[Follow]:
        readers = gate.visibility if new is None else tuple(sorted({entry.by, *new}))
        shown_as = MessageId(ids.new("m")) if gate.places or gate.is_rewound else id
        envelope = released(decode_signed(entry.text), shown_as, readers, open_until=gate.open_until)
        body = encode_envelope(envelope)
        posted = e.MessagePosted(
            id=shown_as,
            kind=envelope.kind,
            to=envelope.to,
            visibility=readers,
            reply_to=envelope.reply_to,
            chain=envelope.chain,
            hops=envelope.hops,
            counter=0,
            envelope=hashlib.sha256(body).digest(),
            envelope_v=RELEASED,
            verified="valid",
            ttl_ms=span_until(gate.open_until, now) if gate.open_until else Millis(0),
        )
        yield Follow(e.MessageReleased(gate=id, id=shown_as, readers=new))
        yield Follow(posted, by=gate.by, body=body)

    def _offer(self, entry: Entry, live: Live, now: Millis) -> Iterator[Follow]:
        """Who may claim the tasks of a gated message now."""
        gate = entry.gate
        assert gate is not None
        tasks = [task for id in gate.tasks if (task := self._claims.state.tasks.get(id)) is not None]
        if gate.ended is not None:
            for task in tasks:
                yield Follow(_over(task, *gate.ended))
            return
        held = [task for task in tasks if task.is_held]
        if gate.open_until and gate.open_until <= now and not held:
            for task in tasks:
                yield Follow(_over(task, task.author, "cancelled"))
            return
        for task in tasks:
            if task in held:
                continue
            among: tuple[AgentId, ...] | None = ()
            if not held and live.is_for_all:
                among = None if live.readers else ()
            elif not held:
                among = _within(live.readers, task.visibility)
            if task.among != among:
                yield Follow(e.TaskOffered(task=task.id, among=among))

    def _offer_of(self, handle: str, now: Millis) -> Iterator[Follow]:
        """Who may claim the tasks of an agent that is there only while something is true."""
        author = self._entries.member(handle)
        gated = {id for entry in self._messages.values() if entry.gate is not None for id in entry.gate.tasks}
        tasks = [task for task in self._claims.state.tasks.values() if task.author == author and task.id not in gated]
        if not tasks:
            # It is looked at again when it has one.
            self._note(handle, None)
            return
        looked: set[Looked] = set()
        members = self._members()
        live = self._stands(handle, members, looked, now)
        self._note(handle, looked)
        for task in tasks:
            among = None if len(live) == len(members) else _within(live, task.visibility)
            if task.among != among and not task.is_held:
                yield Follow(e.TaskOffered(task=task.id, among=among))

    # -- what is true for whom -----------------------------------------------------------------------------

    def _live(self, id: MessageId, entry: Entry, gate: Gate, now: Millis) -> Live:
        """For whom of those who may be shown a message it is there now."""
        looked: set[Looked] = set()
        readers, author = self._audience(entry, gate), self._entries.handle(entry.by)
        is_alike = self._entries.table.entry(AGENTS, author) is None
        if not is_alike:
            stands = self._stands(author, readers, looked, now)
            readers = [member for member in readers if member.agent in stands]
        found: list[AgentId] = []
        for member in readers:
            resolver = self._resolver(member, now, _no_messages, _Unseen(), of=len(readers))
            if resolver.shows(id, entry):
                found.append(member.agent)
            looked.update(resolver.looked)
            self._left -= EVALUATION_STEPS + resolver.steps
            is_alike = is_alike and resolver.is_alike_for_all
            if is_alike:
                found = [each.agent for each in readers] if found else []
                break
        self._note(id, looked)
        return Live(tuple(found), is_alike)

    def _stands(self, handle: str, readers: Sequence[Member], looked: set[Looked], now: Millis) -> list[AgentId]:
        """For whom of these an agent is there now. Where that depends on how present somebody is, which is no fact, it
        is there for all."""
        found = []
        for member in readers:
            unseen = _Unseen()
            resolver = self._resolver(member, now, self._counted(member, now), unseen, of=len(readers))
            if resolver.stands(handle) or unseen.is_asked:
                found.append(member.agent)
            looked.update(resolver.looked)
            self._left -= EVALUATION_STEPS + resolver.steps
        return found

    def _resolver(
        self, member: Member, now: Millis, counted: Callable[[], Counted], unseen: _Unseen, *, of: int
    ) -> Resolver:
        """How one of so many readers sees the room: all of them together take no more steps than there are."""
        asker = Asker(member.agent, member.handle, counted, self._may_invoke)
        members, steps = self._membership.members, FOLLOW_STEPS // of
        return Resolver(self._entries.table, members, asker, now=now, presence=unseen, steps=steps)

    def _counted(self, member: Member, now: Millis) -> Callable[[], Counted]:
        return lambda: Counted(0, {TASK: len(self._claims.open_to(member.agent, now))})

    def _members(self) -> list[Member]:
        """Everyone who is in and sees more than what names it."""
        members = self._membership.members.values()
        return [member for member in members if member.present and not is_requester(member)]

    def _audience(self, entry: Entry, gate: Gate) -> list[Member]:
        """Who may be shown a message, as far as they are in: of one for some readers also who only asks for work."""
        members = self._members() if gate.visibility is None else self._membership.members.values()
        return [each for each in members if each.present and self._can_read(each, entry, gate)]

    def _can_read(self, member: Member, entry: Entry, gate: Gate) -> bool:
        """Whether a message is for this member, who is in. In a sealed room it was sealed where it was taken in to
        wait: so it is for whoever may see what was said there, and can read now."""
        if not self._lifecycle.sealed:
            return gate.visibility is None or member.agent in gate.visibility
        is_reader = member.agent in self._epochs.roster and not member.waits
        return is_reader and visibility.can_see(view_of(member), position=entry.position, visibility=gate.visibility)

    def waits_from(self, agents: Collection[AgentId]) -> int:
        """The number of the oldest epoch under which a message is sealed that one of these agents may be shown yet; 0
        where none is."""
        for entry in sorted(self._messages.values(), key=lambda entry: entry.position):
            gate = entry.gate
            if gate is None or gate.is_public:
                continue
            members = [self._membership.members[agent] for agent in agents if agent not in gate.readers]
            if any(each.present and self._can_read(each, entry, gate) for each in members):
                turned = reversed(self._epochs.turned)
                return next((number for number, position in turned if position <= entry.position), 0)
        return 0

    def _authors(self) -> list[str]:
        """The agents that are there only while something is true."""
        return [name for name in self.state.scopes.get(AGENTS, {}) if name not in self.state.modules]

    def _note(self, name: str, looked: set[Looked] | None) -> None:
        """Something was evaluated, and looked at this; None where nothing has to be evaluated again."""
        for each in self._looked.pop(name, ()):
            watchers = self._watchers[each]
            watchers.discard(name)
            if not watchers:
                del self._watchers[each]
        if looked:
            self._looked[name] = frozenset(looked)
            for each in looked:
                self._watchers.setdefault(each, set()).add(name)

    def _changed(self, root: str, scope: str = ANY, key: str = ANY) -> None:
        """Something changed that may have been looked at."""
        for each in {(root, scope, key), (root, scope, ANY), (root, ANY, ANY)}:
            if each in self._watchers:
                self._dirty |= self._watchers[each]

    def _all_changed(self) -> None:
        self._dirty |= {*self._messages, *self._authors()}

    # -- folding -------------------------------------------------------------------------------------------

    def _put(self, id: str, entry: Entry, **changed: object) -> None:
        assert entry.gate is not None
        gate = msgspec.structs.replace(entry.gate, **changed)
        self._entries.table.put(MESSAGES, id, msgspec.structs.replace(entry, gate=gate))

    def _end(self, id: str, *, with_words: bool = False) -> None:
        """Nobody else is shown a message. Its words stand in the messages that were shown, or go with all of them."""
        entry = self.entry(id)
        if entry is None or entry.gate is None:
            return
        self._gone[entry.position] = Gone(entry.size, is_message=False)
        if with_words:
            self._gone |= dict.fromkeys(entry.gate.places, Gone(entry.size, is_message=True))
        self._entries.table.remove(MESSAGES, id)
        self._dirty.discard(id)
        self._note(id, None)

    def _took(self, event: e.MessageGated, header: e.Header) -> None:
        timer = event.timer
        is_bounded_task = event.kind == TASK and timer is not None and timer.effect == "delete" and bool(timer.due)
        gate = Gate(
            kind=event.kind,
            by=header.by,
            visibility=event.visibility,
            open_until=timer.due if is_bounded_task and timer is not None else Millis(0),
        )
        entry = Entry(
            version=1,
            text=b"",
            size=event.size,
            by=header.by.actor,
            at=header.at,
            position=header.position,
            enabled=event.enabled,
            timer=timer,
            ticks=0 if timer is None else timer.ticks,
            gate=gate,
        )
        self._entries.table.put(MESSAGES, event.id, entry)
        self._dirty.add(event.id)

    def _signed(self, event: e.MessageGated, body: bytes) -> None:
        entry = self.entry(event.id)
        if entry is not None:
            self._entries.table.put(MESSAGES, event.id, msgspec.structs.replace(entry, text=body))

    def _released(self, event: e.MessageReleased, header: e.Header) -> None:
        entry = self.entry(event.gate)
        if entry is None or entry.gate is None:
            # Only a mirror does not have it.
            shown, readers = self.state.shown, (EVERYONE,) if event.readers is None else event.readers
            shown[event.gate] = (*shown.pop(event.gate, ()), *readers)
            if len(shown) > KEPT_SHOWN:
                del shown[next(iter(shown))]
            return
        gate = entry.gate
        # The message is the fact that follows.
        places = (*gate.places, Position(header.position + 1))
        readers = gate.readers if event.readers is None else (*gate.readers, *event.readers)
        tasks = (*gate.tasks, event.id) if gate.kind == TASK else ()
        if tasks and gate.open_until:
            # From here on the task's own time counts, which stops while somebody has the task.
            entry = msgspec.structs.replace(entry, timer=None)
        is_public = event.readers is None
        self._put(event.gate, entry, places=places, readers=readers, tasks=tasks, is_public=is_public)
        if is_public and _is_settled(self._messages[event.gate]):
            self._end(event.gate)

    def _withdrawn(self, event: e.MessageWithdrawn, header: e.Header) -> None:
        self._end(event.id)

    def _fired(self, event: e.TimerFired, header: e.Header) -> None:
        if event.scope in (ACTIONS, COOLDOWNS):
            self._changed("actions", event.key)
        elif event.scope != MESSAGES:
            self._changed("state", event.scope, event.key)
        elif (entry := self.entry(event.key)) is not None and entry.gate is not None:
            gate, entry = entry.gate, msgspec.structs.replace(entry, timer=None, ticks=0)
            self._dirty.add(event.key)
            if event.effect == "enable":
                self._put(event.key, entry)
            elif gate.tasks:
                # Whoever has the task keeps it.
                self._put(event.key, entry, open_until=header.at)
            else:
                self._end(event.key, with_words=True)

    def _task_moved(self, event: e.TaskClaimed | e.TaskReleased | e.TaskLapsed, header: e.Header) -> None:
        self._task_changed(event.task)

    def _task_changed(self, id: MessageId) -> str | None:
        """The gated message that a task is of, if it is of one; it is looked at again, and so is a task of an agent
        that is there only while something is true."""
        self._changed("messages")
        task = self._claims.get(id)
        if task is not None and (handle := self._entries.handle(task.author)) in self.state.scopes.get(AGENTS, {}):
            self._dirty.add(handle)
        return self._message_of(id)

    def _message_of(self, task: MessageId) -> str | None:
        for id, entry in self._messages.items():
            if entry.gate is not None and task in entry.gate.tasks:
                self._dirty.add(id)
                return id
        return None

    def _task_over(self, event: e.TaskCompleted, header: e.Header) -> None:
        id = self._task_changed(event.task)
        if id is None:
            return
        entry = self._messages[id]
        assert entry.gate is not None
        left = tuple(task for task in entry.gate.tasks if task != event.task)
        if not left:
            self._end(id)
            return
        self._put(id, entry, tasks=left, ended=(event.worker, event.outcome))

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        author = header.by.actor
        if event.kind == TASK and (handle := self._entries.handle(author)) in self.state.scopes.get(AGENTS, {}):
            self._dirty.add(handle)
        self._changed("messages")

    def _written(self, event: e.StateWritten | e.StateDeleted, header: e.Header) -> None:
        self._changed("state", event.scope, event.key)

    def _acted(self, event: e.ActionRegistered | e.ActionDeleted | e.ActionInvoked, header: e.Header) -> None:
        self._changed("actions", event.id)

    def _somebody(self, event: e.RoomEvent, header: e.Header) -> None:
        """Who is here, what they are called to do, who is there, and who reads what."""
        if isinstance(event, e.AgentEnabled):
            self._dirty.add(event.handle)
        self._all_changed()

    def _parted(self, event: e.MemberLeft, header: e.Header) -> None:
        """Whoever is out says nothing more. Work that was shown before goes on."""
        for id, entry in list(self._messages.items()):
            if entry.by == event.agent and entry.gate is not None and not entry.gate.tasks:
                self._end(id)
        self._all_changed()

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        """The room's home lost whom it showed what, and may show it again: under ids that nobody has seen."""
        self.state.shown.clear()
        for id, entry in list(self._messages.items()):
            self._put(id, entry, is_rewound=True)

    def _closed(self, event: e.RoomClosed, header: e.Header) -> None:
        for id in list(self._messages):
            self._end(id)

    def _erased(self, event: e.BodiesErased, header: e.Header) -> None:
        for first, last in event.spans:
            for position in [each for each in self._gone if first <= each <= last]:
                del self._gone[position]

    def _gated_told(self, event: e.MessageGated | e.MessageWithdrawn, header: e.Header) -> tuple[Topic, ...]:
        return (topics.life(self._lifecycle.room),)

    DECIDES = (decides(c.GateMessage, _gate), decides(c.WithdrawMessage, _withdraw))
    APPLIES = (
        applies(e.MessageGated, _took),
        applies(e.MessageReleased, _released),
        applies(e.MessageWithdrawn, _withdrawn),
        applies(e.TimerFired, _fired),
        applies(e.TaskClaimed, _task_moved),
        applies(e.TaskReleased, _task_moved),
        applies(e.TaskLapsed, _task_moved),
        applies(e.TaskCompleted, _task_over),
        applies(e.MessagePosted, _posted),
        applies(e.StateWritten, _written),
        applies(e.StateDeleted, _written),
        applies(e.ActionRegistered, _acted),
        applies(e.ActionDeleted, _acted),
        applies(e.ActionInvoked, _acted),
        applies(e.AgentEnabled, _somebody),
        applies(e.ModuleRegistered, _somebody),
        applies(e.ModuleDeleted, _somebody),
        applies(e.ScopeHidden, _somebody),
        applies(e.MemberJoined, _somebody),
        applies(e.MemberLeft, _parted),
        applies(e.EpochTurned, _somebody),
        applies(e.RoomRewound, _rewound),
        applies(e.RoleGiven, _somebody),
        applies(e.RoomClosed, _closed),
        applies(e.BodiesErased, _erased),
    )
    READS = (reads(e.MessageGated, _signed),)
    TOUCHES = (
        touches(e.MessageGated, _gated_told),
        touches(e.MessageWithdrawn, _gated_told),
        touches(e.MessageReleased, nobody),
    )


def _known(members: Mapping[AgentId, Member], named: Sequence[AgentId]) -> list[AgentId]:
    """These agents, who are all in. Raises `Refused(no_such_agent)`."""
    return [resolve(members, each) for each in dict.fromkeys(named)]


def _within(agents: Sequence[AgentId], readers: tuple[AgentId, ...] | None) -> tuple[AgentId, ...]:
    return tuple(agent for agent in agents if readers is None or agent in readers)


def _over(task: Task, worker: AgentId, outcome: TaskOutcome) -> e.TaskCompleted:
    """That a task is over, because another message with the same task is, or its time."""
    return e.TaskCompleted(task=task.id, worker=worker, outcome=outcome, fence=Position(0))


def _is_settled(entry: Entry) -> bool:
    """Whether nothing becomes of a message that was shown to all who may be shown it: its words stay, and no condition
    says who may claim it."""
    return entry.timer is None and not (entry.gate is not None and entry.gate.tasks and entry.enabled is not None)


def _no_messages() -> Counted:
    raise Failed("a gated message does not wait for other messages")
