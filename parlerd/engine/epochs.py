"""The epochs of sealed rooms that live here: the handlers of `link.epoch`, `link.epochs` and `link.owner_line`, and
what a card tells of them.

This home keeps records and wraps as it keeps messages: it can hold them back, and can neither make one nor read what is
wrapped. It takes no record that the members would refuse (`core.turning`), so that a room does not stand still over a
mistake of its owner's machine.

Not here: epochs that come with a decision (`letting_in`), and how links are told of those that begin (`following`).
Above: the engine, `cards`. Below: `reachable`, `authors.Admission`. Invariant: the roster that is told beside a record
is the one that this record names.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from parlerd.core import events as e
from parlerd.core.epoch_record import Roster, decode_turned
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Position, PrincipalId, RosterEntry
from parlerd.core.room import Room
from parlerd.engine.authors import Admission, Attested, Turned
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.library import Library, Signed
from parlerd.engine.reachable import NOBODY, owned_within, require_member, require_speaker, room_within, stamp
from parlerd.operations import types as t

PULLED_BYTES: Final = 512 * 1024
"""Bytes of records and wraps in one answer, after which no further record is put in: the largest record with its wraps
is longer, and comes alone."""
ENTRY_BYTES: Final = 256
"""Bytes of an agent in a roster that is told: two ids, a key and a handle."""
ROSTERS: Final = 500
"""Facts of epochs that are read at once to find an older roster."""


class Epochs:
    """The handlers of what is asked of the epochs of a sealed room."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admission = Admission()

    @handles("link.epoch")
    async def turn(self, caller: Caller, params: t.EpochAtRoom) -> t.Noted:
        desk = self._desk
        actor, room = await owned_within(desk, caller, params.room)
        by = stamp(caller, NOBODY)
        size = len(params.epoch.record) + len(params.epoch.wraps)
        await desk.quotas.take(room.state.owner, bytes=size, person=by.principal)
        epoch = await told_epoch(desk, self._admission, caller, params.epoch)
        assert epoch is not None
        command, words = self._admission.turn(by, epoch)
        settled = await actor.submit(command, by, words)
        if settled.facts:
            keep_epoch(desk, by.principal, epoch)
        return t.Noted()

    @handles("link.owner_line")
    async def note_line(self, caller: Caller, params: t.OwnerLineAtRoom) -> t.Noted:
        actor, _ = await owned_within(self._desk, caller, params.room)
        by = stamp(caller, NOBODY)
        command, words = self._admission.owner_line(by, Attested(params.statement, params.signature))
        await actor.submit(command, by, words)
        return t.Noted()

    @handles("link.epochs")
    async def pull(self, caller: Caller, params: t.PullEpochs) -> t.PulledEpochs:
        desk = self._desk
        agent = require_speaker(desk, caller, params.agent)
        actor = await room_within(desk, caller, params.room)
        room = await actor.quiet()
        require_member(room, agent, caller.facts.authority.principal)
        state = room.state.epochs
        if params.upto > state.number:
            # This home went back to before it.
            raise Refused("stale_epoch", number=state.number, what="upto")
        wanted = [place for number, place in state.turned if params.upto - params.limit < number <= params.upto]
        bodies = await desk.library.bodies(room.state.room, wanted)
        upto = [place for number, place in state.turned if number <= params.upto]
        rosters = await _rosters_at(desk.library, room, upto, wanted) if params.rosters else {}
        found: list[t.EpochEntry] = []
        size = 0
        for place in reversed(wanted):
            entry = entry_of(bodies[place], wraps=params.wraps)
            if params.rosters:
                entry = msgspec.structs.replace(entry, roster=_entries(rosters[place]))
            size += len(entry.record) + len(entry.wraps) + len(entry.roster) * ENTRY_BYTES
            if found and size > PULLED_BYTES:
                break
            found.append(entry)
        return t.PulledEpochs(epochs=found[::-1])


async def told_epoch(desk: Desk, admission: Admission, caller: Caller, told: t.EpochTold | None) -> Turned | None:
    """An epoch that comes over a link, once all of its signatures are checked; None where none comes. Raises
    `Refused(statement_refused)`."""
    if told is None:
        return None
    principal = caller.facts.authority.principal
    # One signature for each agent in it, away from the loop.
    return await desk.library.aside(lambda: admission.epoch(told.record, told.signature, told.wraps, principal))


def keep_epoch(desk: Desk, principal: PrincipalId, epoch: Turned | None) -> None:
    """Count what is kept of an epoch among what this person keeps here. It is never refused for that: the keys of a
    room change when somebody is put out, whatever else the person has here."""
    if epoch is not None:
        desk.kept.add(principal, len(epoch.kept.body))


def entry_of(kept: Signed, *, wraps: bool = True) -> t.EpochEntry:
    """An epoch as links are told of it, from the body of its fact."""
    record, encoded = decode_turned(kept.body)
    return t.EpochEntry(record=record, signature=kept.signature, wraps=encoded if wraps else b"")


async def epoch_at(library: Library, room: Room, at: Position, *, told: int = 0) -> t.EpochEntry | None:
    """The epoch that was in force at a place of the room's log, or the one of the number `told`, where that is later,
    with its whole roster. None for a room that is not sealed."""
    state = room.state.epochs
    places = [place for number, place in state.turned if place <= at or number <= told]
    if not places:
        return None
    kept = (await library.bodies(room.state.room, places[-1:]))[places[-1]]
    if len(places) == len(state.turned):
        roster: Roster = state.roster
    else:
        roster = (await _rosters_at(library, room, places, places[-1:]))[places[-1]]
    record, encoded = decode_turned(kept.body)
    return t.EpochEntry(record=record, signature=kept.signature, wraps=encoded, roster=_entries(roster))


def _entries(roster: Roster) -> list[t.RosterEntry]:
    return [
        t.RosterEntry(
            agent=agent,
            principal=entry.principal,
            handle=entry.handle,
            key=entry.key,
            counter=entry.counter,
            requester=entry.requester,
        )
        for agent, entry in sorted(roster.items())
    ]


async def _rosters_at(
    library: Library, room: Room, places: list[Position], wanted: Collection[Position]
) -> dict[Position, Roster]:
    """Who was in the roster once the fact at each of the `wanted` places was taken in. `places` are those of all epochs
    from the first up to the last of these."""
    roster: dict[AgentId, RosterEntry] = {}
    found: dict[Position, Roster] = {}
    for begin in range(0, len(places), ROSTERS):
        for header in await library.headers(room.state.room, places[begin : begin + ROSTERS]):
            if isinstance(header.event, e.EpochTurned):
                for agent in header.event.removed:
                    roster.pop(agent, None)
                roster.update(header.event.added)
                if header.position in wanted:
                    found[header.position] = dict(roster)
    return found
