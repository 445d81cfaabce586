"""What the entries of one record prove about answers that are waited for.

    Answer   what was written to the host: messages with their markers, and the id of the call
    Judge    one file's entries, in their order; gives a verdict for each message as soon as there is one

A message is `shown` when its whole text stood in the field that the model gets, in a result, and a reply of the model
came later in the same conversation, with no ending between that took the result out of the conversation. Everything
else is told as something else. Of a result that a request held which failed, and which the host keeps, `not_shown` is
told at once, and `shown` when a later reply proves it.

A long message comes in parts, each with a marker of its own in an answer of its own. Its last part is `shown` only
where one reply follows all parts, with no ending since the first one. So a part with a reply after it is told as
`shown` and still stands, until the last part has its verdict or something takes the part out.

Not here: what a record looks like (`records`), how entries are found (`parlerd.sight`). Above: `parlerd.sight`. Below:
`records`, `sight`. Invariant: the rule above, whatever the entries are and in whatever order they come; nothing that
was read is kept but ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, Final

import msgspec

from parlerd.bounded import Bounded
from parlerd.core import records
from parlerd.core.records import Ending, Path, Record, Reply, Result, Scalar, at, one
from parlerd.core.sight import MARKED, MARKER, Expected, Found, Reason, Verdict, digest

MAX_LINKS: Final = 4_096
"""How many ids of one sort are remembered of a file. Between a call and the reply to it stand some ten entries, and
what is forgotten proves nothing."""
MAX_ID: Final = 128
"""Characters of an id. The longest that a host was seen to write has 40; a longer one is none."""
MAX_NESTED: Final = 4 * 1024 * 1024
"""Characters of a text that is read as JSON."""


_MARKED: Final = MARKED.encode()
_MARKER: Final = re.compile(MARKER.pattern.encode())


class Answer:
    """An answer that was written to a host and is waited for, in all files at once."""

    def __init__(self, expected: Sequence[Expected], call: str = "") -> None:
        self.left: dict[str, Expected] = {each.marker: each for each in expected}
        """Messages of which a verdict is still to come, by marker. Whoever takes a verdict takes the message out,
        unless another one may follow."""
        self.call = call
        """The id of the call in the host's record; empty where the host gives none."""
        self.calls: set[Scalar | None] = set()
        """The ids of the calls whose results were seen to hold it. With a second one there is a copy: some tool printed
        a record or a log, in this conversation or in another. Nobody can tell which is the copy, because what is seen
        first need not have been written first; so then a reply proves nothing."""


class _Standing(msgspec.Struct):
    """A result that stands in the record and waits for a reply."""

    name: str
    """What the description calls its entry."""
    id: Scalar | None
    """The id of its entry, where entries have ids."""
    left: set[str]
    """Markers of which this file gave no verdict yet."""
    held: set[str]
    """Markers of parts that were told as shown, and that have to stand until the message is whole."""
    whole: frozenset[str]
    """Markers of the messages that stand in it whole."""
    doubt: Reason | None
    """Why a reply would prove nothing."""
    conversation: tuple[Scalar | None, ...]
    number: int | None
    """What a reply's number is compared with, where the description compares one."""
    ids: frozenset[Scalar]
    """An ancestor of a reply is one of these: the result's entry, or the entry that made the call."""
    calling: Scalar | None
    """The id of the reply that made the call, where the entry with the call was seen."""
    opened: Bounded[Scalar, None]
    """Requests that were sent after it."""
    passed: Bounded[Scalar, None]
    """Its own id and those of later entries, as far as a compaction may name one of them."""
    own: dict[Path, Scalar]
    """Those of them that are its own, by their paths."""
    is_denied: bool = False
    """Whether it was told that the messages were not shown."""
    out: Ending | None = None
    """What took it out of the conversation, where it may come back into it."""


