"""The shim's few lines of JSON and msgpack, against the libraries that everything else uses."""

from __future__ import annotations

import _socket
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server import pipe, static
from parlerd.client import link
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.wire import codec
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT
from parlerd.wire.messages import HOST_PROTOCOL, Goodbye, Hello, Note, Welcome

STATIC = Path(static.__file__).with_name("static.json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_the_library_reads_it_and_written_so_that_it_reads_the_same(value: Any) -> None:
    line = json.dumps(value).encode()
    assert pipe.loads(b"  " + line + b" \r") == value
    assert json.loads(pipe.dumps(value)) == value
    assert "\n" not in pipe.dumps(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0eE.-+ntu\\ \x00', max_size=60).map(str.encode))
def test_what_is_no_json_is_one_error_and_nothing_else(line: bytes) -> None:
    try:
        value = pipe.loads(line)
    except pipe.NotJson:
        return
    assert json.loads(line.decode().strip(" \t\r\n")) == value


@pytest.mark.parametrize("line", [b"", b"{", b'"abc', b'{"a":', b"nul", b"NaN", b"1 2", b'{"a":1}}', b"[" * 10**6])
def test_broken_json_is_told_apart(line: bytes) -> None:
    with pytest.raises(pipe.NotJson):
        pipe.loads(line)


PACKED = st.recursive(
    st.booleans() | st.integers(0, 2**32 - 1) | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=15),
    max_leaves=12,
)


@given(PACKED)
def test_what_is_packed_is_msgpack(value: Any) -> None:
    assert msgspec.msgpack.decode(pipe.pack(value)) == value


ANY_PACKED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner, max_size=20),
    max_leaves=40,
)


@given(ANY_PACKED)
def test_what_the_daemon_packs_is_read_whole(value: Any) -> None:
    data = msgspec.msgpack.encode(value)
    assert pipe.unpack(data) == (value, len(data))


@given(st.binary(max_size=80))
def test_what_is_no_msgpack_is_a_known_error(data: bytes) -> None:
    try:
        pipe.unpack(data)
    except (IndexError, KeyError, ValueError):
        return


def test_a_hello_and_a_note_by_hand_are_the_typed_ones() -> None:
    hello = {
        "t": "hello",
        "protocol": pipe.PROTOCOL,
        "version": "0.1",
        "role": "stdio",
        "reconnect": True,
        "unanswered": [b"{}", b"x" * 300],
        "pid": 70_000,
    }
    assert codec.HELLO.decode(pipe.pack(hello)) == Hello(
        protocol=HOST_PROTOCOL,
        version="0.1",
        role="stdio",
        reconnect=True,
        unanswered=(b"{}", b"x" * 300),
        pid=70_000,
    )
    for written in (True, False):
        note = pipe.pack({"t": "note", "what": "eof", "written": written})
        assert codec.FROM_SHIM.decode(note) == Note(what="eof", written=written)


@pytest.mark.parametrize("code", ERRORS)
def test_every_goodbye_can_be_read(code: str) -> None:
    error = ParlerError(code, retry_after_ms=70_000, room="r_1", limit=-3, list=[1, None, 2.5, True])
    value, _ = pipe.unpack(codec.encode(Goodbye(error=error.body())))
    assert value["t"] == "goodbye"
    assert value["error"]["code"] == code
    assert value["error"]["message"] == error.message


def test_a_welcome_can_be_read() -> None:
    value, _ = pipe.unpack(codec.encode(Welcome(protocol=1, version="1.2", pid=4_000_000)))
    assert value["t"] == "welcome"


def test_its_limits_fit_those_of_the_wire() -> None:
    assert pipe.PROTOCOL == HOST_PROTOCOL
    assert len(codec.encode(b"x" * pipe.MAX_LINE)) <= FRAME_LIMIT
    assert pipe.HELLO_LIMIT < FIRST_FRAME_LIMIT


# -- who started it --------------------------------------------------------------------------------------------


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who the shim's parent is, last."""
    parents = [500]
    monkeypatch.setattr("posix.getppid", lambda: parents[-1])
    return parents


