"""What an agent's own knocks say and came to, and who may be shown the code that a person types for one.

Not here: knocking (`joining`) and deciding (`approving`). Above: the lookups and the handlers. Below: the desk.
Invariant: a code stands in an answer only where `shows_code` said yes.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core.approvals import UNDECIDED, Request, standing_request, waiting
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, By, KeyId, Millis, RoomId
from parlerd.core.room import Room, RoomState
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.key_text import BEGINS, typed_key_of
from parlerd.engine.reading import minute_of
from parlerd.operations import types as t

WITHHELD: Final = (
    "The code that a person types for it is not shown to what an agent host runs: in a terminal of their own they see "
    "it with `parler session join KEY --as NAME`."
)
"""Said in place of a code to a command that an agent host started."""
KEY_NOT_LET_IN: Final = (
    "The part of the key behind the U may be mistyped, or the key was revoked, or a wrong one was tried too often, or "
    "the session has another owner since. Check the key with whoever gave it, or ask its owner for another one."
)
LAPSED: Final = (
    "Your request to come in is over: the machine of the session's owner did not answer it in time, or it made place "
    "for others who asked, or the relay lost it."
)
WITHDRAWN: Final = "Your request to come in was taken back."
UNANSWERED: Final = "Your request to come in waits for the machine of the session's owner, which has not answered yet."


async def knock_at(desk: Desk, agent: AgentRecord, room: RoomId) -> t.Knocking | None:
    """An agent's request to come in: what the person is asked to type for it, and how the key begins that it came
    with; None when it was decided a moment ago."""
    handle = await desk.rooms.get(room)
    state = handle.aggregate
    request = next((each for each in waiting(state.state.requests) if each.agent == agent.id), None)
    if request is None:
        return None
    begins = (typed_key_of(desk, state.state, state.state.keys[request.key_id]) or "")[:BEGINS]
    return t.Knocking(room=room, join_code=handle.join_code(request.id), begins=begins)


def unanswered_hint(handle: RoomHandle, agent: AgentId) -> str:
    """What is said to an agent that knocked at a sealed room while the owner's machine has not answered: how lately
    that was heard of, and that nobody has to wait for it. True of a key that lets in without asking as well."""
    heard = handle.owner_heard(agent)
    said = "The relay has not heard of that machine since it began to run."
    if heard:
        said = f"The relay last heard of that machine at {minute_of(heard)}."
    return (
        "This session is sealed, so the machine of its owner has to answer before you can come in. "
        f"{said} Your knock waits there for seven days, and goes on by itself once that machine is back."
    )


def denied_hint(state: RoomState, agent: AgentRecord, key: KeyId) -> str:
    """What is said to an agent that is not let in with a key because the person declined: it, or another agent of its
    own person, whose denial covers it."""
    mine = standing_request(state.requests, agent.id)
    if mine is None or mine.state != "denied":
        for request in state.requests.values():
            if (request.state, request.key_id, request.principal) == ("denied", key, agent.principal):
                who = request.name
                return (
                    f"The person declined another agent of your person, {who}, which covers you here. Nobody was asked "
                    f"about you. Whoever gave you the key can approve {who} after all, or make another one for you."
                )
    return "The person declined. It stays so until the person approves it after all."


def over_hint(end: str) -> str:
    """What is said of a request that is over and that nobody decided about, by how it ended."""
    return {"failed": KEY_NOT_LET_IN, "lapsed": LAPSED, "withdrawn": WITHDRAWN}[end]


def end_of(handle: RoomHandle, request: Request | None) -> str:
    """How a request is over that nobody decided about; empty where it is not."""
    if request is None:
        return ""
    return request.state if request.state in UNDECIDED else "failed" if handle.standing(request) == "failed" else ""


async def knocks_of(desk: Desk, agent: AgentRecord) -> list[t.Knocking]:
    """Every request of an agent that waits for a person."""
    doors = await desk.library.doors(agent.id)
    return [knock for room in doors if (knock := await knock_at(desk, agent, room)) is not None]


async def waits_at(desk: Desk, agent: AgentRecord) -> set[RoomId]:
    """The rooms at whose door an agent still waits: for a person, or, where a home elsewhere let it in, until this home
    hears that it is inside, a moment after it hears of the decision."""
    found: set[RoomId] = set()
    for room in await desk.library.doors(agent.id):
        request = standing_request((await desk.rooms.get(room)).aggregate.state.requests, agent.id)
        if request is not None and request.state in ("pending", "approved"):
            found.add(room)
    return found


def shows_code(desk: Desk, caller: Caller) -> bool:
    """Whether this door may show an agent the code that a person types for it: the agent's own window, a command of the
    person's, or a program that comes over HTTP to join. What an agent host runs in a shell may belong to the very side
    that approves. Source: security spec A2."""
    authority = caller.facts.authority
    by_command = bool(authority.planes & {"person", "joiner"})
    return authority.is_shown_codes and not (by_command and desk.inspect(caller.facts.peer).agent_host)


async def with_code(desk: Desk, caller: Caller, error: Refused) -> Refused:
    """A `join_pending` as this caller may hear it: with its code, where that may be shown."""
    if caller.agent is None or not shows_code(desk, caller):
        return error
    knocks = await knocks_of(desk, desk.rooms.home.aggregate.state.agents[caller.agent])
    if not knocks:
        return error  # the request was decided this moment
    coded = [knock for knock in knocks if knock.join_code]
    if not coded:
        # Nobody can type a code before the owner's machine has answered.
        door = knocks[0].room
        handle = await desk.rooms.get(RoomId(door))
        request = standing_request(handle.aggregate.state.requests, caller.agent)
        if request is None or handle.standing(request) != "unanswered":
            return error
        hint = unanswered_hint(handle, caller.agent)
        return Refused("join_pending", UNANSWERED, hint=hint, tool_hint=hint, door=door)
    typed = [knock.join_code or "" for knock in coded]
    if len(coded) > 1:
        typed = [f"{knock.join_code} (key {knock.begins}...)" for knock in coded]
    said = f"Your request to come in waits for a person; your code is {', '.join(typed)}."
    return Refused("join_pending", said, join_code=coded[0].join_code, door=coded[0].room)


def no_longer_in(state: RoomState, agent: AgentId) -> str | None:
    """What is said of a room to an agent that was in it and is in it no more; None for an agent that never was. That an
    agent was put out is known where the room lives; elsewhere only that it is out."""
    member = state.members.get(agent)
    if member is None:
        return None
    if member.barred:
        return f"You were put out of '{state.name}': a person decides before you come in again."
    return f"You are no longer in '{state.name}'."


async def nowhere(desk: Desk, agent: AgentRecord, was: RoomState | None = None) -> Refused:
    """Why there is no active session: what became of the agent's knocks is part of the answer, and that it is in the
    room no more which `was` its active one."""
    doors = await waits_at(desk, agent)
    if doors:
        # The code is added by `with_code`, for callers that may see it.
        return Refused("join_pending", hint=WITHHELD, tool_hint=WITHHELD, door=min(doors))
    memberships = await desk.library.memberships(agent.id)
    if memberships and all(membership.state == "denied" for membership in memberships):
        # Only where every membership was denied: an agent that had a session besides lost that one otherwise.
        return Refused("join_denied", door=memberships[-1].room)
    if was is None:
        return Refused("no_active_session")
    request = standing_request(was.requests, agent.id)
    if request is not None and request.state == "denied":
        return Refused("join_denied", door=was.room)
    return Refused("no_active_session", no_longer_in(was, agent.id))


def would_knock(desk: Desk, facts: Facts, room: Room, key_id: KeyId) -> None:
    """Raise what a new agent's knock would be refused with: an agent, and its key, is made for none that is."""
    now = desk.now_at(room.state.home)
    by = By(AgentId(""), facts.authority.principal, facts.session, facts.host, facts.via)
    knock = c.Knock(operation="session.join", key_id=key_id, name="new", host=facts.host, wall=now)
    room.decide(knock, by=by, now=Millis(max(now, room.last_at)), ids=desk.random)


def role_on_card(desk: Desk, me: AgentRecord, handle: RoomHandle) -> str:
    """The role with which an agent comes into a room that says none: that of its card where it was never in the room,
    and else none, which changes nothing."""
    card = desk.rooms.home.aggregate.card_of(me.id)
    is_new = me.id not in handle.aggregate.state.members
    return card.role if is_new and card is not None else ""
