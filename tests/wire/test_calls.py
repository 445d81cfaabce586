"""Calls and streams of every conversation that carries them: the local socket, and the link to a relay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import msgspec
import pytest

from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, PrincipalId
from parlerd.wire import codec
from parlerd.wire.calls import CREDIT, IN_FLIGHT, Ended, Overflow
from parlerd.wire.frames import FRAME_LIMIT, frame
from parlerd.wire.link import (
    LINK_IN_FLIGHT,
    LINK_PROTOCOL,
    Challenge,
    LinkHello,
    LinkWelcome,
    Proof,
    RelayPeer,
    UplinkPeer,
)
from parlerd.wire.messages import PROTOCOL, Call, Cancel, Credit, Failure, Hello, Item, Reply
from parlerd.wire.peer import ClientPeer, DaemonPeer

EMPTY = b"\x80"


def on_the_socket() -> tuple[DaemonPeer, ClientPeer]:
    daemon, client = DaemonPeer(), ClientPeer()
    daemon.receive(client.hello(Hello(protocol=PROTOCOL, version="1.0", role="client")))
    client.receive(daemon.welcome("1.0", 7))
    return daemon, client


def on_a_link() -> tuple[RelayPeer, UplinkPeer]:
    relay, uplink = RelayPeer(), UplinkPeer()
    relay.receive(
        uplink.hello(LinkHello(protocol=LINK_PROTOCOL, version="1", nonce=b"n" * 32, principal=PrincipalId("A1")))
    )
    uplink.receive(
        relay.challenge(Challenge(home=HomeId("N1"), nonce=b"n" * 32, signature=b"s" * 64, clock=1, log="l"))
    )
    relay.receive(uplink.proof(Proof(signature=b"s" * 64)))
    uplink.receive(relay.welcome(LinkWelcome(protocol=LINK_PROTOCOL, version="1", operations=(), log="l")))
    return relay, uplink


@dataclass
class Met:
    """Both ends of a conversation that has come to its calls."""

    make: Callable[[], tuple[Any, Any]]
    in_flight: int

    def __call__(self) -> tuple[Any, Any]:
        return self.make()


@pytest.fixture(params=[Met(on_the_socket, IN_FLIGHT), Met(on_a_link, LINK_IN_FLIGHT)], ids=["socket", "link"])
def met(request: pytest.FixtureRequest) -> Met:
    found: Met = request.param
    return found


def packed(message: msgspec.Struct) -> bytes:
    return frame(codec.encode(message))


def only_error(events: list[Any]) -> str:
    assert len(events) == 1
    assert isinstance(events[0], Ended)
    return events[0].error.code


# -- calls -----------------------------------------------------------------------------------------------------


def test_concurrent_calls_are_answered_by_id_in_any_order(met: Met) -> None:
    answering, asking = met()
    first, one = asking.call("a", codec.encode({"x": 1}))
    second, two = asking.call("b", EMPTY)
    calls = answering.receive(one + two)
    assert calls == [
        Call(id=first, op="a", params=msgspec.Raw(codec.encode({"x": 1}))),
        Call(id=second, op="b", params=msgspec.Raw(EMPTY)),
    ]
    answers = answering.reply(second, codec.encode({"y": 2})) + answering.fail(
        first, ParlerError("no_such_room").body()
    )
    reply, failure = asking.receive(answers)
    assert isinstance(reply, Reply)
    assert (reply.id, msgpack.unpackb(bytes(reply.result))) == (second, {"y": 2})
    assert isinstance(failure, Failure)
    assert (failure.id, failure.error.code) == (first, "no_such_room")
    assert answering.under_way == asking.under_way == 0


def test_an_id_that_is_under_way_may_not_be_used_again_until_it_is_answered(met: Met) -> None:
    answering, _ = met()
    assert len(answering.receive(packed(Call(id=5, op="a")))) == 1
    answering.reply(5, EMPTY)
    assert answering.receive(packed(Call(id=5, op="a"))) == [Call(id=5, op="a")]
    assert only_error(answering.receive(packed(Call(id=5, op="a")))) == "bad_frame"


def test_a_call_beyond_those_that_may_be_under_way_is_answered_busy_and_the_rest_goes_on(met: Met) -> None:
    answering, asking = met()
    for _ in range(met.in_flight):
        answering.receive(asking.call("a", EMPTY)[1])
    (event,) = answering.receive(packed(Call(id=1_000, op="a")))
    assert isinstance(event, Overflow)
    assert event.error.code == "busy"
    assert answering.under_way == met.in_flight
    with pytest.raises(ParlerError, match="busy"):
        asking.call("a", EMPTY)
    asking.receive(answering.reply(0, EMPTY))
    assert isinstance(answering.receive(asking.call("a", EMPTY)[1])[0], Call)


def test_a_result_that_is_too_large_leaves_the_call_to_be_answered_otherwise(met: Met) -> None:
    answering, asking = met()
    id, data = asking.call("a", EMPTY)
    answering.receive(data)
    with pytest.raises(ParlerError, match="frame_too_large"):
        answering.reply(id, codec.encode("x" * FRAME_LIMIT))
    (event,) = asking.receive(answering.fail(id, ParlerError("frame_too_large").body()))
    assert isinstance(event, Failure)


def test_a_withdrawn_call_is_still_answered_once_and_the_answer_is_dropped(met: Met) -> None:
    answering, asking = met()
    id, data = asking.call("a", EMPTY)
    assert answering.receive(data + asking.cancel(id)) == [Call(id=id, op="a"), Cancel(id=id)]
    assert asking.cancel(id) == b""
    assert asking.under_way == 1
    assert asking.receive(answering.reply(id, EMPTY)) == []
    assert asking.under_way == 0
    assert asking.cancel(id) == b""


def test_an_answer_to_a_call_that_was_never_made_ends_the_asking_end(met: Met) -> None:
    _, asking = met()
    assert only_error(asking.receive(packed(Reply(id=3)))) == "bad_frame"


def test_an_answer_that_comes_twice_ends_the_asking_end(met: Met) -> None:
    answering, asking = met()
    id, data = asking.call("a", EMPTY)
    answering.receive(data)
    answer = answering.reply(id, EMPTY)
    assert len(asking.receive(answer)) == 1
    assert only_error(asking.receive(answer)) == "bad_frame"


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_stream_takes_credit_and_the_client_gives_it_back_by_halves(met: Met) -> None:
    answering, asking = met()
    id, data = asking.call("watch", EMPTY)
    answering.receive(data)
    assert answering.credit(id) == CREDIT
    for number in range(CREDIT):
        (item,) = asking.receive(answering.item(id, codec.encode(number)))
        assert item == Item(id=id, item=msgspec.Raw(codec.encode(number)))
    assert answering.credit(id) == 0
    given = b"".join(asking.took(id) for _ in range(CREDIT))
    assert answering.receive(given) == [Credit(id=id, more=CREDIT // 2)] * 2
    assert answering.credit(id) == CREDIT
    assert asking.receive(answering.reply(id, EMPTY)) == [Reply(id=id)]
    assert asking.took(id) == b""


def test_credit_for_a_stream_that_is_over_is_ignored_and_credit_cannot_grow_without_end(met: Met) -> None:
    answering, asking = met()
    id, data = asking.call("watch", EMPTY)
    answering.receive(data)
    for _ in range(100):
        answering.receive(packed(Credit(id=id, more=65_536)))
    assert answering.credit(id) == 1 << 20
    answering.reply(id, EMPTY)
    assert answering.receive(packed(Credit(id=id, more=1))) == [Credit(id=id, more=1)]


def test_items_of_a_withdrawn_stream_are_dropped(met: Met) -> None:
    answering, asking = met()
    id, data = asking.call("watch", EMPTY)
    answering.receive(data)
    crossing = answering.item(id, b"\x01")
    asking.cancel(id)
    assert asking.receive(crossing + answering.fail(id, ParlerError("cancelled").body())) == []
