"""Kilo Code: a relative of OpenCode, with its shape. Its older releases kept servers in other files, in another."""

from __future__ import annotations

from configs.model import MESSAGING, PROMPT, Consent, Host, Start, denies_tools, same_everywhere
from configs.shapes import local, parts_in_rows
from parlerd.operations.traits import HostTraits

_RECORD = parts_in_rows(
    versions=("7.7.9",),
    folders=("${XDG_DATA_HOME}/kilo", "~/.local/share/kilo"),
    files=("kilo.db",),
)
HOST = Host(
    id="kilo",
    name="Kilo Code",
    aliases=("kilo-code",),
    format="jsonc",
    files=same_everywhere(
        "${XDG_CONFIG_HOME:-~/.config}/kilo/kilo.jsonc", "${XDG_CONFIG_HOME:-~/.config}/kilo/kilo.json"
    ),
    windows=(r"%USERPROFILE%\.config\kilo\kilo.jsonc",),
    key_path=("mcp",),
    entry=local,
    trailing_commas=True,
    left_out=((("tools",), denies_tools),),
    programs=("kilo",),
    packages=("@kilocode/cli",),
    folders=("${XDG_CONFIG_HOME:-~/.config}/kilo",),
    rewrites=True,
    limits="30 s for anything by default; we write 120 s",
    traits=HostTraits(page=50_000, lines=1_900, wait_s=55, progress=True, cancels_answered=True, clients=("kilo",)),
    consent=Consent(
        default="runs Parler's tools without asking",
        asks=False,
        put=tuple((("permission", f"parler_{tool}"), "allow") for tool in MESSAGING),
    ),
    project_files=(
        ("kilo.jsonc", ("mcp",)),
        (".kilo/kilo.jsonc", ("mcp",)),
        (".kilocode/mcp.json", ("mcpServers",)),
    ),
    start=Start(terminal=("--prompt", PROMPT), headless=("run", PROMPT)),
    sight=_RECORD,
    quirks=("Releases before Kilo moved to OpenCode's code read `~/.kilocode` or VS Code's storage, not these files.",),
)
