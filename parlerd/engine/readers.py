"""A reader's session: how its pages are acknowledged, what it was shown and has not acknowledged, what it was told.

A page is acknowledged by what its reader does next. A command that printed a page commits it. A window makes its next
call, which says that it has read the answers before; but an answer may still be on its way then, or the host may have
withdrawn it, and such a page was never seen. Source: decision 14.

An answer goes through these states (`_NEXT` is the same as a table). A line says what becomes of its pages.

    open       its call is under way and shows nothing yet
    laid out   the page stands in an answer that the host does not have yet: it stays for later
    written    the host has the answer: the next call acknowledges the page
    unwanted   the host withdrew the call before it showed anything: whatever it shows now was never seen
    dropped    nobody saw the page: it is shown again, and what the answer said besides is said again
    followed   a later call came: the page is acknowledged, and the answer can be withdrawn no more

Not here: what a page holds (`reading`), where it is recorded (`receiving`), how a host takes an answer back
(`mcp_server`). Above: the handlers and the surfaces. Invariant: no page is acknowledged that stands only in answers
which the host does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from parlerd.core.model import AgentId, KeyId, MessageId, Millis, Position, RequestId, RoomId
from parlerd.operations import types as t

Acknowledging = Literal["commit", "next_call"]
"""What acknowledges a page: its reader says so, or makes its next call."""
AnswerId = str | int
"""A request's id, as the surface has it."""
MAX_WRITTEN: Final = 64
"""Answers that could still be withdrawn. More of them come only from calls that overlap for ever, and a host that
withdraws a call this old has read its answer."""

State = Literal["open", "laid out", "written", "unwanted", "dropped", "followed"]
Event = Literal["shows", "ends", "written", "withdrawn", "next call"]

_NEXT: Final[Mapping[tuple[State, Event], State]] = {
    ("open", "shows"): "laid out",
    ("open", "ends"): "laid out",
    ("open", "written"): "written",
    ("open", "withdrawn"): "unwanted",
    ("laid out", "written"): "written",
    ("laid out", "withdrawn"): "dropped",
    ("written", "withdrawn"): "dropped",
    ("written", "next call"): "followed",
    ("unwanted", "ends"): "dropped",
}
"""What changes an answer's state. What is not listed changes nothing."""


class Fitting(Protocol):
    """How much of a page a surface can show. The engine asks before it counts anything as shown."""

    def front(self, messages: Sequence[t.Message], you: str) -> int:
        """How many messages from the front are shown together; at least one of those there are."""
        ...

    def newest(self, recap: Sequence[t.Message], tail: Sequence[t.Message], you: str, *, whole: bool) -> int:
        """How many of the newest, from the end of `tail`, are shown beside the recap; 0: the recap stands alone.
        `whole` says that nothing is missing between the two."""
        ...


@dataclass(slots=True)
class Told:
    """What the notices of one window said already. `unread` holds up to where in each room; `members` and `requests`
    who was in and who knocked then; `doors` what was said of each room that the agent asked to come into; `hosts` the
    last word about agent hosts' files; `undelivered` the queued messages that were named as refused. `looked` is how
    far each room had come when it was looked at last; `epochs` how often each was rewound then. `expired` are own
    offers of the turn that were named as expired, `expires` is when the next one of a room does. `held` are the agents
    that this one is named with as woken too often, by room. `unshown` are the own messages that were named as shown to
    no model. `spent` are the keys that were named as tried too often, each with whose tries these were. `begun` is
    false until the first notice took stock."""

    begun: bool = False
    unread: dict[RoomId, Position] = field(default_factory=dict)
    members: dict[RoomId, frozenset[AgentId]] = field(default_factory=dict)
    requests: set[RequestId] = field(default_factory=set)
    doors: dict[RoomId, str] = field(default_factory=dict)
    hosts: str = ""
    undelivered: set[MessageId] = field(default_factory=set)
    looked: dict[RoomId, Position] = field(default_factory=dict)
    epochs: dict[RoomId, int] = field(default_factory=dict)
    expired: set[MessageId] = field(default_factory=set)
    expires: dict[RoomId, Millis] = field(default_factory=dict)
    held: dict[RoomId, frozenset[str]] = field(default_factory=dict)
    unshown: set[MessageId] = field(default_factory=set)
    spent: set[tuple[KeyId, str]] = field(default_factory=set)

    def copy(self) -> Told:
        """What was said up to now, for a look ahead or a way back."""
        return Told(
            begun=self.begun,
            unread=dict(self.unread),
            members=dict(self.members),
            requests=set(self.requests),
            doors=dict(self.doors),
            hosts=self.hosts,
            undelivered=set(self.undelivered),
            looked=dict(self.looked),
            epochs=dict(self.epochs),
            expired=set(self.expired),
            expires=dict(self.expires),
            held=dict(self.held),
            unshown=set(self.unshown),
            spent=set(self.spent),
        )


