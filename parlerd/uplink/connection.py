"""The daemon's end of one link: checks who answers, proves who asks, then makes calls and follows streams.

The relay is known by its key alone. It signs the certificate that this end was shown, so a program in between, which
has another certificate, is found out before anything is proved to it. Not here: addresses and sockets (`dial`), when to
connect again and what to ask (the rest of this package). Above: that rest. Below: `wire.link`, `identity.transcript`,
`connections`. Invariants: nothing is proved to a relay whose own proof is not good; what a relay says of an error is a
code, numbers and labels; every call ends, with an answer or with the reason why the link is over.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import cache, partial
from typing import Any, Final, Protocol, TypeVar

import trio

import parlerd
from parlerd.connections.inbox import Inbox
from parlerd.connections.outgoing import Outgoing
from parlerd.connections.stream import MessageStream
from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Label, Millis, PrincipalId
from parlerd.identity.transcript import Signs, Transcript
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.wire import codec
from parlerd.wire.calls import CREDIT, Ended
from parlerd.wire.frames import FRAME_LIMIT, PREFIX
from parlerd.wire.link import (
    KICKED,
    LATER,
    LINK_IN_FLIGHT,
    LINK_PROTOCOL,
    NONCE,
    NOT_PROVED,
    OTHER_VERSION,
    Challenge,
    FromRelay,
    LinkHello,
    LinkWelcome,
    Proof,
    UplinkPeer,
    close_code,
    heard,
)
from parlerd.wire.messages import Failure, Goodbye, Item, Reply

PROOF_SECONDS: Final = 10.0
"""How long a relay may take to prove itself and to welcome us."""
CALL_S: Final = 5.0
"""How long whoever keeps a link waits for the answer to a call."""
FAREWELL_SECONDS: Final = 2.0
"""How long a relay that said goodbye may take to close the stream."""
MOST_PENDING: Final = 2 * 1024 * 1024
"""How many bytes may wait to be sent before no further call is begun: half of what would end the link."""
_OF_CODE: Final = {KICKED: "kicked", OTHER_VERSION: "unsupported_version", NOT_PROVED: "not_enrolled", LATER: "busy"}
"""What a close code says where no goodbye came."""
FINAL: Final = frozenset(
    {"kicked", "not_enrolled", "proof_refused", "unsupported_version", "wrong_relay", "wrong_secret"}
)
"""Codes after which dialling again would end the same way, until a person did something."""

R = TypeVar("R", bound=t.Result)


class Keys(Signs, Protocol):
    """The person's key, which proves who asks. The key ring is one."""

    @property
    def principal(self) -> PrincipalId: ...


class Pending:
    """A call whose place among what is sent is taken. Ask for its `result`, or let it be told, once."""

    def __init__(self, link: LinkConnection, op: str, id: int) -> None:
        self._link = link
        self._op = op
        self._id = id

    async def result(self, seconds: float | None = None) -> t.Result:
        """The answer, within `seconds` where they are given; else `home_unreachable`. Leaving without it withdraws the
        call. Raises `ParlerError`."""
        try:
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                return self._result_of(await self._link.answers.next_of(self._id))
            raise ParlerError("home_unreachable", op=self._op)
        finally:
            self._link.forget(self._id)

    def when_done(self, then: Callable[[t.Result | None, ParlerError | None], None]) -> None:
        """`result` without a task that waits: `then`, which must not raise, is called once, with the answer or with why
        there is none. Ask before the answer can come: in the turn of the loop that began the call."""
        self._link.tell(self._id, partial(self._answered, then))

    def _answered(
        self, then: Callable[[t.Result | None, ParlerError | None], None], answer: Reply | Failure | ParlerError
    ) -> None:
        try:
            if isinstance(answer, ParlerError):
                raise answer
            result = self._result_of(answer)
        except ParlerError as error:
            then(None, error)
        else:
            then(result, None)

    def _result_of(self, answer: Reply | Failure | Item) -> t.Result:
        if isinstance(answer, Failure):
            raise heard(answer.error)
        if not isinstance(answer, Reply):
            raise ParlerError("relay_failed", "The relay's answer is not one to this question.", op=self._op)
        result: t.Result = _decoded(self._op, answer.result)
        return result


