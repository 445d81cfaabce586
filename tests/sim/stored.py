"""What a store holds of a room: its state, its facts, and the words said there."""

from __future__ import annotations

from typing import Final

from parlerd.core.envelope import decode_envelope
from parlerd.core.events import Header, MessagePosted
from parlerd.core.model import Position, RoomId
from parlerd.core.room import Room, RoomState
from parlerd.engine.rooms import fold
from parlerd.store.port import Store

ALL: Final = 1_000_000
"""More facts than a room of a story has."""


def state_of(store: Store, room: str) -> RoomState:
    """A room as a store has it."""
    return fold(store, RoomId(room), Room, Room.restore)[0].state


def is_inside(store: Store, room: str, principal: str) -> bool:
    """Whether an agent of this person is in the room, by this store."""
    members = state_of(store, room).members.values()
    return any(member.present and member.principal == principal for member in members)


def facts_of(store: Store, room: str) -> list[Header]:
    return store.facts(RoomId(room), Position(0), ALL)


def texts_of(store: Store, room: str) -> list[str]:
    """The words of every message that a store has of a room."""
    found: list[str] = []
    for header in facts_of(store, room):
        stored = store.body(RoomId(room), header.position)
        if stored is not None and isinstance(header.event, MessagePosted):
            found.append(str(decode_envelope(stored[0]).parts))
    return found
