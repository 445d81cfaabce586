"""Whoever acts as an agent with a token: who that is, and the end of what is under way when a token holds no more; the
handlers of tokens, and of the door over HTTP.

    parler token mint --> a text, told once --> Authorization: Bearer TEXT --> `caller_of` --> the engine, as the agent

A token stands for one agent in its room, or its rooms (`Authority.rooms`), so there is no other room for it, whatever
it asks. What it may be used for is a part of the authority, which the engine checks.

Not here: HTTP (`parlerd.web`), and what a token is (`core.tokens`). Above: the engine. Below: the home room's line.
Invariant: what is under way with a token ends when the token is revoked or expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.grants import joiner_of
from parlerd.core.identities import AgentRecord
from parlerd.core.model import HOME_ROOM, AgentId, By, KeyId, Millis, RoomId, TokenKind
from parlerd.core.tokens import DAY_MS, Join, Token
from parlerd.engine.authority import of_joining_token, of_token
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.desk import Desk
from parlerd.engine.granted import Made, TokensThere, is_there
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.join_keys import end_joins, end_key, make_key, room_to_join
from parlerd.engine.key_text import SHORT_ID
from parlerd.engine.knocks import would_knock
from parlerd.engine.lookup import room_of
from parlerd.engine.person import require_person
from parlerd.engine.reading import handle_of
from parlerd.engine.scheduler import Scheduler
from parlerd.engine.session_keys import SessionKeys
from parlerd.engine.under_way import UnderWay
from parlerd.identity import tokens
from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT

UNSEEN: Final = PeerProcess()
"""The other side of a connection whose process was not found."""
NO_ROOM: Final = RoomId("")
"""The room of a token that is of none, before it opened one."""
SILENT_MS: Final = 600_000
"""How long after its last call an agent with a token counts as there."""


class WebPort(Protocol):
    """The door over HTTP."""

    @property
    def url(self) -> str | None:
        """Where it answers; None while it is closed."""
        ...

    @property
    def lets_in(self) -> bool:
        """Whether a program that has no token may open a room, and come into one."""
        ...

    async def open(self, port: int, *, lets_in: bool) -> str:
        """Answer at this port of this machine, or at any for 0: where. A door that is open stays where it is. Raises
        `Refused(port_taken)`."""
        ...

    async def close(self) -> None: ...


class NoWeb:
    """Where no door over HTTP can be opened."""

    url: str | None = None
    lets_in = False

    async def open(self, port: int, *, lets_in: bool) -> str:
        raise Refused("unknown_operation", operation="http.serve")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


class Bearers:
    """The callers that tokens stand for."""

    def __init__(self, desk: Desk, scheduler: Scheduler) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._callers: dict[str, Caller] = {}
        """The caller of each token that was used, by the token's id."""
        self._under_way: Final = UnderWay()
        """What is under way with each token."""
        self._used: dict[str, Millis] = {}
        """When each token that still holds was last shown, since the daemon began."""

    async def caller_of(self, text: str, stranger: Caller, seen: PeerProcess = UNSEEN) -> tuple[Token, Caller]:
        """Who shows this text, with its token. `stranger` is whoever the connection is without one: wrong texts count
        as guesses of it, as wrong keys do. A right one is not slowed down by them, because nobody guesses 256 bits.
        `seen` is the process on the other side, where somebody joins and the process could be found. Raises `Refused`:
        `token_invalid`, `throttled`."""
        desk, token = self._desk, self.shown(text)
        agents = desk.rooms.home.aggregate.state.agents
        if token is None:
            await desk.throttle.before(stranger)
            desk.throttle.wrong(stranger)
            raise Refused("token_invalid")
        self._used[token.id] = desk.clock.now()
        if self._scheduler.moment(("token", token.id)) is None:
            self._scheduler.put(("token", token.id), token.expires_at, partial(self.end, (token.id,)))
        if token.kind == "aj":
            # Nobody is there who could be seen: each request is somebody who wants to become an agent.
            joining = of_joining_token(agents[token.agent].principal, token, is_seen=bool(seen.pid))
            return token, Caller(Facts(desk.random.new("s"), "http", joining, peer=seen))
        caller = self._callers.get(token.id)
        if caller is None:
            authority = of_token(agents[token.agent], token)
            caller = self._callers[token.id] = Caller(Facts(token.id, "http", authority))
            desk.seats.connect(caller)
        elif caller.facts.authority.rooms != token.within:
            # It opened rooms since, or another did that was made of it.
            caller.facts = replace(caller.facts, authority=of_token(agents[token.agent], token))
        if self._scheduler.moment(("bearer", token.id)) is None:
            self._stays(token.id, desk.clock.now())
        return token, caller

    async def handle_of(self, token: Token, wanted: str) -> str:
        """What the agent of a token is called in the room of the token that is meant, by its id or its name, and in the
        first of them where it is none; empty where the room is gone."""
        found = ""
        for room in token.rooms or (token.room,):
            try:
                state = (await self._desk.rooms.get(room)).aggregate.state
            except Refused:
                continue
            if wanted in (state.room, state.name):
                return handle_of(state, token.agent)
            found = found or handle_of(state, token.agent)
        return found

    def shown(self, text: str) -> Token | None:
        """The token that holds now and has this text. Nothing is counted: whoever goes on asks `caller_of`."""
        if not tokens.is_token(text):
            return None
        home = self._desk.rooms.home.aggregate
        token = home.tokens.find(tokens.digest_of(text), self._desk.clock.now())
        return None if token is None or token.agent not in home.state.agents else token

    @contextmanager
    def using(self, token: Token) -> Iterator[trio.CancelScope]:
        """While something is under way with a token: cancelled when the token holds no more. Raises
        `Refused(token_invalid)` where that is so already: the token was shown a while ago."""
        if self._desk.rooms.home.aggregate.tokens.holding(token.id, self._desk.clock.now()) is None:
            raise Refused("token_invalid")
        with self._under_way.entered(token.id) as scope:
            yield scope

    def last_use(self, id: str) -> Millis:
        """When a token was last shown; 0 for not since the daemon began."""
        return self._used.get(id, Millis(0))

    def count(self, token: Token) -> int:
        """How much is under way with a token."""
        return self._under_way.count(token.id)

    async def end(self, ids: Iterable[str]) -> None:
        """These tokens hold no more."""
        for id in ids:
            self._used.pop(id, None)
            self._under_way.cancel(id)
            await self._goes(id)

    def _stays(self, id: str, since: int) -> None:
        """Whoever has a token is there until it was silent for a while: there is no connection to tell that by."""
        self._scheduler.put(("bearer", id), Millis(since + SILENT_MS), partial(self._look, id))

    async def _look(self, id: str) -> None:
        caller, now = self._callers.get(id), self._desk.clock.now()
        # What acted while the clock stood ahead is not there for years.
        since = now if caller is None or self._under_way.count(id) else min(caller.last_act, now)
        if caller is None or now - since >= SILENT_MS:
            await self._goes(id)
        else:
            self._stays(id, since)
            await trio.lowlevel.checkpoint()

    async def _goes(self, id: str) -> None:
        """Whoever has a token is there no more."""
        for name in ("token", "bearer"):
            self._scheduler.drop((name, id))
        caller = self._callers.pop(id, None)
        if caller is not None:
            await self._desk.seats.disconnect(caller)


