"""The relay's end of a link before somebody who means no good: no answer before the proof, and nothing stays."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import HomeId, Millis, PrincipalId
from parlerd.engine.callers import Caller
from parlerd.identity.signatures import SigningKey
from parlerd.identity.transcript import Transcript
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.uplink.connection import LinkConnection
from parlerd.wire import codec
from parlerd.wire.frames import frame
from parlerd.wire.link import (
    ASKED_LIMIT,
    LINK_PROTOCOL,
    Challenge,
    FromRelay,
    LinkHello,
    LinkWelcome,
    Proof,
    UplinkPeer,
)
from parlerd.wire.messages import Call, Failure, Goodbye, Reply
from relay.link import OFFERED, Limits, Links
from relay.turnstile import Anybody
from tests.support.fake_engine import FakeEngine
from tests.support.links import CERTIFICATE, OTHER_PERSON, PERSON, RELAY, SECRET, Book, OneKey, linked, links_of, run
from tests.support.message_streams import MemoryStream, pair

EMPTY = b"\x80"


def packed(message: msgspec.Struct) -> bytes:
    return frame(codec.encode(message))


def hello(key: SigningKey = PERSON, **more: object) -> LinkHello:
    about: dict[str, object] = {
        "protocol": LINK_PROTOCOL,
        "version": "1.0",
        "nonce": b"n" * 32,
        "principal": PrincipalId(key.id),
    }
    return msgspec.convert({**about, **more}, LinkHello)


class Dialler:
    """A daemon's end, byte by byte."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.peer = UplinkPeer()

    async def hear(self) -> FromRelay | None:
        """The next thing that the relay says; None when it has hung up."""
        while (data := await self.stream.receive()) is not None:
            if events := self.peer.receive(data):
                (event,) = events
                return event
        return None

    async def challenged(self, said: LinkHello) -> tuple[Challenge, Transcript]:
        await self.stream.send(self.peer.hello(said))
        challenge = await self.hear()
        assert isinstance(challenge, Challenge)
        about = Transcript(HomeId(RELAY.id), said.principal, said.nonce, challenge.nonce, self.stream.certificate)
        return challenge, about

    async def refused(self) -> tuple[str, int | None]:
        """The code of the goodbye that comes, and with what the stream is closed then."""
        goodbye = await self.hear()
        assert isinstance(goodbye, Goodbye), goodbye
        assert goodbye.error.message == ""
        assert await self.hear() is None
        return goodbye.error.code, self.stream.close_code


def against(act: object, links: Links | None = None, *, engine: FakeEngine | None = None) -> FakeEngine:
    """Run `act(dialler)` against a relay, which must not have let it in."""
    engine = engine or FakeEngine()
    served = links or links_of(engine)

    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.serve, theirs)
            await act(Dialler(ours))  # type: ignore[operator]  # tests pass coroutine functions
            await ours.close()
        assert served.proven == 0

    run(main)
    return engine


# -- proofs ----------------------------------------------------------------------------------------------------


def test_the_relay_proves_itself_to_whoever_asks_and_the_secret_only_where_it_is_asked_for() -> None:
    async def act(dialler: Dialler) -> None:
        challenge, about = await dialler.challenged(hello())
        assert about.is_signed("relay", challenge.signature)
        assert challenge.mac == b""
        assert (challenge.clock, challenge.log) == (5_000, "log1")

    async def enrol(dialler: Dialler) -> None:
        challenge, about = await dialler.challenged(hello(enrol=True))
        assert about.knows("relay", SECRET, challenge.mac)

    against(act)
    against(enrol)


def test_two_challenges_have_two_nonces() -> None:
    nonces = []

    async def act(dialler: Dialler) -> None:
        challenge, _ = await dialler.challenged(hello())
        nonces.append(challenge.nonce)

    against(act)
    against(act)
    assert nonces[0] != nonces[1]


FOREIGN = [
    ("another relay", {"home": HomeId(SigningKey("relay", b"\7" * 32).id)}),
    ("another certificate", {"certificate": b"m" * 32}),
    ("no certificate", {"certificate": b""}),
    ("another nonce of the relay", {"relay_nonce": b"o" * 32}),
    ("another nonce of the daemon", {"daemon_nonce": b"o" * 32}),
]


