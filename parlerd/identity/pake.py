"""Coming into a sealed room with a short key, past a relay that must not learn the key nor put another agent in the
place of the one that types it.

    joiner                                      owner's home
    begin: share, card ───────────────────────> answer: share
    finish: proof, seal_knock ────────────────> confirmed, else it was a try; open_knock
    confirmed <──────────────────────────────── its own proof
    characters                                  characters: the same four, for the person to compare
    open_answer <────────────────────────────── seal_answer: which room, which record

SPAKE2 makes a strong key of a secret of few characters, with one guess for each exchange. The relay's key, the route
and the digest of the joiner's card go into it as what the joiner is called, and the owner's person as what the owner
is; so two ends that were not told the same have different keys. The package confirms nothing and raises nothing where
the secrets differ, so each end shows the other that it has the key before anything counts, the joiner first: a relay
that guesses has to show its guess to be told anything.

The package is Python integers, which are not constant in time. That is fit for a secret of few tries, and for nothing
else, so nothing but this uses it.

Beginning, answering, finishing and restoring took 3 to 27 ms each on a busy machine, and the import 130 ms, so nobody
calls them on an event loop.

Not here: how many tries there are, where states are kept (0600, removed afterwards) and what a card is. Above: the
engine. Below: `sealing`, and `spake2`, which is imported when a key of a sealed room is first used. Invariants: nothing
of the secret leaves this machine; the code that a person compares and the sealed answer are there only once the other
end has shown the key. Source: sealed spec, Joining; "Simple Password-Based Encrypted Key Exchange Protocols" (Abdalla
and Pointcheval, 2005), as the package `spake2` 0.9 does it over Ed25519.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal, Self

import msgspec
from nacl.bindings import sodium_memcmp

from parlerd.core.errors import Refused
from parlerd.core.model import HomeId, PrincipalId
from parlerd.identity import codes
from parlerd.identity.sealing import KEY, Random, decrypt, derive, encrypt, joined_fields

Role = Literal["joiner", "owner"]

SHARE: Final = 33
"""Bytes of a share: a letter for the side, and a point."""
_JOINER: Final = b"parler/pake joiner"
_OWNER: Final = b"parler/pake owner"


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    role: Role
    key: bytes
    v: int = 1


class Joiner:
    """One who has a key and waits for the owner's home to answer. Its `repr` shows nothing of the key.

    `state` is to be kept like a private key until the answer comes, which may be after a restart.
    """

    def __init__(self, exchange: Any, share: bytes) -> None:
        self._exchange = exchange
        self.share = share
        """33 bytes, which the owner's home is to be told."""

    @classmethod
    def begin(cls, secret: str, *, home: HomeId, route: str, card: bytes, random: Random) -> Joiner:
        """Begin to join by the secret part of a key, normalised, on this relay and route, with this signed card."""
        from spake2 import SPAKE2_A

        exchange = SPAKE2_A(secret.encode(), idA=_joiner(home, route, card), entropy_f=random)
        return cls(exchange, exchange.start())

    @classmethod
    def restored(cls, state: bytes) -> Joiner:
        """The same again. Raises `ValueError` for bytes that are no such state."""
        from spake2 import SPAKE2_A
        from spake2.spake2 import SPAKEError

        try:
            exchange = SPAKE2_A.from_serialized(state)
        except (SPAKEError, LookupError, AttributeError, TypeError, ValueError, AssertionError):
            raise ValueError("these bytes are no state of one who joins") from None
        return cls(exchange, exchange.side + exchange.outbound_message)

    @property
    def state(self) -> bytes:
        """What `restored` takes: the secret is in it."""
        state: bytes = self._exchange.serialize()
        return state

    def finish(self, share: bytes, owner: PrincipalId) -> Agreed:
        """What follows from the owner's answer, which names the person who owns the room. Call this once. Raises
        `Refused(unknown_key)` for a share that nobody can have made."""
        self._exchange.idB = _owner(owner)
        return Agreed("joiner", _finished(self._exchange, share))


