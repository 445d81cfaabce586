"""How a room stands, as the card that its home made of it says.

Not here: each part of the card (`owners`, `knocks`, `members`, `records`). Above: `items`. Below: `hearing`. Pure.
Invariant: a mirror begins with an opening that was signed for this room and no other, or not at all.
"""

from __future__ import annotations

import msgspec

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.grants import opened_beyond
from parlerd.core.model import Millis, Shown
from parlerd.core.public_line import first_line
from parlerd.core.statements import Grant, Opening, check, encode_opened, first_owner, room_id_of
from parlerd.identity.proofs import read_opening
from parlerd.operations import types as t
from parlerd.uplink.arriving import knocks, members, owners, records
from parlerd.uplink.arriving.hearing import Began, Contradiction, Hearing
from parlerd.uplink.arriving.statements import is_title, statement_in


def hear_card(hearing: Hearing, card: t.Card, page: t.LinkPage | None) -> None:
    """Take in how the room stands."""
    if not hearing.is_open:
        _begin(hearing, card, page)
    elif card.opening and room_id_of(card.opening) != hearing.room:
        raise Contradiction("opening")
    elif card.title and not hearing.state.name:
        _title(hearing, card)
    transfers = owners.read_transfers(hearing, card)
    came_by = knocks.hear_knocks(hearing, card)
    members.hear_members(hearing, card, came_by)
    records.hear_sealing_keys(hearing, card)
    if card.epoch is not None:
        records.hear_record(hearing, card.epoch)
    if card.owner_line is not None:
        owners.hear_owner_line(hearing, card.owner_line)
    owners.hear_transfers(hearing, transfers)
    if card.closed and not hearing.state.closed:
        hearing.add((e.RoomClosed(),), hearing.owner, hearing.now)


def _begin(hearing: Hearing, card: t.Card, page: t.LinkPage | None) -> None:
    """The mirror begins, with what the person who opened the room signed."""
    try:
        opening = read_opening(hearing.room, hearing.home, card.opening, card.opening_signature)
    except Refused:
        raise Contradiction("opening") from None
    if opening.granted is not msgspec.UNSET:
        grant = check(opening.granted.grant, Grant)
        if opened_beyond(grant, Millis(card.opened_at), hearing.past.opened) is not None:
            raise Contradiction("grant")
    if card.title and not is_title(card.title, opening):
        raise Contradiction("title")
    start = first_line(hearing.room, hearing.home)
    public, line = (0, start) if page is None else (page.public, page.line)
    if public == 0 and line != start:
        raise Contradiction("line")
    hearing.begun = Began(opening, card.opening, card.opening_signature)
    hearing.shown, hearing.is_whole, hearing.is_titled = Shown(public, line), public == 0, bool(card.title)
    hearing.owners = [first_owner(opening)]
    opened = e.RoomOpened(
        room=hearing.room,
        home=hearing.home,
        kind=opening.kind,
        owner=opening.owner,
        owner_principal=opening.principal,
        history=opening.history,
        approval=opening.approval,
        approver=opening.approver,
        sealed=0 if opening.sealed is msgspec.UNSET else opening.sealed,
    )
    body = (encode_opened(card.opening, card.title), card.opening_signature)
    placed = e.MirrorPlaced(public=public, line=line)
    hearing.add((opened, placed), hearing.owner, Millis(card.opened_at), (body, None))
    hearing.is_open = True


def _title(hearing: Hearing, card: t.Card) -> None:
    """The room's name and topic, for a mirror that began while nobody here was in the room."""
    opening = statement_in(card.opening, Opening)
    if opening is None:
        return
    if not is_title(card.title, opening):
        raise Contradiction("title")
    body = (encode_opened(card.opening, card.title), card.opening_signature)
    hearing.add((e.RoomTitled(),), hearing.owner, hearing.now, (body,))