@pytest.mark.parametrize(("what", "change"), FOREIGN, ids=[what for what, _ in FOREIGN])
def test_a_proof_that_was_given_elsewhere_is_refused(what: str, change: dict[str, object]) -> None:
    async def act(dialler: Dialler) -> None:
        _, about = await dialler.challenged(hello())
        elsewhere = replace(about, **change)  # type: ignore[arg-type]  # the table names the fields
        proof = Proof(signature=elsewhere.sign("daemon", OneKey(PERSON)))
        await dialler.stream.send(dialler.peer.proof(proof))
        assert await dialler.refused() == ("proof_refused", 4001)

    engine = against(act)
    assert engine.connected == []


def test_the_relays_own_proof_sent_back_is_refused() -> None:
    """Also by somebody who says to be the relay."""

    async def act(dialler: Dialler) -> None:
        challenge, _ = await dialler.challenged(hello())
        await dialler.stream.send(dialler.peer.proof(Proof(signature=challenge.signature)))
        assert await dialler.refused() == ("proof_refused", 4001)

    async def mirror(dialler: Dialler) -> None:
        await dialler.stream.send(dialler.peer.hello(hello(RELAY)))
        assert await dialler.refused() == ("proof_refused", 4001)

    against(act)
    against(mirror)


def test_a_proof_by_another_key_than_the_hello_named_is_refused() -> None:
    async def act(dialler: Dialler) -> None:
        _, about = await dialler.challenged(hello(PERSON))
        forged = OTHER_PERSON.sign("parler/link", about._bytes("daemon"))
        await dialler.stream.send(dialler.peer.proof(Proof(signature=forged)))
        assert await dialler.refused() == ("proof_refused", 4001)

    against(act)


@pytest.mark.parametrize("principal", ["", "A", "A" + "B" * 55, "not a key", SigningKey("agent", bytes(32)).id])
def test_a_hello_that_names_no_person_is_refused_before_anything_is_signed(principal: str) -> None:
    async def act(dialler: Dialler) -> None:
        await dialler.stream.send(dialler.peer.hello(hello(principal=principal)))
        assert await dialler.refused() == ("proof_refused", 4001)

    against(act)


@pytest.mark.parametrize("mac", [b"", b"m" * 32, "relay's"])
def test_who_does_not_show_the_secret_is_not_enrolled(mac: bytes | str) -> None:
    book = Book()

    async def act(dialler: Dialler) -> None:
        challenge, about = await dialler.challenged(hello(enrol=True))
        shown = challenge.mac if isinstance(mac, str) else mac
        proof = Proof(signature=about.sign("daemon", OneKey(PERSON)), mac=shown)
        await dialler.stream.send(dialler.peer.proof(proof))
        assert await dialler.refused() == ("wrong_secret", 4001)

    against(act, links_of(FakeEngine(), book))
    assert book.names == {}


def test_a_secret_that_was_changed_while_the_proof_was_on_its_way_enrols_nobody() -> None:
    book = Book()

    async def act(dialler: Dialler) -> None:
        _, about = await dialler.challenged(hello(enrol=True))
        book.kick(PrincipalId(OTHER_PERSON.id))
        proof = Proof(signature=about.sign("daemon", OneKey(PERSON)), mac=about.mac("daemon", SECRET))
        await dialler.stream.send(dialler.peer.proof(proof))
        assert await dialler.refused() == ("wrong_secret", 4001)

    against(act, links_of(FakeEngine(), book))
    assert book.names == {}


def test_a_secret_without_the_persons_key_enrols_nobody() -> None:
    book = Book()

    async def act(dialler: Dialler) -> None:
        _, about = await dialler.challenged(hello(enrol=True))
        proof = Proof(signature=bytes(64), mac=about.mac("daemon", SECRET))
        await dialler.stream.send(dialler.peer.proof(proof))
        assert await dialler.refused() == ("proof_refused", 4001)

    against(act, links_of(FakeEngine(), book))
    assert book.names == {}


# -- before the proof ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[], [b""], [b"\x00\x00"], [packed(hello())]], ids=["no", "empty", "half", "hello"])
def test_who_does_not_prove_itself_in_five_seconds_is_sent_away(said: list[bytes]) -> None:
    async def act(dialler: Dialler) -> None:
        start = trio.current_time()
        if said == [packed(hello())]:
            await dialler.challenged(hello())
        else:
            for data in said:
                await dialler.stream.send(data)
            dialler.peer.hello(hello())
        assert await dialler.refused() == ("proof_late", 1013)
        assert trio.current_time() - start == Limits().proof_seconds

    against(act)


