"""Which rooms a link may know: those that one of its attached agents is in, or knocks at, and those of its person.

The one place where a link is measured against a room. Every question that names a room of which a link may not know is
answered as if there were none, and so is one that names an agent that is not attached. An agent belongs to the person
under whom it came into a room: the same key under another person is a stranger there.

Not here: who is attached (`links`). Above: every handler of the plane `link` that names a room. Below: the desk.
Invariant: nothing that is said of a room before it passed here depends on the room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle

NOBODY: Final = AgentId("")
"""Who acts where a person does, and no agent of theirs."""


@dataclass(frozen=True, slots=True)
class Eyes:
    """As whom a link looks at a room."""

    members: tuple[AgentId, ...]
    """Its agents that are in; in a sealed room those whom the record in force holds."""
    knocking: tuple[AgentId, ...]
    """Its agents whose request there was not granted."""
    owns: bool
    """Whether the room's owner acts for its person."""
    waiting: tuple[AgentId, ...] = ()
    """Its agents that are in a sealed room and that no record holds yet. Where all of them wait, it is told how its own
    agents come and go. What else there is to tell it hears in the order of the log once a record holds one of them, as
    of a room into which somebody just came."""
    own: tuple[AgentId, ...] = ()
    """Where some wait or knock, its agents that are or were in: the last one that leaves, while another one knocks, is
    told so."""

    def has(self, agent: AgentId) -> bool:
        """Whether the agent is one of the link's, and has to do with the room."""
        return agent in self.members or agent in self.knocking or agent in self.waiting

    @property
    def are_inside(self) -> bool:
        """Whether they may know who is in the room, and what it is called."""
        return bool(self.members) or self.owns

    @property
    def is_shut(self) -> bool:
        """Whether it may not know of the room."""
        return not (self.members or self.knocking or self.waiting or self.owns)


def eyes(desk: Desk, caller: Caller, room: Room) -> Eyes:
    """As whom this link looks at a room at this moment."""
    principal = caller.facts.authority.principal
    speaking = desk.links.of(caller).speaking(desk.clock.now())
    state = room.state
    inside = [agent for agent in speaking if _is_in(room, agent, principal)]
    waiting = tuple(agent for agent in inside if state.members[agent].waits)
    # The newest request of each agent has the last word.
    asked = {request.agent: request.state for request in state.requests.values() if request.principal == principal}
    knocking = tuple(agent for agent in speaking if agent not in inside and asked.get(agent, "approved") != "approved")
    members = tuple(agent for agent in inside if agent not in waiting)
    own = tuple(agent for agent in speaking if (waiting or knocking) and _was_in(room, agent, principal))
    return Eyes(members, knocking, state.owner_principal == principal, waiting, own)


async def room_within(desk: Desk, caller: Caller, room: str) -> RoomHandle:
    """A room that this link may know, opened if need be. Raises `Refused`: `no_such_room`, or `room_deleted` to whoever
    knows the id of one that was here, which nobody can guess.

    The store's index is asked first, so nobody has rooms opened by naming them, and the home room is no room here.
    """
    wanted = RoomId(room)
    if wanted not in await desk.library.owned(caller.facts.authority.principal):
        for agent in desk.links.of(caller).speaking(desk.clock.now()):
            if any(each.room == wanted for each in await desk.library.memberships(agent)):
                break
        else:
            raise Refused("room_deleted" if await desk.library.is_deleted(wanted) else "no_such_room")
    return await desk.rooms.get(wanted)


async def owned_within(desk: Desk, caller: Caller, wanted: str) -> tuple[RoomHandle, Room]:
    """A room whose owner acts for the link's person. Raises `Refused`: `not_owner` to who is in, `no_such_room` to
    everybody else."""
    actor = await room_within(desk, caller, wanted)
    room = await actor.quiet()
    looking = eyes(desk, caller, room)
    if not looking.owns:
        raise Refused("not_owner" if looking.members or looking.waiting else "no_such_room")
    return actor, room


def require_speaker(desk: Desk, caller: Caller, agent: str) -> AgentId:
    """The agent, attached on this link. Raises `Refused(no_such_room)`: there is no room for anybody else."""
    if not desk.links.of(caller).speaks_for(agent, desk.clock.now()):
        raise Refused("no_such_room")
    return AgentId(agent)


def require_attached(desk: Desk, caller: Caller, agent: str) -> AgentId:
    """The agent, attached on this link: for what is about no room that its agents know yet. Raises
    `Refused(not_permitted)`."""
    if not desk.links.of(caller).speaks_for(agent, desk.clock.now()):
        raise Refused("not_permitted", "This agent is not attached on this link.")
    return AgentId(agent)


def stamp(caller: Caller, agent: AgentId, host: str = "") -> By:
    """The stamp on what comes over a link: the agent that it says, and the person who is proved."""
    facts = caller.facts
    return By(actor=agent, principal=facts.authority.principal, session=facts.session, host=host, via=facts.via)


def require_member(room: Room, agent: AgentId, principal: PrincipalId) -> None:
    """Raise `Refused(no_such_room)` unless the agent is in the room, as one of this person's."""
    if not _is_in(room, agent, principal):
        raise Refused("no_such_room")


def came_under(room: Room, agent: AgentId, principal: PrincipalId) -> bool:
    """Whether the agent was ever in the room, or knocked there, as one of this person's."""
    if _was_in(room, agent, principal):
        return True
    requests = room.state.requests.values()
    return any(request.agent == agent and request.principal == principal for request in requests)


def _is_in(room: Room, agent: AgentId, principal: PrincipalId) -> bool:
    return _was_in(room, agent, principal) and room.state.members[agent].present


def _was_in(room: Room, agent: AgentId, principal: PrincipalId) -> bool:
    """Whether the agent is or was in the room as one of this person's."""
    member = room.state.members.get(agent)
    return member is not None and member.principal == principal
