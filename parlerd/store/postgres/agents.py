"""The numbers of agents: an id takes 56 bytes and stands in very many rows, a number takes 8.

A number that was committed never changes, so it is remembered for as long as there is room. Above: `writing`, `store`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from parlerd.core.model import AgentId
from parlerd.store.postgres.connections import Connection, Server
from parlerd.store.postgres.tables import Texts

NOBODY: Final = 0
"""The number of no agent."""
_MAX_REMEMBERED: Final = 100_000
"""Numbers that are remembered, in some 20 MB."""


class Agents:
    """The numbers of agents in one database. Several threads may use it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: dict[AgentId, int] = {}
        # Held to change the above; reading takes no lock.
        self._lock = threading.Lock()

    def number(self, agent: AgentId) -> int:
        """The number of an agent; `NOBODY` where no row knows it."""
        found = self._known.get(agent)
        if found is None:
            row = self._server.row("SELECT number FROM agents WHERE id = %s", (agent,))
            found = NOBODY if row is None else int(row[0])
            if row is not None:
                self.remember({agent: found})
        return found

    def numbers(self, connection: Connection, agents: Iterable[AgentId]) -> dict[AgentId, int]:
        """The numbers of agents, those given anew that have none. They are right once the transaction was committed,
        and may be remembered then. Another transaction may be giving one of them a number: this waits for it."""
        known = self._known
        found = {agent: known[agent] for agent in agents if agent in known}
        while missing := sorted({agent for agent in agents if agent} - found.keys()):
            rows = connection.execute(_NUMBERS, (Texts(missing),), binary=True).fetchall()
            found |= {AgentId(id): int(number) for id, number in rows}
        return found

    def remember(self, numbers: Mapping[AgentId, int]) -> None:
        """Remember numbers that were committed."""
        with self._lock:
            if len(self._known) + len(numbers) > _MAX_REMEMBERED:
                self._known = {}
            self._known |= numbers


# All transactions add ids in their order, so no two wait for each other. One that another added meanwhile is in neither
# part, and is found by asking again.
_NUMBERS: Final = """
    WITH asked AS MATERIALIZED (SELECT id FROM unnest(%s::text[]) AS asked (id)),
         made AS (
             INSERT INTO agents (id)
             SELECT id FROM asked WHERE NOT EXISTS (SELECT FROM agents a WHERE a.id = asked.id COLLATE "C")
              ORDER BY id COLLATE "C"
                 ON CONFLICT DO NOTHING RETURNING id, number)
    SELECT id, number FROM made UNION ALL SELECT a.id, a.number FROM agents a JOIN asked ON a.id = asked.id COLLATE "C"
"""
