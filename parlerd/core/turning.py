"""Where the epochs of a sealed room stand, and whether another one may begin.

    number n, record, roster  --  a record n+1 that names the record n, adds who is in, removes who is not  -->  n+1

The rules are those of the room's home: it takes in no record that its members would refuse, and none that leaves the
roster in doubt. It cannot make one up, because the owner's person signs each.

Behind a rewind a record may add who is not in and remove who is: it is one that the home lost together with that. The
room then says nothing until a record makes the roster who is in.

Not here: signatures and secrets, which whoever brings a record checked before (`identity.epochs`), and the record's own
shape (`epoch_record`). Above: `lifecycle`, which begins with the first epoch, `membership`, which shows messages to who
is in the roster, and `epochs`. Below: the shapes. Invariant: numbers go up by one, and unless the home lost a part of
the room nobody is in the roster who was not in the room when the record was taken in, but the one agent for which a
direct room was opened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from parlerd.core.commands import NewEpoch
from parlerd.core.envelope import Envelope
from parlerd.core.epoch_record import (
    EpochRecord,
    changed_seats,
    check_wraps,
    requesters_of,
    roster_after,
    successor_of,
)
from parlerd.core.errors import Refused
from parlerd.core.events import EpochTurned, SealingKeyTold
from parlerd.core.model import AgentId, History, HomeId, Millis, Position, PrincipalId, RoomId, RosterEntry
from parlerd.core.sealing import sealed_part
from parlerd.core.statements import Claim, SealingKey


class ToldKey(msgspec.Struct, frozen=True, array_like=True):
    """By which key an agent said last that it is given the secrets of the room."""

    key: bytes
    counter: int
    at: Millis
    """When this home took it in."""
    position: Position
    """Where the fact stands."""


class EpochsState(msgspec.Struct):
    """What is folded from the epochs of a sealed room; of every other room, nothing."""

    number: int = 0
    """The number of the epoch that is in force; 0 before the first."""
    record: bytes = b""
    """The SHA-256 of its record."""
    at: Millis = Millis(0)
    """When it began."""
    roster: dict[AgentId, RosterEntry] = {}
    """Who can read what is sealed under it, with which key."""
    turned: list[tuple[int, Position]] = []
    """The numbers of the epochs that this log holds, and where their facts stand, in order."""
    successor: PrincipalId = PrincipalId("")
    """Whom the record in force names to go on once the owner's person is gone; empty where it names nobody."""
    heard: Millis = Millis(0)
    """When the owner's home signed the record in force, or that it is there, if that is later. By the clock of that
    machine, so no relay makes it later; 0 for nothing since the room changed hands."""
    lined: int = 0
    """Where the fact of the newest line of the owner's stands; 0 before the first."""
    signers: list[PrincipalId] = []
    """The persons who signed the records, in order; one who signed several in a row stands once."""
    out: dict[AgentId, Position] = {}
    """Whom a record took out of the roster and none took in since, and where the fact of that record stands."""
    told: dict[AgentId, ToldKey] = {}
    """The newest key of each agent that told one here."""
    entering: dict[AgentId, Millis] = {}
    """Who is in and in no roster yet, and since when."""
    leaving: dict[AgentId, Millis] = {}
    """Who is in the roster and not in the room any more, and since when."""
    used: int = 0
    """How many messages were sealed under the record that is in force."""
    rewound: Millis = Millis(0)
    """Since when the room waits for its roster to be who is in, because its home lost a part of it; 0 where it does not
    wait."""


NO_EPOCH: Final = EpochsState()
"""Before the first epoch. Nobody changes it."""


def require_in_force(state: EpochsState, finished: Envelope) -> None:
    """Refuse what was sealed under another record than the one in force: what its author says then would be read by
    somebody who was put out since, or not by somebody who came in. Its author seals it again. Raises `Refused`:
    `stale_epoch`, and `envelope_refused` for a wrong number."""
    part = sealed_part(finished)
    if state.rewound:
        raise Refused("stale_epoch", number=state.number, what="rewound")
    if part.record != state.record:
        raise Refused("stale_epoch", number=state.number, what="record")
    if part.epoch != state.number:
        raise Refused("envelope_refused", what="epoch")


def are_wrapped_to(finished: Envelope, author: AgentId) -> bool:
    """Whether a sealed message has one wrap for each of its readers and its author, and none for anybody else: a reader
    without one is shut out, and one that nobody named reads along."""
    readers = () if finished.visibility is None else sorted({author, *finished.visibility})
    return [agent for agent, _ in sealed_part(finished).wraps] == list(readers)


