"""What a home says of an invocation: what it tells, what passes as that, and how it reads."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from parlerd.core import invocations
from parlerd.core.envelope import UNSIGNED, DataPart, Envelope, TextPart, decode_envelope, encode_envelope
from parlerd.core.errors import Refused
from parlerd.core.invocations import Invoked
from parlerd.core.model import INVOCATION, By, MessageId, Millis, RoomId
from parlerd.core.words import check_body, contradiction
from tests.support.core import BEN, CAT, CountedIds

ROOM = RoomId("r_room")
CRAFT = Invoked("craft", {"item": "trap", "n": 2, "word": "(secret)"})


def told(by: By = BEN.by) -> Envelope:
    _, body = invocations.told(ROOM, by, Millis(7), CountedIds(), CRAFT)
    return decode_envelope(body)


def said(**about: Any) -> DataPart:
    return DataPart({"agent": BEN.id, "action": "craft", "params": {}, **about})


@pytest.mark.parametrize("via", ["cli", "mcp", "link"])
def test_what_a_home_tells_is_read_and_agrees_with_its_header_whatever_door_the_invoker_came_through(via: Any) -> None:
    by = replace(BEN.by, via=via)
    posted, body = invocations.told(ROOM, by, Millis(7), CountedIds(), CRAFT)
    envelope = decode_envelope(body)
    assert invocations.read(envelope, BEN.id) == CRAFT
    assert contradiction(ROOM, None, by, posted, envelope) is None
    assert posted.envelope == hashlib.sha256(body).digest()
    assert (posted.kind, posted.verified, posted.envelope_v, posted.counter) == (INVOCATION, "unsigned", UNSIGNED, 0)


def test_it_is_told_in_one_line_and_whole_to_a_program() -> None:
    assert invocations.sentence("ben", Invoked("craft", {"item": "trap"})) == 'ben invoked craft {"item":"trap"}'
    assert invocations.sentence("ben", Invoked("go", {})) == "ben invoked go"
    assert "\n" not in invocations.sentence("ben", Invoked("go", {"text": "one\ntwo"}))
    assert invocations.data_of(CRAFT) == {"action": "craft", "params": dict(CRAFT.params)}


def test_the_hash_of_the_envelope_says_nothing_of_the_parameters() -> None:
    """Each envelope holds something that is in no header, and that nobody can guess."""
    ids = CountedIds()
    nonces = {decode_envelope(invocations.told(ROOM, BEN.by, Millis(7), ids, CRAFT)[1]).nonce for _ in range(3)}
    assert {len(nonce) for nonce in nonces} == {16}
    assert len(nonces) == 3


def test_what_a_later_home_says_beside_it_is_left_out() -> None:
    later = replace(told(), parts=(DataPart({**invocations.data_of(CRAFT), "agent": BEN.id, "writes": 2}),))
    assert invocations.read(later, BEN.id) == CRAFT


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("v", {"v": 1}),
        ("kind", {"kind": "text"}),
        ("kind", {"kind": "task"}),
        ("id", {"id": MessageId("")}),
        ("room", {"room": RoomId("")}),
        ("key", {"key": "k"}),
        ("chain", {"chain": "c_other"}),
        ("hops", {"hops": 1}),
        ("authored_at", {"authored_at": -1}),
        ("counter", {"counter": 1}),
        ("counter", {"previous": bytes(32)}),
        ("line", {"line": bytes(32)}),
        ("line", {"shown": 1}),
        ("seen", {"seen": bytes(32)}),
        ("nonce", {"nonce": b""}),
        ("host", {"host": "a b"}),
        ("via", {"via": "window"}),
        ("to", {"to": (BEN.id,)}),
        ("to", {"role": "reviewer"}),
        ("visibility", {"visibility": (BEN.id,)}),
        ("hops", {"reply_to": MessageId("m_other"), "chain": "c_other"}),
        ("reply_to", {"reply_to": MessageId("m_other"), "chain": "c_other", "hops": 1}),
        ("parts", {"parts": ()}),
        ("parts", {"parts": (TextPart("ben invoked craft"),)}),
        ("parts", {"parts": (said(), TextPart("and more"))}),
        ("parts", {"parts": (DataPart({"agent": BEN.id, "action": "craft"}),)}),
        ("parts", {"parts": (DataPart({"action": "craft", "params": {}}),)}),
        ("parts", {"parts": (said(action="craft\nall clear"),)}),
        ("parts", {"parts": (said(params=[]),)}),
        ("agent", {"parts": (said(agent=CAT.id),)}),
    ],
)
def test_nothing_else_passes_as_what_a_home_may_say(what: str, change: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        invocations.read(replace(told(), **change), BEN.id)
    assert (refused.value.code, refused.value.details["what"]) == ("envelope_refused", what)


@pytest.mark.parametrize("params", [{"a": b"bytes"}, {"a": float("nan")}, {1: 2}, {"a": "x" * 300_000}])
def test_parameters_that_a_surface_could_not_show_pass_no_more_than_in_a_message(params: dict[Any, Any]) -> None:
    with pytest.raises(Refused):
        invocations.read(replace(told(), parts=(said(params=params),)), BEN.id)


def test_no_author_has_an_envelope_of_it_admitted() -> None:
    with pytest.raises(Refused) as refused:
        check_body(encode_envelope(told()))
    assert refused.value.details["what"] == "v"
    assert msgspec.msgpack.decode(encode_envelope(told()))["v"] == UNSIGNED
