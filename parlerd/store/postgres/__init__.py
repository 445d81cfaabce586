"""The store in a PostgreSQL database, for relays.

    store        the store: what is read, and the face of it all
    writing      transactions: locks, rows, what a lost answer means
    opening      whether a server is good enough; making and upgrading the tables of `schema/*.sql`
    connections  connections, their settings, what errors mean

Above: `relay`, which opens it. Below: the parts that all stores share. Invariant: only this package knows the driver.
"""

from parlerd.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
