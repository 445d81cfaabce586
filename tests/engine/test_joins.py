"""Who comes in over HTTP with a token that joins: whose word lets it in, how often, under which name, and what is told
again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import tokens as bounds
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import By, Position, RequestId, RoomId
from parlerd.core.tokens import DAY_MS
from parlerd.engine import minting
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.join_keys import make_key
from parlerd.engine.newcomers import HOST
from parlerd.identity import tokens
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.settings import Settings
from tests.support.engine import Party, PlugDriver, Served, SlowDriver, World, engine_world, run, settle, texts

SEEN = PeerProcess(pid=7)
KEY = "0123456789abcdef"


async def mint(party: Party, **how: Any) -> t.MintedToken:
    return await party.ask("token.mint", t.MintToken(join=True, **how), t.MintedToken)


async def bearer(served: Served, text: str, seen: PeerProcess = SEEN) -> Party:
    """Whoever shows this text, from a process that could be found."""
    stranger = Caller(Facts("http", "http", of_visitor(served.world.keys.principal, is_let_in=False, is_own=False)))
    _, caller = await served.engine.bearers.caller_of(text, stranger, seen)

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, caller)

    return Party(call, caller)


async def begin(party: Party, name: str = "build-bot", key: str | None = None, **more: Any) -> t.BegunJoin:
    return await party.ask("join.begin", t.BeginJoin(name=name, idempotency_key=key, **more), t.BegunJoin)


async def find(party: Party, id: str, wait: float = 0) -> t.JoinInfo:
    return await party.ask("join.find", t.FindJoin(id=id, wait_ms=int(wait * 1000)), t.JoinInfo)


async def left(served: Served, id: str) -> int:
    found = await (await served.person()).ask("token.list", t.ListTokens(), t.TokenList)
    return next(each.uses_left for each in found.tokens if each.id == id)


# -- at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approval", [True, False])
def test_a_token_of_the_person_lets_in_at_once_also_where_a_person_decides(approval: bool) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(approval=approval)
            minted = await mint(alice, label="ci", uses=2)
            assert minted.token.startswith("aj_")
            assert (minted.info.kind, minted.info.uses, minted.info.uses_left) == ("aj", 2, 2)
            came = await begin(await bearer(served, minted.token), role="builder", label="the nightly run")
            assert (came.status, came.agent, came.role, came.room) == ("joined", "build-bot", "builder", opened.room)
            assert (came.name, came.replayed, came.join_code) == (opened.name, False, None)
            assert came.token is not None
            acting = await bearer(served, came.token)
            await acting.send("hello", room=opened.room)
            [message] = (await alice.recv()).messages
            assert (message.author.name, message.verified, message.via) == ("build-bot", "valid", "http")
            # In its home it is an agent of the person's like any other, with a key of its own.
            me = await acting.whoami()
            assert (me.name, me.host) == ("build-bot", HOST)
            assert await left(served, minted.info.id) == 1
            listed = (await alice.ask("token.list", t.ListTokens(), t.TokenList)).tokens
            assert [(each.id, each.kind, each.agent, each.parent) for each in listed] == [
                (minted.info.id, "aj", "alice", ""),
                (came.token_id, "as", "build-bot", minted.info.id),
            ]
            assert listed[1].label == "the nightly run"

    run(main)


def test_what_the_newcomers_may_do_is_what_the_token_says_and_as_long() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice, access=("read", "post"), days=2)
            came = await begin(await bearer(served, minted.token))
            assert came.expires_at == minted.info.expires_at == served.world.clock.now() + 2 * DAY_MS
            assert came.token is not None
            acting = await bearer(served, came.token)
            wrote = t.SetState(room=came.room, key="phase", value=1)
            assert (await acting.refused("state.set", wrote)).code == "not_permitted"
            assert texts(await acting.recv(room=came.room)) == ["Chose PKCE."]

    run(main)


def test_the_word_of_a_person_who_typed_a_command_counts_as_no_more() -> None:
    async def main() -> None:
        world = World(settings=Settings(approval_minimum="terminal"))
        async with world.serving() as served:
            alice = await served.agent("alice")
            await alice.open()
            came = await begin(await bearer(served, (await mint(alice)).token))
            assert (came.status, came.token) == ("pending", None)

    run(main)


def test_the_persons_word_is_recorded_as_theirs() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            minted = await mint(alice)
            await begin(await bearer(served, minted.token))
            log = served.world.store.facts(RoomId(opened.room), Position(0), 100)
            [approved] = [header for header in log if isinstance(header.event, e.JoinApproved)]
            assert (approved.authority, approved.by.via, approved.operation) == ("person", "http", "join.begin")
            assert approved.by.session == minted.info.id
            assert isinstance(approved.event, e.JoinApproved)
            assert approved.event.proof == "cli"

    run(main)


# -- by an agent -------------------------------------------------------------------------------------------


async def minter(served: Served, **options: Any) -> tuple[Party, Party, str]:
    """An owner, whoever acts as it with a token that may mint, and their room."""
    alice = await served.agent("alice")
    room = (await alice.open(**options)).room
    params = t.MintToken(access=("read", "post", "mint"))
    minted = await alice.ask("token.mint", params, t.MintedToken)
    return alice, await bearer(served, minted.token), room


def narrow(**how: Any) -> t.NarrowToken:
    return t.NarrowToken(**{"access": ("read",), "join": True, **how})


def test_a_token_that_an_agent_minted_knocks_where_a_person_decides_and_the_person_lets_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, agent, room = await minter(served)
            minted = await agent.ask("token.narrow", narrow(uses=2), t.MintedToken)
            joiner = await bearer(served, minted.token)
            knock = await begin(joiner, role="builder")
            assert (knock.status, knock.token, knock.name) == ("pending", None, None)
            [request] = await alice.requests()
            assert (request.name, request.host, request.role) == ("build-bot", HOST, "builder")
            assert (await alice.rooms())[0].room == room
            assert (await find(joiner, knock.id)).status == "pending"
            # The code is what the person types, and it is shown to whoever joins alone.
            assert knock.join_code is not None
            assert knock.join_code in knock.hint
            await alice.approve("build-bot", join_code=knock.join_code)
            came = await find(joiner, knock.id)
            assert (came.status, came.agent) == ("joined", "build-bot")
            assert came.token is not None
            assert texts(await (await bearer(served, came.token)).recv(room=room)) == ["Chose PKCE."]

    run(main)


def test_a_token_that_an_agent_minted_lets_in_where_nobody_decides() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, agent, _ = await minter(served, approval=False)
            minted = await agent.ask("token.narrow", narrow(), t.MintedToken)
            came = await begin(await bearer(served, minted.token))
            assert came.status == "joined"
            # It ends with the token of which it was made, two tokens above it.
            assert came.token is not None
            await bearer(served, came.token)
            await agent.call("token.rotate", t.RotateToken())
            for text in (came.token, minted.token):
                with pytest.raises(Refused) as refused:
                    await bearer(served, text)
                assert refused.value.code == "token_invalid"

    run(main)


def test_what_an_agent_mints_is_no_wider_than_its_own_token_and_for_a_room_that_it_owns() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, agent, room = await minter(served)
            assert (await agent.refused("token.narrow", narrow(access=("read", "open")))).code == "not_permitted"
            await served.admit(await alice.open("annex"), bob := await served.agent("bob"))
            params = t.MintToken(room="annex", access=("read", "mint"))
            member = await bearer(served, (await bob.ask("token.mint", params, t.MintedToken)).token)
            assert (await member.refused("token.narrow", narrow())).code == "not_owner"
            assert (await member.refused("token.narrow", t.NarrowToken(access=("read",), uses=3))).code == (
                "invalid_param"
            )
            long = await agent.ask("token.narrow", narrow(days=180), t.MintedToken)
            assert long.info.expires_at == served.world.clock.now() + t.DEFAULT_DAYS * DAY_MS
            # What was refused left no key in the room.
            keys = served.engine.rooms.open_actor(room)  # type: ignore[arg-type]
            assert keys is not None
            assert sum(not key.revoked for key in keys.aggregate.state.keys.values()) == 2

    run(main)


def test_a_token_that_ends_while_another_is_made_of_it_leaves_no_key_in_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, agent, room = await minter(served)
            [held] = (await alice.ask("token.list", t.ListTokens(), t.TokenList)).tokens

            async def made(*about: Any, **more: Any) -> None:
                await make_key(*about, **more)
                await alice.ask("token.revoke", t.RevokeToken(id=held.id), t.RevokedToken)

            monkeypatch.setattr(minting, "make_key", made)
            assert (await agent.refused("token.narrow", narrow())).code == "token_invalid"
            state = (await served.engine.rooms.get(RoomId(room))).aggregate.state
            assert sum(not key.revoked for key in state.keys.values()) == 1

    run(main)


def test_only_a_person_mints_for_the_rooms_of_their_agents_and_only_rooms_to_join() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            # The person's word counts, whichever of their agents is named.
            assert (await mint(bob)).info.agent == "bob"
            window = await served.window("w")
            assert (await window.refused("token.mint", t.MintToken(join=True))).code == "person_only"
            assert (await alice.refused("token.mint", t.MintToken(uses=2))).details["param"] == "uses"
            await alice.close()
            refused = await alice.refused("token.mint", t.MintToken(join=True, room="auth-redesign"))
            assert refused.code == "room_closed"

    run(main)


# -- how often ---------------------------------------------------------------------------------------------


def test_of_two_at_once_with_one_use_left_one_comes_in() -> None:
    async def main() -> None:
        async with World(driver=SlowDriver).serving() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            came, codes = list[str](), list[str]()

            async def try_it(name: str) -> None:
                try:
                    came.append((await begin(await bearer(served, minted.token), name)).status)
                except Refused as error:
                    codes.append(error.code)

            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(try_it, f"bot-{number}")
            assert (came, codes) == (["joined"], ["token_used_up"] * 3)
            assert await left(served, minted.info.id) == 0

    run(main)


def test_a_join_that_is_refused_consumes_nothing_and_makes_no_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            minted = await mint(alice)
            joiner = await bearer(served, minted.token)
            agents = len(served.engine.rooms.home.aggregate.state.agents)
            for name, code in (("bob", "agent_exists"), ("..", "invalid_name"), ("owner", "invalid_name")):
                refused = await joiner.refused("join.begin", t.BeginJoin(name=name))
                assert refused.code == code, name
            assert (await joiner.refused("join.begin", t.BeginJoin(name="x", role="no role"))).code == "invalid_name"
            assert await left(served, minted.info.id) == 1
            assert len(served.engine.rooms.home.aggregate.state.agents) == agents
            await alice.close()
            assert (await joiner.refused("join.begin", t.BeginJoin(name="x"))).code == "room_closed"
            assert await left(served, minted.info.id) == 1

    run(main)


def test_whoever_the_person_denies_leaves_its_use_to_another() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, agent, _ = await minter(served)
            minted = await agent.ask("token.narrow", narrow(), t.MintedToken)
            joiner = await bearer(served, minted.token)
            knock = await begin(joiner, "bot-1")
            assert (await joiner.refused("join.begin", t.BeginJoin(name="bot-2"))).code == "token_used_up"
            await alice.deny("bot-1")
            # Nobody has asked what became of it.
            second = await begin(joiner, "bot-2")
            assert second.status == "pending"
            assert ((await find(joiner, knock.id)).status, await left(served, minted.info.id)) == ("denied", 0)
            await alice.close()
            assert (await find(joiner, second.id)).status == "closed"

    run(main)


def test_a_request_that_is_over_without_a_decision_is_not_made_again_by_asking_about_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, agent, _ = await minter(served)
            minted = await agent.ask("token.narrow", narrow(), t.MintedToken)
            joiner = await bearer(served, minted.token)
            knock = await begin(joiner, "bot-1")
            [asked] = await alice.requests()
            handle = await served.engine.rooms.get(RoomId(knock.room))
            known = handle.aggregate.state.requests[RequestId(asked.id)]
            by = By(known.agent, known.principal, "s_1", "http", "http")
            await handle.submit(c.WithdrawKnock(operation="session.withdraw", request=known.id), by)
            for _ in range(2):
                found = await find(joiner, knock.id)
                assert (found.status, found.hint) == ("denied", "Your request to come in was taken back.")
            assert await alice.requests() == []
            # Its use is another's.
            assert (await begin(joiner, "bot-2")).status == "pending"

    run(main)


def test_the_first_who_asks_for_a_name_has_it_also_while_it_waits() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, agent, _ = await minter(served)
            minted = await agent.ask("token.narrow", narrow(uses=3), t.MintedToken)
            joiner = await bearer(served, minted.token)
            await begin(joiner, "bot")
            refused = await joiner.refused("join.begin", t.BeginJoin(name="bot"))
            assert (refused.code, refused.details["agent"]) == ("agent_exists", "bot")

    run(main)


def test_a_name_that_another_agent_of_this_home_has_is_free_in_the_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await served.agent("carol")
            await (await served.agent("carol")).whoami()
            came = await begin(await bearer(served, (await mint(alice)).token), "carol")
            assert came.agent == "carol"
            assert came.token is not None
            assert (await (await bearer(served, came.token)).whoami()).name == "carol-2"

    run(main)


# -- again -------------------------------------------------------------------------------------------------


def test_a_repetition_is_told_the_same_also_after_a_restart_and_of_a_token_that_is_used_up() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            joiner = await bearer(served, minted.token)
            came = await begin(joiner, key=KEY)
            assert tokens.is_token(str(came.token))
            again = await begin(joiner, key=KEY, wait_ms=1000)
            assert again == t.BegunJoin(**{**_fields(came), "replayed": True})
            other = await joiner.refused("join.begin", t.BeginJoin(name="another", idempotency_key=KEY))
            assert other.code == "idempotency_conflict"
            assert await left(served, minted.info.id) == 0
        async with world.serving() as served:
            joiner = await bearer(served, minted.token)
            assert (await begin(joiner, key=KEY)).token == came.token
            assert (await find(joiner, came.id)).token == came.token
            # Whoever shows another token, or none of this join, is told nothing.
            alice = await served.agent("alice")
            stranger = await bearer(served, (await mint(alice)).token)
            assert (await stranger.refused("join.find", t.FindJoin(id=came.id))).code == "no_such_join"
            assert (await joiner.refused("join.find", t.FindJoin(id="jn_none"))).code == "no_such_join"

    run(main)


def _fields(came: t.BegunJoin) -> dict[str, Any]:
    return {name: getattr(came, name) for name in came.__struct_fields__}


def test_a_token_that_was_replaced_or_revoked_is_not_told_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            joiner = await bearer(served, minted.token)
            came = await begin(joiner, key=KEY)
            assert came.token is not None
            await (await bearer(served, came.token)).call("token.rotate", t.RotateToken())
            again = await begin(joiner, key=KEY)
            assert (again.status, again.token, again.token_id, again.expires_at) == ("joined", None, None, None)
            assert again.hint
            assert (await find(joiner, came.id)).token is None

    run(main)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("commit", range(7))
def test_a_daemon_that_dies_in_the_middle_goes_on_when_it_is_asked_again(commit: int, stored: bool) -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            joiner = await bearer(served, minted.token)
            assert isinstance(served.driver, PlugDriver)
            served.driver.cut = (served.driver.commits + commit, stored)
            with suppress(StoreError):
                await begin(joiner, key=KEY)
        async with world.serving() as served:
            came = await begin(await bearer(served, minted.token), key=KEY)
            assert (came.status, came.agent) == ("joined", "build-bot")
            assert came.token is not None
            assert (await (await bearer(served, came.token)).rooms())[0].room == minted.info.room
            assert await left(served, minted.info.id) == 0

    run(main)


# -- who waits ---------------------------------------------------------------------------------------------


def test_whoever_waits_hears_of_the_decision_at_once() -> None:
    async def main() -> None:
        async with engine_world() as served, trio.open_nursery() as nursery:
            alice, agent, _ = await minter(served)
            minted = await agent.ask("token.narrow", narrow(uses=2), t.MintedToken)
            joiner = await bearer(served, minted.token)
            knock, heard = await begin(joiner), list[tuple[str, float]]()

            async def wait() -> None:
                heard.append(((await find(joiner, knock.id, wait=50)).status, trio.current_time()))

            nursery.start_soon(wait)
            await trio.sleep(20)
            await alice.approve("build-bot")
            await settle()
            [(status, at)] = heard
            assert status == "joined"
            assert at == pytest.approx(trio.current_time())
            began = trio.current_time()
            assert (await begin(joiner, "bot-2", wait_ms=30_000)).status == "pending"
            assert trio.current_time() - began == pytest.approx(30)

    run(main)


def test_whoever_waits_with_a_token_that_is_revoked_is_refused_by_the_room_too() -> None:
    async def main() -> None:
        async with engine_world() as served, trio.open_nursery() as nursery:
            alice, agent, _ = await minter(served)
            minted = await agent.ask("token.narrow", narrow(), t.MintedToken)
            joiner = await bearer(served, minted.token)
            knock, heard = await begin(joiner), list[str]()

            async def wait() -> None:
                try:
                    heard.append((await find(joiner, knock.id, wait=50)).status)
                except Refused as error:
                    heard.append(error.code)

            nursery.start_soon(wait)
            await settle()
            await alice.call("token.revoke", t.RevokeToken(id=minted.info.id))
            await settle()
            # The door cancels the call with its token; whoever calls past the door is answered all the same.
            assert heard == ["token_invalid"]
            assert await alice.requests() == []
            with pytest.raises(Refused):
                await bearer(served, minted.token)

    run(main)


# -- what is not shown, and not done -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "host", "shown"), [(SEEN, "", True), (SEEN, "claude-code", False), (PeerProcess(), "", False)]
)
def test_the_code_is_shown_to_no_process_that_may_be_of_the_side_that_decides(
    seen: PeerProcess, host: str, shown: bool
) -> None:
    hosts: list[str] = [""]

    def inspect(peer: PeerProcess) -> PeerProcess:
        return replace(peer, agent_host=hosts[0])

    async def main() -> None:
        async with engine_world(inspect=inspect) as served:
            _, agent, _ = await minter(served)
            minted = await agent.ask("token.narrow", narrow(), t.MintedToken)
            hosts[0] = host
            joiner = await bearer(served, minted.token, seen)
            knock = await begin(joiner)
            for each in (knock, await find(joiner, knock.id)):
                assert (each.join_code is not None) is shown
                assert bool(each.hint)
                assert shown or "parler session approve" in each.hint

    run(main)


def test_with_a_token_that_joins_nothing_else_is_done_and_nobody_is_seen_to_be_there() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            minted = await mint(bob)
            await served.leave(bob)
            joiner = await bearer(served, minted.token)
            for name, operation in OPERATIONS.items():
                if operation.stream or operation.plane in ("joiner", *t.ELSEWHERE):
                    continue
                with pytest.raises(Refused) as refused:
                    served.engine.admit(name, joiner.caller)
                assert refused.value.code in (
                    "not_permitted",
                    "person_only",
                    "hook_only",
                    "window_only",
                    "unknown_operation",
                ), name
            assert (await alice.roster())["bob"].presence == "offline"

    run(main)


def test_with_a_token_that_acts_nobody_joins() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            acts = await alice.ask("token.mint", t.MintToken(access=t.ACCESSES), t.MintedToken)
            acting = await bearer(served, acts.token)
            refused = await acting.refused("join.begin", t.BeginJoin(name="x"))
            assert refused.code == "not_permitted"

    run(main)


def test_there_is_room_for_so_many_newcomers_and_the_person_has_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parlerd.engine.newcomers.MAX_NEWCOMERS", 1)

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice, uses=2)
            joiner = await bearer(served, minted.token)
            await begin(joiner, "bot-1")
            assert (await joiner.refused("join.begin", t.BeginJoin(name="bot-2"))).code == "too_many_tokens"
            assert await left(served, minted.info.id) == 1

    run(main)


def test_where_there_is_no_space_for_its_token_an_agent_that_is_in_gets_it_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted, other = await mint(alice), await alice.ask("token.mint", t.MintToken(), t.MintedToken)
            monkeypatch.setattr(bounds, "MAX_TOKENS", 2)
            joiner = await bearer(served, minted.token)
            refused = await joiner.refused("join.begin", t.BeginJoin(name="bot", idempotency_key=KEY))
            assert refused.code == "too_many_tokens"
            await alice.call("token.revoke", t.RevokeToken(id=other.info.id))
            assert (await begin(joiner, "bot", key=KEY)).token is not None

    run(main)


# -- with an invite ----------------------------------------------------------------------------------------


async def invited(party: Party, **how: Any) -> t.Invited:
    return await party.ask("room.invite", t.Invite(**how), t.Invited)


@pytest.mark.parametrize("approval", [True, False])
def test_with_a_token_of_an_invite_new_agents_come_in_as_the_invite_lets_them(approval: bool) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            invite = await invited(alice, group="news", approval=approval, max_uses=2)
            minted = await mint(alice, invite=invite.link, uses=3)
            assert (minted.info.kind, minted.info.room, minted.info.name) == ("aj", invite.room, "news")
            assert (minted.info.invite, minted.info.uses_left) != ("", 0)
            joiner = await bearer(served, minted.token)
            one, two = [await begin(joiner, name=name) for name in ("one", "two")]
            # The room is the person's own, and they gave their word as they minted the token.
            assert [each.status for each in (one, two)] == ["joined", "joined"]
            # The invite counts them as it counts everybody, and as nobody is told how it came to its end.
            assert (await joiner.refused("join.begin", t.BeginJoin(name="three"))).code == "unknown_key"
            assert await left(served, minted.info.id) == 1
            state = (await served.engine.rooms.get(RoomId(invite.room))).aggregate.state
            [key] = state.keys.values()
            assert (key.uses, key.id[:8]) == (2, minted.info.invite)
            assert one.token is not None
            await (await bearer(served, one.token)).send("hello", room=invite.room)

    run(main)


@pytest.mark.parametrize("how", ["revoked", "expired", "used up", "closed"])
def test_an_invite_that_lets_nobody_in_any_more_lets_nobody_in_with_its_token(how: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            invite = await invited(alice, group="news", max_uses=1, ttl_ms=3_600_000)
            minted = await mint(alice, invite=invite.code)
            match how:
                case "revoked":
                    await alice.ask("session.revoke", t.RevokeSessionKey(session_key=invite.code), t.RevokedKey)
                case "expired":
                    served.world.clock.move(seconds=3601)
                case "used up":
                    await bob.join(invite.code)
                case _:
                    await alice.close(invite.room)
            joiner = await bearer(served, minted.token)
            refusal = await joiner.refused("join.begin", t.BeginJoin(name="build-bot"))
            assert refusal.code == ("room_closed" if how == "closed" else "unknown_key")
            assert await left(served, minted.info.id) == 1
            assert [each.name for each in served.engine.desk.rooms.home.aggregate.state.agents.values()].count(
                "build-bot"
            ) == 0
            # Nor is there another token of it.
            again = await alice.refused("token.mint", t.MintToken(join=True, invite=invite.code))
            assert again.code == "unknown_key"

    run(main)


def test_a_token_of_an_invite_ends_without_the_invite_and_refuses_who_waits_with_it() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="terminal")) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            invite = await invited(alice, group="news", approval=True)
            minted = await mint(alice, invite=invite.code)
            joiner = await bearer(served, minted.token)
            assert (await begin(joiner)).status == "pending"
            await alice.ask("token.revoke", t.RevokeToken(id=minted.info.id), t.RevokedToken)
            state = (await served.engine.rooms.get(RoomId(invite.room))).aggregate.state
            assert [request.state for request in state.requests.values()] == ["denied"]
            assert (await bob.join(invite.code)).status == "pending"

    run(main)


def test_a_program_comes_into_a_queue_with_a_token_of_its_invite_and_works_there() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            await alice.call("queue.serve", t.Serve(service="reviews"))
            invite = await invited(alice, service="reviews")
            came = await begin(await bearer(served, (await mint(alice, invite=invite.code)).token))
            assert (came.status, came.name) == ("joined", "reviews")
            await alice.call("message.send", t.Send(service="reviews", text="look at this"))
            assert came.token is not None
            worker = await bearer(served, came.token)
            held = await worker.ask("task.claim", t.ClaimTask(room=invite.room), t.TaskHeld)
            assert held.id is not None

    run(main)


@pytest.mark.parametrize(
    ("more", "param"), [({"room": "news"}, "room"), ({"join": False}, "invite"), ({"opens": 1}, "opens")]
)
def test_an_invite_is_of_one_room_and_for_a_token_that_joins(more: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            invite = await invited(alice, group="news")
            said: dict[str, Any] = {"join": True, "invite": invite.code, **more}
            assert (await alice.refused("token.mint", t.MintToken(**said))).details["param"] == param
            alone = await invited(alice)
            dm = await alice.refused("token.mint", t.MintToken(join=True, invite=alone.code))
            assert (dm.code, dm.details["param"]) == ("invalid_param", "invite")

    run(main)


def test_only_the_person_mints_of_an_invite_and_a_wrong_code_is_a_guess() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            invite = await invited(alice, group="news")
            window = await served.window("w1", as_name="bob")
            refusal = await window.refused("token.mint", t.MintToken(join=True, invite=invite.code))
            assert refusal.code == "person_only"
            wrong = t.MintToken(join=True, invite="ABCDEFGH")
            guesses = [(await alice.refused("token.mint", wrong)).code for _ in range(30)]
            assert set(guesses) == {"unknown_key", "throttled"}

    run(main)


def test_a_person_may_want_to_be_asked_about_each_all_the_same() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            await alice.open("asks")
            await alice.open("lets in", approval=False)
            invite = await invited(alice, group="news", approval=True)
            for how in ({"room": "asks"}, {"invite": invite.code}):
                minted = await mint(alice, approval=True, **how)
                came = await begin(await bearer(served, minted.token), name=f"bot-{len(how)}-{minted.info.name}")
                assert came.status == "pending"
            refusal = await alice.refused("token.mint", t.MintToken(join=True, room="lets-in", approval=True))
            assert refusal.details["param"] == "approval"

    run(main)
