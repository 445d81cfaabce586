"""Which agents speak over a link: each with its person's word and its own, and for no longer than the word lasts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.engine import links
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from tests.support.engine import engine_world, run
from tests.support.linked import Elsewhere

DAY_S = 86_400


def test_an_attached_agent_is_told_how_it_stands_to_the_rooms_here() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("one")
            served.world.clock.move(seconds=1)
            other = await alice.open("two")
            mia = Elsewhere("mia")
            link = await mia.link(served, "ann")
            await link.enter("ann", opened)
            await link.knock("ann", other)
            attached = await link.attach("ann", "newcomer")
            assert attached.rooms == [
                t.Standing(room=opened.room, agent=mia.agent("ann"), state="member"),
                t.Standing(room=other.room, agent=mia.agent("ann"), state="pending"),
            ]
            assert attached.now == served.world.clock.now()

    run(main)


def test_an_agents_key_under_another_person_is_told_of_none_of_the_rooms_it_came_into_before() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened, other, left = [await alice.open(topic) for topic in ("one", "two", "three")]
            mia, eve = Elsewhere("mia"), Elsewhere("eve")
            link = await mia.link(served, "ann")
            for room in (opened, left):
                await link.enter("ann", room)
            await link.leave("ann", left.room)
            await link.knock("ann", other)
            eve.adopt("ann", mia)
            strange = await eve.link(served)
            assert (await strange.attach("ann")).rooms == []
            # The room in which the key is one of hers is told, and mia is told of her own.
            hers = await alice.open("four")
            await strange.knock("ann", hers)
            assert [each.room for each in (await strange.attach("ann")).rooms] == [hers.room]
            assert {each.state for each in (await link.attach("ann")).rooms} == {"member", "left", "pending"}

    run(main)


def of_another_link(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return mia.attachment("ann", b"\1" * 32, now)


def of_another_person(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return Elsewhere("eve").attachment("ann", b"", now)


def delegated_by_another(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    eve = Elsewhere("eve").attachment("ann", b"", now)
    return msgspec.structs.replace(a, delegation=eve.delegation, delegation_signature=eve.delegation_signature)


def of_another_agent(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return msgspec.structs.replace(a, agent=mia.agent("bea"))


def unsigned(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return msgspec.structs.replace(a, signature=bytes(64))


def altered(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return msgspec.structs.replace(a, delegation=a.delegation[:-1] + bytes([a.delegation[-1] ^ 1]))


def ended(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return mia.attachment("ann", b"", now - 31 * DAY_S * 1000)


def far_ahead(a: t.Attachment, mia: Elsewhere, now: int) -> t.Attachment:
    return mia.attachment("ann", b"", now + DAY_S * 1000 + 1)


@pytest.mark.parametrize(
    ("forge", "what"),
    [
        (of_another_link, "signature"),
        (of_another_person, "delegation"),
        (delegated_by_another, "delegation"),
        (of_another_agent, "delegation"),
        (unsigned, "signature"),
        (altered, "delegation"),
        (ended, "expires_at"),
        (far_ahead, "issued_at"),
    ],
)
def test_nobody_is_attached_without_the_persons_word_and_its_own_for_this_very_link(
    forge: Callable[[t.Attachment, Elsewhere, int], t.Attachment], what: str
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            mia = Elsewhere("mia")
            first = await mia.link(served, "ann")
            await first.enter("ann", opened)
            link = await mia.link(served)
            now = served.world.clock.now()
            good = mia.attachment("bea", link.caller.facts.channel, now)
            forged = forge(mia.attachment("ann", link.caller.facts.channel, now), mia, now)
            refused = await link.refused("link.attach", t.Attach(agents=(good, forged)))
            assert refused.code == "attach_refused"
            assert (refused.details["what"], refused.details["now"]) == (what, now)
            assert (await link.refused("link.post", mia.envelope("ann", opened.room, "x"))).code == "no_such_room"

    run(main)


def test_an_agent_speaks_for_as_long_as_its_delegation_lasts() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            mia = Elsewhere("mia")
            link = await mia.link(served, "ann")
            await link.enter("ann", opened)
            await link.attach("ann", days=1)
            await link.post("ann", opened.room, "today")
            served.world.clock.move(seconds=DAY_S)
            late = mia.envelope("ann", opened.room, "tomorrow")
            assert (await link.refused("link.post", late)).code == "no_such_room"
            await link.attach("ann")
            assert not (await link.ask("link.post", late, t.Posted)).replayed

    run(main)


def test_an_agent_that_was_detached_is_nobody_and_the_others_stay() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            mia = Elsewhere("mia")
            link = await mia.link(served, "ann", "bea")
            for name in ("ann", "bea"):
                await link.enter(name, opened)
            await link.ask("link.detach", t.Detach(agents=(mia.agent("ann"),)), t.Noted)
            assert (await link.refused("link.post", mia.envelope("ann", opened.room, "x"))).code == "no_such_room"
            await link.post("bea", opened.room, "y")

    run(main)


def test_what_is_attached_on_one_link_is_not_attached_on_another_of_the_same_person() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            mia = Elsewhere("mia")
            link, other = await mia.link(served, "ann"), await mia.link(served, "bea")
            await link.enter("ann", opened)
            assert (await other.refused("link.post", mia.envelope("ann", opened.room, "x"))).code == "no_such_room"

    run(main)


def test_an_agent_elsewhere_is_as_present_as_its_daemon_says_and_offline_once_the_link_ends() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            mia = Elsewhere("mia")
            link = await mia.link(served, "ann")
            await link.enter("ann", opened)
            seen: list[Any] = []

            async def look() -> None:
                member = (await alice.roster())["ann"]
                seen.append((member.presence, member.since))

            await look()
            served.world.clock.move(seconds=5)
            told = t.TellPresence(agent=mia.agent("ann"), presence="waiting")
            await link.call("link.cursors", t.TellCursors(presence=(told,)))
            await look()
            served.world.clock.move(seconds=5)
            await served.engine.disconnect(link.caller)
            await look()
            start = served.world.clock.now() - 10_000
            assert seen == [("idle", start), ("waiting", start + 5_000), ("offline", start + 10_000)]

    run(main)


def test_of_the_agents_that_were_attached_once_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person makes as many agents as they like, and attaches one after the other."""

    async def main() -> None:
        monkeypatch.setattr(links, "MAX_GONE", 2)
        async with engine_world() as served:
            mia = Elsewhere("mia")
            link = await mia.link(served)
            for name in ("ann", "bea", "cat"):
                await link.attach(name)
                await link.call("link.detach", t.Detach(agents=(mia.agent(name),)))
            now = served.world.clock.now()
            seen = [served.engine.desk.links.presence_of(mia.agent(name), now) for name in ("ann", "bea", "cat")]
            assert seen == [None, ("offline", now), ("offline", now)]

    run(main)


