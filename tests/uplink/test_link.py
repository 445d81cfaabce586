"""The link to a relay: there while somebody needs it, back after it broke, and quiet where it was sent away."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.model import AgentId, RoomId
from parlerd.core.statements import Opening, encode, room_id_of
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.uplink.link import CATCH_UP_S, Link
from parlerd.uplink.uplinks import Uplinks
from tests.support.engine import HandClock, Served, SteppedClock, run, settle, texts
from tests.support.faces import PassingFace
from tests.support.linked import Elsewhere
from tests.support.relayed import copied, homes_of
from tests.uplink.test_relayed import meeting_in, met


def _entry(served: Served) -> t.HomeEntry:
    [entry] = served.world.home_book.listed()
    return entry


def test_a_relay_that_nobody_needs_is_not_dialled(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann:
            alice = await ann.agent("alice")
            await alice.open(home="local")
            await trio.sleep(3600)
            assert wires.dialled == 0
            assert _entry(ann).state == "idle"

    run(main)


def test_what_is_asked_of_a_room_there_when_the_links_have_ended_is_refused_at_once(tmp_path: Path) -> None:
    """The engine ends after them, and so does whoever may not be interrupted in what is under way."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            assert meeting.opened.session_key is not None
            waiting = await meeting.ann_served.agent("carol")
            meeting.ann.uplinks._nursery.cancel_scope.cancel()
            await settle()
            with trio.fail_after(60):
                for op, params in (
                    ("message.send", t.Send(text="late", room=meeting.opened.room)),
                    ("room.role", t.GiveRole(agent="bob", role="reviewer", room=meeting.opened.room)),
                    ("session.close", t.CloseSession(room=meeting.opened.room)),
                ):
                    assert (await meeting.alice.refused(op, params)).code == "draining"
                error = await waiting.refused("session.join", t.JoinSession(session_key=meeting.opened.session_key))
                assert error.code == "offline"

    run(main)


def test_a_link_ends_five_minutes_after_the_last_who_needed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[ParlerError] = []
    monkeypatch.setattr(Link, "_failed", lambda self, error: failed.append(error))

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await trio.sleep(3600)
            assert len(meeting.wires.open) == 2
            assert _entry(ann).state == "connected"
            for caller in list(ann.engine.desk.connected):
                await ann.engine.disconnect(caller)
            await trio.sleep(250)
            assert len(meeting.wires.open) == 2
            await trio.sleep(100)
            assert len(meeting.wires.open) == 1
            assert _entry(ann).state == "idle"
            assert failed == []
            dialled = meeting.wires.dialled
            alice = await ann.agent("alice")
            await alice.send("back")
            assert meeting.wires.dialled == dialled + 1
            assert await meeting.bob.read(wait=60) == ["back"]

    run(main)


