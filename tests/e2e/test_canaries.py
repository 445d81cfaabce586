"""Whoever runs a relay looks for the words of a sealed room in everything that the relay's process has: its database
and the log before it, its files and logs, its numbers, what went over its links, and its memory as a core dump holds
it.

The words are a canary in each text of each operation, which the registry says: an operation that is added tomorrow is
looked at too. What a relay is to see stands in `SEEN`, field by field, each with why; a canary in the value of a key of
the state, which the relay enforces, has to be found everywhere, so the search works. What a relay keeps of an ordinary
story is also in `test_sealed` and `test_sealed_files`.
"""

from __future__ import annotations

import base64
import contextlib
import re
import sys
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import msgspec.inspect
import pytest

from parlerd.client import Client
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.paths import relay_home
from tests.support.processes import PATIENCE_S, somebody, until
from tests.support.releases import Change, Release
from tests.support.team import Team, enters, free_port, skip_below_an_agent_host

pytestmark = pytest.mark.e2e

STEM: Final = "zqmarlin"
"""What each canary begins with: a label, a key, a kind and a handle may all be spelled so."""

APART: Final = {
    "daemon.stop": "it ends the daemon that is looked at",
    "homes.add": "it dials",
    "session.bring": "it starts a program",
}
"""Operations of an agent and of a person that are not asked for here, each with why."""

WAIT_MS: Final = int(PATIENCE_S * 1000)
LATER: Final = "has(state._shared.later)"
"""For what messages wait here."""
CODED: Final = "a canary in base64 or packed"
EXPRESSIONS: Final = ("enabled", "if", "condition", "expr")
"""Fields that hold an expression: the canary is a text in one that is true."""

ENFORCED: Final = "the state of a room is enforced by its home"
WAITS: Final = "the home of a room finds out when a message is shown that waits"
NAMED: Final = "a handle and a role are names by which the home delivers"
CARD: Final = "a card is published at the relay"
PLACE: Final = "the id of a message and a place in the log are what the room's home gave them"
SEEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("state", "timer", "action", "module", "agent.enable", "room.board"), ENFORCED),
    **dict.fromkeys(("message.send enabled", "message.send timer"), WAITS),
    **dict.fromkeys(("room.role role", "handoff.give for", "session.join role"), NAMED),
    "directory": CARD,
    **dict.fromkeys(("message.gated id", "message.withdraw id", "message.why id", "receipt"), PLACE),
}
"""What a relay is to see: a family, an operation, or one of its fields, and why. The keys of requests never are."""

REACHED: Final = {
    "message.send text",
    "message.send kind",
    "message.send data",
    "message.send enabled",
    "message.send idempotency_key",
    *(
        f"handoff.give {name}"
        for name in ("next", "summary", "goal", "state", "decisions", "failed", "questions", "refs")
    ),
    "handoff.decline reason",
    "handoff.withdraw reason",
    "memory.remember text",
    "memory.remember key",
    "memory.forget key",
    "task.say text",
    "task.complete text",
    "queue.serve service",
    "session.open topic",
    "session.open context",
    "session.open name",
    "agent.presence text",
    "state.set value",
}
"""What has to come through, so that something travelled: these are not refused."""


class Asked(NamedTuple):
    """One text of one operation."""

    operation: str
    field: str
    params: t.Params
    canary: str

    @property
    def name(self) -> str:
        return f"{self.operation} {self.field}"

    @property
    def is_seen(self) -> bool:
        if self.field == "idempotency_key":
            return False
        family = self.operation.partition(".")[0]
        places = (family, self.operation, self.name, f"{family} {self.field}")
        return any(place in SEEN for place in places)


