"""What the two ends of a link prove to each other: bytes that name this link and no other.

    relay -> daemon  signature by the relay's key, and where the daemon enrols a MAC under the join secret
    daemon -> relay  signature by the principal's key, and where it enrols a MAC under the join secret
    an agent         signature by its key over `attach_bytes`, on a link that is proven

A transcript names both keys, both nonces and the certificate that this end saw or serves. So a proof that was given to
one relay, over one certificate, in one role, on one link, is worth nothing anywhere else: whoever stands between two
ends shows another certificate, and whoever replays an old proof meets another nonce. The secret has 128 random bits, so
a MAC tells nobody what it is.

Not here: the order of messages (`parlerd.wire.link`), who is enrolled (`relay`). Above: `relay.link`,
`parlerd.uplink.connection`. Below: `signatures`. Invariant: two transcripts that differ anywhere give different bytes
for every use, and no use gives the bytes of another.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from parlerd.core.model import AgentId, HomeId, PrincipalId
from parlerd.identity.signatures import Domain, verify

Role = Literal["relay", "daemon"]

_VERSION: Final = 1
_encode: Final = msgspec.msgpack.Encoder().encode


class Signs(Protocol):
    """What a proof needs of whoever holds a key."""

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Transcript:
    """What both ends of one link have said of themselves."""

    home: HomeId
    """The relay's key."""
    principal: PrincipalId
    """The key of the person whose daemon dials."""
    daemon_nonce: bytes
    """32 random bytes of the daemon."""
    relay_nonce: bytes
    """32 random bytes of the relay."""
    certificate: bytes
    """SHA-256 of the certificate in DER: the one that this end serves, or the one that it was shown; empty without
    TLS."""

    def _bytes(self, use: str) -> bytes:
        return _encode(
            (_VERSION, use, self.daemon_nonce, self.relay_nonce, self.home, self.principal, self.certificate)
        )

    def _signer(self, role: Role) -> str:
        return self.home if role == "relay" else self.principal

    def sign(self, role: Role, keys: Signs) -> bytes:
        """The proof of the end that has this role, by its own key."""
        return keys.sign(self._signer(role), "parler/link", self._bytes(role))

    def is_signed(self, role: Role, signature: bytes) -> bool:
        """Whether the end with this role gave this proof."""
        return verify(self._signer(role), "parler/link", self._bytes(role), signature)

    def mac(self, role: Role, secret: bytes) -> bytes:
        """What shows that the end with this role knows the join secret."""
        return hmac.digest(secret, self._bytes(f"{role} knows"), hashlib.sha256)

    def knows(self, role: Role, secret: bytes, mac: bytes) -> bool:
        """Whether the end with this role knows the join secret. Takes as long for a wrong answer as for a right one."""
        return hmac.compare_digest(self.mac(role, secret), mac)

    @property
    def channel(self) -> bytes:
        """The name of this link, 32 bytes that both ends know once each has the other's proof. An agent signs it."""
        return hashlib.sha256(self._bytes("channel")).digest()


def attach_bytes(channel: bytes, agent: AgentId, principal: PrincipalId) -> bytes:
    """What an agent signs under `parler/link` to be there on the link `channel`, as an agent of `principal`."""
    return _encode((_VERSION, "attach", channel, agent, principal))
