"""The tables of a relay's database, made or brought up to date by whoever owns them.

A relay's own role owns nothing, so that the rules of the tables hold for it (`parlerd.store.postgres.roles`). So this
runs with another URL, which is kept nowhere. Above: the relay's program, which a command starts.
"""

from __future__ import annotations

from parlerd.core.errors import ParlerError
from relay import store_url


def migrate(url: str, role: str) -> None:
    """Make the tables of the database at `url`, as their owner, and let `role` use them. Done again it changes nothing.
    Raises `ParlerError`: `invalid_param`, `invalid_settings`, `newer_store`, `store_driver_missing`, and other codes of
    a store."""
    checked = store_url.parse(url, may_hold_password=True)
    try:
        from parlerd.store.postgres import roles
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise ParlerError("store_driver_missing") from None
    roles.prepare(checked, role)
