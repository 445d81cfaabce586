"""What can be seen of processes, tried on real ones."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from configs.hosts import recognised
from parlerd import process

HOSTS = recognised()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WAIT = "import sys; print('up', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def running(words: list[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said `up`, until the block ends; its environment is only what is given."""
    child = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.defpath, **(env or {})},
        start_new_session=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().strip().endswith(b"up")
        yield child


def agent_host(pid: int) -> str:
    return process.surroundings_of(pid, HOSTS).agent_host


@pytest.fixture
def no_agent_here() -> None:
    """Skip where the tests themselves run below an agent host: nothing could be told apart."""
    with running([sys.executable, "-c", WAIT]) as child:
        facts = process.surroundings_of(child.pid, HOSTS)
        if facts.agent_host or facts.editor:
            pytest.skip("an agent host or an editor is among the ancestors of this test run")


@pytest.mark.usefixtures("no_agent_here")
def test_a_plain_process_has_a_program_and_no_agent_host() -> None:
    with running([sys.executable, "-c", WAIT]) as child:
        facts = process.surroundings_of(child.pid, HOSTS)
    assert facts.program.startswith("python")
    assert (facts.agent_host, facts.terminal) == ("", False)


@pytest.mark.parametrize(
    ("name", "value", "host"),
    [
        ("CLAUDECODE", "1", "claude-code"),
        ("CLAUDE_CODE_SESSION_ID", "abc", "claude-code"),
        ("CODEX_THREAD_ID", "abc", "codex"),
        ("CODEX_SANDBOX", "seatbelt", "codex"),
        ("CODEX_SANDBOX_NETWORK_DISABLED", "1", "codex"),
        ("CURSOR_AGENT", "1", "cursor"),
        ("GEMINI_CLI", "1", "gemini"),
        ("OPENCODE", "1", "opencode"),
        ("OPENCODE_PID", "77", "opencode"),
        ("QWEN_CODE", "1", "qwen"),
        ("QWEN_CODE_SESSION_ID", "abc", "qwen"),
        ("COPILOT_AGENT_SESSION_ID", "abc", "copilot"),
        ("GROK_SESSION_ID", "abc", "grok"),
        ("AGENT", "amp", "amp"),
        ("AGENT", "1", "agent"),
    ],
)
def test_a_marker_in_the_environment_names_the_agent_host(name: str, value: str, host: str) -> None:
    with running([sys.executable, "-c", WAIT], {name: value}) as child:
        assert agent_host(child.pid) == host


@pytest.mark.usefixtures("no_agent_here")
@pytest.mark.parametrize("name", ["CLAUDECODE_LIKE", "MY_AGENT", "SSH_AGENT_PID"])
def test_a_variable_that_only_resembles_a_marker_is_none(name: str) -> None:
    with running([sys.executable, "-c", WAIT], {name: "1"}) as child:
        assert agent_host(child.pid) == ""


@pytest.mark.usefixtures("no_agent_here")
@pytest.mark.parametrize(
    ("name", "value", "editor"),
    [
        ("TERM_PROGRAM", "vscode", "vscode"),
        ("VSCODE_IPC_HOOK_CLI", "/run/x.sock", "vscode"),
        ("CURSOR_TRACE_ID", "abc", "cursor"),
        ("ZED_TERM", "true", "zed"),
        ("TERM_PROGRAM", "iTerm.app", ""),
    ],
)
def test_a_marker_of_an_editor_is_told_apart_from_one_of_an_agent(name: str, value: str, editor: str) -> None:
    with running([sys.executable, "-c", WAIT], {name: value}) as child:
        facts = process.surroundings_of(child.pid, HOSTS)
    assert (facts.agent_host, facts.editor) == ("", editor)


