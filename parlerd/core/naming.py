"""What an owner's rooms are called in this home, and which room each agent means when it names none.

Not here: the rooms themselves, each of which has a log of its own. Above: `home`. Invariant: among the rooms of one
owner a name means one room, and no other room gets that name before the room was deleted.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision, replayed
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import HOME_ROOM, AgentId, By, Ids, Millis, RoomId
from parlerd.core.tokens import Tokens


class NamingState(msgspec.Struct):
    """`room_names` holds each owner's rooms by name, `active` each agent's active session."""

    active: dict[AgentId, RoomId] = {}
    room_names: dict[AgentId, dict[str, RoomId]] = {}


class Naming(Facet[NamingState]):
    """Names rooms, and keeps which session is active."""

    __slots__ = ("_tokens",)

    def __init__(self, state: NamingState, tokens: Tokens) -> None:
        super().__init__(state)
        self._tokens = tokens
        """With which of them how many rooms may be opened."""

    def _name(self, command: c.NameRoom, by: By, now: Millis, ids: Ids) -> Decision:
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        if self.state.room_names.get(command.owner, {}).get(command.name, command.room) != command.room:
            return Decision(answer="taken")
        if command.token:
            self._tokens.require_opening(command.token, command.wall)
        named = e.RoomNamed(
            owner=command.owner, room=command.room, name=command.name, home=command.home, token=command.token
        )
        # A room elsewhere is not there before its home opened it, and until then the owner keeps the session it is in.
        activates = command.activates and not command.home
        activated = (e.SessionActivated(agent=command.owner, room=command.room),) if activates else ()
        return Decision((named, *activated), authority="token" if command.token else "home")

    def _activate(self, command: c.Activate, by: By, now: Millis, ids: Ids) -> Decision:
        if self.state.active.get(command.agent) == command.room:
            return Decision()
        return Decision((e.SessionActivated(agent=command.agent, room=command.room),), authority="home")

    def _delete(self, command: c.DeleteRoom, by: By, now: Millis, ids: Ids) -> Decision:
        if command.room == HOME_ROOM:
            raise Refused("no_such_room")
        return Decision(
            (e.RoomDeleted(room=command.room),), authority="person", buries=(command.room,), answer="deleted"
        )

    def _named(self, event: e.RoomNamed, header: e.Header) -> None:
        self.state.room_names.setdefault(event.owner, {})[event.name] = event.room

    def _activated(self, event: e.SessionActivated, header: e.Header) -> None:
        if event.room is None:
            self.state.active.pop(event.agent, None)
        else:
            self.state.active[event.agent] = event.room

    def _deleted(self, event: e.RoomDeleted, header: e.Header) -> None:
        names, active = self.state.room_names, self.state.active
        for owner in [owner for owner, named in names.items() if event.room in named.values()]:
            names[owner] = {name: room for name, room in names[owner].items() if room != event.room}
        for agent in [agent for agent, room in active.items() if room == event.room]:
            del active[agent]

    DECIDES = (decides(c.NameRoom, _name), decides(c.Activate, _activate), decides(c.DeleteRoom, _delete))
    APPLIES = (
        applies(e.RoomNamed, _named),
        applies(e.SessionActivated, _activated),
        applies(e.RoomDeleted, _deleted),
    )
    TOUCHES = (
        touches(e.RoomNamed, nobody),
        touches(e.SessionActivated, nobody),
        touches(e.RoomDeleted, nobody),
    )
