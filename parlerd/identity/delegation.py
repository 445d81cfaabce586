"""The text by which a person's key lets an agent's key act for the person until a certain day.

The text and its signature travel together, as the body and the signature of a fact, and the core never looks into the
text. Not here: when a delegation is renewed, which the engine decides and a fact of the home room records. Above: the
engine. Below: `signatures`, `nkeys`.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from parlerd.core.model import AgentId, Millis, PrincipalId
from parlerd.identity.nkeys import is_public
from parlerd.identity.signatures import Domain, verify

DELEGATION_TTL_MS: Final = Millis(30 * 24 * 3600 * 1000)
"""How long a delegation lasts unless it is renewed. Source: security spec D17."""


class Delegation(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="delegation"):
    """`principal` lets `agent` act for it from `issued_at` until `expires_at` (wall clock, milliseconds)."""

    v: int = 1
    agent: AgentId
    principal: PrincipalId
    issued_at: Millis
    expires_at: Millis


class Signer(Protocol):
    """What a delegation needs of a `KeyRing`: the person's id, and signatures by the keys of this home."""

    @property
    def principal(self) -> PrincipalId: ...

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes: ...


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Delegation)


def issue(signer: Signer, agent: AgentId, now: Millis, ttl_ms: Millis = DELEGATION_TTL_MS) -> tuple[bytes, bytes]:
    """A delegation of the signer's principal to `agent`: the exact text and its signature."""
    text = _ENCODER.encode(
        Delegation(
            agent=agent,
            principal=signer.principal,
            issued_at=now,
            expires_at=Millis(now + ttl_ms),
        )
    )
    return text, signer.sign(signer.principal, "parler/delegation", text)


def read(text: bytes, signature: bytes) -> Delegation | None:
    """What a delegation says, or None when its text is malformed or its principal did not sign it.

    The caller, who has the clock, checks whether the delegation has expired.
    """
    try:
        delegation = _DECODER.decode(text)
    except msgspec.DecodeError:
        return None
    if not is_public(delegation.principal, "principal") or not is_public(delegation.agent, "agent"):
        return None
    if not verify(delegation.principal, "parler/delegation", text, signature):
        return None
    return delegation
