"""Which agents speak over which link, and how present their daemon says that they are.

An agent is attached for as long as its person's delegation lasts, and the link is open. Nobody has to be woken when a
delegation ends: every question here is asked with the time, and whoever follows rooms over a link looks again at the
next such moment (`Link.until`).

Not here: whether an attachment is right (`linking`), and what a link asks (the handlers). Above: `presence` and the
handlers of the plane `link`. Below: nothing. Invariant: an agent that is not attached on a link is nobody there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from parlerd.bounded import Bounded
from parlerd.core.model import AgentId, Millis, PrincipalId
from parlerd.engine.callers import Caller
from parlerd.operations import types as t

MAX_AGENTS: Final = 4096
"""Agents that one link may have attached."""
MAX_GONE: Final = 65_536
"""Agents of which it is remembered when they went: anybody can make agents, and attach one after the other."""


@dataclass(slots=True, eq=False)
class Attached:
    """An agent on a link."""

    until: Millis
    """When its delegation ends."""
    presence: str = "idle"
    """How present its daemon says that it is: `active`, `waiting`, `idle` or `offline`."""
    since: Millis = Millis(0)
    """Since when, by the home's own clock."""
    stated: t.StatedStatus | None = None
    """What its daemon says that it states."""


@dataclass(slots=True, eq=False)
class Link:
    """One link, from its first attached agent on."""

    principal: PrincipalId
    agents: dict[AgentId, Attached] = field(default_factory=dict)
    """Every agent that was attached and not detached, also one whose delegation ended."""

    def speaks_for(self, agent: str, now: Millis) -> bool:
        """Whether the agent is attached at this moment."""
        known = self.agents.get(AgentId(agent))
        return known is not None and now < known.until

    def speaking(self, now: Millis) -> list[AgentId]:
        """The agents that are attached at this moment, in the order in which they came."""
        return [agent for agent, attached in self.agents.items() if now < attached.until]

    def until(self, now: Millis) -> Millis | None:
        """When the next of them is no longer; None where nobody is attached."""
        return min((attached.until for attached in self.agents.values() if now < attached.until), default=None)


class Links:
    """The links of one home."""

    def __init__(self) -> None:
        self._links: dict[Caller, Link] = {}
        # On which links each agent is attached, so that a look at one agent does not look at every link.
        self._of_agent: dict[AgentId, list[Link]] = {}
        self._gone: Bounded[AgentId, Millis] = Bounded(MAX_GONE)
        """When each agent's last link ended or let go of it; for this process's life alone."""

    def of(self, caller: Caller) -> Link:
        """The link of this connection."""
        link = self._links.get(caller)
        if link is None:
            link = self._links[caller] = Link(caller.facts.authority.principal)
        return link

    def has_person(self, principal: PrincipalId) -> bool:
        """Whether a link of this person is up."""
        return any(link.principal == principal for link in self._links.values())

    def has_agent(self, agent: AgentId, now: Millis) -> bool:
        """Whether this agent speaks over a link now."""
        present = self.presence_of(agent, now)
        return present is not None and present[0] != "offline"

    def end(self, caller: Caller, now: Millis) -> list[AgentId]:
        """The connection is gone, and these agents with it."""
        link = self._links.pop(caller, None)
        agents = [] if link is None else list(link.agents)
        for agent in agents:
            assert link is not None
            self._detach(link, agent, now)
        return agents

    def attach(self, caller: Caller, agent: AgentId, until: Millis, now: Millis) -> None:
        """The agent speaks over this link until then."""
        link = self.of(caller)
        if agent not in link.agents:
            link.agents[agent] = Attached(until, since=now)
            self._of_agent.setdefault(agent, []).append(link)
        link.agents[agent].until = until

    def let_go(self, caller: Caller, agent: AgentId, now: Millis) -> bool:
        """The agent does not speak over this link any more; whether it did."""
        link = self.of(caller)
        if agent not in link.agents:
            return False
        self._detach(link, agent, now)
        return True

    def _detach(self, link: Link, agent: AgentId, now: Millis) -> None:
        del link.agents[agent]
        self._of_agent[agent].remove(link)
        if not self._of_agent[agent]:
            del self._of_agent[agent]
        self._gone[agent] = now

    def presence_of(self, agent: AgentId, now: Millis) -> tuple[str, Millis] | None:
        """How present an agent is that came over a link, and since when; None for one that never did."""
        here = [link.agents[agent] for link in self._with(agent, now)]
        if here:
            newest = max(here, key=lambda attached: attached.since)
            return newest.presence, newest.since
        gone = self._gone.get(agent)
        return None if gone is None else ("offline", gone)

    def stated_of(self, agent: AgentId, now: Millis) -> t.StatedStatus | None:
        """What an agent states that is attached to a link now."""
        here = [link.agents[agent] for link in self._with(agent, now)]
        return max(here, key=lambda attached: attached.since).stated if here else None

    def _with(self, agent: AgentId, now: Millis) -> Iterator[Link]:
        return (link for link in self._of_agent.get(agent, ()) if link.speaks_for(agent, now))
