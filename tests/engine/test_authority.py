"""What each door lets a caller do, and that a door which comes later fits without one word of the engine's.

A door builds an `Authority`; the tests build those of a token over HTTP and of a link between two homes as such doors
would, and look at what they can and cannot do over every operation.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from parlerd.core.model import PROOF_ORDER, AgentId, PrincipalId, Proof, RoomId, Via
from parlerd.engine.authority import Authority
from parlerd.engine.callers import PeerProcess
from parlerd.operations import types as t
from tests.support.callers import PERSON, authority_of
from tests.support.engine import Party, Served, engine_world, run

STRANGER = PrincipalId("A" + "S" * 55)


def person_calls(room: str) -> list[tuple[str, t.Params]]:
    return [
        ("session.approve", t.DecideJoin(agent="bob", room=room)),
        ("session.deny", t.DecideJoin(agent="bob", room=room)),
        ("approvals.list", t.ListApprovals()),
    ]


async def over(served: Served, via: Via, authority: Authority) -> Party:
    """A connection of a door that builds this authority."""
    return await served.connect(via, authority=authority)


@pytest.mark.parametrize(
    ("via", "as_name", "planes", "person", "ceiling"),
    [
        ("mcp", "", {"agent", "local", "window"}, False, "form"),
        ("mcp", "bob", {"agent", "local", "window"}, False, "form"),
        ("cli", "", {"agent", "local", "person"}, True, "terminal"),
        ("cli", "bob", {"agent", "local", "person"}, False, "terminal"),
        ("hook", "", {"agent", "local", "hook"}, False, "none"),
        ("hook", "bob", {"agent", "local", "hook"}, False, "none"),
    ],
)
def test_each_door_says_what_its_callers_may_do(
    via: Via, as_name: str, planes: set[str], person: bool, ceiling: Proof
) -> None:
    authority = authority_of(via, as_name)
    assert set(authority.planes) == planes
    assert (authority.speaks_as_person, authority.proof_ceiling) == (person, ceiling)
    assert (authority.principal, authority.agent, authority.rooms) == (PERSON, None, None)
    assert authority.is_shown_codes is (via != "hook")


def test_a_proof_counts_as_no_more_than_its_door_lets_it() -> None:
    for ceiling in PROOF_ORDER:
        authority = Authority(PERSON, frozenset({"agent"}), proof_ceiling=ceiling)
        for proof in PROOF_ORDER:
            assert PROOF_ORDER.index(authority.at_most(proof)) == min(map(PROOF_ORDER.index, (proof, ceiling)))


def test_a_decision_is_recorded_with_the_proof_that_its_door_lets_count() -> None:
    async def main() -> None:
        async with engine_world(inspect=lambda peer: replace(peer, terminal=True)) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            code = (await bob.join((await alice.open()).session_key)).join_code
            principal = served.world.keys.principal
            pages = Authority(principal, frozenset({"agent", "person"}), speaks_as_person=True, proof_ceiling="form")
            party = await served.connect("http", authority=pages, peer=PeerProcess(pid=7))
            decided = await party.approve("bob", join_code=code, terminal=True)
            assert decided.proof == "form"

    run(main)


def test_a_door_without_any_proof_admits_nobody() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await bob.join((await alice.open()).session_key)
            principal = served.world.keys.principal
            party = await over(served, "http", Authority(principal, frozenset({"agent", "person"}), True))
            for admit in ("session.approve", "session.deny"):
                error = await party.refused(admit, t.DecideJoin(agent="bob"))
                assert error.code == "needs_proof", admit
            assert [request.name for request in await alice.requests()] == ["bob"]

    run(main)


# -- whose agents ------------------------------------------------------------------------------------------


def test_an_agent_that_the_door_names_is_who_the_caller_is_from_the_beginning() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            me = await bob.whoami()
            await served.leave(bob)
            assert (await alice.roster())["bob"].presence == "offline"
            named = Authority(served.world.keys.principal, frozenset({"agent"}), agent=AgentId(me.id))
            party = await over(served, "http", named)
            assert (await alice.roster())["bob"].presence != "offline"
            assert await party.whoami() == me
            await party.send("hello")
            assert await alice.read() == ["hello"]

    run(main)


@pytest.mark.parametrize("op", ["agent.whoami", "message.send", "session.join"])
def test_nobody_is_an_agent_of_another_person_or_one_that_is_not_there(op: str) -> None:
    params = {
        "agent.whoami": t.WhoAmI(),
        "message.send": t.Send(text="x"),
        "session.join": t.JoinSession(session_key="ABCD-EFGH"),
    }

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            me = AgentId((await alice.whoami()).id)
            home = served.world.keys.principal
            count = len(served.engine._desk.rooms.home.aggregate.state.agents)
            for authority in (
                Authority(STRANGER, frozenset({"agent"}), agent=me),
                Authority(STRANGER, frozenset({"agent"})),
                Authority(home, frozenset({"agent"}), agent=AgentId("U" + "X" * 55)),
            ):
                party = await over(served, "http", authority)
                assert (await party.refused(op, params[op])).code == "not_permitted"
            assert len(served.engine._desk.rooms.home.aggregate.state.agents) == count

    run(main)


@pytest.mark.parametrize("plane", ["person", "local", "hook", "window"])
def test_a_door_that_stands_for_certain_rooms_offers_what_agents_do_and_nothing_else(plane: t.Plane) -> None:
    rooms = frozenset({RoomId("r_1")})
    with pytest.raises(ValueError, match="certain rooms"):
        Authority(PrincipalId("A"), frozenset({"agent", plane}), rooms=rooms)
    assert Authority(PrincipalId("A"), frozenset({"agent"}), rooms=rooms).rooms == rooms
