"""`parler bring`: what is checked, what is shown before it is run, and what is said of how it went."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from configs.hosts import HOSTS
from configs.model import MESSAGING
from parlerd.core.errors import ParlerError, Refused
from parlerd.operations import types as t
from tests.support.cli import Ran, Shell

ROOM = "r_0123456789abcdef01234567"
BEGUN = t.Bringing(room=ROOM, name="auth-redesign")
CAME = t.Brought(status="joined", agent="U" + "B" * 55, name="codex@web")


class Machine:
    """A person's machine with the programs of some agent hosts, which do what a test says."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.ran = folder / "ran"
        self.shell = Shell(folder / "home")
        self.shell.home.mkdir()
        self.begun: t.Bringing | ParlerError = BEGUN
        self.came = CAME
        daemon = self.shell.daemon
        daemon.answers("session.bring", self._begins).answers("session.brought", lambda params: self.came)
        daemon.answers("hosts.seen", t.SeenHostList(hosts=[]))

    def _begins(self, params: t.Params) -> t.Result:
        if isinstance(self.begun, ParlerError):
            raise self.begun
        return self.begun

    @property
    def env(self) -> Mapping[str, str]:
        return {"PATH": f"{self.bin}:/usr/bin:/bin"}

    def has(self, program: str, does: str = "exit 0", *, connected: str = "") -> None:
        """A program of that name, which notes its arguments first; and Parler in the settings of the host
        `connected`."""
        file = self.bin / program
        file.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(self.ran))}\n{does}\n', encoding="utf-8")
        file.chmod(0o755)
        if connected:
            assert self.run("connect", connected).code == 0

    def run(self, *argv: str, terminal: bool = False) -> Ran:
        return self.shell.run(*argv, env=self.env, terminal=terminal)

    @property
    def asked(self) -> list[t.Params]:
        return self.shell.daemon.params_of("session.bring")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def code_of(ran: Ran) -> str:
    code: str = ran.document["error"]["code"]
    return code


def test_a_dry_run_shows_the_whole_command_line_and_starts_nothing(machine: Machine) -> None:
    machine.has("codex", connected="codex")
    ran = machine.run("bring", "codex", "Review", "it's", "done.", "--dry-run")
    assert ran.code == 0
    assert not machine.ran.exists()
    (line,) = ran.stdout.splitlines()
    program, daemon, prompt = shlex.split(line)
    assert (program, daemon) == (str(machine.bin / "codex"), "--no-daemon")
    assert prompt.endswith("Then Review it's done.")
    assert f"'auth-redesign' ({ROOM})" in prompt
    assert "parler_recv" in prompt
    assert "parler_send" in prompt
    assert machine.asked == [t.BringAgent(host="codex", check=True)]
    document = machine.run("bring", "codex", "--dry-run", "--json").document
    assert set(document) == {"host", "command", "room"}
    assert (document["host"], document["room"]) == ("codex", ROOM)
    assert shlex.split(document["command"])[:2] == [program, daemon]


def test_without_a_text_the_agent_says_that_it_is_there_and_waits(machine: Machine) -> None:
    machine.has("codex", connected="codex")
    prompt = shlex.split(machine.run("bring", "codex", "--dry-run").stdout)[-1]
    assert prompt.endswith("wait for the others: parler_recv with wait_secs.")


def test_a_headless_run_shows_the_command_runs_it_and_says_who_came(machine: Machine) -> None:
    machine.has("qwen", connected="qwen")
    assert machine.run("connect", "qwen", "--allow", "--yes").code == 0
    ran = machine.run("bring", "qwen", "--headless", "Plan", "--room", "auth-redesign", "the", "rest.")
    assert ran.code == 0
    flag, prompt = machine.ran.read_text(encoding="utf-8").splitlines()
    assert flag == "-p"
    assert prompt.endswith("Then Plan the rest.")
    shown = next(line for line in ran.stderr.splitlines() if line.startswith(str(machine.bin)))
    assert shlex.split(shown) == [str(machine.bin / "qwen"), flag, prompt]
    assert "codex@web was in the session." in ran.stderr
    assert ran.stdout == "", "stdout is the program's own"
    assert machine.asked == [t.BringAgent(host="qwen", room="auth-redesign")]
    assert machine.shell.daemon.ops()[-2:] == ["session.bring", "session.brought"]


