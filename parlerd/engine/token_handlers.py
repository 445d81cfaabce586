"""The handlers of tokens, and of the door over HTTP.

A token is made for the agent that asks, or narrowed from one by whoever holds it; the person sees and revokes all. For
a room at a relay the relay keeps the token, and `granted` asks for it. Not here: making tokens (`minting`), and what is
done with one (`bearers`). Above: the engine.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.grants import joiner_of
from parlerd.core.identities import AgentRecord
from parlerd.core.model import RoomId
from parlerd.core.tokens import Token
from parlerd.engine.bearers import Bearers, WebPort
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.granted import Made, TokensThere, is_there
from parlerd.engine.handles import LOCAL
from parlerd.engine.handling import handles
from parlerd.engine.join_keys import end_joins, room_to_join
from parlerd.engine.key_text import SHORT_ID
from parlerd.engine.knocks import would_knock
from parlerd.engine.lookup import room_of
from parlerd.engine.minting import Tokens
from parlerd.engine.person import require_person
from parlerd.engine.reading import handle_of
from parlerd.engine.session_keys import SessionKeys
from parlerd.operations import types as t

NO_ROOM: Final = RoomId("")
"""The room of a token that is of none, before it opened one."""


class TokenHandlers:
    """The handlers of `token.mint`, `token.narrow`, `token.rotate`, `token.list`, `token.revoke` and `http.serve`."""

    def __init__(
        self, desk: Desk, bearers: Bearers, tokens: Tokens, there: TokensThere, web: WebPort, keys: SessionKeys
    ) -> None:
        self._desk = desk
        self._keys = keys
        self._bearers = bearers
        self._tokens = tokens
        self._there = there
        self._web = web

    @handles("token.mint")
    async def mint(self, caller: Caller, params: t.MintToken) -> t.MintedToken:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        if params.rooms and (params.room is not None or params.join):
            raise Refused("invalid_param", "A token of several rooms names them all, and joins none.", param="rooms")
        if params.join:
            _require_no_opens(params.opens)
            if params.name:
                raise _no_name()
            if params.invite:
                return await self._mint_for_invite(caller, me, params)
            handle = await room_to_join(desk, me, params.room, person=True)
            if handle.home_name != LOCAL and not params.here:
                return await self._told(
                    await self._there.mint_joining(
                        desk.by(caller, me),
                        me,
                        handle,
                        access=params.access,
                        days=params.days,
                        uses=params.uses or 1,
                        approval=params.approval,
                        called=params.label,
                    )
                )
            if params.approval and not handle.aggregate.state.lifecycle.approval:
                said = "Nobody is asked about who comes here, unless it is by an invite that asks."
                raise Refused("invalid_param", said, param="approval", hint="parler invite --approval makes one.")
            text, token = await self._tokens.mint_joining(
                caller,
                me,
                handle,
                access=params.access,
                days=params.days,
                label=params.label,
                uses=params.uses or 1,
                approval=params.approval,
            )
            return t.MintedToken(token=text, info=await self._info(token), url=self._web.url)
        _require_no_uses(params.uses)
        if params.approval:
            raise Refused("invalid_param", "Only about those who join with a token anybody is asked.", param="approval")
        if params.invite:
            raise Refused("invalid_param", "Only a token that joins is of an invite.", param="invite")
        # One that opens rooms need not be of any before.
        meant = params.rooms or (() if params.opens and params.room is None else (params.room,))
        handles = [(await room_of(desk, me, each))[0] for each in meant]
        rooms = list(dict.fromkeys([handle.room for handle in handles]))
        # A token of several rooms is one of this machine: each relay has tokens of its own.
        is_there = len(rooms) == 1 and not params.rooms and handles[0].home_name != LOCAL and not params.here
        if params.name and not is_there:
            raise _no_name()
        if is_there:
            made = await self._there.mint(
                desk.by(caller, me),
                me,
                handles[0],
                access=params.access,
                days=params.days,
                name=params.name,
                called=params.label,
                opens=params.opens,
            )
            return await self._told(made)
        text, token = await self._tokens.mint(
            desk.by(caller, me),
            me,
            rooms[0] if rooms else NO_ROOM,
            access=dict.fromkeys((*params.access, "open")) if params.opens else params.access,
            days=params.days,
            label=params.label,
            rooms=rooms if len(rooms) > 1 or params.opens else (),
            opens=params.opens,
        )
        return t.MintedToken(token=text, info=await self._info(token), url=self._web.url)

    async def _told(self, made: Made) -> t.MintedToken:
        info = await self._info(made.token)
        return t.MintedToken(token=made.text, info=info, url=made.url, authority_file=made.authority_file)

    async def _mint_for_invite(self, caller: Caller, me: AgentRecord, params: t.MintToken) -> t.MintedToken:
        """A token that joins with the key of an invite: of the person's own room, or one that somebody gave them."""
        desk = self._desk
        if params.room is not None:
            raise Refused("invalid_param", "An invite says which room it is: name no other.", param="room")
        key, room = await self._keys.find(caller, me, params.invite)
        handle = await desk.rooms.get(room)
        state = (await handle.quiet()).state
        if state.kind not in ("session", "channel", "service"):
            raise Refused("invalid_param", "Nobody joins a room of two agents with a token.", param="invite")
        try:
            would_knock(desk, caller.facts, handle.aggregate, key)
        except Refused as error:
            if error.code == "unknown_key":
                raise self._keys.unknown(caller) from error
            raise
        text, token = await self._tokens.mint_for_invite(
            desk.by(caller, me),
            me,
            handle,
            key,
            access=params.access,
            days=params.days,
            label=params.label,
            uses=params.uses or 1,
            approval=params.approval,
        )
        return t.MintedToken(token=text, info=await self._info(token), url=self._web.url)

    @handles("token.narrow")
    async def narrow(self, caller: Caller, params: t.NarrowToken) -> t.MintedToken:
        desk, parent = self._desk, caller.facts.authority.token
        me = await desk.me(caller)
        held = desk.rooms.home.aggregate.tokens.holding(parent, desk.clock.now())
        if held is None:
            raise Refused("no_such_token")
        # One of the rooms of this token, or all of them: the desk knows no others.
        room = held.room if params.room is None else (await room_of(desk, me, params.room))[0].room
        if not room and not params.opens:
            raise Refused("no_such_room", "Your token is of no room yet.", tool_hint="POST /v1/rooms opens one.")
        if params.join:
            _require_no_opens(params.opens)
            handle = await room_to_join(desk, me, room, person=False)
            text, token = await self._tokens.mint_joining(
                caller,
                me,
                handle,
                access=params.access,
                days=params.days,
                label=params.label,
                uses=params.uses or 1,
                parent=parent,
            )
            return t.MintedToken(token=text, info=await self._info(token), url=self._web.url)
        _require_no_uses(params.uses)
        text, token = await self._tokens.mint(
            desk.by(caller, me),
            me,
            room,
            access=params.access,
            days=params.days,
            label=params.label,
            parent=parent,
            authority="token",
            rooms=held.rooms if params.room is None else (room,) if params.opens else (),
            opens=params.opens,
        )
        return t.MintedToken(token=text, info=await self._info(token), url=self._web.url)

    @handles("token.rotate")
    async def rotate(self, caller: Caller, params: t.RotateToken) -> t.MintedToken:
        desk, old = self._desk, caller.facts.authority.token
        me = await desk.me(caller)
        with trio.CancelScope(shield=True):
            ended = desk.rooms.home.aggregate.tokens.tree(old)
            text, token = await self._tokens.rotate(desk.by(caller, me), old)
            rotated = t.MintedToken(token=text, info=await self._info(token), url=self._web.url)
            await self._bearers.end(ended)
        return rotated

    @handles("token.list")
    async def list_tokens(self, caller: Caller, params: t.ListTokens) -> t.TokenList:
        now = self._desk.clock.now()
        held = [token for token in self._desk.rooms.home.aggregate.tokens.all() if now < token.expires_at]
        return t.TokenList(tokens=[await self._info(token) for token in held])

    @handles("token.revoke")
    async def revoke(self, caller: Caller, params: t.RevokeToken) -> t.RevokedToken:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        command = c.RevokeToken(operation="token.revoke", token=params.id)
        held = desk.rooms.home.aggregate.tokens.state.tokens.get(params.id)
        if held is not None and is_there(held.agent):
            await self._there.revoke(desk.by(caller, me), held)
        # Whoever asked may go away while the fact is stored, and what is under way ends all the same.
        with trio.CancelScope(shield=True):
            ended, by = desk.rooms.home.aggregate.tokens.tree(params.id), desk.by(caller, me)
            joining = [each for each in desk.rooms.home.aggregate.tokens.all() if each.id in ended and each.uses]
            waiting = [(token, desk.rooms.home.aggregate.tokens.joins_of(token.id)) for token in joining]
            await desk.rooms.home.submit(command, by)
            await self._bearers.end(ended)
            for token, joins in waiting:
                await end_joins(desk, by, token, joins)
        return t.RevokedToken(id=params.id)

    @handles("http.serve")
    async def serve(self, caller: Caller, params: t.ServeHttp) -> t.ServesHttp:
        require_person(self._desk, caller, in_editor=True)
        await trio.lowlevel.checkpoint()
        if params.stop:
            await self._web.close()
            return t.ServesHttp(url=None, open=False)
        return t.ServesHttp(url=await self._web.open(params.port, lets_in=params.open), open=self._web.lets_in)

    async def _info(self, token: Token) -> t.TokenInfo:
        agents = self._desk.rooms.home.aggregate.state.agents
        name, called, left = "", str(token.agent), self._desk.rooms.home.aggregate.tokens.uses_left(token)
        rooms: list[str] = list(token.rooms)
        opens_left = self._desk.rooms.home.aggregate.tokens.opens_left(token)
        if token.opens and is_there(token.agent) and token.agent not in agents:
            # The relay counts what is opened; here it is seen in which rooms its agent is or was.
            seen = [each.room for each in await self._desk.library.memberships(token.agent)]
            rooms = list(dict.fromkeys((*rooms, *seen)))
            opens_left = max(0, token.opens - len(rooms) + len(token.rooms))
        try:
            state = (await self._desk.rooms.seen(token.room)).state
        except Refused:
            pass
        else:
            name, called = state.name, handle_of(state, token.agent) or called
            if token.uses and is_there(token.agent):
                # Nobody there minted it but the room's owner, and the relay counts who comes; here they are seen to be
                # in the room.
                called = handle_of(state, state.owner)
                given = [member.given.grant for member in state.members.values() if member.given is not None]
                left -= sum(joiner_of(each) == token.agent for each in given)
        return t.TokenInfo(
            id=token.id,
            agent=agents[token.agent].name if token.agent in agents else called,
            room=token.room,
            access=[access for access in t.ACCESSES if access in token.access],
            minted_at=token.minted_at,
            expires_at=token.expires_at,
            label=token.label,
            parent=token.parent,
            used_at=self._bearers.last_use(token.id),
            name=name,
            kind=token.kind,
            rooms=rooms,
            uses=token.uses,
            uses_left=left,
            invite=token.key[:SHORT_ID],
            opens=token.opens,
            opens_left=opens_left,
        )


def _no_name() -> Refused:
    said = "Only an agent at a relay is given a name: any other token acts as the agent that mints it."
    return Refused("invalid_param", said, param="name")


def _require_no_opens(opens: int) -> None:
    """Refuse rooms that a token is to open that joins."""
    if opens:
        raise Refused("invalid_param", "A token that joins opens no room.", param="opens")


def _require_no_uses(uses: int | None) -> None:
    """Refuse uses of a token that does not join: it has no number of them."""
    if uses is not None:
        raise Refused("invalid_param", "Only a token that joins has a number of uses.", param="uses")
