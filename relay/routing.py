"""Who answers what a daemon asks, where several relays share the rooms: this relay, or the one that has the room.

    link.attach, link.detach           every relay that lives, so that each knows who is there; each says what it knows.
                                       With the first the link becomes its daemon's newest (`newest`)
    link.cursors                       each place to the relay that has its room; how present agents are, to all
    link.follow                        a stream from every relay, as one
    link.post                          in the order in which they came, those of one daemon in one room
    link.ungrant                       every relay that has a room of that agent
    whatever names a room, or a key    the relay that has the room
    anything else                      this relay: cards, and what is asked over HTTP

To a daemon it is one relay that answers. Where a room moves, or its relay dies, what is under way is asked again at the
one that has it now, with the same key; what has none and may have happened is `home_unreachable`. A stream breaks off
as soon as a relay that it came from is gone or has a room of it no longer: the daemon comes again, and follows from
where it is, so that nothing is missing between the two. So does one of which something did not arrive, which is
compared once a minute: where the rooms stand in the store, how far their relay told them, and how much of that came.

Not here: who has which room (`holding`), links to other relays (`peers`). Above: `link`, which comes here as to an
engine. Below: the engine, `peers`. Invariants: nobody is asked with more rights than were proved here; every call ends;
what is kept for a daemon goes with its link.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, cast

import msgspec
import trio

from parlerd.connections.calls import coded
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import Position, PrincipalId, RoomId
from parlerd.core.statements import KnockStatement, check, room_id_of
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace, Outlet, Pending
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.store.relays import Row
from parlerd.wire import codec
from relay.holding import Holding
from relay.newest import Newest
from relay.peers import Away, Lost, Peers

log = logging.getLogger("relay")

WITHIN_S: Final = 14.0
"""How long nobody can be asked, until a call is answered so: after that time the shards of a relay that died are
another's, and a caller waits for fifteen seconds at most. Source: scale spec, floors."""
AGAIN_S: Final = 0.2
REACH_S: Final = 2.0
"""How long a call waits for the link to a relay that lives, before it looks again who has the room."""
HEADS_S: Final = 60.0
"""How often it is compared whether all arrived that other relays told. Source: scale spec, Waking."""
COMPARED_S: Final = 5.0
"""How long a relay may take to say what it told a daemon."""
SPREAD_S: Final = 2.0
"""Within this time those break off whose rooms moved, so that they do not all come at once."""
AGAIN: Final = frozenset({"room_moved"})
"""Why somebody else is asked."""
AGAIN_THERE: Final = AGAIN | {"draining"}
"""The same, of what another relay says: one that ends has no rooms any more."""
REPEATABLE: Final = frozenset(
    {
        "link.post",
        "link.gate",
        "link.open",
        "link.claim",
        "link.renew",
        "link.release",
        "link.knock",
        "link.epoch",
        "link.sealing_key",
        "link.direct_keys",
        "link.blob_begin",
        "link.blob_write",
        "link.blob_finish",
        "link.detach",
        "link.cursors",
        "link.ungrant",
    }
)
"""What may be asked twice beside what only reads: it has a key, or twice is as good as once."""

_COMPARED: Final = codec.Shape[t.HeadsCompared](t.HeadsCompared, "relay_failed")
_ATTACHED: Final = codec.Shape[t.Attached](t.Attached, "relay_failed")


class Index(Protocol):
    """What the store's tables say of rooms, whoever has them."""

    async def room_of(self, session_key: str) -> RoomId | None:
        """The room that a key opens; None for a text that is no key of any."""
        ...

    async def rooms_of(self, agent: str) -> list[RoomId]:
        """The rooms that an agent is in."""
        ...

    async def heads(self, rooms: Collection[RoomId]) -> dict[RoomId, Position]:
        """Where the logs of these rooms end. Raises `StoreError`."""
        ...

    async def is_all(self, principal: PrincipalId, agents: Sequence[str], told: Collection[tuple[str, str]]) -> bool:
        """Whether these pairs of a room and an agent are all that there are for these agents of this person."""
        ...


