"""Who is in a room, under which handle, and what each may see of its past.

A handle is fixed when an agent first joins and is never given to another id, also after the agent left: state scopes
and addresses that name it keep meaning the same agent. Of messages this facet keeps the counts that a reader's own
numbering follows from, and where the recap stands.

Above: `approvals` (who may come in) and `messages`, which read this state. Below: `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import LifecycleState, require_open
from parlerd.core.model import (
    MAX_LABEL,
    AgentId,
    By,
    History,
    Ids,
    KeyId,
    Label,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    Seq,
    View,
    first_free,
)
from parlerd.core.topics import Topic

MAX_CANDIDATES: Final = 5
"""Names that a refusal suggests."""
MAX_COMPARED: Final = 32
"""Names that are compared with a wrong one, those first that hold its letters in a row: comparing takes up to half a
millisecond a name, and a refusal stays cheap in a room of thousands."""


class Member(msgspec.Struct):
    """`spans` are the (after, upto] positions whose public messages this agent may see.

    `present` is false once it left; `entered` is where it came in last. `hidden` counts the room's public messages
    outside its spans so far, `private` the private ones that name it: with the room's own count they give this reader's
    newest seq without a look at the store. `left_at` is the room's count of public messages when it last left.
    """

    agent: AgentId
    principal: PrincipalId
    handle: str
    host: str
    role: str
    joined_at: Millis
    spans: list[tuple[int, int | None]]
    entered: int = 0
    present: bool = True
    hidden: int = 0
    private: int = 0
    left_at: int = 0


class MembershipState(msgspec.Struct):
    """`public` counts the room's messages for everyone; `opening` is where the recap stands, 0 without one."""

    members: dict[AgentId, Member] = {}
    public: int = 0
    opening: Position = Position(0)


def admit(
    members: dict[AgentId, Member],
    *,
    agent: AgentId,
    principal: PrincipalId,
    handle: str,
    host: str,
    role: str,
    at: Millis,
    position: Position,
    history: History,
    opening: Position,
    public: int,
) -> None:
    """Put an agent in, or back in, as of `position`. `opening` is where the recap stands, or 0 when there is none yet;
    `public` counts the room's public messages so far.

    History `full` shows everything, `from-join` what follows the first join, `none` what is posted while the agent is
    in. The recap is shown whatever the policy. Source: decision 5.
    """
    member = members.get(agent)
    if member is not None:
        member.present = True
        member.entered = position
        member.host = host
        if history == "none":
            member.spans.append((position, None))
            member.hidden += public - member.left_at
        return
    spans: list[tuple[int, int | None]] = [(0, None)]
    hidden = 0
    if history != "full":
        spans, hidden = [(position, None)], public
        if 0 < opening <= position:
            spans.insert(0, (opening - 1, opening))
            hidden -= 1
    members[agent] = Member(
        agent=agent,
        principal=principal,
        handle=handle,
        host=host,
        role=role,
        joined_at=at,
        spans=spans,
        entered=position,
        hidden=hidden,
    )


def depart(
    members: dict[AgentId, Member], agent: AgentId, *, position: Position, history: History, public: int
) -> None:
    """Take an agent out. Its handle and what it has seen stay its own."""
    member = members[agent]
    member.present = False
    member.left_at = public
    if history == "none" and member.spans[-1][1] is None:
        member.spans[-1] = (member.spans[-1][0], position)


def free_handle(members: Mapping[AgentId, Member], agent: AgentId, name: Label) -> str:
    """The handle an agent gets: its old one if it was here, else its name, else its name with the first free suffix."""
    known = members.get(agent)
    if known is not None:
        return known.handle
    return first_free(name, {member.handle for member in members.values()})


def present(members: Mapping[AgentId, Member], agent: AgentId) -> Member:
    """The member. An outsider gets the answer a stranger gets: `Refused(no_such_room)`."""
    member = members.get(agent)
    if member is None or not member.present:
        raise Refused("no_such_room")
    return member


def resolve(members: Mapping[AgentId, Member], who: str) -> AgentId:
    """The id behind an id or a handle among those who are in. Raises `Refused(no_such_agent)`."""
    member = members.get(AgentId(who))
    if member is not None and member.present:
        return member.agent
    for member in members.values():
        if member.handle == who and member.present:
            return member.agent
    raise _no_such_agent(members, who, f"No one here goes by {who!r}.")


