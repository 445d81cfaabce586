"""What an agent says of itself that it is doing: the handler of `agent.presence`.

Not here: what is derived from connections and calls, and when a stated status ends (`presence`). Above: the engine.
Below: the desk. Invariants: an agent states its own status alone; a status is a label, which may stand outside a fence,
and never one of the words that Parler finds out by itself.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.model import Label, PeerText, is_label
from parlerd.core.resolver import MODULE
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.presence import DERIVED
from parlerd.operations import types as t

NOTHING: Final = "none"
"""Stated by an agent that takes back what it stated."""


class Stating:
    """The handler about stated status."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("agent.presence")
    async def state(self, caller: Caller, params: t.StatePresence) -> t.PresenceIs:
        desk = self._desk
        me = await desk.me(caller)
        if params.status or params.text:
            if params.text and caller.facts.authority.rooms is not None:
                raise Refused("not_permitted", "This is about an agent in all its rooms.")
            desk.presence.state(me.id, self._stated(params))
            desk.notifier.publish([topics.presence(me.id)])
        presence, since = desk.presence.of(me.id)
        stated = desk.presence.stated(me.id)
        return t.PresenceIs(name=me.name, presence=presence, since=since, stated=stated or msgspec.UNSET)

    def _stated(self, params: t.StatePresence) -> t.StatedStatus | None:
        """What is stated from now on; None for nothing."""
        if not params.status or (params.status == NOTHING and params.text):
            raise Refused("invalid_param", "A text goes with a status: one word first, such as busy.", param="status")
        if params.status == NOTHING:
            return None
        if params.status in DERIVED:
            words = ", ".join(sorted(DERIVED))
            raise Refused("invalid_param", f"Parler itself finds out who is {words}.", param="status")
        if params.status == MODULE:
            raise Refused("invalid_param", "Expressions see this word of modules alone.", param="status")
        if not is_label(params.status):
            said = "A status is one word, such as busy; what else there is to say goes into the text beside it."
            raise Refused("invalid_name", said, param="status")
        now = self._desk.clock.now()
        return t.StatedStatus(status=Label(params.status), text=PeerText(params.text), at=now)
