"""Whatever arrives, each end of a conversation gives events and nothing else: no exception, no unbounded buffer."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import ERRORS, ParlerError
from parlerd.core.model import HomeId, PrincipalId
from parlerd.operations.registry import OPERATIONS
from parlerd.wire import codec
from parlerd.wire.calls import Ended, Overflow
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, frame
from parlerd.wire.link import (
    ASKED_LIMIT,
    LINK_PROTOCOL,
    Challenge,
    FromRelay,
    FromUplink,
    LinkHello,
    LinkWelcome,
    Proof,
    RelayPeer,
    UplinkPeer,
)
from parlerd.wire.messages import (
    HOST_PROTOCOL,
    PROTOCOL,
    Call,
    Cancel,
    Credit,
    Failure,
    Hello,
    Item,
    Note,
    Reply,
    Welcome,
)
from parlerd.wire.peer import ClientEvent, ClientPeer, DaemonEvent, DaemonPeer


def packed(message: msgspec.Struct) -> bytes:
    return frame(codec.encode(message))


GREETING = packed(Hello(protocol=PROTOCOL, version="1", role="client", cwd="/home/someone/project"))
WINDOW = packed(Hello(protocol=HOST_PROTOCOL, version="1", role="stdio", window="w1", unanswered=(b"{}",)))
ANSWER = packed(Welcome(protocol=PROTOCOL, version="1", pid=1))
CONVERSATION = (
    packed(Call(id=0, op="message.send", params=msgspec.Raw(codec.encode({"text": "hi", "data": [1, {"a": None}]}))))
    + packed(Call(id=1, op="room.watch"))
    + packed(Credit(id=1, more=3))
    + packed(Cancel(id=0))
)
ANSWERS = (
    packed(Item(id=1, item=msgspec.Raw(b"\x01")))
    + packed(Failure(id=0, error=ParlerError("no_such_room", room="x").body()))
    + packed(Reply(id=1))
)

ways = st.sampled_from(["flip", "drop", "double", "cut"])
mutations = st.lists(st.tuples(st.integers(0, 1 << 20), ways, st.integers(0, 255)), max_size=6)


def mutate(data: bytes, changes: list[tuple[int, str, int]]) -> bytes:
    changed = bytearray(data)
    for where, how, value in changes:
        if not changed:
            break
        at = where % len(changed)
        if how == "flip":
            changed[at] ^= value
        elif how == "drop":
            del changed[at]
        elif how == "double":
            changed[at:at] = changed[at : at + value]
        else:
            del changed[at:]
    return bytes(changed)


def only_documented(
    events: list[ClientEvent] | list[DaemonEvent] | list[FromUplink] | list[FromRelay],
) -> None:
    for event in events:
        if isinstance(event, (Ended, Overflow)):
            assert event.error.code in ("bad_frame", "frame_too_large", "unsupported_version", "busy")
            assert event.error.code in ERRORS
    ends = [event for event in events if isinstance(event, Ended)]
    assert not ends or (len(ends) == 1 and events[-1] is ends[0])


def drive_daemon(stream: bytes) -> None:
    peer = DaemonPeer()
    events = peer.receive(stream)
    only_documented(events)
    # What follows an end is not even looked at.
    if peer.state == "ended":
        assert peer.receive(GREETING) == []


def drive_client(stream: bytes) -> None:
    peer = ClientPeer()
    peer.hello(Hello(protocol=PROTOCOL, version="1", role="client"))
    peer.call("message.send", b"\x80")
    peer.call("room.watch", b"\x80")
    only_documented(peer.receive(stream))


@given(st.binary(max_size=400))
def test_random_bytes_before_a_hello(data: bytes) -> None:
    drive_daemon(data)
    drive_daemon(frame(data))


@given(st.sampled_from([GREETING, WINDOW]), st.lists(st.binary(max_size=60), max_size=5))
def test_random_frames_after_a_hello(greeting: bytes, payloads: list[bytes]) -> None:
    drive_daemon(greeting + b"".join(frame(payload) for payload in payloads))


@settings(max_examples=400)
@given(mutations)
def test_a_mutated_conversation(changes: list[tuple[int, str, int]]) -> None:
    drive_daemon(mutate(GREETING + CONVERSATION, changes))
    drive_daemon(GREETING + mutate(CONVERSATION, changes))
    drive_daemon(mutate(WINDOW + frame(codec.encode(b"{}")) + packed(Note(what="eof")), changes))


@settings(max_examples=400)
@given(mutations)
def test_mutated_answers(changes: list[tuple[int, str, int]]) -> None:
    drive_client(mutate(ANSWER + ANSWERS, changes))
    drive_client(ANSWER + mutate(ANSWERS, changes))


@given(st.integers(0, len(GREETING + CONVERSATION)))
def test_a_truncated_conversation_gives_no_error_only_fewer_events(length: int) -> None:
    events = DaemonPeer().receive((GREETING + CONVERSATION)[:length])
    assert not any(isinstance(event, Ended) for event in events)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_length_beyond_the_limit_is_refused_before_its_body_comes(length: int, greeted: bool) -> None:
    peer = DaemonPeer()
    if greeted:
        peer.receive(GREETING)
    limit = FRAME_LIMIT if greeted else FIRST_FRAME_LIMIT
    events = peer.receive(length.to_bytes(4, "big"))
    if length > limit:
        (event,) = events
        assert isinstance(event, Ended)
        assert event.error.code == "frame_too_large"
    else:
        assert len(events) == (1 if length == 0 else 0)


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
wild = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["t", "id", "op", "more", "text", "room", "limit", "key"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(OPERATIONS)), wild)
def test_parameters_of_any_shape(op: str, value: object) -> None:
    decoded = decode_params(op, codec.encode(value))
    assert decoded is None or type(decoded) is OPERATIONS[op].params


@given(st.binary(max_size=300), st.sampled_from(sorted(OPERATIONS)))
def test_parameters_of_any_bytes(data: bytes, op: str) -> None:
    decoded = decode_params(op, data)
    assert decoded is None or type(decoded) is OPERATIONS[op].params


def decode_params(op: str, data: bytes) -> object | None:
    """The parameters; None when they are refused as they should be."""
    try:
        return codec.Shape[object](OPERATIONS[op].params, "invalid_param").decode(data)
    except ParlerError as error:
        if error.code != "invalid_param":
            raise
        return None


def test_nesting_of_any_depth() -> None:
    for opening in (b"\x91", b"\x81\xa1a", b"\x81\x91"):
        for depth in (10, 1_000, 100_000, 2_000_000):
            drive_daemon(GREETING + frame(b"\x83\xa1t\xa4call\xa2id\x01\xa6params" + opening * depth))
            drive_daemon(frame(opening * min(depth, 20_000)))
            drive_client(ANSWER + frame(b"\x83\xa1t\xa7failure\xa2id\x00\xa5error" + opening * depth))


# -- the link --------------------------------------------------------------------------------------------------

DIALLED = packed(LinkHello(protocol=LINK_PROTOCOL, version="1", nonce=b"n" * 32, principal=PrincipalId("A1"), name="x"))
CHALLENGED = packed(Challenge(home=HomeId("N1"), nonce=b"n" * 32, signature=b"s" * 64, clock=1, log="l"))
PROVED = packed(Proof(signature=b"s" * 64, mac=b"m" * 32))
WELCOMED = packed(LinkWelcome(protocol=LINK_PROTOCOL, version="1", operations=("message.send",), log="l"))


def drive_relay(hello: bytes, proof: bytes, calls: bytes) -> None:
    """A relay that answers in its turn, whatever comes."""
    peer = RelayPeer()
    for data in (hello, proof, calls):
        only_documented(peer.receive(data))
        if peer.state == "challenge":
            peer.challenge(Challenge(home=HomeId("N1"), nonce=b"n" * 32, signature=b"s" * 64, clock=1, log="l"))
        elif peer.state == "welcome":
            peer.welcome(LinkWelcome(protocol=LINK_PROTOCOL, version="1", operations=(), log="l"))
    if peer.state == "ended":
        assert peer.receive(DIALLED) == []


def drive_uplink(challenge: bytes, welcome: bytes, answers: bytes) -> None:
    """A daemon that answers in its turn, whatever comes."""
    peer = UplinkPeer()
    peer.hello(LinkHello(protocol=LINK_PROTOCOL, version="1", nonce=b"n" * 32, principal=PrincipalId("A1")))
    for data in (challenge, welcome, answers):
        only_documented(peer.receive(data))
        if peer.state == "proof":
            peer.proof(Proof(signature=b"s" * 64))
        elif peer.state == "calls" and not peer.under_way:
            peer.call("message.send", b"\x80")
            peer.call("room.watch", b"\x80")


@settings(max_examples=300)
@given(mutations, st.binary(max_size=200))
def test_a_mutated_dialogue_of_a_link(changes: list[tuple[int, str, int]], noise: bytes) -> None:
    drive_relay(mutate(DIALLED, changes), PROVED, CONVERSATION)
    drive_relay(DIALLED, mutate(PROVED, changes), CONVERSATION)
    drive_relay(DIALLED, PROVED, mutate(CONVERSATION, changes))
    drive_relay(frame(noise), noise, noise)
    drive_uplink(mutate(CHALLENGED, changes), WELCOMED, ANSWERS)
    drive_uplink(CHALLENGED, mutate(WELCOMED, changes), ANSWERS)
    drive_uplink(CHALLENGED, WELCOMED, mutate(ANSWERS, changes))
    drive_uplink(frame(noise), noise, noise)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_length_beyond_the_limit_of_a_link_is_refused_before_its_body_comes(length: int, proved: bool) -> None:
    peer = RelayPeer()
    if proved:
        peer.receive(DIALLED)
        peer.challenge(Challenge(home=HomeId("N1"), nonce=b"n" * 32, signature=b"s" * 64, clock=1, log="l"))
        peer.receive(PROVED)
        peer.welcome(LinkWelcome(protocol=LINK_PROTOCOL, version="1", operations=(), log="l"))
    events = peer.receive(length.to_bytes(4, "big"))
    if length > (ASKED_LIMIT if proved else FIRST_FRAME_LIMIT):
        (event,) = events
        assert isinstance(event, Ended)
        assert event.error.code == "frame_too_large"
    else:
        assert len(events) == (1 if length == 0 else 0)
