"""Sealed words are read by whom they are for, in the place where they were sealed, and by nobody else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from parlerd.core.envelope import (
    Envelope,
    Inside,
    SealedPart,
    TaskPart,
    TextPart,
    decode_envelope,
    encode_envelope,
    encode_inside,
    opened,
)
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MessageId, Millis, RoomId, idempotency_key, message_of_key
from parlerd.core.sealing import check_sealed, joined, pad, sealed_part
from parlerd.identity import sealing
from parlerd.identity.sealing import KEY, Epoch, KeyPair, derive, key_pair, message_key, unwrap, wrap
from tests.support.sealing import BEN, CAT, DAN, OLIVE, ROOM, Person, Repeating, composed, open_sealed, sealed, turned

FIRST = turned(None, [OLIVE])
SECOND = turned(FIRST, [BEN, CAT])
THIRD = turned(SECOND, [], [CAT])
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]
"""Points with which every product is zero. Source: RFC 7748, section 6.1, and the list at cr.yp.to/ecdh.html."""


def why(envelope: Envelope, author: Person, **how: Any) -> object:
    """Why the words cannot be read, or None."""
    try:
        joined(envelope, open_sealed(encode_envelope(envelope), author=author.id, **how))
    except Refused as error:
        return error.details["what"] if error.code == "sealed_unreadable" else error.code
    return None


def with_part(envelope: Envelope, **more: Any) -> Envelope:
    return replace(envelope, parts=(replace(sealed_part(envelope), **more), *envelope.parts[1:]))


def resealed(envelope: Envelope, words: bytes, key: bytes) -> Envelope:
    """The same envelope with other words under the key of the message, as a member that breaks the rules makes it."""
    blank = b"?" * (len(words) + 16)
    before, after = encode_envelope(with_part(envelope, text=blank)).split(blank)
    nonce = sealed_part(envelope).nonce
    return with_part(envelope, text=crypto_aead_xchacha20poly1305_ietf_encrypt(words, before + after, nonce, key))


# -- messages for everyone ---------------------------------------------------------------------------------


def test_who_has_the_epochs_secret_reads_the_message_as_its_author_composed_it() -> None:
    message = composed(TextPart("hello"), TaskPart(ttl_ms=Millis(5)), kind="task")
    envelope = sealed(message, OLIVE, SECOND)
    check_sealed(envelope)
    words = open_sealed(encode_envelope(envelope), author=OLIVE.id, epoch=SECOND.epoch)
    read = joined(envelope, words)
    assert replace(read, v=2) == message
    assert decode_envelope(opened(encode_envelope(envelope), bytes(64), words)) == read


def test_another_epochs_secret_opens_nothing() -> None:
    envelope = sealed(composed(), OLIVE, SECOND)
    assert why(envelope, OLIVE, epoch=SECOND.epoch) is None
    assert why(envelope, OLIVE, epoch=FIRST.epoch) == "epoch"
    assert why(envelope, OLIVE, epoch=THIRD.epoch) == "epoch"
    assert why(envelope, OLIVE) == "epoch"
    # Nor does it when it is called the other one.
    assert why(envelope, OLIVE, epoch=SECOND.epoch._replace(secret=THIRD.epoch.secret)) == "words"


def test_words_count_only_in_the_envelope_in_which_they_were_sealed() -> None:
    envelope = sealed(composed(TextPart("hello"), TaskPart(ttl_ms=Millis(5)), kind="task"), OLIVE, SECOND)
    changes: list[dict[str, Any]] = [
        {"id": MessageId("m_2"), "chain": "c_2"},
        {"room": RoomId("r_" + "b" * 32)},
        {"key": "k_2"},
        {"kind": "text"},
        {"counter": 2},
        {"previous": b"p" * 32},
        {"shown": 7},
        {"line": b"l" * 32},
        {"nonce": b"n" * 16},
        {"to": (BEN.id,)},
        {"role": "tester"},
        {"reply_to": MessageId("m_7")},
        {"hops": 1},
        {"parts": (envelope.parts[0], TaskPart(ttl_ms=Millis(6)))},
        {"parts": (envelope.parts[0],)},
    ]
    assert why(envelope, OLIVE, epoch=SECOND.epoch) is None
    for change in changes:
        assert why(replace(envelope, **change), OLIVE, epoch=SECOND.epoch) == "words", change
    for again in ({"nonce": b"n" * 24}, {"input": b"j" * 32}, {"text": bytes(80)}, {"digest": b"d" * 32}):
        assert why(with_part(envelope, **again), OLIVE, epoch=SECOND.epoch) == "words", again
    assert why(envelope, BEN, epoch=SECOND.epoch) == "words"
    both = {field for change in changes for field in change} | {"v", "parts", "visibility", "authored_at"}
    assert both | {"host", "via", "seen"} == set(Envelope.__struct_fields__)


def test_a_ciphertext_that_stands_in_its_envelope_twice_is_unreadable() -> None:
    envelope = sealed(composed(), OLIVE, SECOND)
    text = sealed_part(envelope).text
    twice = with_part(envelope, wraps=((BEN.id, text),))
    assert why(twice, OLIVE, epoch=SECOND.epoch) == "text"
    with pytest.raises(Refused, match="envelope_refused"):
        sealing.open_with_key(b"\xc1", bytes(KEY))


def test_one_messages_key_opens_that_message_and_no_other() -> None:
    one, other = (sealed(composed(id=id, counter=n), OLIVE, SECOND) for n, id in enumerate(["m_1", "m_2"], 1))
    key = sealing.key_of(one, author=OLIVE.id, epoch=SECOND.epoch)
    assert sealing.open_with_key(encode_envelope(one), key) == open_sealed(
        encode_envelope(one), author=OLIVE.id, epoch=SECOND.epoch
    )
    for bad in (key[:-1], b"", bytes(KEY)):
        with pytest.raises(Refused, match="sealed_unreadable"):
            sealing.open_with_key(encode_envelope(one), bad)
    with pytest.raises(Refused, match="sealed_unreadable"):
        sealing.open_with_key(encode_envelope(other), key)


@given(st.data())
def test_the_key_of_a_message_follows_from_everything_that_it_should(data: st.DataObject) -> None:
    texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=8)
    fields = st.tuples(st.binary(min_size=32, max_size=32), texts, st.binary(max_size=8), texts, texts)
    one, other = ((*data.draw(fields), data.draw(st.integers(1, 3))) for _ in range(2))
    keys = [message_key(a, RoomId(b), c, AgentId(d), MessageId(e), n) for a, b, c, d, e, n in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)


def test_a_derived_key_is_another_for_each_purpose_and_each_border_between_fields() -> None:
    purposes = [b"sealed/message", b"sealed/wrap", b"sealed/link", b"sealed/card", b"sealed/key", b"sealed/secret"]
    derived = {derive(bytes(32), purpose, *fields) for purpose in purposes for fields in ((b"ab", b"c"), (b"a", b"bc"))}
    assert len(derived) == 2 * len(purposes)


def test_no_two_messages_are_sealed_under_one_nonce_and_key() -> None:
    for readers in (None, [BEN]):
        message = composed(visibility=readers)
        parts = [sealed_part(sealed(message, OLIVE, SECOND, readers, seed=f"{n}")) for n in range(5)]
        assert len({part.nonce for part in parts}) == len({part.text for part in parts}) == 5


def test_the_padding_is_part_of_what_is_sealed() -> None:
    short, longer = (sealed(composed(TextPart(text)), OLIVE, SECOND) for text in ("yes", "no, never"))
    assert len(sealed_part(short).text) == len(sealed_part(longer).text)
    for words in (b"no padding at all", pad(b"x") + bytes(64), bytes(64)):
        # A member who forgets the padding, or says less than there is.
        key = sealing.key_of(short, author=OLIVE.id, epoch=SECOND.epoch)
        assert why(resealed(short, words, key), OLIVE, epoch=SECOND.epoch) == "padding"


# -- private messages --------------------------------------------------------------------------------------

PRIVATE = sealed(composed(visibility=[BEN]), OLIVE, SECOND, [BEN])


def me(person: Person, counter: int = 1) -> tuple[Any, KeyPair]:
    return person.id, person.pair(counter)


def test_a_private_message_is_read_by_its_readers_and_its_author() -> None:
    check_sealed(PRIVATE)
    for person in (OLIVE, BEN):
        assert why(PRIVATE, OLIVE, epoch=SECOND.epoch, me=me(person)) is None
    assert why(PRIVATE, OLIVE, epoch=SECOND.epoch, me=me(CAT)) == "reader"
    assert why(PRIVATE, OLIVE, me=me(BEN, 2)) == "wrap"


def test_the_epochs_secret_opens_no_private_message() -> None:
    """The fault of a key that is derived from the epoch's secret: each member would have it."""
    assert why(PRIVATE, OLIVE, epoch=SECOND.epoch) == "reader"
    derived = message_key(SECOND.epoch.secret, ROOM, SECOND.epoch.record, OLIVE.id, PRIVATE.id, PRIVATE.counter)
    with pytest.raises(Refused, match="sealed_unreadable"):
        sealing.open_with_key(encode_envelope(PRIVATE), derived)


