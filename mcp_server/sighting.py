"""Markers behind messages, and what the record of the agent host says of them: the MCP face's part of sight.

    a page with markers -> Lookout.begin -> written: Lookout.settled -> Watch.expect -> verdicts -> window.sighted
                                        `-> withdrawn: Watch.drop

Each message that an answer shows to a reader whose host the person lets Parler watch has a marker behind it: 64 bits
that are drawn after its text was written, so no author can have put them there. Markers are in memory alone, until
their verdict comes; what is told to the engine is a message's id and a verdict.

Not here: how a record is read (`parlerd.sight`), where a marker stands in a page (`tools.results`), what follows from a
verdict (`parlerd.engine`). Above: `window`, `conversations`, `parlerd.daemon`. Invariants: of a host that the person
did not name nothing is begun; no answer waits longer than a second for this; a message is told as shown only when each
part of it was, and the last one in a context that held the parts before it.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mcp_server.repeats import CallId
from parlerd.bounded import Bounded
from parlerd.core.errors import ParlerError
from parlerd.core.model import Sighted
from parlerd.core.records import texts
from parlerd.core.sight import DRAWN, MARKER, Found, expected, marker_of
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.sight.port import Sight, Watch

log = logging.getLogger("parlerd.mcp")

SEEN: Final = "seen"
"""The argument in which a model may quote markers, in any call. No list of tools names it: it would be paid for in
every conversation, and few are watched."""
MAX_MESSAGES: Final = 256
"""Messages of one conversation of which some part is watched. More of them come only from a host that is given pages
faster than it writes its record; of the oldest it stays unknown."""
MAX_EVIDENCE: Final = 256
"""Characters of what is told of the entries that decided."""
MAX_QUOTED: Final = 1024
"""Markers of one conversation that a call quoted, or of which the record may prove more than it did."""
MAX_PARTS: Final = 64
"""Parts of one message that a later part may follow on; of more the newest."""
_Word = tuple[Sighted, str, str]
"""A verdict, its reason, and its evidence."""
_WORST: Final[tuple[Sighted, ...]] = ("shown", "quoted", "unknown", "summarised", "not_shown", "cut")
"""A message in parts is the last of these that any of its parts is."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A message, or a part of one, that an answer shows: the characters from `start` up to `end` of all its texts, and
    with `ends` the last of them. `text` is what the host has to pass on for it, from its head through its marker; it is
    empty where no marker stands behind it."""

    id: str
    text: str
    start: int = 0
    end: int = 0
    ends: bool = True


@dataclass(slots=True)
class _Shown:
    """A message as one or several answers show it. `left` are the markers without a verdict, `found` the worst verdict
    that stands, with its reason and its evidence, `open` the verdicts after which others may come, by marker. `upto` is
    where the last part ends, and `ends` says that the message ends there. `parts` are where each part ends and its
    marker, by where the part begins. `is_one` says that all of it stands in one answer. `told` is the verdict on all of
    it that the engine knows."""

    left: set[str] = field(default_factory=set)
    found: _Word = ("shown", "reply", "")
    open: dict[str, _Word] = field(default_factory=dict)
    upto: int = 0
    ends: bool = False
    parts: Bounded[int, tuple[int, str]] = field(default_factory=lambda: Bounded(MAX_PARTS))
    is_one: bool = False
    told: Sighted | None = None

    @property
    def worst(self) -> _Word:
        """What is to be said of it now."""
        return max((self.found, *self.open.values()), key=lambda each: _WORST.index(each[0]))

    def before(self, start: int) -> str:
        """The marker of the newest part on which a part that begins at `start` follows; empty where there is none."""
        return next((marker for begin, (end, marker) in reversed(list(self.parts.items())) if begin < start <= end), "")


@dataclass(slots=True)
class _Answer:
    """An answer that may still be withdrawn. `markers` are those that stand in it, once it was written."""

    marked: Sequence[Marked]
    watch: Watch | None
    call: str = ""
    markers: list[str] = field(default_factory=list)


class Lookouts:
    """What the conversations of a daemon share of sight.

    `hosts` are the agent hosts whose records the person lets Parler watch, by id; the daemon sets it whenever the
    person changed it. `sight` gives the watcher of records, and makes it when it is first asked. `start` runs a task as
    long as the daemon serves.
    """

    def __init__(
        self,
        engine: EngineFace,
        sight: Callable[[], Sight],
        start: Callable[[Callable[[], Awaitable[None]]], None],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.hosts: frozenset[str] = frozenset()
        self._engine = engine
        self._sight = sight
        self.start = start
        self._random_bytes = random_bytes
        # What the engine is not told yet, in order, and whether a task is telling it.
        self._untold: deque[tuple[Caller, t.SightTold]] = deque()
        self._is_telling = False

    @property
    def sight(self) -> Sight:
        """The watcher of records."""
        return self._sight()

    def draw(self) -> str:
        """A new marker."""
        return marker_of(self._random_bytes(DRAWN))

    def tell(self, caller: Caller, told: t.SightTold) -> None:
        """Tell the engine what became of a message of this caller's, after what it was told before."""
        self._untold.append((caller, told))
        if not self._is_telling:
            self._is_telling = True
            self.start(self._tell)

    async def _tell(self) -> None:
        try:
            while self._untold:
                caller, _ = self._untold[0]
                sights: list[t.SightTold] = []
                while self._untold and self._untold[0][0] is caller and len(sights) < t.MAX_PAGE:
                    sights.append(self._untold.popleft()[1])
                try:
                    await self._engine.call("window.sighted", t.TellSights(sights=tuple(sights)), caller)
                except ParlerError as error:
                    # The rows are a record for people; a reader that missed something is told nothing wrong.
                    log.warning("what a record says of %d messages is not kept: %s", len(sights), error.code)
                except Exception as error:
                    # This task runs beside the daemon's own, which it must not end. Its text may be anybody's.
                    log.error("what a record says of %d messages is lost: %s", len(sights), type(error).__name__)
        finally:
            self._is_telling = False


