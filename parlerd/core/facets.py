"""How a room, or the home room, is put together of facets.

A facet is one subject. It owns a part of the folded state, decides the commands of that subject, applies facts to its
part of the state, and says whom a fact wakes. Facets read each other's state and change only their own: a fact that
concerns several subjects (a room that closes also ends its keys) is applied by each of them. Two facets may own one
part together (entries and actions, which live alike). An `Aggregate` composes
facets and hands commands and facts on by their type.

Not here: any rule. Above: `room` and `home`, which say of which facets they are made. Below: the shapes. Invariant: a
command has exactly one facet that decides it, and an event at least one that applies it and one that says whom it
wakes, or importing the module that composes them fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

import msgspec

from parlerd.core.commands import Command
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.events import Event, Header
from parlerd.core.model import By, Ids, Millis, Position
from parlerd.core.topics import Topic

T = TypeVar("T", bound=msgspec.Struct)
F = TypeVar("F", bound="Facet[Any]")
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)

Decide = tuple[type[Command], Callable[[Any, Any, By, Millis, Ids], Decision]]
"""A type of command and the method that decides it. Only `decides` makes one, so that the type checker sees that the
two fit."""
Apply = tuple[type[Any], Callable[[Any, Any, Header], None]]
"""A type of event and the method that applies it. Only `applies` makes one."""
Read = tuple[type[Any], Callable[[Any, Any, bytes], None]]
"""A type of event and the method that takes its body in. Only `reads` makes one."""
Touch = tuple[type[Any], Callable[[Any, Any, Header], Iterable[Topic]]]
"""A type of event and the method that says which topics it touches. Only `touches` makes one."""


def decides(command: type[C], rule: Callable[[F, C, By, Millis, Ids], Decision]) -> Decide:
    """An entry of a facet's `DECIDES`: `rule` decides this command, from the command, who asks, the time and a source
    of ids. A rule changes nothing, and refuses by raising `Refused`."""
    return command, rule


def applies(event: type[E], rule: Callable[[F, E, Header], None]) -> Apply:
    """An entry of a facet's `APPLIES`: `rule` takes this event, with its header, into the facet's state. The rule must
    not fail on a committed fact."""
    return event, rule


def reads(event: type[E], rule: Callable[[F, E, bytes], None]) -> Read:
    """An entry of a facet's `READS`: once this event was applied, `rule` takes what its body says into the facet's
    state. Whoever applies facts then has to hand over the body of every fact of this type. The rule must not fail on
    any bytes, and is not called where the body was erased."""
    return event, rule


def touches(event: type[E], rule: Callable[[F, E, Header], Iterable[Topic]]) -> Touch:
    """An entry of a facet's `TOUCHES`: `rule` says, once this event was applied, which topics it changed, and so whom
    to wake."""
    return event, rule


def nobody(facet: Facet[Any], event: Event, header: Header) -> tuple[Topic, ...]:
    """The rule of a facet's `TOUCHES` for an event that nobody waits for."""
    return ()


class Follow(NamedTuple):
    """A fact that follows from what was decided, without anybody asking for it. `by` acts; None for the home itself.
    `body` is what stands in its body, and `erases` the facts whose bodies go with it."""

    event: Event
    by: By | None = None
    body: bytes | None = None
    erases: tuple[Position, ...] = ()


