"""The key of a room behind a token that joins: for whom there is one, what it says, and that it ends with its token."""

from __future__ import annotations

import pytest
import trio

from parlerd.core.approvals import KeyState
from parlerd.core.errors import Refused
from parlerd.core.model import Millis, RoomId
from parlerd.engine.join_keys import end_key, make_key, ref_of, room_to_join
from parlerd.engine.key_text import JOINS, typed_key_of
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run


async def keys(served: Served, room: str) -> list[KeyState]:
    """The keys that stand behind tokens."""
    state = (await served.engine.rooms.get(RoomId(room))).aggregate.state
    return [key for key in state.keys.values() if key.ref.startswith(JOINS)]


async def mint(party: Party, **how: object) -> t.MintedToken:
    return await party.ask("token.mint", t.MintToken(join=True, **how), t.MintedToken)  # type: ignore[arg-type]


@pytest.mark.parametrize("approval", [True, False])
def test_it_is_good_for_as_many_and_as_long_as_its_token_and_asks_whom_the_room_asks(approval: bool) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            room = (await alice.open(approval=approval)).room
            minted = await mint(alice, uses=3, days=7)
            [key] = await keys(served, room)
            assert (key.gated, key.max_uses, key.expires_at) == (approval, 3, minted.info.expires_at)
            # It follows from the token, so it need not be kept, and it is told to nobody: not to its owner either.
            assert (
                typed_key_of(
                    served.engine.desk, (await served.engine.desk.rooms.get(RoomId(room))).aggregate.state, key
                )
                is not None
            )
            [session] = (await alice.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert len(session.keys) == 1
            assert session.keys[0].key_ref != key.id[:8]

    run(main)


def test_it_ends_with_its_token() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            room = (await alice.open()).room
            one, _ = await mint(alice), await mint(alice)
            await alice.call("token.revoke", t.RevokeToken(id=one.info.id))
            assert sorted(key.revoked for key in await keys(served, room)) == [False, True]

    run(main)


def test_where_the_token_does_not_come_to_be_its_key_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parlerd.core.tokens.MAX_TOKENS", 0)

    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            room = (await alice.open()).room
            assert (await alice.refused("token.mint", t.MintToken(join=True))).code == "too_many_tokens"
            assert [key.revoked for key in await keys(served, room)] == [True]

    run(main)


def test_a_room_that_has_as_many_keys_as_it_may_gets_no_token() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            await alice.open()
            codes = []
            for _ in range(40):
                try:
                    await mint(alice)
                except Refused as error:
                    codes.append(error.code)
            assert set(codes) == {"too_many_keys"}
            tokens = (await alice.ask("token.list", t.ListTokens(), t.TokenList)).tokens
            assert len(tokens) == 40 - len(codes)

    run(main)


def test_a_token_is_for_a_room_of_the_agent_and_for_the_person_of_any_of_their_agents() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            room, desk = (await alice.rooms())[0], served.engine.desk
            me = desk.rooms.home.aggregate.by_name("bob")
            assert me is not None
            assert (await room_to_join(desk, me, None, person=True)).room == room.room
            assert (await room_to_join(desk, me, room.name, person=True)).room == room.room
            for wanted, code in ((room.name, "not_owner"), (None, "not_owner"), ("nowhere", "no_such_room")):
                with pytest.raises(Refused) as refused:
                    await room_to_join(desk, me, wanted, person=False)
                assert refused.value.code == code

    run(main)


def test_a_key_of_a_room_that_is_gone_is_no_reason_to_fail() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            me, desk = served.engine.desk.rooms.home.aggregate.by_name("alice"), served.engine.desk
            assert me is not None
            await end_key(desk, desk.by(alice.caller, me), RoomId("r_none"), b"digest")
            await trio.lowlevel.checkpoint()

    run(main)


def test_another_token_has_another_key_and_the_same_one_the_same() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            room, desk = (await alice.rooms())[0].room, served.engine.desk
            me = desk.rooms.home.aggregate.by_name("alice")
            assert me is not None
            handle, by = await desk.rooms.get(RoomId(room)), desk.by(alice.caller, me)
            until = Millis(served.world.clock.now() + 1000)
            for digest in (b"one", b"two", b"one"):
                await make_key(desk, me, handle, by, digest=digest, until=until, uses=1, person=False)
            assert [key.ref for key in await keys(served, room)] == [ref_of(b"one"), ref_of(b"two")]

    run(main)
