"""The relay's end of every link: proves itself, judges the other's proof, then answers calls from the engine.

    state      what happens                                              what ends it
    hello      waits for the hello, within `proof_seconds` for all       a hello, or a goodbye that refuses one
    proof      has sent the challenge, waits for the proof               a proof that is good, or a goodbye
    calls      answers the operations of the plane `link`, and no        the daemon leaves or breaks the protocol,
               others                                                    `end`, `drain`, a reader that takes nothing
    ended      sends the goodbye and what waits, then closes             `farewell_seconds`

A person's key logs in. The join secret only lets a key in that this relay does not know yet, or that was kicked: the
secret changes at every kick, so whoever shows the new one was given it anew. Not here: addresses, TLS and HTTP
(`door`), what an operation does (the engine), which agents are there (the handlers of `link.attach`). Above: `door`.
Below: `wire.link`, `identity.transcript`, `connections`. Invariants: nobody is answered before the proof; nothing is
kept of somebody who is not proven; `engine.disconnect` follows every `engine.connect`; what fails in one link ends that
link alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import trio

import parlerd
from parlerd.bounded import Bounded
from parlerd.connections.calls import Calls, coded
from parlerd.connections.outgoing import CAP, STALL_SECONDS, Outgoing
from parlerd.connections.share import Share
from parlerd.connections.stream import MessageStream
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import HomeId, Label, Millis, PrincipalId, slug
from parlerd.engine import authority
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.face import EngineFace
from parlerd.engine.throttle import Bucket
from parlerd.identity import nkeys
from parlerd.identity.transcript import Signs, Transcript
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.wire.calls import Ended
from parlerd.wire.frames import PREFIX
from parlerd.wire.link import (
    ASKED_LIMIT,
    LINK_PROTOCOL,
    NONCE,
    Challenge,
    FromUplink,
    LinkHello,
    LinkWelcome,
    Proof,
    RelayPeer,
    close_code,
    told,
)
from relay.turnstile import Anybody, Visitor

E = TypeVar("E")

DRAIN_SECONDS: Final = 2.0
"""How long calls that do not wait may take to finish when the relay stops."""


AWAY_EACH_S: Final = 0.2
"""The longest time between two links that are sent away."""
MAX_PACES: Final = 4096


BETWEEN_RELAYS: Final = frozenset({"link.compare"})
"""What only another relay asks, over a daemon's lane."""
OFFERED: Final = frozenset(name for name, operation in OPERATIONS.items() if operation.plane == "link") - BETWEEN_RELAYS
"""What a relay answers over a link. The door asks this before it decodes a call, and the engine asks the caller's
authority again."""


class Enrolment(Protocol):
    """Whom the relay knows, and the secret by which it comes to know somebody."""

    def is_enrolled(self, principal: PrincipalId) -> bool: ...

    def is_kicked(self, principal: PrincipalId) -> bool:
        """Whether this principal was here and was sent away."""
        ...

    def secret(self) -> bytes:
        """The join secret as it is now."""
        ...

    async def enrol(self, principal: PrincipalId, name: Label) -> None:
        """Know this principal from now on; on the disk when this returns. One that was kicked is so no longer."""
        ...


class Keys(Signs, Protocol):
    """The relay's own key."""

    @property
    def home(self) -> HomeId: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of links. Seconds are on the event loop's clock."""

    links: int = 256
    """How many links there may be."""
    links_of_one: int = 4
    """How many of them one principal may have. One more ends the oldest, which may be one whose other end is gone
    without a word."""
    proof_seconds: float = 5.0
    """How long the hello and the proof may take together."""
    farewell_seconds: float = 2.0
    """How long a link that ends may take to send what waits, and the engine to let go of the caller."""
    bytes_under_way: int = 8 * 1024 * 1024
    """How many bytes of parameters may be under way on one link before the relay reads no further."""
    calls_of_one_agent: int = 128
    """How many calls of one agent may be under way on one link; further ones are refused with `busy`."""
    bytes_of_one_agent: int = 4 * 1024 * 1024
    """How many bytes of parameters of these."""
    calls_a_second: float = 2_000.0
    """How many calls of one person are taken in a second, over all of their links, after a second's worth at once.
    Beyond that the relay reads their links no faster, so that one person's calls do not take the processor that all
    share."""
    outgoing_cap: int = CAP
    stall_seconds: float = STALL_SECONDS


