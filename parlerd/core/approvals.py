"""Session keys and knocks: who may ask to come in, and which request a person's answer is for.

A gated key only lets an agent ask; the person decides. The rules:

    uses      A key is used when an agent is let in. A declined agent uses nothing up. Once `max_uses` agents are in,
              nobody else may knock; whoever knocked before still waits, and the person may let each of them in.
    silence   Unknown, expired, used-up and revoked keys get one and the same answer.
    grants    The owner's person lets an agent without a key in by a grant, once for each name; where the grant says
              so, such an agent asks, and the person decides about it as about a knock.
    repeats   An agent that knocks again hears how its request stands, also when the key has died since.
    sealed    At a sealed room whoever asks exchanges keys with the owner's home first (`exchange`). No key lets
              anybody in by itself there: the owner's home decides about each. Into a queue that home brings the agents
              of its own person with a record, and without an exchange.
              Who only knows the route of a key begins an exchange as well, so the exchanges that are not proved have
              a bound of their own, and one that has shown nothing makes place for a newer one of another person.
    taken back  An agent may take its request back while nobody decided about it, and knock again.
    denials   A denial is final until the owner approves that agent after all. Of an agent of another person it covers
              that person's other agents on the same key too, except those that wait or were let in.

Not here: coming in (`membership`), and how sure a proof is (the engine compares it with the settings). Above: `room`,
and the engine, which finds a request by what a person typed. Below: `membership` and `lifecycle`. Invariant: of each
request at most one decision stands, and a pending request ends with its room.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import membership, topics
from parlerd.core.decision import Decision, replayed
from parlerd.core.epoch_record import MAX_SEALED_MEMBERS
from parlerd.core.errors import Refused
from parlerd.core.exchange import (
    JOINER_STEPS,
    KNOCK_MS,
    MAX_EXCHANGES,
    MAX_FAILED,
    SHARE,
    Exchange,
    is_form,
    require,
)
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.grants import KINDS, SCOPES, Given, agent_of, is_named, is_one_too_many
from parlerd.core.lifecycle import LifecycleState, place_of, require_open, require_sound
from parlerd.core.membership import MembershipState
from parlerd.core.model import (
    MAX_PENDING_PER_KEY,
    AgentId,
    By,
    Ids,
    KeyId,
    Label,
    Millis,
    PrincipalId,
    RequestId,
    agent_name,
)
from parlerd.core.statements import (
    Claim,
    DecisionStatement,
    Grant,
    KeyTerms,
    KnockStatement,
    S,
    SealingKey,
    contradiction,
    lets_in,
)
from parlerd.core.topics import Topic
from parlerd.core.turning import EpochsState, begun, told_by

MAX_LIVE_KEYS: Final = 32
"""Keys of one room with which somebody may knock at the same time."""
FRESH_KEY_MS: Final = Millis(24 * 3600 * 1000)
"""How long an agent keeps the key to which a sealed room's secrets are wrapped for it, before it tells another: each is
a fact, and a record that uses it. Source: sealed spec, Epochs."""
UNDECIDED: Final = frozenset({"failed", "lapsed", "withdrawn"})
"""How a request is over that nobody decided about, in a room that goes on: its agent may knock again."""
NO_KEY: Final = KeyId("")
"""The key with which an agent asks that comes by a grant."""
MAX_KEYS: Final = 4096
"""Keys that one room ever has: each stays in the room's memory."""


class KeyState(msgspec.Struct):
    """A session key of a room."""

    id: KeyId
    ref: str
    """The key's name in what is signed."""
    gated: bool
    """Whether the key only lets an agent ask; an open key lets the agent in."""
    expires_at: Millis
    max_uses: int
    """How many agents may be let in with the key."""
    minted_at: Millis
    preapproved: tuple[AgentId, ...] = ()
    """Agents that the key lets in although it is gated."""
    users: list[AgentId] = []
    """The agents that were let in with the key, each once, however often it came."""
    revoked: bool = False
    position: int = 0
    """Where the fact stands that minted it."""
    requester: bool = False
    """Whether it lets in who only asks a queue for work."""

    @property
    def uses(self) -> int:
        """How many agents were let in. The number may pass `max_uses`, when a person lets in those who waited."""
        return len(self.users)

    def use(self, agent: AgentId) -> None:
        """Record that an agent was let in with this key."""
        if agent not in self.users:
            self.users.append(agent)

    def state(self, now: Millis) -> str:
        """`live`, `revoked`, `used_up` or `expired`: for the owner's eyes."""
        if self.revoked:
            return "revoked"
        if self.uses >= self.max_uses:
            return "used_up"
        return "expired" if now >= self.expires_at else "live"


def opened_for(room: LifecycleState, keys: Iterable[KeyState]) -> set[AgentId]:
    """The agents for which a direct room was opened, by the terms that its owner's person signed: one, or none where
    the two met by a code. Of every other room nobody."""
    return {agent for key in keys for agent in key.preapproved} if room.kind == "dm" else set()


