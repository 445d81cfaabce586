"""Handing the turn over: a message that says what comes next and who goes on.

Not here: whether the taker is in the room (the room decides), how the message is stored (`sending`). Above: the
engine's face. Invariant: a hand-off is a message like any other, so that it is read, acknowledged and traced as one.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core.envelope import HandoffPart
from parlerd.core.model import AgentId, label
from parlerd.core.words import check_text
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import room_of
from parlerd.engine.reading import handle_of
from parlerd.engine.sending import Sending
from parlerd.operations import types as t

ANYONE: Final = "anyone"
"""Said instead of naming nobody; a reserved word, so no agent has this name."""


class Handoffs:
    """The handler of `handoff.give`."""

    def __init__(self, desk: Desk, sending: Sending) -> None:
        self._desk = desk
        self._sending = sending

    @handles("handoff.give")
    async def give(self, caller: Caller, params: t.GiveHandoff) -> t.GivenHandoff:
        me = await self._desk.me(caller)
        size = check_text(params.next, "next") + check_text(params.summary, "summary")
        target = "" if params.for_ in ("", ANYONE) else str(label(params.for_))
        actor, room = await room_of(self._desk, me, params.room)
        command = c.PostMessage(
            operation="handoff.give",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind="handoff",
            taker=target,
        )
        # Readers are told a name, also where an id was given.
        named = handle_of(room.state, AgentId(target))
        part = HandoffPart(next=params.next, summary=params.summary, target=named)
        sent = await (await self._sending.post(caller, me, actor, command, (part,), size)).result()
        # The room as it is now: who was in it before the message was stored may have left meanwhile.
        room = actor.aggregate
        return t.GivenHandoff(
            id=sent.id,
            room=sent.room,
            name=room.state.name,
            for_=named or None,
            replayed=sent.replayed,
            idempotency_key=sent.idempotency_key,
            seq=sent.seq,
            queued=sent.queued,
            warning=sent.warning,
            others=sum(member.present and member.agent != me.id for member in room.state.members.values()),
        )
