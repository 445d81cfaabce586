"""What the answers of one conversation show: pages, and messages that go on in another answer.

    call -> Showing.begin -> the answer shows rooms -> written or withdrawn by the host -> the next call

When a page counts as seen is the engine's to say (`parlerd.engine.readers.Shown`, with the states of an answer). This
module tells it which answer shows which page, and takes back what an answer said besides, when the reader never saw it:
the messages that it began, the news, the rooms in which it said who the reader is, and what a fence means.

Not here: making pages (`window`), moving cursors (`parlerd.engine`). Above: `window`. Invariant: a message that is
shown in part counts as shown when its last part was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mcp_server.repeats import CallId
from mcp_server.tools.results import Cut, Scribe
from parlerd.core.model import Position, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.readers import PendingAnswer, ReaderSession


@dataclass(frozen=True, slots=True)
class Begun:
    """A message that was shown in part. `names` are what a call may name its room by, `offset` is where the rest
    begins; `upto` is acknowledged once the rest was shown."""

    room: RoomId
    names: frozenset[str]
    seq: int
    offset: int
    upto: Position


class Showing:
    """The answers of one conversation, as far as they show something."""

    def __init__(self, caller: Caller, scribe: Scribe) -> None:
        # A window has read the answers before when it calls again, so its next call acknowledges what they showed.
        self._reader = caller.reader = ReaderSession(acknowledges="next_call", fits=scribe)
        self._shown = self._reader.shown
        self._scribe = scribe
        # The messages that were shown in part, one at most in a room.
        self._begun: dict[RoomId, Begun] = {}

    # -- an answer's way ---------------------------------------------------------------------------------------

    def begin(self, request: CallId) -> PendingAnswer:
        """A call that may show something begins."""
        return self._shown.begin(request, self._way_back())

    def failed(self, request: CallId) -> None:
        """The call failed or was cancelled: the host will never see what it was about to show."""
        self._shown.failed(request)

    def ended(self, request: CallId) -> None:
        """The call has its answer."""
        self._shown.ended(request)

    def settled(self, request: CallId, *, written: bool, cancels_answered: bool) -> None:
        """The answer was written to the host, or (`written` false) the host withdrew the call: then nothing was shown.

        A host that withdraws a call which was answered just now drops the answer. Some hosts also withdraw calls that
        succeeded (`cancels_answered`); of those only a withdrawal before the answer counts.
        """
        if written:
            self._shown.written(request)
        else:
            self._shown.withdrawn(request, even_written=not cancels_answered)

    def _way_back(self) -> Callable[[], None]:
        """A way back to what the reader has been told up to now. Other calls may tell it something meanwhile: at worst
        something is said twice."""
        scribe, reader = self._scribe, self._reader
        begun, told, met = dict(self._begun), reader.told.copy(), frozenset(scribe.met)
        explained = scribe.fencer.explained

        def go_back() -> None:
            self._begun = dict(begun)
            reader.told = told.copy()
            scribe.met = set(met)
            scribe.fencer.explained = explained

        return go_back

    # -- what an answer shows ----------------------------------------------------------------------------------

    def shows(self, answer: PendingAnswer, room: str, name: str | None, cut: Cut | None) -> None:
        """The answer shows the page of a room that the engine laid out just now. Of a message that goes on nothing
        counts as shown yet."""
        at = RoomId(room)
        upto = self._shown.laid_out(at)
        if upto is None:
            return  # a look that moves nothing
        if cut is not None:
            self._begun[at] = Begun(at, frozenset((room, name or room)), cut.seq, cut.offset, upto)
        answer.shows(at, upto if cut is None else None)

    # -- messages that were shown in part ----------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether any message was shown in part."""
        return bool(self._begun)

    def begun_in(self, name: str) -> Begun | None:
        """The message that was shown in part in the room that a call names so."""
        return next((begun for begun in self._begun.values() if name in begun.names), None)

    def goes_on(self, answer: PendingAnswer, begun: Begun, cut: Cut | None) -> None:
        """The answer shows more of a message, up to `cut` or to its end."""
        if cut is not None:
            self._begun[begun.room] = replace(begun, offset=max(begun.offset, cut.offset))
            answer.shows(begun.room, None)
        else:
            self._begun.pop(begun.room, None)
            answer.shows(begun.room, begun.upto)

    def forget(self, room: RoomId) -> None:
        """There is no rest to show any more."""
        self._begun.pop(room, None)
