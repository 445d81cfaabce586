"""An agent's delegation from its person: signed at birth, renewed with use, and no hindrance while it holds."""

from __future__ import annotations

from parlerd.core import events as e
from parlerd.core.model import HOME_ROOM, Position
from parlerd.identity.delegation import DELEGATION_TTL_MS, read
from parlerd.operations import types as t
from tests.support.engine import (
    Served,
    engine_world,
    run,
)
from tests.support.faulty_store import FaultyStore


def delegations(served: Served) -> list[e.Header]:
    facts = served.world.store.facts(HOME_ROOM, Position(0), 1000)
    return [header for header in facts if isinstance(header.event, e.DelegationIssued)]


def test_every_agent_has_its_persons_signed_delegation_and_it_renews_with_use() -> None:
    async def main() -> None:
        async with engine_world() as served:
            bob = await served.agent("bob")
            me = await bob.whoami()
            (issued,) = delegations(served)
            assert isinstance(issued.event, e.DelegationIssued)
            assert issued.event.agent == me.id
            assert issued.event.expires_at == served.world.clock.ms + DELEGATION_TTL_MS
            body = served.world.store.body(HOME_ROOM, issued.position)
            assert body is not None
            assert body[1] is not None
            signed = read(body[0], body[1])
            assert signed is not None
            assert (signed.agent, signed.principal, signed.expires_at) == (me.id, me.principal, issued.event.expires_at)

            served.world.clock.move(seconds=DELEGATION_TTL_MS / 1000 / 2 - 10)
            await bob.whoami()
            assert len(delegations(served)) == 1
            served.world.clock.move(seconds=20)
            await bob.whoami()
            assert len(delegations(served)) == 2
            await bob.whoami()
            assert len(delegations(served)) == 2

    run(main)


def test_a_delegation_that_cannot_be_renewed_stops_nothing_while_it_holds() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            (bob,) = await served.room("bob")
            served.world.clock.move(seconds=DELEGATION_TTL_MS / 1000 / 2 + 10)
            store.fail_next_commit("store_full")
            assert [room.name for room in await bob.rooms()] == ["auth-redesign"]
            served.world.clock.move(seconds=DELEGATION_TTL_MS / 1000)
            store.fail_next_commit("store_full")
            assert (await bob.refused("rooms.list", t.ListRooms())).code == "store_full"
            assert await bob.rooms()

    run(main)


def test_an_agent_whose_delegation_failed_at_birth_gets_it_at_its_next_call() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            store.fail_commit_number(2)
            bob = await served.agent("bob")
            assert (await bob.refused("agent.whoami", t.WhoAmI())).code == "store_full"
            assert delegations(served) == []
            await bob.whoami()
            assert len(delegations(served)) == 1

    run(main)
