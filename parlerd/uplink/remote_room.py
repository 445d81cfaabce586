"""A room of another home, as handlers come to it: read from its mirror, changed by its home.

    command -> decided over the mirror -> signed by its author -> the room's home decides again -> the mirror hears
            -> the caller is answered

Every command takes this one way (`_Errand`); a message has a lane of its own beside it, because messages are many and
may wait. The answer waits until the mirror holds what was done, so that the caller's next read shows it.

Not here: reading (the mirror does that), messages under way (`lanes`), the link (`link`). Above: the engine's handlers.
Below: `lanes`, `link`. Invariants: what the mirror refuses is asked of no other home; everything but a message is done
at once or refused, and never waits for a link; nor does the message that answers an offer of the turn.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

import msgspec
import trio

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.approvals import UNDECIDED, Request, opened_for, require_grantable, standing_request
from parlerd.core.claims import Renewal
from parlerd.core.decision import Decision
from parlerd.core.direct_keys import encode_published
from parlerd.core.envelope import Envelope
from parlerd.core.epoch_record import Added, record_digest
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.gated import decode_signed
from parlerd.core.grants import joiner_of
from parlerd.core.lifecycle import DELETED, OLDER_COPY, owners_of, require_open, require_sound
from parlerd.core.membership import REQUESTER, last_at_home, number_at_home, shift_after, shifts_of, told_seq
from parlerd.core.messages import audience_key
from parlerd.core.model import (
    AgentId,
    By,
    KeyId,
    MessageId,
    Millis,
    Position,
    RequestId,
    RoomId,
    Seq,
    Shown,
    agent_name,
    first_free,
    is_label,
)
from parlerd.core.public_line import epoch_of, first_number
from parlerd.core.receipts import FactRef
from parlerd.core.room import Room
from parlerd.core.sealing import check_composed, sealed_part
from parlerd.core.statements import Claim, DecisionStatement, Grant, KeyTerms, Rewind, Statement, encode
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Attested, Author, Draft, Place, Words, request_digest
from parlerd.engine.deciding import reply_target
from parlerd.engine.desk import Desk
from parlerd.engine.handles import Earlier, MirrorRoom, Present, Question, RoomHandle, SpentKey, taken_out
from parlerd.engine.joining import knock_over, not_let_in
from parlerd.engine.key_text import Spelled, spelled, spelled_of
from parlerd.engine.look_back import gaps_of
from parlerd.engine.pair_rooms import PEER
from parlerd.engine.reading import handle_of
from parlerd.engine.rooms import pause_among
from parlerd.engine.submissions import Settled, Submission
from parlerd.identity import codes, direct_keys
from parlerd.identity.epochs import Made
from parlerd.identity.sealing import seal
from parlerd.operations import types as t
from parlerd.uplink import answers
from parlerd.uplink.arriving.items import wanted
from parlerd.uplink.arriving.messages import sealed_of
from parlerd.uplink.composing import Composer, Decided
from parlerd.uplink.counters import Counters, Signed, Threaded
from parlerd.uplink.doors import Doors
from parlerd.uplink.exchanging import Admitted, Exchanges
from parlerd.uplink.history import Contradicted, judge
from parlerd.uplink.lanes import ANSWER_S, Post, answers_offer, said_as
from parlerd.uplink.link import Link
from parlerd.uplink.mirrors import is_over, present_of
from parlerd.uplink.remote_shelf import RemoteShelf
from parlerd.uplink.rewinding import FACTS, Fork, find_fork
from parlerd.uplink.rosters import Inside, Rosters, records_of
from parlerd.uplink.secrets import Secrets
from parlerd.uplink.turning import Turning, asks_by, decision_digest
from parlerd.uplink.walking import unknown

log = logging.getLogger(__name__)

SHOWN_S: Final = 10.0
"""How long an answer waits until the mirror holds what the room's home did."""
TOLD_S: Final = 2.0
"""How long a mirror may take to show a knock that a link was told of as it came."""
LONGEST_MS: Final = 20_000
"""How long one question waits at a room's home; a longer wait is asked again, so that a link that broke is noticed."""
CONFIRM_S: Final = 5.0
"""How long a knock at a sealed room waits for the owner's home, which takes some steps with this one."""
OWNER_MS: Final = 60_000
"""How lately the owner's person has to have been heard of for a knock to wait for that."""
DECIDE_TRIES: Final = 3
DECIDE_PAUSE_S: Final = 0.5
MAX_CODE: Final = 8
"""Characters of a code at most, whatever a relay says: the code is shown as it is."""
MAX_WAITING: Final = 4096
"""Commands that may wait for one room; more are refused with `room_busy`."""
MAX_WARNED: Final = 1_000
STATE_WRITES: Final = frozenset(
    {"state.set", "state.batch", "action.register", "action.invoke", "agent.enable", "module.register"}
)
"""What brings words of an agent into the state of a room."""
STATE_IS_SEEN: Final = (
    "This room is sealed, but the relay sees its state: keys, values and expressions. Do not write secrets there."
)
"""Source: sealed spec, What the relay sees."""
MAX_ENDS: Final = 256
"""Of how many pages of the past the line at their end is kept."""
_TOLD: Final = re.compile(r"k_[0-9a-f]{20,40}\Z|h\.[A-Za-z0-9_=-]{32}\Z")
"""Idempotency keys that may be told: that of a message whose author named none (`model.drawn_key`), and a hidden one,
with which its author asks again."""
_FIRST_FACTS: Final = 8
"""How many facts of a mirror hold everything that opening a room leads to."""


