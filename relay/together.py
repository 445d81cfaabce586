"""One relay among those that share its rooms: the parts that make it one of them, put together.

    holding   which rooms are this relay's            peers    links to the others, and theirs to this one
    routing   daemons' questions to whoever answers   gathering  the same of whoever has a token
    newest    which link of each daemon counts
    here      the home's own room is kept up with the others

Above: the relay's program. Below: these parts, the engine. Invariant: what concerns the whole home (who is enrolled,
who was put out, cards, tokens) is known here `TAKE_IN_S` after another relay stored it, at the latest, and before
somebody is let in or turned away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

import trio

from parlerd.connections.dial import Dialer
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, Position, PrincipalId, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.engine import Engine
from parlerd.engine.lookup import rooms_named
from parlerd.engine.reachable import came_under
from relay.gathering import Gathering
from relay.holding import Holding
from relay.link import BETWEEN_RELAYS
from relay.newest import Newest
from relay.outage import Outage
from relay.peers import Peers, Self, Served
from relay.routing import Routing

log = logging.getLogger("relay")

TAKE_IN_S: Final = 1.0


class Tables:
    """What the store's tables say of rooms, whoever has them: `routing.Index`."""

    def __init__(self, engine: Engine) -> None:
        self._desk = engine.desk

    async def room_of(self, session_key: str) -> RoomId | None:
        """See `routing.Index`."""
        try:
            key = self._desk.keys.key_id(session_key)
        except Refused:
            return None
        return await self._desk.library.room_of_key(key)

    async def rooms_of(self, agent: str) -> list[RoomId]:
        """See `routing.Index`."""
        return await self._desk.library.my_rooms(AgentId(agent))

    async def heads(self, rooms: Collection[RoomId]) -> dict[RoomId, Position]:
        """See `routing.Index`."""
        return await self._desk.library.heads(rooms)

    async def named(self, rooms: Collection[RoomId], name: str) -> RoomId | None:
        """The one of these rooms that is called so, whoever has it; None where it is none of them, or several."""
        try:
            found = await rooms_named(self._desk, name, sorted(rooms))
        except ParlerError:
            # One of them was deleted, or cannot be read now: whoever asks the engine hears which is meant, or why not.
            return None
        return found[0] if len(found) == 1 else None

    async def is_all(self, principal: PrincipalId, agents: Sequence[str], told: Collection[tuple[str, str]]) -> bool:
        """See `routing.Index`."""
        for agent in map(AgentId, agents):
            for each in await self._desk.library.memberships(agent):
                # The tables know agents alone; under whom each of them came, the room knows.
                if (each.room, agent) not in told and came_under(
                    await self._desk.rooms.peek(each.room), agent, principal
                ):
                    return False
        return True


class Together:
    """The parts of one relay. `gone` is told whom another relay put out, and `epoch` which one it is since then;
    `cut_off` whether this relay is dead to the others, so that daemons are sent away; and `superseded` of whom a newer
    link is somewhere."""

    def __init__(
        self,
        engine: Engine,
        holding: Holding,
        own: Self,
        dialer: Dialer,
        offered: Collection[str],
        newest: Newest,
        *,
        gone: Callable[[PrincipalId], None] = lambda principal: None,
        epoch: Callable[[str], None] = lambda epoch: None,
        cut_off: Callable[[bool], None] = lambda is_so: None,
        superseded: Callable[[Caller], None] = lambda caller: None,
    ) -> None:
        self._cut_off = cut_off
        self._epoch = epoch
        self._engine = engine
        self._gone = gone
        self._put_out: set[PrincipalId] = set()
        """Who was put out, as far as this relay saw to it."""
        self._outage = Outage("what other relays stored of the home")
        self.holding = holding
        self.peers = Peers(own, dialer, lambda: holding.living)
        self.newest = newest
        self.served = Served(own, engine, {*offered, *BETWEEN_RELAYS}, newest)
        tables = Tables(engine)
        self.routing = Routing(engine, holding, self.peers, tables, newest, superseded=superseded)
        self.named: Final = tables.named
        self.gathering = Gathering(engine, holding, self.peers, own.keys.home, self.take_in)
        self.served.acting = self.gathering.acting
        holding.follows = engine.owning

    @property
    def is_whole(self) -> bool:
        """Whether every room has a relay that lives and is reached from here."""
        return not self.holding.unowned and not self.peers.unreached

    def addresses(self) -> list[str]:
        """Where the other relays that live are for daemons."""
        return [row.address for row in self.holding.living if row.address and row.relay != self.holding.relay]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.routing.run)
            await self.holding.look_soon()
            nursery.start_soon(self.peers.run)
            nursery.start_soon(self.newest.run)
            nursery.start_soon(self._tell_peers)
            nursery.start_soon(self.holding.run)
            nursery.start_soon(self._keep_up)
            nursery.start_soon(self._send_away)
            task_status.started()

    async def take_in(self) -> None:
        """Know what the others stored of the home. What cannot be read now is known later."""
        await self.holding.look_soon()
        try:
            self._epoch(self.holding.epoch)
            await self._engine.owning.take_in()
            await self._engine.bearers.end_revoked()
        except ParlerError as error:
            self._outage.failed(error)
        else:
            self._outage.answered()

    async def _tell_peers(self) -> None:
        while True:
            self.peers.look()
            await self.holding.changed()

    async def _send_away(self) -> None:
        """Nobody here would hear what is said in rooms that others have by now. A store that is slow to answer is no
        reason to find that out later."""
        was_so = False
        while True:
            is_so = self.holding.is_cut_off
            if is_so and not was_so:
                log.warning("others may have the rooms by now: nobody is shown them until it beats again")
                self._engine.owning.cut_off()
            was_so = is_so
            self._cut_off(is_so)
            await trio.sleep(TAKE_IN_S)

    async def _keep_up(self) -> None:
        while True:
            await self.take_in()
            people = self._engine.people
            out = {person.principal for person in people.all() if person.kicked}
            for principal in sorted(out - self._put_out):
                self._gone(principal)
                try:
                    await people.take_away(principal)
                except ParlerError as error:
                    log.warning("what somebody had who was put out could not be taken: %s", error.code)
                    out.discard(principal)
            self._put_out = out
            await trio.sleep(TAKE_IN_S)
