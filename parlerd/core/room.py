"""A room: what it decides, and what it becomes.

`decide` takes a command, who asks, the time and a source of ids, and gives events or raises `Refused`; it changes
nothing. `apply` takes a committed fact and cannot fail. Neither reads a clock or draws randomness: the same inputs give
the same events everywhere. A room in memory holds members, keys, requests and counters, never messages.

Above: the engine, which looks up what `decide` needs of the past and commits what it gives. Below: `membership`,
`approvals`, `visibility`, the rules by topic.
"""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from parlerd.core import approvals, membership, visibility
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision, replayed
from parlerd.core.envelope import Envelope
from parlerd.core.errors import Refused
from parlerd.core.model import (
    AgentId,
    Approver,
    By,
    History,
    Ids,
    KeyId,
    Label,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
    RoomKind,
    Seq,
    View,
    agent_name,
)
from parlerd.core.words import contradiction

FOLD_VERSION: Final = 3
"""Raise it when `apply` or the state's shape changes: snapshots of another version are thrown away and rooms replay."""


class AuthorState(msgspec.Struct):
    """An author's thread of envelopes in a room: how many, and the hash of the last."""

    counter: int
    envelope: bytes


class RoomState(msgspec.Struct):
    """Everything folded from a room's log; what a snapshot holds."""

    room: RoomId = RoomId("")
    kind: RoomKind = "session"
    name: str = ""
    topic: str = ""
    owner: AgentId = AgentId("")
    owner_principal: PrincipalId = PrincipalId("")
    history: History = "full"
    approval: bool = True
    approver: Approver = "person"
    opened_at: Millis = Millis(0)
    closed: bool = False
    position: Position = Position(0)
    last_at: Millis = Millis(0)
    last_message_at: Millis = Millis(0)
    public: int = 0
    opening: Position = Position(0)
    members: dict[AgentId, membership.Member] = {}
    keys: dict[KeyId, approvals.KeyState] = {}
    requests: dict[RequestId, c.Request] = {}
    authors: dict[AgentId, AuthorState] = {}


