"""Section F of the security spec: a daemon that lies to a relay, and what a relay gives away.

The proofs of both ends stand in `relay/test_link.py` and `uplink/test_connection.py`, and a relay that lies in
`uplink/arriving/`; here is who signed things for one purpose and finds them used for another.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.errors import ParlerError
from parlerd.core.model import INVOCATION, MAX_PENDING_PER_KEY, MAX_TEXT, AgentId, Position, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.engine import Engine
from parlerd.engine.join_codes import CODE_PAUSE_S, CODE_TRIES
from parlerd.engine.throttle import CALLER_BURST, HOME_BURST
from parlerd.identity.codes import fingerprint
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.store.port import Store
from parlerd.wire import codec
from relay import turnstile
from relay.turnstile import Turnstile
from tests.support.engine import FarDriver, PlugDriver, Served, World, engine_world, run, texts
from tests.support.faces import PassingFace
from tests.support.fake_engine import FakeEngine
from tests.support.linked import Elsewhere, LinkParty
from tests.support.links import CERTIFICATE, OTHER_PERSON, PERSON, Book, dialled, links_of
from tests.support.links import SECRET as JOIN_SECRET
from tests.support.message_streams import pair
from tests.support.relayed import SECRET, homes_of
from tests.uplink.test_relayed import meeting_in, met


async def olga_and_ann(served: Served, **how: Any) -> tuple[LinkParty, LinkParty, t.OpenedSession]:
    """Olga, of one home, opened a room at this one; ann and bea, of another, have its key."""
    olga = await Elsewhere("olga").link(served, "olive")
    ann = await Elsewhere("mia").link(served, "ann", "bea")
    return olga, ann, await olga.open("olive", **how)


async def pending(link: LinkParty, room: str) -> tuple[t.Card, list[t.RequestEntry]]:
    async with link.following(room) as told:
        card = told.cards[0]
        return card, [request for request in card.requests if request.state == "pending"]


# -- what was signed for one purpose, used for another ---------------------------------------------------------


def test_f23_a_decision_counts_for_one_request_in_one_room_and_once() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, first = await olga_and_ann(served, topic="one")
            second = await olga.open("olive", "two", called="second")
            zed = await Elsewhere("zoe").link(served, "zed")
            for room in (first, second):
                await ann.knock("ann", room)
            await zed.knock("zed", first)
            card, requests = await pending(olga, first.room)
            mine = next(each for each in requests if each.name == "ann")
            decision = olga.deciding(first.room, card, mine)
            # In the owner's other room, where the same agent knocks.
            moved = msgspec.structs.replace(decision, room=second.room)
            assert (await olga.refused("link.decide", moved)).code in ("statement_refused", "no_such_request")
            await olga.call("link.decide", decision)
            assert (await olga.refused("link.decide", decision)).code == "already_decided"
            # The words that let ann in do not let anybody else in, whatever else of the call is changed.
            assert (await zed.knock("zed", first)).status == "pending"
            assert (await ann.knock("ann", second)).status == "pending"
            # Ann leaves: the decision of before does not bring her back.
            await ann.leave("ann", first.room)
            assert (await olga.refused("link.decide", decision)).code == "already_decided"
            assert (await ann.refused("link.post", ann.person.envelope("ann", first.room, "x"))).code == "no_such_room"

    run(main)


def test_f23_a_signed_knock_is_no_use_to_anybody_else_and_in_no_other_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, first = await olga_and_ann(served, topic="one", approval=False)
            second = await olga.open("olive", "two", called="second", approval=False)
            knock = await ann.knocking("ann", first)
            eve = await Elsewhere("eve").link(served, "eve")
            assert (await eve.refused("link.knock", knock)).code == "not_permitted"
            moved = msgspec.structs.replace(knock, session_key=str(second.session_key))
            refused = await ann.refused("link.knock", moved)
            assert (refused.code, refused.details["what"]) == ("statement_refused", "room")
            for room in (first, second):
                assert {member.handle for member in await roster(olga, room.room)} == {"olive"}

    run(main)


async def roster(link: LinkParty, room: str) -> list[t.MemberEntry]:
    async with link.following(room) as told:
        return told.cards[0].members


def test_f23_a_signed_message_stands_in_one_room_once_and_in_its_authors_name() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, first = await olga_and_ann(served, topic="one", approval=False)
            second = await olga.open("olive", "two", called="second", approval=False)
            for room in (first, second):
                for who in ("ann", "bea"):
                    await ann.knock(who, room)
            post = ann.person.envelope("ann", first.room, "x")
            for change, what in (
                ({"room": second.room}, "room"),
                ({"agent": ann.person.agent("bea")}, "signature"),
                ({"id": "m_other"}, "id"),
                ({"body": post.body + b"\x00"}, None),
                ({"body": ann.person.envelope("ann", first.room, "y").body}, "signature"),
            ):
                error = await ann.refused("link.post", msgspec.structs.replace(post, **change))
                assert error.code == "envelope_refused", change
                assert what is None or error.details["what"] == what
            assert not (await ann.ask("link.post", post, t.Posted)).replayed
            assert (await ann.ask("link.post", post, t.Posted)).replayed
            page = await olga.ask(
                "link.pull", t.PullHistory(room=first.room, agent=olga.person.agent("olive"), after=0), t.LinkPage
            )
            assert [message.body for message in page.messages] == [post.body]

    run(main)


def test_f23_nobody_ends_the_room_of_another_person() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served, approval=False)
            await ann.knock("ann", opened)
            as_person = t.LeaveRoom(room=opened.room, as_person=True)
            assert (await ann.refused("link.close", as_person)).code == "no_such_room"
            stolen = t.LeaveRoom(room=opened.room, agent=olga.person.agent("olive"))
            assert (await ann.refused("link.close", stolen)).code == "no_such_room"
            assert (await olga.post("olive", opened.room, "still here")).seq

    run(main)


class Swapping(PassingFace):
    """Stands before a relay's engine and answers every key with the room of an accomplice, who was told the key."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.swapped: t.FoundKey | None = None

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op == "link.find" and self.swapped is not None:
            return self.swapped
        return await self._engine.call(op, params, caller)


