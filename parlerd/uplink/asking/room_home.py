"""A room that lives elsewhere, for whoever asks its home something: the mirror, the link, and what this home signs and
seals with.

Not here: what is asked (the other modules of this package). Above: those. Below: `link`, `mirrors`, `secrets`,
`turning`, `exchanging`, `doors`. Invariant: what is waited for here ends, with what was
waited for or with an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import require_sound
from parlerd.core.model import AgentId, By, KeyId, Millis, RequestId, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import KeyTerms, Statement
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Attested, Author
from parlerd.engine.desk import Desk
from parlerd.engine.key_text import Spelled, spelled, spelled_of
from parlerd.uplink.counters import Counters
from parlerd.uplink.doors import Doors
from parlerd.uplink.exchanging import Exchanges
from parlerd.uplink.link import Link
from parlerd.uplink.mirrors import is_over
from parlerd.uplink.secrets import Secrets
from parlerd.uplink.turning import Turning

SHOWN_S: Final = 10.0
"""How long an answer waits until the mirror holds what the room's home did."""
DECIDE_TRIES: Final = 3
"""How often something is asked that is refused because somebody wrote there meanwhile."""
DECIDE_PAUSE_S: Final = 0.5
"""How long the mirror may take to hear of that, before the next time."""
_TOLD: Final = re.compile(r"k_[0-9a-f]{20,40}\Z|h\.[A-Za-z0-9_=-]{32}\Z")
"""Idempotency keys that may be told: that of a message whose author named none (`model.drawn_key`), and a hidden one,
with which its author asks again."""


class RoomHome:
    """The home of one room: the relay behind `link`. `actor` keeps the room's mirror."""

    def __init__(
        self,
        actor: RoomActor[Room],
        link: Link,
        *,
        desk: Desk,
        author: Author,
        counters: Counters,
        secrets: Secrets,
        turning: Turning,
        exchanges: Exchanges,
        doors: Doors,
    ) -> None:
        self.actor = actor
        """Keeps the mirror: facts arrive by it."""
        self.link = link
        """The link to the relay."""
        self.id = link.home
        """The relay's id."""
        self.name = link.name
        """What people call the relay, also once it was taken out."""
        self.desk = desk
        """What the rules of this home's engine go by: clock, library, notifier."""
        self.author = author
        """Who signs in the name of agents of this home."""
        self.counters = counters
        """The numbers of what agents of this home signed."""
        self.secrets = secrets
        """The keys of agents, and the secrets of sealed rooms."""
        self.turning = turning
        """What makes the records of sealed rooms that this home's person owns."""
        self.exchanges = exchanges
        """Both ends of key exchanges at sealed rooms."""
        self.doors = doors
        """What was typed and told at the doors of rooms elsewhere."""
        self.bringing = trio.Lock()
        """Held while an agent of this home is brought into the room, where it is a sealed queue: each comes with the
        record that follows the newest one."""

    @property
    def room(self) -> RoomId:
        """The room's id."""
        return self.actor.room

    @property
    def mirror(self) -> Room:
        """The mirror in memory, which may be ahead of the store."""
        return self.actor.aggregate

    @property
    def is_sealed(self) -> bool:
        """Whether the room's messages are encrypted for its members."""
        return bool(self.mirror.state.lifecycle.sealed)

    async def quiet(self) -> Room:
        """The mirror when nothing of it is ahead of the store, with what this home has of its key exchanges."""
        if self.is_sealed:
            await self.exchanges.prepare(self.room)
        return await self.actor.quiet()

    # -- what is asked -------------------------------------------------------------------------------------

    def now(self) -> Millis:
        """The time at the room's home, as far as this home knows that, and never before what the mirror holds."""
        return Millis(max(self.desk.now_at(self.id), self.mirror.last_at))

    def decide(self, command: c.Command, by: By) -> Decision:
        """What the mirror says of a command. Raises `Refused`."""
        return self.mirror.decide(command, by=by, now=self.now(), ids=self.desk.random)

    def attest(self, statement: Statement | None, by: By) -> Attested:
        """A statement, signed by `by`'s agent or person."""
        assert statement is not None
        return self.author.attest(statement, by)

    def hidden(self, key: str) -> str:
        """An idempotency key as the room's home is told it: in a sealed room nobody can guess it and find the guess
        confirmed. A key that was drawn for a message says nothing but the message's id, and finds that message."""
        return key if not self.is_sealed or may_be_told(key) else self.secrets.hidden_key(self.room, key)

    def own_key(self, id: KeyId) -> Spelled | None:
        """A key of a room of this home's person, which spells it: nobody typed it here."""
        state = self.mirror.state
        key = state.keys.get(id)
        return None if key is None else spelled_of(self.desk, state, key)

    def spelled(self, terms: KeyTerms, *, is_sealed: bool) -> Spelled:
        """A key of the room as this home made it; the room's home is told its `key` alone."""
        return spelled(self.desk, self.room, terms.ref, gated=terms.gated, is_sealed=is_sealed)

    # -- what is waited for --------------------------------------------------------------------------------

    async def heard_all(self) -> None:
        """Wait until this home was told all that is there of the room: an older copy of it, put in place, would sign a
        second record with the number of one that it signed before. Raises `Refused(home_unreachable)`."""
        await self.link.ready()
        await self.link.told_all(self.room)
        if not self.link.is_level(self.room):
            raise Refused("home_unreachable", home=self.name)

    async def shown(self, holds: Callable[[Room], bool]) -> None:
        """Wait until the mirror shows what the room's home did. Raises `home_unreachable` when the mirror does not in
        time: it was done, and asking again is answered as the repeat that it is. Where the home contradicted itself
        meanwhile, the mirror takes nothing more in, and what is wrong is raised."""

        def shows(room: Room) -> bool:
            return holds(room) or is_over(room.state)

        if not await self.link.mirrors.until(self.room, shows, SHOWN_S):
            raise Refused("home_unreachable", home=self.name)
        if not holds(room := self.mirror):
            require_sound(room.state.lifecycle)


def may_be_told(key: str) -> bool:
    """Whether an idempotency key may be told to a room's home as it is."""
    return _TOLD.match(key) is not None


def is_in(room: Room, agent: AgentId) -> bool:
    """Whether an agent is in the room."""
    member = room.state.members.get(agent)
    return member is not None and member.present


def state_of(room: Room, request: RequestId) -> str:
    """How a request to come in stands; empty for one that nothing is known of."""
    found = room.state.requests.get(request)
    return "" if found is None else found.state
