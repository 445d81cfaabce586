"""What stands outside of a sealed message and what inside, and that the two say the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core import sealing
from parlerd.core.envelope import (
    OPENED,
    SEALED,
    SIGNED,
    BlobPart,
    BlobSeal,
    DataPart,
    Envelope,
    GatedPart,
    GatePart,
    GuardPart,
    HandoffAnswerPart,
    HandoffPart,
    MemoryPart,
    OpenedPart,
    Part,
    SealedPart,
    TaskPart,
    TextPart,
    UnknownPart,
    decode_envelope,
    encode_envelope,
    encode_inside,
    opened,
    opened_part,
    root_chain,
)
from parlerd.core.errors import Refused
from parlerd.core.model import INVOCATION, AgentId, BlobId, MessageId, Millis, RoomId
from parlerd.core.sealing import (
    FIXED_KINDS,
    OTHER,
    check_composed,
    check_sealed,
    joined,
    outline,
    pad,
    padded_length,
    unpad,
)
from parlerd.core.words import check_envelope
from tests.support.core import BEN, CAT, OWNER, outcome

ID = MessageId("m_1")
SECRET = "a word that no home reads"
BLOB = BlobId("ab" * 32)
SEAL = BlobSeal(key=b"k" * 32, prefix=b"p" * 19, digest=b"d" * 32)
SHAPES: dict[str, tuple[str, tuple[Part, ...], tuple[Part, ...]]] = {
    "text": ("text", (TextPart(SECRET),), ()),
    "a kind of one's own": ("poem", (TextPart(SECRET),), ()),
    "data": ("text", (DataPart({SECRET: 1}),), ()),
    "an offer": (
        "handoff",
        (HandoffPart(next=SECRET, summary=SECRET, target="ben", files=(SECRET,), ttl_ms=Millis(60_000)),),
        (HandoffPart(next="", ttl_ms=Millis(60_000)),),
    ),
    "an answer": (
        "handoff-declined",
        (HandoffAnswerPart("declined", reason=SECRET),),
        (HandoffAnswerPart("declined"),),
    ),
    "a memory": ("memory", (MemoryPart(key="secret-key"), TextPart(SECRET)), ()),
    "a memory for a version": (
        "memory",
        (TextPart(SECRET), MemoryPart(key="secret-key", if_version=3), GuardPart()),
        (GuardPart(),),
    ),
    "what forgets": ("memory", (MemoryPart(key="secret-key", forgets=True), GuardPart((ID,))), (GuardPart((ID,)),)),
    "a task": ("task", (TextPart(SECRET), TaskPart(ttl_ms=Millis(5))), (TaskPart(ttl_ms=Millis(5)),)),
    "a file": (
        "file",
        (BlobPart(blob=BLOB, size=70_000, name=SECRET, seal=SEAL),),
        (BlobPart(blob=BLOB, size=70_032),),
    ),
    "code": (
        "code",
        (BlobPart(blob=BLOB, size=0, name=SECRET, tip="a" * 40, base="b" * 40, left_out=3, seal=SEAL),),
        (BlobPart(blob=BLOB, size=16),),
    ),
}
EVERY = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def composed(kind: str, parts: tuple[Part, ...], **more: Any) -> Envelope:
    """A message as its author composes it before it is sealed."""
    replies = kind.startswith("handoff-")
    plain = Envelope(
        v=SIGNED,
        id=ID,
        room=RoomId("r_1"),
        key="k_1",
        kind=kind,
        chain="c_7" if replies else root_chain(ID),
        hops=1 if replies else 0,
        authored_at=Millis(1_700_000_000_000),
        counter=1,
        previous=b"",
        line=bytes(32),
        nonce=bytes(16),
        host="codex",
        via="mcp",
        parts=parts,
        reply_to=MessageId("m_7") if replies else None,
    )
    return replace(plain, **more)


def part_of(message: Envelope, **more: Any) -> SealedPart:
    """Stands in for what the encryption makes: the words in clear, as long as the ciphertext would be."""
    padded = pad(encode_inside(sealing.inside(message)))
    wraps: dict[str, Any] = {}
    if message.visibility is not None:
        readers = sorted({*message.visibility, OWNER.id})
        wraps = {
            "ephemeral": b"e" * 32,
            "digest": b"d" * 32,
            "wraps": tuple((agent, b"w" * 48) for agent in readers),
        }
    part = SealedPart(epoch=1, record=b"r" * 32, input=b"i" * 32, nonce=b"n" * 24, text=padded + b"t" * 16, **wraps)
    return replace(part, **more)


def outside(message: Envelope, **more: Any) -> Envelope:
    return sealing.outside(message, part_of(message, **more))


def refusal(envelope: Envelope) -> object:
    """The field for which the outside is refused, or None."""
    try:
        check_sealed(envelope)
    except Refused as error:
        return error.details["what"]
    return None


def why_unreadable(envelope: Envelope, words: bytes) -> object:
    try:
        joined(envelope, words)
    except Refused as error:
        return error.details["what"] if error.code == "sealed_unreadable" else error.code
    return None


# -- outside and inside ------------------------------------------------------------------------------------


@EVERY
def test_the_home_is_told_the_outline_and_none_of_the_words(
    shape: tuple[str, tuple[Part, ...], tuple[Part, ...]],
) -> None:
    kind, parts, told = shape
    message = composed(kind, parts)
    envelope = outside(message)
    assert refusal(envelope) is None
    assert envelope.parts[1:] == told == outline(parts)
    blind = encode_envelope(sealing.outside(message, part_of(message, text=b"")))
    for hidden in (SECRET, "secret-key", "codex", "mcp", "poem", "a" * 40):
        assert hidden.encode() not in blind
    assert envelope.kind == (kind if kind in FIXED_KINDS else OTHER)
    assert (envelope.authored_at, envelope.host, envelope.via) == (0, "", "")


@EVERY
def test_outside_and_inside_are_the_message_again(shape: tuple[str, tuple[Part, ...], tuple[Part, ...]]) -> None:
    message = composed(shape[0], shape[1])
    envelope = outside(message)
    words = encode_inside(sealing.inside(message))
    assert joined(envelope, words) == replace(message, v=OPENED)
    body = encode_envelope(envelope)
    kept = opened(body, b"s" * 64, words)
    assert decode_envelope(kept) == replace(message, v=OPENED)
    assert opened_part(kept) == OpenedPart(body, b"s" * 64, words)


def test_a_message_that_tells_its_home_something_else_than_its_readers_is_unreadable() -> None:
    offer = composed("handoff", (HandoffPart(next="go on", ttl_ms=Millis(60_000)),))
    words = encode_inside(sealing.inside(offer))
    envelope = outside(offer)
    part = envelope.parts[0]
    assert why_unreadable(envelope, words) is None
    for parts in ((part,), (part, HandoffPart(next="", ttl_ms=Millis(90_000))), (part, TaskPart(ttl_ms=Millis(5)))):
        assert why_unreadable(replace(envelope, parts=parts), words) == "outline"
    assert why_unreadable(replace(envelope, kind="text"), words) == "outline"
    assert why_unreadable(envelope, encode_inside(replace(sealing.inside(offer), kind="poem"))) == "outline"
    assert why_unreadable(envelope, encode_inside(replace(sealing.inside(offer), v=2))) == "version"
    assert why_unreadable(envelope, b"\xc1") == "format"
    # That an action was invoked only the room's home says; nobody would be told of such a message.
    other = replace(envelope, kind=OTHER, parts=envelope.parts[:1])
    invoked = replace(sealing.inside(offer), kind=INVOCATION, parts=(TextPart("done"),))
    assert why_unreadable(other, encode_inside(replace(invoked, kind="poem"))) is None
    assert why_unreadable(other, encode_inside(invoked)) == "kind"


def test_what_members_read_is_checked_as_what_travels_in_clear() -> None:
    for bad in ((), (TextPart(""),), (GatedPart(b"", b""),), (TextPart("t" * 300_000),)):
        message = composed("text", bad)
        with pytest.raises(Refused):
            joined(outside(message), encode_inside(sealing.inside(message)))


def test_in_a_sealed_room_a_file_is_sealed_and_elsewhere_none_is() -> None:
    clear, sealed = BlobPart(blob=BLOB, size=1, name="a"), BlobPart(blob=BLOB, size=1, name="a", seal=SEAL)
    check_envelope(composed("file", (clear,)))
    with pytest.raises(Refused):
        check_envelope(composed("file", (sealed,)))

    def reads(part: BlobPart) -> str:
        message = composed("file", (part,))
        return outcome(lambda: joined(outside(message), encode_inside(sealing.inside(message))))

    assert reads(sealed) == "ok"
    for bad in (clear, replace(sealed, seal=replace(SEAL, key=b"short"))):
        assert reads(bad) == "envelope_refused"


def test_a_message_is_checked_before_it_is_sealed_as_its_readers_check_it() -> None:
    good = composed("file", (BlobPart(blob=BLOB, size=1, name="a", seal=SEAL),))
    check_composed(good)
    for bad in (replace(good, parts=(BlobPart(blob=BLOB, size=1),)), replace(good, kind="text"), replace(good, via="")):
        with pytest.raises(Refused, match="envelope_refused"):
            check_composed(bad)


@pytest.mark.parametrize(
    "parts",
    [
        (MemoryPart(key="deploy", forgets=True),),
        (MemoryPart(key="deploy", forgets=True), GuardPart()),
        (MemoryPart(key="deploy", forgets=True), GuardPart((ID,)), GuardPart((ID,))),
        (MemoryPart(key="deploy", forgets=True), GuardPart((ID,)), TextPart("and this")),
        (TextPart("blue"), MemoryPart(key="deploy", if_version=1)),
        (TextPart("blue"), MemoryPart(key="deploy", if_version=1), GuardPart((ID,))),
        (TextPart("blue"), MemoryPart(key="deploy"), GuardPart()),
    ],
    ids=[
        "forgets and has no guard",
        "forgets nothing",
        "has two",
        "forgets and says something",
        "is for a version and has no guard",
        "is for a version and takes words away",
        "depends on nothing",
    ],
)
def test_what_depends_on_the_memory_has_one_guard_and_what_does_not_has_none(parts: tuple[Part, ...]) -> None:
    with pytest.raises(Refused, match="envelope_refused"):
        check_composed(composed("memory", parts))


def test_only_a_message_of_the_memory_in_a_sealed_room_has_a_guard() -> None:
    with pytest.raises(Refused, match="envelope_refused"):
        check_composed(composed("text", (TextPart("hello"), GuardPart())))
    with pytest.raises(Refused, match="envelope_refused"):
        check_envelope(composed("memory", (MemoryPart(key="deploy", forgets=True), GuardPart((ID,)))))
    check_envelope(composed("memory", (MemoryPart(key="deploy", forgets=True),)))
    private = composed("memory", (MemoryPart(key="deploy", forgets=True), GuardPart((ID,))), visibility=(OWNER.id,))
    assert refusal(outside(private)) == "parts"


def test_nobody_posts_in_clear_what_belongs_to_sealed_messages() -> None:
    message = composed("text", (TextPart("hello"),))
    for part in (part_of(message), OpenedPart(b"", b"", b"")):
        with pytest.raises(Refused, match="envelope_refused"):
            check_envelope(replace(message, parts=(TextPart("hello"), part)))
    for version in (SEALED, OPENED):
        with pytest.raises(Refused, match="envelope_refused"):
            check_envelope(replace(message, v=version))


def test_a_part_that_came_later_is_read_inside_as_one_that_is_not_known() -> None:
    message = composed("text", (TextPart("hello"),))
    later = msgspec.msgpack.encode(
        {"kind": "text", "authored_at": 1, "via": "mcp", "parts": [{"type": "hologram", "x": 1}]}
    )
    (part,) = joined(outside(message), later).parts
    assert isinstance(part, UnknownPart)


# -- the check of the outside ------------------------------------------------------------------------------

PLAIN = composed("text", (TextPart("hello"),))
PRIVATE = composed("text", (TextPart("hello"),), visibility=(BEN.id, CAT.id), to=(BEN.id,))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"v": SIGNED}, "v"),
        ({"v": OPENED}, "v"),
        ({"parts": (TextPart("hello"),)}, "parts"),
        ({"kind": "poem"}, "kind"),
        ({"kind": "memory"}, "kind"),
        ({"authored_at": Millis(1)}, "authored_at"),
        ({"host": "codex"}, "host"),
        ({"via": "mcp"}, "via"),
        ({"nonce": b""}, "nonce"),
        ({"counter": 0}, "counter"),
        ({"line": b""}, "line"),
        ({"chain": "c_2"}, "chain"),
    ],
)
def test_an_outside_that_says_too_much_or_too_little_is_refused(change: dict[str, Any], what: str) -> None:
    assert refusal(replace(outside(PLAIN), **change)) == what


@pytest.mark.parametrize(
    ("message", "change", "what"),
    [
        (PLAIN, {"epoch": 0}, "epoch"),
        (PLAIN, {"record": b""}, "record"),
        (PLAIN, {"input": b""}, "input"),
        (PLAIN, {"nonce": b"n" * 12}, "nonce"),
        (PLAIN, {"text": b""}, "text"),
        (PLAIN, {"text": b"t" * 16}, "text"),
        (PLAIN, {"text": b"t" * (16 + 65)}, "text"),
        (PLAIN, {"digest": b"d" * 32}, "digest"),
        (PLAIN, {"ephemeral": b"e" * 32}, "ephemeral"),
        (PLAIN, {"wraps": ((BEN.id, b"w" * 48),)}, "wraps"),
        (PRIVATE, {"digest": b""}, "digest"),
        (PRIVATE, {"ephemeral": b""}, "ephemeral"),
        (PRIVATE, {"wraps": ()}, "wraps"),
        (PRIVATE, {"wraps": ((BEN.id, b"w" * 48),)}, "wraps"),
        (PRIVATE, {"wraps": ((CAT.id, b"w" * 48), (BEN.id, b"w" * 48))}, "wraps"),
        (PRIVATE, {"wraps": ((BEN.id, b"w" * 48), (BEN.id, b"w" * 48), (CAT.id, b"w" * 48))}, "wraps"),
        (PRIVATE, {"wraps": ((BEN.id, b"w" * 48), (CAT.id, b"w" * 47))}, "wraps"),
    ],
)
def test_encrypted_words_of_another_form_are_refused(message: Envelope, change: dict[str, Any], what: str) -> None:
    assert refusal(outside(message)) is None
    assert refusal(outside(message, **change)) == what


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("text", (TextPart("hello"),)),
        ("text", (TaskPart(ttl_ms=Millis(5)),)),
        ("task", (TaskPart(),)),
        ("task", (TaskPart(ttl_ms=Millis(5)), TaskPart(ttl_ms=Millis(5)))),
        ("text", (HandoffPart(next=""),)),
        ("handoff", (HandoffPart(next="go on"),)),
        ("handoff", (HandoffPart(next="", ttl_ms=Millis(1)),)),
        ("handoff-accepted", (HandoffAnswerPart("declined"),)),
        ("text", (BlobPart(blob=BLOB, size=16),)),
        ("file", (BlobPart(blob=BlobId("../x"), size=16),)),
        ("file", (BlobPart(blob=BLOB, size=16, name="a"),)),
        ("file", (BlobPart(blob=BLOB, size=3),)),
        ("text", (GatePart(enabled="true"),)),
        ("text", (GuardPart(),)),
        ("other", (GuardPart((ID, ID)),)),
        ("other", (GuardPart((MessageId("x"),)),)),
        ("other", (GuardPart(tuple(MessageId(f"m_{n}") for n in range(65))),)),
    ],
)
def test_an_outline_that_is_none_or_is_of_another_kind_is_refused(kind: str, told: tuple[Part, ...]) -> None:
    envelope = outside(PLAIN)
    assert refusal(replace(envelope, kind=kind, parts=(*envelope.parts, *told))) == "parts"


@given(st.data())
def test_damage_anywhere_in_a_sealed_envelope_gives_an_envelope_or_a_refusal(data: st.DataObject) -> None:
    body = bytearray(encode_envelope(outside(data.draw(st.sampled_from([PLAIN, PRIVATE])))))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = decode_envelope(bytes(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert outcome(lambda: check_sealed(envelope)) in ("ok", "envelope_refused")


@given(st.binary(max_size=300))
def test_words_of_any_bytes_are_a_message_or_unreadable(words: bytes) -> None:
    assert outcome(lambda: joined(outside(PLAIN), words)) != "ok"


# -- lengths -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=5_000))
def test_what_is_padded_is_the_same_again(data: bytes) -> None:
    assert unpad(pad(data)) == data
    assert len(pad(data)) == padded_length(len(data))


@given(st.integers(0, 2**40))
def test_padding_costs_at_most_what_the_page_says(length: int) -> None:
    padded = padded_length(length)
    assert length < padded
    assert padded % 64 == 0
    assert padded <= 1_024 or padded - length - 1 <= 0.12 * (length + 1)
    assert padded_length(padded - 1) == padded


def test_lengths_are_rounded_to_64_bytes_and_then_by_padme() -> None:
    assert [padded_length(length) for length in (0, 62, 63, 64, 1_023)] == [64, 64, 64, 128, 1_024]
    assert [padded_length(length) for length in (1_024, 2_000, 9_999, 100_000)] == [1_088, 2_048, 10_240, 100_352]


@pytest.mark.parametrize(
    "padded",
    [b"", b"\0" * 64, b"x" * 64, b"\x80", pad(b"x") + b"\0" * 64, pad(b"x" * 2_000)[:-1], pad(b"x")[:-1] + b"y"],
)
def test_what_is_not_padded_exactly_so_is_unreadable(padded: bytes) -> None:
    with pytest.raises(Refused, match="sealed_unreadable"):
        unpad(padded)


def test_agents_without_keys_are_given_no_wrap() -> None:
    granted = AgentId("T" + "A" * 52)
    message = composed("text", (TextPart("hello"),), visibility=(granted,))
    assert refusal(outside(message)) == "wraps"