def test_a_wrap_of_another_reader_message_room_or_author_opens_nothing() -> None:
    part = sealed_part(PRIVATE)
    (_, first), (_, second) = part.wraps
    names = [agent for agent, _ in part.wraps]
    mixed = with_part(PRIVATE, wraps=tuple(zip(names, (second, first), strict=True)))
    assert why(mixed, OLIVE, me=me(BEN)) == "wrap"
    other = sealed(composed(id="m_2", visibility=[BEN]), OLIVE, SECOND, [BEN])
    moved = with_part(other, wraps=part.wraps, ephemeral=part.ephemeral, digest=part.digest)
    assert why(moved, OLIVE, me=me(BEN)) == "wrap"
    assert why(PRIVATE, CAT, me=me(BEN)) == "wrap"
    # With the wraps as they are, whatever stands around them is bound by the ciphertext.
    assert why(replace(PRIVATE, visibility=(BEN.id, CAT.id)), OLIVE, me=me(BEN)) == "words"
    added = (*part.wraps, (CAT.id, bytes(48)))
    assert why(with_part(PRIVATE, wraps=tuple(sorted(added))), OLIVE, me=me(BEN)) == "words"


def test_one_ciphertext_is_never_given_to_two_readers_under_two_keys() -> None:
    """An AEAD shows no reader that the ciphertext has only one meaning; the digest of the key does."""
    ephemeral = key_pair(b"e" * 32)
    keys = {OLIVE: b"1" * 32, BEN: b"2" * 32}
    context = (b"message", ROOM.encode(), SECOND.epoch.record, OLIVE.id.encode(), PRIVATE.id.encode())
    wraps = tuple(
        sorted(
            (who.id, wrap(key, who.pair().public, ephemeral, *context, who.id.encode())) for who, key in keys.items()
        )
    )
    forged = with_part(PRIVATE, ephemeral=ephemeral.public, wraps=wraps, digest=sealing.key_digest(b"1" * 32))
    check_sealed(forged)
    assert why(forged, OLIVE, me=me(OLIVE)) == "words"
    assert why(forged, OLIVE, me=me(BEN)) == "key"


