"""The link between a daemon and a relay, as a state machine at each end: who proves what when, and then calls.

    state       the relay hears       the daemon hears             what leaves the state
    hello       link_hello            nothing                      the relay hears the hello; the daemon says it
    challenge   nothing               challenge, goodbye           the relay says the challenge; the daemon hears it
    proof       proof                 goodbye                      the relay hears the proof; the daemon says it
    welcome     nothing               link_welcome, goodbye        the relay says the welcome; the daemon hears it
    calls       call, cancel, credit  reply, failure, item,        a goodbye: `ended`
                                      goodbye
    ended       nothing               nothing

Anything that the table does not allow is a violation: the end that hears it is `ended`, and its last event is `Ended`.
The daemon is the end that dials. It proves nothing before the relay has proved its key, and the secret of a first
enrolment never travels: each side shows that it knows the secret, the relay first.

Not here: what is signed and what a proof is worth (`parlerd.identity.transcript`), sockets and deadlines
(`parlerd.connections`). Above: `relay.link`, `parlerd.uplink.connection`. Below: `calls`, `codec`, `frames`.
Invariants: any split of the bytes gives the same events; after `Ended` an end hears nothing more; an error that crosses
the link carries no sentence of the side that sent it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.errors import ERRORS, ErrorBody, ParlerError
from parlerd.core.model import HomeId, PrincipalId
from parlerd.wire import codec
from parlerd.wire.calls import Answering, Asking, Ended, Overflow, pack
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, FrameReader
from parlerd.wire.messages import Call, Cancel, Credit, Failure, Goodbye, Item, Reply

LINK_PROTOCOL: Final = 1
"""The version of the link. It is one of its own, because two homes are upgraded at different times."""
LINK_IN_FLIGHT: Final = 256
"""The most calls and streams under way on one link: a link carries what all agents of a person ask."""
ASKED_LIMIT: Final = 1024 * 1024
"""The most bytes in a frame of the daemon after the welcome. The largest is a call with the longest parameters."""
NONCE: Final = 32

COME_BACK: Final = 1012
LATER: Final = 1013
NOT_PROVED: Final = 4001
OTHER_VERSION: Final = 4002
KICKED: Final = 4003
_BROKEN: Final = 1002
_TOO_LARGE: Final = 1009
_MISTAKE: Final = 1011

_CLOSE_CODES: Final[dict[str, int]] = {
    "draining": COME_BACK,
    "busy": LATER,
    "throttled": LATER,
    "proof_late": LATER,
    "not_enrolled": NOT_PROVED,
    "proof_refused": NOT_PROVED,
    "wrong_secret": NOT_PROVED,
    "wrong_relay": NOT_PROVED,
    "unsupported_version": OTHER_VERSION,
    "kicked": KICKED,
    "bad_frame": _BROKEN,
    "frame_too_large": _TOO_LARGE,
}

Nonce = Annotated[bytes, Meta(min_length=NONCE, max_length=NONCE)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Mac = Annotated[bytes, Meta(max_length=32)]
Word = Annotated[str, Meta(max_length=64)]


class LinkHello(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="link_hello", omit_defaults=True):
    """Who dials, before anything is proved. Nothing of the machine is in it."""

    protocol: int
    version: Word
    """The version of the program."""
    nonce: Nonce
    principal: Annotated[PrincipalId, Meta(max_length=64)]
    """The person whose key will be shown."""
    enrol: bool = False
    """Whether the secret of this relay will be shown too, for a principal that the relay does not know yet."""
    name: Word = ""
    """What the person's home calls itself."""


class Challenge(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="challenge", omit_defaults=True):
    """The relay proves its key, and where the hello asked to enrol, that it knows the secret."""

    home: Annotated[HomeId, Meta(max_length=64)]
    nonce: Nonce
    signature: Signature
    mac: Mac = b""
    clock: int
    """The relay's clock, in epoch milliseconds."""
    log: Word
    """Which log the relay keeps; another one under the same key is not the one whose rooms were known."""


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="proof", omit_defaults=True):
    """The daemon proves the principal's key, and where it enrols, that it knows the secret."""

    signature: Signature
    mac: Mac = b""


class LinkWelcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="link_welcome", omit_defaults=True):
    """The proof is accepted."""

    protocol: int
    version: Word
    """The version of the relay's program."""
    operations: Annotated[tuple[Word, ...], Meta(max_length=512)]
    """The operations that the relay answers over a link."""
    name: Word = ""
    """What the relay's person calls it."""
    log: Word
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=16)] = ()
    """Where else the relay can be reached, each as `host:port`."""


_LINK_HELLO: Final = codec.Shape[LinkHello](LinkHello)
_PROOF: Final = codec.Shape[Proof](Proof)
_CHALLENGE: Final = codec.Shape[Challenge | Goodbye](Challenge | Goodbye)
_GOODBYE: Final = codec.Shape[Goodbye](Goodbye)
_LINK_WELCOME: Final = codec.Shape[LinkWelcome | Goodbye](LinkWelcome | Goodbye)

FromUplink = LinkHello | Proof | Call | Cancel | Credit | Overflow | Ended
"""What the relay's end hears."""
FromRelay = Challenge | LinkWelcome | Goodbye | Reply | Failure | Item | Ended
"""What the daemon's end hears."""

State = Literal["hello", "challenge", "proof", "welcome", "calls", "ended"]


def close_code(error: ParlerError) -> int:
    """With which code the transport is closed for this error, so that the other side knows whether to come back even
    where a goodbye did not arrive."""
    return _CLOSE_CODES.get(error.code, _MISTAKE)


_DETAIL: Final = re.compile(r"[a-z_]{1,32}\Z")
_TEXT: Final = re.compile(r"[A-Za-z0-9._@#/:-]{1,128}\Z")
_MOST_DETAILS: Final = 16
_MOST_RETRY_MS: Final = 3_600_000
_OWN_TROUBLE: Final = {
    code for code, spec in ERRORS.items() if spec.fault == "home" and spec.scope == "home" and code not in _CLOSE_CODES
} | {"newer_log"}
"""Codes that say how it is with a whole home, or with its install. Their sentences are about the home of whoever reads
them."""


_SENTENCES: Final = {"draining": "The relay is about to restart."}
"""For codes whose own sentence speaks of the daemon."""


def _plain(details: dict[str, Any]) -> dict[str, Any]:
    """The details that are numbers, ids or labels."""
    kept: dict[str, Any] = {}
    for name, value in details.items():
        if len(kept) < _MOST_DETAILS and _DETAIL.match(name):
            is_number = isinstance(value, int) and -(1 << 63) <= value < 1 << 63
            if is_number or (isinstance(value, str) and _TEXT.match(value)):
                kept[name] = value
    return kept


def told(error: ParlerError) -> ErrorBody:
    """What of an error crosses a link: its code, when to try again, and details that are numbers, ids or labels. The
    reader makes the sentences, so that nobody's sentences reach a model or a person over a link."""
    return ErrorBody(
        code=error.code,
        message="",
        action=error.spec.action,
        scope=error.spec.scope,
        retryable=error.spec.retryable,
        retry_after_ms=error.retry_after_ms,
        details=_plain(error.details),
    )


def heard(body: ErrorBody) -> ParlerError:
    """The error that a relay told, in sentences of our own. A code that this version does not know is `relay_refused`,
    and trouble of the relay's own, which we would otherwise describe as trouble of this home, is `relay_failed`."""
    details = _plain(body.details)
    wait = body.retry_after_ms
    if wait is not None:
        wait = max(0, min(wait, _MOST_RETRY_MS))
    code = body.code
    if code not in ERRORS:
        code = "relay_refused"
    elif code in _OWN_TROUBLE:
        code = "relay_failed"
    error = ParlerError(code, _SENTENCES.get(code), retry_after_ms=wait)
    if code != body.code and _DETAIL.match(body.code):
        details["said"] = body.code
    # The details are not passed as keywords: the other side chose their names, and a name may be a parameter's.
    error.details = details
    return error


