"""A room of another home under test: what its home tells of it, arriving in a mirror of the home under test.

`Elsewhere` is that home as far as a mirror can tell, with an owner who signs what is said there. Verified by
`tests/engine/test_handles.py`, where what is read of a mirror is what was said there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import Envelope, TextPart, encode_envelope, root_chain
from parlerd.core.model import AgentId, By, HomeId, MessageId, Millis, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Arrived
from parlerd.engine.engine import Engine
from parlerd.engine.handles import MirrorRoom
from parlerd.identity.signatures import SigningKey

LINE: Final = bytes(32)


@dataclass
class Elsewhere:
    """A room of another person's home, with its owner in it. `actor` keeps the mirror."""

    room: RoomId
    actor: RoomActor[Room]
    owner_key: SigningKey
    principal: PrincipalId
    posted: int = 0
    previous: bytes = b""
    at: int = 1_000

    @property
    def owner(self) -> AgentId:
        return AgentId(self.owner_key.id)

    def by(self, agent: AgentId | None = None, principal: PrincipalId | None = None) -> By:
        return By(agent or self.owner, principal or self.principal, "", "codex", "mcp")

    async def arrive(self, *events: e.RoomEvent, by: By | None = None, words: Arrived | None = None) -> None:
        """That home tells of these facts."""
        self.at += 1_000
        await self.actor.submit(c.Arrive(events=events, at=Millis(self.at)), by or self.by(), words)

    async def let_in(self, agent: AgentId, principal: PrincipalId, name: str) -> None:
        """An agent of the home under test is a member there now."""
        joined = e.MemberJoined(agent=agent, principal=principal, handle=name, host="shell")
        await self.arrive(joined, by=self.by(agent, principal))

    async def say(
        self, text: str, *, id: str = "", erased: bool = False, proved: bool = True, forged: bool = False
    ) -> None:
        """The owner says something there. `forged`: somebody else signed it, and whoever checked did not look."""
        self.posted += 1
        name = MessageId(id or f"m_elsewhere{self.posted}")
        envelope = Envelope(
            v=2,
            id=name,
            room=self.room,
            key=f"k{self.posted}",
            kind="text",
            chain=root_chain(name),
            hops=0,
            authored_at=Millis(self.at),
            counter=self.posted,
            previous=self.previous,
            line=LINE,
            nonce=bytes(16),
            host=self.by().host,
            via=self.by().via,
            parts=(TextPart(text),),
        )
        body = encode_envelope(envelope)
        self.previous = hashlib.sha256(body).digest()
        event = e.MessagePosted(
            id=name, kind="text", chain=envelope.chain, counter=envelope.counter, envelope=self.previous
        )
        key = SigningKey("agent", bytes(32)) if forged else self.owner_key
        words = Arrived(((body, key.sign("parler/message", body)),), "valid" if proved else "invalid")
        if erased:
            words = Arrived((None,), "invalid")
        await self.arrive(event, words=words)

    async def leave_out(self, public: int, **before: int) -> None:
        """That home tells what comes after so many public messages; `before` are the readers' numbers, by handle."""
        members = {member.handle: member.agent for member in self.actor.aggregate.state.members.values()}
        numbers = tuple((members[name], number) for name, number in before.items())
        await self.arrive(e.MirrorPlaced(public=public, line=LINE, before=numbers))


async def elsewhere(engine: Engine, *, name: str = "far", room: str = "r_far", public: int = 0) -> Elsewhere:
    """A room of another home, whose mirror begins in this engine after so many public messages."""
    owner = SigningKey("agent", hashlib.sha256(f"owner of {room}".encode()).digest())
    principal = PrincipalId(SigningKey("principal", hashlib.sha256(f"person of {room}".encode()).digest()).id)
    handle = await engine.rooms.create(RoomId(room), HomeId(principal))
    assert isinstance(handle, MirrorRoom)
    there = Elsewhere(RoomId(room), handle.actor, owner, principal)
    opening = e.RoomOpened(
        room=there.room,
        home=HomeId(principal),
        kind="session",
        name=name,
        topic="of another home",
        owner=there.owner,
        owner_principal=principal,
        history="full",
        approval=True,
        approver="person",
    )
    await there.arrive(opening, e.MirrorPlaced(public=public, line=LINE))
    await there.arrive(e.MemberJoined(agent=there.owner, principal=principal, handle="olive", host="codex"))
    return there
