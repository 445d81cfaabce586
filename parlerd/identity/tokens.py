"""The text of a token: a mark of its kind, 256 random bits, and a sum by which a mistyped one shows at once.

    as_, aj_ or ah_ + 43 characters of base62 + 6 characters of base62 (the CRC-32 of all before)

The mark and the length let any scanner for leaked secrets find a token in a text. Nothing of a token follows from
anything: its record is found by the digest of its text. Not here: what a token is for (`core.tokens`). Above: the
engine. Source: contract spec, Tokens.
"""

from __future__ import annotations

import hashlib
import re
import string
import zlib
from typing import Final, get_args

from parlerd.core.model import TokenKind

KINDS: Final[tuple[TokenKind, ...]] = get_args(TokenKind)
SECRET_BYTES: Final = 32
TOKEN: Final = re.compile(rf"(?:{'|'.join(KINDS)})_[0-9A-Za-z]{{49}}")
"""A text with something in it that looks like a token."""
_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET: Final = 43
_SUM: Final = 6


def made_of(secret: bytes, kind: TokenKind = "as") -> str:
    """The text of a token from `SECRET_BYTES` random bytes."""
    said = f"{kind}_" + _base62(int.from_bytes(secret, "big"), _SECRET)
    return said + _sum_of(said)


def is_token(text: str) -> bool:
    """Whether a text is a token's, as far as the text itself shows."""
    said, told = text[:-_SUM], text[-_SUM:]
    mark, _, rest = text.partition("_")
    is_formed = mark in KINDS and len(rest) == _SECRET + _SUM and text.isascii()
    return is_formed and set(rest) <= set(_DIGITS) and _sum_of(said) == told


def digest_of(text: str) -> bytes:
    """What is kept of a token. The text has 256 random bits, so a plain hash gives nothing away."""
    return hashlib.sha256(text.encode()).digest()


def _sum_of(said: str) -> str:
    return _base62(zlib.crc32(said.encode()), _SUM)


def _base62(number: int, length: int) -> str:
    found = ""
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        found = _DIGITS[digit] + found
    return found
