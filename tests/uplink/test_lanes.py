"""The messages of one agent for one room elsewhere: in order and once, whatever the relay refuses in the middle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import TextPart
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, By, MessageId, Millis, RoomId, Shown
from parlerd.engine.authors import Admission, Draft, LocalAuthor
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.engine.face import Pending as Begun
from parlerd.operations import types as t
from parlerd.store.port import OutboxRow
from parlerd.uplink import outbox as outbox_module
from parlerd.uplink.composing import Composer
from parlerd.uplink.connection import LinkConnection, Pending
from parlerd.uplink.counters import Counters
from parlerd.uplink.lanes import ANSWER_S, Post, mirror_of
from parlerd.uplink.link import Link
from parlerd.uplink.mirrors import Mirrors
from parlerd.uplink.outbox import Outbox, row_of
from parlerd.uplink.walking import Pull
from tests.support.engine import Party, run, settle
from tests.support.faces import PassingFace
from tests.support.relayed import Home, NamedRandomness, Wires
from tests.support.room_state import put
from tests.uplink.test_relayed import meeting_in, met, told

Answer = Callable[[t.PostEnvelope], ParlerError | None]


class RefusingPending:
    """A call that the relay refuses after a moment."""

    def __init__(self, error: ParlerError) -> None:
        self._error = error

    async def result(self, seconds: float | None = None) -> Any:
        await trio.sleep(0.1)
        raise self._error

    def when_done(self, then: Callable[[t.Result | None, ParlerError | None], None]) -> None:
        async def later() -> None:
            await trio.sleep(0.1)
            then(None, self._error)

        trio.lowlevel.spawn_system_task(later)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Lets a test refuse posts on their way to the relay, in the relay's place."""

    def begin_with(answer: Answer) -> None:
        begin = LinkConnection.begin

        def chosen(self: LinkConnection, op: str, params: t.Params) -> Pending | RefusingPending:
            error = answer(params) if isinstance(params, t.PostEnvelope) else None
            return begin(self, op, params) if error is None else RefusingPending(error)

        monkeypatch.setattr(LinkConnection, "begin", chosen)

    return begin_with


def _link(home: Home) -> Link:
    [link] = home.uplinks._links.values()
    return link


async def _all(*calls: Callable[[], Awaitable[t.Sent]]) -> list[t.Sent | ParlerError]:
    """What each of these calls answers; they are begun in this order."""
    found: list[t.Sent | ParlerError | None] = [None] * len(calls)

    async def one(number: int, call: Callable[[], Awaitable[t.Sent]]) -> None:
        try:
            found[number] = await call()
        except ParlerError as error:
            found[number] = error

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(one, number, call)
            await settle()
    return [each for each in found if each is not None]


def _codes(answers: list[t.Sent | ParlerError]) -> list[str]:
    return [each.code if isinstance(each, ParlerError) else "queued" if each.queued else "sent" for each in answers]


def test_a_refusal_in_the_middle_costs_the_others_nothing(tmp_path: Path, refusing: Callable[[Answer], None]) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            refusing(lambda post: Refused("text_too_long") if b"too long" in post.body else None)
            answers = await _all(*(partial(alice.send, text) for text in ("one", "two", "too long", "four", "five")))
            assert _codes(answers) == ["sent", "sent", "text_too_long", "sent", "sent"]
            assert await bob.read() == ["one", "two", "four", "five"]

    run(main)


def test_the_same_request_twice_at_once_is_refused_twice(tmp_path: Path, refusing: Callable[[Answer], None]) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            refusing(lambda post: Refused("text_too_long"))
            send = partial(meeting.alice.send, "too long", idempotency_key="once")
            assert _codes(await _all(send, send)) == ["text_too_long", "text_too_long"]

    run(main)


