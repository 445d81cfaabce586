"""Planted faults: mistakes that the product might make one day, each put into it for the length of a run, and caught.

A fault replaces one function of the product. It is played over seeds until a promise of the simulation breaks: a fault
that none breaks on shows that the simulation does not prove what it says. Without the fault the same seeds hold
(`test_simulation`).

    python -m tests.sim --fault NAME      says at which seed and step the fault was caught
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import pytest
import trio

from parlerd.core import approvals, claims, membership, memory, messages
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import Envelope, MemoryPart, UnknownPart, decode_envelope, encode_envelope
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.gated import Gated
from parlerd.core.model import AgentId, By, KeyId, MessageId, Millis, PrincipalId, RoomId
from parlerd.core.pairs import Pairs
from parlerd.core.resolver import Resolver
from parlerd.core.statements import DecisionStatement, Opening, check
from parlerd.engine import authors, following, linking, links, notifier, readers, reading
from parlerd.engine.actor import RoomActor
from parlerd.engine.approving import Approving
from parlerd.engine.cards import Cards
from parlerd.engine.clearing import Clearing
from parlerd.engine.fanout import LinkStream, News
from parlerd.engine.following import Following
from parlerd.engine.handles import Present
from parlerd.engine.letting_in import LettingIn
from parlerd.engine.overview import Overview
from parlerd.engine.pair_rooms import PairRooms
from parlerd.engine.ports import NoSigners
from parlerd.engine.reachable import Eyes
from parlerd.engine.rooms import LocalRoom
from parlerd.identity import proofs, transcript
from parlerd.identity.transcript import Transcript
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery, MoveCursor, OutboxRow, PutOutbox, StoredMessage
from parlerd.uplink import connection, mirrors, speakers
from parlerd.uplink.arriving import cards, items, knocks, members, owners
from parlerd.uplink.arriving.hearing import Arrival, Grounds, Hearing, Past
from parlerd.uplink.composing import Decided
from parlerd.uplink.counters import Counters, Threaded
from parlerd.uplink.lanes import Lane, Post
from parlerd.uplink.link import Link
from parlerd.uplink.mirrors import Mirrors
from parlerd.uplink.outbox import Outbox
from parlerd.uplink.speakers import Speakers
from parlerd.uplink.uplinks import Uplinks
from parlerd.uplink.walking import Pull
from parlerd.wire import link as wire_link
from tests.sim import first_contact, hostile, outsiders, tales
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.inviting import Inviting
from tests.sim.remembering import Remembering
from tests.sim.whispering import Whispering
from tests.sim.working import Working
from tests.sim.world import Plan, Simulation
from tests.sim.writing import Writing

Patch = pytest.MonkeyPatch

SEEDS: Final = 200
"""How many seeds a fault may take to be caught: no more than are played with every change."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake, and the story in which it shows."""

    name: str
    what: str
    """What is wrong, in a few words."""
    put_in: Callable[[Patch], None]
    story: Callable[[int], Story] = Simulation


class Story(Protocol):
    """What is played with a fault in it."""

    def meet(self) -> None:
        """Play what the story begins with, which is sound."""
        ...

    def run(self) -> object:
        """Play it. Raises `Broken`."""
        ...


@dataclass(frozen=True, slots=True)
class Caught:
    """Where a fault showed, and which promise broke."""

    seed: int
    broken: Broken


FAULTS: Final[dict[str, Fault]] = {}


def fault(
    name: str, what: str, story: Callable[[int], Story] = Simulation
) -> Callable[[Callable[[Patch], None]], None]:
    """Enter a fault in the list."""

    def enter(put_in: Callable[[Patch], None]) -> None:
        FAULTS[name] = Fault(name, what, put_in, story)

    return enter


def catch(fault: Fault, seeds: Iterable[int]) -> Caught | None:
    """Play seeds with this fault until a promise breaks; None where all of them hold."""
    # The meetings from before are sound, and this fault is about what comes after them.
    for seed in seeds:
        story = fault.story(seed)
        story.meet()
        with pytest.MonkeyPatch.context() as patch:
            fault.put_in(patch)
            try:
                story.run()
            except Broken as broken:
                return Caught(seed, broken)
    return None