class Judge:
    """One conversation file. Entries are given in their order, each once."""

    def __init__(self, record: Record, evidence: str) -> None:
        self._record = record
        self._evidence = evidence
        """What stands before the names of entries in a verdict: the host and its version."""
        self._standing: dict[Answer, _Standing] = {}
        """Answers whose result stands in this file."""
        self._parents: Bounded[Scalar, Scalar | None] = Bounded(MAX_LINKS)
        """The parent of each entry that was read, by id."""
        self._calling: Bounded[Scalar, Scalar] = Bounded(MAX_LINKS)
        """The id of the reply that made a call, by the id of the call."""
        self._naming = tuple(ending.at for ending in record.endings if ending.at)
        self._named: Bounded[Scalar, None] = Bounded(MAX_LINKS)
        """The ids that a compaction may name, of all entries that were read."""

    @property
    def is_waiting(self) -> bool:
        """Whether some result stands here for which a reply is waited for; then every line matters."""
        return any(_markers(answer, standing) for answer, standing in self._standing.items())

    def has(self, answer: Answer) -> bool:
        """Whether the result of this answer stands here."""
        return answer in self._standing

    def matters(self, data: bytes, answers: Iterable[Answer]) -> bool:
        """Whether some line of `data` may say something. Cheap: looks at bytes and not at what they mean."""
        if self._record.chain is not None or self.is_waiting:
            return True
        return any(named_in(data, answers))

    def line(self, line: bytes, answers: Sequence[Answer]) -> list[Found]:
        """A line of a file, without its end."""
        if not line.strip() or not self.matters(line, answers):
            return []
        entry = decoded(line)
        return self.unreadable("record_unreadable") if entry is None else self.entry(entry, answers)

    def unreadable(self, reason: Reason) -> list[Found]:
        """Something stood here that could not be read: whatever waits for a reply in this file is unknown."""
        return [
            found
            for answer in list(self._standing)
            for found in self._ended(answer, "unknown", reason, self._standing[answer].name)
        ]

    def entry(self, entry: Any, answers: Sequence[Answer]) -> list[Found]:
        """An entry of the record, decoded."""
        self._note_links(entry)
        taken = self._take_results(entry, answers)
        found: list[Found] = []
        for answer, standing in list(self._standing.items()):
            if answer in taken:
                continue
            if not _markers(answer, standing):
                self._standing.pop(answer, None)
                continue
            found += self._follow(answer, standing, entry)
        for id in self._names_in(entry).values():
            self._named[id] = None
        return found

    # -- results -----------------------------------------------------------------------------------------------

    def _take_results(self, entry: Any, answers: Sequence[Answer]) -> set[Answer]:
        """Note the results that stand in an entry; the answers that they belong to."""
        taken: set[Answer] = set()
        for kind in self._record.results:
            if not kind.fits(entry):
                continue
            calls = {answer.call for answer in answers if answer.call}
            for element in at(entry, kind.each):
                call = _id(element, kind.call)
                strings = _strings(kind, element)
                markers = {marker for text in strings for marker in MARKER.findall(text)}
                if not markers and call not in calls:
                    continue
                for answer in answers:
                    if not answer.left or not _belongs(kind, answer, call, markers):
                        continue
                    taken.add(answer)
                    answer.calls.add(call)
                    self._standing[answer] = self._stands(kind, answer, entry, call, strings)
        return taken

    def _stands(
        self, kind: Result, answer: Answer, entry: Any, call: Scalar | None, strings: Sequence[str]
    ) -> _Standing:
        record, chain = self._record, self._record.chain
        doubt: Reason | None = None
        if kind.whole_below and any(len(text) >= kind.whole_below for text in strings):
            doubt = "too_long"
        if record.version and record.form != "document" and one(entry, record.version) not in record.versions:
            doubt = "version"
        number = one(entry, record.result_at)
        ids = (_id(entry, chain.id), _id(entry, chain.caller)) if chain is not None else (None,)
        before = self._standing.get(answer)
        held = set(answer.left) & before.held if before is not None else set[str]()
        standing = _Standing(
            name=kind.name,
            id=ids[0],
            left=set(answer.left) - held,
            held=held,
            whole=frozenset(each.marker for each in answer.left.values() if _is_whole(each, strings)),
            doubt=doubt,
            conversation=tuple(_id(entry, path) for path in record.conversation),
            number=number if type(number) is int else None,
            ids=frozenset(id for id in ids if id is not None),
            calling=None if call is None else self._calling.get(call),
            opened=Bounded(MAX_LINKS),
            passed=Bounded(MAX_LINKS),
            own=self._names_in(entry),
        )
        self._pass(standing, entry)
        return standing

    # -- what comes after --------------------------------------------------------------------------------------

    def _follow(self, answer: Answer, standing: _Standing, entry: Any) -> list[Found]:
        record = self._record
        conversation = tuple(_id(entry, path) for path in record.conversation)
        if any(
            there is not None and here is not None and there != here
            for there, here in zip(standing.conversation, conversation, strict=True)
        ):
            return []  # of another conversation that is written to the same file
        for ending in record.endings:
            if ending.fits(entry):
                return [] if self._is_spared(standing, ending, entry) else self._ends(answer, standing, ending)
        self._pass(standing, entry)
        for opening in record.openings:
            if opening.fits(entry) and (id := _id(entry, opening.id)) is not None:
                standing.opened[id] = None
                return []
        for reply in record.replies:
            # A reply to an earlier request, or in another branch, changes nothing.
            if reply.fits(entry) and self._proves(reply, standing, entry):
                return self._replied(answer, standing, reply, entry)
        if self._is_known(entry):
            return []
        return self._ended(answer, "unknown", "unrecognised", standing.name)

    def _pass(self, standing: _Standing, entry: Any) -> None:
        for id in self._names_in(entry).values():
            standing.passed[id] = None

    def _names_in(self, entry: Any) -> dict[Path, Scalar]:
        """The ids of an entry by which a compaction may name it."""
        return {path: id for path in self._naming if (id := _id(entry, path)) is not None}

    def _is_spared(self, standing: _Standing, ending: Ending, entry: Any) -> bool:
        """Whether the result stays in the conversation all the same."""
        if ending.kept and standing.id is not None and standing.id in at(entry, ending.kept):
            if self._record.chain is not None and (id := _id(entry, self._record.chain.id)) is not None:
                standing.ids |= {id}
            return True
        first, mine = _id(entry, ending.since), standing.own.get(ending.at)
        if isinstance(first, str) and isinstance(mine, str) and first <= mine:
            return True
        last = _id(entry, ending.upto)
        if last is None or last in standing.passed or len(standing.passed) == MAX_LINKS:
            return False
        return last in self._named or not ending.read

    def _ends(self, answer: Answer, standing: _Standing, ending: Ending) -> list[Found]:
        match ending.then:
            case "returns":
                standing.out = ending
                return []
            case "stays":
                if standing.is_denied:
                    return []
                standing.is_denied = True
                names = f"{standing.name}, {ending.name}"
                # A part that was shown before stays shown: the conversation holds it still.
                return [
                    self._found(marker, ending.verdict, ending.reason, names, stays=True)
                    for marker in answer.left
                    if marker in standing.left
                ]
            case _:
                return self._ended(answer, ending.verdict, ending.reason, f"{standing.name}, {ending.name}")

    def _is_known(self, entry: Any) -> bool:
        record = self._record
        return any(
            kind.fits(entry)
            for kinds in (record.harmless, record.results, record.replies, record.calls)
            for kind in kinds
        )

    def _proves(self, reply: Reply, standing: _Standing, entry: Any) -> bool:
        """Whether a reply was made from a context that held the result, where nothing took it out."""
        if tuple(_id(entry, path) for path in self._record.conversation) != standing.conversation:
            return False
        if reply.opened and _id(entry, reply.opened) not in standing.opened:
            return False
        if reply.differs:
            id = _id(entry, reply.differs)
            if id is None or standing.calling is None or id == standing.calling:
                return False
        if reply.at_least:
            number = one(entry, reply.at_least)
            if type(number) is not int or standing.number is None or number < standing.number:
                return False
        return self._descends(standing, entry)

    def _descends(self, standing: _Standing, entry: Any) -> bool:
        """Whether the result, or the call that led to it, is an ancestor of an entry."""
        chain = self._record.chain
        if chain is None:
            return True
        id = _id(entry, chain.parent)
        # Parents may be written in a circle.
        for _ in range(len(self._parents) + 1):
            if id is None:
                return False
            if id in standing.ids:
                return True
            id = self._parents.get(id)
        return False

    def _replied(self, answer: Answer, standing: _Standing, reply: Reply, entry: Any) -> list[Found]:
        names = f"{standing.name}, {reply.name}"
        if len(answer.calls) > 1:
            return self._ended(answer, "unknown", "copied", names)
        if standing.out is not None:
            return self._ended(
                answer, standing.out.verdict, standing.out.reason, f"{standing.name}, {standing.out.name}"
            )
        if standing.doubt is not None:
            return self._ended(answer, "unknown", standing.doubt, names)
        found: list[Found] = []
        for each in [each for each in answer.left.values() if each.marker in standing.left]:
            before = self._before(each, reply, entry)
            standing.left.discard(each.marker)
            if each.marker not in standing.whole:
                found.append(self._found(each.marker, "cut", "cut_by_host", names))
            elif before is None:
                found.append(self._found(each.marker, "unknown", "apart", names))
            elif each.goes_on:
                standing.held.add(each.marker)
                found.append(self._found(each.marker, "shown", "reply", names, stays=True))
            else:
                found += [self._let_go(marker, of, reply) for marker, of in before]
                found.append(self._found(each.marker, "shown", "reply", names))
        if not standing.held:
            del self._standing[answer]
        return found

    def _before(self, part: Expected, reply: Reply, entry: Any) -> list[tuple[str, _Standing]] | None:
        """The parts of a message before this one, by marker, where a reply follows each of them whole; else `None`."""
        before: list[tuple[str, _Standing]] = []
        while part.after:
            for answer, standing in self._standing.items():
                if part.after in standing.whole and part.after in _markers(answer, standing):
                    break
            else:
                return None
            is_sure = standing.doubt is None and standing.out is None and len(answer.calls) <= 1
            # No more parts stand here than answers; whoever says otherwise names them in a circle.
            if not is_sure or len(before) == len(self._standing) or not self._proves(reply, standing, entry):
                return None
            before.append((part.after, standing))
            part = answer.left[part.after]
        return before

    def _let_go(self, marker: str, standing: _Standing, reply: Reply) -> Found:
        """The message is whole, and nothing can take this part of it back."""
        standing.left.discard(marker)
        standing.held.discard(marker)
        return self._found(marker, "shown", "reply", f"{standing.name}, {reply.name}")

    def _ended(self, answer: Answer, verdict: Verdict, reason: Reason, names: str) -> list[Found]:
        standing = self._standing.pop(answer)
        return [self._found(marker, verdict, reason, names) for marker in _markers(answer, standing)]

    def _found(self, marker: str, verdict: Verdict, reason: Reason, names: str, *, stays: bool = False) -> Found:
        evidence = f"{self._evidence}: {names}"
        return Found(marker=marker, verdict=verdict, reason=reason, evidence=evidence, stays=stays)

    # -- ids ---------------------------------------------------------------------------------------------------

    def _note_links(self, entry: Any) -> None:
        chain = self._record.chain
        if chain is not None and (id := _id(entry, chain.id)) is not None:
            self._parents[id] = _id(entry, chain.parent)
        for kind in self._record.calls:
            if kind.fits(entry) and (made := _id(entry, kind.id)) is not None:
                for call in at(entry, kind.calls):
                    if isinstance(call, str) and len(call) <= MAX_ID:
                        self._calling[call] = made


