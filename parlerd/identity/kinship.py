"""What two relays of one home prove to each other: bytes that name both processes and this link, and no other.

All relays of a home have the home's key, so each proof says in which role it was given: what a relay signed because it
was dialled is worth nothing to whoever dials, and the other way round. The certificate is in it that was shown on this
link, so whoever stands between two relays, with a certificate of its own, has a proof that counts nowhere.

Not here: the order of messages (`parlerd.wire.lanes`). Above: `relay.peers`. Below: `signatures`. Invariant: two
kinships that differ anywhere give different bytes, and neither gives the bytes of a link to a daemon (`transcript`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from parlerd.core.model import HomeId
from parlerd.identity.signatures import verify
from parlerd.identity.transcript import Signs

Part = Literal["dials", "answers"]

_VERSION: Final = 1
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Kinship:
    """What both ends of one link between relays have said of themselves."""

    home: HomeId
    """The key of both."""
    dialling: tuple[str, str]
    """The relay that dials, and which process of it."""
    answering: tuple[str, str]
    """The relay that is dialled, and which process of it."""
    dialling_nonce: bytes
    answering_nonce: bytes
    certificate: bytes
    """SHA-256 of the certificate in DER that is served, or was shown; empty without TLS."""

    def _bytes(self, part: Part) -> bytes:
        return _encode(
            (
                _VERSION,
                f"relay {part}",
                self.dialling_nonce,
                self.answering_nonce,
                self.home,
                self.dialling,
                self.answering,
                self.certificate,
            )
        )

    def sign(self, part: Part, keys: Signs) -> bytes:
        """The proof of the end that has this part."""
        return keys.sign(self.home, "parler/link", self._bytes(part))

    def is_signed(self, part: Part, signature: bytes) -> bool:
        """Whether the end with this part gave this proof."""
        return verify(self.home, "parler/link", self._bytes(part), signature)