def test_a_message_under_way_to_a_relay_that_is_removed_waits_nowhere(
    tmp_path: Path, refusing: Callable[[Answer], None]
) -> None:
    """It would go out when the person adds the relay again, after its author was told that there is none."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            refusing(lambda post: Refused("room_busy", retry_after_ms=60_000))
            link, answers = _link(meeting.ann), []

            async def send() -> None:
                answers.extend(await _all(partial(meeting.alice.send, "never mind")))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await trio.sleep(1)
                await meeting.ann.uplinks.remove(link.name)
            assert _codes(answers) == ["home_not_trusted"]
            assert await link._desk.library.outbox(link.home) == []

    run(main)


def test_a_refusal_that_may_pass_stops_the_others_and_then_all_go_out_in_order(
    tmp_path: Path, refusing: Callable[[Answer], None]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            left = [3]

            def busy(post: t.PostEnvelope) -> ParlerError | None:
                left[0] -= 1
                return Refused("room_busy", retry_after_ms=400) if left[0] >= 0 else None

            refusing(busy)
            answers = await _all(*(partial(alice.send, text) for text in ("one", "two", "three")))
            assert _codes(answers) == ["sent", "sent", "sent"]
            assert await bob.read() == ["one", "two", "three"]

    run(main)


def test_what_is_refused_for_want_of_something_that_has_to_wait_is_sent_after_that(
    tmp_path: Path, refusing: Callable[[Answer], None]
) -> None:
    """The relay refuses to forget what it does not remember yet."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            refusals = [Refused("room_busy", retry_after_ms=1_000)]
            refusing(lambda post: refusals.pop() if refusals else None)
            meeting.wires.cut()
            await settle()
            await alice.ask("memory.remember", t.Remember(text="swordfish", key="secret"), t.Remembered)
            await alice.ask("memory.forget", t.Forget(key="secret"), t.Forgotten)
            meeting.wires.mend()
            await trio.sleep(60)
            assert not refusals
            shown = (await bob.recv(limit=100)).messages
            assert {each.kind for each in shown} == {"memory"}
            assert not any("swordfish" in str(each.text) for each in shown)
            assert (await bob.ask("memory.recall", t.Recall(query="swordfish"), t.Recalled)).facts == []

    run(main)


