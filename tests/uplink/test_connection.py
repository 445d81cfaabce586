"""A link between a daemon and a relay, both ends ours: who is let in, who is believed, calls, streams, every end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Label, PrincipalId
from parlerd.identity.transcript import Transcript
from parlerd.operations import types as t
from parlerd.uplink import connection
from parlerd.uplink.connection import FINAL, PROOF_SECONDS, LinkConnection
from parlerd.wire import codec
from parlerd.wire.calls import CREDIT
from parlerd.wire.link import LINK_IN_FLIGHT, LINK_PROTOCOL, Challenge, LinkHello, LinkWelcome, Proof, RelayPeer
from parlerd.wire.messages import Item
from relay.link import Limits
from tests.support.fake_engine import FakeEngine
from tests.support.links import (
    CERTIFICATE,
    OTHER_PERSON,
    OTHER_RELAY,
    PERSON,
    RELAY,
    SECRET,
    Book,
    dialled,
    linked,
    links_of,
    run,
)
from tests.support.message_streams import MemoryStream, pair

SEND = t.Send(text="four")


async def refusal(stream: MemoryStream, **more: Any) -> ParlerError:
    """Why dialling fails; every failure closes the stream."""
    with pytest.raises(ParlerError) as caught:
        async with dialled(stream, **more):
            raise AssertionError("there is a link")
    assert stream.close_code is not None
    return caught.value


async def refused_by(book: Book, **more: Any) -> str:
    """The code with which a relay with that book does not let somebody in."""
    ours, theirs = pair(CERTIFICATE)
    links = links_of(FakeEngine(), book)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(links.serve, theirs)
        code = (await refusal(ours, **more)).code
    assert links.proven == 0
    return code


# -- who is let in ---------------------------------------------------------------------------------------------


def test_a_link_says_whose_it_is_and_how_the_clocks_differ() -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with linked(engine) as (links, link, _):
            assert (link.home, link.welcome.name, link.welcome.log) == (RELAY.id, "team", "log1")
            assert link.welcome.addresses == ("192.0.2.1:7777",)
            assert link.clock_ahead_ms == 4_000
            (caller,) = engine.connected
            assert caller.facts.authority.principal == PERSON.id
            assert caller.facts.authority.planes == {"link"}
            assert caller.facts.via == "link"
            assert caller.facts.channel == link.channel
            assert len(link.channel) == 32
            assert links.of(PrincipalId(PERSON.id)) == 1
        assert engine.disconnected == [caller]
        assert links.proven == 0

    run(main)


def test_each_link_has_a_channel_of_its_own() -> None:
    async def main() -> None:
        links = links_of(FakeEngine())
        async with linked(FakeEngine(), links) as (_, one, _), linked(FakeEngine(), links) as (_, two, _):
            assert one.channel != two.channel

    run(main)


def test_who_holds_a_link_longer_than_it_lasts_hears_that_it_is_over() -> None:
    async def main() -> None:
        told: list[str] = []

        async def ask(link: LinkConnection) -> None:
            with pytest.raises(ParlerError) as error:
                await link.call("message.recv", t.Recv(wait_ms=60_000))
            told.append(error.value.code)

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with linked(FakeEngine(), links_of(FakeEngine())) as (_, link, _):
                    nursery.start_soon(ask, link)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.sleep_forever()
            await ask(link)
        assert told == ["home_unreachable"] * 2

    run(main)


def test_nothing_of_the_machine_crosses_with_the_hello_and_no_secret_ever() -> None:
    async def main() -> None:
        async with linked(FakeEngine(), links_of(FakeEngine(), Book()), secret=SECRET) as (_, _, stream):
            said = b"".join(stream.sent)
            told = b"".join(stream.other.sent)
            assert SECRET not in said + told
            assert b"laptop" in said
            for word in (b"/home", b"pid", b"cwd"):
                assert word not in said

    run(main)


def test_the_secret_enrols_a_person_once_and_their_key_logs_in_from_then_on() -> None:
    async def main() -> None:
        book = Book()
        assert await refused_by(book) == "not_enrolled"
        async with linked(FakeEngine(), links_of(FakeEngine(), book), secret=SECRET):
            assert book.names == {PERSON.id: "laptop"}
        async with linked(FakeEngine(), links_of(FakeEngine(), book)):
            pass
        assert await refused_by(book, key=OTHER_PERSON) == "not_enrolled"

    run(main)


def test_a_wrong_secret_is_said_before_anything_is_proved_to_the_relay() -> None:
    async def main() -> None:
        book = Book()
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(FakeEngine(), book).serve, theirs)
            assert (await refusal(ours, secret=bytes(16))).code == "wrong_secret"
        assert len(ours.sent) == 1  # the hello
        assert book.names == {}

    run(main)


def test_a_wrong_secret_is_refused_for_a_person_who_is_known_too() -> None:
    async def main() -> None:
        assert await refused_by(Book(PERSON), secret=bytes(16)) == "wrong_secret"

    run(main)


def test_a_person_who_was_kicked_comes_back_with_the_new_secret_alone() -> None:
    async def main() -> None:
        book = Book(PERSON)
        book.kick(PrincipalId(PERSON.id))
        assert await refused_by(book) == "kicked"
        assert await refused_by(book, secret=SECRET) == "wrong_secret"
        async with linked(FakeEngine(), links_of(FakeEngine(), book), secret=book.current):
            assert not book.kicked

    run(main)


def test_a_kick_while_the_disk_is_slow_is_not_overtaken() -> None:
    async def main() -> None:
        book = Book()
        book.slow = 1.0

        async def kick() -> None:
            await trio.sleep(0.5)
            assert PERSON.id not in book.names
            await trio.sleep(0.5)
            book.kick(PrincipalId(PERSON.id))

        class Late(Book):
            async def enrol(self, principal: PrincipalId, name: Label) -> None:
                await super().enrol(principal, name)
                self.kick(principal)

        assert await refused_by(Late(), secret=SECRET) == "kicked"

    run(main)


# -- who is believed -------------------------------------------------------------------------------------------


async def relay_that(
    stream: MemoryStream,
    *,
    key: Any = RELAY,
    claimed: str = RELAY.id,
    certificate: bytes = CERTIFICATE,
    signature: bytes | None = None,
    nonce: bytes | None = None,
) -> None:
    """A relay that answers a hello in its own way, and welcomes whoever proves anything."""
    peer = RelayPeer()
    data = await stream.receive()
    assert data is not None
    (hello,) = peer.receive(data)
    assert isinstance(hello, LinkHello)
    home = HomeId(claimed)
    about = Transcript(home, hello.principal, nonce or hello.nonce, b"r" * 32, certificate)

    class Any_:
        def sign(self, id: str, domain: Any, data: bytes) -> bytes:
            signed: bytes = key.sign(domain, data)
            return signed

    proof = signature or about.sign("relay", Any_())
    mac = about.mac("relay", SECRET) if hello.enrol else b""
    await stream.send(
        peer.challenge(Challenge(home=home, nonce=b"r" * 32, signature=proof, mac=mac, clock=1, log="log1"))
    )
    data = await stream.receive()
    if data is None:
        return
    (event,) = peer.receive(data)
    assert isinstance(event, Proof)
    await stream.send(
        peer.welcome(LinkWelcome(protocol=LINK_PROTOCOL, version="9", operations=("message.send",), log="log1"))
    )
    await stream.receive()


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize(
    "how",
    [
        {"key": OTHER_RELAY, "claimed": OTHER_RELAY.id},
        {"key": OTHER_RELAY},
        {"certificate": b"m" * 32},
        {"certificate": b""},
        {"nonce": b"o" * 32},
        {"signature": bytes(64)},
        {"claimed": PERSON.id, "key": PERSON},
        {"claimed": "N"},
    ],
    ids=[
        "another key",
        "the right key without its proof",
        "another certificate than was shown",
        "no certificate",
        "a proof of another link",
        "no proof",
        "a person's key",
        "no key",
    ],
)
def test_a_relay_that_cannot_prove_the_key_we_know_is_told_nothing(how: dict[str, Any], secret: bytes | None) -> None:
    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: relay_that(theirs, **how))
            error = await refusal(ours, secret=secret)
        assert error.code == "wrong_relay"
        assert len(ours.sent) == 1  # the hello, and no proof
        assert theirs.close_code == 4001

    run(main)


def test_the_relay_of_these_tests_is_believed_where_it_does_everything_right() -> None:
    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay_that, theirs)
            async with dialled(ours, secret=SECRET) as link:
                assert link.welcome.version == "9"

    run(main)


def test_a_relay_that_stands_between_us_and_the_real_one_gets_nowhere() -> None:
    """It passes every message on, but has a certificate of its own."""

    async def main() -> None:
        ours, middle = pair(b"m" * 32)
        beyond, theirs = pair(CERTIFICATE)
        engine = FakeEngine()

        async def carry(source: MemoryStream, target: MemoryStream) -> None:
            while (data := await source.receive()) is not None:
                await target.send(data)
            await target.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(engine).serve, theirs)
            nursery.start_soon(carry, middle, beyond)
            nursery.start_soon(carry, beyond, middle)
            assert (await refusal(ours)).code == "wrong_relay"
        assert engine.connected == []

    run(main)


def test_a_relay_that_never_answers_is_given_up_in_time() -> None:
    async def main() -> None:
        ours, _ = pair(CERTIFICATE)
        start = trio.current_time()
        assert (await refusal(ours)).code == "home_unreachable"
        assert trio.current_time() - start == PROOF_SECONDS

    run(main)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1012, "home_unreachable"),
        (1013, "busy"),
        (4001, "not_enrolled"),
        (4002, "unsupported_version"),
        (4003, "kicked"),
        (1006, "home_unreachable"),
    ],
)
def test_a_relay_that_hangs_up_says_why_with_its_close_code(code: int, said: str) -> None:
    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.close, code)
            assert (await refusal(ours)).code == said

    run(main)


@pytest.mark.parametrize("noise", [b"", b"\x00\x00\x00\x00", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 64])
def test_whatever_a_relay_says_in_place_of_a_challenge_is_one_error(noise: bytes) -> None:
    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send, noise)
            error = await refusal(ours)
        assert error.code in ("bad_frame", "frame_too_large", "home_unreachable")

    run(main)


# -- calls -----------------------------------------------------------------------------------------------------


def test_a_call_is_answered_with_its_result_or_with_its_error_in_our_words() -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with linked(engine) as (_, link, _):
            sent = await link.call("message.send", SEND)
            assert isinstance(sent, t.Sent)
            assert sent.seq == 4
            engine.failing["message.send"] = ParlerError("room_closed", "words of theirs", room="r_1", path="/x y")
            with pytest.raises(ParlerError) as caught:
                await link.call("message.send", SEND)
            assert (caught.value.code, caught.value.details) == ("room_closed", {"room": "r_1"})
            assert "theirs" not in caught.value.message
            engine.failing["message.send"] = RuntimeError("someone wrote this")
            with pytest.raises(ParlerError, match="relay_failed"):
                await link.call("message.send", SEND)

    run(main)


def test_what_was_begun_in_an_order_is_heard_in_this_order() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.posts = True
        async with linked(engine) as (_, link, _):
            pending = [link.begin("message.send", t.Send(text="x" * n)) for n in range(1, 30)]
            answers = [await each.result() for each in reversed(pending)]
            assert [answer.seq for answer in answers if isinstance(answer, t.Sent)] == list(reversed(range(1, 30)))

    run(main)


def test_a_call_for_which_no_task_waits_is_told_its_answer_once_or_why_there_is_none() -> None:
    async def main() -> None:
        engine = FakeEngine()
        heard: list[int | str | None] = []

        def told(answer: t.Result | None, error: ParlerError | None) -> None:
            assert (answer is None) is not (error is None)
            heard.append(answer.seq if isinstance(answer, t.Sent) else error.code if error is not None else "")

        async with linked(engine) as (_, link, stream):
            link.begin("message.send", SEND).when_done(told)
            await trio.sleep(1)
            engine.failing["message.send"] = ParlerError("room_closed")
            link.begin("message.send", SEND).when_done(told)
            await trio.sleep(1)
            assert heard == [4, "room_closed"]
            engine.endless = True
            link.begin("message.recv", t.Recv(wait_ms=60_000)).when_done(told)
            await trio.sleep(1)
            stream.cut()
            await link.closed.wait()
            assert heard == [4, "room_closed", "home_unreachable"]

    run(main)


def test_a_call_that_takes_too_long_is_withdrawn_and_said_to_be_unreachable() -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with linked(engine) as (_, link, _):
            start = trio.current_time()
            with pytest.raises(ParlerError, match="home_unreachable"):
                await link.call("message.recv", t.Recv(wait_ms=60_000), seconds=5)
            assert trio.current_time() - start == 5
            assert isinstance(await link.call("message.send", SEND), t.Sent)
            assert engine.cancelled["message.recv"] == 1

    run(main)


def test_a_caller_that_goes_away_withdraws_its_call() -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with linked(engine) as (_, link, _):
            with trio.move_on_after(1):
                await link.call("message.recv", t.Recv(wait_ms=60_000))
            await link.call("message.send", SEND)
            assert engine.cancelled["message.recv"] == 1

    run(main)


def test_more_calls_than_a_link_carries_wait_for_room_and_are_all_answered() -> None:
    async def main() -> None:
        engine = FakeEngine()
        answered = 0

        async def wait(link: Any) -> None:
            nonlocal answered
            await link.call("message.recv", t.Recv(wait_ms=1_000))
            answered += 1

        async with linked(engine) as (_, link, _):
            async with trio.open_nursery() as nursery:
                for _ in range(LINK_IN_FLIGHT + 50):
                    nursery.start_soon(wait, link)
                await trio.sleep(0.5)
                assert engine.under_way["message.recv"] == LINK_IN_FLIGHT
                with pytest.raises(ParlerError, match="busy"):
                    link.begin("message.send", SEND)
            assert answered == LINK_IN_FLIGHT + 50

    run(main)


def test_an_operation_that_the_relay_does_not_list_is_not_asked() -> None:
    async def main() -> None:
        async with linked(FakeEngine(), links_of(FakeEngine(), offered=("room.watch",))) as (_, link, stream):
            before = len(stream.sent)
            with pytest.raises(ParlerError, match="relay_older"):
                await link.call("message.send", SEND)
            assert len(stream.sent) == before

    run(main)


def test_an_answer_that_is_no_answer_to_the_question_is_trouble_of_the_relay() -> None:
    class Wrong(FakeEngine):
        async def call(self, op: str, params: t.Params, caller: Any) -> t.Result:
            return t.Noted()

    async def main() -> None:
        async with linked(Wrong()) as (_, link, _):
            with pytest.raises(ParlerError) as caught:
                await link.call("message.send", SEND)
            assert caught.value.code == "relay_failed"
            assert "$" not in caught.value.message

    run(main)


def test_an_item_in_answer_to_a_call_is_trouble_of_the_relay() -> None:
    async def main() -> None:
        async with linked(FakeEngine()) as (_, link, _):
            pending = link.begin("message.recv", t.Recv(wait_ms=60_000))
            link.take(Item(id=0, item=msgspec.Raw(b"\xc0")))
            with pytest.raises(ParlerError) as caught:
                await pending.result()
            assert caught.value.code == "relay_failed"

    run(main)


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_relay_that_sends_more_than_it_was_given_credit_for_loses_its_link() -> None:
    async def main() -> None:
        async with linked(FakeEngine()) as (_, link, _), link.stream("room.watch", t.WatchRoom()):
            for _ in range(CREDIT):
                link.take(Item(id=0, item=msgspec.Raw(b"\xc0")))
            assert not link.closed.is_set()
            link.take(Item(id=0, item=msgspec.Raw(b"\xc0")))
            assert link.closed.is_set()
            assert link.lost is not None
            assert link.lost.code == "bad_frame"

    run(main)


@pytest.mark.parametrize("number", [-1, 1 << 53, (1 << 64) - 1])
def test_a_number_that_no_store_and_no_clock_takes_is_no_answer(number: int) -> None:
    """Such a number would fail where it is stored or shown, with what others store or read in the same moment."""
    message = t.LinkMessage(at=1, agent="U", principal="A", body=b"x", signature=b"")
    page = t.LinkPage(public=1, line=b"", before={"U": 1}, jumped=False, messages=[message])
    card = t.Card(whole=False, home="N")
    good = t.LinkItem(room="r_1", card=card, page=page, presence=[t.Present(agent="U", presence="idle", since=1)])
    told = msgspec.to_builtins(good, builtin_types=(bytes,))
    assert connection._decoded("link.follow", codec.encode(told)) == good
    for path in (
        ("page", "public"),
        ("page", "before", "U"),
        ("page", "messages", 0, "at"),
        ("presence", 0, "since"),
        ("card", "opened_at"),
        ("card", "moves"),
        ("card", "asks"),
    ):
        wrong = msgspec.to_builtins(good, builtin_types=(bytes,))
        place = wrong
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = number
        with pytest.raises(ParlerError) as refused:
            connection._decoded("link.follow", codec.encode(wrong))
        assert refused.value.code == "relay_failed", path


def test_a_stream_gives_its_items_and_ends() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.items = 200  # more than the credit of one stream
        async with linked(engine) as (_, link, _):
            async with link.stream("room.watch", t.WatchRoom()) as items:
                seen = [item.at async for item in items if isinstance(item, t.WatchItem)]
            assert seen == list(range(200))

    run(main)


def test_a_stream_that_nobody_reads_stops_at_its_credit_and_holds_up_no_call() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.items = 1_000
        async with linked(engine) as (_, link, _):
            async with link.stream("room.watch", t.WatchRoom()) as items:
                await trio.sleep(10)
                assert engine.sent_items < 100
                assert isinstance(await link.call("message.send", SEND), t.Sent)
                async for _ in items:
                    break
            await trio.sleep(1)
            assert engine.under_way["room.watch"] == 0

    run(main)


def test_a_stream_that_breaks_off_says_why() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.items = 3
        engine.failing["room.watch"] = ParlerError("no_such_room")
        async with linked(engine) as (_, link, _), link.stream("room.watch", t.WatchRoom()) as items:
            for _ in range(3):
                assert isinstance(await anext(items), t.WatchItem)
            with pytest.raises(ParlerError, match="no_such_room"):
                await anext(items)

    run(main)


# -- how a link ends -------------------------------------------------------------------------------------------


def test_a_link_that_is_cut_ends_every_call_and_stream_with_one_reason() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.endless = True
        ended = []

        async def call(link: Any) -> None:
            with pytest.raises(ParlerError) as caught:
                await link.call("message.recv", t.Recv(wait_ms=60_000))
            ended.append(caught.value.code)

        async def follow(link: Any) -> None:
            async with link.stream("room.watch", t.WatchRoom()) as items:
                with pytest.raises(ParlerError) as caught:
                    async for _ in items:
                        pass
                ended.append(caught.value.code)

        async with linked(engine) as (_, link, stream), trio.open_nursery() as nursery:
            nursery.start_soon(call, link)
            nursery.start_soon(follow, link)
            await trio.sleep(1)
            stream.cut()
            await link.closed.wait()
            assert link.lost is not None
            assert link.lost.code not in FINAL
            with pytest.raises(ParlerError, match="home_unreachable"):
                link.begin("message.send", SEND)
        assert ended == ["home_unreachable"] * 2

    run(main)


def test_a_person_who_is_kicked_is_told_and_their_links_end_and_nobody_elses() -> None:
    async def main() -> None:
        engine, book = FakeEngine(), Book(PERSON, OTHER_PERSON)
        links = links_of(engine, book)
        async with (
            linked(engine, links) as (_, link, stream),
            linked(engine, links, key=OTHER_PERSON) as (_, other, _),
        ):
            links.end(PrincipalId(PERSON.id))
            await link.closed.wait()
            assert link.lost is not None
            assert link.lost.code == "kicked"
            assert link.lost.code in FINAL
            await trio.testing.wait_all_tasks_blocked()
            assert stream.close_code == 4003
            assert isinstance(await other.call("message.send", SEND), t.Sent)

    run(main)


def test_a_relay_that_stops_answers_what_waits_finishes_the_rest_and_says_to_come_back() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.endless = True
        codes: dict[str, str] = {}

        async def call(name: str, link: Any, op: str, params: t.Params) -> None:
            try:
                await link.call(op, params)
                codes[name] = "done"
            except ParlerError as error:
                codes[name] = error.code

        links = links_of(engine)
        async with linked(engine, links) as (_, link, stream), trio.open_nursery() as nursery:
            nursery.start_soon(call, "waits", link, "message.recv", t.Recv(wait_ms=60_000))
            await trio.sleep(0.1)
            nursery.start_soon(call, "works", link, "message.send", SEND)
            await trio.testing.wait_all_tasks_blocked()
            await links.drain()
            await link.closed.wait()
            assert link.lost is not None
            assert link.lost.code == "draining"
            assert link.lost.code not in FINAL
            await trio.testing.wait_all_tasks_blocked()
            assert stream.close_code == 1012
            ours, theirs = pair(CERTIFICATE)
            nursery.start_soon(links.serve, theirs)
            assert (await refusal(ours)).code == "draining"
        assert codes == {"waits": "draining", "works": "done"}

    run(main)


def test_one_more_link_of_a_person_ends_the_oldest_and_one_more_person_is_asked_to_come_later() -> None:
    async def main() -> None:
        engine, book = FakeEngine(), Book(PERSON, OTHER_PERSON)
        links = links_of(engine, book, limits=Limits(links=2, links_of_one=2))
        async with linked(engine, links) as (_, one, _), linked(engine, links) as (_, two, _):
            ours, theirs = pair(CERTIFICATE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(links.serve, theirs)
                assert (await refusal(ours, key=OTHER_PERSON)).code == "busy"
            assert theirs.close_code == 1013
            async with linked(engine, links) as (_, three, _):
                await one.closed.wait()
                assert isinstance(await two.call("message.send", SEND), t.Sent)
                assert isinstance(await three.call("message.send", SEND), t.Sent)
                assert links.proven == 2

    run(main)


def test_an_error_in_the_block_comes_out_as_it_is_and_the_stream_is_closed() -> None:
    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(FakeEngine()).serve, theirs)
            with pytest.raises(ZeroDivisionError):
                async with dialled(ours):
                    raise ZeroDivisionError
        assert ours.close_code is not None

    run(main)