def test_f23_a_relay_that_answers_a_key_with_another_room_is_found_out_before_anybody_knocks(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        faces: list[Swapping] = []

        def between(engine: Engine) -> Swapping:
            faces.append(Swapping(engine))
            return faces[0]

        meeting.relay.face = between
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            opened = await meeting.alice.open("payroll", clear=True)
            assert opened.session_key is not None
            # Eve's room is signed by Eve as it should be, under the name of Alice's, and lets everybody in.
            at_relay = Served(World(clock=meeting.relay.clock), relay, PlugDriver(meeting.relay.store))
            eve = await Elsewhere("eve").link(at_relay, "alice")
            trap = await eve.open("alice", "payroll", called="payroll", approval=False)
            faces[0].swapped = await eve.find(trap.session_key)
            cara = await ben.agent("cara")
            refused = await cara.refused("session.join", t.JoinSession(session_key=opened.session_key))
            assert refused.code == "wrong_room"
            assert await ben.engine.desk.library.room_of_key(ben.world.keys.key_id(opened.session_key[:8])) is None
            assert RoomId(trap.room) not in await ben.engine.desk.library.all_rooms()
            # The same key, from a relay that tells the truth, and one that was mistyped: nobody is accused.
            faces[0].swapped = None
            key, binding = opened.session_key[:8], opened.session_key[9:17]
            typo = ("B" if binding[0] == "A" else "A") + binding[1:]
            mistyped = t.JoinSession(session_key=opened.session_key.replace(binding, typo))
            assert (await cara.refused("session.join", mistyped)).code == "wrong_room"
            assert (await cara.join(opened.session_key)).status == "pending"
            room = (await ben.engine.desk.rooms.get(RoomId(opened.room))).aggregate
            assert not room.state.contradicted
            # A key of a relay that does not say its room is none.
            name = opened.session_key.partition("@")[2]
            assert (
                await cara.refused("session.join", t.JoinSession(session_key=f"{key}@{name}"))
            ).code == "unknown_key"

    run(main)


def test_f23_no_relay_is_told_what_binds_a_key_to_its_room(tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(Swapping):
        async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
            told.append(repr(params))
            return await super().call(op, params, caller)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = Listening
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            assert meeting.opened.session_key is not None
            key, binding = meeting.opened.session_key.partition("@")[0].split("-")
            assert any(key in each for each in told)
            assert not any(binding in each for each in told)

    run(main)


# -- guesses ---------------------------------------------------------------------------------------------------


def test_f23_guesses_are_counted_alike_wherever_a_key_can_be_tried() -> None:
    """`link.find`, `link.knock` and `link.open` draw on one budget: the last would tell which keys are in use."""

    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served)
            eve = await Elsewhere("eve").link(served, "eve")
            knock = await ann.knocking("ann", opened)
            own = msgspec.structs.replace(knock, session_key="ZZZZZZZZ")
            heard = []
            for number in range(int(CALLER_BURST) + 2):
                params, _ = eve.opening("eve", f"topic {number}", session_key=str(opened.session_key))
                tries: list[tuple[str, t.Params]] = [
                    ("link.find", t.FindKey(session_key=f"ZZZZZ{number:03}")),
                    ("link.open", params),
                ]
                heard.append((await eve.refused(*tries[number % 2])).code)
            assert set(heard[: int(CALLER_BURST)]) == {"unknown_key", "invalid_param"}
            assert set(heard[int(CALLER_BURST) :]) == {"throttled"}
            # Ann is another person, and knocks with a wrong key as she likes.
            assert (await ann.refused("link.knock", own)).code == "unknown_key"
            refused = await eve.refused("link.find", t.FindKey(session_key="ZZZZZZZZ"))
            assert refused.retry_after_ms is not None
            await trio.sleep(refused.retry_after_ms / 1000)
            assert (await eve.find(opened.session_key)).room == opened.room

    run(main)


@pytest.mark.parametrize("op", ["link.find", "link.open", "link.knock"])
def test_f23_guesses_that_are_made_at_the_same_time_are_no_more(op: str) -> None:
    async def main() -> None:
        # A store over a network: every question lets others ask meanwhile.
        async with engine_world(driver=FarDriver) as served:
            _, ann, opened = await olga_and_ann(served)
            eve = Elsewhere("eve")
            links = [await eve.link(served, "eve") for _ in range(3)]
            knock = await ann.knocking("ann", opened)
            mine = msgspec.structs.replace(await links[0].knocking("eve", opened), session_key="ZZZZZZZZ")
            assert knock.statement != mine.statement
            heard: list[str] = []

            async def guess(link: LinkParty, number: int) -> None:
                tries: dict[str, t.Params] = {
                    "link.find": t.FindKey(session_key=f"ZZZZZ{number:03}"),
                    "link.knock": mine,
                    "link.open": link.opening("eve", f"topic {number}", session_key=str(opened.session_key))[0],
                }
                heard.append((await link.refused(op, tries[op])).code)

            async with trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(guess, links[number % 3], number)
            assert heard.count("throttled") == 60 - CALLER_BURST
            assert set(heard) <= {"throttled", "unknown_key", "invalid_param"}

    run(main)


def test_f23_guesses_of_many_people_delay_neither_each_other_nor_the_home() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served)
            here = await (await served.agent("alice")).open("local")
            for number in range(int(HOME_BURST / CALLER_BURST) + 2):
                eve = await Elsewhere(f"eve{number}").link(served, "eve")
                for guess in range(int(CALLER_BURST) + 1):
                    await eve.refused("link.find", t.FindKey(session_key=f"ZZZ{number:02}{guess:03}"))
            before = trio.current_time()
            assert (await ann.find(opened.session_key)).room == opened.room
            assert (await (await served.agent("bob")).join(here.session_key)).status == "pending"
            assert trio.current_time() == before

    run(main)


