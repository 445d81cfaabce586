"""Section A of the security spec: the person's decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from parlerd.cli.approvals_model import QUIET_MS
from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import MAX_PENDING_PER_KEY, PROOF_ORDER, Position, Proof, RoomId
from parlerd.engine.callers import PeerProcess
from parlerd.engine.join_codes import CODE_TRIES
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.operations.tools import TOOLS
from parlerd.settings import Settings
from tests.support.engine import Party, Served, World, engine_world, run

NOWHERE: list[tuple[str, t.Params]] = [
    ("message.recv", t.Recv()),
    ("message.send", t.Send(text="x")),
    ("handoff.give", t.GiveHandoff(next="x")),
    ("rooms.roster", t.Roster()),
    ("message.why", t.Why(id="1")),
    ("session.close", t.CloseSession()),
]
"""Operations on the active session, of an agent that has none and waits at a door."""
TERMINAL = PeerProcess(pid=1, uid=1000, terminal=True)


def test_a1_what_belongs_to_the_person_is_in_no_tool_and_closed_to_every_agents_door() -> None:
    """A1: the registry marks the person's operations; MCP does not have them and the engine refuses them there."""
    persons = {name for name, entry in OPERATIONS.items() if entry.plane == "person"}
    assert {"session.approve", "session.deny"} <= persons
    offered = {entry.name for entry in OPERATIONS.values() if entry.tool is not None}
    assert not persons & offered
    for tool in TOOLS.values():
        # `parler_approve` asks a person through the host's form; it cannot decide.
        assert tool.params is t.AskApproval or not persons & {entry.name for entry in tool.operations.values()}

    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            opened = await window.open()
            bob = await served.agent("bob")
            await bob.join(opened.session_key)
            with pytest.raises(Refused, match="person_only"):
                served.engine.stream("daemon.frames", t.FollowFrames(), window.caller)
            for op in sorted(persons - {"daemon.frames"}):
                assert (await window.refused(op, t.DecideJoin(agent="bob"))).code == "person_only"
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


@pytest.mark.parametrize("how", [{"approval": False}, {"approver": "agent"}, {"preapprove": ("U" + "A" * 55,)}])
def test_a1_an_agent_cannot_open_a_session_with_a_weaker_policy_than_the_persons_setting(how: dict[str, Any]) -> None:
    """A1: over MCP, and by a command that an agent host started; the person at a shell can."""

    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            assert (await window.refused("session.open", t.OpenSession(**how))).code == "person_only"
        async with engine_world(inspect=lambda peer: replace(peer, agent_host="codex")) as served:
            alice = await served.agent("alice")
            assert (await alice.refused("session.open", t.OpenSession(**how))).code == "needs_person"
        async with engine_world() as served:
            assert (await (await served.person()).open(**how)).room

    run(main)


@pytest.mark.parametrize("weaker", [Settings(approval_default=False), Settings(approval_minimum="none")])
def test_a1_an_agent_does_not_stop_a_daemon_that_would_come_back_with_a_weaker_policy(weaker: Settings) -> None:
    """A1: stopping and starting is how a file that an agent edited would come into force."""

    async def main() -> None:
        world = World(settings_now=lambda: weaker, inspect=lambda peer: replace(peer, agent_host="codex"))
        async with world.serving() as served:
            alice = await served.agent("alice")
            assert (await alice.refused("daemon.stop", t.StopDaemon(reason="upgrade"))).code == "needs_person"
            assert not world.stopped
        world.inspect = lambda peer: peer
        async with world.serving() as served:
            await (await served.person()).call("daemon.stop", t.StopDaemon())
            assert world.stopped

    run(main)


def test_a1_an_agent_may_stop_a_daemon_that_comes_back_as_it_was() -> None:
    """A1: an upgrade begins with it, whoever runs the newer command."""

    async def main() -> None:
        world = World(inspect=lambda peer: replace(peer, agent_host="codex"))
        async with world.serving() as served:
            await (await served.agent("alice")).call("daemon.stop", t.StopDaemon(reason="upgrade"))
            assert world.stopped

    run(main)


