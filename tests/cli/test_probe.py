"""`doctor --probe`: each stage is reached by what is really there, and the first that is not says how to mend it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from configs.hosts import HOSTS, find_host
from parlerd.cli.probe import STAGES, command_of
from parlerd.cli.probe_model import Failed
from parlerd.operations import types as t
from tests.support.answers import message, page
from tests.support.cli import Shell

SERVER: Final = """\
import json, os, sys
mode = sys.argv[1]
print("{}", file=sys.stderr)
open(sys.argv[2], "w").write(json.dumps({"env": sorted(os.environ), "cwd": os.getcwd()}))
if mode == "ends":
    sys.exit(3)
for line in sys.stdin:
    said = json.loads(line)
    if "id" not in said:
        continue
    result = {
        "initialize": {"serverInfo": {"name": "parler", "version": "9"}},
        "tools/list": {"tools": [{"name": "parler_recv"}, {"name": "x"}]},
        "tools/call": {"content": [{"type": "text", "text": "invalid_param: `limit` is too small."}]},
    }[said["method"]]
    if mode == said["method"]:
        result = {"content": [{"type": "text", "text": "unreachable: No daemon."}]}
    if mode == "noise" and said["method"] == "tools/list":
        print("CANARY not JSON", flush=True)
    print(json.dumps({"jsonrpc": "2.0", "method": "notifications/x"}), flush=True)
    print(json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}), flush=True)
"""


@pytest.fixture
def person(tmp_path: Path) -> Path:
    folder = tmp_path / "person"
    (folder / ".gemini").mkdir(parents=True)
    (folder / "bin").mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    return folder


@pytest.fixture
def shell(person: Path) -> Shell:
    return Shell(person)


def connect(person: Path, mode: str = "", **more: Any) -> None:
    """The entry, for a server that does well but for `mode`."""
    arguments = ["-I", str(person.parent / "server.py"), mode, str(person.parent / "started")]
    entry = {"command": sys.executable, "args": arguments, **more}
    (person / ".gemini/settings.json").write_text(json.dumps({"mcpServers": {"parler": entry}}))
    allowed = find_host("gemini").consent
    assert allowed is not None
    (((_, rules),)) = allowed.appended
    lines = [f"{key} = {json.dumps(value)}" for key, value in rules[0].items()]
    (person / ".gemini/policies").mkdir(exist_ok=True)
    (person / ".gemini/policies/parler.toml").write_text("[[rule]]\n" + "\n".join(lines) + "\n")


def probe(shell: Shell, *words: str, path: str = "") -> tuple[int, Any]:
    environment = {"PATH": path, "PARLER_CANARY": "x", "LANG": "C", "HOME": str(shell.home)}
    ran = shell.run("doctor", "--probe", "gemini", "--json", *words, env=environment)
    return ran.code, ran.document


def program(person: Path, says: str) -> str:
    """A host's own program on PATH; it leaves behind what it was started with."""
    path = person / "bin" / "gemini"
    told = f'echo "$HOME $*" > {person.parent}/asked; cat "$HOME/.gemini/settings.json" > {person.parent}/config'
    path.write_text(f"#!/bin/sh\n{told}\necho '{says}'\n")
    path.chmod(0o755)
    return f"{path.parent}:/usr/bin:/bin"


def test_without_the_hosts_program_everything_up_to_the_call_is_reached(shell: Shell, person: Path) -> None:
    connect(person)
    code, said = probe(shell)
    assert (code, said["ok"], said["host"], said["reached"]) == (0, True, "gemini", "write")
    assert [check["name"] for check in said["checks"]] == [*STAGES[:5], "write"]


def test_the_server_gets_a_bare_environment_and_no_directory(shell: Shell, person: Path) -> None:
    connect(person, env={"PARLER_X": "1"})
    assert probe(shell)[0] == 0
    started = json.loads((person.parent / "started").read_text())
    assert set(started["env"]) - {"LC_CTYPE"} == {"HOME", "LANG", "PATH", "PARLER_X"}
    assert started["cwd"] == "/"


def test_the_hosts_own_program_is_asked_over_our_entry_alone_in_a_home_that_goes_away(
    shell: Shell, person: Path
) -> None:
    connect(person)
    before = sorted(path.relative_to(person) for path in person.rglob("*"))
    code, said = probe(shell, path=program(person, "\\033[32m✓\\033[0m parler: python (stdio) - Connected"))
    assert (code, said["reached"]) == (0, "write"), said
    assert "a copy of" in said["checks"][-2]["detail"]
    home, *words = (person.parent / "asked").read_text().split()
    assert words == ["mcp", "list"]
    assert home != str(person)
    assert not Path(home).exists()
    assert list(json.loads((person.parent / "config").read_text())["mcpServers"]) == ["parler"]
    assert sorted(path.relative_to(person) for path in person.rglob("*") if path.name != "gemini") == before


