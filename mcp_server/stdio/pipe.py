"""The stdio pipe of an agent window: lines of JSON-RPC on one side, the daemon's socket on the other.

    host --stdin--> lines --> pipe --> link --bin frames--> parlerd
    host <-stdout-- lines <-- pipe <-- link <--bin frames-- parlerd
                               |-> requests, replay (what is under way), launch (starts the daemon), table (answers)

It holds no logic of Parler. It starts the daemon when none runs, answers the handshake from the generated table while
none answers, and survives the daemon's death without the host noticing: calls in flight get an error that may be
retried, the handshake and the subscriptions are replayed, and the next call waits for the daemon.

Not here: sessions, tools, identity (`mcp_server.session`, in the daemon). Above: `shim.py`.

Invariants: nothing but JSON-RPC is written to stdout; a tool call is sent at most once; whatever the daemon does, every
request gets an answer or was cancelled; the shim ends within a second when its host closes stdin or reads no more, and
within seconds when its parent is gone, whoever else still holds the pipes.
"""

import posix
import select
import time

from mcp_server.stdio.codec import MAX_DEPTH, NotJson, dumps, is_too_deep, loads, pack, quote
from mcp_server.stdio.launch import PAUSE_S, Starter
from mcp_server.stdio.lines import MAX_LINE, Lines
from mcp_server.stdio.link import AWAY, NO_PROTOCOL, Link
from mcp_server.stdio.link import Lost as LinkLost
from mcp_server.stdio.replay import Replay
from mcp_server.stdio.requests import Lost, Pending, Request
from mcp_server.stdio.system import current_directory, environment, home_of
from mcp_server.stdio.table import DISCOVER, LISTED, META, Table

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

LOST = "The daemon went away while this was under way."
"""Said of a request whose answer is lost. Source: `parlerd.core.errors`."""
PROTOCOL = 1
"""Of the socket. Source: `parlerd.wire.messages`."""
HELLO_LIMIT = 60 * 1024
"""Bytes of the first frame at most, a little under what the daemon takes."""
BUFFER_LIMIT = 1024 * 1024
"""Bytes that may wait for one side before the other is not read any more."""

HOLD_S = 8.0
"""How long a call waits for a daemon that is being started."""
GREETING_S = 0.2
"""How long the handshake and the lists wait for a daemon that has accepted the connection and not spoken yet, before
the static table answers."""
FAREWELL_S = 0.6
"""For answers under way when the host closes stdin."""


def is_id(value: Any) -> bool:
    """Whether this can name a request."""
    return isinstance(value, (str, int)) and not isinstance(value, bool)


