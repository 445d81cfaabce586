"""What an agent host starts: `<python> -I -S <PARLER_HOME>/run/shim.py --host NAME --home HOME`.

It runs `pipe.py` beside it, from the bytecode that Python keeps of a module. A program itself is compiled at every
start, and that alone would take longer than everything else together (measured: 48 ms and 5.6 MB with the pipe in this
file, 17 ms and 3.2 MB so). Standard library only, and of that only what every interpreter has loaded already.

`shim.py hook HOST EVENT --home HOME` runs `hook.py` instead, which stands on the pipe's functions.
"""

import posix
import sys
from _frozen_importlib_external import SourceFileLoader

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

here = __file__.rpartition("/")[0] or "."


def load(name: str) -> Any:
    """The module of a file beside this one, under the name that it has in the package."""
    module = sys.modules["mcp_server." + name] = type(sys)("mcp_server." + name)
    code = SourceFileLoader(name, f"{here}/{name}.py").get_code(name)
    exec(code, module.__dict__)  # type: ignore[arg-type]  # noqa: S102 - our own file, and a source file always has code
    return module


if sys.argv[1:2] == ["hook"]:
    try:
        load("pipe")
        status = load("hook").main(sys.argv[2:])
    except BaseException:
        # A file that is missing or of another version: a host would take a failure for a refusal.
        posix.write(1, b"{}\n")
        status = 0
else:
    status = load("pipe").main(sys.argv[1:], here)
# Not sys.exit: there is nothing to clean up, and taking the interpreter apart costs milliseconds.
posix._exit(status)
