"""What a model is shown through a window of the real engine, what counts as shown, and what an answer says besides."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from mcp_server.budget import Budget
from mcp_server.calls import Calls
from mcp_server.heard import hear
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Scribe
from mcp_server.window import Window
from parlerd.core.errors import Refused
from parlerd.engine.callers import Caller
from parlerd.engine.receiving import LONG_BACKLOG
from parlerd.operations import types as t
from parlerd.operations.traits import UNMEASURED, HostTraits
from tests.support import answers
from tests.support.engine import SlowDriver, engine_world, run
from tests.support.fake_mcp_engine import FakeMcpEngine, caller
from tests.support.models import NoForm, let_in, model, pair

LONG = "x" * 20_000


# -- acknowledged and not seen -----------------------------------------------------------------------------------------


def test_a_join_without_a_recap_states_the_gap_also_when_the_newest_message_goes_on() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth", context="")
            for n in range(5):
                await alice.send(f"middle {n}")
            await alice.send(LONG)
            bob = await model(served, "bob")
            text = await let_in(served, opened, bob)
            while (rest := hear(text).rest_call) is not None:
                text = await bob.call("parler_recv", **rest)
            await bob.call("parler_recv")
            await bob.call("parler_recv")
            everything = "\n".join(bob.seen)
            assert "Left out: #1 to #5" in everything or "middle 4" in everything

    run(main)


def test_a_long_backlog_states_the_gap_also_when_the_newest_message_goes_on() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth")
            bob = await model(served, "bob")
            await let_in(served, opened, bob)
            await bob.call("parler_recv")
            for n in range(LONG_BACKLOG + 20):
                await alice.send(f"middle {n}")
            await alice.send(LONG)
            text = await bob.call("parler_recv")
            while (rest := hear(text).rest_call) is not None:
                text = await bob.call("parler_recv", **rest)
            assert hear(await bob.call("parler_recv")).messages == []
            everything = "\n".join(bob.seen)
            assert "Left out: " in everything or "middle 50" in everything

    run(main)


def test_a_long_message_that_ends_one_of_two_overlapping_reads_is_not_acknowledged_by_its_first_part() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            one, two = await alice.open("one", context=""), await alice.open("two", context="")
            bob = await model(served, "bob")
            for opened in (one, two):
                await let_in(served, opened, bob)
            await bob.call("parler_recv", room="one")
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    await bob.call("parler_recv", room="one", wait_secs=40)

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await alice.send("short", room="two")
                await bob.call("parler_recv", room="two")
                await alice.send("a" * 9000 + "THE END", room="one")
            rest = hear(bob.seen[-1]).rest_call
            assert rest is not None
            await bob.call("parler_rooms")
            # Only the first part was shown, so the message is still new.
            unread = {room.name: room.unread for room in await bob.party.rooms()}
            assert unread["one"] == 1
            assert "THE END" in await bob.call("parler_recv", **rest)

    run(main)


def test_a_call_that_was_withdrawn_as_its_message_came_counts_as_nothing_shown() -> None:
    async def main() -> None:
        async with engine_world() as served:
            room = await pair(served)
            alice, bob = room.alice, room.bob
            await bob.call("parler_recv")
            written: list[object] = []

            async def answer(id: object, result: bytes, stamp: str) -> None:
                await trio.lowlevel.checkpoint()
                written.append(id)

            async def progress(token: object, times: int) -> None:
                raise AssertionError

            calls = Calls(answer, progress)
            async with trio.open_nursery() as nursery:
                params = {"name": "parler_recv", "arguments": {"wait_secs": 40}}
                nursery.start_soon(calls.run, 77, params, bob.window, NoForm())
                await trio.testing.wait_all_tasks_blocked()
                real = served.engine._desk.notifier.publish

                def publish(topics: Any) -> None:
                    real(topics)
                    # The host's cancellation is read in the same turn of the loop.
                    calls.withdraw(77)
                    bob.window.settled(77, written=False)

                served.engine._desk.notifier.publish = publish  # type: ignore[method-assign]
                await alice.send("precious")
                served.engine._desk.notifier.publish = real  # type: ignore[method-assign]
            assert "precious" in await bob.call("parler_recv")

    run(main)


# -- shown again and again, or never -----------------------------------------------------------------------------------


def test_a_page_is_shown_once_while_another_call_of_the_window_waits() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            one, two = await alice.open("one", context=""), await alice.open("two", context="")
            bob = await model(served, "bob")
            for opened in (one, two):
                await let_in(served, opened, bob)
            await bob.call("parler_recv", room="one")
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    await bob.window.call_tool(99, "parler_recv", {"room": "one", "wait_secs": 40}, NoForm())

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await alice.send("only once", room="two")
                for text in ("a", "b", "c"):
                    await bob.call("parler_send", text=text, room="two")
                nursery.cancel_scope.cancel()
            assert sum(text.count("only once") for text in bob.seen) == 1

    run(main)


def test_a_window_that_left_the_room_of_a_message_shown_in_part_can_read_its_next_session() -> None:
    async def main() -> None:
        async with engine_world() as served:
            room = await pair(served)
            alice, bob = room.alice, room.bob
            await bob.call("parler_recv")
            await alice.send(LONG)
            assert hear(await bob.call("parler_recv")).rest_call is not None
            await bob.call("parler_leave")
            await bob.call("parler_open_session", topic="mine", context="")
            text = await bob.call("parler_recv")
            assert hear(text).error == "", text

    run(main)


# -- what an answer says -----------------------------------------------------------------------------------------------


def test_a_message_of_data_alone_is_shown_with_its_author_and_what_is_unusual_about_it() -> None:
    forged = answers.message(
        "", data={"do": "this"}, author=answers.author("mallory"), verified="invalid", private=True, seq=12
    )
    text = Scribe().write(answers.page(forged)).text
    assert "#12 mallory" in text, text
    assert "NOT VERIFIED" in text


def test_several_names_that_are_fenced_in_an_error_stand_inside_fences() -> None:
    error = Refused("ambiguous_name", "More than one is knocking.", candidates=["a at x (U1)", "b at y (U2)"])
    text = failure(error, Scribe())
    # A reader finds a fence by a line that begins it and a line that ends it.
    assert "a at x" not in hear(text).said, text


def test_an_error_that_is_cut_closes_its_fence_and_keeps_the_notice() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            bob = await model(served, "bob", HostTraits(page=7_500, unit="json"))
            names = [f"codex-{n:02}-{'x' * 50}" for n in range(5)]
            for n in range(8):
                opened = await bob.party.open(f"room {n} {'y' * 50}", context="")
                for name in names:
                    await (await served.agent(name)).join(opened.session_key)
            del alice
            text = await bob.call("parler_approve")
            assert hear(text).error == "ambiguous_name"
            opened_fences = [line for line in text.split("\n") if "[peer " in line]
            closed = [line for line in text.split("\n") if "[end " in line]
            assert len(opened_fences) == len(closed), (len(opened_fences), len(closed), text[-200:])
            assert "Meanwhile: " in text

    run(main)


@pytest.mark.parametrize(
    "traits",
    [HostTraits(page=7_500, unit="json"), HostTraits(page=11_500), UNMEASURED],
    ids=["cline", "codex", "unmeasured"],
)
def test_an_answer_with_its_notice_stays_within_the_hosts_ceiling(traits: HostTraits) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            bob = await model(served, "bob", traits)
            opened = await alice.open("z" * 60, context="")
            await let_in(served, opened, bob)
            await bob.call("parler_recv")
            mine = [await bob.party.open(f"{n}{'y' * 60}", context="") for n in range(5)]
            await bob.call("parler_rooms")
            for n, each in enumerate(mine):
                for m in range(2):
                    await (await served.agent(f"{n}{m}{'x' * 60}")).join(each.session_key)
            await alice.send("w" * 60_000)
            text = await bob.call("parler_recv", room=opened.name)
            budget = Budget(traits)
            assert hear(text).rest_call is not None
            assert budget.size(text) <= traits.page, (budget.size(text), traits.page)

    run(main)


def test_a_list_of_rooms_with_many_doors_stays_within_the_ceiling() -> None:
    waits = [t.Knocking(room=answers.ROOM, join_code="K7QM") for _ in range(120)]
    text = Scribe().write(t.RoomList(rooms=[], you="bob", waits=waits)).text
    assert Budget().size(text) <= UNMEASURED.page


# -- more of what is shown ---------------------------------------------------------------------------------------------


def test_two_long_messages_of_two_rooms_that_are_both_read_to_their_ends_are_both_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            one, two = await alice.open("one", context=""), await alice.open("two", context="")
            bob = await model(served, "bob")
            for opened in (one, two):
                await let_in(served, opened, bob)
            await bob.call("parler_recv", room="one")
            for room in ("one", "two"):
                await alice.send("z" * 9000 + f" END OF {room}", room=room)
            rests = [hear(await bob.call("parler_recv", room=room)).rest_call for room in ("one", "two")]
            for rest in rests:
                assert rest is not None
                await bob.call("parler_recv", **rest)
            assert sum("END OF" in text for text in bob.seen) == 2
            for room in ("one", "two"):
                assert hear(await bob.call("parler_recv", room=room)).messages == []

    run(main)


def test_a_message_that_is_being_stored_while_a_long_backlog_is_read_is_not_passed_over() -> None:
    async def main() -> None:
        async with engine_world(driver=RacingDriver) as served:
            room = await pair(served)
            alice, bob = room.alice, room.bob
            await bob.call("parler_recv")
            for n in range(LONG_BACKLOG + 20):
                await alice.send(f"middle {n}")
            driver = served.driver
            assert isinstance(driver, RacingDriver)
            async with trio.open_nursery() as nursery:

                async def meanwhile() -> None:
                    nursery.start_soon(alice.send, "precious")
                    # Decided, and on its way to the disk.
                    await trio.testing.wait_all_tasks_blocked(0.01)

                driver.then = meanwhile
                await bob.call("parler_recv")
            await bob.call("parler_recv")
            await bob.call("parler_recv")
            assert any("precious" in text for text in bob.seen)

    run(main)


class RacingDriver(SlowDriver):
    """Commits take a second; `then` runs once, before the next read."""

    then: Any = None

    async def read(self, query: Any) -> Any:
        if self.then is not None:
            then, self.then = self.then, None
            value = await super().read(query)
            await then()
            return value
        return await super().read(query)


def test_a_call_that_is_cancelled_as_it_knocks_does_not_lose_the_key() -> None:
    class SlowAtFirst(FakeMcpEngine):
        """The first knock waits, as one does while the home's budget of guesses is spent."""

        async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
            if op == "session.join" and not self.calls:
                self.calls.append((op, params))
                await trio.sleep_forever()
            return await super().call(op, params, caller)

    async def main() -> None:
        engine = SlowAtFirst()
        engine.script["session.join"] = answers.joined("pending")
        window = Window(engine, caller(), session_key="A3KE7DJR")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(window.call_tool, 1, "parler_recv", {}, NoForm())
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await window.call_tool(2, "parler_recv", {}, NoForm())
        assert len(engine.made("session.join")) == 2

    trio.run(main)


def test_reading_a_resource_does_not_use_up_what_a_model_is_told_once() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth")
            bob = await model(served, "bob")
            person = await served.person()
            await bob.party.join(opened.session_key)
            await person.approve((await bob.party.whoami()).id)
            bob.party.caller.reader.shown.take()
            await bob.window.read_resource("parler://room/auth/messages")
            assert "What stands between" not in await bob.call("parler_leave", room="nowhere")
            text = await bob.call("parler_recv")
            assert "What stands between" in text
            assert "You are " in text

    run(main)


def test_a_reader_is_not_shown_raw_milliseconds() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await model(served, "alice")
            opened = await alice.party.open("auth")
            bob = await model(served, "bob")
            await let_in(served, opened, bob)
            await alice.call("parler_send", text="hi")
            await bob.call("parler_rooms")
            text = await alice.call("parler_rooms", action="why", id="2")
            assert not [word for word in text.split() if word.isdigit() and len(word) > 10], text

    run(main)
