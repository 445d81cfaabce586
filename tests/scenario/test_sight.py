"""A reader whose host's record is watched: markers behind messages, verdicts, and what follows from them.

An engine, a model at a window of it, and a record that the test writes (`tests.support.sights`). How a record is read
is tested with `parlerd.core.judge` and `parlerd.sight`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio
import trio.testing

from mcp_server.heard import hear
from mcp_server.sighting import Lookout, Lookouts
from parlerd.core.records import Ending, Test
from parlerd.core.sight import MARKER, Reason, Verdict, digest
from parlerd.engine.sightings import LATE_MS
from parlerd.operations import types as t
from parlerd.operations.traits import HostTraits
from parlerd.sight.watching import HostSight
from parlerd.text.sight import MOST_AGAIN
from tests.sight.test_trail import RECORD, REPLY
from tests.sight.test_watching import Scene, at_once
from tests.support.engine import NOTHING, Party, Served, World, run
from tests.support.models import Model, NoForm, Pair, ended, let_in, pair, waits
from tests.support.sights import EVIDENCE, FakeSight

HOST = "claude-code"


@dataclass(frozen=True)
class Watched:
    """A room that alice opened, bob's window in it, and the record of bob's host."""

    served: Served
    alice: Party
    bob: Model
    sight: FakeSight
    lookouts: Lookouts
    two: Pair

    async def settle(self) -> None:
        """Everything that was told is taken in."""
        await trio.testing.wait_all_tasks_blocked()

    async def why(self, id: str, who: Party | None = None) -> t.ReaderLadder:
        await self.settle()
        found = await (who or self.alice).ask("message.why", t.Why(id=id), t.WhyResult)
        (reader,) = found.readers
        return reader

    async def says(
        self, verdict: Verdict, reason: Reason, *, at: int | None = None, before: int = 0, stays: bool = False
    ) -> None:
        """The record says this of the newest answer, or of the one so many before it."""
        self.sight.watches[-1 - before].say(verdict, reason, at=at, stays=stays)
        await self.settle()


@asynccontextmanager
async def watched(*, consented: bool = True) -> AsyncIterator[Watched]:
    async with World().serving() as served:
        two = await pair(served)
        async with watching(served, two, consented=consented) as world:
            # Bob has read what came with the join.
            await two.bob.call("parler_recv")
            world.sight.watches.clear()
            yield world


@asynccontextmanager
async def watching(served: Served, two: Pair, *, consented: bool = True) -> AsyncIterator[Watched]:
    """The record of the host of bob's window is watched from here on."""
    async with trio.open_nursery() as nursery:
        sight = FakeSight()
        counted = iter(range(1, 10_000))
        lookouts = Lookouts(
            served.engine, lambda: sight, nursery.start_soon, lambda size: next(counted).to_bytes(size, "big")
        )
        hosts = frozenset({HOST}) if consented else frozenset[str]()
        lookouts.hosts = served.engine.desk.sightings.hosts = hosts
        two.bob.window.lookout = Lookout(lookouts, two.bob.party.caller, "2.1.0", {"CLAUDE_CONFIG_DIR": "/moved"})
        yield Watched(served, two.alice, two.bob, sight, lookouts, two)
        nursery.cancel_scope.cancel()


def with_watch(test: Callable[[Watched], Awaitable[None]]) -> Callable[[], None]:
    def within() -> None:
        async def main() -> None:
            async with watched() as world:
                await test(world)

        run(main)

    within.__name__ = test.__name__
    return within


def rungs(ladder: t.ReaderLadder) -> list[str]:
    return [rung for rung, _ in ladder.rungs]


def said(ladder: t.ReaderLadder) -> tuple[str, str]:
    assert ladder.sight is not msgspec.UNSET
    return ladder.sight.verdict, ladder.sight.reason


