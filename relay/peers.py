"""The links between the relays of one home: each keeps one open to every other that lives, and serves those of others.

    here is a daemon's link  --lane-->  the relay that has the room  --> its engine, as if the daemon were there

    dialling   proves the home's key, then opens a lane for each daemon that asks for rooms there (`Away`)
    serving    lets in who proves the key, and answers what comes over a lane from the engine, as `link` does

A relay is dialled again when its link broke, after a pause, as long as it lives. Not here: which relay has which room
(`holding`), and who is asked what (`routing`). Above: the relay's program, `routing`. Below: `lanes`,
`identity.kinship`, `connections`. Invariants: who does not prove the key hears nothing but a goodbye; a daemon has over
a lane the rights that it proved at the relay that it is at, and its agents prove theirs anew; a lane of a link ends
where a newer link of its daemon is heard of (`newest`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

import msgspec
import trio

import parlerd
from parlerd.connections.calls import Calls, coded
from parlerd.connections.dial import Dialer
from parlerd.connections.inbox import Inbox
from parlerd.connections.outgoing import Outgoing
from parlerd.connections.stream import MessageStream
from parlerd.core.errors import ErrorBody, ParlerError, Refused
from parlerd.core.model import HomeId, RoomId
from parlerd.engine import authority
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.face import EngineFace
from parlerd.identity.kinship import Kinship
from parlerd.identity.transcript import Signs
from parlerd.operations import types as t
from parlerd.store.relays import Row
from parlerd.wire import codec
from parlerd.wire.calls import Ended
from parlerd.wire.frames import PREFIX
from parlerd.wire.lanes import (
    ANSWERING,
    DIALLING,
    PEER_PROTOCOL,
    CloseLane,
    FromAnswering,
    FromDialling,
    LaneData,
    OpenLane,
    OpenPipe,
    OpenToken,
    PeerChallenge,
    PeerHello,
    PeerProof,
    PeerWelcome,
    Reader,
)
from parlerd.wire.link import NONCE, RelayPeer, UplinkPeer, heard, told
from parlerd.wire.messages import Failure, Goodbye, Item, Reply
from relay.lanes import Carrier, LaneBytes, LaneStream, carrying
from relay.newest import Newest
from relay.turnstile import Visitor

log = logging.getLogger("relay")

PROOF_S: Final = 5.0
"""How long the proofs of a link may take together."""
FAREWELL_S: Final = 2.0
AGAIN_S: Final = 0.2
MOST_AGAIN_S: Final = 2.0
"""The first and the longest pause before another attempt to reach a relay that lives."""
MOST_UNDER_WAY: Final = 8 * 1024 * 1024
"""Bytes of parameters under way on one lane before no more is read of it; the relay with the daemon counts as much."""


class Keys(Signs, Protocol):
    """The home's key."""

    @property
    def home(self) -> HomeId: ...


class Lost(Exception):
    """The lane, or its link, ended before an answer came: what was asked may have happened."""


@dataclass(frozen=True, slots=True)
class Self:
    """The relay that speaks here."""

    keys: Keys
    relay: str
    incarnation: str
    version: str = parlerd.__version__
    random_bytes: Callable[[int], bytes] = os.urandom


# -- lanes from here ---------------------------------------------------------------------------------------------


class Asked:
    """A call over a lane whose place among what is sent is taken."""

    def __init__(self, away: Away, id: int) -> None:
        self._away = away
        self._id = id

    async def result(self) -> msgspec.Raw:
        """Its result as it came. Leaving without it withdraws the call. Raises `ParlerError` and `Lost`."""
        try:
            answer = await self._away.answers.next_of(self._id)
        finally:
            self._away.forget(self._id)
        if isinstance(answer, Failure):
            raise self._away.heard(answer.error)
        assert isinstance(answer, Reply)
        return answer.result