def test_a_slow_trickle_does_not_lengthen_the_time_for_the_proof() -> None:
    async def act(dialler: Dialler) -> None:
        start = trio.current_time()
        for byte in dialler.peer.hello(hello()):
            await trio.sleep(1)
            if dialler.stream.close_code is not None:
                break
            await dialler.stream.send(bytes([byte]))
        assert trio.current_time() - start <= Limits().proof_seconds + 1

    against(act)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=4), st.booleans())
def test_whatever_comes_before_the_proof_reaches_no_engine(noise: list[bytes], framed: bool) -> None:
    async def act(dialler: Dialler) -> None:
        for data in noise:
            if dialler.stream.close_code is None:
                await dialler.stream.send(frame(data) if framed else data)

    assert against(act).connected == []


def test_calls_before_and_with_the_proof_are_not_answered() -> None:
    async def before(dialler: Dialler) -> None:
        await dialler.stream.send(packed(hello()) + packed(Call(id=0, op="message.send")))
        dialler.peer.hello(hello())
        assert (await dialler.refused())[0] == "bad_frame"

    async def beside(dialler: Dialler) -> None:
        _, about = await dialler.challenged(hello())
        proof = Proof(signature=about.sign("daemon", OneKey(PERSON)))
        await dialler.stream.send(dialler.peer.proof(proof) + packed(Call(id=0, op="message.send")))
        assert (await dialler.refused())[0] == "bad_frame"

    for act in (before, beside):
        engine = against(act)
        assert engine.connected == []
        assert sum(engine.answered.values()) == 0


def test_a_message_is_small_until_the_proof_and_larger_after_it() -> None:
    async def main() -> None:
        async with linked(FakeEngine()) as (_, _, stream):
            assert stream.other.limit == ASKED_LIMIT + 4
        ours, theirs = pair(CERTIFICATE)
        before = theirs.limit
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(FakeEngine()).serve, theirs)
            await Dialler(ours).challenged(hello())
            assert theirs.limit == before < ASKED_LIMIT
            await ours.close()

    run(main)


