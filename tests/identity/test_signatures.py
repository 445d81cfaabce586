"""Signatures: for these bytes, this purpose and this key, and for nothing else; a private key never shows itself."""

from __future__ import annotations

import copy
import pickle
from typing import get_args

import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.identity import nkeys
from parlerd.identity.signatures import Domain, SigningKey, sign, verify

SEED = bytes(range(32))
KEY = SigningKey("agent", SEED)
DOMAINS: tuple[Domain, ...] = get_args(Domain)

_domains: st.SearchStrategy[Domain] = st.sampled_from(DOMAINS)


@given(domain=_domains, data=st.binary(max_size=200))
def test_what_was_signed_verifies(domain: Domain, data: bytes) -> None:
    assert verify(KEY.id, domain, data, KEY.sign(domain, data))


@given(data=st.binary(max_size=50), signed=_domains, claimed=_domains)
def test_a_signature_for_one_purpose_is_worth_nothing_for_another(data: bytes, signed: Domain, claimed: Domain) -> None:
    assert verify(KEY.id, claimed, data, KEY.sign(signed, data)) == (signed == claimed)


@given(data=st.binary(max_size=50), place=st.integers(0, 63), flip=st.integers(1, 255))
def test_a_changed_signature_is_a_no(data: bytes, place: int, flip: int) -> None:
    signature = bytearray(KEY.sign("parler/message", data))
    signature[place] ^= flip
    assert not verify(KEY.id, "parler/message", data, bytes(signature))


@given(data=st.binary(max_size=50), other=st.binary(max_size=50))
def test_other_bytes_are_a_no(data: bytes, other: bytes) -> None:
    assert verify(KEY.id, "parler/card", other, KEY.sign("parler/card", data)) == (data == other)


def test_another_key_is_a_no() -> None:
    other = SigningKey("agent", bytes(32))
    assert not verify(other.id, "parler/auth", b"x", KEY.sign("parler/auth", b"x"))


def test_the_signed_bytes_are_tag_zero_and_data() -> None:
    """What travels must verify with any Ed25519 library."""
    _, public = nkeys.decode_public(KEY.id)
    signature = KEY.sign("parler/message", b"data")
    nacl.signing.VerifyKey(public).verify(b"parler/message\0data", signature)
    assert len(signature) == 64


@given(id=st.text(max_size=60), signature=st.binary(max_size=80))
def test_a_malformed_id_or_signature_is_a_no_and_not_an_error(id: str, signature: bytes) -> None:
    assert not verify(id, "parler/message", b"data", KEY.sign("parler/message", b"data"))
    assert not verify(KEY.id, "parler/message", b"data", signature)


def test_a_seed_in_text_form_signs_too() -> None:
    text = nkeys.encode_seed("agent", SEED)
    assert sign(text, "parler/auth", b"data") == KEY.sign("parler/auth", b"data")
    with pytest.raises(Refused):
        sign(text[:-1] + "A", "parler/auth", b"data")


def test_a_private_key_shows_its_public_id_alone() -> None:
    shown = repr(KEY) + str(KEY) + f"{[KEY]}"
    assert KEY.id in shown
    for secret in (nkeys.encode_seed("agent", SEED), SEED.hex(), repr(SEED)):
        assert secret not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leak(KEY)