class LinkConnection:
    """A link whose both ends are proven. Made by `connected`; used by any number of tasks."""

    def __init__(self, peer: UplinkPeer, out: Outgoing, welcome: LinkWelcome, about: Transcript, ahead: Millis) -> None:
        self._peer = peer
        self._out = out
        self.home = about.home
        """The relay's key, which it proved."""
        self.welcome = welcome
        """What the relay says of itself."""
        self.channel = about.channel
        """The name of this link, which each agent signs to be there."""
        self.clock_ahead_ms = ahead
        """How far the relay's clock is ahead of ours."""
        self.closed = trio.Event()
        """Set once the link is over."""
        self.lost: ParlerError | None = None
        """Why it is over; None while it is not."""
        self.answers: Final = Inbox()
        """What came for the calls that somebody waits for; where none can come it raises the reason in `lost`."""
        # The calls for which nobody waits, and who is told their answer.
        self._told: dict[int, Callable[[Reply | Failure | ParlerError], None]] = {}
        # Set when a call was answered. Whoever waits for a place among the calls under way makes a new event.
        self._answered = trio.Event()

    # -- asking --------------------------------------------------------------------------------------------

    def begin(self, op: str, params: t.Params) -> Pending:
        """Send a call: its place among what is sent is taken when this returns. Raises the reason in `lost` when the
        link is over, `relay_older`, `frame_too_large`, and `busy` while the link carries no more (see `room`)."""
        return Pending(self, op, self._begin(op, params))

    async def room(self) -> None:
        """Wait until the link takes another call, or is over."""
        while self.lost is None and self._is_full:
            if self._out.pending >= MOST_PENDING:
                await self._out.drained(MOST_PENDING)
            else:
                if self._answered.is_set():
                    self._answered = trio.Event()
                await self._answered.wait()

    async def call(self, op: str, params: t.Params, seconds: float | None = None) -> t.Result:
        """Ask and wait for the answer, first of all for room. Raises as `begin` and `Pending.result` do."""
        with trio.move_on_after(float("inf") if seconds is None else seconds):
            await self.room()
            return await self.begin(op, params).result()
        raise ParlerError("home_unreachable", op=op)

    @property
    def _is_full(self) -> bool:
        return self._peer.under_way >= LINK_IN_FLIGHT or self._out.pending >= MOST_PENDING

    @asynccontextmanager
    async def stream(self, op: str, params: t.Params) -> AsyncIterator[AsyncIterator[t.Result]]:
        """Follow an operation. The iterator ends when the relay ends the stream in order, and raises `ParlerError` when
        it breaks off. Leaving the block withdraws the stream."""
        id = self._begin(op, params)
        try:
            async with aclosing(self._items(op, id)) as items:
                yield items
        finally:
            self.forget(id)

    def _begin(self, op: str, params: t.Params) -> int:
        if self.lost is not None:
            raise self.lost
        if op not in self.welcome.operations:
            raise ParlerError("relay_older", op=op)
        if self._is_full:
            raise ParlerError("busy")
        id, data = self._peer.call(op, codec.encode(params))
        self.answers.open(id)
        self._out.send(data)
        return id

    async def _items(self, op: str, id: int) -> AsyncGenerator[t.Result, None]:
        while isinstance(answer := await self.answers.next_of(id), Item):
            yield _decoded(op, answer.item)
            if more := self._peer.took(id):
                self._out.send(more)
        if isinstance(answer, Failure):
            raise heard(answer.error)

    def tell(self, id: int, told: Callable[[Reply | Failure | ParlerError], None]) -> None:
        """Nobody waits for this call: `told` hears its answer, or why the link was over before."""
        self.answers.close(id)
        if self.lost is None:
            self._told[id] = told
        else:
            told(self.lost)

    def forget(self, id: int) -> None:
        """Nobody waits for this call any more. It is withdrawn if it is not answered."""
        self.answers.close(id)
        if self.lost is None and (data := self._peer.cancel(id)):
            self._out.send(data)

    # -- hearing -------------------------------------------------------------------------------------------

    def take(self, event: FromRelay) -> None:
        """Something came."""
        if isinstance(event, Goodbye):
            self.lose(heard(event.error))
        elif isinstance(event, Ended):
            self.lose(event.error)
        elif isinstance(event, Reply | Failure | Item):
            if isinstance(event, Item) and self.answers.untaken(event.id) >= CREDIT:
                self.lose(ParlerError("bad_frame", "The relay sent more than it was given credit for."))
                return
            self.answers.put(event)
            if not isinstance(event, Item):
                self._answered.set()
                if (told := self._told.pop(event.id, None)) is not None:
                    told(event)

    def lose(self, error: ParlerError) -> None:
        """The link is over. The first reason counts."""
        if self.lost is not None:
            return
        self.lost = error
        self.closed.set()
        self.answers.lose(error)
        self._answered.set()
        unanswered, self._told = self._told, {}
        for told in unanswered.values():
            told(error)


