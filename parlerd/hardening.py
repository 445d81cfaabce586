"""What the daemon does to itself before it opens anything: nothing from whoever started it leaks in, nothing of it
leaks out.

A fixed environment, cwd `/`, umask 077, no core dumps, not dumpable (so that another process of the same user cannot
read its memory without being root). Source: security spec D11. These are properties of the process: call once, first.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from typing import Final

KEPT: Final = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER", "LOGNAME")
"""Environment variables the daemon keeps: nothing that steers an interpreter, a loader, git or a proxy."""
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """Apply all of it to this process. What a platform does not offer is left out."""
    for name in list(os.environ):
        if name not in KEPT and not name.startswith("PARLER_"):
            del os.environ[name]
    os.environ.setdefault("PATH", PATH)
    os.umask(0o077)
    os.chdir("/")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _not_dumpable()


def _not_dumpable() -> None:
    import ctypes  # 10 ms that only the daemon pays

    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
