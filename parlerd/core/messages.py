"""Messages: who may say what to whom, each author's threads of envelopes, and the room's public line.

Not here: the words of a message (`words`, `envelope`), and the messages themselves. A room in memory holds none; what a
decision needs of the message that is replied to, the engine looks up and puts into the command. Above: `room`. Below:
`membership` (who is in), `visibility` (who may see), `public_line`. Invariants: in each thread of an author the
counters grow, and each envelope names the one before it; the public line covers each public message once, in order;
what is kept of one author's threads is bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from parlerd.core import claims, handoff, membership, memory, topics, visibility
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision, replayed
from parlerd.core.envelope import OPENED, SEALED, SIGNED, Envelope, GuardPart, root_chain, span_until
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import LifecycleState, require_open, require_sound
from parlerd.core.membership import MembershipState
from parlerd.core.memory import MemoryState, Noted
from parlerd.core.model import INVOCATION, AgentId, By, Ids, MessageId, Millis, Position, ReplyTarget, Seq, Shown
from parlerd.core.public_line import epoch_of, first_line, first_number, line_after_rewind, next_line
from parlerd.core.sealing import OTHER, outside_kind
from parlerd.core.seen import Presences
from parlerd.core.topics import Topic
from parlerd.core.turning import EpochsState, are_wrapped_to, require_in_force
from parlerd.core.words import LATE, TASK, contradiction

GUARD: Final = "guard"
"""What does not fit of an envelope that was composed on an older state of a sealed room's memory."""
MAX_AUDIENCES: Final = 256
"""Sets of readers to which one agent may write privately in one room. Each is a thread, which is 80 bytes of every
snapshot for as long as the room lives: where a thread that may go on were forgotten, its author would begin it anew,
and whatever was left out before that would show to nobody. Twenty agents who write to each other in pairs have 19
each."""
MAX_AUDIENCES_OF_PERSON: Final = 2_048
"""The same for all agents of one person together, who makes as many agents as they like: 160 KiB of a room."""
KEPT_AUDIENCES: Final = 4 * MAX_AUDIENCES
"""Threads of one author that a room remembers: more than a home of this version lets an author have, because a mirror
may be of a room whose home allows more. Where one is forgotten, that home is not accused, and the thread's next message
is compared with nothing."""


class Thread(msgspec.Struct, frozen=True, array_like=True):
    """Where a thread of an author ends: the counter and the hash of the newest envelope in it; 0 and empty before the
    first. This is not the thread of a conversation, whose name is a message's `chain`."""

    counter: int = 0
    envelope: bytes = b""


class MessagesState(msgspec.Struct):
    """What is folded from the messages of a room."""

    last_message_at: Millis = Millis(0)
    """When the newest message was posted, whoever may see that message."""
    public: int = 0
    """The number of the newest public message: how many there are, as long as the room is in its first epoch."""
    line: bytes = b""
    """The public line at the newest of them."""
    other: int = 0
    """In a sealed room: the number of the newest public message that travelled as `other`, and so may belong to the
    memory."""
    threads: dict[AgentId, dict[str, Thread]] = {}
    """Each author's threads by the `audience_key` of those who see them. Envelopes of version 1 are in none, nor those
    that nobody signs."""

    @property
    def shown(self) -> Shown:
        """Up to where somebody was shown the room who was shown all of it."""
        return Shown(self.public, self.line)


def audience_key(visibility: tuple[AgentId, ...] | None) -> str:
    """The name of those who see a thread: empty for everyone in the room, else a digest of the set of readers. A
    snapshot holds the key for each thread, and the readers' ids would take up to 3,600 bytes."""
    if visibility is None:
        return _PUBLIC
    return hashlib.sha256(" ".join(sorted(set(visibility))).encode()).hexdigest()[:32]


def thread_of(state: MessagesState, author: AgentId, visibility: tuple[AgentId, ...] | None) -> Thread:
    """The thread that the author's next message to these readers goes on."""
    return state.threads.get(author, {}).get(audience_key(visibility), _NO_THREAD)