class RelayPeer(Answering):
    """The relay's end. `receive` never raises: a violation is the last event."""

    __slots__ = ("_reader", "state")

    def __init__(self) -> None:
        super().__init__(LINK_IN_FLIGHT)
        self.state: State = "hello"
        """Where the conversation stands; see the table at the head of this module."""
        self._reader = FrameReader(FIRST_FRAME_LIMIT)

    @classmethod
    def proven(cls) -> RelayPeer:
        """An end that begins with calls: who is on the other side was proved elsewhere."""
        peer = cls()
        peer.state = "calls"
        peer._reader.limit = ASKED_LIMIT
        return peer

    def receive(self, data: bytes) -> list[FromUplink]:
        """What `data` completes, in order."""
        events: list[FromUplink] = []
        if self.state == "ended":
            return events
        reader = self._reader
        reader.feed(data)
        try:
            while (payload := reader.next()) is not None:
                events.append(self._accept(payload))
        except ParlerError as error:
            self.state = "ended"
            events.append(Ended(error))
        return events

    def _accept(self, payload: bytes) -> FromUplink:
        match self.state:
            case "calls":
                return self._accept_call(payload)
            case "hello":
                hello = _LINK_HELLO.decode(payload)
                if hello.protocol != LINK_PROTOCOL:
                    raise ParlerError("unsupported_version", relay=LINK_PROTOCOL, daemon=hello.protocol)
                self.state = "challenge"
                return hello
            case "proof":
                proof = _PROOF.decode(payload)
                self.state = "welcome"
                return proof
            case _:
                raise ParlerError("bad_frame", "A frame came before its turn.")

    def challenge(self, challenge: Challenge) -> bytes:
        """Answer the hello."""
        assert self.state == "challenge"
        self.state = "proof"
        return pack(challenge)

    def welcome(self, welcome: LinkWelcome) -> bytes:
        """Accept the proof."""
        assert self.state == "welcome"
        self.state = "calls"
        self._reader.limit = ASKED_LIMIT
        return pack(welcome)

    def goodbye(self, error: ParlerError) -> bytes:
        """Say why the link ends. Send nothing after this frame."""
        self.state = "ended"
        return pack(Goodbye(error=told(error)))

    def refuse(self, overflow: Overflow) -> bytes:
        return pack(Failure(id=overflow.id, error=told(overflow.error)))


class UplinkPeer(Asking):
    """The daemon's end. `receive` never raises: a violation is the last event."""

    __slots__ = ("_reader", "state")

    def __init__(self) -> None:
        super().__init__(LINK_IN_FLIGHT)
        self.state: State = "hello"
        """Where the conversation stands; see the table at the head of this module."""
        self._reader = FrameReader(FIRST_FRAME_LIMIT)

    @classmethod
    def proven(cls) -> UplinkPeer:
        """An end that begins with calls: who is on the other side was proved elsewhere."""
        peer = cls()
        peer.state = "calls"
        peer._reader.limit = FRAME_LIMIT
        return peer

    def hello(self, hello: LinkHello) -> bytes:
        """The first frame."""
        assert self.state == "hello"
        self.state = "challenge"
        return pack(hello)

    def proof(self, proof: Proof) -> bytes:
        """Answer a challenge that was found good."""
        assert self.state == "proof"
        self.state = "welcome"
        return pack(proof)

    def receive(self, data: bytes) -> list[FromRelay]:
        """What `data` completes, in order, without the answers to withdrawn calls."""
        events: list[FromRelay] = []
        if self.state == "ended":
            return events
        reader = self._reader
        reader.feed(data)
        try:
            while (payload := reader.next()) is not None:
                event = self._accept(payload)
                if event is not None:
                    events.append(event)
                if isinstance(event, Goodbye):
                    self.state = "ended"
                    break  # nothing may follow one
        except ParlerError as error:
            self.state = "ended"
            events.append(Ended(error))
        return events

    def _accept(self, payload: bytes) -> FromRelay | None:
        match self.state:
            case "calls":
                answer = codec.FROM_DAEMON.decode(payload)
                return answer if isinstance(answer, Goodbye) else self._match(answer)
            case "challenge":
                challenge = _CHALLENGE.decode(payload)
                self.state = "proof"
                return challenge
            case "welcome":
                welcome = _LINK_WELCOME.decode(payload)
                if isinstance(welcome, LinkWelcome):
                    if welcome.protocol != LINK_PROTOCOL:
                        raise ParlerError("unsupported_version", daemon=LINK_PROTOCOL, relay=welcome.protocol)
                    self.state = "calls"
                    self._reader.limit = FRAME_LIMIT
                return welcome
            case "proof":
                return _GOODBYE.decode(payload)
            case _:
                raise ParlerError("bad_frame", "A frame came before its turn.")
