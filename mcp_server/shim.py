"""What an agent host starts: `<python> -I -S <PARLER_HOME>/run/shim.py --host NAME --home HOME`.

It runs `pipe.py` beside it, from the bytecode that Python keeps of a module. A program itself is compiled at every
start, and that alone would take longer than everything else together (measured: 48 ms and 5.6 MB with the pipe in this
file, 17 ms and 3.2 MB so). Standard library only, and of that only what every interpreter has loaded already.
"""

import posix
import sys
from _frozen_importlib_external import SourceFileLoader

here = __file__.rpartition("/")[0] or "."
code = SourceFileLoader("pipe", here + "/pipe.py").get_code("pipe")
names = {"__name__": "pipe"}
exec(code, names)  # type: ignore[arg-type]  # noqa: S102 - our own file, and a source file always has code
# Not sys.exit: there is nothing to clean up, and taking the interpreter apart costs milliseconds.
posix._exit(names["main"](sys.argv[1:], here))  # type: ignore[operator]  # a function of pipe.py
