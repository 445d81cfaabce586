"""A room's memory: which keys there are, how often each was written, and who may take words away.

What is remembered is a message of its room, and so is what forgets it: signature, order, links, mirrors and the outbox
are those of every message. This facet keeps what a message alone cannot say: a key is unique in its room, writing it
again makes the next version, and a guard (`if_version`) is compared with the newest. In a mirror the room's home says
the versions, and the mirror guesses nothing.

Not here: the words, and finding them by searching (`recall`, the store). Above: `messages` and `mirror`, which decide
the messages and ask here what they do in the memory. Below: the shapes. Invariants: a version never comes twice, also
after its key was forgotten; what is kept is bounded by `MAX_KEYS` and `MAX_VERSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from parlerd.core import events as e
from parlerd.core.envelope import MemoryPart
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies
from parlerd.core.model import AgentId, By, MemoryNote, MessageId, Position, ReplyTarget

MAX_KEYS: Final = 4_096
"""Keys of one room, with those that were forgotten: each is about 200 bytes of every snapshot. What has no key is not
counted, and there may be any number of it."""
KEPT_KEYS: Final = 4 * MAX_KEYS
"""Keys that a mirror remembers, whose home may allow more than this version does."""
MAX_VERSIONS: Final = 64
"""Versions of one key whose words are kept. With the next one the words of the oldest are erased."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One key. `id` is the message of the newest version, and `positions` are those of every version that still has its
    words, the oldest first. `authors` wrote these. A key that was forgotten has none of the three."""

    version: int
    id: MessageId = MessageId("")
    positions: tuple[Position, ...] = ()
    authors: tuple[AgentId, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether something is remembered under the key."""
        return bool(self.positions)


class MemoryState(msgspec.Struct):
    """The keys of a room, in the order in which they were first written. `is_told` says that the room's home, which is
    elsewhere, tells the versions: this log is a mirror."""

    keys: dict[str, Entry] = {}
    is_told: bool = False


_NO_ENTRY: Final = Entry(0)


class Noted(NamedTuple):
    """What a message does in the memory, for its header (None: nothing), and the messages whose words go with it."""

    note: MemoryNote | None
    erases: tuple[Position, ...] = ()


def noted(
    state: MemoryState,
    part: MemoryPart,
    by: By,
    owner: AgentId,
    target: ReplyTarget | None,
    *,
    is_sealed: bool = False,
    is_whole: bool = True,
) -> Noted:
    """What a message by `by` with this part does. `target` is the message that it replies to.

    In a mirror the message is about to be signed for the room's home, which alone knows the newest version: what
    depends on that is left to the home. The home of a sealed room knows no keys, so there the mirror compares, and the
    home sees to it that nothing comes between (`envelope.GuardPart`). `is_whole` says that the mirror has all that the
    room ever remembered. Raises `Refused`: `version_conflict` with the `current` version, `memory_full`,
    `no_such_fact`, `not_your_fact`, and `sealed_room` where the mirror of one lacks what would have to be compared.
    """
    known = state.keys.get(part.key, _NO_ENTRY)
    compares = is_sealed or not state.is_told
    if not part.forgets:
        current = known.version if known.is_there else 0
        if part.if_version is not None and compares:
            if known is _NO_ENTRY and not is_whole:
                raise Refused("sealed_room", _UNKNOWN)
            if part.if_version != current:
                raise Refused("version_conflict", _conflict(part.key, current), tool_hint=_AGAIN, current=current)
        if part.key and known is _NO_ENTRY and len(state.keys) >= MAX_KEYS and compares:
            raise Refused("memory_full", limit=MAX_KEYS)
        return _written(known, part.key, known.version + 1)
    if not part.key:
        if target is None or target.memory is None or target.memory.forgets or target.memory.key:
            raise Refused("no_such_fact")
        _require_right(by, owner, (target.author,))
        return _forgotten("", 1, (target.position,))
    if not known.is_there and compares:
        raise Refused("no_such_fact", f"Nothing is remembered under the key {part.key}.")
    _require_right(by, owner, known.authors)
    return _forgotten(part.key, known.version, known.positions)


class Takes(NamedTuple):
    """What the author of a message of a sealed room takes away with it, as the message says."""

    named: tuple[MessageId, ...]
    author: AgentId
    is_owner: bool
    """Whether the author owns the room, or owned it once: which of them at that time, a mirror may not know."""


