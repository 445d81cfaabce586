"""By which key an agent of another home is given the secrets of the sealed direct rooms that others open for it here.

    the agent's home  --a signed SealingKey, and the person's delegation-->  kept  --asked for-->  whoever opens a room

With such a key the first record of a direct room holds both agents, so that the one written to reads the first message
when it comes, whatever became of the machine that wrote it.

The home keeps what others signed, and can make none of it up: it can withhold a key, or show one of before. Then the
message waits until both machines are there.

Not here: the signatures (`identity.direct_keys`), and who may ask (`parlerd.engine.direct_keys`). Above: `home`. Below:
`statements`. Invariant: of each agent the key with the highest counter counts, and it changes at most once a day.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import AgentId, By, Ids, Millis, Position, PrincipalId
from parlerd.core.statements import MAX_STATEMENT

FRESH_MS: Final = 24 * 3600 * 1000
"""How long an agent's key stays before another one is taken in, so that nobody's keys fill the home's log."""
_PUBLISHED: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes])


class DirectKey(msgspec.Struct, frozen=True, array_like=True):
    """The newest key of an agent."""

    principal: PrincipalId
    counter: int
    at: Millis
    """When this home took it in."""
    position: Position
    """Where what was signed stands in the home's log."""


class DirectKeysState(msgspec.Struct):
    keys: dict[AgentId, DirectKey] = {}


def encode_published(statement: bytes, delegation: bytes, delegation_signature: bytes) -> bytes:
    """The body of the fact that an agent told a key: the `SealingKey` as it was signed, and by which word of its person
    the agent acts for that person."""
    return msgspec.msgpack.encode((statement, delegation, delegation_signature))


def decode_published(body: bytes) -> tuple[bytes, bytes, bytes]:
    """The three again. Raises `Refused(statement_refused)`."""
    try:
        return _PUBLISHED.decode(body[: 4 * MAX_STATEMENT])
    except msgspec.DecodeError:
        raise Refused("statement_refused", what="format") from None


class DirectKeys(Facet[DirectKeysState]):
    """Keeps the newest key of each agent."""

    __slots__ = ()

    def of(self, agent: AgentId) -> DirectKey | None:
        """The key of an agent that told one."""
        return self.state.keys.get(agent)

    def _tell(self, command: c.TellDirectKey, by: By, now: Millis, ids: Ids) -> Decision:
        key, known = command.key, self.of(command.key.agent)
        if known is not None and known.principal == by.principal:
            if key.counter <= known.counter:
                return Decision(answer="stale")
            if now < known.at + FRESH_MS:
                return Decision(answer="early")
        told = e.DirectKeyTold(agent=key.agent, principal=by.principal, counter=key.counter)
        return Decision((told,), authority="member", answer="told")

    def _told(self, event: e.DirectKeyTold, header: e.Header) -> None:
        self.state.keys[event.agent] = DirectKey(event.principal, event.counter, header.at, header.position)

    def _sent_away(self, event: e.PersonKicked, header: e.Header) -> None:
        gone = [agent for agent, key in self.state.keys.items() if key.principal == event.principal]
        for agent in gone:
            del self.state.keys[agent]

    DECIDES = (decides(c.TellDirectKey, _tell),)
    APPLIES = (applies(e.DirectKeyTold, _told), applies(e.PersonKicked, _sent_away))
    TOUCHES = (touches(e.DirectKeyTold, nobody),)