@dataclass(slots=True, eq=False)
class _Present:
    """A daemon on a link of this relay, as the other relays are to know it."""

    attached: dict[str, t.Attachment] = field(default_factory=dict)
    presence: dict[str, t.TellPresence] = field(default_factory=dict)
    lanes: dict[tuple[str, str], Away] = field(default_factory=dict)
    """Its lane to each process of another relay."""
    opening: trio.Lock = field(default_factory=trio.Lock)
    """One lane is opened at a time."""
    follows: bool = False
    """Whether it follows rooms."""
    followed: set[RoomId] = field(default_factory=set)
    """The rooms that it follows."""
    level: dict[RoomId, Position] = field(default_factory=dict)
    """Up to which position each of these was told by another relay, where that was all of it at the last comparison."""
    behind: dict[RoomId, int] = field(default_factory=dict)
    """The same of those where it was not all of it."""
    break_off: Callable[[], None] = lambda: None
    """Lets its stream end, so that it comes again and says where it is."""
    lines: dict[RoomId, _Line] = field(default_factory=dict)
    """Its posts that wait, by room."""
    number: int = 0
    """The number of its link among all of the daemon (`newest`); 0 before it asks for anything."""
    claiming: trio.Lock = field(default_factory=trio.Lock)
    """One number is asked for."""
    while_there: ExitStack = field(default_factory=ExitStack)
    """What ends with it."""
    is_gone: bool = False


