"""The shim's few lines of JSON and msgpack, against the libraries that everything else uses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.stdio import codec as ours
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.wire import codec
from parlerd.wire.messages import HOST_PROTOCOL, Goodbye, Hello, Note, Welcome

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_the_library_reads_it_and_written_so_that_it_reads_the_same(value: Any) -> None:
    line = json.dumps(value).encode()
    assert ours.loads(b"  " + line + b" \r") == value
    assert json.loads(ours.dumps(value)) == value
    assert "\n" not in ours.dumps(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0eE.-+ntu\\ \x00', max_size=60).map(str.encode))
def test_what_is_no_json_is_one_error_and_nothing_else(line: bytes) -> None:
    try:
        value = ours.loads(line)
    except ours.NotJson:
        return
    assert json.loads(line.decode().strip(" \t\r\n")) == value


@pytest.mark.parametrize("line", [b"", b"{", b'"abc', b'{"a":', b"nul", b"NaN", b"1 2", b'{"a":1}}', b"[" * 10**6])
def test_broken_json_is_told_apart(line: bytes) -> None:
    with pytest.raises(ours.NotJson):
        ours.loads(line)


PACKED = st.recursive(
    st.booleans() | st.integers(0, 2**32 - 1) | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=15),
    max_leaves=12,
)


@given(PACKED)
def test_what_is_packed_is_msgpack(value: Any) -> None:
    assert msgspec.msgpack.decode(ours.pack(value)) == value


@pytest.mark.parametrize("size", [0, 15, 16, 17, 300])
def test_a_map_of_any_size_is_packed_as_one(size: int) -> None:
    value = {f"name {number}": number for number in range(size)}
    assert msgspec.msgpack.decode(ours.pack(value)) == value
    assert ours.unpack(ours.pack(value))[0] == value


ANY_PACKED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner, max_size=20),
    max_leaves=40,
)


@given(ANY_PACKED)
def test_what_the_daemon_packs_is_read_whole(value: Any) -> None:
    data = msgspec.msgpack.encode(value)
    assert ours.unpack(data) == (value, len(data))


@given(st.binary(max_size=80))
def test_what_is_no_msgpack_is_a_known_error(data: bytes) -> None:
    try:
        ours.unpack(data)
    except (IndexError, KeyError, ValueError):
        return


def test_a_hello_and_a_note_by_hand_are_the_typed_ones() -> None:
    hello = {
        "t": "hello",
        "protocol": HOST_PROTOCOL,
        "version": "0.1",
        "role": "stdio",
        "reconnect": True,
        "unanswered": [b"{}", b"x" * 300],
        "pid": 70_000,
    }
    assert codec.HELLO.decode(ours.pack(hello)) == Hello(
        protocol=HOST_PROTOCOL,
        version="0.1",
        role="stdio",
        reconnect=True,
        unanswered=(b"{}", b"x" * 300),
        pid=70_000,
    )
    for written in (True, False):
        note = ours.pack({"t": "note", "what": "eof", "written": written})
        assert codec.FROM_SHIM.decode(note) == Note(what="eof", written=written)


@pytest.mark.parametrize("code", ERRORS)
def test_every_goodbye_can_be_read(code: str) -> None:
    error = ParlerError(code, retry_after_ms=70_000, room="r_1", limit=-3, list=[1, None, 2.5, True])
    value, _ = ours.unpack(codec.encode(Goodbye(error=error.body())))
    assert value["t"] == "goodbye"
    assert value["error"]["code"] == code
    assert value["error"]["message"] == error.message


def test_a_welcome_can_be_read() -> None:
    value, _ = ours.unpack(codec.encode(Welcome(protocol=1, version="1.2", pid=4_000_000)))
    assert value["t"] == "welcome"
