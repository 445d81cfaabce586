"""Sight itself: which records are watched when, and who is told what they prove.

    begin     the folder of the host's record is listened to, and how far its files go is noted
    expect    the answer waits; while any answer waits, what changes is looked at as it comes
    verdict   told once for each marker, at the latest after `LIMIT_S`; what the host keeps of what it did not show is
              waited for until then, because a later reply may prove that it was shown

A folder is listened to from the first `begin` on, until nothing was waited for in `IDLE_S`. While nothing waits, the
system collects what changes and no thread of ours runs. Where the listening fails, what stands in a file is looked at
all the same, and what was missed is found when the folder is listened to again: at once, and after a longer pause each
time that it fails once more.

Not here: reading (`trail`), hearing (`ears`), what entries prove (`core.judge`), consent and markers (those above).
Above: the daemon, which runs `HostSight.run`. Below: `trail`, `ears`, trio. Invariants: each expected marker gets one
verdict, and another one only after one that `stays`; a failure of any sort is a verdict `unknown` and no
exception; what is logged names a host and a type of error.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import trio

from parlerd.core.judge import Answer
from parlerd.core.records import Record
from parlerd.core.sight import Expected, Found, Reason, Verdict
from parlerd.sight.ears import Ears, open_ears
from parlerd.sight.port import BEGIN_S, GONE_S, LIMIT_S, NOWHERE_S, Told, Watch
from parlerd.sight.trail import Change, Gone, Trail

log = logging.getLogger("parlerd.sight")

IDLE_S: Final = 600.0
"""Seconds after which a folder is no longer listened to when nothing was waited for."""
REST_S: Final = 60.0
"""Seconds between two looks at what changed while nothing is waited for, so that the system's list stays short."""
AGAIN_S: Final = 1.0
"""Seconds between two looks for a folder that is not there, while something is waited for."""
DEAF_S: Final = 60.0
"""The longest pause between two tries to listen to a folder where that fails again and again. A file whose name is no
UTF-8 makes it fail at each change of this file, and to listen anew a folder is walked through."""
LOOK_S: Final = 5.0
"""Seconds between two looks at files in which something stands when nothing is heard: the system forgets notices when
too many come at once."""
MAX_PLACES: Final = 32
"""Folders that are listened to at a time: one for each host, and one for each other way that its variables point."""
WRITE_S: Final = 2.0
"""Seconds that an answer may take to be written while others wait in the same folder."""
MAX_TRIES: Final = 3
"""How often a folder is walked through anew when folders came while it was walked through."""
MAX_ANSWERS: Final = 256
"""Answers that wait in one folder at a time; one more, and the oldest is unknown. With `MAX_MARKERS` this bounds what
a look compares."""
MAX_MARKERS: Final = 4_096
"""Messages that wait in one folder at a time."""

MAX_CALL: Final = 128
"""Characters of the id of a call."""
_MAY_CHANGE: Final = ("unknown", "shown")
"""What was told of a marker that is waited for all the same, and is no longer so when another verdict comes."""

FolderOf = Callable[[Sequence[str], Mapping[str, str]], Path | None]
"""The first of these templates that can be expanded with these variables."""
InThread = Callable[..., Awaitable[Any]]
"""`trio.to_thread.run_sync`."""
OpenEars = Callable[[Sequence[str]], Ears]


