"""What an agent host runs at its events: says how much waits for the agent beside it, in the host's own JSON.

    host --payload on stdin--> hook --wake.check--> parlerd
    host <--one JSON object on stdout, exit 0-- hook        `Wait`: exit 2 and a line on stderr when a turn may begin

`shim.py hook HOST EVENT` runs it, from the copy beside the shim, on the standard library alone and without site
packages: a host runs it at every prompt and every end of a turn. Not here: what waits and whose it is
(`parlerd.engine.waking`), what is written into a host's settings (`configs.hooks`).

Invariants: whatever happens (no daemon, a silent one, one that dies, garbage on stdin, no home) stdout gets one JSON
object and the exit status is 0, because hosts take another for a refusal; it never starts a daemon; it holds counts and
ids, never text of another party; an event that began a turn is not asked to begin one more.
"""

import _socket
import posix
import select
import time

from mcp_server.stdio.codec import NotJson, dumps, frame, loads, pack, unpack
from mcp_server.stdio.system import current_directory, dial, environment, home_of, read_file
from mcp_server.stdio.table import Table

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

PAYLOAD_LIMIT = 4 * 1024 * 1024
"""Bytes of the payload that are kept. A larger one (a long pasted prompt) is read to its end and not looked into."""
PAYLOAD_S = 0.4
"""For the payload to arrive, from a host that does not close stdin."""
ANSWER_S = 1.5
"""For the daemon's answer, its connection included. Together with the payload it stays below two seconds."""
SLICE_MS = 50_000
"""One wait asked of the daemon: who the waiter belongs to is looked up anew each time."""
WAIT_S = 8 * 3600.0
"""How long a waiter waits for news; a turn that ends later starts another."""
LOOK_S = 2.0
"""How often a waiter looks whether its host is still there, and for a daemon that is not."""
FRAME_MAX = 1024 * 1024
MAX_ANCESTORS = 16

CONTEXT = "context"
ADDED = "added"
FOLLOW_UP = "follow up"
WAIT = "wait"
"""What a host makes of an answer at an event. `WAIT` is ours: a waiter that the host keeps in the background. Source:
`configs.events`, from which the table of hosts and events in `static.json` is generated."""


def main(arguments: list[str], here: str) -> int:
    """Run as a program: HOST EVENT [--home HOME]; the table is in `here`. Gives the exit status."""
    said, line, status = "{}", "", 0
    try:  # noqa: SIM105 - contextlib is not loaded
        said, line, status = answer(arguments, Table(here + "/static.json"))
    except BaseException:  # noqa: S110 - a hook that fails must not be in anybody's way, and has nobody to tell
        pass
    for descriptor, text in ((1, said), (2, line)):
        try:
            if text:
                posix.write(descriptor, (text + "\n").encode())
        except OSError:
            pass  # nobody reads it
    return status


def answer(arguments: list[str], table: Table) -> tuple[str, str, int]:
    """(stdout, stderr, exit status) for one event."""
    words, home = arguments_of(arguments)
    host, event = (*words, "", "")[:2]
    payload = payload_of(read_input(PAYLOAD_S))
    kind = table.answer_kind(host, event)
    if not kind:
        return "{}", "", 0
    if kind == WAIT:
        # A waiter is for a person's own window. A run without a person (`claude -p`, or one that a program
        # started) would not end before its waiter does.
        wanted = environment("CLAUDE_CODE_ENTRYPOINT") == "cli" or environment("PARLER_WAITER") == "always"
        return wait(host, payload, home_of(home)) if wanted else ("{}", "", 0)
    turn = kind not in (CONTEXT, ADDED)
    if turn and not may_go_on(payload):
        return "{}", "", 0
    found = ask(hello_of(host, payload), home_of(home), turn, 0, ANSWER_S)
    if found is None or (turn and found.get("wake") is not True):
        return "{}", "", 0
    return shown(kind, event, found), "", 0


def arguments_of(arguments: list[str]) -> tuple[list[str], str]:
    """(HOST and EVENT, the home that was named or '')."""
    words, home = list(arguments), ""
    if "--home" in words:
        at = words.index("--home")
        home = "".join(words[at + 1 : at + 2])
        del words[at : at + 2]
    return words, home


# -- the host's side -------------------------------------------------------------------------------------------


