"""The homes where rooms live, for the person: which there are, adding one, taking one out, choosing the default.

Not here: links and what is stored of a home (the port `HomeBook`). Above: the engine. Below: the desk. Invariant: only
the person adds, removes and chooses, whatever door a request comes through; this machine is always a home, and the
default where no other is.
"""

from __future__ import annotations

import msgspec
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import LOCAL_HOME
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.person import is_person, require_person
from parlerd.operations import types as t


class HomeHandlers:
    """The handlers of the family `homes`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("homes.list")
    async def listed(self, caller: Caller, params: t.ListHomes) -> t.HomeList:
        """This machine first. How much waits tells what agents write, so that only the person is told it."""
        desk = self._desk
        await trio.lowlevel.checkpoint()
        homes = desk.home_book.listed()
        if not is_person(caller) or desk.inspect(caller.facts.peer).agent_host:
            homes = [msgspec.structs.replace(home, waiting=0, cards=0) for home in homes]
        return t.HomeList(homes=[self._local(homes), *homes])

    @handles("homes.add")
    async def add(self, caller: Caller, params: t.AddHome) -> t.HomeAdded:
        # An editor's terminal will do, because whoever adds a relay has its secret from the person who runs it.
        require_person(self._desk, caller, in_editor=True)
        return await self._desk.home_book.add(params.line, params.secret)

    @handles("homes.remove")
    async def remove(self, caller: Caller, params: t.RemoveHome) -> t.HomeRemoved:
        require_person(self._desk, caller, in_editor=True)
        if params.name == LOCAL_HOME:
            raise Refused("invalid_param", "This machine is always a home.", param="name")
        book = self._desk.home_book
        waiting = sum(home.waiting for home in book.listed() if params.name in (home.name, home.id))
        if waiting and not params.drop:
            raise Refused("outbox_not_empty", waiting=waiting)
        return await book.remove(params.name)

    @handles("homes.default")
    async def choose(self, caller: Caller, params: t.ChooseHome) -> t.HomeEntry:
        require_person(self._desk, caller, in_editor=True)
        await trio.lowlevel.checkpoint()
        chosen = self._desk.home_book.choose(params.name)
        return self._local(self._desk.home_book.listed()) if chosen is None else chosen

    def _local(self, others: list[t.HomeEntry]) -> t.HomeEntry:
        return t.HomeEntry(
            name=LOCAL_HOME,
            id=self._desk.keys.id,
            url="",
            fingerprint="",
            state="local",
            default=not any(home.default for home in others),
        )
