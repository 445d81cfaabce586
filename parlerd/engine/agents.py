"""Makes agents: a key, a record in the home room, and the person's delegation for it, which is renewed with use.

Not here: who acts as which agent (`seats`). Above: `seats`. Below: the key ring and the home room's line. Invariant:
no agent acts whose delegation ended and could not be renewed.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.errors import StoreError
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, By, Millis, PrincipalId, agent_name, is_granted_id, label
from parlerd.engine.authors import Attested
from parlerd.engine.driver import Driver
from parlerd.engine.ports import Clock, Signers
from parlerd.engine.rooms import Rooms
from parlerd.identity.delegation import DELEGATION_TTL_MS, issue


class Agents:
    """The agents of one home."""

    def __init__(self, *, driver: Driver, rooms: Rooms, keys: Signers, clock: Clock) -> None:
        self._driver = driver
        self._rooms = rooms
        self._keys = keys
        self._clock = clock

    def makes_for(self, principal: PrincipalId) -> bool:
        """Whether new agents of this person are made here: no other home has the person's key, which signs for them."""
        return principal == self._keys.principal

    async def create(self, name: str, *, host: str, workspace: str, slot: int) -> AgentRecord:
        """A new agent. Raises `Refused(invalid_name)` before anything is made, and `StoreError`."""
        agent_name(name)  # before a key is made for it
        agent = await self._driver.read(lambda _: self._keys.create_agent())
        await self._rooms.home.submit(
            c.CreateAgent(
                agent=agent,
                principal=self._keys.principal,
                name=label(name),
                host=host,
                workspace=workspace,
                slot=slot,
            ),
            self._by(agent),
        )
        record = self._rooms.home.aggregate.state.agents[agent]
        await self._delegate(record)
        return record

    async def bind(self, agent: AgentId, *, host: str, conversation: str, place: int) -> None:
        """This conversation of a host is the agent's from now on."""
        await self._rooms.home.submit(
            c.BindConversation(agent=agent, host=host, conversation=conversation, place=place), self._by(agent)
        )

    async def renew(self, record: AgentRecord, now: Millis) -> None:
        """Renew the agent's delegation if it is time. Raises `StoreError` only when the old one has ended."""
        until = record.delegated_until
        if may_act(record, now):
            return
        try:
            await self._delegate(record)
        except StoreError:
            # Nothing can be written now; a delegation that still holds must not stop a read.
            if until <= now:
                raise

    async def _delegate(self, record: AgentRecord) -> None:
        """Let an agent act for its person for another 30 days. Source: security spec D17."""
        now = self._clock.now()
        text, signature = issue(self._keys, record.id, now)
        await self._rooms.home.submit(
            c.RenewDelegation(agent=record.id, principal=record.principal, expires_at=Millis(now + DELEGATION_TTL_MS)),
            self._by(record.id),
            Attested(text, signature),
        )

    def _by(self, agent: AgentId) -> By:
        return By(actor=agent, principal=self._keys.principal, session="home", host="home", via="cli")


def may_act(record: AgentRecord, now: Millis) -> bool:
    """Whether an agent may act without a renewal. One that has no key acts by a grant, until the room says that it is
    over."""
    return is_granted_id(record.id) or holds(record.delegated_until, now)


def holds(until: Millis, now: Millis) -> bool:
    """Whether a delegation needs no renewal. One that ends later than any may was made while the clock stood ahead."""
    return DELEGATION_TTL_MS // 2 <= until - now <= DELEGATION_TTL_MS
