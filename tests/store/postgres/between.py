"""What stands between a store and its server: it passes everything on, and breaks the connection at a commit.

Only here an answer can be lost exactly: the server has committed and its answer never comes, or the commit never came
to the server, which nobody on this side can tell apart.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from tests.support.postgres import RELAY, Database

Cut = Literal["before", "after", "held"]
"""Where the next commit is cut: before the server hears of it, after it has answered, or so that the server keeps
waiting for it while the store's side is closed."""
_SOCKET: Final = ".s.PGSQL.5432"
_COMMIT: Final = b"Q\0\0\0\x0bCOMMIT\0"
"""The message that asks for a commit. Source: PostgreSQL, the message formats of its protocol."""
_DONE: Final = b"COMMIT\0"


class Between:
    """Passes connections on to the server of a database. The socket stands in `folder`."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._server = str(database.server.folder / _SOCKET)
        self.url = f"postgresql://{RELAY}@/{database.name}?host={quote(str(folder), safe='')}&port=5432"
        self._cut: Cut | None = None
        self.release = threading.Event()
        """Lets a commit go on to the server that was held."""
        self.passed = threading.Event()
        """A commit that was held has gone to the server, or the server had ended."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_next_commit(self, where: Cut) -> None:
        self._cut = where

    @property
    def was_cut(self) -> bool:
        """Whether the commit was cut that should be."""
        return self._cut is None

    def close(self) -> None:
        self.release.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                for work in (self._to_server, self._to_client):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self._cut in ("before", "held") and _COMMIT in data:
                    held, self._cut = self._cut == "held", None
                    _end(client)
                    if held:
                        self.release.wait(60)
                        with suppress(OSError):
                            server.sendall(data)
                        self.passed.set()
                    break
                server.sendall(data)
        _end(server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if self._cut == "after" and _DONE in data:
                    self._cut = None
                    break
                client.sendall(data)
        _end(client)
        _end(server)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def between(database: Database) -> Iterator[Between]:
    """Something between a store and this database, until the context ends."""
    # Not the folder of the test: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="parler-"))
    made = Between(database, folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)