class Away:
    """A daemon of this relay at another one: a lane, and what is asked over it."""

    def __init__(self, lane: LaneStream, heard: Callable[[ErrorBody], ParlerError] = heard) -> None:
        self._lane = lane
        self.heard: Final = heard
        """The error that an answer tells."""
        self._peer = UplinkPeer.proven()
        self._out = Outgoing(lane, broken=self._lose)
        self.answers: Final = Inbox()
        """What came for the calls that somebody waits for; where nothing more comes it raises `Lost`."""
        self._scope = trio.CancelScope()
        self.streaming: int | None = None
        """Which of its streams is the newest."""
        self.came = 0
        """How many items of that one came."""

    @property
    def is_lost(self) -> bool:
        """Whether nothing more comes of it."""
        return self.answers.lost is not None

    def close(self) -> None:
        """The daemon is gone from here, or asks elsewhere."""
        self._scope.cancel()
        self._lose()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until the lane ends or this is cancelled."""
        try:
            with self._scope:
                async with self._out.sending():
                    task_status.started()
                    while not self.is_lost and (data := await self._lane.receive()) is not None:
                        for event in self._peer.receive(data):
                            self._take(event)
        finally:
            self._lose()
            with trio.CancelScope(shield=True):
                await self._lane.close()

    def begin(self, op: str, params: t.Params) -> Asked:
        """Send a call. Raises `Lost`, and `ParlerError`: `busy`, `frame_too_large`."""
        return Asked(self, self._begin(op, params))

    async def call(self, op: str, params: t.Params) -> msgspec.Raw:
        """Ask and wait for the answer. Raises `ParlerError` and `Lost`."""
        return await self.begin(op, params).result()

    @asynccontextmanager
    async def stream(self, op: str, params: t.Params) -> AsyncIterator[AsyncIterator[msgspec.Raw]]:
        """Follow an operation: items as they came. The iterator raises `ParlerError` or `Lost` where it breaks off."""
        id = self.streaming = self._begin(op, params)
        self.came = 0
        try:
            async with aclosing(self._items(id)) as items:
                yield items
        finally:
            self.forget(id)

    def _begin(self, op: str, params: t.Params) -> int:
        if self.is_lost:
            raise Lost
        id, data = self._peer.call(op, codec.encode(params))
        self.answers.open(id)
        self._out.send(data)
        return id

    async def _items(self, id: int) -> AsyncGenerator[msgspec.Raw, None]:
        while isinstance(answer := await self.answers.next_of(id), Item):
            yield answer.item
            if not self.is_lost and (more := self._peer.took(id)):
                self._out.send(more)
        if isinstance(answer, Failure):
            raise self.heard(answer.error)

    def forget(self, id: int) -> None:
        """Nobody waits for this call any more. It is withdrawn if it is not answered."""
        self.answers.close(id)
        if not self.is_lost and (data := self._peer.cancel(id)):
            self._out.send(data)

    def _take(self, event: object) -> None:
        if isinstance(event, Goodbye | Ended):
            self._lose()
        elif isinstance(event, Reply | Failure | Item) and self.answers.put(event):
            self.came += event.id == self.streaming and isinstance(event, Item)

    def _lose(self) -> None:
        self.answers.lose(Lost())


# -- links from here ---------------------------------------------------------------------------------------------


class Peers:
    """The links to the other relays that live. `run` keeps them; `living` says at any time which there are."""

    def __init__(self, own: Self, dialer: Dialer, living: Callable[[], Collection[Row]]) -> None:
        self._own = own
        self._dialer = dialer
        self._living = living
        self._links: dict[tuple[str, str], _Dialled] = {}
        """The link to each process of another relay, from when it is first dialled."""
        self._look = trio.Event()

    def look(self) -> None:
        """Other relays live than before."""
        self._look.set()

    @property
    def unreached(self) -> list[str]:
        """The relays that live and that no link leads to."""
        return [each.relay for each in self._others() if (found := self._of(each)) is None or found.carrier is None]

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent to other relays."""
        return sum(each.carrier.pending for each in self._links.values() if each.carrier is not None)

    def _others(self) -> list[Row]:
        return [each for each in self._living() if each.relay != self._own.relay and each.inner]

    def _of(self, row: Row) -> _Dialled | None:
        return self._links.get((row.relay, row.incarnation))

    async def run(self) -> None:
        """Keep a link to each of them, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._look = trio.Event()
                there = {(each.relay, each.incarnation): each for each in self._others()}
                for name in self._links.keys() - there.keys():
                    self._links.pop(name).scope.cancel()
                for name, row in there.items():
                    if name not in self._links:
                        self._links[name] = _Dialled()
                        nursery.start_soon(self._keep, self._links[name], row)
                await self._look.wait()

    async def _keep(self, link: _Dialled, row: Row) -> None:
        pause = AGAIN_S
        with link.scope:
            while True:
                try:
                    async with self._dialer.dial(self._address(row)) as stream:
                        await self._serve(link, row, stream)
                except ParlerError as error:
                    log.warning("the relay at %s is not reached: %s", row.inner, error.code)
                except Exception as error:
                    failure = coded(error, "a link to another relay")
                    log.warning("the link to the relay at %s ended: %s", row.inner, failure.code)
                if link.was_up:
                    link.was_up, pause = False, AGAIN_S
                await trio.sleep(pause)
                pause = min(MOST_AGAIN_S, 2 * pause)

    def _address(self, row: Row) -> str:
        """Where a relay is now: its newest row says it."""
        return next((each.inner for each in self._living() if each.relay == row.relay), row.inner)

    async def _serve(self, link: _Dialled, row: Row, stream: MessageStream) -> None:
        reader = Reader(ANSWERING)
        async with trio.open_nursery() as nursery, carrying(stream, nursery.cancel_scope.cancel) as carrier:
            rest: Sequence[FromDialling | FromAnswering] = ()
            with trio.move_on_after(PROOF_S) as limit:
                rest = await self._prove(carrier, row, stream, reader)
            if limit.cancelled_caught:
                raise ParlerError("home_unreachable", "The other relay did not prove who it is in time.")
            stream.limit = PREFIX + 256 * 1024
            reader.welcome()
            link.carrier, link.nursery, link.was_up = carrier, nursery, True
            link.changed()
            try:
                await _carry(stream, reader, rest, carrier.take)
            finally:
                link.carrier = link.nursery = None
                carrier.end()
                nursery.cancel_scope.cancel()

    async def _prove(
        self, carrier: Carrier, row: Row, stream: MessageStream, reader: Reader
    ) -> Sequence[FromDialling | FromAnswering]:
        own = self._own
        nonce = own.random_bytes(NONCE)
        carrier.say(
            PeerHello(
                protocol=PEER_PROTOCOL,
                version=own.version,
                nonce=nonce,
                relay=own.relay,
                incarnation=own.incarnation,
                to_relay=row.relay,
                to_incarnation=row.incarnation,
            )
        )
        challenge, _ = await _expect(stream, reader, PeerChallenge)
        kinship = Kinship(
            own.keys.home,
            (own.relay, own.incarnation),
            (row.relay, row.incarnation),
            nonce,
            challenge.nonce,
            stream.certificate,
        )
        if not kinship.is_signed("answers", challenge.signature):
            raise ParlerError("wrong_relay")
        carrier.say(PeerProof(signature=kinship.sign("dials", own.keys)))
        _, rest = await _expect(stream, reader, PeerWelcome)
        return rest

    async def _up(self, row: Row, within_s: float) -> tuple[_Dialled, Carrier, trio.Nursery]:
        """The link to a relay. Raises `ParlerError(home_unreachable)` where there is none within that time."""
        link = self._links.get((row.relay, row.incarnation))
        with trio.move_on_after(within_s):
            while link is not None and link.carrier is None:
                await link.up.wait()
        if link is None or link.carrier is None or link.nursery is None:
            raise ParlerError("home_unreachable")
        return link, link.carrier, link.nursery

    async def pipe(self, row: Row, address: str, within_s: float) -> LaneStream:
        """A lane to a relay for somebody who asks over HTTP from this address; `close` it. Raises
        `ParlerError(home_unreachable)`."""
        link, carrier, _ = await self._up(row, within_s)
        stream = carrier.open(next(link.numbers))
        carrier.say(OpenPipe(lane=stream.id, address=address[:64]))
        return stream

    async def open(self, row: Row, caller: Caller, within_s: float, number: int = 0) -> Away:
        """A lane for a daemon to a relay; `close` it. `number` is that of the daemon's link (`newest`). Raises
        `ParlerError(home_unreachable)` where there is no link to the relay within that time."""
        link, carrier, nursery = await self._up(row, within_s)
        facts, id = caller.facts, next(link.numbers)
        stream = carrier.open(id)
        carrier.say(
            OpenLane(
                lane=id,
                principal=facts.authority.principal,
                session=facts.session,
                channel=facts.channel,
                link=number,
            )
        )
        away = Away(stream)
        await nursery.start(away.run)
        return away

    async def act(self, row: Row, token: str, rooms: Collection[RoomId], within_s: float) -> Away:
        """A lane to a relay for whoever showed the token of this id here, about these of its rooms, or about all where
        none is named; `close` it. Raises `ParlerError(home_unreachable)` as `open` does."""
        link, carrier, nursery = await self._up(row, within_s)
        stream = carrier.open(next(link.numbers))
        carrier.say(OpenToken(lane=stream.id, token=token, rooms=tuple(sorted(rooms))))
        away = Away(stream, heard=heard_whole)
        await nursery.start(away.run)
        return away


class _Dialled:
    """The link to one process of another relay."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.carrier: Carrier | None = None
        """What carries lanes while the link is up."""
        self.nursery: trio.Nursery | None = None
        self.was_up = False
        """Whether it came up since it was last dialled."""
        self.up = trio.Event()
        """Set while it is up."""
        self.numbers = count()
        """The ids of lanes: never used twice, whatever link they are on."""

    def changed(self) -> None:
        """It came up: wake who waits for that."""
        self.up.set()
        self.up = trio.Event()


