"""Qwen's inbox: one line to the one session that is meant, taken as a place in its queue; a liar gets nothing.

The inbox here follows `docs/users/features/cross-session-protocol.md` of Qwen Code 0.24.4, which was tried with the
program itself: an idle session in a terminal began a turn.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

from mcp_server import qwen
from mcp_server.qwen import QwenInbox, find
from mcp_server.ringing import bells
from parlerd.controller import Controller, file_of, store
from parlerd.paths import Home
from parlerd.settings import Settings
from tests.support.fake_mcp_engine import caller

TOKEN: Final = "qpc_" + "ab" * 32
SESSION: Final = "8e016be8-5b48-4c13-ad22-1f5326ae64ac"
LINE: Final = "Parler: 2 unread (r_0123456789abcdef01234567). Call parler_recv."


def started(pid: int) -> str:
    """What a record of this process says of its start."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"


pytestmark = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="records are told apart by /proc")


class Registry:
    """A folder of sessions, as Qwen keeps it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sessions"
        self.folder.mkdir(mode=0o700)
        # Below /tmp: the path of a socket is short.
        self.sockets = Path(tempfile.mkdtemp(prefix="qwen-"))
        self.path = str(self.sockets / "1.sock")

    def record(self, name: str = "", **changes: Any) -> Path:
        pid = os.getpid()
        about = {
            "schemaVersion": 1,
            "pid": pid,
            "procStart": started(pid),
            "pidNs": os.stat("/proc/self/ns/pid").st_ino,
            "sessionId": SESSION,
            "cwd": "/srv/repo",
            "startedAt": 1,
            "kind": "tui",
            "ipcPath": self.path,
            "ipcToken": "cd" * 32,
            "more": {"of": "the future"},
        } | changes
        path = self.folder / f"{name or pid}.json"
        path.write_text(json.dumps(about))
        path.chmod(0o600)
        return path

    def controller(self) -> Controller:
        return Controller(self.folder, TOKEN)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path)
    yield registry
    for path in registry.sockets.iterdir():
        path.unlink()
    registry.sockets.rmdir()


class Inbox:
    """A session's inbox: what came in, and what it says of it."""

    def __init__(self, status: str, **receipt: Any) -> None:
        self.status = status
        self.receipt = receipt
        self.heard: list[dict[str, Any]] = []

    async def __call__(self, stream: trio.SocketStream) -> None:
        data = b""
        async with stream:
            while piece := await stream.receive_some(4096):
                data += piece
        auth, *frames = [json.loads(line) for line in data.splitlines()]
        if auth != {"msgV": 1, "type": "auth", "token": TOKEN}:
            return
        self.heard += frames
        if self.status:
            await self.answer(frames[0])

    async def answer(self, frame: dict[str, Any]) -> None:
        receipt = {"msgV": 1, "msgId": "m", "type": "control", "action": "delivery_status", "status": self.status}
        receipt |= {"origMsgId": frame["msgId"], "reason": "CANARY"} | self.receipt
        lines = [{"msgV": 1, "type": "auth", "token": frame["replyToken"]}, receipt]
        stream = await trio.open_unix_socket(frame["from"])
        async with stream:
            await stream.send_all(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            await stream.send_eof()


@asynccontextmanager
async def listening(registry: Registry, inbox: Any) -> AsyncIterator[None]:
    bound = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await bound.bind(registry.path)
    bound.listen(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, inbox, [trio.SocketListener(bound)])
        yield
        nursery.cancel_scope.cancel()


def rung(registry: Registry, inbox: Any, address: str = SESSION) -> None:
    async def main() -> None:
        async with listening(registry, inbox):
            assert await QwenInbox(registry.controller).ring(address, LINE)

    trio.run(main)


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parlerd.mcp")


# -- the line ------------------------------------------------------------------------------------------------------


def test_the_session_gets_the_line_and_nothing_else_and_its_receipt_is_not_taken_for_more(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.record()
    inbox = Inbox("delivered")
    rung(registry, inbox)
    (frame,) = inbox.heard
    assert frame["message"] == {"role": "user", "content": LINE}
    assert (frame["type"], frame["msgV"], frame["toSessionId"], frame["priority"]) == ("user", 1, SESSION, "next")
    assert "fromMode" not in frame
    assert TOKEN not in json.dumps(frame)
    assert "queue; whether it was shown is not known" in said(caplog)
    # The inbox for receipts is gone with the ring.
    assert not Path(frame["from"]).parent.exists()


@pytest.mark.parametrize(
    ("status", "receipt", "words"),
    [
        ("held", {}, "holds Parler's line for review"),
        ("refused", {}, "did not take Parler's line: refused"),
        ("dropped", {"dropReason": "queue-full", "origMsgId": "other", "droppedMsgIds": []}, ""),
        ("misaddressed", {}, "did not take Parler's line: misaddressed"),
        ("\x1b[2Jüber", {}, "did not take Parler's line: unknown"),
    ],
)
def test_what_the_session_says_of_it_is_logged_without_its_words(
    registry: Registry,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    receipt: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setattr(qwen, "RECEIPT_S", 0.2)
    registry.record()
    rung(registry, Inbox(status, **receipt))
    assert words in said(caplog)
    assert ("sent no receipt" in said(caplog)) is (words == "")
    assert "CANARY" not in said(caplog)


def test_a_receipt_that_names_the_line_among_those_that_were_dropped_counts(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    class Burst(Inbox):
        async def answer(self, frame: dict[str, Any]) -> None:
            self.receipt = {"origMsgId": "another", "droppedMsgIds": [frame["msgId"]]}
            await super().answer(frame)

    registry.record()
    rung(registry, Burst("dropped"))
    assert "did not take Parler's line: dropped" in said(caplog)


def test_a_receipt_with_another_token_is_none(
    registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Liar(Inbox):
        async def answer(self, frame: dict[str, Any]) -> None:
            await super().answer({**frame, "replyToken": "0" * 64})

    monkeypatch.setattr(qwen, "RECEIPT_S", 0.2)
    registry.record()
    rung(registry, Liar("delivered"))
    assert "sent no receipt" in said(caplog)


def test_an_inbox_that_does_not_close_costs_a_bounded_time(
    registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(qwen, "SEND_S", 0.1)
    registry.record()
    rung(registry, hangs)
    assert "did not take a line" in said(caplog)


def test_an_inbox_that_nobody_serves_costs_one_wake(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    registry.record()
    left = socket.socket(socket.AF_UNIX)
    left.bind(registry.path)
    left.close()
    assert trio.run(QwenInbox(registry.controller).ring, SESSION, LINE)
    assert "cannot be asked: ConnectionRefusedError" in said(caplog)


def test_without_a_place_for_receipts_nothing_is_sent_and_nothing_fails(
    registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.record()
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    inbox = Inbox("delivered")
    rung(registry, inbox)
    assert inbox.heard == []
    assert "no place for receipts" in said(caplog)


def test_without_a_token_nothing_is_sent(registry: Registry) -> None:
    registry.record()
    inbox = Inbox("delivered")

    async def main() -> None:
        async with listening(registry, inbox):
            assert await QwenInbox(lambda: None).ring(SESSION, LINE)

    trio.run(main)
    assert inbox.heard == []


# -- which session -------------------------------------------------------------------------------------------------


@pytest.fixture
def bound(registry: Registry) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(registry.path)
        yield


@pytest.mark.usefixtures("bound")
def test_a_session_is_found_by_its_id_else_as_the_only_one_of_a_directory(registry: Registry) -> None:
    registry.record()
    pid = os.getpid()
    registry.record(f"{pid}-0123abcd", sessionId="other", cwd="/srv/other")
    found = find(registry.folder, SESSION)
    assert found is not None
    assert found.session_id == SESSION
    there = find(registry.folder, "/srv/other")
    assert there is not None
    assert there.session_id == "other"
    registry.record(f"{pid}-0123abce", sessionId="third", cwd="/srv/other")
    assert find(registry.folder, "/srv/other") is None
    assert find(registry.folder, "unknown") is None
    assert find(registry.folder, "/srv") is None


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 2},
        {"pid": 1},
        {"procStart": "another-boot:1"},
        {"procStart": None},
        {"pidNs": 1},
        {"pidNs": None},
        {"ipcPath": "relative.sock"},
        {"ipcPath": "/" + "x" * 200},
        {"ipcPath": "/etc/passwd"},
        {"ipcPath": "/nonexistent/1.sock"},
        {"ipcPath": ""},
        {"sessionId": 7},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_believed_is_passed_over(registry: Registry, changes: dict[str, Any]) -> None:
    registry.record(**changes)
    assert find(registry.folder, SESSION) is None


@pytest.mark.usefixtures("bound")
def test_a_record_that_others_could_read_or_write_or_that_is_a_link_is_passed_over(
    registry: Registry, tmp_path: Path
) -> None:
    path = registry.record()
    path.chmod(0o644)
    assert find(registry.folder, SESSION) is None
    path.chmod(0o600)
    kept = path.rename(tmp_path / "kept.json")
    path.symlink_to(kept)
    assert find(registry.folder, SESSION) is None
    path.unlink()
    kept.rename(path)
    assert find(registry.folder, SESSION) is not None
    registry.folder.chmod(0o777)
    assert find(registry.folder, SESSION) is None
    assert find(tmp_path / "absent", SESSION) is None


def test_the_window_s_conversation_is_the_address_else_its_workspace() -> None:
    bell = QwenInbox(lambda: None)
    assert bell.address(caller(host="qwen", conversation=SESSION), "/srv/repo") == SESSION
    assert bell.address(caller(host="qwen", conversation="", workspace="w"), "/srv/repo") == "/srv/repo"
    assert bell.address(caller(host="qwen", conversation="", workspace=""), "/srv/repo") == ""


def test_the_bell_is_there_once_the_person_handed_over_a_token(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    assert bells(Settings(), home) == {}
    store(home, Controller(tmp_path, TOKEN))
    assert list(bells(Settings(), home)) == ["qwen"]
    file_of(home).chmod(0o644)
    assert bells(Settings(), home) == {}
