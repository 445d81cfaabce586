"""Signatures that are computed once: whoever plays thousands of stories checks the same signature in every home.

`remembered()` stands at the border of the library that computes. What a key of this process signed is known to be
signed, and is not computed again. Everything else is computed as ever, so a wrong signature is as wrong as without this
module. Verified by `tests/sim/test_signatures.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from typing import Final

import nacl.bindings

from parlerd.identity.nkeys import Kind
from parlerd.identity.signatures import SigningKey

KEPT: Final = 50_000
"""How many signatures are remembered. Then the memory begins anew."""
_SIGNATURE: Final = 64
_SEED: Final = 32


@cache
def key_of(kind: Kind, text: str) -> SigningKey:
    """The key that follows from this text, made once."""
    return SigningKey(kind, sha256(text.encode()).digest())


class _Memory:
    def __init__(self) -> None:
        self._sign = nacl.bindings.crypto_sign
        self._open = nacl.bindings.crypto_sign_open
        self._signed: dict[tuple[bytes, bytes], bytes] = {}
        """Signed bytes with their signature before them, by secret key and bytes."""
        self._known: set[tuple[bytes, bytes]] = set()
        """Public keys, and bytes with the signature before them that the key made."""

    def sign(self, message: bytes, sk: bytes) -> bytes:
        found = self._signed.get((sk, message))
        if found is None:
            if len(self._signed) >= KEPT:
                self._signed.clear()
                self._known.clear()
            # Behind the seed a secret key holds its public key.
            found = self._signed[sk, message] = self._sign(message, sk)
            self._known.add((sk[_SEED:], found))
        return found

    def open(self, signed: bytes, pk: bytes) -> bytes:
        return signed[_SIGNATURE:] if (pk, signed) in self._known else self._open(signed, pk)


_MEMORY: Final = _Memory()


@contextmanager
def remembered() -> Iterator[None]:
    """Until the block ends, what was signed is not computed again."""
    bindings = nacl.bindings
    before = bindings.crypto_sign, bindings.crypto_sign_open
    bindings.crypto_sign, bindings.crypto_sign_open = _MEMORY.sign, _MEMORY.open
    try:
        yield
    finally:
        bindings.crypto_sign, bindings.crypto_sign_open = before
