"""OpenCode: the command is one list, and a server that needs longer than `timeout` is given up.

Its second layout keeps servers one level deeper, in a stricter shape: `disabled` instead of `enabled`, two timeouts.
"""

from __future__ import annotations

from typing import Any

from configs.model import MESSAGING, PROMPT, Consent, Health, Host, Shim, Start, denies_tools, same_everywhere
from configs.shapes import local, parts_in_rows
from parlerd.operations.traits import HostTraits


def _second(shim: Shim) -> dict[str, Any]:
    timeout = {"startup": 30_000, "request": 120_000}
    return {"type": "local", "command": [shim.python, *shim.arguments], "timeout": timeout}


_RECORD = parts_in_rows(
    versions=("1.18.34",),
    folders=("${XDG_DATA_HOME}/opencode", "~/.local/share/opencode"),
    files=("opencode.db",),
)
HOST = Host(
    id="opencode",
    name="OpenCode",
    format="jsonc",
    files=same_everywhere(
        "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.jsonc", "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.json"
    ),
    windows=(r"%USERPROFILE%\.config\opencode\opencode.jsonc",),
    key_path=("mcp",),
    layouts={("mcp", "servers"): _second},
    entry=local,
    trailing_commas=True,
    left_out=((("tools",), denies_tools),),
    programs=("opencode",),
    packages=("opencode-ai",),
    markers=("OPENCODE", "OPENCODE_PID"),
    folders=("${XDG_CONFIG_HOME:-~/.config}/opencode",),
    limits="30 s for anything by default; we write 120 s",
    after="Start it again.",
    traits=HostTraits(page=50_000, lines=1_900, wait_s=55, progress=True, cancels_answered=True, clients=("opencode",)),
    consent=Consent(
        default="runs Parler's tools without asking",
        asks=False,
        put=tuple((("permission", f"parler_{tool}"), "allow") for tool in MESSAGING),
    ),
    project_files=tuple(
        (name, ("mcp",))
        for name in ("opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc")
    ),
    health=Health(words=("mcp", "list"), shows=r"✓ +parler +.*connected"),
    start=Start(terminal=("--prompt", PROMPT), headless=("run", PROMPT)),
    sight=_RECORD,
    quiet={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
    quirks=(
        "`opencode mcp add` re-indents the whole block.",
        "Under `mcp.servers` an entry has two timeouts and no `enabled`; Parler writes it so there.",
    ),
)