def read_input(seconds: float) -> bytes:
    """The payload, as far as it arrives in time; b'' for one that is too large."""
    deadline = time.monotonic() + seconds
    pieces: list[bytes] = []
    size = 0
    ready = select.poll()
    ready.register(0, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and ready.poll(int(left * 1000) + 1):
        try:
            piece = posix.read(0, 65536)
        except OSError:
            break
        size += len(piece)
        if size <= PAYLOAD_LIMIT:
            pieces.append(piece)
        if not piece or (len(piece) < 65536 and payload_of(b"".join(pieces))):
            break
    return b"".join(pieces) if size <= PAYLOAD_LIMIT else b""


def payload_of(data: bytes) -> dict[str, Any]:
    """What the host says of the event; empty when it is no JSON object."""
    try:
        value = loads(data)
    except NotJson:
        return {}
    return value if isinstance(value, dict) else {}


def may_go_on(payload: dict[str, Any]) -> bool:
    """Whether this end of a turn may begin another: not one that a hook began, and not one nobody knows about."""
    return bool(payload) and not payload.get("stop_hook_active") and not payload.get("loop_count")


def shown(kind: str, event: str, found: dict[str, Any]) -> str:
    """The host's JSON for what was found."""
    text = line_of(found)
    if not text:
        return "{}"
    if kind == CONTEXT:
        return dumps({"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}})
    if kind == ADDED:
        return dumps({"additionalContext": text})
    if kind == FOLLOW_UP:
        return dumps({"followup_message": text})
    return dumps({"decision": "block", "reason": text})


def line_of(found: dict[str, Any]) -> str:
    """One line of counts and ids, and what to call; '' when nothing waits."""
    unread, handoffs, requests = [number(found.get(name)) for name in ("unread", "handoffs", "requests")]
    rooms = [room for room in found.get("rooms", []) if isinstance(room, str) and is_id(room)]
    parts = []
    if unread:
        parts.append(f"{unread} unread" + (f", {handoffs} of them a handoff to you" if handoffs else ""))
        if rooms:
            parts[-1] += " (" + ", ".join(rooms) + ")"
    if requests:
        parts.append("1 join request" if requests == 1 else f"{requests} join requests")
    if not parts:
        return ""
    calls = [name for name, count in (("parler_recv", unread), ("parler_approve", requests)) if count]
    line = "Parler: " + "; ".join(parts) + ". Call " + " and ".join(calls) + "."
    if found.get("paused") is True:
        line += " Turns that begin by themselves pause: this hour's are used up."
    return line


def number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def is_id(text: str) -> bool:
    """Whether this is a room's id, which the daemon made, and not a name somebody chose."""
    return text[:2] == "r_" and len(text) <= 64 and text[2:].isascii() and text[2:].isalnum()


# -- the waiter ------------------------------------------------------------------------------------------------


def wait(host: str, payload: dict[str, Any], home: str) -> tuple[str, str, int]:
    """Wait for news for as long as the host runs. One waiter a conversation: a second one leaves at once."""
    parent = posix.getppid()
    hello = hello_of(host, payload)
    lock = lock_of(home, hello["conversation"], parent)
    if lock is None:
        return "{}", "", 0
    deadline = time.monotonic() + WAIT_S
    try:
        if payload.get("hook_event_name") == "SessionStart":
            # What waits already is told when the session starts. This first question counts that as told, so that no
            # turn begins before the person says a word.
            ask(hello, home, False, 0, ANSWER_S)
        while (left := deadline - time.monotonic()) > 0 and posix.getppid() == parent:
            slice_ms = min(SLICE_MS, int(left * 1000) + 1)
            found = ask(hello, home, True, slice_ms, slice_ms / 1000 + ANSWER_S, parent)
            if found is None:
                time.sleep(LOOK_S)
            elif found.get("wake") is True:
                return "{}", line_of(found), 2
    finally:
        try:  # noqa: SIM105 - contextlib is not loaded
            posix.unlink(lock)
        except OSError:
            pass
    return "{}", "", 0


def lock_of(home: str, conversation: str, parent: int) -> str | None:
    """The path of the lock, which is held until this process ends; None when another waiter holds it or there is no
    home."""
    import fcntl

    plain = conversation.isascii() and conversation.replace("-", "").isalnum()
    path = f"{home}/run/wake-{conversation[:64] if plain else f'pid-{parent}'}.lock"
    try:
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fcntl.flock(posix.open(path, flags, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return path


# -- the daemon's side -----------------------------------------------------------------------------------------


def hello_of(host: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Who asks: where the event happened, in which conversation, below which processes."""
    roots = payload.get("workspace_roots")
    root = roots[0] if isinstance(roots, list) and roots and isinstance(roots[0], str) else ""
    return {
        "t": "hello",
        "protocol": 1,
        "version": "0",
        "role": "client",
        "host": host[:64],
        "cwd": (text_of(payload, "cwd") or current_directory())[:4096],
        "pid": posix.getpid(),
        "ppid": posix.getppid(),
        "as_name": environment("PARLER_AGENT")[:64],
        "project_dir": (environment("CLAUDE_PROJECT_DIR") or root)[:4096],
        "conversation": (text_of(payload, "session_id") or text_of(payload, "conversation_id"))[:128],
        "hook": True,
        "ancestors": ancestors(),
    }


def text_of(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""


def ancestors() -> list[int]:
    """The processes this one descends from, the nearest first, as far as they can be seen."""
    found: list[int] = []
    pid = posix.getppid()
    while pid > 1 and len(found) < MAX_ANCESTORS:
        found.append(pid)
        try:
            pid = int(read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def ask(
    hello: dict[str, Any], home: str, turn: bool, wait_ms: int, seconds: float, parent: int = 0
) -> dict[str, Any] | None:
    """The daemon's answer to `wake.check`; None when there is none in time, or `parent` is not the parent any more.
    Starts no daemon."""
    deadline = time.monotonic() + seconds
    sock = None
    try:
        sock = dial(home, ANSWER_S)
        call = {"t": "call", "id": 0, "op": "wake.check", "params": {"wait_ms": wait_ms, "turn": turn}}
        sock.sendall(frame(pack(hello)) + frame(pack(call)))
        return reply_of(sock, deadline, parent)
    except (OSError, ValueError, IndexError, KeyError):
        return None
    finally:
        if sock is not None:
            sock.close()


def reply_of(sock: _socket.socket, deadline: float, parent: int) -> dict[str, Any] | None:
    """The result of the one call on this connection. Raises OSError and ValueError for what is no answer."""
    data = b""
    ready = select.poll()
    ready.register(sock.fileno(), select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if not ready.poll(int(min(left, LOOK_S) * 1000) + 1):
            if parent and posix.getppid() != parent:
                return None
            continue
        sock.settimeout(left)
        piece = sock.recv(65536)
        data += piece
        if not piece or len(data) > FRAME_MAX:
            return None
        while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4], "big")):
            message, _ = unpack(data[4:end])
            data = data[end:]
            kind = message.get("t") if isinstance(message, dict) else None
            if kind != "welcome":
                result = message.get("result") if kind == "reply" else None
                return result if isinstance(result, dict) else None
    return None
