"""Faults found by a review: who a window is, what ends a wait, what a joiner is told."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from mcp_server.heard import hear
from mcp_server.window import Window
from parlerd.operations import types as t
from tests.support.engine import Party, Served, World, engine_world, run

REPO = "/home/sam/shop"


class NoForm:
    offered = False

    async def ask_code(self, message: str) -> str | None:
        raise AssertionError(message)


async def speaking(served: Served, window: str, conversation: str, host: str = "codex") -> Party:
    return await served.connect("mcp", window=window, host=host, workspace=REPO, conversation=conversation)


async def ask(window: Window, request: int, tool: str, **arguments: Any) -> str:
    answer = await window.call_tool(request, tool, arguments, NoForm())
    window.settled(request, written=True)
    return answer.text


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_the_threads_of_one_process_keep_their_agents_when_another_calls_first_after_a_restart() -> None:
    """Codex: the first thread that calls is the window's own (`_note_conversation`), which need not be the one that was
    before the daemon was killed."""

    async def main() -> None:
        world = World()
        async with world.serving() as served:
            first = await (await speaking(served, "w1", "thread-a")).whoami()
            second = await (await speaking(served, "w1.digest-of-b", "thread-b")).whoami()
            assert first.id != second.id
        async with world.serving() as served:
            # Thread B calls first: the process's own window is B's now, and A's is a further one.
            b = await (await speaking(served, "w1", "thread-b")).whoami()
            a = await (await speaking(served, "w1.digest-of-a", "thread-a")).whoami()
            assert (a.id, b.id) == (first.id, second.id)

    run(main)


def test_a_conversation_that_is_resumed_right_after_the_daemon_came_back_is_the_agent_it_was() -> None:
    """A reboot: the old window is gone for good, and the new one starts the daemon."""

    async def main() -> None:
        world = World()
        async with world.serving() as served:
            before = await (await speaking(served, "w1", "conversation-b", "claude-code")).whoami()
        async with world.serving() as served:
            after = await (await speaking(served, "w2", "conversation-b", "claude-code")).whoami()
            assert after.id == before.id

    run(main)


def test_a_new_conversation_does_not_become_an_agent_that_a_nameless_one_was() -> None:
    """`claude -p --continue` has no id of its conversation that can be believed, and leaves an agent with rooms."""

    async def main() -> None:
        async with engine_world() as served:
            nameless = await served.connect("mcp", window="w1", host="claude-code", workspace=REPO, continues=True)
            await nameless.open("secret plans")
            before = await nameless.whoami()
            await served.leave(nameless)
            fresh = await speaking(served, "w2", "conversation-new", "claude-code")
            assert (await fresh.whoami()).id != before.id

    run(main)


def test_a_window_that_asks_for_the_name_of_an_agent_that_another_window_acts_as_gets_the_next_slot() -> None:
    async def main() -> None:
        async with engine_world() as served:
            seated = await (await served.window("w1", workspace=REPO)).whoami()
            named = await (await served.window("w2", as_name=seated.name)).whoami()
            assert named.id != seated.id

    run(main)


# -- what ends a wait --------------------------------------------------------------------------------------------------


def test_a_knock_ends_a_wait_that_is_the_first_call_of_its_window() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            opened = await (await served.window("w1", workspace=REPO)).open("auth")
        async with world.serving() as served:
            # The daemon came back, and the host makes its call again.
            owner = await served.window("w1", workspace=REPO)
            window = Window(served.engine, owner.caller)
            answered = trio.Event()
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    await ask(window, 1, "parler_recv", wait_secs=40)
                    answered.set()

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await ask(
                    Window(served.engine, (await served.window("w9")).caller), 1, "parler_join_session", key=opened.key
                )
                await trio.testing.wait_all_tasks_blocked()
                ended = answered.is_set()
                nursery.cancel_scope.cancel()
            assert ended

    run(main)


def test_closing_a_session_ends_the_waits_of_those_at_its_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth")
            bob = await served.window("w1", workspace=REPO)
            window = Window(served.engine, bob.caller)
            await ask(window, 1, "parler_join_session", key=opened.key)
            answered = trio.Event()
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    await ask(window, 2, "parler_recv", wait_secs=40)
                    answered.set()

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await alice.close()
                await trio.testing.wait_all_tasks_blocked()
                ended = answered.is_set()
                nursery.cancel_scope.cancel()
            assert ended

    run(main)


def test_who_knocked_at_a_session_that_was_closed_is_told_so_and_not_that_a_person_declined() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth")
            window = Window(served.engine, (await served.window("w1", workspace=REPO)).caller)
            await ask(window, 1, "parler_join_session", key=opened.key)
            await alice.close()
            text = await ask(window, 2, "parler_join_session", key=opened.key)
            assert "closed" in text, text
            assert "declined" not in text

    run(main)


def test_who_was_declined_once_long_ago_hears_that_it_has_no_session_and_not_that() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth")
            bob = await served.window("w1", workspace=REPO)
            window = Window(served.engine, bob.caller)
            await ask(window, 1, "parler_join_session", key=opened.key)
            await (await served.person()).deny((await bob.whoami()).id)
            await ask(window, 2, "parler_open_session", topic="mine")
            await ask(window, 3, "parler_leave")
            assert hear(await ask(window, 4, "parler_recv")).error == "no_active_session"

    run(main)


# -- what is on record -------------------------------------------------------------------------------------------------


def test_a_message_that_a_waiting_window_was_not_shown_is_not_on_record_as_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth", context="")
            bob = await served.window("w1", workspace=REPO)
            window = Window(served.engine, bob.caller)
            await ask(window, 1, "parler_join_session", key=opened.key)
            await (await served.person()).approve((await bob.whoami()).id)
            await ask(window, 2, "parler_join_session", key=opened.key)
            await ask(window, 3, "parler_recv")
            texts: list[str] = []
            sent: list[t.Sent] = []
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    texts.append(await ask(window, 4, "parler_recv", wait_secs=40))

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                # Hidden characters: as many as are sent, five times as many as are shown.
                texts_sent = [f"{n}" + "\x01" * 3000 for n in range(2)]
                begun = [served.engine.begin("message.send", t.Send(text=x), alice.caller) for x in texts_sent]
                for posting in begun:
                    assert posting is not None
                    sent.append(await posting.result())
            shown = set(hear(texts[0]).seqs)
            unshown = [each for each in sent if each.seq not in shown]
            assert unshown
            for each in unshown:
                assert "read" not in (await alice.why(each.id))["claude-code@shop"]

    run(main)
