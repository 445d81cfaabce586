"""What a member may do in a room as it stands: the rights that operations need, and why one is missing.

    look    see more than what names the member
    speak   post, hand over, remember
    work    take tasks, write the state, register actions
    own     decide about members, as the room's owner

Whether one action may be invoked, and one scope written, is asked of the facets that know (`actions`, `state`). Not
here: input, and how often something is done. Above: the engine, which lists what an agent may do. Below: the states of
facets. Invariant: what a right allows is never refused for want of it at the same position of the log, and what it
denies is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from parlerd.core.lifecycle import alarm
from parlerd.core.membership import Member, is_requester
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room

Right = Literal["look", "speak", "work", "own"]

NEEDED: Final[Mapping[str, Right]] = {
    "message.send": "speak",
    "handoff.give": "speak",
    "memory.remember": "speak",
    "task.claim": "work",
    "state.list": "look",
    "state.set": "work",
    "state.evaluate": "look",
    "state.wait": "look",
    "action.list": "look",
    "action.register": "work",
    "room.kick": "own",
    "room.role": "own",
}
"""The operations of a room that are listed, in this order, with the right that each needs."""


def why_not(room: Room, member: Member, right: Right, resolver: Resolver) -> str:
    """The code with which a present member is refused for want of a right; empty where the member has it. The resolver
    sees with the member's eyes."""
    life = room.state.lifecycle
    if right == "look":
        return "not_a_worker" if is_requester(member) else ""
    if right == "own" and member.agent != room.state.owner:
        return "not_owner"
    if room.state.closed:
        return "room_closed"
    if (code := alarm(life)) is not None:
        return code
    if right == "work" and is_requester(member):
        return "not_a_worker"
    return "agent_disabled" if right in ("speak", "work") and not resolver.is_enabled() else ""
