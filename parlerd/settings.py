"""The person's settings, typed: defaults, then `<home>/settings.toml`, then `PARLER_<NAME>` in the environment.

The setting `approval_minimum` is `minimum` in the table `[approval]` of the file and `PARLER_APPROVAL_MINIMUM` in the
environment. A name in the file that is no setting is an error: a misspelt policy must not silently become the default.
Variables of the environment that are no settings are left alone.

Above: programs. Below: `parlerd.core`. Invariant: for how a home approves, the environment may be stricter than the
file and never weaker, because agents choose their own environments and the file is the person's.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from parlerd.core.errors import ParlerError
from parlerd.core.model import DEFAULT_KEY_TTL_MS, DEFAULT_KEY_USES, PROOF_ORDER, Millis, Proof

Era = Literal["legacy", "modern"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a person may set. Times are in milliseconds."""

    approval_default: bool = True
    """Whether a new session asks a person before it lets anyone in."""
    approval_minimum: Proof = "cli"
    """The weakest proof that counts as a person's decision."""
    key_ttl_ms: Millis = DEFAULT_KEY_TTL_MS
    """How long a new session key lives when the caller names no time."""
    key_max_uses: int = DEFAULT_KEY_USES
    """How many agents may come in with a new session key when the caller names no number."""
    wake_codex_program: str = ""
    """The Codex program, as an absolute path. To wake idle threads Parler needs this setting and the next."""
    wake_codex_remote: str = ""
    """The app-server through which that program wakes an idle thread: `unix://` and an absolute path."""
    wake_opencode_server: str = ""
    """The server of OpenCode that prompts its idle sessions: `http://` with a loopback address and a port."""
    wake_kilo_server: str = ""
    """The same for Kilo."""
    quota_agent_messages: int = 60_000
    """How many messages one agent may store in an hour; 0 is no limit. The default is twice what one client that waits
    for each answer sends in nine seconds, which is the longest that a benchmark sends."""
    quota_agent_bytes: int = 256 * 1024 * 1024
    """How many bytes one agent may store in an hour; 0 is no limit."""
    quota_home_messages: int = 240_000
    """How many messages all agents together may store in an hour; 0 is no limit. The default is some 350 MB of disk in
    an hour."""
    quota_home_bytes: int = 1024 * 1024 * 1024
    """How many bytes all agents together may store in an hour; 0 is no limit."""
    quota_person_messages: int = 120_000
    """At a relay: how many messages all agents of one person may store in an hour; 0 is no limit. A person has as many
    agents as they like, so the limit of each agent alone limits nobody."""
    quota_person_bytes: int = 512 * 1024 * 1024
    """At a relay: how many bytes all agents of one person may store in an hour; 0 is no limit."""
    quota_person_rooms: int = 1000
    """At a relay: how many rooms one person may have, closed ones among them; 0 is no limit."""
    quota_person_kept_bytes: int = 4 * 1024 * 1024 * 1024
    """At a relay: how many bytes all agents of one person may keep there in total; 0 is no limit."""
    quota_agent_blob_bytes: int = 1024 * 1024 * 1024
    """How many bytes of files and code one agent may share in an hour; 0 is no limit."""
    quota_person_blob_bytes: int = 2 * 1024 * 1024 * 1024
    """At a relay: how many bytes of files and code all agents of one person may share in an hour; 0 is no limit."""
    blob_max_bytes: int = 256 * 1024 * 1024
    """How large one file or bundle may be that a room of this home holds; 0 is no limit. Source: rooms spec, Code and
    files."""
    blob_total_bytes: int = 16 * 1024 * 1024 * 1024
    """How many bytes of files and bundles this home keeps in all; 0 is no limit."""
    retention_room_messages: int = 100_000
    """Of how many messages of a room of this home, the newest, the words are kept; 0 is no limit."""
    retention_room_bytes: int = 1024 * 1024 * 1024
    """How many bytes of words of one room of this home are kept; 0 is no limit."""
    retention_days: int = 0
    """For how many days the words of a message in a room of this home are kept; 0 is for ever."""
    retention_total_bytes: int = 16 * 1024 * 1024 * 1024
    """How many bytes of words of all rooms of this home are kept, as many as of files; 0 is no limit. The largest rooms
    give first."""
    mirror_room_messages: int = 10_000
    """Of how many messages of a room elsewhere, the newest, the words are kept on this machine; 0 is no limit. Those of
    older ones are asked for at the room's home when somebody reads them."""
    mirror_room_bytes: int = 64 * 1024 * 1024
    """How many bytes of words of one room elsewhere are kept; 0 is no limit."""
    mirror_total_bytes: int = 1024 * 1024 * 1024
    """How many bytes of words of all rooms elsewhere are kept; 0 is no limit. The largest of them give first."""
    relay_links: int = 256
    """How many links a relay keeps."""
    relay_links_per_person: int = 4
    """How many of them one person may have. One more ends the oldest, which may be one whose other end is gone."""
    relay_people: int = 1000
    """How many people a relay knows."""
    relay_enrolments: int = 60
    """How many of them may be new in an hour."""
    relay_bytes_under_way: int = 8 * 1024 * 1024
    """How many bytes of parameters may be under way on one link before the relay reads no further."""
    relay_calls_per_agent: int = 128
    """How many calls of one agent may be under way on one link; an agent with more is told to wait, and the others of
    its person go on."""
    relay_bytes_per_agent: int = 4 * 1024 * 1024
    """How many bytes of parameters of these."""
    relay_calls_per_second: int = 2_000
    """How many calls of one person a relay takes in a second, over all of their links; it reads no faster."""
    relay_unproven: int = 64
    """How many connections of strangers may be open that did not prove yet who they are, and as many from known
    addresses."""
    relay_unproven_per_address: int = 8
    """How many of them one address may have."""
    relay_rate: int = 50
    """How many connections a relay takes in a second, after a burst."""
    relay_rate_per_address: int = 10
    """How many of one address."""
    relay_takeover_days: int = 30
    """How many days the person who owns a room must have said and decided nothing there before another member may take
    the room over."""
    relay_inner_address: str = ""
    """The address at which a relay listens for the other relays over its database: one that is not public. Without it
    that is where it listens for daemons."""
    relay_inner_port: int = 0
    """The port there; with 0 the system chooses one at each start."""
    relay_metrics_port: int = 0
    """The port of 127.0.0.1 at which a relay serves `/metrics`; 0 is none."""
    mcp_era: Era = "legacy"
    """What an agent host is offered that asks which revisions of MCP are served."""
    mcp_wait_max_ms: Millis = Millis(3_600_000)
    """The longest that one tool call waits, even if the call asks for more and its host would wait longer."""

    def __post_init__(self) -> None:
        if self.wake_codex_program and not self.wake_codex_program.startswith("/"):
            raise ValueError("wake_codex_program must be an absolute path")
        if self.wake_codex_remote and not self.wake_codex_remote.startswith("unix:///"):
            raise ValueError("wake_codex_remote must be unix:// and an absolute path")
        for name in ("wake_opencode_server", "wake_kilo_server"):
            if getattr(self, name) and not _is_loopback(getattr(self, name)):
                raise ValueError(f"{name} must be http:// with 127.0.0.1, localhost or [::1], and a port")
        if not 0 <= self.mcp_wait_max_ms <= 3_600_000:
            # No wait of any surface is longer than an hour.
            raise ValueError("mcp_wait_max_ms must be from 0 to 3600000")
        for name in ("key_ttl_ms", "key_max_uses"):
            _check_range(name, getattr(self, name), 1)
        for name in self.__struct_fields__:
            if name.startswith(("quota_", "mirror_", "blob_", "retention_")):
                _check_range(name, getattr(self, name), 0)
            elif name.startswith("relay_") and name not in _NO_BOUNDS:
                _check_range(name, getattr(self, name), 1)
        for name in ("relay_metrics_port", "relay_inner_port"):
            if not 0 <= getattr(self, name) < 65_536:
                raise ValueError(f"{name} must be from 0 to 65535")


