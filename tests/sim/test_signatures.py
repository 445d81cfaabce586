"""Remembered signatures are those of the product: what was signed is accepted, and nothing else is."""

from __future__ import annotations

import nacl.bindings

from parlerd.identity.signatures import SigningKey, verify
from tests.support.signatures import key_of, remembered


def test_a_remembered_signature_is_the_one_that_the_key_makes_and_no_other_is_accepted() -> None:
    key, other = key_of("agent", "one"), key_of("agent", "two")
    plain = SigningKey.sign(key, "parler/message", b"words")
    with remembered():
        signature = key.sign("parler/message", b"words")
        assert signature == plain
        assert key.sign("parler/message", b"words") == signature
        assert verify(key.id, "parler/message", b"words", signature)
        assert not verify(key.id, "parler/message", b"other words", signature)
        assert not verify(key.id, "parler/link", b"words", signature)
        assert not verify(other.id, "parler/message", b"words", signature)
        assert not verify(key.id, "parler/message", b"words", bytes([signature[0] ^ 1]) + signature[1:])


def test_the_library_is_as_it_was_once_nothing_is_remembered_any_more() -> None:
    before = nacl.bindings.crypto_sign, nacl.bindings.crypto_sign_open
    with remembered():
        assert nacl.bindings.crypto_sign is not before[0]
    assert (nacl.bindings.crypto_sign, nacl.bindings.crypto_sign_open) == before


def test_what_was_signed_before_is_computed() -> None:
    key = key_of("agent", "three")
    signature = key.sign("parler/message", b"words")
    with remembered():
        assert verify(key.id, "parler/message", b"words", signature)
