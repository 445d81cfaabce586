"""Whoever acts as an agent with a token: who that is, and the end of what is under way when a token holds no more; the
handlers of tokens, and of the door over HTTP.

    parler token mint --> a text, told once --> Authorization: Bearer TEXT --> `caller_of` --> the engine, as the agent

A token stands for one agent in one room (`Authority.rooms`), so there is no other room for it, whatever it asks. What
it may be used for, the door asks of the token's record.

Not here: HTTP (`parlerd.web`), and what a token is (`core.tokens`). Above: the engine. Below: the home room's line.
Invariant: what is under way with a token ends when the token is revoked or expires.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import trio

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.model import Millis
from parlerd.core.tokens import DAY_MS, Token
from parlerd.engine.authority import of_token
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.lookup import room_of
from parlerd.engine.person import require_person
from parlerd.engine.scheduler import Scheduler
from parlerd.identity import tokens
from parlerd.operations import types as t


class WebPort(Protocol):
    """The door over HTTP."""

    @property
    def url(self) -> str | None:
        """Where it answers; None while it is closed."""
        ...

    async def open(self, port: int) -> str:
        """Answer at this port of this machine, or at any for 0: where. Raises `Refused(port_taken)`."""
        ...

    def close(self) -> None: ...


class NoWeb:
    """Where no door over HTTP can be opened."""

    url: str | None = None

    async def open(self, port: int) -> str:
        raise Refused("unknown_operation", operation="http.serve")

    def close(self) -> None:
        return


class Bearers:
    """The callers that tokens stand for."""

    def __init__(self, desk: Desk, scheduler: Scheduler) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._callers: dict[str, Caller] = {}
        """The caller of each token that was used, by the token's id."""
        self._under_way: dict[str, set[trio.CancelScope]] = {}
        """What is under way with each token."""

    async def caller_of(self, text: str, stranger: Caller) -> tuple[Token, Caller]:
        """Who shows this text, with its token. `stranger` is whoever the connection is without one: wrong texts count
        as guesses of it, as wrong keys do. A right one is not slowed down by them, because nobody guesses 256 bits.
        Raises `Refused`: `token_invalid`, `throttled`."""
        desk, token = self._desk, None
        agents = desk.rooms.home.aggregate.state.agents
        if tokens.is_token(text):
            token = desk.rooms.home.aggregate.tokens.find(tokens.digest_of(text), desk.clock.now())
        if token is None or token.agent not in agents:
            await desk.throttle.before(stranger)
            desk.throttle.wrong(stranger)
            raise Refused("token_invalid")
        caller = self._callers.get(token.id)
        if caller is None:
            authority = of_token(agents[token.agent], token.room)
            caller = self._callers[token.id] = Caller(Facts(desk.random.new("s"), "http", authority))
            self._scheduler.put(_ends(token.id), token.expires_at, partial(self._expire, token.id))
        return token, caller

    @contextmanager
    def using(self, token: Token) -> Iterator[trio.CancelScope]:
        """While something is under way with a token: cancelled when the token holds no more. Raises
        `Refused(token_invalid)` where that is so already: the token was shown a while ago."""
        if self._desk.rooms.home.aggregate.tokens.holding(token.id, self._desk.clock.now()) is None:
            raise Refused("token_invalid")
        with trio.CancelScope() as scope:
            under_way = self._under_way.setdefault(token.id, set())
            under_way.add(scope)
            try:
                yield scope
            finally:
                under_way.discard(scope)
                if not under_way:
                    self._under_way.pop(token.id, None)

    def count(self, token: Token) -> int:
        """How much is under way with a token."""
        return len(self._under_way.get(token.id, ()))

    def end(self, id: str) -> None:
        """A token holds no more."""
        self._scheduler.drop(_ends(id))
        self._callers.pop(id, None)
        for scope in self._under_way.get(id, ()):
            scope.cancel()

    async def _expire(self, id: str) -> None:
        self.end(id)
        await trio.lowlevel.checkpoint()


def _ends(id: str) -> tuple[str, str]:
    """The name under which the scheduler knows the end of a token."""
    return "token", id


class TokenHandlers:
    """The handlers of `token.mint`, `token.list`, `token.revoke` and `http.serve`."""

    def __init__(self, desk: Desk, bearers: Bearers, web: WebPort) -> None:
        self._desk = desk
        self._bearers = bearers
        self._web = web

    @handles("token.mint")
    async def mint(self, caller: Caller, params: t.MintToken) -> t.MintedToken:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        handle, _ = await room_of(desk, me, params.room)
        text, now = tokens.made_of(desk.random.bytes(tokens.SECRET_BYTES)), desk.clock.now()
        command = c.MintToken(
            operation="token.mint",
            digest=tokens.digest_of(text),
            agent=me.id,
            room=handle.room,
            access=tuple(dict.fromkeys(params.access)),
            wall=now,
            expires_at=Millis(now + params.days * DAY_MS),
            label=params.label,
        )
        await desk.rooms.home.submit(command, desk.by(caller, me))
        token = desk.rooms.home.aggregate.tokens.find(command.digest, now)
        assert token is not None
        return t.MintedToken(token=text, info=await self._info(token), url=self._web.url)

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
        # Whoever asked may go away while the fact is stored, and what is under way ends all the same.
        with trio.CancelScope(shield=True):
            await desk.rooms.home.submit(command, desk.by(caller, me))
            self._bearers.end(params.id)
        return t.RevokedToken(id=params.id)

    @handles("http.serve")
    async def serve(self, caller: Caller, params: t.ServeHttp) -> t.ServesHttp:
        require_person(self._desk, caller, in_editor=True)
        await trio.lowlevel.checkpoint()
        if params.stop:
            self._web.close()
            return t.ServesHttp(url=None)
        return t.ServesHttp(url=self._web.url or await self._web.open(params.port))

    async def _info(self, token: Token) -> t.TokenInfo:
        agents = self._desk.rooms.home.aggregate.state.agents
        try:
            name = (await self._desk.rooms.get(token.room)).aggregate.state.name
        except Refused:
            name = ""
        return t.TokenInfo(
            id=token.id,
            agent=agents[token.agent].name if token.agent in agents else token.agent,
            room=token.room,
            access=[access for access in t.ACCESSES if access in token.access],
            minted_at=token.minted_at,
            expires_at=token.expires_at,
            label=token.label,
            name=name,
        )