class Told(Anybody):
    """Notes what the door is told."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def proven(self) -> None:
        self.of.append("proven")

    async def before_secret(self) -> None:
        self.of.append("before")

    async def right_secret(self) -> None:
        self.of.append("right")


def test_the_door_is_told_of_a_proof_and_of_nothing_less() -> None:
    async def main() -> None:
        told = Told()
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(FakeEngine()).serve, theirs, told)
            _, about = await dialler.challenged(hello())
            assert told.of == []
            await ours.send(dialler.peer.proof(Proof(signature=about.sign("daemon", OneKey(PERSON)))))
            assert isinstance(await dialler.hear(), LinkWelcome)
            assert told.of == ["proven"]
            await ours.close()

    run(main)


@pytest.mark.parametrize(("secret", "told_of"), [(SECRET, ["before", "right", "proven"]), (bytes(16), ["before"])])
def test_the_door_is_asked_before_a_secret_is_looked_at_and_told_of_a_right_one(
    secret: bytes, told_of: list[str]
) -> None:
    async def main() -> None:
        told = Told()
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(FakeEngine(), Book()).serve, theirs, told)
            _, about = await dialler.challenged(hello(enrol=True))
            assert told.of == ["before"]
            proof = Proof(signature=about.sign("daemon", OneKey(PERSON)), mac=about.mac("daemon", secret))
            await ours.send(dialler.peer.proof(proof))
            assert await dialler.hear() is not None
            assert told.of == told_of
            await ours.close()

    run(main)


def test_whom_the_door_holds_back_is_shown_no_proof_and_told_when_to_come_back() -> None:
    class Held(Told):
        async def before_secret(self) -> None:
            raise Refused("throttled", retry_after_ms=4_000)

    async def main() -> None:
        told = Held()
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(FakeEngine(), Book()).serve, theirs, told)
            await ours.send(dialler.peer.hello(hello(enrol=True)))
            goodbye = await dialler.hear()
            assert isinstance(goodbye, Goodbye)
            assert (goodbye.error.code, goodbye.error.retry_after_ms) == ("throttled", 4_000)
            assert told.of == []
            assert await dialler.hear() is None
            assert ours.close_code == 1013

    run(main)


# -- after the proof -------------------------------------------------------------------------------------------


def test_nothing_but_the_operations_of_a_link_is_answered() -> None:
    """Least of all what stops the daemon."""

    async def main() -> None:
        engine = FakeEngine()
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(engine, offered=None).serve, theirs)
            _, about = await dialler.challenged(hello())
            await ours.send(dialler.peer.proof(Proof(signature=about.sign("daemon", OneKey(PERSON)))))
            welcome = await dialler.hear()
            assert isinstance(welcome, LinkWelcome)
            assert set(welcome.operations) == OFFERED
            for name, operation in OPERATIONS.items():
                if operation.plane != "link":
                    await ours.send(dialler.peer.call(name, EMPTY)[1])
                    answer = await dialler.hear()
                    assert isinstance(answer, Failure)
                    assert answer.error.code == "unknown_operation"
            assert sum(engine.answered.values()) == 0
            await ours.close()

    run(main)


def test_a_daemon_that_breaks_the_protocol_is_told_and_nobody_else_notices() -> None:
    async def main() -> None:
        engine = FakeEngine()
        links = links_of(engine)
        async with linked(engine, links) as (_, link, stream), linked(engine, links) as (_, other, _):
            await stream.send(frame(b"\xc1"))
            await link.closed.wait()
            assert link.lost is not None
            assert link.lost.code == "bad_frame"
            assert isinstance(await other.call("message.send", t.Send(text="x")), t.Sent)

    run(main)


def test_an_engine_that_fails_to_connect_ends_one_link_and_is_still_told_of_its_end() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.failing["connect"] = RuntimeError("someone wrote this")
        links = links_of(engine)
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links.serve, theirs)
            _, about = await dialler.challenged(hello())
            await ours.send(dialler.peer.proof(Proof(signature=about.sign("daemon", OneKey(PERSON)))))
            assert await dialler.refused() == ("internal", 1011)
        assert len(engine.connected) == len(engine.disconnected) == 1
        assert links.proven == 0

    run(main)


def test_a_daemon_that_reads_no_answers_is_cut_off_and_its_calls_end() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.items, engine.item_text = 10_000, "x" * 10_000
        links = links_of(engine, limits=Limits(stall_seconds=30))
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links.serve, theirs)
            _, about = await dialler.challenged(hello())
            await ours.send(dialler.peer.proof(Proof(signature=about.sign("daemon", OneKey(PERSON)))))
            assert isinstance(await dialler.hear(), LinkWelcome)
            for _ in range(4):
                await ours.send(dialler.peer.call("room.watch", codec.encode(t.WatchRoom()))[1])
            await trio.sleep(600)
            assert links.proven == 0
            assert engine.under_way["room.watch"] == 0
            assert engine.sent_items < 4 * 64 + 4

    run(main)


class Hoarding(FakeEngine):
    """Keeps every send under way, and counts what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.most = 0

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        assert isinstance(params, t.Send)
        self.held += len(params.text)
        self.most = max(self.most, self.held)
        try:
            await trio.sleep(1)
        finally:
            self.held -= len(params.text)
        return await super().call(op, params, caller)


def test_the_bytes_of_calls_under_way_on_one_link_are_bounded_and_all_calls_are_answered() -> None:
    async def main() -> None:
        engine = Hoarding()
        limits = Limits(bytes_under_way=1024 * 1024)
        async with linked(engine, links_of(engine, limits=limits)) as (_, link, _), trio.open_nursery() as nursery:
            answered = []

            async def send() -> None:
                answered.append(await link.call("message.send", t.Send(text="x" * 200_000)))

            for _ in range(40):
                nursery.start_soon(send)
        assert len(answered) == 40
        # One run of frames may come on top of the bound before the reader stops.
        assert engine.most <= 1024 * 1024 + 2 * 256 * 1024

    run(main)


