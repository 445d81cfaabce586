"""Whoever looks on in a browser: the codes that let them, with whose eyes they look, and the end of that; the handlers
of watch codes.

    parler view --room R --> a code, told once --> used, once --> `caller_of` --> the engine, as an observer
    parler view          --> the same for the whole home, with the person's own rights

The code of a room lets one look, as whoever minted it, with `observers`: at that one room and nothing else. Whoever has
it is in no roster, acknowledges nothing, and may call what pages ask for and what reads, never what writes. Looking is
recorded as with `parler watch`.

Not here: pages, paths and cookies (`parlerd.web.pages`), and what a code is (`core.watch_codes`). Above: the engine.
Below: the home room's line. Invariant: what is under way with a code ends when the code is revoked or expires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.model import Millis, RoomId
from parlerd.core.watch_codes import HOLDS_MS, HOME_USE_MS, WHOLE_HOME, WatchCode
from parlerd.engine.authority import of_page, of_watcher
from parlerd.engine.bearers import WebPort
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.observers import observed_room
from parlerd.engine.person import is_person, require_person
from parlerd.engine.scheduler import Scheduler
from parlerd.engine.under_way import UnderWay
from parlerd.identity import codes
from parlerd.operations import types as t

ENTRANCE: Final = "/view"
"""The path at which a code is typed."""
CODE_LENGTH: Final = 16
"""Characters of a watch code: 80 bits. Source: contract spec, Pages."""
_GROUP: Final = 4


class Viewers:
    """The callers that watch codes stand for."""

    def __init__(self, desk: Desk, scheduler: Scheduler) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._callers: dict[str, Caller] = {}
        """Whoever looks on, by the id of the code with which they began."""
        self._under_way: Final = UnderWay()
        """What is under way with each code."""

    async def open(self, typed: str, stranger: Caller, *, is_own: bool) -> WatchCode:
        """Use the code that somebody typed. `stranger` is whoever types, whose wrong codes count as guesses; a right
        one is not slowed down by them, because nobody guesses 80 bits. `is_own` says whether a process of this user is
        behind it: a stranger's may not use the code of the whole home. Raises `Refused`: `watch_code_invalid`,
        `throttled`."""
        desk = self._desk
        code = self._found(typed)
        if code is None or (code.room == WHOLE_HOME and not is_own):
            await desk.throttle.before(stranger)
            desk.throttle.wrong(stranger)
            raise Refused("watch_code_invalid")
        caller = self._caller(code)
        # Whoever typed it may go away while the fact is stored; then it is used all the same.
        with trio.CancelScope(shield=True):
            command = c.UseWatchCode(code=code.id, wall=desk.clock.now())
            await desk.rooms.home.submit(command, desk.by(caller, await desk.me(caller)))
        self._callers[code.id] = caller
        self._scheduler.put(("watch_code", code.id), code.expires_at, partial(self.end, code.id))
        return code

    def _found(self, typed: str) -> WatchCode | None:
        try:
            text = codes.normalise(typed)
        except Refused:
            return None
        found = self._desk.rooms.home.aggregate.watch_codes.find(digest_of(text), self._desk.clock.now())
        return found if found is None or found.agent in self._desk.rooms.home.aggregate.state.agents else None

    def _caller(self, code: WatchCode) -> Caller:
        desk = self._desk
        agent = desk.rooms.home.aggregate.state.agents[code.agent]
        if code.room == WHOLE_HOME:
            authority = of_page(agent)
        else:
            authority = of_watcher(agent, code.room, as_person=code.as_person)
        # It is not connected: whoever looks on makes nobody look present.
        return Caller(Facts(desk.random.new("s"), "http", authority))

    def caller_of(self, id: str) -> Caller:
        """Whoever looks on with a code that was used. Raises `Refused(watch_code_invalid)` once it holds no more."""
        code = self._desk.rooms.home.aggregate.watch_codes.holding(id, self._desk.clock.now())
        caller = self._callers.get(id)
        if code is None or caller is None:
            raise Refused("watch_code_invalid")
        return caller

    @contextmanager
    def using(self, id: str) -> Iterator[trio.CancelScope]:
        """While something is under way with a code: cancelled when the code holds no more. Raises
        `Refused(watch_code_invalid)` where that is so already."""
        self.caller_of(id)
        with self._under_way.entered(id) as scope:
            yield scope

    def count(self, id: str) -> int:
        """How much is under way with a code."""
        return self._under_way.count(id)

    def is_known(self, code: WatchCode) -> bool:
        """Whether anything can be opened with a code, or is open with it: what a daemon before this one had open is
        gone."""
        return not code.used_at or code.id in self._callers

    async def end(self, id: str) -> None:
        """This code holds no more."""
        self._callers.pop(id, None)
        self._scheduler.drop(("watch_code", id))
        self._under_way.cancel(id)
        await trio.lowlevel.checkpoint()


def digest_of(code: str) -> bytes:
    """What is kept of a watch code, as `codes.normalise` gives it. It has 80 random bits, so a plain hash gives nothing
    away for as long as a code holds."""
    return hashlib.sha256(b"parler/watch-code\0" + code.encode()).digest()


class PageHandlers:
    """The handlers of `page.open`, `page.codes` and `page.revoke`."""

    def __init__(self, desk: Desk, viewers: Viewers, web: WebPort) -> None:
        self._desk = desk
        self._viewers = viewers
        self._web = web

    @handles("page.open")
    async def open(self, caller: Caller, params: t.OpenPages) -> t.OpenedPages:
        desk = self._desk
        # With the code of the whole home one decides who comes in, which an agent in an editor's terminal may not.
        require_person(desk, caller, in_editor=params.room is not None)
        me = await desk.me(caller)
        room, now = WHOLE_HOME, desk.clock.now()
        if params.room is not None:
            room = (await observed_room(desk, caller, me, params.room))[0].room
        elif not is_person(caller):
            raise Refused("not_permitted", "The whole home is the person's own.", hint="Name a room: --room ROOM")
        base = await self._web.open(params.port, lets_in=self._web.lets_in)
        text = codes.spell(desk.random.bytes(CODE_LENGTH), CODE_LENGTH)
        command = c.MintWatchCode(
            operation="page.open",
            digest=digest_of(text),
            agent=me.id,
            as_person=is_person(caller),
            room=room,
            wall=now,
            use_by=Millis(now + (HOLDS_MS if room else HOME_USE_MS)),
            expires_at=Millis(now + HOLDS_MS),
        )
        await desk.rooms.home.submit(command, desk.by(caller, me))
        code = desk.rooms.home.aggregate.watch_codes.find(digest_of(text), now)
        assert code is not None
        shown = "-".join(text[at : at + _GROUP] for at in range(0, CODE_LENGTH, _GROUP))
        return t.OpenedPages(url=base + ENTRANCE, watch_code=shown, info=await self._info(code))

    @handles("page.codes")
    async def codes(self, caller: Caller, params: t.ListWatchCodes) -> t.WatchCodeList:
        held = self._desk.rooms.home.aggregate.watch_codes.all(self._desk.clock.now())
        return t.WatchCodeList(codes=[await self._info(code) for code in held if self._viewers.is_known(code)])

    @handles("page.revoke")
    async def revoke(self, caller: Caller, params: t.RevokeWatchCode) -> t.RevokedWatchCode:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        # Whoever asked may go away while the fact is stored, and what is under way ends all the same.
        with trio.CancelScope(shield=True):
            command = c.RevokeWatchCode(operation="page.revoke", code=params.id)
            await desk.rooms.home.submit(command, desk.by(caller, me))
            await self._viewers.end(params.id)
        return t.RevokedWatchCode(id=params.id)

    async def _info(self, code: WatchCode) -> t.WatchCodeInfo:
        agents, name = self._desk.rooms.home.aggregate.state.agents, ""
        if code.room != WHOLE_HOME:
            try:
                name = (await self._desk.rooms.get(RoomId(code.room))).aggregate.state.name
            except Refused:
                name = ""  # the room was deleted
        return t.WatchCodeInfo(
            id=code.id,
            agent=agents[code.agent].name if code.agent in agents else code.agent,
            as_person=code.as_person,
            room=code.room,
            minted_at=code.minted_at,
            use_by=code.use_by,
            expires_at=code.expires_at,
            used_at=code.used_at,
            streams=self._viewers.count(code.id),
            name=name,
        )
