"""Knocking, waiting at the door and coming up in the room: what a joiner is shown, and a stranger is not."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import MAX_PENDING_PER_KEY, AgentId, RoomId
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.library import Library
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.port import Cursor
from tests.support.engine import (
    HookDriver,
    engine_world,
    gather,
    run,
    settle,
    texts,
)
from tests.support.faulty_store import FaultyStore
from tests.support.sessions import (
    events,
    outsider_calls,
    wrong_join,
)


def test_joining_without_a_page_leaves_the_context_unread_for_the_first_read() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_default=False)) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(context="the recap")
            joined = await bob.join(opened.session_key, limit=0)
            assert (joined.status, joined.messages) == ("joined", [])
            page = await alice.recv(all=True)
            assert (await alice.why(page.messages[0].id))["bob"] == ["stored"]
            assert texts(await bob.recv()) == ["the recap"]
            assert "read" in (await alice.why(page.messages[0].id))["bob"]

    run(main)


def test_who_takes_its_request_back_is_asked_about_no_more_and_may_ask_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened, other = await alice.open("x", "the recap"), await alice.open("y", "another")
            newcomer = await served.agent("newcomer")
            assert (await newcomer.refused("session.withdraw", t.WithdrawKnock())).code == "no_such_request"
            await bob.join(opened.session_key)
            errors: list[ParlerError] = []

            async def waits() -> None:
                params = t.JoinSession(session_key=other.session_key or "", wait_ms=60_000)
                errors.append(await bob.refused("session.join", params))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                await settle()
                assert len(await alice.requests()) == 2
                error = await bob.refused("session.withdraw", t.WithdrawKnock())
                assert error.code == "ambiguous_name"
                assert {each["begins"] for each in error.details["candidates"]} == {
                    (each.session_key or "")[:4] for each in (opened, other)
                }
                key = t.WithdrawKnock(session_key=other.session_key or "")
                taken = await bob.ask("session.withdraw", key, t.WithdrawnKnock)
                assert (taken.room, taken.begins) == (other.room, (other.session_key or "")[:4])
            # Whoever waits in another call is told so, and does not knock again by itself.
            assert [(error.code, error.details["what"]) for error in errors] == [("knock_over", "withdrawn")]
            assert [each.room for each in await alice.requests()] == [opened.room]
            assert (await bob.refused("session.withdraw", key)).code == "no_such_request"
            assert (await bob.join(other.session_key)).status == "pending"
            person = await served.person()
            await person.approve("bob", room=other.room)
            assert (await bob.come_in(other.session_key)).messages
            # The other one is the only one that waits.
            assert (await bob.ask("session.withdraw", t.WithdrawKnock(), t.WithdrawnKnock)).room == opened.room
            assert await alice.requests() == []

    run(main)


def test_who_waits_sees_nothing_learns_nothing_and_is_woken_by_the_decision() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "the recap")
            pending = await bob.join(opened.session_key)
            assert pending.status == "pending"
            assert pending.messages == []
            assert pending.name is None
            assert pending.join_code is not None
            for op, params in outsider_calls(opened.room):
                assert (await bob.refused(op, params)).code in ("no_such_room", "no_active_session")
            assert await bob.rooms() == []

            landed: list[t.JoinedSession] = []

            async def wait() -> None:
                landed.append(await bob.join(opened.session_key, wait=3600))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                began = trio.current_time()
                await alice.approve("bob")
            assert trio.current_time() == began
            assert texts(landed[0]) == ["the recap"]
            assert landed[0].status == "joined"
            assert landed[0].name == "x"

    run(main)


def test_polling_is_free_and_makes_no_second_request() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(max_uses=1)
            first = await bob.join(opened.session_key)
            facts = len(events(served, opened.room))
            for _ in range(5):
                assert await bob.join(opened.session_key) == first
            assert len(events(served, opened.room)) == facts
            (request,) = await alice.requests()
            assert (request.name, request.host, request.home) == ("bob", "shell", "local")
            assert request.fingerprint.count("-") == 2
            assert request.requested == served.world.clock.ms

    run(main)


def test_a_wait_that_nobody_answers_ends_pending() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            began = trio.current_time()
            assert (await bob.join(opened.session_key, wait=30)).status == "pending"
            assert 30 <= trio.current_time() - began < 31

    run(main)


def test_a_decision_between_a_poll_and_its_answer_answers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            assert (await bob.join(opened.session_key)).status == "pending"
            quiet = RoomActor.quiet

            async def approved_meanwhile(actor: RoomActor[Room]) -> Room:
                monkeypatch.setattr(RoomActor, "quiet", quiet)
                await alice.approve("bob")
                return await quiet(actor)

            monkeypatch.setattr(RoomActor, "quiet", approved_meanwhile)
            assert (await bob.join(opened.session_key)).status == "joined"

    run(main)


def test_the_queue_of_one_key_is_bounded() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            for n in range(MAX_PENDING_PER_KEY):
                await (await served.agent(f"bob{n}")).join(opened.session_key)
            late = await served.agent("late")
            error = await late.refused("session.join", t.JoinSession(session_key=str(opened.session_key)))
            assert (error.code, error.details["limit"]) == ("too_many_pending", 5)
            await alice.deny("bob0")
            assert (await late.join(opened.session_key)).status == "pending"

    run(main)


def test_joining_where_one_is_answers_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)
            for party in (alice, bob):
                other = await party.open("another")
                again = await party.join(opened.session_key)
                assert (again.status, again.room, again.name) == ("already_member", opened.room, opened.name)
                assert texts(again) == ["Chose PKCE."]
                assert (await party.whoami()).active == opened.room != other.room
            assert await alice.requests() == []

    run(main)


def test_the_context_that_is_shown_again_moves_no_cursor_back_and_none_over_what_it_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, bob)
            sent = [await alice.send(f"m{n}") for n in range(3)]
            # All of it was read before: nothing is new afterwards either.
            assert await bob.read() == ["m0", "m1", "m2"]
            again = await bob.join(opened.session_key, limit=1)
            assert (texts(again), again.cursor) == (["recap", "m2"], str(sent[-1].seq))
            await bob.commit(again)
            assert await bob.read() == []
            # Something unread stands in the gap: the page acknowledges nothing, and all of it is still new.
            for n in range(3, 6):
                await alice.send(f"m{n}")
            again = await bob.join(opened.session_key, limit=1)
            assert (texts(again), again.cursor, again.truncated) == (["recap", "m5"], "", True)
            assert await bob.read() == ["m3", "m4", "m5"]
            # All that is unread is shown: it is read.
            await alice.send("m6")
            again = await bob.join(opened.session_key)
            await bob.commit(again)
            assert await bob.read() == []

    run(main)


@pytest.mark.parametrize(("limit", "left"), [(100, []), (1, ["m0", "m1", "m2"])])
def test_a_window_that_joins_again_acknowledges_with_its_next_call_only_what_was_shown_whole(
    limit: int, left: list[str]
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w", as_name="bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, window)
            await served.acknowledge(window)
            for n in range(3):
                await alice.send(f"m{n}")
            assert (await window.join(opened.session_key, limit=limit)).status == "already_member"
            await served.acknowledge(window)
            assert texts(await window.recv()) == left

    run(main)


def test_a_command_that_joins_again_under_the_name_of_a_live_window_acknowledges_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w", as_name="bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, window)
            await served.acknowledge(window)
            await alice.send("one")
            again = await (await served.agent("bob")).join(opened.session_key)
            assert (again.status, texts(again), again.cursor) == ("already_member", ["recap", "one"], "")
            assert texts(await window.recv()) == ["one"]

    run(main)


def test_a_knock_from_the_environment_leaves_the_session_that_an_agent_went_on_to() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, bob)
            other = await bob.open("another")
            again = await bob.join(opened.session_key, limit=0)
            assert (again.status, again.messages) == ("already_member", [])
            assert (await bob.whoami()).active == other.room
            await bob.close()
            assert (await bob.join(opened.session_key, limit=0)).status == "already_member"
            assert (await bob.whoami()).active == opened.room

    run(main)


def test_a_closed_session_that_one_is_in_is_shown_again_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, bob)
            await alice.close()
            again = await bob.join(opened.session_key)
            assert (again.status, texts(again)) == ("already_member", ["recap"])
            assert "closed" in again.hint

    run(main)


def test_an_approval_after_the_key_died_still_lets_the_joiner_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            assert opened.session_key is not None
            await bob.join(opened.session_key)
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=opened.session_key))
            served.world.clock.move(seconds=25 * 3600)
            assert (await bob.join(opened.session_key)).status == "pending"
            await alice.approve("bob")
            assert texts(await bob.join(opened.session_key)) == ["recap"]

    run(main)


def test_closing_answers_who_waits_at_the_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            answers: list[str] = []

            async def wait() -> None:
                try:
                    answers.append((await bob.join(opened.session_key, wait=3600)).status)
                except ParlerError as error:
                    answers.append(error.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                began = trio.current_time()
                await alice.close()
            assert trio.current_time() == began
            assert answers == ["room_closed"]

    run(main)


def test_a_room_that_was_closed_for_want_of_use_still_wakes_who_waits_for_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")

            async def later() -> None:
                await trio.sleep(1800)
                assert served.open_rooms == 0
                await alice.approve("bob")

            _, joined = await gather(later, partial(bob.join, opened.session_key, wait=3600))
            assert joined is not None
            assert texts(joined) == ["recap"]

    run(main)


def test_a_short_room_is_shown_whole_and_what_follows_is_new() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await alice.send("one")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key)
            assert texts(landed) == ["recap", "one"]
            assert not landed.truncated
            assert landed.cursor == "2"
            await alice.send("two")
            await bob.commit(landed)
            assert await bob.read() == ["two"]

    run(main)


def test_a_join_that_was_not_acknowledged_is_shown_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            first = await bob.join(opened.session_key)
            assert await bob.join(opened.session_key) == first
            await bob.commit(first)
            again = await bob.join(opened.session_key)
            assert (again.status, again.messages) == ("already_member", first.messages)

    run(main)


def test_a_long_room_shows_the_recap_and_the_newest_tail_and_says_what_it_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            sent = [await alice.send(f"m{n}") for n in range(600)]
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key, limit=20)
            assert texts(landed) == ["recap", *(f"m{n}" for n in range(580, 600))]
            assert landed.truncated
            assert (landed.first_unshown, landed.last_unshown) == (2, 581)
            assert "580 messages" in landed.hint
            assert "2 to 581" in landed.hint
            await bob.commit(landed)

            await alice.send("after")
            assert await bob.read() == ["after"]
            # The middle is there to be read, and nobody says that it was.
            middle = sent[300].id
            assert (await alice.why(middle))["bob"] == ["stored"]
            assert (await alice.why(sent[590].id))["bob"] == ["stored", "read", "acknowledged"]
            looked = await bob.recv(since=1, limit=500)
            assert texts(looked) == [f"m{n}" for n in range(500)]
            assert looked.more
            assert (await alice.why(middle))["bob"][1] == "read"

    run(main)


def test_a_message_posted_while_a_joiner_lands_is_not_lost_between_join_and_recv() -> None:
    """What arrives between the read of the tail and its answer was not shown, so nothing may count it as shown."""

    async def main(via_mcp: bool) -> None:
        async with engine_world(driver=HookDriver) as served:
            alice = await served.agent("alice")
            bob = await served.window("w") if via_mcp else await served.agent("bob")
            opened = await alice.open("x", "recap")
            await bob.join(opened.session_key)
            await alice.approve((await bob.whoami()).id)
            assert isinstance(served.driver, HookDriver)
            served.driver.then = partial(alice.send, "in between")
            landed = await bob.join(opened.session_key)
            assert texts(landed) == ["recap"]
            if via_mcp:
                await served.acknowledge(bob)
            else:
                await bob.commit(landed)
            page = await bob.recv()
            assert texts(page) == ["in between"]
            assert (await alice.why(page.messages[0].id))[(await bob.whoami()).name] == ["stored", "read"]

    run(partial(main, False))
    run(partial(main, True))


def test_a_landing_that_failed_is_not_counted_as_shown() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            opened = await alice.open("x", "recap")
            await window.join(opened.session_key)
            await alice.approve((await window.whoami()).id)
            await window.open("its own, and now its active one")
            # The knock finds it in already; the delivery mark is one commit, making the room its active one the next.
            store.fail_commit_number(store.commits + 2)
            assert (await wrong_join(window, str(opened.session_key))).code == "store_full"
            await served.acknowledge(window)
            assert texts(await window.join(opened.session_key)) == ["recap"]

    run(main)


@pytest.mark.parametrize("history", ["full", "from-join", "none"])
def test_the_history_policy_decides_what_a_joiner_sees_and_the_recap_is_always_shown(history: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap", history=history)
            await alice.send("before")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            await alice.send("after the approval")
            landed = await bob.join(opened.session_key)
            shown = ["recap", "before", "after the approval"] if history == "full" else ["recap", "after the approval"]
            assert texts(landed) == shown
            assert [message.seq for message in landed.messages] == list(range(1, len(shown) + 1))
            await bob.commit(landed)
            assert texts(await bob.recv(all=True)) == shown

            await bob.close()
            await alice.send("while away")
            again = await bob.join(opened.session_key)
            assert again.status == "pending"
            await alice.approve("bob")
            back = await bob.join(opened.session_key)
            if history == "none":
                assert texts(await bob.recv(all=True)) == shown
            else:
                assert texts(await bob.recv(all=True)) == [*shown, "while away"]
            await bob.commit(back)
            assert (await alice.send("now")).seq == 5
            assert await bob.read() == ["now"]

    run(main)


def test_draining_answers_who_waits_at_a_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()

            async def wait() -> ParlerError:
                return await bob.refused(
                    "session.join", t.JoinSession(session_key=str(opened.session_key), wait_ms=3_600_000)
                )

            error, _ = await gather(wait, served.engine.drain)
            assert error is not None
            assert error.code == "draining"
            assert error.spec.retryable

    run(main)


def test_who_is_put_out_while_it_joins_again_knocks_as_whoever_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "the recap")
            await served.admit(opened, bob)
            await settle()
            real, kicks = Library.cursor, [t.KickMember(agent="bob", room=opened.room)]

            async def cursor(library: Library, room: RoomId, reader: AgentId) -> Cursor:
                # The home said that bob is in, and before bob is shown anything it is not.
                if kicks:
                    await alice.ask("room.kick", kicks.pop(), t.MemberGone)
                return await real(library, room, reader)

            monkeypatch.setattr(Library, "cursor", cursor)
            again = await bob.join(opened.session_key)
            assert (again.status, again.messages) == ("pending", [])
            assert kicks == []

    run(main)
