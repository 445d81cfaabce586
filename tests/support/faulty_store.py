"""A store that fails when it is told to: what a full disk or a locked file looks like from above."""

from __future__ import annotations

from collections.abc import Sequence

from parlerd.core.errors import StoreError
from parlerd.core.events import Header
from parlerd.core.model import Position, RoomId, View
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Outcome, Page, Write


class FaultyStore(MemoryStore):
    """A `MemoryStore` with the face of one in a file, whose commits fail with the codes it was given and change
    nothing, or whose logs cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self._failures: list[str] = []
        self._failing: dict[int, str] = {}
        self.unreadable: str | None = None
        """While set, reading a log raises `StoreError` with this code."""

    def fail_next_commit(self, code: str = "store_full", times: int = 1) -> None:
        """The next `times` calls of `transact` raise `StoreError(code)`."""
        self._failures += [code] * times

    def fail_commit_number(self, number: int, code: str = "store_full") -> None:
        """The commit with this number, counted from 1, raises `StoreError(code)`."""
        self._failing[number] = code

    def _commit(self) -> None:
        self.commits += 1
        if self.commits in self._failing:
            raise StoreError(self._failing[self.commits])
        if self._failures:
            raise StoreError(self._failures.pop(0))

    def transact_at_once(self, jobs: Sequence[Sequence[Write]]) -> list[Outcome]:
        return self.transact(jobs)

    @property
    def checkpoint_due(self) -> bool:
        return False

    def checkpoint(self) -> None:
        """There is nothing that a commit would put off."""

    def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        if self.unreadable is not None:
            raise StoreError(self.unreadable)
        return super().tail(room, view, limit=limit, max_bytes=max_bytes)

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        if self.unreadable is not None:
            raise StoreError(self.unreadable)
        return super().facts(room, after, limit)