def test_f23_guesses_of_the_join_secret_are_counted_by_address_and_hold_back_no_other_and_no_login() -> None:
    async def main() -> None:
        book, door = Book(PERSON), Turnstile(turnstile.Limits(unproven=1_000))
        links = links_of(FakeEngine(), book)

        async def come(address: str, key: SigningKey, secret: bytes | None) -> str:
            """How a daemon fares that comes from this address; empty where it gets its link."""
            visit = door.admit(address)
            assert visit is not None
            ours, theirs = pair(CERTIFICATE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(links.serve, theirs, visit)
                try:
                    async with dialled(ours, key=key, secret=secret):
                        return ""
                except ParlerError as error:
                    return error.code
                finally:
                    door.leave(visit)

        wrong, eve = bytes(16), OTHER_PERSON
        heard = [await come("192.0.2.9", eve, wrong) for _ in range(int(CALLER_BURST) + 3)]
        assert heard == ["wrong_secret"] * int(CALLER_BURST) + ["throttled"] * 3
        # From there not with the right secret either; but whoever is enrolled logs in from there, as from anywhere.
        assert await come("192.0.2.9", eve, JOIN_SECRET) == "throttled"
        assert await come("192.0.2.9", PERSON, None) == ""
        # From many addresses: strangers together have a budget, of which those who were here before need nothing.
        assert await come("203.0.113.5", PERSON, None) == ""
        many = [await come(f"198.51.100.{number}", eve, wrong) for number in range(1, 30)]
        assert set(many) == {"wrong_secret", "throttled"}
        assert many.count("wrong_secret") <= HOME_BURST
        newcomer = SigningKey("principal", b"\7" * 32)
        assert await come("198.51.100.99", newcomer, JOIN_SECRET) == "throttled"
        assert await come("203.0.113.5", newcomer, JOIN_SECRET) == ""
        assert await come("198.51.100.1", PERSON, None) == ""
        # Strangers are let in again as their budget comes back.
        await trio.sleep(60)
        assert await come("198.51.100.99", SigningKey("principal", b"\x08" * 32), JOIN_SECRET) == ""

    run(main)


def test_f23_wrong_codes_count_for_one_request_wherever_they_are_typed_and_for_no_other() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            zed = await Elsewhere("zoe").link(served, "zed")
            knocks = {"ann": await ann.knock("ann", opened), "zed": await zed.knock("zed", opened)}
            card, requests = await pending(olga, opened.room)
            asked = {request.name: request for request in requests}

            async def type_code(name: str, code: str, *, decide: bool) -> str:
                request = asked[name]
                params: t.Params = t.CheckCode(room=opened.room, request=request.request, join_code=code, door="form")
                if decide:
                    params = msgspec.structs.replace(
                        olga.deciding(opened.room, card, request), join_code=code, door="form"
                    )
                try:
                    await olga.call("link.decide" if decide else "link.check_code", params)
                except ParlerError as error:
                    return error.code
                return ""

            wrong = "0000" if knocks["ann"].join_code != "0000" else "1111"
            heard = [await type_code("ann", wrong, decide=bool(number % 2)) for number in range(CODE_TRIES + 1)]
            assert heard == ["code_mismatch"] * CODE_TRIES + ["throttled"]
            # The right code waits as long as a wrong one, and the other's request is decided meanwhile.
            assert await type_code("ann", str(knocks["ann"].join_code), decide=True) == "throttled"
            assert await type_code("zed", str(knocks["zed"].join_code), decide=True) == ""
            await trio.sleep(CODE_PAUSE_S)
            assert await type_code("ann", str(knocks["ann"].join_code), decide=True) == ""

    run(main)


def test_f23_one_person_has_one_place_in_a_keys_queue_however_many_agents_they_bring() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            eve = await Elsewhere("eve").link(served, *(f"eve{number}" for number in range(MAX_PENDING_PER_KEY + 1)))
            await eve.knock("eve0", opened)
            for number in range(1, MAX_PENDING_PER_KEY + 1):
                knock = await eve.knocking(f"eve{number}", opened)
                assert (await eve.refused("link.knock", knock)).code == "too_many_pending"
            assert (await ann.knock("ann", opened)).status == "pending"
            _, requests = await pending(olga, opened.room)
            assert [request.name for request in requests] == ["eve0", "ann"]

    run(main)


def test_f23_a_persons_place_in_a_queue_is_one_also_at_the_same_time_and_after_a_restart() -> None:
    async def main() -> None:
        world, heard = World(), list[str]()
        names = [f"eve{number}" for number in range(4)]

        async def knock(link: LinkParty, params: t.KnockAtRoom) -> None:
            try:
                heard.append((await link.ask("link.knock", params, t.Knocked)).status)
            except ParlerError as error:
                heard.append(error.code)

        async with world.serving() as served:
            _, _, opened = await olga_and_ann(served)
            eve = Elsewhere("eve")
            links = [await eve.link(served, *names), await eve.link(served, *names)]
            knocks = [(links[n % 2], await links[n % 2].knocking(name, opened)) for n, name in enumerate(names)]
            async with trio.open_nursery() as nursery:
                for each in knocks:
                    nursery.start_soon(knock, *each)
            assert sorted(heard) == ["pending", *["too_many_pending"] * 3]
        async with world.serving() as served:
            link = await eve.link(served, *names)
            heard.clear()
            for name in names:
                await knock(link, await link.knocking(name, opened))
            # The one that waits hears again that it waits.
            assert sorted(heard) == ["pending", *["too_many_pending"] * 3]
            olga = await Elsewhere("olga").link(served, "olive")
            _, requests = await pending(olga, opened.room)
            assert len(requests) == 1

    run(main)


# -- numbers and sizes that nobody means -----------------------------------------------------------------------


@pytest.mark.parametrize("huge", [2**31, 2**53, 2**63 - 1])
def test_f23_a_place_that_does_not_exist_breaks_nothing(huge: int) -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served, approval=False)
            await ann.knock("ann", opened)
            me = ann.person.agent("ann")
            asked: list[tuple[str, dict[str, Any]]] = [
                ("link.pull", {"room": opened.room, "agent": me, "after": huge}),
                ("link.watch", {"resume": {"room": opened.room, "public": huge, "line": bytes(32), "moves": huge}}),
                ("link.watch", {"resume": {"room": opened.room, "asks": huge, "before": {me: huge, "U": huge}}}),
                ("link.cursors", {"cursors": [[opened.room, me, huge, huge]]}),
                (
                    "link.cursors",
                    {"cursors": [{"room": opened.room, "agent": me, "read": huge, "acknowledged": huge}]},
                ),
            ]
            async with ann.following(opened.room):
                for op, fields in asked:
                    try:
                        await ann.call(op, msgspec.convert(fields, OPERATIONS[op].params))
                    except (ParlerError, msgspec.ValidationError) as error:
                        code = error.code if isinstance(error, ParlerError) else "invalid_param"
                        assert code != "internal", op
                sent = await olga.post("olive", opened.room, "still here")
            async with ann.following(opened.room) as told:
                assert [message.body != b"" for message in told.messages] == [True]
            room = await (await served.engine.desk.rooms.get(RoomId(opened.room))).quiet()
            cursor = await served.engine.desk.library.cursor(RoomId(opened.room), me)
            assert sent.seq == 1
            assert cursor.acknowledged <= room.position
            # Whoever said to have read what is not there yet is shown it all the same.
            page = await ann.ask("link.pull", t.PullHistory(room=opened.room, agent=me, after=0), t.LinkPage)
            assert len(page.messages) == 1

    run(main)


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("link.cursors", {"cursors": [{"room": "r", "agent": "a", "read": -1, "acknowledged": 0}]}),
        ("link.cursors", {"cursors": [{"room": "r", "agent": "a", "read": 0, "acknowledged": 0}] * 100_000}),
        ("link.attach", {"agents": [{"agent": "U" * 100_000}]}),
        ("link.detach", {"agents": ["U"] * 100_000}),
        ("link.follow", {"rooms": [{"room": "r"}] * 100_000}),
        ("link.follow", {"rooms": [{"room": "r", "newest": 10**9}]}),
        ("link.pull", {"room": "r", "agent": "a", "after": -1}),
        ("link.find", {"session_key": "Z" * 100_000}),
        ("link.post", {"room": "r", "agent": "a", "id": "m", "body": bytes(4 * MAX_TEXT), "signature": bytes(64)}),
        ("link.post", {"room": "r", "agent": "a", "id": "m", "body": b"", "signature": bytes(65)}),
        ("link.knock", {"session_key": "Z", "statement": bytes(2**20), "signature": bytes(64)}),
    ],
)
def test_f23_what_is_larger_than_it_can_be_is_refused_before_it_is_acted_on(op: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ParlerError, match="invalid_param"):
        codec.Shape(OPERATIONS[op].params, "invalid_param").decode(codec.encode(fields))