class Canaries:
    """Draws canaries, and tells which one a text holds."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def draw(self) -> str:
        self.drawn.append(f"{STEM}{len(self.drawn):05}")
        return self.drawn[-1]


def planted(kind: msgspec.inspect.Type, canary: str) -> Iterator[object]:
    """The values of a type that hold a canary: one in each place for a text, at any depth."""
    match kind:
        case msgspec.inspect.StrType() | msgspec.inspect.AnyType():
            yield canary
        case msgspec.inspect.UnionType(types=types):
            for each in types:
                yield from planted(each, canary)
        case (
            msgspec.inspect.ListType(item_type=item)
            | msgspec.inspect.VarTupleType(item_type=item)
            | msgspec.inspect.SetType(item_type=item)
        ):
            yield from ([value] for value in planted(item, canary))
        case msgspec.inspect.DictType(value_type=item):
            yield from ({canary: each} for each in planted(item, canary))
        case msgspec.inspect.StructType(fields=fields):
            needed = {field.encode_name: plain(field.type) for field in fields if field.required}
            for field in fields:
                for filled in planted(field.type, canary):
                    yield {**needed, field.encode_name: filled}


def plain(kind: msgspec.inspect.Type) -> object:
    """Some value of a type."""
    match kind:
        case msgspec.inspect.StrType():
            return "x"
        case msgspec.inspect.LiteralType(values=values):
            return values[0]
        case msgspec.inspect.IntType():
            return 60_000
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.UnionType(types=types):
            return plain(types[0])
        case msgspec.inspect.StructType(fields=fields):
            return {field.encode_name: plain(field.type) for field in fields if field.required}
        case msgspec.inspect.DictType():
            return {}
        case _:
            return []


def asked(canaries: Canaries, room: str, base: Mapping[str, Mapping[str, object]]) -> Iterator[Asked]:
    """Each text of each operation that an agent or its person may ask for, one at a time, in what is asked otherwise as
    the registry's own example or `base` says."""
    for name, operation in OPERATIONS.items():
        if operation.plane not in ("agent", "person") or name in APART:
            continue
        fields = msgspec.inspect.type_info(operation.params).fields  # type: ignore[attr-defined]
        usual: dict[str, object] = {**operation.example, **base.get(name, {})}
        if any(field.encode_name == "room" for field in fields) and name != "room.invite":
            usual["room"] = room
        if any(field.encode_name == "wait_ms" for field in fields):
            usual["wait_ms"] = 0
        for field in fields:
            # What a value is apart from the canary in it is said with the same one.
            canary = canaries.draw()
            text = f'"{canary}" != ""' if field.encode_name in EXPRESSIONS else canary
            for value in planted(field.type, text):
                with contextlib.suppress(msgspec.ValidationError):
                    params = msgspec.convert({**usual, field.encode_name: value}, operation.params)
                    yield Asked(name, field.encode_name, params, canary)


# -- what an operator looks at -----------------------------------------------------------------------------


def forms() -> list[bytes]:
    """How the beginning of a canary may stand somewhere."""
    raw = STEM.encode()
    found = [raw, raw.hex().encode(), raw.hex().upper().encode(), STEM.encode("utf-16-le"), zlib.compress(raw)[2:-6]]
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        # The characters that what stands beside the word does not change.
        found.append(coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6])
    return found


def held(data: bytes) -> set[str]:
    """The canaries that stand in some bytes in any form. One whose number cannot be read is only its beginning, or
    `CODED`."""
    found: set[str] = set()
    for form in forms():
        for match in re.finditer(re.escape(form), data):
            about = data[match.start() : match.start() + 64]
            if form in (STEM.encode(), STEM.encode("utf-16-le")):
                text = about.replace(b"\0", b"").decode("ascii", "replace")
            elif form.lower() == STEM.encode().hex().encode():
                text = bytes.fromhex(re.match(rb"(?:[0-9a-fA-F]{2})*", about)[0].decode()).decode("ascii", "replace")  # type: ignore[index]
            else:
                text = CODED
            found.add(CODED if text == CODED else (re.match(rf"{STEM}\d{{0,5}}", text) or [STEM])[0])
    return found | inflated(data)


def inflated(data: bytes) -> set[str]:
    """The same for whatever is packed by zlib in some bytes."""
    found: set[str] = set()
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        with contextlib.suppress(zlib.error):
            text = zlib.decompressobj().decompress(data[match.start() : match.start() + 65_536], 1_000_000)
            found |= {each.decode() for each in re.findall(rb"zqmarlin\d{0,5}", text)}
    return found


def memory(pid: int) -> Iterator[bytes]:
    """What a core dump of a process holds: all of its memory that may be written. A process that is not dumpable is
    read by root alone. Raises `PermissionError`."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in maps:
            span, modes, *_ = line.split()
            if modes.startswith("rw"):
                first, last = (int(each, 16) for each in span.split("-"))
                file.seek(first)
                with contextlib.suppress(OSError, ValueError):
                    yield file.read(last - first)


def tapped(folder: Path) -> tuple[Release, Path]:
    """A relay's program that writes down each message of its links behind TLS, and where."""
    traffic = folder / "traffic"
    traffic.touch()
    note = f'open({str(traffic)!r}, "ab").write(message or b"")'
    sends = "        if self._protocol.side is Side.CLIENT:\n            self._protocol.send_binary(message)"
    hears = "        return self._inbox.popleft() if self._inbox else None"
    heard = f"{hears.replace('return', 'message =')}\n        {note}\n        return message"
    return Release(
        folder / "release",
        Change("parlerd/connections/websocket.py", sends, f"        {note}\n{sends}"),
        Change("parlerd/connections/websocket.py", hears, heard),
    ), traffic