_NO_BOUNDS: Final = frozenset({"relay_metrics_port", "relay_inner_address", "relay_inner_port"})
"""Settings of a relay that are no number of which there may be any."""
_MOST: Final = 2**53
"""The largest number of any setting: every reader of JSON takes it whole, and the store has room for it."""


def _check_range(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}")
    if value > _MOST:
        raise ValueError(f"{name} must be at most {_MOST}")


_LOOPBACK: Final = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})/?\Z")


def _is_loopback(url: str) -> bool:
    """Whether `url` names a server on this machine and nothing more: no path, no user name, no password."""
    found = _LOOPBACK.match(url)
    return found is not None and 0 < int(found[1]) < 65_536


_MAX_BYTES: Final = 64 * 1024
"""The most bytes in the file. A file with every setting, and a page of comments on each, has a third of that."""
_MAX_DOTS: Final = 64
"""The most dots in a line: the time for reading a dotted name grows with the square of its parts."""
_TABLES: Final = frozenset(name.partition("_")[0] for name in Settings.__struct_fields__)


def load_settings(path: Path, env: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a home; a missing file means the defaults.

    Raises `ParlerError(invalid_settings)`, which names the file or variable and what is wrong with it.
    """
    values = _from_file(path)
    floor = _convert(values, str(path))
    for name in Settings.__struct_fields__:
        variable = f"PARLER_{name.upper()}"
        if (text := env.get(variable)) is not None:
            values[name] = _from_text(variable, name, text)
            if is_weaker(_convert(values, variable), floor):
                # A weaker variable is an error. If it were passed over, whoever set it would believe that it holds.
                raise _invalid(
                    variable, f"the environment may only ask for more than the settings; weaken it in {path}"
                )
    return _convert(values, str(path))


def is_weaker(settings: Settings, than: Settings) -> bool:
    """Whether agents come in more easily under `settings` than under `than`."""
    return (than.approval_default and not settings.approval_default) or (
        PROOF_ORDER.index(settings.approval_minimum) < PROOF_ORDER.index(than.approval_minimum)
    )


def at_least(settings: Settings, floor: Settings) -> Settings:
    """`settings`, with the approval settings of `floor` wherever those are stricter."""
    return msgspec.structs.replace(
        settings,
        approval_default=settings.approval_default or floor.approval_default,
        approval_minimum=max(settings.approval_minimum, floor.approval_minimum, key=PROOF_ORDER.index),
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        text = data.decode()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _invalid(str(path), error.strerror or "it cannot be read") from error
    except UnicodeDecodeError as error:
        raise _invalid(str(path), "it is not UTF-8 text") from error
    if len(data) > _MAX_BYTES or any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        raise _invalid(str(path), "it is larger, or has a longer name, than any settings need")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(str(path), str(error)) from error
    except (ValueError, RecursionError) as error:
        # tomllib raises these for numbers of thousands of digits and for lists nested without end.
        raise _invalid(str(path), "it has a value that no setting can have") from error
    values: dict[str, Any] = {}
    for table, entries in document.items():
        if table not in _TABLES or not isinstance(entries, dict):
            raise _invalid(str(path), _no_table(table))
        for key, value in entries.items():
            name = f"{table}_{key}"
            if name not in Settings.__struct_fields__:
                known = [each.partition("_")[2] for each in Settings.__struct_fields__ if each.startswith(f"{table}_")]
                raise _invalid(str(path), f"there is no setting {key!r} in [{table}]; {_nearest(key, known)}")
            values[name] = value
            try:
                msgspec.convert({name: value}, Settings)
            except (msgspec.ValidationError, ValueError) as error:
                raise _invalid(str(path), _wrong(error, name, f"[{table}] {key}")) from error
    return values


def _no_table(table: str) -> str:
    if table in _TABLES:
        return f"[{table}] must be a table: write [{table}] on a line, and its settings below"
    if table in Settings.__struct_fields__:
        head, _, key = table.partition("_")
        return f"{table!r} is written as {key} below a line [{head}]"
    return f"there is no table [{table}]; {_nearest(table, sorted(_TABLES), '[{}]')}"


def _nearest(word: str, known: list[str], shape: str = "{}") -> str:
    from difflib import get_close_matches  # imported here because a file without mistakes never needs it

    near = get_close_matches(word.lower(), known, n=1)
    if near:
        return f"did you mean {shape.format(near[0])}?"
    return f"known: {', '.join(shape.format(each) for each in known)}"


def _from_text(variable: str, name: str, text: str) -> Any:
    # Each variable is read by itself, so that an error can name the variable.
    try:
        return getattr(msgspec.convert({name: text}, Settings, strict=False), name)
    except (msgspec.ValidationError, ValueError) as error:
        raise _invalid(variable, _wrong(error, name, "the value")) from error


def _wrong(error: Exception, name: str, written: str) -> str:
    """What is wrong with a setting, in a sentence that calls the setting as the person wrote it (`written`)."""
    if not str(error).endswith(f"`$.{name}`"):
        # The error comes from `Settings.__post_init__`, whose sentences begin with the name of the setting.
        return str(error).replace(name, written)
    from msgspec import inspect  # a command that finds nothing wrong describes no types

    info = inspect.type_info(Settings)
    assert isinstance(info, inspect.StructType)
    kind = next(field.type for field in info.fields if field.name == name)
    if isinstance(kind, inspect.LiteralType):
        return f"{written} must be one of {', '.join(map(str, kind.values))}"
    shapes: dict[type, str] = {
        inspect.BoolType: "true or false",
        inspect.IntType: "a whole number",
        inspect.StrType: "text in quotes",
    }
    return f"{written} must be {shapes[type(kind)]}"


def _convert(values: dict[str, Any], where: str) -> Settings:
    try:
        return msgspec.convert(values, Settings)
    except (msgspec.ValidationError, ValueError) as error:
        raise _invalid(where, str(error)) from error


def _invalid(where: str, what: str) -> ParlerError:
    return ParlerError("invalid_settings", f"{where}: {what}", where=where)
