"""How agents come into sealed rooms past a relay that is not to learn the key: both ends over one relay, each of them
away or ended in between, and a relay that lies at each step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace

from parlerd.core import approvals
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.exchange import KNOCK_MS, PROOF, SHARE
from parlerd.core.model import AgentId, By, HomeId, RoomId
from parlerd.core.statements import SealingKey, check
from parlerd.engine.authors import Attested
from parlerd.identity import codes, pake
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import SHOWN_S
from parlerd.uplink.connection import LinkConnection
from parlerd.uplink.exchanging import IDLE_MS, LATE_MS, TRIES, TRIES_EACH
from parlerd.uplink.link import Link
from tests.support.engine import Party, Served, SteppedClock, run, settle
from tests.support.relayed import Home
from tests.uplink.test_sealed import Meeting, everything, meeting_in, met, spelled

Change = Callable[[t.RequestEntry], t.RequestEntry]


@asynccontextmanager
async def opened(folder: Path, **how: Any) -> AsyncIterator[Meeting]:
    """Alice has a sealed session on the relay, and Bob, of Ben's home, is not in it."""
    meeting = meeting_in(folder)
    async with (
        meeting.relay.serving() as meeting.relay_served,
        meeting.ann.serving() as meeting.ann_served,
        meeting.ben.serving() as meeting.bob_served,
    ):
        meeting.alice = await meeting.ann_served.agent("alice")
        meeting.bob = await meeting.bob_served.agent("bob")
        meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.", **how)
        yield meeting


def key_of(meeting: Meeting) -> codes.TypedKey:
    assert meeting.opened.session_key is not None
    return codes.read_key(meeting.opened.session_key)


def wrong_key(meeting: Meeting) -> str:
    """The key with another secret."""
    key = key_of(meeting)
    other = "0" if key.secret[-1] != "0" else "1"
    return codes.write_sealed_key(key.key, key.secret[:-1] + other, key.home or "")


def tries(meeting: Meeting) -> list[int]:
    return [row.tries for row in meeting.ann.world.store.key_tries(RoomId(meeting.opened.room))]


def exchanges(home: Home, meeting: Meeting) -> list[tuple[str, str]]:
    return [(row.role, row.stage) for row in home.world.store.key_exchanges(RoomId(meeting.opened.room))]


async def state_at(home: Home, meeting: Meeting) -> list[str]:
    return [request.state for request in (await meeting.room_of(home)).state.requests.values()]


async def news(served: Served, who: Party) -> str:
    """What a window of this agent is told beside an answer."""
    said = await served.engine.handlers["window.notice"](who.caller, t.AskNotice())
    assert isinstance(said, t.Notice)
    return said.line


async def refused(who: Party, key: str | None) -> str:
    error = await who.refused("session.join", t.JoinSession(session_key=key or "", wait_ms=0))
    return error.code


