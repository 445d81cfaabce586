"""What one conversation has been shown: which pages are out, which of them reached the reader, and what comes back.

    begun --the page was made--> shows rooms --written to the host--> written --the next call--> acknowledged
                                     |                                   |
                                     `------- the host withdrew it ------'--> gone back: everything is shown again

`caller.shown` says up to where each room was shown; the engine acknowledges what stands there. This module decides when
it may: by a later call only, once the answer was written, and not when the host withdrew the call (decision 14). A
message that was shown in part stands there only when its last part was shown.

Not here: making pages (`window`), moving cursors (`parlerd.engine`). Above: `window`. Invariant: whatever goes back
leaves no trace, neither in what counts as shown nor in what the reader was told besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mcp_server.repeats import RequestId
from mcp_server.tools.results import Cut, Scribe
from parlerd.bounded import Bounded
from parlerd.core.model import Position, RoomId
from parlerd.engine.callers import Caller, Told
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t

MAX_WRITTEN: Final = 64
"""Answers that were written and not followed by another call. Calls may overlap for ever; whoever withdraws one that
was forgotten here has read its answer."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A message that was shown in part. `names` are what a call may name its room by, `offset` is where the rest
    begins; `upto` is acknowledged once the rest was shown."""

    room: RoomId
    names: frozenset[str]
    seq: int
    offset: int
    upto: Position


@dataclass(slots=True)
class Page:
    """What one call shows, while it is under way and until another call follows its answer.

    `rooms` are the rooms of which it shows something, each with up to where the page before went (None: nothing was
    shown of it). The other fields are what the reader had been told before this call, in case that the host drops the
    answer: the messages that were begun, the news, the rooms in which it was told who it is, and whether it was told
    what a fence means. `is_withdrawn` says that the host withdrew the call before anything was shown.
    """

    begun: dict[RoomId, Begun]
    told: Told
    met: frozenset[str]
    explained: bool
    rooms: dict[RoomId, Position | None] = field(default_factory=dict)
    is_withdrawn: bool = False


class Showing:
    """The pages of one conversation."""

    def __init__(self, engine: EngineFace, caller: Caller, scribe: Scribe) -> None:
        self._engine = engine
        self._caller = caller
        self._scribe = scribe
        # The pages of calls that are under way or whose answer is not written yet, by request.
        self._unwritten: dict[RequestId, Page] = {}
        # Those whose answer was written, until the next call: the host may still withdraw one of them.
        self._written: Bounded[RequestId, Page] = Bounded(MAX_WRITTEN)
        # The messages that were shown in part, one at most in a room.
        self._begun: dict[RoomId, Begun] = {}

    # -- the life of a page ------------------------------------------------------------------------------------

    def begin(self, request: RequestId) -> Page:
        """A call that may show something begins."""
        scribe = self._scribe
        page = Page(dict(self._begun), self._caller.told.copy(), frozenset(scribe.met), scribe.fencer.explained)
        self._unwritten[request] = page
        return page

    def failed(self, request: RequestId, page: Page) -> None:
        """The call failed or was cancelled: the host will never see what it was about to show."""
        self._unwritten.pop(request, None)
        self._go_back(page)

    def ended(self, request: RequestId) -> None:
        """The call has its answer. If the host withdrew the call meanwhile, the page goes back now."""
        page = self._unwritten.get(request)
        if page is not None and page.is_withdrawn:
            self._go_back(self._unwritten.pop(request))

    def settled(self, request: RequestId, *, written: bool, cancels_answered: bool) -> None:
        """The answer was written to the host, or (`written` false) the host withdrew the call: then nothing was shown.

        A host that withdraws a call which was answered just now drops the answer. Some hosts also withdraw calls that
        succeeded (`cancels_answered`); of those only a withdrawal before the answer counts.
        """
        page = self._unwritten.get(request)
        if not written and page is not None:
            page.is_withdrawn = True
            if page.rooms:
                self._go_back(self._unwritten.pop(request))
            # Else what it shows may still be on its way, and goes back when the call has ended.
        elif page is not None:
            del self._unwritten[request]
            self._written[request] = page
        elif not written and not cancels_answered and request in self._written:
            self._go_back(self._written.pop(request))

    async def acknowledge(self) -> None:
        """Acknowledge what was shown: the host makes another call. A page whose answer is not written yet was not
        seen, and waits for the call after it."""
        shown = self._caller.shown
        kept: dict[RoomId, Position] = {}
        for page in self._unwritten.values():
            for room, before in page.rooms.items():
                if room in shown and room not in kept:
                    kept[room] = shown.pop(room)
                    if before is not None:
                        shown[room] = before
        self._written.clear()
        await self._engine.call("window.acknowledge", t.AcknowledgeShown(), self._caller)
        for room, upto in kept.items():
            self._caller.shown[room] = max(upto, self._caller.shown.get(room, upto))

    def _go_back(self, page: Page) -> None:
        """The reader never saw a page: what it showed is shown again, and what it said is said again."""
        # Other calls may have shown something meanwhile. At worst something comes twice.
        for room, before in page.rooms.items():
            self._stand(room, before)
        self._caller.told = page.told.copy()
        self._begun = dict(page.begun)
        self._scribe.met = set(page.met)
        self._scribe.fencer.explained = page.explained

    def _stand(self, room: RoomId, upto: Position | None) -> None:
        """Count the room as shown up to there."""
        if upto is None:
            self._caller.shown.pop(room, None)
        else:
            self._caller.shown[room] = upto

    # -- what a page shows -------------------------------------------------------------------------------------

    @property
    def so_far(self) -> dict[RoomId, Position]:
        """Up to where each room was shown."""
        return dict(self._caller.shown)

    def shows(self, page: Page, room: str, name: str | None, cut: Cut | None, had: Mapping[RoomId, Position]) -> None:
        """Take down what a page shows of a room. Of a message that goes on nothing counts as shown yet. `had` is what
        `so_far` was before the page was asked for."""
        at = RoomId(room)
        shown = self._caller.shown
        if at not in shown or shown[at] == had.get(at):
            return
        before = had.get(at)
        if cut is not None:
            self._begun[at] = Begun(at, frozenset((room, name or room)), cut.seq, cut.offset, shown[at])
            self._stand(at, before)
        page.rooms[at] = before

    # -- messages that were shown in part ----------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether any message was shown in part."""
        return bool(self._begun)

    def begun_in(self, name: str) -> Begun | None:
        """The message that was shown in part in the room that a call names so."""
        return next((begun for begun in self._begun.values() if name in begun.names), None)

    def goes_on(self, page: Page, begun: Begun, cut: Cut | None) -> None:
        """The page shows more of a message, up to `cut` or to its end."""
        if cut is not None:
            self._begun[begun.room] = replace(begun, offset=max(begun.offset, cut.offset))
            return
        before = self._caller.shown.get(begun.room)
        page.rooms[begun.room] = before
        self._caller.shown[begun.room] = max(begun.upto, before or begun.upto)
        self._begun.pop(begun.room, None)

    def forget(self, room: RoomId) -> None:
        """There is no rest to show any more."""
        self._begun.pop(room, None)
