"""What is asked over HTTP about rooms of several relays: each of them answers for its own, and the answers are joined.

    about all rooms of a token   every relay that has some of them; the answers as one, in the order of a single relay
    refused with `room_moved`    the relay that has that room: a room that was opened, a key, a room in a body
    anything else                this relay

What names its room in the path is led to the relay of that room as a connection (`leading`). The other relay is told
which token was shown and which rooms are meant, and finds out itself what the token is for. Where a room moves or its
relay dies meanwhile, everybody is asked again, which is as good as once: what is joined only reads, or says the same
again. A place in a room is the home's and no relay's, so a reader takes it to any of them.

Not here: HTTP (`web`), who has which room (`holding`). Above: `web`'s application, which comes here as to an engine;
`peers`, for whoever showed a token at another relay. Below: the engine, `peers`. Invariants: an answer about all rooms
is about all of them, or an error; a call that may have happened and has no key is never asked twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, PrincipalId, RoomId
from parlerd.core.tokens import Token
from parlerd.engine.authority import of_visitor
from parlerd.engine.bearers import UNSEEN
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace, Outlet, Pending
from parlerd.engine.telling import Told
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.store.relays import Row
from parlerd.web.ports import TokenBook
from parlerd.wire import codec
from relay.holding import Holding
from relay.peers import Lost, Peers
from relay.routing import AGAIN, AGAIN_S, AGAIN_THERE, REACH_S, WITHIN_S

T = TypeVar("T")
Parts = dict[Row | None, frozenset[RoomId]]
"""The rooms of a token by the relay that has them, with None for this one."""
Join = Callable[[Sequence[Any], Sequence[RoomId]], t.Result]
"""Makes one answer of several, with the rooms in the order in which a single relay tells them."""

_FILES: Final = frozenset({"blob.put", "blob.get"})
"""What brings or takes a file, which is where the connection is."""


class _Moved(Exception):
    """A relay did not have what it was asked about, or is not reached: it is asked again, whoever has that then."""


class Gathering:
    """The engine as the application over HTTP comes to it. `take_in` makes known what other relays stored of the home;
    `home` is the home's id."""

    def __init__(
        self, engine: Engine, holding: Holding, peers: Peers, home: str, take_in: Callable[[], Awaitable[None]]
    ) -> None:
        self._engine = engine
        self._holding = holding
        self._peers = peers
        self._home = home
        self._take_in = take_in

    # -- what the application asks -------------------------------------------------------------------------

    def admit(self, op: str, caller: Caller) -> None:
        """See `web.ports.Serving`."""
        self._engine.admit(op, caller)

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        """See `web.ports.Serving`."""
        return await self._engine.aside(work)

    def events(self, room: str, after: str, caller: Caller) -> AbstractAsyncContextManager[AsyncIterator[Told]]:
        """See `web.ports.Serving`: of a room of this relay's."""
        return self._engine.events(room, after, caller)

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """See `web.ports.Serving`."""
        authority = caller.facts.authority
        if not authority.token or authority.agent is None or OPERATIONS[op].http is None or op in _FILES:
            return await self._engine.call(op, params, caller)
        join = _JOINS.get(op)
        if join is not None and getattr(params, "room", None) is None:
            return await self._of_all(op, params, caller, join)
        return await self._of_one(op, params, caller)

    def stream(self, op: str, params: t.Params, caller: Caller) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        """See `web.ports.Serving`."""
        join = _JOINS.get(op)
        if join is None or not caller.facts.authority.token:
            return self._engine.stream(op, params, caller)
        return self._follow(op, params, caller, join)

    # -- about one room ------------------------------------------------------------------------------------

    async def _of_one(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """Ask here, and where the room is another relay's, ask that one. Raises `ParlerError`."""
        trying, room = self._trying(op), RoomId("")
        while True:
            row = self._other(room)
            try:
                if row is None:
                    return await self._engine.call(op, params, caller)
                return await self._ask(row, op, params, caller, ())
            except Lost:
                if not _may_repeat(op, params):
                    raise ParlerError("home_unreachable", op=op) from None
            except _Moved:
                pass
            except ParlerError as error:
                if error.code not in (AGAIN if row is None else AGAIN_THERE):
                    raise
                found = RoomId(str(error.details.get("room", "")))
                if row is None and self._other(found) is not None:
                    room = found
                    continue
            room = RoomId("")
            await trying.again()

    def _other(self, room: RoomId) -> Row | None:
        """The relay that has a room, where that is another one."""
        row = self._holding.owner_of(room) if room else None
        return None if row is None or row.relay == self._holding.relay else row

    # -- about all of them ---------------------------------------------------------------------------------

    async def _of_all(self, op: str, params: t.Params, caller: Caller, join: Join) -> t.Result:
        """Ask every relay that has rooms of this token, again until all of them answered. Raises `ParlerError`."""
        trying = self._trying(op)
        deadline = trio.current_time() + getattr(params, "wait_ms", 0) / 1000
        caller.waiting += OPERATIONS[op].waits
        try:
            while True:
                if parts := self._parts(caller):
                    try:
                        found = await self._ask_all(op, _until(params, deadline), caller, parts)
                        return join(found, await self._order(caller))
                    except (_Moved, Lost):
                        pass
                await trying.again()
        finally:
            caller.waiting -= OPERATIONS[op].waits

    async def _ask_all(self, op: str, params: t.Params, caller: Caller, parts: Parts) -> list[t.Result]:
        """What every relay says. Where one of those that wait has something, the others are asked for what they have
        by now. Raises `_Moved`, `Lost` and `ParlerError`."""
        answers: dict[Row | None, t.Result] = {}
        failed: list[Exception] = []

        async def ask(nursery: trio.Nursery, row: Row | None, params: t.Params) -> None:
            try:
                answers[row] = await self._ask_part(row, op, params, caller, parts[row])
            except (_Moved, Lost, ParlerError) as error:
                failed.append(error)
                nursery.cancel_scope.cancel()
            else:
                if getattr(params, "wait_ms", 0) and getattr(answers[row], "rooms", ()):
                    nursery.cancel_scope.cancel()

        for asked in (params, _until(params, 0)):
            async with trio.open_nursery() as nursery:
                for row in parts.keys() - answers.keys():
                    nursery.start_soon(ask, nursery, row, asked)
            if failed:
                # What somebody refused is an answer; what moved is only asked again.
                raise min(failed, key=lambda error: not isinstance(error, ParlerError))
        return [answers[row] for row in parts]

    async def _ask_part(
        self, row: Row | None, op: str, params: t.Params, caller: Caller, rooms: frozenset[RoomId]
    ) -> t.Result:
        """What one relay says of its rooms. Raises `_Moved`, `Lost` and `ParlerError`."""
        again = AGAIN
        try:
            if row is None:
                with _narrowed(caller, rooms) as part:
                    return await self._engine.call(op, params, part)
            again = AGAIN_THERE
            return await self._ask(row, op, params, caller, rooms)
        except ParlerError as error:
            if error.code in again:
                raise _Moved from None
            raise

    async def _ask(self, row: Row, op: str, params: t.Params, caller: Caller, rooms: Collection[RoomId]) -> t.Result:
        """What another relay says. Raises `_Moved` where it was not asked, `Lost` and `ParlerError`."""
        try:
            lane = await self._peers.act(row, caller.facts.authority.token, rooms, REACH_S)
        except ParlerError as error:
            if error.code == "home_unreachable":
                raise _Moved from None
            raise
        try:
            return _shape(op).decode(await lane.call(op, params))
        finally:
            lane.close()

    def _parts(self, caller: Caller) -> Parts:
        """Who has which rooms of a token: nothing where somebody has none, and this relay where it has none."""
        rooms = caller.facts.authority.rooms
        assert rooms is not None, "a token says which rooms there are for it"
        parts: Parts = {}
        for room in sorted(rooms):
            row = self._holding.owner_of(room)
            if row is None:
                return {}
            name = None if row.relay == self._holding.relay else row
            parts[name] = parts.get(name, frozenset()) | {room}
        return parts or {None: frozenset()}

    async def _order(self, caller: Caller) -> list[RoomId]:
        """The rooms of an agent in the order in which a single relay tells them."""
        agent = caller.facts.authority.agent
        assert agent is not None, "a token is an agent's"
        return await self._engine.desk.library.my_rooms(AgentId(agent))

    def _trying(self, op: str) -> _Trying:
        def failure() -> ParlerError:
            # A relay that does not reach the store knows of no room how it is.
            code = "store_unreachable" if self._holding.is_cut_off else "home_unreachable"
            return ParlerError(code, op=op)

        return _Trying(self._look_again, failure)

    async def _look_again(self) -> None:
        await trio.sleep(AGAIN_S)
        await self._holding.look_soon()
        self._peers.look()

    # -- streams -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _follow(
        self, op: str, params: t.Params, caller: Caller, join: Join
    ) -> AsyncGenerator[AsyncIterator[t.Result], None]:
        """What all relays tell as one, each time that any of them tells something else. Each item is how it all is, so
        where a room moves everybody is followed anew, and nothing is lost."""
        give, take = trio.open_memory_channel[t.Result](0)
        failed: list[ParlerError] = []
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                async with give:
                    try:
                        await self._tell(op, params, caller, join, give)
                    except ParlerError as error:
                        failed.append(error)

            nursery.start_soon(tell)
            try:
                async with aclosing(_taken(take, failed)) as items:
                    yield items
            finally:
                nursery.cancel_scope.cancel()

    async def _tell(
        self, op: str, params: t.Params, caller: Caller, join: Join, give: trio.MemorySendChannel[t.Result]
    ) -> None:
        """Give out what all relays tell, until cancelled. Raises `ParlerError`."""
        trying, shown = self._trying(op), list[t.Result]()

        async def said(newest: dict[Row | None, t.Result], parts: Parts) -> None:
            if newest.keys() == parts.keys():
                joined = join([newest[row] for row in parts], ())
                if shown != [joined]:
                    shown[:] = [joined]
                    await give.send(joined)

        while True:
            if parts := self._parts(caller):
                await self._told(op, params, caller, parts, said)
            await trying.again()

    async def _told(
        self,
        op: str,
        params: t.Params,
        caller: Caller,
        parts: Parts,
        said: Callable[[dict[Row | None, t.Result], Parts], Awaitable[None]],
    ) -> None:
        """Follow every relay, until one does not have its rooms any more. Raises `ParlerError`."""
        newest: dict[Row | None, t.Result] = {}
        failed: list[ParlerError] = []
        saying = trio.Lock()
        async with trio.open_nursery() as nursery:

            async def take(items: AsyncIterator[Any], row: Row | None) -> None:
                async for item in items:
                    async with saying:
                        newest[row] = item if row is None else _shape(op).decode(item)
                        await said(newest, parts)

            async def follow(row: Row | None) -> None:
                try:
                    if row is None:
                        with _narrowed(caller, parts[row]) as part:
                            async with self._engine.stream(op, params, part) as items:
                                await take(items, row)
                        raise Refused("draining")
                    lane = await self._peers.act(row, caller.facts.authority.token, parts[row], REACH_S)
                    try:
                        async with lane.stream(op, params) as items:
                            await take(items, row)
                    finally:
                        lane.close()
                except Lost:
                    pass
                except ParlerError as error:
                    if error.code not in (AGAIN if row is None else {*AGAIN_THERE, "home_unreachable"}):
                        failed.append(error)
                nursery.cancel_scope.cancel()

            for row in parts:
                nursery.start_soon(follow, row)
        if failed:
            raise failed[0]

    # -- for the other relays ------------------------------------------------------------------------------

    def acting(self, token: str, rooms: Collection[RoomId]) -> tuple[EngineFace, Caller]:
        """What answers whoever showed this token at another relay, about these of its rooms, or about all of them where
        none is named."""
        nobody = of_visitor(PrincipalId(self._home), is_let_in=False, is_own=False)
        return _Shown(self._engine, self._take_in, token, frozenset(rooms)), Caller(Facts(token, "http", nobody))


