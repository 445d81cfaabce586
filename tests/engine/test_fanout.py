"""What was just stored, told to all links at once: the very bytes that each link's own task would send, and no task."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
import pytest
import trio

from parlerd.core.model import AgentId, Millis, Position, RoomId
from parlerd.engine import following
from parlerd.engine.fanout import Pushed
from parlerd.engine.library import Library
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery, Write
from tests.support.engine import Served, engine_world, run, settle
from tests.support.linked import Elsewhere, LinkParty, Told

ROOM = RoomId("r_one")


def mark(after: int, upto: int, *, reader: str = "a", at: int = 1) -> MarkDelivery:
    return MarkDelivery(ROOM, AgentId(reader), "pushed", upto=Position(upto), at=Millis(at), after=Position(after))


def messages(told: Told) -> list[bytes]:
    return [message.body for message in told.messages]


@pytest.mark.parametrize("seed", range(6))
def test_a_link_is_sent_the_same_bytes_past_its_task_as_by_its_task(seed: int) -> None:
    """Two links of each person have the same agents; one of the two is told by its task alone."""

    async def main() -> None:
        random = Random(seed)
        async with engine_world() as served:
            alice = await served.agent("alice")
            queue = await alice.ask("queue.serve", t.Serve(service="review"), t.Served)
            invited = await alice.ask("room.invite", t.Invite(service="review", approval=False), t.Invited)
            aside = await alice.open("aside", approval=False)
            opened = msgspec.structs.replace(aside, room=queue.room, session_key=invited.code)
            people = [Elsewhere("mia"), Elsewhere("noa"), Elsewhere("oda")]
            names = ["ann", "nell", "rea"]
            links: list[tuple[LinkParty, LinkParty]] = []
            for person, name in zip(people, names, strict=True):
                one = await person.link(served, name)
                # Rea only asks for work: she sees what names her, and nothing else.
                role = "requester" if name == "rea" else ""
                knock = msgspec.structs.replace(await one.knocking(name, opened), role=role)
                assert (await one.ask("link.knock", knock, t.Knocked)).status == "joined"
                links.append((one, await person.link(served, name)))
            ids = [person.agent(name) for person, name in zip(people, names, strict=True)]
            async with trio.open_nursery() as nursery:
                pairs: list[tuple[Told, Told]] = []

                async def follow(pair: tuple[LinkParty, LinkParty], *, task_status: trio.TaskStatus[None]) -> None:
                    async with (
                        pair[0].following(opened.room) as direct,
                        pair[1].following(opened.room, directly=False) as slow,
                    ):
                        pairs.append((direct, slow))
                        task_status.started()
                        await trio.sleep_forever()

                for pair in links:
                    await nursery.start(follow, pair)
                strangers = iter("tuvwxyz")
                for n in range(30):
                    match random.randrange(6):
                        case 0 | 1:
                            await alice.send(f"open {n}", room=opened.room)
                        case 2:
                            await alice.send(f"for one {n}", room=opened.room, visible_to=(random.choice(ids),))
                        case 3:
                            await links[0][0].post("ann", opened.room, f"mine {n}")
                        case 4:
                            await links[1][0].post("nell", opened.room, f"for ann {n}", visible_to=(ids[0],))
                        case _:
                            if (stranger := next(strangers, None)) is not None:
                                await served.admit(opened, await served.agent(stranger))
                    await settle()
                for name, (direct, slow) in zip(names, pairs, strict=True):
                    assert msgspec.msgpack.encode(direct.of(opened.room)) == msgspec.msgpack.encode(
                        slow.of(opened.room)
                    )
                    assert (direct.given > 5) is (name != "rea")
                    assert slow.given == 0
                nursery.cancel_scope.cancel()

    run(main)


async def three_links(served: Served) -> tuple[t.OpenedSession, list[LinkParty]]:
    """A room with alice, and three links with an agent each in it."""
    alice = await served.agent("alice")
    opened = await alice.open(context="", approval=False)
    links = []
    for name in ("ann", "ben", "cem"):
        link = await Elsewhere(f"person-{name}").link(served, name)
        await link.enter(name, opened)
        links.append(link)
    return opened, links


def test_a_link_whose_reader_takes_no_more_is_told_by_its_task_and_holds_up_nobody() -> None:
    async def main() -> None:
        async with engine_world() as served:
            opened, links = await three_links(served)
            alice = await served.agent("alice")
            async with (
                links[0].following(opened.room) as one,
                links[1].following(opened.room) as two,
                links[2].following(opened.room) as three,
            ):
                two.takes_more = False
                await alice.send("hello", room=opened.room)
                await settle()
                assert [each.given for each in (one, two, three)] == [1, 0, 1]
                assert messages(one) == messages(two) == messages(three) != []
                two.takes_more = True
                await alice.send("again", room=opened.room)
                await settle()
                assert [each.given for each in (one, two, three)] == [2, 1, 2]
                assert messages(one) == messages(two) == messages(three)

    run(main)


def test_an_outlet_that_fails_harms_its_own_link_alone() -> None:
    class Failing(Told):
        def give(self, item: bytes) -> None:
            raise RuntimeError("someone wrote this")

    async def main() -> None:
        async with engine_world() as served:
            opened, links = await three_links(served)
            alice = await served.agent("alice")
            broken, room = Failing(), t.Resume(room=opened.room, newest=10)
            async with trio.open_nursery() as nursery:

                async def follow() -> None:
                    params = t.FollowRooms(rooms=(room,))
                    async with served.engine.stream("link.follow", params, links[0].caller, broken) as items:
                        async for _ in items:
                            pass

                nursery.start_soon(follow)
                await settle()
                async with links[1].following(opened.room) as told:
                    sent = await alice.send("hello", room=opened.room)
                    await settle()
                    assert len(messages(told)) == 1
                    assert sent.id
                nursery.cancel_scope.cancel()

    run(main)


def test_what_all_links_were_sent_is_put_on_record_in_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        commits: list[int] = []
        record = Library.record

        async def counted(library: Library, writes: Sequence[Write]) -> None:
            commits.append(sum(isinstance(write, MarkDelivery) and write.stage == "pushed" for write in writes))
            await record(library, writes)

        monkeypatch.setattr(Library, "record", counted)
        async with engine_world() as served:
            opened, links = await three_links(served)
            alice = await served.agent("alice")
            async with (
                links[0].following(opened.room),
                links[1].following(opened.room),
                links[2].following(opened.room),
            ):
                await trio.sleep(2 * following.MARKS_S)
                commits.clear()
                await alice.send("first", room=opened.room)
                await settle()
                assert commits == [3]
                sent = [await alice.send(f"{n}", room=opened.room) for n in range(5)]
                await settle()
                assert commits == [3]
                await trio.sleep(following.MARKS_S + 1)
                await settle()
                assert commits == [3, 3]
                for each in sent:
                    reached = await alice.why(each.id)
                    assert all("pushed" in reached[name] for name in ("ann", "ben", "cem")), reached

    run(main)


def test_marks_that_follow_on_each_other_are_one_and_those_with_a_gap_are_two() -> None:
    pushed = Pushed()
    assert not pushed
    pushed.add([mark(0, 2), mark(0, 2, reader="b")])
    pushed.add([mark(2, 5, at=7), mark(3, 5, reader="b")])
    assert pushed
    assert pushed.take() == [mark(0, 5, at=7), mark(0, 2, reader="b"), mark(3, 5, reader="b")]
    assert pushed.take() == []
