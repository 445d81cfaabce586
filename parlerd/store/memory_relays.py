"""The relays that share a store in memory, and who has which shard: `postgres.relays` without a server.

Above: tests, and whoever gives `MemoryStore.holds`. Invariant: as at a server, everything happens as a whole, by one
clock (`now`, in seconds) that no relay sets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping

import msgspec

from parlerd.core.shards import SHARDS
from parlerd.store.relays import DEAD_AFTER_S, Mark, Row, Seen, Tenure


class MemoryRelays:
    """Rows of relays and shards. Several threads may use it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[Row, float]] = {}
        """Each relay's row, and when it last beat."""
        self._epoch = ""
        self._written = 1
        self._shards = [Tenure(shard, "", "", 0) for shard in range(SHARDS)]

    def join(self, row: Row) -> None:
        with self._lock:
            self._rows[row.relay] = row, self._now()

    def beat(self, row: Row) -> tuple[bool, Mark]:
        with self._lock:
            known = self._rows.get(row.relay)
            is_there = known is not None and known[0].incarnation == row.incarnation
            if is_there:
                self._rows[row.relay] = row, self._now()
            return is_there, Mark("memory", 0, "log", 0)

    def leave(self, row: Row) -> None:
        with self._lock:
            known = self._rows.get(row.relay)
            if known is not None and known[0].incarnation == row.incarnation:
                del self._rows[row.relay]

    def look(self) -> Seen:
        with self._lock:
            return Seen(self._living(), tuple(self._shards), self._epoch, self._written)

    def take(self, row: Row, shards: Collection[int]) -> list[Tenure]:
        with self._lock:
            living = {(each.relay, each.incarnation) for each in self._living()}
            if (row.relay, row.incarnation) not in living or row.kinds < self._written:
                return []
            free = [
                shard
                for shard in sorted(shards)
                if (self._shards[shard].relay, self._shards[shard].incarnation) not in living
            ]
            return self._set(free, row.relay, row.incarnation)

    def give(self, row: Row, shards: Mapping[int, int], to: str) -> list[Tenure]:
        with self._lock:
            incarnations = {each.relay: each.incarnation for each in self._living() if each.kinds >= self._written}
            if to and to not in incarnations:
                return []
            mine = [
                shard
                for shard, term in sorted(shards.items())
                if self._shards[shard] == Tenure(shard, row.relay, row.incarnation, term)
            ]
            return self._set(mine, to, incarnations.get(to, ""))

    def begin(self, kinds: int) -> bool:
        with self._lock:
            if any(each.kinds < kinds for each in self._living()):
                return False
            self._written = max(self._written, kinds)
            return True

    def step_back(self, row: Row) -> None:
        self.beat(msgspec.structs.replace(row, inner=""))

    def renew(self, epoch: str) -> None:
        with self._lock:
            self._epoch = epoch

    def holds(self, tenure: Tenure) -> bool:
        """Whether a relay has a shard by this right now: `MemoryStore.holds`."""
        with self._lock:
            return self._shards[tenure.shard] == tenure

    def _living(self) -> list[Row]:
        now = self._now()
        return [row for _, (row, beat) in sorted(self._rows.items()) if now - beat < DEAD_AFTER_S]

    def _set(self, shards: list[int], relay: str, incarnation: str) -> list[Tenure]:
        for shard in shards:
            before = self._shards[shard]
            self._shards[shard] = msgspec.structs.replace(
                before, relay=relay, incarnation=incarnation, term=before.term + 1
            )
        return [self._shards[shard] for shard in shards]