def _deadly(seed: int) -> Simulation:
    """A story of more trouble than usual, for what shows in the worst of it alone."""
    return Simulation(seed, Plan(kills=6, things=8, spells=6))


def _parting(seed: int) -> Simulation:
    """A story at whose end somebody leaves while messages to it wait."""
    return Simulation(seed, Plan(homes=(3,), partings=1.0))


def _coming(seed: int) -> Simulation:
    """A story in which somebody knocks, and each home checks at the end what it holds."""
    return Simulation(seed, Plan(newcomers=1.0, audits=1.0))


# -- what is answered and stored ---------------------------------------------------------------------------


@fault("daemon-answers-before-it-stores", "a queued message is answered before it is on the disk")
def _(patch: Patch) -> None:
    async def put(self: Outbox, row: OutboxRow) -> None:
        async def later() -> None:
            await trio.sleep(1.0)
            if self._rows.get(row.message) is row:
                with suppress(ParlerError):
                    await self._library.record([PutOutbox(row)])

        self._rows[row.message] = row
        trio.lowlevel.spawn_system_task(later)
        await trio.lowlevel.checkpoint()

    patch.setattr(Outbox, "put", put)


@fault("relay-answers-before-it-stores", "a relay answers a message whether or not it could be stored", _deadly)
def _(patch: Patch) -> None:
    failed = RoomActor._failed

    def answered(self: RoomActor[Any], failure: Any) -> None:
        author = self._context.author
        is_relay = isinstance(author, authors.LocalAuthor) and isinstance(author._keys, NoSigners)
        if (
            is_relay
            and isinstance(self, LocalRoom)
            and failure.error.code == "store_failed"
            and self._batch is not None
        ):
            self._conclude(self._batch)
        else:
            failed(self, failure)

    patch.setattr(RoomActor, "_failed", answered)


@fault("repeats-are-forgotten", "a request that was made before is not known again")
def _(patch: Patch) -> None:
    patch.setattr(messages, "replayed", lambda command: None)


@fault("digest-over-the-envelope", "a message that is signed again is taken for another request")
def _(patch: Patch) -> None:
    def digest(envelope: Envelope) -> bytes:
        return hashlib.sha256(encode_envelope(envelope)).digest()

    patch.setattr(authors, "request_digest", digest)


@fault("row-goes-before-its-answer", "a queued message is forgotten when it is sent, and not when it is answered")
def _(patch: Patch) -> None:
    send = Lane._send

    def forgetting(self: Lane, calls: Any, post: Post, decided: Decided) -> None:
        send(self, calls, post, decided)
        if post.is_kept and post.sent is not None:
            self._link.spawn(self._outbox.drop, post.id)

    patch.setattr(Lane, "_send", forgetting)


@fault("overtaking", "what is said while the link is there is sent before what waits")
def _(patch: Patch) -> None:
    def offer(self: Lane, post: Post, decided: Decided) -> None:
        calls = self._link.calls
        if calls is None:
            self._posts.append(post)
        else:
            post.is_straight = True
            self._posts.appendleft(post)
            self._send(calls, post, decided)
        self.go_on()

    patch.setattr(Lane, "offer", offer)


@fault("refused-is-dropped", "a queued message that was refused is forgotten without a word", _parting)
def _(patch: Patch) -> None:
    async def refuse(self: Outbox, message: MessageId, code: str) -> None:
        await self.drop(message)

    patch.setattr(Outbox, "refuse", refuse)


@fault("refusal-stops-the-rest", "what waits behind a message that was refused stays there", _parting)
def _(patch: Patch) -> None:
    dealt_with = Lane._dealt_with

    async def stopping(self: Lane, post: Post) -> bool:
        is_done = await dealt_with(self, post)
        if is_done and post.error is not None:
            self._not_before = math.inf
        return is_done

    patch.setattr(Lane, "_dealt_with", stopping)