def a_shim() -> pipe.Shim:
    made = pipe.Shim("/nowhere", "test", pipe.Table(str(STATIC)))
    made._launched_until = 1_000.0 + pipe.LAUNCH_S
    return made


def look(shim: pipe.Shim, now: float) -> bool:
    """Whether it is done at a moment, after it did what is due then."""
    shim._look_for_parent(now)
    return shim._done(now)


def test_it_ends_when_its_parent_is_gone(parent: list[int]) -> None:
    shim = a_shim()
    assert not look(shim, 1_000.0 + pipe.LAUNCH_S)
    parent.append(1)
    assert look(shim, 1_000.0 + pipe.LAUNCH_S + pipe.PARENT_S)


def test_a_launcher_that_goes_at_once_is_no_host_that_is_gone(parent: list[int]) -> None:
    shim = a_shim()
    parent.append(77)
    assert not look(shim, 1_000.0 + pipe.PARENT_S)
    assert not look(shim, 2_000.0)
    # Whoever adopted it may be the host, which can go as well.
    parent.append(1)
    assert look(shim, 2_000.0 + pipe.PARENT_S)


def test_who_was_never_anybodys_child_stays(parent: list[int]) -> None:
    parent.append(1)
    shim = a_shim()
    assert not look(shim, 1_000_000.0)


def test_an_idle_shim_looks_for_its_parent_every_few_seconds_and_does_nothing_in_between(parent: list[int]) -> None:
    shim = a_shim()
    shim._next_try = float("inf")
    shim._tick(3_000.0)
    assert shim._timeout(3_000.0) == int(pipe.PARENT_S * 1000) + 1


def test_a_socket_that_may_not_be_reached_is_not_said_to_be_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox answers EPERM, and every program of Parler says the same sentence then."""
    assert pipe.FORBIDDEN == link.FORBIDDEN

    class Caged:
        def __init__(self, *_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoint").write_text("/nowhere")
    monkeypatch.setattr(_socket, "socket", Caged)
    carrier = pipe.Shim(str(tmp_path), "claude-code", pipe.Table(str(tmp_path / "none")))
    carrier._connect(0.0)
    assert carrier._reason == link.FORBIDDEN


LOGGED = "2026-11-28 09:00:00,123"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (f"{LOGGED} INFO parlerd.daemon: serving\n", ""),
        (f"{LOGGED} WARNING parlerd.daemon: slow disk: 9 ms\n{LOGGED} DEBUG parlerd: x\n", ""),
        ("", ""),
        ("parlerd: internal: 3 of 4 ERROR things: broke\n", "internal: 3 of 4 ERROR things: broke"),
        (
            f"parlerd: store_corrupt: The database is damaged. Run `cp a b`.\n{LOGGED} INFO parlerd: stopped\n\n",
            "store_corrupt: The database is damaged. Run `cp a b`.",
        ),
        (
            f"{LOGGED} ERROR parlerd.daemon: store_full: The disk is full.\n{LOGGED} INFO parlerd.daemon: serving\n",
            "store_full: The disk is full.",
        ),
        (
            f"{LOGGED} INFO parlerd: x\n/usr/bin/python: No module named parlerd\n",
            "/usr/bin/python: No module named parlerd",
        ),
        (
            'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nImportError: no \x1b[31mlibrary\n',
            "ImportError: no ?[31mlibrary",
        ),
    ],
    ids=[
        "information",
        "warnings",
        "nothing",
        "other words",
        "last words",
        "a logged error",
        "the interpreter",
        "a traceback",
    ],
)
def test_why_a_daemon_did_not_start_is_its_last_line_that_says_an_error(log: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "parlerd.log").write_text(log)
    assert pipe.Starter(str(tmp_path)).last_words() == reason


def test_a_lost_connection_is_said_in_the_words_of_the_table_of_errors() -> None:
    assert ERRORS["connection_lost"].message == pipe.LOST
