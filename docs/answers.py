"""What the tools answer, for `render`: examples of their results, written by the code that writes the real ones.

    parlerd.operations.types (filled in here) -> mcp_server.tools.results -> mcp.md

Not here: what a tool does. Invariant: every operation behind a tool has an example, so a page that lacks one cannot be
made; and the mark is always the same one, so the page changes only when an answer reads otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mcp_server.fence import Fencer
from mcp_server.tools.results import Scribe
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from parlerd.operations.tools import Tool

MARK: Final = "4k0m9t2x"
AT: Final = 1_795_860_000_000
"""2026-11-28 10:00Z."""
ROOM: Final = "r_0123456789abcdef01234567"
NAME: Final = "auth-redesign"
ANN: Final = "claude-code@api"
BOB: Final = "codex@web"
KEY: Final = "A3KE7DJR"
RECAP: Final = "Chose PKCE. Left: token rotation."


def _message(seq: int, author: str, text: str, **more: Any) -> t.Message:
    fields: dict[str, Any] = {
        "id": f"m_{seq}",
        "seq": seq,
        "at": AT,
        "author": t.Author(id="U", name=author, role="", host=author.partition("@")[0]),
        "verified": "valid",
        "via": "mcp",
        "kind": "text",
        "text": PeerText(text),
    }
    return t.Message(**{**fields, **more})


_TURN: Final = t.Handoff(
    next=PeerText("wire the login form"), summary=PeerText("rotation is done"), for_=BOB, to_you=True
)


def _roster_member(name: str, role: str, presence: str) -> t.RosterMember:
    return t.RosterMember(
        id="U",
        name=name,
        role=role,
        host=name.partition("@")[0],
        owner=role == "owner",
        state="member",
        presence=presence,
        since=AT,
    )


EXAMPLES: Final[dict[str, tuple[t.Result, ...]]] = {
    "session.open": (
        t.OpenedSession(
            room=ROOM,
            name=NAME,
            session_key=KEY,
            line=f"Join the Parler session {KEY}.",
            join_command=f"parler session join {KEY}",
            mcp_command=f"claude mcp add parler -e PARLER_SESSION_KEY={KEY} -- parler mcp",
            expires=AT + 86_400_000,
            approval=True,
            you=ANN,
        ),
    ),
    "session.join": (
        t.JoinedSession(room=ROOM, status="pending", messages=[], truncated=False, join_code="K7QM"),
        t.JoinedSession(
            room=ROOM,
            name=NAME,
            status="joined",
            messages=[_message(1, ANN, RECAP, opening=True)],
            truncated=False,
            you=BOB,
        ),
    ),
    "message.send": (t.Sent(room=ROOM, name=NAME, id="m_4", seq=4, at=AT, replayed=False, idempotency_key="k"),),
    "message.recv": (
        t.Received(
            room=ROOM,
            name=NAME,
            messages=[
                _message(5, ANN, "who takes rotation?", reply_seq=3, reply_to="m_3"),
                _message(6, ANN, "", kind="handoff", handoff=_TURN),
            ],
            cursor="6",
            more=True,
            unread=2,
            you=BOB,
        ),
    ),
    "handoff.give": (t.GivenHandoff(id="m_6", room=ROOM, name=NAME, for_=BOB),),
    "rooms.list": (
        t.RoomList(
            you=ANN,
            rooms=[
                t.RoomInfo(
                    room=ROOM,
                    name=NAME,
                    topic=PeerText("Auth redesign"),
                    kind="session",
                    home="local",
                    owner="U",
                    owner_name=ANN,
                    members=2,
                    unread=3,
                    last_at=AT,
                    active=True,
                    state="open",
                )
            ],
        ),
    ),
    "rooms.roster": (
        t.RosterResult(
            room=ROOM,
            name=NAME,
            you=ANN,
            members=[_roster_member(ANN, "owner", "active"), _roster_member(BOB, "guest", "waiting")],
        ),
    ),
    "rooms.requests": (
        t.RequestList(
            room=None,
            requests=[
                t.RequestInfo(
                    id="q",
                    room=ROOM,
                    room_name=NAME,
                    agent="U",
                    name=BOB,
                    host="codex",
                    requested=AT,
                    fingerprint="ABCD-EFGH-IJKL",
                    home="local",
                )
            ],
        ),
    ),
    "message.why": (
        t.WhyResult(
            id="m_4",
            room=ROOM,
            readers=[
                t.ReaderLadder(
                    agent="U",
                    name=BOB,
                    stages=[t.StageReached(stage="stored", at=AT), t.StageReached(stage="read", at=AT)],
                )
            ],
        ),
    ),
    "session.approve": (t.Decided(room=ROOM, room_name=NAME, agent="U", name=BOB, status="approved", proof="form"),),
    "session.close": (t.ClosedSession(room=ROOM, name=NAME, status="left"),),
}
"""By operation."""


def answers(tool: Tool) -> Iterator[str]:
    """The lines of a page that show how a tool answers."""
    for verb, operation in sorted(tool.operations.items()):
        examples = EXAMPLES[operation.name]
        which = "An answer" if len(examples) == 1 else "Answers"
        yield f"{which} to `{verb}`:" if verb else f"{which}:"
        for result in examples:
            yield from ("", "```text", _written(result).rstrip("\n"), "```")
        yield ""


def _written(result: t.Result) -> str:
    scribe = Scribe(Fencer(lambda: MARK))
    scribe.met.add(ROOM)
    return scribe.write(result).text