@fault("counter-used-again", "a counter goes on from the newest that was acknowledged, as if nothing was under way")
def _(patch: Patch) -> None:
    patch.setattr(Counters, "after", lambda self, thread, acknowledged: acknowledged + 1)


# -- what is read ------------------------------------------------------------------------------------------


@fault("resubscribed-from-now", "after a break a room is followed from where it is now")
def _(patch: Patch) -> None:
    resume = Mirrors.resume

    async def from_now(self: Mirrors, room: RoomId) -> t.Resume:
        found = await resume(self, room)
        return t.Resume(room=room) if found.before else found

    patch.setattr(Mirrors, "resume", from_now)


@fault("resubscribed-from-the-beginning", "after a break a room is told again from its first message")
def _(patch: Patch) -> None:
    resume = Mirrors.resume

    async def from_the_beginning(self: Mirrors, room: RoomId) -> t.Resume:
        found = await resume(self, room)
        return t.Resume(room=room, newest=t.MAX_NEWEST) if found.before else found

    patch.setattr(Mirrors, "resume", from_the_beginning)


@fault("cursor-of-the-relay", "what the relay has sent counts as read")
def _(patch: Patch) -> None:
    take = Mirrors.take

    async def reading(self: Mirrors, item: t.LinkItem, pull: Pull | None = None) -> bool:
        goes_on = await take(self, item, pull)
        room = RoomId(item.room)
        actor = self._desk.rooms.open_actor(room)
        if item.page is not None and actor is not None:
            now, upto = self._desk.clock.now(), actor.aggregate.position
            for agent in [agent for agent in actor.aggregate.state.members if self.is_ours(agent)]:
                after = (await self._desk.library.cursor(room, agent)).delivered
                read = MarkDelivery(room, agent, "read", upto=upto, at=now, after=after)
                await self._desk.library.record([read, MoveCursor(room, agent, upto)])
        return goes_on

    patch.setattr(Mirrors, "take", reading)


@fault("wait-lost", "whoever waits when a link breaks is not woken by what comes over the next one")
def _(patch: Patch) -> None:
    deaf: list[object] = []
    forget, wake = Mirrors.forget_presence, notifier._Waiter.wake

    def losing(self: Mirrors) -> None:
        forget(self)
        everybody = self._desk.notifier
        assert isinstance(everybody, notifier.LocalNotifier)
        deaf.extend(waiter for waiters in everybody.waiters.values() for waiter in waiters)

    def waking(self: notifier._Waiter) -> None:
        if self not in deaf:
            wake(self)

    patch.setattr(Mirrors, "forget_presence", losing)
    patch.setattr(notifier._Waiter, "wake", waking)


@fault("read-before-it-is-written", "a window's page counts as read although the window never had it")
def _(patch: Patch) -> None:
    shows = readers.PendingAnswer.shows

    def counting(self: readers.PendingAnswer, room: RoomId, upto: Any) -> None:
        shows(self, room, upto)
        self.state = "written"

    patch.setattr(readers.PendingAnswer, "shows", counting)
    patch.setattr(readers.Shown, "withdrawn", lambda self, request, *, even_written: None)


@fault("neighbour-reads-along", "what is for one agent of a home is shown to the home's other agents")
def _(patch: Patch) -> None:
    def open_to_all(item: t.LinkItem, past: Past, grounds: Grounds) -> items.Heard:
        ours = [agent for agent in grounds.mirror.state.members if grounds.ours(agent)]
        heard = items.hear(item, past, grounds)
        found = [Arrival(_for_all(each.command, ours), each.by, each.words) for each in heard.arrivals]
        return heard._replace(arrivals=found)

    patch.setattr(mirrors, "hear", open_to_all)


def _for_all(command: c.Arrive, ours: list[AgentId]) -> c.Arrive:
    """The same, with every private message of theirs shown to all of these agents."""
    return msgspec.structs.replace(command, events=tuple(_shown_to(event, ours) for event in command.events))


def _shown_to(event: e.RoomEvent, ours: list[AgentId]) -> e.RoomEvent:
    if not isinstance(event, e.MessagePosted) or event.visibility is None or not set(ours) & set(event.visibility):
        return event
    return msgspec.structs.replace(event, visibility=tuple(sorted({*event.visibility, *ours})))


