"""The link to one relay: made while somebody needs it, and made again when it breaks.

    idle  --needed-->  connecting  --proven-->  connected: agents attached, rooms followed  --nobody needs it-->  idle
                          |  ^                       | broke
                          v  | after a while        v
                       unreachable             connecting          refused: not tried again until a person asks

It is needed while an agent that is connected here is in a room there, knocks at one, or has a card in its directory,
while a command asks for something there, and while the outbox holds a message for it or a card waits for it; and for
five minutes after the last of these. And it is needed as long as this home's person owns a sealed room that goes on
there: who comes in by a key, or leaves, waits for a record that no other machine can make, whoever is connected here.

On a link every agent of this home that is in a room there is attached before the rooms are followed: a private message
to an agent that was not there would be missing in a mirror, and the thread that it belongs to would seem to have lost
it.

Not here: the proofs of both ends (`connection`), sockets (`dial`), what comes in (`mirrors`), what goes out (`lanes`),
who speaks (`speakers`), what the relay is told from time to time (`reporting`), what is done in sealed rooms there
(`sealed_rooms`). Above: `uplinks`. Invariants: only addresses of a relay that the person added are dialled; no local
call waits for this task.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Literal

import msgspec
import trio

from parlerd.connections.calls import coded
from parlerd.connections.dial import Dialer
from parlerd.core import topics
from parlerd.core.approvals import Request
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import AgentId, HomeId, Label, Millis, RoomId
from parlerd.core.statements import is_opening_hash
from parlerd.engine.desk import Desk
from parlerd.engine.pair_rooms import PairRooms
from parlerd.engine.ports import Signers
from parlerd.engine.publishing import Publishing
from parlerd.identity.join_line import is_loopback, parse_address
from parlerd.operations import types as t
from parlerd.uplink.backoff import Backoff
from parlerd.uplink.bounds import Bounds
from parlerd.uplink.composing import Composer
from parlerd.uplink.connection import CALL_S, FINAL, LinkConnection, connected
from parlerd.uplink.counters import Counters
from parlerd.uplink.exchanging import Exchanges
from parlerd.uplink.homes import AddedHome, Homes
from parlerd.uplink.lanes import Lane, Post, refused
from parlerd.uplink.mirrors import Mirrors
from parlerd.uplink.outbox import Outbox, request_of
from parlerd.uplink.reporting import Reports
from parlerd.uplink.sealed_rooms import SealedRooms
from parlerd.uplink.secrets import Secrets
from parlerd.uplink.speakers import Speakers
from parlerd.uplink.turning import Turning

log = logging.getLogger(__name__)

LINGER_S: Final = 300.0
"""How long a link stays that nobody needs. Source: relay spec, The link."""
REFUSED_KEPT_MS: Final = 7 * 24 * 3600 * 1000
"""How long a message that the relay refused for good is kept after its author asked for it."""
LOOK_S: Final = 10.0
"""How often a link looks whether it is needed, and tells how far agents have read."""
WAIT_S: Final = 5.0
"""How long a person's command waits for a link."""
COME_IN_S: Final = 10.0
"""Between two attempts to come into a direct room, where the relay cannot let the agent in now."""
MAX_COMING: Final = 256
"""Direct rooms that agents are about to come into at the same time: a relay that lies could name any number."""
CATCH_UP_S: Final = 2.0
"""How long reads and messages wait for a link that is made for them. Less than a command: without a link there is the
mirror to read, and the outbox."""
FOLLOW_AT_ONCE: Final = 500

State = Literal["idle", "connecting", "connected", "unreachable", "refused"]