def require_grantable(room: LifecycleState, grant: Grant, now: Millis) -> None:
    """Refuse a grant that lets nobody into this room, whatever the agent's name. Raises `Refused(statement_refused)`,
    and as a room does that is over."""
    require_open(room)
    require_sound(room)
    if room.sealed:
        # Such an agent has no key by which it could be given the room's secrets.
        raise Refused("sealed_room")
    wrong = {
        "kind": room.kind not in KINDS,
        "home": grant.home != room.home,
        "room": room.room not in grant.rooms,
        "principal": grant.principal != room.owner_principal,
        "scopes": not SCOPES.issuperset(grant.scopes),
        "not_after": now >= grant.not_after,
    }
    if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
        raise Refused("statement_refused", what=what)


class Request(msgspec.Struct):
    """A knock as a room remembers it. `state` is `pending`, `approved`, `denied`, `failed` where the owner's home ended
    its key exchange, `lapsed` or `withdrawn` as `events.KnockEnded` says, or `closed` where the room ended before
    anybody decided. `name`, `host` and `role` are what the agent says of itself."""

    id: RequestId
    key_id: KeyId
    agent: AgentId
    principal: PrincipalId
    name: str
    host: str
    at: Millis
    state: str = "pending"
    position: int = 0
    """Where the knock stands in the log, and below the newest decision on it; 0 without one."""
    decided: int = 0
    role: str = ""
    given: Given | None = None
    """What a grant gives to an agent that has no key and asks by it; then `key_id` is empty."""
    exchange: Exchange | None = None
    """In a sealed room: how far the key exchange is by which it asks."""

    @property
    def is_shown(self) -> bool:
        """Whether whoever decides is asked about it: in a sealed room once it has shown that it has the key."""
        return self.exchange is None or bool(self.exchange.confirmed)


class ApprovalsState(msgspec.Struct):
    """Every key that the room ever had, and every knock, in the order of the facts; `asks` counts the facts about them,
    by which the home of the owner's person says how far it was told of them."""

    keys: dict[KeyId, KeyState] = {}
    requests: dict[RequestId, Request] = {}
    asks: int = 0


def pending(requests: Mapping[RequestId, Request]) -> list[Request]:
    """Requests that wait for a decision, oldest first."""
    return [request for request in waiting(requests) if request.is_shown]


def waiting(requests: Mapping[RequestId, Request]) -> list[Request]:
    """Requests that wait for a decision, or for the end of the key exchange before it, oldest first."""
    return [request for request in requests.values() if request.state == "pending"]


def is_stale(request: Request, now: Millis) -> bool:
    """Whether a request waited in vain for the owner's home, which never answered its key exchange."""
    return request.state == "pending" and not request.is_shown and now >= request.at + KNOCK_MS


def standing_request(requests: Mapping[RequestId, Request], agent: AgentId) -> Request | None:
    """The newest request of an agent, in whatever state."""
    mine = [request for request in requests.values() if request.agent == agent]
    return mine[-1] if mine else None


def is_denied(requests: Mapping[RequestId, Request], key: KeyId, by: By, owner: PrincipalId) -> bool:
    """Whether a denial covers this requester: a denial of its own request or, for an agent without one that waits or
    was granted, a denial on the same key of another agent of the same person.

    Each agent of the owner's person is decided on by itself: all of them have one principal, and a denial of one says
    nothing of the others.
    """
    mine = standing_request(requests, by.actor)
    if mine is not None and mine.state not in UNDECIDED:
        return mine.state == "denied"
    if by.principal == owner:
        return False
    return any(r.state == "denied" and r.key_id == key and r.principal == by.principal for r in requests.values())


def usable_key(keys: Mapping[KeyId, KeyState], key: KeyId, agent: AgentId, now: Millis) -> KeyState:
    """The key, if this agent may knock with it now. A used-up key still serves the agents that it let in.

    Raises `Refused(unknown_key)`.
    """
    known = keys.get(key)
    if known is None or known.revoked or now >= known.expires_at:
        raise Refused("unknown_key")
    if known.uses >= known.max_uses and agent not in known.users:
        raise Refused("unknown_key")
    return known


def check_queue(
    requests: Mapping[RequestId, Request], key: KeyId, principal: PrincipalId, owner: PrincipalId, now: Millis
) -> None:
    """Refuse a sixth pending request on one key, and a second by agents of one person who is not the owner's: nobody
    fills the queue alone. Source: security spec A3, relay spec, Limits and care."""
    before = [request for request in waiting(requests) if request.key_id == key and not is_stale(request, now)]
    require_queue(requests, key)
    if principal != owner and any(request.principal == principal for request in before):
        raise Refused("too_many_pending", "Another agent of this person waits already.", limit=1)


def require_queue(requests: Mapping[RequestId, Request], key: KeyId) -> None:
    """Refuse a sixth request on one key that a person is asked about. Raises `Refused(too_many_pending)`."""
    if sum(request.key_id == key for request in pending(requests)) >= MAX_PENDING_PER_KEY:
        raise Refused("too_many_pending", limit=MAX_PENDING_PER_KEY)