def test_a2_a_decision_stores_how_sure_it_is_that_a_person_made_it() -> None:
    """A2: the four proofs in their order; `cli` by a plain command, `form` and `terminal` with the joiner's code."""
    assert PROOF_ORDER == ("none", "cli", "form", "terminal", "sealed")
    assert set(get_args(Proof)) == set(PROOF_ORDER)

    async def main() -> None:
        async with engine_world() as served:
            window, at_terminal = await served.window("w"), await served.connect(peer=TERMINAL)
            opened = await window.open()
            codes = {}
            for name in ("bob", "carol", "dan"):
                codes[name] = (await (await served.agent(name)).join(opened.session_key)).join_code
            await (await served.person()).approve("bob")
            await served.decide_by_form(window, "carol", join_code=codes["carol"])
            await at_terminal.approve("dan", join_code=codes["dan"], terminal=True)
            assert stored_proofs(served, opened.room) == ["cli", "form", "terminal"]

    run(main)


def stored_proofs(served: Served, room: str) -> list[str]:
    facts = served.world.store.facts(RoomId(room), Position(0), 1000)
    return [header.event.proof for header in facts if isinstance(header.event, e.JoinApproved)]


def test_a2_a_form_without_the_code_or_with_another_one_decides_nothing() -> None:
    """A2: empty, closed or mismatched is no decision. The code is nowhere in what the approver's agent can read."""

    async def main() -> None:
        async with engine_world() as served:
            window, bob = await served.window("w"), await served.agent("bob")
            opened = await window.open()
            code = (await bob.join(opened.session_key)).join_code
            assert code is not None
            for typed in (None, "", code[:3], code[::-1] if code != code[::-1] else "0000"):
                with pytest.raises(Refused):
                    await served.decide_by_form(window, "bob", join_code=typed)
            assert (await bob.join(opened.session_key)).status == "pending"
            asked = t.SessionRequests()
            seen = [
                str(await window.call("rooms.requests", asked)),
                str(await window.call("rooms.list", t.ListRooms())),
                str(await window.call("approvals.list", t.ListApprovals())),
                str(await served.find_request(window, "bob")),
                await served.notice(window),
            ]
            assert not [text for text in seen if code in text]

    run(main)


@pytest.mark.parametrize("door", ["form", "cli"])
def test_a2_wrong_codes_at_one_door_do_not_keep_the_person_out_at_their_terminal(door: str) -> None:
    """A2: tries are counted per door; five through a form or a command lock that one."""

    async def main() -> None:
        async with engine_world() as served:
            window, at_terminal = await served.window("w"), await served.connect(peer=TERMINAL)
            opened = await window.open()
            code = (await (await served.agent("bob")).join(opened.session_key)).join_code
            assert code is not None
            wrong = t.DecideJoin(agent="bob", join_code="0000" if code != "0000" else "1111")

            async def type_wrong() -> str:
                if door == "cli":
                    return (await (await served.person()).refused("session.approve", wrong)).code
                with pytest.raises(Refused) as refused:
                    await served.decide_by_form(window, "bob", join_code=wrong.join_code)
                return refused.value.code

            assert [await type_wrong() for _ in range(CODE_TRIES)] == ["code_mismatch"] * CODE_TRIES
            assert await type_wrong() == "throttled"
            assert (await at_terminal.approve("bob", join_code=code, terminal=True)).proof == "terminal"

    run(main)


def test_a2_a_command_below_an_agent_host_is_not_told_the_code_of_whoever_it_joins_as() -> None:
    """A2: the side that approves could join as anyone from its shell. The joiner's window and the person see it."""

    async def main() -> None:
        async with engine_world(
            inspect=lambda peer: replace(peer, agent_host="codex" if peer.pid == 2 else "")
        ) as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            below = await served.connect(as_name="bob", host="shell", peer=PeerProcess(pid=2))
            window, person = await served.window("w", as_name="bob"), await served.agent("bob")
            pending = await below.join(opened.session_key)
            assert (pending.status, pending.join_code) == ("pending", None)
            code = (await person.join(opened.session_key)).join_code
            assert code is not None
            assert (await window.join(opened.session_key)).join_code == code

            async def told(party: Party) -> str:
                listed = await party.call("rooms.list", t.ListRooms())
                refusals = [await party.refused(op, params) for op, params in NOWHERE]
                assert {error.code for error in refusals} == {"join_pending"}
                return str([pending, listed, *[error.body() for error in refusals]])

            assert code not in await told(below)
            for party in (window, person):
                assert (await told(party)).count(code) > len(NOWHERE)
            assert (await below.join(opened.session_key)).status == "pending"
            await alice.approve("bob")
            assert (await below.join(opened.session_key)).status == "joined"

    run(main)


