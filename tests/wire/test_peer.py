from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError
from parlerd.wire import codec
from parlerd.wire.calls import Ended, Overflow
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, frame
from parlerd.wire.messages import (
    HOST_PROTOCOL,
    PROTOCOL,
    Call,
    Cancel,
    Credit,
    Failure,
    Goodbye,
    Hello,
    Item,
    Note,
    Reply,
    Welcome,
)
from parlerd.wire.peer import UPGRADE_OPERATION, ClientEvent, ClientPeer, DaemonEvent, DaemonPeer

EMPTY = b"\x80"


def hello(role: str = "client", protocol: int | None = None) -> Hello:
    if protocol is None:
        protocol = HOST_PROTOCOL if role == "stdio" else PROTOCOL
    return Hello(protocol=protocol, version="1.0", role=role)  # type: ignore[arg-type]  # tests pass the two roles


def packed(message: msgspec.Struct) -> bytes:
    return frame(codec.encode(message))


def met(role: str = "client") -> tuple[DaemonPeer, ClientPeer]:
    """Both ends after the hello."""
    daemon, client = DaemonPeer(), ClientPeer()
    said = hello(role)
    assert daemon.receive(client.hello(said)) == [said]
    assert client.receive(daemon.welcome("1.0", 7)) == [Welcome(protocol=said.protocol, version="1.0", pid=7)]
    return daemon, client


def only_error(events: list[ClientEvent] | list[DaemonEvent]) -> str:
    assert len(events) == 1
    assert isinstance(events[0], Ended)
    return events[0].error.code


# -- the hello -------------------------------------------------------------------------------------------------


def test_nothing_may_come_before_the_hello() -> None:
    assert only_error(DaemonPeer().receive(packed(Call(id=0, op="x")))) == "bad_frame"
    assert only_error(DaemonPeer().receive(frame(codec.encode(b"a line")))) == "bad_frame"


def test_a_second_hello_ends_the_conversation() -> None:
    daemon, client = met()
    assert only_error(daemon.receive(packed(hello()))) == "bad_frame"
    assert daemon.receive(client.call("x", EMPTY)[1]) == []


def test_an_older_protocol_is_told_to_upgrade() -> None:
    assert only_error(DaemonPeer().receive(packed(hello(protocol=PROTOCOL - 1)))) == "unsupported_version"


def test_a_window_and_a_hook_outlive_a_change_of_the_calls() -> None:
    assert HOST_PROTOCOL < PROTOCOL
    daemon, shim = DaemonPeer(), ClientPeer()
    daemon.receive(shim.hello(hello("stdio", HOST_PROTOCOL)))
    assert shim.receive(daemon.welcome("2.0", 7)) == [Welcome(protocol=HOST_PROTOCOL, version="2.0", pid=7)]
    assert daemon.receive(shim.line(b"{}")) == [b"{}"]
    daemon, hook = DaemonPeer(), ClientPeer()
    daemon.receive(hook.hello(Hello(protocol=HOST_PROTOCOL, version="1.0", role="client", hook=True)))
    assert hook.receive(daemon.welcome("2.0", 7)) == [Welcome(protocol=HOST_PROTOCOL, version="2.0", pid=7)]
    check = Call(id=0, op="wake.check", params=msgspec.Raw(EMPTY))
    assert daemon.receive(hook.call("wake.check", EMPTY)[1]) == [check]


def test_a_window_of_an_older_protocol_than_windows_speak_is_told_to_upgrade() -> None:
    assert only_error(DaemonPeer().receive(packed(hello("stdio", HOST_PROTOCOL - 1)))) == "unsupported_version"


def test_a_newer_client_may_stop_the_daemon_and_nothing_else() -> None:
    daemon = DaemonPeer()
    newer = hello(protocol=PROTOCOL + 1)
    stop = Call(id=1, op=UPGRADE_OPERATION)
    events = daemon.receive(packed(newer) + packed(Call(id=0, op="message.send")) + packed(stop))
    assert events[0] == newer
    assert isinstance(events[1], Overflow)
    assert (events[1].id, events[1].error.code) == (0, "unsupported_version")
    assert events[2] == stop


def test_a_newer_window_is_told_that_the_daemon_is_older() -> None:
    assert only_error(DaemonPeer().receive(packed(hello("stdio", HOST_PROTOCOL + 1)))) == "unsupported_version"


