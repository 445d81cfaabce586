"""How one command of a batch is decided: what it needs of the past, what the rules say, and the facts that come of it.

The rules are the aggregate's (`Room`, `HomeRoom`), which knows neither clock nor store: this module brings the room's
time, an earlier use of the command's idempotency key, and the message that is replied to, and puts what was decided
into facts that can be stored. What the store knows of the past was gathered for the whole batch before (`wanted`),
because deciding waits for nothing. Above: `actor`, which makes batches and commits them. Below: `authors`, which
writes a message's words. Invariant: a command that is refused leaves nothing in memory or in its batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import trio

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.envelope import OPENED, RELEASED, Envelope
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.facets import Follow
from parlerd.core.memory import forgets_by_id
from parlerd.core.model import (
    HOME_ROOM,
    AgentId,
    By,
    Ids,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    ReplyTarget,
    RoomId,
    drawn_key,
)
from parlerd.core.room import Room
from parlerd.core.statements import Opening, Statement, encode, encode_opened
from parlerd.engine.authors import (
    Arrived,
    Attested,
    Author,
    Draft,
    EnvelopeSigner,
    Finished,
    Place,
    SignedEnvelope,
    Stated,
)
from parlerd.engine.ports import Clock
from parlerd.engine.submissions import Batch, Settled, Submission
from parlerd.store.port import (
    BuryRoom,
    DropRenewal,
    EraseBodies,
    MarkDelivery,
    NewFact,
    Past,
    UsedKey,
    prior_in,
)

MAX_LINES: Final = 32
"""Numbers of one room at which its public line is remembered."""


class Aggregate(Protocol):
    """What is folded from a log and decides over it: `Room` or `HomeRoom`."""

    fold_version: int

    @property
    def position(self) -> Position: ...

    @property
    def last_at(self) -> Millis: ...

    @property
    def gives_receipts(self) -> bool: ...

    def decide(self, command: c.Command, *, by: By, now: Millis, ids: Ids) -> Decision: ...

    def ran_out(self, now: Millis) -> Sequence[e.Event]: ...

    def apply(self, header: e.Header, body: bytes | None = None) -> None: ...

    def reads_body(self, header: e.Header) -> bool: ...

    def follow(self, now: Millis, ids: Ids) -> Iterable[Follow]: ...

    def snapshot(self) -> bytes: ...


def home_itself(own: str) -> By:
    """A home that acts for itself, where no agent acts. `own` is its id."""
    return By(actor=AgentId(""), principal=PrincipalId(own), session=HOME_ROOM, host=HOME_ROOM, via="cli")


ITSELF: Final = home_itself("")
"""Any home, for what happens because a moment came."""


class RoomTime:
    """The time in one room: what the clock shows, and never less than the room's last fact and the time that passed
    since, so that a clock that was set back stops nothing. Source: decision 6."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._applied_at = trio.current_time()

    def now(self, last: Millis) -> Millis:
        """The room's time; `last` is when its last fact was."""
        wall = self._clock.now()
        if wall >= last:
            return wall
        passed = trio.current_time() - self._applied_at
        return Millis(last + int(passed * 1000))

    def applied(self) -> None:
        """A fact was just taken in."""
        self._applied_at = trio.current_time()


class Wanted(NamedTuple):
    """What to ask the store about before a batch is decided."""

    keys: list[UsedKey]
    messages: list[MessageId]
    lines: list[int]


def _follows_from_id(post: c.PostMessage) -> bool:
    """Whether a message's idempotency key follows from its id, so that whatever the key led to before bears that id."""
    return post.fresh or (post.envelope is not None and post.idempotency_key == drawn_key(post.envelope.id))


def _may_repeat(command: c.Command) -> bool:
    """Whether an earlier command may have been the same request."""
    if command.idempotency_key is None or isinstance(command, c.Arrive):
        return False
    return not (isinstance(command, c.PostMessage) and command.fresh)


def _posted_by(command: c.Arrive) -> list[MessageId]:
    return [event.id for event in command.events if isinstance(event, e.MessagePosted)]


def _forgotten_by(command: c.Arrive) -> list[MessageId]:
    """The messages that these forget by their ids, or name as those whose words go."""
    return [
        event.reply_to
        for event in command.events
        if isinstance(event, e.MessagePosted) and event.reply_to is not None and forgets_by_id(event.memory)
    ] + list(command.named or ())


