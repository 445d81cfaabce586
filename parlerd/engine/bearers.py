"""Whoever acts as an agent with a token: who that is, and the end of what is under way when a token holds no more.

    parler token mint --> a text, told once --> Authorization: Bearer TEXT --> `caller_of` --> the engine, as the agent

A token stands for one agent in its room, or its rooms (`Authority.rooms`), so there is no other room for it, whatever
it asks. What it may be used for is a part of the authority, which the engine checks.

Not here: HTTP (`parlerd.web`), what a token is (`core.tokens`), and how one comes to be (`minting`). Above: the engine.
Below: the home room's line. Invariant: what is under way with a token ends when the token is revoked or expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import trio

from parlerd.core.errors import Refused
from parlerd.core.model import Millis
from parlerd.core.tokens import Token
from parlerd.engine.authority import of_joining_token, of_token
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.desk import Desk
from parlerd.engine.reading import handle_of
from parlerd.engine.scheduler import Scheduler
from parlerd.engine.under_way import UnderWay
from parlerd.identity import tokens

UNSEEN: Final = PeerProcess()
"""The other side of a connection whose process was not found."""
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
        token = self.shown(text)
        if token is None:
            await self._desk.throttle.before(stranger)
            self._desk.throttle.wrong(stranger)
            raise Refused("token_invalid")
        return token, self._acting(token, seen)

    def caller_with(self, id: str) -> Caller:
        """Who acts with the token of this id, which was shown at another relay of this home. Raises
        `Refused(token_invalid)`."""
        home = self._desk.rooms.home.aggregate
        token = home.tokens.holding(id, self._desk.clock.now())
        if token is None or token.agent not in home.state.agents:
            raise Refused("token_invalid")
        return self._acting(token, UNSEEN)

    def _acting(self, token: Token, seen: PeerProcess) -> Caller:
        """Who acts with a token that holds, and was shown now."""
        desk = self._desk
        agents = desk.rooms.home.aggregate.state.agents
        self._used[token.id] = desk.clock.now()
        if self._scheduler.moment(("token", token.id)) is None:
            self._scheduler.put(("token", token.id), token.expires_at, partial(self.end, (token.id,)))
        if token.kind == "aj":
            # Nobody is there who could be seen: each request is somebody who wants to become an agent.
            joining = of_joining_token(agents[token.agent].principal, token, is_seen=bool(seen.pid))
            return Caller(Facts(desk.random.new("s"), "http", joining, peer=seen))
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
        return caller

    async def handle_of(self, token: Token, wanted: str) -> str:
        """What the agent of a token is called in the room of the token that is meant, by its id or its name, and in the
        first of them where it is none; empty where the room is gone."""
        found = ""
        for room in token.rooms or (token.room,):
            try:
                state = (await self._desk.rooms.seen(room)).state
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

    async def end_revoked(self) -> None:
        """End what is under way with tokens that hold no more: one may have been revoked at another relay."""
        tokens, now = self._desk.rooms.home.aggregate.tokens, self._desk.clock.now()
        await self.end([id for id in self._used if tokens.holding(id, now) is None])

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