@pytest.mark.usefixtures("no_agent_here")
@pytest.mark.parametrize(
    ("program", "editor"),
    [
        ("bin/code", "vscode"),
        ("bin/cursor", "cursor"),
        ("bin/windsurf", "windsurf"),
        ("bin/zed-editor", "zed"),
        ("bin/kiro", "kiro"),
        ("bin/antigravity", "antigravity"),
        (".vscode-server/cli/servers/x/node", "vscode"),
        (".cursor-server/bin/x/node", "cursor"),
        ("bin/bash", ""),
    ],
)
def test_an_editor_among_the_ancestors_is_found(program: str, editor: str, tmp_path: Path) -> None:
    path = tmp_path / program
    path.parent.mkdir(parents=True)
    shutil.copy(shutil.which("sh") or "/bin/sh", path)
    with running([str(path), "-c", f"{sys.executable} -c {shlex.quote(WAIT)}\n:\n"]) as child:
        (inner,) = [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
        facts = process.surroundings_of(inner, HOSTS)
        assert (facts.agent_host, facts.editor) == ("", editor)


def test_an_agent_inside_an_editor_is_an_agent() -> None:
    with running([sys.executable, "-c", WAIT], {"TERM_PROGRAM": "vscode", "CURSOR_AGENT": "1"}) as child:
        facts = process.surroundings_of(child.pid, HOSTS)
    assert (facts.agent_host, facts.editor) == ("cursor", "")


@pytest.mark.usefixtures("no_agent_here")
def test_an_empty_marker_is_none() -> None:
    with running([sys.executable, "-c", WAIT], {"CLAUDECODE": ""}) as child:
        assert agent_host(child.pid) == ""


def test_an_agent_among_the_ancestors_is_found_though_the_environment_was_cleared(tmp_path: Path) -> None:
    # `claude` is a shell under another name; it runs a shell, which runs the process with an empty environment.
    claude = tmp_path / "claude"
    shutil.copy(shutil.which("sh") or "/bin/sh", claude)
    program = tmp_path / "program"
    program.write_text("import os, sys; print(os.getpid(), 'up', flush=True); sys.stdin.read()")
    inner = tmp_path / "inner"
    inner.write_text(f"env -i {sys.executable} {program}\n:\n")
    with subprocess.Popen(
        [str(claude), "-c", f"sh {inner}\n:\n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline().split()[0])
        assert pid != child.pid
        assert agent_host(pid) == "claude-code"
        line = process.ancestry_of(pid, HOSTS)
        assert (line.above[-1], line.host) == (child.pid, "claude-code")
        assert len(line.above) > 1


@pytest.mark.usefixtures("no_agent_here")
def test_whom_a_process_descends_from_ends_where_nothing_more_is_seen() -> None:
    with running([sys.executable, "-c", WAIT]) as child:
        line = process.ancestry_of(child.pid, HOSTS)
    assert (line.above[0], line.host) == (os.getpid(), "")
    assert 1 not in line.above
    assert process.ancestry_of(0, HOSTS) == process.ancestry_of(1, HOSTS) == process.Ancestry((), "")


@pytest.mark.parametrize(
    ("script", "host"),
    [
        ("bin/gemini", "gemini"),
        ("bin/codex.js", "codex"),
        ("lib/node_modules/@anthropic-ai/claude-code/cli.js", "claude-code"),
        ("lib/node_modules/@google/gemini-cli/dist/index.js", "gemini"),
        ("share/cursor-agent/versions/1/index.js", "cursor"),
        ("lib/node_modules/@continuedev/cli/dist/cn.js", "continue-cli"),
        ("lib/node_modules/@moonshot-ai/kimi-code/dist/main.mjs", "kimi"),
        ("bin/cn", "continue-cli"),
    ],
)
def test_an_agent_that_is_a_script_of_an_interpreter_is_found_by_its_script(
    script: str, host: str, tmp_path: Path
) -> None:
    path = tmp_path / script
    path.parent.mkdir(parents=True)
    path.write_text(WAIT)
    with running([sys.executable, "-B", str(path)]) as child:
        assert agent_host(child.pid) == host


@pytest.mark.usefixtures("no_agent_here")
def test_a_project_that_is_named_like_an_agent_is_none(tmp_path: Path) -> None:
    path = tmp_path / "codex" / "tools" / "build.py"
    path.parent.mkdir(parents=True)
    path.write_text(WAIT)
    with running([sys.executable, str(path), "codex"]) as child:
        assert agent_host(child.pid) == ""


def test_a_name_with_parentheses_and_spaces_does_not_confuse_the_look(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    shutil.copy(shutil.which("sh") or "/bin/sh", odd)
    with running([str(odd), "-c", "echo up; read line"]) as child:
        assert process.program_of(child.pid) == "a) S 1 (b"
        assert process.surroundings_of(child.pid, HOSTS).terminal is False
        assert process.is_alive(child.pid)


def test_a_lineage_goes_up_to_the_first_process_and_is_the_same_at_every_look() -> None:
    with running([sys.executable, "-c", WAIT]) as child:
        lineage = process.lineage_of(child.pid)
        assert [pid for pid, _ in lineage[:2]] == [child.pid, os.getpid()]
        assert process.lineage_of(child.pid) == lineage
        assert process.lineage_of(os.getpid()) == lineage[1:]
        assert all(began > 0 for _, began in lineage[:2])
    for gone in (child.pid, 0, -1, 2**30):
        assert process.lineage_of(gone) == ()


def test_a_program_that_a_process_becomes_is_the_same_process() -> None:
    becomes = f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', {WAIT!r}])"
    with running([sys.executable, "-c", WAIT]) as one, running([sys.executable, "-c", becomes]) as other:
        first, second = process.lineage_of(one.pid)[0], process.lineage_of(other.pid)[0]
        assert second[0] == other.pid
        assert second[1] >= first[1]


def test_the_commands_of_one_shell_are_one_group() -> None:
    with running([sys.executable, "-c", WAIT]) as child:
        assert process.group_of(child.pid) == child.pid
    assert process.group_of(os.getpid()) == os.getsid(0)
    assert process.group_of(0) == process.group_of(2**30) == 0


def test_a_controlling_terminal_is_seen() -> None:
    ours, theirs = pty.openpty()
    try:
        # The first terminal that the leader of a session opens becomes its controlling terminal.
        program = f"import os; os.open({os.ttyname(theirs)!r}, os.O_RDWR); {WAIT}"
        with running([sys.executable, "-c", program]) as child:
            assert process.surroundings_of(child.pid, HOSTS).terminal is True
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_was_opened_after_the_first_look_is_seen() -> None:
    process.surroundings_of(os.getpid(), HOSTS)
    test_a_controlling_terminal_is_seen()


def test_a_name_that_is_not_text_is_shown_as_text() -> None:
    rename = "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xffodd\\xfe', 0, 0, 0)"
    with running([sys.executable, "-c", f"{rename}; {WAIT}", "\udcffword"]) as child:
        assert process.program_of(child.pid) == process.surroundings_of(child.pid, HOSTS).program == "\ufffdodd\ufffd"
        assert process.words_of(child.pid)[-1] == "\ufffdword"


def test_a_process_that_ended_and_is_not_collected_has_a_name_and_ancestors() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.surroundings_of(child.pid, HOSTS).program.startswith("python")
        assert process.ancestry_of(child.pid, HOSTS).above[0] == os.getpid()
        assert process.words_of(child.pid) == ()
    assert process.surroundings_of(child.pid, HOSTS) == process.Surroundings("", process.UNKNOWN_HOST, False)


def test_processes_that_come_and_go_while_all_are_looked_at_are_no_error() -> None:
    begun = [subprocess.Popen(["true"]) for _ in range(20)]
    with running([sys.executable, "-c", WAIT, "parler-a-word-of-its-own"]) as child:
        assert process.running_with("parler-a-word-of-its-own") == [child.pid]
    for each in begun:
        each.wait()
    assert process.running_with("parler-a-word-of-its-own") == []


def test_what_every_connection_asks_and_a_quiet_command_load_no_psutil() -> None:
    script = (
        "import os, sys; import parlerd.cli.main; from parlerd import process\n"
        "process.program_of(os.getpid()), process.group_of(os.getpid())\n"
        "assert 'psutil' not in sys.modules; process.words_of(os.getpid()); assert 'psutil' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_process_that_ended_is_not_alive_even_before_it_is_collected() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process.is_alive(child.pid)
    assert not process.is_alive(child.pid)


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_what_is_no_process_is_not_alive_and_unknown(pid: int) -> None:
    assert not process.is_alive(pid)
    assert process.surroundings_of(pid, HOSTS) == process.Surroundings("", process.UNKNOWN_HOST, False)
    assert process.program_of(pid) == ""
