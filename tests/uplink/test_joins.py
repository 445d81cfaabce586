"""New agents that come over HTTP into a room of a relay, and programs that open one: with the link down at each step,
asked for again, and after a daemon that died in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import RoomId
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.engine import Engine
from parlerd.operations import types as t
from tests.support.engine import Party, PlugDriver, Served, gather, run, settle
from tests.support.faces import PassingFace
from tests.support.relayed import Home, Relay, Wires, homes_of

KEY = "0123456789abcdef"


@dataclass
class Meeting:
    """Alice, of Ann's home, owns a room on the relay, and Bob, of Ben's home, is in it."""

    wires: Wires
    relay: Relay
    engine: Engine
    """The relay's."""
    ann: Home
    served: Served
    """Ann's daemon, and Ben's."""
    ben_served: Served
    alice: Party
    bob: Party
    room: str
    token: str
    """With it two new agents come into the room."""

    async def joiner(self, served: Served | None = None) -> Party:
        return await joiner_of(served or self.served, self.token)

    async def members(self) -> list[str]:
        """Who is in the room, as the relay has it."""
        state = (await (await self.engine.rooms.get(RoomId(self.room))).quiet()).state
        return [member.handle for member in state.members.values() if member.present]

    async def asking(self) -> list[str]:
        """Who waits at its door, as the relay has it."""
        state = (await (await self.engine.rooms.get(RoomId(self.room))).quiet()).state
        return [request.name for request in state.requests.values() if request.state == "pending"]


async def joiner_of(served: Served, text: str) -> Party:
    """Whoever shows this text with each request, as over HTTP."""
    stranger = Caller(Facts("http", "http", of_visitor(served.world.keys.principal, is_let_in=False, is_own=False)))

    async def caller() -> Caller:
        return (await served.engine.bearers.caller_of(text, stranger, PeerProcess(pid=7)))[1]

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, await caller())

    return Party(call, await caller())


@asynccontextmanager
async def meeting(folder: Path, *, approval: bool = True, asks: bool = False, **about: Any) -> AsyncIterator[Meeting]:
    """With `asks` the token is an agent's, so a person is asked about each where the room asks one."""
    wires, relay, home = homes_of(folder)
    for name, value in about.items():
        setattr(relay, name, value)
    ann, ben = home("ann"), home("ben")
    ann.world.driver = PlugDriver
    async with relay.serving() as engine, ann.serving() as served, ben.serving() as ben_served:
        alice, bob = await served.agent("alice"), await ben_served.agent("bob")
        opened = await alice.open("auth redesign", "Chose PKCE.", approval=approval, clear=True)
        if approval:
            await bob.join(opened.session_key)
            await (await served.person()).approve("bob", join_code=None)
        await bob.come_in(opened.session_key)
        if asks:
            own = await alice.ask("token.mint", t.MintToken(here=True, access=("read", "post", "mint")), t.MintedToken)
            narrow = t.NarrowToken(access=("read", "post"), join=True, uses=2)
            minted = await (await joiner_of(served, own.token)).ask("token.narrow", narrow, t.MintedToken)
        else:
            minted = await alice.ask("token.mint", t.MintToken(join=True, here=True, uses=2), t.MintedToken)
        yield Meeting(wires, relay, engine, ann, served, ben_served, alice, bob, opened.room, minted.token)


async def begin(who: Party, name: str = "build-bot", key: str | None = KEY, **more: Any) -> t.BegunJoin:
    return await who.ask("join.begin", t.BeginJoin(name=name, idempotency_key=key, **more), t.BegunJoin)


async def find(who: Party, id: str, wait: float = 0) -> t.JoinInfo:
    return await who.ask("join.find", t.FindJoin(id=id, wait_ms=int(wait * 1000)), t.JoinInfo)


async def not_begun(who: Party, name: str = "build-bot", key: str = KEY) -> str:
    return (await who.refused("join.begin", t.BeginJoin(name=name, idempotency_key=key))).code


