"""Who acts with a token: minted by the person alone, told once, and over when it is revoked or expires."""

from __future__ import annotations

import logging
import string
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import tokens as bounds
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import RoomId
from parlerd.core.tokens import DAY_MS, MAX_DAYS, Token
from parlerd.engine.authority import Authority
from parlerd.engine.authors import LocalAuthor
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.granted import TokensThere
from parlerd.engine.minting import Tokens
from parlerd.engine.scheduler import LOOK_S
from parlerd.engine.session_keys import SessionKeys
from parlerd.engine.token_handlers import TokenHandlers
from parlerd.identity import tokens
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.store.sqlite import SqliteStore
from tests.support.engine import (
    HookDriver,
    Party,
    PlugDriver,
    Served,
    SlowDriver,
    SteppedClock,
    World,
    engine_world,
    run,
    settle,
    texts,
)

ASKED: dict[str, t.Params] = {
    "token.mint": t.MintToken(),
    "token.list": t.ListTokens(),
    "token.revoke": t.RevokeToken(id="tk_none"),
    "http.serve": t.ServeHttp(),
}
"""The operations of tokens and of the door that they are for."""


async def mint(party: Party, **how: Any) -> t.MintedToken:
    return await party.ask("token.mint", t.MintToken(**how), t.MintedToken)


async def listed(party: Party) -> list[t.TokenInfo]:
    """The tokens, whenever they were used."""
    found = (await party.ask("token.list", t.ListTokens(), t.TokenList)).tokens
    return [msgspec.structs.replace(each, used_at=0) for each in found]


async def revoke(party: Party, id: str) -> None:
    assert (await party.ask("token.revoke", t.RevokeToken(id=id), t.RevokedToken)).id == id


def secret_of(text: str) -> bytes:
    """The random bits in the text of a token."""
    number = 0
    for digit in text[3:-6]:
        number = number * 62 + (string.digits + string.ascii_uppercase + string.ascii_lowercase).index(digit)
    secret = number.to_bytes(tokens.SECRET_BYTES, "big")
    assert tokens.made_of(secret) == text
    return secret


def stranger(served: Served, session: str = "http 1") -> Caller:
    """A connection over HTTP before it shows a token."""
    return Caller(Facts(session, "http", Authority(served.world.keys.principal, frozenset())))


async def shown(served: Served, text: str) -> tuple[Token, Caller]:
    return await served.engine.bearers.caller_of(text, stranger(served))


async def bearer(served: Served, text: str) -> Party:
    """Whoever shows this text."""
    _, caller = await shown(served, text)

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, caller)

    return Party(call, caller)


async def opens_nothing(served: Served, text: str) -> bool:
    """Whether a text is answered as one that never was a token's."""
    try:
        await shown(served, text)
    except Refused as error:
        return error.code == "token_invalid"
    return False


# -- minting -----------------------------------------------------------------------------------------------


def test_a_token_is_minted_as_the_agent_and_for_the_room_that_are_named_and_listed_without_its_text() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0]
            first = await mint(bob)
            assert tokens.is_token(first.token)
            assert first.url is None
            now = served.world.clock.now()
            assert first.info == t.TokenInfo(
                id=first.info.id,
                agent="bob",
                room=room.room,
                access=list(t.DEFAULT_ACCESS),
                minted_at=now,
                expires_at=now + t.DEFAULT_DAYS * DAY_MS,
                name=room.name,
            )
            second = await mint(alice, room=room.name, access=("post", "read", "post"), days=MAX_DAYS, label="nightly")
            assert (second.info.access, second.info.label) == (["read", "post"], "nightly")
            assert second.info.expires_at == now + MAX_DAYS * DAY_MS
            assert second.token != first.token
            assert await listed(alice) == await listed(await served.person()) == [first.info, second.info]

    run(main)


