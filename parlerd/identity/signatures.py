"""Signatures that say what they are for: Ed25519 over a domain tag, a zero byte and exactly the bytes that travel.

The tag keeps a signature for one purpose from being used for another. Not here: files (`keyring`). Below: `nkeys` and
PyNaCl. Invariant: nothing is signed without a tag. Source: rooms spec, Agents and identity.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import nacl.bindings
import nacl.exceptions

from parlerd.core.errors import Refused
from parlerd.core.receipts import TITLE
from parlerd.identity import nkeys

Domain = Literal[
    "parler/auth",
    "parler/message",
    "parler/gated",
    "parler/card",
    "parler/delegation",
    "parler/opening",
    "parler/key",
    "parler/knock",
    "parler/join",
    "parler/decision",
    "parler/rewind",
    "parler/transfer",
    "parler/link",
    "parler/grant",
    "parler/admitted",
    "parler/opened",
    "parler/sealing-key",
    "parler/owner-line",
    "parler/epoch",
]

_TAGS: Final[dict[str, bytes]] = {domain: domain.encode() + b"\0" for domain in get_args(Domain)}
_NOTE: Final = f"{TITLE}\n".encode()
SIGNATURE_LENGTH: Final = 64


class SigningKey:
    """A private key in memory. Its `repr` shows only the public id, and it cannot be pickled or copied."""

    __slots__ = ("_secret", "id", "kind")

    def __init__(self, kind: nkeys.Kind, seed: bytes) -> None:
        public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.kind = kind
        self.id = nkeys.encode_public(kind, public)

    def sign(self, domain: Domain, data: bytes) -> bytes:
        """64 bytes that `verify` accepts for this id, this domain and these bytes."""
        return nacl.bindings.crypto_sign(_TAGS[domain] + data, self._secret)[:SIGNATURE_LENGTH]

    def sign_note(self, text: bytes) -> bytes:
        """64 bytes over a text that says in its own first line what it is (`notes`). No text that has a tag begins so:
        a tag ends with a zero byte."""
        assert text.startswith(_NOTE)
        return nacl.bindings.crypto_sign(text, self._secret)[:SIGNATURE_LENGTH]

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not pickled or copied")


def sign(seed: str, domain: Domain, data: bytes) -> bytes:
    """The signature of `data` with a seed in its text form. Raises `Refused(invalid_param)`."""
    kind, raw = nkeys.decode_seed(seed)
    return SigningKey(kind, raw).sign(domain, data)


def verify(id: str, domain: Domain, data: bytes, signature: bytes) -> bool:
    """Whether the key named by `id` signed exactly `data` for `domain`; False for a malformed id or signature."""
    if len(signature) != SIGNATURE_LENGTH:
        return False
    try:
        _, public = nkeys.decode_public(id)
        nacl.bindings.crypto_sign_open(signature + _TAGS[domain] + data, public)
    except (Refused, nacl.exceptions.BadSignatureError):
        return False
    return True
