"""The stdio pipe of an agent window: lines of JSON-RPC on one side, the daemon's socket on the other.

    host --stdin--> lines --bin frames--> parlerd          started by `shim.py` beside it
    host <-stdout-- lines <--bin frames-- parlerd

It holds no logic of Parler. It starts the daemon when none runs, answers the handshake from `static.json` (the
generated file beside it) while none answers, and survives the daemon's death without the host noticing: calls in flight
get an error that may be retried, the handshake and the subscriptions are replayed, and the next call waits for the
daemon.

Not here: sessions, tools, identity (`mcp_server.session`, in the daemon). It imports C modules of the standard library
and nothing else: what it imports is paid for once per agent window, in start-up time and in memory.

Invariants: nothing but JSON-RPC is written to stdout; a tool call is sent at most once; whatever the daemon does, every
request gets an answer or was cancelled; the shim ends within a second when its host closes stdin or reads no more, and
within seconds when its parent is gone, whoever else still holds the pipes.
"""

import _json
import _socket
import posix
import select
import sys
import time

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

PROTOCOL = 1
"""Of the socket. Source: `parlerd.wire.messages`."""
MAX_LINE = 8 * 1024 * 1024 - 16
"""Bytes of one line: a frame of the socket holds 8 MiB, its own five bytes of head included."""
MAX_DEPTH = 128
"""Levels of one message: twice what the daemon takes of `data`, and far below where any reader of JSON gives up."""
HELLO_LIMIT = 60 * 1024
"""Bytes of the first frame at most, a little under what the daemon takes."""
BUFFER_LIMIT = 1024 * 1024
"""Bytes that may wait for one side before the other is not read any more."""
CHUNK = 65536
PIPE_CHUNK = 4096
"""What a pipe that is ready for writing takes without blocking (PIPE_BUF)."""

HOLD_S = 8.0
"""How long a call waits for a daemon that is being started."""
GREETING_S = 0.2
"""How long the handshake waits for a daemon that has accepted and not spoken yet, before the static table answers."""
STATIC_S = 0.4
"""The same once it has spoken: hosts give a server a second in all. Source: hosts reference, fact 3."""
WELCOME_S = 5.0
FAREWELL_S = 0.6
"""For answers under way when the host closes stdin."""
FAREWELL_SEND_S = 0.2
SPAWN_PAUSE_S = 0.5
"""Between two starts of the daemon, and for one that was started to leave a trace if it ends at once."""
STARTING_S = 10.0
"""How long a started daemon may take; until then the socket is tried often."""
FAST_TRIES_S = 60.0
SLOW_TRY_S = 5.0
"""How often an idle shim looks for a daemon that is back: its slot is kept for 30 s."""
PARENT_S = 2.0
"""How often an idle shim looks whether its parent is still there: a killed host may have left its ends of the pipes to
others that it started, so that neither tells of the end."""
LAUNCH_S = 5.0
"""Until then a parent that goes may be a launcher that has done its part; the host itself is at the pipes."""
MAX_UNANSWERED = 16
UNANSWERED_S = 600.0
"""How long a lost call is told to daemons. Source: decision 16."""

DISCOVER = "server/discover"
LISTEN = "subscriptions/listen"
LISTED = ("initialize", DISCOVER, "tools/list", "prompts/list", "resources/list", "resources/templates/list")
STARTERS = ("tools/call", "resources/read", "prompts/get")
"""What an agent does. Nothing else starts a daemon that was stopped."""
MODERN = "2026-07-28"
"""The revision without a handshake, in which each request brings its own envelope. Source: `mcp_server.envelope`."""
META = "io.modelcontextprotocol/"


CONVERSATIONS = ("CLAUDE_CODE_SESSION_ID", "COPILOT_AGENT_SESSION_ID", "GROK_SESSION_ID", "QWEN_CODE_SESSION_ID")
"""The variables in which hosts name a conversation. A test compares `configs.hosts`."""


FORBIDDEN = "This program may not connect to the daemon's socket; a sandbox around it forbids that."
"""Said where connecting is not allowed, which does not tell whether a daemon runs. Source: `parlerd.client.link`."""


LOST = "The daemon went away while this was under way."
"""Said of a request whose answer is lost. Source: `parlerd.core.errors`."""
QUIET = ("DEBUG", "INFO", "WARNING")
"""Levels of the daemon's log at which it says no error."""


class NotOurs(ValueError):
    """The socket of this home is another user's."""


class NotJson(Exception):
    """A line that is no JSON."""


# -- JSON, msgpack ---------------------------------------------------------------------------------------------