def test_the_hello_is_held_to_64_kib_and_what_follows_to_8_mib() -> None:
    big = Hello(protocol=PROTOCOL, version="1", role="client", cwd="x" * FIRST_FRAME_LIMIT)
    assert only_error(DaemonPeer().receive(packed(big)[:4])) == "frame_too_large"
    with pytest.raises(ParlerError, match="frame_too_large"):
        ClientPeer().hello(big)
    daemon, client = met()
    (event,) = daemon.receive(client.call("x", codec.encode("y" * (FRAME_LIMIT - 100)))[1])
    assert isinstance(event, Call)
    assert only_error(daemon.receive((FRAME_LIMIT + 1).to_bytes(4, "big"))) == "frame_too_large"


def test_a_goodbye_in_place_of_a_welcome_ends_the_clients_end() -> None:
    client = ClientPeer()
    goodbye = DaemonPeer().goodbye(ParlerError("busy"))
    (event,) = client.receive(goodbye + goodbye)
    assert isinstance(event, Goodbye)
    assert event.error.code == "busy"
    assert client.state == "ended"


# -- windows ---------------------------------------------------------------------------------------------------


def test_a_window_carries_lines_both_ways_and_the_note_of_the_end() -> None:
    daemon, client = met("stdio")
    line = b'{"jsonrpc":"2.0","method":"ping"}'
    assert daemon.receive(client.line(line) + client.note(Note(what="eof", written=False))) == [
        line,
        Note(what="eof", written=False),
    ]
    assert client.receive(daemon.line(b"{}") + daemon.line(b"x" * 70_000)) == [b"{}", b"x" * 70_000]


def test_a_line_on_the_wire_is_msgpack_bin_behind_a_length() -> None:
    _, client = met("stdio")
    assert client.line(b"{}") == b"\x00\x00\x00\x04\xc4\x02{}"


def test_a_call_on_a_window_ends_it() -> None:
    daemon, _ = met("stdio")
    assert only_error(daemon.receive(packed(Call(id=1, op="a")))) == "bad_frame"


# -- chunks ----------------------------------------------------------------------------------------------------

client_frames = st.lists(
    st.one_of(
        st.builds(lambda id: packed(Call(id=id, op="a")), st.integers(0, 5)),
        st.builds(lambda id: packed(Cancel(id=id)), st.integers(0, 5)),
        st.builds(lambda id, more: packed(Credit(id=id, more=more)), st.integers(0, 5), st.integers(1, 9)),
        st.binary(max_size=12).map(frame),
        st.just((FRAME_LIMIT + 1).to_bytes(4, "big")),
        st.just(packed(hello())),
    ),
    max_size=8,
)


def shown(event: ClientEvent | DaemonEvent) -> object:
    """An event in a form that compares: errors do not."""
    if isinstance(event, Ended):
        return ("ended", str(event.error))
    if isinstance(event, Overflow):
        return ("overflow", event.id, str(event.error))
    return event


def events_of(stream: bytes, cuts: list[int]) -> list[object]:
    daemon = DaemonPeer()
    events: list[ClientEvent] = []
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        events += daemon.receive(stream[start:end])
    return [shown(event) for event in events]


@given(st.sampled_from(["client", "stdio"]), client_frames, st.data())
def test_however_a_conversation_is_cut_into_chunks_the_same_events_come_out(
    role: str, frames: list[bytes], data: st.DataObject
) -> None:
    stream = packed(hello(role)) + b"".join(frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert events_of(stream, cuts) == events_of(stream, [])
    assert events_of(stream, list(range(len(stream)))) == events_of(stream, [])


daemon_frames = st.lists(
    st.one_of(
        st.builds(lambda id: packed(Reply(id=id)), st.integers(0, 3)),
        st.builds(lambda id: packed(Item(id=id, item=msgspec.Raw(b"\x01"))), st.integers(0, 3)),
        st.builds(lambda id: packed(Failure(id=id, error=ParlerError("busy").body())), st.integers(0, 3)),
        st.just(packed(Goodbye(error=ParlerError("draining").body()))),
        st.binary(max_size=12).map(frame),
    ),
    max_size=8,
)


@given(daemon_frames, st.data())
def test_however_answers_are_cut_into_chunks_the_client_hears_the_same(
    frames: list[bytes], data: st.DataObject
) -> None:
    stream = packed(Welcome(protocol=PROTOCOL, version="1", pid=1)) + b"".join(frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))

    def heard(cuts: list[int]) -> list[object]:
        client = ClientPeer()
        client.hello(hello())
        for _ in range(3):
            client.call("a", EMPTY)
        client.cancel(2)
        events: list[DaemonEvent] = []
        for start, end in pairwise([0, *sorted(cuts), len(stream)]):
            events += client.receive(stream[start:end])
        return [shown(event) for event in events]

    assert heard(cuts) == heard([]) == heard(list(range(len(stream))))
