"""How many bytes of disk a message takes with its words, and in which tables.

One client sends messages of 100 characters through a daemon, 50 under way; then the daemon is stopped, which moves the
log into the file, and the file is measured.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from benchmarks import common
from parlerd.operations import types as t

CHARACTERS = 100
UNDER_WAY = 50
FIGURE = f"bytes on disk a message of {CHARACTERS} characters"
FLOOR = 1_500.0
TABLES = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 8"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=5_000)
    report = common.Report("disk", given.place)
    with common.empty_home(given.place) as made:
        common.start(made)
        with common.RawConnection(made, as_name="ann") as author:
            room = author.call("session.open", t.OpenSession(context="benchmark", topic="bench")).room
            say = t.Send(text="x" * CHARACTERS, room=room)
            for _ in range(0, given.messages, UNDER_WAY):
                author.send(b"".join(author.pack("message.send", say) for _ in range(UNDER_WAY)))
                for _ in range(UNDER_WAY):
                    author.hear()
        made.end(keep=True)
        size = made.home.database.stat().st_size
        with closing(sqlite3.connect(made.home.database)) as database:
            try:
                tables = database.execute(TABLES).fetchall()
            except sqlite3.OperationalError:
                tables = []  # this SQLite was built without `dbstat`
    report.add(common.spread(FIGURE, "bytes", [size / given.messages], floor=FLOOR))
    if tables:
        shares = {name: round(bytes / given.messages) for name, bytes in tables}
        report.growth.append({"what": "bytes a message, by table", **shares})
    report.print()


if __name__ == "__main__":
    main()
