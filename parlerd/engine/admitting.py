"""What agents of other homes ask over a link, as the home that owns the rooms admits it: the
handlers of `link.open`, `link.post`, `link.claim`, `link.renew`, `link.release` and `link.close`.

A local agent's words are composed and signed here, when their turn comes. An agent of another home brings what it
signed: `authors.Admission` checks the signature and the form, and the room refuses whatever it would not have decided
itself. So the two ways differ in who writes and in nothing else.

Not here: who may speak over a link (`linking`), and how what was admitted reaches others (`following`). Above: the
engine. Below: `reachable` for the room that a caller means, and the rooms' own lines. Invariant: what is refused left
nothing, and whoever may not know a room hears `no_such_room`, whatever else is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Final, NamedTuple

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import AgentId, By, KeyId, MessageId, Millis, Position, PrincipalId, RoomId, Seq
from parlerd.core.room import Room
from parlerd.core.statements import KeyTerms, Opening, check, room_id_of, sealed_with
from parlerd.engine.authors import Admission, Attested, Finished, Turned, Words
from parlerd.engine.brought import BlobFinder
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.direct_keys import sees
from parlerd.engine.epochs import told_epoch
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.pair_rooms import awaited, is_over
from parlerd.engine.quota import OPENING
from parlerd.engine.reachable import require_attached, require_member, require_speaker, room_within, stamp
from parlerd.engine.sending import Posting
from parlerd.identity import codes
from parlerd.operations import types as t
from parlerd.store.counts import Ask

OPENS_S: Final = 2.0
"""How long a room of two that another process paired may take to be opened, before this one takes its place: well below
the time for which a daemon waits for an answer (`uplink.lanes`), or both of the two would ask again for ever."""
LOOK_S: Final = 0.5
TURN_S: Final = 1.5
TURN_LOOK_S: Final = 0.1
"""After how long a turn to open rooms (`_turn_of`) comes back of which nothing is heard, and how often it is asked for:
twice that time is below the time for which a daemon waits for an answer, too."""


class _Taken(NamedTuple):
    """A message as it came: what it asks of the room, and the words."""

    command: c.PostMessage
    words: Finished


class Admitting:
    """The handlers of what an agent of another home does here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admission = Admission()
        self._finder = BlobFinder(desk.library)
        self._opening: dict[PrincipalId, list[RoomId]] = {}
        """The rooms that each person opens at this moment, in the order in which they were asked for."""

    @handles("link.post")
    async def post(self, caller: Caller, params: t.PostEnvelope) -> t.Posted:
        agent = require_speaker(self._desk, caller, params.agent)
        actor = await room_within(self._desk, caller, params.room)
        if self._keeps_too_much(caller, params):
            # What is here already is answered as what it is.
            found = await self._desk.library.trace(MessageId(params.id))
            if found is None or found.room != actor.room:
                raise self._desk.kept.refusal()
        taken = self._taken(caller, agent, actor, params)
        if taken.command.blob:
            await self._require_blob(agent, actor, taken.command)
        if names := _named(taken.command):
            erased = await self._desk.library.erased_words(actor.room, names)
            taken = taken._replace(command=msgspec.structs.replace(taken.command, erased=erased))
        await self._desk.quotas.take(agent, bytes=len(params.body), person=caller.facts.authority.principal)
        return await self._place(caller, agent, actor, params, taken).result()

    def begin_post(self, caller: Caller, params: t.PostEnvelope) -> Posting[t.Posted] | None:
        """`post`, as far as its place in the room's line; None where the room is closed up, and where the store has to
        be asked first, the files of this home, or what is counted for several relays."""
        agent = require_speaker(self._desk, caller, params.agent)
        actor = self._desk.rooms.open_actor(RoomId(params.room))
        if actor is None or self._keeps_too_much(caller, params):
            return None
        taken = self._taken(caller, agent, actor, params)
        size, person = len(params.body), caller.facts.authority.principal
        if (
            taken.command.blob
            or _named(taken.command)
            or not self._desk.quotas.take_now(agent, bytes=size, person=person)
        ):
            return None
        return self._place(caller, agent, actor, params, taken)

    @handles("link.open")
    async def open(self, caller: Caller, params: t.OpenRemoteRoom) -> t.OpenedRemoteRoom:
        desk = self._desk
        agent = require_attached(desk, caller, check(params.opening, Opening).owner)
        principal = caller.facts.authority.principal
        async with self._place_for(principal, room_id_of(params.opening)):
            epoch = await told_epoch(desk, self._admission, caller, params.epoch)
            size = len(params.recap) + len(params.opening) + len(params.title)
            size += 0 if epoch is None else len(epoch.kept.body)
            if desk.kept.is_over(principal, size) and not await self._owns(principal, room_id_of(params.opening)):
                raise desk.kept.refusal()
            await desk.quotas.take(agent, bytes=len(params.recap), messages=OPENING, person=principal)
            opened = await self._open(caller, agent, params, epoch)
            if not opened.replayed:
                desk.kept.add(principal, size)
            return opened

    def _keeps_too_much(self, caller: Caller, params: t.PostEnvelope) -> bool:
        return self._desk.kept.is_over(caller.facts.authority.principal, len(params.body))

    async def _owns(self, principal: PrincipalId, room: RoomId) -> bool:
        return room in await self._desk.library.owned(principal)

    async def _open(
        self, caller: Caller, agent: AgentId, params: t.OpenRemoteRoom, epoch: Turned | None
    ) -> t.OpenedRemoteRoom:
        desk, principal = self._desk, caller.facts.authority.principal
        recap = by = None
        if params.recap:
            recap = self._admission.finished(agent, params.recap, params.recap_signature)
            by = recap.by(agent, principal, session=caller.facts.session)
        by = by or stamp(caller, agent)
        command, words = self._admission.open(
            by,
            Attested(params.opening, params.opening_signature),
            params.title,
            Attested(params.terms, params.terms_signature),
            home=desk.keys.id,
            mint=await new_key(
                desk,
                caller,
                params.session_key,
                params.terms,
                room_id_of(params.opening),
                is_sealed=sealed_with(check(params.opening, Opening)) > 0,
            ),
            idempotency_key=params.idempotency_key,
            recap=recap,
            epoch=epoch,
        )
        if command.opening.kind == "dm" and command.terms is not None and command.terms.preapproved:
            return await self._open_for_two(caller, by, command, words)
        actor = await desk.rooms.create(command.room)
        settled = await actor.submit(command, by, words)
        return t.OpenedRemoteRoom(room=command.room, replayed=not settled.facts)

    async def _open_for_two(self, caller: Caller, by: By, command: c.OpenRoom, words: Words) -> t.OpenedRemoteRoom:
        """A direct room: the one that its two agents have here, and this one only where they have none. Of whom the
        opener cannot see nobody learns here whether there is such an agent."""
        desk, me = self._desk, by.actor
        assert command.terms is not None
        require_sealed(command)
        if len(command.terms.preapproved) != 1:
            raise Refused("statement_refused", what="preapproved")
        [other] = command.terms.preapproved
        if other == me:
            raise Refused("statement_refused", what="preapproved")
        async with desk.pair_lines.alone(me, other):
            await self._pair(by, other, command.room)
            actor = await desk.rooms.create(command.room)
            settled = await actor.submit(command, by, words)
        desk.notifier.publish([topics.pairs(other)])
        return t.OpenedRemoteRoom(room=command.room, replayed=not settled.facts)

    async def _pair(self, by: By, other: AgentId, room: RoomId) -> None:
        """Let this be the room of the acting agent and another one. Raises `Refused(pair_has_room)` where they have one
        that goes on."""
        desk, me = self._desk, by.actor
        while True:
            known = desk.rooms.home.aggregate.pairs.room_of(me, other)
            before = None if known is None or known == room else await self._found(known)
            if before is not None and before.position and not is_over(before):
                raise Refused("pair_has_room", room=known)
            if known is None and not await sees(desk, me, other):
                raise Refused("no_such_agent")
            # Its opening may still be under way, here or in another process: the store lets one of the two be.
            unopened = before is not None and not before.position
            pair = c.PairAgents(operation="link.open", one=me, other=other, room=room, instead=known, unopened=unopened)
            try:
                paired = await desk.rooms.home.submit(pair, by)
            except StoreError as error:
                if error.code != "stale_position" or not unopened:
                    raise
                continue  # it was opened
            if paired.decision.answer == "paired":
                return
            # Another process, which shares the store, was faster.

    async def _found(self, room: RoomId) -> Room:
        """The room that a pair has; empty where it was not opened, and where it was deleted. A home that could not
        store the opening knows of the pair alone."""
        try:
            return await (await self._desk.rooms.get(room)).quiet()
        except Refused as error:
            found = await self._desk.rooms.peek(room)
            if error.code == "room_moved":
                with trio.move_on_after(OPENS_S):
                    while not (found.position or await self._desk.library.is_deleted(room)):
                        await trio.sleep(LOOK_S)
                        found = await self._desk.rooms.peek(room)
            return found

    @asynccontextmanager
    async def _place_for(self, principal: PrincipalId, room: RoomId) -> AsyncIterator[None]:
        """One of the places for this person's rooms, held until the room is stored or not opened. Raises
        `Refused(too_many_rooms)` where this person has or opens as many rooms here as one may, and this is none of
        them."""
        limit = self._desk.settings.quota_person_rooms
        opening = self._opening.setdefault(principal, [])
        opening.append(room)
        try:
            async with self._turn_of(principal) if limit else nullcontext():
                owned = {*await self._desk.library.owned(principal)}
                # Of those that are opened at the same time the first to ask come first. What is opened again is one
                # room.
                ahead = owned.union(opening[: opening.index(room)])
                if limit and room not in owned and len(ahead) >= limit:
                    raise Refused("too_many_rooms", limit=limit)
                yield
        finally:
            opening.remove(room)
            if not opening:
                del self._opening[principal]

    @asynccontextmanager
    async def _turn_of(self, principal: PrincipalId) -> AsyncIterator[None]:
        """The turn to open a room of this person, where other processes share the store: what these open at this moment
        is in no table yet, so one opening of a person is under way at a time. A turn that nobody gave back, because its
        process ended, is there again after `TURN_S`; an opening that takes longer than that may not be counted by the
        next. Raises `Refused(throttled)` where others have the turn all the time, and `StoreError`."""
        counts = self._desk.counts
        if counts is None:
            yield
            return
        ask, is_ours = Ask(f"opening {principal}", 1 / TURN_S, 1.0), False
        with trio.move_on_after(2 * TURN_S):
            while not is_ours:
                is_ours = not (await counts.draw([ask])).wait_s
                if not is_ours:
                    await trio.sleep(TURN_LOOK_S)
        if not is_ours:
            raise Refused("throttled", retry_after_ms=int(1_000 * TURN_S))
        try:
            yield
        finally:
            # Where it cannot be given back now it comes back by itself.
            with trio.move_on_after(TURN_S, shield=True), suppress(StoreError):
                await counts.give([ask])

    @handles("link.close")
    async def close(self, caller: Caller, params: t.LeaveRoom) -> t.LeftRoom:
        desk, principal = self._desk, caller.facts.authority.principal
        agent = AgentId("") if params.as_person else require_speaker(desk, caller, params.agent)
        actor = await room_within(desk, caller, params.room)
        room = await actor.quiet()
        if params.as_person and room.state.owner_principal != principal:
            raise Refused("no_such_room")
        if not params.as_person:
            require_member(room, agent, principal)
        command: c.Command = c.CloseRoom(operation="session.close", principal=principal if params.as_person else None)
        if params.only_leaves:
            command = c.Leave(operation="room.leave")
        settled = await actor.submit(command, stamp(caller, agent))
        return t.LeftRoom(status="closed" if settled.decision.answer == "closed" else "left")

    # -- tasks -----------------------------------------------------------------------------------------------

    @handles("link.claim")
    async def claim(self, caller: Caller, params: t.ClaimAtRoom) -> t.ClaimedAtRoom:
        agent, actor = await self._worker(caller, params.room, params.agent)
        command = c.ClaimTask(
            operation="task.claim",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            task=None if params.task is None else MessageId(params.task),
            lease_ms=Millis(params.lease_ms),
            presence=self._desk.watching.of(actor.room),
        )
        settled = await actor.submit(command, stamp(caller, agent))
        room = await actor.quiet()
        if settled.decision.answer == "none":
            return t.ClaimedAtRoom()
        fact = settled.facts[0] if settled.facts else None
        if fact is None and settled.decision.replay is not None:
            [fact] = await self._desk.library.few_facts(actor.room, Position(settled.decision.replay - 1), 1)
        claimed = None if fact is None else fact.event
        wanted = claimed.task if isinstance(claimed, e.TaskClaimed) else command.task
        task = None if wanted is None else room.claims.get(wanted)
        if task is None:
            raise Refused("no_such_task")
        now = Millis(max(self._desk.clock.now(), room.last_at))
        if room.claims.holder(task, now) != agent or (fact is not None and fact.position != task.fence):
            raise room.claims.lost(task, now)
        until = room.claims.until(task)
        return t.ClaimedAtRoom(task=task.id, until=until, lease_ms=task.lease_ms, fence=task.fence)

    @handles("link.renew")
    async def renew(self, caller: Caller, params: t.RenewAtRoom) -> t.RenewedAtRoom:
        agent, actor = await self._worker(caller, params.room, params.agent)
        id, lease_ms = MessageId(params.task), Millis(params.lease_ms)
        command = c.RenewTask(operation="task.renew", task=id, lease_ms=lease_ms)
        await actor.submit(command, stamp(caller, agent))
        room = await actor.quiet()
        task = room.claims.required(id, agent, Millis(max(self._desk.clock.now(), room.last_at)))
        return t.RenewedAtRoom(until=await self._desk.tending.renew(actor, task, lease_ms))

    @handles("link.release")
    async def release(self, caller: Caller, params: t.ReleaseAtRoom) -> t.Noted:
        agent, actor = await self._worker(caller, params.room, params.agent)
        command = c.ReleaseTask(
            operation="task.release",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            task=MessageId(params.task),
        )
        await actor.submit(command, stamp(caller, agent))
        return t.Noted()

    async def _worker(self, caller: Caller, wanted: str, who: str) -> tuple[AgentId, RoomHandle]:
        """A member that asks for work, and its room, in which the leases that have ended were seen to."""
        desk = self._desk
        agent = require_speaker(desk, caller, who)
        actor = await room_within(desk, caller, wanted)
        require_member(await actor.quiet(), agent, caller.facts.authority.principal)
        # Each claim is a fact that is stored, and told to everybody there.
        await desk.quotas.take(agent, bytes=0, person=caller.facts.authority.principal)
        await desk.tending.look(actor)
        return agent, actor

    def _taken(self, caller: Caller, agent: AgentId, actor: RoomHandle, params: t.PostEnvelope) -> _Taken:
        require_member(actor.aggregate, agent, caller.facts.authority.principal)
        command, words = self._admission.take(agent, params.body, params.signature, operation=params.operation)
        if command.id != params.id:
            raise Refused("envelope_refused", what="id")
        command = msgspec.structs.replace(command, presence=self._desk.watching.of(actor.room))
        if params.said:
            command = msgspec.structs.replace(command, said=True, fence=Position(params.fence))
        return _Taken(command, words)

    async def _require_blob(self, agent: AgentId, actor: RoomHandle, command: c.PostMessage) -> None:
        """Refuse a message that brings a file which its author neither brought here nor may read in this room. What is
        stored already is answered as what it is."""
        assert command.id is not None
        found = await self._desk.library.trace(command.id)
        if found is None or found.room != actor.room:
            message = await self._finder.message(actor.aggregate, agent, command.blob)
            await self._desk.shelf.require(agent, command.blob, may_read=message is not None)

    def _place(
        self, caller: Caller, agent: AgentId, actor: RoomHandle, params: t.PostEnvelope, taken: _Taken
    ) -> Posting[t.Posted]:
        principal, (command, words) = caller.facts.authority.principal, taken
        size = len(params.body)
        by = words.by(agent, principal, session=caller.facts.session)
        submission = actor.place(command, by, words)

        def posted(posting: Posting[t.Posted], header: e.Header | None, seq: Seq) -> t.Posted:
            if not posting.replayed:
                self._desk.kept.add(principal, size)
                for each in command.erased:
                    self._desk.kept.add(each.principal, -each.size)
                self._desk.notifier.publish(map(topics.pairs, awaited(actor.aggregate)))
            return _posted(posting, header, seq)

        return Posting(self._desk.library, agent, actor, submission, posted)