def test_f23_a_newcomer_and_the_person_who_decides_are_shown_one_fingerprint_to_compare(tmp_path: Path) -> None:
    """The relay makes the code of a knock, so the code alone does not say whose knock it is."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            opened = await meeting.alice.open("payroll")
            assert (await meeting.bob.join(opened.session_key)).status == "pending"
            [request] = await meeting.alice.requests(opened.room)
            me = await meeting.bob.whoami()
            assert request.fingerprint == me.fingerprint == fingerprint(AgentId(me.id))

    run(main)


# -- what leaves this machine ----------------------------------------------------------------------------------


TAKEN_OUT = "this machine: GitHub token (2). Only what is recognised is; look through the rest."


def test_d16_what_leaves_for_a_relay_holds_no_recognised_credential_and_its_author_is_told(tmp_path: Path) -> None:
    token, gone = "ghp_" + "a1B2" * 9, "[removed: GitHub token]"

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, room = meeting.alice, meeting.bob, meeting.opened.room
            sent = await alice.send(f"use {token}", room=room, data={"env": {"T": token}}, idempotency_key="k1")
            assert str(sent.warning).endswith(TAKEN_OUT)
            given = await alice.handoff(f"push with {token}", room=room, summary=f"{token} works")
            assert str(given.warning).endswith(TAKEN_OUT)
            meeting.wires.cut()
            queued = await alice.send(f"later {token}", room=room)
            assert queued.queued
            assert queued.warning
            meeting.wires.mend()
            await trio.sleep(120)
            page = await bob.recv(room=room)
            assert len(page.messages) == 3
            assert page.messages[0].text == f"use {gone}"
            assert page.messages[-1].text == f"later {gone}"
            stores = (meeting.relay.store, meeting.ann.world.store, meeting.ben.world.store)
            assert not any(token.encode() in msgspec.msgpack.encode(bodies(store, room)) for store in stores)
            # A retry is the same request, and words of this machine's own rooms stay as they were written.
            again = await alice.send(f"use {token}", room=room, data={"env": {"T": token}}, idempotency_key="k1")
            assert (again.replayed, again.id) == (True, sent.id)
            await alice.open("here", home="local")
            here = await alice.send(f"use {token}")
            assert here.warning is msgspec.UNSET
            assert (await alice.recv(since=0)).messages[-1].text == f"use {token}"
            assert (await alice.send("nothing to hide", room=room)).warning is msgspec.UNSET

    run(main)


def test_d16_a_secret_parameter_is_in_no_store_and_no_log_and_no_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """D16: whoever may invoke an action says its secret, and nobody who is told of that is told the secret."""
    caplog.set_level(logging.DEBUG)
    secret = "canary7word7that7opens7the7door"

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, room = meeting.alice, meeting.bob, meeting.opened.room
            params = {"word": t.ActionParam(secret=True), "door": t.ActionParam()}
            action = t.RegisterAction(id="open", params=params, room=room, gate="params.word.size() > 9")
            await alice.call("action.register", action)
            asked = t.InvokeAction(id="open", params={"word": secret, "door": "north"}, room=room, idempotency_key="k")
            for _ in range(2):
                await bob.call("action.invoke", asked)
            await trio.sleep(60)
            [told] = (await alice.recv(room=room, kind=INVOCATION)).messages
            assert told.text == 'bob invoked open {"word":"(secret)","door":"north"}'
            for store in (meeting.relay.store, meeting.ann.world.store, meeting.ben.world.store):
                facts = store.whole_facts(RoomId(room), Position(0), 1_000)
                kept = [part for fact in facts for part in (e.encode_header(fact.header), fact.body or b"")]
                assert any(b"north" in part for part in kept)
                assert not any(secret.encode() in part for part in kept)

    run(main)
    assert not any(secret in f"{record.getMessage()} {record.args!r}" for record in caplog.records)


def bodies(store: Store, room: str) -> list[bytes]:
    """All bodies of a room's log."""
    facts = store.whole_facts(RoomId(room), Position(0), 1_000)
    assert any(isinstance(fact.header.event, e.MessagePosted) for fact in facts)
    return [fact.body or b"" for fact in facts]


