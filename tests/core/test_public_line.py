"""The digest that stands for the public messages of a room."""

from __future__ import annotations

import hashlib

from parlerd.core.model import HomeId, RoomId
from parlerd.core.public_line import first_line, next_line

ROOM, HOME = RoomId("r_1"), HomeId("A1")


def test_the_line_begins_with_the_room_and_its_home() -> None:
    assert first_line(ROOM, HOME) == hashlib.sha256(b"r_1A1").digest()
    assert len({first_line(ROOM, HOME), first_line(RoomId("r_2"), HOME), first_line(ROOM, HomeId("N1"))}) == 3


def test_the_line_says_which_messages_there_were_and_in_which_order() -> None:
    start, one, two = first_line(ROOM, HOME), b"1" * 32, b"2" * 32
    assert next_line(start, one) == hashlib.sha256(start + one).digest()
    assert next_line(next_line(start, one), two) != next_line(next_line(start, two), one)