@with_watch
async def test_each_message_of_another_has_a_marker_and_is_shown_once_the_record_proves_it(world: Watched) -> None:
    one, two = await world.alice.send("one"), await world.alice.send("two\nlines")
    text = await world.bob.call("parler_recv")
    heard, watch = hear(text), world.sight.newest
    assert heard.texts == ["one", "two\nlines"], "a marker is no part of a message"
    assert watch.expected is not None
    assert heard.markers == [each.marker for each in watch.expected]
    assert len(set(heard.markers)) == 2
    for each, words in zip(watch.expected, ("one", "two\nlines"), strict=True):
        end = text.index(each.marker) + len(each.marker)
        shown = text[end - each.size : end]
        assert digest(shown) == each.digest
        assert shown.startswith("[peer ")
        assert f"\n{words}\n" in shown
    assert said(await world.why(one.id)) == ("pending", "")
    assert "shown" not in rungs(await world.why(one.id))
    world.served.world.clock.move(seconds=1)
    await world.says("shown", "reply", at=0)
    ladder = await world.why(one.id)
    assert said(ladder) == ("shown", "reply")
    assert ladder.sight is not msgspec.UNSET
    assert ladder.sight.evidence == EVIDENCE
    assert rungs(ladder) == ["stored", "read", "shown"]
    assert said(await world.why(two.id)) == ("pending", "")
    await world.bob.call("parler_rooms")
    assert rungs(await world.why(one.id)) == ["stored", "read", "shown", "acknowledged"]
    # The reader sees its own.
    mine = await world.why(one.id, world.bob.party)
    assert said(mine) == ("shown", "reply")


@with_watch
async def test_the_watcher_is_told_where_records_are_and_which_call_the_answer_is_of(world: Watched) -> None:
    await world.alice.send("one")
    meta = {"claudecode/toolUseId": "toolu_1", "progressToken": 4}
    answer = await world.bob.window.call_tool(77, "parler_recv", {}, NoForm(), meta=meta)
    assert MARKER.search(answer.text)
    watch = world.sight.newest
    assert (watch.host, watch.version, watch.variables) == (HOST, "2.1.0", {"CLAUDE_CONFIG_DIR": "/moved"})
    assert watch.expected is None, "nothing is expected before the answer was written"
    world.bob.window.settled(77, written=True)
    assert watch.call == "toolu_1"
    assert watch.expected is not None


@with_watch
async def test_what_the_host_cut_or_did_not_show_comes_again_by_itself_and_says_so(world: Watched) -> None:
    one, two = await world.alice.send("one"), await world.alice.send("two")
    await world.bob.call("parler_recv")
    await world.says("cut", "cut_by_host", at=0)
    await world.says("shown", "reply", at=1)
    ladder = await world.why(one.id)
    assert said(ladder) == ("cut", "cut_by_host")
    assert "shown" not in rungs(ladder)
    assert "not shown to the model" in str(ladder.stopped)
    three = await world.alice.send("three")
    again = hear(await world.bob.call("parler_recv"))
    assert again.texts == ["one"]
    assert "again: your host cut it" in again.messages[0].facts
    assert [name for name, _ in again.calls] == ["parler_recv"], "what is new is named with the call that brings it"
    await world.says("not_shown", "failed_request")
    new = hear(await world.bob.call("parler_recv"))
    assert new.texts == ["one"]
    assert "again: your host did not show it" in new.messages[0].facts
    await world.says("shown", "reply")
    assert hear(await world.bob.call("parler_recv")).texts == ["three"]
    ladder = await world.why(one.id)
    assert said(ladder) == ("shown", "reply")
    assert ladder.sight is not msgspec.UNSET
    assert ladder.sight.again == 2
    assert said(await world.why(two.id)) == ("shown", "reply")
    assert said(await world.why(three.id)) == ("pending", "")


@with_watch
async def test_what_a_later_reply_proves_to_be_shown_is_taken_back_and_comes_no_second_time(world: Watched) -> None:
    one = await world.alice.send("one")
    await world.bob.call("parler_recv")
    await world.says("not_shown", "failed_request", stays=True)
    assert said(await world.why(one.id)) == ("not_shown", "failed_request")
    await world.says("shown", "reply")
    for who in (world.alice, world.bob.party):
        ladder = await world.why(one.id, who)
        assert said(ladder) == ("shown", "reply")
        assert "shown" in rungs(ladder)
    assert hear(await world.bob.call("parler_recv")).texts == []
    # What is told of it from here on changes nothing.
    await world.says("not_shown", "failed_request")
    assert said(await world.why(one.id)) == ("shown", "reply")