@fault("local-call-waits-for-the-relay", "a list of this machine's rooms waits for a link")
def _(patch: Patch) -> None:
    rooms = Overview.rooms

    async def waiting(self: Overview, caller: Any, params: t.ListRooms) -> t.RoomList:
        homes = self._desk.homes
        assert isinstance(homes, Uplinks)
        for each in homes._links.values():
            with suppress(ParlerError):
                await each.ready()
        return await rooms(self, caller, params)

    vars(waiting).update(vars(rooms))
    patch.setattr(Overview, "rooms", waiting)


@fault("tasks-stay", "a task that looked for late messages stays when there are none left")
def _(patch: Patch) -> None:
    watch = Lane._watch

    async def staying(self: Lane) -> None:
        await watch(self)
        await trio.sleep_forever()

    patch.setattr(Lane, "_watch", staying)


# -- who speaks --------------------------------------------------------------------------------------------


def _bound_to(*left_out: str) -> Callable[[Transcript, str], bytes]:
    """What a transcript signs, without some of what it has to name."""

    def named(self: Transcript, use: str) -> bytes:
        fields = ("daemon_nonce", "relay_nonce", "home", "principal", "certificate")
        return msgspec.msgpack.encode((1, use, *(getattr(self, name) for name in fields if name not in left_out)))

    return named


@fault("certificate-not-bound", "what both ends prove does not name the certificate", hostile.Middle)
def _(patch: Patch) -> None:
    patch.setattr(Transcript, "_bytes", _bound_to("certificate"))


@fault("nonces-not-bound", "what both ends prove does not name what either drew for this link", hostile.Replayer)
def _(patch: Patch) -> None:
    patch.setattr(Transcript, "_bytes", _bound_to("daemon_nonce", "relay_nonce"))


@fault("any-relay-will-do", "the relay that answers is not compared with the one that was added", hostile.Impostor)
def _(patch: Patch) -> None:
    patch.setattr(Link, "_fits", lambda self, home: True)


@fault("attachment-for-any-link", "what attaches an agent does not name the link", hostile.Thief)
def _(patch: Patch) -> None:
    def for_any(channel: bytes, agent: AgentId, principal: PrincipalId) -> bytes:
        return transcript.attach_bytes(b"", agent, principal)

    for module in (speakers, linking):
        patch.setattr(module, "attach_bytes", for_any)


@fault("expired-delegation-kept", "an agent speaks on after what lets it speak has ended", hostile.Overstayer)
def _(patch: Patch) -> None:
    patch.setattr(links.Link, "speaks_for", lambda self, agent, now: agent in self.agents)
    patch.setattr(links.Link, "speaking", lambda self, now: list(self.agents))


@fault("delegation-not-renewed", "nothing lets an agent speak on over a link that lasts", hostile.Lasting)
def _(patch: Patch) -> None:
    attach = Speakers.attach

    async def once(self: Speakers, connection: Any, agents: Iterable[AgentId]) -> list[t.Standing]:
        return await attach(self, connection, [agent for agent in agents if agent not in self._attached])

    patch.setattr(Speakers, "attach", once)


@fault("own-clock", "a daemon counts by its own clock what the relay judges by the relay's")
def _(patch: Patch) -> None:
    patch.setattr(
        connection.LinkConnection, "clock_ahead_ms", property(lambda self: 0, lambda self, ahead: None), raising=False
    )


@fault("another-log-unnoticed", "a daemon does not compare the log that a relay keeps", hostile.Forgetful)
def _(patch: Patch) -> None:
    async def none(self: Mirrors) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    patch.setattr(Mirrors, "archive", none)


# -- what others say ---------------------------------------------------------------------------------------


@fault("bad-envelope-admitted", "a relay does not check the form of what an author signed", hostile.BadAuthor)
def _(patch: Patch) -> None:
    patch.setattr(authors, "check_envelope", lambda envelope: None)


