"""What agents of another home do in rooms of this one: admitted by the rules by which its own agents act."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.envelope import UNSIGNED
from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import INVOCATION, RoomId, Shown
from parlerd.core.statements import room_id_of
from parlerd.engine.deciding import MAX_LINES
from parlerd.engine.quota import OPENING
from parlerd.engine.rooms import LocalRoom
from parlerd.engine.sending import Posting
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from tests.support.engine import Served, World, engine_world, run, settle, texts
from tests.support.faulty_store import FaultyStore
from tests.support.linked import Elsewhere, LinkParty


async def ann_in_a_room(served: Served) -> tuple[LinkParty, t.OpenedSession]:
    """Ann, of mia's home, in a room of alice's, with her link."""
    alice = await served.agent("alice")
    opened = await alice.open(context="")
    link = await Elsewhere("mia").link(served, "ann")
    await link.enter("ann", opened)
    return link, opened


def test_a_message_from_elsewhere_is_read_here_as_its_authors_word() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            posted = await link.post("ann", opened.room, "hello from afar")
            assert (posted.seq, posted.replayed) == (1, False)
            page = await (await served.agent("alice")).recv()
            (message,) = page.messages
            assert (message.text, message.author.name, message.verified) == ("hello from afar", "ann", "valid")
            assert (message.id, message.at) == (posted.id, posted.at)

    run(main)


def test_a_message_that_is_posted_again_is_answered_as_the_first_time() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            envelope = link.person.envelope("ann", opened.room, "once")
            first = await link.ask("link.post", envelope, t.Posted)
            again = await link.ask("link.post", envelope, t.Posted)
            assert again == msgspec.structs.replace(first, replayed=True)
            # Signed anew after a lost answer, with another id: the same request still.
            anew = link.person.envelope("ann", opened.room, "once", key=f"k{first.id[1:]}", id="m_other")
            assert await link.ask("link.post", anew, t.Posted) == again
            assert texts(await (await served.agent("alice")).recv()) == ["once"]

    run(main)


def test_the_line_that_authors_name_is_asked_of_the_store_once_and_compared_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            numbers: list[int] = []
            line_at = MemoryStore.line_at

            def noted(store: MemoryStore, room: RoomId, number: int) -> bytes | None:
                numbers.append(number)
                return line_at(store, room, number)

            monkeypatch.setattr(MemoryStore, "line_at", noted)
            room = served.engine.rooms.open_actor(RoomId(opened.room))
            assert room is not None
            early = Shown(0, b"")
            for number in range(MAX_LINES + 4):
                await link.post("ann", opened.room, f"message {number}")
                early = room.aggregate.state.shown if number == 2 else early
            # Where the room stood lately is known.
            assert numbers == []
            shown = room.aggregate.state.shown
            await link.post("ann", opened.room, "up to date", shown=shown.number, line=shown.line)
            assert numbers == []
            await link.post("ann", opened.room, "far behind", shown=early.number, line=early.line)
            last = link.person.envelope("ann", opened.room, "still behind", shown=early.number, line=early.line)
            await link.ask("link.post", last, t.Posted)
            assert numbers == [early.number]
            newest: dict[str, Any] = {"previous": hashlib.sha256(last.body).digest(), "counter": 1_000}
            for wrong in (0, early.number, shown.number, shown.number + 70):
                envelope = link.person.envelope("ann", opened.room, "x", shown=wrong, line=bytes(32), **newest)
                refused = await link.refused("link.post", envelope)
                assert (refused.code, refused.details["what"]) == ("envelope_refused", "line")

    run(main)


def test_nobody_posts_over_a_link_what_only_the_rooms_home_says() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            signed = link.person.envelope("ann", opened.room, "ann invoked go", kind=INVOCATION)
            refused = await link.refused("link.post", signed)
            assert (refused.code, refused.details["param"]) == ("invalid_param", "kind")
            for about in ({"v": UNSIGNED}, {"v": UNSIGNED, "kind": INVOCATION, "counter": 0, "line": b""}):
                refused = await link.refused("link.post", link.person.envelope("ann", opened.room, "x", **about))
                assert (refused.code, refused.details["what"]) == ("envelope_refused", "v")

    run(main)


def test_posts_that_are_pipelined_are_begun_without_a_task_each_and_stand_in_their_order() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            begun = []
            for text in ("one", "two", "three"):
                envelope = link.person.envelope("ann", opened.room, text)
                posting = served.engine.begin("link.post", envelope, link.caller)
                assert isinstance(posting, Posting)
                begun.append(posting)
            assert [(await posting.result()).seq for posting in begun] == [1, 2, 3]
            assert texts(await (await served.agent("alice")).recv()) == ["one", "two", "three"]

    run(main)


def test_a_room_that_is_closed_up_is_posted_to_all_the_same() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            rooms = served.engine._desk.rooms
            actor = rooms.open_actor(RoomId(opened.room))
            assert isinstance(actor, LocalRoom)
            actor.close()
            await settle()
            assert rooms.open_actor(RoomId(opened.room)) is None
            envelope = link.person.envelope("ann", opened.room, "x")
            assert served.engine.begin("link.post", envelope, link.caller) is None
            assert (await link.ask("link.post", envelope, t.Posted)).seq == 1

    run(main)


@pytest.mark.parametrize(
    "what", ["a room that is not there", "a room it is not in", "the home room", "another's agent"]
)
def test_whoever_may_not_know_a_room_hears_that_there_is_none(what: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            alice = await served.agent("alice")
            other = await alice.open("other")
            room = {"a room it is not in": other.room, "the home room": "home"}.get(what, "r_nowhere")
            envelope = link.person.envelope("ann", room, "x")
            if what == "another's agent":
                me = (await alice.whoami()).id
                envelope = msgspec.structs.replace(envelope, room=opened.room, agent=me)
            error = await link.refused("link.post", envelope)
            assert (error.code, error.details) == ("no_such_room", {})
            for op, params in (("link.pull", t.PullHistory(room=envelope.room, agent=envelope.agent)),):
                assert (await link.refused(op, params)).body() == error.body()

    run(main)


def test_an_agents_key_under_another_person_is_a_stranger() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            eve = Elsewhere("eve")
            eve.adopt("ann", link.person)
            stolen = await eve.link(served, "ann")
            assert (await stolen.refused("link.post", eve.envelope("ann", opened.room, "x"))).code == "no_such_room"

    run(main)


def test_an_envelope_that_somebody_else_signed_or_that_says_too_much_is_refused() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, opened = await ann_in_a_room(served)
            good = link.person.envelope("ann", opened.room, "x")
            forged = msgspec.structs.replace(good, signature=bytes(64))
            refused = await link.refused("link.post", forged)
            assert (refused.code, refused.details["what"]) == ("envelope_refused", "signature")
            long = link.person.envelope("ann", opened.room, "x" * (256 * 1024 + 1))
            assert (await link.refused("link.post", long)).code == "text_too_long"
            assert texts(await (await served.agent("alice")).recv()) == []

    run(main)


# -- rooms of people elsewhere -----------------------------------------------------------------------------


def test_a_room_that_is_opened_again_with_the_same_words_is_the_same_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link = await Elsewhere("mia").link(served, "ann")
            params, _ = link.opening("ann")
            first = await link.ask("link.open", params, t.OpenedRemoteRoom)
            again = await link.ask("link.open", params, t.OpenedRemoteRoom)
            assert (first.replayed, again) == (False, msgspec.structs.replace(first, replayed=True))
            anew = msgspec.structs.replace(params, idempotency_key="another")
            assert await link.ask("link.open", anew, t.OpenedRemoteRoom) == again
            assert [room for room in served.world.store.rooms() if room != "home"] == [first.room]
            assert (await link.post("ann", first.room, "hello")).seq == 1

    run(main)


def test_an_opening_that_its_owners_person_did_not_sign_for_this_home_opens_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            link, other = [await Elsewhere(name).link(served, "ann") for name in ("mia", "zoe")]
            before = served.world.store.rooms()
            good, _ = link.opening("ann")
            elsewhere, _ = link.opening("ann", home="A" + "B" * 55)
            others, _ = other.opening("ann")
            for params, what in (
                (msgspec.structs.replace(good, opening_signature=bytes(64)), "signature"),
                (msgspec.structs.replace(good, terms_signature=bytes(64)), "signature"),
                (msgspec.structs.replace(good, title=others.title), "title"),
                (
                    msgspec.structs.replace(good, terms=others.terms, terms_signature=others.terms_signature),
                    "signature",
                ),
                (elsewhere, "home"),
                (msgspec.structs.replace(good, opening=b"\x80"), "format"),
            ):
                refused = await link.refused("link.open", params)
                assert (refused.code, refused.details.get("what")) == ("statement_refused", what)
            assert (await other.refused("link.open", good)).code == "not_permitted"
            assert served.world.store.rooms() == before

    run(main)


def test_a_session_key_is_as_long_as_it_has_to_be_and_no_other_rooms() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            taken = (await alice.open()).session_key
            link = await Elsewhere("mia").link(served, "ann")
            for key, approval in (("ABCDEFG", True), ("ABCDEFGH", False), ("not a key!", True), (taken, True)):
                params, _ = link.opening("ann", session_key=key, approval=approval)
                refused = await link.refused("link.open", params)
                assert (refused.code, refused.details["param"]) == ("invalid_param", "session_key")
            # A key that is taken is a guess that was right: nobody guesses on.
            refusals = [
                (await link.refused("link.open", link.opening("ann", session_key=taken)[0])).code for _ in range(10)
            ]
            assert refusals[-1] == "throttled"

    run(main)


def test_a_member_leaves_the_owner_ends_and_so_does_the_owners_person() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, mia = Elsewhere("olga"), Elsewhere("mia")
            owner, guest = await olga.link(served, "olive", "otto"), await mia.link(served, "ann")
            for how in ("owner", "person"):
                opened = await owner.open("olive", how, approval=False)
                await owner.knock("otto", opened)
                await guest.knock("ann", opened)
                as_person = t.LeaveRoom(room=opened.room, as_person=True)
                assert (await guest.refused("link.close", as_person)).code == "no_such_room"
                assert (await guest.leave("ann", opened.room)).status == "left"
                assert (await guest.refused("link.close", t.LeaveRoom(room=opened.room, agent=mia.agent("ann")))).code
                # An agent of the owner's person that leaves ends nothing.
                assert (await owner.leave("otto", opened.room)).status == "left"
                if how == "owner":
                    assert (await owner.leave("olive", opened.room)).status == "closed"
                else:
                    assert (await owner.ask("link.close", as_person, t.LeftRoom)).status == "closed"
                assert (await owner.refused("link.close", as_person)).code == "room_closed"

    run(main)


def test_a_recap_is_the_rooms_first_message_as_its_owner_signed_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga = Elsewhere("olga")
            owner = await olga.link(served, "olive")
            params, _ = owner.opening("olive")
            room = room_id_of(params.opening)
            recap = olga.envelope("olive", room, "Chose PKCE.", kind="context", key=params.idempotency_key)
            whole = msgspec.structs.replace(params, recap=recap.body, recap_signature=recap.signature)
            for wrong, what in (
                (olga.envelope("olive", room, "x", key=params.idempotency_key), "kind"),
                (olga.envelope("olive", room, "x", kind="context", key="another"), "key"),
                (olga.envelope("olive", "r_other", "x", kind="context", key=params.idempotency_key), "room"),
            ):
                forged = msgspec.structs.replace(params, recap=wrong.body, recap_signature=wrong.signature)
                refused = await owner.refused("link.open", forged)
                assert (refused.code, refused.details["what"]) == ("envelope_refused", what)
            assert (await owner.ask("link.open", whole, t.OpenedRemoteRoom)).room == room
            async with owner.following(room, newest=10) as told:
                (message,) = told.messages
                assert (message.body, message.signature, message.opening) == (recap.body, recap.signature, True)
            # Its id is taken now, in every room.
            second, _ = owner.opening("olive", "another")
            other = olga.envelope(
                "olive", room_id_of(second.opening), "x", kind="context", key=second.idempotency_key, id=recap.id
            )
            again = msgspec.structs.replace(second, recap=other.body, recap_signature=other.signature)
            assert (await owner.refused("link.open", again)).details["what"] == "id"

    run(main)


def test_a_person_has_a_bounded_number_of_rooms_here_and_may_ask_again_for_each() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_person_rooms=2)) as served:
            mia = await Elsewhere("mia").link(served, "ann", "bea")
            await mia.open("ann", "one")
            params, _ = mia.opening("bea", "two")
            await mia.call("link.open", params)
            third, _ = mia.opening("ann", "three")
            assert (await mia.refused("link.open", third)).code == "too_many_rooms"
            assert (await mia.ask("link.open", params, t.OpenedRemoteRoom)).replayed
            olga = await Elsewhere("olga").link(served, "olive")
            await olga.open("olive", "one")

    run(main)


def test_what_all_agents_of_a_person_keep_here_is_bounded_and_nobody_else_is_held_back() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_person_kept_bytes=6_000)) as served:
            link, opened = await ann_in_a_room(served)
            mia = link.person
            second = await mia.link(served, "bea")
            await second.enter("bea", opened)
            stored: list[t.PostEnvelope] = []
            refused, over = None, None
            for number in range(20):
                who, by = (("ann", link), ("bea", second))[number % 2]
                envelope = mia.envelope(who, opened.room, f"{number} " + "x" * 500)
                try:
                    await by.ask("link.post", envelope, t.Posted)
                except ParlerError as error:
                    refused, over = error, envelope
                    break
                stored.append(envelope)
            assert refused is not None
            assert over is not None
            assert (refused.code, refused.spec.retryable) == ("too_many_bytes", False)
            size = sum(len(envelope.body) for envelope in stored)
            assert size <= 6_000 < size + len(over.body)
            # One that agent after agent brings along makes no difference, nor does a room of their own.
            third = await mia.link(served, "cem")
            while (left := 6_000 - served.engine.desk.kept.of(mia.principal)) > 300:
                await link.post("ann", opened.room, "x")
            params, room = third.opening("cem", "a room of their own")
            recap = mia.envelope("cem", room, "x" * left, kind="context", key=params.idempotency_key)
            whole = msgspec.structs.replace(params, recap=recap.body, recap_signature=recap.signature)
            assert (await third.refused("link.open", whole)).code == "too_many_bytes"
            # What is here is answered as what it is.
            assert (await link.ask("link.post", stored[0], t.Posted)).replayed
            alice = await served.agent("alice")
            await alice.send("of this home")
            olga = await Elsewhere("olga").link(served, "olive")
            await olga.enter("olive", opened)
            await olga.post("olive", opened.room, "of another person")

    run(main)


def test_what_a_person_keeps_is_counted_again_at_the_next_start() -> None:
    async def main() -> None:
        world = World(settings=Settings(quota_person_kept_bytes=1_000_000))
        async with world.serving() as served:
            link, opened = await ann_in_a_room(served)
            for number in range(5):
                await link.post("ann", opened.room, f"{number} " + "x" * 500)
            await link.open("ann", "another")
            mia = link.person.principal
            kept = served.engine.desk.kept.of(mia)
            assert kept > 2_500
        async with world.serving() as served:
            assert served.engine.desk.kept.of(mia) == 0
            await served.engine.count_kept()
            # Beside words and openings, what says how its agents came in.
            assert kept <= served.engine.desk.kept.of(mia) < kept + 2_000
            assert served.engine.desk.kept.of(served.world.keys.principal) > 0

    run(main)


def test_what_cannot_be_counted_stops_no_relay() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with World(store=store, settings=Settings(quota_person_kept_bytes=1)).serving() as served:
            await served.agent("alice")

            def unreadable(room: object, after: object, upto: object) -> object:
                raise StoreError("store_corrupt")

            store.written = unreadable  # type: ignore[method-assign, assignment]
            await served.engine.count_kept()

    run(main)


def test_a_person_who_opens_rooms_at_the_same_time_has_no_more_of_them() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_person_rooms=3)) as served:
            mia = Elsewhere("mia")
            first, second = await mia.link(served, "ann"), await mia.link(served, "bea")
            wanted = [
                (link, link.opening(who, f"topic {number}")[0])
                for number in range(4)
                for who, link in (("ann", first), ("bea", second))
            ]
            # One of them twice at once: it is one room.
            wanted.append(wanted[0])
            heard: list[str] = []

            async def ask(link: LinkParty, params: t.OpenRemoteRoom) -> None:
                try:
                    heard.append((await link.ask("link.open", params, t.OpenedRemoteRoom)).room)
                except ParlerError as error:
                    heard.append(error.code)

            async with trio.open_nursery() as nursery:
                for link, params in wanted:
                    nursery.start_soon(ask, link, params)
            owned = await served.engine.desk.library.owned(mia.principal)
            assert len(owned) == 3
            assert set(heard) == {*owned, "too_many_rooms"}
            # What was refused or failed holds no place.
            assert (await first.refused("link.open", first.opening("ann", "late")[0])).code == "too_many_rooms"

    run(main)


def test_an_opening_that_was_refused_leaves_its_place_to_another() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_person_rooms=1)) as served:
            mia = await Elsewhere("mia").link(served, "ann")
            bad, _ = mia.opening("ann", "one", session_key="ZZZ")
            assert (await mia.refused("link.open", bad)).code == "invalid_param"
            await mia.open("ann", "two")

    run(main)


def test_what_all_agents_of_a_person_post_is_one_budget() -> None:
    async def main() -> None:
        # The opening, the knock, and two messages.
        async with engine_world(settings=Settings(quota_person_messages=OPENING + 3)) as served:
            mia = await Elsewhere("mia").link(served, "ann", "bea")
            opened = await mia.open("ann", approval=False)
            await mia.knock("bea", opened)
            await mia.post("ann", opened.room, "one")
            await mia.post("bea", opened.room, "two")
            refused = await mia.refused("link.post", mia.person.envelope("bea", opened.room, "three"))
            assert refused.code == "throttled"
            assert refused.retry_after_ms is not None
            assert refused.retry_after_ms > 0

    run(main)