@with_watch
async def test_what_went_out_again_before_that_is_shown_all_the_same(world: Watched) -> None:
    one = await world.alice.send("one")
    await world.bob.call("parler_recv")
    await world.says("not_shown", "cancelled", stays=True)
    assert hear(await world.bob.call("parler_recv")).texts == ["one"]
    assert said(await world.why(one.id)) == ("pending", "")
    await world.says("shown", "reply", before=1)
    assert said(await world.why(one.id)) == ("shown", "reply")
    await world.says("not_shown", "failed_request", stays=True)
    await world.says("unknown", "timeout", before=1)
    assert said(await world.why(one.id)) == ("shown", "reply")
    assert hear(await world.bob.call("parler_recv")).texts == []


@pytest.mark.parametrize("shown", [True, False])
def test_an_author_is_told_nothing_of_what_was_shown_after_all(shown: bool) -> None:
    async def main() -> None:
        async with watched() as world:
            await world.alice.send("one")
            await world.bob.call("parler_recv")
            await world.says("not_shown", "failed_request", stays=True)
            world.served.world.clock.move(seconds=LATE_MS / 1000)
            if shown:
                await world.says("shown", "reply")
            window = await world.served.window("again", as_name="alice")
            await window.whoami()
            line = (await window.ask("window.notice", NOTHING, t.Notice)).line
            assert ("no model" in line) is not shown

    run(main)


@with_watch
async def test_a_marker_that_the_model_quotes_proves_what_was_said_not_to_be_shown(world: Watched) -> None:
    one = await world.alice.send("one")
    marker = hear(await world.bob.call("parler_recv")).markers[0]
    await world.says("not_shown", "failed_request", stays=True)
    await world.bob.call("parler_rooms", seen=marker)
    assert said(await world.why(one.id)) == ("quoted", "quoted")
    await world.says("shown", "reply")
    assert said(await world.why(one.id)) == ("quoted", "quoted")


@with_watch
async def test_a_host_that_always_cuts_is_asked_no_more_than_twice_more(world: Watched) -> None:
    one = await world.alice.send("one")
    for _ in range(1 + MOST_AGAIN):
        assert hear(await world.bob.call("parler_recv")).texts == ["one"]
        await world.says("cut", "cut_by_host")
    assert hear(await world.bob.call("parler_recv")).texts == []
    ladder = await world.why(one.id)
    assert said(ladder) == ("cut", "cut_by_host")
    assert ladder.sight is not msgspec.UNSET
    assert ladder.sight.again == MOST_AGAIN
    # Its reader asks for it alone, and then it is shown.
    alone = hear(await world.bob.call("parler_recv", since=0, limit=1))
    assert alone.texts == ["one"]
    await world.says("shown", "reply")
    assert said(await world.why(one.id)) == ("shown", "reply")


@with_watch
async def test_a_reader_that_waits_is_woken_by_what_its_host_cut(world: Watched) -> None:
    await world.alice.send("one")
    await world.bob.call("parler_recv")
    async with waits(world.bob) as answered:
        assert not await ended(answered)
        await world.says("cut", "cut_by_host")
        assert await ended(answered)
    assert hear(world.bob.seen[-1]).texts == ["one"]


@with_watch
async def test_an_answer_that_was_withdrawn_is_expected_nowhere(world: Watched) -> None:
    one = await world.alice.send("one")
    await world.bob.window.call_tool(5, "parler_recv", {}, NoForm())
    watch = world.sight.newest
    world.bob.window.settled(5, written=False)
    assert watch.is_dropped
    assert watch.expected is None
    assert (await world.why(one.id)).sight is msgspec.UNSET
    assert hear(await world.bob.call("parler_recv")).texts == ["one"], (
        "it is shown again, as every page that nobody saw"
    )
    world.bob.window.settled(world.bob._requests, written=False)
    assert world.sight.newest.is_dropped
    assert said(await world.why(one.id)) == ("not_shown", "cancelled")
    assert hear(await world.bob.call("parler_recv")).texts == ["one"]
    assert hear(world.bob.seen[-1]).messages[0].facts == ()


