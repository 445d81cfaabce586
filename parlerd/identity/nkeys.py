"""The text form of an Ed25519 key: base32 of a prefix, 32 bytes and a CRC-16, without padding.

A public key begins with `U` (an agent), `A` (a person) or `N` (a relay) and has 56 characters; a seed begins with
`SU`, `SA` or `SN` and has 58. Not here: making keys, and signing (`signatures`). Invariant: exactly one text is
accepted for each key.

Source: the nkeys format (prefix bytes, CRC-16/XMODEM little-endian).
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Final, Literal

from parlerd.core.errors import Refused

Kind = Literal["agent", "principal", "relay"]

_PREFIX: Final[dict[Kind, int]] = {"agent": 20 << 3, "principal": 0, "relay": 13 << 3}
_KIND: Final[dict[int, Kind]] = {value: kind for kind, value in _PREFIX.items()}
_SEED: Final = 18 << 3
_PUBLIC_LENGTH: Final = 56
_SEED_LENGTH: Final = 58
_PUBLIC_KEPT: Final = 4096
"""How many public keys are kept decoded: a relay reads the id of each author with each message."""


def encode_public(kind: Kind, key: bytes) -> str:
    """The id for a 32-byte public key."""
    return _encode(bytes([_PREFIX[kind]]) + _thirty_two(key))


def encode_seed(kind: Kind, seed: bytes) -> str:
    """The text of a 32-byte seed. The text is a secret: it may go into a 0600 file and nowhere else."""
    prefix = _PREFIX[kind]
    return _encode(bytes([_SEED | prefix >> 5, (prefix & 31) << 3]) + _thirty_two(seed))


@lru_cache(_PUBLIC_KEPT)
def decode_public(text: str) -> tuple[Kind, bytes]:
    """The kind and the public key that an id names. Raises `Refused(invalid_param)`."""
    raw = _decode(text, _PUBLIC_LENGTH)
    kind = _KIND.get(raw[0])
    if kind is None:
        raise _invalid()
    return kind, raw[1:]


def decode_seed(text: str) -> tuple[Kind, bytes]:
    """The kind and the seed in a seed's text. Raises `Refused(invalid_param)`, which never holds the text."""
    raw = _decode(text, _SEED_LENGTH)
    kind = _KIND.get((raw[0] & 7) << 5 | raw[1] >> 3)
    if raw[0] & 0xF8 != _SEED or raw[1] & 7 or kind is None:
        raise _invalid()
    return kind, raw[2:]


def is_public(text: str, kind: Kind) -> bool:
    """Whether `text` is a well-formed id of this kind."""
    try:
        return decode_public(text)[0] == kind
    except Refused:
        return False


def _encode(payload: bytes) -> str:
    checked = payload + binascii.crc_hqx(payload, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _decode(text: str, length: int) -> bytes:
    if len(text) != length or not text.isascii():
        raise _invalid()
    try:
        raw = base64.b32decode(text + "=" * (-length % 8))
    except binascii.Error:
        raise _invalid() from None
    payload, crc = raw[:-2], raw[-2:]
    # 58 characters carry two bits more than a seed needs. Encoding again refuses a text that uses these bits.
    if binascii.crc_hqx(payload, 0).to_bytes(2, "little") != crc or _encode(payload) != text:
        raise _invalid()
    return payload


def _thirty_two(data: bytes) -> bytes:
    if len(data) != 32:
        raise ValueError("an Ed25519 key has 32 bytes")
    return data


def _invalid() -> Refused:
    return Refused("invalid_param", "That is not a valid key text.", param="id")