@pytest.mark.parametrize("minimum", ["form", "terminal", "sealed"])
def test_a2_a_home_may_ask_for_more_than_a_command(minimum: Proof) -> None:
    """A2: `approval.minimum`. A weaker proof is refused and says what is asked for."""

    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum=minimum)) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await bob.join(opened.session_key)
            error = await (await served.person()).refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "needs_proof"
            assert minimum in error.message
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


@pytest.mark.parametrize("host", ["claude-code", "codex", "unknown"])
def test_a2_a_command_from_under_an_agent_host_is_no_decision(host: str) -> None:
    """A2: whoever is asked, with the right code and at a terminal too. `unknown` is a process that cannot be seen."""

    async def main() -> None:
        async with engine_world(inspect=lambda peer: replace(peer, agent_host=host)) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            code = (await bob.join(opened.session_key)).join_code
            for party in (alice, await served.person(), await served.connect(peer=TERMINAL)):
                for op in ("session.approve", "session.deny"):
                    error = await party.refused(op, t.DecideJoin(agent="bob", join_code=code, terminal=True))
                    assert error.code == "needs_person"
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


def test_a2_in_the_terminal_of_an_editor_approving_takes_the_code() -> None:
    """A2: an editor's agent types in the same terminal as its person, and only the person was told the code."""

    async def main() -> None:
        async with engine_world(inspect=lambda peer: replace(peer, editor="vscode")) as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            codes = {
                name: (await (await served.agent(name)).join(opened.session_key)).join_code
                for name in ("bob", "carol", "dan")
            }
            person = await served.connect(peer=TERMINAL)
            error = await person.refused("session.approve", t.DecideJoin(agent="bob", terminal=True))
            assert error.code == "needs_person"
            assert "--code" in error.hint
            wrong = codes["carol"]
            assert wrong != codes["bob"]
            error = await person.refused("session.approve", t.DecideJoin(agent="bob", join_code=wrong, terminal=True))
            assert error.code == "code_mismatch"
            await person.approve("bob", join_code=codes["bob"], terminal=True)
            await alice.approve("carol", join_code=codes["carol"])
            assert stored_proofs(served, opened.room) == ["terminal", "cli"]
            await person.deny("dan")
            for how in ({"approval": False}, {"approver": "agent"}, {"preapprove": ("U" + "A" * 55,)}):
                weaker = await person.refused("session.open", t.OpenSession(**how))
                assert weaker.code == "needs_person"

    run(main)


def test_a3_a_key_has_a_short_queue_and_a_decision_acts_on_the_request_that_was_shown() -> None:
    """A3: at most five wait for one key. A decision by request id means that request and no other, whatever arrives."""
    assert QUIET_MS == 500

    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            for n in range(MAX_PENDING_PER_KEY):
                await (await served.agent(f"agent{n}")).join(opened.session_key)
            late = await served.agent("late")
            assert (
                await late.refused("session.join", t.JoinSession(session_key=str(opened.session_key)))
            ).code == "too_many_pending"
            shown = await alice.requests()
            await alice.deny(shown[0].id)
            await late.join(opened.session_key)
            assert (await alice.approve(shown[2].id)).agent == shown[2].agent
            assert {request.name for request in await alice.requests()} == {"agent1", "agent3", "agent4", "late"}
            assert len({request.key_ref for request in shown}) == 1

    run(main)


def test_a4_a_request_says_who_it_says_it_is_its_fingerprint_its_home_and_since_when() -> None:
    """A4: name and host are claims; the fingerprint is of its key, so two of one name are two."""

    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            one, two = await served.window("w1", as_name="bob"), await served.window("w2", as_name="bob")
            for party in (one, two):
                await party.join(opened.session_key)
            first, second = await alice.requests()
            assert (first.name, second.name) == ("bob", "bob#2")
            assert first.fingerprint != second.fingerprint
            assert (first.host, first.home, first.requested) == ("claude-code", "local", served.world.clock.ms)

    run(main)
