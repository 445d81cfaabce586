"""Any parameters to any operation, and any body to any path, with a token of each kind: each is answered, with a status
that is documented and in the shape that is."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import ERRORS
from parlerd.operations import types as t
from parlerd.web import describing, description
from parlerd.web.describing import STATUSES
from parlerd.web.flat import FLAT
from tests.support.engine import Party, engine_world, run
from tests.support.http import Answer, minted, over_http

SERVED: Final = [each for each in description.served() if not each.stream and each.name not in ("blob.put", "blob.get")]
"""Streams have no end, and files are no JSON."""
ERROR: Final = set(describing.openapi()["components"]["schemas"]["Error"]["properties"]["error"]["required"])
"""What every error says."""
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["team", "bob", "_shared", "turn", "1 + 1", "true", "r_none", "m_1", "\ud800", "a/b", "..", "#7", "-1", "\x8f"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


def checked(answer: Answer, line: str, result: type[t.Result] | None = None) -> None:
    """An answer is a documented one: in the shape of a `result` where it tells of one, and else an error."""
    assert answer.status in (200, 201, *STATUSES), line
    assert answer.status != 500, (line, answer.body)
    if answer.status >= 400:
        error = answer.document["error"]
        assert (error if isinstance(error, str) else error["code"]) in ERRORS, line
        if not isinstance(error, str):
            assert set(error) >= ERROR, (line, error)
            assert answer.headers["content-type"] == "application/json"
    elif result is not None:
        msgspec.json.decode(answer.body, type=result)


KINDS: Final = ("as", "as", "as", "aj", "ah", "")


async def shown(bob: Party, room: str, kind: str) -> str:
    """A token of this kind; empty for none."""
    match kind:
        case "as":
            return (await minted(bob, room=room, access=t.ACCESSES)).token
        case "aj":
            return (await minted(bob, room=(await bob.open("annex")).room, join=True, uses=3)).token
        case "ah":
            rooms = (room, (await bob.open("annex")).room)
            return (await minted(bob, rooms=rooms, access=t.ACCESSES)).token
        case _:
            return ""


def in_path(path: str, given: dict[str, Any], room: str) -> str:
    """A path with what was drawn for it, as a client that escapes writes it."""
    for name, value in {"room": room, **given}.items():
        text = str(value).encode("utf-8", "replace").decode()
        path = path.replace(f"{{{name}}}", quote(text, safe="") or "x")
    return path.replace("{", "").replace("}", "")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_asked_is_answered(data: st.DataObject) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home, lets_in=True) as web:
            _, bob = await home.room("alice", "bob")
            room = (await bob.rooms())[0].room
            token = await shown(bob, room, data.draw(st.sampled_from(KINDS), "token"))
            for _ in range(4):
                operation = data.draw(st.sampled_from(SERVED), "operation")
                assert operation.http is not None
                names = [field.encode_name for field in msgspec.structs.fields(operation.params)]
                given = data.draw(st.dictionaries(st.sampled_from([*names, "extra"]), VALUES, max_size=4), "parameters")
                given.pop("wait_ms", None)
                path = in_path(
                    f"/v1{operation.http.path}",
                    {n: given.get(n, "x") for n in operation.http.fields if n != "room"},
                    room,
                )
                rest = {name: value for name, value in given.items() if name not in operation.http.fields}
                if operation.waits and "wait_ms" in names:
                    rest["wait_ms"] = 0
                headers = {"Content-Type": "application/json"}
                if operation.http.method in ("GET", "DELETE"):
                    query = urlencode({name: str(value).encode("utf-8", "replace") for name, value in rest.items()})
                    line = f"{operation.http.method} {path}{'?' * bool(query)}{query}"
                    answer = await web.ask(line, token=token, headers=headers)
                else:
                    line = f"{operation.http.method} {path}"
                    answer = await web.ask(line, json.dumps(rest).encode(), token=token, headers=headers)
                checked(answer, line, operation.result)

    run(main)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_is_sent_to_a_short_path_is_answered(data: st.DataObject) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home, lets_in=True) as web:
            _, bob = await home.room("alice", "bob")
            told = await minted(bob, access=t.ACCESSES)
            names = [
                "id",
                "key",
                "value",
                "scope",
                "if",
                "body",
                "kind",
                "expr",
                "writes",
                "status",
                "name",
                "agent",
                "timer",
                "after",
                "role",
            ]
            for _ in range(4):
                flat = data.draw(st.sampled_from(FLAT), "path")
                given = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=4), "parameters")
                path = in_path(flat.path, {"agent": "bob", "id": given.get("id", "x")}, told.info.room)
                headers = {"Content-Type": "application/json"}
                if flat.method == "GET":
                    shown = {name: str(value).encode("utf-8", "replace") for name, value in given.items()}
                    timeout = {"timeout": "0"} if path.endswith("/wait") else {}
                    line = f"GET {path}?{urlencode({**shown, **timeout})}"
                    answer = await web.ask(line, token=told.token, headers=headers)
                else:
                    line = f"{flat.method} {path}"
                    answer = await web.ask(line, json.dumps(given).encode(), token=told.token, headers=headers)
                checked(answer, line)

    run(main)