def _no_constant(name):  # type: ignore[no-untyped-def]
    raise ValueError(name)


class _Context:
    """What the scanner of the `json` package would be given, without importing that package."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]  # any object with these attributes will do
_quote = _json.encode_basestring_ascii


def loads(line: bytes) -> Any:
    """The value of a line. Raises `NotJson`."""
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
        value, end = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError, SystemError):
        # SystemError: the scanner raises an exception of the `json` package, and finds that nobody imported it.
        raise NotJson from None
    if end != len(text):
        raise NotJson
    return value


def is_too_deep(line: bytes, value: Any) -> bool:
    """Whether a line that says `value` has more levels than anything here follows."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return False
        level = inner
    return True


def is_id(value: Any) -> bool:
    """Whether this can name a request."""
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def dumps(value: Any) -> str:
    """The JSON of what `loads` gave, of at most `MAX_DEPTH` levels."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, dict):
        return "{" + ",".join([_quote(name) + ":" + dumps(item) for name, item in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    return repr(value)


def pack(value: Any) -> bytes:
    """A value as msgpack, as far as a hello and a note need it."""
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes((value,)) if value < 128 else b"\xce" + value.to_bytes(4, "big")
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
        size = len(data)
        head = bytes((0xA0 | size,)) if size < 32 else b"\xdb" + size.to_bytes(4, "big")
        return head + data
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    if isinstance(value, list):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join([pack(item) for item in value])
    return bytes((0x80 | len(value),)) + b"".join([pack(name) + pack(item) for name, item in value.items()])


def unpack(data: bytes, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """(value, end) of msgpack at `at`. Raises IndexError or ValueError for what is none."""
    if depth > 16:
        raise ValueError("too deep")
    head = data[at]
    at += 1
    if head < 0x80:
        return head, at
    if head < 0x90:
        return _unpack_map(data, at, head & 0x0F, depth)
    if head < 0xA0:
        return _unpack_list(data, at, head & 0x0F, depth)
    if head < 0xC0:
        return _unpack_text(data, at, head & 0x1F)
    if head >= 0xE0:
        return head - 256, at
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(head)
    if width is None:
        width = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}[head]
        return int.from_bytes(data[at : at + width], "big", signed=head >= 0xD0), at + width
    size = int.from_bytes(data[at : at + width], "big")
    at += width
    if head in (0xDE, 0xDF):
        return _unpack_map(data, at, size, depth)
    if head in (0xDC, 0xDD):
        return _unpack_list(data, at, size, depth)
    if head in (0xC4, 0xC5, 0xC6):
        if at + size > len(data):
            raise ValueError("cut short")
        return data[at : at + size], at + size
    return _unpack_text(data, at, size)


def _unpack_map(data: bytes, at: int, size: int, depth: int) -> tuple[Any, int]:
    value = {}
    for _ in range(size):
        name, at = unpack(data, at, depth + 1)
        item, at = unpack(data, at, depth + 1)
        if isinstance(name, str):
            value[name] = item
    return value, at


def _unpack_list(data: bytes, at: int, size: int, depth: int) -> tuple[Any, int]:
    value = []
    for _ in range(size):
        item, at = unpack(data, at, depth + 1)
        value.append(item)
    return value, at


def _unpack_text(data: bytes, at: int, size: int) -> tuple[Any, int]:
    if at + size > len(data):
        raise ValueError("cut short")
    return data[at : at + size].decode("utf-8", "replace"), at + size


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return len(payload).to_bytes(4, "big") + payload


# -- the static table ------------------------------------------------------------------------------------------


def is_modern(params: Any) -> bool:
    """Whether a request speaks the revision without a handshake."""
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and meta.get(META + "protocolVersion") == MODERN


class Table:
    """The generated answers, cut raw out of the file beside this one; empty when it is missing."""

    def __init__(self, path: str) -> None:
        self._entries: dict[str, bytes] = {}
        try:
            data = read_file(path)
        except OSError:
            data = b""
        for line in data.split(b"\n"):
            if line[:1] == b'"':
                name, _, value = line.partition(b'":')
                self._entries[name[1:].decode()] = value[:-1] if value.endswith(b",") else value

    def result(self, method: str, params: Any) -> bytes | None:
        """The raw result of a listed method, for the protocol version that was asked for."""
        raw = self._entries.get(method)
        if method == DISCOVER and "era" not in self._entries:
            # Only the daemon of a home whose person set the modern era writes that.
            return None
        if raw is None or method != "initialize":
            return raw if raw is None else self.stamped(raw, params, "stamp listed")
        versions = loads(self._entries["versions"])
        wanted = params.get("protocolVersion") if isinstance(params, dict) else None
        version = wanted if isinstance(wanted, str) and wanted in versions else versions[-1]
        return raw.replace(_quote(versions[-1]).encode(), _quote(version).encode(), 1)

    def stamped(self, result: bytes, params: Any, stamp: str = "stamp result") -> bytes:
        """A raw result with what the modern era adds to it, if `params` are of that era."""
        added = self._entries.get(stamp)
        return result[:-1] + b"," + added[1:] if added is not None and is_modern(params) else result

    def error(self, code: str, reason: str = "", key: str = "") -> bytes:
        """The raw tool result for an error that only a shim can give."""
        raw = self._entries.get("error " + code + (" keyed" if key else ""), b'{"content":[],"isError":true}')
        return raw.replace(b"@REASON@", _quote(reason)[1:-1].encode()).replace(b"@KEY@", key.encode())

    def takes_key(self, tool: Any) -> bool:
        return tool in loads(self._entries.get("keyed", b"[]"))

    @property
    def version(self) -> str:
        """The version this table was made for."""
        raw = self._entries.get("initialize")
        if raw is None:
            return "0"
        return str(loads(raw)["serverInfo"]["version"])


# -- files and processes ---------------------------------------------------------------------------------------


def read_file(path: str, tail: int | None = None) -> bytes:
    """A file's bytes; with `tail`, what follows that place, 4 KiB at most."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        if tail is not None:
            posix.lseek(descriptor, tail, 0)
            return posix.read(descriptor, 4096)
        pieces = []
        while piece := posix.read(descriptor, CHUNK):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        posix.close(descriptor)