class Links:
    """Every link of one relay. `serve` runs one; `drain` sees all of them out."""

    def __init__(
        self,
        engine: EngineFace,
        enrolment: Enrolment,
        keys: Keys,
        *,
        name: str,
        log_id: str,
        addresses: Callable[[], Sequence[str]] = tuple,
        now: Callable[[], Millis],
        version: str = parlerd.__version__,
        offered: Collection[str] | None = None,
        limits: Limits | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        keep_up: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.engine = engine
        """What answers calls."""
        self.enrolment = enrolment
        """Who is known."""
        self.keys = keys
        """The relay's key."""
        self.name = name
        """What the relay's person calls it."""
        self.log_id = log_id
        """Which log the relay keeps."""
        self.addresses = addresses
        """Where the relay can be reached now."""
        self.now = now
        """The wall clock."""
        self.version = version
        """The version of this program."""
        self.offered = frozenset(OFFERED if offered is None else offered)
        """The names of the operations that are answered."""
        self.limits = limits or Limits()
        """The bounds of links."""
        self.random_bytes = random_bytes
        """Where nonces come from."""
        self.keep_up = keep_up
        """Makes known who is known now, where other relays let people in and put them out."""
        # The links whose proof was accepted, the oldest first.
        self._proven: list[Link] = []
        # How many calls each person may make now. Who was forgotten begins anew, and made none for a long time.
        self._paces: Bounded[PrincipalId, Bucket] = Bounded(MAX_PACES)
        self.accepted = 0
        """How many links were ever accepted."""
        self.refused = 0
        """How many were refused for their hello or their proof."""
        self.is_draining = False
        """Whether no link is begun any more."""
        self._is_cut_off = False

    @property
    def proven(self) -> int:
        """How many links there are."""
        return len(self._proven)

    @property
    def calls_under_way(self) -> int:
        """Calls and streams of all links that are not answered yet."""
        return sum(link.calls_under_way for link in self._proven)

    @property
    def bytes_under_way(self) -> int:
        """The bytes of the parameters of all calls that are not answered yet."""
        return sum(link.bytes_under_way for link in self._proven)

    def pace_of(self, principal: PrincipalId) -> Bucket:
        """How many calls this person may make now."""
        pace = self._paces.get(principal)
        if pace is None:
            pace = self._paces[principal] = Bucket(self.limits.calls_a_second, self.limits.calls_a_second)
        return pace

    def of(self, principal: PrincipalId) -> int:
        """How many links this principal has."""
        return sum(link.principal == principal for link in self._proven)

    async def serve(self, stream: MessageStream, visitor: Visitor | None = None) -> None:
        """Serve one link until either side ends it, and close its stream. `visitor` is told of the proof and of wrong
        secrets. Raises nothing but cancellation."""
        link = Link(self, stream, visitor or Anybody())
        try:
            await link.run()
        finally:
            if link in self._proven:
                self._proven.remove(link)

    def admit(self, link: Link) -> None:
        """Take a link whose proof is good. Raises `busy` when there are as many as there may be, and `draining`."""
        if self.is_draining or self._is_cut_off:
            raise ParlerError("draining")
        own = [other for other in self._proven if other.principal == link.principal]
        if len(own) >= self.limits.links_of_one:
            own[0].close(ParlerError("busy", "Newer links of the same person took its place."))
            self._proven.remove(own[0])
        elif len(self._proven) >= self.limits.links:
            raise ParlerError("busy")
        self._proven.append(link)
        self.accepted += 1

    def end(self, principal: PrincipalId) -> None:
        """End the links of a principal that was kicked."""
        for link in self._proven:
            if link.principal == principal:
                link.close(ParlerError("kicked"))

    def supersede(self, caller: Caller) -> None:
        """End the link of this caller, whose daemon has a newer one at another relay, or here."""
        for link in self._proven:
            if link.session == caller.facts.session:
                link.close(ParlerError("draining"))

    async def send_away(self, seconds: float) -> None:
        """Begin no more links, and say to one after the other to come back, within this time: at another relay, which
        does not have to take all of them in one moment."""
        self.is_draining = True
        leaving = list(self._proven)
        for link in leaving:
            link.close(ParlerError("draining"))
            await trio.sleep(min(AWAY_EACH_S, seconds / len(leaving)))

    def cut_off(self, is_so: bool) -> None:
        """Whether what this relay shows may be old: then it says to everyone to come back, at once and whoever
        comes."""
        self._is_cut_off = is_so
        for link in self._proven if is_so else ():
            link.close(ParlerError("draining"))

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Begin no more links and no more calls, answer with `draining` the calls that only wait and the streams, let
        the others finish, and say to everyone to come back. This takes at most `seconds`, and the time for the
        goodbyes. Do not call it from the task of a link."""
        self.is_draining = True
        for link in self._proven:
            link.drain()
        with trio.move_on_after(seconds):
            for link in list(self._proven):
                await link.idle()
        for link in self._proven:
            link.close(ParlerError("draining"))


class Link:
    """One stream, from its hello to its end."""

    def __init__(self, links: Links, stream: MessageStream, visitor: Visitor) -> None:
        self._links = links
        self._stream = stream
        # Who came, as the door counts them.
        self._visitor = visitor
        # What may be said when, as a state machine; the frames that wait to be sent; the calls under way.
        self._peer = RelayPeer()
        self._out = Outgoing(
            stream,
            cap=links.limits.outgoing_cap,
            stall_seconds=links.limits.stall_seconds,
            broken=lambda: self._scope.cancel(),
        )
        share = Share(links.limits.calls_of_one_agent, links.limits.bytes_of_one_agent)
        self._calls = Calls(self._peer, self._out, links.engine, self._admit, told, share)
        # Cancelled to end the conversation. Whoever cancels it sets `_farewell` first, if there is something to say.
        self._scope = trio.CancelScope()
        # The goodbye to send at the end; None when the other side left by itself.
        self._farewell: ParlerError | None = None
        self.principal: PrincipalId | None = None
        """Whose link it is; None until the proof."""
        self.session = secrets.token_hex(10)
        """What the engine calls it."""

    @property
    def calls_under_way(self) -> int:
        return self._calls.under_way

    @property
    def bytes_under_way(self) -> int:
        return self._calls.bytes_under_way

    async def idle(self) -> None:
        """Wait until no call is under way."""
        await self._calls.idle()

    def drain(self) -> None:
        """Begin no more calls, and answer with `draining` those that only wait."""
        self._calls.drain()

    def close(self, error: ParlerError) -> None:
        """End the link with a goodbye that says why."""
        if self._farewell is None:
            self._farewell = error
        self._scope.cancel()

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but cancellation."""
        code = 1001
        try:
            async with self._out.sending():
                try:
                    with self._scope:
                        await self._converse()
                # This is the boundary of a link: whatever went wrong inside must not reach the door or another link.
                # `except*` lets a cancellation pass that comes in the same group.
                except* Exception as errors:
                    self._farewell = coded(errors, "link")
                    self._links.refused += self.principal is None
                if self._farewell is not None:
                    code = close_code(self._farewell)
                    self._out.send(self._peer.goodbye(self._farewell))
                with trio.move_on_after(self._links.limits.farewell_seconds):
                    await self._out.drained(below=1)
        finally:
            # Bounded by itself.
            with trio.CancelScope(shield=True):
                await self._stream.close(code)

    async def _read(self) -> list[FromUplink]:
        """The next events; none when the other side is gone."""
        while (data := await self._stream.receive()) is not None:
            if events := self._peer.receive(data):
                return events
        return []

    # -- the proof -----------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        transcript = None
        with trio.move_on_after(self._links.limits.proof_seconds) as limit:
            transcript = await self._prove()
        if limit.cancelled_caught:
            raise ParlerError("proof_late")
        if transcript is None:
            return
        links, principal = self._links, transcript.principal
        self.principal = principal
        links.admit(self)
        self._visitor.proven()
        self._stream.limit = PREFIX + ASKED_LIMIT
        facts = Facts(
            session=self.session,
            via="link",
            authority=authority.of_link(principal),
            channel=transcript.channel,
        )
        caller = Caller(facts)
        try:
            await links.engine.connect(caller)
            self._out.send(self._peer.welcome(self._welcome()))
            self._farewell = await self._calls.answer(caller, (), self._next) or self._farewell
        finally:
            with trio.move_on_after(links.limits.farewell_seconds, shield=True):
                await links.engine.disconnect(caller)

    async def _prove(self) -> Transcript | None:
        """Prove this relay and judge the other's proof. None when the other side left; raises `ParlerError` for a proof
        that is not good."""
        links = self._links
        hello = await self._expect(LinkHello)
        if hello is None:
            return None
        if not nkeys.is_public(hello.principal, "principal"):
            raise ParlerError("proof_refused")
        transcript = Transcript(
            links.keys.home, hello.principal, hello.nonce, links.random_bytes(NONCE), self._stream.certificate
        )
        if hello.enrol:
            # Before the relay's own proof, with which a guess can be compared as well.
            await self._visitor.before_secret()
        secret = links.enrolment.secret() if hello.enrol else b""
        challenge = Challenge(
            home=transcript.home,
            nonce=transcript.relay_nonce,
            signature=transcript.sign("relay", links.keys),
            mac=transcript.mac("relay", secret) if hello.enrol else b"",
            clock=links.now(),
            log=links.log_id,
        )
        self._out.send(self._peer.challenge(challenge))
        proof = await self._expect(Proof)
        if proof is None:
            return None
        if not transcript.is_signed("daemon", proof.signature):
            raise ParlerError("proof_refused")
        await self._let_in(hello, transcript, secret, proof)
        return transcript

    async def _let_in(self, hello: LinkHello, transcript: Transcript, secret: bytes, proof: Proof) -> None:
        enrolment, principal = self._links.enrolment, transcript.principal
        await self._links.keep_up()
        if hello.enrol:
            # A kick may have changed the secret while the proof was on its way.
            if not transcript.knows("daemon", secret, proof.mac) or secret != enrolment.secret():
                raise ParlerError("wrong_secret")
            await self._visitor.right_secret()
            if not enrolment.is_enrolled(principal):
                # Who waits for the disk no longer waits for the other side.
                with trio.CancelScope(shield=True):
                    await enrolment.enrol(principal, slug(hello.name, fallback="someone"))
        if enrolment.is_kicked(principal):
            raise ParlerError("kicked")
        if not enrolment.is_enrolled(principal):
            raise ParlerError("not_enrolled")

    async def _expect(self, kind: type[E]) -> E | None:
        events = await self._read()
        if not events:
            return None
        first = events[0]
        if isinstance(first, Ended):
            raise first.error
        if len(events) > 1:
            # The state machine lets nothing follow a hello or a proof, so what follows is the end.
            assert isinstance(events[1], Ended)
            raise events[1].error
        assert isinstance(first, kind)
        return first

    # -- calls ---------------------------------------------------------------------------------------------

    def _welcome(self) -> LinkWelcome:
        links = self._links
        return LinkWelcome(
            protocol=LINK_PROTOCOL,
            version=links.version,
            operations=tuple(sorted(links.offered)),
            name=links.name,
            log=links.log_id,
            addresses=tuple(links.addresses()),
        )

    async def _next(self) -> list[FromUplink]:
        await self._calls.below(self._links.limits.bytes_under_way)
        assert self.principal is not None
        pace = self._links.pace_of(self.principal)
        if (debt := pace.seconds_until(0.0)) > 0:
            await trio.sleep(debt)
        events = await self._read()
        pace.refill()
        pace.tokens -= len(events)
        return events

    def _admit(self, operation: t.Operation) -> None:
        if operation.name not in self._links.offered:
            raise Refused("unknown_operation", operation=operation.name)