def test_whoever_types_a_wrong_key_is_told_which_part_may_be_wrong(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            params = t.JoinSession(session_key=wrong_key(meeting), wait_ms=60_000)
            error = await meeting.bob.refused("session.join", params)
            assert error.code == "unknown_key"
            assert "behind the U may be mistyped" in (error.hint or "")
            # While it waits it does not try again by itself.
            assert tries(meeting) == [1]

    run(main)


# -- as it should be ---------------------------------------------------------------------------------------


def test_both_ends_have_the_same_code_and_nothing_of_the_exchange_is_left_afterwards(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            key = key_of(meeting)
            assert (len(key.key), len(key.secret)) == (6, 8)
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert (waits.status, len(waits.join_code or "")) == ("pending", 4)
            person = await meeting.ann_served.person()
            [asked] = await person.requests()
            assert asked.name == "bob"
            wrong = t.DecideJoin(agent="bob", join_code="0000" if waits.join_code != "0000" else "1111")
            assert (await person.refused("session.approve", wrong)).code == "code_mismatch"
            await person.approve("bob", join_code=waits.join_code)
            await settle()
            assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
            assert exchanges(meeting.ann, meeting) == exchanges(meeting.ben, meeting) == []
            assert tries(meeting) == []

    run(main)


def test_the_relay_is_told_neither_the_secret_nor_the_code_nor_the_agent_host(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            window = await ben.window("w1", host="pelican", as_name="bert")
            waits = await window.join(meeting.opened.session_key)
            assert waits.join_code is not None
            [asked] = await (await ann.person()).requests()
            # The owner's person is told it, by what was sealed for their home.
            assert asked.host == "pelican"
            await (await ann.person()).approve(asked.id, join_code=waits.join_code)
            await settle()
            assert (await window.come_in(meeting.opened.session_key)).messages
            held = everything(meeting.relay.store)
            sent = b"".join(message for both in meeting.wires.open for end in both for message in end.sent)
            key = key_of(meeting)
            assert key.key.encode() in sent
            for word in (key.secret, "pelican", "Chose PKCE"):
                for form in spelled(word):
                    assert form not in held, word
                    assert form not in sent, word
            assert waits.join_code.encode() not in sent

    run(main)


@pytest.mark.parametrize("who", ["joiner", "owner", "relay"])
def test_each_of_them_may_end_and_begin_again_in_the_middle(tmp_path: Path, who: str) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with trio.open_nursery() as nursery:
            relay = await nursery.start(held, meeting.relay.serving)
            ann: Served
            ann_scope, ann = await nursery.start(held_as, meeting.ann.serving)
            ben_scope, ben = await nursery.start(held_as, meeting.ben.serving)
            meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            # The owner is away when the joiner knocks.
            ann_scope.cancel()
            await settle()
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert (waits.status, waits.join_code) == ("pending", None)
            assert exchanges(meeting.ben, meeting) == [("joiner", "begun")]
            # Nobody can be told a code yet, so the agent is told whom it waits for.
            error = await meeting.bob.refused("message.recv", t.Recv())
            assert (error.code, "code" in f"{error.message} {error.hint}") == ("join_pending", False)
            assert "machine of the session's owner" in error.message
            if who == "joiner":
                ben_scope.cancel()
                await settle()
                ann_scope, ann = await nursery.start(held_as, meeting.ann.serving)
                await (await ann.agent("alice")).read()
                await trio.sleep(30)
                assert exchanges(meeting.ann, meeting) == [("owner", "agreed")]
            if who == "relay":
                relay.cancel()
                await settle()
                relay = await nursery.start(held, meeting.relay.serving)
            if who == "owner":
                meeting.wires.cut_off("ben")
                ann_scope, ann = await nursery.start(held_as, meeting.ann.serving)
                await (await ann.agent("alice")).read()
                await trio.sleep(30)
                ann_scope.cancel()
                await settle()
                meeting.wires.bring_back("ben")
            if who != "joiner":
                ann_scope, ann = await nursery.start(held_as, meeting.ann.serving)
            else:
                ben_scope, ben = await nursery.start(held_as, meeting.ben.serving)
            await (await ann.agent("alice")).read()
            bob = await ben.agent("bob")
            await bob.join(meeting.opened.session_key)
            await trio.sleep(120)
            waits = await bob.join(meeting.opened.session_key)
            assert waits.status == "pending"
            assert waits.join_code is not None
            await (await ann.person()).approve("bob", join_code=waits.join_code)
            await settle()
            assert (await bob.come_in(meeting.opened.session_key)).messages
            assert tries(meeting) == []
            nursery.cancel_scope.cancel()

    run(main)


async def held(serving: Any, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with serving():
            task_status.started(scope)
            await trio.sleep_forever()


async def held_as(serving: Any, *, task_status: trio.TaskStatus[tuple[trio.CancelScope, Served]]) -> None:
    with trio.CancelScope() as scope:
        async with serving() as served:
            task_status.started((scope, served))
            await trio.sleep_forever()


# -- wrong keys --------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_a_try_and_nobody_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            assert await refused(meeting.bob, wrong_key(meeting)) == "unknown_key"
            assert tries(meeting) == [1]
            assert await (await meeting.ann_served.person()).requests() == []
            assert exchanges(meeting.ann, meeting) == exchanges(meeting.ben, meeting) == []
            # The right one is as good as before.
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert waits.join_code is not None

    run(main)


def test_five_wrong_secrets_of_one_person_end_the_key_for_that_person_also_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
                for number in range(1, TRIES_EACH + 1):
                    assert await refused(meeting.bob, wrong_key(meeting)) == "unknown_key"
                    assert tries(meeting) == [number]
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                await alice.read()
                assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
                assert tries(meeting) == [TRIES_EACH]
                person = await ann.person()
                listed = await person.ask("approvals.list", t.Params(), t.RequestList)
                assert "The person of bob tried a wrong key too often" in listed.notice
                assert "the person of 'bob' tried wrong keys too often" in await news(ann, alice)
                assert "bob" not in await news(ann, alice)
                # Those of another person have tries of their own.
                ally = await ann.agent("ally")
                assert (await ally.join(meeting.opened.session_key)).join_code is not None

    run(main)


def test_after_twenty_wrong_secrets_the_key_is_dead_and_the_owner_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            ally = await meeting.ann_served.agent("ally")
            rows = meeting.ann.uplinks._exchanges._tries
            await meeting.ann.uplinks._exchanges.prepare(RoomId(meeting.opened.room))
            [ref] = [key.ref for key in (await meeting.room_of(meeting.ann)).state.keys.values()]
            # Those of a few other persons were used before.
            rows[RoomId(meeting.opened.room)].update({(ref, f"A{n}"): TRIES_EACH - 1 for n in range(4)})
            rows[RoomId(meeting.opened.room)][ref, "A5"] = TRIES - 4 * (TRIES_EACH - 1) - 1
            assert await refused(ally, wrong_key(meeting)) == "unknown_key"
            await settle()
            room = await meeting.room_of(meeting.ann)
            assert [key.state(room.last_at) for key in room.state.keys.values()] == ["revoked"]
            person = await meeting.ann_served.person()
            listed = await person.ask("approvals.list", t.Params(), t.RequestList)
            assert "a wrong key was tried too often" in listed.notice
            # The owner's agents are told as well, once.
            assert "a key of 'auth-redesign' is dead" in await news(meeting.ann_served, meeting.alice)
            assert await news(meeting.ann_served, meeting.alice) == ""
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"

    run(main)


def test_a_key_is_dead_also_where_the_link_ends_in_the_moment_of_the_last_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            exchanges = meeting.ann.uplinks._exchanges
            await exchanges.prepare(room)
            [ref] = [key.ref for key in (await meeting.room_of(meeting.ann)).state.keys.values()]
            exchanges._tries[room].update({(ref, f"A{n}"): TRIES_EACH - 1 for n in range(4)})
            exchanges._tries[room][ref, "A5"] = TRIES - 4 * (TRIES_EACH - 1) - 1
            told = Link.tell

            async def broken(link: Link, op: str, params: t.Params, **more: Any) -> Any:
                if isinstance(params, t.ExchangeStep) and params.step == "failed":
                    monkeypatch.setattr(Link, "tell", told)
                    raise Refused("offline", home="studio")
                return await told(link, op, params, **more)

            monkeypatch.setattr(Link, "tell", broken)
            assert await refused(meeting.bob, wrong_key(meeting)) == "unknown_key"
            await trio.sleep(60)
            assert tries(meeting) == [1]
            mirror = await meeting.room_of(meeting.ann)
            assert [key.state(mirror.last_at) for key in mirror.state.keys.values()] == ["revoked"]
            listed = await (await meeting.ann_served.person()).ask("approvals.list", t.Params(), t.RequestList)
            assert "a wrong key was tried too often" in listed.notice

    run(main)


def test_whoever_only_wants_to_see_the_owner_s_share_has_tried_after_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            monkeypatch.setattr(meeting.ben.uplinks._exchanges, "go_on", nothing)
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert waits.join_code is None
            for _ in range(IDLE_MS // 60_000 + 2):
                meeting.relay.clock.move(seconds=61)
                await trio.sleep(11)
            assert tries(meeting) == [1]
            assert await state_at(meeting.ann, meeting) == ["failed"]

    run(main)


async def nothing(*args: object, **more: object) -> None:
    """A joiner that never goes on."""


def test_a_knock_that_the_owner_s_home_hears_of_after_seven_days_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            await meeting.bob.join(meeting.opened.session_key)
            meeting.relay.clock.move(seconds=KNOCK_MS / 1000)
            async with meeting.ann.serving() as ann:
                await (await ann.agent("alice")).read()
                await trio.sleep(30)
                assert await state_at(meeting.ann, meeting) == ["failed"]
            assert tries(meeting) == []

    run(main)


def test_who_knows_the_route_alone_and_is_gone_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MAX_EXCHANGES", 2)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        cid, dan = Home("cid", meeting.relay, tmp_path), Home("dan", meeting.relay, tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben, dan.serving() as dans:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            # Dan's is the older one of the two, and is there.
            dina = await dans.agent("dina")
            assert (await dina.join(wrong_key(meeting))).status == "pending"
            async with cid.serving() as cids:
                mal = await cids.agent("mal")
                assert (await mal.join(wrong_key(meeting))).status == "pending"
            assert (await meeting.bob.join(meeting.opened.session_key)).status == "pending"
            assert await state_at(dan, meeting) == ["pending"]
            async with meeting.ann.serving() as ann:
                await (await ann.agent("alice")).read()
                await settle()
                assert (await meeting.bob.join(meeting.opened.session_key)).join_code is not None
                # A guess is counted as before.
                assert tries(meeting) == [1]
                async with cid.serving() as cids:
                    mal = await cids.agent("mal")
                    assert await refused(mal, wrong_key(meeting)) == "unknown_key"
                    assert await state_at(cid, meeting) == ["lapsed", "failed"]
                    await settle()
                    assert exchanges(cid, meeting) == []
                assert tries(meeting) == [1, 1]

    run(main)


def test_who_made_place_while_it_waits_is_told_so_and_does_not_knock_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MAX_EXCHANGES", 1)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        cid = Home("cid", meeting.relay, tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben, cid.serving() as cids:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            errors: list[ParlerError] = []

            async def waits() -> None:
                params = t.JoinSession(session_key=meeting.opened.session_key or "", wait_ms=60_000)
                errors.append(await meeting.bob.refused("session.join", params))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                await settle()
                mal = await cids.agent("mal")
                assert (await mal.join(wrong_key(meeting))).status == "pending"
            assert [error.code for error in errors] == ["knock_over"]
            assert await state_at(meeting.ben, meeting) == ["lapsed"]
            assert exchanges(meeting.ben, meeting) == []
            assert (await meeting.bob.join(meeting.opened.session_key)).status == "pending"

    run(main)


@pytest.mark.parametrize("is_owner_there", [True, False])
def test_a_knock_that_is_taken_back_ends_the_exchange_at_both_ends(tmp_path: Path, is_owner_there: bool) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
                if is_owner_there:
                    await meeting.bob.join(meeting.opened.session_key)
                    assert len(await (await ann.person()).requests()) == 1
            if not is_owner_there:
                await meeting.bob.join(meeting.opened.session_key)
            key = t.WithdrawKnock(session_key=meeting.opened.session_key or "")
            await meeting.bob.ask("session.withdraw", key, t.WithdrawnKnock)
            await settle()
            assert exchanges(meeting.ben, meeting) == []
            assert (await meeting.bob.refused("message.recv", t.Recv())).code == "no_active_session"
            async with meeting.ann.serving() as ann:
                await (await ann.agent("alice")).read()
                await settle()
                person = await ann.person()
                assert await person.requests() == []
                assert exchanges(meeting.ann, meeting) == []
                assert tries(meeting) == []
                waits = await meeting.bob.join(meeting.opened.session_key)
                await person.approve("bob", join_code=waits.join_code)
                await settle()
                assert (await meeting.bob.come_in(meeting.opened.session_key)).messages

    run(main)


def test_a_guess_that_was_shown_is_a_try_also_where_its_knock_is_taken_back_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            owner = meeting.ann.uplinks._exchanges
            going = owner.go_on

            async def later(*args: Any, **more: Any) -> None:
                requests = (await meeting.room_of(meeting.ann)).state.requests.values()
                if not any(each.exchange is not None and each.exchange.shown for each in requests):
                    await going(*args, **more)

            owner.go_on = later  # type: ignore[method-assign]
            assert (await meeting.bob.join(wrong_key(meeting))).status == "pending"
            await meeting.bob.ask("session.withdraw", t.WithdrawKnock(), t.WithdrawnKnock)
            await settle()
            assert tries(meeting) == []
            owner.go_on = going  # type: ignore[method-assign]
            await trio.sleep(30)
            assert tries(meeting) == [1]
            assert exchanges(meeting.ann, meeting) == []

    run(main)


def test_who_made_place_while_it_was_away_hears_so_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MAX_EXCHANGES", 1)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        cid = Home("cid", meeting.relay, tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            async with cid.serving() as cids:
                assert (await (await cids.agent("mal")).join(wrong_key(meeting))).status == "pending"
            assert (await meeting.bob.join(meeting.opened.session_key)).status == "pending"
            async with cid.serving() as cids:
                mal = await cids.agent("mal")
                assert (await mal.refused("message.recv", t.Recv())).code == "join_pending"
                assert "waits for the machine" in await news(cids, mal)
                await trio.sleep(60)
                assert "is over, and nobody decided about it" in await news(cids, mal)
                assert (await mal.refused("message.recv", t.Recv())).code == "no_active_session"
                assert exchanges(cid, meeting) == []

    run(main)


def test_a_guess_that_the_relay_shows_of_an_exchange_that_is_over_is_a_try_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:

            def change(entry: t.RequestEntry) -> t.RequestEntry:
                assert entry.exchange is not None
                if entry.exchange.shown:
                    return replace(entry, state="lapsed", exchange=replace(entry.exchange, shown=b"p" * 64))
                return entry

            async with lying(meeting.ann, change):
                await meeting.bob.join(meeting.opened.session_key)
                await settle()
            assert tries(meeting) == [1]
            assert exchanges(meeting.ann, meeting) == []

    run(main)


def test_the_sixth_whom_the_person_would_be_asked_about_waits_until_one_is_decided_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MAX_PENDING_PER_KEY", 1)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        cid = Home("cid", meeting.relay, tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben, cid.serving() as cids:
            async with meeting.ann.serving() as ann:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            cat = await cids.agent("cat")
            for who in (meeting.bob, cat):
                assert (await who.join(meeting.opened.session_key)).status == "pending"
            async with meeting.ann.serving() as ann:
                await (await ann.agent("alice")).read()
                await settle()
                person = await ann.person()
                [asked] = await person.requests()
                await person.approve(asked.id)
                await settle()
                [other] = await person.requests()
                assert {asked.name, other.name} == {"bob", "cat"}
                assert tries(meeting) == []

    run(main)


# -- an older copy of the relay's store --------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["nothing", "begun"])
def test_both_ends_go_on_or_find_out_where_an_older_copy_of_the_relay_is_put_in_place(
    tmp_path: Path, kept: str
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                async with meeting.ann.serving() as ann:
                    meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                    meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
                copy = meeting.relay.copied()
                await meeting.bob.join(meeting.opened.session_key)
                if kept == "begun":
                    copy = meeting.relay.copied()
                async with meeting.ann.serving() as ann:
                    await (await ann.agent("alice")).read()
                    await settle()
                    assert (await meeting.bob.join(meeting.opened.session_key)).join_code is not None
            meeting.relay.store = copy
            async with meeting.relay.serving(), meeting.ann.serving() as ann:
                await (await ann.agent("alice")).read()
                await meeting.bob.refused("message.recv", t.Recv())
                await trio.sleep(120)
                person = await ann.person()
                if kept == "nothing":
                    # Nobody is asked about a request that the relay has no more, and nothing of it is kept.
                    assert await person.requests() == []
                    assert exchanges(meeting.ann, meeting) == exchanges(meeting.ben, meeting) == []
                    assert (await meeting.bob.refused("message.recv", t.Recv())).code == "no_active_session"
                waits = await meeting.bob.join(meeting.opened.session_key)
                assert waits.status == "pending"
                await person.approve("bob", join_code=waits.join_code)
                await settle()
                assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
                assert tries(meeting) == []

    run(main)


# -- a person decides otherwise ----------------------------------------------------------------------------


def test_who_is_denied_hears_so_and_comes_in_once_the_person_approves_after_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            waits = await meeting.bob.join(meeting.opened.session_key)
            person = await meeting.ann_served.person()
            await person.deny("bob")
            await settle()
            assert (await meeting.bob.join(meeting.opened.session_key)).status == "denied"
            await person.approve("bob", join_code=waits.join_code)
            await settle()
            assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
            assert exchanges(meeting.ann, meeting) == exchanges(meeting.ben, meeting) == []

    run(main)


def test_who_is_covered_by_the_denial_of_another_agent_of_its_person_is_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            bea = await meeting.bob_served.agent("bea")
            await meeting.bob.join(meeting.opened.session_key)
            person = await meeting.ann_served.person()
            await person.deny("bob")
            await settle()
            assert (await meeting.bob.join(meeting.opened.session_key)).hint.startswith("The person declined.")
            answer = await bea.join(meeting.opened.session_key)
            assert answer.status == "denied"
            assert "declined another agent of your person, bob" in answer.hint
            # Once that agent is approved after all, nothing covers the other one.
            await person.approve("bob")
            await settle()
            assert (await bea.join(meeting.opened.session_key)).status == "pending"

    run(main)


def test_a_relay_keeps_no_key_alive_whose_time_is_over_by_the_owner_s_clock(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.ann.world.clock = SteppedClock()
        async with meeting.relay.serving(), meeting.ben.serving() as ben, meeting.ann.serving() as ann:
            meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.", approval=False)
            await trio.sleep(30)
            [key] = (await meeting.room_of(meeting.ann)).state.keys.values()
            left = key.expires_at - meeting.ann.world.clock.now()
            # The clock of the relay stands still, and so does what it says of a knock.
            meeting.ann.world.clock.move(seconds=(left + LATE_MS) / 1000)
            meeting.relay.clock.move(seconds=-60)
            await trio.sleep(30)
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            # The relay tells both homes, and the joiner's may hear first.
            await trio.sleep(1)
            assert await state_at(meeting.ann, meeting) == ["failed"]
            assert tries(meeting) == []

    run(main)


def test_a_knock_that_came_in_time_while_the_owner_was_away_is_taken_also_behind_the_end_of_its_key(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben, meeting.ann.serving() as ann:
            meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            await trio.sleep(30)
            [key] = (await meeting.room_of(meeting.ann)).state.keys.values()
            meeting.wires.cut_off("ann")
            await meeting.bob.join(meeting.opened.session_key)
            meeting.relay.clock.move(seconds=(key.expires_at - meeting.relay.clock.now() + LATE_MS) / 1000)
            owner = meeting.ann.uplinks._exchanges
            going = owner.go_on
            owner.go_on = nothing  # type: ignore[method-assign]
            meeting.wires.bring_back("ann")
            await meeting.alice.read()
            # It is told all there is long before it comes to that knock.
            await trio.sleep(60)
            owner.go_on = going  # type: ignore[method-assign]
            await trio.sleep(60)
            assert len(await (await ann.person()).requests()) == 1

    run(main)


def test_what_an_item_costs_does_not_grow_with_what_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            person = await meeting.ann_served.person()
            for _ in range(3):
                assert await refused(meeting.bob, wrong_key(meeting)) == "unknown_key"
            ally = await meeting.ann_served.agent("ally")
            waits = await meeting.bob.join(meeting.opened.session_key)
            await person.deny("bob")
            await settle()
            owner, looked = meeting.ann.uplinks._exchanges, list[str]()
            honest = owner._as_owner

            async def counted(caller: Any, handle: Any, mirror: Any, request: Any, *more: Any) -> None:
                looked.append(request.state)
                await honest(caller, handle, mirror, request, *more)

            monkeypatch.setattr(owner, "_as_owner", counted)
            assert not owner.may_be_due(await meeting.room_of(meeting.ann))
            await ally.join(meeting.opened.session_key)
            assert looked
            assert set(looked) == {"pending"}
            # Who was denied is let in after all, and then nothing of it is left.
            await person.approve("bob", join_code=waits.join_code)
            await settle()
            assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
            assert [each for each in exchanges(meeting.ann, meeting) if each[0] == "owner"] == [("owner", "confirmed")]
            await person.approve("ally")
            await settle()
            assert exchanges(meeting.ann, meeting) == exchanges(meeting.ben, meeting) == []

    run(main)


def test_a_key_that_was_revoked_meanwhile_lets_nobody_ask(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            meeting.wires.cut_off("ben")
            key = t.RevokeSessionKey(session_key=meeting.opened.session_key or "")
            await meeting.alice.ask("session.revoke", key, t.RevokedKey)
            meeting.wires.bring_back("ben")
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            assert tries(meeting) == []

    run(main)


def test_an_agent_of_the_owner_s_own_home_comes_in_the_same_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:
            ally = await meeting.ann_served.agent("ally")
            assert (await ally.come_in(meeting.opened.session_key)).messages
            assert exchanges(meeting.ann, meeting) == []
            assert len((await meeting.room_of(meeting.ann)).state.epochs.roster) == 2

    run(main)


def test_an_agent_of_the_owner_s_own_home_comes_in_also_where_the_answer_to_its_knock_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home is told of the knock as the owner's, over a link that was made anew without the agent that knocked."""
    call, lost = LinkConnection.call, list[str]()

    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:

            async def without_answer(connection: LinkConnection, op: str, params: Any, *rest: Any) -> Any:
                if op == "link.knock" and not lost:
                    lost.append(op)
                    await call(connection, op, params, *rest)
                    meeting.wires.cut_off("ann")
                    raise ParlerError("home_unreachable")
                return await call(connection, op, params, *rest)

            async def unheard(link: Link, connection: LinkConnection, item: t.LinkItem) -> None:
                await trio.lowlevel.checkpoint()

            ally = await meeting.ann_served.agent("ally")
            monkeypatch.setattr(LinkConnection, "call", without_answer)
            params = t.JoinSession(session_key=meeting.opened.session_key or "")
            with monkeypatch.context() as breaking:
                # What the relay tells of the knock is lost with its answer.
                breaking.setattr(Link, "_take", unheard)
                assert (await ally.refused("session.join", params)).code == "home_unreachable"
                await settle()
            assert await state_at(meeting.ann, meeting) == []
            meeting.wires.bring_back("ann")
            await meeting.alice.read()
            await trio.sleep(30)
            assert await state_at(meeting.ann, meeting) == ["approved"]
            assert (await ally.come_in(meeting.opened.session_key)).messages
            assert (lost, exchanges(meeting.ann, meeting)) == (["link.knock"], [])

    run(main)


# -- a relay that lies to the one who joins ----------------------------------------------------------------


@asynccontextmanager
async def lying(home: Home, change: Change) -> AsyncIterator[None]:
    """A home is told of requests what the relay makes of them."""
    (link,) = home.uplinks._links.values()
    honest = link._take

    async def take(connection: Any, item: t.LinkItem) -> None:
        if item.card is not None:
            item = replace(item, card=replace(item.card, requests=[change(each) for each in item.card.requests]))
        await honest(connection, item)

    link._take = take  # type: ignore[method-assign]
    try:
        yield
    finally:
        link._take = honest  # type: ignore[method-assign]


def saying(**said: bytes) -> Change:
    def change(entry: t.RequestEntry) -> t.RequestEntry:
        assert entry.exchange is not None
        return replace(entry, exchange=replace(entry.exchange, **said))

    return change


@pytest.mark.parametrize("share", [b"B" + bytes(32), b"B" * SHARE, b"A" * SHARE], ids=["zeros", "no point", "own side"])
def test_a_share_that_nobody_can_have_made_shows_the_relay_nothing(tmp_path: Path, share: bytes) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting, lying(meeting.ben, saying(answered=share)):
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            assert exchanges(meeting.ben, meeting) == []

    run(main)


def guessing(meeting: Meeting, secret: str, agreed: list[pake.Agreed]) -> Change:
    """What the relay makes of a knock that plays the owner with a secret; it keeps what follows from each guess."""
    answers: dict[bytes, bytes] = {}

    def change(entry: t.RequestEntry) -> t.RequestEntry:
        assert entry.exchange is not None
        state = meeting.relay_served._desk.rooms.open_actor(RoomId(meeting.opened.room))
        assert state is not None
        share = entry.exchange.share
        if share not in answers:
            answers[share], found = pake.answer(
                secret,
                home=state.aggregate.state.home,
                route=key_of(meeting).key,
                card=entry.knock,
                share=share,
                owner=state.aggregate.state.owner_principal,
                random=meeting.relay_served._desk.random.bytes,
            )
            agreed.append(found)
        return replace(entry, exchange=replace(entry.exchange, answered=answers[share]))

    return change


def test_a_relay_that_guesses_the_secret_is_shown_a_proof_that_does_not_help_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            async with lying(meeting.ben, guessing(meeting, "00000000", [])):
                assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            # The owner's home was shown a proof for another share: that was a try, and nobody was asked.
            assert tries(meeting) == [1]
            assert await (await meeting.ann_served.person()).requests() == []

    run(main)


def test_a_relay_that_plays_the_owner_has_one_guess_however_long_the_joiner_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            agreed: list[pake.Agreed] = []
            proofs: set[bytes] = set()
            told = Link.tell

            async def kept(link: Link, op: str, params: t.Params, **more: Any) -> Any:
                if isinstance(params, t.ExchangeStep) and params.step == "shown":
                    # The relay keeps the proof to itself, so the owner's home counts nothing.
                    proofs.add(params.text[:PROOF])
                    return t.ExchangeNoted()
                return await told(link, op, params, **more)

            monkeypatch.setattr(Link, "tell", kept)
            async with lying(meeting.ben, guessing(meeting, "00000000", agreed)):
                for _ in range(3):
                    await meeting.bob.join(meeting.opened.session_key)
                    await trio.sleep(60)
            (guess,), (proof,) = agreed, proofs
            with pytest.raises(Refused, match="unknown_key"):
                guess.confirmed(proof)
            assert tries(meeting) == []

    run(main)


@pytest.mark.parametrize("proof", [bytes(PROOF), b"p" * PROOF])
def test_an_owner_s_proof_that_is_none_is_a_lie_and_shows_nobody_a_code(tmp_path: Path, proof: bytes) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:

            def confirmed(entry: t.RequestEntry) -> t.RequestEntry:
                assert entry.exchange is not None
                said = proof if entry.exchange.shown else b""
                return replace(entry, exchange=replace(entry.exchange, confirmed=said))

            async with lying(meeting.ben, confirmed):
                begun_at = trio.current_time()
                for _ in range(2):
                    assert await refused(meeting.bob, meeting.opened.session_key) == "relay_equivocation"
                # Nothing is asked of a home that contradicted itself, and nothing waits for what it would say.
                assert trio.current_time() - begun_at < SHOWN_S
            state = (await meeting.room_of(meeting.ben)).state
            assert (state.contradicted, state.alarm) == ("exchange", "relay_equivocation")

    run(main)


@pytest.mark.parametrize("granted", [b"", b"g" * 90])
def test_who_is_let_in_without_the_owner_s_own_answer_finds_the_lie(tmp_path: Path, granted: bytes) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            waits = await meeting.bob.join(meeting.opened.session_key)
            async with lying(meeting.ben, saying(granted=granted)):
                await (await meeting.ann_served.person()).approve("bob", join_code=waits.join_code)
                await settle()
            state = (await meeting.room_of(meeting.ben)).state
            assert (state.contradicted, state.alarm) == ("exchange", "relay_equivocation")

    run(main)


def test_who_hears_of_the_owner_s_proof_and_of_the_decision_at_once_accuses_nobody(tmp_path: Path) -> None:
    """As an agent does that was away while the owner's home let it in."""

    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:

            def late(entry: t.RequestEntry) -> t.RequestEntry:
                assert entry.exchange is not None
                if entry.state != "pending":
                    return entry
                return replace(entry, exchange=replace(entry.exchange, confirmed=b""))

            async with lying(meeting.ben, late):
                await meeting.bob.join(meeting.opened.session_key)
                await settle()
            assert (await meeting.room_of(meeting.ben)).state.alarm is None
            assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
            assert exchanges(meeting.ben, meeting) == []

    run(main)


def test_a_sealed_room_is_not_joined_by_a_key_of_a_clear_one_nor_the_other_way_round(tmp_path: Path) -> None:
    """A relay that shows another room for a route would be told a whole key, or give another room to read."""

    async def main() -> None:
        async with opened(tmp_path) as meeting:
            clear = await meeting.alice.open("in clear", "Nothing.", clear=True)
            assert (clear.sealed, meeting.opened.sealed) == (False, True)
            key, sealed = codes.read_key(clear.session_key or ""), key_of(meeting)
            (link,) = meeting.ben.uplinks._links.values()
            honest = link.call

            async def swapped(op: str, params: Any, **more: Any) -> Any:
                if op == "link.find":
                    other = key.key if params.session_key == sealed.key else sealed.key
                    params = t.FindKey(session_key=other)
                return await honest(op, params, **more)

            link.call = swapped  # type: ignore[method-assign]
            for typed in (clear.session_key, meeting.opened.session_key):
                assert await refused(meeting.bob, typed) == "wrong_room"

    run(main)


# -- a relay that lies to the owner's home -----------------------------------------------------------------


@pytest.mark.parametrize("side", [b"A", b"B"])
def test_a_share_that_the_joiner_did_not_make_is_a_try(tmp_path: Path, side: bytes) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            other = pake.Joiner.begin(
                key_of(meeting).secret[::-1],
                home=(await meeting.room_of(meeting.ann)).state.home,
                route=key_of(meeting).key,
                card=b"another",
                random=meeting.ann.world.random.bytes,
            )
            async with lying(meeting.ann, saying(share=side + other.share[1:])):
                assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            assert await (await meeting.ann_served.person()).requests() == []
            # What is no share of a joiner at all was answered with nothing, and so is no guess.
            assert tries(meeting) == ([1] if side == b"A" else [])

    run(main)


def test_whom_the_owner_s_home_did_not_confirm_is_let_in_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay says that the owner's home confirmed it: then the person is shown a request, and can do nothing."""

    async def main() -> None:
        async with opened(tmp_path) as meeting:
            monkeypatch.setattr(meeting.ben.uplinks._exchanges, "go_on", nothing)
            async with lying(meeting.ann, saying(answered=b"B" * SHARE, shown=b"p" * 64, confirmed=b"c" * PROOF)):
                with monkeypatch.context() as away:
                    away.setattr(meeting.ann.uplinks._exchanges, "go_on", nothing)
                    await meeting.bob.join(meeting.opened.session_key)
                    person = await meeting.ann_served.person()
                    for code in ("0000", None):
                        error = await person.refused("session.approve", t.DecideJoin(agent="bob", join_code=code))
                        assert error.code == "knock_unfinished"
            members = (await meeting.room_of(meeting.ann)).state.members.values()
            assert [each.handle for each in members if each.present] == ["alice"]

    run(main)


def test_an_exchange_that_is_shown_once_more_lets_nobody_in(tmp_path: Path) -> None:
    """The relay repeats all that a joiner said with an open key: as the same agent's, and as an accomplice's."""

    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:
            told: list[t.RequestEntry] = []

            def kept(entry: t.RequestEntry) -> t.RequestEntry:
                told.append(entry)
                return entry

            async with lying(meeting.ann, kept):
                assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
            bob = told[-1]
            assert bob.exchange is not None
            (link,) = meeting.ann.uplinks._links.values()
            again = replace(
                bob,
                request="q_again",
                state="pending",
                decision=b"",
                decision_signature=b"",
                exchange=replace(bob.exchange, granted=b""),
            )
            asked = spied(link)
            for entry in (again, replace(again, request="q_begun", exchange=t.ExchangeEntry(share=bob.exchange.share))):
                card = t.Card(whole=False, home=link.home, requests=[entry])
                await link._take(link.connection, t.LinkItem(room=meeting.opened.room, card=card))  # type: ignore[arg-type]
                await settle()
            steps = [(params.request, params.step) for op, params in asked if op == "link.exchange"]
            assert ("q_again", "failed") in steps
            assert not any(step == "confirmed" for _, step in steps)
            assert not any(op == "link.decide" for op, _ in asked)

    run(main)


def test_a_share_that_is_confirmed_belongs_to_one_request(tmp_path: Path) -> None:
    """The relay shows it beside another request while the first one waits for the person."""

    async def main() -> None:
        async with opened(tmp_path) as meeting:
            told: list[t.RequestEntry] = []

            def kept(entry: t.RequestEntry) -> t.RequestEntry:
                told.append(entry)
                return entry

            async with lying(meeting.ann, kept):
                assert (await meeting.bob.join(meeting.opened.session_key)).join_code is not None
            (link,) = meeting.ann.uplinks._links.values()
            asked = spied(link)
            card = t.Card(whole=False, home=link.home, requests=[replace(told[-1], request="q_again")])
            await link._take(link.connection, t.LinkItem(room=meeting.opened.room, card=card))  # type: ignore[arg-type]
            await settle()
            assert ("q_again", "failed") in [(said.request, said.step) for op, said in asked if op == "link.exchange"]
            room = await meeting.room_of(meeting.ann)
            assert meeting.ann.uplinks._exchanges.code(room.state.room, room.state.requests["q_again"]) is None  # type: ignore[index]

    run(main)


def spied(link: Link) -> list[tuple[str, Any]]:
    """What a home asks of the relay from now on."""
    asked: list[tuple[str, Any]] = []
    tell, call = link.tell, link.call

    async def told(op: str, params: Any, **more: Any) -> Any:
        asked.append((op, params))
        return await tell(op, params, **more)

    async def called(op: str, params: Any, **more: Any) -> Any:
        asked.append((op, params))
        return await call(op, params, **more)

    link.tell, link.call = told, called  # type: ignore[method-assign]
    return asked


def test_who_was_put_out_is_not_let_in_by_an_open_key_whatever_the_relay_says_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:
            assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            handle = await meeting.relay_served._desk.rooms.get(RoomId(meeting.opened.room))
            for member in handle.aggregate.state.members.values():
                # A relay that forgot.
                member.barred = False
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert (waits.status, len(waits.join_code or "")) == ("pending", 4)
            await trio.sleep(30)
            assert await state_at(meeting.ann, meeting) == ["approved", "pending"]

    run(main)


def test_a_member_that_only_a_key_shows_is_none_in_a_sealed_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            state = (await meeting.room_of(meeting.ann)).state
            [bob] = [each for each in state.members.values() if each.agent != state.owner]
            (link,) = meeting.ben.uplinks._links.values()
            entry = t.MemberEntry(
                agent="U" + "C" * 55,
                principal=bob.principal,
                handle="mallory",
                host="",
                role="",
                present=True,
                joined_at=state.epochs.at,
                knock=b"knock",
                knock_signature=bytes(64),
                terms=b"terms",
                terms_signature=bytes(64),
            )
            card = t.Card(whole=False, home=state.home, members=[entry], moves=99)
            await link.mirrors.take(t.LinkItem(room=meeting.opened.room, card=card))
            assert "mallory" not in [m.handle for m in (await meeting.room_of(meeting.ben)).state.members.values()]

    run(main)


@pytest.mark.parametrize("text", [b"", b"\x00", b"\x93\x01\x02\x03", msgspec.msgpack.encode((b"k", b"s", "host", 1))])
def test_a_knock_that_is_none_is_no_knock(tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The joiner has the key, and seals something else beside its proof."""

    async def main() -> None:
        async with opened(tmp_path) as meeting:
            honest = pake.Agreed.seal_knock
            monkeypatch.setattr(pake.Agreed, "seal_knock", lambda self, said, random: honest(self, text, random))
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            assert tries(meeting) == []
            assert await state_at(meeting.ann, meeting) == ["failed"]

    run(main)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_joiner_with_a_key_to_which_nothing_can_be_wrapped_never_is_a_request(
    tmp_path: Path, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay takes such a key, and the owner's machine too where it does not look at what it is told."""
    monkeypatch.setattr("parlerd.engine.authors.check_key", lambda public: None)
    if is_told:
        monkeypatch.setattr("parlerd.uplink.arriving.records.check_key", lambda public: None)

    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:
            secrets, honest = meeting.ben.uplinks._secrets, meeting.ben.uplinks._secrets.told_key

            async def told_key(home: HomeId, agent: AgentId) -> Attested:
                sound = check((await honest(home, agent)).body, SealingKey)
                by = By(agent, secrets._signers.principal, "", "", "link")
                return secrets._author.attest(replace(sound, key=bytes(32), nonce=b""), by)

            monkeypatch.setattr(secrets, "told_key", told_key)
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            state = (await meeting.room_of(meeting.ann)).state
            [request] = state.requests.values()
            assert request.state == "failed"
            assert (request.agent in state.epochs.told) is is_told
            assert request.agent not in state.members
            # The key of the session was right, so this is no try.
            assert tries(meeting) == []

    run(main)


def test_nothing_of_an_exchange_is_shown_by_a_repr(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            await meeting.bob.join(meeting.opened.session_key)
            room = RoomId(meeting.opened.room)
            rows = [row for home in (meeting.ann, meeting.ben) for row in home.world.store.key_exchanges(room)]
            assert {row.role for row in rows} == {"joiner", "owner"}
            shown = repr((rows, meeting.ann.uplinks._exchanges, key_of(meeting)))
            for row in rows:
                assert repr(row.state)[2:-1] not in shown
            assert key_of(meeting).secret not in shown
            with pytest.raises(Refused):
                codes.read_key(key_of(meeting).code)

    run(main)


def test_a_relay_that_says_a_moment_behind_every_calendar_hinders_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            call = Link.call

            async def late(link: Link, op: str, params: t.Params, **more: Any) -> Any:
                answer = await call(link, op, params, **more)
                return replace(answer, heard_at=2**53 - 1) if isinstance(answer, t.Knocked) else answer

            monkeypatch.setattr(Link, "call", late)
            monkeypatch.setattr(meeting.ann.uplinks._exchanges, "go_on", nothing)
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert waits.status == "pending"
            assert "The relay last heard of that machine at 287396-10-12" in (waits.hint or "")

    run(main)


def test_the_secret_of_a_knock_that_broke_off_goes_after_seven_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            meeting.alice = await ann.agent("alice")
            meeting.opened = await meeting.alice.open("auth redesign", "Chose PKCE.")
            async with meeting.ben.serving() as ben:
                bob, call = await ben.agent("bob"), Link.call

                async def broken(link: Link, op: str, params: t.Params, **more: Any) -> Any:
                    if op == "link.knock":
                        raise Refused("home_unreachable", home=link.name)
                    return await call(link, op, params, **more)

                with monkeypatch.context() as patched:
                    patched.setattr(Link, "call", broken)
                    assert await refused(bob, meeting.opened.session_key) == "home_unreachable"
            # It may have been heard, so for as long as a knock waits the exchange can go on.
            async with meeting.ben.serving():
                await trio.sleep(30)
                assert exchanges(meeting.ben, meeting) == [("joiner", "begun")]
            meeting.relay.clock.move(seconds=KNOCK_MS / 1000 + 1)
            async with meeting.ben.serving():
                await trio.sleep(30)
                assert exchanges(meeting.ben, meeting) == []

    run(main)


def test_a_record_other_than_the_one_that_was_promised_is_found_also_behind_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            waits = await meeting.bob.join(meeting.opened.session_key)
            with monkeypatch.context() as patched:
                patched.setattr("parlerd.uplink.asking.deciding._in_force", lambda *_: (2, b"x" * 32))
                patched.setattr(meeting.ben.uplinks._exchanges, "go_on", nothing)
                person = await meeting.ann_served.person()
                await person.approve("bob", join_code=waits.join_code)
                await trio.sleep(30)
                params = t.NameSuccessor(room=meeting.opened.room, person="bob")
                await person.ask("room.successor", params, t.SuccessorNamed)
                await trio.sleep(30)
                assert (await meeting.room_of(meeting.ben)).state.epochs.number == 3
            await trio.sleep(60)
            assert (await meeting.room_of(meeting.ben)).state.contradicted == "record"

    run(main)
