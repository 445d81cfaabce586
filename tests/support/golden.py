"""The golden log: every type of fact as it was once stored, and what the logs among them fold to.

`tests/golden/facts.jsonl` holds one fact a line, in the order of its log: the bytes, and what they read as with no
default left out. `samples` has every type of fact twice, once with every field set and once with as few as can be; the
second kind reads by the defaults of today, which therefore may never change. `LOGS` are whole logs of a room or a home,
which together hold every type as well. `tests/golden/folds.jsonl` holds the snapshot that each fold version makes of
each log. Lines are appended and their bytes never change: such bytes are in people's stores. What the bytes of an old
version read as is told anew when a version is added to which they are lifted.

The codec (tests/core/test_events.py), folding and snapshots (tests/core/test_folding.py) and every store
(tests/contract/test_store.py) are held against this one record.

    python -m tests.support.golden

appends what is missing: the samples of a new type or version, a whole log with a new type or version (of its scene in
`scripts`), and the snapshots of a new fold version or log. `SAMPLES` follow from the types of the fields.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from parlerd.core import events as e
from parlerd.core.expressions import (
    Call,
    Expression,
    ExpressionLiteral,
    Has,
    Index,
    ListOf,
    Macro,
    MapOf,
    Read,
    Root,
    Select,
    Type,
    Variable,
)
from parlerd.core.home import HomeRoom
from parlerd.core.model import (
    AgentId,
    BlobId,
    By,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
)
from parlerd.core.room import Room
from tests.support.scripts import scene_log

GOLDEN: Final = Path(__file__).resolve().parents[1] / "golden"
BODY: Final = b"body"
"""What the header of a full sample says that its body is."""

_HAS: Final = Has(1, Select(2, Root(3, "state"), "a"))
EXPRESSION: Final = Expression(
    source="a text",
    tree=Call(
        0,
        "&&",
        (
            _HAS,
            Macro(4, "map", ListOf(5, (ExpressionLiteral(6, 1.5), Type(7, "int"))), 0, Variable(8, 0), _HAS),
            Index(9, MapOf(10, ((ExpressionLiteral(11, "k"), ExpressionLiteral(12, None)),)), ExpressionLiteral(13, 7)),
        ),
    ),
    reads=(Read("state", ("a", None), 2),),
)
"""An expression with every type of node. No text has this tree: it stands for what is stored."""
_AGENT, _PERSON = AgentId("U" + "A" * 55), PrincipalId("A" + "B" * 55)
_VALUES: Final[dict[Any, Any]] = {
    AgentId: _AGENT,
    PrincipalId: _PERSON,
    RoomId: RoomId("r_0123456789ABCDEFGHJK"),
    HomeId: HomeId("N" + "C" * 55),
    MessageId: MessageId("m_1"),
    RequestId: RequestId("q_1"),
    KeyId: KeyId("ab" * 32),
    BlobId: BlobId("cd" * 32),
    Millis: Millis(1_700_000_000_123),
    Position: Position(5),
    Expression: EXPRESSION,
    Any: {"k": [1, "v"]},
    str: "codex@repo",
    int: 7,
    bytes: bytes(range(32)),
}
"""What a field of each type holds in a sample."""


def _value(kind: Any, default: object) -> Any:
    """A value of a field's type, other than its default."""
    if kind in _VALUES:
        return _VALUES[kind]
    if kind is bool:
        return default is not True
    arguments = [each for each in get_args(kind) if each not in (type(None), Ellipsis)]
    if get_origin(kind) is Literal:
        return next(each for each in reversed(arguments) if each != default)
    if get_origin(kind) is dict:
        return {_value(arguments[0], None): _value(arguments[1], None)}
    if get_origin(kind) is tuple:
        return tuple(_value(each, None) for each in arguments)
    if get_origin(kind) in (Union, UnionType):
        return _value(arguments[0], default)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{field.name: _value(field.type, field.default) for field in msgspec.structs.fields(kind)})
    raise TypeError(f"a sample has no value for {kind}: give this type one in _VALUES")


def sample(kind: type[e.Event]) -> e.Event:
    """A fact of this type with every field set, each to something else than its default."""
    fields = [field for field in msgspec.structs.fields(kind) if field.name != "v"]
    return kind(**{field.name: _value(field.type, field.default) for field in fields})


SAMPLES: Final = tuple(sample(kind) for kind in (*get_args(e.RoomEvent), *get_args(e.HomeEvent)))


def sample_header(event: e.Event) -> e.Header:
    """`event` as a fact, with every field of the header set."""
    return e.Header(
        position=Position(3),
        at=Millis(1_700_000_000_123),
        by=By(_AGENT, _PERSON, "s_1", "codex", "mcp", 4711, "node"),
        authority="member",
        event=event,
        operation="message.send",
        key="key-1",
        input=hashlib.sha256(b"input").digest(),
        body=hashlib.sha256(BODY).digest(),
    )


def bare_header(event: e.Event) -> e.Header:
    """`event` and its header with everything left out that may be."""
    required = [field.name for field in msgspec.structs.fields(type(event)) if field.required]
    return e.Header(
        position=Position(1),
        at=Millis(0),
        by=By(AgentId("U1"), PrincipalId("A1"), "", "", "cli"),
        authority="home",
        event=type(event)(**{name: getattr(event, name) for name in required}),
    )


