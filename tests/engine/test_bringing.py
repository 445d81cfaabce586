"""`parler bring`: whoever the person starts comes in without being asked about, and nobody else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from parlerd.core import events as e
from parlerd.core.errors import StoreError
from parlerd.core.model import Position, RoomId
from parlerd.engine.callers import PeerProcess, ProcessId
from parlerd.engine.starts import START_S
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.engine import Party, PlugDriver, Served, engine_world, run, texts
from tests.support.sessions import TERMINAL, events, in_agent_host, keys_of
from tests.support.windows import REPO

ABOVE: dict[int, tuple[int, ...]] = {7: (5,), 8: (5,), 70: (7, 5), 71: (7, 5), 80: (8, 5)}
"""Processes and what is above them: two commands (7, 8) of one shell (5), and windows below the commands."""


def lineage(peer: PeerProcess) -> Sequence[ProcessId]:
    return tuple((pid, pid * 10) for pid in (peer.pid, *ABOVE[peer.pid])) if peer.pid in ABOVE else ()


async def person(served: Served, pid: int = 7, **about: Any) -> Party:
    return await served.connect(peer=replace(TERMINAL, pid=pid), **about)


async def window(served: Served, pid: int = 70, *, host: str = "codex", name: str = "w1") -> Party:
    peer = PeerProcess(pid=pid, uid=1000, program="python3", agent_host=host)
    return await served.connect("mcp", window=name, host=host, workspace=REPO, peer=peer)


async def bring(who: Party, host: str = "codex", **rest: Any) -> t.Bringing:
    return await who.ask("session.bring", t.BringAgent(host=host, **rest), t.Bringing)


async def arrive(who: Party) -> None:
    await who.ask("window.arrive", t.Arrive(), t.Noted)


async def brought(who: Party) -> t.Brought:
    return await who.ask("session.brought", t.AskBrought(), t.Brought)


def test_the_agent_of_a_started_program_is_in_the_session_and_reads_it_from_its_beginning() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open("auth redesign", "Chose PKCE.")
            begun = await bring(me)
            assert (begun.room, begun.name) == (opened.room, "auth-redesign")
            assert await brought(me) == t.Brought(status="absent")
            codex = await window(served)
            await arrive(codex)
            assert await me.requests() == []
            assert texts(await codex.recv()) == ["Chose PKCE."]
            them = await codex.whoami()
            assert them.active == opened.room
            assert await brought(me) == t.Brought(status="joined", agent=them.id, name=them.name)

    run(main)


def test_the_log_has_the_persons_decision_with_its_proof_and_the_process_that_made_it() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open()
            await bring(me)
            codex = await window(served)
            await arrive(codex)
            (requested,) = [each for each in events(served, opened.room) if isinstance(each, e.JoinRequested)]
            (approved,) = [each for each in events(served, opened.room) if isinstance(each, e.JoinApproved)]
            assert (approved.agent, approved.proof) == (codex.caller.agent, "cli")
            assert requested.host == "codex"
            headers = served.world.store.facts(RoomId(opened.room), Position(0), 100)
            (header,) = [each for each in headers if isinstance(each.event, e.JoinApproved)]
            assert (header.by.actor, header.by.via, header.by.pid) == (me.caller.agent, "cli", 7)
            assert header.authority == "person"

    run(main)


def test_a_start_lets_in_one_agent_and_nobody_that_was_not_started_by_it() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            await me.open()
            await bring(me)
            for stranger in (
                await window(served, 80, name="beside"),  # below another command of the same shell
                await window(served, 71, host="claude-code", name="other"),  # below it, but of another host
                await window(served, 99, name="unseen"),  # whose lineage cannot be seen
            ):
                await arrive(stranger)
                assert await stranger.rooms() == []
            first, second = await window(served, 70), await window(served, 71, name="w2")
            await arrive(first)
            await arrive(second)
            assert [room.name for room in await first.rooms()] == ["auth-redesign"]
            assert await second.rooms() == []

    run(main)


def test_a_window_that_nobody_brought_becomes_no_agent_by_asking() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            await me.open()
            before = await window(served)
            await arrive(before)
            await bring(me)
            beside = await window(served, 80, name="beside")
            await arrive(beside)
            assert before.caller.agent is None
            assert beside.caller.agent is None

    run(main)


def test_a_start_that_nobody_came_from_lapses() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            await me.open()
            await bring(me)
            await trio.sleep(START_S)
            codex = await window(served)
            await arrive(codex)
            assert await codex.rooms() == []

    run(main)


def test_no_command_of_an_agent_host_starts_anybody() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage, inspect=in_agent_host) as served:
            me = await person(served)
            opened = await me.open()
            error = await me.refused("session.bring", t.BringAgent(host="codex"))
            assert error.code == "needs_person"
            error = await me.refused("session.bring", t.BringAgent(host="codex", context="x"))
            assert error.code == "needs_person"
            assert [room.room for room in await me.rooms()] == [opened.room], "nothing was opened"
            codex = await window(served)
            await arrive(codex)
            assert await codex.rooms() == []

    run(main)


def test_an_editors_terminal_and_a_process_that_cannot_be_seen_start_nobody() -> None:
    def in_editor(peer: PeerProcess) -> PeerProcess:
        return replace(peer, editor="vscode")

    async def main() -> None:
        async with engine_world(lineage=lineage, inspect=in_editor) as served:
            me = await person(served)
            await me.open()
            error = await me.refused("session.bring", t.BringAgent(host="codex"))
            assert error.code == "needs_person"
            assert "--code" not in error.hint, "no code is asked for here"
        async with engine_world(lineage=lineage) as served:
            hidden = await person(served, 99)
            await hidden.open()
            assert (await hidden.refused("session.bring", t.BringAgent(host="codex"))).code == "needs_person"

    run(main)


def test_a_home_that_asks_for_a_stronger_proof_takes_no_start_for_one() -> None:
    async def main() -> None:
        settings = Settings(approval_minimum="terminal")
        async with engine_world(lineage=lineage, settings=settings) as served:
            me = await person(served)
            await me.open()
            error = await me.refused("session.bring", t.BringAgent(host="codex"))
            assert error.code == "needs_proof"
            codex = await window(served)
            await arrive(codex)
            assert await codex.rooms() == []

    run(main)


def test_a_check_finds_the_room_and_lets_nobody_in() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            error = await me.refused("session.bring", t.BringAgent(host="codex", check=True))
            assert error.code == "no_active_session"
            assert await bring(me, context="Left: rotation.", check=True) == t.Bringing(room=None, name=None)
            assert await me.rooms() == []
            opened = await me.open()
            assert (await bring(me, check=True)).room == opened.room
            codex = await window(served)
            await arrive(codex)
            assert await codex.rooms() == []
            assert await brought(me) == t.Brought(status="unknown")

    run(main)


def test_a_context_opens_a_session_for_the_one_who_is_brought() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            first = await me.open("first", "an older one")
            begun = await bring(me, context="Left: rotation.")
            assert begun.room != first.room
            codex = await window(served)
            await arrive(codex)
            assert texts(await codex.recv()) == ["Left: rotation."]
            error = await me.refused("session.bring", t.BringAgent(host="codex", context="x", room="first"))
            assert error.code == "invalid_param"

    run(main)


def test_a_session_of_another_agent_is_the_persons_and_not_another_agents_to_bring_somebody_into() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            alice, _ = await served.room("alice", "bob", context="recap")
            opened = (await alice.rooms())[0].room
            error = await (await person(served, as_name="bob")).refused("session.bring", t.BringAgent(host="codex"))
            assert error.code == "not_owner"
            me = await person(served)
            assert (await bring(me)).room == opened
            codex = await window(served)
            await arrive(codex)
            assert texts(await codex.recv()) == ["recap"]

    run(main)


def test_without_a_session_of_their_own_the_person_means_the_one_at_work_in_their_folder() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            here = await served.window("here", workspace=REPO)
            there = await served.window("there", workspace="/home/sam/other")
            opened, other = await here.open("here"), await there.open("there")
            me = await person(served, workspace=REPO)
            assert (await bring(me, check=True)).room == opened.room
            assert (await bring(me, check=True, room="there")).room == other.room
            elsewhere = await person(served, workspace="/home/sam")
            error = await elsewhere.refused("session.bring", t.BringAgent(host="codex", check=True))
            assert error.code == "no_active_session"
            # Two sessions at work in one folder, or one of the person's own: nothing is guessed.
            second = await served.window("second", workspace=REPO)
            await second.open("second")
            error = await me.refused("session.bring", t.BringAgent(host="codex", check=True))
            assert error.code == "no_active_session"
            own = await me.open("own")
            assert (await bring(me, check=True)).room == own.room

    run(main)


def test_a_session_without_a_live_key_gets_one_that_nobody_is_told_and_a_closed_one_gets_none() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open("one")
            await me.ask("session.revoke", t.RevokeSessionKey(session_key=str(opened.session_key)), t.RevokedKey)
            assert (await bring(me, check=True)).room == opened.room
            assert [each.state for each in await keys_of(me)] == ["revoked"], "a check makes none"
            await bring(me)
            made = [each for each in await keys_of(me) if each.state == "live"]
            assert [(each.approval, each.max_uses) for each in made] == [(True, 1)]
            codex = await window(served)
            await arrive(codex)
            assert [room.room for room in await codex.rooms()] == [opened.room]
            await me.close()
            error = await me.refused("session.bring", t.BringAgent(host="codex", room=opened.room))
            assert error.code == "room_closed"

    run(main)


def test_somebody_is_brought_into_a_channel_and_not_into_a_queue_of_work() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            channel = await me.ask("room.invite", t.Invite(group="team"), t.Invited)
            await me.call("queue.serve", t.Serve(service="deploys"))
            assert (await bring(me, room="team")).room == channel.room
            codex = await window(served)
            await arrive(codex)
            assert (await codex.whoami()).active == channel.room
            error = await me.refused("session.bring", t.BringAgent(host="codex", room="deploys"))
            assert error.code == "invalid_param"

    run(main)


def test_who_was_declined_before_is_let_in_by_the_persons_own_start() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open(context="recap")
            codex = await window(served)
            await codex.join(opened.session_key)
            await me.deny(str(codex.caller.agent))
            await bring(me)
            await arrive(codex)
            assert texts(await codex.recv()) == ["recap"]

    run(main)


def test_who_is_in_already_comes_back_to_the_session_and_leaves_no_request() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open("one")
            await bring(me)
            codex = await window(served)
            await arrive(codex)
            await codex.open("another")
            await bring(me, room="one")
            await arrive(codex)
            assert (await codex.whoami()).active == opened.room
            requested = [each for each in events(served, opened.room) if isinstance(each, e.JoinRequested)]
            assert len(requested) == 1

    run(main)


def test_a_key_that_asks_nobody_lets_the_agent_in_as_it_lets_in_everybody() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage, settings=Settings(approval_default=False)) as served:
            me = await person(served)
            await me.open(context="recap")
            await bring(me)
            codex = await window(served)
            await arrive(codex)
            assert texts(await codex.recv()) == ["recap"]

    run(main)


def test_what_keeps_the_agent_out_is_known_to_whoever_started_it() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open()
            await bring(me)
            await me.close()
            codex = await window(served)
            assert (await codex.refused("window.arrive", t.Arrive())).code == "room_closed"
            assert await brought(me) == t.Brought(status="refused", code="room_closed")
            await arrive(codex)  # it is refused once
            assert opened.room not in [room.room for room in await codex.rooms()]

    run(main)


def test_a_key_that_died_since_the_start_is_named_as_what_it_is() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            opened = await me.open()
            await bring(me)
            await me.ask("session.revoke", t.RevokeSessionKey(session_key=str(opened.session_key)), t.RevokedKey)
            codex = await window(served)
            assert (await codex.refused("window.arrive", t.Arrive())).code == "no_live_key"
            assert (await brought(me)).code == "no_live_key"

    run(main)


def test_a_window_that_could_not_be_let_in_for_now_is_let_in_at_its_next_call() -> None:
    async def main() -> None:
        async with engine_world(lineage=lineage) as served:
            me = await person(served)
            await me.open(context="recap")
            await bring(me)
            codex = await window(served)
            await codex.whoami()
            driver = served.driver
            assert isinstance(driver, PlugDriver)
            driver.is_full = True
            error = await codex.refused("window.arrive", t.Arrive())
            assert isinstance(error, StoreError)
            assert error.spec.retryable
            driver.is_full = False
            await arrive(codex)
            assert texts(await codex.recv()) == ["recap"]
            assert (await brought(me)).status == "joined"

    run(main)
