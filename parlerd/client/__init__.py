"""The daemon, from the outside: connect, start it if it is absent, call operations, follow streams.

    connection   `connect` and `Client`: typed calls over one blocking socket
    link         one connection: bytes in and out, deadlines, who is on the other end
    launch       starting the daemon, waiting for it, replacing an older one
    versions     which of two versions is older

Above: `parlerd.cli`. Below: `parlerd.wire`, `parlerd.operations`, `parlerd.process`, `parlerd.paths`. Invariant: a
one-shot command has 100 ms, so this package imports neither trio nor rich, and imports what only the start of a daemon
needs when it starts one.
"""

from __future__ import annotations

import parlerd.lean  # noqa: F401  # isort: split - used by being first
from parlerd.client.connection import Client, Stream, connect

__all__ = ["Client", "Stream", "connect"]
