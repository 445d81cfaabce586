"""What agent hosts start: the stdio pipe of a window, and the hook that they run at their events.

    shim.py -> codec <- table, system <- launch, lines, link, requests, replay <- pipe
    shim.py hook -> codec <- table, system <- hook

Hosts start `shim.py` with `python -I -S`, from a copy in the home that keeps its path across upgrades. The shim loads
the modules of this folder from the copies beside itself. The daemon puts all copies there at each of its starts, and
`parler doctor` compares them.

Not here: anything that the daemon runs (`mcp_server.session`). Below: C modules of the standard library and nothing
else, because what a shim imports is paid for once per agent window, in start-up time and in memory. Invariant: a module
is loaded when its program starts or not at all, so that an open window never meets the files of an upgrade.
"""

from typing import Final

COPIES: Final = (
    "static.json",
    "stdio/codec.py",
    "stdio/system.py",
    "stdio/table.py",
    "stdio/launch.py",
    "stdio/lines.py",
    "stdio/link.py",
    "stdio/requests.py",
    "stdio/replay.py",
    "stdio/pipe.py",
    "stdio/hook.py",
    "shim.py",
)
"""The files of which a home has copies, below `mcp_server` here and below `run` there, in the order in which they are
put there: the program comes last, because it loads the others."""
