"""The engine: one door for every surface, one permission check, one table of handlers.

Surfaces (`parlerd.ipc` for the command line, `mcp_server` for agent hosts) build a `Caller` per connection and come
through `call` or `stream`, as `face` says. What an operation is, who may call it and what it needs stands in
`parlerd.operations.registry`; what it does stands in the handlers, each marked with the names of its operations
(`handling`). The engine makes the objects whose methods these are.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import trio

from parlerd import __version__
from parlerd.bounded import Bounded
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import HOME_ROOM, PrincipalId, RoomId
from parlerd.engine.acting import Acting
from parlerd.engine.actor import ActorParts
from parlerd.engine.admitting import Admitting
from parlerd.engine.affording import Affording
from parlerd.engine.agents import Agents
from parlerd.engine.approving import Approving
from parlerd.engine.attention import AttentionHandlers
from parlerd.engine.auditing import Auditing
from parlerd.engine.authors import Admission, LocalAuthor
from parlerd.engine.bearers import Bearers, NoWeb, WebPort
from parlerd.engine.board import Boards
from parlerd.engine.bringing import Bringing
from parlerd.engine.callers import Caller
from parlerd.engine.cards import Cards
from parlerd.engine.changes import Changes
from parlerd.engine.checks import Checks
from parlerd.engine.clearing import Clearing
from parlerd.engine.conditions import Conditions
from parlerd.engine.connected import Connected
from parlerd.engine.continuing import Continuing
from parlerd.engine.coordination import Coordination
from parlerd.engine.crossing import Answer, Crossing
from parlerd.engine.deadlines import IdleAgents, RoomDeadlines
from parlerd.engine.deleting import Deleting
from parlerd.engine.departing import Departing
from parlerd.engine.desk import Desk, Inspect, Lineage
from parlerd.engine.direct_keys import DirectKeys
from parlerd.engine.directory import DirectoryHandlers
from parlerd.engine.directs import Directs
from parlerd.engine.driver import Driver
from parlerd.engine.epochs import Epochs
from parlerd.engine.face import Outlet
from parlerd.engine.file_seals import forget_old
from parlerd.engine.files import Files
from parlerd.engine.following import Following
from parlerd.engine.gating import Gating
from parlerd.engine.granted import TokensThere
from parlerd.engine.granting import Gone, Granting, HomeAuthor, Voice
from parlerd.engine.handles import Homes, NoHomes
from parlerd.engine.handling import Handler, StreamHandler, handles, table_of
from parlerd.engine.handoffs import Handoffs
from parlerd.engine.homes import HomeHandlers
from parlerd.engine.inviting import Inviting
from parlerd.engine.join_codes import JoinCodes
from parlerd.engine.joining import Joining
from parlerd.engine.joins import Joins
from parlerd.engine.keeping import Keeping
from parlerd.engine.knocks import with_code
from parlerd.engine.ladder import Ladder
from parlerd.engine.leases import Leases
from parlerd.engine.letting_in import LettingIn
from parlerd.engine.library import Library
from parlerd.engine.linking import Linking
from parlerd.engine.links import Links
from parlerd.engine.memory import Memory
from parlerd.engine.minting import Tokens
from parlerd.engine.newcomers import Newcomers
from parlerd.engine.notices import Notices
from parlerd.engine.notifier import LocalNotifier
from parlerd.engine.opening import Opening
from parlerd.engine.overview import Overview
from parlerd.engine.owning import Owning
from parlerd.engine.people import People
from parlerd.engine.ports import (
    AllRooms,
    Clock,
    Frames,
    HomeBook,
    HomeKeys,
    HostFiles,
    NoFrames,
    NoHomeBook,
    NoHostFiles,
    Ownership,
    Randomness,
    SharedCounts,
    Signers,
)
from parlerd.engine.presence import Presence
from parlerd.engine.pulling import Pulling
from parlerd.engine.queues import Queues
from parlerd.engine.quota import Quotas
from parlerd.engine.reach import within
from parlerd.engine.reading import Reading
from parlerd.engine.receipts import Receipts
from parlerd.engine.receiving import Receiving
from parlerd.engine.reindexing import Reindexing
from parlerd.engine.retaining import Retaining
from parlerd.engine.rewinding import Rewinding
from parlerd.engine.rooms import RoomDoor, Rooms
from parlerd.engine.scheduler import Scheduler
from parlerd.engine.seats import Seats
from parlerd.engine.seen_hosts import SeenHosts
from parlerd.engine.sending import Posting, Sending
from parlerd.engine.session_keys import SessionKeys
from parlerd.engine.sharing import Sharing
from parlerd.engine.shelf import BlobDriver, HomeShelf
from parlerd.engine.shelving import Shelving
from parlerd.engine.sight import Sight
from parlerd.engine.sighting import Sighting
from parlerd.engine.standing import Standing
from parlerd.engine.starts import Starts
from parlerd.engine.stating import Stating
from parlerd.engine.status import Status
from parlerd.engine.streams import Streams
from parlerd.engine.succeeding import Succeeding
from parlerd.engine.tasks import Tasks
from parlerd.engine.telling import Telling, Told
from parlerd.engine.tending import Tending
from parlerd.engine.throttle import GuessThrottle
from parlerd.engine.token_handlers import TokenHandlers
from parlerd.engine.trail import trail, with_receipt
from parlerd.engine.verifying import Verifying
from parlerd.engine.viewers import PageHandlers, Viewers
from parlerd.engine.visitors import Visitors
from parlerd.engine.waking import Waking
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.settings import Settings, is_weaker

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_WITHIN: Final = 256
"""Sets of rooms whose handlers are kept; making them anew takes microseconds."""


def crossing(desk: Desk, sight: Sight, others: Mapping[str, Answer]) -> Crossing:
    """What answers questions about the state of rooms, with what `others` do."""
    answering = (
        Coordination(desk, sight),
        Conditions(desk, sight),
        Changes(desk, sight),
        Acting(desk, sight),
        Standing(sight),
        Boards(desk, sight),
    )
    answers = {name: answer for each in answering for name, answer in each.answers.items()}
    return Crossing(desk, {**answers, **others})


@dataclass(frozen=True, slots=True)
class Handlers:
    """What answers the callers that one desk serves."""

    desk: Desk
    sending: Sending
    admitting: Admitting
    telling: Telling
    calls: Mapping[str, Handler]
    streams: Mapping[str, StreamHandler]


class Engine:
    """One home, served. Make it with `open_engine`."""

    def __init__(
        self,
        desk: Desk,
        author: LocalAuthor,
        scheduler: Scheduler,
        socket: str,
        frames: Frames,
        stop: Callable[[], None],
        web: WebPort,
        voice: Voice | None,
        owning: Owning,
    ) -> None:
        self._desk = desk
        self.owning: Final = owning
        """What follows where rooms become this process's, or another's."""
        self.bearers: Final = Bearers(desk, scheduler)
        """Whoever acts with a token, for the door over HTTP."""
        self.granting: Final = Granting(desk, self.bearers, voice)
        """Lets agents in that have no key."""
        self._minting = Tokens(desk)
        self.viewers: Final = Viewers(desk, scheduler)
        """Whoever looks on in a browser, for the pages."""
        self._newcomers = Newcomers(desk)
        self._there = TokensThere(desk, author)
        self._web = web
        self._author = author
        self._stop = stop
        # One for all callers: what an author was shown does not depend on where it was shown.
        self._reading = Reading(desk)
        self._status = Status(desk, socket, frames, web)
        self._everywhere = self._handlers_over(desk)
        self._people = People(desk.rooms, desk.library, PrincipalId(desk.keys.id))
        # Handlers for callers that there are certain rooms for, by these rooms.
        self._within: Bounded[frozenset[RoomId], Handlers] = Bounded(MAX_WITHIN)

    @property
    def desk(self) -> Desk:
        """The engine's parts, for a program that keeps mirrors or runs a relay."""
        return self._desk

    @property
    def rooms(self) -> RoomDoor:
        """The open rooms, for whoever keeps mirrors of the rooms of other homes."""
        return self._desk.rooms

    @property
    def people(self) -> People:
        """Who may open links to this home."""
        return self._people

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        """Do something beside the loop, where the files of this home are read and written (`BlobDriver.aside`)."""
        return await self._desk.shelf.aside(work)

    async def count_kept(self) -> None:
        """Count what each person of another home keeps here: for a relay, once, while it serves already."""
        try:
            await self._desk.kept.count(self._desk.library)
        except StoreError as error:
            # The store says so itself, to whoever writes next. What was counted holds.
            log.warning("what each person keeps here could not be counted: %s", error.code)

    async def share_kept(self) -> None:
        """Tell other processes that share the store what each person keeps, until cancelled."""
        await self._desk.kept.share()

    async def keep_shelf(self) -> None:
        """Take files away that no message brings any more, as long as the engine serves."""
        await self._desk.shelf.run(self._desk.library)

    async def keep_file_seals(self) -> None:
        """Let the keys of files go that were shared in sealed rooms elsewhere, as long as the engine serves."""
        await forget_old(self._desk)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What answers each operation."""
        return self._everywhere.calls

    @property
    def stream_handlers(self) -> Mapping[str, StreamHandler]:
        """What each stream comes from."""
        return self._everywhere.streams

    def _handlers_over(self, desk: Desk) -> Handlers:
        reading = self._reading
        notices = Notices(desk)
        queues = Queues(desk)
        directory = DirectoryHandlers(desk, self._author)
        directs = Directs(desk, directory)
        sight = Sight(desk)
        gating = Gating(desk, self._author, sight, reading)
        sending = Sending(desk, reading, queues, directs, gating)
        receiving = Receiving(desk, reading, notices)
        admitting = Admitting(desk)
        opening, approving, keys = Opening(desk, self._desk, self.granting), Approving(desk), SessionKeys(desk)
        inviting, joining = Inviting(desk, self._desk), Joining(desk, reading, keys)
        table = table_of(
            self,
            self._status,
            opening,
            joining,
            approving,
            Bringing(desk, opening, inviting, joining, approving),
            keys,
            sending,
            receiving,
            Ladder(desk, reading, gating),
            Sighting(desk),
            Handoffs(desk, sending, reading, files := Files(desk, reading, sending)),
            Memory(desk, reading, sending),
            files,
            Sharing(desk, files),
            Shelving(desk),
            queues,
            Tasks(desk, queues, sending, reading, desk.tending, files),
            directory,
            Overview(desk),
            inviting,
            departing := Departing(desk),
            succeeding := Succeeding(desk, self._desk, departing),
            Deleting(desk),
            AttentionHandlers(desk),
            Stating(desk),
            waking := Waking(desk),
            Continuing(desk, reading, waking, succeeding),
            Keeping(desk),
            Checks(desk),
            Auditing(desk),
            HomeHandlers(desk),
            notices,
            Streams(desk, reading, approving),
            Linking(desk),
            Following(desk, Cards(desk.library, desk.keys.id)),
            Pulling(desk),
            LettingIn(desk),
            Epochs(desk),
            DirectKeys(desk),
            Rewinding(desk),
            Verifying(desk),
            gating,
            TokenHandlers(desk, self.bearers, self._minting, self._there, self._web, keys),
            self.granting,
            Joins(desk, self._minting, self._newcomers, approving, keys, self.granting),
            Visitors(desk, self._minting, self._newcomers, sight),
            receipts := Receipts(desk, reading),
            PageHandlers(desk, self.viewers, self._web),
            asked := crossing(desk, sight, {**gating.answers, **receipts.answers}),
            Affording(desk, asked),
            admitting,
        )
        return Handlers(desk, sending, admitting, Telling(desk, reading, sight), table.calls, table.streams)

    def _handlers_for(self, caller: Caller) -> Handlers:
        """The handlers that know the rooms that there are for this caller, and no others."""
        rooms = caller.facts.authority.rooms
        if rooms is None:
            return self._everywhere
        found = self._within.get(rooms)
        if found is None:
            found = self._within[rooms] = self._handlers_over(within(self._desk, rooms))
        return found

    # -- calls ---------------------------------------------------------------------------------------------

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """Run one operation. Raises `ParlerError`; a refusal changed nothing."""
        handlers = self._handlers_for(caller)
        handler = handlers.calls.get(op)
        if handler is None:
            raise Refused("unknown_operation", operation=op[:64])
        self.admit(op, caller)
        try:
            with trail() as steps:
                result = await handler(caller, params)
            return await with_receipt(result, steps, handlers.desk.library)
        except Refused as error:
            if error.code != "join_pending":
                raise
            raise await with_code(handlers.desk, caller, error) from None

    def begin(self, op: str, params: t.Params, caller: Caller) -> Posting[Any] | None:
        """Begin an operation that needs nothing but its place in a room's line; None for one that must be called.

        What a client pipelines is then decided and committed together, without a task for each. Raises `ParlerError`.
        """
        match params:
            case t.Send() if op == "message.send":
                self.admit(op, caller)
                return self._handlers_for(caller).sending.begin_send(caller, params)
            case t.PostEnvelope() if op == "link.post":
                self.admit(op, caller)
                return self._handlers_for(caller).admitting.begin_post(caller, params)
            case _:
                return None

    def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        """Run a stream in the task that iterates it. Cancelling that ends it, and so does leaving the context."""
        handler = self._handlers_for(caller).streams.get(op)
        if handler is None:
            raise Refused("unknown_operation", operation=op[:64])
        self.admit(op, caller)
        # The one stream of which items may go past its task.
        more = (outlet,) if op == "link.follow" else ()
        return aclosing(handler(caller, params, *more))

    def events(self, room: str, after: str, caller: Caller) -> AbstractAsyncContextManager[AsyncIterator[Told]]:
        """What `room.watch` tells an agent over HTTP: all that happens in a room, as the reads say it, after a place
        that this told (`telling`)."""
        self.admit("room.watch", caller)
        return aclosing(self._handlers_for(caller).telling.follow(caller, room, after))

    def admit(self, op: str, caller: Caller) -> None:
        """Refuse an operation that this caller may not ask for, whatever its parameters. Raises `Refused`."""
        operation = OPERATIONS[op]
        # A window's own door goes on until its connection ends: what it showed last is still acknowledged.
        is_doors_own = operation.plane == "window" and operation.tool is None
        if self._desk.draining and operation.plane != "local" and not is_doors_own:
            raise Refused("draining", retry_after_ms=200)
        authority = caller.facts.authority
        planes = authority.planes
        if operation.plane in planes and not authority.is_for(operation):
            if authority.only_reads:
                raise Refused("not_permitted", "A watch code is for looking on alone.")
            assert operation.http is not None
            said = f"This token is not for `{operation.http.access}`."
            raise Refused("not_permitted", said, hint="Ask the person for a token that is: parler token mint --access")
        if operation.effect != "read":
            self.granting.require_kept(caller)
        if operation.plane not in planes:
            if "link" in (operation.plane, *planes) or operation.plane == "page":
                # Neither side learns what the other may ask.
                raise Refused("unknown_operation", operation=op)
            match operation.plane:
                case "hook":
                    raise Refused("hook_only")
                case "window":
                    raise Refused("window_only")
                case "agent":
                    said = "Nobody acts here without being an agent."
                    if "joiner" in planes:
                        said = "This token only joins: POST /v1/joins gives the token of a new agent for it."
                    raise Refused("not_permitted", said, hint=said)
                case "joiner":
                    said = "Whoever joins becomes a new agent, and shows a token for that, or none and a session key."
                    raise Refused("not_permitted", said, hint="To join with another agent, send no token of this one.")
                case "visitor":
                    said = "This home lets no program in that has no token."
                    raise Refused("not_permitted", said, hint="Ask the person to run: parler serve-http --open")
                case _:
                    # What is about this machine's daemon is its person's, where a door does not offer it to all.
                    raise Refused("person_only", hint=f"Ask the person to run: {operation.command}")

    # -- connections ---------------------------------------------------------------------------------------

    async def connect(self, caller: Caller) -> None:
        """A connection is there; it becomes an agent at its first call."""
        self._desk.seats.connect(caller)
        await trio.lowlevel.checkpoint()

    async def disconnect(self, caller: Caller) -> None:
        """A connection ended. Shielded: a slot must be freed however the connection went."""
        self._desk.notifier.publish(map(topics.presence, self._desk.links.end(caller, self._desk.clock.now())))
        with trio.CancelScope(shield=True):
            try:
                await self._desk.seats.disconnect(caller, restarting=self._desk.draining)
            except ParlerError:
                # The lease stays in the store and lapses 30 s after the next start.
                return

    @handles("window.introduce")
    async def _introduce(self, caller: Caller, params: t.Introduce) -> t.Noted:
        self._desk.seats.introduce(caller, params.host)
        return t.Noted()

    # -- stopping ------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """No new calls; everyone who waits is answered `draining`."""
        self._desk.waits.drain()
        await trio.lowlevel.checkpoint()

    @handles("daemon.stop")
    async def _stop_daemon(self, caller: Caller, params: t.StopDaemon) -> t.Stopping:
        self._refuse_weaker_start(caller)
        status = await self.handlers["daemon.status"](caller, t.DaemonStatus())
        assert isinstance(status, t.DaemonInfo)
        await self.drain()
        self._stop()
        return t.Stopping(pid=status.pid)

    def _refuse_weaker_start(self, caller: Caller) -> None:
        """Lowering the gate is the person's, whatever it is called: the next daemon would serve a weaker policy."""
        desk = self._desk
        try:
            is_weaker_now = is_weaker(desk.settings_now(), desk.settings)
        except ParlerError:
            return  # with these no daemon starts
        if is_weaker_now and (host := desk.inspect(caller.facts.peer).agent_host):
            said = f"The settings ask for less than this daemon does, and this was started by an agent host ({host})."
            raise Refused("needs_person", said)