def makes_place(
    requests: Mapping[RequestId, Request], key: KeyId, principal: PrincipalId, away: Collection[AgentId], now: Millis
) -> Request | None:
    """The exchange that makes place for one that this person begins; None where there is place. It has shown nothing,
    and is another person's: first the oldest of an agent that is `away`, then the oldest. Raises
    `Refused(too_many_pending)` where there is none."""
    under_way = [
        request
        for request in waiting(requests)
        if request.key_id == key and not request.is_shown and not is_stale(request, now)
    ]
    if len(under_way) < MAX_EXCHANGES:
        return None
    may_go = [
        request
        for request in under_way
        if request.principal != principal and request.exchange is not None and not request.exchange.shown
    ]
    if not may_go:
        raise Refused("too_many_pending", limit=MAX_EXCHANGES)
    return min(may_go, key=lambda request: (request.agent not in away, request.position))


def find_request(requests: Mapping[RequestId, Request], who: str) -> Request:
    """The request that a request id, an agent id, or a name means; a name must be unique among those who wait.

    A pending request is found before one that was decided. Raises `Refused` with `ambiguous_name` and the candidates,
    or with `no_such_request`.
    """
    shown = [r for r in requests.values() if r.is_shown]
    exact = [r for r in shown if who in (r.id, r.agent)]
    for request in exact:
        if request.state == "pending":
            return request
    if exact:
        return exact[-1]
    named = [r for r in shown if r.name == who]
    asking = [r for r in named if r.state == "pending"]
    if len(asking) > 1:
        raise Refused(
            "ambiguous_name",
            f"{len(asking)} who knock say they are {who!r}.",
            candidates=[{"id": r.agent, "name": r.name, "host": r.host} for r in asking],
        )
    if asking:
        return asking[0]
    if len({r.agent for r in named}) == 1:
        return named[-1]
    raise Refused("no_such_request")


# -- what is signed ----------------------------------------------------------------------------------------


def terms_of(room: LifecycleState, key: KeyState | e.KeyMinted) -> KeyTerms:
    """What the owner's person signs of a key, but for the nonce."""
    return KeyTerms(
        home=room.home,
        room=room.room,
        ref=key.ref,
        gated=key.gated,
        expires_at=key.expires_at,
        max_uses=key.max_uses,
        preapproved=key.preapproved,
        requester=key.requester or msgspec.UNSET,
        nonce=b"",
    )


def knock_of(
    room: LifecycleState,
    key: KeyState,
    *,
    agent: AgentId,
    principal: PrincipalId,
    name: str,
    host: str,
    at: Millis,
) -> KnockStatement:
    """What an agent signs that knocks with this key, but for the nonce. `name` is what it says that it is called, and
    `at` its time."""
    return KnockStatement(
        home=room.home,
        room=room.room,
        ref=key.ref,
        agent=agent,
        principal=principal,
        name=name,
        host=host,
        at=at,
        nonce=b"",
    )


def decision_of(
    room: LifecycleState,
    request: Request,
    handle: str,
    event: e.JoinApproved | e.JoinDenied,
    at: Millis,
    by_key: str | msgspec.UnsetType = msgspec.UNSET,
) -> DecisionStatement:
    """What is signed of a decision about a request, but for the nonce. `handle` is what an approved agent gets, `at`
    when it was decided, and `by_key` the `ref` of the key that alone lets it in."""
    return DecisionStatement(
        home=room.home,
        room=room.room,
        request=request.id,
        agent=request.agent,
        principal=request.principal,
        handle=handle if isinstance(event, e.JoinApproved) else "",
        admit=isinstance(event, e.JoinApproved),
        proof=event.proof,
        by_key=by_key,
        at=at,
        nonce=b"",
    )


def _require_same(expected: S, finished: S | None) -> S:
    """What was signed elsewhere, if anything was; refused unless it says what is expected."""
    if finished is None:
        return expected
    wrong = contradiction(expected, finished)
    if wrong is not None:
        raise Refused("statement_refused", what=wrong)
    return finished


def _require_knocks(requests: Mapping[RequestId, Request], key: KeyId, principal: PrincipalId) -> None:
    """Refuse one more knock of a person with a key where too many came to nothing by what was done at its end. Raises
    `Refused(unknown_key)`."""
    before = (each for each in requests.values() if (each.key_id, each.principal) == (key, principal))
    if sum(each.state in ("failed", "withdrawn") for each in before) >= MAX_FAILED:
        raise Refused("unknown_key")