class Place(NamedTuple):
    """What is settled of a room, and so has to stand in what is signed about its epochs."""

    home: HomeId
    room: RoomId
    suite: int
    """0 for a room that is not sealed."""
    history: History
    person: PrincipalId
    """Who signs its records: the person of the owner."""
    is_queue: bool = False
    """Whether some of its members may only ask for work."""


def may_succeed(state: EpochsState, owned_from: int, person: PrincipalId) -> bool:
    """Whether a person may take a sealed room over from the owner whose records begin behind the number `owned_from`:
    the record in force is one of that owner's, and names the person. What an owner before wrote counts no longer."""
    return bool(person) and state.successor == person and state.number > owned_from


def begun(
    new: NewEpoch | None, by: PrincipalId, before: EpochsState, place: Place, present: Mapping[AgentId, Claim]
) -> tuple[EpochTurned, ...]:
    """The event of an epoch that comes with a decision, and none where no epoch does. Raises `Refused` as `turned`
    does, and `not_owner` for an epoch that another person than the owner's signed."""
    if new is None:
        return ()
    if by != place.person:
        raise Refused("not_owner")
    return (turned(new, before, place, present),)


def turned(
    new: NewEpoch,
    before: EpochsState,
    place: Place,
    present: Mapping[AgentId, Claim],
    ahead: Collection[AgentId] = (),
) -> EpochTurned:
    """The event by which an epoch begins. `present` are those who are in the room once it has begun, for whom they act
    and under which handle; whoever is `ahead` may be given the secret before it comes in.

    Raises `Refused`: `stale_epoch`, with the `number` that is in force, for a record that was made while the room stood
    otherwise, so that its maker makes another; `statement_refused` for one that no room of this kind takes.
    """
    record = new.record
    if (record.number, record.previous) != (before.number + 1, before.record):
        raise _stale(before, "number")
    wrong = {
        "home": record.home != place.home,
        "room": record.room != place.room,
        "suite": record.suite != place.suite,
        "link": _is_linked_wrongly(record, before, place),
        "requesters": bool(requesters_of(record)) and not place.is_queue,
    }
    if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
        raise Refused("statement_refused", what=what)
    # The records that a home lost are sent to it once more, and it may have lost as well that somebody came or went.
    is_lost = before.rewound > 0
    if not is_lost and not set(record.removed) <= before.roster.keys() - present.keys():
        raise _stale(before, "removed")
    roster = roster_after(before.roster, record)
    for each in record.added:
        if each.agent not in present and each.agent not in ahead and not is_lost:
            raise _stale(before, "added")
        if each.agent in present and present[each.agent] != Claim(each.agent, each.principal, each.handle):
            raise Refused("statement_refused", what="added")
        if (told := before.told.get(each.agent)) is not None and roster[each.agent].counter < told.counter:
            # It told a newer one, which whoever made this record had not heard of.
            raise _stale(before, "counter")
    check_wraps(new.wraps, record, roster)
    return EpochTurned(
        number=record.number,
        record=new.digest,
        added=tuple(changed_seats(before.roster, roster).items()),
        removed=record.removed,
        successor=successor_of(record),
        made_at=record.at,
    )


def _is_linked_wrongly(record: EpochRecord, before: EpochsState, place: Place) -> bool:
    """Where what came before stays closed to who joins, no record opens it; where it does not, each has to. But an
    owner whose home lost its keys has the secret before no more, and goes on with a new key of its own."""
    if before.number == 0 or place.history != "full":
        return bool(record.link)
    has_new_key = any(each.agent in before.roster and each.principal == place.person for each in record.added)
    return not record.link and not has_new_key


def told_by(agent: AgentId, key: SealingKey | None, before: EpochsState, place: Place) -> tuple[SealingKeyTold, ...]:
    """The event by which an agent says to which key a room's secrets are wrapped for it; none where it said this very
    key before, and in a room that is not sealed. Raises `Refused(statement_refused)`: nobody comes into a sealed room
    without a key, and no old key comes back."""
    if (key is None) is (place.suite > 0):
        raise Refused("statement_refused", what="sealing_key")
    if key is None:
        return ()
    for what, is_wrong in (("home", key.home != place.home), ("agent", key.agent != agent)):
        if is_wrong:
            raise Refused("statement_refused", what=what)
    known = [each for each in (before.told.get(agent), before.roster.get(agent)) if each is not None]
    newest = max(known, key=lambda each: each.counter, default=None)
    if newest is not None and (key.counter, key.key) == (newest.counter, newest.key):
        return ()
    if newest is not None and key.counter <= newest.counter:
        raise Refused("statement_refused", what="counter")
    return (SealingKeyTold(agent=agent, key=key.key, counter=key.counter),)


def _stale(before: EpochsState, what: str) -> Refused:
    return Refused("stale_epoch", number=before.number, what=what)