def test_a_script_gets_one_document_and_nothing_of_the_programs_output(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("opencode", "echo said by the program", connected="opencode")
    ran = machine.run("bring", "opencode", "--headless", "--json", "--context", "Left: rotation.")
    document = ran.document
    assert set(document) == {"host", "command", "room", "agent"}
    assert (document["host"], document["room"], document["agent"]) == ("opencode", ROOM, CAME.agent)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "said by the program\n")
    assert machine.asked == [t.BringAgent(host="opencode", context="Left: rotation.")]


def test_the_exit_status_of_the_program_is_passed_on(machine: Machine) -> None:
    machine.has("opencode", "exit 7", connected="opencode")
    ran = machine.run("bring", "opencode", "--headless")
    assert ran.code == 7
    assert "OpenCode ended with status 7." in ran.stderr
    machine.has("opencode", "kill -TERM $$")
    assert machine.run("bring", "opencode", "--headless").code == 128 + 15
    machine.came = t.Brought(status="absent")
    machine.has("opencode", "exit 7")
    ran = machine.run("bring", "opencode", "--headless", "--json")
    assert ran.code == 7
    assert "agent" not in ran.document


def test_a_program_that_ended_well_and_brought_nobody_is_no_success(machine: Machine) -> None:
    machine.has("opencode", connected="opencode")
    machine.came = t.Brought(status="absent")
    ran = machine.run("bring", "opencode", "--headless")
    assert ran.code == 1
    assert "its agent never came to the session" in ran.stderr
    assert "parler doctor --probe opencode" in ran.stderr
    assert code_of(machine.run("bring", "opencode", "--headless", "--json")) == "did_not_join"


def test_why_an_agent_was_not_let_in_is_said(machine: Machine) -> None:
    machine.has("opencode", connected="opencode")
    machine.came = t.Brought(status="refused", code="room_closed")
    ran = machine.run("bring", "opencode", "--headless")
    assert ran.code == 1
    assert "Its agent was not let in: This session is closed." in ran.stderr


def test_a_host_that_keeps_no_consent_gets_it_for_this_run_alone(machine: Machine) -> None:
    machine.has("copilot", connected="copilot")
    assert machine.run("bring", "copilot", "--headless").code == 0
    words = machine.ran.read_text(encoding="utf-8").splitlines()
    assert words[:-2] == [f"--allow-tool=parler({tool})" for tool in MESSAGING]
    assert words[-2] == "-p"


@pytest.mark.parametrize(
    ("argv", "code", "hint"),
    [
        (("codex", "--headless"), "host_not_installed", "PATH"),
        (("cursor",), "host_not_startable", "These can be brought: claude-code, codex"),
        (("kimi",), "host_not_startable", "parler bring kimi --headless"),
    ],
)
def test_what_cannot_be_started_is_refused_with_what_to_do(
    machine: Machine, argv: tuple[str, ...], code: str, hint: str
) -> None:
    ran = machine.run("bring", *argv, "--json")
    assert (ran.code, code_of(ran)) == (1, code)
    assert hint in ran.document["error"]["hint"]
    assert machine.asked == []


def test_a_host_that_would_not_reach_this_home_is_not_started(machine: Machine, tmp_path: Path) -> None:
    machine.has("codex")
    ran = machine.run("bring", "codex", "--dry-run", "--json")
    assert code_of(ran) == "host_not_connected"
    assert ran.document["error"]["hint"] == "Run: parler connect codex"
    assert machine.run("connect", "codex", "--home", str(tmp_path / "other")).code == 0
    ran = machine.run("bring", "codex", "--dry-run", "--json")
    assert code_of(ran) == "host_not_connected"
    assert "another home" in ran.document["error"]["message"]
    assert machine.asked == []


def test_a_host_in_which_parler_is_switched_off_is_not_started(machine: Machine) -> None:
    machine.has("opencode", connected="opencode")
    (file,) = (machine.shell.home / ".config" / "opencode").iterdir()
    text = file.read_text(encoding="utf-8")
    assert '"enabled": true' in text
    file.write_text(text.replace('"enabled": true', '"enabled": false'), encoding="utf-8")
    ran = machine.run("bring", "opencode", "--headless", "--json")
    assert code_of(ran) == "host_not_connected"
    assert "switched off" in ran.document["error"]["message"]


