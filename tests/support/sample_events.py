"""One fact of every type, with every field set: what the codec and the store must keep for good."""

from __future__ import annotations

import hashlib

from parlerd.core import events as e
from parlerd.core.model import AgentId, By, KeyId, MessageId, Millis, Position, PrincipalId, RequestId, RoomId

_AGENT, _PERSON, _ROOM = AgentId("U" + "A" * 55), PrincipalId("A" + "B" * 55), RoomId("r_0123456789ABCDEFGHJK")
_REQUEST, _KEY = RequestId("q_1"), KeyId("ab" * 32)

SAMPLES: tuple[e.Event, ...] = (
    e.RoomOpened(
        room=_ROOM,
        kind="session",
        name="auth-redesign",
        topic="Auth redesign",
        owner=_AGENT,
        owner_principal=_PERSON,
        history="full",
        approval=True,
        approver="person",
    ),
    e.MemberJoined(
        agent=_AGENT,
        principal=_PERSON,
        handle="codex@repo",
        host="codex",
        role="reviewer",
        request=_REQUEST,
        key=_KEY,
    ),
    e.MemberLeft(agent=_AGENT),
    e.RoomClosed(),
    e.KeyMinted(key=_KEY, gated=True, expires_at=Millis(1_700_000_000_000), max_uses=50, preapproved=(_AGENT,)),
    e.KeyRevoked(key=_KEY),
    e.JoinRequested(request=_REQUEST, key=_KEY, agent=_AGENT, principal=_PERSON, name="codex@repo", host="codex"),
    e.JoinApproved(request=_REQUEST, agent=_AGENT, proof="terminal"),
    e.JoinDenied(request=_REQUEST, agent=_AGENT, proof="cli"),
    e.MessagePosted(
        id=MessageId("m_1"),
        kind="task",
        to=(_AGENT,),
        role="reviewer",
        visibility=(_AGENT,),
        reply_to=MessageId("m_0"),
        chain="c_1",
        hops=2,
        counter=7,
        envelope=bytes(range(32)),
        verified="valid",
        opening=True,
    ),
    e.AgentCreated(
        agent=_AGENT, principal=_PERSON, name="codex@repo#2", host="codex", workspace="/home/ann/repo", slot=1
    ),
    e.ConversationBound(agent=_AGENT, host="claude-code", conversation="5d2f6a1c-0000", place=1),
    e.DelegationIssued(agent=_AGENT, principal=_PERSON, expires_at=Millis(1_702_592_000_000)),
    e.RoomNamed(owner=_AGENT, room=_ROOM, name="auth-redesign-2"),
    e.SessionActivated(agent=_AGENT, room=_ROOM),
)


def sample_header(event: e.Event) -> e.Header:
    """`event` as a fact, with every field of the header set."""
    return e.Header(
        position=Position(3),
        at=Millis(1_700_000_000_123),
        by=By(_AGENT, _PERSON, "s_1", "codex", "mcp", 4711, "node"),
        authority="member",
        event=event,
        operation="message.send",
        key="key-1",
        input=hashlib.sha256(b"input").digest(),
        body=hashlib.sha256(b"body").digest(),
    )