def _named(command: c.PostMessage) -> tuple[MessageId, ...]:
    """The messages whose words an author of a sealed room lets go with this one."""
    return () if command.guard is None else command.guard.erases


async def new_key(
    desk: Desk, caller: Caller, session_key: str, terms: bytes, room: RoomId, *, is_sealed: bool
) -> KeyId:
    """This home's id of a key that its author drew for a room; of a sealed room it is told the route alone. A key of
    another room counts as a guess: whoever asked for many would learn some."""
    gated = check(terms, KeyTerms).gated
    try:
        typed = codes.normalise(session_key)
    except Refused:
        typed = ""
    if is_sealed and len(typed) != codes.ROUTE_LENGTH:
        # More than the route this home is not to know.
        raise Refused("invalid_param", "The route of a key has 6 characters.", param="session_key")
    if not is_sealed and len(typed) < (codes.GATED_LENGTH if gated else codes.OPEN_LENGTH):
        raise Refused(
            "invalid_param", "A session key has 8 characters, or 16 where it asks nobody.", param="session_key"
        )
    key_id = desk.keys.key_id(typed)
    is_taken = await desk.library.room_of_key(key_id) not in (None, room)
    # After the lookup, so that nothing is awaited between asking and counting: guesses that are made at the same
    # time are counted one after the other.
    guess = await desk.throttle.before(caller)
    if is_taken:
        desk.throttle.wrong(caller)
        raise Refused("invalid_param", "This session key cannot be used. Draw another.", param="session_key")
    await guess.right()
    return key_id


def _posted(posting: Posting[t.Posted], header: e.Header | None, seq: Seq) -> t.Posted:
    """What `link.post` answers."""
    assert header is not None, "a room that lives here keeps nothing waiting"
    event = header.event
    if not isinstance(event, e.MessagePosted):
        raise Refused("idempotency_expired")
    settled = posting.submission.settled
    late = settled is not None and settled.decision.answer == "claim_lost"
    return t.Posted(id=event.id, seq=seq, at=header.at, replayed=posting.replayed, late=late)


def require_sealed(command: c.OpenRoom) -> None:
    """Refuse a direct room that this home could read, which an older Parler asks for. Raises
    `Refused(unsupported_version)`."""
    if command.epoch is None:
        raise Refused("unsupported_version")
