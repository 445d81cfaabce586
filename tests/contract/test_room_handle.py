"""What every handle of a room does, wherever the room lives: one of this home, and one of another home that answers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import TextPart
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, MessageId, Position, RoomId, Seq, drawn_key
from parlerd.engine.armed import Armed
from parlerd.engine.authors import Draft
from parlerd.engine.crossing import Request
from parlerd.engine.engine import crossing
from parlerd.engine.handles import Earlier, RoomHandle
from parlerd.engine.sight import Sight
from parlerd.operations import types as t
from tests.support.engine import Served, engine_world, run
from tests.support.fake_homes import FAR, beside
from tests.support.relayed import homes_of


@dataclass
class Inside:
    """A room with two agents of this home in it, and a third that knocks."""

    served: Served
    handle: RoomHandle
    home: str
    ann: AgentRecord
    ben: AgentRecord
    cat: AgentRecord
    owners: RoomHandle | None = None
    """The same room as its owner comes to it, where the owner is of another home."""

    @property
    def draft(self) -> Draft:
        """Words of somebody who was shown all of the room."""
        return Draft((TextPart("hello"),), self.handle.aggregate.state.shown)

    def by(self, agent: AgentRecord) -> By:
        return By(agent.id, agent.principal, "s", "shell", "cli")

    def post(self, **more: Any) -> c.PostMessage:
        """A message whose author named no key, as a handler makes it."""
        id = MessageId(self.served.world.random.new("m"))
        key = drawn_key(id)
        return c.PostMessage(operation="message.send", kind="text", id=id, idempotency_key=key, fresh=True, **more)


def _three(records: list[AgentRecord]) -> tuple[AgentRecord, AgentRecord, AgentRecord]:
    ann, ben, cat = records
    return ann, ben, cat


@asynccontextmanager
async def here() -> AsyncIterator[Inside]:
    async with engine_world() as served:
        ann, ben, cat = [await served.agent(name) for name in ("ann", "ben", "cat")]
        opened = await ann.open()
        await served.admit(opened, ben)
        await cat.join(opened.session_key)
        records = [await served.engine._desk.me(party.caller) for party in (ann, ben, cat)]
        yield Inside(served, await served.engine.rooms.get(RoomId(opened.room)), "local", *_three(records))


@asynccontextmanager
async def there() -> AsyncIterator[Inside]:
    async with beside() as (served, homes):
        room, session_key = await homes.open()
        parties = [await served.agent(name) for name in ("ann", "ben", "cat")]
        for party, name in zip(parties, ("ann", "ben", ""), strict=True):
            # One agent of a person may wait there at a time, so the first two are let in before the next knocks.
            assert (await party.join(homes.handed_on(room, session_key))).status == "pending"
            if name:
                await homes.approve(room, name)
        records = [await served.engine._desk.me(party.caller) for party in parties]
        yield Inside(served, await served.engine.rooms.get(room), FAR, *_three(records))


@asynccontextmanager
async def over_a_link() -> AsyncIterator[Inside]:
    with tempfile.TemporaryDirectory() as folder:
        _, relay, home = homes_of(Path(folder))
        async with relay.serving(), home("olive").serving() as olive, home("sam").serving() as served:
            opened = await (await olive.agent("olive")).open()
            parties = [await served.agent(name) for name in ("ann", "ben", "cat")]
            for party, name in zip(parties, ("ann", "ben", ""), strict=True):
                # Of one person one agent waits at a time.
                assert (await party.join(opened.session_key)).status == "pending"
                if name:
                    await (await olive.person()).approve(name)
            await trio.sleep(1)
            records = [await served.engine._desk.me(party.caller) for party in parties]
            handle = await served.engine.rooms.get(RoomId(opened.room))
            owners = await olive.engine.rooms.get(RoomId(opened.room))
            inside = Inside(served, handle, handle.home_name, *_three(records))
            inside.owners = owners
            yield inside


Place = Callable[[], AbstractAsyncContextManager[Inside]]
everywhere = pytest.mark.parametrize("place", [here, there, over_a_link])


@everywhere
def test_a_handle_says_which_room_it_is_of_and_what_its_home_is_called(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            handle = inside.handle
            assert (handle.room, handle.home_name) == (handle.aggregate.state.room, inside.home)
            assert await inside.served.engine.rooms.get(handle.room) is handle

    run(main)


@everywhere
def test_what_was_submitted_is_in_the_room_with_its_authors_number_before_the_answer(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            command = inside.post()
            before = (await inside.handle.quiet()).newest_seq(inside.ann.id)
            settled = await inside.handle.submit(command, inside.by(inside.ann), inside.draft)
            [header] = settled.facts
            assert isinstance(header.event, e.MessagePosted)
            assert (header.event.id, header.by.actor, settled.queued) == (command.id, inside.ann.id, False)
            assert inside.handle.aggregate.position >= header.position
            after = (await inside.handle.quiet()).newest_seq(inside.ann.id)
            assert (settled.seq, after) == (before + 1, before + 1)
            stored = inside.served.world.store.message(inside.handle.room, header.position)
            assert stored == header

    run(main)


@everywhere
def test_a_request_that_was_made_before_gets_its_answer_again(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            command = c.PostMessage(operation="message.send", kind="text", idempotency_key="k1", input=b"i")
            first = await inside.handle.submit(command, inside.by(inside.ann), inside.draft)
            again = await inside.handle.submit(command, inside.by(inside.ann), inside.draft)
            assert again.decision.replay is not None
            where = again.facts[0].position if again.facts else again.decision.replay
            assert where == first.facts[0].position

    run(main)


@everywhere
def test_commands_keep_the_order_in_which_they_were_placed_and_wait_until_somebody_asks(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            stood = (await inside.handle.quiet()).position
            placed = [
                inside.handle.place(inside.post(), inside.by(who), inside.draft) for who in (inside.ann, inside.ben) * 3
            ]
            await trio.sleep(60)
            assert inside.handle.aggregate.position == stood
            positions = [(await each.result()).facts[0].position for each in placed]
            assert positions == sorted(set(positions))

    run(main)


@everywhere
def test_a_refusal_is_the_rooms_own_and_changes_nothing(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            stood = (await inside.handle.quiet()).position
            for command, who, code in (
                (inside.post(to=("nobody",)), inside.ann, "no_such_agent"),
                (inside.post(), inside.cat, "no_such_room"),
            ):
                with pytest.raises(Refused, match=code):
                    await inside.handle.submit(command, inside.by(who), inside.draft)
            assert (await inside.handle.quiet()).position == stood

    run(main)


@everywhere
def test_the_code_of_a_request_is_known_to_its_agent_and_a_wrong_one_is_refused_and_counted(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            [request] = (await inside.handle.quiet()).pending()
            assert request.agent == inside.cat.id
            code = inside.handle.join_code(request.id)
            assert code is not None
            owners = inside.owners or inside.handle
            await owners.check_code(request, code, "cli")
            wrong = "0000" if code != "0000" else "1111"
            for _ in range(5):
                with pytest.raises(Refused, match="code_mismatch"):
                    await owners.check_code(request, wrong, "cli")
            with pytest.raises(Refused, match="throttled"):
                await owners.check_code(request, code, "cli")
            await owners.check_code(request, code, "form")

    run(main)


@everywhere
def test_a_reader_that_waits_is_armed_for_the_next_commit(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            after = (await inside.handle.quiet()).position
            armed = Armed(inside.ben.id, "read", after, 50, 1_000_000, lambda header: True)
            with inside.handle.arm(armed):
                settled = await inside.handle.submit(inside.post(), inside.by(inside.ann), inside.draft)
            assert armed.covers([settled.facts[0].position])

    run(main)


@everywhere
def test_the_newest_facts_are_at_hand_when_nothing_is_under_way(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            settled = await inside.handle.submit(inside.post(), inside.by(inside.ann), inside.draft)
            room = await inside.handle.quiet()
            recent = inside.handle.recent
            assert recent is not None
            found = recent.seq_at(room, room.view(inside.ann.id), settled.facts[0].position)
            assert found == settled.seq

    run(main)


@everywhere
def test_what_a_log_leaves_out_is_told_with_the_numbers_of_the_reader_and_a_local_log_leaves_nothing_out(
    place: Place,
) -> None:
    async def main() -> None:
        async with place() as inside:
            for _ in range(3):
                await inside.handle.submit(inside.post(), inside.by(inside.ann), inside.draft)
            room, ben = await inside.handle.quiet(), inside.ben.id
            page = await inside.served.engine._desk.library.page(
                room, room.view(ben), Position(0), limit=50, max_bytes=1_000_000, skip_own=False
            )
            held = [(m.seq, m.header.event, m.header.by.actor, m.body, m.signature) for m in page.messages]
            assert len(held) == 4
            told = await inside.handle.earlier(ben, Seq(1), 2)
            shown = [(m.seq, m.header.event, m.header.by.actor, m.body, m.signature) for m in told.messages]
            assert (shown, told.upto) == (([], 1) if place is here else (held[1:3], 3))
            beyond = await inside.handle.earlier(ben, Seq(4), 2)
            assert beyond == Earlier((), Seq(4))

    run(main)


@everywhere
def test_the_rooms_home_answers_what_it_is_asked_and_says_why_it_refuses(place: Place) -> None:
    async def main() -> None:
        async with place() as inside:
            desk = inside.served.engine._desk
            caller = (await inside.served.agent("ann")).caller

            async def ask(name: str, params: t.Params, who: AgentRecord = inside.ann) -> t.Result:
                request = Request(name, params, inside.by(who), caller)
                answering = crossing(desk, Sight(desk), {})
                return await inside.handle.ask(request.question, partial(answering.answer, request))

            written = await ask("state.set", t.SetState(key="turn", value=1))
            assert isinstance(written, t.StateWritten)
            assert (written.value, written.version, written.updated_by) == (1, 1, "ann")
            found = await ask("state.get", t.GetState(key="turn"), inside.ben)
            assert isinstance(found, t.StateRead)
            assert (found.value, found.version) == (1, 1)
            with pytest.raises(Refused, match="version_conflict") as conflict:
                await ask("state.set", t.SetState(key="turn", value=2, if_version=0), inside.ben)
            assert conflict.value.message == "The key turn is at version 1."
            assert conflict.value.details["current"]["value"] == 1
            with pytest.raises(Refused, match="no_such_room"):
                await ask("state.get", t.GetState(key="turn"), inside.cat)

    run(main)