@asynccontextmanager
async def connected(
    stream: MessageStream,
    *,
    fits: Callable[[HomeId], bool],
    keys: Keys,
    secret: bytes | None = None,
    name: Label,
    now: Callable[[], Millis],
    version: str = parlerd.__version__,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> AsyncIterator[LinkConnection]:
    """A link over `stream` to the relay whose key `fits` accepts, until the block ends; then the stream is closed.

    With `secret` the principal is enrolled if it is not yet, and the secret is checked in any case. Raises
    `ParlerError`: `wrong_relay`, `wrong_secret`, `not_enrolled`, `kicked`, `unsupported_version`, `home_unreachable`
    and what else a relay may say. When the link is lost, nothing is raised into the block: `closed` is set, and every
    call says why.
    """
    gone = trio.Event()
    peer, out = UplinkPeer(), Outgoing(stream, broken=gone.set)
    failure: Exception | None = None
    code = 1000
    async with trio.open_nursery() as nursery, out.sending():
        try:
            greeting = _Greeting(stream, peer, out, fits, keys, secret)
            with trio.move_on_after(PROOF_SECONDS) as limit:
                link, rest = await greeting.run(name, version, random_bytes(NONCE), now)
            if limit.cancelled_caught:
                raise ParlerError("home_unreachable", "The relay did not prove who it is in time.")
            stream.limit = PREFIX + FRAME_LIMIT
            nursery.start_soon(_listen, stream, peer, link, rest)
            nursery.start_soon(_lose_when_gone, gone, link)
            try:
                yield link
            finally:
                # Who holds the link longer than this block asks nobody any more, and is not answered.
                link.lose(ParlerError("home_unreachable"))
        except ParlerError as error:
            failure, code = error, close_code(error)
        except Exception as error:
            failure = error
        finally:
            with trio.CancelScope(shield=True):
                await stream.close(code)
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _listen(stream: MessageStream, peer: UplinkPeer, link: LinkConnection, rest: list[FromRelay]) -> None:
    for event in rest:
        link.take(event)
    while link.lost is None and (data := await stream.receive()) is not None:
        for event in peer.receive(data):
            link.take(event)
    link.lose(_reason(stream.close_code))
    # Who said goodbye closes the stream, with a code that says the same.
    with trio.move_on_after(FAREWELL_SECONDS):
        while await stream.receive() is not None:
            pass
    await stream.close()


async def _lose_when_gone(gone: trio.Event, link: LinkConnection) -> None:
    await gone.wait()
    # The end of the stream may come with a reason: whoever listens hears it first.
    with trio.move_on_after(1):
        await link.closed.wait()
    link.lose(ParlerError("home_unreachable"))


def _reason(code: int | None) -> ParlerError:
    """Why a stream ended that ended without a goodbye."""
    said = _OF_CODE.get(code or 0)
    return ParlerError("home_unreachable") if said is None else ParlerError(said)


class _Greeting:
    """The handshake of one link, from the daemon's side."""

    def __init__(
        self,
        stream: MessageStream,
        peer: UplinkPeer,
        out: Outgoing,
        fits: Callable[[HomeId], bool],
        keys: Keys,
        secret: bytes | None,
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._out = out
        self._fits = fits
        self._keys = keys
        self._secret = secret

    async def run(
        self, name: Label, version: str, nonce: bytes, now: Callable[[], Millis]
    ) -> tuple[LinkConnection, list[FromRelay]]:
        """The link, and what came together with the welcome. Raises `ParlerError`."""
        enrol = self._secret is not None
        principal = self._keys.principal
        hello = LinkHello(
            protocol=LINK_PROTOCOL, version=version, nonce=nonce, principal=principal, enrol=enrol, name=name
        )
        self._out.send(self._peer.hello(hello))
        challenge, _ = await self._expect(Challenge)
        if not self._fits(challenge.home):
            raise ParlerError("wrong_relay")
        transcript = Transcript(challenge.home, principal, nonce, challenge.nonce, self._stream.certificate)
        if not transcript.is_signed("relay", challenge.signature):
            raise ParlerError("wrong_relay")
        mac = b""
        if self._secret is not None:
            if not transcript.knows("relay", self._secret, challenge.mac):
                raise ParlerError("wrong_secret")
            mac = transcript.mac("daemon", self._secret)
        ahead = Millis(challenge.clock - now())
        self._out.send(self._peer.proof(Proof(signature=transcript.sign("daemon", self._keys), mac=mac)))
        welcome, rest = await self._expect(LinkWelcome)
        return LinkConnection(self._peer, self._out, welcome, transcript, ahead), rest

    async def _expect(self, kind: type[M]) -> tuple[M, list[FromRelay]]:
        while (data := await self._stream.receive()) is not None:
            events = self._peer.receive(data)
            if not events:
                continue
            first, *rest = events
            if isinstance(first, Goodbye):
                raise heard(first.error)
            if isinstance(first, Ended):
                raise first.error
            assert isinstance(first, kind)
            return first, rest
        raise _reason(self._stream.close_code)


M = TypeVar("M", Challenge, LinkWelcome)


@cache
def _result(op: str) -> codec.Shape[Any]:
    return codec.Shape(OPERATIONS[op].result, "relay_failed")


def _decoded(op: str, payload: Any) -> Any:
    try:
        return _result(op).decode(payload)
    except ParlerError:
        # What the decoder says of the bytes names their fields, which the relay chose.
        raise ParlerError("relay_failed", "The relay's answer is not one to this question.", op=op) from None