def test_a_message_that_a_relay_keeps_refusing_for_now_waits_in_the_outbox(
    tmp_path: Path, refusing: Callable[[Answer], None]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            until = trio.current_time() + 60

            def full(post: t.PostEnvelope) -> ParlerError | None:
                return Refused("relay_failed") if trio.current_time() < until else None

            refusing(full)
            answers = await _all(partial(alice.send, "one"), partial(alice.send, "two"))
            assert _codes(answers) == ["queued", "queued"]
            assert (await alice.send("three")).queued
            heard: list[str] = []
            while len(heard) < 3:
                heard += await bob.read(wait=300)
            assert heard == ["one", "two", "three"]
            await trio.sleep(1)
            assert list(_link(meeting.ann).outbox) == []

    run(main)


def test_a_message_that_the_relay_takes_while_it_is_still_being_kept_waits_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy disk a row of the outbox may take longer than the way to the relay and back."""
    put = Outbox.put

    async def slow(self: Outbox, row: OutboxRow) -> None:
        await put(self, row)
        await trio.sleep(2)

    monkeypatch.setattr(Outbox, "put", slow)

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            meeting.wires.cut()
            heard: list[str] = []
            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(alice.send, f"{number}")
                    await trio.sleep(1)
                    if number == 5:
                        meeting.wires.mend()
            while len(heard) < 12:
                heard += await bob.read(wait=300)
            assert heard == [f"{number}" for number in range(12)]
            await trio.sleep(10)
            assert list(_link(meeting.ann).outbox) == []

    run(main)


@pytest.mark.parametrize("waited", [False, True], ids=["sent straight", "kept and sent later"])
def test_a_message_that_was_made_before_is_the_same_one_also_when_its_reader_left(tmp_path: Path, waited: bool) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            send = partial(alice.send, visible_to=("bob",), to=("bob",), idempotency_key="secret")
            link = _link(meeting.ann)
            first = await send("a secret")
            await bob.close(meeting.opened.room)
            assert (
                await alice.refused("message.send", t.Send(text="more", visible_to=("bob",)))
            ).code == "no_such_agent"
            if waited:
                # As a daemon finds it that was killed before it heard the answer.
                [lane] = link._lanes.values()
                me = await meeting.ann_served.engine.desk.me(alice.caller)
                by = meeting.ann_served.engine.desk.by(alice.caller, me)
                command = c.PostMessage(
                    operation="message.send",
                    idempotency_key="secret",
                    input=b"any",
                    kind="text",
                    id=MessageId(first.id),
                    to=("bob",),
                    visibility=("bob",),
                )
                row = row_of(
                    link.home, lane.room, command, by, Draft((TextPart("a secret"),), Shown(0, b"")), Millis(1)
                )
                await link.outbox.put(row)
                lane.restore(Post(command, by, Draft((TextPart("a secret"),), Shown(0, b"")), is_kept=True))
                lane.go_on()
                await trio.sleep(10)
                assert list(link.outbox) == []
            again = await send("a secret")
            assert (again.id, again.replayed, again.queued) == (first.id, True, False)
            asked: dict[str, Any] = {
                "text": "a secret",
                "visible_to": ("bob",),
                "to": ("bob",),
                "idempotency_key": "secret",
            }
            for other in ({"text": "another"}, {"visible_to": None}, {"to": ("x",)}, {"kind": "review"}):
                error = await alice.refused("message.send", t.Send(**{**asked, **other}))
                assert error.code == "idempotency_conflict", other
            await alice.close(meeting.opened.room)
            assert (await send("a secret", room=meeting.opened.room)).replayed

    run(main)


def test_an_author_hears_of_a_queued_message_that_was_refused_for_good(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            window = await ben.connect("mcp", window="w1", as_name="bob", host="codex")
            alice, room = meeting.alice, meeting.opened.room
            meeting.wires.cut_off("ben")
            sent = await window.send("too late", room=room)
            assert sent.queued
            await alice.close(room)
            meeting.wires.bring_back("ben")
            await trio.sleep(200)
            [row] = list(_link(meeting.ben).outbox)
            assert (row.message, row.refused) == (sent.id, "room_closed")
            [entry] = ben.world.home_book.listed()
            assert entry.waiting == 0
            notice = await window.ask("window.notice", t.AskNotice(), t.Notice)
            assert f"your queued message {sent.id} was refused in 'auth-redesign' (room_closed)" in notice.line
            again = await window.ask("window.notice", t.AskNotice(), t.Notice)
            assert "refused" not in again.line

    run(main)


def test_what_a_disabled_agent_wrote_meanwhile_is_refused_when_it_arrives_and_what_it_writes_then_goes_on(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            await put(alice, "lamp", 1)
            await bob.send("before")
            await bob.ask("agent.enable", t.EnableAgent(enabled="has(state._shared.lamp)"), t.AgentEnabled)
            meeting.wires.cut_off("ben")
            await trio.sleep(60)
            sent = await bob.send("in the dark")
            assert sent.queued
            await alice.ask("state.delete", t.DeleteState(key="lamp"), t.StateWritten)
            meeting.wires.bring_back("ben")
            await trio.sleep(120)
            [row] = list(_link(meeting.ben).outbox)
            assert (row.message, row.refused) == (sent.id, "agent_disabled")
            error = await bob.refused("message.send", t.Send(text="still dark"))
            assert (error.code, error.spec.retryable) == ("agent_disabled", False)
            await put(alice, "lamp", 1)
            assert (await bob.ask("message.send", t.Send(text="in the light"), t.Sent)).seq is not None
            heard: list[str] = []
            while len(heard) < 2:
                heard += await alice.read(wait=300)
            assert heard == ["before", "in the light"]

    run(main)


class _Unheard(PassingFace):
    """Takes a message of Ben's, and the cable is cut before the answer."""

    def __init__(self, engine: EngineFace, wires: Wires) -> None:
        super().__init__(engine)
        self._wires = wires

    def begin(self, op: str, params: t.Params, caller: Caller) -> Begun | None:
        return None

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await super().call(op, params, caller)
        if op == "link.post":
            self._wires.cut_off("ben")
        return answer


def test_what_the_relay_took_of_who_was_put_out_since_is_not_said_to_be_refused(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
        meeting.relay.face = lambda engine: _Unheard(engine, meeting.wires)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob, room = await ann.agent("alice"), await ben.agent("bob"), meeting.opened.room
            assert (await bob.send("taken", room=room)).queued
            late = await bob.send("too late", room=room)
            assert late.queued
            await alice.ask("room.kick", t.KickMember(agent="bob", room=room), t.MemberGone)
            meeting.wires.bring_back("ben")
            await trio.sleep(200)
            assert await alice.read(room=room) == ["taken"]
            listed = meeting.ben.uplinks.undelivered(AgentId((await bob.whoami()).id))
            assert [(each.id, each.code) for each in listed] == [(late.id, "no_such_room")]
            assert [row.message for row in _link(meeting.ben).outbox] == [late.id]

    run(main)


def test_a_full_outbox_is_said_and_nothing_is_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            monkeypatch.setattr(outbox_module, "MAX_MESSAGES", 2)
            meeting.wires.cut()
            assert (await meeting.alice.send("one")).queued
            assert (await meeting.alice.send("two")).queued
            refused = await meeting.alice.refused("message.send", t.Send(text="three"))
            assert refused.code == "outbox_full"
            meeting.wires.mend()
            heard: list[str] = []
            while len(heard) < 2:
                heard += await meeting.bob.read(wait=300)
            assert heard == ["one", "two"]

    run(main)


def test_what_the_room_itself_would_refuse_is_refused_here_also_while_nobody_is_reached(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut()
            refused = await meeting.alice.refused("message.send", t.Send(text="hello", to=("nobody",)))
            assert refused.code == "no_such_agent"
            assert _link(meeting.ann).outbox.waiting == 0

    run(main)


def test_a_queued_message_asked_for_again_is_the_same_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            meeting.wires.cut()
            first = await alice.send("once", idempotency_key="k1")
            again = await alice.send("once", idempotency_key="k1")
            assert first.queued
            assert (again.queued, again.id, again.replayed) == (True, first.id, True)
            other = await alice.refused("message.send", t.Send(text="other", idempotency_key="k1"))
            assert other.code == "idempotency_conflict"
            meeting.wires.mend()
            assert await bob.read(wait=300) == ["once"]
            await trio.sleep(300)
            assert await bob.read() == []

    run(main)


def test_a_thread_whose_end_was_forgotten_is_found_again_at_the_relay(tmp_path: Path) -> None:
    """The daemon lost its mirror, as a restored backup does: the relay knows a newer message of its agent."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            await alice.send("one")
            lane = _link(meeting.ann).lane(RoomId(meeting.opened.room), AgentId((await alice.whoami()).id))
            actor = await mirror_of(meeting.ann.uplinks._desk, lane.room)
            actor.aggregate.state.messages.threads.clear()
            lane._acknowledged.clear()
            lane._ends.clear()
            assert not (await alice.send("two")).queued
            assert await bob.read() == ["one", "two"]

    run(main)


def test_a_requester_who_is_shown_nothing_of_what_it_asked_for_goes_on_where_its_thread_ends(tmp_path: Path) -> None:
    """Nothing else tells that: an answer was lost, and the mirror holds what others here may read, and later."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            worker, carol = await ann.agent("alice"), await ann.agent("carol")
            served = await worker.ask("queue.serve", t.Serve(service="review"), t.Served)
            ask = partial(carol.send, service="review")
            assert not (await ask("one")).queued
            await trio.sleep(10)
            lane = _link(meeting.ann).lane(RoomId(served.room), AgentId((await carol.whoami()).id))
            actor = await mirror_of(meeting.ann.uplinks._desk, lane.room)
            actor.aggregate.state.messages.threads.clear()
            lane._acknowledged.clear()
            lane._ends.clear()
            second = await ask("two")
            assert not second.queued
            assert meeting.relay.store.find_message(MessageId(second.id)) is not None

    run(main)


@pytest.mark.parametrize(
    "end",
    [
        {"counter": 2**52, "envelope": "0" * 64},
        {"counter": 7, "envelope": "zz"},
        {"counter": "7", "envelope": 1},
        {"counter": True, "envelope": "0" * 64},
        {},
        # It is one that a thread can have, and a lie: the home says another one when it is asked the next time.
        {"counter": 2**52 - 1, "envelope": "0" * 64},
    ],
    ids=["a counter that is too great", "no hash", "neither number nor text", "true", "nothing", "a lie"],
)
def test_a_relay_that_says_once_where_a_thread_does_not_end_stops_nobody(
    tmp_path: Path, refusing: Callable[[Answer], None], end: dict[str, Any]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            refused = [Refused("envelope_refused", what="previous", **end)]
            refusing(lambda post: refused.pop() if refused else None)
            for text in ("one", "two"):
                assert not (await meeting.alice.send(text)).queued
            assert await meeting.bob.read() == ["one", "two"]

    run(main)


class _Dawdling:
    """Lets what a home is told of its rooms wait for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        take = Mirrors.take

        async def later(mirrors: Mirrors, item: t.LinkItem, pull: Pull | None = None) -> bool:
            await trio.sleep(self.seconds)
            return await take(mirrors, item, pull)

        monkeypatch.setattr(Mirrors, "take", later)


def test_what_was_given_up_and_asked_for_again_is_answered_when_the_first_try_would_be_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dawdling = _Dawdling(monkeypatch)

    async def main() -> None:
        async with met(tmp_path) as meeting:
            remember = t.Remember(text="PKCE", key="plan", if_version=0, idempotency_key="once")
            begun = trio.current_time()
            for ours, _ in meeting.wires.open:
                ours.hold()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_refused, meeting.alice, remember)
                await trio.sleep(1)
                meeting.wires.cut()
            meeting.wires.mend()
            await told(meeting)
            # The home takes the second try at once, and tells of it after the moment at which the first would be late.
            dawdling.seconds = ANSWER_S - 0.5
            assert begun + 0.5 < trio.current_time() < begun + ANSWER_S
            with trio.fail_after(60):
                kept = await meeting.alice.ask("memory.remember", remember, t.Remembered)
            assert [fact.version for fact in kept.facts] == [1]

    run(main)


async def _refused(who: Party, remember: t.Remember) -> None:
    assert (await who.refused("memory.remember", remember)).code == "home_unreachable"


async def _signed(home: Home, room: str, agent: AgentId, *, ahead_ms: int) -> t.PostEnvelope:
    """What a daemon of this home signs whose clock is ahead, or a copy of the home that was started later."""
    actor = await mirror_of(home.uplinks._desk, RoomId(room))
    counters = Counters(Millis(home.world.clock.now() + ahead_ms))
    author = LocalAuthor(home.world.keys, NamedRandomness("other"))
    other = Composer(home.uplinks._desk, author, counters, home.uplinks._secrets)
    command = c.PostMessage(kind="text", id=MessageId("m_other"), idempotency_key="k_other", fresh=True)
    words = Draft((TextPart("not from here"),), actor.aggregate.state.shown)
    by = By(agent, home.world.keys.principal, "", "shell", "cli")
    composed = other.sign(await other.decided(actor, command, by, words), command, by, words, {})
    return t.PostEnvelope(room=room, agent=agent, id=composed.id, body=composed.body, signature=composed.signature)


def test_the_number_of_an_envelope_tells_nothing_of_what_its_author_says_to_others(tmp_path: Path) -> None:
    """Whoever reads two public messages would count what was said privately between them, or in other rooms."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, room = meeting.alice, meeting.opened.room
            ids = [(await alice.send("one", room=room)).id]
            await alice.send("between us", room=room, visible_to=("bob",))
            await alice.send("elsewhere", room=(await alice.open("another", clear=True)).room)
            ids.append((await alice.send("two", room=room)).id)
            counters = []
            for id in ids:
                place = meeting.relay.store.find_message(MessageId(id))
                assert place is not None
                header = meeting.relay.store.message(*place)
                assert header is not None
                assert isinstance(header.event, e.MessagePosted)
                counters.append(header.event.counter)
            assert counters[1] - counters[0] == 1

    run(main)


def test_somebody_elsewhere_who_signs_with_an_agents_key_is_found_out(tmp_path: Path) -> None:
    """A copy of a home writes under the same key. The home itself cannot have signed what it is told."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice = meeting.alice
            agent = AgentId((await alice.whoami()).id)
            post = await _signed(meeting.ann, meeting.opened.room, agent, ahead_ms=60_000)
            connection = _link(meeting.ann).connection
            assert connection is not None
            await connection.call("link.post", post)
            await trio.sleep(1)
            refused = await alice.refused("message.send", t.Send(text="is this me?"))
            assert refused.code == "key_used_elsewhere"
            assert not (await meeting.bob.send("bob may still write")).queued

    run(main)


def test_what_a_daemon_before_this_one_sent_is_not_taken_for_somebody_elses(tmp_path: Path) -> None:
    """Its clock was ahead, and it died before it heard of its message."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving() as relay, meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                await meeting.meet(ann, ben)
                agent = AgentId((await meeting.alice.whoami()).id)
                post = await _signed(meeting.ann, meeting.opened.room, agent, ahead_ms=3_600_000)
            command, words = Admission().take(agent, post.body, post.signature)
            by = By(agent, meeting.ann.world.keys.principal, "", "shell", "cli")
            await (await relay.rooms.get(RoomId(post.room))).submit(command, by, words)
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                await trio.sleep(10)
                assert not (await alice.send("still me")).queued
                assert await meeting.bob.read() == ["not from here", "still me"]

    run(main)


def test_a_relay_that_denies_the_line_that_it_showed_us_is_found_out(
    tmp_path: Path, refusing: Callable[[Answer], None]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            refusing(lambda post: Refused("envelope_refused", what="line"))
            [answer] = await _all(partial(meeting.alice.send, "one"))
            assert _codes([answer]) == ["relay_equivocation"]
            refused = await meeting.alice.refused("message.send", t.Send(text="two"))
            assert refused.code == "relay_equivocation"
            assert await meeting.alice.read() == []

    run(main)


def test_what_a_relay_refuses_of_an_envelope_again_and_again_reaches_its_author_as_the_relays_refusal(
    tmp_path: Path, refusing: Callable[[Answer], None]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            refused = [""]
            refusing(lambda post: Refused("envelope_refused", what=refused[0]))
            for what in ("previous", "via"):
                refused[0] = what
                [answer] = await _all(partial(meeting.alice.send, "one"))
                assert isinstance(answer, ParlerError)
                assert (answer.code, answer.details["what"]) == ("relay_refused", what)

    run(main)


def test_a_lane_that_is_looked_at_while_a_message_is_under_way_does_not_queue_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("one")
            [lane] = _link(meeting.ann)._lanes.values()
            found: list[t.Sent] = []

            async def send() -> None:
                found.append(await meeting.alice.send("two"))

            looks = 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                while not found and looks < 1_000:
                    await trio.lowlevel.checkpoint()
                    looks += len(lane)
                    lane.go_on()
            assert looks
            assert not found[0].queued

    run(main)


def test_messages_that_are_sent_straight_need_no_task_of_their_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of the loop for each would cost as much as deciding the message."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            begun: list[str] = []
            spawn = Link.spawn

            def noted(self: Link, work: Callable[..., Awaitable[Any]], *args: Any) -> bool:
                begun.append(getattr(work, "__name__", ""))
                return spawn(self, work, *args)

            monkeypatch.setattr(Link, "spawn", noted)
            answers = await _all(*(partial(meeting.alice.send, text) for text in ("one", "two", "three")))
            assert _codes(answers) == ["sent", "sent", "sent"]
            assert begun == ["_watch"]
            assert await meeting.bob.read() == ["one", "two", "three"]

    run(main)