class RemoteRoom(MirrorRoom):
    """One room of the relay behind `link`. It is the line of what is asked here of the room."""

    def __init__(
        self,
        actor: RoomActor[Room],
        link: Link,
        *,
        desk: Desk,
        author: Author,
        composer: Composer,
        counters: Counters,
        secrets: Secrets,
        turning: Turning,
        exchanges: Exchanges,
        doors: Doors,
    ) -> None:
        super().__init__(actor, link.name)
        self._link = link
        self._desk = desk
        self._author = author
        self._composer = composer
        self._counters = counters
        self._secrets = secrets
        self._turning = turning
        self._exchanges = exchanges
        self._doors = doors
        self.shelf = RemoteShelf(actor, link)
        """The files of the room, at its home."""
        self._waiting: deque[Submission] = deque()
        """What was asked and is not begun, in the order of calls."""
        self._ends: Bounded[int, bytes] = Bounded(MAX_ENDS)
        """The public line where pages of the past ended, by numbers of the room: a later page goes on from there."""
        self._read_to: Bounded[tuple[AgentId, int, int], int] = Bounded(MAX_ENDS)
        """Up to which epoch of a sealed room such pages went, by their reader, how often the room was rewound, and the
        reader's number at their end."""
        self._rosters = Rosters(desk.library)
        """Who was in the room under earlier records, for what was said then."""
        self._warned: Bounded[str, bool] = Bounded(MAX_WARNED)
        """The sessions that were told who sees what they write into the state of a sealed room."""
        self._is_held_up = False
        """Whether what waits goes on later: the mirror catches up, or the store is asked about the newest request."""
        self._is_moving = False
        """Whether `move` is at work."""
        self._bringing = trio.Lock()
        """Held while an agent of this home is brought into a sealed queue: each comes with the record that follows."""

    # -- the line ------------------------------------------------------------------------------------------

    async def submit(self, command: c.Command, by: By, words: Words | None = None) -> Settled:
        return await self.place(command, by, words).result()

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        if self._link.is_removed:
            raise taken_out(self.home_name)
        if len(self._waiting) >= MAX_WAITING:
            raise Refused("room_busy", retry_after_ms=100)
        self.actor.used_at = trio.current_time()
        if isinstance(command, c.PostMessage) and command.idempotency_key is not None and not command.fresh:
            command = msgspec.structs.replace(command, id=_id_of(self.room, by.actor, self._as_told(command)))
        submission = Submission(self, command, by, words)
        self._waiting.append(submission)
        return submission

    def _as_told(self, command: c.PostMessage) -> c.PostMessage:
        """A request as it goes on from here: the room's home, its mirror and the outbox know it by the hidden key."""
        key = command.idempotency_key
        if key is None:
            return command
        if self.is_sealed and command.memory is not None and not _TOLD.match(key):
            # The home is told neither that a message belongs to the memory nor, with that, which of two requests with
            # one key it is.
            key = f"{command.operation} {key}"
        return msgspec.structs.replace(command, idempotency_key=self._hidden(key))

    def _hidden(self, key: str) -> str:
        """An idempotency key as the room's home is told it: in a sealed room nobody can guess it and find the guess
        confirmed. A key that was drawn for a message says nothing but the message's id, and finds that message."""
        return key if not self.is_sealed or _TOLD.match(key) else self._secrets.hidden_key(self.room, key)

    @property
    def is_sealed(self) -> bool:
        """Whether the room's messages are encrypted for its members."""
        return bool(self.actor.aggregate.state.lifecycle.sealed)

    def told_key(self, key: str) -> str:
        return self._hidden(key)

    async def told(self, composed: Envelope, author: AgentId) -> Envelope:
        if not self.is_sealed:
            return composed
        await self._secrets.prepare(self._link.home, self.room)
        request = self._secrets.request_digest(self.room, request_digest(composed))
        return self._secrets.seal(self.actor.aggregate.state, author, request, composed)

    def move(self) -> None:
        """Begin what waits: messages one after the other, everything else by itself. A message takes no task where
        nothing has to be waited for."""
        if self._is_moving:
            return
        self._is_moving = True
        try:
            while self._waiting and not self._is_held_up:
                self._begin(self._waiting.popleft())
        finally:
            self._is_moving = False

    def withdraw(self, submission: Submission) -> None:
        if submission in self._waiting:
            self._waiting.remove(submission)

    def _begin(self, submission: Submission) -> None:
        if not isinstance(submission.command, c.PostMessage):
            self._link.spawn(self._finishing, submission, self._run)
        elif answers_offer(submission.command):
            self._link.spawn(self._finishing, submission, self._answer_offer)
        elif self._link.may_catch_up(self.room):
            self._is_held_up = True
            self._link.spawn(self._finishing, submission, self._offer_caught_up)
        else:
            self._offer(submission, self._as_told(submission.command))

    async def _answer_offer(self, submission: Submission) -> None:
        """The answer to an offer of the turn: another may give one meanwhile, so it never waits for a link, and
        messages that do are not held up."""
        assert isinstance(submission.command, c.PostMessage)
        await self._link.ready()
        await self._link.told_all(self.room)
        self._offer(submission, self._as_told(submission.command))

    async def _offer_caught_up(self, submission: Submission) -> None:
        """A message that is said on a mirror which is about to hear what was said meanwhile."""
        assert isinstance(submission.command, c.PostMessage)
        try:
            await self._link.catch_up(self.room)
        finally:
            self._is_held_up = False
        self._offer(submission, self._as_told(submission.command))
        self.move()

    async def _finishing(self, submission: Submission, work: Callable[[Submission], Any]) -> None:
        """Do something for a submission; an error is its outcome."""
        try:
            await work(submission)
        except ParlerError as error:
            _fail(submission, error)
        except BaseException:
            _fail(submission, ParlerError("internal"))
            raise

    async def catch_up(self) -> bool:
        return await self._link.catch_up(self.room)

    async def quiet(self) -> Room:
        if self.is_sealed:
            await self._exchanges.prepare(self.room)
        return await super().quiet()

    def begin_to_catch_up(self) -> None:
        self._link.need()

    def silent_since(self) -> Millis | None:
        return None if self._link.is_level(self.room) else self._link.heard_at

    # -- messages ------------------------------------------------------------------------------------------

    def _offer(self, submission: Submission, command: c.PostMessage) -> None:
        """Ask the mirror whether a message may be posted; what it says goes on in `_decided`."""
        by, draft = submission.by, submission.words
        assert isinstance(draft, Draft)
        if by.actor in self._link.mirrors.copied:
            _fail(submission, Refused("key_used_elsewhere", agent=by.actor))
            return
        under_way = self._link.lane(self.room, by.actor).find(command.idempotency_key or "", command.operation)
        if under_way is not None:
            self._link.spawn(self._finishing, submission, partial(self._same, under_way))
            return
        if command.id is None:
            command = msgspec.structs.replace(command, id=MessageId(self._desk.random.new("m")))
        self._is_held_up = self._is_held_up or not answers_offer(command)
        self._composer.decide(self.actor, command, by, draft, partial(self._decided, submission, command))

    def _decided(
        self, submission: Submission, command: c.PostMessage, decided: Decided | None, error: BaseException | None
    ) -> None:
        """The mirror said what becomes of a message: it goes into its author's lane, or was posted before."""
        if not answers_offer(command):
            self._is_held_up = False
        by, draft = submission.by, submission.words
        assert isinstance(draft, Draft)
        if decided is None:
            _fail(submission, error if isinstance(error, ParlerError) else ParlerError("internal"))
        elif decided.replay is not None:
            self._link.spawn(self._finishing, submission, partial(self._replayed, decided.replay))
        else:
            self._link.lane(self.room, by.actor).offer(Post(command, by, draft, submission), decided)
        self.move()

    async def _replayed(self, position: Position, submission: Submission) -> None:
        submission.settled = await self._posted(submission.by.actor, position)
        submission.finish()

    async def _same(self, under_way: Post, submission: Submission) -> None:
        """The same request a second time, while the first is under way: it is the first one's replay."""
        if under_way.command.input != submission.command.input:
            raise Refused("idempotency_conflict", key=submission.command.idempotency_key)
        with trio.move_on_after(ANSWER_S):
            await under_way.done.wait()
        if under_way.done.is_set() and under_way.error is not None:
            raise under_way.error
        submission.command = said_as(under_way.command, submission.command)
        traced = await self._desk.library.trace(under_way.id)
        if traced is None and under_way.is_now_or_never:
            raise Refused("home_unreachable", home=self._link.name)
        if traced is None:
            submission.settled = Settled(Decision(replay=Position(0)), queued=True)
        else:
            submission.settled = await self._posted(submission.by.actor, traced.header.position)
        submission.finish()

    async def _posted(self, agent: AgentId, position: Position) -> Settled:
        """What became of a request that was made before, as the mirror has it."""
        room = self.actor.aggregate
        [header] = await self._desk.library.few_facts(self.room, Position(position - 1), 1)
        seq = await self._desk.library.seq_at(room, room.view(agent), position)
        receipt = FactRef(header.event.id) if isinstance(header.event, e.MessagePosted) else None
        return Settled(Decision(replay=position), (header,), seq, receipt=receipt)

    # -- everything else -----------------------------------------------------------------------------------

    async def _run(self, submission: Submission) -> None:
        command, by = submission.command, submission.by
        if isinstance(command, c.GateMessage) and command.envelope.reply_to is not None:
            traced = await self._desk.library.trace(command.envelope.reply_to)
            target = None if traced is None or traced.room != self.room else reply_target(traced.header)
            command = msgspec.structs.replace(command, reply=target)
        if isinstance(command, c.Knock) and self.is_sealed:
            # Whoever waits for the owner's home knocks again and again, also while the mirror is about to be told that
            # an agent left and came again.
            await self._link.catch_up(self.room)
        room = self.actor.aggregate
        now = Millis(max(self._desk.now_at(self._link.home), room.last_at))
        begun: Made | None = None
        if isinstance(command, c.OpenRoom) and command.opening.sealed is not msgspec.UNSET:
            command, begun = await self._sealed(command, by)
        decision = room.decide(command, by=by, now=now, ids=self._desk.random)
        if isinstance(command, c.RenewTask):
            await self._renew(command, by.actor)
        elif isinstance(command, c.NameSuccessor) and decision.answer == "names":
            await self._name_successor(command, by.actor)
        elif isinstance(command, c.ClaimTask) and (
            decision.events or (decision.answer == "none" and command.idempotency_key is not None)
        ):
            # Where nothing is open, the same request may have been taken before: then its task is held, and only the
            # room's home knows by which request.
            submission.settled = await self._claim(command, by)
            submission.finish()
            return
        elif isinstance(command, c.GateMessage):
            submission.settled = await self._gate(command, by)
            submission.finish()
            return
        elif decision.events:
            match command:
                case c.OpenRoom():
                    decision = await self._open(submission, command, decision, now, begun)
                case c.Knock():
                    decision = await self._knock(submission, command, decision)
                case c.DecideRequest():
                    await self._decide(submission, command)
                case c.WithdrawKnock():
                    await self._withdraw(command, by.actor)
                case c.RevokeKey():
                    await self._revoke(command, by.actor)
                case c.MintKey():
                    await self._mint(command, decision, by)
                case c.ChangeOwner():
                    await self._change_owner(command, decision, by)
                case c.Kick():
                    await self._kick(AgentId(decision.answer), by.actor)
                case c.GiveRole():
                    await self._give_role(AgentId(decision.answer), command, by.actor)
                case c.ReleaseTask():
                    await self._release(command, by.actor)
                case c.CloseRoom() | c.Leave():
                    await self._close(by.actor, only_leaves=isinstance(command, c.Leave))
                case _:
                    raise Refused("unknown_operation")
        facts: tuple[e.Header, ...] = ()
        if isinstance(command, c.OpenRoom) and decision.events:
            facts = tuple(await self._desk.library.few_facts(self.room, Position(0), _FIRST_FACTS))
        submission.settled = Settled(decision, facts, decision.seq)
        submission.finish()

    def _attest(self, statement: Statement | None, by: By) -> Attested:
        assert statement is not None
        return self._author.attest(statement, by)

    async def _sealed(self, command: c.OpenRoom, by: By) -> tuple[c.OpenRoom, Made]:
        """An opening of a sealed room as its home is to be asked for it: with the first record, which holds the owner
        and, in a direct room, the other one, if it told a key there; and without a title, which the record's card
        holds. The key to which the secret is wrapped is on the disk before: from it and the record this home has the
        secret again, whenever it hears of the room."""
        assert command.title is not None, "whoever opens a room says what it is called"
        calls, is_direct = await self._link.ready(), command.opening.kind == "dm"
        if is_direct and "link.direct_key_of" not in calls.welcome.operations:
            raise Refused(
                "relay_older",
                "The relay runs an older Parler, which carries no sealed direct room.",
                hint="Ask whoever runs the relay to upgrade it.",
                tool_hint="Your user can ask whoever runs the relay to upgrade it.",
                op="link.direct_key_of",
            )
        if "link.epoch" not in calls.welcome.operations:
            raise _carries_none("sealed room", "session open", "link.epoch")
        key = await self._secrets.told_key(self._link.home, by.actor)
        other = await self._other(command, by) if is_direct else None
        made = self._turning.first(command.opening, self.room, command.title, key, other)
        await self._secrets.note_made(self.room, made.record.number, made.epoch.record)
        epoch = c.NewEpoch(record=made.record, digest=made.epoch.record, wraps=made.wraps)
        hidden = self._secrets.hidden_key(self.room, command.idempotency_key or "")
        return msgspec.structs.replace(command, title=None, epoch=epoch, idempotency_key=hidden), made

    async def _other(self, command: c.OpenRoom, by: By) -> Added | None:
        """The agent that a direct room is opened for, with the key that it told the relay. None where the relay shows
        none that this agent signed: what is said then waits until both machines are there, and that is all that a relay
        can bring about so."""
        if command.terms is None or not command.terms.preapproved:
            return None
        [other] = command.terms.preapproved
        shown = await self._link.call("link.direct_key_of", t.AskDirectKey(agent=by.actor, of=other), by=by.actor)
        assert isinstance(shown, t.DirectKeyOf)
        if not shown.statement:
            return None
        try:
            body = encode_published(shown.statement, shown.delegation, shown.delegation_signature)
            told = direct_keys.read(body, shown.signature)
        except Refused as error:
            log.warning("%s shows a key of %s that is none: %s", self._link.name, other, error.code)
            return None
        if (told.key.home, told.key.agent) != (self._link.home, other):
            log.warning("%s shows a key of another agent for %s", self._link.name, other)
            return None
        if told.key.counter < await self._newest_of(other, by.actor):
            log.warning("%s shows a key of %s that was followed by another one", self._link.name, other)
            return None
        # Under which handle it comes in, the room says once it does.
        handle = first_free(command.peer if is_label(command.peer) else PEER, (command.opening.handle,))
        return Added(other, told.principal, handle, told.statement, shown.signature)

    async def _newest_of(self, other: AgentId, me: AgentId) -> int:
        """The highest counter of a sealing key of another agent that was told here in a room of this relay which the
        two share."""
        newest = 0
        for number, room in enumerate(await self._desk.library.my_rooms(me), 1):
            await pause_among(number)
            state = (await self._desk.rooms.get(room)).aggregate.state
            if state.home == self._link.home:
                known = (state.epochs.roster.get(other), state.epochs.told.get(other))
                newest = max([newest, *(each.counter for each in known if each is not None)])
        return newest

    async def _open(
        self, submission: Submission, command: c.OpenRoom, decision: Decision, now: Millis, begun: Made | None
    ) -> Decision:
        """Open the room at its home; a sealed one with the record of this epoch. The answer comes when the mirror has
        begun."""
        by = submission.by
        assert command.terms is not None, "a private room is opened here"
        opening, terms = self._attest(command.opening, by), self._attest(command.terms, by)
        recap = Attested(b"", b"")
        for event in decision.events:
            if isinstance(event, e.MessagePosted):
                assert isinstance(submission.words, Draft)
                threaded = Threaded(self.room, by.actor, audience_key(event.visibility))
                event = msgspec.structs.replace(event, counter=self._counters.after(threaded, 0))
                place = Place(self.room, command.idempotency_key or "", by, b"", now)
                draft = submission.words
                if begun is not None:
                    request = self._secrets.request_digest(self.room, command.input or b"")
                    draft = replace(
                        draft, seal=partial(sealed_recap, begun, by.actor, request, self._desk.random.bytes)
                    )
                written = self._author.sign(draft, event, place)
                signed = Signed(hashlib.sha256(written.body).digest(), written.signature)
                self._counters.note(threaded, event.counter, signed)
                recap = Attested(written.body, written.signature)
        params = t.OpenRemoteRoom(
            opening=opening.body,
            opening_signature=opening.signature,
            title=b"" if command.title is None else encode(command.title),
            session_key=self._spelled(command.terms, is_sealed=begun is not None).key,
            terms=terms.body,
            terms_signature=terms.signature,
            idempotency_key=command.idempotency_key or "",
            recap=recap.body,
            recap_signature=recap.signature,
            epoch=None if begun is None else self._turning.told(begun),
        )
        try:
            answer = await self._link.call("link.open", params, by=by.actor)
        except Refused as error:
            if error.code == "sealed_room" and begun is not None:
                # It knows sealed rooms, and none of this kind.
                raise _carries_none("sealed queue", "serve", "link.open") from error
            raise
        assert isinstance(answer, t.OpenedRemoteRoom)
        await self._link.follow(self.room)
        wants = 1 if recap.body else 0
        await self._shown(
            lambda room: (
                bool(room.state.keys)
                and room.state.shown.number >= wants
                and (begun is None or bool(room.state.epochs.number and room.state.name))
            )
        )
        return Decision(answer="exists") if answer.replayed else decision

    async def _knock(self, submission: Submission, command: c.Knock, decision: Decision) -> Decision:
        """Knock at the room's home. The answer comes when the mirror shows how the agent stands there."""
        by = submission.by
        state = self.actor.aggregate.state
        known = state.keys.get(command.key_id)
        is_named = known is not None and by.actor in opened_for(state.lifecycle, (known,))
        if self.is_sealed and is_named:
            return await self._come_in(command, by, decision)
        if self.is_sealed and decision.answer == "joined":
            async with self._bringing:
                return await self._bring_in_own(command, by)
        if self.is_sealed:
            return await self._begin_exchange(command, by)
        typed = self._doors.typed(self._link.home, command.key_id)
        session_key = self._own_key(command.key_id) if typed is None else typed.key
        if session_key is None:
            if not is_named:
                raise Refused("unknown_key")
            # The key of a direct room is typed by nobody: its terms name the agent.
            session_key = ""
        knock = self._attest(decision.statements[0], by)
        params = t.KnockAtRoom(
            session_key=session_key, statement=knock.body, signature=knock.signature, role=command.role
        )
        answer = await self._link.call("link.knock", params, by=by.actor)
        assert isinstance(answer, t.Knocked)
        if answer.request and answer.join_code:
            with suppress(Refused):
                # What is no code is not shown.
                self._doors.note_code(RequestId(answer.request), codes.normalise(answer.join_code)[:MAX_CODE])
        await self._told_of_knock(command, by, answer)
        return Decision(answer=answer.status)

    async def _bring_in_own(self, command: c.Knock, by: By) -> Decision:
        """Bring an agent of this home into a sealed queue of its person. This home makes the record by which the agent
        reads, so nothing has to be shown to anybody. The answer comes when the mirror holds that record. Whom a record
        put out, the person decides about, as about everybody else."""
        await self._heard_all()
        if await self._turning.was_put_out(self.actor.aggregate, by.actor, by.principal):
            return await self._begin_exchange(command, by)
        for left in reversed(range(DECIDE_TRIES)):
            room = self.actor.aggregate
            now = Millis(max(self._desk.now_at(self._link.home), room.last_at))
            decision = room.decide(command, by=by, now=now, ids=self._desk.random)
            joined = decision.events[0] if decision.events else None
            session_key = self._own_key(command.key_id)
            if not isinstance(joined, e.MemberJoined) or session_key is None:
                return decision
            knock, key = (
                self._attest(decision.statements[0], by),
                await self._secrets.told_key(self._link.home, by.actor),
            )
            claim, asks = Claim(by.actor, by.principal, joined.handle), joined.role == REQUESTER
            params = t.KnockAtRoom(
                session_key=session_key,
                statement=knock.body,
                signature=knock.signature,
                role=command.role,
                sealing_key=key.body,
                sealing_key_signature=key.signature,
                epoch=await self._turning.following(room, admits=claim, asks=asks, own=key),
            )
            try:
                await self._link.call("link.knock", params, by=by.actor)
                break
            except Refused as error:
                what = error.details.get("what")
                if not left or error.code not in ("statement_refused", "stale_epoch"):
                    raise
                if (error.code, what) == ("statement_refused", "counter"):
                    await self._secrets.renew(self._link.home, by.actor)
            await trio.sleep(DECIDE_PAUSE_S)
        await self._link.follow(self.room)
        await self._link.told_all(self.room, SHOWN_S)
        await self._shown(lambda room: _is_in(room, by.actor) and not room.state.members[by.actor].waits)
        return Decision(answer="joined")

    async def _told_of_knock(self, command: c.Knock, by: By, answer: t.Knocked) -> None:
        """Wait until the mirror shows how an agent stands that knocked."""
        is_in, id = answer.status in ("joined", "member"), RequestId(answer.request)

        def holds(room: Room) -> bool:
            if self.is_sealed and id:
                # An earlier exchange of the agent with this key may have failed.
                return id in room.state.requests
            return _is_in(room, by.actor) if is_in else _has_knocked(room, by.actor, command.key_id)

        if not (self._link.is_following(self.room) and await self._link.mirrors.until(self.room, holds, TOLD_S)):
            # An older knock is told when a link begins to follow a room, to a link over which its agent speaks then.
            await self._link.follow(self.room)
        # Of an agent that left and comes again, the mirror may be told first that it was in before.
        await self._link.told_all(self.room, SHOWN_S)
        await self._shown(holds)

    async def _come_in(self, command: c.Knock, by: By, decision: Decision) -> Decision:
        """Come into a sealed direct room that was opened for this agent. Nobody has to find out whether it has a
        secret, because the room's terms name it. It comes with the key by which the record in force holds it, where
        that is here: then it reads at once. With another one it waits for the owner's machine."""
        try:
            answer = await self._knock_as_named(command, by, decision)
        except Refused as error:
            if (error.code, error.details.get("what")) != ("statement_refused", "counter"):
                raise
            await self._secrets.renew(self._link.home, by.actor)
            answer = await self._knock_as_named(command, by, decision)
        await self._told_of_knock(command, by, answer)
        return Decision(answer=answer.status)

    async def _knock_as_named(self, command: c.Knock, by: By, decision: Decision) -> t.Knocked:
        find = t.FindKey(room=self.room, agent=by.actor, unseals=True)
        found = await self._link.call("link.find", find, by=by.actor)
        assert isinstance(found, t.FoundKey)
        key = await self._secrets.told_key(self._link.home, by.actor, found.counter)
        knock = self._attest(decision.statements[0], by)
        params = t.KnockAtRoom(
            session_key="",
            statement=knock.body,
            signature=knock.signature,
            role=command.role,
            sealing_key=key.body,
            sealing_key_signature=key.signature,
        )
        answer = await self._link.call("link.knock", params, by=by.actor)
        assert isinstance(answer, t.Knocked)
        return answer

    async def _begin_exchange(self, command: c.Knock, by: By) -> Decision:
        """Begin to come into a sealed room. The answer comes once the owner's home knows that the agent has the key or,
        where it does not answer soon, without that."""
        typed = self._doors.typed(self._link.home, command.key_id)
        state = self.actor.aggregate.state
        key = state.keys.get(command.key_id)
        made = None if key is None else spelled_of(self._desk, state, key)
        secret = typed.secret if typed is not None else "" if made is None else made.secret
        route = typed.key if typed is not None else "" if made is None else made.key
        if not secret:
            raise Refused("unknown_key")
        calls = await self._link.ready()
        if "link.exchange" not in calls.welcome.operations:
            raise Refused("relay_older", op="link.exchange")
        try:
            answer = await self._ask_in(command, by, route, secret)
        except Refused as error:
            if (error.code, error.details.get("what")) != ("statement_refused", "counter"):
                raise
            await self._secrets.renew(self._link.home, by.actor)
            answer = await self._ask_in(command, by, route, secret)
        await self._told_of_knock(command, by, answer)
        if answer.status == "pending":
            self._doors.note_heard(self.room, by.actor, Millis(answer.heard_at))
            is_owner_there = abs(answer.heard_at - self._desk.now_at(self._link.home)) < OWNER_MS
            await self._exchanged(by.actor, CONFIRM_S if is_owner_there else 0.0)
            key = self.actor.aggregate.state.keys[command.key_id]
            lets_in = not key.gated or by.actor in key.preapproved
            # The owner's home lets in by itself whom the key admits without asking.
            if lets_in and is_owner_there and await self._comes_in(by.actor):
                return Decision(answer="joined")
        return Decision(answer=answer.status)

    async def _comes_in(self, agent: AgentId) -> bool:
        """Whether an agent that the owner's home need not ask anybody about is let in, now or soon."""
        listen = self._desk.notifier.listen(topics.decision(self.room, agent), topics.life(self.room))
        with listen as waiter, trio.move_on_after(CONFIRM_S):
            while True:
                waiter.clear()
                room = await self.quiet()
                request = standing_request(room.state.requests, agent)
                if request is None or self._exchanges.is_under_way(self.room, request):
                    return False
                if self._exchanges.is_over(self.room, request) and _is_in(room, agent):
                    break
                await waiter.wait()
        # Of an agent that left and comes again, the mirror may be told first that it was in before.
        await self._link.told_all(self.room, SHOWN_S)
        return _is_in(await self.quiet(), agent)

    async def _ask_in(self, command: c.Knock, by: By, route: str, secret: str) -> t.Knocked:
        key = await self._secrets.told_key(self._link.home, by.actor)
        name = agent_name(command.name)
        card, share = await self._exchanges.begin(
            self._link.home, self.room, by, route=route, secret=secret, name=name, key=key
        )
        params = t.KnockAtRoom(
            session_key=route,
            statement=card.body,
            signature=card.signature,
            role=command.role,
            sealing_key=key.body,
            sealing_key_signature=key.signature,
            share=share,
        )
        try:
            answer = await self._link.call("link.knock", params, by=by.actor)
        except Refused as error:
            if not error.spec.retryable:
                await self._exchanges.give_up(self.room, share)
            raise
        assert isinstance(answer, t.Knocked)
        return answer

    async def _exchanged(self, agent: AgentId, seconds: float) -> None:
        """Wait until both ends of an agent's exchange know that the other has the key, for so many seconds at most.
        Raises `Refused(unknown_key)` where the owner's home found that it has not."""
        listen = self._desk.notifier.listen(topics.decision(self.room, agent))
        with listen as waiter, trio.move_on_after(seconds):
            while True:
                waiter.clear()
                state = (await self.quiet()).state
                request = standing_request(state.requests, agent)
                is_over = request is None or not self._exchanges.is_under_way(self.room, request)
                if is_over or state.alarm is not None:
                    break
                await waiter.wait()
        require_sound((await self.quiet()).state.lifecycle)
        request = standing_request((await self.quiet()).state.requests, agent)
        if request is not None and self._exchanges.has_failed(self.room, request):
            raise not_let_in()
        if request is not None and request.state in UNDECIDED:
            raise knock_over(request.state)

    def _own_key(self, id: KeyId) -> str | None:
        """A key of a room of this home's person, which spells it: nobody typed it here."""
        state = self.actor.aggregate.state
        key = state.keys.get(id)
        made = None if key is None else spelled_of(self._desk, state, key)
        return None if made is None else made.key

    def _spelled(self, terms: KeyTerms, *, is_sealed: bool) -> Spelled:
        """A key of the room as this home made it; the room's home is told its `key` alone."""
        return spelled(self._desk, self.room, terms.ref, gated=terms.gated, is_sealed=is_sealed)

    async def _claim(self, command: c.ClaimTask, by: By) -> Settled:
        """Claim at the room's home, which has the last word on who gets which task."""
        params = t.ClaimAtRoom(
            room=self.room,
            agent=by.actor,
            task=command.task,
            lease_ms=command.lease_ms,
            idempotency_key=None if command.idempotency_key is None else self._hidden(command.idempotency_key),
        )
        answer = await self._link.call("link.claim", params, by=by.actor)
        assert isinstance(answer, t.ClaimedAtRoom)
        if not answer.task:
            return Settled(Decision(answer="none"))
        id, fence = MessageId(answer.task), Position(answer.fence)

        def holds(room: Room) -> bool:
            task = room.claims.get(id)
            return task is not None and task.fence >= fence

        await self._shown(holds)
        event = e.TaskClaimed(
            task=id,
            worker=by.actor,
            until=Millis(answer.until),
            lease_ms=Millis(answer.lease_ms),
            fence=fence,
        )
        header = e.Header(position=Position(0), at=Millis(0), by=by, authority="member", event=event)
        return Settled(Decision(answer="claimed"), (header,))

    async def _gate(self, command: c.GateMessage, by: By) -> Settled:
        """Post a gated message at the room's home, which alone keeps it until somebody is shown it. Where an epoch
        began meanwhile, the mirror has the record when `stale_epoch` says so."""
        signed = decode_signed(command.signed)
        params = t.GateAtRoom(room=self.room, agent=by.actor, body=signed.body, signature=signed.signature)
        try:
            answer = await self._link.call("link.gate", params, by=by.actor)
        except Refused as error:
            number = error.details.get("number")
            if error.code == "stale_epoch" and type(number) is int:
                await self._shown(lambda room: room.state.epochs.number >= number or room.state.alarm is not None)
            raise
        assert isinstance(answer, t.GatedAtRoom)
        if answer.seq:
            await self._shown(lambda room: told_seq(room.state.membership, by.actor) >= answer.seq)
        said = command.envelope
        event = e.MessageGated(id=said.id, kind=said.kind, size=len(command.signed))
        header = e.Header(position=Position(0), at=Millis(answer.at), by=by, authority="member", event=event)
        return Settled(Decision(replay=Position(0) if answer.replayed else None), (header,))

    async def _renew(self, command: c.RenewTask, agent: AgentId) -> None:
        params = t.RenewAtRoom(room=self.room, agent=agent, task=command.task, lease_ms=command.lease_ms)
        answer = await self._link.call("link.renew", params, by=agent)
        assert isinstance(answer, t.RenewedAtRoom)
        claims = self.actor.aggregate.claims
        if (task := claims.get(command.task)) is not None:
            claims.renew(task.id, Renewal(task.fence, Millis(answer.until)))

    async def _release(self, command: c.ReleaseTask, agent: AgentId) -> None:
        key = None if command.idempotency_key is None else self._hidden(command.idempotency_key)
        params = t.ReleaseAtRoom(room=self.room, agent=agent, task=command.task, idempotency_key=key)
        await self._link.call("link.release", params, by=agent)

    async def _decide(self, submission: Submission, command: c.DecideRequest) -> None:
        """Decide at the room's home. Another newcomer may have taken the name meanwhile, of which the mirror hears in a
        moment: the decision then names another handle, and is signed again."""
        admitted: Admitted | None = None
        if self.is_sealed and command.admit:
            await self._exchanges.prepare(self.room)
            admitted = self._exchanges.admitted(
                self.actor.aggregate, self.actor.aggregate.state.requests[command.request]
            )
        for left in reversed(range(DECIDE_TRIES)):
            room = self.actor.aggregate
            now = Millis(max(self._desk.now_at(self._link.home), room.last_at))
            decision = room.decide(command, by=submission.by, now=now, ids=self._desk.random)
            signed = self._attest(decision.statements[0], submission.by)
            epoch = await self._epoch_for(room, decision.statements[0], signed)
            params = t.DecideAtRoom(room=self.room, statement=signed.body, signature=signed.signature, epoch=epoch)
            if admitted is not None:
                params = msgspec.structs.replace(
                    params,
                    knock=admitted.knock.body,
                    knock_signature=admitted.knock.signature,
                    granted=admitted.seal(*_in_force(room, epoch)),
                )
            try:
                await self._link.call("link.decide", params, by=submission.by.actor)
                break
            except Refused as error:
                if error.code not in ("statement_refused", "stale_epoch") or not left:
                    raise
            await trio.sleep(DECIDE_PAUSE_S)
        wanted = "approved" if command.admit else "denied"
        await self._shown(
            lambda room: (
                _state_of(room, command.request) == wanted
                and (epoch is None or room.state.requests[command.request].agent in room.state.epochs.roster)
            )
        )

    async def _epoch_for(self, room: Room, decision: Statement | None, signed: Attested) -> t.EpochTold | None:
        """The record that goes along with a decision to admit to a sealed room."""
        if not isinstance(decision, DecisionStatement) or not decision.admit:
            return None
        newcomer = Claim(decision.agent, decision.principal, decision.handle)
        asks = asks_by(room.state, room.state.requests[decision.request])
        return await self._record(room, admits=newcomer, asks=asks, decisions=[decision_digest(signed)])

    async def _record(self, room: Room, **changes: Any) -> t.EpochTold | None:
        """The record that goes along with what the room's person decides. Where this home cannot make one, the decision
        counts all the same, and what it changes waits."""
        if not self.is_sealed:
            return None
        await self._heard_all()
        try:
            return await self._turning.following(room, **changes)
        except Refused as error:
            log.warning("no epoch of room %s begins with what was decided: %s", self.room, error.code)
            return None

    async def _withdraw(self, command: c.WithdrawKnock, agent: AgentId) -> None:
        params = t.WithdrawAtRoom(room=self.room, agent=agent, request=command.request)
        await self._link.call("link.withdraw", params, by=agent)
        await self._shown(lambda room: _state_of(room, command.request) != "pending")

    async def _revoke(self, command: c.RevokeKey, agent: AgentId) -> None:
        ref = self.actor.aggregate.state.keys[command.revoke].ref
        await self._link.call("link.revoke", t.RevokeKeyOfRoom(room=self.room, ref=ref), by=agent)
        await self._shown(lambda room: room.state.keys[command.revoke].revoked)

    async def _mint(self, command: c.MintKey, decision: Decision, by: By) -> None:
        signed = self._attest(decision.statements[0], by)
        terms = command.terms
        await self._link.call(
            "link.mint",
            t.MintAtRoom(
                room=self.room,
                session_key=self._spelled(terms, is_sealed=self.is_sealed).key,
                terms=signed.body,
                terms_signature=signed.signature,
            ),
            by=by.actor,
        )
        await self._shown(lambda room: command.mint in room.state.keys)

    async def _change_owner(self, command: c.ChangeOwner, decision: Decision, by: By) -> None:
        for left in reversed(range(DECIDE_TRIES)):
            signed = self._attest(decision.statements[0], by)
            params = t.TransferRoomThere(room=self.room, statement=signed.body, signature=signed.signature)
            try:
                await self._link.call("link.transfer", params, by=by.actor)
                break
            except Refused as error:
                # A record came in meanwhile, of which the mirror hears in a moment.
                if error.code != "stale_epoch" or not left:
                    raise
            await trio.sleep(DECIDE_PAUSE_S)
            room = self.actor.aggregate
            now = Millis(max(self._desk.now_at(self._link.home), room.last_at))
            decision = room.decide(command, by=by, now=now, ids=self._desk.random)
        await self._shown(lambda room: room.state.owner == decision.answer)

    async def _name_successor(self, command: c.NameSuccessor, agent: AgentId) -> None:
        """Make the record that says who may go on without the owner."""
        for left in reversed(range(DECIDE_TRIES)):
            await self._heard_all()
            epoch = await self._turning.following(self.actor.aggregate, names=command.person)
            if epoch is None:
                break
            try:
                await self._link.call("link.epoch", t.EpochAtRoom(room=self.room, epoch=epoch), by=agent)
                break
            except Refused as error:
                if error.code != "stale_epoch" or not left:
                    raise
            await trio.sleep(DECIDE_PAUSE_S)
        await self._shown(lambda room: room.state.epochs.successor == command.person)

    async def _heard_all(self) -> None:
        """Wait until this home was told all that is there of the room: an older copy of it, put in place, would sign a
        second record with the number of one that it signed before. Raises `Refused(home_unreachable)`."""
        await self._link.ready()
        await self._link.told_all(self.room)
        if not self._link.is_level(self.room):
            raise Refused("home_unreachable", home=self._link.name)

    async def _kick(self, who: AgentId, agent: AgentId) -> None:
        for left in reversed(range(DECIDE_TRIES)):
            room = self.actor.aggregate
            epoch = await self._record(room, puts_out=who)
            if epoch is None and self.is_sealed:
                # Only a record says that it was put out, and did not leave: it would come back by any open key.
                raise Refused("not_sealed_in")
            try:
                await self._link.call("link.kick", t.KickFromRoom(room=self.room, agent=who, epoch=epoch), by=agent)
                break
            except Refused as error:
                if error.code != "stale_epoch" or not left:
                    raise
            await trio.sleep(DECIDE_PAUSE_S)
        await self._shown(lambda room: not _is_in(room, who) and (epoch is None or who not in room.state.epochs.roster))

    async def _give_role(self, who: AgentId, command: c.GiveRole, agent: AgentId) -> None:
        params = t.RoleInRoom(room=self.room, agent=who, role=command.role, lock=command.locks)
        await self._link.call("link.role", params, by=agent)
        wanted = command.role, command.locks

        def holds(room: Room) -> bool:
            member = room.state.members.get(who)
            return member is not None and (member.role, member.locked) == wanted

        await self._shown(holds)

    async def _close(self, agent: AgentId, *, only_leaves: bool) -> None:
        """End the room, or leave it. What the agent said before goes first: afterwards the room takes nothing of it."""
        await self._link.ready()
        if not await self._link.lane(self.room, agent).emptied(SHOWN_S):
            raise Refused("home_unreachable", home=self._link.name)
        params = t.LeaveRoom(room=self.room, agent=agent, only_leaves=only_leaves)
        await self._link.call("link.close", params, by=agent)
        await self._shown(lambda room: room.state.closed or not _is_in(room, agent))

    async def _shown(self, holds: Callable[[Room], bool]) -> None:
        """Wait until the mirror shows what the room's home did. Raises `home_unreachable` when the mirror does not in
        time: it was done, and asking again is answered as the repeat that it is. Where the home contradicted itself
        meanwhile, the mirror takes nothing more in, and what is wrong is raised."""

        def shows(room: Room) -> bool:
            return holds(room) or is_over(room.state)

        if not await self._link.mirrors.until(self.room, shows, SHOWN_S):
            raise Refused("home_unreachable", home=self._link.name)
        if not holds(room := self.actor.aggregate):
            require_sound(room.state.lifecycle)

    # -- the code of one who knocks ------------------------------------------------------------------------

    async def check_code(self, request: Request, code: str, door: str) -> None:
        if self.is_sealed:
            await self._exchanges.prepare(self.room)
            right = self._exchanges.asked_code(self.room, request)
            if right is None:
                raise Refused("knock_unfinished")
            # The relay knows no code of a sealed room, so this home keeps account of the tries.
            await self._desk.codes.check(request.id, code, door=door, code=right)
            return
        await self._link.call(
            "link.check_code", t.CheckCode(room=self.room, request=request.id, join_code=code, door=cast(t.Door, door))
        )

    def presence(self, agent: AgentId) -> Present | None:
        return None if self._link.mirrors.is_ours(agent) else self._link.mirrors.presence(self.room, agent)

    async def ladders(self, agent: AgentId, message: MessageId) -> Mapping[AgentId, t.LadderAtRoom]:
        try:
            params = t.WhyAtRoom(room=self.room, agent=agent, id=message)
            answer = await self._link.call("link.why", params, by=agent)
        except Refused:
            # Where nobody can be asked, what is known here is said.
            return {}
        assert isinstance(answer, t.LaddersAtRoom)
        return {
            AgentId(each.agent): msgspec.structs.replace(each, presence=present_of(each.presence, each.since).presence)
            for each in answer.readers
        }

    def tell_sights(self, words: Sequence[t.SightAtRoom]) -> None:
        self._link.tell_sights(words)

    async def earlier(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        link, shifts = self._link, shifts_of(self.aggregate.state.membership, agent)
        there, shift = Seq(number_at_home(shifts, after)), shift_after(shifts, after)
        # What follows in the home's log was said after the room was rewound, and is here under other numbers.
        limit = min(limit, t.MAX_PAGE, last_at_home(shifts, after) - there)
        if limit <= 0:
            raise Refused("relay_rolled_back")
        if link.calls is None:
            raise Refused("home_unreachable", home=self.home_name)
        params = t.PullHistory(room=self.room, agent=agent, after=there, limit=limit)
        page = await link.call("link.pull", params, by=agent)
        assert isinstance(page, t.LinkPage)
        mirror = await self.quiet()
        shown = mirror.state.shown
        asked = wanted(t.LinkItem(room=self.room, page=page), shown)
        lines, _ = await self._desk.library.mirrored(self.room, asked.numbers, ())
        if self.is_sealed and (wants := unknown(self._secrets, self.room, page.messages)):
            owners = owners_of(mirror.state.lifecycle)
            await link.mirrors.look_back(self.room, wants, agent, owners, link.pull_epochs)
        inside: Inside = {}
        if self.is_sealed:
            inside = await self._rosters.of(mirror, records_of(page.messages), agent=agent, pull=link.pull_epochs)
        try:
            known = {**self._ends, **lines, shown.number: shown.line}
            epoch = await self._epoch_after(mirror, agent, after, there)
            judged = judge(page, mirror.state, agent, there, known, link.mirrors.opener, inside, epoch)
        except Contradicted as lie:
            await link.mirrors.contradict(self.room, lie.what)
            raise Refused("relay_equivocation", what=lie.what) from None
        self._ends[judged.end.number] = judged.end.line
        messages, upto = judged.earlier
        self._read_to[agent, mirror.state.epoch, upto] = judged.epoch
        shifted = tuple(msgspec.structs.replace(each, seq=Seq(each.seq + shift)) for each in messages)
        return Earlier(shifted, Seq(upto + shift))

    async def _epoch_after(self, mirror: Room, agent: AgentId, after: Seq, there: Seq) -> int:
        """The number of a record that was in force before what follows a reader's number, by which its home is not to
        tell anything that was sealed under an older one. `there` is that number at the home. 0 where nothing is known.
        """
        known, state = self._read_to.get((agent, mirror.state.epoch, there), 0), mirror.state
        for gap in await gaps_of(self._desk.library, mirror, mirror.view(agent)):
            if 0 < gap.low <= after < gap.high:
                # What the log holds of before the gap was said under the record that was in force there.
                before = await self._desk.library.position_of(self.room, mirror.view(agent), gap.low)
                turned = [number for number, at in state.epochs.turned if at <= before]
                return max(known, turned[-1] if turned else 0)
        return known

    # -- what the home answers itself --------------------------------------------------------------------------

    async def ask(self, question: Question, here: Callable[[RoomHandle], Awaitable[t.Result]]) -> t.Result:
        asked = question.params
        if isinstance(key := getattr(asked, "idempotency_key", None), str):
            asked = msgspec.structs.replace(asked, idempotency_key=self._hidden(key))
        params = t.AskAtRoom(
            room=self.room,
            agent=question.by.actor,
            operation=cast(t.Crossing, question.name),
            params=msgspec.msgpack.encode(asked),
        )
        wait_ms = question.params.wait_ms if isinstance(question.params, t.WaitingParams) else 0
        if wait_ms > LONGEST_MS:
            shorter = msgspec.structs.replace(asked, wait_ms=LONGEST_MS)
            params = msgspec.structs.replace(params, params=msgspec.msgpack.encode(shorter))
        longer = min(wait_ms, LONGEST_MS) / 1000
        answer = await self._link.call("link.ask", params, by=question.by.actor, longer=longer)
        assert isinstance(answer, t.AnsweredAtRoom)
        if answer.code:
            raise answers.refused(question.name, answer.code, answer.details)
        return self._with_warning(question, answers.answered(question.name, answer.answer, self.home_name))

    def _with_warning(self, question: Question, answer: t.Result) -> t.Result:
        """An answer with what is said here of it, whatever the home says: whoever writes for the first time into the
        state of a sealed room is told who sees that."""
        if "warning" not in answer.__struct_fields__:
            return answer
        is_first = self.is_sealed and question.name in STATE_WRITES and question.by.session not in self._warned
        if is_first:
            self._warned[question.by.session] = True
        return msgspec.structs.replace(answer, warning=STATE_IS_SEEN if is_first else msgspec.UNSET)

    # -- agents without a key ------------------------------------------------------------------------------------

    async def grant(self, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        room = self.actor.aggregate
        now = Millis(max(self._desk.now_at(self._link.home), room.last_at))
        room.decide(command, by=by, now=now, ids=self._desk.random)
        params = t.GrantAtRoom(
            room=self.room,
            grant=signed.body,
            grant_signature=signed.signature,
            name=command.name,
            token=token.digest,
            label=token.label,
        )
        granted = await self._link.call("link.grant", params, by=by.actor)
        assert isinstance(granted, t.GrantedAtRoom)
        await self._shown(lambda room: _is_in(room, command.agent))
        return granted

    async def grant_many(self, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        room = self.actor.aggregate
        now = Millis(max(self._desk.now_at(self._link.home), room.last_at))
        require_grantable(room.state.lifecycle, grant, now)
        params = t.GrantManyAtRoom(
            room=self.room,
            grant=signed.body,
            grant_signature=signed.signature,
            token=token.digest,
            label=token.label,
        )
        granted = await self._link.call("link.grant_many", params, by=by.actor)
        assert isinstance(granted, t.GrantedAtRoom)
        return granted

    async def ungrant(self, by: By, agent: AgentId) -> None:
        await self._link.call("link.ungrant", t.UngrantAtRoom(room=self.room, agent=agent), by=by.actor)
        await self._shown(lambda room: not _is_in(room, agent) or room.state.closed)

    # -- deleting ------------------------------------------------------------------------------------------------

    async def delete(self, by: By) -> None:
        if self.aggregate.state.contradicted == DELETED:
            return
        try:
            await self._link.call("link.delete", t.DeleteAtRoom(room=self.room))
        except Refused as error:
            # It was deleted there before, by an answer that was lost.
            if error.code != "room_deleted":
                raise

    # -- going on after the home lost a part of the room ------------------------------------------------------

    async def rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        for left in reversed(range(DECIDE_TRIES)):
            try:
                return await self._rewind(by, confirmed=confirmed)
            except Refused as error:
                # Somebody wrote there since it said where it stands: it is asked again.
                if error.code != "statement_refused" or not left:
                    raise
        raise AssertionError("the last try ends it")

    async def _rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        head = await self._link.call("link.head", t.AskHead(room=self.room))
        assert isinstance(head, t.RoomHead)
        shown, before = Shown(head.public, head.line), {AgentId(agent): n for agent, n in head.before.items()}
        if not self.aggregate.state.contradicted:
            await self._shown(lambda room: room.state.contradicted != "" or room.state.shown.number >= shown.number)
        mirror = await self.quiet()
        state = mirror.state
        require_open(state.lifecycle)
        if state.contradicted != OLDER_COPY:
            require_sound(state.lifecycle)
        fork = await find_fork(self._desk.library, mirror, shown, before)
        if not fork.fits:
            raise Refused("rewind_refused")
        answer = await self._would_lose(mirror, fork)
        if state.epoch and shown == state.shown and shown.number == first_number(state.epoch):
            await self._revoke_again()
            return msgspec.structs.replace(answer, status="nothing")
        if not confirmed:
            return answer
        epoch = max(state.epoch, epoch_of(shown.number)) + 1
        statement = Rewind(
            home=self._link.home,
            room=self.room,
            epoch=epoch,
            public=shown.number,
            line=shown.line,
            at=Millis(max(self._desk.clock.now(), mirror.last_at)),
            nonce=b"",
        )
        signed = self._attest(statement, by)
        await self._link.call(
            "link.rewind", t.RewindAtRoom(room=self.room, statement=signed.body, signature=signed.signature)
        )
        await self._shown(lambda room: room.state.epoch >= epoch)
        await self._revoke_again()
        await self._link.send_lost_epochs(self.room)
        return msgspec.structs.replace(answer, status="rewound")

    async def _revoke_again(self) -> None:
        """End the session keys and tokens again that were revoked: of some the home may have lost that."""
        held = {token.agent for token in self._desk.rooms.home.aggregate.tokens.all()}
        for member in list(self.aggregate.state.members.values()):
            is_ours = member.given is not None and member.principal == self.aggregate.state.owner_principal
            came_with = None if member.given is None else joiner_of(member.given.grant)
            if is_ours and member.agent not in held and came_with not in held:
                await self._link.call("link.ungrant", t.UngrantAtRoom(room=self.room, agent=member.agent))
        for key in list(self.aggregate.state.keys.values()):
            if key.revoked:
                try:
                    await self._link.call("link.revoke", t.RevokeKeyOfRoom(room=self.room, ref=key.ref))
                except Refused as error:
                    # A key that the home lost lets nobody in.
                    if error.code != "unknown_key":
                        raise

    async def _would_lose(self, mirror: Room, fork: Fork) -> t.RewoundRoom:
        """What the home has no more, of what is here."""
        said: dict[str, int] = {}
        at = fork.upto
        while at < mirror.position:
            for header in await self._desk.library.facts(self.room, at, FACTS):
                at = header.position
                if isinstance(header.event, e.MessagePosted) and not mirror.state.rewinds.is_lost(at):
                    author = handle_of(mirror.state, header.by.actor)
                    said[author] = said.get(author, 0) + 1
        newest = fork.newest
        return t.RewoundRoom(
            room=self.room,
            name=mirror.state.name,
            home=self.home_name,
            status="asked",
            lost=[t.LostWords(author=author, messages=count) for author, count in sorted(said.items())],
            newest="" if newest is None else handle_of(mirror.state, newest.by.actor),
            newest_at=0 if newest is None else newest.at,
        )

    def join_code(self, request: RequestId) -> str | None:
        known = self.actor.aggregate.state.requests.get(request)
        if not self.is_sealed or known is None:
            return self._doors.code(request)
        return self._exchanges.code(self.room, known)

    async def message_key(self, body: bytes, author: AgentId) -> bytes | None:
        home, sealed = self._link.home, sealed_of(body)
        if sealed is None:
            return None
        await self._secrets.prepare(home, self.room)
        envelope, part = sealed[0], sealed_part(sealed[0])
        seats = (await self._rosters.held(await self.quiet(), (part.record,))).get(part.record)
        asks = seats is not None and seats.inside.get(author, False)
        return self._secrets.message_key(home, envelope, author, asks=asks)

    def host_of(self, request: Request) -> str:
        return self._exchanges.host(self.room, request) if self.is_sealed else request.host

    def standing(self, request: Request) -> str:
        if not self.is_sealed or request.state != "pending":
            return ""
        if self._exchanges.has_failed(self.room, request):
            return "failed"
        return "unanswered" if self._exchanges.is_under_way(self.room, request) else ""

    def spent_keys(self) -> Sequence[SpentKey]:
        return self._exchanges.spent(self.actor.aggregate.state) if self.is_sealed else ()

    def owner_heard(self, agent: AgentId) -> Millis:
        return self._doors.heard(self.room, agent)


def sealed_recap(
    epoch: Made, author: AgentId, request: bytes, random: Callable[[int], bytes], composed: Envelope
) -> Envelope:
    """The first message of a room, sealed under the record with which the room begins."""
    check_composed(composed)
    return seal(composed, author=author, epoch=epoch.epoch, input=request, random=random)


def _in_force(room: Room, told: t.EpochTold | None) -> tuple[int, bytes]:
    """The number and the hash of the record that is in force once a decision counts."""
    state = room.state.epochs
    return (state.number, state.record) if told is None else (state.number + 1, record_digest(told.record))


def _id_of(room: RoomId, agent: AgentId, command: c.PostMessage) -> MessageId:
    """The id of a message that its author may ask for again. A daemon that was killed may have sent the message, and
    the one after it does not know that: both tell the author the same id."""
    asked = msgspec.msgpack.encode((room, agent, command.operation, command.idempotency_key))
    return MessageId(f"m_{base64.b32encode(hashlib.sha256(asked).digest()).decode().lower()[:26]}")


def _fail(submission: Submission, error: ParlerError) -> None:
    submission.error = error
    submission.finish()


def _carries_none(what: str, command: str, op: str) -> Refused:
    return Refused(
        "relay_older",
        f"The relay runs an older Parler, which carries no {what}.",
        hint="Ask whoever runs the relay to upgrade it; or open a room that it can read, with --clear.",
        tool_hint="Your user can ask whoever runs the relay to upgrade it, or open a room there that the relay can "
        f"read: parler {command} --clear",
        op=op,
    )


def _is_in(room: Room, agent: AgentId) -> bool:
    member = room.state.members.get(agent)
    return member is not None and member.present


def _has_knocked(room: Room, agent: AgentId, key: KeyId) -> bool:
    request = standing_request(room.state.requests, agent)
    return request is not None and request.key_id == key


def _state_of(room: Room, request: RequestId) -> str:
    found = room.state.requests.get(request)
    return "" if found is None else found.state