# -- secrets ---------------------------------------------------------------------------------------------------


def test_f23_no_secret_and_no_word_is_in_a_log_of_a_relay_or_a_daemon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    words = ["a-word-that-nobody-logs", "a-recap-that-nobody-logs"]

    async def main() -> None:
        async with met(tmp_path) as meeting:
            opened = await meeting.alice.open("another", words[1])
            await meeting.alice.send(words[0], room=opened.room)
            waits = await meeting.bob.join(opened.session_key)
            words.extend(str(each) for each in (opened.session_key, meeting.opened.session_key, waits.join_code))
            meeting.wires.cut()
            await meeting.bob.send(words[0], room=meeting.opened.room)
            meeting.wires.mend()
            await trio.sleep(120)
            assert texts(await meeting.alice.recv(room=meeting.opened.room)) == [words[0]]
            await meeting.bob.refused("session.join", t.JoinSession(session_key="ZZZZZZZZ@nowhere"))

    run(main)
    assert caplog.records
    told = "\n".join(f"{record.getMessage()} {record.exc_text or ''} {record.args!r}" for record in caplog.records)
    for word in (*words, *(word.partition("@")[0] for word in words), SECRET.hex(), repr(SECRET)):
        assert word not in told


def test_f23_the_join_secret_is_in_no_repr_of_what_holds_it(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann:
            links = relay.wires.links
            assert links is not None
            for holder in (links, links.enrolment, ann.engine, *ann.world.home_book.listed()):
                assert repr(SECRET) not in repr(holder)
            assert relay.book.secret() == SECRET

    run(main)
