"""A person whose home is gone, with every key in it: it comes into its sealed rooms anew, as another agent."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from parlerd.operations import types as t
from tests.support.engine import run, settle
from tests.support.relayed import Home, NamedKeys
from tests.uplink.test_sealed import everything, meeting_in

BEFORE = {"full": ["Chose PKCE.", "said before", "said while it was gone"], "from-join": ["Chose PKCE."]}
"""What somebody reads who comes in last, by the room's history."""


@pytest.mark.parametrize("history", ["full", "from-join"])
def test_who_lost_its_home_knocks_anew_and_the_old_agent_is_put_out_by_the_owner(tmp_path: Path, history: str) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.open(ann, ben, history)
                await meeting.admit(meeting.bob, "bob")
                await meeting.alice.send("said before")
                assert await meeting.bob.read() == ["said before"]
            await meeting.alice.send("said while it was gone")
            # The same person with nothing of what it had: other keys, and so another person and agent to everybody.
            (tmp_path / "again").mkdir()
            again = Home("ben", meeting.relay, tmp_path / "again", NamedKeys("ben again"))
            async with again.serving() as ben:
                bob = await ben.agent("bob")
                waits = await bob.join(meeting.opened.session_key)
                assert (waits.status, len(waits.join_code or "")) == ("pending", 4)
                person = await ann.person()
                await person.approve("bob", join_code=waits.join_code)
                await settle()
                page = await bob.come_in(meeting.opened.session_key)
                assert [message.text for message in page.messages] == BEFORE[history]
                old = next(
                    member
                    for member in (await meeting.room_of(meeting.ann)).state.members.values()
                    if member.principal == meeting.ben.world.keys.principal
                )
                assert sorted(await meeting.alice.roster()) == ["alice", "bob", "bob-2"]
                # Until the owner puts the old one out, it can read: a home that is lost may be in somebody's hands.
                assert old.agent in (await meeting.room_of(meeting.ann)).state.epochs.roster
                await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
                await settle()
                assert sorted(await meeting.alice.roster()) == ["alice", "bob-2"]
                await meeting.alice.send("said after")
                assert await bob.read() == ["said after"]
                await bob.send("here again")
                assert await meeting.alice.read() == ["here again"]
                state = (await meeting.room_of(again)).state
                assert (state.alarm, len(state.epochs.roster), old.agent in state.epochs.roster) == (None, 2, False)
            # Who has the old home reads nothing of what was said since, and does not come in by itself.
            async with meeting.ben.serving() as ben:
                found = await ben.agent("bob")
                await trio.sleep(60)
                kept = everything(meeting.ben.world.store)
                assert b"said before" in kept
                assert b"said after" not in kept
                held = {row.number for row in meeting.ben.world.store.epoch_secrets(state.room)}
                assert state.epochs.number not in held
                error = await found.refused("message.send", t.Send(text="me", room=meeting.opened.room))
                assert error.code == "no_such_room"

    run(main)
