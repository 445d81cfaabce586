"""What agents of another home do in rooms of this one: admitted by the rules by which its own agents act."""

from __future__ import annotations

import msgspec
import pytest

from parlerd.core.model import RoomId
from parlerd.engine.rooms import LocalRoom
from parlerd.engine.sending import Posting
from parlerd.operations import types as t
from tests.support.engine import Served, engine_world, run, settle, texts
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
            eve._keys |= link.person._keys
            eve._named["ann"] = link.person.agent("ann")
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