class Shim:
    """Both ends of one window and what is under way between them. `run` is the whole of its life."""

    def __init__(self, home: str, host: str, table: Table) -> None:
        # The agent host, as `--host` names it, and an id of this window. Both are the same for every daemon.
        self._host = host
        self._window = posix.urandom(16).hex()
        # The answers that need no daemon.
        self._table = table
        # Seconds. The parts below are told the moment and read no clock.
        self._clock = time.monotonic
        # The two ends, and who starts the daemon at the far one.
        self._lines = Lines(self._clock())
        self._link = Link(home, self._clock())
        self._starter = Starter(home)
        # The host's requests without an answer, and its tool calls whose answer was lost.
        self._pending = Pending()
        self._lost = Lost()
        # What the next daemon must be told again.
        self._replay = Replay()
        # The ids of requests that the daemon made and the host has not answered, each as JSON.
        self._asked: set[str] = set()
        # How many requests of its own this shim made; the number is in their ids.
        self._private = 0

    def run(self) -> int:
        """Carry lines until the host closes stdin. Returns the exit status."""
        now = self._clock()
        self._connect(now)
        if self._link.state == AWAY:
            self._start(now)
        while not self._done(now):
            self._turn(now)
            now = self._clock()
        self._leave()
        return 0

    def _done(self, now: float) -> bool:
        if self._lines.is_gone:
            return True
        if self._lines.ended_at is None:
            return False
        idle = not self._pending.flying and not self._pending.held and not self._lines.unwritten
        return idle or now - self._lines.ended_at >= FAREWELL_S

    def _turn(self, now: float) -> None:
        """Wait for something to happen, and let it."""
        lines, link = self._lines, self._link
        poll = select.poll()
        # When one side's buffer is full, the other side is not read. It stays registered without events, because poll
        # reports its end all the same.
        if lines.ended_at is None:
            poll.register(0, select.POLLIN if len(link.unsent) < BUFFER_LIMIT else 0)
        poll.register(1, select.POLLOUT if lines.unwritten else 0)
        if link.sock is not None:
            events = select.POLLIN if len(lines.unwritten) < BUFFER_LIMIT else 0
            poll.register(link.sock.fileno(), events | (select.POLLOUT if link.unsent else 0))
        happened = dict(poll.poll(self._timeout(now)))
        if happened.get(1, 0) & (select.POLLERR | select.POLLHUP):
            # Nobody reads stdout any more: the host is gone, also where another process keeps stdin open.
            lines.is_gone = True
        if 0 in happened:
            self._read_host()
        if link.sock is not None and link.sock.fileno() in happened:
            self._read_daemon()
        # What was read is passed on before deadlines are looked at.
        self._write()
        self._tick(self._clock())
        self._write()

    def _write(self) -> None:
        self._link.flush()
        self._lines.write()

    def _timeout(self, now: float) -> int:
        """Milliseconds until something is due."""
        due = [*self._pending.deadlines(), self._lines.next_look]
        if self._link.state == AWAY:
            due.append(self._link.next_try)
        if (silent := self._link.silent_at()) is not None:
            due.append(silent)
        if self._lines.ended_at is not None:
            due.append(self._lines.ended_at + FAREWELL_S)
        return max(0, int((min(due) - now) * 1000) + 1)

    def _tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._lines.next_look:
            self._lines.look_for_parent(now)
        silent = self._link.silent_at()
        if silent is not None and now >= silent:
            self._lose("The Parler daemon accepts connections and does not answer.")
        if self._link.state == AWAY and now >= self._link.next_try:
            self._connect(now)
            if self._link.state == AWAY:
                if self._pending.take_start():
                    self._start(now)
                else:
                    self._give_up_early(now)
        for request in self._pending.take_overdue(now):
            self._answer_alone(request)

    # -- from the host -----------------------------------------------------------------------------------------

    def _read_host(self) -> None:
        found = self._lines.read(self._clock())
        if self._lines.ended_at is not None:
            # A stream has no answer that would be worth waiting for.
            for id in self._replay.close_all():
                self._pending.flying.pop(id, None)
        for line in found:
            if line is None:
                self._refuse("null", -32600, f"A line has at most {MAX_LINE} bytes.")
            else:
                self._take(line)

    def _take(self, line: bytes) -> None:
        """Take one line of the host."""
        try:
            message = loads(line)
        except NotJson:
            self._refuse("null", -32700, "This line is not JSON.")
            return
        if not isinstance(message, dict):
            self._refuse("null", -32600, "One JSON-RPC message a line, no batches.")
            return
        id, method = message.get("id"), message.get("method")
        if is_too_deep(line, message):
            self._refuse(dumps(id) if is_id(id) else "null", -32600, f"A message has at most {MAX_DEPTH} levels.")
        elif method is None:
            # An answer, to a request of the daemon that is connected now; a daemon before it asked what it asked.
            if self._link.is_ready and is_id(id) and dumps(id) in self._asked:
                self._asked.discard(dumps(id))
                self._send(line)
        elif not isinstance(method, str) or not (id is None or is_id(id)):
            self._refuse("null", -32600, "This is not a JSON-RPC request: its id is a string or an integer.")
        elif "id" in message and id is None:
            self._refuse("null", -32600, "A request has an id; a notification has none.")
        elif id is None:
            self._notified(method, message.get("params"), line)
        else:
            self._request(Request(dumps(id), method, message.get("params"), line, self._clock() + HOLD_S), message)

    def _notified(self, method: str, params: Any, line: bytes) -> None:
        if method == "notifications/initialized":
            self._replay.is_initialized = True
        if method == "notifications/cancelled" and isinstance(params, dict) and is_id(params.get("requestId")):
            id = dumps(params["requestId"])
            self._pending.withdraw(id)
            self._replay.close(id)
        if self._link.is_ready:
            self._send(line)

    def _request(self, request: Request, message: Any) -> None:
        method = request.method
        now = self._clock()
        if method == "ping":
            self._result(request.id, b"{}")
            return
        if method == "initialize":
            self._replay.handshake(message)
        elif method in ("resources/subscribe", "resources/unsubscribe"):
            self._replay.subscription(request.params, wanted=method == "resources/subscribe")
        if self._link.is_ready:
            self._fly(request)
        elif method in LISTED:
            request.deadline = now + GREETING_S
            if self._link.state == AWAY:
                self._answer_alone(request)
            else:
                self._pending.held.append(request)
        else:
            # A daemon is looked for at once, and is started only where none is found: a second one would end at the
            # lock, and would serve after all if the first was stopped before it got there.
            self._pending.held.append(request)
            self._link.next_try = min(self._link.next_try, now)

    # -- answers of our own ------------------------------------------------------------------------------------

    def _answer_alone(self, request: Request) -> None:
        """Answer without the daemon: from the table, or with what is wrong."""
        if request.method in LISTED:
            result = self._table.result(request.method, request.params)
            if result is not None:
                self._result(request.id, result)
                if request.method == "initialize":
                    self._replay.is_begun = True
                return
            if request.method == DISCOVER:
                # With this answer hosts go on in the handshake era, where the daemon can reach them unasked.
                self._refuse(request.id, -32601, "Method not found")
                return
        if self._starter.gone():
            text = "Parler was uninstalled: the Python that its daemon runs on is gone."
            if request.tool is not None:
                gone = self._table.error("unreachable gone")
                self._result(request.id, self._table.stamped(gone, request.params))
            else:
                self._refuse(request.id, -32000, text)
            return
        reason = self._link.reason or self._starter.last_words() or "it did not answer in time"
        text = reason if reason.startswith("The ") else f"The Parler daemon could not start: {reason}"
        if request.tool is not None:
            self._result(request.id, self._table.stamped(self._table.error("unreachable", text), request.params))
        else:
            self._refuse(request.id, -32000, f"{text} Run `parler doctor`.")

    def _result(self, id: str, result: bytes) -> None:
        self._lines.say(b'{"jsonrpc":"2.0","id":' + id.encode() + b',"result":' + result + b"}")

    def _refuse(self, id: str, code: int, message: str) -> None:
        error = dumps({"code": code, "message": message})
        self._lines.say(f'{{"jsonrpc":"2.0","id":{id},"error":{error}}}'.encode())

    def _tell(self, method: str, params: str = "") -> None:
        """Notify the host. `params` is JSON, or empty when there are none."""
        rest = f',"params":{params}' if params else ""
        self._lines.say(f'{{"jsonrpc":"2.0","method":"notifications/{method}"{rest}}}'.encode())

    # -- finding the daemon ------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        self._link.reason = self._starter.start(now)
        self._link.try_soon(now)

    def _give_up_early(self, now: float) -> None:
        """Answer held calls when the daemon that was started has ended, and none is there in its place."""
        starter = self._starter
        if not self._pending.held or now - starter.started < PAUSE_S or starter.alive():
            return
        if starter.lost_the_race():
            # Another daemon held the lock. It is coming up, and the next attempt to connect finds it; or it was ending,
            # and the next start succeeds.
            self._start(now)
            return
        for request in self._pending.take_held():
            self._answer_alone(request)

    def _connect(self, now: float) -> None:
        self._link.connect(self._hello(now), now, starting=self._starter.is_starting(now))

    def _hello(self, now: float) -> bytes:
        hello = {
            "t": "hello",
            "protocol": PROTOCOL,
            "version": self._table.version,
            "role": "stdio",
            "host": self._host[:64],
            "window": self._window,
            "cwd": current_directory()[:4096],
            "pid": posix.getpid(),
            "ppid": posix.getppid(),
            "as_name": environment("PARLER_AGENT")[:64],
            "session_key": environment("PARLER_SESSION_KEY")[:256],
            "project_dir": environment("CLAUDE_PROJECT_DIR")[:4096],
            "conversations": {name: value[:128] for name in self._table.conversations if (value := environment(name))},
            "places": {name: value[:1024] for name in self._table.places if (value := environment(name))},
            "reconnect": self._link.was_ready,
        }
        lines = self._lost.lines(now, HELLO_LIMIT - len(pack(hello)))
        if lines:
            hello["unanswered"] = lines
        return pack(hello)

    # -- from the daemon ---------------------------------------------------------------------------------------

    def _read_daemon(self) -> None:
        try:
            for value in self._link.frames():
                self._heard(value)
        except LinkLost as lost:
            self._lose(str(lost))

    def _heard(self, value: Any) -> None:
        """Take one frame. Raises the link's `Lost` when the connection ends with it."""
        if isinstance(value, bytes) and self._link.is_ready:
            self._answered(value)
            return
        kind = value.get("t") if isinstance(value, dict) else None
        if kind == "welcome" and not self._link.is_ready:
            self._begin()
        elif kind == "goodbye":
            error = value.get("error")
            said = error if isinstance(error, dict) else {}
            # A daemon that drains is replaced by another one, so there is nothing to tell the host.
            is_draining = said.get("code") == "draining"
            text = f"The Parler daemon said: {said.get('message')} {said.get('hint') or ''}".strip()
            raise LinkLost("" if is_draining else text)
        else:
            raise LinkLost(NO_PROTOCOL)

    def _answered(self, line: bytes) -> None:
        """Pass a line on to the host, unless the host is not to see it."""
        try:
            message = loads(line)
        except NotJson:
            raise LinkLost(NO_PROTOCOL) from None
        if isinstance(message, dict) and message.get("id") is not None:
            id = dumps(message["id"])
            if "method" in message:
                self._asked.add(id)
            elif id in self._pending.dropped:
                self._pending.dropped.discard(id)
                return
            else:
                self._replay.close(id)
                request = self._pending.flying.pop(id, None)
                if request is not None:
                    self._lost.settle(request, message)
        elif self._replay.is_resuming() and isinstance(message, dict) and self._is_repeated(message):
            return
        self._lines.say(line.replace(b"\n", b" "))

    def _is_repeated(self, message: Any) -> bool:
        """Whether this acknowledges a stream that the host had opened already, at a daemon before this one."""
        if message.get("method") != "notifications/subscriptions/acknowledged":
            return False
        meta = message["params"]["_meta"] if isinstance(message.get("params"), dict) else {}
        is_repeated, stream = self._replay.acknowledged(dumps(meta.get(META + "subscriptionId")))
        if stream is not None:
            # Told at this moment and no sooner: from the acknowledgement on the daemon tells of changes itself.
            self._tell_changed(stream)
        return is_repeated

    def _begin(self) -> None:
        """The daemon answers: replay what it must know, then send what waited for it."""
        again = self._link.was_ready
        self._link.welcomed()
        if self._replay.must_greet:
            self._send_private("initialize", self._replay.greeting)
            if self._replay.is_initialized:
                self._send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
            for params in self._replay.subscriptions:
                self._send_private("resources/subscribe", params)
            if again and self._replay.is_initialized:
                # An upgrade may have come with other tools.
                self._tell("tools/list_changed")
        for request in [*self._replay.resume(), *self._pending.take_held()]:
            self._fly(request)

    def _tell_changed(self, request: Request) -> None:
        """Tell a stream that was opened again what may have changed while nobody watched."""
        asked = request.params.get("notifications")
        asked = asked if isinstance(asked, dict) else {}
        meta = f'"_meta":{{"{META}subscriptionId":{request.id}}}'
        if asked.get("toolsListChanged") is True:
            self._tell("tools/list_changed", f"{{{meta}}}")
        uris = asked.get("resourceSubscriptions")
        for uri in uris if isinstance(uris, list) else ():
            if isinstance(uri, str) and uri.startswith("parler://"):
                self._tell("resources/updated", f'{{"uri":{quote(uri)},{meta}}}')

    # -- to the daemon -----------------------------------------------------------------------------------------

    def _send_private(self, method: str, params: Any) -> None:
        """Make a request of our own, whose answer the host is not to see."""
        self._private += 1
        id = quote(f"parler-shim-{self._private}")
        self._pending.dropped.add(id)
        body = f'{{"jsonrpc":"2.0","id":{id},"method":{quote(method)}'
        self._send((body + ("}" if params is None else f',"params":{dumps(params)}}}')).encode())

    def _fly(self, request: Request) -> None:
        """Send a request of the host."""
        self._pending.sent(request, self._clock())
        self._replay.sent(request)
        self._send(request.line)

    def _send(self, line: bytes) -> None:
        self._link.send(pack(line))

    # -- losing the daemon -------------------------------------------------------------------------------------

    def _lose(self, reason: str) -> None:
        """The connection is gone: answer what was under way, and look for the daemon again."""
        self._link.lose(reason, self._clock())
        for request in self._pending.take_flying():
            self._answer_lost(request)
        for id in self._asked:
            self._tell("cancelled", f'{{"requestId":{id}}}')
        self._asked.clear()
        self._replay.lost()
        if reason:
            for request in self._pending.take_held():
                self._answer_alone(request)

    def _answer_lost(self, request: Request) -> None:
        """Answer a request whose answer was lost. It is never sent again by itself."""
        if self._replay.is_stream(request.id):
            # Its stream goes on at the next daemon.
            return
        if request.method in LISTED:
            self._answer_alone(request)
        elif request.tool is not None:
            first = self._lost.add(request, self._clock())
            error = self._table.error("connection_lost", key=self._key_of(first))
            self._result(request.id, self._table.stamped(error, request.params))
        else:
            self._refuse(request.id, -32000, LOST + " Try again.")

    def _key_of(self, request: Request) -> str:
        """The idempotency key that the daemon took for a call that named none. Source: `mcp_server.repeats`."""
        arguments = request.params.get("arguments")
        named = arguments.get("key") if isinstance(arguments, dict) else None
        if not self._table.takes_key(request.tool):
            return ""
        if isinstance(named, str) and named:
            return named if named.isascii() and named.isprintable() and '"' not in named and "\\" not in named else ""
        return f"mcp:{self._window[:16]}:{request.id}" if not request.id.startswith('"') else ""

    # -- the end -----------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Say that the host closed stdin, and whether everything reached it."""
        for request in self._pending.held:
            self._answer_alone(request)
        self._lines.write()
        # An answer under way may hold a page, which the daemon counts as shown and the host never saw.
        written = not (self._lines.unwritten or self._lines.is_gone or self._pending.flying)
        note = pack({"t": "note", "what": "eof", "written": written})
        self._link.leave(note if self._link.is_ready else None)


def main(arguments: list[str], here: str) -> int:
    """Run as a program. `--host NAME` says which agent host this is, `--home HOME` whose daemon is meant; the table is
    in `here`."""
    given = {"--host": "", "--home": ""}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in given or not (equals or rest):
            posix.write(2, b"usage: shim.py [--host NAME] [--home HOME]\n")
            return 2
        given[name] = value if equals else rest.pop(0)
    try:
        return Shim(home_of(given["--home"]), given["--host"], Table(here + "/static.json")).run()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # The last resort. A host shows stderr to a person, who can act on a sentence and not on a traceback. And a
        # window that ended is seen to be gone and is started again, while one that hangs is not.
        posix.write(2, f"parler: the shim ended by a mistake of its own ({type(error).__name__}).\n".encode())
        return 70
