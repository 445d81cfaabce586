"""Both ends of a link: what may be said when, and what of an error crosses it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import ERRORS, ErrorBody, ParlerError
from parlerd.core.model import HomeId, PrincipalId
from parlerd.wire import codec
from parlerd.wire.calls import Ended, Overflow
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, frame
from parlerd.wire.link import (
    ASKED_LIMIT,
    LINK_IN_FLIGHT,
    LINK_PROTOCOL,
    Challenge,
    FromRelay,
    FromUplink,
    LinkHello,
    LinkWelcome,
    Proof,
    RelayPeer,
    UplinkPeer,
    close_code,
    heard,
    told,
)
from parlerd.wire.messages import Call, Cancel, Credit, Failure, Goodbye, Item, Reply

EMPTY = b"\x80"
HELLO = LinkHello(protocol=LINK_PROTOCOL, version="1.0", nonce=b"n" * 32, principal=PrincipalId("A1"))
CHALLENGE = Challenge(home=HomeId("N1"), nonce=b"m" * 32, signature=b"s" * 64, clock=7, log="l1")
PROOF = Proof(signature=b"t" * 64)
WELCOME = LinkWelcome(protocol=LINK_PROTOCOL, version="2.0", operations=("link.post",), name="team", log="l1")


def packed(message: msgspec.Struct) -> bytes:
    return frame(codec.encode(message))


def met() -> tuple[RelayPeer, UplinkPeer]:
    """Both ends after the welcome."""
    relay, uplink = RelayPeer(), UplinkPeer()
    assert relay.receive(uplink.hello(HELLO)) == [HELLO]
    assert uplink.receive(relay.challenge(CHALLENGE)) == [CHALLENGE]
    assert relay.receive(uplink.proof(PROOF)) == [PROOF]
    assert uplink.receive(relay.welcome(WELCOME)) == [WELCOME]
    assert (relay.state, uplink.state) == ("calls", "calls")
    return relay, uplink


def only_error(events: list[FromUplink] | list[FromRelay]) -> str:
    assert len(events) == 1
    assert isinstance(events[0], Ended)
    return events[0].error.code


# -- who may say what when -------------------------------------------------------------------------------------

OF_THE_UPLINK: dict[str, msgspec.Struct] = {
    "link_hello": HELLO,
    "proof": PROOF,
    "call": Call(id=0, op="x"),
    "cancel": Cancel(id=0),
    "credit": Credit(id=0, more=1),
}
OF_THE_RELAY: dict[str, msgspec.Struct] = {
    "challenge": CHALLENGE,
    "link_welcome": WELCOME,
    "goodbye": Goodbye(error=told(ParlerError("kicked"))),
    "reply": Reply(id=0),
    "failure": Failure(id=0, error=told(ParlerError("busy"))),
    "item": Item(id=0, item=msgspec.Raw(EMPTY)),
}
RELAY_HEARS = {
    "hello": {"link_hello"},
    "challenge": set[str](),
    "proof": {"proof"},
    "welcome": set[str](),
    "calls": {"call", "cancel", "credit"},
    "ended": set[str](),
}
UPLINK_HEARS = {
    "hello": set[str](),
    "challenge": {"challenge", "goodbye"},
    "proof": {"goodbye"},
    "welcome": {"link_welcome", "goodbye"},
    "calls": {"reply", "failure", "item", "goodbye"},
    "ended": set[str](),
}


def relay_in(state: str) -> RelayPeer:
    relay = RelayPeer()
    if state != "hello":
        relay.receive(packed(HELLO))
    if state in ("proof", "welcome", "calls"):
        relay.challenge(CHALLENGE)
    if state in ("welcome", "calls"):
        relay.receive(packed(PROOF))
    if state == "calls":
        relay.welcome(WELCOME)
    if state == "ended":
        relay.goodbye(ParlerError("kicked"))
    assert relay.state == state
    return relay


def uplink_in(state: str) -> UplinkPeer:
    uplink = UplinkPeer()
    if state != "hello":
        uplink.hello(HELLO)
    if state in ("proof", "welcome", "calls"):
        uplink.receive(packed(CHALLENGE))
    if state in ("welcome", "calls"):
        uplink.proof(PROOF)
    if state == "calls":
        uplink.receive(packed(WELCOME))
        uplink.call("x", EMPTY)
    if state == "ended":
        uplink.receive(packed(OF_THE_RELAY["goodbye"]))
    assert uplink.state == state
    return uplink


@pytest.mark.parametrize("said", [*OF_THE_UPLINK, *OF_THE_RELAY])
@pytest.mark.parametrize("state", RELAY_HEARS)
def test_the_relay_hears_what_the_table_allows_and_ends_at_anything_else(state: str, said: str) -> None:
    relay = relay_in(state)
    events = relay.receive(packed({**OF_THE_UPLINK, **OF_THE_RELAY}[said]))
    if state == "ended":
        assert events == []
    elif said in RELAY_HEARS[state]:
        assert events == [OF_THE_UPLINK[said]]
    else:
        assert only_error(events) == "bad_frame"
        assert relay.state == "ended"


@pytest.mark.parametrize("said", [*OF_THE_UPLINK, *OF_THE_RELAY])
@pytest.mark.parametrize("state", UPLINK_HEARS)
def test_the_daemon_hears_what_the_table_allows_and_ends_at_anything_else(state: str, said: str) -> None:
    uplink = uplink_in(state)
    events = uplink.receive(packed({**OF_THE_UPLINK, **OF_THE_RELAY}[said]))
    if state == "ended":
        assert events == []
    elif said in UPLINK_HEARS[state]:
        assert events == [OF_THE_RELAY[said]]
    else:
        assert only_error(events) == "bad_frame"
        assert uplink.state == "ended"


def test_calls_that_come_together_with_the_proof_end_the_link() -> None:
    """Nothing is answered for somebody whose proof was not looked at."""
    relay = relay_in("proof")
    proof, end = relay.receive(packed(PROOF) + packed(Call(id=0, op="x")))
    assert proof == PROOF
    assert isinstance(end, Ended)
    assert end.error.code == "bad_frame"


def test_a_daemon_of_another_protocol_version_is_told_so() -> None:
    for other in (LINK_PROTOCOL - 1, LINK_PROTOCOL + 1):
        relay = RelayPeer()
        assert only_error(relay.receive(packed(msgspec.structs.replace(HELLO, protocol=other)))) == (
            "unsupported_version"
        )


def test_a_relay_of_another_protocol_version_is_not_followed() -> None:
    uplink = uplink_in("welcome")
    newer = msgspec.structs.replace(WELCOME, protocol=LINK_PROTOCOL + 1)
    assert only_error(uplink.receive(packed(newer))) == "unsupported_version"


def test_nothing_follows_a_goodbye() -> None:
    uplink = uplink_in("calls")
    goodbye = packed(OF_THE_RELAY["goodbye"])
    (event,) = uplink.receive(goodbye + goodbye)
    assert isinstance(event, Goodbye)
    assert uplink.receive(goodbye) == []


@pytest.mark.parametrize(
    "hello",
    [
        {"nonce": b"n" * 31},
        {"nonce": b"n" * 33},
        {"principal": "A" * 65},
        {"name": "x" * 65},
        {"version": "x" * 65},
    ],
)
def test_a_hello_whose_fields_have_other_sizes_is_refused(hello: dict[str, Any]) -> None:
    assert only_error(RelayPeer().receive(packed(msgspec.structs.replace(HELLO, **hello)))) == "bad_frame"


@pytest.mark.parametrize("proof", [{"signature": b"s" * 63}, {"signature": b"s" * 65}, {"mac": b"m" * 33}])
def test_a_proof_whose_fields_have_other_sizes_is_refused(proof: dict[str, Any]) -> None:
    relay = relay_in("proof")
    assert only_error(relay.receive(packed(msgspec.structs.replace(PROOF, **proof)))) == "bad_frame"


# -- how much ----------------------------------------------------------------------------------------------------


def test_before_the_welcome_a_frame_has_64_kib_and_after_it_the_daemon_sends_1_mib_and_the_relay_8() -> None:
    for state in ("hello", "proof"):
        assert only_error(relay_in(state).receive((FIRST_FRAME_LIMIT + 1).to_bytes(4, "big"))) == "frame_too_large"
    for state in ("challenge", "welcome"):
        assert only_error(uplink_in(state).receive((FIRST_FRAME_LIMIT + 1).to_bytes(4, "big"))) == "frame_too_large"
    relay, uplink = met()
    _, asked = uplink.call("x", codec.encode("y" * (ASKED_LIMIT - 100)))
    assert isinstance(relay.receive(asked)[0], Call)
    assert only_error(relay.receive((ASKED_LIMIT + 1).to_bytes(4, "big"))) == "frame_too_large"
    (reply,) = uplink.receive(relay.reply(0, codec.encode("y" * (FRAME_LIMIT - 100))))
    assert isinstance(reply, Reply)


def test_a_call_beyond_those_that_a_link_carries_is_answered_busy() -> None:
    relay, uplink = met()
    for _ in range(LINK_IN_FLIGHT):
        relay.receive(uplink.call("x", EMPTY)[1])
    (more,) = relay.receive(packed(Call(id=1 << 20, op="x")))
    assert isinstance(more, Overflow)
    assert more.error.code == "busy"
    with pytest.raises(ParlerError, match="busy"):
        uplink.call("x", EMPTY)


# -- errors ------------------------------------------------------------------------------------------------------


def test_of_an_error_a_link_carries_the_code_the_wait_and_plain_details_and_no_sentence() -> None:
    error = ParlerError(
        "throttled",
        "words of the relay",
        hint="more words",
        example="and more",
        retry_after_ms=250,
        room="r_1",
        limit=3,
        path="/home/someone/.parler x",
        candidates=["a", "b"],
    )
    body = told(error)
    assert (body.code, body.retry_after_ms, body.details) == ("throttled", 250, {"room": "r_1", "limit": 3})
    assert "words" not in str(body)
    assert "someone" not in str(body)


def test_an_error_that_was_told_reads_in_our_own_sentences() -> None:
    body = ErrorBody("no_such_room", "IGNORE ALL", "stop", "home", True, 5, "RUN THIS", "rm -rf", {"room": "r_1"})
    error = heard(body)
    spec = ERRORS["no_such_room"]
    assert (error.code, error.message, error.hint, error.example) == ("no_such_room", spec.message, spec.hint, None)
    assert (error.spec, error.retry_after_ms, error.details) == (spec, 5, {"room": "r_1"})


def test_trouble_of_the_relay_is_not_described_as_trouble_of_this_home() -> None:
    for code in ("store_full", "store_corrupt", "internal", "newer_log"):
        error = heard(told(ParlerError(code)))
        assert error.code == "relay_failed"
        assert error.details["said"] == code
    for code in ("kicked", "not_enrolled", "wrong_secret", "busy", "draining", "room_closed"):
        assert heard(told(ParlerError(code))).code == code
    assert "daemon" not in heard(told(ParlerError("draining"))).message


def test_an_unknown_code_is_a_refusal_and_is_named_only_where_it_is_a_word() -> None:
    error = heard(ErrorBody("sealed_epoch", "words", "stop", "room"))
    assert (error.code, error.details) == ("relay_refused", {"said": "sealed_epoch"})
    error = heard(ErrorBody("run `rm -rf ~` now", "words", "stop", "room"))
    assert (error.code, error.details) == ("relay_refused", {})


_details = st.dictionaries(
    st.text(max_size=40) | st.sampled_from(["room", "limit"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=4,
    ),
    max_size=30,
)


@given(
    st.sampled_from(sorted(ERRORS)) | st.text(max_size=40), st.text(max_size=60), _details, st.integers() | st.none()
)
def test_whatever_a_relay_says_of_an_error_only_labels_and_numbers_remain(
    code: str, words: str, details: dict[str, Any], wait: int | None
) -> None:
    error = heard(ErrorBody(code, words, "stop", "room", True, wait, words, words, details))
    assert error.code in ERRORS
    assert error.message in (error.spec.message, "The relay is about to restart.")
    assert error.hint == error.spec.hint
    assert error.example is None
    assert error.retry_after_ms is None or 0 <= error.retry_after_ms <= 3_600_000
    assert len(error.details) <= 17
    for name, value in error.details.items():
        assert name.isascii()
        assert name.replace("_", "a").isalpha()
        assert isinstance(value, int) or (value.isascii() and " " not in value and value.isprintable())


def test_each_reason_to_end_a_link_has_a_close_code_that_says_whether_to_come_back() -> None:
    codes = {code: close_code(ParlerError(code)) for code in ERRORS}
    assert {code for code, number in codes.items() if number == 4003} == {"kicked"}
    assert {code for code, number in codes.items() if number == 4002} == {"unsupported_version"}
    assert {code for code, number in codes.items() if number == 4001} == {
        "not_enrolled",
        "proof_refused",
        "wrong_secret",
        "wrong_relay",
    }
    assert (codes["draining"], codes["busy"], codes["internal"]) == (1012, 1013, 1011)


# -- any split ---------------------------------------------------------------------------------------------------


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.integers(0, 1 << 16), max_size=12))
def test_however_the_bytes_are_cut_the_relay_hears_the_same(cuts: list[int]) -> None:
    calls = packed(Call(id=0, op="a")) + packed(Credit(id=0, more=2)) + packed(Cancel(id=0)) + packed(HELLO)
    relay = relay_in("calls")
    events = [event for piece in in_pieces(calls, cuts) for event in relay.receive(piece)]
    assert events[:3] == [Call(id=0, op="a"), Credit(id=0, more=2), Cancel(id=0)]
    assert isinstance(events[3], Ended)
    assert len(events) == 4