def make_directory(path: str) -> None:
    """Make a private directory, and what it stands in, unless it is there."""
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_directory(path.rpartition("/")[0] or "/")
        posix.mkdir(path, 0o700)


def environment(name: str, errors: str = "replace") -> str:
    return posix.environ.get(name.encode(), b"").decode("utf-8", errors)


def home_of(explicit: str) -> str:
    """The home as an absolute path: named, else PARLER_HOME, else ~/.parler."""
    # A path is bytes: one that is not UTF-8 must not become another one, which would be made.
    named = explicit or environment("PARLER_HOME", "surrogateescape") or "~/.parler"
    if named == "~" or named.startswith("~/"):
        user = environment("HOME", "surrogateescape")
        if not user:
            import pwd

            user = pwd.getpwuid(posix.getuid()).pw_dir
        named = user + named[1:]
    return named if named.startswith("/") else posix.getcwd() + "/" + named


def current_directory() -> str:
    try:
        return posix.getcwd()
    except OSError:
        return ""


def peer_uid(sock: _socket.socket) -> int:
    """Whose process listens on the other side; -1 when the platform does not say."""
    if hasattr(_socket, "SO_PEERCRED"):
        data = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int.from_bytes(data[4:8], sys.byteorder)
    if sys.platform == "darwin":
        # SOL_LOCAL, LOCAL_PEERCRED: a version, then the uid.
        data = sock.getsockopt(0, 1, 76)
        return int.from_bytes(data[4:8], sys.byteorder)
    return -1