class _Shown:
    """The engine for whoever showed a token at another relay. Who that is follows from the token, as it is known
    here."""

    def __init__(
        self, engine: Engine, take_in: Callable[[], Awaitable[None]], token: str, rooms: frozenset[RoomId]
    ) -> None:
        self._engine = engine
        self._take_in = take_in
        self._token = token
        self._rooms = rooms

    async def connect(self, caller: Caller) -> None:
        """Whoever acts with a token is there from its first call on, and some time after its last."""
        await trio.lowlevel.checkpoint()

    async def disconnect(self, caller: Caller) -> None:
        """See `connect`."""
        await trio.lowlevel.checkpoint()

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        """Who it is has to be found out first."""
        return None

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        with _narrowed(*await self._acting()) as part:
            return await self._engine.call(op, params, part)

    @asynccontextmanager
    async def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AsyncGenerator[AsyncIterator[t.Result], None]:
        with _narrowed(*await self._acting()) as part:
            async with self._engine.stream(op, params, part) as items:
                yield items

    async def _acting(self) -> tuple[Caller, frozenset[RoomId]]:
        """Who that is, and the rooms that are meant. Raises `Refused`: `token_invalid`, and `room_moved` for a room
        that the token is not known here to be of: an answer without that would be about fewer rooms than asked."""
        # The token, or a room of it, may be new.
        await self._take_in()
        caller = self._engine.bearers.caller_with(self._token)
        known = caller.facts.authority.rooms or frozenset()
        if not self._rooms <= known:
            raise Refused("room_moved")
        return caller, self._rooms or known