@fault("bad-part-fails-the-page", "a part that is not known ends the reading of a page", hostile.BadAuthor)
def _(patch: Patch) -> None:
    parts = reading._parts

    def strict(room: Any, reader: AgentId, event: e.MessagePosted, stored: StoredMessage, now: Millis) -> Any:
        if stored.body is not None and any(
            isinstance(part, UnknownPart) for part in decode_envelope(stored.body).parts
        ):
            raise StoreError("store_corrupt")
        return parts(room, reader, event, stored, now)

    patch.setattr(reading, "_parts", strict)


@fault("sentence-of-the-relay", "what a relay says of an error is shown in its own words", hostile.Commanding)
def _(patch: Patch) -> None:
    patch.setattr(connection, "heard", lambda body: ParlerError(body.code, body.message, hint=body.hint))


@fault("details-of-the-relay", "what a relay says beside an error is shown as it is", hostile.Commanding)
def _(patch: Patch) -> None:
    patch.setattr(wire_link, "_plain", dict)


@fault("word-of-the-relay", "how present somebody is is shown in the relay's words", hostile.Commanding)
def _(patch: Patch) -> None:
    patch.setattr(mirrors, "present_of", Present)


@fault("label-of-the-relay", "what a relay says of a member is shown as it is", hostile.Commanding)
def _(patch: Patch) -> None:
    for module in (knocks, members):
        patch.setattr(module, "label_or_none", lambda text, is_form: text)


# -- who is let in -----------------------------------------------------------------------------------------


def _telling(tale: type[tales.Tale]) -> Callable[[int], Simulation]:
    return lambda seed: tales.Told(seed, tale())


def _unsigned(patch: Patch, domain: str) -> None:
    """Let every signature count that is made for this."""
    real = vars(proofs)["verify"]

    def verify(by: str, tag: Any, data: bytes, signature: bytes) -> bool:
        return tag == domain or bool(real(by, tag, data, signature))

    patch.setattr(proofs, "verify", verify)


@fault("unsigned-decision", "whoever signed a decision, it counts", _telling(tales.ForgedDecision))
def _(patch: Patch) -> None:
    _unsigned(patch, "parler/decision")


def _any_decision(patch: Patch) -> None:
    """Let a decision count whatever room and request it is about."""

    def of_any(hearing: Hearing, entry: t.RequestEntry) -> DecisionStatement | None:
        decision = knocks._signed_decision(hearing, entry.decision, entry.decision_signature)
        return decision if decision is not None and decision.admit is (entry.state == "approved") else None

    patch.setattr(knocks, "_decision", of_any)


@fault("foreign-decision", "a decision about another room counts", _telling(tales.ForeignDecision))
def _(patch: Patch) -> None:
    _any_decision(patch)


@fault("replayed-decision", "a decision about another request counts", _telling(tales.ReplayedDecision))
def _(patch: Patch) -> None:
    _any_decision(patch)


@fault("unproved-member", "a member is whoever the relay says", _telling(tales.Ghost))
def _(patch: Patch) -> None:
    for module in (members, owners):
        patch.setattr(module, "unproven", lambda *args: None)


@fault("gate-left-open", "a key that lets somebody ask lets them in", _coming)
def _(patch: Patch) -> None:
    usable = approvals.usable_key

    def open_to_all(*args: Any) -> approvals.KeyState:
        return msgspec.structs.replace(usable(*args), gated=False)

    patch.setattr(approvals, "usable_key", open_to_all)


@fault("no-is-yes", "whatever a person says of somebody who knocks, it lets them in", _coming)
def _(patch: Patch) -> None:
    decide = Approving.decide

    async def always(self: Approving, *args: Any, admit: bool, proof: Any) -> t.Decided:
        return await decide(self, *args, admit=True, proof=proof)

    patch.setattr(Approving, "decide", always)


@fault("proof-not-kept", "a mirror does not hold what shows why a member was let in", _coming)
def _(patch: Patch) -> None:
    patch.setattr(members, "encode_evidence", lambda evidence: proofs.encode_evidence(proofs.Evidence()))


@fault("unsigned-terms", "whoever signed the terms of a key, they count", _telling(tales.ForgedKey))
def _(patch: Patch) -> None:
    _unsigned(patch, "parler/key")


