"""A room on a relay whose owner lets agents in that have only a token: two daemons, the relay, its door over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parlerd.core.model import AgentId, PrincipalId, RoomId
from parlerd.core.tokens import Token
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.engine import Engine
from parlerd.operations import types as t
from parlerd.web.app import Web, is_upload
from tests.support.engine import Party, Served
from tests.support.http import Answer, OverHttp, served
from tests.support.relayed import Home, Relay, Wires, homes_of


@dataclass
class Meeting:
    """Alice, of Ann's home, owns a room on the relay, and Bob, of Ben's home, is in it."""

    wires: Wires
    relay: Relay
    engine: Engine
    """The relay's."""
    ann: Home
    ben: Home
    ann_served: Served
    ben_served: Served
    alice: Party
    bob: Party
    room: str
    web: OverHttp

    async def mints(self, name: str = "ci", **rest: Any) -> t.MintedToken:
        """Ann lets the relay speak for an agent of this name."""
        return await self.alice.ask("token.mint", t.MintToken(room=self.room, name=name, **rest), t.MintedToken)

    async def revokes(self, id: str) -> None:
        await self.alice.ask("token.revoke", t.RevokeToken(id=id), t.RevokedToken)

    async def says(self, token: str, text: str, **rest: Any) -> Answer:
        return await self.web.ask(f"POST /v1/rooms/{self.room}/messages", {"text": text, **rest}, token=token)

    def alice_id(self) -> AgentId:
        agents = self.ann_served.engine.desk.rooms.home.aggregate.state.agents
        return next(id for id, record in agents.items() if record.name == "alice")

    def token(self) -> Token:
        """The newest token that the relay knows."""
        return list(self.engine.desk.rooms.home.aggregate.tokens.all())[-1]

    def agent(self) -> AgentId:
        """Whose that is."""
        return self.token().agent

    async def shown(self) -> t.GrantAtRoom:
        """The newest grant, as every member's machine is shown it, with the digest of its token."""
        room = RoomId(self.room)
        members = (await self.engine.rooms.get(room)).aggregate.state.members
        member = members[self.agent()]
        assert member.given is not None
        body = (await self.engine.desk.library.bodies(room, [member.first]))[member.first]
        return t.GrantAtRoom(
            room=room,
            grant=body.body,
            grant_signature=body.signature,
            name=member.given.name,
            token=self.token().digest,
        )

    async def reads(self, party: Party) -> list[tuple[str, str, str]]:
        """What comes next to somebody: who says what, and what bears it."""
        page = await party.recv()
        return [(message.author.name, message.text, message.verified) for message in page.messages]


@asynccontextmanager
async def over_relay(engine: Engine) -> AsyncIterator[OverHttp]:
    """The relay's application."""
    authority = of_visitor(PrincipalId(engine.desk.keys.id), is_let_in=False, is_own=False)

    def stranger(peer: object) -> Caller:
        return Caller(Facts("http", "http", authority))

    async with served(Web(engine, engine.bearers, stranger).app, is_upload=is_upload) as (door, nursery):
        yield OverHttp(door, nursery)


@asynccontextmanager
async def meeting(folder: Path) -> AsyncIterator[Meeting]:
    wires, relay, home = homes_of(folder)
    ann, ben = home("ann"), home("ben")
    async with (
        relay.serving() as engine,
        ann.serving() as ann_served,
        ben.serving() as ben_served,
        over_relay(engine) as web,
    ):
        alice, bob = await ann_served.agent("alice"), await ben_served.agent("bob")
        opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
        waits = await bob.join(opened.session_key)
        await (await ann_served.person()).approve("bob", join_code=waits.join_code)
        await bob.come_in(opened.session_key)
        yield Meeting(wires, relay, engine, ann, ben, ann_served, ben_served, alice, bob, opened.room, web)