@dataclass(frozen=True)
class Recorded:
    """One line of the golden log."""

    log: str
    """`samples`, or the name of a whole log."""
    type: str
    v: int
    data: bytes
    reads: dict[str, Any]
    """The header as plain JSON, with every default."""
    body: bytes | None = None
    """The fact's body, in a whole log whose folding reads it."""

    @property
    def header(self) -> e.Header:
        return e.decode_header(self.data)


def recorded(*logs: str) -> list[Recorded]:
    """The facts of these logs, or of all, as they were recorded."""
    lines = [json.loads(text) for text in (GOLDEN / "facts.jsonl").read_text().splitlines()]
    facts = [
        Recorded(
            line["log"],
            line["type"],
            line["v"],
            bytes.fromhex(line["bytes"]),
            line["reads"],
            bytes.fromhex(line["body"]) if "body" in line else None,
        )
        for line in lines
    ]
    return [fact for fact in facts if not logs or fact.log in logs]


def _logs() -> dict[str, type[Room] | type[HomeRoom]]:
    """The whole logs in the order in which they were recorded. A room's begins with its opening."""
    found: dict[str, type[Room] | type[HomeRoom]] = {}
    for fact in recorded():
        if fact.log != "samples":
            found.setdefault(fact.log, Room if fact.type == "room_opened" else HomeRoom)
    return found


LOGS: Final = _logs()
"""The whole logs, and what each is a log of. `room_v1` is of a room that shows nothing of an agent's absence."""


def folded(log: str) -> Room | HomeRoom:
    """What a whole log folds to today."""
    aggregate = LOGS[log]()
    for fact in recorded(log):
        aggregate.apply(fact.header, fact.body)
    return aggregate


def missing_samples() -> list[str]:
    """The lines of each type and version that no sample was recorded of."""
    known = {(fact.type, fact.v) for fact in recorded("samples")}
    return [
        line_of("samples", header)
        for event in SAMPLES
        if (kind(event), event.v) not in known
        for header in (sample_header(event), bare_header(event))
    ]


def missing_logs() -> list[str]:
    """The lines of a whole log for each type and version that is in none: its scene in a room or a home that has just
    begun."""
    known = {(fact.type, fact.v) for fact in recorded(*LOGS)}
    lines: list[str] = []
    for event in SAMPLES:
        if (kind(event), event.v) not in known:
            facts, bodies = scene_log(type(event))
            log = f"scene_{kind(event)}_{event.v}"
            lines += [line_of(log, header, bodies.get(header.position)) for header in facts]
    return lines


def missing_folds() -> list[str]:
    """The lines of the snapshots that today's fold version makes and that were not recorded."""
    known, lines = folds(), []
    for log in LOGS:
        aggregate = folded(log)
        if (log, aggregate.fold_version) not in known:
            line = {"log": log, "fold_version": aggregate.fold_version, "snapshot": aggregate.snapshot().hex()}
            lines.append(json.dumps(line))
    return lines


def folds() -> dict[tuple[str, int], bytes]:
    """The snapshot that each fold version made of each whole log, in the order in which they were recorded."""
    lines = [json.loads(text) for text in (GOLDEN / "folds.jsonl").read_text().splitlines()]
    found = {(line["log"], line["fold_version"]): bytes.fromhex(line["snapshot"]) for line in lines}
    assert len(found) == len(lines), "a fold version was recorded twice"
    return found


def line_of(log: str, header: e.Header, body: bytes | None = None) -> str:
    """The line that records a fact as it is written today."""
    event, data = header.event, e.encode_header(header).hex()
    line = {"log": log, "type": kind(event), "v": event.v, "bytes": data, "reads": reads(header)}
    return json.dumps(line if body is None else {**line, "body": body.hex()})


def lifted() -> list[str]:
    """Every line of the golden log, with what its bytes read as today where they are of an older version."""
    lines = []
    for text in (GOLDEN / "facts.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["v"] != e.CURRENT_V[line["type"]]:
            line["reads"] = reads(e.decode_header(bytes.fromhex(line["bytes"])))
        lines.append(json.dumps(line))
    return lines


def kind(event: e.Event) -> str:
    """The type of a fact as its bytes say it."""
    return str(event.__struct_config__.tag)


def reads(header: e.Header) -> dict[str, Any]:
    """The header as plain JSON, defaults and all."""
    plain: dict[str, Any] = json.loads(msgspec.json.encode(_explicit(header)))
    return plain


def _explicit(value: Any) -> Any:
    """A struct as a dict that leaves no default out."""
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        fields = {name: _explicit(getattr(value, name)) for name in value.__struct_fields__}
        return fields if tag is None else {"type": tag, **fields}
    return value


def _append(name: str, lines: list[str]) -> None:
    with (GOLDEN / name).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    print(f"{name}: {len(lines)} lines")


if __name__ == "__main__":
    (GOLDEN / "facts.jsonl").write_text("".join(f"{line}\n" for line in lifted()))
    _append("facts.jsonl", [*missing_samples(), *missing_logs()])
    LOGS.update(_logs())
    _append("folds.jsonl", missing_folds())