class Link:
    """The link to one relay that the person added."""

    def __init__(
        self,
        added: AddedHome,
        *,
        homes: Homes,
        dialer: Dialer,
        desk: Desk,
        signers: Signers,
        composer: Composer,
        counters: Counters,
        bounds: Bounds,
        secrets: Secrets,
        turning: Turning,
        exchanges: Exchanges,
        publishing: Publishing,
        begin: Callable[..., bool],
        called: Label,
        secret: bytes | None = None,
    ) -> None:
        self.home: HomeId = added.id
        """The relay's key."""
        self.state: State = "idle"
        self.reason = ""
        """The code of the error that keeps the link from being made; empty while nothing does."""
        self.heard_at = Millis(0)
        """When the relay last answered."""
        self.clock_ahead_ms = 0
        """How far the relay's clock was ahead of this machine's at the last link."""
        self.connection: LinkConnection | None = None
        """The link while there is one, from when the relay is proven."""
        self.mirrors = Mirrors(added.id, desk, signers.principal, counters, bounds, secrets)
        self.outbox = Outbox(added.id, desk.library)
        self.sealed = SealedRooms(
            self, desk, signers, self.mirrors, secrets=secrets, turning=turning, exchanges=exchanges
        )
        """What this home does by itself in sealed rooms there."""
        self._speakers = Speakers(added.id, homes, desk, signers, secrets, self.mirrors, self.outbox)
        """Who speaks over the link."""
        self._reports = Reports(desk)
        """What the relay is told from time to time."""
        self._pairs = PairRooms(desk)
        self._publishing = publishing
        self._homes = homes
        self._dialer = dialer
        self._desk = desk
        self._signers = signers
        self._composer = composer
        self._begin = begin
        """Begins a task, where the daemon does not end; whether it does so."""
        self._called = called
        """What this home calls itself to a relay."""
        self._secret = secret
        """The relay's join secret, while this person is not enrolled there."""
        self._backoff = Backoff(desk.random.bytes)
        self._lanes: dict[tuple[RoomId, AgentId], Lane] = {}
        self._followed: set[RoomId] = set()
        """The rooms that this link follows."""
        self._level: set[RoomId] = set()
        """Those among them whose mirror holds all that was there when the link began to follow."""
        self._coming: set[tuple[RoomId, AgentId]] = set()
        """The direct rooms that agents of this home are about to come into."""
        self._entered: set[RoomId] = set()
        """Rooms that an agent of this home came into that was attached for it, while the link followed the room."""
        self._is_ready = False
        """Whether agents are attached and rooms are followed."""
        self._change = trio.Event()
        """Set whenever state, need or connection may have changed. Made anew each time."""
        self._asked_at = float("-inf")
        """When a command or a connected agent last needed the link, on the loop's clock."""
        self._hope = float("-inf")
        """Until when reads and messages wait for the link, on the loop's clock. One attempt is waited for once, however
        many ask meanwhile: a relay that accepts and is silent costs no more."""
        self._is_impatient = False
        """Whether a person asked, so that no pause between two attempts is waited for."""
        self.is_removed = False
        """Whether the person forgot this relay: nothing is asked of it any more."""

    # -- for those who use it ------------------------------------------------------------------------------

    @property
    def calls(self) -> LinkConnection | None:
        """The connection, once agents are attached and rooms are followed over it, until it is lost."""
        connection = self.connection
        return connection if self._is_ready and connection is not None and connection.lost is None else None

    def spawn(self, work: Callable[..., Awaitable[Any]], *args: Any) -> bool:
        """Run a task until the daemon ends. An error in it ends nothing else. False once the daemon ends: then the task
        does not begin, and who owes somebody an answer from it gives another one."""
        return self._begin(_guarded, work, args)

    def need(self) -> None:
        """Somebody needs the link now."""
        now = trio.current_time()
        is_first, self._asked_at = now - self._asked_at >= LINGER_S, now
        if is_first and self.state == "unreachable":
            # It was tried for the rooms of this home alone: whoever asks first is not kept waiting by those pauses.
            self._is_impatient = True
            self._set("idle")
        if self.state == "idle" or (is_first and self.state == "connecting"):
            self._hope = now + CATCH_UP_S
        if self.state != "connected":
            # Who keeps a link that is there looks at the need again when it may end.
            self._changed()

    async def ready(self, seconds: float = WAIT_S) -> LinkConnection:
        """The link, made at once if there is none: for a person's command. Raises `offline` where none can be made
        within so many seconds, or what the relay refused it with."""
        self._is_impatient = True
        self.forgive()
        with trio.move_on_after(seconds):
            while (calls := self.calls) is None:
                if self._is_refused:
                    raise Refused(self.reason)
                await self._change.wait()
            return calls
        raise Refused("offline", f"The relay {self.name} cannot be reached from here now.", home=self.name)

    def forgive(self) -> None:
        """A person asks, or the relay took this person in again: a refusal of before counts no longer."""
        if self._is_refused:
            self._set("idle")
        self.need()

    @property
    def _is_refused(self) -> bool:
        return self.state == "refused"

    @property
    def name(self) -> str:
        """What people call the relay."""
        return self._homes.name_of(self.home)

    def lane(self, room: RoomId, agent: AgentId) -> Lane:
        """The messages of an agent for a room."""
        key = room, agent
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = Lane(
                room,
                agent,
                desk=self._desk,
                link=self,
                outbox=self.outbox,
                composer=self._composer,
                landed=self.mirrors,
            )
        return found

    def tell_refused(self, room: RoomId, agent: AgentId) -> None:
        """A queued message was refused for good: whoever waits as its author looks again."""
        self._desk.notifier.publish([topics.concerns(agent)])

    async def call(self, op: str, params: t.Params, *, by: AgentId | None = None, longer: float = 0.0) -> Any:
        """Ask the relay something for a person's command, as the agent `by` where one has to speak over the very link
        that takes the question. The answer may take so many seconds `longer` than answers do. Raises `Refused`:
        `offline`, `home_unreachable` and what it refuses."""
        connection = await self.ready()
        try:
            if by is not None:
                await self._speakers.attach(connection, [by])
            return await connection.call(op, params, CALL_S + longer)
        except ParlerError as error:
            if error is connection.lost:
                raise Refused("home_unreachable", f"The relay {self.name} did not answer.", home=self.name) from error
            raise refused(error) from error

    async def pull_epochs(self, wanted: t.PullEpochs) -> t.PulledEpochs:
        """Records of a sealed room's epochs, from the relay. Raises as `call` does."""
        pulled = await self.call("link.epochs", wanted)
        assert isinstance(pulled, t.PulledEpochs)
        return pulled

    async def tell(self, op: str, params: t.Params, *, by: AgentId | None = None) -> Any:
        """Ask the relay something for this daemon itself, over the link that is there now: no link is made for it.
        `by` is the agent that has to speak over that link, if one has to. Raises `Refused(offline)` without a link, and
        what the relay refuses."""
        calls = self.calls
        if calls is None:
            raise Refused("offline", home=self.name)
        if by is not None:
            await self._speakers.attach(calls, [by])
        return await calls.call(op, params, CALL_S)

    async def contradict(self, room: RoomId, what: str) -> None:
        """The relay lied about a room: what this home has of it ends there."""
        await self.mirrors.contradict(room, what)

    async def lapse(self, room: RoomId, request: Request) -> None:
        """The relay lost a request that it told of before."""
        await self.mirrors.lapse(room, request)

    async def follow(self, room: RoomId) -> None:
        """Let the link bring what happens in this room, from where its mirror stands. Raises as `call` does."""
        resume = await self.mirrors.resume(room)
        was_followed = room in self._followed
        # From now on, because the first that is told may come before the answer.
        self._followed.add(room)
        try:
            await self.call("link.watch", t.FollowRoom(resume=resume))
        except BaseException:
            if not was_followed:
                self._followed.discard(room)
            raise

    def is_following(self, room: RoomId) -> bool:
        return self._is_ready and room in self._followed

    def is_level(self, room: RoomId) -> bool:
        """Whether the mirror of a room holds what is there, as far as a link can bring it."""
        return self._is_ready and room in self._level

    def may_catch_up(self, room: RoomId) -> bool:
        """Whether the mirror of a room is about to hold what is there: a link is being made for the first time since
        nobody needed one, for whoever asks this."""
        self.need()
        return not self.is_level(room) and self._is_coming(room)

    async def catch_up(self, room: RoomId) -> bool:
        """Wait until the mirror of a room holds what is there, if that may be soon; whether that took a wait. Ends as
        soon as the link cannot be made, and after `CATCH_UP_S`."""
        if not self.may_catch_up(room):
            return False
        with trio.move_on_at(self._hope):
            while not self.is_level(room) and self._is_coming(room):
                await self._change.wait()
        return True

    async def told_all(self, room: RoomId, seconds: float = CATCH_UP_S) -> None:
        """Wait until this link told all that is there of a room, for so many seconds at most."""
        with trio.move_on_after(seconds):
            while self._is_ready and room in self._followed and room not in self._level:
                await self._change.wait()

    async def told_upto(self, room: RoomId, number: int) -> None:
        """Wait until this link told a room up to its public message of this number, for a moment at most."""
        await self.mirrors.until(room, lambda mirror: mirror.state.shown.number >= number, CATCH_UP_S)

    def _is_coming(self, room: RoomId) -> bool:
        """Whether the link is about to tell what is new in a room, as far as anybody here knows."""
        if trio.current_time() >= self._hope or self.is_removed:
            return False
        return room in self._followed if self._is_ready else self.state in ("idle", "connecting")

    # -- the life of the link ------------------------------------------------------------------------------

    async def load(self) -> None:
        """Put what the outbox holds in its lanes. Call this once, before `run`."""
        await self.outbox.load()
        for row in self.outbox:
            if row.refused and self._desk.clock.now() - row.at > REFUSED_KEPT_MS:
                await self.outbox.drop(row.message)
            if row.refused:
                continue
            try:
                command, by, draft = request_of(row)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # A newer Parler kept it, and that one will send it.
                log.warning("message %s for %s cannot be read here", row.message, self.name)
                continue
            self.lane(row.room, row.agent).restore(Post(command, by, draft, is_kept=True))

    def remove(self) -> None:
        """The person removed this relay: end the link for good."""
        self.is_removed = True
        self._changed()

    async def run(self) -> None:
        """Keep the link as long as the relay is among those added."""
        self.spawn(self._look)
        while not self.is_removed:
            change = self._change
            if self._is_refused or not self._is_needed:
                if not self._is_refused and self.state != "idle":
                    self._set("idle")
                    continue
                await change.wait()
                continue
            try:
                await self._once()
            # A mistake of ours in one link must end neither the daemon nor another link. `except*` lets a cancellation
            # pass that comes in the same group.
            except* Exception as errors:
                self._failed(coded(errors, "a link"))
            if self.state == "unreachable":
                await self._pause()
        self._set("idle")

    async def _once(self) -> None:
        """Make a link, and keep it until it breaks or nobody needs it."""
        self._set("connecting")
        async with self._dialled() as connection:
            self._backoff.succeeded()
            self.connection = connection
            self.heard_at = self._desk.clock.now()
            self._speakers.begin(connection)
            self.sealed.begin()
            try:
                await self._serve(connection)
            finally:
                self.connection, self._is_ready = None, False
                self._speakers.end()
                self._reports.end()
                self.sealed.end()
                self._followed.clear()
                self._level.clear()
                self._entered.clear()
                self.mirrors.forget_presence()
                self._set("idle" if connection.lost is None else "connecting")
                for lane in self._lanes.values():
                    lane.go_on()
            lost = connection.lost
        if lost is not None:
            raise lost

    @asynccontextmanager
    async def _dialled(self) -> AsyncIterator[LinkConnection]:
        """A proven link, over the first address that answers. The loopback comes first: no network can take such a link
        away, and where nobody listens there, that shows at once."""
        added = self._homes.get(self.home)
        failed = ParlerError("home_unreachable")
        for address in () if added is None else sorted(added.addresses, key=lambda each: not is_loopback(each)):
            entered = False
            try:
                async with (
                    self._dialer.dial(address) as stream,
                    connected(
                        stream,
                        fits=self._fits,
                        keys=self._signers,
                        secret=self._secret,
                        name=self._called,
                        now=self._desk.clock.now,
                        random_bytes=self._desk.random.bytes,
                    ) as connection,
                ):
                    entered = True
                    self._secret = None
                    await self.met(connection, address)
                    yield connection
                    return
            except ParlerError as error:
                if entered or _is_final(error):
                    raise
                failed = error
        raise failed

    async def met(self, connection: LinkConnection, address: str) -> None:
        """The relay was proven at this address. Where it keeps another log than before, the rooms that were known of it
        are archives from now on, before anything else is asked of it."""
        welcome, known = connection.welcome, self._homes.get(self.home)
        self.clock_ahead_ms = connection.clock_ahead_ms
        if known is not None and known.log not in ("", welcome.log):
            count = await self.mirrors.archive()
            log.warning("%s keeps another log than before: %d rooms are archives now", self.name, count)
        self._homes.reached(self.home, address, _urls_of(welcome.addresses), log=welcome.log)

    def _fits(self, home: HomeId) -> bool:
        return home == self.home

    async def _serve(self, connection: LinkConnection) -> None:
        """Attach, follow, and stay until the link breaks or nobody needs it."""
        failure: ParlerError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_closed, connection, nursery.cancel_scope)
            try:
                agents = await self._speakers.agents()
                standing = await self._speakers.attach(connection, agents)
                states = {(RoomId(each.room), AgentId(each.agent)): each.state for each in standing}
                for room in await self._speakers.rooms():
                    await self.mirrors.compare(room, agents, states, partial(_is_deleted, connection))
                told = {RoomId(each.room) for each in standing if each.state in _IN}
                sound = [room for room in sorted(told) if await self.mirrors.is_sound(room)]
                rooms = {*await self._speakers.rooms(), *sound}
                await self._follow_all(nursery, connection, sorted(rooms))
                self._is_ready, self._is_impatient = True, False
                self._set("connected")
                if self._owes_cards:
                    self.spawn(self._publishing.send_owed, self.home)
                for lane in self._lanes.values():
                    lane.go_on()
                await self._until_unneeded()
            except ParlerError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _follow_all(self, nursery: trio.Nursery, connection: LinkConnection, rooms: list[RoomId]) -> None:
        resumes = [await self.mirrors.resume(room) for room in rooms]
        self._followed |= set(rooms)
        await nursery.start(self._listen, connection, tuple(resumes[:FOLLOW_AT_ONCE]))
        for resume in resumes[FOLLOW_AT_ONCE:]:
            await connection.call("link.watch", t.FollowRoom(resume=resume), CALL_S)

    async def _listen(
        self, connection: LinkConnection, resumes: tuple[t.Resume, ...], *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Take in what comes, until the link breaks. A link that breaks before there is a stream is the starter's
        error."""
        is_following = False
        try:
            async with connection.stream("link.follow", t.FollowRooms(rooms=resumes)) as items:
                task_status.started()
                is_following = True
                async for item in items:
                    assert isinstance(item, t.LinkItem)
                    self.heard_at = self._desk.clock.now()
                    await self._take(connection, item)
        except ParlerError as error:
            connection.lose(error)
            if not is_following:
                raise
        else:
            connection.lose(ParlerError("home_unreachable"))

    async def _take(self, connection: LinkConnection, item: t.LinkItem) -> None:
        room = RoomId(item.room)
        for agent in map(AgentId, item.awaits):
            if self.mirrors.is_ours(agent):
                self.bring_in(room, agent)
        if item.opened:
            await self._follow_opened(connection, room, item.opened)
            return
        if room not in self._followed:
            # It was on its way when this home stopped to follow the room, or nobody ever asked about the room.
            return
        if item.card is not None:
            # Somebody whose knock was not answered may be a member now, and speak as soon as the mirror says so.
            members = [AgentId(member.agent) for member in item.card.members]
            if newcomers := [each for each in members if self._comes_in(each)]:
                await self._speakers.attach(connection, newcomers)
                self._entered.add(room)
        if item.card is not None and item.card.whole and not item.level:
            # The room is told from an earlier place on, to whom more of it may be told than before.
            self._level.discard(room)
        if item.gone and not item.deleted and room in self._entered:
            # The relay may have ended the room before it heard that a newcomer speaks over this link.
            self._entered.discard(room)
            self._level.discard(room)
            await connection.call("link.watch", t.FollowRoom(resume=await self.mirrors.resume(room)), CALL_S)
            return
        try:
            goes_on = await self.mirrors.take(item, partial(self._pull, connection))
        except StoreError:
            # What cannot be stored now is told again on another link.
            raise
        except ParlerError as error:
            if error.spec.retryable:
                # What could not be asked about now is told again, too.
                raise
            log.warning("room %s of %s: %s (%s)", room, self.name, error.code, error.details.get("what", ""))
            goes_on = False
        if item.level and room not in self._level:
            self._level.add(room)
            self._changed()
            self.sealed.note_level(room)
        self.sealed.note_told(room, item)
        if item.gone:
            self._ended(room)
            # Of a room at which an agent of this home only knocks, its knock may be lost there.
            self.sealed.exchange_if_due(room)
        elif not goes_on and room in self._followed:
            self._ended(room)
            connection.begin("link.unwatch", t.UnfollowRoom(room=room))

    @staticmethod
    async def _pull(connection: LinkConnection, wanted: t.PullEpochs) -> t.PulledEpochs:
        """Records of a sealed room's epochs, from the relay. Raises `Refused`."""
        try:
            pulled = await connection.call("link.epochs", wanted, CALL_S)
        except ParlerError as error:
            raise refused(error) from error
        assert isinstance(pulled, t.PulledEpochs)
        return pulled

    async def _follow_opened(self, connection: LinkConnection, room: RoomId, owners: Iterable[str]) -> None:
        """Follow a room that was opened at the relay for an agent of this home: its mirror begins if that is so."""
        is_ours = is_opening_hash(room) and any(self.mirrors.is_ours(AgentId(owner)) for owner in owners)
        has_place = room not in self._followed and len(self._followed) < t.MAX_FOLLOWED
        if is_ours and has_place and await self.mirrors.is_sound(room):
            self._followed.add(room)
            await connection.call("link.watch", t.FollowRoom(resume=await self.mirrors.resume(room)), CALL_S)

    def bring_in(self, room: RoomId, agent: AgentId) -> None:
        """Let an agent of this home come into a direct room there, as soon as the relay lets it in."""
        if (room, agent) not in self._coming and len(self._coming) < MAX_COMING:
            self._coming.add((room, agent))
            self.spawn(self._come_in, room, agent)

    async def _come_in(self, room: RoomId, agent: AgentId) -> None:
        """Somebody there has a direct room with an agent of this home that is not in it."""
        try:
            # Without a link it ends: the relay says it again on the next one.
            while self.connection is not None:
                try:
                    await self._pairs.invited(self.home, room, agent)
                except ParlerError as error:
                    log.warning("direct room %s of %s: %s", room, self.name, error.code)
                    if not error.spec.retryable:
                        return
                    await trio.sleep(COME_IN_S)
                else:
                    return
        finally:
            self._coming.discard((room, agent))

    def _comes_in(self, agent: AgentId) -> bool:
        """Whether this is an agent of this home that does not speak over this link yet."""
        return not self._speakers.is_attached(agent) and self.mirrors.is_ours(agent)

    def _ended(self, room: RoomId) -> None:
        """The link follows a room no longer."""
        self._followed.discard(room)
        self._level.discard(room)
        self._changed()

    # -- whether it is needed ------------------------------------------------------------------------------

    @property
    def _is_needed(self) -> bool:
        is_asked_for = trio.current_time() - self._asked_at < LINGER_S
        return bool(self.outbox.waiting or self.sealed.owned) or self._owes_cards or is_asked_for

    @property
    def _owes_cards(self) -> bool:
        """Whether a card waits for the relay to answer."""
        added = self._homes.get(self.home)
        return added is not None and not all(added.cards.values())

    async def _look(self) -> None:
        """From time to time: is an agent connected that is in a room there, and how far has each read."""
        try:
            await self.sealed.load(await self._speakers.rooms())
        except ParlerError as error:
            log.warning("what is left to do for sealed rooms at %s is not known: %s", self.name, error.code)
        if self.sealed.owned:
            self._changed()
        while not self.is_removed:
            with self._desk.notifier.listen(topics.seats()) as waiter:
                waiter.clear()
                try:
                    if await self._is_wanted_by_agents():
                        self.need()
                    elif not self._is_needed:
                        self._changed()
                    if (calls := self.calls) is not None:
                        await self._tell(calls)
                except ParlerError as error:
                    log.warning("the link to %s: %s", self.name, error.code)
                with trio.move_on_after(LOOK_S):
                    await waiter.wait()

    async def _tell(self, connection: LinkConnection) -> None:
        """Tell the relay what it does not know yet, and do what is due in sealed rooms there."""
        await self._speakers.attach(connection, self._speakers.attached)
        await self.sealed.look(connection, sorted(self._level))
        await self._speakers.tell_direct_keys(connection, self._speakers.attached)
        await self._reports.tell_cursors(connection, await self._speakers.standings())
        await self._reports.tell_sights(connection)

    def tell_sights(self, words: Sequence[t.SightAtRoom]) -> None:
        """Tell the relay these words at the next look, which begins now where the link is up. What is told to nobody
        when the daemon ends, or is more than is kept, the relay never knows."""
        self._reports.note_sights(words)
        self._desk.notifier.publish([topics.seats()])

    async def _is_wanted_by_agents(self) -> bool:
        connected = {agent for caller in self._desk.connected if (agent := self._desk.seats.acts_as(caller))}
        if self.home == self._homes.default and any(map(self._desk.rooms.home.aggregate.card_of, connected)):
            # The card of an agent stands there by default, and who finds it may write to the agent.
            return True
        return bool(connected) and any(agent in connected for agent, _ in await self._speakers.standings())

    async def _until_unneeded(self) -> None:
        while self._is_needed and not self.is_removed:
            change = self._change
            await change.wait()

    # -- failures ------------------------------------------------------------------------------------------

    def _failed(self, error: ParlerError) -> None:
        self.reason = error.code
        self._set("refused" if _is_final(error) else "unreachable", error.code)
        log.info("the link to %s: %s", self.name, error.code)

    async def _pause(self) -> None:
        """Wait before the next attempt; not at all when a person asks."""
        with trio.move_on_after(self._backoff.next()):
            while not self._is_impatient and not self.is_removed:
                change = self._change
                await change.wait()
        self._is_impatient = False

    def _set(self, state: State, reason: str = "") -> None:
        self.reason = reason or (self.reason if state in ("refused", "unreachable", "connecting") else "")
        if state != self.state:
            self.state = state
        self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = trio.Event()


async def _is_deleted(connection: LinkConnection, room: RoomId) -> bool:
    """Whether the relay says that a room was deleted there."""
    try:
        await connection.call("link.head", t.AskHead(room=room), CALL_S)
    except ParlerError as error:
        if error.code not in ("room_deleted", "no_such_room", "not_owner"):
            raise
        return error.code == "room_deleted"
    return False


def _urls_of(addresses: Iterable[str]) -> list[str]:
    """The addresses that a relay told (`host:port`), as far as they are some."""
    found: list[str] = []
    for address in addresses:
        with suppress(Refused):
            found.append(parse_address(f"wss://{address}"))
    return found


_IN: Final = ("member", "pending")
"""How an agent stands to a room that is to be followed."""


def _is_final(error: ParlerError) -> bool:
    """Whether dialling again would end the same way until a person does something."""
    return error.code in FINAL


async def _cancel_when_closed(connection: LinkConnection, scope: trio.CancelScope) -> None:
    await connection.closed.wait()
    scope.cancel()


async def _guarded(work: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
    """One task's error is said in the log, by its place and type alone, and ends no other task."""
    try:
        await work(*args)
    except Exception as error:
        name = getattr(work, "__qualname__", "a task")
        log.warning("%s: %s", name, coded(error, name).code)
