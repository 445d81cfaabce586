"""Who was in the roster of a sealed room under earlier records, for messages that its mirror leaves out.

    the record that a message names  ->  its roster, from the mirror's log or from the home  ->  was its author in?

A mirror knows the rosters of the records that its log holds. Of an earlier one the room's home tells the record and the
roster; the owner's person signed the record, which names the roster by its digest, and the message names the record by
its hash. So a home can hold a roster back, and make none up.

Not here: the messages (`history`), and the secrets of those epochs (`walking`). Above: `asking.earlier`,
`remote_room`. Below: the library, `identity.epochs`. Invariant: a roster is taken for that of a record only where the
record names its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from parlerd.bounded import Bounded
from parlerd.core import events as e
from parlerd.core.epoch_record import Roster, check_record, record_digest
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import owners_of
from parlerd.core.model import AgentId
from parlerd.core.room import Room, RoomState
from parlerd.core.sealing import sealed_part
from parlerd.core.statements import signer_at
from parlerd.engine.epochs import ROSTERS
from parlerd.engine.library import Library
from parlerd.identity import epochs
from parlerd.operations import types as t
from parlerd.uplink.arriving.messages import sealed_of
from parlerd.uplink.arriving.records import roster_told
from parlerd.uplink.walking import Pull

KEPT: Final = 64
"""Of how many records of a room the rosters are kept: a page of the past is mostly under a few."""


class Seats(NamedTuple):
    """Who was in the roster that a record led to, and the number of that record: a message has to give it too, or
    somebody who was put out could pass an old record off as a later one."""

    number: int
    inside: Mapping[AgentId, bool]
    """Each with whether it only asked for work, which is so in queues alone."""


Inside = Mapping[bytes, Seats]
"""Who was in under each record, by the record's hash."""


def records_of(messages: Iterable[t.LinkMessage]) -> dict[bytes, int]:
    """The records that sealed messages name, by their hashes, each with the number that the author gave it."""
    found: dict[bytes, int] = {}
    for message in messages:
        sealed = sealed_of(message.body)
        if sealed is None:
            continue
        try:
            part = sealed_part(sealed[0])
        except Refused:
            continue
        found.setdefault(part.record, part.epoch)
    return found


class Rosters:
    """The rosters of one room's records, as far as somebody asked about them."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: Bounded[bytes, Seats] = Bounded(KEPT)

    async def of(self, mirror: Room, records: Mapping[bytes, int], *, agent: AgentId, pull: Pull) -> Inside:
        """Who was in the rosters of these records, without those of which nobody shows it. `pull` asks the room's home
        as `agent`. Raises what `pull` raises that may pass."""
        found = await self.held(mirror, records)
        if unheld := {record: records[record] for record in records.keys() - found.keys()}:
            found |= await self._from_home(mirror.state, unheld, agent, pull)
        for record, seats in found.items():
            self._known[record] = seats
        return found

    async def held(self, mirror: Room, records: Iterable[bytes]) -> dict[bytes, Seats]:
        """The same, as far as this home knows, without asking the room's home."""
        state, wanted = mirror.state.epochs, set(records)
        found = {record: self._known[record] for record in wanted if record in self._known}
        if state.record in wanted:
            found[state.record] = Seats(state.number, _seats(state.roster))
        if missing := wanted - found.keys():
            found |= await self._from_log(mirror.state, missing)
        return found

    async def _from_log(self, state: RoomState, missing: Iterable[bytes]) -> dict[bytes, Seats]:
        wanted, inside = set(missing), dict[AgentId, bool]()
        found: dict[bytes, Seats] = {}
        places = [place for _, place in state.epochs.turned]
        for begin in range(0, len(places), ROSTERS):
            for header in await self._library.headers(state.room, places[begin : begin + ROSTERS]):
                event = header.event
                if not isinstance(event, e.EpochTurned):
                    continue
                before = {} if event.anew else inside
                inside = {agent: asks for agent, asks in before.items() if agent not in event.removed}
                inside |= _seats(dict(event.added))
                if event.record in wanted:
                    found[event.record] = Seats(event.number, inside)
        return found

    async def _from_home(
        self, state: RoomState, missing: dict[bytes, int], agent: AgentId, pull: Pull
    ) -> dict[bytes, Seats]:
        found: dict[bytes, Seats] = {}
        while missing:
            last, first = max(missing.values()), min(missing.values())
            limit = min(last - first + 1, t.MAX_EPOCHS)
            try:
                wanted = t.PullEpochs(room=state.room, agent=agent, upto=last, limit=limit, rosters=True)
                pulled = await pull(wanted)
            except Refused as error:
                if error.spec.retryable:
                    raise
                return found
            for told in pulled.epochs:
                record = record_digest(told.record)
                if record in missing and (seats := _shown(state, told)) is not None:
                    found[record] = seats
            # What was told in the place of these is another record than the messages name.
            told_from = last - len(pulled.epochs)
            missing = {record: number for record, number in missing.items() if number <= told_from}
            if not pulled.epochs:
                return found
        return found


def _seats(roster: Roster) -> dict[AgentId, bool]:
    return {agent: entry.requester for agent, entry in roster.items()}


def _shown(state: RoomState, told: t.EpochEntry) -> Seats | None:
    """Who was in the roster of a record of this room, where the record and its signature show it."""
    try:
        record = check_record(told.record)
        if (record.home, record.room) != (state.home, state.room):
            return None
        owner = signer_at(owners_of(state.lifecycle), record.number)
        epochs.signer_of(told.record, told.signature, owners=[owner.principal])
        return Seats(record.number, _seats(roster_told(told, record)))
    except Refused:
        return None
