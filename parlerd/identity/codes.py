"""Codes that people read out and type: keys of sessions, the four characters of an approval, fingerprints.

The alphabet leaves out I, L, O and U; I and L are read as 1 and O as 0. Not here: which code opens what, and the HMAC
under which a code is kept (`keyring`).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GATED_LENGTH: Final = 8
"""A gated key only lets one knock. Source: rooms spec, Rooms."""
OPEN_LENGTH: Final = 16
"""An ungated key is a secret. Source: security spec E18."""
MAX_TYPED: Final = 64
"""Characters that are looked at before a key is refused."""

_READ_AS: Final = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


def spell(data: bytes, length: int) -> str:
    """`length` characters that carry the low 5 bits of each byte of `data`, so each character is equally likely."""
    return "".join(ALPHABET[byte & 31] for byte in data[:length])


def normalise(text: str) -> str:
    """A typed code as it was made: upper case, I and L as 1, O as 0, dashes and spaces dropped.

    Raises `Refused(unknown_key)` for what cannot be a code: a stranger learns no more than from a wrong one.
    """
    code = text[: MAX_TYPED + 1].upper().translate(_READ_AS)
    if not code or len(text) > MAX_TYPED or any(character not in ALPHABET for character in code):
        raise Refused("unknown_key")
    return code


def split_home(text: str) -> tuple[str, str | None]:
    """`KEY` or `KEY@HOST` as the normalised code and the home, None for this one. Raises `Refused(unknown_key)`."""
    code, at, host = text.strip().partition("@")
    if at and not host:
        raise Refused("unknown_key")
    return normalise(code), host or None


def fingerprint(agent: AgentId) -> str:
    """Twelve characters in threes of four that a person compares: base32 of the SHA-256 of the id."""
    text = base64.b32encode(hashlib.sha256(agent.encode()).digest()).decode()
    return f"{text[:4]}-{text[4:8]}-{text[8:12]}"
