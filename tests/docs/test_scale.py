"""The page about PostgreSQL, typed by an operator with an empty HOME and a server of their own: setting it up, a second
relay, backup and restore, and the move of a relay that has rooms.

The page's server is `db.example.org`; here it is one on a Unix socket. A relay is a service on the page where it says
`parler relay start`; here it runs in a terminal. The file system that relays share for files is not mounted here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from parlerd.paths import relay_home
from tests.support import postgres as pg
from tests.support.pages import ROOT, blocks
from tests.support.processes import PATIENCE_S, Somebody, put_program, somebody, until
from tests.support.team import free_port
from tests.tools.postgres import server
from tests.tools.postgres.server import Server

pytestmark = pytest.mark.e2e

PAGE: Final = ROOT / "docs" / "scale.md"
_URL: Final = re.compile(r"postgresql://(\w+)@db\.example\.org/(\w+)")
STARTS: Final = "parler relay start"


@dataclass
class Operator:
    """Somebody at the machine of a relay, who types what the page says."""

    person: Somebody
    server: Server
    folder: Path
    words: tuple[str, ...] = field(default_factory=lambda: ("--bind", "127.0.0.1", "--port", str(free_port())))
    """How the relay is told apart from others of this machine when it runs first."""
    relay: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        put_program(self.folder)
        self.environment = self.person.environment(
            PATH=f"{self.folder}:{self.server.version.programs}:{os.environ['PATH']}",
            PGHOST=str(self.server.folder),
            PGUSER="postgres",
        )

    def types(self, line: str, expect: int = 0) -> str:
        """Type a line, and wait until the terminal is free again; what it printed."""
        ran = subprocess.run(
            ["/bin/sh", "-euc", self.here(line)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
        assert ran.returncode == expect, (line, ran.stdout)
        return ran.stdout

    def runs(self, line: str) -> None:
        """Type a line that starts the relay, and wait until it answers."""
        words = " ".join(self.words) if line != STARTS else ""
        line = "parler relay" if line == STARTS else line
        child = subprocess.Popen(
            ["/bin/sh", "-euc", f"exec {self.here(line)} {words}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.relay = child
        self.person.children.append(child)

        def answers() -> bool:
            assert child.poll() is None
            return bool(self.person.asks("relay", "status", expect=None).get("running"))

        until(answers, "relay that runs")

    def stops(self, line: str) -> None:
        """Type the line that ends the relay, and wait until it has."""
        self.types(line)
        assert self.relay is not None
        assert self.relay.wait(PATIENCE_S) == 0

    def here(self, line: str) -> str:
        """A line of the page with this machine's server in the place of the page's."""
        return _URL.sub(lambda found: f"'{self.server.url(found[2], found[1])}'", line)


def scripts(language: str, having: str) -> list[str]:
    """The lines of the one block of the page that has these words."""
    of_language = [block.text for block in blocks(PAGE) if block.language == language]
    (text,) = (text for text in of_language if having in text)
    return text.splitlines()


def indented(word: str) -> list[str]:
    """The lines of the one block of a list of the page that has this word."""
    found = re.findall(r"^ {3}```\w+\n(.*?)^ {3}```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (text,) = (text for text in found if word in text)
    return str(text).splitlines()


@pytest.fixture
def cluster() -> Iterator[Server]:
    version = pg.majors()[-1]
    if version is None:
        pg.go_without("no PostgreSQL 15 or newer is installed here")
    with server.throwaway(version) as made:
        yield made


@pytest.fixture
def operator(cluster: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    with somebody(monkeypatch) as person:
        found = Operator(person, cluster, tmp_path)
        for line in scripts("sql", "CREATE ROLE parler_owner"):
            found.types(f'psql --set ON_ERROR_STOP=1 --command="{line}" postgres')
        yield found


def heard(person: Somebody, room: str) -> list[str]:
    return [str(message.text) for message in person.reads("ann", room)]


def test_a_relay_is_set_up_and_brought_back_from_a_backup_by_the_lines_of_the_page(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (migrates,) = scripts("sh", "relay migrate --store")
    (starts,) = scripts("sh", "parler relay --store")
    assert operator.types(migrates).startswith("The tables are there and up to date")
    operator.runs(starts)
    status: Any = operator.person.asks("relay", "status")
    with somebody(monkeypatch) as ann:
        ann.asks("connect", "--relay", status["join_line"], "--join-secret-file", status["join_secret_file"])
        opened = ann.asks("--as", "ann", "session", "open", "--topic", "one", "--context", "one", "--no-approval")
        room = opened["room"]
        ann.sends("ann", "before", room=room)

        (dumps,) = scripts("text", "pg_dump")
        operator.types(dumps)
        ann.sends("ann", "after", room=room)
        operator.stops("parler relay stop")
        for line in scripts("text", "pg_restore"):
            operator.types(line)

        accepts, starts_again = scripts("sh", "relay accept-restore")
        assert "store_went_back" in operator.types("parler relay 2>&1", expect=1)
        # It asks, and nobody is there to answer.
        operator.types(f"{accepts} --yes")
        operator.runs(starts_again)

        def is_told() -> bool:
            return "relay_rolled_back" in str(ann.asks("--as", "ann", "rooms"))

        until(is_told, "that the relay holds less than it told")
        ann.asks("--as", "ann", "room", "rewind", room, "--yes")
        until(lambda: not ann.sends("ann", "once more", room=room).queued, "room that goes on")
        assert [text for text in heard(ann, room) if text in ("before", "after", "once more")][:2] == [
            "before",
            "after",
        ]
        assert "once more" in heard(ann, room)


def test_a_second_relay_is_added_by_the_steps_of_the_page(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (migrates,) = scripts("sh", "relay migrate --store")
    (starts,) = scripts("sh", "parler relay --store")
    operator.types(migrates)
    operator.runs(starts)
    with somebody(monkeypatch) as other:
        second = Operator(other, operator.server, tmp_path)
        makes, copies = (line.strip() for line in indented("scp -pr"))
        second.types(makes)
        # Both machines are this one.
        there = operator.person.user
        second.types(copies.replace("scp", "cp").replace("first.example.org:", f"{there}/"))
        inner = "\n".join(line.strip() for line in indented("inner_address")).replace("10.0.0.2", "127.0.0.1")
        relay_home(other.home).settings.write_text(inner.replace("7778", str(free_port())))
        second.runs(starts)

        def are_two() -> bool:
            shown = other.runs("relay", "status").stdout
            return len(re.findall(r"^relay .* shards$", shown, re.MULTILINE)) == 2

        until(are_two, "two relays that reach each other")


def test_a_relay_that_has_rooms_is_moved_and_moved_back_by_the_lines_of_the_page(operator: Operator) -> None:
    operator.runs("parler relay")
    stops, moves, starts = scripts("sh", "relay move")
    operator.stops(stops)
    assert "now. Start it: parler relay start" in operator.types(moves)
    operator.runs(starts)
    assert operator.person.asks("relay", "status")["store"].endswith("/parler")
    operator.stops(stops)
    operator.types("parler relay move --to sqlite")
    operator.runs(starts)
    assert operator.person.asks("relay", "status")["store"].endswith("/parler.db")