def test_each_private_message_has_a_key_of_its_own() -> None:
    many = [sealed(composed(visibility=[BEN]), OLIVE, SECOND, [BEN], seed=f"{n}") for n in range(5)]
    keys = {sealing.key_of(each, author=OLIVE.id, me=me(BEN)) for each in many}
    assert len(keys) == 5
    assert len({sealed_part(each).ephemeral for each in many}) == 5


def test_a_private_message_is_wrapped_to_exactly_those_whom_it_is_for() -> None:
    keys = {who.id: who.pair().public for who in (OLIVE, BEN, CAT)}
    for message, readers in (
        (composed(visibility=[BEN]), None),
        (composed(visibility=[BEN]), keys),
        (composed(visibility=[BEN]), {BEN.id: keys[BEN.id]}),
        (composed(), keys),
    ):
        with pytest.raises(ValueError, match="wrapped to its readers"):
            sealing.seal(
                message, author=OLIVE.id, epoch=SECOND.epoch, readers=readers, input=bytes(32), random=Repeating()
            )


# -- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_a_key_with_which_everybody_could_read_is_refused(point: bytes) -> None:
    pair = key_pair(b"m" * 32)
    for attempt in (
        lambda: sealing.check_key(point),
        lambda: wrap(b"secret", point, pair, b"context"),
        lambda: unwrap(bytes(48), pair, point, b"context"),
    ):
        with pytest.raises(Refused, match="sealing_key_refused"):
            attempt()


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_length_never_reaches_the_library(size: int) -> None:
    with pytest.raises(Refused, match="sealing_key_refused"):
        sealing.check_key(bytes([9]) * size)
    with pytest.raises(Refused, match="sealing_key_refused"):
        unwrap(bytes(48), key_pair(b"m" * 32), bytes([9]) * size, b"context")