class Dwelling(FakeEngine):
    """Looks into the past for a second."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op != "link.pull":
            return await super().call(op, params, caller)
        await trio.sleep(1)
        return t.LinkPage(public=0, line=b"", before={}, messages=[], jumped=True)


def test_an_agent_that_asks_without_end_is_told_to_wait_and_the_others_of_its_link_go_on() -> None:
    async def main() -> None:
        engine = Dwelling()
        limits = Limits(calls_of_one_agent=10, bytes_of_one_agent=1_000_000)
        refused: list[ParlerError] = []
        answered: list[str] = []
        async with (
            linked(engine, links_of(engine, limits=limits, offered={"link.pull"})) as (_, link, _),
            trio.open_nursery() as nursery,
        ):

            async def pull(agent: str) -> None:
                try:
                    await link.call("link.pull", t.PullHistory(room="r", agent=agent, limit=1))
                except ParlerError as error:
                    refused.append(error)
                else:
                    answered.append(agent)

            for _ in range(50):
                nursery.start_soon(pull, "greedy")
            await trio.sleep(0.1)
            nursery.start_soon(pull, "modest")
            await trio.sleep(1.2)
            # What was answered makes room.
            await pull("greedy")
        assert {error.code for error in refused} == {"busy"}
        assert {error.retry_after_ms for error in refused} == {100}
        assert (len(refused), answered.count("greedy"), answered.count("modest")) == (40, 11, 1)

    run(main)


def test_a_person_who_calls_without_end_is_read_no_faster_over_all_links_and_nobody_else_waits() -> None:
    async def main() -> None:
        engine = FakeEngine()
        links = links_of(engine, Book(PERSON, OTHER_PERSON), limits=Limits(calls_a_second=50))
        async with (
            linked(engine, links) as (_, first, _),
            linked(engine, links) as (_, second, _),
            linked(engine, links, key=OTHER_PERSON) as (_, other, _),
        ):
            begun = trio.current_time()
            async with trio.open_nursery() as nursery:

                async def flood(link: LinkConnection) -> None:
                    for _ in range(100):
                        await link.call("agent.whoami", t.WhoAmI())

                nursery.start_soon(flood, first)
                nursery.start_soon(flood, second)
                await trio.testing.wait_all_tasks_blocked()
                asked = trio.current_time()
                await other.call("agent.whoami", t.WhoAmI())
                assert trio.current_time() == asked
            # 50 at once, and the other 150 at 50 a second.
            assert 2.9 < trio.current_time() - begun < 3.2

    run(main)


def test_a_link_whose_stream_ends_takes_its_calls_with_it() -> None:
    async def main() -> None:
        engine = FakeEngine()
        links = links_of(engine)
        async with linked(engine, links) as (_, link, stream):
            link.begin("message.recv", t.Recv(wait_ms=60_000))
            await trio.testing.wait_all_tasks_blocked()
            assert engine.under_way["message.recv"] == 1
            stream.cut()
            await trio.testing.wait_all_tasks_blocked()
            assert engine.under_way["message.recv"] == 0
            assert links.proven == 0

    run(main)


def test_a_call_reads_no_clock_but_the_relays_own() -> None:
    async def main() -> None:
        async with linked(FakeEngine(), links_of(FakeEngine(), now=lambda: Millis(9_000))) as (_, link, _):
            assert link.clock_ahead_ms == 8_000

    run(main)


def test_replies_are_sent_for_calls_of_one_chunk_in_one_message() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.posts = True
        async with linked(engine) as (_, link, stream):
            before = len(stream.other.sent)
            pending = [link.begin("message.send", t.Send(text="x")) for _ in range(16)]
            for each in pending:
                await each.result()
            assert len(stream.other.sent) - before < 16

    run(main)


def test_an_error_without_a_code_is_trouble_of_the_relay_and_its_words_stay_there() -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.failing["message.send"] = RuntimeError("someone wrote this")
        async with linked(engine) as (_, link, stream):
            with pytest.raises(ParlerError, match="relay_failed"):
                await link.call("message.send", t.Send(text="x"))
            assert b"someone" not in b"".join(stream.other.sent)

    run(main)


def test_a_reply_is_what_the_relay_says_to_a_call() -> None:
    """The end of the link that these tests speak for hears what any other would."""

    async def main() -> None:
        engine = FakeEngine()
        ours, theirs = pair(CERTIFICATE)
        dialler = Dialler(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links_of(engine).serve, theirs)
            _, about = await dialler.challenged(hello())
            await ours.send(dialler.peer.proof(Proof(signature=about.sign("daemon", OneKey(PERSON)))))
            assert isinstance(await dialler.hear(), LinkWelcome)
            await ours.send(dialler.peer.call("message.send", codec.encode(t.Send(text="x")))[1])
            assert isinstance(await dialler.hear(), Reply)
            await ours.close()

    run(main)
