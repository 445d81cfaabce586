"""The one room of two agents of a machine, and the agents that want their person to be asked first."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import RoomId
from parlerd.engine.callers import PeerProcess
from parlerd.engine.join_codes import CODE_PAUSE_S, CODE_TRIES
from parlerd.identity.codes import JOIN_CODE_LENGTH
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.engine.test_directs import asks, carded, to
from tests.engine.test_streams import watching
from tests.support.engine import Party, PlugDriver, SlowDriver, World, gather, run, settle, texts


def test_a_message_to_a_name_opens_a_room_for_two_in_which_the_other_answers() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            sent = await to(ann, "ben")
            assert (sent.opened, sent.name, sent.seq, sent.awaits) == (
                True,
                "dm/ann/ben",
                1,
                msgspec.UNSET,
            )
            (room,) = await ben.rooms()
            assert (room.room, room.kind, room.members, room.unread, room.active) == (sent.room, "dm", 2, 1, True)
            page = await ben.recv()
            assert texts(page) == ["got a minute?"]
            answer = await ben.send("yes")
            assert answer.room == sent.room
            assert texts(await ann.recv(all=True)) == ["got a minute?", "yes"]
            assert await ann.why(sent.id) == {"ben": ["stored", "read"]}

    run(main)


def test_the_room_is_one_however_often_and_from_which_side_it_is_asked_for() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            sent = [
                await to(ann, "ben"),
                await to(ben, "ann"),
                await to(ann, (await ben.whoami()).id),
                await to(ann, "ben"),
            ]
            assert len({each.room for each in sent}) == 1
            assert [each.opened is True for each in sent] == [True, False, False, False]
            assert len(await ann.rooms()) == len(await ben.rooms()) == 1

    run(main)


@pytest.mark.parametrize("driver", [PlugDriver, SlowDriver])
def test_two_who_write_to_each_other_at_once_have_one_room(driver: Any) -> None:
    async def main() -> None:
        async with World(driver=driver).serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            sent: list[t.Sent] = []

            async def write(who: Party, name: str, text: str) -> None:
                sent.append(await to(who, name, text))

            await gather(
                *[partial(write, ann, "ben", f"ann {n}") for n in range(3)],
                *[partial(write, ben, "ann", f"ben {n}") for n in range(3)],
            )
            assert len({each.room for each in sent}) == 1
            assert sum(each.opened is True for each in sent) == 1
            assert len(await ann.rooms()) == len(await ben.rooms()) == 1
            assert sorted(texts(await ann.recv(all=True))) == [f"{who} {n}" for who in ("ann", "ben") for n in range(3)]

    run(main)


def test_the_same_request_again_is_one_message() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            first, again = await to(ann, "ben", idempotency_key="once"), await to(ann, "ben", idempotency_key="once")
            assert (first.id, again.replayed) == (again.id, True)
            assert texts(await ben.recv(all=True)) == ["got a minute?"]

    run(main)


def test_a_daemon_that_dies_at_any_commit_leaves_one_room_for_the_two() -> None:
    async def main() -> None:
        for cut in range(1, 9):
            for counts in (False, True):
                world = World(store=MemoryStore())
                async with world.serving() as served:
                    ann, ben = await carded(served, "ann"), await carded(served, "ben")
                async with world.serving() as served:
                    ann = await served.agent("ann")
                    await ann.whoami()
                    driver = served.driver
                    assert isinstance(driver, PlugDriver)
                    driver.cut = driver.commits + cut - 1, counts
                    with suppress(ParlerError):
                        await to(ann, "ben", idempotency_key="once")
                async with world.serving() as served:
                    ann, ben = await served.agent("ann"), await served.agent("ben")
                    # The other side first: it may find a room that was named and never opened.
                    back = await to(ben, "ann", "yes?")
                    sent = await to(ann, "ben", idempotency_key="once")
                    assert sent.room == back.room
                    page = await ben.recv(room=sent.room, all=True)
                    assert sorted(texts(page)) == ["got a minute?", "yes?"]

    run(main)


def test_a_room_that_its_owner_closed_is_followed_by_another_which_both_sides_find() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            first = await to(ann, "ben")
            assert await ann.close(first.room) == "closed"
            second = await to(ben, "ann")
            assert (second.opened, second.room == first.room, second.name) == (True, False, "dm/ben/ann-2")
            assert (await to(ann, "ben")).room == second.room
            assert await ben.close(second.room) == "closed"
            third = await to(ben, "ann")
            assert third.name == "dm/ben/ann-3"
            await ben.close(third.room)
            assert (await to(ann, "ben")).name == "dm/ann/ben-4"

    run(main)


def test_who_left_the_room_is_back_in_it_with_the_next_message_of_either() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            sent = await to(ann, "ben", "one")
            for who, name in ((ann, "ben"), (ben, "ann")):
                assert await ben.close(sent.room) == "left"
                assert not await ben.rooms()
                assert (await to(who, name, "two")).room == sent.room
                assert [room.room for room in await ben.rooms()] == [sent.room]
            assert texts(await ben.recv(room=sent.room, all=True)) == ["one", "two", "two"]

    run(main)


def test_a_third_agent_never_comes_into_the_room_of_two() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, _, cat = [await carded(served, name) for name in ("ann", "ben", "cat")]
            sent = await to(ann, "ben")
            sessions = await ann.ask("session.list", t.ListSessions(), t.SessionList)
            assert [(session.room, session.keys) for session in sessions.sessions] == [(sent.room, [])]
            key = served.world.keys.session_key(RoomId(sent.room), 8)
            error = await cat.refused("session.join", t.JoinSession(session_key=key))
            assert error.code == "unknown_key"
            assert (await cat.refused("message.recv", t.Recv(room=sent.room))).code == "no_such_room"

    run(main)


def test_a_code_for_one_takes_no_other_number_and_who_left_with_it_gets_another_room() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            error = await ann.refused("room.invite", t.Invite(max_uses=2))
            assert (error.code, error.details["param"]) == ("invalid_param", "max_uses")
            invited = await ann.ask("room.invite", t.Invite(approval=False, ttl_ms=60_000), t.Invited)
            await ben.join(invited.code)
            assert (await to(ann, "ben")).room == invited.room
            assert await ben.close(invited.room) == "left"
            served.world.clock.move(seconds=120)
            # The code has expired, and nobody is named by it: the two go on in a room that names both.
            sent = await to(ann, "ben")
            assert (sent.opened, sent.room == invited.room) == (True, False)
            assert texts(await ben.recv(room=sent.room)) == ["got a minute?"]
            assert (await to(ben, "ann")).room == sent.room

    run(main)


def test_an_agent_that_others_find_waits_for_the_first_who_writes_and_one_without_a_card_is_told_at_once() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben, cat = await carded(served, "ann"), await carded(served, "ben"), await served.agent("cat")
            waits = t.Recv(wait_ms=60_000)
            begun = trio.current_time()
            assert (await cat.refused("message.recv", waits)).code == "no_active_session"
            assert trio.current_time() == begun
            pages: list[t.Received] = []

            async def wait() -> None:
                pages.append(await ben.recv(wait=60))

            async def write() -> None:
                await trio.sleep(5)
                await to(ann, "ben")

            await gather(wait, write)
            assert [texts(page) for page in pages] == [["got a minute?"]]
            assert trio.current_time() - begun < 6
            dan = await carded(served, "dan")
            assert (await dan.refused("message.recv", waits)).code == "no_active_session"
            assert trio.current_time() - begun >= 60

    run(main)


# -- agents that want to be asked --------------------------------------------------------------------------


def test_who_wants_to_be_asked_is_reached_when_the_person_agreed() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben", direct="ask")
            person = await served.person()
            sent = await to(ann, "ben")
            assert (sent.opened, sent.awaits) == (True, "ben")
            assert not await ben.rooms()
            assert await asks(person) == [("ann", "ben")]
            assert (await to(ann, "ben", "again")).awaits == "ben"
            assert await asks(person) == [("ann", "ben")]
            decided = await person.approve("ann")
            assert (decided.status, decided.direct_to, decided.room) == ("approved", "ben", sent.room)
            assert await asks(person) == []
            assert texts(await ben.recv()) == ["got a minute?", "again"]
            assert (await to(ann, "ben")).awaits is msgspec.UNSET
            assert (await person.refused("session.approve", t.DecideJoin(agent="ann"))).code == "no_such_request"

    run(main)


def test_who_wants_to_be_asked_may_write_itself_which_is_its_answer() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben", direct="ask")
            first = await to(ann, "ben")
            assert (await to(ben, "ann")).room == first.room
            assert texts(await ben.recv(all=True)) == ["got a minute?", "got a minute?"]
            assert await asks(await served.person()) == []

    run(main)


def test_a_refusal_keeps_the_agent_out_and_is_told_to_nobody_until_the_person_agrees_after_all() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben", direct="ask")
            person = await served.person()
            before = await to(ann, "ben")
            assert (await person.deny("ann")).status == "denied"
            after = await to(ann, "ben")
            assert (before.awaits, after.awaits) == ("ben", "ben")
            assert (await asks(person), await ben.rooms()) == ([], [])
            await ann.close(before.room)
            assert (await to(ann, "ben")).awaits == "ben"
            assert await asks(person) == []
            await person.approve("ann")
            assert texts(await ben.recv()) == ["got a minute?"]

    run(main)


def test_an_agent_that_wants_to_be_asked_hears_of_it_and_a_hook_does() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            window = await served.window("w1", as_name="ben")
            await window.ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
            await to(ann, "ben")
            lines = [(await window.ask("window.notice", t.AskNotice(), t.Notice)).line for _ in range(2)]
            assert lines == ["Meanwhile: 'ann' wants to write to you (your user decides: parler_approve).", ""]

    run(main)


def test_requests_of_other_agents_are_not_ones_own_to_see_and_names_that_mean_two_are_not_decided_on() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            ben, cat = [await carded(served, name, direct="ask") for name in ("ben", "cat")]
            rooms = {name: (await to(ann, name)).room for name in ("ben", "cat")}
            assert await asks(await served.person()) == [("ann", "ben"), ("ann", "cat")]
            assert (await asks(ben), await asks(cat), await asks(ann)) == ([("ann", "ben")], [("ann", "cat")], [])
            person = await served.person()
            error = await person.refused("session.approve", t.DecideJoin(agent="ann"))
            assert error.code == "ambiguous_name"
            assert (await person.deny("ann", room=rooms["cat"])).direct_to == "cat"
            assert (await person.approve("ann", room="dm/ann/ben")).direct_to == "ben"

    run(main)


def test_who_waits_for_the_person_hears_at_once_of_somebody_who_wants_to_write_and_of_the_decision() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            window = await served.window("w1", as_name="ben", workspace="/w")
            await window.ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
            hook = await served.connect("hook", host="claude-code", workspace="/w")

            async def writes() -> None:
                await settle()
                await to(ann, "ben")

            start = trio.current_time()
            person = await served.person()
            async with watching(served, person, "approvals.watch", t.WatchApprovals()) as stream:
                assert (await stream.next(t.RequestList)).requests == []
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(writes)
                    waiting = await hook.ask("wake.check", t.WakeCheck(turn=True, wait_ms=50_000), t.Waiting)
                assert (waiting.requests, waiting.wake) == (1, True)
                assert [each.name for each in (await stream.next(t.RequestList)).requests] == ["ann"]
                await person.approve("ann")
                assert (await stream.next(t.RequestList)).requests == []
            assert trio.current_time() - start < 50

    run(main)


def test_an_agent_decides_for_no_person_about_who_writes_to_it() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            window = await served.window("w1", as_name="ben")
            await window.ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
            await to(ann, "ben")
            assert (await window.refused("session.approve", t.DecideJoin(agent="ann"))).code == "person_only"
            person = await served.person()
            wrong = await person.refused("session.approve", t.DecideJoin(agent="ann", join_code="ZZZZ"))
            assert wrong.code == "code_mismatch"
            assert await asks(person) == [("ann", "ben")]

    run(main)


def test_a_form_lets_somebody_write_by_the_code_that_only_the_sender_was_shown() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            window = await served.window("w1", as_name="ben")
            await window.ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
            sent = await to(ann, "ben")
            code = sent.join_code
            assert isinstance(code, str)
            assert len(code) == JOIN_CODE_LENGTH
            assert (await to(ann, "ben", "again")).join_code == code
            found = await served.find_request(window, "ann")
            listed = await window.ask("rooms.requests", t.SessionRequests(), t.RequestList)
            assert (found.request.direct_to, found.owner_decides) == ("ben", False)
            assert code not in f"{found} {listed}"
            # Without the code, and with another one, nothing is decided.
            assert (await window.refused("window.decide", t.DecideByForm(agent="ann"))).code == "form_undecided"
            for _ in range(CODE_TRIES):
                wrong = await window.refused("window.decide", t.DecideByForm(agent="ann", join_code="ZZZZ"))
                assert wrong.code == "code_mismatch"
            spent = await window.refused("window.decide", t.DecideByForm(agent="ann", join_code=code))
            assert spent.code == "throttled"
            await trio.sleep(CODE_PAUSE_S)
            decided = await served.decide_by_form(window, "ann", join_code=code)
            assert (decided.status, decided.proof, decided.direct_to) == ("approved", "form", "ben")
            assert texts(await window.recv(room=sent.room)) == ["got a minute?", "again"]
            assert not isinstance((await to(ann, "ben", "thanks")).join_code, str)

    run(main)


def test_a_form_lifts_no_refusal_and_other_agents_of_the_person_decide_nothing() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            windows = [await served.window(f"w{name}", as_name=name) for name in ("ben", "cat")]
            await windows[0].ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
            code = (await to(ann, "ben")).join_code
            assert isinstance(code, str)
            params = t.DecideByForm(agent="ann", join_code=code)
            assert (await windows[1].refused("window.decide", params)).code == "no_such_request"
            await (await served.person()).deny("ann")
            assert (await windows[0].refused("window.decide", params)).code == "no_such_request"

    run(main)


def test_a_command_that_an_agent_host_started_is_shown_no_code_and_the_code_proves_a_terminal() -> None:
    async def main() -> None:
        world = World()
        world.settings = msgspec.structs.replace(world.settings, approval_minimum="terminal")
        async with world.serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben", direct="ask")
            child = await served.connect(as_name="ann", peer=PeerProcess(pid=1, agent_host="codex"))
            assert not isinstance((await to(child, "ben")).join_code, str)
            code = (await to(ann, "ben")).join_code
            assert isinstance(code, str)
            person = await served.connect(peer=PeerProcess(pid=2, terminal=True))
            assert (await person.refused("session.approve", t.DecideJoin(agent="ann"))).code == "needs_proof"
            by_code = t.DecideJoin(agent="ann", join_code=code, terminal=True)
            decided = await person.ask("session.approve", by_code, t.Decided)
            assert (decided.status, decided.proof) == ("approved", "terminal")
            assert texts(await ben.recv()) == ["got a minute?"] * 2

    run(main)


def test_a_direct_message_is_for_its_reader_also_where_only_such_messages_begin_a_turn() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann = await carded(served, "ann")
            window = await served.window("w1", as_name="ben", workspace="/w")
            await window.ask("directory.register", t.Register(visibility="public"), t.Registered)
            sent = await to(ann, "ben")
            page = await window.recv()
            await window.commit(page)
            await window.ask("agent.attention", t.SetAttention(mode="dnd"), t.AttentionIs)
            await ann.send("plain words", room=sent.room)
            hook = await served.connect("hook", host="claude-code", workspace="/w")
            waiting = await hook.ask("wake.check", t.WakeCheck(turn=True), t.Waiting)
            assert (waiting.unread, waiting.wake) == (1, True)

    run(main)