class Known:
    """The tokens, with what other relays stored of them: `web.ports.TokenBook`."""

    def __init__(self, tokens: Any, take_in: Callable[[], Awaitable[None]]) -> None:
        self._tokens = tokens
        self._take_in = take_in
        self.using: Final = tokens.using
        self.count: Final = tokens.count
        self.handle_of: Final = tokens.handle_of

    async def caller_of(self, text: str, stranger: Caller, seen: PeerProcess = UNSEEN) -> tuple[Token, Caller]:
        """See `web.ports.TokenBook`."""
        token: Token | None = self._tokens.shown(text)
        if token is None or token.kind == "ah":
            # It may be new, or have opened a room at another relay a moment ago.
            await self._take_in()
        return await cast(TokenBook, self._tokens).caller_of(text, stranger, seen)


class _Trying:
    """How long something is tried again: the time in which the rooms of a relay that died become another's."""

    def __init__(self, look_again: Callable[[], Awaitable[None]], failure: Callable[[], ParlerError]) -> None:
        self._look_again = look_again
        self._failure = failure
        self._until = float("inf")
        self._tried_at = trio.current_time()

    async def again(self) -> None:
        """What was tried just now did not work. Raises the failure where that is so for long."""
        now = trio.current_time()
        if now - self._tried_at > WITHIN_S:
            # It had worked for a while, as a wait does.
            self._until = float("inf")
        self._until = min(self._until, now + WITHIN_S)
        if now >= self._until:
            raise self._failure()
        await self._look_again()
        self._tried_at = trio.current_time()


