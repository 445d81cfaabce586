"""`parler relay migrate` and `accept-restore`: what is asked of a person, and that a password is told nowhere."""

from __future__ import annotations

import subprocess
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
    """Stands in for the relay's program, as `migrate` starts it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.given = b""
        self.says = b""

    def run(self, words: list[str], *, input: bytes, **rest: Any) -> subprocess.CompletedProcess[bytes]:
        self.words, self.given = words, input
        return subprocess.CompletedProcess(words, 1 if self.says else 0, b"", self.says)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs()
    monkeypatch.setattr("subprocess.run", found.run)
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