def resolve_taker(
    members: Mapping[AgentId, Member], owner: AgentId, who: str, *, giver: AgentId
) -> tuple[tuple[AgentId, ...], str]:
    """Whom a hand-off is for: one member, found by id, by handle or as the `owner`; or else a role that somebody else
    who is in has. A turn that nobody could take would be lost without a word.

    Raises `Refused` with `no_such_agent`, the names that come nearest and the roles there are, or `invalid_param` for
    the giver itself.
    """
    others = [member for member in members.values() if member.present and member.agent != giver]
    if who == "owner" and any(member.agent == owner for member in others):
        # Before any handle: a log of before may hold an agent of this name.
        return (owner,), ""
    named = next((member for member in others if who in (member.agent, member.handle)), None)
    if named is not None:
        return (named.agent,), ""
    if who and any(member.role == who for member in others):
        return (), who
    itself = members[giver]
    if who in {itself.agent, itself.handle, itself.role} - {""} or (who == "owner" and giver == owner):
        raise Refused("invalid_param", "That is yourself: you have the turn, and another has to take it.", param="for")
    roles = sorted({member.role or ("owner" if member.agent == owner else "") for member in others} - {""})
    if not others:
        message = f"Nobody else is here yet, so no one goes by {who!r}."
    elif roles:
        shown = ", ".join(roles[:MAX_CANDIDATES])
        message = f"No one here goes by {who!r} or has that role. The roles here: {shown}."
    else:
        message = f"No one here goes by {who!r}, and no one else here has a role."
    refused = _no_such_agent(members, who, message, giver=giver)
    refused.details["roles"] = roles[:MAX_CANDIDATES]
    raise refused


def _no_such_agent(
    members: Mapping[AgentId, Member], who: str, message: str, *, giver: AgentId | None = None
) -> Refused:
    handles = [member.handle for member in members.values() if member.present and member.agent != giver]
    wanted = who[:MAX_LABEL].casefold()

    def distance(handle: str) -> tuple[bool, float]:
        name = handle.casefold()
        return wanted not in name, -SequenceMatcher(None, wanted, name, autojunk=False).ratio()

    handles.sort(key=lambda handle: wanted not in handle.casefold())
    candidates = sorted(handles[:MAX_COMPARED], key=distance)[:MAX_CANDIDATES]
    return Refused("no_such_agent", message, agent=who, candidates=candidates)


def view_of(member: Member) -> View:
    """What this member may see."""
    return View(reader=member.agent, spans=tuple(member.spans))


def newest_seq(state: MembershipState, agent: AgentId) -> Seq:
    """A present member's number for the newest message it may see: what the store would count."""
    member = state.members[agent]
    return Seq(state.public - member.hidden + member.private)


def joining(
    members: Mapping[AgentId, Member],
    *,
    agent: AgentId,
    principal: PrincipalId,
    name: Label,
    host: str,
    request: RequestId | None = None,
    key: KeyId | None = None,
) -> e.MemberJoined:
    """The event by which an agent comes in, or back in, under the handle that it gets."""
    handle = free_handle(members, agent, name)
    return e.MemberJoined(agent=agent, principal=principal, handle=handle, host=host, request=request, key=key)


class Membership(Facet[MembershipState]):
    """Takes in who comes and goes, counts what each may see, and decides who leaves. Who comes in is decided by
    `approvals`."""

    __slots__ = "_lifecycle"

    def __init__(self, state: MembershipState, lifecycle: LifecycleState) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle

    def _leave(self, command: c.CloseRoom, by: By, now: Millis, ids: Ids) -> Decision:
        room = self._lifecycle
        owns = command.principal is not None and command.principal == room.owner_principal
        if not owns:
            present(self.state.members, by.actor)
        require_open(room)
        if by.actor == room.owner:
            return Decision((e.RoomClosed(),), authority="owner", answer="closed")
        if owns:
            return Decision((e.RoomClosed(),), authority="person", answer="closed")
        return Decision((e.MemberLeft(agent=by.actor),), authority="member", answer="left")

    def _joined(self, event: e.MemberJoined, header: e.Header) -> None:
        admit(
            self.state.members,
            agent=event.agent,
            principal=event.principal,
            handle=event.handle,
            host=event.host,
            role=event.role,
            at=header.at,
            position=header.position,
            history=self._lifecycle.history,
            opening=self.state.opening,
            public=self.state.public,
        )

    def _left(self, event: e.MemberLeft, header: e.Header) -> None:
        depart(
            self.state.members,
            event.agent,
            position=header.position,
            history=self._lifecycle.history,
            public=self.state.public,
        )

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        state = self.state
        if event.visibility is None:
            state.public += 1
        else:
            for agent in event.visibility:
                state.members[agent].private += 1
        if event.opening:
            state.opening = header.position

    def _moved(self, event: e.MemberJoined | e.MemberLeft, header: e.Header) -> Iterator[Topic]:
        yield topics.life(self._lifecycle.room)
        yield topics.concerns(self._lifecycle.owner)
        if isinstance(event, e.MemberJoined):
            yield topics.memberships(event.agent)

    DECIDES = (decides(c.CloseRoom, _leave),)
    APPLIES = (applies(e.MemberJoined, _joined), applies(e.MemberLeft, _left), applies(e.MessagePosted, _posted))
    TOUCHES = (touches(e.MemberJoined, _moved), touches(e.MemberLeft, _moved))