@fault("unsigned-knock", "whoever signed a knock, it counts", _telling(tales.ForgedKnock))
def _(patch: Patch) -> None:
    patch.setattr(knocks, "_is_knock", lambda hearing, entry: True)


@fault("opening-not-compared", "a room may have another opening than before", _telling(tales.OtherOpening))
def _(patch: Patch) -> None:
    class Anything(str):
        """A room's id that equals every other."""

        __hash__ = str.__hash__

        def __ne__(self, other: object) -> bool:
            return False

    patch.setattr(cards, "room_id_of", lambda opening: Anything())


@fault(
    "unchecked-opening",
    "whoever signed the opening of a room, a home begins with it",
    lambda seed: first_contact.FirstContact(seed, first_contact.signed_by_another),
)
def _(patch: Patch) -> None:
    def unchecked(room: RoomId, home: Any, body: bytes, signature: bytes) -> Opening:
        return check(body, Opening)

    patch.setattr(cards, "read_opening", unchecked)


# -- channels ----------------------------------------------------------------------------------------------


def _acting(act: type[Act]) -> Callable[[int], Simulation]:
    """A story with an act in it."""
    return lambda seed: Simulation(seed, Plan(homes=(3,), acts=(act,), act=1.0))


@fault("code-without-end", "a code lets in as many as have it", _acting(Inviting))
def _(patch: Patch) -> None:
    usable = approvals.usable_key

    def endless(keys: Mapping[KeyId, approvals.KeyState], key: KeyId, *args: Any) -> approvals.KeyState:
        known = {id: msgspec.structs.replace(each, max_uses=10_000) for id, each in keys.items()}
        return usable(known, key, *args)

    patch.setattr(approvals, "usable_key", endless)
    patch.setattr(LettingIn, "_is_good", lambda *args: True)


@fault("put-out-stays", "whoever is put out is told so, and is in", _acting(Inviting))
def _(patch: Patch) -> None:
    depart = membership.depart

    def staying(members: Any, agent: AgentId, *, kicked: bool = False, **named: Any) -> None:
        if not kicked:
            depart(members, agent, **named)

    patch.setattr(membership, "depart", staying)


@fault("put-out-comes-back", "whoever was put out comes in again with the code that it has", _acting(Inviting))
def _(patch: Patch) -> None:
    patch.setattr(membership, "is_barred", lambda *args: False)


@fault("deleted-words-stay", "nothing takes the words of a deleted room out of the file", _acting(Inviting))
def _(patch: Patch) -> None:
    async def never(self: Clearing) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Clearing, "_clear", never)


# -- what a room remembers ---------------------------------------------------------------------------------


def _noting(patch: Patch, change: Callable[[Any], Any], part_of: Callable[[MemoryPart], MemoryPart]) -> None:
    noted = memory.noted

    def other(state: Any, part: MemoryPart, *args: Any, **more: Any) -> Any:
        return change(noted(state, part_of(part), *args, **more))

    patch.setattr(memory, "noted", other)


@fault("guard-not-compared", "a fact is written whatever version its author knew", _acting(Remembering))
def _(patch: Patch) -> None:
    _noting(patch, lambda found: found, lambda part: msgspec.structs.replace(part, if_version=None))


@fault("forgotten-words-stay", "what is forgotten is found by nobody, and its words stay", _acting(Remembering))
def _(patch: Patch) -> None:
    _noting(patch, lambda found: found._replace(erases=()), lambda part: part)


# -- direct messages ---------------------------------------------------------------------------------------


@fault("pair-forgotten", "nobody knows which room two agents have", _acting(Writing))
def _(patch: Patch) -> None:
    patch.setattr(Pairs, "room_of", lambda *args: None)


@fault("card-not-asked", "whoever writes to an agent that wants to be asked is let in", _acting(Writing))
def _(patch: Patch) -> None:
    async def always(self: PairRooms, *args: Any) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    patch.setattr(PairRooms, "_is_let", always)


# -- what waits --------------------------------------------------------------------------------------------


