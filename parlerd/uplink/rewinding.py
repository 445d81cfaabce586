"""How far the mirror of a room agrees with what the room's home still holds, and what a rewind changes in the mirror.

    the mirror's log   1 ... k | k+1 ... p          the home's head: a public message, its line, and readers' numbers
                            `- the fork             k+1 ... p: lost by the home

The home lost the newest part of its log, so what it still holds is a beginning of what it told. Where that beginning
ends in the mirror's log is found by folding the log again: up to the last fact at which neither the public messages nor
any reader's own go beyond the home's head. The fold up to there also says where the threads of authors ended.

Not here: whose decision a rewind is (`mirrors` checks the signature), and what a rewind means (`core.rewinds`). Above:
`mirrors`, `asking.going_on`. Below: the core, and the library for the log. Invariant: only facts after the fork count
as lost; what cannot be compared is never said to fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import trio

from parlerd.core import events as e
from parlerd.core.membership import NOBODY, public_at_home, told_seq
from parlerd.core.messages import Thread, audience_key
from parlerd.core.model import AgentId, Position, RoomId, Shown
from parlerd.core.public_line import epoch_of
from parlerd.core.room import Room, RoomState
from parlerd.core.statements import Rewind
from parlerd.engine.library import Library

FACTS: Final = 500
"""Facts that are read at once."""
PUBLIC_AUDIENCE: Final = audience_key(None)


class Fork(NamedTuple):
    """Where a mirror and its room's home part."""

    upto: Position
    """The newest fact of the mirror's log that the home still has."""
    state: RoomState
    """What the log up to there folds to."""
    fits: bool | None
    """Whether the mirror has the home's newest public message, with the same line; None where the mirror does not hold
    that message, and where it cannot tell."""
    newest: e.Header | None
    """The newest message up to the fork."""


async def find_fork(library: Library, mirror: Room, head: Shown, before: Mapping[AgentId, int]) -> Fork:
    """Where the mirror and its home part. `head` is the number of the home's newest public message and the line there,
    and `before` the own numbers of readers here at the home's head."""
    fork = await _parted(library, mirror, head, before)
    fallen = mirror.state.rewinds.fallen
    if fallen is None or head.number < fallen.number or (head.number > fallen.number and fork.fits):
        return fork
    # Others wrote there since the home lost something, and their messages are among what it counts now.
    counted = {agent: min(number, before.get(agent, number)) for agent, number in fallen.before}
    earlier = await _parted(library, mirror, Shown(fallen.number, head.line), counted)
    return earlier._replace(fits=fork.fits)


async def _parted(library: Library, mirror: Room, head: Shown, before: Mapping[AgentId, int]) -> Fork:
    room = mirror.state.room
    folded, upto, fits, newest = Room(), Position(0), None, None
    while upto < mirror.position:
        for header in await _facts(library, room, upto, mirror.position):
            folded.apply(header)
            if _is_beyond(folded.state, head, before):
                # A fact cannot be taken back, so what it stood on is folded once more.
                return Fork(upto, await _folded(library, room, upto), fits, newest)
            upto = header.position
            newest = header if isinstance(header.event, e.MessagePosted) else newest
            if folded.state.shown.number == head.number:
                fits = folded.state.shown.line == head.line
    return Fork(upto, folded.state, fits, newest)


async def _folded(library: Library, room: RoomId, upto: Position) -> RoomState:
    folded = Room()
    while folded.position < upto:
        for header in await _facts(library, room, folded.position, upto):
            folded.apply(header)
    return folded.state


async def _facts(library: Library, room: RoomId, after: Position, upto: Position) -> list[e.Header]:
    await trio.lowlevel.checkpoint()
    return await library.facts(room, after, min(FACTS, upto - after))


def _is_beyond(state: RoomState, head: Shown, before: Mapping[AgentId, int]) -> bool:
    number = state.shown.number
    if number > head.number:
        return True
    if epoch_of(number) < epoch_of(head.number):
        # Readers' numbers went back since.
        return False
    return any(agent in state.members and told_seq(state.membership, agent) > told for agent, told in before.items())


def rewound(state: RoomState, fork: Fork, statement: Rewind, ours: Iterable[AgentId]) -> tuple[e.RoomEvent, ...]:
    """The events by which a mirror in this state goes on from a fork: the rewind, and that those are out who came in
    after the fork; the home says who is in after all. `ours` are the agents of this home that are or were in."""
    readers = list(ours)
    kept = fork.state
    # What the mirror was not told of the home's messages, it leaves out.
    public = public_at_home(kept.membership) + max(0, statement.public - kept.shown.number)
    numbers = [(NOBODY, public), *((agent, _number(kept, agent, public)) for agent in readers)]
    event = e.RoomRewound(
        epoch=statement.epoch,
        public=statement.public,
        line=statement.line,
        holds=tuple(kept.rewinds.holds),
        upto=fork.upto,
        numbers=tuple(numbers),
        threads=tuple(_threads(state, fork, statement, frozenset(readers))),
    )
    left = [
        e.MemberLeft(agent=agent)
        for agent, member in state.members.items()
        if member.present and (agent not in fork.state.members or not fork.state.members[agent].present)
    ]
    return event, *left


def _number(kept: RoomState, agent: AgentId, public: int) -> int:
    """The number of the newest message that the home still has for this reader. One that came in after the fork will
    come in anew there, and will then be shown what the room shows its newcomers. `public` is how many public messages
    the home has."""
    if agent in kept.members:
        return told_seq(kept.membership, agent)
    if kept.history == "full":
        return public
    return 1 if kept.opening else 0


def _threads(
    state: RoomState, fork: Fork, statement: Rewind, ours: frozenset[AgentId]
) -> Iterable[tuple[AgentId, str, int, bytes]]:
    """The threads that go on elsewhere than from their ends in this state. Of others' private threads nobody here can
    tell what the home has; nor of their public ones, where the home has messages that the mirror was not told."""
    is_whole = fork.state.shown.number == statement.public
    now, then = state.messages.threads, fork.state.messages.threads
    for author in sorted({*now, *then}):
        ends, kept = now.get(author, {}), then.get(author, {})
        for audience in sorted({*ends, *kept}):
            is_known = author in ours or (audience == PUBLIC_AUDIENCE and is_whole)
            end = kept.get(audience, Thread()) if is_known else Thread()
            if end != ends.get(audience, Thread()):
                yield author, audience, end.counter, end.envelope
