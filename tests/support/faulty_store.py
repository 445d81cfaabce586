"""A store that fails when it is told to: what a full disk, a locked file or a lost answer looks like from above.

Until then it is a store like any other. Verified by `tests/contract/test_store.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from parlerd.core.errors import StoreError
from parlerd.core.events import Header
from parlerd.core.model import Position, RoomId, View
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, JobOutcome, Page, Write


class FaultyStore(MemoryStore):
    """A `MemoryStore` with the face of one in a file, whose commits fail with the codes it was given and change
    nothing, or whose logs cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self._failures: list[str] = []
        self._failing: dict[int, str] = {}
        self._stale = 0
        self._lost_answers: list[bool] = []
        self._late: Sequence[Sequence[Write]] = ()
        self.unreadable: str | None = None
        """While set, reading a log raises `StoreError` with this code."""

    def fail_next_commit(self, code: str = "store_full", times: int = 1) -> None:
        """The next `times` calls of `transact` raise `StoreError(code)`."""
        self._failures += [code] * times

    def fail_commit_number(self, number: int, code: str = "store_full") -> None:
        """The commit with this number, counted from 1, raises `StoreError(code)`."""
        self._failing[number] = code

    def refuse_next_appends(self, times: int = 1) -> None:
        """The next `times` calls of `transact` that append refuse those jobs with `stale_position`, as if another
        writer had been faster and had taken its facts back since."""
        self._stale = times

    def lose_next_answer(self, *, happened: bool) -> None:
        """The next call of `transact` answers `store_unknown`, whether or not it `happened`."""
        self._lost_answers.append(happened)

    def happen_late(self) -> None:
        """What was lost last and had not happened is stored now: the server had it, and came to it later."""
        jobs, self._late = self._late, ()
        assert not any(outcome.error for outcome in super().transact(jobs))

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        if self._lost_answers:
            happened = self._lost_answers.pop(0)
            outcomes = super().transact(jobs) if happened else self._rehearse(jobs)
            self._late = () if happened else jobs
            return [
                outcome if outcome.error else JobOutcome(StoreError("store_unknown"), outcome.heads)
                for outcome in outcomes
            ]
        if self._stale and any(isinstance(write, Append) for job in jobs for write in job):
            self._stale -= 1
            appends = [any(isinstance(write, Append) for write in job) for job in jobs]
            others = iter(
                super().transact([job for job, is_append in zip(jobs, appends, strict=True) if not is_append])
            )
            return [JobOutcome(StoreError("stale_position")) if is_append else next(others) for is_append in appends]
        return super().transact(jobs)

    def _commit(self) -> None:
        self.commits += 1
        if self.commits in self._failing:
            raise StoreError(self._failing[self.commits])
        if self._failures:
            raise StoreError(self._failures.pop(0))

    def transact_at_once(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
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

    def chain_at(self, room: RoomId, position: Position) -> bytes:
        if self.unreadable is not None:
            raise StoreError(self.unreadable)
        return super().chain_at(room, position)

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        if self.unreadable is not None:
            raise StoreError(self.unreadable)
        return super().facts(room, after, limit)
