"""What more than one host has alike: the shapes of entries, in the key order that those hosts write themselves, the
places of files, and the record of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from configs.model import SERVER, Shim, System
from parlerd.core.records import Call, Ending, Kind, Opening, Record, Reply, Result, Rows, Test

EDITIONS: Final = ("Code", "Code - Insiders", "VSCodium")
"""The editions of VS Code, each of which has a folder of settings of its own."""
FAMILY: Final = (*EDITIONS, "Cursor", "Windsurf", "Trae")
"""Editors made of VS Code's code, in which its extensions run and keep their files in the same places."""
_SERVERS: Final = ("~/.vscode-server", "~/.vscode-server-insiders", "~/.cursor-server", "~/.windsurf-server")
"""Folders of the part of such an editor that runs where the files are: over SSH, in WSL, in a container."""
_APART: Final = (
    *(f"{server}/data/User" for server in _SERVERS),
    "${XDG_DATA_HOME:-~/.local/share}/code-server/User",
    "~/.var/app/com.visualstudio.code/config/Code/User",
    "~/.var/app/com.vscodium.codium/config/VSCodium/User",
)
"""Folders `User` of editors' servers and of Flatpak, which stand elsewhere than those of the editors themselves."""
_CONFIG: Final[Mapping[System, str]] = {
    "linux": "${XDG_CONFIG_HOME:-~/.config}",
    "macos": "~/Library/Application Support",
}


def bare(shim: Shim) -> dict[str, Any]:
    """`command` and `args`, as most hosts read it."""
    return {"command": shim.python, "args": shim.arguments}


def stdio(shim: Shim) -> dict[str, Any]:
    """The same with its transport named."""
    return {"type": "stdio", **bare(shim)}


def patient(shim: Shim) -> dict[str, Any]:
    """For Cline and its relatives. In seconds: their default of 60 is close to the longest wait of a tool."""
    return {**bare(shim), "timeout": 120, "disabled": False}


def local(shim: Shim) -> dict[str, Any]:
    """For OpenCode and its relative: the command is one list. In milliseconds: their default of 30 000 is less than a
    wait for a message may take."""
    return {"type": "local", "command": [shim.python, *shim.arguments], "enabled": True, "timeout": 120_000}


def served(command: str, *words: str, typed: bool = True) -> dict[str, Any]:
    """Our server in the manifest of a plugin."""
    kind = {"type": "stdio"} if typed else {}
    return {"mcpServers": {SERVER: {**kind, "command": command, "args": list(words)}}}


def parts_in_rows(versions: tuple[str, ...], folders: tuple[str, ...], files: tuple[str, ...]) -> Record:
    """What OpenCode and its relative record: a row for each part of a message, in a database."""
    return Record(
        versions=versions,
        folders=folders,
        files=files,
        form="rows",
        rows=Rows(messages="message", parts="part"),
        conversation=("session",),
        # The message with the call goes on after the result: with parallel calls, and the end of its step.
        calls=(Call(name="tool", has=(Test("part.type", ("tool",)),), calls="part.callID", id="of"),),
        results=(
            Result(
                name="completed tool",
                has=(Test("part.type", ("tool",)), Test("part.state.status", ("completed",))),
                lacks=(Test("part.state.time.compacted"),),
                call="part.callID",
                text="part.state.output",
            ),
        ),
        # A step starts when an answer of the model begins, so what stands in a message before one proves nothing: Kilo
        # writes words of its own there while it gets ready to ask, and takes them out again; and what a person runs
        # with `!`, or by a command, is written as a tool of an assistant. A text that counts has come to its end.
        openings=(Opening(name="step", has=(Test("part.type", ("step-start",)),), id="of"),),
        replies=(
            Reply(
                name="text of another message",
                has=(
                    Test("message.role", ("assistant",)),
                    Test("part.type", ("text", "reasoning")),
                    Test("part.time.end"),
                ),
                lacks=(Test("message.error"), Test("message.summary", (True,))),
                differs="of",
                opened="of",
            ),
            Reply(
                name="part of another message",
                has=(Test("message.role", ("assistant",)), Test("part.type", ("tool", "step-finish"))),
                lacks=(Test("message.error"), Test("message.summary", (True,))),
                differs="of",
                opened="of",
            ),
        ),
        endings=(
            # A compaction names the first message that it keeps, if there is one, when it comes to its summary. The
            # message with the summary follows, and then the next request.
            Ending(
                name="summary",
                has=(Test("message.role", ("assistant",)), Test("message.summary", (True,))),
                lacks=(Test("message.mode", ("compaction",)),),
                verdict="summarised",
                reason="compacted",
            ),
            Ending(
                name="compaction of what was too long for a request",
                has=(Test("part.type", ("compaction",)), Test("part.overflow")),
                verdict="unknown",
                reason="compacting",
            ),
            Ending(
                name="compaction",
                has=(Test("part.type", ("compaction",)),),
                verdict="summarised",
                reason="compacted",
                then="returns",
                since="part.tail_start_id",
                at="of",
            ),
            Ending(
                name="aborted message",
                has=(Test("message.error.name", ("MessageAbortedError",)),),
                verdict="not_shown",
                reason="cancelled",
                then="stays",
            ),
            Ending(
                name="failed message",
                has=(Test("message.error"),),
                verdict="not_shown",
                reason="failed_request",
                then="stays",
            ),
        ),
        harmless=(
            Kind(name="user", has=(Test("message.role", ("user",)),)),
            Kind(
                name="assistant",
                has=(Test("message.role", ("assistant",)),),
                lacks=(Test("part"),),
            ),
            Kind(
                name="part",
                has=(
                    Test("message.role", ("assistant",)),
                    Test("part.type", ("text", "reasoning", "tool", "step-start", "step-finish", "patch", "snapshot")),
                ),
            ),
        ),
    )


def under_config(name: str) -> dict[System, tuple[str, ...]]:
    """A file in the folder that each system keeps for settings."""
    return {system: (f"{folder}/{name}",) for system, folder in _CONFIG.items()}


def in_editions(*names: str) -> dict[System, tuple[str, ...]]:
    """Files in the folder `User` of every edition of VS Code; `.` is the folder itself."""
    return {
        system: tuple(f"{folder}/{edition}/User/{name}" for edition in EDITIONS for name in names)
        for system, folder in _CONFIG.items()
    }


def in_family(*names: str) -> dict[System, tuple[str, ...]]:
    """Files of an extension, in the folder `User` of every editor that it runs in."""
    return {
        system: tuple(
            f"{user}/{name}" for user in (*(f"{folder}/{editor}/User" for editor in FAMILY), *_APART) for name in names
        )
        for system, folder in _CONFIG.items()
    }


def on_any(files: Mapping[System, tuple[str, ...]]) -> tuple[str, ...]:
    """The places of all systems together, for detection: those of another system are not there."""
    return tuple(dict.fromkeys(path for paths in files.values() for path in paths))


def in_windows_editions(name: str) -> tuple[str, ...]:
    """The same file under Windows."""
    return tuple(f"%APPDATA%\\{edition}\\User\\{name}" for edition in EDITIONS)
