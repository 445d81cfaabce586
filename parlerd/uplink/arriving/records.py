"""Who can read a sealed room: the records of its epochs, and the keys by which newcomers are given its secrets.

Not here: what is said under a record (`pages`). Above: `items`, `cards`, and `rosters` for a roster that is told.
Below: `hearing`, `statements`, the core's records. Pure. Invariant: each record that is taken in was signed by whoever
owned the room then, and names the one before where the mirror has that.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import events as e
from parlerd.core.epoch_record import (
    MAX_SEALED_MEMBERS,
    EpochRecord,
    Roster,
    changed_seats,
    check_record,
    check_wraps,
    encode_turned,
    record_digest,
    requesters_of,
    roster_after,
    roster_digest,
    successor_of,
)
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import KEY_COPIED
from parlerd.core.model import AgentId, By, PrincipalId, RosterEntry
from parlerd.core.statements import SealingKey, encode_opened, signer_at
from parlerd.identity import epochs
from parlerd.identity.sealing import check_key
from parlerd.operations import types as t
from parlerd.uplink.arriving.hearing import Contradiction, Epoch, Hearing
from parlerd.uplink.arriving.statements import is_title, signed_statement, statement_in

MAX_STRANGERS: Final = MAX_SEALED_MEMBERS
"""Of how many agents that are not shown to be in a room, or to knock, a sealing key is kept: as many as a room
takes."""


def hear_record(hearing: Hearing, told: t.EpochEntry) -> None:
    """Take in that an epoch of a sealed room began, or that it is in force where what follows begins. One that was
    told before changes nothing, and so does an older one."""
    before = hearing.epoch
    if not hearing.is_sealed:
        raise Contradiction("epoch")
    try:
        record, digest = check_record(told.record), record_digest(told.record)
        if (record.home, record.room) != (hearing.home, hearing.room):
            raise Contradiction("epoch")
        if requesters_of(record) and hearing.opening.kind != "service":
            raise Contradiction("epoch")
        if record.number < before.number:
            return
        if record.number == before.number:
            if digest != before.record:
                # Its members would each take another one for the newest, and not hear each other.
                is_copied = hearing.grounds.opener.is_copied(record, told.record, told.signature)
                raise Contradiction(KEY_COPIED if is_copied else "epoch")
            return
        # Who owned the room before signs none behind the number at which the room changed hands.
        owner = signer_at(hearing.owners, record.number)
        epochs.read(told.record, told.signature, owners=[owner.principal])
        # Where the mirror has the record before, this one says what changed; else the home told all of the roster.
        is_next, anew = record.number == before.number + 1, before.number == 0 or record.number > before.number + 1
        if is_next and record.previous != before.record:
            raise Contradiction("epoch")
        roster = roster_after(before.roster, record) if is_next else roster_told(told, record)
        wraps = check_wraps(told.wraps, record, roster)
    except Refused:
        raise Contradiction("epoch") from None
    if not _may_read(hearing, roster, is_first=record.number == 1):
        raise Contradiction("epoch")
    if hearing.grounds.is_live and hearing.grounds.opener.is_copied(record, told.record, told.signature):
        # What this home signed before an older copy of it was put in place, it is told before anything new.
        raise Contradiction(KEY_COPIED)
    added = roster if anew else changed_seats(before.roster, roster)
    turned = e.EpochTurned(
        number=record.number,
        record=digest,
        added=tuple(sorted(added.items())),
        removed=() if anew else record.removed,
        anew=anew,
        successor=successor_of(record),
        made_at=record.at,
    )
    by = By(owner.agent, owner.principal, "", "", "link")
    hearing.add((turned,), by, hearing.now, ((encode_turned(told.record, told.wraps), told.signature),))
    hearing.epoch = Epoch(record.number, digest, roster)
    card = hearing.grounds.opener.learn(record, digest, wraps)
    if card is not None and not hearing.is_titled and is_title(card.title, hearing.opening):
        assert hearing.begun is not None
        body = (encode_opened(hearing.begun.body, card.title), hearing.begun.signature)
        hearing.add((e.RoomTitled(),), hearing.owner, hearing.now, (body,))
        hearing.is_titled = True


def _may_read(hearing: Hearing, roster: Roster, *, is_first: bool) -> bool:
    """Whether a record may hold these. The first holds the owner and, in a direct room, whom the owner's terms
    name; and no later one of such a room holds anybody else. Whoever came in under one person is not given
    anything as an agent of another."""
    is_for_these = roster.keys() <= {hearing.opening.owner, *hearing.named}
    if (is_first or hearing.named) and not is_for_these:
        return False
    if not hearing.named:
        return True
    known = {agent: hearing.member(agent) for agent in roster}
    return all(each is None or each.principal == roster[agent].principal for agent, each in known.items())


def hear_sealing_keys(hearing: Hearing, card: t.Card) -> None:
    """Take in by which keys newcomers are given the room's secrets. A key may be told before its agent is shown to
    be in; of agents that are not shown to be, only so many, because a home could draw any number of them."""
    state = hearing.state
    told = {agent: known.counter for agent, known in state.epochs.told.items()}
    asking = hearing.asking.union(request.agent for request in state.requests.values())
    strangers = sum(agent not in asking and hearing.member(agent) is None for agent in told)
    for entry in card.sealing_keys:
        key = statement_in(entry.statement, SealingKey)
        if key is None or key.home != hearing.home or key.counter <= told.get(key.agent, 0):
            continue
        is_stranger = key.agent not in asking and hearing.member(key.agent) is None
        if is_stranger and key.agent not in told and strangers >= MAX_STRANGERS:
            continue
        if signed_statement(SealingKey, entry.statement, entry.signature, key.agent) is None or not _is_key(key.key):
            continue
        strangers += is_stranger and key.agent not in told
        told[key.agent] = key.counter
        event = e.SealingKeyTold(agent=key.agent, key=key.key, counter=key.counter)
        hearing.add((event,), hearing.owner, hearing.now, ((entry.statement, entry.signature),))


def came_with_another_key(hearing: Hearing, card: t.Card, agent: AgentId) -> bool:
    """Whether the record in force holds a key that an agent of another home may not have any more, because it told a
    later one before its coming is shown: it waits for another record then, as one does whom no record holds. The home
    of the room says so only to the agent's own. Where the agent has both keys, the record is one too many."""
    entry = hearing.epoch.roster.get(agent)
    if entry is None or hearing.grounds.ours(agent):
        return False
    known = hearing.state.epochs.told.get(agent)
    if known is not None and known.counter > entry.counter:
        return True
    # The key may come with the same card, which tells keys after members.
    return any(_is_later(hearing, told, agent, entry.counter) for told in card.sealing_keys)