def test_a_relay_that_is_away_is_tried_now_and_then_and_at_once_when_a_person_asks(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut()
            before = meeting.wires.dialled
            await trio.sleep(600)
            tries = meeting.wires.dialled - before
            # Two daemons, and up to a minute between two tries of one.
            assert 2 * 8 <= tries <= 2 * 60
            meeting.wires.mend()
            opened = await meeting.alice.open("at once", clear=True)
            assert opened.room

    run(main)


def test_an_agent_that_comes_into_a_room_later_is_attached_before_anybody_writes_to_it(tmp_path: Path) -> None:
    """A private message to an agent that is not attached would be missing in the mirror, and its thread would seem to
    have lost it."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            bea = await ben.agent("bea")
            waits = await bea.join(meeting.opened.session_key)
            await meeting.alice.send("for bob", visible_to=("bob",))
            await (await ann.person()).approve("bea", join_code=waits.join_code)
            await bea.come_in(meeting.opened.session_key)
            for number in range(3):
                await meeting.alice.send(f"for bea {number}", visible_to=("bea",))
                await meeting.alice.send(f"for both {number}", visible_to=("bea", "bob"))
            await trio.sleep(1)
            assert await bea.read() == [f"for {who} {n}" for n in range(3) for who in ("bea", "both")]
            assert await meeting.bob.read() == ["for bob", *(f"for both {number}" for number in range(3))]

    run(main)


class _ClosesFirst(PassingFace):
    """Takes in that somebody leaves when somebody else is about to be attached, and before that."""

    def __init__(self, engine: EngineFace) -> None:
        super().__init__(engine)
        self._is_closing = False
        self._attaches, self._closed = trio.Event(), trio.Event()

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op == "link.attach" and self._is_closing:
            self._attaches.set()
            await self._closed.wait()
            await trio.sleep(1)
        if op == "link.close":
            self._is_closing = True
            await self._attaches.wait()
        answer = await super().call(op, params, caller)
        if op == "link.close":
            self._closed.set()
        return answer


def test_who_comes_in_while_the_last_other_agent_of_its_machine_leaves_is_told_what_is_said(tmp_path: Path) -> None:
    """The relay ends the room for this link before it hears that the newcomer speaks there."""
    meeting = meeting_in(tmp_path)
    meeting.relay.face = _ClosesFirst

    async def main() -> None:
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
                bea = await ben.agent("bea")
                await bea.whoami()
                before = copied(meeting.ben.world.store)
                waits = await bea.join(meeting.opened.session_key)
            # The daemon died before it heard that the relay has the knock, so over its next link bea does not speak.
            meeting.ben.world.store = before
            async with meeting.ben.serving() as ben, trio.open_nursery() as leaving:
                bob, bea = await ben.agent("bob"), await ben.agent("bea")
                await bob.recv(room=meeting.opened.room)
                leaving.start_soon(bob.close, meeting.opened.room)
                await settle()
                await (await ann.person()).approve("bea", join_code=waits.join_code)
                await trio.sleep(5)
                await meeting.alice.send("welcome")
                assert set(await meeting.alice.roster()) == {"alice", "bea"}
                await settle()
                assert "welcome" in texts(await bea.recv(room=meeting.opened.room))
                assert (await bob.refused("message.recv", t.Recv(room=meeting.opened.room))).code == "no_such_room"
                assert set(await bea.roster()) == {"alice", "bea"}

    run(main)


def test_an_agent_speaks_over_a_link_for_as_long_as_the_link_lasts(tmp_path: Path) -> None:
    """What lets an agent speak for its person ends after a month, and a link may last longer."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            dialled = meeting.wires.dialled
            for day in range(0, 60, 10):
                meeting.relay.clock.move(seconds=10 * 86_400)
                await trio.sleep(60)
                await meeting.alice.send(f"after {day + 10} days")
                assert await meeting.bob.read() == [f"after {day + 10} days"]
            assert meeting.wires.dialled == dialled

    run(main)


def test_an_agent_whose_machine_is_weeks_behind_the_relay_speaks_for_as_long(tmp_path: Path) -> None:
    """By the relay's clock what lets the agent speak ends sooner than its own machine would say."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.ben.world.clock = behind = SteppedClock()
        behind.ms -= 20 * 86_400_000
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            dialled = meeting.wires.dialled
            for day in range(0, 40, 4):
                for clock in (meeting.relay.clock, behind):
                    clock.move(seconds=4 * 86_400)
                await trio.sleep(60)
                await meeting.bob.send(f"after {day + 4} days")
                assert await meeting.alice.read() == [f"after {day + 4} days"]
            assert meeting.wires.dialled == dialled

    run(main)


def test_a_relay_is_told_how_far_agents_have_read(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await meeting.alice.send("one")
            await meeting.alice.send("two")
            assert await meeting.bob.read() == ["one", "two"]
            await trio.sleep(15)
            room = RoomId(meeting.opened.room)
            bob = next(
                member.agent
                for member in (await relay.desk.rooms.get(room)).aggregate.state.members.values()
                if member.handle == "bob"
            )
            view = (await relay.desk.rooms.get(room)).aggregate.view(AgentId(bob))
            assert await relay.desk.library.numbers_read(room, view) == (3, 3)

    run(main)


def test_a_person_that_was_put_out_is_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            principal = ben.world.keys.principal
            meeting.relay.book.enrolled.discard(principal)
            meeting.relay.book.kicked.add(principal)
            assert meeting.wires.links is not None
            meeting.wires.links.end(principal)
            await trio.sleep(1)
            assert (_entry(ben).state, _entry(ben).reason) == ("refused", "kicked")
            dialled = meeting.wires.dialled
            await trio.sleep(3600)
            assert meeting.wires.dialled == dialled
            assert (await meeting.bob.refused("session.open", t.OpenSession(topic="x"))).code == "kicked"
            assert await meeting.bob.read(room=meeting.opened.room) == []

    run(main)


def test_a_relay_that_began_anew_leaves_archives_that_can_be_read_and_accuses_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.meet(ann, ben)
                await meeting.alice.send("before")
                assert await meeting.bob.read() == ["before"]
            waits = await meeting.bob.send("never arrives")
            assert waits.queued
            meeting.relay.begin_anew()
            async with meeting.relay.serving():
                await trio.sleep(120)
                room = meeting.opened.room
                refused = await meeting.alice.refused("message.send", t.Send(text="after", room=room))
                assert (refused.code, refused.spec.retryable) == ("room_archived", False)
                got = await meeting.bob.recv(room=room, since=0)
                assert [message.text for message in got.messages] == ["Chose PKCE.", "before"]
                assert got.notice.startswith(ERRORS["room_archived"].message)
                # What waited for the old room is given up, and its author is told.
                listed = ben.engine.desk.homes.undelivered(AgentId((await meeting.bob.whoami()).id))
                assert [(each.room, each.code) for each in listed] == [(room, "room_archived")]
                assert all(
                    check.ok
                    for check in (await (await ann.person()).ask("daemon.check", t.CheckStore(), t.CheckList)).checks
                    if check.name == "relay"
                )
                # The new log is as good as the first.
                again = await meeting.alice.open("a new beginning", clear=True)
                assert (await meeting.bob.join(again.session_key)).status == "pending"

    run(main)


def test_a_relay_that_only_restarts_keeps_its_rooms(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.meet(ann, ben)
            async with meeting.relay.serving():
                await trio.sleep(120)
                await meeting.alice.send("after")
                assert await meeting.bob.read(wait=60) == ["after"]

    run(main)


def test_a_relay_that_began_anew_while_nobody_was_here_is_known_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
        meeting.relay.begin_anew()
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            alice, room = await ann.agent("alice"), meeting.opened.room
            # The link is made before the message is judged, so it is not promised to anybody.
            asked = t.Send(text="after", room=room)
            assert (await alice.refused("message.send", asked)).code == "room_archived"

    run(main)


def test_how_far_the_clocks_are_apart_is_told_with_the_home(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.clock = HandClock()
        meeting.relay.clock.move(seconds=3600)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            assert 3_590_000 < _entry(ann).clock_ahead_ms < 3_610_000
            [check] = [
                each
                for each in (await (await ann.person()).ask("daemon.check", t.CheckStore(), t.CheckList)).checks
                if each.name == f"home {_entry(ann).name}"
            ]
            assert not check.ok
            assert "its clock is 60 minutes ahead of this machine's" in check.detail

    run(main)


@pytest.mark.parametrize("days", [3, -3])
def test_a_machine_whose_clock_is_off_by_days_knocks_opens_lets_in_and_talks(days: int, tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        clock = SteppedClock()
        clock.step(seconds=days * 86_400)
        meeting.ben.world.clock = clock
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await meeting.bob.send("from another day")
            assert await meeting.alice.read(wait=60) == ["from another day"]
            # A key is good for a day by the relay's clock, whoever made it, and is listed so.
            opened = await meeting.bob.open("of bob", clear=True)
            assert opened.expires - meeting.relay.clock.now() == pytest.approx(86_400_000, abs=60_000)
            listed = await meeting.bob.ask("session.list", t.ListSessions(), t.SessionList)
            [key] = next(each for each in listed.sessions if each.room == opened.room).keys
            assert key.state == "live"
            waits = await meeting.alice.join(opened.session_key)
            assert waits.status == "pending"
            await (await ben.person()).approve("alice", join_code=waits.join_code)
            await meeting.alice.come_in(opened.session_key)
            for each in (meeting.relay.clock, clock):
                each.move(seconds=86_400)
            listed = await meeting.bob.ask("session.list", t.ListSessions(), t.SessionList)
            [key] = next(each for each in listed.sessions if each.room == opened.room).keys
            assert key.state == "expired"

    run(main)


async def _leave(served: Served) -> None:
    """Every window and command of a home ends."""
    for caller in list(served.engine.desk.connected):
        await served.engine.disconnect(caller)


@pytest.mark.parametrize("over_all", [False, True])
def test_a_read_that_does_not_wait_shows_what_came_while_nobody_needed_the_link(tmp_path: Path, over_all: bool) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await _leave(ann)
            await trio.sleep(3600)
            await meeting.bob.send("are you there?")
            alice = await ann.agent("alice")
            if over_all:
                [page] = (await alice.ask("message.recv_all", t.Recv(), t.ReceivedAll)).rooms
            else:
                page = await alice.recv()
            assert [message.text for message in page.messages] == ["are you there?"]
            assert page.notice == ""

    run(main)


def test_a_message_that_nobody_needed_the_link_for_before_is_not_said_to_be_queued(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await _leave(ann)
            await trio.sleep(3600)
            sent = await (await ann.agent("alice")).send("back")
            assert (sent.queued, sent.seq) == (False, 2)

    run(main)


def test_a_relay_that_accepts_and_is_silent_costs_one_short_wait_and_nothing_in_a_room_of_this_machine(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            room = meeting.opened.room
            await _leave(ann)
            await trio.sleep(3600)
            meeting.wires.is_silent = True
            alice, carol = await ann.agent("alice"), await ann.agent("carol")
            began = trio.current_time()
            page = await alice.recv(room=room)
            assert trio.current_time() - began == CATCH_UP_S
            name = _entry(ann).name
            assert page.notice.startswith(f"Nothing was heard from {name} for 5")
            assert [(await alice.send(text, room=room)).queued for text in ("one", "two")] == [True, True]
            await carol.open("here", home="local")
            await carol.send("of this machine")
            assert (await carol.recv(all=True)).notice == ""
            assert trio.current_time() - began == CATCH_UP_S

    run(main)


def test_what_a_relay_tells_of_a_room_that_nobody_asked_about_is_not_taken_in(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            link, eve = _link(ben), Elsewhere("eve")
            opening = Opening(
                home=link.home,
                kind="session",
                history="full",
                owner=eve.agent("eva"),
                principal=eve.principal,
                handle="eva",
                host="codex",
                approval=True,
                approver="person",
                title=bytes(32),
                nonce=bytes(16),
            )
            body = encode(opening)
            signature = eve.sign(eve.principal, "parler/opening", body)
            card = t.Card(whole=True, home=link.home, opening=body, opening_signature=signature)
            assert link.connection is not None
            await link._take(link.connection, t.LinkItem(room=room_id_of(body), card=card))
            assert await ben.engine.desk.library.rooms_at(link.home) == [meeting.opened.room]

    run(main)


def test_a_relay_tells_how_present_members_are_and_nobody_else(tmp_path: Path) -> None:
    """Whoever is made up would stay in memory as long as the link."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            mirrors, room = _link(ben).mirrors, RoomId(meeting.opened.room)
            alice = (await ben.engine.rooms.get(room)).aggregate.state.owner
            told = [t.Present(agent=agent, presence="active", since=7) for agent in (alice, "U" + "X" * 55)]
            await mirrors.take(t.LinkItem(room=room, presence=told))
            assert mirrors.presence(room, alice) == ("active", 7, None)
            assert mirrors.presence(room, AgentId("U" + "X" * 55)) is None

    run(main)


def test_a_relay_is_told_nothing_of_a_room_that_lives_elsewhere(tmp_path: Path) -> None:
    """It says itself in which rooms an agent is, when the agent is attached."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            here = RoomId((await meeting.bob.open("ours alone", home="local")).room)
            mirrors = _link(ben).mirrors
            assert await mirrors.is_sound(RoomId(meeting.opened.room))
            assert not await mirrors.is_sound(here)
            with pytest.raises(Refused) as refused:
                await mirrors.resume(here)
            assert refused.value.code == "relay_equivocation"

    run(main)


def _link(served: Served) -> Link:
    book = served.world.home_book
    assert isinstance(book, Uplinks)
    [link] = book._links.values()
    return link
