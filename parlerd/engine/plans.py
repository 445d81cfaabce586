"""A room before it is opened: its opening and its title, and so its id, of which nothing is drawn.

Not here: what else is settled when a room opens, such as its keys (`opening`, `pair_rooms`, `queues`, `private`, which
stand above). Below: the desk's keys. Invariant: the same agent and the same words give the same room, so a request that
is repeated, also after a crash, opens no second one.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from parlerd.core.identities import AgentRecord
from parlerd.core.model import Approver, History, HomeId, RoomId, RoomKind
from parlerd.core.statements import (
    NONCE,
    SUITE,
    ByGrant,
    Grant,
    MayOpen,
    Opening,
    Title,
    encode,
    room_id_of,
    title_digest,
)
from parlerd.engine.desk import Desk


class Plan(NamedTuple):
    """A room that is about to be opened: its id, and what it follows from."""

    room: RoomId
    opening: Opening
    title: Title


def planned(
    desk: Desk,
    me: AgentRecord,
    words: str,
    *,
    kind: RoomKind,
    home: HomeId,
    name: str,
    host: str,
    approval: bool,
    topic: str = "",
    history: History = "full",
    approver: Approver = "person",
    sealed: bool = False,
) -> Plan:
    """The room of which `me` is the owner and that `words` mean. No idempotency key holds a blank, so words with one
    mean the room of no session."""
    secret = desk.keys.opening_secret(me.id, words)
    title = Title(salt=secret[NONCE : 2 * NONCE], name=name, topic=topic)
    opening = Opening(
        home=home,
        kind=kind,
        history=history,
        owner=me.id,
        principal=me.principal,
        handle=me.name,
        host=host,
        approval=approval,
        approver=approver,
        title=title_digest(encode(title)),
        sealed=SUITE if sealed else msgspec.UNSET,
        nonce=secret[:NONCE],
    )
    return Plan(room_id_of(encode(opening)), opening, title)


def planned_within(plan: Plan, grant: Grant, signed: ByGrant) -> Plan:
    """The same room as one that an agent without a key opens within its grant: it is the person's, whose agent the
    grant names."""
    may = grant.opens
    assert isinstance(may, MayOpen)
    opening = msgspec.structs.replace(
        plan.opening, owner=may.owner, principal=grant.principal, handle=may.handle, host="", granted=signed
    )
    return Plan(room_id_of(encode(opening)), opening, plan.title)
