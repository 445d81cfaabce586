"""Mirrors of sealed rooms within their bounds: old words go, and their readers are told them again."""

from __future__ import annotations

from pathlib import Path

from parlerd.core.model import RoomId
from tests.support.engine import run
from tests.uplink.test_bounds import bound, settled, texts_of
from tests.uplink.test_relayed import look_back
from tests.uplink.test_sealed import meeting_in

FEW = 3
"""Of so many messages the bounded home keeps the words."""


def test_words_that_a_mirror_of_a_sealed_room_let_go_are_told_by_its_home_again(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                for number in range(12):
                    await meeting.alice.send(f"n{number}", visible_to=("bob",) if number % 3 == 0 else None)
                await meeting.bob.recv(peek=True)
            bound(meeting.ben, room_messages=FEW)
            async with meeting.ben.serving() as ben:
                meeting.bob = await ben.agent("bob")
                await settled()
                store = meeting.ben.world.store
                assert store.held(RoomId(meeting.opened.room)).messages == FEW
                found, said = await look_back(meeting.bob)
                assert said == ""
                assert texts_of(found)[-12:] == [f"n{number}" for number in range(12)]

    run(main)