def test_a_headless_run_that_would_refuse_every_call_is_not_started(machine: Machine) -> None:
    machine.has("claude", connected="claude-code")
    ran = machine.run("bring", "claude", "--headless", "--json")
    assert code_of(ran) == "host_would_refuse"
    assert "parler connect claude-code --allow" in ran.document["error"]["hint"]
    assert machine.asked == []
    # In a terminal the host asks its person.
    assert machine.run("bring", "claude", "--dry-run").code == 0


def test_in_a_terminal_it_is_said_first_what_the_host_will_ask_and_where_it_starts_no_servers(machine: Machine) -> None:
    machine.has("gemini", connected="gemini")
    (machine.bin / "gemini").write_bytes(b"\x7fELF nothing, so that this process goes on")
    ran = machine.run("bring", "gemini", terminal=True)
    assert "could not be started" in ran.stderr
    said = " ".join(ran.stderr.split())
    asks, silent = said.index("asks at the first call of each tool"), said.index("starts no servers in a folder")
    assert asks < silent < said.index(str(machine.bin / "gemini"))


def test_a_start_in_a_terminal_needs_one(machine: Machine) -> None:
    machine.has("codex", connected="codex")
    ran = machine.run("bring", "codex")
    assert ran.code == 2
    assert "--headless" in ran.stderr
    assert machine.asked == []


def test_bad_words_are_a_usage_error(machine: Machine) -> None:
    assert "there are: claude-code" in machine.run("bring", "emacs").stderr
    assert machine.run("bring", "codex", "--room", "a", "--context", "b").code == 2
    assert machine.run("bring").code == 2


def test_a_text_that_no_command_line_takes_is_refused_before_a_session_is_opened(machine: Machine) -> None:
    machine.has("codex", connected="codex")
    ran = machine.run("bring", "codex", "x" * 100_000, "--context", "y", "--dry-run", "--json")
    assert code_of(ran) == "text_too_long"
    assert machine.asked == []


def test_what_the_daemon_calls_a_room_is_printed_as_text(machine: Machine) -> None:
    machine.has("opencode", connected="opencode")
    drawing = "\x1b]52;c;Y2FuYXJ5\x07\u202eroom"
    machine.begun = t.Bringing(room=ROOM, name=drawing)
    machine.came = t.Brought(status="joined", agent="U", name=drawing)
    ran = machine.run("bring", "opencode", "--headless", terminal=True)
    assert ran.code == 0
    assert "room" in ran.stderr
    assert not {"\x07", "\u202e"} & set(ran.stderr)
    assert "\x1b]52" not in ran.stderr


def test_what_the_daemon_refuses_starts_nothing(machine: Machine) -> None:
    machine.has("opencode", connected="opencode")
    for error, code in ((Refused("no_active_session"), 1), (ParlerError("unreachable"), 3), (Refused("offline"), 3)):
        machine.begun = error
        ran = machine.run("bring", "opencode", "--headless")
        assert ran.code == code
        assert error.message in ran.stderr
    assert not machine.ran.exists()


def test_a_program_that_the_system_does_not_run_is_named(machine: Machine) -> None:
    machine.has("opencode", connected="opencode")
    (machine.bin / "opencode").write_bytes(b"\x7fELF nothing")
    ran = machine.run("bring", "opencode", "--headless", "--json")
    assert (ran.code, code_of(ran)) == (1, "host_not_started")


def test_every_start_has_its_prompt_once_and_as_a_whole_word() -> None:
    from configs.model import PROMPT

    able = [host for host in HOSTS if host.start is not None]
    assert {"claude-code", "codex", "gemini", "opencode", "qwen", "copilot", "cline-cli"} <= {host.id for host in able}
    for host in able:
        assert host.start is not None
        assert host.programs
        assert host.start.headless
        for words in (host.start.terminal, host.start.headless):
            assert not words or [word for word in words if PROMPT in word] == [PROMPT], host.id
        assert all(PROMPT not in word for word in host.start.allowed)
