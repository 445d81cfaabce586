"""Whose a room is: how it changed hands, and what the home of its owner says of it.

Not here: the opening, which names the first owner (`cards`). Above: `cards`. Below: `hearing`, `statements`. Pure.
Invariant: a room goes on under nobody whom the owner before did not name, in the room's own log or, in a sealed room,
in a record.
"""

from __future__ import annotations

from collections.abc import Sequence

from parlerd.core import events as e
from parlerd.core.epoch_record import record_digest
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By
from parlerd.core.statements import Claim, OwnerLine, Transfer
from parlerd.identity.proofs import named_in, owner_after, succeeds, unproven
from parlerd.operations import types as t
from parlerd.uplink.arriving.hearing import Contradiction, Hearing
from parlerd.uplink.arriving.statements import evidence_of, signed_statement, statement_in


def read_transfers(hearing: Hearing, card: t.Card) -> list[tuple[Transfer, t.TransferEntry]]:
    """How the room changed hands since the mirror was told last. What these owners signed counts from here
    on; that they own the room, the mirror takes in once their coming was shown (`hear_transfers`)."""
    found = []
    for entry in card.transfers:
        transfer = statement_in(entry.statement, Transfer)
        if transfer is not None and transfer.number < len(hearing.owners):
            continue
        try:
            room, home, owners = hearing.room, hearing.home, hearing.owners
            transfer = succeeds(
                room,
                home,
                owners,
                entry.statement,
                entry.signature,
                is_sealed=hearing.is_sealed,
                successor=named_in(room, home, owners, entry.statement, entry.record, entry.record_signature),
            )
        except Refused:
            raise Contradiction("transfer") from None
        if transfer.taken and not _may_take_over(hearing, card, transfer):
            raise Contradiction("transfer", agent=transfer.owner)
        if hearing.is_sealed and _forks(hearing, transfer, entry.record):
            raise Contradiction("epoch", agent=transfer.owner)
        hearing.owners.append(owner_after(transfer))
        found.append((transfer, entry))
    return found


def hear_transfers(hearing: Hearing, transfers: Sequence[tuple[Transfer, t.TransferEntry]]) -> None:
    """Take in that the room changed hands, in order, as far as each new owner was shown to have come."""
    for transfer, told in transfers:
        if not hearing.is_sealed and hearing.member(transfer.owner) is None:
            break  # its coming was not shown yet; the next card tells the transfer again
        # Who knocks at a sealed room is told no members, and has to know with whose machine it exchanges keys.
        # Nobody but the owner before names the next one there.
        changed = e.OwnerChanged(
            owner=transfer.owner,
            principal=transfer.principal,
            taken=transfer.taken,
            record=owner_after(transfer).record,
        )
        hearing.add((changed,), hearing.owner, hearing.now, ((told.statement, told.signature),))


def _forks(hearing: Hearing, transfer: Transfer, naming: bytes) -> bool:
    """Whether the mirror has a record that the owner before signed behind this transfer, or another one than that
    by which whoever takes the room over was named: somebody signed two of one number."""
    begins, epoch = owner_after(transfer).record, hearing.epoch
    if epoch.number == begins and transfer.taken:
        return record_digest(naming) != epoch.record
    return epoch.number > begins


def _may_take_over(hearing: Hearing, card: t.Card, transfer: Transfer) -> bool:
    """Whether the new owner is or was a member, for the person who signed. Who only knocks is told of no members
    but its own home's that are out, and who waits for a record of those alone that are in. Whoever is in finds out
    with the first card that holds the others."""
    known = hearing.member(transfer.owner)
    if known is not None:
        return known.principal == transfer.principal
    if all(
        hearing.grounds.ours(AgentId(each.agent)) and (hearing.is_sealed or not each.present) for each in card.members
    ):
        return True
    for entry in card.members:
        if entry.agent == transfer.owner and entry.principal == transfer.principal:
            claim = Claim(transfer.owner, transfer.principal, entry.handle)
            return unproven(hearing.room, hearing.opening, claim, evidence_of(entry), hearing.owners) is None
    return False


def hear_owner_line(hearing: Hearing, told: t.OwnerLineEntry) -> None:
    """Take in that the owner's home was there, and compare how it has the room. What an owner before signed, and
    what is no line of this room, changes nothing."""
    owner, state = hearing.owners[-1], hearing.state.epochs
    line = signed_statement(OwnerLine, told.statement, told.signature, owner.principal)
    if line is None or (line.home, line.room) != (hearing.home, hearing.room):
        return
    if line.record < max(owner.record, hearing.epoch.number) or line.at <= state.heard:
        # Before the record in force it says nothing new, whatever the time that is in it.
        return
    if line.record > hearing.epoch.number:
        # The home admits no line of a record that it was not told before.
        raise Contradiction("epoch")
    if line.record == hearing.epoch.number and line.digest != hearing.epoch.record:
        raise Contradiction("epoch")
    known = hearing.line_at(line.public)
    if known is not None and known != line.line:
        raise Contradiction("fork", number=line.public)
    event = e.OwnerLineTold(record=line.record, public=line.public, made_at=line.at)
    by = By(owner.agent, owner.principal, "", "", "link")
    hearing.add((event,), by, hearing.now, ((told.statement, told.signature),))