class Room:
    """One room's rules over its folded state."""

    fold_version: int = FOLD_VERSION

    def __init__(self, state: RoomState | None = None) -> None:
        self.state = state or RoomState()

    # -- reading -------------------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        return self.state.position

    @property
    def last_at(self) -> Millis:
        return self.state.last_at

    def view(self, agent: AgentId) -> View:
        """What a present member may see. Raises `Refused(no_such_room)` for anyone else."""
        return membership.view_of(membership.present(self.state.members, agent))

    def newest_seq(self, agent: AgentId) -> Seq:
        """A present member's number for the newest message it may see: what the store would count."""
        member = self.state.members[agent]
        return Seq(self.state.public - member.hidden + member.private)

    def thread_of(self, author: AgentId) -> bytes:
        """The hash of the author's newest envelope here, empty before its first."""
        known = self.state.authors.get(author)
        return b"" if known is None else known.envelope

    def snapshot(self) -> bytes:
        """The folded state, to be kept with `fold_version` and `position`."""
        return msgspec.msgpack.encode(self.state)

    @classmethod
    def restore(cls, data: bytes) -> Room:
        """The room that `snapshot` kept. Raises `msgspec.DecodeError` for anything else."""
        return cls(msgspec.msgpack.decode(data, type=RoomState))

    def pending(self) -> list[c.Request]:
        """Requests that wait for a decision, oldest first."""
        return [request for request in self.state.requests.values() if request.state == "pending"]

    # -- deciding ------------------------------------------------------------------------------------------

    def decide(self, command: c.Command, *, by: By, now: Millis, ids: Ids) -> Decision:
        """The events that carry out `command`. Raises `Refused` and changes nothing."""
        match command:
            case c.PostMessage():
                return self._post(command, by, ids)
            case c.OpenRoom():
                return self._open(command, by, ids)
            case c.Knock():
                return self._knock(command, by, now, ids)
            case c.DecideRequest():
                return self._decide_request(command, by)
            case c.RevokeKey():
                return self._revoke(command, by)
            case c.CloseRoom():
                return self._close(command, by)
        raise Refused("unknown_operation")

    def _open(self, command: c.OpenRoom, by: By, ids: Ids) -> Decision:
        if self.state.position:
            if by.actor != self.state.owner:
                raise Refused("no_such_room")
            return replayed(command) or Decision(answer="exists")
        events: list[e.Event] = [
            e.RoomOpened(
                room=command.room,
                kind=command.kind,
                name=command.name,
                topic=command.topic,
                owner=by.actor,
                owner_principal=by.principal,
                history=command.history,
                approval=command.approval,
                approver=command.approver,
            ),
            e.MemberJoined(
                agent=by.actor, principal=by.principal, handle=agent_name(command.handle), host=command.host
            ),
            e.KeyMinted(
                key=command.mint,
                gated=command.approval,
                expires_at=command.expires_at,
                max_uses=command.max_uses,
                preapproved=command.preapproved,
            ),
        ]
        if command.recap:
            events.append(
                e.MessagePosted(id=MessageId(ids.new("m")), kind="context", chain=ids.new("c"), counter=1, opening=True)
            )
        return Decision(tuple(events), authority="owner", seq=Seq(1) if command.recap else Seq(0))

    def _post(self, command: c.PostMessage, by: By, ids: Ids) -> Decision:
        state = self.state
        author = membership.present(state.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._require_open()
        to = tuple(dict.fromkeys(membership.resolve(state.members, who) for who in command.to))
        role = ""
        if command.taker:
            to, role = membership.resolve_taker(state.members, state.owner, command.taker, giver=by.actor)
        asked = command.visibility
        if command.envelope is not None and command.reply is not None and asked == command.reply.visibility:
            asked = None  # it stays among those readers, as a local reply does that names none; one may have left
        named = None if asked is None else tuple(membership.resolve(state.members, who) for who in asked)
        target = None if command.reply_to is None else command.reply
        if command.reply_to is not None and (
            target is None
            or not visibility.can_see(
                membership.view_of(author), position=target.position, visibility=target.visibility
            )
        ):
            raise Refused("no_such_message", id=command.reply_to)
        readers = visibility.audience(by.actor, named, None if target is None else target.visibility)
        if readers is not None and not set(to) <= set(readers):
            raise Refused("invalid_param", "A message cannot be addressed to someone it is hidden from.", param="to")
        known = state.authors.get(by.actor)
        event = e.MessagePosted(
            id=command.id or MessageId(ids.new("m")),
            kind=command.kind,
            to=to,
            role=role,
            visibility=readers,
            reply_to=command.reply_to,
            chain=target.chain if target else command.envelope.chain if command.envelope else ids.new("c"),
            hops=0 if target is None else target.hops + 1,
            counter=(known.counter if known else 0) + 1,
        )
        if command.envelope is not None:
            self._require_same(command, command.envelope, event, by.actor)
        return Decision(
            (event,),
            authority="owner" if by.actor == state.owner else "member",
            previous=self.thread_of(by.actor),
            seq=Seq(self.newest_seq(by.actor) + 1),
        )

    def _require_same(
        self, command: c.PostMessage, finished: Envelope, event: e.MessagePosted, author: AgentId
    ) -> None:
        """Refuse an envelope of an author elsewhere unless it says what this room decides itself: for whom, in answer
        to what, and after which message of the author. The name of a new thread alone is the author's to choose."""
        wrong = contradiction(self.state.room, command.idempotency_key or "", event, finished)
        if wrong is None and finished.previous != self.thread_of(author):
            wrong = "previous"
        if wrong is None and (command.id is None or command.is_id_taken):
            wrong = "id"
        if wrong is not None:
            raise Refused("envelope_refused", what=wrong)

    def _knock(self, command: c.Knock, by: By, now: Millis, ids: Ids) -> Decision:
        state = self.state
        name = agent_name(command.name)
        member = state.members.get(by.actor)
        request = approvals.standing_request(state.requests, by.actor)
        # Whoever is in, waits or was declined hears so with the key it came with, also when that key has died since.
        if member is not None and member.present and command.key_id in state.keys:
            return Decision(answer="member")
        if request is not None and request.key_id == command.key_id and request.state != "approved":
            if request.state == "closed":
                raise Refused("room_closed")
            return Decision(answer=request.state)
        key = approvals.usable_key(state.keys, command.key_id, by.actor, command.wall or now)
        if approvals.is_denied(state.requests, key.id, by, state.owner_principal):
            return Decision(answer="denied")
        if request is not None and request.state == "pending":
            return Decision(answer="pending")
        if not key.gated or by.actor in key.preapproved:
            joined = self._joining(by.actor, by.principal, name, command.host, key=key.id)
            return Decision((joined,), authority=f"key:{key.id[:8]}", answer="joined")
        approvals.check_queue(state.requests, key.id)
        event = e.JoinRequested(
            request=RequestId(ids.new("q")),
            key=key.id,
            agent=by.actor,
            principal=by.principal,
            name=name,
            host=command.host,
        )
        return Decision((event,), authority=f"key:{key.id[:8]}", answer="pending")

    def _decide_request(self, command: c.DecideRequest, by: By) -> Decision:
        state = self.state
        # Without a proof nobody speaks for the person; a room of the policy `agent` needs none of its owner.
        owns = command.principal == state.owner_principal and command.proof != "none"
        deputy = state.approver == "agent" and by.actor == state.owner
        if not owns and not deputy:
            raise Refused("no_such_room" if by.actor not in state.members else "not_owner")
        self._require_open()
        request = approvals.find_request(state.requests, command.who)
        lifts = request.state == "denied" and command.admit
        if request.state != "pending" and not lifts:
            raise Refused("already_decided", f"That request was {request.state} before.", agent=request.agent)
        authority = "person" if owns else "owner"
        if not command.admit:
            denied = e.JoinDenied(request=request.id, agent=request.agent, proof=command.proof)
            return Decision((denied,), authority=authority, answer=request.agent)
        approved = e.JoinApproved(request=request.id, agent=request.agent, proof=command.proof)
        joined = self._joining(
            request.agent, request.principal, request.name, request.host, request=request.id, key=request.key_id
        )
        return Decision((approved, joined), authority=authority, answer=request.agent)

    def _joining(
        self,
        agent: AgentId,
        principal: PrincipalId,
        name: str,
        host: str,
        *,
        request: RequestId | None = None,
        key: KeyId | None = None,
    ) -> e.MemberJoined:
        handle = membership.free_handle(self.state.members, agent, Label(name))
        return e.MemberJoined(agent=agent, principal=principal, handle=handle, host=host, request=request, key=key)

    def _revoke(self, command: c.RevokeKey, by: By) -> Decision:
        state = self.state
        key = state.keys.get(command.revoke)
        if key is None:
            raise Refused("unknown_key")
        if by.actor != state.owner and command.principal != state.owner_principal:
            # A stranger who holds a key learns no more of it than one who guesses.
            raise Refused("not_owner" if by.actor in state.members else "unknown_key")
        if key.revoked:
            return Decision(answer="revoked")
        return Decision((e.KeyRevoked(key=key.id),), authority="owner", answer="revoked")

    def _close(self, command: c.CloseRoom, by: By) -> Decision:
        owns = command.principal is not None and command.principal == self.state.owner_principal
        if not owns:
            membership.present(self.state.members, by.actor)
        self._require_open()
        if by.actor == self.state.owner:
            return Decision((e.RoomClosed(),), authority="owner", answer="closed")
        if owns:
            return Decision((e.RoomClosed(),), authority="person", answer="closed")
        return Decision((e.MemberLeft(agent=by.actor),), authority="member", answer="left")

    def _require_open(self) -> None:
        if self.state.closed:
            raise Refused("room_closed")

    # -- becoming ------------------------------------------------------------------------------------------

    def apply(self, header: e.Header) -> None:
        """Take a committed fact in. Facts come in order, from position 1, each exactly once."""
        state = self.state
        event = header.event
        state.position, state.last_at = header.position, header.at
        match event:
            case e.MessagePosted():
                if event.visibility is None:
                    state.public += 1
                else:
                    for agent in event.visibility:
                        state.members[agent].private += 1
                state.last_message_at = header.at
                if event.opening:
                    state.opening = header.position
                author = state.authors.get(header.by.actor)
                if author is None:
                    state.authors[header.by.actor] = AuthorState(event.counter, event.envelope)
                else:
                    author.counter, author.envelope = event.counter, event.envelope
            case e.RoomOpened():
                state.room, state.kind, state.name, state.topic = event.room, event.kind, event.name, event.topic
                state.owner, state.owner_principal = event.owner, event.owner_principal
                state.history, state.approval, state.approver = event.history, event.approval, event.approver
                state.opened_at = header.at
            case e.MemberJoined():
                membership.admit(
                    state.members,
                    agent=event.agent,
                    principal=event.principal,
                    handle=event.handle,
                    host=event.host,
                    role=event.role,
                    at=header.at,
                    position=header.position,
                    history=state.history,
                    opening=state.opening,
                    public=state.public,
                )
                if event.key is not None:
                    state.keys[event.key].use(event.agent)
            case e.MemberLeft():
                membership.depart(
                    state.members, event.agent, position=header.position, history=state.history, public=state.public
                )
            case e.KeyMinted():
                state.keys[event.key] = approvals.KeyState(
                    id=event.key,
                    gated=event.gated,
                    expires_at=event.expires_at,
                    max_uses=event.max_uses,
                    minted_at=header.at,
                    preapproved=event.preapproved,
                )
            case e.KeyRevoked():
                state.keys[event.key].revoked = True
            case e.JoinRequested():
                state.requests[event.request] = c.Request(
                    id=event.request,
                    key_id=event.key,
                    agent=event.agent,
                    principal=event.principal,
                    name=event.name,
                    host=event.host,
                    at=header.at,
                )
            case e.JoinApproved():
                state.requests[event.request].state = "approved"
            case e.JoinDenied():
                state.requests[event.request].state = "denied"
            case e.RoomClosed():
                state.closed = True
                for key in state.keys.values():
                    key.revoked = True
                for request in self.pending():
                    request.state = "closed"
            case e.AgentCreated() | e.ConversationBound() | e.DelegationIssued() | e.RoomNamed() | e.SessionActivated():
                pass  # facts of the home room; a room's log never holds one
            case _:
                assert_never(event)
