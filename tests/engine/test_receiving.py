"""Reading what is new, waiting for it, and acknowledging it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import INVOCATION
from parlerd.operations import types as t
from tests.support.engine import FarDriver, Party, SlowDriver, engine_world, gather, run, texts
from tests.support.faulty_store import FaultyStore

# -- reading -----------------------------------------------------------------------------------------------


def test_reading_moves_nothing_until_it_is_acknowledged() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            first = await bob.recv()
            assert texts(await bob.recv()) == texts(first) == ["one"]
            assert (first.unread, first.more, first.acknowledges) == (0, False, True)
            await bob.commit(first)
            await bob.commit(first)
            assert (await bob.recv()).messages == []

    run(main)


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for n in range(7):
                await alice.send(f"{n}")
                await bob.send("own")
            seen: list[str] = []
            unread: list[int] = []
            while True:
                page = await bob.recv(limit=3)
                seen += texts(page)
                unread.append(page.unread)
                await bob.commit(page)
                if not page.more:
                    break
            assert seen == [str(n) for n in range(7)]
            assert unread == [4, 1, 0]

    run(main)


def test_a_page_is_bounded_in_bytes_but_always_holds_one_message() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for _ in range(3):
                await alice.send("x" * 5000)
            page = await bob.recv(max_bytes=1024)
            assert len(page.messages) == 1
            assert page.more
            assert len((await bob.recv(max_bytes=12_000)).messages) == 2

    run(main)


def test_looking_back_moves_nothing_and_shows_ones_own_words_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            await bob.send("mine")
            for page in (await bob.recv(all=True), await bob.recv(since=0)):
                assert texts(page) == ["Chose PKCE.", "one", "mine"]
                assert not page.acknowledges
            assert texts(await bob.recv(since=1)) == ["one", "mine"]
            assert (await bob.recv(since=99)).messages == []
            assert texts(await bob.recv(peek=True)) == ["one"]
            assert texts(await bob.recv()) == ["one"]

    run(main)


def test_a_filtered_read_acknowledges_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("plain")
            await alice.send("for bob", to=("bob",))
            await alice.send("a note", kind="note")
            mentions = await bob.recv(mentions=True)
            assert (texts(mentions), mentions.acknowledges) == (["for bob"], False)
            notes = await bob.recv(kind="note")
            assert (texts(notes), notes.acknowledges) == (["a note"], False)
            assert texts(await bob.recv()) == ["plain", "for bob", "a note"]

    run(main)


def test_a_mention_far_behind_is_found_and_the_middle_is_not_marked_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            plain = [await alice.send(f"{n}") for n in range(60)]
            named = await alice.send("for bob", to=("bob",))
            assert texts(await bob.recv(mentions=True, limit=5)) == ["for bob"]
            assert (await alice.why(plain[30].id))["bob"] == ["stored"]
            assert (await alice.why(named.id))["bob"] == ["stored", "read"]

    run(main)


@pytest.mark.parametrize("cursor", ["2", "999999999999999", "3"])
def test_an_acknowledgement_beyond_what_was_delivered_is_refused(cursor: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            await alice.send("two")
            room = (await bob.rooms())[0].room
            error = await bob.refused("message.commit", t.Commit(room=room, cursor=cursor))
            assert error.code == "cursor_ahead"
            assert texts(await bob.recv()) == ["one", "two"]

    run(main)


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.0", "\u0661", " 1", "1" * 16, "0x1"])
def test_what_is_no_cursor_is_refused_as_that(cursor: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob = await served.room("alice", "bob")
            room = (await bob.rooms())[0].room
            error = await bob.refused("message.commit", t.Commit(room=room, cursor=cursor))
            assert error.code == "invalid_cursor"

    run(main)


def test_acknowledging_an_earlier_message_of_a_page_leaves_the_rest_new_and_never_goes_back() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for n in range(3):
                await alice.send(f"{n}")
            page = await bob.recv()
            for cursor, left in (("3", ["2"]), ("2", ["2"]), ("4", [])):
                await bob.call("message.commit", t.Commit(room=page.room, cursor=cursor))
                assert texts(await bob.recv()) == left

    run(main)


# -- waiting -----------------------------------------------------------------------------------------------


def test_a_wait_ends_with_the_message_and_not_a_moment_later() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")

            async def later() -> None:
                await trio.sleep(7)
                await alice.send("now")

            began = trio.current_time()
            _, page = await gather(later, partial(bob.recv, wait=3600))
            assert page is not None
            assert texts(page) == ["now"]
            assert trio.current_time() - began == 7

    run(main)


def test_an_invocation_ends_the_wait_of_whoever_asks_for_invocations_and_no_other() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.call("action.register", t.RegisterAction(id="go"))

            async def later() -> None:
                await trio.sleep(7)
                await alice.call("action.invoke", t.InvokeAction(id="go"))

            began = trio.current_time()
            _, page = await gather(later, partial(bob.recv, wait=30, kind=INVOCATION))
            assert page is not None
            assert texts(page) == ["alice invoked go"]
            assert trio.current_time() - began < 30
            await bob.read()
            began = trio.current_time()
            _, page = await gather(later, partial(bob.recv, wait=30))
            assert page is not None
            assert trio.current_time() - began >= 30

    run(main)


def test_a_wait_for_nothing_ends_at_its_time_with_an_empty_page() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            began = trio.current_time()

            async def own() -> None:
                await bob.send("my own words wake me for nothing")

            page, _ = await gather(partial(bob.recv, wait=30), own)
            assert page is not None
            assert page.messages == []
            assert trio.current_time() - began == 30
            assert alice.caller.waiting == bob.caller.waiting == 0

    run(main)


def test_a_hand_off_says_its_number_and_how_many_could_take_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth", approval=False)
            given = await alice.handoff("go")
            assert (given.seq, given.others) == (2, 0)
            await alice.send("waiting")
            await (await served.agent("bob")).join(opened.session_key)
            again = await alice.handoff("go on")
            assert (again.seq, again.others) == (4, 1)

    run(main)


def test_one_message_wakes_every_reader_who_waits() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, *others = await served.room("alice", *(f"bob{n}" for n in range(8)))
            began = trio.current_time()
            pages = await gather(*(partial(other.recv, wait=60) for other in others), partial(alice.send, "all"))
            assert all(texts(page) == ["all"] for page in pages[:-1])  # type: ignore[arg-type]
            assert trio.current_time() == began

    run(main)


def test_a_wait_in_a_room_that_closes_is_told_to_stop() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")

            async def wait() -> str:
                return (await bob.refused("message.recv", t.Recv(wait_ms=3_600_000))).code

            code, _ = await gather(wait, alice.close)
            assert code == "room_closed"

    run(main)


def test_a_read_that_finds_nothing_new_in_a_closed_room_says_that_it_is_closed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("last words")
            assert (await bob.recv()).notice == ""
            await alice.close()
            await bob.read()
            assert (await bob.recv()).notice == "This session is closed."

    run(main)


def test_a_wait_survives_that_its_room_was_closed_for_want_of_use() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")

            async def later() -> None:
                await trio.sleep(1800)
                assert served.open_rooms == 0
                dan = await served.agent("dan")
                await served.admit(await alice.open("other"), dan)
                await carol.send("now")

            _, page = await gather(later, partial(bob.recv, wait=3600))
            assert page is not None
            assert texts(page) == ["now"]

    run(main)


def test_who_joined_while_a_reader_waited_in_an_idle_room_is_named_by_its_handle() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)

            async def later() -> None:
                await trio.sleep(1800)
                carol = await served.agent("carol")
                await served.admit(opened, carol)
                await carol.send("hello")

            _, page = await gather(later, partial(bob.recv, wait=3600))
            assert page is not None
            assert page.messages[0].author.name == "carol"

    run(main)


def test_draining_answers_waits_at_once_and_refuses_new_calls() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob, carol = await served.room("alice", "bob", "carol")

            async def wait(party: Party, op: str) -> str:
                return (await party.refused(op, t.Recv(wait_ms=3_600_000))).code

            began = trio.current_time()
            one, all_, _ = await gather(
                partial(wait, bob, "message.recv"), partial(wait, carol, "message.recv_all"), served.engine.drain
            )
            assert (one, all_) == ("draining", "draining")
            assert trio.current_time() == began
            assert (await bob.refused("message.send", t.Send(text="x"))).code == "draining"
            assert (await bob.ask("daemon.status", t.DaemonStatus(), t.DaemonInfo)).running

    run(main)


# -- every room at once ------------------------------------------------------------------------------------


async def recv_all(party: Party, *, wait: float = 0) -> dict[str, list[str]]:
    params = t.Recv(all_rooms=True, wait_ms=int(wait * 1000))
    found = await party.ask("message.recv_all", params, t.ReceivedAll)
    return {page.name: texts(page) for page in found.rooms}


def test_every_room_with_something_new_is_shown_and_a_new_room_counts() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            for topic in ("one", "two", "three"):
                await served.admit(await alice.open(topic, ""), bob)
            await alice.send("a", room="one")
            await alice.send("b", room="three")
            assert await recv_all(bob) == {"one": ["a"], "three": ["b"]}
            for name in ("one", "three"):
                assert await bob.read(room=name)
            assert await recv_all(bob) == {}

            opened = await alice.open("four", "welcome")
            await bob.join(opened.session_key)
            began = trio.current_time()
            found, _ = await gather(partial(recv_all, bob, wait=60), partial(alice.approve, "bob"))
            assert found == {"four": ["welcome"]}
            assert trio.current_time() == began

    run(main)


def test_a_look_everywhere_asks_the_store_of_the_rooms_with_news_and_of_no_others() -> None:
    async def main() -> None:
        async with engine_world(driver=FarDriver) as served:
            driver = served.driver
            assert isinstance(driver, FarDriver)
            alice, bob = await served.agent("alice"), await served.agent("bob")

            async def quiet_rooms(count: int) -> None:
                for _ in range(count):
                    opened = await alice.open("quiet", "context")
                    await served.admit(opened, bob)
                    await alice.send("read", room=opened.room)
                    await bob.commit(await bob.recv(room=opened.room))

            async def asked(expected: dict[str, list[str]]) -> int:
                before = driver.looks
                assert await recv_all(bob) == expected
                return driver.looks - before

            await quiet_rooms(2)
            few = await asked({})
            await quiet_rooms(4)
            assert await asked({}) == few
            last = (await bob.rooms())[-1]
            await alice.send("news", room=last.room)
            assert await asked({last.name: ["news"]}) < few + 10

    run(main)


def test_a_room_that_cannot_be_read_fails_the_whole_and_nothing_counts_as_shown() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            for topic in ("one", "two"):
                await served.admit(await alice.open(topic, ""), window)
                await served.acknowledge(window)
                await alice.send("news", room=topic)
            store.fail_commit_number(store.commits + 2)
            assert (await window.refused("message.recv_all", t.Recv())).code == "store_full"
            await served.acknowledge(window)
            assert await recv_all(window) == {"one": ["news"], "two": ["news"]}
            await served.acknowledge(window)
            assert await recv_all(window) == {}

    run(main)


def test_a_cancelled_read_of_every_room_counts_nothing_as_shown() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            for topic in ("one", "two"):
                await served.admit(await alice.open(topic, ""), window)
                await served.acknowledge(window)
                await alice.send("news", room=topic)
            with trio.move_on_after(1.5) as scope:
                await recv_all(window)
            assert scope.cancelled_caught
            await served.acknowledge(window)
            assert await recv_all(window) == {"one": ["news"], "two": ["news"]}

    run(main)


# -- windows acknowledge by their next call ----------------------------------------------------------------


def test_a_window_acknowledges_what_its_last_call_showed_and_a_kill_acknowledges_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("one")
            assert texts(await window.recv()) == ["one"]
            await served.leave(window)

            window = await served.window("w")
            assert texts(await window.recv()) == ["one"]
            await served.acknowledge(window)
            await served.acknowledge(window)
            assert texts(await window.recv()) == []

    run(main)


@pytest.mark.parametrize("how", [{"peek": True}, {"since": 0}, {"all": True}, {"mentions": True}, {"kind": "text"}])
def test_a_look_by_a_window_is_not_acknowledged_by_its_next_call(how: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("one", to=((await window.whoami()).id,))
            assert "one" in texts(await window.recv(**how))
            await served.acknowledge(window)
            assert texts(await window.recv()) == ["one"]

    run(main)


def test_an_acknowledgement_that_could_not_be_stored_shows_the_page_again() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("one")
            await window.recv()
            store.fail_next_commit("store_locked")
            with pytest.raises(ParlerError, match="store_locked"):
                await served.acknowledge(window)
            assert texts(await window.recv()) == ["one"]

    run(main)