def _markers(answer: Answer, standing: _Standing) -> list[str]:
    """The markers of an answer for which its result stands."""
    return [marker for marker in answer.left if marker in standing.left or marker in standing.held]


def named_in(data: bytes, answers: Iterable[Answer]) -> Iterator[Answer]:
    """The answers of which a marker, or the id of the call, stands in these bytes. However many markers are waited for,
    the bytes are looked through once for all of them."""
    markers = {found.decode() for found in _MARKER.findall(data)} if _MARKED in data else set[str]()
    for answer in answers:
        if answer.left and (
            any(marker in answer.left for marker in markers) or (answer.call and answer.call.encode() in data)
        ):
            yield answer


def decoded(data: bytes) -> Any:
    """The JSON object in these bytes; `None` where they hold none. The one parser of what hosts wrote."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _id(entry: Any, path: Path) -> Scalar | None:
    found = one(entry, path)
    return None if isinstance(found, str) and len(found) > MAX_ID else found


def _strings(kind: Result, element: Any) -> list[str]:
    found = [text for value in at(element, kind.text) for text in records.texts(value)]
    if not kind.nested:
        return found
    inner = []
    for text in found:
        value = decoded(text.encode("utf-8", "surrogatepass")) if len(text) <= MAX_NESTED else None
        # What was cut is no JSON any more, and is compared as it stands.
        inner += [text] if value is None else list(records.texts(value))
    return inner


def _belongs(kind: Result, answer: Answer, call: Scalar | None, markers: Set[str]) -> bool:
    if answer.call and call == answer.call:
        return True
    if answer.call and call is not None and not kind.wraps:
        return False  # of another call, whose tool printed what stands in a record
    return any(marker in answer.left for marker in markers)


def _is_whole(expected: Expected, strings: Sequence[str]) -> bool:
    for text in strings:
        end = text.find(expected.marker)
        if end < 0:
            continue
        end += len(expected.marker)
        if end >= expected.size and digest(text[end - expected.size : end]) == expected.digest:
            return True
    return False
