"""Wakes an idle Qwen Code session through its inbox, by its Cross-Session Protocol (schema 1, frames 1).

    ring -> the session's record -> its inbox: token, one line as a user frame -> its receipt, at an inbox of our own

Not here: when to ring (`ringing.watch`), whether a turn may begin (`parlerd.engine.waking`), where the token is kept
(`parlerd.controller`). Above: `ringing`. Invariants: nothing but the line is sent, to the session that the window
belongs to and to none else; a record is believed only when this user alone could have written it and its process still
runs; what Qwen answers costs one wake, a bounded time and a bounded amount of memory; a receipt that says `delivered`
is taken for what it is, a place in the session's queue.

Source: Qwen Code 0.24.4, `docs/users/features/cross-session-protocol.md`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import trio

from parlerd.controller import Controller, read_private
from parlerd.engine.callers import Caller
from parlerd.process import peer_of

log = logging.getLogger("parlerd.mcp")

SEND_S: Final = 5.0
"""For the inbox to take a line; it is on this machine."""
RECEIPT_S: Final = 5.0
"""How long a receipt is waited for. They are best effort: one may never come."""
MAX_RECORD: Final = 65_536
"""Bytes of one record; real ones are half a kilobyte."""
MAX_RECORDS: Final = 500
MAX_LINE: Final = 65_536
"""Bytes of what may come with a receipt, its token included."""
MAX_SOCKET_PATH: Final = 103
"""Bytes. Qwen skips longer ones itself."""


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What a session says of itself; every field is a claim."""

    schema_version: int
    pid: int
    session_id: str
    cwd: str
    started_at: int = 0
    proc_start: str | None = None
    pid_ns: int | None = None
    ipc_path: str = ""


class _Receipt(msgspec.Struct, frozen=True, rename="camel"):
    msg_v: float
    type: str
    action: str = ""
    status: str = ""
    orig_msg_id: str = ""
    dropped_msg_ids: list[str] = []


class _Auth(msgspec.Struct, frozen=True):
    type: str
    token: str


class QwenInbox:
    """The inboxes of this person's Qwen sessions. What `controller` gives is asked at each ring: a token may be
    replaced while the daemon runs."""

    def __init__(self, controller: Callable[[], Controller | None]) -> None:
        self._controller = controller

    def address(self, window: Caller, directory: str) -> str:
        """The session that the window belongs to, by its id; else the window's directory, for the one session there."""
        return window.facts.conversation or (directory if window.facts.workspace else "")

    async def ring(self, address: str, line: str) -> bool:
        """Send the line. True also when it went wrong: Qwen queues it itself while the session is at work."""
        controller = await trio.to_thread.run_sync(self._controller)
        if controller is None or not address:
            return True
        record = await trio.to_thread.run_sync(find, controller.sessions, address)
        if record is None:
            log.info("no Qwen session that can be reached belongs to a window that has news")
            return True
        try:
            async with _receipts() as inbox:
                message = str(uuid.uuid4())
                frames = [_auth(controller.token), _frame(record, message, line, inbox)]
                if await _sent(record.ipc_path, frames):
                    status = ""
                    with trio.move_on_after(RECEIPT_S):
                        status = await inbox.status_of(message)
                    _tell(status)
        except OSError as error:
            log.warning("there is no place for receipts of Qwen: %s", error.strerror)
        return True


async def _sent(path: str, frames: list[dict[str, Any]]) -> bool:
    """Whether the other inbox took it all in time; what went wrong is logged here."""
    try:
        with trio.fail_after(SEND_S):
            await _say(path, frames)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        # Only the name of the error is logged: its text may hold words of the other side.
        log.warning("Qwen's inbox cannot be asked: %s", type(error).__name__)
    except trio.TooSlowError:
        log.warning("Qwen's inbox did not take a line within %.0f s", SEND_S)
    else:
        return True
    return False


def _tell(status: str) -> None:
    """Say in the log what became of a line."""
    if status == "delivered":
        log.info("a line waits in a Qwen session's queue; whether it was shown is not known")
    elif status == "held":
        log.warning("a Qwen session holds Parler's line for review: mint a controller token for it again")
    elif status:
        log.warning("a Qwen session did not take Parler's line: %s", status if status.isascii() else "unknown")
    else:
        log.info("a Qwen session sent no receipt; if its turns do not begin, its token may be revoked")


# -- the registry --------------------------------------------------------------------------------------------------


def find(sessions: Path, address: str) -> Record | None:
    """The record of the session with this id; of a directory, that of the only session there. Blocks on the disk."""
    found = [record for record in _records(sessions) if record.ipc_path]
    if not address.startswith("/"):
        named = [record for record in found if record.session_id == address]
        # Two sessions may have one id (a session that was resumed twice): Qwen itself lists the newest first.
        return max(named, key=lambda each: each.started_at) if named else None
    here = [record for record in found if record.cwd == address]
    return here[0] if len(here) == 1 else None