class PendingAnswer:
    """What one answer shows, while it is on its way to the reader. Made by `Shown.begin`."""

    __slots__ = ("pages", "state", "undo")

    def __init__(self, undo: Callable[[], None]) -> None:
        self.undo = undo
        """Takes back what the answer said besides its pages."""
        self.state: State = "open"
        self.pages: dict[RoomId, Position] = {}
        """Up to where it shows each room. A message that goes on in another answer is in none of them yet."""

    def shows(self, room: RoomId, upto: Position | None) -> None:
        """It shows a page of `room` up to there, or (None) a part of a message, which moves nothing yet."""
        if upto is not None:
            self.pages[room] = upto
        self.happens("shows")

    def happens(self, event: Event) -> bool:
        """Take in an event. Whether the answer was dropped by it."""
        before, self.state = self.state, _NEXT.get((self.state, event), self.state)
        return before != "dropped" and self.state == "dropped"


class Shown:
    """What one reader was shown and has not acknowledged."""

    __slots__ = ("_answers", "_due", "_laid_out")

    def __init__(self) -> None:
        self._answers: dict[AnswerId, PendingAnswer] = {}
        """Answers that may still be withdrawn, oldest first."""
        self._due: dict[RoomId, Position] = {}
        """Pages of answers that cannot be withdrawn: the next call acknowledges them."""
        self._laid_out: dict[RoomId, Position] = {}
        """Pages of the call that is just returning, until its surface says which answer shows them. For a surface that
        keeps no answers they count as written."""

    def showed(self, room: RoomId, upto: Position) -> None:
        """A page of `room` that ends there is the result of the call under way. The handler returns it without another
        await, so that its surface, and no other call, finds it with `laid_out`."""
        self._laid_out[room] = max(upto, self._laid_out.get(room, upto))

    def laid_out(self, room: RoomId) -> Position | None:
        """Take the page that a handler laid out just now, for the answer that shows it; None when there is none."""
        return self._laid_out.pop(room, None)

    def holds(self, room: RoomId) -> Position | None:
        """Up to where `room` was shown, or is about to be, and not acknowledged yet."""
        ends = [pages[room] for pages in self._pages() if room in pages]
        return max(ends, default=None)

    # -- an answer's way -----------------------------------------------------------------------------------

    def begin(self, request: AnswerId, undo: Callable[[], None]) -> PendingAnswer:
        """The call `request` may show something. `undo` is called if it turns out that the reader never saw its
        answer."""
        reused = self._answers.pop(request, None)
        if reused is not None and reused.state == "written":
            self._owe(reused.pages)
        answer = self._answers[request] = PendingAnswer(undo)
        return answer

    def ended(self, request: AnswerId) -> None:
        """The call `request` is over; its answer may still be on its way."""
        self._happens(request, "ends")

    def failed(self, request: AnswerId) -> None:
        """The call `request` ends with an error instead of what it was about to show."""
        self._laid_out.clear()
        answer = self._answers.pop(request, None)
        if answer is not None and answer.state != "dropped":
            answer.undo()

    def written(self, request: AnswerId) -> None:
        """The host has the answer to `request`."""
        self._happens(request, "written")
        written = [id for id, answer in self._answers.items() if answer.state == "written"]
        if len(written) > MAX_WRITTEN:
            self._owe(self._answers.pop(written[0]).pages)

    def withdrawn(self, request: AnswerId, *, even_written: bool) -> None:
        """The host took its call `request` back. Some hosts also take back what succeeded: where a withdrawal counts
        only before the answer, `even_written` is false."""
        answer = self._answers.get(request)
        if answer is not None and (even_written or answer.state != "written"):
            self._happens(request, "withdrawn")

    def take(self) -> dict[RoomId, Position]:
        """The reader made its next call: up to where each room is acknowledged by that."""
        self._owe(self._laid_out)
        self._laid_out = {}
        for id, answer in list(self._answers.items()):
            answer.happens("next call")
            if answer.state == "followed":
                self._owe(self._answers.pop(id).pages)
        due, self._due = self._due, {}
        return due

    # -- inside --------------------------------------------------------------------------------------------

    def _happens(self, request: AnswerId, event: Event) -> None:
        answer = self._answers.get(request)
        if answer is not None and answer.happens(event):
            del self._answers[request]
            answer.undo()

    def _owe(self, pages: Mapping[RoomId, Position]) -> None:
        for room, upto in pages.items():
            self._due[room] = max(upto, self._due.get(room, upto))

    def _pages(self) -> list[Mapping[RoomId, Position]]:
        seen = [answer.pages for answer in self._answers.values() if answer.state != "unwanted"]
        return [self._due, self._laid_out, *seen]


@dataclass(slots=True)
class ReaderSession:
    """One reader at one surface: a window's conversation, or a command.

    `acknowledges` says what acknowledges its pages; a reader that acknowledges by its next call is also told what else
    is new. `shown` is what it was shown and has not acknowledged. `fits` says how much of a page its surface can show;
    without one everything can be shown. `told` is what its notices said.
    """

    acknowledges: Acknowledging = "commit"
    fits: Fitting | None = None
    shown: Shown = field(default_factory=Shown)
    told: Told = field(default_factory=Told)