@fault("shown-to-everyone", "a message that waits for its reader is shown to everyone at once", _acting(Whispering))
def _(patch: Patch) -> None:
    patch.setattr(Resolver, "shows", lambda *args: True)


@fault("shown-again", "a home forgets whom it showed a message that waits for its reader", _acting(Whispering))
def _(patch: Patch) -> None:
    put = Gated._put
    patch.setattr(Gated, "_put", lambda self, id, entry, **changed: put(self, id, entry, **{**changed, "readers": ()}))


@fault("one-task-twice", "a task that was shown to several apart is several tasks", _acting(Whispering))
def _(patch: Patch) -> None:
    patch.setattr(Gated, "_offer", lambda *args: iter(()))


@fault("never-shown-later", "a message is shown when it is posted or never", _acting(Whispering))
def _(patch: Patch) -> None:
    patch.setattr(Gated, "_changed", lambda *args: None)


# -- work --------------------------------------------------------------------------------------------------


@fault("requester-reads-along", "who only asks for work is told what others ask for", _acting(Working))
def _(patch: Patch) -> None:
    patch.setattr(News, "is_for_all", lambda *args: True)


@fault("late-result-counts", "a result ends a task whoever holds it by then", _acting(Working))
def _(patch: Patch) -> None:
    effect = claims.Claims.effect

    def lenient(self: claims.Claims, command: c.PostMessage, by: By, now: Millis) -> Any:
        task = None if command.reply_to is None else self.get(command.reply_to)
        if command.kind == "result" and task is not None and task.id in self.state.tasks:
            over = e.TaskCompleted(task=task.id, worker=by.actor, outcome="done", fence=task.fence)
            return claims.Effect(command.kind, (over,))
        return effect(self, command, by, now)

    patch.setattr(claims.Claims, "effect", lenient)


# -- what nobody may learn ---------------------------------------------------------------------------------


@fault("number-over-all", "the number of an envelope counts all that its home signs", outsiders.Inside)
def _(patch: Patch) -> None:
    after = Counters.after
    given: dict[Counters, int] = {}

    def over_all(self: Counters, thread: Threaded, acknowledged: int) -> int:
        given[self] = after(self, thread, max(acknowledged, given.get(self, 0)))
        return given[self]

    patch.setattr(Counters, "after", over_all)


@fault("private-to-all", "a relay tells each member everything", outsiders.Inside)
def _(patch: Patch) -> None:
    patch.setattr(following, "can_see", lambda *args, **named: True)


@fault("card-counts-for-all", "a relay tells everybody how often somebody came or went", outsiders.Knocking)
def _(patch: Patch) -> None:
    whole = Cards.whole

    async def counting(self: Cards, *args: Any, moves: int, **named: Any) -> list[t.Card]:
        return [msgspec.structs.replace(card, moves=moves) for card in await whole(self, *args, moves=moves, **named)]

    patch.setattr(Cards, "whole", counting)


@fault("presence-for-all", "a relay tells whoever knocks who is present", outsiders.Denied)
def _(patch: Patch) -> None:
    presence = Following._presence

    def to_all(self: Following, stream: LinkStream) -> list[t.LinkItem]:
        before = {followed: followed.eyes for followed in stream.rooms.values()}
        for followed, looking in before.items():
            followed.eyes = None if looking is None else Eyes(looking.members, looking.knocking, owns=True)
        try:
            return presence(self, stream)
        finally:
            for followed, looking in before.items():
                followed.eyes = looking

    patch.setattr(Following, "_presence", to_all)


@fault(
    "dead-key-told-apart", "a key that is no good any more is answered otherwise than one of nobody", outsiders.Guessing
)
def _(patch: Patch) -> None:
    find = LettingIn._key

    async def telling(self: LettingIn, caller: Any, typed: str) -> Any:
        try:
            return await find(self, caller, typed)
        except Refused as error:
            known = await self._desk.library.room_of_key(self._desk.keys.key_id(typed))
            if error.code == "unknown_key" and known is not None:
                raise Refused("unknown_key", was=known) from None
            raise

    patch.setattr(LettingIn, "_key", telling)
