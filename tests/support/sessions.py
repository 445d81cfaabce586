"""What tests of a session's life share: a person's terminal, commands of an agent host, knocks, wrong keys.

Over `tests.support.engine`, whose parties make the calls.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from parlerd.core import events as e
from parlerd.core.errors import ParlerError
from parlerd.core.model import Position, RoomId
from parlerd.engine.callers import PeerProcess
from parlerd.operations import types as t
from tests.support.engine import Party, Served

TERMINAL = PeerProcess(pid=7, uid=1000, program="parler", terminal=True)
"""The process of a command that a person typed at a terminal."""


def in_agent_host(peer: PeerProcess) -> PeerProcess:
    return replace(peer, agent_host="claude-code")


def answer_in_full(error: ParlerError) -> bytes:
    return msgspec.json.encode(error.body())


async def wrong_join(party: Party, key: str) -> ParlerError:
    return await party.refused("session.join", t.JoinSession(session_key=key))


def events(served: Served, room: str) -> list[e.Event]:
    return [header.event for header in served.world.store.facts(RoomId(room), Position(0), 1000)]


def outsider_calls(room: str) -> list[tuple[str, t.Params]]:
    return [
        ("message.send", t.Send(text="hi", room=room)),
        ("message.recv", t.Recv(room=room)),
        ("message.recv", t.Recv(room=room, all=True)),
        ("message.commit", t.Commit(room=room, cursor="1")),
        ("rooms.roster", t.Roster(room=room)),
        ("handoff.give", t.GiveHandoff(next="go", room=room)),
        ("session.requests", t.SessionRequests(room=room)),
        ("session.close", t.CloseSession(room=room)),
    ]


async def knocking(served: Served, *names: str, **how: Any) -> tuple[Party, t.OpenedSession, list[Party]]:
    """An owner and some who knock."""
    owner = await served.agent("alice")
    opened = await owner.open(**how)
    knockers = [await served.agent(name) for name in names]
    for knocker in knockers:
        await knocker.join(opened.session_key)
    return owner, opened, knockers


async def decide_by_form(served: Served, party: Party, *, admit: bool = True, **how: Any) -> t.Decided:
    return await served.decide_by_form(party, "bob", admit=admit, **how)


async def keys_of(party: Party) -> list[t.SessionKey]:
    listed = await party.ask("session.list", t.ListSessions(), t.SessionList)
    return [key for info in listed.sessions for key in info.keys]