class Lookout:
    """One conversation, as far as its host's record is watched. `version` is what the host says of itself, `variables`
    what its environment says of where its records are."""

    def __init__(self, shared: Lookouts, caller: Caller, version: str, variables: Mapping[str, str]) -> None:
        self._shared = shared
        self._caller = caller
        self._version = version
        self._variables = variables
        # Answers that may still be withdrawn, by request.
        self._answers: Bounded[CallId, _Answer] = Bounded(MAX_MESSAGES)
        # The messages that were shown in part, by id; and what each marker without a verdict is of.
        self._begun: Bounded[str, _Shown] = Bounded(MAX_MESSAGES)
        self._of: dict[str, tuple[str, _Shown]] = {}
        # The same of those that have a verdict after which another may come.
        self._open: Bounded[str, tuple[str, _Shown]] = Bounded(MAX_QUOTED)
        # The markers that a call of this conversation quoted before their verdict came; and the messages of which the
        # record proved nothing, by the one marker behind them.
        self._quoted: Bounded[str, bool] = Bounded(MAX_QUOTED)
        self._unproven: Bounded[str, str] = Bounded(MAX_QUOTED)

    def prepare(self) -> None:
        """Have the host's folder listened to before the first answer: to list it can take longer than an answer may be
        held up."""
        if self.is_on and not self._reason:
            self._shared.start(self._prepare)

    async def _prepare(self) -> None:
        if (watch := await self._begin_watch()) is not None:
            watch.drop()

    @property
    def is_on(self) -> bool:
        """Whether the person lets Parler watch the record of this conversation's host."""
        return self._caller.facts.host in self._shared.hosts

    def draw(self) -> str:
        """A marker for one more message, or '' where the record of this host proves nothing."""
        return "" if self._reason else self._shared.draw()

    @property
    def _reason(self) -> str:
        """Why everything is unknown here; empty where it is not."""
        return self._shared.sight.offers(self._caller.facts.host, self._version)

    # -- an answer's way ---------------------------------------------------------------------------------------

    async def begin(self, request: CallId, marked: Sequence[Marked], meta: Mapping[str, object]) -> None:
        """The answer to `request` will show these messages, and is about to leave."""
        # A host may use the number of an older call again.
        self._answers.pop(request, None)
        if not marked:
            return
        watch, call = None, ""
        if any(each.text for each in marked):
            call = self._shared.sight.call_of(self._caller.facts.host, meta)
            watch = await self._begin_watch()
        self._answers[request] = _Answer(marked, watch, call)

    async def _begin_watch(self) -> Watch | None:
        """A watch from here on; None where that cannot be."""
        facts, sight = self._caller.facts, self._shared.sight
        names = sight.variables(facts.host)
        variables = {name: value for name, value in self._variables.items() if name in names}
        try:
            return await sight.begin(facts.host, self._version, variables, facts.conversation, self.found)
        except Exception as error:
            # What goes wrong here must not cost the reader its messages.
            log.error("the record of %s cannot be watched: %s", facts.host, type(error).__name__)
            return None

    def settled(self, request: CallId, *, written: bool, cancels_answered: bool) -> None:
        """The answer was written to the host, or (`written` false) the host withdrew the call. Where hosts withdraw
        what succeeded, only a withdrawal before the answer counts, as in `Showing.settled`."""
        answer = self._answers.get(request)
        if answer is None:
            return
        if written:
            self._expect(answer)
        elif not answer.markers or not cancels_answered:
            del self._answers[request]
            if answer.watch is not None:
                answer.watch.drop()
            for marker in answer.markers:
                self.found(Found(marker=marker, verdict="not_shown", reason="cancelled"))

    def ended(self) -> None:
        """The connection with the host is over."""
        for answer in self._answers.values():
            if answer.watch is not None:
                answer.watch.ended()

    def _expect(self, answer: _Answer) -> None:
        """From here on verdicts come."""
        watched = []
        for each in answer.marked:
            if not each.text or answer.watch is None:
                self._tell(each.id, "unknown", self._reason or "unwatched")
                continue
            shown = self._shown(each)
            wanted = expected(each.text, after=shown.before(each.start), goes_on=not each.ends)
            shown.parts[each.start] = each.end, wanted.marker
            watched.append(wanted)
            answer.markers.append(wanted.marker)
            shown.left.add(wanted.marker)
            self._of[wanted.marker] = each.id, shown
        # The texts are with the watcher now, as digests.
        answer.marked = ()
        if answer.watch is not None:
            answer.watch.expect(watched, call=answer.call)

    def _shown(self, part: Marked) -> _Shown:
        """The message that a part is of, which goes on with this part or begins with it."""
        shown = self._begun.pop(part.id, None) if part.start else _Shown()
        if shown is None or shown.upto < part.start:
            # Nobody can say of the part before that the model was shown it.
            shown = _Shown(found=("unknown", "part", ""))
        if not shown.left and shown.told is None:
            self._tell(part.id, "pending", "")
        shown.is_one = not part.start and part.ends
        shown.upto, shown.ends = max(shown.upto, part.end), shown.ends or part.ends
        if not part.ends:
            self._begun[part.id] = shown
        return shown

    def found(self, found: Found) -> None:
        """A verdict came. A second one on a marker is ignored, unless the one before said that another may come."""
        of = self._of.pop(found.marker, None) or self._open.pop(found.marker, None)
        if of is None:
            return
        id, shown = of
        shown.left.discard(found.marker)
        shown.open.pop(found.marker, None)
        word: _Word = found.verdict, found.reason, found.evidence
        stays = found.stays
        # What is so long that the host may have cut its middle out can have lost the words before the marker.
        if stays or (found.verdict == "unknown" and found.reason != "too_long"):
            # One marker says nothing of the other parts of a message.
            if self._quoted.pop(found.marker, False) and shown.is_one:
                word, stays = ("quoted", "quoted", ""), False
            elif shown.is_one:
                self._unproven[found.marker] = id
        if stays:
            shown.open[found.marker] = word
            self._open[found.marker] = id, shown
        else:
            shown.found = max(word, shown.found, key=lambda each: _WORST.index(each[0]))
        self._judge(id, shown)

    def _judge(self, id: str, shown: _Shown) -> None:
        """Tell what is known of a message, where that is news. What was said not to be shown stays so until it is
        proved to be shown: it may have gone out once more, and be waited for in another answer."""
        verdict, reason, evidence = shown.worst
        is_bad = verdict in ("summarised", "not_shown", "cut")
        if shown.left and not is_bad:
            return
        is_proof = verdict in ("shown", "quoted") and shown.ends
        if shown.told is not None and not is_proof and not (shown.told == "unknown" and is_bad):
            return
        if is_bad or shown.ends:
            shown.told = verdict
            self._tell(id, verdict, reason, evidence)
        else:
            # Nothing is watched until the reader asks for the rest, which it may never do.
            self._tell(id, "unknown", "begun")

    def quoted(self, arguments: Mapping[str, object]) -> None:
        """A call of this conversation came with these arguments. A marker in them proves that its model was shown what
        stands before the marker, where the host's record proves nothing; what the record says of a cut counts more,
        because a host may cut the middle out of a message. Markers of other conversations prove nothing: whoever was
        told one may have passed it on."""
        for marker in {found for text in texts(arguments) for found in MARKER.findall(text)}:
            if marker in self._of:
                self._quoted[marker] = True
            elif (id := self._unproven.pop(marker, None)) is not None:
                self._open.pop(marker, None)
                self._tell(id, "quoted", "quoted")

    def _tell(self, id: str, verdict: Sighted, reason: str, evidence: str = "") -> None:
        told = t.SightTold(id=id, verdict=verdict, reason=reason, evidence=evidence[:MAX_EVIDENCE])
        self._shared.tell(self._caller, told)