@dataclass(frozen=True, slots=True)
class _Guest:
    """Somebody at another relay, who showed a token there that holds."""

    address: str

    def proven(self) -> None:
        """Nothing to count here."""


def told_whole(error: ParlerError) -> ErrorBody:
    """An error with all that it says, between relays of one home: whoever asks over HTTP reads it there as here."""
    return msgspec.structs.replace(error.body(), hint=error.tool_hint)


def heard_whole(body: ErrorBody) -> ParlerError:
    """What `told_whole` told."""
    error = ParlerError.from_body(body)
    error.tool_hint = body.hint or error.tool_hint
    return error


class Answers(Protocol):
    """What answers over HTTP: `relay.web.Face`."""

    async def visit(self, transport: Any, begun: bytes, guest: Any) -> None: ...


# -- links to here -----------------------------------------------------------------------------------------------


class Served:
    """The links of other relays to this one: what a door leads to (`door.Serves`). `engine` answers, and `newest` says
    of whom."""

    def __init__(self, own: Self, engine: EngineFace, offered: Collection[str], newest: Newest) -> None:
        self._own = own
        self._engine = engine
        self._newest = newest
        self._offered = frozenset(offered)
        self._open: set[trio.CancelScope] = set()
        self.carriers: set[Carrier] = set()
        """The links that are proven."""
        self.refused = 0
        """How many proved nothing."""
        self.web: Answers | None = None
        """What answers over HTTP."""
        self.acting: Callable[[str, Collection[RoomId]], tuple[EngineFace, Caller]] | None = None
        """What answers whoever showed the token of an id at another relay, about some of its rooms; and as whom."""

    @property
    def lanes(self) -> int:
        """How many daemons at other relays are here."""
        return sum(each.lanes for each in self.carriers)

    async def serve(self, stream: MessageStream, visitor: Visitor) -> None:
        """Serve one link until it ends, and close its stream. Raises nothing but cancellation."""
        scope = trio.CancelScope()
        self._open.add(scope)
        try:
            with scope:
                await self._serve(stream, visitor)
        except Exception as error:
            self.refused += 1
            log.warning("a link of another relay ended: %s", coded(error, "a link of another relay").code)
        finally:
            self._open.discard(scope)
            with trio.CancelScope(shield=True):
                await stream.close()

    async def drain(self) -> None:
        """End every link: who has daemons there asks the relays that have the rooms now."""
        for scope in self._open:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _serve(self, stream: MessageStream, visitor: Visitor) -> None:
        reader = Reader(DIALLING)
        async with trio.open_nursery() as nursery, carrying(stream, nursery.cancel_scope.cancel) as carrier:
            failure: ParlerError | None = None
            rest: Sequence[FromDialling | FromAnswering] = ()
            try:
                with trio.move_on_after(PROOF_S) as limit:
                    rest = await self._prove(carrier, stream, reader)
                if limit.cancelled_caught:
                    raise ParlerError("proof_late")
            except ParlerError as error:
                failure = error
            if failure is not None:
                carrier.say(Goodbye(error=told(failure)))
                with trio.move_on_after(FAREWELL_S):
                    await carrier.drained(below=1)
                raise failure
            visitor.proven()
            stream.limit = PREFIX + 256 * 1024
            reader.welcome()
            self.carriers.add(carrier)

            def take(message: FromDialling | FromAnswering) -> None:
                if isinstance(message, OpenLane):
                    nursery.start_soon(self._attend, carrier.open(message.lane), message)
                elif isinstance(message, OpenToken):
                    nursery.start_soon(self._act, carrier.open(message.lane), message)
                elif isinstance(message, OpenPipe):
                    nursery.start_soon(self._visit, carrier.open(message.lane), message.address)
                elif isinstance(message, LaneData | CloseLane):
                    carrier.take(message)

            try:
                await _carry(stream, reader, rest, take)
            finally:
                self.carriers.discard(carrier)
                carrier.end()
                nursery.cancel_scope.cancel()

    async def _prove(
        self, carrier: Carrier, stream: MessageStream, reader: Reader
    ) -> Sequence[FromDialling | FromAnswering]:
        own = self._own
        hello, _ = await _expect(stream, reader, PeerHello)
        if hello.protocol != PEER_PROTOCOL:
            raise ParlerError("unsupported_version")
        if (hello.to_relay, hello.to_incarnation) != (own.relay, own.incarnation):
            raise ParlerError("wrong_relay")
        kinship = Kinship(
            own.keys.home,
            (hello.relay, hello.incarnation),
            (own.relay, own.incarnation),
            hello.nonce,
            own.random_bytes(NONCE),
            stream.certificate,
        )
        carrier.say(PeerChallenge(nonce=kinship.answering_nonce, signature=kinship.sign("answers", own.keys)))
        proof, rest = await _expect(stream, reader, PeerProof)
        if not kinship.is_signed("dials", proof.signature):
            raise ParlerError("proof_refused")
        carrier.say(PeerWelcome(version=own.version))
        return rest

    async def _attend(self, lane: LaneStream, opened: OpenLane) -> None:
        """Answer one daemon at another relay until its lane ends."""
        facts = Facts(
            session=opened.session,
            via="link",
            authority=authority.of_link(opened.principal),
            channel=opened.channel,
        )
        await self._answer(lane, self._engine, Caller(facts), self._admit, told, opened)

    async def _act(self, lane: LaneStream, opened: OpenToken) -> None:
        """Answer somebody who showed a token at another relay."""
        if self.acting is None:
            await lane.close()
            return
        engine, caller = self.acting(opened.token, opened.rooms)
        await self._answer(lane, engine, caller, _admit_over_http, told_whole)

    async def _answer(
        self,
        lane: LaneStream,
        engine: EngineFace,
        caller: Caller,
        admit: Callable[[t.Operation], None],
        tell: Callable[[ParlerError], ErrorBody],
        opened: OpenLane | None = None,
    ) -> None:
        """Answer what comes over a lane until that ends. What fails here ends the lane alone. `opened` is what a
        daemon's lane began with."""
        peer = RelayPeer.proven()
        ended = trio.CancelScope()
        out = Outgoing(lane, broken=ended.cancel)
        calls = Calls(peer, out, engine, admit, tell)

        async def more() -> Sequence[object]:
            await calls.below(MOST_UNDER_WAY)
            while (data := await lane.receive()) is not None:
                if events := peer.receive(data):
                    return events
            return ()

        try:
            with self._counted(opened, ended), ended:
                async with out.sending():
                    try:
                        await engine.connect(caller)
                        await calls.answer(caller, (), more)
                    finally:
                        with trio.move_on_after(FAREWELL_S, shield=True):
                            await engine.disconnect(caller)
        except Exception as error:
            log.warning("a lane ended: %s", coded(error, "a lane").code)
        finally:
            with trio.CancelScope(shield=True):
                await lane.close()

    def _counted(self, opened: OpenLane | None, ended: trio.CancelScope) -> AbstractContextManager[None]:
        """The time in which a lane is answered: until a newer link of its daemon is heard of, wherever that is."""
        if opened is None or not opened.link:
            return nullcontext()
        return self._newest.entered(opened.principal, opened.link, ended.cancel)

    async def _visit(self, lane: LaneStream, address: str) -> None:
        """Serve somebody who asks over HTTP at another relay, which found that their token holds."""
        try:
            if self.web is not None:
                await self.web.visit(LaneBytes(lane), b"", _Guest(address))
        except Exception as error:
            log.warning("a connection over HTTP ended: %s", coded(error, "a connection over HTTP").code)
        finally:
            with trio.CancelScope(shield=True):
                await lane.close()

    def _admit(self, operation: t.Operation) -> None:
        if operation.name not in self._offered:
            raise Refused("unknown_operation", operation=operation.name)


