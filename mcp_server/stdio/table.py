"""The generated answers of `static.json`, as a shim reads them: raw, cut out of the file and not built anew.

Not here: what the file holds and why (`mcp_server.static`, which generates it). Invariant: where the file is missing or
lacks an entry, the shim has no answer of its own and still runs.
"""

from mcp_server.stdio.codec import loads, quote
from mcp_server.stdio.system import read_file

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

DISCOVER = "server/discover"
LISTED = ("initialize", DISCOVER, "tools/list", "prompts/list", "resources/list", "resources/templates/list")
"""The methods whose answers are in the table."""
MODERN = "2026-07-28"
"""The revision without a handshake, in which each request brings its own envelope. Source: `mcp_server.envelope`."""
META = "io.modelcontextprotocol/"
"""What the names of the protocol in `_meta` begin with."""


def is_modern(params: Any) -> bool:
    """Whether a request with these parameters speaks the revision without a handshake."""
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and meta.get(META + "protocolVersion") == MODERN


class Table:
    """The entries of one file by name, each as the raw bytes of its JSON; none when the file is missing."""

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
        """The raw result of a listed method, for the protocol version that was asked for; None when there is none."""
        raw = self._entries.get(method)
        if method == DISCOVER and "era" not in self._entries:
            # The daemon writes that entry only in a home whose person set the modern era.
            return None
        if raw is None or method != "initialize":
            return raw if raw is None else self.stamped(raw, params, "stamp listed")
        versions = loads(self._entries["versions"])
        wanted = params.get("protocolVersion") if isinstance(params, dict) else None
        version = wanted if isinstance(wanted, str) and wanted in versions else versions[-1]
        return raw.replace(quote(versions[-1]).encode(), quote(version).encode(), 1)

    def stamped(self, result: bytes, params: Any, stamp: str = "stamp result") -> bytes:
        """A raw result with what the modern era adds to it, if `params` are of that era."""
        added = self._entries.get(stamp)
        return result[:-1] + b"," + added[1:] if added is not None and is_modern(params) else result

    def error(self, code: str, reason: str = "", key: str = "") -> bytes:
        """The raw tool result for an error that only a shim can give."""
        raw = self._entries.get("error " + code + (" keyed" if key else ""), b'{"content":[],"isError":true}')
        return raw.replace(b"@REASON@", quote(reason)[1:-1].encode()).replace(b"@KEY@", key.encode())

    @property
    def conversations(self) -> list[str]:
        """The variables in which hosts name a conversation."""
        found: list[str] = loads(self._entries.get("conversations", b"[]"))
        return found

    @property
    def places(self) -> list[str]:
        """The variables in which hosts say where their records are."""
        found: list[str] = loads(self._entries.get("places", b"[]"))
        return found

    def answer_kind(self, host: str, event: str) -> str:
        """What the host makes of the hook's answer at this event; '' when nothing is known of one of them."""
        found: str = loads(self._entries.get("hooks", b"{}")).get(host, {}).get(event, "")
        return found

    def takes_key(self, tool: Any) -> bool:
        """Whether the tool takes an idempotency key."""
        return tool in loads(self._entries.get("keyed", b"[]"))

    @property
    def version(self) -> str:
        """The version of Parler that this table was made for."""
        raw = self._entries.get("initialize")
        if raw is None:
            return "0"
        return str(loads(raw)["serverInfo"]["version"])