class HostSight:
    """`parlerd.sight.port.Sight` over the records of real hosts.

    `records` are the descriptions by host. `variables` is the daemon's own environment, for what the host's does not
    say.
    """

    def __init__(
        self,
        records: Mapping[str, Record],
        folder_of: FolderOf,
        variables: Mapping[str, str],
        open_ears: OpenEars = open_ears,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._records = records
        self._folder_of = folder_of
        self._variables = variables
        self._open_ears = open_ears
        self._in_thread = in_thread
        self._places: dict[tuple[str, str, Path], _Place] = {}
        """What is listened to, by host, version and folder."""
        self._nursery: trio.Nursery | None = None
        """Where places run; there is none before `run` and after it."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Before, and after, everything is unknown, also what waits as it ends. Raises nothing
        but cancellation."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def offers(self, host: str, version: str) -> Reason | Literal[""]:
        record = self._records.get(host)
        if record is None:
            return "no_host"
        known = version in (record.clients or record.versions) and not record.anonymous
        return "" if known else "version"

    def variables(self, host: str) -> tuple[str, ...]:
        record = self._records.get(host)
        return () if record is None else record.variables

    def call_of(self, host: str, meta: Mapping[str, object]) -> str:
        record = self._records.get(host)
        found = meta.get(record.call_meta) if record is not None and record.call_meta else None
        # An id that is no plain text is none that a record could be searched for.
        return found if isinstance(found, str) and 0 < len(found) <= MAX_CALL and found.isascii() else ""

    async def begin(
        self, host: str, version: str, variables: Mapping[str, str], conversation: str, told: Told
    ) -> Watch:
        # The conversation is not needed: whatever is appended to any file of the folder is heard of.
        del conversation
        if reason := self.offers(host, version):
            return _Blind(told, reason)
        if self._nursery is None:
            return _Blind(told, "unwatched")
        record = self._records[host]
        if any(variables.get(name) for name in record.blinded_by):
            # The host may cut what its record says is whole.
            return _Blind(told, "too_long")
        folder = self._folder_of(record.folders, {**self._variables, **variables})
        if folder is None or not folder.is_absolute():
            return _Blind(told, "no_record")
        key = (host, version, folder)
        place = self._places.get(key)
        if place is None:
            if len(self._places) == MAX_PLACES:
                return _Blind(told, "too_many")
            place = self._places[key] = _Place(
                record, f"{host} {version}", str(folder), self._open_ears, self._in_thread
            )
            self._nursery.start_soon(self._keep, key, place)
        is_heard = False
        with trio.move_on_after(BEGIN_S):
            is_heard = await place.noted()
        return _Waiting(place, told) if is_heard else _Blind(told, "unwatched")

    async def _keep(self, key: tuple[str, str, Path], place: _Place) -> None:
        try:
            await place.run()
        except Exception as error:
            # Nothing that stands in somebody's files may end the daemon.
            log.error("the records of %s are not watched any more: %s", key[0], type(error).__name__)
            place.fail("record_unreadable")
        finally:
            del self._places[key]
            # Also where whoever runs this ended it: nobody watches any more what still waits.
            place.fail("unwatched")


class _Blind:
    """A `Watch` that can see nothing."""

    def __init__(self, told: Told, reason: Reason) -> None:
        self._told: Told | None = told
        self._reason = reason

    def expect(self, expected: Sequence[Expected], *, call: str = "") -> None:
        del call
        told, self._told = self._told, None
        if told is not None:
            for each in expected:
                told(Found(marker=each.marker, verdict="unknown", reason=self._reason))

    def drop(self) -> None:
        self._told = None

    def ended(self) -> None:
        pass  # each marker had its verdict when it was expected


class _Waiting:
    """A `Watch` in a folder that is listened to."""

    def __init__(self, place: _Place, told: Told) -> None:
        self._place = place
        self._told = told
        self._pending: _Pending | None = None
        """The answer, once it was written."""
        self._is_over = False
        """Whether the answer was written, or will not be."""
        place.announced[self] = trio.current_time()

    def expect(self, expected: Sequence[Expected], *, call: str = "") -> None:
        if self._is_over:
            return
        self._is_over = True
        if self not in self._place.announced:
            # The records were read before this was known.
            _Blind(self._told, "unwatched").expect(expected)
            return
        if expected:
            self._pending = _Pending(Answer(expected, call), self._told, trio.current_time() + LIMIT_S)
            self._place.wait_for(self._pending)
        self._place.came(self)

    def drop(self) -> None:
        self._is_over = True
        if self._pending is not None:
            self._place.drop(self._pending)
        self._place.came(self)

    def ended(self) -> None:
        if self._pending is not None:
            self._pending.gone = min(self._pending.gone, trio.current_time() + GONE_S)


class _Pending:
    """An answer that waits."""

    __slots__ = ("answer", "deadline", "gone", "nowhere", "said", "told")

    def __init__(self, answer: Answer, told: Told, deadline: float) -> None:
        self.answer = answer
        self.told: Told | None = told
        """Who is told; nobody once the answer was dropped."""
        self.deadline = deadline
        self.said: dict[str, Verdict] = {}
        """What was told of markers that are waited for all the same."""
        self.nowhere = deadline - LIMIT_S + NOWHERE_S
        """When it has to stand in some record, or is unknown until it does."""
        self.gone = inf
        """When it has to stand in some record, because nobody is left to write it into one."""


class _Place:
    """One folder. Its trail and its ears are used in threads, by one of them at a time."""

    def __init__(self, record: Record, evidence: str, root: str, open_ears: OpenEars, in_thread: InThread) -> None:
        self._record = record
        self._evidence = evidence
        self._root = root
        self._open_ears = open_ears
        self._in_thread = in_thread
        self._trail: Trail | None = None
        """What is known of the folder; there is nothing before it is there."""
        self._ears: Ears | None = None
        self._pending: list[_Pending] = []
        """Answers that wait, the oldest first."""
        self.announced: dict[_Waiting, float] = {}
        """Watches whose answer is being written, and since when. What they expect is not known yet: nothing is read
        meanwhile."""
        self._turn = trio.Lock()
        """Held by whoever uses the trail."""
        self._hearing = trio.Lock()
        """Held by whoever uses the ears. Taken before the turn."""
        self._listening = trio.CancelScope()
        """Around the wait for a change."""
        self._woken = trio.Event()
        """Set when the loop has something new to do."""
        self._has_failed = False
        """Whether the listening failed since the loop looked last."""
        self._again_at = -inf
        """Before this moment nobody tries again to listen where that failed."""
        self._pause = 0.0
        """How long the newest pause was until that moment."""
        self._is_used = True
        """Whether somebody began since the loop looked last."""
        self._was_absent = False
        """Whether the folder was not there when it was noted; then all that is in it is younger than what waits."""
        self._limiter = trio.CapacityLimiter(1)
        """A thread for each folder, so that a folder on a dead network holds up no other. A thread that was abandoned
        keeps its place, so nobody else uses what it uses."""

    # -- asked in the loop -------------------------------------------------------------------------------------

    async def noted(self) -> bool:
        """Everything that was appended until now does not count. Gives whether what comes will be heard of."""
        self._is_used = True
        if not self._is_busy:
            async with self._hearing, self._turn:
                if not self._is_busy:
                    return bool(await self._in_thread(self._note, limiter=self._limiter, abandon_on_cancel=True))
        async with self._turn:
            # Of a folder that nobody listens to right now, what is missed is found later.
            return self._trail is not None or self._was_absent

    def fail(self, reason: Reason) -> None:
        """Nothing is read any more. Idempotent."""
        for pending in list(self._pending):
            self._end(pending, reason)
        self.announced.clear()

    @property
    def _is_busy(self) -> bool:
        """Whether what is appended is wanted by somebody."""
        return bool(self._pending or self.announced)

    def wait_for(self, pending: _Pending) -> None:
        self._pending.append(pending)
        while len(self._pending) > MAX_ANSWERS or sum(len(each.answer.left) for each in self._pending) > MAX_MARKERS:
            said = (each for each in self._pending if each.said.keys() >= each.answer.left.keys())
            self._end(next(said, self._pending[0]), "too_many")

    def came(self, watch: _Waiting) -> None:
        """The answer of this watch was written, or will not be."""
        self.announced.pop(watch, None)
        self._woken.set()

    def drop(self, pending: _Pending) -> None:
        # A thread may be looking for it: only the loop changes what waits.
        pending.told = None
        self._listening.cancel()

    async def run(self) -> None:
        """Listen until nothing was waited for in `IDLE_S`."""
        rested = 0.0
        try:
            while rested < IDLE_S or self._is_busy:
                if self._pending:
                    await self._look()
                    rested = 0.0
                    continue
                if await self._woken_within(REST_S):
                    continue
                # Whoever announced an answer and never said what became of it holds up nothing.
                late = trio.current_time() - REST_S
                self.announced = {watch: since for watch, since in self.announced.items() if since > late}
                async with self._hearing, self._turn:
                    if not self._is_busy:
                        await self._in_thread(self._note, limiter=self._limiter, abandon_on_cancel=True)
                rested = 0.0 if self._is_used else rested + REST_S
                self._is_used = False
        finally:
            self._close()

    async def _woken_within(self, seconds: float) -> bool:
        self._woken = trio.Event()
        with trio.move_on_after(seconds):
            await self._woken.wait()
        return self._woken.is_set()

    async def _look(self) -> None:
        """One look: at what changes next, and at most until the first answer is unknown."""
        self._pending = [each for each in self._pending if each.told is not None]
        if not self._pending:
            return
        wait = min(each.deadline for each in self._pending) - trio.current_time()
        if wait > 0:
            async with self._hearing:
                changes = await self._heard(min(wait, LOOK_S))
                self._slow_down()
                await self._all_written()
                # A folder on a dead network answers never, and holds up no verdict.
                with trio.move_on_at(min((each.deadline for each in self._pending), default=inf)):
                    async with self._turn:
                        answers = [each.answer for each in self._pending]
                        may_listen = trio.current_time() >= self._again_at
                        self._tell(
                            await self._in_thread(
                                self._judge, changes, answers, may_listen, limiter=self._limiter, abandon_on_cancel=True
                            )
                        )
                        # While no thread is in the trail.
                        self._let_go()
                self._slow_down()
            if self._ears is None:
                await self._woken_within(min(wait, AGAIN_S))
        now = trio.current_time()
        for pending in [each for each in self._pending if each.deadline <= now]:
            if self._trail is not None:
                self._end(pending, "timeout")
            else:
                self._end(pending, "unwatched" if now < self._again_at else "no_record")

    def _slow_down(self) -> None:
        """Where the listening failed, wait with the next try longer than before. Nobody waits after a first failure."""
        if not self._has_failed:
            return
        now, self._has_failed = trio.current_time(), False
        is_first = now > self._again_at + DEAF_S
        self._pause = 0.0 if is_first else min(max(2 * self._pause, AGAIN_S), DEAF_S)
        self._again_at = now + self._pause

    def _let_go(self) -> None:
        """What stands in no record is unknown by now; where its host is gone, it is waited for no longer."""
        now = trio.current_time()
        for pending in [each for each in self._pending if min(each.gone, each.nowhere) <= now]:
            is_gone, stands = pending.gone <= now, self._trail is not None and self._trail.has(pending.answer)
            pending.nowhere = inf
            pending.gone = inf if is_gone else pending.gone
            if is_gone and not stands:
                self._end(pending, "no_record")
            elif not stands:
                self._tell([self._unknown(marker, "no_record", stays=True) for marker in pending.answer.left])

    def _unknown(self, marker: str, reason: Reason, *, stays: bool = False) -> Found:
        return Found(marker=marker, verdict="unknown", reason=reason, evidence=self._evidence, stays=stays)

    async def _heard(self, wait: float) -> list[Change] | None:
        """What changed; `None` where nothing can be heard."""
        if self._ears is None:
            return None
        try:
            with trio.move_on_after(wait) as self._listening:
                return await self._ears.changed()
        except OSError as error:
            self._fell_deaf(error)
            return None
        return []

    async def _all_written(self) -> None:
        """Wait until every answer that was announced was written; those that take too long are not seen."""
        with trio.move_on_after(WRITE_S) as scope:
            while self.announced:
                self._woken = trio.Event()
                await self._woken.wait()
        if scope.cancelled_caught:
            self.announced.clear()

    def _tell(self, found: Sequence[Found]) -> None:
        last: dict[str, Found] = {}
        for each in found:
            before = last.get(each.marker)
            # What comes to nothing after a denial leaves the denial as it is.
            stands = before is not None and before.stays and before.verdict != "shown" and each.verdict != "shown"
            last[each.marker] = msgspec.structs.replace(before, stays=each.stays) if before and stands else each
        for each in last.values():
            for pending in self._pending:
                if each.marker not in pending.answer.left:
                    continue
                said = pending.said.get(each.marker)
                # What ends the proof of a part that was shown is news: the message goes on after it.
                is_new = said is None or (said != each.verdict and (each.verdict == "shown" or said in _MAY_CHANGE))
                if not each.stays:
                    del pending.answer.left[each.marker]
                elif is_new:
                    pending.said[each.marker] = each.verdict
                if is_new and pending.told is not None:
                    pending.told(each)
        self._pending = [each for each in self._pending if each.answer.left]

    def _end(self, pending: _Pending, reason: Reason) -> None:
        self._pending.remove(pending)
        # A thread may be going through the messages that were left.
        left, pending.answer.left = pending.answer.left, {}
        for marker in left:
            if pending.told is not None and marker not in pending.said:
                pending.told(self._unknown(marker, reason))

    # -- in a thread -------------------------------------------------------------------------------------------

    def _note(self) -> bool:
        """What changed until now does not count. Gives whether changes will be heard, or the folder is not there."""
        self._was_absent = False
        for _ in range(2):
            is_new = self._ears is None
            try:
                trail, ears = self._opened()
                changes = ears.now()
                self._follow(trail, ears, changes, waiting=False)
                trail.note(changes)
                trail.rest()
                return True
            except Gone:
                # Another folder may stand in its place now.
                self._close()
            except OSError as error:
                self._gave_up(error)
                # What failed may have failed long ago, and is listened to anew.
                if is_new:
                    return False
        self._was_absent = True
        return True

    def _judge(self, changes: list[Change] | None, answers: Sequence[Answer], may_listen: bool) -> list[Found]:
        """What these changes prove; `None` where nobody listens. Then it is listened to again if that `may` be, and
        else only that is looked at which stands in a file."""
        try:
            if changes is None and not may_listen:
                return [] if self._trail is None else self._trail.look([], answers)
            if changes is None and self._trail is not None:
                trail = self._trail
                trail.survey()
                ears = self._ears = self._open_ears(trail.folders)
                changes = trail.missed()
            elif changes is None:
                trail, ears = self._opened(young=self._was_absent)
                changes = trail.all() if self._was_absent else []
                self._was_absent = False
            else:
                trail, ears = self._opened()
            came = self._follow(trail, ears, changes, waiting=True)
            return trail.look([*changes, *came], answers)
        except Gone:
            # The folder is not the one any more that it was.
            return self._lose("rotated")
        except OSError as error:
            found = self._lose("unwatched")
            self._gave_up(error)
            return found

    def _lose(self, reason: Reason) -> list[Found]:
        found = [] if self._trail is None else self._trail.lost(reason)
        self._close()
        return found

    def _opened(self, *, young: bool = False) -> tuple[Trail, Ears]:
        """The folder as it is listened to. With `young`, all that is in it counts."""
        if self._trail is None or self._ears is None:
            self._close()
            trail = Trail(self._root, self._record, self._evidence)
            for _ in range(MAX_TRIES):
                trail.survey()
                self._close()
                self._ears = self._open_ears(trail.folders)
                # Walked through once it is listened to, so that no change is missed in between.
                if not trail.walk(young=young):
                    break
            self._trail = trail
        assert self._ears is not None
        return self._trail, self._ears

    def _follow(self, trail: Trail, ears: Ears, changes: Sequence[Change], *, waiting: bool) -> list[Change]:
        """Listen to folders that came, too; the files in them, and what changed meanwhile."""
        names = trail.fresh(changes)
        if not names:
            return []
        came = trail.adopt(names, waiting=waiting)
        self._ears = self._open_ears(trail.folders)
        try:
            missed = ears.now()
        except OSError as error:
            # What they missed is found when the folder is listened to again.
            self._fell_deaf(error)
            missed = []
        ears.close()
        # Walked again, for what came before they were listened to.
        return [*came, *missed, *trail.adopt(names, waiting=waiting)]

    def _gave_up(self, error: Exception) -> None:
        self._fell_deaf(error)
        self._close()

    def _fell_deaf(self, error: Exception) -> None:
        self._has_failed = True
        # An error is told by its type alone: its text may hold a path.
        log.warning("the records of %s are not watched: %s", self._evidence, type(error).__name__)
        ears, self._ears = self._ears, None
        if ears is not None:
            ears.close()

    def _close(self) -> None:
        ears, self._ears = self._ears, None
        self._trail = None
        if ears is not None:
            ears.close()