def test_a_signing_key_in_the_place_of_a_sealing_key_opens_nothing() -> None:
    """A key of the wrong kind: 32 bytes are 32 bytes, and the wrap is simply for somebody else."""
    pair, ephemeral = BEN.pair(), key_pair(b"e" * 32)
    sealing.check_key(pair.public)
    wrapped = wrap(b"secret", pair.public, ephemeral, b"context")
    for other in (key_pair(pair.public), CAT.pair()):
        with pytest.raises(Refused, match="sealed_unreadable"):
            unwrap(wrapped, other, ephemeral.public, b"context")


@given(st.binary(max_size=64), st.lists(st.binary(max_size=8), max_size=3), st.lists(st.binary(max_size=8), max_size=3))
def test_what_is_wrapped_is_read_in_its_context_alone(payload: bytes, said: list[bytes], read: list[bytes]) -> None:
    pair, ephemeral = BEN.pair(), key_pair(b"e" * 32)
    wrapped = wrap(payload, pair.public, ephemeral, *said)
    assert unwrap(wrapped, pair, ephemeral.public, *said) == payload
    if said != read:
        with pytest.raises(Refused, match="sealed_unreadable"):
            unwrap(wrapped, pair, ephemeral.public, *read)


@given(st.binary(max_size=80))
def test_no_bytes_at_all_are_a_wrap(wrapped: bytes) -> None:
    with pytest.raises(Refused, match="sealed_unreadable"):
        unwrap(wrapped, BEN.pair(), key_pair(b"e" * 32).public, b"context")
    with pytest.raises(Refused, match="sealed_unreadable"):
        sealing.decrypt(wrapped, bytes(32), "card")


def test_a_text_under_a_key_is_the_same_again() -> None:
    assert sealing.decrypt(sealing.encrypt(b"text", bytes(32), Repeating()), bytes(32), "card") == b"text"


def test_a_secret_never_shows_itself() -> None:
    secret = bytes(range(32))
    pair, epoch = key_pair(secret), Epoch(1, b"r" * 32, secret)
    for shown in (repr(pair), repr(epoch), str(epoch), f"{pair}", repr(turned(None, [OLIVE]))):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert FIRST.epoch.secret.hex() not in repr(FIRST)
    assert repr(FIRST.epoch.secret) not in repr(FIRST)


# -- headers -----------------------------------------------------------------------------------------------


def test_what_requests_said_is_hidden_from_a_home_that_guesses() -> None:
    hidden = sealing.hidden_key(b"h" * 32, ROOM, "retry-7")
    assert idempotency_key(hidden) == hidden
    assert message_of_key(hidden) is None
    assert len(hidden) == 34
    others = [
        sealing.hidden_key(b"g" * 32, ROOM, "retry-7"),
        sealing.hidden_key(b"h" * 32, RoomId("r_2"), "retry-7"),
        sealing.hidden_key(b"h" * 32, ROOM, "retry-8"),
    ]
    assert len({hidden, *others}) == 4
    digests = [
        sealing.hidden_digest(secret, ROOM, digest)
        for secret, digest in itertools.product((b"h" * 32, b"g" * 32), (b"d" * 32, b"e" * 32))
    ]
    assert len(set(digests)) == 4
    assert {len(each) for each in digests} == {32}


