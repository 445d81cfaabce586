"""Which relay serves which room, where several serve one home.

    a room --hash of its id--> one of 1,024 shards --highest score--> one of the relays that live

Everybody who knows the same relays finds the same relay for each shard, without asking anybody: of all relays the one
has it whose name gives the highest score together with the shard. Where a relay comes, it takes shards from each of
the others and none moves between those; where one goes, the others share what it had and nothing else moves. What
counts is written down all the same (the store's table of shards, with a term that grows at each change): two relays may
know different ones for a moment.

Not here: who lives, and how a shard changes hands (`relay.holding`). Above: the stores, the relays. Invariants: the
shard of a room never changes, because rows of the store say it; every shard has a relay where there is any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

from parlerd.core.model import RoomId

SHARDS: Final = 1_024
"""How many shards there are. Source: scale spec, One owner a room at a time."""


def shard_of(room: RoomId) -> int:
    """The shard of a room."""
    return int.from_bytes(hashlib.sha256(room.encode()).digest()[:2], "big") % SHARDS


def winner(shard: int, relays: Iterable[str]) -> str:
    """The one of these relays, of which there is one at least, that a shard belongs to."""
    return max(relays, key=lambda relay: (_score(shard, relay), relay))


def shares(relays: Collection[str]) -> dict[int, str]:
    """The relay of every shard; nothing where there is no relay."""
    if not relays:
        return {}
    return {shard: winner(shard, relays) for shard in range(SHARDS)}


def _score(shard: int, relay: str) -> bytes:
    return hashlib.blake2b(f"{shard} {relay}".encode(), digest_size=8).digest()
