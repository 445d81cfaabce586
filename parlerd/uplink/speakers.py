"""Who of this home speaks over the link to a relay: agents are attached, each by what lets it speak for its person.

What lets an agent speak ends after a time, and a link may last longer, so agents are attached again. With an agent the
relay is told its newest sealing key, before anybody there finds the agent: the first message to it is sealed to that.

Not here: what is said over the link (`connection`), which rooms are followed (`link`). Above: `link`. Below: the
library, `secrets`. Invariant: an attachment names the very link that it is for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, HomeId, Millis, RoomId
from parlerd.engine.desk import Desk
from parlerd.engine.ports import Signers
from parlerd.identity.delegation import DELEGATION_TTL_MS, issue
from parlerd.identity.transcript import attach_bytes
from parlerd.operations import types as t
from parlerd.uplink.connection import CALL_S, LinkConnection
from parlerd.uplink.homes import Homes
from parlerd.uplink.mirrors import Mirrors
from parlerd.uplink.outbox import Outbox
from parlerd.uplink.secrets import Secrets

log = logging.getLogger(__name__)

ATTACH_AT_ONCE: Final = 100
"""How many agents one call attaches."""


class Speakers:
    """The agents of this home at the relay `home`."""

    def __init__(
        self,
        home: HomeId,
        homes: Homes,
        desk: Desk,
        signers: Signers,
        secrets: Secrets,
        mirrors: Mirrors,
        outbox: Outbox,
    ) -> None:
        self._home = home
        self._homes = homes
        self._desk = desk
        self._signers = signers
        self._secrets = secrets
        self._mirrors = mirrors
        self._outbox = outbox
        """What waits for the relay: its authors speak, too."""
        self._connection: LinkConnection | None = None
        """The link while there is one."""
        self._attached: dict[AgentId, Millis] = {}
        """The agents that speak over this link, and when each is attached anew, by this home's clock."""
        self._told_direct: dict[AgentId, int] = {}
        """The newest sealing key of each agent of this home that the relay was told on this link for those who open
        direct rooms."""
        self._attaching = trio.Lock()
        """Held while agents are attached, so that none is attached twice at the same time."""

    def begin(self, connection: LinkConnection) -> None:
        """A link began: nobody speaks over it yet."""
        self._connection = connection

    def end(self) -> None:
        """The link ended."""
        self._connection = None
        self._attached.clear()
        self._told_direct.clear()

    @property
    def attached(self) -> tuple[AgentId, ...]:
        """The agents that speak over this link."""
        return tuple(self._attached)

    def is_attached(self, agent: AgentId) -> bool:
        """Whether an agent speaks over this link."""
        return agent in self._attached

    async def attach(self, connection: LinkConnection, agents: Iterable[AgentId]) -> list[t.Standing]:
        """Attach agents that are not yet attached, or were so long ago that it is time again; how these stand to rooms
        there."""
        standing: list[t.Standing] = []
        async with self._attaching:
            now = self._desk.clock.now()
            new = [agent for agent in agents if now >= self._attached.get(agent, now)]
            for start in range(0, len(new), ATTACH_AT_ONCE):
                part = new[start : start + ATTACH_AT_ONCE]
                attachments = tuple(self._attachment(connection, agent) for agent in part)
                attached = await connection.call("link.attach", t.Attach(agents=attachments), CALL_S)
                assert isinstance(attached, t.Attached)
                if connection is self._connection:
                    # The relay counts by its own clock, which may be ahead of ours.
                    lasts = DELEGATION_TTL_MS - max(0, attached.now - now)
                    self._attached |= dict.fromkeys(part, Millis(now + lasts // 2))
                standing += attached.rooms
            # Before anybody there finds an agent, the key is there to which its first message is sealed.
            await self.tell_direct_keys(connection, new)
        return standing

    async def tell_direct_keys(self, connection: LinkConnection, agents: Sequence[AgentId]) -> None:
        """Tell the relay the newest sealing keys of attached agents that it was not told on this link. Whoever opens a
        direct room for one of them asks for its key."""
        if "link.direct_keys" not in connection.welcome.operations:
            return
        for start in range(0, len(agents), ATTACH_AT_ONCE):
            told: list[t.OwnDirectKey] = []
            counters: dict[AgentId, int] = {}
            for agent in agents[start : start + ATTACH_AT_ONCE]:
                counter = await self._secrets.newest(self._home, agent)
                if counter == self._told_direct.get(agent):
                    continue
                key = await self._secrets.told_key(self._home, agent)
                text, signature = issue(self._signers, agent, self._desk.clock.now())
                counters[agent] = counter
                told.append(
                    t.OwnDirectKey(
                        statement=key.body, signature=key.signature, delegation=text, delegation_signature=signature
                    )
                )
            if not told:
                continue
            try:
                await connection.call("link.direct_keys", t.TellDirectKeys(keys=tuple(told)), CALL_S)
            except ParlerError as error:
                # Without it their first messages wait until both machines are there.
                log.warning("%s takes no keys for direct rooms now: %s", self._homes.name_of(self._home), error.code)
                return
            self._told_direct |= counters

    def _attachment(self, connection: LinkConnection, agent: AgentId) -> t.Attachment:
        # By the relay's clock, which judges it: this machine's may be off by days.
        now = Millis(self._desk.clock.now() + connection.clock_ahead_ms)
        text, signature = issue(self._signers, agent, now)
        principal = self._signers.principal
        signed = self._signers.sign(agent, "parler/link", attach_bytes(connection.channel, agent, principal))
        return t.Attachment(agent=agent, delegation=text, delegation_signature=signature, signature=signed)

    async def agents(self) -> list[AgentId]:
        """The agents of this home that are in a room there, knock at one, or wrote what waits for it, and those that
        have a card, because somebody there may write to them directly."""
        standings = await self.standings()
        carded = {card.agent for card in self._desk.rooms.home.aggregate.cards()}
        writing = {row.agent for row in self._outbox if not row.refused}
        return sorted({agent for agent, _ in standings} | writing | carded)

    async def rooms(self) -> list[RoomId]:
        """The rooms there that agents of this home are in or knock at."""
        return sorted({room for _, room in await self.standings()})

    async def standings(self) -> list[tuple[AgentId, RoomId]]:
        """How agents of this home stand to the rooms there whose home did not contradict itself."""
        agents = list(self._desk.rooms.home.aggregate.state.agents)
        standings = await self._desk.library.standings_at(self._home, agents)
        sound = {room for room in sorted({room for _, room in standings}) if await self._mirrors.is_sound(room)}
        return [(agent, room) for agent, room in standings if room in sound]
