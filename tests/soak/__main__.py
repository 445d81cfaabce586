"""A soak: real relays over a real database, real daemons whose agents go on talking, and something broken every few
seconds.

python -m tests.soak                                           one relay, 6 daemons, two minutes
python -m tests.soak --relays 3 --daemons 50 --seconds 600
python -m tests.soak --seed 7                                  the same breaks in the same order for a seed

Prints what is broken while it goes on, and at the end one JSON document. The exit status is 1 when a message that was
answered is missing anywhere, is there twice, or stands in another place. No test of the suite: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest

from parlerd.core.model import RoomId
from parlerd.paths import relay_home
from parlerd.store.postgres import PostgresStore
from tests.soak.breaking import Breaking, Relay
from tests.soak.talking import Rooms, Wrong, figures
from tests.support import postgres as pg
from tests.support.processes import Somebody, somebody
from tests.support.team import free_port
from tests.tools.postgres import server

PAUSE_S: Final = (2.0, 8.0)
"""Between two breaks."""
PER_ROOM: Final = 5


def relays_over(stack: ExitStack, url: str, count: int) -> list[Relay]:
    """Relays over this database, which have one key."""
    made: list[Relay] = []
    for _ in range(count):
        person = _somebody(stack)
        if made:
            home = relay_home(person.home)
            for folder in (person.home.root, home.root):
                folder.mkdir(mode=0o700)
            shutil.copytree(relay_home(made[0].person.home).keys, home.keys)
        port = str(free_port())
        relay = Relay(person, ("relay", "--bind", "127.0.0.1", "--port", port, "--store", url))
        relay.start()
        made.append(relay)
    return made


def _somebody(stack: ExitStack) -> Somebody:
    with pytest.MonkeyPatch.context() as patch:
        return stack.enter_context(somebody(patch))


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run it. Raises `Wrong`."""
    versions = server.versions()
    if not versions:
        sys.exit("No PostgreSQL 15 or newer is installed here: python -m tests.tools.postgres install")
    draw = random.Random(options.seed)
    with ExitStack() as stack:
        postgres = stack.enter_context(pg.serving(versions[-1], on_disk=True))
        database = stack.enter_context(postgres.database(pg.with_tables))
        relays = relays_over(stack, database.relay, options.relays)
        status = relays[0].person.asks("relay", "status")
        people = [_joined(stack, status) for _ in range(options.daemons)]
        rooms = Rooms(people, PER_ROOM, status["name"])
        breaking = Breaking(draw, relays, postgres.server, people, options.only or ())
        began = time.monotonic()
        rooms.begin()
        try:
            while (now := time.monotonic() - began) < options.seconds:
                name = breaking.one()
                said = sum(len(talker.said) for talker in rooms.talkers)
                print(f"{now:6.1f} s  {name:8} {said} messages", file=sys.stderr, flush=True)
                time.sleep(draw.uniform(*PAUSE_S))
        finally:
            if options.logs is not None:
                _keep_logs(options.logs, relays, people)
            rooms.end()
        took = time.monotonic()
        rooms.check()
        arrived_s = time.monotonic() - took
        _verify(database.relay, rooms)
        return {
            "seed": options.seed,
            "seconds": options.seconds,
            "relays": options.relays,
            "daemons": options.daemons,
            "rooms": len(rooms.rooms),
            "broken": breaking.done,
            "arrived_s": round(arrived_s, 1),
            **figures(rooms.talkers),
        }


def _joined(stack: ExitStack, status: dict[str, Any]) -> Somebody:
    one = _somebody(stack)
    one.asks("connect", "--relay", status["join_line"], "--join-secret-file", status["join_secret_file"])
    return one


def _keep_logs(folder: Path, relays: Sequence[Relay], people: Sequence[Somebody]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, relay in enumerate(relays):
        shutil.copy(relay_home(relay.person.home).log, folder / f"relay-{number}.log")
    for number, person in enumerate(people):
        shutil.copy(person.home.log, folder / f"daemon-{number}.log")


def _verify(url: str, rooms: Rooms) -> None:
    """The chain of every room, and the database's own structures. Raises `Wrong`."""
    with closing(PostgresStore(url)) as store:
        for room in rooms.rooms:
            if (place := store.verify_chain(RoomId(room))) is not None:
                raise Wrong(f"the chain of {room} differs from its facts at {place}")
        if found := store.check():
            raise Wrong("; ".join(found))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Break things while agents talk.")
    parser.add_argument("--relays", type=int, default=1)
    parser.add_argument("--daemons", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="break these alone: see tests/soak/breaking.py")
    parser.add_argument("--logs", type=Path, help="a folder for the logs of all daemons and relays")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        print(json.dumps(soak(options)))
    except Wrong as error:
        print(f"wrong: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