async def left(served: Served) -> int:
    found = await (await served.person()).ask("token.list", t.ListTokens(), t.TokenList)
    return next(each.uses_left for each in found.tokens if each.kind == "aj")


def newcomers(served: Served) -> list[str]:
    """The agents of a home that came over HTTP."""
    agents = served.engine.desk.rooms.home.aggregate.state.agents.values()
    return [agent.name for agent in agents if agent.host == "http"]


async def says(meeting: Meeting, token: str | None, text: str, served: Served | None = None) -> None:
    """A newcomer says something, which is signed with its own key and reaches the other machine."""
    assert token is not None
    sent = await (await joiner_of(served or meeting.served, token)).send(text, room=meeting.room)
    assert not sent.queued
    page = await meeting.bob.recv(wait=30)
    assert [(each.text, each.verified, each.via) for each in page.messages] == [(text, "valid", "http")]
    await meeting.bob.commit(page)


# -- let in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approval", [True, False])
def test_a_newcomer_comes_into_a_room_of_a_relay_and_speaks_there_with_a_key_of_its_own(
    approval: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        async with meeting(tmp_path, approval=approval) as at:
            await at.bob.read()
            came = await begin(await at.joiner())
            assert (came.status, came.agent, came.room) == ("joined", "build-bot", at.room)
            assert sorted(await at.members()) == ["alice", "bob", "build-bot"]
            await says(at, came.token, "hello")
            assert sorted(await at.bob.roster()) == ["alice", "bob", "build-bot"]
            again = await begin(await at.joiner())
            assert (again.replayed, again.token, again.id) == (True, came.token, came.id)
            assert await not_begun(await at.joiner(), name="other") == "idempotency_conflict"
            assert await not_begun(await at.joiner(), key=KEY[::-1]) == "agent_exists"
            assert (await left(at.served), newcomers(at.served)) == (1, ["build-bot"])

    run(main)


def test_of_two_at_once_with_one_name_one_comes_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            one, two = await at.joiner(), await at.joiner()

            async def tried(who: Party, key: str) -> str:
                try:
                    return (await begin(who, key=key)).status
                except ParlerError as error:
                    return error.code

            assert sorted(await gather(partial(tried, one, KEY), partial(tried, two, KEY[::-1]))) == [
                "agent_exists",
                "joined",
            ]
            assert (await left(at.served), newcomers(at.served)) == (1, ["build-bot"])

    run(main)


@pytest.mark.parametrize("approval", [True, False])
def test_with_a_token_of_another_persons_invite_a_program_knocks_there_and_that_person_decides(
    approval: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            invite = await at.alice.ask("room.invite", t.Invite(group="news", approval=approval, clear=True), t.Invited)
            ben = await at.ben_served.person()
            minted = await ben.ask("token.mint", t.MintToken(join=True, invite=invite.code), t.MintedToken)
            came = await begin(await joiner_of(at.ben_served, minted.token))
            if approval:
                # To mint was Ben's word, and the room is Ann's.
                assert came.status == "pending"
                await (await at.served.person()).approve("build-bot")
                came = await begin(await joiner_of(at.ben_served, minted.token))
            assert (came.status, came.room) == ("joined", invite.room)
            assert came.token is not None
            await (await joiner_of(at.ben_served, came.token)).send("hello", room=invite.room)
            page = await at.alice.recv(room=invite.room, wait=30)
            assert [(each.text, each.verified) for each in page.messages] == [("hello", "valid")]
            assert newcomers(at.served) == []

    run(main)


# -- waiting -------------------------------------------------------------------------------------------------


def test_a_newcomer_waits_at_a_relay_for_the_person_and_hears_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path, asks=True) as at:
            await at.bob.read()
            waits = await begin(await at.joiner())
            assert (waits.status, waits.token, await at.asking()) == ("pending", None, ["build-bot"])
            assert waits.join_code is not None
            person = await at.served.person()
            wrong = t.DecideJoin(agent="build-bot", join_code="0000")
            assert (await person.refused("session.approve", wrong)).code == "code_mismatch"
            heard: list[t.JoinInfo] = []

            async def wait() -> None:
                heard.append(await find(await at.joiner(), waits.id, wait=3600))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                began = trio.current_time()
                await person.approve("build-bot", join_code=waits.join_code)
            assert trio.current_time() - began < 60
            assert heard[0].status == "joined"
            await says(at, heard[0].token, "hello")

    run(main)


def test_whoever_the_person_denies_at_a_relay_leaves_its_use_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path, asks=True) as at:
            waits = await begin(await at.joiner())
            assert await left(at.served) == 1
            await (await at.served.person()).deny("build-bot")
            assert (await find(await at.joiner(), waits.id)).status == "denied"
            assert await left(at.served) == 2

    run(main)