# -- any bytes ---------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.sampled_from([sealed(composed(), OLIVE, SECOND), PRIVATE]), st.data())
def test_damage_anywhere_in_a_sealed_message_is_a_refusal(envelope: Envelope, data: st.DataObject) -> None:
    body = bytearray(encode_envelope(envelope))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused, match=r"sealed_unreadable|envelope_refused"):
        open_sealed(bytes(body), author=OLIVE.id, epoch=SECOND.epoch, me=me(BEN))


def test_an_envelope_that_no_check_lets_through_is_a_refusal_all_the_same() -> None:
    envelope = sealed(composed(), OLIVE, SECOND)
    assert why(replace(envelope, counter=-1), OLIVE, epoch=SECOND.epoch) == "counter"
    assert why(replace(envelope, counter=2**64 - 1), OLIVE, epoch=SECOND.epoch) == "words"
    assert why(with_part(envelope, epoch=-1), OLIVE, epoch=SECOND.epoch) == "epoch"
    for size in (0, 1, 15, 16):
        assert why(with_part(envelope, text=bytes([7]) * size), OLIVE, epoch=SECOND.epoch) == "words"
    assert why(with_part(envelope, nonce=b""), OLIVE, epoch=SECOND.epoch) == "words"


_parts = st.builds(
    SealedPart,
    epoch=st.just(SECOND.epoch.number) | st.integers(-(2**63), 2**64 - 1),
    record=st.just(SECOND.epoch.record) | st.binary(max_size=40),
    input=st.binary(max_size=40),
    nonce=st.binary(min_size=24, max_size=24) | st.binary(max_size=30),
    text=st.binary(max_size=200),
    ephemeral=st.just(OLIVE.pair().public) | st.binary(max_size=40),
    digest=st.binary(max_size=40),
    wraps=st.lists(st.tuples(st.sampled_from([BEN.id, CAT.id]), st.binary(max_size=60)), max_size=3).map(tuple),
)


@settings(max_examples=200)
@given(_parts, st.integers(-(2**63), 2**64 - 1), st.sampled_from([None, (), (BEN.id,)]), st.text(max_size=8))
def test_whatever_an_envelope_holds_opening_it_is_a_refusal(
    part: SealedPart, counter: int, visibility: tuple[AgentId, ...] | None, id: str
) -> None:
    envelope = replace(
        sealed(composed(), OLIVE, SECOND), parts=(part,), counter=counter, visibility=visibility, id=MessageId(id)
    )
    assert why(envelope, OLIVE, epoch=SECOND.epoch, me=me(BEN)) in (
        "epoch",
        "counter",
        "reader",
        "wrap",
        "words",
        "text",
    )


@given(st.binary(max_size=200))
def test_words_that_a_member_made_up_are_a_message_or_a_refusal(words: bytes) -> None:
    envelope = sealed(composed(), OLIVE, SECOND)
    key = sealing.key_of(envelope, author=OLIVE.id, epoch=SECOND.epoch)
    forged = resealed(envelope, pad(words), key)
    assert why(forged, OLIVE, epoch=SECOND.epoch) in ("format", "version", "outline")


def test_a_member_that_is_not_in_the_epoch_has_no_key_of_it() -> None:
    assert DAN.id not in SECOND.roster
    private = sealed(composed(visibility=[BEN]), OLIVE, SECOND, [BEN])
    assert why(private, OLIVE, me=me(DAN)) == "reader"


def test_the_words_are_an_inside_and_nothing_else() -> None:
    envelope = sealed(composed(), OLIVE, SECOND)
    words = open_sealed(encode_envelope(envelope), author=OLIVE.id, epoch=SECOND.epoch)
    assert words == encode_inside(
        Inside(kind="text", authored_at=Millis(1_700_000_000_000), host="codex", via="mcp", parts=(TextPart("hello"),))
    )
    assert isinstance(envelope.parts[0], SealedPart)
    with pytest.raises(Refused, match="envelope_refused"):
        open_sealed(encode_envelope(composed()), author=OLIVE.id, epoch=SECOND.epoch)


def test_a_pair_follows_from_its_private_half() -> None:
    assert key_pair(BEN.pair().private) == BEN.pair()
