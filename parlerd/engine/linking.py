"""Which of a person's agents speak over a link: the handlers of `link.attach` and `link.detach`.

A link is its person's, who proved to be there before the engine heard of it. Each agent proves two things more: that
the person lets it act (the delegation), and that whoever holds its key wants to be on this very link (its signature,
over the link's name). So neither the person's daemon without the agent's key, nor another link with what was signed for
this one, speaks for an agent.

Not here: how the person proves who they are (`parlerd.wire.link`), what is asked afterwards. Above: the engine. Below:
`links`, `reachable`, and `identity` for the two proofs. Invariant: an attachment is refused with all that came in the
same call, or taken with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Millis, PrincipalId
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.links import MAX_AGENTS
from parlerd.engine.reachable import came_under
from parlerd.engine.rooms import pause_among
from parlerd.identity.delegation import read
from parlerd.identity.signatures import verify
from parlerd.identity.transcript import attach_bytes
from parlerd.operations import types as t

AHEAD_MS: Final = 24 * 3600 * 1000
"""How far a delegation's beginning may lie ahead of this home's clock: two machines that disagree by more than a day
are better told so. Source: relay spec, What signs what."""


class Linking:
    """The handlers about who speaks over a link."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("link.attach")
    async def attach(self, caller: Caller, params: t.Attach) -> t.Attached:
        desk = self._desk
        facts, now = caller.facts, desk.clock.now()
        # Two signatures each, away from the loop: a daemon that comes back brings all of its agents at once.
        until = await desk.library.aside(lambda: _proven(params.agents, facts.channel, facts.authority.principal, now))
        link = desk.links.of(caller)
        if len(link.agents.keys() | until.keys()) > MAX_AGENTS:
            raise Refused("busy", f"One link speaks for {MAX_AGENTS} agents at most.")
        for agent, end in until.items():
            desk.links.attach(caller, agent, end, now)
        desk.notifier.publish([topics.link(facts.session), *map(topics.presence, until)])
        rooms = [standing for agent in until for standing in await self._standings(agent, link.principal)]
        return t.Attached(rooms=rooms, now=now)

    async def _standings(self, agent: AgentId, principal: PrincipalId) -> list[t.Standing]:
        """How the agent stands to the rooms that it came to as one of this person's."""
        desk = self._desk
        found = []
        for number, each in enumerate(await desk.library.memberships(agent), start=1):
            await pause_among(number)
            # The index knows agents alone, and the room under whom each of them came.
            try:
                room = (await desk.rooms.get(each.room)).aggregate
            except Refused as error:
                if error.code != "room_moved":
                    raise
                continue  # whoever has the room says so
            if came_under(room, agent, principal):
                found.append(t.Standing(room=each.room, agent=agent, state=each.state))
        return found

    @handles("link.detach")
    async def detach(self, caller: Caller, params: t.Detach) -> t.Noted:
        desk = self._desk
        now = desk.clock.now()
        gone = [AgentId(agent) for agent in params.agents if desk.links.let_go(caller, AgentId(agent), now)]
        desk.notifier.publish([topics.link(caller.facts.session), *map(topics.presence, gone)])
        return t.Noted()


def _proven(
    agents: Sequence[t.Attachment], channel: bytes, principal: PrincipalId, now: Millis
) -> dict[AgentId, Millis]:
    """Until when each of these agents may speak. Raises `Refused(attach_refused)` for the first that may not."""
    until: dict[AgentId, Millis] = {}
    for attachment in agents:
        agent = AgentId(attachment.agent)
        delegation = read(attachment.delegation, attachment.delegation_signature)
        if delegation is None or (delegation.agent, delegation.principal) != (agent, principal):
            raise _refused("delegation", agent, now)
        if delegation.issued_at > now + AHEAD_MS:
            raise _refused("issued_at", agent, now)
        if delegation.expires_at <= now:
            raise _refused("expires_at", agent, now)
        if not verify(agent, "parler/link", attach_bytes(channel, agent, principal), attachment.signature):
            raise _refused("signature", agent, now)
        until[agent] = delegation.expires_at
    return until


def _refused(what: str, agent: AgentId, now: Millis) -> Refused:
    return Refused("attach_refused", what=what, agent=agent, now=now)
