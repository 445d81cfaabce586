"""Keys and knocks: who may ask to come in, and how a person's answer is found.

A gated key lets an agent ask; the person decides. A use is counted when an agent is let in: who is declined takes none
away, and once `max_uses` are in nobody else may knock. Whoever knocked before that still waits, and the person may
still let each of them in. Unknown, expired, used-up and revoked keys give one and the same answer. A repeat by the same
agent is a free poll, also when the key has died since. A denial is final until the owner lifts it by approving that
agent after all; for a requester of another person it covers that person's other agents on the same key too, but for
those that the owner was asked about by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from parlerd.core.commands import Request
from parlerd.core.errors import Refused
from parlerd.core.model import MAX_PENDING_PER_KEY, AgentId, By, KeyId, Millis, PrincipalId, RequestId


class KeyState(msgspec.Struct):
    """A key of a room. `users` are the agents that were let in with it, each once however often it came."""

    id: KeyId
    gated: bool
    expires_at: Millis
    max_uses: int
    minted_at: Millis
    preapproved: tuple[AgentId, ...] = ()
    users: list[AgentId] = []
    revoked: bool = False

    @property
    def uses(self) -> int:
        """How many agents it let in. A person's decisions on who waited already may take it past `max_uses`."""
        return len(self.users)

    def use(self, agent: AgentId) -> None:
        """Take down that an agent was let in with it."""
        if agent not in self.users:
            self.users.append(agent)

    def state(self, now: Millis) -> str:
        """`live`, `revoked`, `used_up` or `expired`: for the owner's eyes."""
        if self.revoked:
            return "revoked"
        if self.uses >= self.max_uses:
            return "used_up"
        return "expired" if now >= self.expires_at else "live"


def standing_request(requests: Mapping[RequestId, Request], agent: AgentId) -> Request | None:
    """The newest request of an agent, whatever became of it."""
    mine = [request for request in requests.values() if request.agent == agent]
    return mine[-1] if mine else None


def is_denied(requests: Mapping[RequestId, Request], key: KeyId, by: By, owner: PrincipalId) -> bool:
    """Whether a denial covers this requester: its own, or if it never asked one of its person's on the same key.

    The owner's own agents are asked about one by one: they all have one principal, and a denial of one says nothing of
    the rest.
    """
    mine = standing_request(requests, by.actor)
    if mine is not None:
        return mine.state == "denied"
    if by.principal == owner:
        return False
    return any(r.state == "denied" and r.key_id == key and r.principal == by.principal for r in requests.values())


def usable_key(keys: Mapping[KeyId, KeyState], key: KeyId, agent: AgentId, now: Millis) -> KeyState:
    """The key, if it lets this agent knock now; a used-up one still serves those it let in.

    Raises `Refused(unknown_key)`.
    """
    known = keys.get(key)
    if known is None or known.revoked or now >= known.expires_at:
        raise Refused("unknown_key")
    if known.uses >= known.max_uses and agent not in known.users:
        raise Refused("unknown_key")
    return known


def check_queue(requests: Mapping[RequestId, Request], key: KeyId) -> None:
    """Refuse a sixth pending request on one key. Source: security spec A3."""
    waiting = sum(1 for request in requests.values() if request.key_id == key and request.state == "pending")
    if waiting >= MAX_PENDING_PER_KEY:
        raise Refused("too_many_pending", limit=MAX_PENDING_PER_KEY)


def find_request(requests: Mapping[RequestId, Request], who: str) -> Request:
    """The request meant by a request id, an agent id, or a name that is unique among those who wait.

    An agent that waits is found before one that was decided on. Raises `Refused` with `ambiguous_name` and the
    candidates, or `no_such_request`.
    """
    exact = [r for r in requests.values() if who in (r.id, r.agent)]
    for request in exact:
        if request.state == "pending":
            return request
    if exact:
        return exact[-1]
    named = [r for r in requests.values() if r.name == who]
    waiting = [r for r in named if r.state == "pending"]
    if len(waiting) > 1:
        raise Refused(
            "ambiguous_name",
            f"{len(waiting)} who knock say they are {who!r}.",
            candidates=[{"id": r.agent, "name": r.name, "host": r.host} for r in waiting],
        )
    if waiting:
        return waiting[0]
    if len({r.agent for r in named}) == 1:
        return named[-1]
    raise Refused("no_such_request")