class Tokens:
    """Makes tokens."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def mint(
        self,
        by: By,
        agent: AgentRecord,
        room: RoomId,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        parent: str = "",
        authority: str = "person",
        join: str = "",
        rooms: Sequence[RoomId] = (),
        opens: int = 0,
    ) -> tuple[str, Token]:
        """A token of an agent in a room, or in several `rooms`, of which the room is the first, with which so many more
        may be opened: its text, which is nowhere else, and its record. One that is made of a
        `parent` holds no longer than that; that of a `join` is made once, and the same each time. Raises `Refused`:
        `too_many_tokens`, `no_such_token`, `not_permitted`, `invalid_param`."""
        now, kind = self._desk.clock.now(), _kind_of(rooms, opens)
        text = self._secret(agent.id, join) if join else self._drawn(kind)
        digest = tokens.digest_of(text)
        command = self._command(agent, room, digest, access=access, days=days, label=label, parent=parent)
        command = msgspec.structs.replace(
            command, authority=authority, join=join, kind=kind, rooms=tuple(rooms), opens=opens
        )
        await self._desk.rooms.home.submit(command, by)
        return text, self._found(digest, now)

    async def mint_joining(
        self,
        caller: Caller,
        me: AgentRecord,
        handle: RoomHandle,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        uses: int,
        parent: str = "",
        approval: bool = False,
    ) -> tuple[str, Token]:
        """A token with which new agents come into a room: the person's, who with `approval` is asked about each all the
        same, or made of a `parent` by its agent. The key of
        the room that stands behind it is there before it, and ends where it does not come to be. Raises `Refused` as
        `mint` does, and as the room refuses a key."""
        desk, text, is_person = self._desk, self._drawn("aj"), not parent
        now, by, digest = desk.clock.now(), desk.by(caller, me), tokens.digest_of(text)
        command = self._command(me, handle.room, digest, access=access, days=days, label=label, parent=parent)
        command = msgspec.structs.replace(
            command,
            authority="person" if is_person else "token",
            kind="aj",
            uses=uses,
            admits=is_person and not approval,
        )
        await make_key(desk, me, handle, by, digest=digest, until=command.expires_at, uses=uses, person=is_person)
        with trio.CancelScope(shield=True):
            try:
                await desk.rooms.home.submit(command, by)
            except ParlerError:
                # By the home itself: the token of whoever asked may be why, and nothing is done with that any more.
                home = msgspec.structs.replace(by, session=HOME_ROOM)
                await end_key(desk, home, handle.room, digest)
                raise
        return text, self._found(digest, now)

    def _command(
        self,
        agent: AgentRecord,
        room: RoomId,
        digest: bytes,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        parent: str,
    ) -> c.MintToken:
        now = self._desk.clock.now()
        until = Millis(now + days * DAY_MS)
        if parent and (of := self._desk.rooms.home.aggregate.tokens.holding(parent, now)) is not None:
            until = min(until, of.expires_at)
        return c.MintToken(
            operation="token.mint",
            digest=digest,
            agent=agent.id,
            room=room,
            access=tuple(dict.fromkeys(access)),
            wall=now,
            expires_at=until,
            label=label,
            parent=parent,
            contract=CONTRACT,
        )

    async def mint_for_invite(
        self,
        by: By,
        me: AgentRecord,
        handle: RoomHandle,
        key: KeyId,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        uses: int,
        approval: bool,
    ) -> tuple[str, Token]:
        """The person's token with which new agents knock with the key of an invite. They are let in by the person's
        word where the room is that person's, who does not want to be asked all the same (`approval`). Where it is
        another's, that one decides as about every knock. Raises `Refused` as `mint` does."""
        text = self._drawn("aj")
        is_own = handle.aggregate.state.owner_principal == me.principal
        digest = tokens.digest_of(text)
        command = self._command(me, handle.room, digest, access=access, days=days, label=label, parent="")
        command = msgspec.structs.replace(command, kind="aj", uses=uses, admits=is_own and not approval, key=key)
        await self._desk.rooms.home.submit(command, by)
        return text, self._found(digest, command.wall)

    async def mint_for_key(self, by: By, me: AgentRecord, room: RoomId, text: str, *, authority: str) -> Token:
        """The token of this text with which one new agent comes in that knocks with a session key."""
        command = self._command(
            me, room, tokens.digest_of(text), access=t.DEFAULT_ACCESS, days=t.DEFAULT_DAYS, label="", parent=""
        )
        command = msgspec.structs.replace(command, authority=authority, kind="aj", uses=1)
        await self._desk.rooms.home.submit(command, by)
        return self._found(command.digest, command.wall)

    def text_for(self, key: KeyId, request: str) -> str:
        """The text of the token that a session key is exchanged for by this request."""
        secret = self._desk.keys.opening_secret(AgentId(key), f"knock {request}")
        return tokens.made_of(secret, "aj")

    def text_of(self, join: Join) -> str:
        """The text of the token that a join came to."""
        return self._secret(join.agent, join.id)

    async def revoke(self, by: By, token: str) -> None:
        """Take a token back that nobody was told."""
        await self._desk.rooms.home.submit(c.RevokeToken(operation="token.revoke", token=token, authority="door"), by)

    async def rotate(self, by: By, token: str) -> tuple[str, Token]:
        """Another token in the place of this one. Raises `Refused`: `no_such_token`."""
        now = self._desk.clock.now()
        held = self._desk.rooms.home.aggregate.tokens.holding(token, now)
        text = self._drawn("as" if held is None else held.kind)
        digest = tokens.digest_of(text)
        command = c.RotateToken(operation="token.rotate", token=token, digest=digest, wall=now, contract=CONTRACT)
        await self._desk.rooms.home.submit(command, by)
        return text, self._found(digest, now)

    def _drawn(self, kind: TokenKind) -> str:
        return tokens.made_of(self._desk.random.bytes(tokens.SECRET_BYTES), kind)

    def _secret(self, agent: AgentId, join: str) -> str:
        """The text that follows from a join and from this home's secret. No idempotency key has a space in it."""
        return tokens.made_of(self._desk.keys.opening_secret(agent, f"join {join}"))

    def _found(self, digest: bytes, now: Millis) -> Token:
        token = self._desk.rooms.home.aggregate.tokens.find(digest, now)
        assert token is not None
        return token


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
            state = (await self._desk.rooms.get(token.room)).aggregate.state
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


def _kind_of(rooms: Sequence[RoomId], opens: int) -> TokenKind:
    """The kind of a token that acts: `rooms` are those of one of several, or of one with which so many are opened."""
    return "ah" if rooms or opens else "as"


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