@asynccontextmanager
async def open_engine(
    *,
    driver: Driver,
    blobs: BlobDriver,
    clock: Clock,
    random: Randomness,
    keys: HomeKeys,
    signers: Signers,
    settings: Settings,
    user: str,
    home_path: str = "",
    default_home: bool = True,
    socket: str = "",
    inspect: Inspect = lambda peer: peer,
    lineage: Lineage = lambda peer: (),
    settings_now: Callable[[], Settings] | None = None,
    host_files: HostFiles | None = None,
    frames: Frames | None = None,
    home_book: HomeBook | None = None,
    homes: Homes | None = None,
    copies: Callable[[], list[str]] = list,
    stop: Callable[[], None] = lambda: None,
    web: WebPort | None = None,
    voice: Voice | None = None,
    owns: Ownership | None = None,
    counts: SharedCounts | None = None,
) -> AsyncIterator[Engine]:
    """Serve one home until the context ends; then every room keeps its snapshot and the driver is closed.

    `blobs` keeps the files of rooms that live here. `keys` are the home's, `signers` those of the person and the agents
    that act here (`ports.NoSigners` where nobody does). `user` names the person's own agent. `homes` are the other
    homes in which rooms may live. `copies` says which copies of the database the program made itself. `stop` is called
    when a caller asks the daemon to stop. `web` is the door over HTTP, where one can be opened, and `voice` what a
    home has that speaks for agents without a key. `owns` says which rooms are this process's, and `counts`
    counts what is counted once for all, where others share the store.
    """
    owns = owns or AllRooms()
    wakes = LocalNotifier()
    async with trio.open_nursery() as nursery:
        rooms: Rooms
        deadlines: RoomDeadlines
        tending: Tending
        retaining: Retaining
        reindexing: Reindexing
        idle: IdleAgents
        presence: Presence

        def publish(room: RoomId, facts: Sequence[e.Header]) -> None:
            reindexing.note(facts)
            if room == HOME_ROOM:
                wakes.publish({each for fact in facts for each in rooms.home.aggregate.topics(fact)})
                return
            actor = rooms.open_actor(room)
            if actor is not None:
                wakes.publish({topics.log(room), *(each for fact in facts for each in actor.aggregate.topics(fact))})
                deadlines.changed(room, actor.aggregate)
                for fact in facts:
                    tending.acted(room, actor.aggregate, fact)
                if voice is not None:
                    gone.note(room, facts)
                if rooms.is_here(actor.aggregate):
                    retaining.note(room, facts)

        def holds(token: str) -> bool:
            return rooms.home.aggregate.tokens.holding(token, clock.now()) is not None

        gone = Gone()
        author = LocalAuthor(signers, random)
        if voice is not None:
            author = HomeAuthor(voice, random, lambda person, size: desk.kept.add(person, size))
        context = ActorParts(
            driver=driver,
            clock=clock,
            random=random,
            author=author,
            admission=Admission(),
            publish=publish,
            holds=holds,
            owns=owns,
        )
        codes, others = JoinCodes(keys, counts), homes or NoHomes()
        quotas = Quotas(settings, counts)
        shelf = HomeShelf(blobs, settings, quotas, clock, random)
        rooms = Rooms(context, nursery, own=keys.id, homes=others, codes=codes, shelf=shelf)
        await rooms.start()
        scheduler = Scheduler(clock, stepped_back=lambda: deadlines.load())
        deadlines = RoomDeadlines(
            driver=driver,
            rooms=rooms,
            clock=clock,
            scheduler=scheduler,
            notifier=wakes,
            look=lambda handle: tending.look(handle),
            owns=owns,
        )
        await deadlines.load()
        clearing = Clearing(driver)
        nursery.start_soon(clearing.run)
        reindexing = Reindexing(driver)
        nursery.start_soon(reindexing.run)
        idle = IdleAgents(clock=clock, scheduler=scheduler, notifier=wakes, presence=lambda agent: presence.of(agent))
        leases, connected = Leases(driver), Connected(clock)
        await leases.start()
        hosts = SeenHosts(clock, connected)
        agents = Agents(driver=driver, rooms=rooms, keys=signers, clock=clock)
        seats = Seats(
            rooms=rooms,
            agents=agents,
            leases=leases,
            connected=connected,
            hosts=hosts,
            clock=clock,
            user=user,
            seated=lambda: wakes.publish([topics.seats()]),
            acted=idle.acted,
            left=idle.left,
        )
        library, links = Library(driver, rooms), Links()
        tending = Tending(
            library=library,
            rooms=rooms,
            clock=clock,
            scheduler=scheduler,
            connected=connected,
            links=links,
            seats=seats,
            own=keys.id,
            changed=lambda room, aggregate: deadlines.changed(room, aggregate),
        )
        retaining = Retaining(
            library=library,
            rooms=rooms,
            clock=clock,
            settings=settings,
            own=keys.id,
            freed=lambda person, size: desk.kept.add(person, -size),
        )
        nursery.start_soon(scheduler.run)
        presence = Presence(seats, connected, links, clock)
        desk = Desk(
            library=library,
            rooms=rooms,
            homes=others,
            agents=agents,
            seats=seats,
            connected=connected,
            links=links,
            presence=presence,
            tending=tending,
            retaining=retaining,
            seen_hosts=hosts,
            notifier=wakes,
            clock=clock,
            random=random,
            keys=keys,
            shelf=shelf,
            quotas=quotas,
            settings=settings,
            throttle=GuessThrottle(counts),
            counts=counts,
            inspect=inspect,
            lineage=lineage,
            starts=Starts(),
            settings_now=settings_now or (lambda: settings),
            host_files=host_files or NoHostFiles(),
            home_book=home_book or NoHomeBook(),
            codes=codes,
            clearing=clearing,
            copies=copies,
            version=__version__,
            home_path=home_path,
            default_home=default_home,
        )
        nursery.start_soon(retaining.run)
        engine = Engine(
            desk,
            author,
            scheduler,
            socket,
            frames or NoFrames(),
            stop,
            web or NoWeb(),
            voice,
            Owning(rooms, deadlines, tending, wakes),
        )
        if voice is not None:
            quotas.person_of = lambda agent: engine.granting.person_of(agent)
            nursery.start_soon(engine.granting.run, gone.heard)
        try:
            yield engine
        finally:
            with trio.CancelScope(shield=True):
                scheduler.close()
                clearing.close()
                reindexing.close()
                retaining.close()
                gone.close()
                await rooms.close()
    with trio.CancelScope(shield=True):
        await driver.close()
