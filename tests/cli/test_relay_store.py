"""`parler relay migrate`, `move` and `accept-restore`: what is asked of a person; a password is told nowhere."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from parlerd.cli import team
from relay import place as places
from relay import store_url
from relay.place import Place
from tests.cli.test_relay import SECRET, machine, running, shell
from tests.cli.test_team import Machine
from tests.support.cli import Shell

__all__ = ["machine", "running", "shell"]
"""The fixtures of a relay's commands."""


class Programs:
    """Stands in for the relay's program, as a command starts it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.given = b""
        self.says = b""
        self.fails = False

    def begin(self, words: list[str], **rest: Any) -> subprocess.Popen[bytes]:
        self.words = words
        ending = f"import sys; sys.stdin.read(); sys.stdout.write({self.says.decode()!r}); sys.exit({int(self.fails)})"
        program = REAL([sys.executable, "-c", ending], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert program.stdin is not None
        write = program.stdin.write

        class Heard(io.BytesIO):
            def write(_, data: Any) -> int:
                self.given = bytes(data)
                return write(data)

            def close(_) -> None:
                assert given is not None
                given.close()

        given, program.stdin = program.stdin, Heard()
        return program


REAL = subprocess.Popen


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs()
    monkeypatch.setattr("subprocess.Popen", found.begin)
    return found


def test_the_owner_makes_the_tables_for_the_role_of_the_relay_and_nothing_of_the_url_is_in_the_words(
    shell: Shell, machine: Machine, programs: Programs
) -> None:
    store_url.keep(machine.home, "postgresql://parler@db/parler")
    ran = shell.run("relay", "migrate", "--store", "postgresql://owner@db/parler", "--json")
    assert (ran.code, ran.document) == (0, {"store": "postgresql://owner@db/parler", "role": "parler"})
    assert programs.words[-2:] == ["--migrate", "parler"]
    assert programs.given == b"postgresql://owner@db/parler"
    ran = shell.run(
        "relay", "migrate", "--store-file", "-", "--role", "other", stdin=f"postgresql://o:{SECRET}@db/p".encode()
    )
    assert ran.code == 0
    assert "other" in programs.words
    assert SECRET not in str(programs.words) + ran.stdout + ran.stderr
    assert SECRET.encode() in programs.given
    # The owner's URL is kept nowhere.
    assert store_url.load(machine.home) == "postgresql://parler@db/parler"


def test_tables_are_made_only_where_database_and_role_are_said_and_by_a_person(
    shell: Shell, machine: Machine, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell.run("relay", "migrate").code == 2
    ran = shell.run("relay", "migrate", "--store", "postgresql://owner@db/parler", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "invalid_param")
    assert "--role" in ran.document["error"]["hint"]
    ran = shell.run("relay", "migrate", "--store", f"postgresql://o:{SECRET}@db/parler", "--role", "parler")
    assert ran.code == 1
    assert SECRET not in ran.stdout + ran.stderr
    monkeypatch.setattr(team, "agent_host_above", lambda: "codex")
    ran = shell.run("relay", "migrate", "--store", "postgresql://o@db/p", "--role", "parler", "--json")
    assert ran.document["error"]["code"] == "needs_person"
    assert programs.words == []


def test_what_the_program_refuses_is_told_with_its_code(shell: Shell, machine: Machine, programs: Programs) -> None:
    programs.fails = True
    programs.says = b"a warning\nrelay: newer_store: The database has schema 9. hint: Upgrade this install.\n"
    ran = shell.run("relay", "migrate", "--store", "postgresql://o@db/p", "--role", "parler", "--json")
    error = ran.document["error"]
    assert (ran.code, error["code"], error["message"], error["hint"]) == (
        1,
        "newer_store",
        "The database has schema 9.",
        "Upgrade this install.",
    )
    programs.says = b"something else"
    ran = shell.run("relay", "migrate", "--store", "postgresql://o@db/p", "--role", "parler", "--json")
    assert ran.document["error"]["code"] == "internal"


def test_a_restored_database_is_accepted_by_a_person_while_the_relay_does_not_run(
    shell: Shell, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = shell.run("relay", "accept-restore", "--yes", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "relay_not_running")
    places.store(machine.home, Place(interface="eth0"))
    ran = shell.run("relay", "accept-restore", "--yes", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "invalid_param")
    places.store(machine.home, places.in_database(machine.home, Place(interface="eth0")))
    ran = shell.run("relay", "accept-restore", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_yes")
    assert not places.accepted_file(machine.home).exists()
    with monkeypatch.context() as patched:
        patched.setattr(team, "agent_host_above", lambda: "codex")
        ran = shell.run("relay", "accept-restore", "--yes", "--json")
        assert ran.document["error"]["code"] == "needs_person"
    ran = shell.run("relay", "accept-restore", "--yes", "--json")
    assert (ran.code, ran.document) == (0, {"accepted": True})
    assert places.accepted_file(machine.home).exists()


def test_a_relay_that_runs_has_nothing_to_accept(shell: Shell, running: Machine) -> None:
    places.store(running.home, places.in_database(running.home, Place(interface="eth0")))
    ran = shell.run("relay", "accept-restore", "--yes", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "already_running")
    assert not places.accepted_file(running.home).exists()


# -- moving ------------------------------------------------------------------------------------------------

TO = "postgresql://parler@db/parler"
OWNER = "postgresql://owner@db/parler"


def test_rooms_are_moved_by_the_relays_program_which_says_how_far_it_is(
    shell: Shell, machine: Machine, programs: Programs
) -> None:
    places.store(machine.home, Place(interface="eth0"))
    programs.says = b"facts: 500\nfacts: 1000\n"
    ran = shell.run("relay", "move", "--from", "sqlite", "--to", TO, "--owner", OWNER)
    assert ran.code == 0
    assert "facts: 1000" in ran.stderr
    assert "parler relay start" in ran.stdout
    assert programs.words[-1] == "--move"
    assert json.loads(programs.given) == {"url": TO, "owner": OWNER}
    ran = shell.run(
        "relay", "move", "--to", TO, "--owner-file", "-", "--json", stdin=f"postgresql://o:{SECRET}@db/p".encode()
    )
    assert (ran.code, ran.document) == (0, {"from": "sqlite", "to": TO})
    assert SECRET not in str(programs.words) + ran.stdout + ran.stderr
    places.store(machine.home, places.in_database(machine.home, Place(interface="eth0")))
    ran = shell.run("relay", "move", "--from", "postgresql", "--to", "sqlite", "--json")
    assert (ran.code, ran.document) == (0, {"from": "postgresql", "to": "sqlite"})
    assert json.loads(programs.given) == {"url": "", "owner": ""}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--to", TO], 2),
        (["--to", "sqlite", "--owner", OWNER], 2),
        (["--to", "elsewhere", "--owner", OWNER], 1),
        (["--from", "postgresql", "--to", TO, "--owner", OWNER], 1),
        (["--to", TO, "--owner", f"postgresql://o:{SECRET}@db/p"], 1),
    ],
)
def test_what_cannot_be_moved_starts_nothing(
    shell: Shell, machine: Machine, programs: Programs, words: list[str], code: int
) -> None:
    places.store(machine.home, Place(interface="eth0"))
    ran = shell.run("relay", "move", *words)
    assert ran.code == code
    assert SECRET not in ran.stdout + ran.stderr
    assert programs.words == []


def test_nothing_is_moved_while_the_relay_runs_where_there_is_none_or_by_an_agent(
    shell: Shell, running: Machine, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["relay", "move", "--to", TO, "--owner", OWNER, "--json"]
    ran = shell.run(*asked)
    assert ran.document["error"]["code"] == "already_running"
    assert "parler relay stop" in ran.document["error"]["hint"]
    places.file_of(running.home).unlink()
    assert shell.run(*asked).document["error"]["code"] == "relay_not_running"
    monkeypatch.setattr(team, "agent_host_above", lambda: "codex")
    assert shell.run(*asked).document["error"]["code"] == "needs_person"
    assert programs.words == []
