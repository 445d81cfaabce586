"""The frames of the local socket as a person may look at them: their shape, and nothing that anybody wrote.

A `Tap` stands at each connection and sees every frame that comes and goes. While somebody follows, the frame is taken
apart by `msgpack`, which shares no code with our own codec, and what is kept of it is its type, its ids, the name of
its operation, the names of declared fields, and for each value its kind and length. Values are dropped here, so no
words, keys, codes or secrets are in what is followed. Nothing is written to a disk. Not here: who may follow (the
engine's handler of `daemon.frames`). Above: `connection`, `server`, `parlerd.daemon`. Invariants: while nobody follows,
a frame costs one look at a flag; what waits for a follower is bounded, and what came beyond that is counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import trio

from parlerd.core.errors import ERRORS
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.wire.frames import PREFIX
from parlerd.wire.messages import Hello, Note

if TYPE_CHECKING:
    from types import ModuleType

KEPT: Final = 1000
"""How many frames wait for one follower at most. A frame's shape is some hundred bytes."""
LARGE: Final = 1024 * 1024
"""A frame of more bytes is not taken apart, because everything else on the event loop would wait for that."""
_ASKING: Final = ("hello", "call", "cancel", "credit", "note")
_ANSWERING: Final = ("welcome", "goodbye", "reply", "failure", "item")
_METHOD: Final = re.compile(r"[a-z]{1,24}(?:/[a-zA-Z_]{1,24}){0,2}")
"""A method of MCP. Nothing else is shown of a host's line."""
_DECLARED: Final[dict[str, type[msgspec.Struct]]] = {"hello": Hello, "note": Note}


class Recorder:
    """All taps of one daemon, and who follows them. `now` is the wall clock in ms."""

    def __init__(self, now: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._now = now
        self._followers: set[_Follower] = set()
        self._taps = 0
        # The independent reader, imported once somebody follows.
        self._reader: ModuleType | None = None

    @property
    def is_on(self) -> bool:
        """Whether anybody follows."""
        return bool(self._followers)

    def tap(self) -> Tap:
        """The tap of a new connection. Connections are numbered from 1."""
        self._taps += 1
        return Tap(self, self._taps)

    @contextmanager
    def follow(self) -> Iterator[AsyncIterator[t.FrameInfo]]:
        """The frames from now on, as long as the block lasts."""
        import msgpack

        self._reader = msgpack
        follower = _Follower()
        self._followers.add(follower)
        try:
            yield follower.frames
        finally:
            self._followers.discard(follower)

    def unpack(self, payload: bytes) -> object:
        """A payload as the other library reads it. Raises ValueError, TypeError or RecursionError when that cannot."""
        assert self._reader is not None
        # What is no UTF-8 is text all the same: only its length is shown.
        return self._reader.unpackb(payload, strict_map_key=False, unicode_errors="replace")

    def record(self, connection: int, direction: Literal["in", "out"], size: int, shape: Mapping[str, Any]) -> None:
        """Tell all followers of one frame."""
        for follower in self._followers:
            follower.take(t.FrameInfo(at=self._now(), connection=connection, direction=direction, size=size, **shape))


class _Follower:
    """What waits for one who follows."""

    def __init__(self) -> None:
        self._send, self.frames = trio.open_memory_channel[t.FrameInfo](KEPT)
        # Frames that found no room since the last one that did.
        self._left_out = 0

    def take(self, frame: t.FrameInfo) -> None:
        try:
            self._send.send_nowait(msgspec.structs.replace(frame, left_out=self._left_out))
        except trio.WouldBlock:
            self._left_out += 1
        else:
            self._left_out = 0


class Tap:
    """The frames of one connection. `is_left_out` is set for one that follows: it would follow itself without end."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self._number = number
        # The operations of calls that were heard and not answered yet.
        self._operations: dict[int, str] = {}
        self.is_left_out = False

    def heard(self, payload: bytes) -> None:
        """The other side sent this payload."""
        if self._recorder.is_on and not self.is_left_out:
            self._record("in", payload)

    def told(self, frame: bytes) -> None:
        """We sent this frame, whose length stands in front."""
        if self._recorder.is_on and not self.is_left_out:
            self._record("out", frame[PREFIX:])

    def _record(self, direction: Literal["in", "out"], payload: bytes) -> None:
        try:
            large = len(payload) > LARGE
            shape = {"type": "large"} if large else self._shape(self._recorder.unpack(payload))
        except (ValueError, TypeError, RecursionError):
            # What the library says of bytes that are no msgpack, of a list as a key, and of what is nested too deeply.
            shape = {"type": "unreadable"}
        self._recorder.record(self._number, direction, len(payload) + PREFIX, shape)

    def _shape(self, message: object) -> dict[str, Any]:
        if isinstance(message, bytes):
            return _line(message)
        if not isinstance(message, dict) or message.get("t") not in (*_ASKING, *_ANSWERING):
            return {"type": "unreadable"}
        kind: str = message["t"]
        shape: dict[str, Any] = {"type": kind}
        id = message.get("id")
        if isinstance(id, int):
            shape["id"] = id
        if kind in _DECLARED:
            shape["fields"] = _fields(message, _DECLARED[kind])
        elif kind == "call":
            self._called(shape, message)
        elif isinstance(id, int) and (name := self._operations.get(id, "")):
            shape["operation"] = name
            shape["fields"] = _fields(message.get("result", message.get("item")), OPERATIONS[name].result)
            if kind in ("reply", "failure"):
                del self._operations[id]
        error = message.get("error")
        if isinstance(error, dict) and error.get("code") in ERRORS:
            shape["code"] = error["code"]
        return shape

    def _called(self, shape: dict[str, Any], message: dict[Any, Any]) -> None:
        name, id = message.get("op"), message.get("id")
        if isinstance(name, str) and name in OPERATIONS:
            shape["operation"] = name
            shape["fields"] = _fields(message.get("params"), OPERATIONS[name].params)
            if isinstance(id, int):
                self._operations[id] = name


def _line(line: bytes) -> dict[str, Any]:
    """A line of MCP: its method where it has one that could be one, and its number."""
    shape: dict[str, Any] = {"type": "line"}
    try:
        message = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return shape
    if isinstance(message, dict):
        id, method = message.get("id"), message.get("method")
        if isinstance(id, int):
            shape["id"] = id
        if isinstance(method, str) and _METHOD.fullmatch(method):
            shape["operation"] = method
    return shape


def _fields(values: object, declared: type[msgspec.Struct]) -> dict[str, str]:
    """The kind and length of each value, under the names that are declared: another name is somebody's own text."""
    if not isinstance(values, dict):
        return {}
    names = frozenset(declared.__struct_encode_fields__)
    return {name: _kind(value) for name, value in values.items() if name in names}


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes or no"
        case int() | float():
            return "a number"
        case str():
            return f"text of {len(value)}"
        case bytes():
            return f"{len(value)} bytes"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"a map of {len(value)}"
        case _:
            return "unknown"