class Starter:
    """Starts the daemon of one home, and knows what became of it."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._log = home + "/log/parlerd.log"
        self._offset = 0
        self._pid = 0
        self._wrong = ""
        self.started = -STARTING_S

    def start(self, now: float) -> str:
        """Start it, unless one was just started and may still come. Returns why that cannot be, or ''."""
        if now - self.started < SPAWN_PAUSE_S or (now - self.started < STARTING_S and self.alive()):
            return self._wrong
        self.started = now
        self._pid = 0
        self._wrong = self._prepare()
        if not self._wrong:
            try:
                self._offset = posix.stat(self._log).st_size
            except OSError:
                self._offset = 0
            self._spawn()
        return self._wrong

    def gone(self) -> bool:
        """Whether what it starts is not there any more: no other window and no waiting brings it back."""
        try:
            posix.stat(sys.executable)
        except FileNotFoundError:
            return True
        except OSError:
            pass
        return False

    def alive(self) -> bool:
        """Whether the process that was started is still there."""
        if not self._pid:
            return False
        try:
            posix.kill(self._pid, 0)
        except OSError:
            return False
        try:
            # Where nobody collects the dead, they are still there to be signalled.
            return b") Z" not in read_file(f"/proc/{self._pid}/stat")
        except OSError:
            return True

    def last_words(self) -> str:
        """The last line that the started daemon, or the interpreter of it, left in the log and that says an error; ''
        when there is none."""
        for line in reversed(self._tail().split("\n")):
            # A logged line begins with its date, its time, its level and its logger. Every other line went to stderr,
            # where the daemon and the interpreter write only when they fail.
            words = line.strip().split(" ", 3)
            level = words[2] if len(words) == 4 else ""
            if words[0] and level not in QUIET:
                logged = level in ("ERROR", "CRITICAL")
                said = words[3].partition(": ")[2] if logged else line.strip().removeprefix("parlerd: ")
                return "".join([char if " " <= char <= "~" else "?" for char in said[:1000]])
        return ""

    def lost_the_race(self) -> bool:
        """Whether it ended because another window's daemon came first."""
        return "already_running" in self._tail()

    def _tail(self) -> str:
        try:
            return read_file(self._log, self._offset).decode("utf-8", "replace")
        except OSError:
            return ""

    def _prepare(self) -> str:
        """Make the directories of the log; the daemon makes and checks the rest. Returns what is wrong, or ''."""
        for path in (self._home, self._home + "/log"):
            try:
                make_directory(path)
            except OSError as error:
                return f"The home {path} cannot be made: {error.strerror}."
            try:
                found = posix.stat(path, follow_symlinks=False)
            except OSError as error:
                return f"The home {path} cannot be used: {error.strerror}."
            if found.st_mode & 0o170000 != 0o040000 or found.st_uid != posix.geteuid() or found.st_mode & 0o077:
                return f"The home {path} is not a private directory of yours (chmod 700, no symlink)."
        return ""

    def _spawn(self) -> None:
        # Forked twice, so that no host which ends its children, and theirs, ends the daemon with them.
        reading, writing = posix.pipe()
        child = posix.fork()
        if child == 0:
            try:
                posix.setsid()
                grandchild = posix.fork()
                if grandchild:
                    posix.write(writing, str(grandchild).encode())
                    posix._exit(0)
                self._become_daemon()
            finally:
                posix._exit(127)
        posix.close(writing)
        said = posix.read(reading, 32)
        posix.close(reading)
        posix.waitpid(child, 0)
        self._pid = int(said) if said.isdigit() else 0

    def _become_daemon(self) -> None:
        posix.umask(0o077)
        posix.chdir("/")
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NOFOLLOW
        log = posix.open(self._log, flags, 0o600)
        null = posix.open("/dev/null", posix.O_RDWR)
        for target, source in ((0, null), (1, log), (2, log)):
            posix.dup2(source, target)
        posix.closerange(3, 4096)
        # That an agent host is above is not to be seen of the daemon any more, which is nobody's child.
        kept = {b"PARLER_STARTED_BELOW": b"agent", b"PATH": posix.environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")}
        for name in (b"HOME", b"LANG"):
            if name in posix.environ:
                kept[name] = posix.environ[name]
        posix.execve(sys.executable, [sys.executable, "-I", "-m", "parlerd", "--home", self._home], kept)


# -- the pipe --------------------------------------------------------------------------------------------------


class Request:
    """A request of the host that is not answered yet."""

    def __init__(self, id: str, method: str, params: Any, line: bytes, deadline: float) -> None:
        self.id = id
        self.method = method
        self.params = params
        self.line = line
        self.deadline = deadline
        self.lost_at = 0.0

    @property
    def tool(self) -> Any:
        return self.params.get("name") if self.method == "tools/call" and isinstance(self.params, dict) else None

    def repeats(self, other: "Request") -> bool:
        """Whether this asks for what `other` asked: the same tool, the same input."""
        same: bool = self.tool == other.tool and self.params.get("arguments") == other.params.get("arguments")
        return same


class Shim:
    """Both ends and what is under way between them. `run` is the whole of its life."""

    def __init__(self, home: str, host: str, table: Table) -> None:
        self._home = home
        self._host = host
        self._table = table
        self._clock = time.monotonic
        self._starter = Starter(home)
        self._window = posix.urandom(16).hex()
        self._parent = posix.getppid()
        self._launched_until = self._clock() + LAUNCH_S
        self._next_look = 0.0
        # the host's side
        self._from_host = bytearray()
        self._skipping = False
        self._to_host = bytearray()
        self._stdout = select.poll()
        self._stdout.register(1, select.POLLOUT)
        self._host_gone = False
        self._ended_at: float | None = None
        # the daemon's side
        self._sock: _socket.socket | None = None
        self._ready = False
        self._was_ready = False
        self._since = 0.0
        self._from_daemon = bytearray()
        self._to_daemon = bytearray()
        self._next_try = 0.0
        self._pause = 0.02
        self._lost_at = time.monotonic()
        self._reason = ""
        # the conversation
        self._held: list[Request] = []
        self._flying: dict[str, Request] = {}
        self._dropped: set[str] = set()
        self._asked: set[str] = set()
        self._unanswered: list[Request] = []
        self._handshake: Any = None
        self._replay = False
        self._initialized = False
        self._subscribed: dict[str, Any] = {}
        self._listening: dict[str, Request] = {}
        self._resumed: set[str] = set()
        self._private = 0

    def run(self) -> int:
        """Carry lines until the host closes stdin. Returns the exit status."""
        now = self._clock()
        self._connect(now)
        if self._sock is None:
            self._start(now)
        while not self._done(now):
            self._turn(now)
            now = self._clock()
        self._leave()
        return 0

    def _done(self, now: float) -> bool:
        if self._host_gone:
            return True
        if self._ended_at is None:
            return False
        idle = not self._flying and not self._held and not self._to_host
        return idle or now - self._ended_at >= FAREWELL_S

    def _turn(self, now: float) -> None:
        """Wait for something to happen, and let it."""
        poll = select.poll()
        # Without events an end is still told; a side that does not read holds back the other, never our memory.
        if self._ended_at is None:
            poll.register(0, select.POLLIN if len(self._to_daemon) < BUFFER_LIMIT else 0)
        poll.register(1, select.POLLOUT if self._to_host else 0)
        if self._sock is not None:
            events = select.POLLIN if len(self._to_host) < BUFFER_LIMIT else 0
            poll.register(self._sock.fileno(), events | (select.POLLOUT if self._to_daemon else 0))
        happened = dict(poll.poll(self._timeout(now)))
        if happened.get(1, 0) & (select.POLLERR | select.POLLHUP):
            # Nobody reads any more: the host is gone, also where another process keeps stdin open.
            self._host_gone = True
        if 0 in happened:
            self._read_host()
        if self._sock is not None and self._sock.fileno() in happened:
            self._read_daemon()
        # What came goes on before anything else is looked after.
        self._write()
        self._tick(self._clock())
        self._write()

    def _write(self) -> None:
        self._write_daemon()
        self._write_host()

    def _timeout(self, now: float) -> int:
        """Milliseconds until something is due."""
        due = [request.deadline for request in self._held]
        due += [request.deadline for request in self._flying.values()]
        if self._sock is None:
            due.append(self._next_try)
        elif not self._ready:
            due.append(self._since + WELCOME_S)
        if self._ended_at is not None:
            due.append(self._ended_at + FAREWELL_S)
        due.append(self._next_look)
        return max(0, int((min(due) - now) * 1000) + 1)

    def _tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._next_look:
            self._look_for_parent(now)
        if self._sock is not None and not self._ready and now - self._since >= WELCOME_S:
            self._lose("The Parler daemon accepts connections and does not answer.")
        if self._sock is None and now >= self._next_try:
            self._connect(now)
            if self._sock is None:
                self._give_up_early(now)
        overdue = [request for request in self._held if now >= request.deadline]
        if overdue:
            self._held = [request for request in self._held if now < request.deadline]
            for request in overdue:
                self._answer_alone(request)
        for id, request in list(self._flying.items()):
            if now >= request.deadline:
                # A list that the daemon is slow to give: its late answer is dropped.
                del self._flying[id]
                self._dropped.add(id)
                self._answer_alone(request)

    # -- the host ----------------------------------------------------------------------------------------------

    def _look_for_parent(self, now: float) -> None:
        """End with the parent. Who is started by what collects orphans (process 1, say) has no other parent to lose."""
        self._next_look = now + PARENT_S
        parent = posix.getppid()
        if parent != self._parent:
            if now < self._launched_until:
                self._parent = parent
            else:
                self._host_gone = True

    def _read_host(self) -> None:
        try:
            data = posix.read(0, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        buffer = self._from_host
        start, looked = 0, len(buffer)
        buffer += data
        if not data:
            self._ended_at = self._clock()
            for id in self._listening:
                # A stream has no answer to wait for.
                self._flying.pop(id, None)
            self._listening.clear()
            if buffer and not self._skipping:
                buffer += b"\n"
        while (end := buffer.find(b"\n", max(start, looked))) >= 0:
            line = bytes(buffer[start:end])
            start = end + 1
            if self._skipping:
                self._skipping = False
            elif len(line) > MAX_LINE:
                self._too_long()
            elif line.strip():
                self._take(line)
        del buffer[:start]
        if len(buffer) > MAX_LINE:
            if not self._skipping:
                self._too_long()
            self._skipping = True
            buffer.clear()

    def _too_long(self) -> None:
        self._refuse("null", -32600, f"A line has at most {MAX_LINE} bytes.")

    def _take(self, line: bytes) -> None:
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
            if self._ready and is_id(id) and dumps(id) in self._asked:
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
            self._initialized = True
        if method == "notifications/cancelled" and isinstance(params, dict) and is_id(params.get("requestId")):
            id = dumps(params["requestId"])
            self._held = [request for request in self._held if request.id != id]
            self._flying.pop(id, None)
            self._listening.pop(id, None)
        if self._ready:
            self._send(line)

    def _request(self, request: Request, message: Any) -> None:
        method = request.method
        now = self._clock()
        if method == "ping":
            self._result(request.id, b"{}")
            return
        if method == "initialize":
            self._handshake = message
            self._replay = self._initialized = False
            self._subscribed.clear()
        elif method in ("resources/subscribe", "resources/unsubscribe"):
            self._remember_subscription(method, request.params)
        if self._ready:
            self._fly(request)
        elif method in LISTED:
            request.deadline = now + GREETING_S
            if self._sock is None:
                self._answer_alone(request)
            else:
                self._held.append(request)
        else:
            self._held.append(request)
            if self._sock is None:
                if method in STARTERS:
                    self._start(now)
                self._next_try = min(self._next_try, now)

    def _remember_subscription(self, method: str, params: Any) -> None:
        uri = params.get("uri") if isinstance(params, dict) else None
        if isinstance(uri, str):
            self._subscribed.pop(uri, None)
            if method == "resources/subscribe" and len(self._subscribed) < 256:
                self._subscribed[uri] = params

    # -- answers of our own ------------------------------------------------------------------------------------

    def _answer_alone(self, request: Request) -> None:
        """Answer without the daemon: from the table, or with what is wrong."""
        if request.method in LISTED:
            result = self._table.result(request.method, request.params)
            if result is not None:
                self._result(request.id, result)
                if request.method == "initialize":
                    self._replay = True
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
        reason = self._reason or self._starter.last_words() or "it did not answer in time"
        text = reason if reason.startswith("The ") else f"The Parler daemon could not start: {reason}"
        if request.tool is not None:
            self._result(request.id, self._table.stamped(self._table.error("unreachable", text), request.params))
        else:
            self._refuse(request.id, -32000, f"{text} Run `parler doctor`.")

    def _result(self, id: str, result: bytes) -> None:
        self._say(b'{"jsonrpc":"2.0","id":' + id.encode() + b',"result":' + result + b"}")

    def _refuse(self, id: str, code: int, message: str) -> None:
        error = dumps({"code": code, "message": message})
        self._say(f'{{"jsonrpc":"2.0","id":{id},"error":{error}}}'.encode())

    def _say(self, line: bytes) -> None:
        self._to_host += line + b"\n"

    def _write_host(self) -> None:
        buffer = self._to_host
        while buffer:
            if not self._stdout.poll(0):
                return
            try:
                written = posix.write(1, buffer[:PIPE_CHUNK])
            except BlockingIOError:
                return
            except OSError:
                # Nobody reads any more: as good as a closed stdin.
                self._host_gone = True
                return
            del buffer[:written]

    # -- the daemon --------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        wrong = self._starter.start(now)
        self._reason = wrong
        self._pause = 0.02
        self._next_try = now + self._pause

    def _give_up_early(self, now: float) -> None:
        """Answer held calls when the daemon that was started has ended, and none is there in its place."""
        starter = self._starter
        if not self._held or now - starter.started < SPAWN_PAUSE_S or starter.alive():
            return
        if starter.lost_the_race():
            # To one that is coming up, or to one that was killed and still held its lock: then the next try succeeds.
            self._start(now)
            return
        held, self._held = self._held, []
        for request in held:
            self._answer_alone(request)

    def _connect(self, now: float) -> None:
        """Try the socket once; on success the hello is on its way."""
        sock = None
        try:
            endpoint = self._home + "/run/endpoint"
            if posix.stat(endpoint).st_uid != posix.geteuid():
                raise NotOurs
            path = read_file(endpoint).decode("utf-8", "surrogateescape").strip()
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.connect(path)
            if peer_uid(sock) not in (posix.geteuid(), -1):
                raise NotOurs
        except (OSError, ValueError) as error:
            if sock is not None:
                sock.close()
            if isinstance(error, NotOurs):
                self._reason = "The socket of this home belongs to another user."
            elif isinstance(error, PermissionError):
                self._reason = FORBIDDEN
            starting = now - self._starter.started < STARTING_S
            cap = 0.1 if starting else 1.0 if now - self._lost_at < FAST_TRIES_S else SLOW_TRY_S
            self._pause = min(self._pause * 1.5, cap)
            self._next_try = now + self._pause
            return
        self._sock = sock
        self._since = now
        self._to_daemon += frame(self._hello())
        self._write_daemon()

    def _hello(self) -> bytes:
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
            "conversations": {name: value[:128] for name in CONVERSATIONS if (value := environment(name))},
            "reconnect": self._was_ready,
        }
        room = HELLO_LIMIT - len(pack(hello))
        lines: list[bytes] = []
        oldest = self._clock() - UNANSWERED_S
        self._unanswered = [request for request in self._unanswered if request.lost_at > oldest]
        for request in reversed(self._unanswered):
            room -= len(request.line) + 5
            if room < 0:
                break
            lines.insert(0, request.line)
        if lines:
            hello["unanswered"] = lines
        return pack(hello)

    def _read_daemon(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        buffer = self._from_daemon
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > MAX_LINE + 16:
                self._lose("The Parler daemon sent a frame that is too large.")
                return
            end = start + 4 + size
            if len(buffer) < end:
                break
            payload = bytes(buffer[start + 4 : end])
            start = end
            if not self._heard(payload):
                return
        del buffer[:start]

    def _heard(self, payload: bytes) -> bool:
        """Take one frame; False when the connection ended with it."""
        try:
            value, end = unpack(payload)
            if end != len(payload):
                raise ValueError("more than one value")
        except (IndexError, KeyError, ValueError):
            self._lose("The Parler daemon sent something that is not its protocol.")
            return False
        if isinstance(value, bytes) and self._ready:
            return self._answered(value)
        kind = value.get("t") if isinstance(value, dict) else None
        if kind == "welcome" and not self._ready:
            self._begin()
            return True
        if kind == "goodbye":
            error = value.get("error")
            said = error if isinstance(error, dict) else {}
            draining = said.get("code") == "draining"
            self._lose(
                "" if draining else f"The Parler daemon said: {said.get('message')} {said.get('hint') or ''}".strip()
            )
            return False
        self._lose("The Parler daemon sent something that is not its protocol.")
        return False

    def _answered(self, line: bytes) -> bool:
        """Pass a line on to the host."""
        try:
            message = loads(line)
        except NotJson:
            self._lose("The Parler daemon sent something that is not its protocol.")
            return False
        if isinstance(message, dict) and message.get("id") is not None:
            id = dumps(message["id"])
            if "method" in message:
                self._asked.add(id)
            elif id in self._dropped:
                self._dropped.discard(id)
                return True
            else:
                self._listening.pop(id, None)
                self._settle(self._flying.pop(id, None), message)
        elif self._resumed and isinstance(message, dict) and self._is_repeated(message):
            return True
        self._say(line.replace(b"\n", b" "))
        return True

    def _is_repeated(self, message: Any) -> bool:
        """Whether this acknowledges a stream that the host had opened already, at a daemon before this one."""
        if message.get("method") != "notifications/subscriptions/acknowledged":
            return False
        meta = message["params"]["_meta"] if isinstance(message.get("params"), dict) else {}
        id = dumps(meta.get(META + "subscriptionId"))
        known = id in self._resumed
        self._resumed.discard(id)
        if known and id in self._listening:
            # Not before: from here on the daemon tells of changes itself.
            self._tell_changed(self._listening[id])
        return known

    def _settle(self, request: Request | None, answer: Any) -> None:
        """Forget a lost call when a repetition of it was done: until then every daemon must know what is repeated."""
        if not self._unanswered or request is None or request.tool is None:
            return
        result = answer.get("result")
        if isinstance(result, dict) and not result.get("isError"):
            self._unanswered = [lost for lost in self._unanswered if not request.repeats(lost)]

    def _begin(self) -> None:
        """The daemon answers: replay what it must know, then send what waited for it."""
        again = self._was_ready
        self._ready = self._was_ready = True
        self._reason = ""
        self._pause = 0.02
        if self._replay and self._handshake is not None:
            self._send_private("initialize", self._handshake.get("params"))
            if self._initialized:
                self._send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
            for params in self._subscribed.values():
                self._send_private("resources/subscribe", params)
            if again and self._initialized:
                # An upgrade may have come with other tools.
                self._say(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        self._resume()
        held, self._held = self._held, []
        for request in held:
            self._fly(request)

    def _resume(self) -> None:
        """Open the host's streams again, under their own ids."""
        for id, request in self._listening.items():
            self._resumed.add(id)
            self._fly(request)

    def _tell_changed(self, request: Request) -> None:
        """Tell a stream that was opened again what may have changed while nobody watched."""
        asked = request.params.get("notifications")
        asked = asked if isinstance(asked, dict) else {}
        meta = f'"_meta":{{"{META}subscriptionId":{request.id}}}'
        changed = [f'tools/list_changed","params":{{{meta}}}}}'] if asked.get("toolsListChanged") is True else []
        uris = asked.get("resourceSubscriptions")
        for uri in uris if isinstance(uris, list) else ():
            if isinstance(uri, str) and uri.startswith("parler://"):
                changed.append(f'resources/updated","params":{{"uri":{_quote(uri)},{meta}}}}}')
        for rest in changed:
            self._say(f'{{"jsonrpc":"2.0","method":"notifications/{rest}'.encode())

    def _send_private(self, method: str, params: Any) -> None:
        self._private += 1
        id = _quote(f"parler-shim-{self._private}")
        self._dropped.add(id)
        body = f'{{"jsonrpc":"2.0","id":{id},"method":{_quote(method)}'
        self._send((body + ("}" if params is None else f',"params":{dumps(params)}}}')).encode())

    def _fly(self, request: Request) -> None:
        late = STATIC_S if request.method in LISTED else 365 * 86400.0
        request.deadline = self._clock() + late
        self._flying[request.id] = request
        if request.method == "initialize":
            self._replay = True
        elif request.method == LISTEN and is_modern(request.params) and len(self._listening) < MAX_UNANSWERED:
            self._listening[request.id] = request
        self._send(request.line)

    def _send(self, line: bytes) -> None:
        self._to_daemon += frame(b"\xc6" + len(line).to_bytes(4, "big") + line)

    def _write_daemon(self) -> None:
        while self._sock is not None and self._to_daemon:
            try:
                sent = self._sock.send(self._to_daemon[:CHUNK])
            except BlockingIOError:
                return
            except OSError:
                # What it still said, a goodbye perhaps, is read before the end is.
                self._to_daemon.clear()
                return
            del self._to_daemon[:sent]

    def _lose(self, reason: str = "") -> None:
        """The connection is gone: answer what was under way, and look for the daemon again."""
        assert self._sock is not None
        self._sock.close()
        now = self._clock()
        was_ready, self._ready, self._sock = self._ready, False, None
        self._from_daemon = bytearray()
        self._to_daemon.clear()
        self._dropped.clear()
        self._reason = reason
        self._lost_at = now
        if was_ready:
            self._pause = 0.02
        self._next_try = now + self._pause
        flying, self._flying = self._flying, {}
        for request in flying.values():
            self._lost(request)
        for id in self._asked:
            self._say(f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}'.encode())
        self._asked.clear()
        self._resumed.clear()
        if reason:
            held, self._held = self._held, []
            for request in held:
                self._answer_alone(request)

    def _lost(self, request: Request) -> None:
        """Answer a request whose answer was lost. It is never sent again by itself."""
        if request.id in self._listening:
            # Its stream goes on at the next daemon.
            return
        if request.method in LISTED:
            self._answer_alone(request)
        elif request.tool is not None:
            # A repetition went out under the key of the first: that one is kept, and named.
            first = next((lost for lost in self._unanswered if request.repeats(lost)), request)
            if first is request:
                request.lost_at = self._clock()
                self._unanswered = [*self._unanswered[1 - MAX_UNANSWERED :], request]
            error = self._table.error("connection_lost", key=self._key_of(first))
            self._result(request.id, self._table.stamped(error, request.params))
        else:
            self._refuse(request.id, -32000, LOST + " Try again.")

    def _key_of(self, request: Request) -> str:
        """The idempotency key that the daemon took for a call that named none. Source: `mcp_server.window`."""
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
        for request in self._held:
            self._answer_alone(request)
        self._write_host()
        if self._sock is None:
            return
        if self._ready:
            # An answer under way may hold a page, which the daemon counts as shown and the host never saw.
            written = not (self._to_host or self._host_gone or self._flying)
            self._to_daemon += frame(pack({"t": "note", "what": "eof", "written": written}))
            self._sock.settimeout(FAREWELL_SEND_S)
            try:  # noqa: SIM105 - contextlib is not loaded
                self._sock.sendall(self._to_daemon)
            except OSError:
                pass  # it is gone or does not read: then it learns of the end by the closing
        self._sock.close()


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
        # The last resort: a host shows stderr to a person, who can act on a sentence and not on a traceback. Ended, the
        # window is seen to be gone and is started again; left hanging, it is not.
        posix.write(2, f"parler: the shim ended by a mistake of its own ({type(error).__name__}).\n".encode())
        return 70
