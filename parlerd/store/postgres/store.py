"""The store in a PostgreSQL database, which many relays share.

Above: `parlerd.engine`. Below: `connections`, `opening`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import psycopg

from parlerd.store.postgres.connections import Server
from parlerd.store.postgres.opening import bring_up_to_date, check_server, shipped_rules, shipped_steps


class PostgresStore:
    """`Store` over the database at `url`, in the schema that its role works in.

    One thread at a time writes, and others that want to write wait for it; at most four threads read at the same time,
    and others wait. Opening makes the tables in an empty database, and raises `StoreError`: `invalid_settings` for a
    server that is not good enough, `newer_store` for tables of a newer Parler, and a `store_*` code where the server
    cannot be reached or refuses.
    """

    def __init__(
        self,
        url: str,
        *,
        steps: Mapping[int, str] | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._server = Server(url)
        self._random = random_bytes
        try:
            check_server(self._server.writer)
            bring_up_to_date(self._server.writer, steps or shipped_steps(), shipped_rules())
        except BaseException as error:
            self._server.close()
            if isinstance(error, psycopg.Error):
                raise self._server.meaning(error) from None
            raise

    def close(self) -> None:
        self._server.close()