def test_the_text_of_a_token_is_told_once_and_is_in_no_file_list_or_log_of_the_home(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def held(what: bytes) -> int:
        return sum(path.read_bytes().count(what) for path in tmp_path.rglob("*") if path.is_file())

    async def main() -> None:
        store = SqliteStore(tmp_path / "parler.db", backups=tmp_path / "backups")
        world = World(store=store)
        async with world.serving() as served:
            (alice,) = await served.room("alice")
            minted, other = await mint(alice, label="a label"), await mint(alice)
            acting = await bearer(served, minted.token)
            await acting.send("as alice")
            assert await opens_nothing(served, minted.token[:-1])
            await revoke(alice, other.info.id)
            said = b""
            for op, params in (("token.list", t.ListTokens()), ("daemon.status", t.DaemonStatus())):
                said += msgspec.json.encode(await alice.call(op, params))
            for each in (minted, other):
                # A piece of it would be too much, and the bits that it was made of.
                for piece in (each.token[3:23].encode(), each.token[-20:].encode(), secret_of(each.token)):
                    assert (piece in said, held(piece)) == (False, 0)
            # What is looked through is where it would stand.
            assert minted.info.id.encode() in said
            assert held(tokens.digest_of(minted.token)) > 0
            given.extend([minted, other])

    given: list[t.MintedToken] = []
    with caplog.at_level(logging.DEBUG):
        run(main)
    assert held(b"a label") > 0
    for each in given:
        assert held(each.token[3:23].encode()) == 0
        assert each.token[3:23] not in caplog.text


def test_no_door_of_an_agent_mints_lists_or_revokes_nor_opens_the_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await alice.open()
            await window.open("another room")
            minted = await mint(alice)
            acting = await bearer(served, minted.token)
            for party in (window, await served.connect("hook"), await served.connect("http"), acting):
                for op, params in ASKED.items():
                    error = await party.refused(op, params)
                    assert error.code == "person_only", op
                    assert OPERATIONS[op].command in error.hint
                error = await party.refused("token.revoke", t.RevokeToken(id=minted.info.id))
                assert error.code == "person_only"
            assert await listed(alice) == [minted.info]

    run(main)


def test_no_tool_of_an_agent_is_about_tokens() -> None:
    for op in ASKED:
        assert (OPERATIONS[op].tool, OPERATIONS[op].http, OPERATIONS[op].plane) == (None, None, "person"), op


def test_there_is_no_token_for_a_room_that_its_agent_is_not_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            assert (await bob.refused("token.mint", t.MintToken())).code == "no_active_session"
            opened = await alice.open("auth redesign")
            await bob.open("annex")
            for room in ("nowhere", "auth-redesign", opened.room):
                assert (await bob.refused("token.mint", t.MintToken(room=room))).code == "no_such_room", room
            assert await listed(bob) == []

    run(main)


@pytest.mark.parametrize("days", [0, MAX_DAYS + 1])
def test_for_how_long_a_token_holds_is_bounded_whoever_asks(days: int) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            error = await alice.refused("token.mint", t.MintToken(days=days))
            assert (error.code, error.details["param"]) == ("invalid_param", "days")
            assert await listed(alice) == []

    run(main)


def test_a_home_has_so_many_tokens_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            brief, lasting = await mint(alice, days=1), await mint(alice)
            assert (await alice.refused("token.mint", t.MintToken())).code == "too_many_tokens"
            served.world.clock.move(seconds=86_400)
            third = await mint(alice)
            assert await listed(alice) == [lasting.info, third.info]
            assert await opens_nothing(served, brief.token)

    monkeypatch.setattr(bounds, "MAX_TOKENS", 2)
    run(main)


def test_a_token_that_is_not_there_cannot_be_revoked() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            await revoke(alice, minted.info.id)
            for id in (minted.info.id, "tk_none"):
                assert (await alice.refused("token.revoke", t.RevokeToken(id=id))).code == "no_such_token"

    run(main)


def test_a_token_for_a_room_that_was_deleted_is_listed_and_can_be_revoked() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            await alice.call("room.delete", t.DeleteRoom(room=minted.info.room, confirmed=True))
            (left,) = await listed(alice)
            assert (left.id, left.room, left.name) == (minted.info.id, minted.info.room, "")
            acting = await bearer(served, minted.token)
            refused = await acting.refused("message.send", t.Send(text="x", room=minted.info.room))
            assert refused.code == "room_deleted"
            await revoke(alice, minted.info.id)
            assert await listed(alice) == []

    run(main)


# -- who shows one -----------------------------------------------------------------------------------------


def test_whoever_shows_a_token_is_its_agent_in_its_room_and_nowhere_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            minted = await mint(bob)
            annex = await bob.open("annex")
            token, caller = await shown(served, minted.token)
            assert token.id == minted.info.id
            may = caller.facts.authority
            assert (may.planes, may.rooms) == (frozenset({"agent"}), frozenset({RoomId(minted.info.room)}))
            assert may.proof_ceiling == "none"
            assert not may.speaks_as_person
            acting = await bearer(served, minted.token)
            assert (await acting.whoami()).name == "bob"
            await acting.send("hello", room=minted.info.room)
            [message] = (await alice.recv()).messages
            assert (message.author.name, message.via, message.text) == ("bob", "http", "hello")
            assert [room.room for room in await acting.rooms()] == [minted.info.room]
            refused = await acting.refused("message.send", t.Send(text="x", room=annex.room))
            assert refused.code == "no_such_room"

    run(main)


def test_each_token_is_one_caller_however_often_it_is_shown() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            one, two = await mint(alice), await mint(alice)
            assert (await shown(served, one.token))[1] is (await shown(served, one.token))[1]
            first, second = (await shown(served, one.token))[1], (await shown(served, two.token))[1]
            assert first is not second
            assert first.facts.session != second.facts.session

    run(main)


@pytest.mark.parametrize("text", ["", "as_", "x" * 10_000, "\ud800", tokens.made_of(bytes(32)), "Bearer as_x"])
def test_another_text_is_no_token_and_the_answer_does_not_say_why(text: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await mint(alice)
            with pytest.raises(Refused) as refused:
                await shown(served, text)
            assert (refused.value.code, refused.value.details) == ("token_invalid", {})

    run(main)


def test_whoever_guesses_texts_is_slowed_down_and_whoever_shows_a_right_one_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            guesser, codes = stranger(served, "a guesser"), []
            for n in range(30):
                with pytest.raises(Refused) as refused:
                    await served.engine.bearers.caller_of(tokens.made_of(bytes([n] * 32)), guesser)
                codes.append(refused.value.code)
            assert (codes[0], codes[-1]) == ("token_invalid", "throttled")
            token, _ = await served.engine.bearers.caller_of(minted.token, guesser)
            assert token.id == minted.info.id

    run(main)


# -- what is under way -------------------------------------------------------------------------------------


class UnderWay:
    """Something that goes on with a token until it is ended."""

    def __init__(self, served: Served, token: Token) -> None:
        self._served = served
        self._token = token
        self.ended_at: float | None = None

    async def go_on(self) -> None:
        with self._served.engine.bearers.using(self._token) as scope:
            await trio.Event().wait()
        assert scope.cancelled_caught
        self.ended_at = trio.current_time()


def test_what_is_under_way_ends_when_its_token_is_revoked_and_what_is_so_with_another_goes_on() -> None:
    async def main() -> None:
        async with engine_world() as served, trio.open_nursery() as nursery:
            (alice,) = await served.room("alice")
            one, two = await mint(alice), await mint(alice)
            token, other = (await shown(served, one.token))[0], (await shown(served, two.token))[0]
            bearers = served.engine.bearers
            mine = [UnderWay(served, token) for _ in range(3)]
            its = UnderWay(served, other)
            for each in (*mine, its):
                nursery.start_soon(each.go_on)
            await settle()
            assert (bearers.count(token), bearers.count(other)) == (3, 1)
            await revoke(alice, one.info.id)
            await settle()
            assert all(each.ended_at is not None for each in mine)
            assert (its.ended_at, bearers.count(token), bearers.count(other)) == (None, 0, 1)
            assert await opens_nothing(served, one.token)
            nursery.cancel_scope.cancel()

    run(main)


def test_a_wait_in_the_engine_ends_when_its_token_is_revoked() -> None:
    async def main() -> None:
        async with engine_world() as served, trio.open_nursery() as nursery:
            alice, bob = await served.room("alice", "bob")
            minted = await mint(bob)
            token, _ = await shown(served, minted.token)
            acting = await bearer(served, minted.token)
            came: list[list[str]] = []
            ended = trio.Event()

            async def wait() -> None:
                with served.engine.bearers.using(token) as scope:
                    came.append(texts(await acting.recv(wait=300)))
                if scope.cancelled_caught:
                    ended.set()

            nursery.start_soon(wait)
            await settle()
            await revoke(alice, minted.info.id)
            await ended.wait()
            await alice.send("nobody waits for this")
            assert came == []

    run(main)


def test_what_is_under_way_ends_when_its_token_expires() -> None:
    async def main() -> None:
        async with World(clock=SteppedClock()).serving() as served, trio.open_nursery() as nursery:
            (alice,) = await served.room("alice")
            minted = await mint(alice, days=1)
            token, _ = await shown(served, minted.token)
            at_mint = trio.current_time()
            early, late = UnderWay(served, token), UnderWay(served, token)
            nursery.start_soon(early.go_on)
            await trio.sleep(43_200)
            nursery.start_soon(late.go_on)
            await trio.sleep(43_200 - 2)
            assert (early.ended_at, late.ended_at, served.engine.bearers.count(token)) == (None, None, 2)
            await trio.sleep(4)
            for each in (early, late):
                assert each.ended_at == pytest.approx(at_mint + 86_400, abs=0.01)
            assert served.engine.bearers.count(token) == 0
            assert await opens_nothing(served, minted.token)

    run(main)


def test_with_a_token_that_has_expired_nothing_begins() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            token, _ = await shown(served, (await mint(alice, days=1)).token)
            served.world.clock.move(seconds=86_400)
            with pytest.raises(Refused) as refused, served.engine.bearers.using(token):
                raise AssertionError("it began")
            assert (refused.value.code, served.engine.bearers.count(token)) == ("token_invalid", 0)

    run(main)


def test_with_a_token_that_was_revoked_after_it_was_shown_nothing_begins() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            token, _ = await shown(served, minted.token)
            await revoke(alice, minted.info.id)
            with pytest.raises(Refused) as refused, served.engine.bearers.using(token):
                raise AssertionError("it began")
            assert refused.value.code == "token_invalid"

    run(main)


def test_what_is_under_way_ends_also_when_whoever_revokes_is_gone() -> None:
    async def main() -> None:
        async with World(driver=SlowDriver).serving() as served, trio.open_nursery() as nursery:
            (alice,) = await served.room("alice")
            minted = await mint(alice)
            token, _ = await shown(served, minted.token)
            each = UnderWay(served, token)
            nursery.start_soon(each.go_on)
            await trio.sleep(1)
            with trio.move_on_after(0.5):
                await revoke(alice, minted.info.id)
            await trio.sleep(10)
            assert await opens_nothing(served, minted.token)
            assert each.ended_at is not None
            nursery.cancel_scope.cancel()

    run(main)


def test_what_is_under_way_ends_soon_after_a_wall_that_was_set_forward_over_its_time() -> None:
    async def main() -> None:
        clock = SteppedClock()
        async with World(clock=clock).serving() as served, trio.open_nursery() as nursery:
            (alice,) = await served.room("alice")
            token, _ = await shown(served, (await mint(alice, days=1)).token)
            each = UnderWay(served, token)
            nursery.start_soon(each.go_on)
            await trio.sleep(1)
            clock.step(seconds=25 * 3600)
            await trio.sleep(LOOK_S + 1)
            assert each.ended_at is not None
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("op", ["token.mint", "token.revoke", "http.serve"])
def test_a_command_that_an_agent_host_started_lets_no_program_in(op: str) -> None:
    async def main() -> None:
        async with engine_world(inspect=lambda peer: replace(peer, agent_host="codex")) as served:
            alice = await served.agent("alice")
            await alice.open()
            assert (await alice.refused(op, ASKED[op])).code == "needs_person"
            assert await listed(alice) == []

    run(main)


# -- restarts ----------------------------------------------------------------------------------------------


def test_a_token_outlives_the_daemon_and_one_that_was_revoked_stays_so() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            (alice,) = await served.room("alice")
            kept, gone = await mint(alice, label="kept"), await mint(alice, label="gone")
            await revoke(alice, gone.info.id)
        async with world.serving() as served:
            alice = await served.agent("alice")
            acting = await bearer(served, kept.token)
            assert (await acting.whoami()).name == "alice"
            assert await opens_nothing(served, gone.token)
            assert await listed(alice) == [kept.info]
            await revoke(alice, kept.info.id)
        async with world.serving() as served:
            assert await opens_nothing(served, kept.token)
            assert await listed(await served.agent("alice")) == []

    run(main)


def test_a_token_that_expires_while_no_daemon_runs_opens_nothing_afterwards() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            (alice,) = await served.room("alice")
            minted = await mint(alice, days=1)
        world.clock.move(seconds=86_400 - 1)
        async with world.serving() as served:
            assert not await opens_nothing(served, minted.token)
        world.clock.move(seconds=1)
        async with world.serving() as served:
            assert await opens_nothing(served, minted.token)

    run(main)


# -- the door ----------------------------------------------------------------------------------------------


def test_a_home_that_has_no_door_says_that_it_cannot_open_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person = await served.person()
            error = await person.refused("http.serve", t.ServeHttp(port=8756))
            assert (error.code, error.details) == ("unknown_operation", {"operation": "http.serve"})
            stopped = await person.ask("http.serve", t.ServeHttp(stop=True), t.ServesHttp)
            assert stopped.url is None

    run(main)


class CountedWeb:
    """A door over HTTP before which nobody stands."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.lets_in = False
        self.opened: list[int] = []

    async def open(self, port: int, *, lets_in: bool) -> str:
        await trio.lowlevel.checkpoint()
        self.lets_in = lets_in
        if self.url is not None:
            return self.url
        self.opened.append(port)
        self.url = f"http://127.0.0.1:{port}"
        return self.url

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.url = None


def test_a_door_that_is_open_is_not_opened_again_and_whoever_mints_is_told_where_it_is() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            web = CountedWeb()
            desk = served.engine.desk
            there = TokensThere(desk, LocalAuthor(served.world.keys, served.world.random))
            handlers = TokenHandlers(desk, served.engine.bearers, Tokens(desk), there, web, SessionKeys(desk))
            first = await handlers.serve(alice.caller, t.ServeHttp(port=8756))
            again = await handlers.serve(alice.caller, t.ServeHttp(port=9000, open=True))
            assert (first.open, again.open) == (False, True)
            assert (first.url, again.url, web.opened) == ("http://127.0.0.1:8756", first.url, [8756])
            assert (await handlers.mint(alice.caller, t.MintToken())).url == first.url
            assert (await handlers.serve(alice.caller, t.ServeHttp(stop=True))).url is None
            assert (await handlers.mint(alice.caller, t.MintToken())).url is None
            assert (await handlers.serve(alice.caller, t.ServeHttp(port=9000))).url == "http://127.0.0.1:9000"

    run(main)


def test_a_token_says_when_it_was_last_shown() -> None:
    async def main() -> None:
        async with World(clock=SteppedClock()).serving() as served:
            (alice,) = await served.room("alice")
            one, two = await mint(alice), await mint(alice)

            async def used() -> list[int]:
                found = await alice.ask("token.list", t.ListTokens(), t.TokenList)
                return [each.used_at for each in found.tokens]

            assert await used() == [0, 0]
            for at_once in (one, two, one):
                await trio.sleep(60)
                await shown(served, at_once.token)
            now = served.world.clock.now()
            assert await used() == [now, now - 60_000]

    run(main)


# -- several rooms -----------------------------------------------------------------------------------------


def test_a_token_of_several_rooms_is_its_agent_in_each_of_them_and_nowhere_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            one, two, three = [await alice.open(topic) for topic in ("one", "two", "three")]
            minted = await mint(alice, rooms=("one", two.room, "one"), access=("read", "post", "mint"))
            assert minted.token.startswith("ah_")
            assert (minted.info.kind, minted.info.room, minted.info.rooms) == ("ah", one.room, [one.room, two.room])
            acting = await bearer(served, minted.token)
            assert {room.room for room in await acting.rooms()} == {one.room, two.room}
            for room in (one.room, two.room):
                await acting.send("hello", room=room)
            assert (await acting.refused("message.send", t.Send(text="x", room=three.room))).code == "no_such_room"
            assert (await acting.refused("session.open", t.OpenSession())).code in ("person_only", "not_permitted")
            # What is made of it is for all of them, or for one that is named.
            made = [
                await acting.ask("token.narrow", t.NarrowToken(access=("read",), room=room), t.MintedToken)
                for room in (None, "two")
            ]
            assert [(each.info.kind, each.info.room, each.info.rooms) for each in made] == [
                ("ah", one.room, [one.room, two.room]),
                ("as", two.room, []),
            ]
            wrong = await acting.refused("token.narrow", t.NarrowToken(access=("read",), room="three"))
            assert wrong.code == "no_such_room"
            joins = await acting.ask(
                "token.narrow", t.NarrowToken(access=("read",), room="two", join=True), t.MintedToken
            )
            assert (joins.info.kind, joins.info.room) == ("aj", two.room)
            again = await acting.ask("token.rotate", t.RotateToken(), t.MintedToken)
            assert again.token.startswith("ah_")
            assert again.info.rooms == minted.info.rooms
            await revoke(alice, again.info.id)
            assert await opens_nothing(served, again.token)

    run(main)


@pytest.mark.parametrize("how", [{"room": "one", "rooms": ("one", "two")}, {"join": True, "rooms": ("one", "two")}])
def test_rooms_are_named_in_one_way_and_each_is_one_of_the_agent(how: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            for topic in ("one", "two"):
                await alice.open(topic)
            assert (await alice.refused("token.mint", t.MintToken(**how))).details["param"] == "rooms"
            await bob.open("three")
            assert (await bob.refused("token.mint", t.MintToken(rooms=("three", "one")))).code == "no_such_room"
            # One room that is named twice is one room.
            assert (await mint(alice, rooms=("one", "one"))).info.kind == "as"

    run(main)


def test_what_its_agent_is_called_is_asked_of_the_room_that_is_meant() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            one, two = await alice.open("one"), await alice.open("two")
            minted = await mint(alice, rooms=("one", "two"))
            token, _ = await shown(served, minted.token)
            for wanted in (one.room, "two", two.room, "", "nowhere"):
                assert await served.engine.bearers.handle_of(token, wanted) == "alice"
            for room in (one.room, two.room):
                await alice.call("room.delete", t.DeleteRoom(room=room, confirmed=True))
            assert await served.engine.bearers.handle_of(token, "one") == ""

    run(main)


# -- rooms that are opened ---------------------------------------------------------------------------------

OPENING = ("read", "post", "open", "mint")


async def asking(served: Served, text: str) -> Party:
    """Whoever shows this text with each request, as over HTTP."""
    _, caller = await shown(served, text)

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, (await shown(served, text))[1])

    return Party(call, caller)


def test_a_token_opens_rooms_of_its_agent_and_acts_in_them_and_in_no_other() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            mine = await alice.open("mine")
            minted = await mint(alice, opens=2, access=OPENING)
            assert minted.token.startswith("ah_")
            assert (minted.info.room, minted.info.rooms, minted.info.opens_left) == ("", [], 2)
            acting = await asking(served, minted.token)
            assert await acting.rooms() == []
            one = await acting.open("one")
            await acting.send("hello", room=one.room)
            assert [room.room for room in await acting.rooms()] == [one.room]
            assert (await acting.refused("message.send", t.Send(text="x", room=mine.room))).code == "no_such_room"
            # The person is its principal, so it is one of theirs; what their agent means by no room stays.
            assert {room.room for room in await alice.rooms()} == {mine.room, one.room}
            assert (await alice.send("here")).room == mine.room
            two = await acting.open("two")
            refusal = await acting.refused("session.open", t.OpenSession(topic="three"))
            assert (refusal.code, "key" in refusal.details) == ("token_used_up", True)
            [info] = await listed(alice)
            assert (info.room, info.rooms, info.opens, info.opens_left) == (one.room, [one.room, two.room], 2, 0)
            # What an owner does, it does there.
            await acting.call("session.close", t.CloseSession(room=one.room))

    run(main)


def test_a_room_that_is_opened_with_what_was_made_of_a_token_is_of_both_and_of_no_other() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            minted = await mint(alice, opens=2, access=OPENING)
            acting = await asking(served, minted.token)
            nowhere = await acting.refused("token.narrow", t.NarrowToken(access=("read",)))
            assert nowhere.code == "no_such_room"
            wider = await acting.refused("token.narrow", t.NarrowToken(access=("open",), opens=3))
            assert wider.code == "not_permitted"
            unsaid = await acting.refused("token.narrow", t.NarrowToken(access=("read",), opens=1))
            assert unsaid.details["param"] == "opens"
            made = [
                await acting.ask("token.narrow", t.NarrowToken(access=("read", "open"), opens=opens), t.MintedToken)
                for opens in (1, 2)
            ]
            one, other = [await asking(served, each.token) for each in made]
            room = (await one.open("one")).room
            assert [room.room for room in await acting.rooms()] == [room]
            assert await other.rooms() == []
            assert (await one.refused("session.open", t.OpenSession())).code == "token_used_up"
            # The other is for two, and the one that both were made of has one left.
            await other.open("two")
            assert (await other.refused("session.open", t.OpenSession())).code == "token_used_up"
            assert len(await acting.rooms()) == 2
            await revoke(alice, minted.info.id)
            assert [await opens_nothing(served, each.token) for each in made] == [True, True]

    run(main)


@pytest.mark.parametrize("how", [{"opens": 1, "join": True}, {"opens": 32, "room": "mine"}])
def test_a_token_that_joins_opens_no_room_and_none_is_of_too_many(how: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            await alice.open("mine")
            assert (await alice.refused("token.mint", t.MintToken(**how))).details["param"] == "opens"

    run(main)


def test_a_token_that_is_for_open_and_opens_no_room_says_how_to_get_one_that_does() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            await alice.open("mine")
            for access in (OPENING, ("read",)):
                acting = await asking(served, (await mint(alice, access=access)).token)
                refusal = await acting.refused("session.open", t.OpenSession())
                assert refusal.code == "not_permitted"
                assert "parler token mint" in (refusal.hint or "")

    run(main)


def test_a_repeated_opening_is_the_same_room_and_another_tokens_request_is_no_way_to_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            asked = t.OpenSession(topic="one", idempotency_key="k1")
            acting = await asking(served, (await mint(alice, opens=1, access=OPENING)).token)
            first = await acting.ask("session.open", asked, t.OpenedSession)
            again = await acting.ask("session.open", asked, t.OpenedSession)
            assert (again.room, again.session_key, again.replayed) == (first.room, first.session_key, True)
            # The same agent, with another token: the room, and its key, are none of that token's.
            other = await asking(served, (await mint(alice, opens=1, access=OPENING)).token)
            assert (await other.refused("session.open", asked)).code == "idempotency_conflict"
            assert await other.rooms() == []
            await other.open("two")

    run(main)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("commit", range(3))
def test_a_daemon_that_dies_while_a_room_is_opened_with_a_token_goes_on_when_it_is_asked_again(
    commit: int, stored: bool
) -> None:
    async def main() -> None:
        world, asked = World(), t.OpenSession(topic="one", idempotency_key="k1")
        async with world.serving() as served:
            alice = await served.agent("alice")
            text = (await mint(alice, opens=1, access=OPENING)).token
            acting = await asking(served, text)
            assert isinstance(served.driver, PlugDriver)
            served.driver.cut = (served.driver.commits + commit, stored)
            with suppress(StoreError):
                await acting.call("session.open", asked)
        async with world.serving() as served:
            acting = await asking(served, text)
            opened = await acting.ask("session.open", asked, t.OpenedSession)
            assert [room.room for room in await acting.rooms()] == [opened.room]
            await acting.send("hello", room=opened.room)
            assert (await acting.refused("session.open", t.OpenSession())).code == "token_used_up"

    run(main)


def test_a_channel_is_opened_with_a_token_too_by_its_first_invite() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            acting = await asking(served, (await mint(alice, opens=1, access=OPENING)).token)
            invited = await acting.ask("room.invite", t.Invite(group="news", approval=True), t.Invited)
            assert invited.opened
            await acting.send("hello", room=invited.room)
            again = await acting.ask("room.invite", t.Invite(group="news"), t.Invited)
            assert (again.room, again.opened) == (invited.room, False)
            assert (await acting.refused("room.invite", t.Invite(group="more", approval=True))).code == "token_used_up"

    run(main)


def test_nobody_opens_a_room_with_a_token_that_asks_less_of_newcomers_than_the_person_does() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            acting = await asking(served, (await mint(alice, opens=1, access=OPENING)).token)
            for weaker in ({"approval": False}, {"approver": "agent"}, {"preapprove": ("U" + "A" * 55,)}):
                refusal = await acting.refused("session.open", t.OpenSession(**weaker))
                assert refusal.code == "person_only"
            assert (await listed(alice))[0].opens_left == 1

    run(main)


def test_a_session_is_called_as_it_is_asked_or_is_not_opened() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            named = t.OpenSession(name="Team.1", topic="what we do", idempotency_key="k1")
            opened = await alice.ask("session.open", named, t.OpenedSession)
            assert opened.name == "Team.1"
            assert (await alice.ask("session.open", named, t.OpenedSession)).room == opened.room
            assert (await alice.refused("session.open", t.OpenSession(name="Team.1"))).code == "room_exists"
            assert (await alice.refused("session.open", t.OpenSession(name="no name"))).code == "invalid_name"

    run(main)


def test_a_token_that_is_revoked_while_the_tokens_are_listed_is_no_fault() -> None:
    async def main() -> None:
        world = World(driver=HookDriver)
        async with world.serving() as served:
            alice = await served.agent("alice")
            await alice.open()
            gone = await mint(alice)
        # The room of the token is read before it is listed.
        async with world.serving() as served:
            alice = await served.agent("alice")
            assert isinstance(served.driver, HookDriver)
            await settle()
            served.driver.then = partial(revoke, alice, gone.info.id)
            await listed(alice)
            assert await listed(alice) == []

    run(main)