def _audiences(state: MessagesState, author: AgentId) -> int:
    """To how many sets of readers this author wrote privately."""
    threads = state.threads.get(author, {})
    return len(threads) - ("" in threads)


_NO_THREAD: Final = Thread()
_PUBLIC: Final = ""
"""The `audience_key` of everyone in the room."""


class Messages(Facet[MessagesState]):
    """Posts messages."""

    __slots__ = ("_claims", "_enabled", "_epochs", "_handoffs", "_lifecycle", "_membership", "_memory")

    def __init__(
        self,
        state: MessagesState,
        lifecycle: LifecycleState,
        membership: MembershipState,
        memory: MemoryState,
        handoffs: handoff.Offers,
        work: claims.Claims,
        enabled: Callable[[AgentId, Millis, Presences], None],
        epochs: EpochsState,
    ) -> None:
        super().__init__(state)
        self._epochs = epochs
        self._lifecycle = lifecycle
        self._membership = membership
        self._memory = memory
        self._handoffs = handoffs
        self._claims = work
        self._enabled = enabled
        """Raises `Refused` for an agent that is not there at a moment, by its own word."""

    def _post(self, command: c.PostMessage, by: By, now: Millis, ids: Ids) -> Decision:
        members, owner = self._membership.members, self._lifecycle.owner
        author = membership.present(members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        if command.is_past:
            raise Refused("invalid_timer", "That moment is past.", what="at")
        if command.kind == INVOCATION:
            raise Refused("invalid_param", "Only the room itself says that an action was invoked.", param="kind")
        require_open(self._lifecycle)
        require_sound(self._lifecycle)
        if author.waits:
            raise Refused("not_sealed_in", agent=author.handle)
        if self._lifecycle.sealed and command.envelope is not None:
            require_in_force(self._epochs, command.envelope)
        self._enabled(by.actor, now, command.presence)
        to = tuple(dict.fromkeys(membership.resolve(members, who) for who in command.to))
        role = ""
        if command.taker:
            to, role = membership.resolve_taker(members, owner, command.taker, giver=by.actor)
        if command.turn == "offered":
            self._handoffs.require_room_for_offer(by.actor, now)
        asked = command.visibility
        if command.envelope is not None and command.reply is not None and asked == command.reply.visibility:
            # The envelope repeats the readers of the message that it replies to. A local reply that names no readers
            # takes those of that message without resolving them, and so does this one: one of them may have left.
            asked = None
        named = None if asked is None else tuple(membership.resolve(members, who) for who in asked)
        target = None if command.reply_to is None else command.reply
        if command.reply_to is not None and (
            target is None
            or not visibility.can_see(
                membership.view_of(author), position=target.position, visibility=target.visibility
            )
        ):
            raise Refused("no_such_message", id=command.reply_to)
        if command.turn == "offered" and command.reply_to is None and command.envelope is None:
            target = self._given_on(author)
        if command.turn not in ("", "offered"):
            offer = self._handoffs.to_answer(command.reply_to, command.turn, by.actor, now)
            if isinstance(offer, handoff.Answer):
                # The same was said before, by another request.
                return Decision(replay=offer.position)
            to = offer.concerned(by.actor)
        if command.kind == TASK:
            self._claims.require_space()
        effect = self._claims.effect(command, by, now)
        if effect.kind == LATE:
            # It is for the workers to read, and asks for nobody's attention.
            to = ()
        elif named is None and target is not None:
            named = membership.answered(members, target)
        readers = visibility.audience(by.actor, named, None if target is None else target.visibility)
        if self._lifecycle.sealed and readers is not None:
            readers = membership.with_keys(members, self._epochs.roster, named or (), readers)
        if readers is not None and not set(to) <= set(readers):
            raise Refused("invalid_param", "A message cannot be addressed to someone it is hidden from.", param="to")
        does = Noted(None)
        if command.memory is not None:
            if readers is not None:
                # A memory is the whole room's: a hidden version would show in the number of the next one.
                raise Refused("invalid_param", "What a room remembers is hidden from nobody in it.", param="reply_to")
            does = memory.noted(
                self._memory,
                command.memory,
                by,
                owner,
                target,
                is_sealed=self._lifecycle.sealed > 0,
                # A home that was set back may hold older versions of a key of which the mirror has none any more.
                is_whole=not self._membership.jumps and epoch_of(self.state.public) == 0,
            )
        erased: tuple[e.RoomEvent, ...] = ()
        if command.guard is not None:
            erased, gone = self._guarded(command, command.guard, by, owner)
            does = does._replace(erases=gone)
        thread, finished = thread_of(self.state, by.actor, readers), command.envelope
        if readers is not None and thread == _NO_THREAD:
            self._require_room_for_audience(author)
        id = command.id or MessageId(ids.new("m"))
        event = e.MessagePosted(
            id=id,
            kind=effect.kind,
            to=to,
            role=role,
            visibility=readers,
            reply_to=None if target is None else target.id,
            chain=root_chain(id) if target is None else target.chain,
            hops=0 if target is None else target.hops + 1,
            counter=thread.counter + 1 if finished is None else finished.counter,
            memory=does.note,
            turn=command.turn,
            ttl_ms=span_until(command.due, now) if command.due else command.ttl_ms,
            blob=command.blob,
            envelope_v=SEALED if self._lifecycle.sealed else SIGNED,
        )
        if finished is not None:
            self._require_same(command, finished, event, by, thread)
        # A requester does not see what it asks for in public, so the message has no number for it.
        is_seen = readers is not None or not membership.is_requester(author)
        return Decision(
            (event, *effect.events, *erased),
            authority="owner" if by.actor == owner else "member",
            previous=thread.envelope,
            seq=Seq(membership.newest_seq(self._membership, by.actor) + 1) if is_seen else Seq(0),
            erases=does.erases,
            answer=effect.answer,
        )

    def _guarded(
        self, command: c.PostMessage, guard: GuardPart, by: By, owner: AgentId
    ) -> tuple[tuple[e.RoomEvent, ...], tuple[Position, ...]]:
        """Refuse a message whose author compared what is remembered over an older state of this sealed room, or lets
        words go that are not its own to take; gives the fact that says which words go, and where these stand. Words
        that are not here any more are no mistake."""
        shown = 0 if command.envelope is None else command.envelope.shown
        if shown < self.state.other:
            raise Refused("envelope_refused", what=GUARD, number=self.state.other)
        gone = [each for each in command.erased if each.size]
        if not all(each.may_be_memory for each in command.erased):
            raise Refused("envelope_refused", what="parts")
        if by.actor != owner and any(each.author != by.actor for each in command.erased):
            raise Refused("not_your_fact")
        if not gone:
            return (), ()
        positions = tuple(sorted(each.position for each in gone))
        spans = tuple((position, position) for position in positions)
        return (e.BodiesErased(spans=spans, messages=len(gone), bytes=sum(each.size for each in gone)),), positions

    def _given_on(self, author: membership.Member) -> ReplyTarget | None:
        """What an offer replies to whose author says nothing of that: the offer of the turn that it gives on, so that a
        turn which two agents give to and fro for ever meets the bound of their conversation. An author elsewhere
        decides this over its mirror and signs it, and one that signs otherwise meets the bound of the hour.

        None where the author holds no turn, and where a reply would be shown to fewer than the offer: that turn was
        offered in private, or by somebody who only asks for work."""
        held = self._handoffs.held_by(author.agent)
        if held is None or held.visibility is not None:
            return None
        if not visibility.can_see(membership.view_of(author), position=held.position, visibility=None):
            return None
        target = ReplyTarget(held.id, held.position, held.giver, None, held.chain, held.hops)
        return None if membership.answered(self._membership.members, target) else target

    def _require_room_for_audience(self, author: membership.Member) -> None:
        """Refuse a set of readers that is new where the author, or its person, wrote to as many as they may."""
        own = _audiences(self.state, author.agent)
        agents = (each.agent for each in self._membership.members.values() if each.principal == author.principal)
        if own >= MAX_AUDIENCES:
            raise Refused("too_many_audiences", limit=MAX_AUDIENCES)
        if sum(_audiences(self.state, agent) for agent in agents) >= MAX_AUDIENCES_OF_PERSON:
            raise Refused("too_many_audiences", limit=MAX_AUDIENCES_OF_PERSON)

    def _require_same(
        self, command: c.PostMessage, finished: Envelope, event: e.MessagePosted, by: By, thread: Thread
    ) -> None:
        """Refuse an envelope of an author elsewhere unless it says what this room decides itself: for whom the message
        is, what it answers, through which door it came, which message of the author it follows, and what the author was
        shown. The author chooses only the id and a counter that is greater than the one before: counters that follow
        from the time can be told apart from those that an author lost in a crash. One that does not follow is told
        where its thread ends, because nothing else may tell it: a requester is not shown what it asked for."""
        wrong = contradiction(self._lifecycle.room, command.idempotency_key or "", by, event, finished)
        if wrong is None and finished.v == SEALED and not are_wrapped_to(finished, by.actor):
            wrong = "wraps"
        if wrong is None and finished.counter <= thread.counter:
            wrong = "counter"
        if wrong is None and finished.previous != thread.envelope:
            wrong = "previous"
        if wrong in ("counter", "previous"):
            raise Refused("envelope_refused", what=wrong, counter=thread.counter, envelope=thread.envelope.hex())
        if wrong is None and finished.line != command.line:
            # Taken in, it would make every reader suspect this home, which showed nobody such a room.
            wrong = "line"
        if wrong is None and command.is_id_taken:
            wrong = "id"
        if wrong is not None:
            raise Refused("envelope_refused", what=wrong)

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        state = self.state
        state.last_message_at = header.at
        if event.visibility is None:
            state.public += 1
            state.line = next_line(state.line, event.envelope)
            if self._lifecycle.sealed and outside_kind(event.kind) == OTHER:
                state.other = state.public
        if event.envelope_v in (SIGNED, SEALED, OPENED):
            threads = state.threads.setdefault(header.by.actor, {})
            threads[audience_key(event.visibility)] = Thread(event.counter, event.envelope)
            if len(threads) > KEPT_AUDIENCES:
                # The private one that was begun first.
                del threads[next(audience for audience in threads if audience)]

    def _opened(self, event: e.RoomOpened, header: e.Header) -> None:
        self.state.line = first_line(event.room, event.home)

    def _placed(self, event: e.MirrorPlaced, header: e.Header) -> None:
        """What was left out may hold envelopes of others, so nobody can tell any more what their next one follows; if
        nothing public was left out, what their next public one follows is known. The readers write here, and their
        threads are whole."""
        state, writing = self.state, dict(event.before)
        for author in [author for author in state.threads if author not in writing]:
            threads = state.threads.pop(author)
            if event.public == state.public and _PUBLIC in threads:
                state.threads[author] = {_PUBLIC: threads[_PUBLIC]}
        state.public, state.line = event.public, event.line

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        state = self.state
        state.public = first_number(event.epoch)
        state.line = line_after_rewind(event.line, header.body or b"")
        for author, audience, counter, envelope in event.threads:
            if envelope:
                state.threads.setdefault(author, {})[audience] = Thread(counter, envelope)
            else:
                state.threads.get(author, {}).pop(audience, None)

    def _told(self, event: e.MessagePosted, header: e.Header) -> list[Topic]:
        """Who waits for messages does not wait for what the room remembers or forgets, nor for how a task goes on, nor
        for an invocation. Who waits for their number does."""
        is_quiet = event.memory is not None or event.kind in claims.QUIET_KINDS
        topic = topics.quiet if is_quiet else topics.messages
        room, readers = self._lifecycle.room, event.visibility
        return [topic(room)] if readers is None else [topic(room, reader) for reader in readers]

    DECIDES = (decides(c.PostMessage, _post),)
    APPLIES = (
        applies(e.RoomOpened, _opened),
        applies(e.MessagePosted, _posted),
        applies(e.MirrorPlaced, _placed),
        applies(e.RoomRewound, _rewound),
    )
    TOUCHES = (touches(e.MessagePosted, _told),)
