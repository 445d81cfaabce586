"""What a repository says in our name: MCP entries called `parler` in it, and hooks that answer forms for the person.

A repository can bring settings for agent hosts. An entry of our name in one would be started in place of ours, and a
hook on elicitation decides what a person is asked. Neither is ours to change; they are found so that `doctor` can say
so. Above: the command line. Below: `document`, for files with comments. Invariant: it reads and never writes, and no
file of a repository makes it fail. Source: security spec A2 and D22.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from configs import document
from configs.document import Refused, Rules, entry_at
from configs.entries import starts_parler
from configs.model import SERVER, expand

FILES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (".mcp.json", ("mcpServers",)),
    (".mcp.json", ("servers",)),
    (".github/mcp.json", ("mcpServers",)),
    (".vscode/mcp.json", ("servers",)),
    (".codex/config.toml", ("mcp_servers",)),
    (".cursor/mcp.json", ("mcpServers",)),
    (".gemini/settings.json", ("mcpServers",)),
    (".qwen/settings.json", ("mcpServers",)),
    ("opencode.json", ("mcp",)),
    ("opencode.jsonc", ("mcp",)),
    (".opencode/opencode.json", ("mcp",)),
    (".opencode/opencode.jsonc", ("mcp",)),
    ("kilo.jsonc", ("mcp",)),
    (".kilo/kilo.jsonc", ("mcp",)),
    (".kilocode/mcp.json", ("mcpServers",)),
    (".roo/mcp.json", ("mcpServers",)),
    (".zed/settings.json", ("context_servers",)),
    (".factory/mcp.json", ("mcpServers",)),
    (".kiro/settings/mcp.json", ("mcpServers",)),
    (".agents/mcp_config.json", ("mcpServers",)),
    (".amp/settings.json", ("amp.mcpServers",)),
    (".kimi-code/mcp.json", ("mcpServers",)),
)
"""Files of a project that hosts take servers from, and under which key. Source: hosts reference, A.1."""
HOOK_FILES: Final = (".claude/settings.json", ".claude/settings.local.json")
EVENTS: Final = ("Elicitation", "ElicitationResult")
_SIMPLE: Final = re.compile(r"(?P<start>\^?)(?P<names>(?:[A-Za-z0-9_-]|\.\*)*)(?P<end>\$?)")
"""A pattern that can be compared piece by piece."""
MAX_BYTES: Final = 1024 * 1024
"""A larger file is passed over: nobody writes one by hand, and a repository must not keep a checkup busy."""


def entries(directory: Path, env: Mapping[str, str]) -> list[Path]:
    """Files of the work tree around `directory` with an entry of our name, and the user's file that has one for it."""
    found = [
        folder / name
        for folder in _folders(directory, env)
        for name, keys in FILES
        if _entry(folder / name, (*keys, SERVER)) is not None
    ]
    own = expand("${CLAUDE_CONFIG_DIR:-~}/.claude.json", env)
    if own is not None and _is_local(own, _folders(directory, env)):
        found.append(own)
    return list(dict.fromkeys(found))


def hooks(directory: Path, env: Mapping[str, str]) -> list[Path]:
    """Files with a hook that may answer our forms in the person's place: those of the work tree, and the user's own."""
    own = expand("${CLAUDE_CONFIG_DIR:-~/.claude}/settings.json", env)
    paths = [folder / name for folder in _folders(directory, env) for name in HOOK_FILES]
    return [path for path in [*paths, *([own] if own else [])] if _decides(path)]


def _folders(directory: Path, env: Mapping[str, str]) -> list[Path]:
    """`directory` and what is above it up to the root of its work tree; never the home directory, whose files are the
    user's own."""
    home = Path(env.get("HOME") or Path.home())
    above: list[Path] = []
    for folder in (directory, *directory.parents):
        if folder == home:
            return above
        above.append(folder)
        if (folder / ".git").exists():
            return above
    return [] if directory == home else [directory]


def _entry(path: Path, keys: tuple[str, ...]) -> Any:
    data = _read(path)
    if not data:
        return None
    language: Literal["toml", "jsonc"] = "toml" if path.suffix == ".toml" else "jsonc"
    # Lenient: whether its host can read the file is not asked here.
    rules = Rules(format=language, comments=True, trailing_commas=True, bom=True)
    try:
        return entry_at(data, rules, keys)
    except Refused:
        return None  # its host cannot read it either


def _is_local(path: Path, folders: list[Path]) -> bool:
    """Whether Claude Code's own file, which grows to many megabytes, has an entry for one of these folders alone that
    starts something else than a Parler (those are `leftovers`)."""
    projects = _table(_json(path, document.MAX_BYTES), "projects")
    servers = [_table(_table(projects, str(folder)), "mcpServers") for folder in folders]
    return any(SERVER in each and not starts_parler(each[SERVER]) for each in servers)


def _decides(path: Path) -> bool:
    configured = _table(_json(path, MAX_BYTES), "hooks")
    groups = [group for event in EVENTS for group in _list(configured.get(event))]
    return any(isinstance(group, dict) and _list(group.get("hooks")) and _matches(group) for group in groups)


def _matches(group: dict[str, Any]) -> bool:
    """Whether a matcher may choose our forms.

    A repository wrote the matcher, so it is never run as the pattern that it is to its host: a few characters can keep
    a pattern busy for hours. Names, `.*`, anchors and `|` are understood, and anything else may choose us.
    """
    matcher = group.get("matcher")
    if not isinstance(matcher, str) or matcher in ("", "*") or len(matcher) > 200:
        return True
    return any(_finds(each) for each in matcher.split("|"))


def _finds(pattern: str) -> bool:
    simple = _SIMPLE.fullmatch(pattern)
    if simple is None:
        return True
    first, *others = simple["names"].split(".*")
    # Each piece at its first place after the one before, and the last one at the end where that is asked.
    if simple["start"] and not SERVER.startswith(first):
        return False
    at = SERVER.find(first)
    if at < 0:
        return False
    at += len(first)
    for piece in others:
        found = SERVER.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if not simple["end"]:
        return True
    if not others:
        return SERVER.endswith(first) and (not simple["start"] or first == SERVER)
    return SERVER.endswith(others[-1]) and len(SERVER) - len(others[-1]) >= at - len(others[-1])


def _json(path: Path, limit: int) -> object:
    try:
        return json.loads(_read(path, limit) or b"null")
    except (ValueError, RecursionError):
        return None


def _table(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most that size; nothing for any other."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            return b""
        return path.read_bytes()
    except OSError:
        return b""