def reply_target(header: e.Header | None) -> ReplyTarget | None:
    """What a room must know of the message that is replied to, from that message's fact; None where there is none."""
    if header is None or not isinstance(header.event, e.MessagePosted):
        return None
    event = header.event
    return ReplyTarget(
        id=event.id,
        position=header.position,
        author=header.by.actor,
        visibility=event.visibility,
        chain=event.chain,
        hops=event.hops,
        memory=event.memory,
    )


def _known(message: MessageId, batch: Batch) -> e.Header | None:
    """A message of this room that stands in the log, or before in the same batch."""
    return batch.posted.get(message) or batch.past.messages.get(message)


class Decider:
    """Decides the commands of one room."""

    def __init__(
        self,
        room: RoomId,
        *,
        clock: Clock,
        ids: Ids,
        author: Author,
        admission: EnvelopeSigner[Finished],
        holds: Callable[[str], bool],
    ) -> None:
        self._room = room
        self._holds = holds
        """Whether the token of an id holds now."""
        self._time = RoomTime(clock)
        self._ids = ids
        self._author = author
        self._admission = admission
        self._lines: Bounded[int, bytes] = Bounded(MAX_LINES)
        """The public line at numbers that authors elsewhere named, and where the room stood lately. What is stored of
        it never changes, and an author names one number until it is shown more."""

    def wanted(self, aggregate: Aggregate, batch: Batch) -> Wanted:
        """What to ask the store about before this batch is decided over `aggregate`, in which nothing is ahead of the
        store: the idempotency keys that may have been used before, the messages that are replied to or whose id was
        drawn elsewhere, and the numbers at which authors elsewhere name the public line. Nothing, for a batch of new
        messages that were composed here and reply to none. `heard` takes the answer."""
        keys: list[UsedKey] = []
        messages: list[MessageId] = []
        lines: list[int] = []
        if isinstance(aggregate, Room) and aggregate.position:
            self._lines[aggregate.state.shown.number] = aggregate.state.shown.line
        for submission in batch.submissions:
            command = submission.command
            if isinstance(command, c.Arrive):
                # What arrives is a replay of nothing: whoever judged it knows what the mirror has.
                messages += [*_posted_by(command), *_forgotten_by(command)]
                continue
            post = command if isinstance(command, c.PostMessage) else None
            if command.idempotency_key is not None and not (post is not None and _follows_from_id(post)):
                keys.append((submission.by.actor, command.operation, command.idempotency_key))
            if post is not None and post.reply_to is not None:
                messages.append(post.reply_to)
            if isinstance(command, c.PostMessage | c.OpenRoom | c.GateMessage) and command.envelope is not None:
                messages.append(command.envelope.id)
            if isinstance(command, c.GateMessage) and command.envelope.reply_to is not None:
                messages.append(command.envelope.reply_to)
            if post is not None and post.envelope is not None:
                number = post.envelope.shown
                if (line := self._lines.get(number)) is None:
                    lines.append(number)
                else:
                    # What is named is remembered longest.
                    batch.lines[number] = self._lines[number] = line
        return Wanted(keys, messages, lines)

    def heard(self, batch: Batch, past: Past) -> None:
        """Take what the store knows of what was `wanted`."""
        batch.past = past
        for number, line in past.lines.items():
            batch.lines[number] = self._lines[number] = line

    def decide(self, aggregate: Aggregate, submission: Submission, batch: Batch) -> None:
        """Decide one command and take its events into memory; its facts join the batch.

        A refusal is the submission's alone. Whatever this raises leaves the memory in doubt: it is a fault of ours.
        """
        command, by = submission.command, submission.by
        scope = (by.actor, command.operation, command.idempotency_key or "")
        may_repeat = _may_repeat(command)
        try:
            if by.token and not self._holds(by.token):
                # It ended while the command was in line.
                raise Refused("token_invalid")
            if may_repeat:
                earlier = batch.done.get(scope)
                if earlier is not None:
                    # The same request twice before a commit: the second is the first's replay, or a conflict.
                    if earlier.facts[0].input != command.input:
                        raise Refused("idempotency_conflict", key=command.idempotency_key)
                    submission.settled = Settled(Decision(replay=earlier.facts[0].position), earlier.facts, earlier.seq)
                    return
                prior = batch.past.priors.get(scope)
                if prior is not None:
                    command = msgspec.structs.replace(command, prior=prior)
            if isinstance(command, c.PostMessage | c.OpenRoom) and command.envelope is not None:
                command = self._of_elsewhere(command, command.envelope, scope, batch)
            if isinstance(command, c.PostMessage) and command.reply_to is not None:
                # What is replied to may stand in the same batch.
                command = msgspec.structs.replace(command, reply=reply_target(_known(command.reply_to, batch)))
            if isinstance(command, c.GateMessage):
                said = command.envelope
                replied = None if said.reply_to is None else reply_target(_known(said.reply_to, batch))
                is_taken = _known(said.id, batch) is not None
                command = msgspec.structs.replace(command, reply=replied, is_id_taken=is_taken)
            if isinstance(command, c.Arrive):
                in_use = frozenset(id for id in _posted_by(command) if id in batch.posted or id in batch.past.messages)
                told = {id: found for id in _forgotten_by(command) if (found := _known(id, batch))}
                places = {id: (found.position, found.by.actor) for id, found in told.items()}
                command = msgspec.structs.replace(command, taken=in_use, forgotten=places)
            now = self._time.now(aggregate.last_at)
            self._run_out(aggregate, batch, now)
            self._follow(aggregate, batch, now)
            decision = aggregate.decide(command, by=by, now=now, ids=self._ids)
        except ParlerError as error:
            submission.error = error
            return
        if decision.at is not None:
            # The time of another home. A log's time never goes back, whatever that home says.
            now = max(decision.at, aggregate.last_at)
        headers: list[e.Header] = []
        for n, event in enumerate(decision.events):
            try:
                fact = self._fact(aggregate, n, event, decision, submission, now)
            except ParlerError as error:
                if headers:
                    raise
                # Nothing of this command is in memory yet (its author's key is lost): it fails alone.
                submission.error = error
                return
            aggregate.apply(fact.header, fact.body)
            self._time.applied()
            batch.facts.append(fact)
            headers.append(fact.header)
            match event:
                case e.MessagePosted():
                    batch.posted[event.id] = fact.header
                    if isinstance(command, c.PostMessage) and command.reply is not None:
                        batch.acted.append(self._acted(by, command.reply.position, now))
                case e.TaskClaimed(task=id):
                    task = aggregate.claims.get(id) if isinstance(aggregate, Room) else None
                    if isinstance(command, c.ClaimTask) and task is not None:
                        batch.acted.append(self._acted(by, task.position, now))
                case e.TaskReleased(task=id) | e.TaskCompleted(task=id) | e.TaskLapsed(task=id):
                    batch.ended.append(DropRenewal(self._room, id))
                case _:
                    pass
        if decision.erases:
            batch.erases.append(EraseBodies(self._room, decision.erases))
        batch.buries += [BuryRoom(room, now) for room in decision.buries]
        batch.buries += [BuryRoom(room, now, unopened=True) for room in decision.shuts]
        if headers:
            self._follow(aggregate, batch, now)
        submission.settled = Settled(decision, tuple(headers), decision.seq)
        if may_repeat and headers:
            batch.done[scope] = submission.settled

    def _run_out(self, aggregate: Aggregate, batch: Batch, now: Millis) -> None:
        """Take in what has run out: what is decided next rests on that."""
        for event in aggregate.ran_out(now):
            header = e.Header(
                position=Position(aggregate.position + 1), at=now, by=ITSELF, authority="home", event=event
            )
            aggregate.apply(header)
            self._time.applied()
            batch.facts.append(NewFact(header, None, None))

    def _follow(self, aggregate: Aggregate, batch: Batch, now: Millis) -> None:
        """Take in what follows from the facts so far."""
        for step in aggregate.follow(now, self._ids):
            header = e.Header(
                position=Position(aggregate.position + 1),
                at=max(now, aggregate.last_at),
                by=step.by or ITSELF,
                authority="home",
                event=step.event,
                body=None if step.body is None else hashlib.sha256(step.body).digest(),
            )
            aggregate.apply(header, step.body)
            self._time.applied()
            batch.facts.append(NewFact(header, step.body, None))
            if isinstance(step.event, e.MessagePosted):
                batch.posted[step.event.id] = header
            elif isinstance(step.event, e.TaskCompleted):
                batch.ended.append(DropRenewal(self._room, step.event.task))
            if step.erases:
                batch.erases.append(EraseBodies(self._room, step.erases))

    def _acted(self, by: By, at: Position, now: Millis) -> MarkDelivery:
        """That somebody acted on the message there."""
        return MarkDelivery(self._room, by.actor, "acted", upto=at, at=now, after=Position(at - 1))

    @staticmethod
    def _of_elsewhere(
        command: c.PostMessage | c.OpenRoom, envelope: Envelope, scope: UsedKey, batch: Batch
    ) -> c.PostMessage | c.OpenRoom:
        """The command of an envelope that was finished elsewhere, with what the store knows of the envelope."""
        is_taken = envelope.id in batch.posted or envelope.id in batch.past.messages
        if isinstance(command, c.OpenRoom):
            return msgspec.structs.replace(command, is_id_taken=is_taken)
        prior = command.prior
        if prior is None and _follows_from_id(command):
            prior = prior_in(batch.past.messages.get(envelope.id), scope)
        line = batch.lines.get(envelope.shown)
        return msgspec.structs.replace(command, is_id_taken=is_taken, line=line, prior=prior)

    def _fact(
        self,
        aggregate: Aggregate,
        n: int,
        event: e.Event,
        decision: Decision,
        submission: Submission,
        now: Millis,
    ) -> NewFact:
        """A fact ready to store: position, time, author, and the signed words or statement where there are any. The
        event is the decision's number `n`, from 0."""
        command, words, by = submission.command, submission.words, submission.by
        body: bytes | None = None
        signature: bytes | None = None
        if isinstance(words, Stated) and isinstance(event, e.MessagePosted):
            words = words.recap
        statement = decision.statements[n] if n < len(decision.statements) else None
        if n < len(decision.bodies):
            body = decision.bodies[n]
        elif isinstance(event, e.EpochTurned) and isinstance(words, Stated) and words.epoch is not None:
            body, signature = words.epoch.body, words.epoch.signature
        elif statement is not None:
            body, signature = self._attest(statement, submission)
        elif isinstance(event, e.MessagePosted) and isinstance(words, Draft | Finished):
            place = Place(self._room, command.idempotency_key or "", by, decision.previous, now)
            body, signature, verified = self._sign(words, event, place)
            event = msgspec.structs.replace(event, envelope=hashlib.sha256(body).digest(), verified=verified)
        elif isinstance(event, e.DelegationIssued | e.DirectKeyTold) and isinstance(words, Attested):
            body, signature = words.body, words.signature
        elif isinstance(words, Arrived):
            body, signature = words.bodies[n] or (None, None)
            if isinstance(event, e.MessagePosted):
                digest = event.envelope
                if body is not None and event.envelope_v not in (OPENED, RELEASED):
                    # Of a sealed message that was read here other bytes travelled than those that are kept.
                    digest = hashlib.sha256(body).digest()
                event = msgspec.structs.replace(event, envelope=digest, verified=words.verified)
        header = e.Header(
            position=Position(aggregate.position + 1),
            at=now,
            by=by,
            authority=decision.authority,
            event=event,
            operation=command.operation if n == 0 else "",
            key=command.idempotency_key if n == 0 else None,
            input=command.input if n == 0 else None,
            body=None if body is None else hashlib.sha256(body).digest(),
        )
        return NewFact(header, body, signature)

    def _attest(self, statement: Statement, submission: Submission) -> tuple[bytes, bytes]:
        """The body and the signature of a fact that bears a statement."""
        command, words = submission.command, submission.words
        if isinstance(words, Stated):
            attested, title = words.statements[type(statement)], words.title
        else:
            attested = self._author.attest(statement, submission.by)
            said = command.title if isinstance(command, c.OpenRoom) else None
            title = b"" if said is None else encode(said)
        if isinstance(statement, Opening):
            return encode_opened(attested.body, title), attested.signature
        return attested.body, attested.signature

    def _sign(self, words: Draft | Finished, posted: e.MessagePosted, place: Place) -> SignedEnvelope:
        if isinstance(words, Draft):
            return self._author.sign(words, posted, place)
        return self._admission.sign(words, posted, place)