@contextlib.contextmanager
def watched(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[tuple[Team, Path, int]]:
    """Ann, whose relay is looked at, and Ben; where its traffic is, and the port of its numbers."""
    skip_below_an_agent_host()
    release, traffic = tapped(folder)
    with contextlib.ExitStack() as stack:
        ann, ben, cara = (stack.enter_context(somebody(patch)) for _ in range(3))
        port, numbers = free_port(), free_port()
        relay = relay_home(ann.home)
        for folder in (ann.home.root, relay.root):
            folder.mkdir(mode=0o700, exist_ok=True)
        relay.settings.write_text(f"[relay]\nmetrics_port = {numbers}\n")
        relay.settings.chmod(0o600)
        ann.starts("relay", "--bind", "127.0.0.1", "--port", str(port), program=release.parler)
        until(lambda: ann.asks("relay", "status", expect=None)["running"], "relay")
        team = Team(ann, ben, cara)
        team.joins(ann)
        team.joins(ben)
        yield team, traffic, numbers


def looked(team: Team, traffic: Path, numbers: int) -> tuple[dict[str, set[str]], bool]:
    """The canaries that whoever runs the relay finds, by where, and whether the memory could be read."""
    paths = [path for path in relay_home(team.ann.home).root.rglob("*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in paths)
    assert any("log" in path.name for path in paths)
    files = set().union(*(held(str(path).encode() + path.read_bytes()) for path in paths))
    with urllib.request.urlopen(f"http://127.0.0.1:{numbers}/metrics") as page:
        told = page.read()
    assert b"parler" in told
    assert traffic.stat().st_size > 100_000
    found = {"files": files, "traffic": held(traffic.read_bytes()), "numbers": held(told), "memory": set[str]()}
    try:
        for piece in memory(team.relay_pid()):
            # Of what was freed there may be a beginning left.
            found["memory"] |= {each for each in held(piece) if each == CODED or len(each) == len(STEM) + 5}
    except PermissionError:
        return found, False
    return found, True


# -- the story ---------------------------------------------------------------------------------------------


def fresh(each: Asked, alice: Client, bob: Client, room: str) -> dict[str, object]:
    """What there has to be before an operation is not refused: a turn that is offered, a task that is held, a fact."""
    operation = each.operation
    match operation:
        case "memory.forget":
            assert isinstance(each.params, t.Forget)
            if each.params.key is not None:
                alice.call("memory.remember", t.Remember(text="a fact", key=each.params.key, room=room))
        case "handoff.decline" | "handoff.withdraw":
            giver, taker = (bob, "alice") if operation == "handoff.decline" else (alice, "bob")
            given = giver.call(
                "handoff.give", msgspec.convert({"next": "x", "for": taker, "room": room}, t.GiveHandoff)
            )
            assert isinstance(given, t.GivenHandoff)
            # Of another member's turn this daemon has to be told before anybody here can answer it.
            until(partial(knows, alice, given.id, room), "offer of the turn")
            return {"id": given.id}
        case "task.say" | "task.complete" | "task.release":
            sent = alice.call("message.send", t.Send(text="a task", kind="task", room=room))
            assert isinstance(sent, t.Sent)
            held = alice.call("task.claim", t.ClaimTask(id=sent.id, room=room))
            assert isinstance(held, t.TaskHeld)
            return {"id": sent.id, "fence": held.fence} if operation == "task.complete" else {"id": sent.id}
    return {}


def knows(alice: Client, handoff: str, room: str) -> bool:
    """Whether Alice's daemon was told of a turn."""
    shown = alice.call("handoff.show", t.ShowHandoffs(room=room))
    assert isinstance(shown, t.HandoffList)
    return handoff in {each.id for each in shown.handoffs}


def worked(canaries: Canaries, team: Team, worker: Client) -> list[str]:
    """The canaries of a task in a sealed queue, from the name of the queue to the result."""
    queue, key, task, note, result = words = [canaries.draw() for _ in range(5)]
    served = worker.call("queue.serve", t.Serve(service=queue))
    assert isinstance(served, t.Served)
    assert served.sealed
    with team.ann.client("carol") as asker:
        asker.call("message.send", t.Send(text=task, service=queue, idempotency_key=key))
        held = worker.call("task.claim", t.ClaimTask(room=served.room, wait_ms=WAIT_MS))
        assert isinstance(held, t.TaskHeld)
        assert held.message is not None
        assert held.message.text == task
        worker.call("task.say", t.SayOfTask(id=held.id, status="working", text=note, room=served.room))
        done = t.CompleteTask(id=held.id or "", fence=held.fence or 0, text=result, room=served.room)
        worker.call("task.complete", done)
        page = asker.call("message.recv", t.Recv(room=served.room, wait_ms=WAIT_MS))
        assert isinstance(page, t.Received)
        assert {message.text for message in page.messages} >= {result}
    return words


def test_whoever_runs_a_relay_finds_no_word_of_a_sealed_room_in_anything_that_the_relay_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("the memory of a process is read as Linux shows it")
    with watched(monkeypatch, tmp_path) as (team, traffic, numbers):
        opened = team.ann.asks("--as", "alice", "session", "open", "--topic", "looked at")
        enters(team, team.ben, "bob", opened)
        team.ben.asks("--as", "bob", "recv", "--wait", "60")
        room, canaries = opened["room"], Canaries()
        base: dict[str, dict[str, object]] = {
            "agent.enable": {"enabled": "1 == 1"},
            "handoff.give": {"for": "bob"},
            "room.role": {"agent": "bob"},
            "session.join": {"session_key": opened["key"]},
        }
        everything, reached = list(asked(canaries, room, base)), set[str]()
        refused: dict[str, str] = {}
        with team.ann.client("alice") as alice, team.ben.client("bob") as bob:
            for each in everything:
                needed = fresh(each, alice, bob, room)
                params = msgspec.structs.replace(each.params, **({} if each.field in needed else needed))
                # What is refused is looked for too: it may have been refused at the relay.
                try:
                    alice.call(each.operation, params, timeout=PATIENCE_S)
                    reached.add(each.name)
                except ParlerError as error:
                    refused[each.name] = error.code
            through_queue = worked(canaries, team, alice)
        assert {name: refused.get(name) for name in REACHED - reached} == {}
        shared = [canaries.draw() for _ in range(3)]
        name, inside, note = shared
        waiting = [canaries.draw() for _ in range(5)]
        text, kind, key, data, private = waiting
        with team.ann.client("alice") as alice:
            later = t.Send(text=text, kind=kind, data=data, idempotency_key=key, room=room, enabled=LATER)
            for send in (later, t.Send(text=private, visible_to=("bob",), room=room, enabled=LATER)):
                sent = alice.call("message.send", send)
                assert isinstance(sent, t.Sent)
                assert sent.gated
            alice.call("state.set", t.SetState(key="later", value=1, room=room))
        file = tmp_path / name
        file.write_text(f"{inside} " * 10_000)
        team.ann.asks("--as", "alice", "send-file", str(file), "--note", note, "--room", room)
        until(lambda: team.ann.asks("homes")["homes"][1]["waiting"] == 0, "empty outbox")
        # The other member reads what was said, so it went over the relay.
        read = {message.text for message in team.ben.reads("bob", room)}
        assert {note, text, private, *(each.canary for each in everything if each.name == "message.send text")} <= read

        found, is_dumped = looked(team, traffic, numbers)
        hidden = {each.canary: each.name for each in everything if not each.is_seen}
        hidden |= dict.fromkeys(shared, "a file") | dict.fromkeys(through_queue, "a queue")
        hidden |= dict.fromkeys(waiting, "a message that waited")
        seen = {each.canary for each in everything if each.is_seen}
        (control,) = (each.canary for each in everything if each.name == "state.set value")
        for place, canaries_there in found.items():
            assert [hidden.get(each, each) for each in sorted(canaries_there - seen)] == [], place
        assert control in found["files"] & found["traffic"]
        if not is_dumped:
            pytest.skip("the memory of the relay was not looked at: only root reads a process that is not dumpable")
        assert control in found["memory"]


def test_a_canary_is_found_in_each_form() -> None:
    text = f"{STEM}00042 and more"
    raw = text.encode()
    assert held(b"x" + raw) == held(text.encode("utf-16-le")) == held(raw.hex().encode()) == {f"{STEM}00042"}
    for before in range(3):
        assert held(base64.b64encode(bytes(before) + raw)) == {CODED}
    assert held(zlib.compress(raw)) == {CODED, f"{STEM}00042"}
    assert held(zlib.compress(raw)[2:]) == {CODED}
    assert held(zlib.compress(b"told: " + raw)) == {f"{STEM}00042"}
    assert held(raw[1:]) == set()
