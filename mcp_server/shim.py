"""What an agent host starts: `<python> -I -S <PARLER_HOME>/run/shim.py --host NAME --home HOME`.

It runs `stdio/pipe.py` beside it, with the modules that the pipe needs, from the bytecode that Python keeps of modules.
Python compiles a program itself at every start, and that alone would take longer than everything else together
(measured: 48 ms and 5.6 MB with the pipe in this file, 17 ms and 3.2 MB so). Standard library only, and of that only
what every interpreter has loaded already.

`shim.py hook HOST EVENT --home HOME` runs `stdio/hook.py` instead.
"""

import posix
import sys
import time
from _frozen_importlib_external import SourceFileLoader

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

HOOK = ("codec", "system", "table", "hook")
PIPE = ("codec", "system", "table", "launch", "lines", "link", "requests", "replay", "pipe")
"""The modules of each program, in the order in which they are loaded: each imports from those before it alone."""
UPGRADE_S = 0.3
"""How long a daemon that starts takes at most to put other files here."""

here = __file__.rpartition("/")[0] or "."


def load(names: tuple[str, ...]) -> Any:
    """The last of the modules, each loaded from its file in `stdio` under the name that it has in the package."""
    module = None
    for name in names:
        whole = "mcp_server.stdio." + name
        module = sys.modules[whole] = type(sys)(whole)
        code = SourceFileLoader(whole, f"{here}/stdio/{name}.py").get_code(whole)
        exec(code, module.__dict__)  # type: ignore[arg-type]  # noqa: S102 - our own file, and a source file always has code
    return module


def program(names: tuple[str, ...]) -> Any:
    """The same, also when a daemon of another version is putting its files here just now, so that some are of the one
    version and some of the other: then the files are read again."""
    try:
        return load(names)
    except Exception:
        time.sleep(UPGRADE_S)
        return load(names)


if sys.argv[1:2] == ["hook"]:
    try:
        status = program(HOOK).main(sys.argv[2:], here)
    except BaseException:
        # A file is missing or of another version. Without this answer the host would take the failure for a refusal.
        posix.write(1, b"{}\n")
        status = 0
else:
    status = program(PIPE).main(sys.argv[1:], here)
# Not sys.exit: there is nothing to clean up, and taking the interpreter apart costs milliseconds.
posix._exit(status)