@contextmanager
def _narrowed(caller: Caller, rooms: frozenset[RoomId]) -> Iterator[Caller]:
    """The same caller for a part of its rooms."""
    authority = replace(caller.facts.authority, rooms=rooms)
    part = Caller(replace(caller.facts, authority=authority), reader=caller.reader)
    try:
        yield part
    finally:
        caller.last_act = max(caller.last_act, part.last_act)


async def _taken(
    take: trio.MemoryReceiveChannel[t.Result], failed: list[ParlerError]
) -> AsyncGenerator[t.Result, None]:
    """What is told, and the error with which that ends."""
    async for item in take:
        yield item
    raise failed[0]


def _until(params: t.Params, deadline: float) -> t.Params:
    """A call that waits, to this time on the loop's clock and no longer."""
    if not hasattr(params, "wait_ms"):
        return params
    left = max(0, round(1000 * (deadline - trio.current_time())))
    return msgspec.structs.replace(params, wait_ms=left)


def _may_repeat(op: str, params: t.Params) -> bool:
    """Whether twice is as good as once."""
    return OPERATIONS[op].effect == "read" or getattr(params, "idempotency_key", None) is not None


@cache
def _shape(op: str) -> codec.Shape[t.Result]:
    return codec.Shape(OPERATIONS[op].result, "relay_failed")


# -- joining -----------------------------------------------------------------------------------------------------


def _by_room(found: Sequence[Any], name: str, order: Sequence[RoomId]) -> list[Any]:
    """The entries of all answers, each about one room, in the order of their rooms."""
    places = {room: place for place, room in enumerate(order)}
    return sorted(
        (each for answer in found for each in getattr(answer, name)),
        key=lambda each: (places.get(each.room, len(places)), each.room),
    )


def _notice(found: Sequence[Any]) -> str:
    return " ".join(dict.fromkeys(answer.notice for answer in found if answer.notice))


def _received(found: Sequence[t.ReceivedAll], order: Sequence[RoomId]) -> t.ReceivedAll:
    return t.ReceivedAll(rooms=_by_room(found, "rooms", order))


def _listed(found: Sequence[t.RoomList], order: Sequence[RoomId]) -> t.RoomList:
    waits = {each.room: each for answer in found for each in answer.waits}
    return msgspec.structs.replace(
        found[0], rooms=_by_room(found, "rooms", order), waits=list(waits.values()), notice=_notice(found)
    )


def _sessions(found: Sequence[t.SessionList], order: Sequence[RoomId]) -> t.SessionList:
    return t.SessionList(sessions=_by_room(found, "sessions", order))


def _requests(found: Sequence[t.RequestList], order: Sequence[RoomId]) -> t.RequestList:
    # Every relay knows who asked to write directly.
    requests = {each.id: each for answer in found for each in answer.requests}
    oldest = sorted(requests.values(), key=lambda each: (each.requested, each.id))
    return t.RequestList(room=None, requests=oldest, notice=_notice(found))


def _first(found: Sequence[t.Result], order: Sequence[RoomId]) -> t.Result:
    """What was said to all relays, and holds at each."""
    return found[0]


_JOINS: Final[dict[str, Join]] = {
    "message.recv_all": _received,
    "rooms.list": _listed,
    "session.list": _sessions,
    "rooms.requests": _requests,
    "approvals.list": _requests,
    "approvals.watch": _requests,
    "agent.presence": _first,
}
"""The operations about all rooms of a token."""
