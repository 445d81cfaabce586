"""Whatever a host writes, the shim answers what is a request, passes on what it may, and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server import static
from mcp_server.stdio import pipe
from mcp_server.stdio.codec import MAX_DEPTH
from mcp_server.stdio.link import AWAY, READY
from mcp_server.stdio.table import Table

STATIC: Final = str(Path(static.__file__).with_name("static.json"))


def nested(depth: int, inner: Any = 1) -> Any:
    for level in range(depth):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


VALUE: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([nested(depth) for depth in (1, 5, MAX_DEPTH - 3, MAX_DEPTH, 300, 480)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["_meta", "name", "uri"]), inner),
    max_leaves=6,
)
METHOD: Final = st.sampled_from(
    [
        "initialize",
        "ping",
        "tools/call",
        "tools/list",
        "resources/subscribe",
        "resources/unsubscribe",
        "notifications/initialized",
        "notifications/cancelled",
        "subscriptions/listen",
        "server/discover",
        "x",
    ]
)
PARAMS: Final = VALUE | st.fixed_dictionaries(
    {},
    optional={
        "name": VALUE,
        "uri": VALUE,
        "requestId": VALUE,
        "arguments": VALUE,
        "_meta": VALUE,
        "protocolVersion": VALUE,
    },
)
MESSAGE: Final = VALUE | st.fixed_dictionaries({}, optional={"id": VALUE, "method": METHOD | VALUE, "params": PARAMS})


class Shim(pipe.Shim):
    """A shim without processes: what it would start or dial is left out."""

    def _start(self, now: float) -> None:
        self._link.reason = "The test starts none."


def said(shim: pipe.Shim) -> list[Any]:
    lines = bytes(shim._lines.unwritten).splitlines()
    shim._lines.unwritten.clear()
    return [json.loads(line) for line in lines]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(MESSAGE.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40), max_size=6), st.booleans()
)
def test_no_line_stops_it_and_the_next_request_is_answered(lines: list[bytes], ready: bool) -> None:
    shim = Shim("/nowhere", "test", Table(STATIC))
    shim._link.state = READY if ready else AWAY
    for line in lines:
        if b"\n" not in line:
            shim._take(line)
    shim._begin()
    for answer in said(shim):
        assert answer["jsonrpc"] == "2.0"
    shim._take(b'{"jsonrpc":"2.0","id":"after","method":"ping"}')
    assert said(shim)[-1] == {"jsonrpc": "2.0", "id": "after", "result": {}}


def test_a_mistake_of_its_own_ends_it_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def breaks(_shim: pipe.Shim) -> int:
        raise RuntimeError("a secret")

    monkeypatch.setattr(pipe.Shim, "run", breaks)
    assert pipe.main(["--home", "/nowhere"], STATIC.rpartition("/")[0]) == 70
    assert capfdbinary.readouterr().err == b"parler: the shim ended by a mistake of its own (RuntimeError).\n"
