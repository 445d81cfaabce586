"""Codes that people read out and type: session keys, join codes, fingerprints, the join secret of a relay.

The alphabet leaves out I, L, O and U; a typed I or L counts as 1, and an O as 0. Not here: which code opens what, and
the HMAC under which a session key is kept (`keyring`). Above: `keyring`, the engine.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, NamedTuple

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, PrincipalId

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GATED_LENGTH: Final = 8
"""Characters of a session key that only lets an agent knock. Source: rooms spec, Rooms."""
OPEN_LENGTH: Final = 16
"""Characters of a session key that lets an agent in without a person, and so is a secret. Source: security spec E18."""
JOIN_CODE_LENGTH: Final = 4
"""Characters that a newcomer shows and a person types. Source: security spec A2."""
ROUTE_LENGTH: Final = 6
"""Characters of the key of a sealed room by which its relay finds the room. Of a million live keys in a relay a guess
finds one in a thousand, so nobody burns the tries of others. Source: sealed spec, Joining."""
SEALS: Final = "U"
"""What stands between the route of such a key and its secret. The letter is in no other code, so an older client
refuses the key before it sends anything of it."""
BINDING_LENGTH: Final = 8
"""Characters that bind a key to its room on a relay. They are 40 bits, each try at which is made slow (`key_binding`);
with six of them somebody who rents a thousand graphics cards would find another room within minutes."""
MAX_TYPED: Final = 64
"""A typed key with more characters is refused unread."""

LINK: Final = "parler:join/"
"""What a key begins with where it has to be told from other text; nobody has to type it."""

SECRET_BYTES: Final = 16
"""128 bits enrol a person at a relay. Source: security spec F23."""
_SECRET_LENGTH: Final = 26
"""Characters of a join secret: five bits each, and two bits of the last are zero."""

_READ_AS: Final = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


def spell(data: bytes, length: int) -> str:
    """`length` characters, one for the low 5 bits of each byte of `data`, so that every character is equally likely."""
    return "".join(ALPHABET[byte & 31] for byte in data[:length])


def direct_code(opening: bytes) -> str:
    """What an agent shows that wants to write to one which wants its person to be asked. It follows from the signed
    opening of the room of the two, which both homes have and shows no agent; the nonce in it cannot be guessed from
    the room's id."""
    return spell(hashlib.sha256(b"parler/direct-code\0" + opening).digest(), JOIN_CODE_LENGTH)


def normalise(text: str) -> str:
    """A typed code as it was made: upper case, I and L as 1, O as 0, dashes and spaces dropped.

    Raises `Refused(unknown_key)` for text that cannot be a code. A wrong code gets the same answer, so that a stranger
    learns nothing from it.
    """
    code = text[: MAX_TYPED + 1].upper().translate(_READ_AS)
    if not code or len(text) > MAX_TYPED or any(character not in ALPHABET for character in code):
        raise Refused("unknown_key")
    return code


class TypedKey(NamedTuple):
    """A session key as somebody typed it, normalised."""

    key: str
    """What opens a room at its home; of a sealed room the route, by which the home finds it."""
    binding: str
    """What binds the key to its room, of a key of another home; empty where it is missing, and for a sealed room."""
    home: str | None
    """The name of the home that stands behind the key; None for this home."""
    secret: str = ""
    """Of a key of a sealed room, what never leaves this machine."""

    def __repr__(self) -> str:
        return f"TypedKey(home={self.home!r})"

    @property
    def code(self) -> str:
        """All that was typed before the home's name."""
        return self.key + (f"{SEALS}{self.secret}" if self.secret else self.binding)


def read_key(text: str) -> TypedKey:
    """`KEY`, `KEY-BINDING@HOME`, or of a sealed room `ROUTE` `U` `SECRET@HOME`; the dash is not needed, and `LINK` may
    stand before it. Raises `Refused(unknown_key)`."""
    typed, at, home = text.strip().removeprefix(LINK).partition("@")
    if at and not home:
        raise Refused("unknown_key")
    if len(typed) <= MAX_TYPED and SEALS in typed.upper():
        route, _, secret = typed.upper().partition(SEALS)
        route, secret = normalise(route), normalise(secret)
        if not home or len(route) != ROUTE_LENGTH or len(secret) not in (GATED_LENGTH, OPEN_LENGTH):
            raise Refused("unknown_key")
        return TypedKey(route, "", home, secret)
    code = normalise(typed)
    bound = len(code) - BINDING_LENGTH if home else 0
    return TypedKey(code[:bound], code[bound:], home) if bound > 0 else TypedKey(code, "", home or None)


def write_key(key: str, binding: str, home: str) -> str:
    """A key of another home as it is handed on."""
    return f"{key}-{binding}@{home}"


def write_sealed_key(route: str, secret: str, home: str) -> str:
    """A key of a sealed room as it is handed on."""
    return f"{route}{SEALS}{secret}@{home}"


def fingerprint(id: AgentId | HomeId | PrincipalId) -> str:
    """Twelve characters in three groups, for a person to compare: the beginning of the base32 of the id's SHA-256."""
    text = base64.b32encode(hashlib.sha256(id.encode()).digest()).decode()
    return f"{text[:4]}-{text[4:8]}-{text[8:12]}"


def secret_text(secret: bytes) -> str:
    """A join secret as people read it: 26 characters in five groups. The text is as secret as the bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError("a join secret has 16 bytes")
    bits = int.from_bytes(secret, "big") << 2
    text = "".join(ALPHABET[bits >> shift & 31] for shift in range(5 * (_SECRET_LENGTH - 1), -1, -5))
    return "-".join((text[0:5], text[5:10], text[10:15], text[15:20], text[20:]))


def secret_bytes(text: str) -> bytes:
    """The secret in a typed text. Raises `Refused(wrong_secret)`, which never holds the text, for one that cannot be a
    secret: nobody has to be asked to know that it is wrong."""
    code = text.strip()[: MAX_TYPED + 1].upper().translate(_READ_AS)
    if len(code) != _SECRET_LENGTH or any(character not in ALPHABET for character in code):
        raise Refused("wrong_secret")
    bits = 0
    for character in code:
        bits = bits << 5 | ALPHABET.index(character)
    if bits & 3:
        raise Refused("wrong_secret")
    return (bits >> 2).to_bytes(SECRET_BYTES, "big")