@with_watch
async def test_a_long_message_is_shown_once_each_part_of_it_was(world: Watched) -> None:
    world.bob.window.traits = HostTraits(page=3000)
    long = await world.alice.send("x" * 6000)
    parts = [await world.bob.call("parler_recv")]
    while "goes on" in parts[-1]:
        (_, arguments), *_ = hear(parts[-1]).calls
        parts.append(await world.bob.call("parler_recv", **arguments))
    assert len(parts) == 3
    first, second, third = world.sight.watches
    assert all(len(hear(part).markers) == 1 for part in parts)
    assert all(len(part) <= 3000 for part in parts)
    third.say()
    first.say()
    assert said(await world.why(long.id)) == ("pending", "")
    second.say("cut", "cut_by_host")
    assert said(await world.why(long.id)) == ("cut", "cut_by_host"), "the middle was cut, so it was not shown"


BETWEEN: Final = {
    "nothing": (b"", ("shown", "reply")),
    "a compaction": (b'{"type":"compact"}\n', ("summarised", "compacted")),
    "a rollback": (b'{"type":"end"}\n', ("not_shown", "cancelled")),
    "another conversation": (b"", ("unknown", "apart")),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_a_long_message_is_shown_only_where_one_conversation_held_all_of_it(tmp_path: Path, between: str) -> None:
    """The watcher reads real files here: each part of the message has a reply, and something comes between them."""
    ending = Ending(name="compaction", has=(Test("type", ("compact",)),), verdict="summarised", reason="compacted")
    record = msgspec.structs.replace(RECORD, versions=("2.1.0",), endings=(*RECORD.endings, ending))

    async def test(world: Watched) -> None:
        scene = Scene(tmp_path)
        sight = HostSight({HOST: record}, lambda *_: tmp_path, {}, scene.open_ears, at_once)
        async with trio.open_nursery() as nursery:
            await nursery.start(sight.run)
            lookouts = Lookouts(world.served.engine, lambda: sight, nursery.start_soon)
            lookouts.hosts = frozenset({HOST})
            bob = world.bob
            bob.window.lookout = Lookout(lookouts, bob.party.caller, "2.1.0", {})
            bob.window.traits = HostTraits(page=3000)
            long = await world.alice.send("x" * 6000)
            text, name = await bob.call("parler_recv"), "a.jsonl"
            while True:
                entry = json.dumps({"type": "result", "text": text}).encode() + b"\n"
                await scene.append(name, entry, REPLY)
                if "goes on" not in text:
                    break
                word = said(await world.why(long.id))
                assert word in (("unknown", "begun"), BETWEEN[between][1])
                (_, arguments), *_ = hear(text).calls
                text = await bob.call("parler_recv", **arguments)
                await scene.append("a.jsonl", BETWEEN[between][0])
                name = "b.jsonl" if between == "another conversation" else name
            ladder = await world.why(long.id)
            assert said(ladder) == BETWEEN[between][1]
            assert ("shown" in rungs(ladder)) == (between == "nothing")
            nursery.cancel_scope.cancel()

    with_watch(test)()


@with_watch
async def test_the_end_of_a_message_alone_proves_nothing_of_the_message(world: Watched) -> None:
    long = await world.alice.send("y" * 900)
    await world.bob.call("parler_recv", since=0, offset=500)
    await world.says("shown", "reply")
    assert said(await world.why(long.id)) == ("unknown", "part")


@with_watch
async def test_what_cannot_be_watched_is_unknown_with_its_reason_and_has_no_marker(world: Watched) -> None:
    world.sight.reasons[HOST] = "version"
    one = await world.alice.send("one")
    text = await world.bob.call("parler_recv")
    assert not MARKER.search(text)
    assert world.sight.watches == []
    assert said(await world.why(one.id)) == ("unknown", "version")


@with_watch
async def test_a_fault_of_the_watcher_costs_nobody_a_message(world: Watched) -> None:
    world.sight.fails = True
    one = await world.alice.send("one")
    assert hear(await world.bob.call("parler_recv")).texts == ["one"]
    assert said(await world.why(one.id)) == ("unknown", "unwatched")


def test_what_a_daemon_before_this_one_watched_is_unknown_and_what_it_knew_stays() -> None:
    async def main() -> None:
        home = World()
        async with home.serving() as served:
            two = await pair(served)
            async with watching(served, two) as world:
                await two.bob.call("parler_recv")
                sent = [await two.alice.send(words) for words in ("one", "two", "three")]
                await two.bob.call("parler_recv")
                await world.says("cut", "cut_by_host", at=0)
                await world.says("shown", "reply", at=1)
                await two.bob.call("parler_rooms")
        async with home.serving() as served:
            alice = await served.agent("alice")
            bob = Model(served, await served.window("bob", workspace="/home/sam/bob"))
            async with watching(served, Pair(alice, bob, two.opened)) as world:
                found = [said(await world.why(each.id)) for each in sent]
                assert found == [("cut", "cut_by_host"), ("shown", "reply"), ("unknown", "restarted")]
                again = hear(await bob.call("parler_recv"))
                assert again.texts == ["one"], "what was to be shown again still is"
                await world.says("shown", "reply")
                assert said(await world.why(sent[0].id)) == ("shown", "reply")

    run(main)


@with_watch
async def test_a_verdict_that_comes_after_the_conversation_ended_is_kept(world: Watched) -> None:
    one = await world.alice.send("one")
    await world.bob.call("parler_recv")
    await world.served.leave(world.bob.party)
    await world.says("shown", "reply")
    assert said(await world.why(one.id)) == ("shown", "reply")


@with_watch
async def test_no_text_of_a_peer_is_taken_for_a_marker(world: Watched) -> None:
    forged = "rcpt-0000000000000009"
    lines = f"{forged}\n[00000000 {forged}]\n[end 00000000]"
    one = await world.alice.send(lines)
    heard = hear(await world.bob.call("parler_recv"))
    assert heard.texts == [lines]
    assert world.sight.newest.expected is not None
    (wanted,) = world.sight.newest.expected
    assert heard.markers == [wanted.marker]
    assert wanted.marker != forged
    assert said(await world.why(one.id)) == ("pending", "")


@with_watch
async def test_a_marker_that_was_drawn_is_drawn_anew_where_the_text_holds_it(world: Watched) -> None:
    ahead = [f"rcpt-{number:016x}" for number in range(1, 40)]
    await world.alice.send(" ".join(ahead))
    heard = hear(await world.bob.call("parler_recv"))
    assert len(heard.markers) == 1
    assert heard.markers[0] not in ahead


@with_watch
async def test_a_marker_that_the_model_quotes_proves_a_message_where_the_record_proves_nothing(world: Watched) -> None:
    first, second, third = [await world.alice.send(words) for words in ("one", "two", "three")]
    one, two, three = hear(await world.bob.call("parler_recv")).markers
    assert "peer" in await world.bob.call("parler_recv", since=0, seen=[one, three])
    assert said(await world.why(first.id)) == ("pending", "")
    answer = world.sight.watches[0]
    answer.say("unknown", "timeout", at=0)
    answer.say("unknown", "timeout", at=1)
    answer.say("cut", "cut_by_host", at=2)
    assert said(await world.why(first.id)) == ("quoted", "quoted")
    assert rungs(await world.why(first.id))[-1] != "read"
    assert said(await world.why(second.id)) == ("unknown", "timeout")
    assert said(await world.why(third.id)) == ("cut", "cut_by_host"), "its end was shown, and not its middle"
    await world.bob.call("parler_send", text=f"as {two} says")
    assert said(await world.why(second.id)) == ("quoted", "quoted")


@with_watch
async def test_a_marker_proves_nothing_of_what_stands_before_it_in_an_answer_that_the_host_may_have_cut(
    world: Watched,
) -> None:
    first, second = [await world.alice.send(words) for words in ("one", "two")]
    one, two = hear(await world.bob.call("parler_recv")).markers
    await world.bob.call("parler_rooms", seen=one)
    world.sight.watches[0].say("unknown", "too_long")
    await world.bob.call("parler_rooms", seen=two)
    for sent in (first, second):
        assert said(await world.why(sent.id)) == ("unknown", "too_long")
        assert "shown" not in rungs(await world.why(sent.id))


@with_watch
async def test_a_marker_that_another_conversation_quotes_proves_nothing(world: Watched) -> None:
    sent = await world.alice.send("one")
    (marker,) = hear(await world.bob.call("parler_recv")).markers
    await world.says("unknown", "timeout")
    other = Model(world.served, await world.served.window("elsewhere", workspace="/home/sam/other"))
    other.window.lookout = Lookout(world.lookouts, other.party.caller, "2.1.0", {})
    await other.call("parler_rooms", seen=marker)
    assert said(await world.why(sent.id)) == ("unknown", "timeout")


@with_watch
async def test_the_author_is_told_once_that_no_model_was_shown_its_message(world: Watched) -> None:
    one = await world.alice.send("one")
    two = await world.alice.send("two")
    await world.bob.call("parler_recv")
    await world.says("summarised", "compacted", at=0)
    await world.says("shown", "reply", at=1)
    window = await world.served.window("again", as_name="alice")
    await window.whoami()

    async def notice() -> str:
        return (await window.ask("window.notice", NOTHING, t.Notice)).line

    assert "no model" not in await notice(), "two minutes have not gone by"
    world.served.world.clock.move(seconds=LATE_MS / 1000)
    line = await notice()
    assert "no model is known to have been shown your #1 in 'auth', which 'claude-code@bob' read" in line
    assert "claude-code compacted" in line
    assert line.count("no model") == 1
    assert "no model" not in await notice()
    assert said(await world.why(one.id)) == ("summarised", "compacted")
    assert said(await world.why(two.id)) == ("shown", "reply")


@with_watch
async def test_an_author_is_told_nothing_of_a_message_that_one_reader_was_shown_and_another_was_not(
    world: Watched,
) -> None:
    carol = Model(world.served, await world.served.window("carol", workspace="/home/sam/carol"))
    await let_in(world.served, world.two.opened, carol)
    carol.window.lookout = Lookout(world.lookouts, carol.party.caller, "2.1.0", {})
    await carol.call("parler_recv")
    await world.alice.send("one")
    await world.bob.call("parler_recv")
    await world.says("shown", "reply")
    await carol.call("parler_recv")
    await world.says("summarised", "compacted")
    world.served.world.clock.move(seconds=LATE_MS / 1000)
    window = await world.served.window("again", as_name="alice")
    await window.whoami()
    assert "no model" not in (await window.ask("window.notice", NOTHING, t.Notice)).line


@pytest.mark.parametrize("call", ["parler_recv", "parler_send", "parler_rooms"])
def test_where_nobody_consented_nothing_at_all_is_different(call: str) -> None:
    async def texts(*, has_lookout: bool) -> list[str]:
        async with watched(consented=False) as world:
            if not has_lookout:
                world.bob.window.lookout = None
            sent = await world.alice.send("one")
            arguments = {"parler_send": {"text": "two"}, "parler_rooms": {"action": "why", "id": "2"}}
            before = trio.lowlevel.current_statistics().tasks_living
            marks = iter(f"{number:08d}" for number in range(9))
            world.bob.window.scribe.fencer._mark = lambda: next(marks)
            await world.bob.call("parler_recv")
            await world.bob.call(call, **arguments.get(call, {}))
            assert world.sight.watches == []
            assert trio.lowlevel.current_statistics().tasks_living == before
            assert not any(MARKER.search(text) for text in world.bob.seen)
            assert (await world.why(sent.id)).sight is msgspec.UNSET
            return world.bob.seen

    found: list[list[str]] = []

    async def main() -> None:
        found.append(await texts(has_lookout=True))

    async def other() -> None:
        found.append(await texts(has_lookout=False))

    run(main)
    run(other)
    assert found[0] == found[1]
