"""The least that telling one message to many costs a process: a TLS send for each reader, and nothing else.

    python -m benchmarks.peer_tls_send FOLDER READERS BURSTS

It makes a certificate in FOLDER, prints its port, waits for READERS connections, sends `BYTES` to each of them BURSTS
times, and prints its processor time for one send, in microseconds. The kernel's part is in that time, and with it, over
the loopback, what the kernel does for the readers.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Final

from parlerd.core.model import Millis
from relay import certificate

BYTES: Final = 970
"""What a relay sends a link for one message of the benchmarks (measured)."""
PAUSE_S: Final = 0.002
"""Between two bursts. A relay waits about as long for its disk, so it finds its caches as cold."""
WARM: Final = 20
"""Bursts that are not counted."""


def main() -> None:
    """Send, and print what it took."""
    folder, readers, bursts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.chmod(0o700)
    kept = certificate.keep(folder, ["127.0.0.1"], Millis(int(time.time() * 1000)))
    context, words = kept.context(), b"x" * BYTES
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        links = [context.wrap_socket(listener.accept()[0], server_side=True) for _ in range(readers)]
        for link in links:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = 0.0
        for burst in range(WARM + bursts):
            began = time.process_time()
            for link in links:
                link.send(words)
            taken += time.process_time() - began if burst >= WARM else 0.0
            time.sleep(PAUSE_S)
    print(taken * 1_000_000 / (bursts * readers), flush=True)


if __name__ == "__main__":
    main()