def answer(
    secret: str, *, home: HomeId, route: str, card: bytes, share: bytes, owner: PrincipalId, random: Random
) -> tuple[bytes, Agreed]:
    """The owner's answer to a joiner's share and signed card: the own share, and what follows. Raises
    `Refused(unknown_key)` for a share that nobody can have made."""
    from spake2 import SPAKE2_B

    exchange = SPAKE2_B(secret.encode(), idA=_joiner(home, route, card), idB=_owner(owner), entropy_f=random)
    own: bytes = exchange.start()
    return own, Agreed("owner", _finished(exchange, share))


class _Keyed:
    """One end with its key. Its `repr` does not show the key."""

    def __init__(self, role: Role, key: bytes) -> None:
        self._role, self._key = role, key

    @classmethod
    def restored(cls, state: bytes) -> Self:
        """The same again. Raises `ValueError` for bytes that are no such state."""
        return cls(*_restored(state))

    @property
    def state(self) -> bytes:
        """What `restored` takes, to be kept like a private key, and apart from the state of another class."""
        return msgspec.msgpack.encode(_State(self._role, self._key))


class Agreed(_Keyed):
    """A key that the other end may have as well, or not: its secret may have been another. Its `repr` does not show
    it."""

    @property
    def proof(self) -> bytes:
        """What shows the owner that the joiner has the key. An owner has to be shown this first."""
        if self._role != "joiner":
            raise ValueError("the joiner confirms first")
        return _proof(self._key, self._role)

    def seal_knock(self, text: bytes, random: Random) -> bytes:
        """What the joiner tells the owner's home alone, beside its proof. Only who has the key reads that, so it may
        leave before the owner's home has shown anything."""
        return encrypt(text, derive(self._key, b"sealed/knock"), random)

    def confirmed(self, proof: bytes) -> Confirmed:
        """What follows once the other end has shown that it has the key. Raises `Refused(unknown_key)` where it has
        not: that was a try."""
        other: Role = "owner" if self._role == "joiner" else "joiner"
        if len(proof) != KEY or not sodium_memcmp(_proof(self._key, other), proof):
            raise Refused("unknown_key")
        return Confirmed(self._role, self._key)


class Confirmed(_Keyed):
    """A key that both ends have. Its `repr` does not show it."""

    @property
    def proof(self) -> bytes:
        """What shows the other end that this end has the key."""
        return _proof(self._key, self._role)

    @property
    def code(self) -> str:
        """Four characters that the joiner is shown and the owner's person types back. They follow from everything that
        the two ends said to each other, so a relay that stands between them shows the two different ones."""
        return codes.spell(derive(self._key, b"sealed/code"), codes.JOIN_CODE_LENGTH)

    def open_knock(self, sealed: bytes) -> bytes:
        """What the joiner said beside its proof. Raises `Refused(sealed_unreadable)`."""
        return decrypt(sealed, derive(self._key, b"sealed/knock"), "knock")

    def seal_answer(self, text: bytes, random: Random) -> bytes:
        """What the owner's home tells the joiner alone."""
        return encrypt(text, derive(self._key, b"sealed/answer"), random)

    def open_answer(self, sealed: bytes) -> bytes:
        """The same again. Raises `Refused(sealed_unreadable)`."""
        return decrypt(sealed, derive(self._key, b"sealed/answer"), "answer")


def _joiner(home: HomeId, route: str, card: bytes) -> bytes:
    return joined_fields(_JOINER, home.encode(), route.encode(), hashlib.sha256(card).digest())


def _owner(owner: PrincipalId) -> bytes:
    return joined_fields(_OWNER, owner.encode())


def _finished(exchange: Any, share: bytes) -> bytes:
    from spake2.ed25519_basic import NotOnCurve
    from spake2.spake2 import SPAKEError

    if len(share) != SHARE:
        raise Refused("unknown_key")
    try:
        key: bytes = exchange.finish(share)
    # The package refuses a share of the own side, the own share, and what is no point of the group; it says so in
    # these ways.
    except (SPAKEError, NotOnCurve, ValueError, AssertionError):
        raise Refused("unknown_key") from None
    return key


def _proof(key: bytes, role: Role) -> bytes:
    return derive(key, b"sealed/confirm", role.encode())


def _restored(data: bytes) -> tuple[Role, bytes]:
    try:
        state = msgspec.msgpack.decode(data, type=_State)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("these bytes are no state of a key exchange") from None
    if state.v != 1 or len(state.key) != KEY:
        raise ValueError("these bytes are no state of a key exchange")
    return state.role, state.key