def test_the_program_gets_the_persons_file_with_all_that_decides_and_no_server_of_others(
    shell: Shell, person: Path
) -> None:
    connect(person)
    file = person / ".gemini/settings.json"
    whole = json.loads(file.read_text())
    whole["mcpServers"] = {"other": {"command": "CANARY"}, **whole["mcpServers"]}
    file.write_text("// mine\n" + json.dumps({**whole, "mcp": {"excluded": ["parler"]}}))
    code, said = probe(shell, path=program(person, "✗ parler: python (stdio) - Blocked"))
    assert (code, said["reached"]) == (1, "call")
    assert "without your other servers" in said["checks"][-1]["detail"]
    copied = (person.parent / "config").read_text()
    assert copied.startswith("// mine\n")
    assert json.loads(copied.partition("\n")[2])["mcp"] == {"excluded": ["parler"]}
    assert "CANARY" not in copied


def test_where_the_host_asks_or_refuses_the_probe_ends_before_a_write_and_names_the_setting(
    shell: Shell, person: Path
) -> None:
    connect(person)
    (person / ".gemini/policies/parler.toml").unlink()
    code, said = probe(shell)
    assert (code, said["ok"], said["reached"]) == (1, False, "call")
    last = said["checks"][-1]
    assert (last["name"], last["ok"]) == ("write", False)
    assert "asks at the first call of each tool" in last["detail"]
    assert "not tried" in last["detail"]
    assert last["fix"].endswith("parler connect gemini --allow")


@pytest.mark.parametrize("says", ["○ parler: python - Disabled", "CANARY", ""])
def test_a_program_that_does_not_see_us_is_the_last_stage(shell: Shell, person: Path, says: str) -> None:
    connect(person)
    code, said = probe(shell, path=program(person, says))
    assert (code, said["ok"], said["reached"]) == (1, False, "call")
    assert "gemini mcp list" in said["checks"][-1]["fix"]
    assert "CANARY" not in json.dumps(said)


@pytest.mark.parametrize(
    ("mode", "reached", "words"),
    [
        ("ends", "start", "status 3"),
        ("initialize", "start", "something else"),
        ("noise", "handshake", "not MCP"),
        ("tools/list", "handshake", "tools"),
        ("tools/call", "tools", "unreachable"),
    ],
)
def test_each_stage_fails_by_itself_and_names_what_helps(
    shell: Shell, person: Path, mode: str, reached: str, words: str
) -> None:
    connect(person, mode)
    code, said = probe(shell)
    assert (code, said["ok"], said["reached"]) == (1, False, reached)
    assert words in said["checks"][-1]["detail"]
    assert said["checks"][-1]["fix"]
    assert "CANARY" not in json.dumps(said)


def test_a_command_that_is_not_there_does_not_start(shell: Shell, person: Path) -> None:
    connect(person)
    text = (person / ".gemini/settings.json").read_text()
    (person / ".gemini/settings.json").write_text(text.replace(sys.executable, "/nonexistent/python"))
    code, said = probe(shell)
    assert (code, said["reached"]) == (1, "entry")
    assert "No such file" in said["checks"][-1]["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no config"),
        ("{}", "no config"),
        ('{"mcpServers": {"parler": "CANARY"}}', "no config"),
        ('{"mcpServers": {"parler": {"command": "x", "disabled": true}}}', "turned off"),
        ('{"mcpServers": {"parler": {"args": ["CANARY"]}}}', "no command"),
        ('{"CANARY": ', "settings.json"),
    ],
)
def test_a_config_without_a_usable_entry_is_the_first_stage(
    shell: Shell, person: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (person / ".gemini/settings.json").write_text(content)
    code, said = probe(shell)
    assert (code, said["reached"]) == (1, "")
    assert words in said["checks"][-1]["detail"]
    assert said["checks"][-1]["fix"]
    assert "CANARY" not in json.dumps(said)


def test_a_person_reads_the_stages_and_the_fix(shell: Shell, person: Path) -> None:
    ran = shell.run("doctor", "--probe", "gemini", env={"PATH": ""})
    assert ran.code == 1
    assert "WRONG entry" in ran.stdout
    assert "fix: parler connect gemini" in ran.stdout
    assert "Gemini CLI: reached nothing." in ran.stdout
    connect(person)
    ran = shell.run("doctor", "--probe", "gemini", env={"PATH": ""})
    assert ran.code == 0
    assert "Gemini CLI: reached write." in ran.stdout


def test_an_unknown_host_is_a_usage_error(shell: Shell) -> None:
    ran = shell.run("doctor", "--probe", "emacs")
    assert ran.code == 2
    assert "emacs" in ran.stderr


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "py", "args": ["-I", "x"], "env": {"A": "1"}},
        {"type": "local", "command": ["py", "-I", "x"], "environment": {"A": "1"}},
        {"cmd": "py", "args": ["-I", "x"], "envs": {"A": "1"}},
        {"transport": {"type": "stdio", "command": "py", "args": ["-I", "x"], "env": {"A": "1"}}},
    ],
)
def test_the_command_line_is_found_in_every_shape_of_entry(entry: dict[str, Any]) -> None:
    assert command_of(entry) == (["py", "-I", "x"], {"A": "1"})