def _is_later(hearing: Hearing, told: t.SealingKeyEntry, agent: AgentId, counter: int) -> bool:
    """Whether an agent signed a later key for this home than the one with this counter."""
    key = signed_statement(SealingKey, told.statement, told.signature, agent)
    if key is None or (key.agent, key.home) != (agent, hearing.home):
        return False
    return key.counter > counter and _is_key(key.key)


def _is_key(public: bytes) -> bool:
    """Whether secrets can be wrapped to a key that an agent told."""
    try:
        check_key(public)
    except Refused:
        return False
    return True


def roster_told(told: t.EpochEntry, record: EpochRecord) -> Roster:
    """The roster that a record leads to, as a home told it to somebody who does not have the record before. Raises
    `Refused(statement_refused)` where it is not the one that the record names, or holds more than a room takes, of
    which nothing is looked at."""
    if len(told.roster) > MAX_SEALED_MEMBERS:
        raise Refused("statement_refused", what="roster")
    roster = {
        AgentId(entry.agent): RosterEntry(
            PrincipalId(entry.principal), entry.handle, entry.key, entry.counter, entry.requester
        )
        for entry in told.roster
    }
    if len(roster) != len(told.roster) or roster_digest(roster) != record.roster:
        raise Refused("statement_refused", what="roster")
    return roster
