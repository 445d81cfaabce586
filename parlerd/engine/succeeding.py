"""How a sealed room goes on without its owner: the handler of `room.successor`, and what `room.continue` does where it
is asked for that.

    the owner, beforehand   names a person  -->  the next record says so  -->  everybody in has it
    the owner is away       the person who is named takes the room over, and makes the records from then on
                            anybody else opens another sealed room, and tells everybody in the old one its key

Only a record of the owner's can name somebody, so the room's home can invent no successor. Whether the owner is away is
that home's word, and no member could find out better: a home that says so wrongly brings nobody in but whom the owner
chose.

Not here: what a transfer needs (`core.membership`, `identity.proofs`), and the records (`uplink.turning`). Above:
`continuing`, the engine. Below: `departing`, `opening`, the rooms. Invariant: without the old owner's word nobody gets
the secrets of the old room who did not have them.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core.envelope import TextPart
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.lifecycle import require_open, require_sound
from parlerd.core.membership import resolve
from parlerd.core.model import MessageId, Millis, PrincipalId, is_principal_id
from parlerd.core.room import Room
from parlerd.core.turning import may_succeed
from parlerd.engine.authors import Draft
from parlerd.engine.callers import Caller
from parlerd.engine.departing import Departing
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.key_text import handed_on, typed_key_of
from parlerd.engine.observers import observed_room
from parlerd.engine.opening import Opened, Wanted, open_room
from parlerd.engine.person import require_person
from parlerd.engine.reading import handle_of
from parlerd.operations import types as t

KEY_TTL_MS: Final = Millis(30 * 86_400_000)
"""How long the key of the other room is good: the members may be away as well."""


class Succeeding:
    """The handlers by which a sealed room goes on without its owner."""

    def __init__(self, desk: Desk, everywhere: Desk, departing: Departing) -> None:
        self._desk = desk
        self._everywhere = everywhere
        """Also where the desk knows certain rooms alone: a new room is none of them."""
        self._departing = departing

    @handles("room.successor")
    async def name(self, caller: Caller, params: t.NameSuccessor) -> t.SuccessorNamed:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        if params.nobody is (params.person != ""):
            raise Refused("invalid_param", "Name a person, or say that it is nobody.", param="person")
        me = await desk.me(caller)
        actor, room, _ = await observed_room(desk, caller, me, params.room)
        if room.state.owner_principal != me.principal:
            raise Refused("not_owner")
        person = PrincipalId("") if params.nobody else _person(room, params.person)
        command = c.NameSuccessor(operation="room.successor", principal=me.principal, person=person)
        settled = await actor.submit(command, desk.by(caller, me))
        state = (await actor.quiet()).state
        return t.SuccessorNamed(
            room=actor.room,
            room_name=state.name,
            status="nothing" if settled.decision.answer == "nothing" else "named" if person else "nobody",
            principal=person,
            names=_names(room, person),
        )

    async def go_on(self, caller: Caller, params: t.ContinueRoom) -> t.ContinuedRoom:
        """What `room.continue` answers to whoever goes on without the owner. Asking again is harmless: it is the same
        room."""
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        actor, room, inside = await observed_room(desk, caller, me, params.room)
        state = room.state
        if not state.is_sealed:
            raise Refused("not_sealed")
        if state.kind == "dm":
            said = "A room of two does not go on without one of them."
            raise Refused("invalid_param", said, hint="Write to the other again: parler send --to NAME", param="room")
        if state.owner_principal == me.principal:
            raise Refused("invalid_param", "This room is yours: it goes on with you.", param="without_owner")
        if may_succeed(state.epochs, state.lifecycle.owners[-1].record, me.principal):
            taken = await self._departing.take_over(caller, t.TakeOver(room=actor.room, agent=inside[0].id))
            return t.ContinuedRoom(
                room=actor.room, name=state.name, status="taken_over", turns=_turns(desk, actor), owner=taken.name
            )
        require_open(state.lifecycle)
        require_sound(state.lifecycle)
        opened = await self._reopened(caller, inside[0], actor, room)
        new = (await opened.handle.quiet()).state
        typed = typed_key_of(self._everywhere, new, opened.key)
        assert typed is not None, "every key that is made here follows from its name"
        key = await handed_on(self._everywhere, opened.handle, typed)
        await self._tell(caller, inside[0], actor, f"{new.name}@{opened.handle.home_name}", key)
        return t.ContinuedRoom(
            room=opened.handle.room,
            name=new.name,
            status="reopened",
            turns=_turns(desk, opened.handle),
            owner=handle_of(new, new.owner),
            session_key=key,
        )

    async def _reopened(self, caller: Caller, me: AgentRecord, old: RoomHandle, room: Room) -> Opened:
        """Another sealed room at the same home, of the same kind. Whoever asks twice is given the same."""
        state = room.state
        members = sum(member.present for member in state.members.values())
        recap = f"This room goes on from '{state.name}', whose owner is away. What was said there stays there."
        key = f"without-owner-{old.room}"
        wanted = Wanted(
            operation="room.continue",
            idempotency_key=key,
            digest=input_digest(t.ContinueRoom(room=old.room, without_owner=True)),
            kind=state.kind,
            name=state.name,
            topic=state.topic,
            # What stands in a queue is work, and nobody who only asks is shown it.
            recap="" if state.kind == "service" else recap,
            home=state.home,
            approval=True,
            history=state.history,
            ref=self._desk.random.new("k"),
            ttl_ms=KEY_TTL_MS,
            max_uses=max(members, self._desk.settings.key_max_uses),
        )
        return await open_room(self._everywhere, caller, me, wanted)

    async def _tell(self, caller: Caller, me: AgentRecord, old: RoomHandle, where: str, key: str) -> None:
        """Tell everybody in the old room how to ask for a place in the other one. The key is for them and for nobody
        else, and the room's home reads none of it."""
        text = (
            f"The owner of this room is away, and it goes on as {where}. "
            f"To ask for a place there: parler session join {key}"
        )
        command = c.PostMessage(
            operation="message.send",
            idempotency_key=f"without-owner-{old.room}",
            input=input_digest(t.ContinueRoom(room=old.room, without_owner=True)),
            kind="text",
            id=MessageId(self._desk.random.new("m")),
        )
        await self._desk.quotas.take(me.id, bytes=len(text))
        seen = (await old.quiet()).state.shown
        await old.submit(command, self._desk.by(caller, me), Draft((TextPart(text),), seen))


def _names(room: Room, person: str) -> list[str]:
    """Under which handles the agents of a person read a sealed room; none for nobody."""
    return sorted(entry.handle for entry in room.state.epochs.roster.values() if person and entry.principal == person)


def _person(room: Room, meant: str) -> PrincipalId:
    """The person who is meant by an id, or by an agent of theirs that is in the room. Raises
    `Refused(no_such_agent)`."""
    if is_principal_id(meant):
        return PrincipalId(meant)
    return room.state.members[resolve(room.state.members, meant)].principal


def _turns(desk: Desk, actor: RoomHandle) -> int:
    return desk.rooms.home.aggregate.loops.most(actor.room)
