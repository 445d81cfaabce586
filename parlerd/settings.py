"""The person's settings, typed: defaults, then `<home>/settings.toml`, then `PARLER_<NAME>` in the environment.

How a home approves is the person's, and agents run with environments of their own: there the environment may ask for
more than the file and never for less.

A setting `approval_minimum` is `minimum` in the table `[approval]` of the file and `PARLER_APPROVAL_MINIMUM` in the
environment. What the file says and nobody knows is an error: a misspelt policy must not silently be the default.
Variables of the environment that are not settings are left alone. Above: programs. Below: `parlerd.core`.
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
    """Everything a person may set. Times in milliseconds.

    `approval_default`: whether a new session asks before it lets anyone in. `approval_minimum`: the weakest proof that
    a person decided which counts. `key_ttl_ms`, `key_max_uses`: what a new key gets when the caller names nothing.
    `wake_codex_program`, `wake_codex_remote`: the Codex program, absolute, and the app-server through which it wakes an
    idle thread, `unix://` and an absolute path; it takes both. `wake_opencode_server`, `wake_kilo_server`: the server
    of OpenCode or Kilo that prompts its idle sessions, `http://` with a loopback address and a port.
    `quota_agent_messages`, `quota_agent_bytes`, `quota_home_messages`, `quota_home_bytes`: what one agent, and all of
    them together, may store in an hour; 0 is no limit.
    `mcp_era`: what an agent host is offered that asks which revisions of MCP are served. `mcp_wait_max_ms`: the longest
    that one tool call waits, whatever it asks for and its host would sit out.
    """

    approval_default: bool = True
    approval_minimum: Proof = "cli"
    key_ttl_ms: Millis = DEFAULT_KEY_TTL_MS
    key_max_uses: int = DEFAULT_KEY_USES
    wake_codex_program: str = ""
    wake_codex_remote: str = ""
    wake_opencode_server: str = ""
    wake_kilo_server: str = ""
    quota_agent_messages: int = 60_000
    """Twice what one client that waits for each answer sends in nine seconds, the longest that a benchmark sends."""
    quota_agent_bytes: int = 256 * 1024 * 1024
    quota_home_messages: int = 240_000
    """Some 350 MB of disk, and as much again in each further hour."""
    quota_home_bytes: int = 1024 * 1024 * 1024
    mcp_era: Era = "legacy"
    mcp_wait_max_ms: Millis = Millis(3_600_000)

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
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("quota_agent_messages", "quota_agent_bytes", "quota_home_messages", "quota_home_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0")


_LOOPBACK: Final = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})/?\Z")


def _is_loopback(url: str) -> bool:
    """Whether this is a server of this machine and nothing more: no path, no name or password."""
    found = _LOOPBACK.match(url)
    return found is not None and 0 < int(found[1]) < 65_536


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
                # Said and not passed over: whoever set it would otherwise believe that it holds.
                raise _invalid(
                    variable, f"the environment may only ask for more than the settings; weaken it in {path}"
                )
    return _convert(values, str(path))


def is_weaker(settings: Settings, than: Settings) -> bool:
    """Whether agents come in more easily under `settings` than under the others."""
    return (than.approval_default and not settings.approval_default) or (
        PROOF_ORDER.index(settings.approval_minimum) < PROOF_ORDER.index(than.approval_minimum)
    )


def at_least(settings: Settings, floor: Settings) -> Settings:
    """`settings`, with the approval of `floor` wherever that is stricter."""
    return msgspec.structs.replace(
        settings,
        approval_default=settings.approval_default or floor.approval_default,
        approval_minimum=max(settings.approval_minimum, floor.approval_minimum, key=PROOF_ORDER.index),
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _invalid(str(path), error.strerror or "it cannot be read") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(str(path), str(error)) from error
    values: dict[str, Any] = {}
    for table, entries in document.items():
        if table not in _TABLES or not isinstance(entries, dict):
            raise _invalid(str(path), f"there is no table [{table}]; known: {', '.join(sorted(_TABLES))}")
        for key, value in entries.items():
            values[f"{table}_{key}"] = value
    _convert(values, str(path))
    return values


def _from_text(variable: str, name: str, text: str) -> Any:
    # One setting at a time, so that the error names the variable and not the file.
    try:
        return getattr(msgspec.convert({name: text}, Settings, strict=False), name)
    except (msgspec.ValidationError, ValueError) as error:
        raise _invalid(variable, str(error)) from error


def _convert(values: dict[str, Any], where: str) -> Settings:
    try:
        return msgspec.convert(values, Settings)
    except (msgspec.ValidationError, ValueError) as error:
        raise _invalid(where, str(error)) from error


def _invalid(where: str, what: str) -> ParlerError:
    return ParlerError("invalid_settings", f"{where}: {what}", where=where)