def _records(sessions: Path) -> list[Record]:
    """Every record that can be believed."""
    try:
        about = os.stat(sessions, follow_symlinks=False)
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            return []
        names = sorted(entry.name for entry in os.scandir(sessions) if entry.name.endswith(".json"))
    except OSError:
        return []
    read = (_record(sessions / name) for name in names[:MAX_RECORDS])
    return [record for record in read if record is not None]


def _record(path: Path) -> Record | None:
    text = read_private(path, MAX_RECORD)
    if text is None:
        return None
    try:
        record = msgspec.json.decode(text, type=Record)
    except (msgspec.MsgspecError, RecursionError):
        return None
    claims = path.stem.partition("-")[0]
    if record.schema_version != 1 or claims != str(record.pid) or not _runs(record) or not _is_socket(record.ipc_path):
        return None
    return record


def _runs(record: Record) -> bool:
    """Whether the process that wrote a record is still that process, in our own namespace."""
    if sys.platform == "darwin":
        return record.pid > 0 and _is_alive(record.pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        ticks = Path(f"/proc/{record.pid}/stat").read_text().rpartition(")")[2].split()[19]
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except (OSError, IndexError, UnicodeDecodeError):
        return False
    return record.proc_start == f"{boot}:{ticks}" and record.pid_ns == namespace


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _is_socket(path: str) -> bool:
    """Whether this is a socket of this user; none at all is no fault, its session cannot be reached."""
    if not path:
        return True
    if not path.startswith("/") or len(os.fsencode(path)) > MAX_SOCKET_PATH:
        return False
    try:
        about = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISSOCK(about.st_mode) and about.st_uid == os.geteuid()


# -- the two inboxes -----------------------------------------------------------------------------------------------


def _auth(token: str) -> dict[str, Any]:
    return {"msgV": 1, "type": "auth", "token": token}


def _frame(record: Record, message: str, line: str, inbox: _Inbox) -> dict[str, Any]:
    # The frame has no `fromMode`, because nobody reviews what the daemon does; Qwen trusts the frame for its token.
    return {
        "msgV": 1,
        "msgId": message,
        "type": "user",
        "from": inbox.path,
        "replyToken": inbox.token,
        "fromName": "parler",
        "toSessionId": record.session_id,
        "priority": "next",
        "message": {"role": "user", "content": line},
    }


async def _say(path: str, frames: list[dict[str, Any]]) -> None:
    """Connect, write everything at once, half-close, and see the other side close. Raises `OSError`."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        _refuse_others(stream)
        await stream.send_all(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))
        await stream.send_eof()
        while await stream.receive_some(1024):
            pass


def _refuse_others(stream: trio.SocketStream) -> None:
    """Raise `OSError` for the process of another user on the far end."""
    if peer_of(cast("socket.socket", stream.socket)).uid != os.geteuid():
        raise PermissionError


class _Inbox:
    """Ours, for receipts: where it is, what a connection to it has to present, and what came in."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.token = secrets.token_hex(32)
        self._send, self._receive = trio.open_memory_channel[_Receipt](16)

    async def heard(self, stream: trio.SocketStream) -> None:
        """One connection; what is too much of it is lost."""
        async with stream:
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                _refuse_others(stream)
                for receipt in await _read(stream, self.token):
                    with contextlib.suppress(trio.WouldBlock):
                        self._send.send_nowait(receipt)

    async def status_of(self, message: str) -> str:
        """The first status of this message."""
        while True:
            receipt = await self._receive.receive()
            if message in (receipt.orig_msg_id, *receipt.dropped_msg_ids):
                return receipt.status


@asynccontextmanager
async def _receipts() -> AsyncIterator[_Inbox]:
    """An inbox for receipts, as long as it is needed. What is done beside it raises nothing but cancellation."""
    folder = tempfile.mkdtemp(prefix="parler-")
    try:
        inbox = _Inbox(f"{folder}/r.sock")
        listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await listening.bind(inbox.path)
        listening.listen(8)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, inbox.heard, [trio.SocketListener(listening)])
            yield inbox
            nursery.cancel_scope.cancel()
    finally:
        # The folder holds two files, so removing it takes no time that would be worth a thread. In a thread a
        # cancelled task would leave the folder behind.
        shutil.rmtree(folder, ignore_errors=True)


async def _read(stream: trio.SocketStream, token: str) -> list[_Receipt]:
    """The receipts on one connection; none when it does not begin with our token."""
    data = b""
    with trio.move_on_after(RECEIPT_S):
        while len(data) < MAX_LINE and (piece := await stream.receive_some(4096)):
            data += piece
    first, *others = data.split(b"\n")
    try:
        auth = msgspec.json.decode(first, type=_Auth)
    except (msgspec.MsgspecError, RecursionError):
        return []
    if auth.type != "auth" or not secrets.compare_digest(auth.token.encode(), token.encode()):
        return []
    found = []
    for line in others:
        try:
            receipt = msgspec.json.decode(line, type=_Receipt)
        except (msgspec.MsgspecError, RecursionError):
            continue
        if receipt.msg_v <= 1 and (receipt.type, receipt.action) == ("control", "delivery_status"):
            found.append(receipt)
    return found
