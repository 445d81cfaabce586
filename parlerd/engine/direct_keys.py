"""The keys by which agents of other homes are given the secrets of the direct rooms that others open for them here: the
handlers of `link.direct_keys` and `link.direct_key_of`.

This home checks what it is told, keeps the newest, and shows it to whoever may open a direct room with the agent.
Whoever is shown a key checks the same again: this home is not believed.

Not here: which key counts (`core.direct_keys`), and the rooms (`admitting`). Above: the engine, `admitting`. Below:
`reachable`, `identity.direct_keys`. Invariant: of an agent that somebody may not know of, nothing is said but that.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.direct_keys import decode_published, encode_published
from parlerd.core.errors import Refused
from parlerd.core.model import HOME_ROOM, AgentId, RoomId
from parlerd.engine.authors import Attested
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.reachable import require_attached, stamp
from parlerd.identity import direct_keys
from parlerd.operations import types as t


class DirectKeys:
    """The handlers about keys for direct rooms."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("link.direct_keys")
    async def tell(self, caller: Caller, params: t.TellDirectKeys) -> t.Noted:
        desk = self._desk
        bodies = [
            (Attested(encode_published(each.statement, each.delegation, each.delegation_signature), each.signature))
            for each in params.keys
        ]
        # Two signatures each, away from the loop: a daemon that comes back tells those of all of its agents at once.
        told = await desk.library.aside(lambda: [direct_keys.read(each.body, each.signature) for each in bodies])
        for kept, each in zip(bodies, told, strict=True):
            by = stamp(caller, require_attached(desk, caller, each.key.agent))
            wrong = {"home": each.key.home != desk.keys.id, "principal": each.principal != by.principal}
            if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
                raise Refused("statement_refused", what=what)
            known = desk.rooms.home.aggregate.direct_keys.of(by.actor)
            if known is not None and (known.principal, known.counter) == (by.principal, each.key.counter):
                continue
            await desk.quotas.take(by.actor, bytes=len(kept.body), person=by.principal)
            await desk.rooms.home.submit(c.TellDirectKey(operation="link.direct_keys", key=each.key), by, kept)
        return t.Noted()

    @handles("link.direct_key_of")
    async def show(self, caller: Caller, params: t.AskDirectKey) -> t.DirectKeyOf:
        desk, other = self._desk, AgentId(params.of)
        me = require_attached(desk, caller, params.agent)
        if not await sees(desk, me, other):
            raise Refused("no_such_agent")
        home = desk.rooms.home
        if home.aggregate.direct_keys.of(other) is None:
            # Another process, which shares the store, may have taken one in.
            await home.take_in()
        known = home.aggregate.direct_keys.of(other)
        if known is None:
            return t.DirectKeyOf()
        kept = (await desk.library.bodies(RoomId(HOME_ROOM), (known.position,))).get(known.position)
        if kept is None:
            return t.DirectKeyOf()
        statement, delegation, by_person = decode_published(kept.body)
        return t.DirectKeyOf(
            statement=statement, signature=kept.signature, delegation=delegation, delegation_signature=by_person
        )


async def sees(desk: Desk, eyes: AgentId, other: AgentId) -> bool:
    """Whether an agent may know of another: that one has a public card here, or the two share a room."""
    card = desk.rooms.home.aggregate.card_of(other)
    if card is not None and card.visibility == "public":
        return True
    rooms = await desk.library.rooms_of([eyes, other])
    return not set(rooms[eyes]).isdisjoint(rooms[other])
