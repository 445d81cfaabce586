"""The main event by the command line alone: real processes, an empty HOME, the words a newcomer would type."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.support.processes import skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PARLER = [sys.executable, "-c", "import sys; sys.argv[0] = 'parler'; from parlerd.cli.main import entry; entry()"]
PATIENCE_S = 60.0
CONTEXT = "Designing auth in src/auth.rs. Chose PKCE + refresh tokens. TODO: rotation."


class Newcomer:
    """Somebody with an empty HOME. Nothing of the environment these tests run in reaches the commands."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def environment(self, agent: str = "") -> dict[str, str]:
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        return {**env, "PARLER_AGENT": agent} if agent else env

    def types(self, line: str, *, agent: str = "", expect: int = 0, stdout: Any = subprocess.PIPE) -> str:
        """Run a command line as it would be typed; what it printed."""
        words = shlex.split(line)
        assert words[0] == "parler"
        skip_where_nobody_may_decide(words)
        ran = subprocess.run(
            [*PARLER, *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=2 * PATIENCE_S,
            env=self.environment(agent),
        )
        assert ran.returncode == expect, (line, ran.returncode, ran.stdout, ran.stderr)
        return ran.stdout or ""

    def asks(self, line: str, *, agent: str = "", expect: int = 0) -> Any:
        """The same with `--json`: the one document."""
        printed = self.types(line + " --json", agent=agent, expect=expect)
        assert printed.count("\n") == 1
        return json.loads(printed)

    def admits(self, key: str, agent: str) -> None:
        """`agent` knocks, is approved, and joins."""
        self.types(f"parler session join {key}", agent=agent, expect=4)
        self.types(f"parler session approve --room auth-redesign {agent}")
        self.types(f"parler session join {key}", agent=agent)


class Follower:
    """A command that runs on, and the lines it prints."""

    def __init__(self, newcomer: Newcomer, line: str, *, agent: str = "") -> None:
        self.process = subprocess.Popen(
            [*PARLER, *shlex.split(line)[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=newcomer.environment(agent),
        )
        self.lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as printed:
            for line in printed:
                self.lines.put(line.rstrip("\n"))

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def until(self, wanted: str) -> list[str]:
        """The lines up to the one that holds `wanted`."""
        lines: list[str] = []
        while not lines or wanted not in lines[-1]:
            lines.append(self.lines.get(timeout=PATIENCE_S))
        return lines

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    home = tmp_path / "home"
    home.mkdir()
    someone = Newcomer(home)
    yield someone
    someone.types("parler daemon stop")


@pytest.fixture
def key(newcomer: Newcomer) -> str:
    """The key of a session on auth-redesign."""
    opened = newcomer.asks(f"parler session open --topic auth-redesign --context '{CONTEXT}'")
    found: str = opened["key"]
    return found


def test_the_plain_cli_form_works_word_for_word(newcomer: Newcomer) -> None:
    opened = newcomer.types(f'parler session open --topic auth-redesign --context "{CONTEXT}"')
    found = re.search(r"^KEY: (\S+)\nroom 'auth-redesign'", opened)
    assert found is not None, opened
    key = found[1]

    pending = newcomer.types(f"parler session join {key}", agent="webdev", expect=4)
    assert pending.startswith("Pending approval")
    assert CONTEXT not in pending

    assert "webdev (says: cli) wants to join" in newcomer.types("parler session requests --room auth-redesign")
    (request,) = newcomer.asks("parler session requests --room auth-redesign")["requests"]
    approved = newcomer.types(f"parler session approve --room auth-redesign {request['agent']}")
    assert approved.startswith("Approved")

    assert CONTEXT in newcomer.types(f"parler session join {key}", agent="webdev")

    newcomer.types('parler send --room auth-redesign "on it, taking token rotation"', agent="webdev")
    assert "on it, taking token rotation" in newcomer.types("parler recv --room auth-redesign")

    with Follower(newcomer, "parler recv --room auth-redesign --watch", agent="webdev") as worker:
        newcomer.types(
            "parler handoff --room auth-redesign --for webdev"
            ' --summary "rotation done, endpoints in src/auth.rs"'
            ' --next "wire the login UI to the new endpoints"'
        )
        banner = worker.until("wire the login UI to the new endpoints")
        assert any("HANDOFF TO YOU" in line for line in banner)
        assert any("rotation done, endpoints in src/auth.rs" in line for line in banner)
        assert worker.interrupt() == 130


def test_a_knock_that_waits_is_woken_by_the_decision(newcomer: Newcomer, key: str) -> None:
    with Follower(newcomer, f"parler session join {key} --wait 60", agent="bob") as joiner:
        assert joiner.until("code:")[0].startswith("Pending approval")
        assert re.fullmatch(r"[0-9A-Z]{4}", joiner.lines.get(timeout=PATIENCE_S))
        newcomer.types("parler session approve --room auth-redesign bob")
        assert any(CONTEXT in line for line in joiner.until(CONTEXT))
        assert joiner.process.wait(PATIENCE_S) == 0


def test_a_denied_agent_never_sees_a_line(newcomer: Newcomer, key: str) -> None:
    newcomer.types(f"parler session join {key}", agent="mallory", expect=4)
    newcomer.types("parler session deny --room auth-redesign mallory")
    document = newcomer.asks(f"parler session join {key}", agent="mallory", expect=1)
    assert (document["status"], document["messages"]) == ("denied", [])
    refused = newcomer.asks("parler recv --room auth-redesign", agent="mallory", expect=1)
    assert refused["error"]["code"] == "no_such_room"


def test_what_could_not_be_printed_is_delivered_again(newcomer: Newcomer, key: str) -> None:
    newcomer.admits(key, "bob")
    newcomer.types("parler send --room auth-redesign 'read me'")
    with open("/dev/full", "w") as full:
        newcomer.types("parler recv --room auth-redesign", agent="bob", expect=1, stdout=full)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as broken:
        newcomer.types("parler recv --room auth-redesign --json", agent="bob", expect=1, stdout=broken)
    (message,) = newcomer.asks("parler recv --room auth-redesign", agent="bob")["messages"]
    assert message["text"] == "read me"
    assert newcomer.asks("parler recv --room auth-redesign", agent="bob")["messages"] == []


def test_a_watching_worker_survives_a_killed_daemon_and_sees_each_message_once(newcomer: Newcomer, key: str) -> None:
    newcomer.admits(key, "bob")
    with Follower(newcomer, "parler recv --room auth-redesign --watch --json", agent="bob") as worker:
        newcomer.types("parler send --room auth-redesign before")
        seen = [message["text"] for message in json.loads(worker.lines.get(timeout=PATIENCE_S))["messages"]]
        os.kill(newcomer.asks("parler daemon status")["pid"], signal.SIGKILL)
        newcomer.types("parler send --room auth-redesign after")
        seen += [message["text"] for message in json.loads(worker.lines.get(timeout=PATIENCE_S))["messages"]]
        assert seen == ["before", "after"]
        assert worker.interrupt() == 130


def test_a_stopped_daemon_stays_stopped_while_a_worker_waits_for_it(newcomer: Newcomer, key: str) -> None:
    newcomer.admits(key, "bob")
    with Follower(newcomer, "parler recv --room auth-redesign --watch --json", agent="bob") as worker:
        newcomer.types("parler send --room auth-redesign before")
        assert json.loads(worker.lines.get(timeout=PATIENCE_S))["messages"]
        newcomer.types("parler daemon stop")
        assert newcomer.asks("parler daemon status", expect=3) == {"running": False, "pid": None}
        newcomer.types("parler send --room auth-redesign after")
        (message,) = json.loads(worker.lines.get(timeout=PATIENCE_S))["messages"]
        assert message["text"] == "after"


def test_a_person_follows_a_room_without_reading_it_for_anyone(newcomer: Newcomer, key: str) -> None:
    newcomer.admits(key, "bob")
    with Follower(newcomer, "parler watch --room auth-redesign --json") as person:
        assert CONTEXT in person.until(CONTEXT)[-1]
        newcomer.types("parler send --room auth-redesign 'for bob'")
        assert "for bob" in person.until("for bob")[-1]
        assert person.interrupt() == 130
    (message,) = newcomer.asks("parler recv --room auth-redesign", agent="bob")["messages"]
    assert message["text"] == "for bob"


def test_every_answer_is_one_document_with_the_fields_that_scripts_lean_on(newcomer: Newcomer, key: str) -> None:
    newcomer.types(f"parler session join {key}", agent="bob", expect=4)
    waiting = newcomer.asks("parler approvals --once")["requests"]
    assert [set(each) >= {"room", "agent", "name", "host", "requested", "fingerprint"} for each in waiting] == [True]
    newcomer.types("parler session approve bob")
    newcomer.types(f"parler session join {key}", agent="bob")
    sent = newcomer.asks("parler send --room auth-redesign hello --key k1")
    assert set(sent) >= {"room", "id", "seq", "at", "replayed", "key"}
    again = newcomer.asks("parler send --room auth-redesign hello --key k1")
    assert (again["id"], again["seq"], again["replayed"]) == (sent["id"], sent["seq"], True)
    newcomer.types("parler recv --room auth-redesign", agent="bob")
    (reader,) = newcomer.asks(f"parler why {sent['id']}")["readers"]
    assert [reached["stage"] for reached in reader["stages"]][-1] == "acknowledged"
    (room,) = newcomer.asks("parler rooms", agent="bob")["rooms"]
    assert (room["room"], room["unread"], room["active"]) == (sent["room"], 0, True)
    assert {member["name"] for member in newcomer.asks("parler roster")["members"]} >= {"bob"}
    assert set(newcomer.asks("parler whoami", agent="bob")) >= {"id", "name", "host", "home"}
    assert newcomer.asks("parler doctor")["ok"] is True
    status = newcomer.asks("parler daemon status")
    assert set(status) >= {"running", "pid", "socket", "version", "uptime_ms", "rooms", "connections"}
    assert newcomer.asks(f"parler session revoke {key}")["status"] == "revoked"
    assert newcomer.asks(f"parler session join {key}", agent="late", expect=1)["error"]["code"] == "unknown_key"
    assert newcomer.asks("parler session close")["status"] == "closed"
    assert newcomer.asks("parler send hello --room auth-redesign", expect=1)["error"]["code"] == "room_closed"


def test_commands_that_must_not_start_a_daemon_do_not(newcomer: Newcomer) -> None:
    newcomer.asks("parler daemon status", expect=3)
    assert newcomer.asks("parler doctor")["ok"] is True
    newcomer.asks("parler version")
    newcomer.types("parler connect --print codex")
    newcomer.types("parler help")
    assert list(newcomer.home.iterdir()) == []
