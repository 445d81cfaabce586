"""What opens the sealed rooms of a home here, as far as arriving items need that (`secrets.HomeOpener`).

Above: the modules of this package, `history`. Invariant: nothing is asked of it that was not checked.
"""

from __future__ import annotations

from typing import Protocol

from parlerd.core.envelope import Envelope
from parlerd.core.epoch_record import EpochCard, EpochRecord, Wraps
from parlerd.core.model import AgentId


class Opener(Protocol):
    """The secrets of this home, of one other home's rooms."""

    def learn(self, record: EpochRecord, digest: bytes, wraps: Wraps) -> EpochCard | None:
        """What the record of this hash says to those who can read its epoch; None where no agent of this home can."""
        ...

    def is_copied(self, record: EpochRecord, body: bytes, signature: bytes) -> bool:
        """Whether the person of this home signed a record that this home did not make."""
        ...

    def words(self, envelope: Envelope, body: bytes, author: AgentId, *, asks: bool = False) -> bytes | None:
        """What is sealed in an envelope of this author, which came in these bytes; None where no agent of this home can
        read it. `asks` says that the author only asked for work under the record that the envelope names."""
        ...