class Approvals(Facet[ApprovalsState]):
    """Keys and knocks, and the person's answers to them."""

    __slots__ = ("_epochs", "_lifecycle", "_membership", "_modules")

    def __init__(
        self,
        state: ApprovalsState,
        lifecycle: LifecycleState,
        membership: MembershipState,
        modules: Collection[str],
        epochs: EpochsState,
    ) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._epochs = epochs
        self._membership = membership
        self._modules = modules
        """The names of modules, which no member gets."""

    # -- deciding ------------------------------------------------------------------------------------------

    def _knock(self, command: c.Knock, by: By, now: Millis, ids: Ids) -> Decision:
        keys, requests = self.state.keys, self.state.requests
        name = agent_name(command.name)
        member = self._membership.members.get(by.actor)
        request = standing_request(requests, by.actor)
        # An agent that is in, waits or was declined hears so for the key it knocked with, even if that key has died.
        if member is not None and member.present and command.key_id in keys:
            return Decision(answer="member")
        require_sound(self._lifecycle)
        stale = request if request is not None and is_stale(request, command.wall or now) else None
        if stale is not None:
            request = None
        is_over = request is None or request.state == "approved" or request.state in UNDECIDED
        if request is not None and request.key_id == command.key_id and not is_over:
            if request.state == "closed":
                raise Refused("room_closed")
            return Decision(answer=request.state)
        key = usable_key(keys, command.key_id, by.actor, command.wall or now)
        if key.requester:
            command = msgspec.structs.replace(command, role=membership.REQUESTER)
        if is_denied(requests, key.id, by, self._lifecycle.owner_principal):
            return Decision(answer="denied")
        if request is not None and request.state == "pending":
            return Decision(answer="pending")
        # A knock that is decided over a mirror is signed later, and so is the key.
        is_signed = command.statement is not None or command.card is not None
        told = (
            ()
            if not is_signed and command.sealing_key is None
            else told_by(by.actor, command.sealing_key, self._epochs, place_of(self._lifecycle))
        )
        self._require_space()
        _require_knocks(requests, key.id, by.principal)
        barred = membership.is_barred(self._membership.members, by.actor, by.principal, self._lifecycle.owner_principal)
        is_own = not (key.gated or barred) and self._is_own(command, by)
        # Nobody has to show a secret whom the owner's person named by its key.
        is_named = by.actor in opened_for(self._lifecycle, (key,))
        if self._lifecycle.sealed and not is_named and not is_own:
            return self._begin_exchange(command, key, by, name, now, ids, told, stale)
        if self._lifecycle.sealed and barred:
            return Decision(answer="denied")
        if command.card is not None:
            raise Refused("statement_refused", what="share")
        # The home of a sealed room is not told on which agent host anybody is.
        host = "" if self._lifecycle.sealed else command.host
        expected = knock_of(
            self._lifecycle,
            key,
            agent=by.actor,
            principal=by.principal,
            name=name,
            host=host,
            at=command.wall or now,
        )
        if self._lifecycle.sealed and is_own:
            return self._let_in_own(command, key, by, name, expected, told)
        if (not key.gated or by.actor in key.preapproved) and not barred:
            joined = membership.joining(
                self._membership.members,
                self._modules,
                agent=by.actor,
                principal=by.principal,
                name=name,
                host=host,
                role=command.role,
                key=key.id,
            )
            held = self._epochs.roster.get(by.actor)
            if held is not None and held.principal != by.principal:
                raise Refused("statement_refused", what="principal")
            if held is not None and told:
                joined = msgspec.structs.replace(joined, waits=True)
            knock = _require_same(expected, command.statement)
            if command.statement is not None:
                self._require_shows(knock, key, joined)
            return self._knocked_with(key, joined, knock, told, command.sealing_key, answer="joined")
        check_queue(requests, key.id, by.principal, self._lifecycle.owner_principal, now)
        knock = _require_same(expected, command.statement)
        event = e.JoinRequested(
            request=RequestId(ids.new("q")),
            key=key.id,
            agent=by.actor,
            principal=by.principal,
            name=name,
            host=command.host,
            role=command.role,
        )
        return self._knocked_with(key, event, knock, told, command.sealing_key, answer="pending")

    def _is_own(self, command: c.Knock, by: By) -> bool:
        """Whether somebody comes into a sealed queue whom its owner's machine lets in by itself, without a key
        exchange: an agent of the owner's person, by a record that this person signed."""
        room = self._lifecycle
        is_asked = command.epoch is not None or (command.statement is None and command.card is None)
        return room.kind == "service" and by.principal == room.owner_principal and is_asked

    def _let_in_own(
        self,
        command: c.Knock,
        key: KeyState,
        by: By,
        name: Label,
        expected: KnockStatement,
        told: tuple[e.SealingKeyTold, ...],
    ) -> Decision:
        """Let in an agent of a sealed queue's person, with the record that lets it read. Nothing secret has to be shown
        to the machine that has the secret, and the room's home makes no record, so by itself it lets nobody in."""
        room, members = self._lifecycle, self._membership.members
        require_open(room)
        require_sound(room)
        joined = membership.joining(
            members,
            self._modules,
            agent=by.actor,
            principal=by.principal,
            name=name,
            host="",
            role=command.role,
            key=key.id,
        )
        knock = _require_same(expected, command.statement)
        if command.statement is None:
            return self._knocked_with(key, joined, knock, told, command.sealing_key, answer="joined")
        self._require_shows(knock, key, joined)
        inside = membership.claims_of(members) | {by.actor: Claim(by.actor, by.principal, joined.handle)}
        epoch = begun(command.epoch, by.principal, self._epochs, place_of(room), inside)
        roster = {**self._epochs.roster, **{agent: seat for each in epoch for agent, seat in each.added}}
        if by.actor not in roster or any(by.actor in each.removed for each in epoch):
            raise Refused("statement_refused", what="added")
        signed = (knock, *(command.sealing_key for _ in told))
        return Decision((joined, *told, *epoch), statements=signed, authority=f"key:{key.id[:8]}", answer="joined")

    def _begin_exchange(
        self,
        command: c.Knock,
        key: KeyState,
        by: By,
        name: Label,
        now: Millis,
        ids: Ids,
        told: tuple[e.SealingKeyTold, ...],
        stale: Request | None,
    ) -> Decision:
        """Somebody begins to come into a sealed room. No key lets an agent in by the word of the room's home, which
        knows the key's route alone: the owner's home decides about everybody, and lets in by itself whom the key
        admits without asking. The knock of the clear way names the agent host, and would be let in by that word."""
        if command.statement is not None:
            raise Refused("statement_refused", what="share")
        card, sealing_key = command.card, command.sealing_key
        if card is not None and sealing_key is not None:
            wrong = {
                "home": card.home != self._lifecycle.home,
                "agent": card.agent != by.actor,
                "principal": card.principal != by.principal,
                "name": card.name != name,
                "key": card.key != sealing_key.key,
                "share": len(command.share) != SHARE,
            }
            if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
                raise Refused("statement_refused", what=what)
        if opened_for(self._lifecycle, (key,)):
            # The room is for the agent that its owner named, and nobody types its key.
            raise Refused("unknown_key")
        requests, wall = self.state.requests, command.wall or now
        check_queue(requests, key.id, by.principal, self._lifecycle.owner_principal, wall)
        over = (stale, makes_place(requests, key.id, by.principal, command.away, wall))
        event = e.JoinRequested(
            request=RequestId(ids.new("q")),
            key=key.id,
            agent=by.actor,
            principal=by.principal,
            name=name,
            host="",
            role=command.role,
        )
        begun = e.KeyExchanged(request=event.request, agent=event.agent, step="begun", text=command.share)
        ended = tuple(
            e.KnockEnded(request=each.id, agent=each.agent, how="lapsed") for each in over if each is not None
        )
        statements = (*(None for _ in ended), card, None, *(sealing_key for _ in told))
        return Decision(
            (*ended, event, begun, *told),
            statements=statements if card is not None else (),
            authority=f"key:{key.id[:8]}",
            answer="pending",
        )

    def _exchange(self, command: c.ExchangeKey, by: By, now: Millis, ids: Ids) -> Decision:
        """A step of a key exchange. The joiner shows the key, and all other steps are the owner's."""
        room, request = self._lifecycle, self.state.requests.get(command.request)
        owns = command.principal is not None and command.principal == room.owner_principal
        if request is None or request.exchange is None or (not owns and request.agent != by.actor):
            raise Refused("no_such_request")
        require_open(room)
        require_sound(room)
        # Whoever began asks with that step how far the exchange is here.
        if command.step == "granted" or owns is (command.step in JOINER_STEPS):
            raise Refused("statement_refused", what=command.step)
        if request.state != "pending":
            if command.step == request.state or request.exchange.said(command.step) == command.text != b"":
                return Decision(answer=command.step)
            raise Refused("already_decided", f"That request was {request.state} before.", agent=request.agent)
        if not require(request.exchange, command.step, command.text):
            return Decision(answer=command.step)
        if command.step == "confirmed":
            require_queue(self.state.requests, request.key_id)
        event = e.KeyExchanged(request=request.id, agent=request.agent, step=command.step, text=command.text)
        return Decision((event,), authority="person" if owns else f"key:{request.key_id[:8]}", answer=command.step)

    def _withdraw(self, command: c.WithdrawKnock, by: By, now: Millis, ids: Ids) -> Decision:
        request = self.state.requests.get(command.request)
        if request is None or request.agent != by.actor:
            raise Refused("no_such_request")
        if request.state == "pending":
            require_sound(self._lifecycle)
            ended = e.KnockEnded(request=request.id, agent=request.agent, how="withdrawn")
            return Decision((ended,), authority=f"key:{request.key_id[:8]}", answer="withdrawn")
        if request.state in UNDECIDED or request.state == "closed":
            return Decision(answer=request.state)
        raise Refused("already_decided", f"That request was {request.state} before.", agent=request.agent)

    @staticmethod
    def _knocked_with(
        key: KeyState,
        event: e.MemberJoined | e.JoinRequested,
        knock: KnockStatement,
        told: tuple[e.SealingKeyTold, ...],
        sealing_key: SealingKey | None,
        *,
        answer: str,
    ) -> Decision:
        signed = (knock, sealing_key) if told else (knock,)
        return Decision((event, *told), statements=signed, authority=f"key:{key.id[:8]}", answer=answer)

    def _require_space(self) -> None:
        """Refuse one more where a sealed room has as many members as the wraps of a record may be for."""
        members = self._membership.members.values()
        if self._lifecycle.sealed and sum(member.present for member in members) >= MAX_SEALED_MEMBERS:
            raise Refused("too_many_members", limit=MAX_SEALED_MEMBERS)

    def _tell_key(self, command: c.TellSealingKey, by: By, now: Millis, ids: Ids) -> Decision:
        member, request = self._membership.members.get(by.actor), standing_request(self.state.requests, by.actor)
        is_in = member is not None and member.present
        if not is_in and (request is None or request.state != "pending"):
            raise Refused("no_such_room")
        require_open(self._lifecycle)
        told = told_by(by.actor, command.sealing_key, self._epochs, place_of(self._lifecycle))
        last = self._epochs.told.get(by.actor)
        if told and last is not None and now < last.at + FRESH_KEY_MS:
            raise Refused("throttled", retry_after_ms=last.at + FRESH_KEY_MS - now)
        return Decision(told, statements=(command.sealing_key,) if told else (), authority="member", answer="told")

    def _require_shows(self, knock: KnockStatement, key: KeyState, joined: e.MemberJoined) -> None:
        """Refuse a knock from elsewhere that would not show others why its agent was let in: by the agent's clock the
        key had expired, or the agent now calls itself by another name than the one that its handle is made of."""
        terms = terms_of(self._lifecycle, key)
        claim = Claim(joined.agent, joined.principal, joined.handle)
        wrong = lets_in(self._lifecycle.home, self._lifecycle.room, terms, knock, claim)
        if wrong is not None:
            raise Refused("statement_refused", what="at" if wrong == "expires_at" else wrong)

    def _decide(self, command: c.DecideRequest, by: By, now: Millis, ids: Ids) -> Decision:
        room, members = self._lifecycle, self._membership.members
        # Nobody speaks for the person without a proof. In a room whose approver is `agent` its owner needs no proof.
        owns = command.principal == room.owner_principal and (command.proof != "none" or command.by_key)
        deputy = room.approver == "agent" and by.actor == room.owner
        if not owns and not deputy:
            raise Refused("no_such_room" if by.actor not in members else "not_owner")
        require_open(room)
        require_sound(room)
        request = self.state.requests.get(command.request)
        if request is None:
            raise Refused("no_such_request")
        lifts = request.state == "denied" and command.admit
        if request.state != "pending" and not lifts:
            raise Refused("already_decided", f"That request was {request.state} before.", agent=request.agent)
        authority = "person" if owns else "owner"
        if not command.admit:
            denied = e.JoinDenied(request=request.id, agent=request.agent, proof=command.proof)
            signed = _require_same(decision_of(room, request, "", denied, now), command.statement)
            return Decision((denied,), statements=(signed,), authority=authority, answer=request.agent)
        approved = e.JoinApproved(request=request.id, agent=request.agent, proof=command.proof)
        self._require_space()
        knock, by_key = self._require_exchanged(command, request)
        if request.given is not None:
            if now >= request.given.until:
                raise Refused("token_invalid", "The grant by which it asks is over.")
            if is_one_too_many(request.given, (member.given for member in members.values())):
                raise Refused("token_used_up")
        joined = membership.joining(
            members,
            self._modules,
            agent=request.agent,
            principal=request.principal,
            name=Label(request.name),
            host=request.host,
            role=request.role,
            request=request.id,
            key=request.key_id or None,
            given=request.given,
        )
        signed = _require_same(decision_of(room, request, joined.handle, approved, now, by_key), command.statement)
        epoch = self._epoch_with(command, joined)
        told: tuple[e.Event, ...] = ()
        if command.granted:
            granted = command.granted
            told = (e.KeyExchanged(request=request.id, agent=request.agent, step="granted", text=granted),)
        return Decision(
            (*told, approved, joined, *epoch),
            statements=(*(None for _ in told), signed, knock),
            authority=authority,
            answer=request.agent,
        )

    def _require_exchanged(
        self, command: c.DecideRequest, request: Request
    ) -> tuple[KnockStatement | None, str | msgspec.UnsetType]:
        """The knock of whoever is admitted to a sealed room, and the `ref` of the key where that alone lets the agent
        in. Raises `Refused`: `knock_unfinished` before the owner's home confirmed that the agent has the key,
        `statement_refused` where the knock is not the one that belongs to the request."""
        room, members = self._lifecycle, self._membership.members
        key = self.state.keys.get(request.key_id)
        if not room.sealed or key is None:
            if command.by_key or command.knock is not None or command.granted:
                raise Refused("statement_refused", what="knock")
            return None, msgspec.UNSET
        if not request.is_shown or request.exchange is None:
            raise Refused("knock_unfinished")
        if command.by_key:
            asks = key.gated and request.agent not in key.preapproved
            barred = membership.is_barred(members, request.agent, request.principal, room.owner_principal)
            if asks or barred or request.state != "pending":
                raise Refused("statement_refused", what="by_key")
        if command.statement is not None and (command.knock is None or not is_form("granted", command.granted)):
            raise Refused("statement_refused", what="knock")
        expected = knock_of(
            room,
            key,
            agent=request.agent,
            principal=request.principal,
            name=request.name,
            host="",
            at=request.at,
        )
        if command.knock is not None:
            _require_same(expected, command.knock)
        return command.knock, key.ref if command.by_key else msgspec.UNSET

    def _epoch_with(self, command: c.DecideRequest, joined: e.MemberJoined) -> tuple[e.EpochTurned, ...]:
        """The epoch that lets whoever comes in read, if it came with the decision. It has to be of this decision."""
        present = membership.claims_of(self._membership.members)
        present[joined.agent] = Claim(joined.agent, joined.principal, joined.handle)
        epoch = begun(command.epoch, command.principal, self._epochs, place_of(self._lifecycle), present)
        if command.epoch is not None:
            record = command.epoch.record
            # Who left and comes back before a record left it out is in the roster still.
            readers = {*self._epochs.roster, *(each.agent for each in record.added)}
            for what, is_wrong in (
                ("added", joined.agent not in readers),
                ("decisions", command.digest not in record.decisions),
            ):
                if is_wrong:
                    raise Refused("statement_refused", what=what)
        return epoch

    def _mint(self, command: c.MintKey, by: By, now: Millis, ids: Ids) -> Decision:
        room, keys, terms = self._lifecycle, self.state.keys, command.terms
        if by.actor != room.owner and command.principal != room.owner_principal:
            raise Refused("not_owner" if by.actor in self._membership.members else "no_such_room")
        require_open(room)
        require_sound(room)
        wrong = {
            "kind": room.kind == "dm",
            "home": terms.home != room.home,
            "room": terms.room != room.room,
            # Whoever decides who comes in said so when the room was opened, and no later key asks them less.
            "gated": room.approval and not terms.gated,
            "preapproved": bool(terms.preapproved),
            "requester": terms.requester is True and room.kind != "service",
        }
        if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
            raise Refused("statement_refused", what=what)
        known = keys.get(command.mint)
        if known is not None and known.ref == terms.ref:
            return replayed(command) or Decision(answer="minted")
        if known is not None or any(key.ref == terms.ref for key in keys.values()):
            raise Refused("statement_refused", what="ref")
        if sum(key.state(now) == "live" for key in keys.values()) >= MAX_LIVE_KEYS or len(keys) >= MAX_KEYS:
            raise Refused("too_many_keys", limit=MAX_LIVE_KEYS)
        minted = e.KeyMinted(
            key=command.mint,
            ref=terms.ref,
            gated=terms.gated,
            expires_at=terms.expires_at,
            max_uses=terms.max_uses,
            requester=terms.requester is True,
        )
        return Decision((minted,), statements=(terms,), authority="owner", answer="minted")

    def _grant(self, command: c.AdmitGranted, by: By, now: Millis, ids: Ids) -> Decision:
        room, members, gives = self._lifecycle, self._membership.members, command.gives
        if command.principal != room.owner_principal:
            raise Refused("not_owner" if by.actor in members else "no_such_room")
        require_grantable(room, command.grant, now)
        wrong = {
            "names": not is_named(command.grant, command.name),
            "agent": command.agent != agent_of(gives.grant, command.name),
            "count": is_one_too_many(gives, (member.given for member in members.values())),
        }
        if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
            raise Refused("statement_refused", what=what)
        known = members.get(command.agent)
        if known is not None:
            if not known.present:
                # Whoever left or was put out stays out: the person signs another grant.
                raise Refused("statement_refused", what="used")
            return Decision(answer="member")
        if command.grant.approval:
            return self._ask(command, now, ids)
        joined = membership.joining(
            members,
            self._modules,
            agent=command.agent,
            principal=command.principal,
            name=agent_name(command.name),
            host="",
            role=command.role,
            given=gives,
        )
        return Decision((joined,), statements=(command.grant,), authority="person", answer="joined")

    def _ask(self, command: c.AdmitGranted, now: Millis, ids: Ids) -> Decision:
        """An agent without a key asks to come in: the person decides about it."""
        request = standing_request(self.state.requests, command.agent)
        if request is not None:
            if request.state == "closed":
                raise Refused("room_closed")
            return Decision(answer=request.state)
        check_queue(self.state.requests, NO_KEY, command.principal, self._lifecycle.owner_principal, now)
        event = e.JoinRequested(
            request=RequestId(ids.new("q")),
            key=NO_KEY,
            agent=command.agent,
            principal=command.principal,
            name=agent_name(command.name),
            host="",
            role=command.role,
            given=command.gives,
        )
        return Decision((event,), statements=(command.grant,), authority="grant", answer="pending")

    def _revoke(self, command: c.RevokeKey, by: By, now: Millis, ids: Ids) -> Decision:
        room = self._lifecycle
        key = self.state.keys.get(command.revoke)
        if key is None:
            raise Refused("unknown_key")
        if by.actor != room.owner and command.principal != room.owner_principal:
            # A stranger who holds a real key must learn no more about it than a stranger who guesses keys.
            raise Refused("not_owner" if by.actor in self._membership.members else "unknown_key")
        if key.revoked:
            return Decision(answer="revoked")
        return Decision((e.KeyRevoked(key=key.id),), authority="owner", answer="revoked")

    def _expel(self, command: c.Expel, by: By, now: Millis, ids: Ids) -> Decision:
        """The room stays, because it is the others' room too, and so does its owner, who comes back only with the
        person."""
        owner, owns = self._lifecycle.owner, self._lifecycle.owner_principal == command.principal
        every = self._membership.members.values()
        members = [m for m in every if m.present and m.principal == command.principal and m.agent != owner]
        keys = [key for key in self.state.keys.values() if owns and not key.revoked]
        left: tuple[e.Event, ...] = tuple(e.MemberLeft(agent=member.agent) for member in members)
        revoked: tuple[e.Event, ...] = tuple(e.KeyRevoked(key=key.id) for key in keys)
        return Decision(revoked + left, authority="home")

    # -- becoming ------------------------------------------------------------------------------------------

    def _minted(self, event: e.KeyMinted, header: e.Header) -> None:
        self.state.asks += 1
        self.state.keys[event.key] = KeyState(
            id=event.key,
            ref=event.ref,
            gated=event.gated,
            expires_at=event.expires_at,
            max_uses=event.max_uses,
            minted_at=header.at,
            preapproved=event.preapproved,
            position=header.position,
            requester=event.requester,
        )

    def _revoked(self, event: e.KeyRevoked, header: e.Header) -> None:
        self.state.asks += 1
        self.state.keys[event.key].revoked = True

    def _requested(self, event: e.JoinRequested, header: e.Header) -> None:
        self.state.asks += 1
        self.state.requests[event.request] = Request(
            id=event.request,
            key_id=event.key,
            agent=event.agent,
            principal=event.principal,
            name=event.name,
            host=event.host,
            at=header.at,
            position=header.position,
            role=event.role,
            given=event.given,
        )

    def _exchanged(self, event: e.KeyExchanged, header: e.Header) -> None:
        self.state.asks += 1
        request = self.state.requests[event.request]
        if event.step == "failed":
            request.state = "failed"
        else:
            request.exchange = request.exchange or Exchange()
            request.exchange.take(event.step, event.text)

    def _ended(self, event: e.KnockEnded, header: e.Header) -> None:
        self.state.asks += 1
        self.state.requests[event.request].state = event.how

    def _approved(self, event: e.JoinApproved, header: e.Header) -> None:
        self.state.asks += 1
        self._decided(event.request, "approved", header)

    def _denied(self, event: e.JoinDenied, header: e.Header) -> None:
        self.state.asks += 1
        self._decided(event.request, "denied", header)

    def _decided(self, id: RequestId, state: str, header: e.Header) -> None:
        request = self.state.requests[id]
        request.state, request.decided = state, header.position

    def _joined(self, event: e.MemberJoined, header: e.Header) -> None:
        if event.key is not None:
            self.state.keys[event.key].use(event.agent)

    def _key_told(self, event: e.SealingKeyTold, header: e.Header) -> None:
        self.state.asks += 1

    def _closed(self, event: e.RoomClosed, header: e.Header) -> None:
        for key in self.state.keys.values():
            key.revoked = True
        for request in waiting(self.state.requests):
            request.state = "closed"

    # -- what time changes ---------------------------------------------------------------------------------

    def next_deadline(self, after: Millis) -> Millis | None:
        """When the next live key expires. A key that is dead already changes no more."""
        return min((key.expires_at for key in self._dying(after)), default=None)

    def expire(self, after: Millis, now: Millis) -> Iterator[Topic]:
        """The topics of the keys that expired in (after, now]. No fact says that a key expired: when a wrong clock is
        set right, a key that should live is alive again."""
        return (topics.keys(self._lifecycle.room, key.id) for key in self._dying(after) if key.expires_at <= now)

    def _dying(self, after: Millis) -> Iterator[KeyState]:
        """The keys that are live at `after`, each of which will expire."""
        return (key for key in self.state.keys.values() if key.state(after) == "live")

    # -- whom it wakes -------------------------------------------------------------------------------------

    def _key_changed(self, event: e.KeyMinted | e.KeyRevoked, header: e.Header) -> tuple[Topic, ...]:
        return (topics.keys(self._lifecycle.room, event.key),)

    def _knocked(self, event: e.JoinRequested, header: e.Header) -> tuple[Topic, ...]:
        return topics.requests(self._lifecycle.owner_principal), topics.concerns(self._lifecycle.owner)

    def _answered(
        self, event: e.JoinApproved | e.JoinDenied | e.KeyExchanged | e.KnockEnded, header: e.Header
    ) -> tuple[Topic, ...]:
        room = self._lifecycle
        return (
            topics.requests(room.owner_principal),
            topics.decision(room.room, event.agent),
            topics.concerns(event.agent),
            topics.concerns(room.owner),
        )

    def _all_answered(self, event: e.RoomClosed, header: e.Header) -> Iterator[Topic]:
        for key in self.state.keys:
            yield topics.keys(self._lifecycle.room, key)
        for request in self.state.requests.values():
            yield topics.decision(self._lifecycle.room, request.agent)
            yield topics.concerns(request.agent)

    DECIDES = (
        decides(c.Knock, _knock),
        decides(c.WithdrawKnock, _withdraw),
        decides(c.ExchangeKey, _exchange),
        decides(c.DecideRequest, _decide),
        decides(c.MintKey, _mint),
        decides(c.AdmitGranted, _grant),
        decides(c.RevokeKey, _revoke),
        decides(c.Expel, _expel),
        decides(c.TellSealingKey, _tell_key),
    )
    APPLIES = (
        applies(e.KeyMinted, _minted),
        applies(e.KeyRevoked, _revoked),
        applies(e.JoinRequested, _requested),
        applies(e.KeyExchanged, _exchanged),
        applies(e.KnockEnded, _ended),
        applies(e.JoinApproved, _approved),
        applies(e.JoinDenied, _denied),
        applies(e.MemberJoined, _joined),
        applies(e.SealingKeyTold, _key_told),
        applies(e.RoomClosed, _closed),
    )
    TOUCHES = (
        touches(e.KeyMinted, _key_changed),
        touches(e.KeyRevoked, _key_changed),
        touches(e.JoinRequested, _knocked),
        touches(e.KeyExchanged, _answered),
        touches(e.KnockEnded, _answered),
        touches(e.JoinApproved, _answered),
        touches(e.JoinDenied, _answered),
        touches(e.RoomClosed, _all_answered),
    )
