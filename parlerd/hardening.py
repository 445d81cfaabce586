"""What the daemon does to its own process before it opens anything, so that its starter's environment has no influence
and its memory does not leak.

The process gets a fixed environment, the directory `/`, the mask 077 and no core dumps, and is not dumpable: another
process of the same user cannot read its memory. Above: `parlerd.__main__`, which calls `harden` once, before everything
else. Source: security spec D11.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from typing import Final

KEPT: Final = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER", "LOGNAME")
"""The environment variables that the daemon keeps, beside its own. None of them steers an interpreter, a loader, git or
a proxy."""
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """Harden this process. What a platform does not offer is left out."""
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
    import ctypes  # imported here because it takes 10 ms

    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