def _admit_over_http(operation: t.Operation) -> None:
    if operation.http is None:
        raise Refused("unknown_operation", operation=operation.name)


async def _carry(
    stream: MessageStream,
    reader: Reader,
    rest: Sequence[FromDialling | FromAnswering],
    take: Callable[[Any], None],
) -> None:
    """Give out what comes, until the other side leaves. Raises `ParlerError` for what may not come."""
    for message in rest:
        take(_of_lane(message))
    while (data := await stream.receive()) is not None:
        for message in reader.feed(data):
            take(_of_lane(message))


def _of_lane(message: FromDialling | FromAnswering) -> OpenLane | OpenPipe | OpenToken | LaneData | CloseLane:
    if isinstance(message, OpenLane | OpenPipe | OpenToken | LaneData | CloseLane):
        return message
    if isinstance(message, Goodbye):
        raise heard(message.error)
    raise ParlerError("bad_frame", "A frame came before its turn.")


async def _expect(stream: MessageStream, reader: Reader, kind: type[Any]) -> tuple[Any, list[Any]]:
    while (data := await stream.receive()) is not None:
        messages = list(reader.feed(data))
        if not messages:
            continue
        first, *rest = messages
        if isinstance(first, Goodbye):
            raise heard(first.error)
        if not isinstance(first, kind):
            raise ParlerError("bad_frame", "A frame came before its turn.")
        return first, rest
    raise ParlerError("home_unreachable")
