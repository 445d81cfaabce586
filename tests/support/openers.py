"""Who opens nothing: for what is told of rooms that are not sealed."""

from __future__ import annotations

from parlerd.core.envelope import Envelope
from parlerd.core.epoch_record import EpochCard, EpochRecord, Wraps
from parlerd.core.model import AgentId


class NoOpener:
    """An `arriving.opener.Opener` of a home that has no secret of any room."""

    def learn(self, record: EpochRecord, digest: bytes, wraps: Wraps) -> EpochCard | None:
        return None

    def is_copied(self, record: EpochRecord, body: bytes, signature: bytes) -> bool:
        return False

    def words(self, envelope: Envelope, body: bytes, author: AgentId, *, asks: bool = False) -> bytes | None:
        return None