class Routing:
    """The engine as links come to it. `run` it as long as links are served."""

    def __init__(
        self,
        engine: EngineFace,
        holding: Holding,
        peers: Peers,
        index: Index,
        newest: Newest,
        *,
        superseded: Callable[[Caller], None] = lambda caller: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._newest = newest
        self._superseded = superseded
        """Ends the link of a daemon that has a newer one."""
        self._engine = engine
        self._holding = holding
        self._peers = peers
        self._index = index
        self._draw = draw
        self._there: dict[Caller, _Present] = {}
        self._nursery: trio.Nursery | None = None
        self.here = 0
        """Calls that were answered here."""
        self.forwarded = 0
        """Calls that another relay was asked."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send posts on until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await trio.sleep(HEADS_S)
                try:
                    await self._compare_all()
                except StoreError as error:
                    log.warning("where rooms stand is not compared now: %s", error.code)

    # -- connections ---------------------------------------------------------------------------------------

    async def connect(self, caller: Caller) -> None:
        self._there[caller] = _Present()
        await self._engine.connect(caller)

    async def disconnect(self, caller: Caller) -> None:
        present = self._there.pop(caller)
        present.is_gone = True
        present.while_there.close()
        for lane in present.lanes.values():
            lane.close()
        await self._engine.disconnect(caller)

    # -- calls ---------------------------------------------------------------------------------------------

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        match params:
            case t.Attach():
                return await self._attach(params, caller)
            case t.Detach():
                for agent in params.agents:
                    self._there[caller].attached.pop(agent, None)
                return await self._everybody(op, lambda row: params, caller)
            case t.TellCursors():
                self._there[caller].presence |= {each.agent: each for each in params.presence}
                return await self._everybody(op, partial(self._part_of, params), caller)
            case t.FollowRoom() | t.UnfollowRoom():
                return await self._watch(op, params, caller)
            case t.UngrantAtRoom():
                return await self._ungrant(op, params, caller)
            case t.PostEnvelope() if op == "link.post":
                waiting = self._queue(op, params, caller)
                await waiting.done.wait()
                return waiting.outcome()
        room = await self._room_of(params)
        if room is None:
            self.here += 1
            return await self._engine.call(op, params, caller)
        return await self._ask(op, params, caller, lambda: self._holding.owner_of(room))

    async def _watch(self, op: str, params: t.FollowRoom | t.UnfollowRoom, caller: Caller) -> t.Result:
        """Follow a room from now on, or no longer, in the stream that the daemon has."""
        room = RoomId(params.resume.room if isinstance(params, t.FollowRoom) else params.room)
        try:
            noted = await self._ask(op, params, caller, lambda: self._holding.owner_of(room))
            if (present := self._there.get(caller)) is not None:
                present.level.pop(room, None)
                present.behind.pop(room, None)
                if isinstance(params, t.FollowRoom):
                    present.followed.add(room)
                else:
                    present.followed.discard(room)
            return noted
        except ParlerError as error:
            if error.code == "invalid_param" and self._there[caller].follows:
                # The relay that has the room lost this daemon's stream, which is about to break off here, too.
                raise ParlerError("home_unreachable", op=op) from None
            raise

    async def _ungrant(self, op: str, params: t.UngrantAtRoom, caller: Caller) -> t.Result:
        """Put an agent out of its rooms, each at the relay that has it."""
        rooms = [RoomId(params.room), *await self._index.rooms_of(params.agent)]
        for room in dict.fromkeys(rooms):
            asked = msgspec.structs.replace(params, room=room)
            await self._ask(op, asked, caller, lambda room=room: self._holding.owner_of(room))  # type: ignore[misc]
        return t.Noted()

    async def _ask(self, op: str, params: t.Params, caller: Caller, owner: Callable[[], Row | None]) -> t.Result:
        """Ask the relay that `owner` names, and again whoever it names then. Raises `ParlerError`."""
        may_repeat = op in REPEATABLE or OPERATIONS[op].effect == "read"
        until, was_asked = trio.current_time() + WITHIN_S, False
        while trio.current_time() < until:
            row = owner()
            lane: Away | None = None
            try:
                if row is not None and row.relay == self._holding.relay:
                    self.here += 1
                    return await self._engine.call(op, params, caller)
                if row is not None:
                    with trio.move_on_at(until):
                        lane = await self._lane(caller, row)
                if lane is not None:
                    self.forwarded += 1
                    # What the other relay answered, as it came: who asked gets these bytes.
                    return cast(t.Result, await lane.call(op, params))
            except Lost:
                if lane is not None and not may_repeat:
                    raise ParlerError("home_unreachable", op=op) from None
            except ParlerError as error:
                again = {*AGAIN, "home_unreachable"} if lane is None else AGAIN_THERE
                if error.code not in again:
                    raise
            if lane is not None and not was_asked:
                # An answer may take as long as it likes: what is bounded is how long nobody can be asked.
                until, was_asked = trio.current_time() + WITHIN_S, True
            with trio.move_on_at(until):
                await self._look_again()
        raise ParlerError("home_unreachable", op=op)

    async def _look_again(self) -> None:
        await trio.sleep(AGAIN_S)
        await self._holding.look_soon()
        self._peers.look()

    async def _room_of(self, params: t.Params) -> RoomId | None:
        """The room that a call is about; None for one about none, or about none that there is."""
        match params:
            case t.OpenRemoteRoom():
                return room_id_of(params.opening)
            case t.KnockAtRoom() if not params.session_key:
                return check(params.statement, KnockStatement).room
            case t.FindCards() | t.PublishCard():
                return None
        if room := getattr(params, "room", ""):
            return RoomId(room)
        if key := getattr(params, "session_key", ""):
            return await self._index.room_of(key)
        return None

    # -- everybody -----------------------------------------------------------------------------------------

    async def _attach(self, params: t.Attach, caller: Caller) -> t.Result:
        """Attach agents at every relay. What each says of its rooms is said together, once that is all of them."""
        await self._begin_work(caller)
        with trio.move_on_after(WITHIN_S):
            while True:
                answers = await self._attach_once(params, caller)
                rooms = [standing for answer in answers for standing in answer.rooms]
                told = {(each.room, each.agent) for each in rooms}
                agents = [each.agent for each in params.agents]
                # A room on its way from one relay to another is told by neither, and who is not told of it would take
                # it for lost.
                if answers and await self._index.is_all(caller.facts.authority.principal, agents, told):
                    return t.Attached(rooms=rooms, now=answers[0].now)
                await self._look_again()
        raise ParlerError("home_unreachable", op="link.attach")

    async def _begin_work(self, caller: Caller) -> None:
        """From the first that a daemon asks or follows with other relays its link is the newest of it, until there is a
        newer one, at whichever relay. One that asks for nothing, to see whether the relay is the right one, is none."""
        present, principal = self._there[caller], caller.facts.authority.principal
        async with present.claiming:
            if present.number:
                return
            number = await self._newest.claim(principal)
            if present.is_gone:
                raise ParlerError("home_unreachable")
            try:
                present.while_there.enter_context(
                    self._newest.entered(principal, number, lambda: self._superseded(caller))
                )
            except ParlerError:
                self._superseded(caller)
                raise
            present.number = number

    async def _attach_once(self, params: t.Attach, caller: Caller) -> list[t.Attached]:
        """What every relay says; nothing where one is not reached."""
        here = await self._engine.call("link.attach", params, caller)
        assert isinstance(here, t.Attached)
        answers = [here]
        # A lane that is opened from now on begins with these.
        self._there[caller].attached |= {each.agent: each for each in params.agents}

        async def ask(row: Row) -> None:
            answer = await self._ask_one("link.attach", params, caller, row)
            if answer is not None:
                answers.append(_ATTACHED.decode(cast(Any, answer)))

        others = self._others()
        await _all_of(partial(ask, row) for row in others)
        return answers if len(answers) == 1 + len(others) else []

    async def _everybody(self, op: str, part: Callable[[Row], t.Params | None], caller: Caller) -> t.Result:
        """Tell every relay its part. One that is not reached now hears it when the daemon comes there."""

        async def tell(row: Row) -> None:
            if (params := part(row)) is not None:
                await self._ask_one(op, params, caller, row)

        await _all_of(partial(tell, row) for row in self._others())
        own = next((row for row in self._holding.living if row.relay == self._holding.relay), None)
        params = t.TellCursors() if own is None else part(own)
        return t.Noted() if params is None else await self._engine.call(op, params, caller)

    async def _ask_one(self, op: str, params: t.Params, caller: Caller, row: Row) -> t.Result | None:
        """Ask one relay; None where it is not reached, or gone. Raises `ParlerError` as it answers."""
        try:
            return cast(t.Result, await (await self._lane(caller, row)).call(op, params))
        except Lost:
            return None
        except ParlerError as error:
            if error.code != "home_unreachable":
                raise
            return None

    def _part_of(self, params: t.TellCursors, row: Row) -> t.TellCursors:
        owner = self._holding.owner_of
        cursors = [each for each in params.cursors if (found := owner(RoomId(each.room))) and found.relay == row.relay]
        return t.TellCursors(cursors=tuple(cursors), presence=params.presence)

    def _others(self) -> list[Row]:
        return [row for row in self._holding.living if row.relay != self._holding.relay]

    # -- lanes ---------------------------------------------------------------------------------------------

    async def _lane(self, caller: Caller, row: Row) -> Away:
        """The daemon's lane to a relay, with its agents attached there. Raises `ParlerError` and `Lost`."""
        present, name = self._there.get(caller), (row.relay, row.incarnation)
        if present is None:
            raise ParlerError("home_unreachable")
        found = present.lanes.get(name)
        if found is not None and not found.is_lost:
            return found
        await self._begin_work(caller)
        async with present.opening:
            found = present.lanes.get(name)
            if found is not None and not found.is_lost:
                return found
            lane = await self._peers.open(row, caller, REACH_S, present.number)
            try:
                if present.attached:
                    await lane.call("link.attach", t.Attach(agents=tuple(present.attached.values())))
                if present.presence:
                    await lane.call("link.cursors", t.TellCursors(presence=tuple(present.presence.values())))
                if present.is_gone:
                    # It went meanwhile, and with it whoever would close the lane.
                    raise ParlerError("home_unreachable")
            except BaseException:
                lane.close()
                raise
            present.lanes[name] = lane
            return lane

    # -- posts ---------------------------------------------------------------------------------------------

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        if op != "link.post" or not isinstance(params, t.PostEnvelope):
            return self._engine.begin(op, params, caller)
        room = RoomId(params.room)
        if room not in self._there[caller].lines and self._holding.has(room):
            try:
                begun = self._engine.begin(op, params, caller)
            except Refused as error:
                if error.code not in AGAIN:
                    raise
                begun = None
            if begun is not None:
                self.here += 1
                return _OrElse(begun, partial(self._queue, op, params, caller))
        return self._queue(op, params, caller)

    def _queue(self, op: str, params: t.PostEnvelope, caller: Caller) -> _Waiting:
        """A place among the posts of a daemon in a room."""
        present, room = self._there.get(caller), RoomId(params.room)
        waiting = _Waiting(params, trio.current_time() + WITHIN_S)
        if present is None or self._nursery is None:
            waiting.finish(error=ParlerError("home_unreachable"))
            return waiting
        line = present.lines.get(room)
        if line is None:
            line = present.lines[room] = _Line(room)
            self._nursery.start_soon(self._send, line, caller, present)
        line.waiting.append(waiting)
        return waiting

    async def _send(self, line: _Line, caller: Caller, present: _Present) -> None:
        """Send the posts of a line on, in order, until there are none."""
        while line.waiting:
            if present.is_gone:
                break
            row, failed = self._holding.owner_of(line.room), False
            # A relay that has not answered yet may have to open the room, and posts that wait for that overtake each
            # other there: the first goes alone.
            batch = list(line.waiting) if row is not None and row == line.answers else [line.waiting[0]]
            try:
                if row is not None and row.relay == self._holding.relay:
                    for waiting in batch:
                        failed = failed or not await self._settle(
                            waiting, partial(self._engine.call, "link.post", waiting.params, caller)
                        )
                        self.here += 1
                elif row is not None:
                    lane: Away | None = None
                    with trio.move_on_at(line.waiting[0].until):
                        lane = await self._lane(caller, row)
                    if lane is None:
                        raise ParlerError("home_unreachable")
                    asked = [lane.begin("link.post", waiting.params) for waiting in batch]
                    for waiting, one in zip(batch, asked, strict=True):
                        failed = not await self._settle(waiting, one.result, AGAIN_THERE, is_alone=failed) or failed
                        self.forwarded += 1
                else:
                    failed = True
            except (Lost, ParlerError):
                failed = True
            line.waiting = deque(each for each in line.waiting if not each.done.is_set())
            line.answers = None if failed else row
            if failed:
                now = trio.current_time()
                for waiting in line.waiting:
                    if now >= waiting.until:
                        waiting.finish(error=ParlerError("home_unreachable"))
                line.waiting = deque(each for each in line.waiting if not each.done.is_set())
                if line.waiting:
                    with trio.move_on_at(line.waiting[0].until):
                        await self._look_again()
        for waiting in line.waiting:
            waiting.finish(error=ParlerError("home_unreachable"))
        if present.lines.get(line.room) is line:
            del present.lines[line.room]

    async def _settle(
        self,
        waiting: _Waiting,
        ask: Callable[[], Awaitable[Any]],
        again: frozenset[str] = AGAIN,
        *,
        is_alone: bool = False,
    ) -> bool:
        """Answer a post. False where the relay that has the room is to be asked again: also for one that was refused
        and `is_alone`, without one before it, which may be why it was."""
        try:
            waiting.finish(await ask())
        except Lost:
            return False
        except ParlerError as error:
            if error.code in again or is_alone:
                return False
            waiting.finish(error=error)
        except Exception as error:
            # This is the boundary of a post: whatever went wrong in it must not reach others.
            waiting.finish(error=coded(error, "link.post"))
        return True

    # -- streams -------------------------------------------------------------------------------------------

    def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        if not isinstance(params, t.FollowRooms):
            return self._engine.stream(op, params, caller, outlet)
        return self._follow(params, caller, outlet)

    @asynccontextmanager
    async def _follow(
        self, params: t.FollowRooms, caller: Caller, outlet: Outlet | None
    ) -> AsyncGenerator[AsyncIterator[t.Result], None]:
        """The streams of all relays as one. It breaks off where one of them does."""
        await self._begin_work(caller)
        parts, is_lost = self._parts(params)
        if is_lost:
            raise ParlerError("home_unreachable")
        present = self._there[caller]
        present.follows, present.level, present.behind = True, {}, {}
        present.followed = {RoomId(resume.room) for resume in params.rooms}
        give, take = trio.open_memory_channel[tuple[t.Result, trio.Event]](0)
        failure: ParlerError | None = None
        async with trio.open_nursery() as nursery:

            def end(error: ParlerError) -> None:
                nonlocal failure
                failure = failure or error
                nursery.cancel_scope.cancel()

            async def here(resumes: t.FollowRooms) -> None:
                try:
                    async with self._engine.stream("link.follow", resumes, caller, outlet) as items:
                        await _pass_on(items, give)
                    end(ParlerError("draining"))
                except ParlerError as error:
                    await self._spread(error, end)

            async def there(row: Row, resumes: t.FollowRooms) -> None:
                try:
                    lane = await self._lane(caller, row)
                    async with lane.stream("link.follow", resumes) as items:
                        await _pass_on(items, give)
                    end(ParlerError("draining"))
                except Lost:
                    await self._spread(ParlerError("home_unreachable"), end)
                except ParlerError as error:
                    await self._spread(error, end)

            def break_off() -> None:
                nursery.start_soon(self._spread, ParlerError("home_unreachable"), end)

            present.break_off = break_off
            followed = {self._holding.relay}
            nursery.start_soon(here, parts.pop(self._holding.relay, t.FollowRooms(rooms=())))

            async def watch() -> None:
                """A relay that came is followed, too: rooms of these agents may be opened there."""
                while True:
                    for row in self._others():
                        if row.relay not in followed:
                            followed.add(row.relay)
                            nursery.start_soon(there, row, parts.pop(row.relay, t.FollowRooms(rooms=())))
                    await self._holding.changed()

            nursery.start_soon(watch)
            try:
                async with aclosing(_taken(take)) as items:
                    yield items
            finally:
                present.break_off = lambda: None
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    # -- whether all of it arrived -------------------------------------------------------------------------

    async def _compare_all(self) -> None:
        """Compare what arrived of the rooms that daemons follow at other relays with where these rooms stand in the
        store. Raises `StoreError`."""
        others = {(row.relay, row.incarnation): row for row in self._others()}
        followed = {room for present in self._there.values() for room in present.followed}
        there = {room: row for room in followed if (row := self._holding.owner_of(room)) in others.values()}
        heads = await self._index.heads(there) if there else {}

        async def compare(row: Row) -> None:
            """Daemon after daemon. One relay that is slow to answer keeps the others waiting no longer."""
            for present in list(self._there.values()):
                lane = present.lanes.get((row.relay, row.incarnation))
                rooms = present.followed & {room for room in heads if there[room] == row}
                if lane is not None and rooms:
                    with trio.move_on_after(COMPARED_S) as limit:
                        await self._compare(present, lane, {room: heads[room] for room in rooms})
                    if limit.cancelled_caught:
                        break

        async with trio.open_nursery() as nursery:
            for row in others.values():
                nursery.start_soon(compare, row)

    async def _compare(self, present: _Present, lane: Away, heads: dict[RoomId, Position]) -> None:
        """Compare one daemon's rooms at one relay. Where items are missing, or a room does not go on, its stream ends,
        and the next begins where the daemon is."""
        moved = {room: head for room, head in heads.items() if present.level.get(room) != head}
        if not moved:
            return
        asked, streaming = t.CompareHeads(heads={str(room): int(head) for room, head in moved.items()}), lane.streaming
        try:
            answer = await lane.call("link.compare", asked)
        except (Lost, ParlerError):
            # The stream over this lane is over, too, or not begun.
            return
        if lane.streaming != streaming:
            return  # the daemon came again meanwhile, and what was counted is of another stream
        found = _COMPARED.decode(cast(Any, answer))
        is_stuck = False
        for room, head in moved.items():
            before = present.behind.pop(room, None)
            if (at := found.behind.get(room)) is None:
                present.level[room] = head
            else:
                # A room of which something was just stored is behind for a moment.
                present.behind[room] = at
                is_stuck = is_stuck or before == at
        # The answer came after all that was told before it.
        if lane.came < found.items or is_stuck:
            log.warning("what another relay told a daemon did not arrive: the daemon is to come again")
            present.break_off()

    async def _spread(self, error: ParlerError, end: Callable[[ParlerError], None]) -> None:
        """Let a stream break off, at another moment than those of other daemons."""
        if error.code in AGAIN or error.code == "home_unreachable":
            await trio.sleep(self._draw() * SPREAD_S)
            error = ParlerError("draining")
        end(error)

    def _parts(self, params: t.FollowRooms) -> tuple[dict[str, t.FollowRooms], bool]:
        """What each relay is to tell; and whether there are rooms that nobody has now."""
        parts: dict[str, list[t.Resume]] = {}
        for resume in params.rooms:
            row = self._holding.owner_of(RoomId(resume.room))
            if row is None:
                return {}, True
            parts.setdefault(row.relay, []).append(resume)
        return {relay: t.FollowRooms(rooms=tuple(resumes)) for relay, resumes in parts.items()}, False


async def _taken(take: trio.MemoryReceiveChannel[tuple[t.Result, trio.Event]]) -> AsyncGenerator[t.Result, None]:
    """What streams gave. Each is told when its item is done with."""
    async for item, done in take:
        yield item
        done.set()


async def _pass_on(items: AsyncIterator[Any], give: trio.MemorySendChannel[tuple[t.Result, trio.Event]]) -> None:
    """Pass items on, each once the one before is sent: what goes past this task does not overtake it."""
    async for item in items:
        done = trio.Event()
        await give.send((cast(t.Result, item), done))
        await done.wait()


async def _all_of(tasks: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run all of these. Raises the `ParlerError` of the first that raises one."""
    failed: list[ParlerError] = []

    async def guarded(task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except ParlerError as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(guarded, task)
    if failed:
        raise failed[0]


@dataclass(slots=True, eq=False)
class _Line:
    """The posts of one daemon in one room that are not answered."""

    room: RoomId
    waiting: deque[_Waiting] = field(default_factory=deque)
    answers: Row | None = None
    """The relay that answered last."""


class _Waiting:
    """A post that waits for its answer: a `Pending`."""

    def __init__(self, params: t.PostEnvelope, until: float) -> None:
        self.params = params
        self.until = until
        """When it is asked no more, on the loop's clock."""
        self.done = trio.Event()
        self._result: t.Result | None = None
        self._error: ParlerError | None = None
        self._then: Callable[[], None] = lambda: None

    def finish(self, result: t.Result | None = None, *, error: ParlerError | None = None) -> None:
        """It is answered."""
        self._result, self._error = result, error
        self.done.set()
        self._then()

    def when_done(self, then: Callable[[], None]) -> None:
        self._then = then
        if self.done.is_set():
            trio.lowlevel.current_trio_token().run_sync_soon(then)

    def outcome(self) -> t.Result:
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


class _OrElse:
    """A post that was begun here; where the room moved before it was decided, it is sent on."""

    def __init__(self, begun: Pending, queue: Callable[[], _Waiting]) -> None:
        self._begun = begun
        self._queue = queue
        self._instead: _Waiting | None = None

    def when_done(self, then: Callable[[], None]) -> None:
        def known() -> None:
            try:
                self._begun.outcome()
            except ParlerError as error:
                if error.code in AGAIN:
                    self._instead = self._queue()
                    self._instead.when_done(then)
                    return
            then()

        self._begun.when_done(known)

    def outcome(self) -> t.Result:
        return (self._begun if self._instead is None else self._instead).outcome()