@pytest.mark.parametrize("entry", [{}, {"command": 7}, {"command": ["a", 7]}, {"url": "http://x"}])
def test_an_entry_without_a_command_line_is_said_to_have_none(entry: dict[str, Any]) -> None:
    with pytest.raises(Failed):
        command_of(entry)


def test_every_host_that_can_be_asked_names_the_program_that_is_asked() -> None:
    asked = [host for host in HOSTS if host.health is not None]
    assert asked
    assert [host.id for host in asked if not host.programs] == []


# -- through the model -----------------------------------------------------------------------------------------

ROOM: Final = "r_0123456789abcdef01234567"
READER: Final = "U" + "B" * 55


def brought(
    shell: Shell, stages: list[t.StageReached], sight: t.SightSaid | None = None, status: Any = "joined"
) -> None:
    """A daemon that opens a session for a probe and says afterwards how far its message got."""
    daemon = shell.daemon

    def bring(params: t.Params) -> t.Result:
        assert isinstance(params, t.BringAgent)
        assert params.context is not None
        (shell.home.parent / "recap").write_text(params.context)
        return t.Bringing(room=ROOM, name="a-probe")

    reader = t.ReaderLadder(agent=READER, name="gemini", stages=stages)
    if sight is not None:
        reader = msgspec.structs.replace(reader, sight=sight)
    daemon.answers("session.bring", bring)
    daemon.answers("session.brought", t.Brought(status=status, agent=READER, name="gemini"))
    daemon.answers("session.close", t.ClosedSession(room=ROOM, name="a-probe", status="closed"))
    gone = t.DeletedRoom(room=ROOM, name="a-probe", home="h", status="deleted", members=2, messages=1, bytes=9)
    daemon.answers("room.delete", gone)
    daemon.answers("message.recv", page(message()), page(message()))
    daemon.answers("message.why", *[t.WhyResult(id="m_1", room=ROOM, readers=[reader])] * 2)
    daemon.answers("session.brought", t.Brought(status=status, agent=READER, name="gemini"))


def reads_and_says(person: Path, says: str) -> str:
    """A host's program whose model says that; what stands in a file of the recap is in its first prompt's session."""
    path = person / "bin" / "gemini"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = mcp ]; then echo "✓ parler: python (stdio) - Connected"; exit; fi\n{says}\n'
    )
    path.chmod(0o755)
    return f"{path.parent}:/usr/bin:/bin"


READ: Final = [t.StageReached(stage="read", at=1)]


def asked_of(shell: Shell, operation: str) -> int:
    return len(shell.daemon.params_of(operation))


def test_without_a_yes_no_model_is_asked(shell: Shell, person: Path) -> None:
    connect(person)
    code, said = probe(shell, path=reads_and_says(person, "echo CANARY"))
    assert (code, said["reached"]) == (0, "write")
    assert asked_of(shell, "session.bring") == 0


def test_with_a_yes_its_model_reads_a_message_and_says_the_word_in_it(shell: Shell, person: Path) -> None:
    connect(person)
    brought(shell, READ)
    code, said = probe(shell, "--yes", path=reads_and_says(person, f"cat {person.parent}/recap"))
    assert (code, said["reached"]) == (0, "message"), said["checks"][-1]
    assert asked_of(shell, "session.close") == asked_of(shell, "room.delete") == 1


@pytest.mark.parametrize(
    ("stages", "status", "fault"),
    [(READ, "joined", "did not say the word"), ([], "joined", "read no message"), ([], "absent", "read no message")],
)
def test_a_model_that_does_not_say_the_word_is_the_last_stage_and_the_session_goes_away(
    shell: Shell, person: Path, stages: list[t.StageReached], status: Any, fault: str
) -> None:
    connect(person)
    brought(shell, stages, status=status)
    code, said = probe(shell, "--yes", path=reads_and_says(person, "echo plum"))
    last = said["checks"][-1]
    assert (code, said["reached"], last["name"]) == (1, "write", "message")
    assert fault in last["detail"]
    assert asked_of(shell, "session.close") == asked_of(shell, "room.delete") == 1


@pytest.mark.parametrize(("verdict", "reached"), [("shown", "shown"), ("cut", "message"), ("unknown", "message")])
def test_where_the_record_is_watched_its_verdict_is_the_last_stage(
    shell: Shell, person: Path, verdict: Any, reached: str
) -> None:
    connect(person)
    brought(shell, READ, t.SightSaid(verdict=verdict, reason="reply", host="gemini", at=1))
    code, said = probe(shell, "--yes", path=reads_and_says(person, f"cat {person.parent}/recap"))
    assert (code, said["reached"]) == (0 if verdict == "shown" else 1, reached)


def test_a_yes_without_a_probe_is_a_usage_error(shell: Shell) -> None:
    assert shell.run("doctor", "--yes").code == 2