def test_the_operations_of_a_link_are_there_for_no_local_door_and_a_link_reaches_nothing_else() -> None:
    async def answer(ask: Callable[..., Any], name: str, params: t.Params, caller: Caller) -> str | None:
        """The code that this way of asking is refused with; None where it only says that there is another way."""
        try:
            answered = ask(name, params, caller)
            assert await answered if inspect.isawaitable(answered) else answered is None
        except Refused as error:
            return error.code
        return None

    async def main() -> None:
        async with engine_world() as served:
            doors = [await served.connect(via) for via in ("cli", "mcp", "hook", "http")]
            link = await Elsewhere("mia").link(served)
            for name, operation in OPERATIONS.items():
                params = msgspec.convert(operation.example, operation.params)
                callers = [door.caller for door in doors] if operation.plane == "link" else [link.caller]
                asked = served.engine.stream if operation.stream else served.engine.call
                for caller in callers:
                    assert await answer(asked, name, params, caller) == "unknown_operation", name
                    assert await answer(served.engine.begin, name, params, caller) in ("unknown_operation", None), name
            assert not any(door.caller.agent for door in doors)

    run(main)


def test_a_link_that_lets_go_of_agents_that_are_not_its_own_wakes_nobody() -> None:
    async def main() -> None:
        async with engine_world() as served:
            mia = await Elsewhere("mia").link(served, "ann")
            eve = await Elsewhere("eve").link(served, "eve")
            heard = served.engine.desk.notifier
            ann, gone = mia.person.agent("ann"), eve.person.agent("eve")
            with heard.listen(topics.presence(ann)) as anns, heard.listen(topics.presence(gone)) as eves:
                await eve.ask("link.detach", t.Detach(agents=(ann, gone)), t.Noted)
                with trio.move_on_after(1):
                    await eves.wait()
                    with trio.move_on_after(0.5) as waited:
                        await anns.wait()
                    assert waited.cancelled_caught
            assert served.engine.desk.presence.of(ann)[0] == "idle"

    run(main)