class Facet(Generic[T]):
    """One subject over its own part of the state. A subclass lists its rules."""

    __slots__ = ("state",)

    DECIDES: ClassVar[Sequence[Decide]] = ()
    APPLIES: ClassVar[Sequence[Apply]] = ()
    READS: ClassVar[Sequence[Read]] = ()
    TOUCHES: ClassVar[Sequence[Touch]] = ()

    def __init__(self, state: T) -> None:
        self.state = state

    def next_deadline(self, after: Millis) -> Millis | None:
        """The first moment after `after` at which time alone changes something in this facet that others can see."""
        return None

    def expire(self, after: Millis, now: Millis) -> Iterable[Topic]:
        """The topics of what time alone changed in (after, now]."""
        return ()

    def ran_out(self, now: Millis) -> Sequence[Event]:
        """What has run out up to `now` and is a fact once somebody looks, in the order in which it ran out. Asked
        before each decision, so that a decision rests on what is true by then."""
        return ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the facets of an aggregate do, by the type of command or event. Beside each rule stands the number of its
    facet among `facets`."""

    facets: tuple[type[Facet[Any]], ...]
    decides: Mapping[type[Command], tuple[int, Callable[..., Decision]]]
    applies: Mapping[type[Any], Sequence[tuple[int, Callable[..., None]]]]
    reads: Mapping[type[Any], Sequence[tuple[int, Callable[..., None]]]]
    touches: Mapping[type[Any], Sequence[tuple[int, Callable[..., Iterable[Topic]]]]]


def compose(
    facets: Sequence[type[Facet[Any]]], *, commands: Sequence[type[Command]], events: Sequence[type[Event]]
) -> Rules:
    """The rules of these facets, for every one of the commands and events.

    Facets apply an event in the order in which they are listed. Raises `TypeError` if a command is decided by no facet
    or by two, if none applies an event or reads its body, if none says what it touches (`nobody` is an answer), or if a
    facet names a command or an event that is not among those given.
    """
    decided: dict[type[Command], tuple[int, Callable[..., Decision]]] = {}
    applied: dict[type[Any], list[tuple[int, Callable[..., None]]]] = {}
    read: dict[type[Any], list[tuple[int, Callable[..., None]]]] = {}
    touched: dict[type[Any], list[tuple[int, Callable[..., Iterable[Topic]]]]] = {}
    for place, facet in enumerate(facets):
        for command, decide in facet.DECIDES:
            if command in decided:
                raise TypeError(f"{command.__name__} is decided by two facets")
            decided[command] = (place, decide)
        for event, apply in facet.APPLIES:
            applied.setdefault(event, []).append((place, apply))
        for event, take in facet.READS:
            read.setdefault(event, []).append((place, take))
        for event, touch in facet.TOUCHES:
            touched.setdefault(event, []).append((place, touch))
    sides: tuple[tuple[str, set[Any], set[Any]], ...] = (
        ("decided", set(decided), set(commands)),
        ("applied", set(applied) | set(read), set(events)),
        ("said whom to wake for", set(touched), set(events)),
    )
    for what, found, wanted in sides:
        if found != wanted:
            names = sorted(cls.__name__ for cls in found ^ wanted)
            raise TypeError(f"{', '.join(names)}: {what} by no facet, or not of this kind of room")
    return Rules(tuple(facets), decided, applied, read, touched)


class Folded(msgspec.Struct):
    """The state of an aggregate; a subclass adds a field for each facet. `position` and `last_at` are those of the
    newest fact that was applied."""

    position: Position = Position(0)
    last_at: Millis = Millis(0)


S = TypeVar("S", bound=Folded)


class Aggregate(Generic[S]):
    """Facets over a folded state. A subclass sets `RULES` and hands over one facet for each type in them, in order."""

    RULES: ClassVar[Rules]

    def __init__(self, state: S, *facets: Facet[Any]) -> None:
        assert tuple(type(facet) for facet in facets) == self.RULES.facets
        self.state: Final = state
        self.facets: Final = facets

    @property
    def position(self) -> Position:
        return self.state.position

    @property
    def last_at(self) -> Millis:
        return self.state.last_at

    def snapshot(self) -> bytes:
        """The folded state, to be kept with `fold_version` and `position`."""
        return msgspec.msgpack.encode(self.state)

    def decide(self, command: Command, *, by: By, now: Millis, ids: Ids) -> Decision:
        """The events that carry out `command`. Raises `Refused` and changes nothing."""
        known = self.RULES.decides.get(type(command))
        if known is None:
            raise Refused("unknown_operation")
        place, rule = known
        return rule(self.facets[place], command, by, now, ids)

    def apply(self, header: Header, body: bytes | None = None) -> None:
        """Take a committed fact in. Facts come in order, from position 1, each exactly once. A fact of a type that no
        facet applies changes only the position. `body` is asked for where `reads_body` says so."""
        state, event = self.state, header.event
        state.position, state.last_at = header.position, header.at
        for place, rule in self.RULES.applies.get(type(event), ()):
            rule(self.facets[place], event, header)
        if body is not None:
            for place, rule in self.RULES.reads.get(type(event), ()):
                rule(self.facets[place], event, body)

    def reads_body(self, header: Header) -> bool:
        """Whether the state holds something that only the body of this fact says."""
        return header.body is not None and type(header.event) in self.RULES.reads

    def topics(self, header: Header) -> list[Topic]:
        """The topics that a fact touched. Ask after the fact was applied."""
        event = header.event
        found: list[Topic] = []
        for place, rule in self.RULES.touches.get(type(event), ()):
            found += rule(self.facets[place], event, header)
        return found

    def ran_out(self, now: Millis) -> list[Event]:
        """What has run out and is to be a fact before anything else is decided."""
        return [event for facet in self.facets for event in facet.ran_out(now)]

    def follow(self, now: Millis, ids: Ids) -> Iterable[Follow]:
        """What follows from the facts that were applied since this was asked last. Whoever asks applies each before it
        takes the next, in the batch of those facts."""
        return ()

    def next_deadline(self, after: Millis) -> Millis | None:
        """The first moment after `after` at which time alone changes something in this aggregate; None when nothing
        will change. Today's facets state their moments by the wall clock, so `after` is a wall-clock time too."""
        moments = [moment for facet in self.facets if (moment := facet.next_deadline(after)) is not None]
        return min(moments, default=None)

    def expire(self, after: Millis, now: Millis) -> list[Topic]:
        """The topics of what time alone changed in (after, now]. Nothing is recorded and the state stays as it is:
        every decision and every read derives what depends on time from the facts and from the time at which it asks."""
        return [topic for facet in self.facets for topic in facet.expire(after, now)]
