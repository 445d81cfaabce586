"""What binds the key of a session on a relay to its room: eight characters that follow from both.

    A3KE7DJR-4MWX2B9Q@team-7f3k2q
    |        |        the relay
    |        the binding, which no relay is ever told
    the key, by which the relay finds the room

Nothing else that a newcomer is given says which room a key is for. A relay that answers a key with the room of an
accomplice is found out by the binding, because a room's id is the hash of its signed opening. An accomplice may open
rooms until the binding fits by chance: each try costs what one call of `key_binding` costs, 2^40 tries are needed for
half a chance and more, and those for one key are of no use for another, because the key is the salt.

Not here: who computes it when (`engine.bindings`), how it is typed (`codes`). Above: `home_secret`. Below: `codes`.
Invariant: the same room and key give the same binding in every version, because keys are handed on.
"""

from __future__ import annotations

import hashlib
from typing import Final

from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13, crypto_pwhash_SALTBYTES

from parlerd.core.model import RoomId
from parlerd.identity import codes

_MEMORY: Final = 64 * 1024 * 1024
"""Bytes that a try needs, so that a machine that guesses is not much faster for having thousands of small cores."""
_PASSES: Final = 2
"""Together with the memory about 0.2 s of one core, once for each room that is opened or joined on a relay. 2^40 tries
are 7,000 years of such a core; a graphics card with 1 TB/s of memory does some 2,500 tries a second, and needs 14
years."""
_BYTES: Final = 16


def key_binding(room: RoomId, session_key: str) -> str:
    """The binding of a normalised session key to a room. Slow on purpose: never call it on an event loop."""
    salt = hashlib.sha256(b"parler/binding\0" + session_key.encode()).digest()[:crypto_pwhash_SALTBYTES]
    derived = crypto_pwhash_alg(_BYTES, room.encode(), salt, _PASSES, _MEMORY, crypto_pwhash_ALG_ARGON2ID13)
    return codes.spell(derived, codes.BINDING_LENGTH)
