"""A relay whose person put an older copy of its store in place: the same key, the same log, and less than was said."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from parlerd.core.errors import ERRORS
from parlerd.core.model import AgentId
from parlerd.operations import types as t
from tests.support.engine import Party, run, texts
from tests.uplink.test_relayed import met_before

ROLLED_BACK = ERRORS["relay_rolled_back"]


async def _refusal(party: Party, room: str) -> str:
    return (await party.refused("message.send", t.Send(text="after", room=room))).code


async def _is_told(party: Party, room: str, *said: str) -> None:
    """Everything can still be read, the reader hears why it cannot go on, and the list of rooms says so too."""
    page = await party.recv(room=room, since=0)
    assert texts(page) == list(said)
    assert page.notice == f"{ROLLED_BACK.message} {ROLLED_BACK.hint}"
    assert [each.alarm for each in (await party.ask("rooms.list", t.ListRooms(), t.RoomList)).rooms] == [
        ROLLED_BACK.code
    ]


def test_a_room_in_which_nothing_was_said_after_the_copy_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _):
            alice, bob, relay = meeting.alice, meeting.bob, meeting.relay
            async with relay.serving():
                await bob.send("for alice", visible_to=("alice",))
                copy = relay.copied()
                # A room that was opened after the copy is gone there, and does no harm to this one.
                ada = await ann.agent("ada")
                other = await ada.open("another room", "Chose cookies.", clear=True)
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert not (await alice.send("after")).queued
                assert await bob.read(wait=60) == ["after"]
                assert not (await bob.send("for alice again", visible_to=("alice",))).queued
                assert await alice.read(wait=60) == ["for alice", "for alice again"]
                assert [each.alarm for each in (await alice.ask("rooms.list", t.ListRooms(), t.RoomList)).rooms] == [""]
                assert await _refusal(ada, other.room) == ROLLED_BACK.code
                await _is_told(ada, other.room, "Chose cookies.")

    run(main)


@pytest.mark.parametrize("to", [(), ("bob",)], ids=["public", "private"])
def test_a_room_in_which_something_was_said_after_the_copy_says_what_happened_and_accuses_nobody(
    tmp_path: Path, to: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _):
            alice, bob, relay, room = meeting.alice, meeting.bob, meeting.relay, meeting.opened.room
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await alice.send("lost", visible_to=to)
                assert await bob.read(wait=60) == ["lost"]
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                for party in (alice, bob):
                    assert await _refusal(party, room) == ROLLED_BACK.code
                    await _is_told(party, room, "Chose PKCE.", "before", "lost")
                checks = (await (await ann.person()).ask("daemon.check", t.CheckStore(), t.CheckList)).checks
                [check] = [check for check in checks if check.name == "relay"]
                assert (check.ok, check.fix) == (False, ROLLED_BACK.hint)
                assert "holds less than it told before" in check.detail
                # The way out that the sentence names.
                again = await alice.open("a new session", clear=True)
                assert (await bob.join(again.session_key)).status == "pending"

    run(main)


def test_a_message_that_waited_for_a_room_of_an_older_copy_is_given_up_with_the_same_words(tmp_path: Path) -> None:
    """It leaves as soon as the link is there, before the relay told how its room stands."""

    async def main() -> None:
        async with met_before(tmp_path) as (meeting, _, ben):
            alice, bob, relay, room = meeting.alice, meeting.bob, meeting.relay, meeting.opened.room
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await bob.send("lost")
                assert await alice.read(wait=60) == ["lost"]
            assert (await bob.send("waits")).queued
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                listed = ben.engine.desk.homes.undelivered(AgentId((await bob.whoami()).id))
                assert [(each.room, each.code) for each in listed] == [(room, ROLLED_BACK.code)]
                await _is_told(bob, room, "Chose PKCE.", "before", "lost")

    run(main)


def test_somebody_who_did_not_hear_what_was_lost_goes_on_and_whoever_heard_it_is_told_what_it_may_mean(
    tmp_path: Path,
) -> None:
    """Ben's home was away while the last words were said, and speaks first after the older copy was put in place."""

    async def main() -> None:
        async with met_before(tmp_path) as (meeting, _, _ben):
            alice, bob, relay, wires, room = (
                meeting.alice,
                meeting.bob,
                meeting.relay,
                meeting.wires,
                meeting.opened.room,
            )
            copy = relay.copied()
            wires.cut_off("ben")
            async with relay.serving():
                await trio.sleep(120)
                await alice.send("lost")
            relay.store = copy
            wires.cut_off("ann")
            wires.bring_back("ben")
            async with relay.serving():
                await trio.sleep(120)
                assert not (await bob.send("in its place")).queued
                wires.bring_back("ann")
                await trio.sleep(120)
                # Another message in the place of one that was told is what a relay that lies would show, too.
                assert await _refusal(alice, room) == "relay_equivocation"
                page = await alice.recv(room=room, since=0)
                assert texts(page) == ["Chose PKCE.", "before", "lost"]
                assert "whether an older copy of it was restored, which looks the same" in page.notice
                assert not (await bob.send("goes on")).queued

    run(main)


def test_whoever_came_in_after_the_copy_knocks_again_and_the_room_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            alice, relay, key = meeting.alice, meeting.relay, meeting.opened.session_key
            copy = relay.copied()
            person, bea = await ann.person(), await ben.agent("bea")
            async with relay.serving():
                await trio.sleep(120)
                await person.approve("bea", join_code=(await bea.join(key)).join_code)
                await bea.come_in(key)
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert not (await alice.send("after")).queued
                assert (await bea.refused("message.send", t.Send(text="hello"))).code == "no_active_session"
                await person.approve("bea", join_code=(await bea.join(key)).join_code)
                await bea.come_in(key)
                assert not (await bea.send("here again")).queued
                assert await alice.read(wait=60) == ["here again"]

    run(main)
