"""The text form of keys: published pairs, a slow second encoder, round trips, and everything that is not a key."""

from __future__ import annotations

import base64
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.identity import nkeys
from parlerd.identity.nkeys import Kind
from parlerd.identity.signatures import SigningKey

_keys = st.binary(min_size=32, max_size=32)
_kinds: st.SearchStrategy[Kind] = st.sampled_from(["agent", "principal", "relay"])

PUBLISHED = [
    # A seed and its public key, as the documentation of nkeys prints them.
    (
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
    ),
    (
        "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY",
        "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT",
    ),
]


def _crc(data: bytes) -> int:
    """CRC-16/XMODEM as its definition reads: polynomial 0x1021, from 0, most significant bit first."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1) ^ (0x1021 if value & 0x8000 else 0)
            value &= 0xFFFF
    return value


def _slowly(payload: bytes) -> str:
    """Base32 without padding of a payload and its CRC, five bits at a time."""
    data = payload + bytes([_crc(payload) & 0xFF, _crc(payload) >> 8])
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))


def test_the_crc_is_the_one_the_format_names() -> None:
    assert _crc(b"123456789") == 0x31C3, "the check value published for CRC-16/XMODEM"


@pytest.mark.parametrize(("seed", "public"), PUBLISHED)
def test_a_published_seed_gives_its_published_public_key(seed: str, public: str) -> None:
    kind, raw = nkeys.decode_seed(seed)
    assert (kind, SigningKey(kind, raw).id) == ("agent", public)
    assert nkeys.encode_seed(kind, raw) == seed


@given(raw=_keys)
def test_the_text_is_prefix_key_and_crc_in_base32(raw: bytes) -> None:
    assert nkeys.encode_public("agent", raw) == _slowly(bytes([20 << 3]) + raw)
    assert nkeys.encode_public("principal", raw) == _slowly(bytes([0]) + raw)
    # A seed's two bytes hold five bits of S, eight bits of the kind and three spare ones.
    assert nkeys.encode_seed("agent", raw) == _slowly(bytes([18 << 3 | (20 << 3) >> 5, ((20 << 3) & 31) << 3]) + raw)
    assert nkeys.encode_seed("principal", raw) == _slowly(bytes([18 << 3, 0]) + raw)
    assert nkeys.encode_public("relay", raw) == _slowly(bytes([13 << 3]) + raw)
    assert nkeys.encode_seed("relay", raw) == _slowly(bytes([18 << 3 | (13 << 3) >> 5, ((13 << 3) & 31) << 3]) + raw)


@given(kind=_kinds, raw=_keys)
def test_a_text_decodes_to_what_was_encoded(kind: Kind, raw: bytes) -> None:
    public, seed = nkeys.encode_public(kind, raw), nkeys.encode_seed(kind, raw)
    assert nkeys.decode_public(public) == (kind, raw)
    assert nkeys.decode_seed(seed) == (kind, raw)
    letter = {"agent": "U", "principal": "A", "relay": "N"}[kind]
    assert (public[0], len(public)) == (letter, 56)
    assert (seed[:2], len(seed)) == ("S" + letter, 58)
    for other in get_args(Kind):
        assert nkeys.is_public(public, other) == (other == kind)


@given(kind=_kinds, raw=_keys, place=st.integers(0, 57), letter=st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_one_changed_letter_is_never_another_key(kind: Kind, raw: bytes, place: int, letter: str) -> None:
    for text, decode in (
        (nkeys.encode_public(kind, raw), nkeys.decode_public),
        (nkeys.encode_seed(kind, raw), nkeys.decode_seed),
    ):
        at = place % len(text)
        changed = text[:at] + letter + text[at + 1 :]
        if changed != text:
            with pytest.raises(Refused):
                decode(changed)


@given(text=st.one_of(st.text(), st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=", min_size=56, max_size=58)))
def test_other_text_is_refused_with_a_code_and_without_the_text(text: str) -> None:
    for decode in (nkeys.decode_public, nkeys.decode_seed):
        with pytest.raises(Refused) as caught:
            decode(text)
        assert caught.value.code == "invalid_param"
        assert len(text) < 8 or text not in str(caught.value.body())
    assert not nkeys.is_public(text, "agent")


@pytest.mark.parametrize(
    "change", [str.lower, lambda text: text + "=", lambda text: text[:-1], lambda text: f" {text}"]
)
def test_only_one_text_is_accepted_for_a_key(change: object) -> None:
    assert callable(change)
    with pytest.raises(Refused):
        nkeys.decode_public(change(nkeys.encode_public("agent", bytes(32))))


def test_spare_bits_of_a_seed_do_not_make_a_second_text() -> None:
    text = nkeys.encode_seed("agent", bytes(32))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    second = text[:-1] + alphabet[alphabet.index(text[-1]) | 1]
    assert second != text
    assert base64.b32decode(second + "======") == base64.b32decode(text + "======"), "only spare bits differ"
    with pytest.raises(Refused):
        nkeys.decode_seed(second)


def test_keys_of_other_kinds_are_refused() -> None:
    for prefix in (1 << 3, 14 << 3, 2 << 3, 18 << 3):
        with pytest.raises(Refused):
            nkeys.decode_public(_slowly(bytes([prefix]) + bytes(32)))
    operator = _slowly(bytes([18 << 3 | (14 << 3) >> 5, ((14 << 3) & 31) << 3]) + bytes(32))
    not_a_seed = _slowly(bytes([17 << 3 | (20 << 3) >> 5, ((20 << 3) & 31) << 3]) + bytes(32))
    spare = _slowly(bytes([18 << 3 | (20 << 3) >> 5, ((20 << 3) & 31) << 3 | 1]) + bytes(32))
    for text in (operator, not_a_seed, spare):
        with pytest.raises(Refused):
            nkeys.decode_seed(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_a_programming_error(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        nkeys.encode_public("agent", bytes(size))