def told(
    state: MemoryState,
    event: e.MessagePosted,
    forgotten: Mapping[MessageId, tuple[Position, AgentId]],
    takes: Takes | None = None,
) -> tuple[e.MessagePosted, tuple[Position, ...]]:
    """A message as a mirror takes it in, and the messages whose words go with it. The event says what the room's home
    told: the version, or 0 where that home does not tell it. `forgotten` says where the messages stand here, and who
    wrote them.

    In a sealed room (`takes`) these words go that the message names, and no others. A message that forgets a key and
    does not name its newest version here does nothing in the memory: an honest machine names it, and the home takes in
    nothing that was composed on an older one. Nor does one whose author may not take away what it names: a home that
    took it in lied, and helps one member to take the words of another from everybody's machine.
    """
    said = event.memory
    if said is None:
        return event, ()
    known = state.keys.get(said.key, _NO_ENTRY)
    if said.forgets:
        place = None if event.reply_to is None else forgotten.get(event.reply_to)
        positions = known.positions if said.key else () if place is None else (place[0],)
        if takes is not None:
            going = [forgotten[id] for id in takes.named if id in forgotten]
            gone = {position for position, _ in going}
            may = takes.is_owner or all(author == takes.author for _, author in going)
            if not may or (positions and positions[-1] not in gone):
                return msgspec.structs.replace(event, memory=None), ()
            positions = tuple(position for position in positions if position in gone)
        found = _forgotten(said.key, said.version or known.version, positions)
    else:
        found = _written(known, said.key, said.version or known.version + 1)
    return msgspec.structs.replace(event, memory=found.note), found.erases


def forgets_by_id(note: MemoryNote | None) -> bool:
    """Whether a message forgets the one that it replies to."""
    return note is not None and note.forgets and not note.key


def _written(known: Entry, key: str, version: int) -> Noted:
    if not key:
        return Noted(MemoryNote())
    too_old = known.positions[: max(0, len(known.positions) + 1 - MAX_VERSIONS)]
    return Noted(MemoryNote(key=key, version=version, drops=known.positions[-1:]), too_old)


def _forgotten(key: str, version: int, positions: tuple[Position, ...]) -> Noted:
    return Noted(MemoryNote(key=key, version=version, forgets=True, drops=positions), positions)


def _require_right(by: By, owner: AgentId, authors: tuple[AgentId, ...]) -> None:
    """Words are taken away by who wrote all of them, and by the room's owner: else whoever writes the next version of a
    key could take away what others wrote under it before."""
    if by.actor != owner and not set(authors) <= {by.actor}:
        raise Refused("not_your_fact")


_UNKNOWN: Final = (
    "This machine does not have all that the room remembers, so it cannot tell whether something is there under the "
    "key, and nobody else compares in a sealed room."
)


_AGAIN: Final = "Recall the key, and remember it again with if_version as it is now."
"""What an agent does that wrote a fact which is at another version."""


def _conflict(key: str, current: int) -> str:
    if not current:
        return f"Nothing is remembered under the key {key}."
    return f"The key {key} is at version {current}."


class Memory(Facet[MemoryState]):
    """Folds what messages do in the memory."""

    __slots__ = ()

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        note, keys = event.memory, self.state.keys
        if note is None or not note.key:
            return
        if note.forgets:
            # The version stays, so that a guard from before cannot fit what is written under the key later.
            keys[note.key] = Entry(max(note.version, keys.get(note.key, _NO_ENTRY).version))
            return
        known = keys.get(note.key, _NO_ENTRY)
        if known is _NO_ENTRY and len(keys) >= KEPT_KEYS:
            return
        positions = (*known.positions, header.position)[-MAX_VERSIONS:]
        authors = tuple(dict.fromkeys((*known.authors, header.by.actor)))
        keys[note.key] = Entry(note.version, event.id, positions, authors)

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        """In a mirror: what the home lost is remembered no more. A key whose newest version was lost is found again
        once somebody writes it, because which version the home holds is not known here."""
        if not event.upto:
            return
        keys = self.state.keys
        for key in [key for key, entry in keys.items() if entry.positions and entry.positions[-1] > event.upto]:
            keys[key] = Entry(keys[key].version)

    def _placed(self, event: e.MirrorPlaced, header: e.Header) -> None:
        self.state.is_told = True

    APPLIES = (
        applies(e.MessagePosted, _posted),
        applies(e.MirrorPlaced, _placed),
        applies(e.RoomRewound, _rewound),
    )