# -- the link is down ----------------------------------------------------------------------------------------


def test_while_the_link_is_down_nobody_joins_and_nothing_is_made_or_used(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            at.wires.cut()
            await settle()
            for _ in range(3):
                assert await not_begun(await at.joiner()) in ("offline", "home_unreachable")
            assert (await left(at.served), newcomers(at.served)) == (2, [])
            at.wires.mend()
            await trio.sleep(120)
            came = await begin(await at.joiner())
            assert (came.status, came.agent) == ("joined", "build-bot")
            assert (await left(at.served), newcomers(at.served)) == (1, ["build-bot"])

    run(main)


class Deaf(PassingFace):
    """A relay whose answers to some operation get lost, once it did what was asked, while `is_deaf`."""

    operation = "link.knock"
    wires: Wires
    is_deaf = False

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        done = await self._engine.call(op, params, caller)
        if op == self.operation and self.is_deaf:
            self.wires.cut()
            await trio.sleep_forever()
        return done


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("operation", ["link.knock", "link.decide"])
def test_an_answer_of_the_relay_that_is_lost_makes_no_second_newcomer(
    operation: str, asks: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        deaf: list[Deaf] = []

        def face(engine: Engine) -> Deaf:
            deaf.append(Deaf(engine))
            return deaf[-1]

        async with meeting(tmp_path, asks=asks, face=face) as at:
            await at.bob.read()
            deaf[-1].wires, deaf[-1].operation, deaf[-1].is_deaf = at.wires, operation, True
            joiner = await at.joiner()
            if asks and operation == "link.decide":
                assert (await begin(joiner)).status == "pending"
                person = await at.served.person()
                decide = t.DecideJoin(agent="build-bot")
                assert (await person.refused("session.approve", decide)).code in ("offline", "home_unreachable")
            else:
                assert await not_begun(joiner) in ("offline", "home_unreachable")
            deaf[-1].is_deaf = False
            at.wires.mend()
            await trio.sleep(120)
            came = await begin(await at.joiner())
            if asks and operation == "link.knock":
                assert came.status == "pending"
                await (await at.served.person()).approve("build-bot")
                came = await begin(await at.joiner())
            assert (came.status, came.agent) == ("joined", "build-bot")
            assert sorted(await at.members()) == ["alice", "bob", "build-bot"]
            assert (await left(at.served), newcomers(at.served)) == (1, ["build-bot"])
            await says(at, came.token, "hello")

    run(main)


def test_who_waits_while_the_link_is_down_is_let_in_once_it_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path, asks=True) as at:
            waits = await begin(await at.joiner())
            at.wires.cut()
            await settle()
            person = await at.served.person()
            refused = await person.refused("session.approve", t.DecideJoin(agent="build-bot"))
            assert refused.code in ("offline", "home_unreachable")
            at.wires.mend()
            await trio.sleep(120)
            await person.approve("build-bot")
            came = await find(await at.joiner(), waits.id, wait=60)
            assert (came.status, came.agent) == ("joined", "build-bot")

    run(main)


# -- a daemon that dies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("commit", range(7))
def test_a_daemon_that_dies_while_somebody_joins_at_a_relay_goes_on_when_it_is_asked_again(
    commit: int, stored: bool, asks: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        ann = home("ann")
        ann.world.driver = PlugDriver
        async with relay.serving() as engine:
            async with ann.serving() as served:
                alice = await served.agent("alice")
                opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
                text = (await alice.ask("token.mint", t.MintToken(join=True, here=True), t.MintedToken)).token
                if asks:
                    own = await alice.ask("token.mint", t.MintToken(here=True, access=("read", "mint")), t.MintedToken)
                    narrow = t.NarrowToken(access=("read",), join=True)
                    asked = await (await joiner_of(served, own.token)).ask("token.narrow", narrow, t.MintedToken)
                    text = asked.token
                joiner = await joiner_of(served, text)
                assert isinstance(served.driver, PlugDriver)
                served.driver.cut = (served.driver.commits + commit, stored)
                with suppress(StoreError, ParlerError), trio.move_on_after(600):
                    await begin(joiner)
            async with ann.serving() as served:
                await trio.sleep(60)
                came = await begin(await joiner_of(served, text))
                if asks:
                    assert came.status == "pending"
                    await (await served.person()).approve("build-bot")
                    came = await begin(await joiner_of(served, text))
                assert (came.status, came.agent) == ("joined", "build-bot")
                assert came.token is not None
                state = (await (await engine.rooms.get(RoomId(opened.room))).quiet()).state
                assert [each.handle for each in state.members.values() if each.present] == ["alice", "build-bot"]
                sent = await (await joiner_of(served, came.token)).send("hello", room=opened.room) if not asks else None
                assert sent is None or not sent.queued

    run(main)


# -- rooms that a program opens ------------------------------------------------------------------------------


def test_a_token_opens_a_room_on_a_relay_and_none_is_counted_while_that_is_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.alice.ask("token.mint", t.MintToken(opens=1), t.MintedToken)
            program = await joiner_of(at.served, minted.token)
            at.wires.cut()
            await settle()
            for _ in range(2):
                refused = await program.refused("session.open", t.OpenSession(topic="build"))
                assert refused.code in ("offline", "home_unreachable")
            at.wires.mend()
            await trio.sleep(120)
            opened = await program.open("build")
            state = (await (await at.engine.rooms.get(RoomId(opened.room))).quiet()).state
            # The relay is not told what a sealed room is called.
            assert (state.name, state.owner_principal) == ("", at.ann.keys.principal)
            assert opened.name == "build"
            assert [room.room for room in await program.rooms()] == [opened.room]
            assert not (await program.send("hello", room=opened.room)).queued
            assert (await program.refused("session.open", t.OpenSession(topic="more"))).code == "token_used_up"

    run(main)


def test_a_token_that_joins_a_sealed_room_brings_somebody_in_and_its_key_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        ann = home("ann")
        async with relay.serving(), ann.serving() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth redesign", "Chose PKCE.")
            first = await alice.ask("token.mint", t.MintToken(join=True, here=True), t.MintedToken)
            handle = await served.engine.desk.rooms.get(RoomId(opened.room))
            came = await begin(await joiner_of(served, first.token))
            assert (came.status, came.agent) == ("joined", "build-bot")
            person = await served.person()
            await person.ask("token.revoke", t.RevokeToken(id=first.info.id), t.RevokedToken)
            await settle()
            room = await handle.quiet()
            states = {key.ref.startswith("j_"): key.state(room.last_at) for key in room.state.keys.values()}
            assert states == {False: "live", True: "revoked"}

    run(main)


def test_whom_the_owner_s_machine_did_not_confirm_yet_a_token_lets_in_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        ann = home("ann")
        async with relay.serving(), ann.serving() as served:
            alice = await served.agent("alice")
            await alice.open("auth redesign", "Chose PKCE.")
            minted = await alice.ask("token.mint", t.MintToken(join=True, here=True), t.MintedToken)
            joiner = await joiner_of(served, minted.token)
            with monkeypatch.context() as patched:
                patched.setattr(ann.uplinks._exchanges, "go_on", nothing)
                came = await begin(joiner)
                assert came.status == "pending"
            await trio.sleep(30)
            assert (await find(joiner, came.id)).status == "joined"

    run(main)


async def nothing(*args: object, **more: object) -> None:
    """Steps of a key exchange that wait."""
