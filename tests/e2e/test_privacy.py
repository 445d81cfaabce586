"""What a running home lets out: the daemon's process, every file's mode, and where keys, seeds and texts stand."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from parlerd.identity import codes
from parlerd.paths import STARTED_BELOW
from tests.support.mcp_windows import window
from tests.support.processes import CAP_LOOKING, Somebody, can_drop, environment_of, without

pytestmark = pytest.mark.e2e

linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process is like is looked at in /proc")

SPOILED = {
    "PARLER_SESSION_KEY": "ABCD-EFGH",
    "PARLER_AGENT": "bob",
    "PYTHONSTARTUP": "/nowhere",
    "GIT_DIR": "/nowhere",
    "HTTPS_PROXY": "http://nowhere",
}
"""What must not reach the daemon from whoever starts it."""
FIXED = {"HOME", "LANG", "PATH", "LC_CTYPE", STARTED_BELOW}
"""LC_CTYPE is set by the interpreter itself in the C locale. That an agent host is above is ours to say."""
TEXT = "the body of a message that nobody but its readers may see"


@linux
@pytest.mark.parametrize("by", ["command", "window"])
def test_nothing_of_whoever_starts_the_daemon_is_in_it_and_it_keeps_to_itself(somebody: Somebody, by: str) -> None:
    if by == "command":
        somebody.runs("daemon", "start", variables=SPOILED)
    else:
        somebody.trusts_everyone()

        async def main() -> None:
            async with window(somebody, "codex", variables=SPOILED) as agent:
                await agent.call("parler_rooms")

        trio.run(main)
    (pid,) = somebody.daemons()
    process = Path(f"/proc/{pid}")
    environment = environment_of(pid)
    if os.geteuid() == 0:
        assert environment is not None
        assert set(environment) <= FIXED
        assert os.readlink(process / "cwd") == "/"
    else:
        assert environment is None, "another process of this user can look into the daemon"
    assert os.getsid(pid) != os.getsid(0)
    state = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert state["Umask"] == "0077"
    (core,) = (line for line in (process / "limits").read_text().splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


@linux
@pytest.mark.skipif(not can_drop(CAP_LOOKING), reason="root cannot be made to obey the rules of others here")
def test_another_process_of_the_same_user_cannot_look_into_the_daemon(somebody: Somebody) -> None:
    obeying = without(CAP_LOOKING)
    daemon = somebody.daemon(preexec=obeying)
    plain = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, preexec_fn=obeying)
    look = "import sys; print(len(open('/proc/' + sys.argv[1] + '/environ', 'rb').read()))"

    def looking_at(pid: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", look, str(pid)]
        return subprocess.run(words, preexec_fn=obeying, capture_output=True, text=True, check=False)

    try:
        assert looking_at(plain.pid).returncode == 0, "nobody can look into anything here, so this shows nothing"
        assert "PermissionError" in looking_at(daemon.pid).stderr
    finally:
        plain.communicate(b"\n")


def test_everything_in_a_home_is_for_its_user_alone_whatever_the_mask(somebody: Somebody) -> None:
    old = os.umask(0)
    try:
        somebody.runs("session", "open", "--topic", "auth", "--context", TEXT)
        somebody.runs("send", TEXT)
        found = {somebody.home.root, *somebody.home.root.rglob("*")}
        somebody.stops()
        found |= set(somebody.home.root.rglob("*"))
    finally:
        os.umask(old)
    modes = {path: path.lstat() for path in found if path.exists()}
    assert {path.name for path in modes} >= {
        "parler.db",
        "keys",
        "run",
        "log",
        "parlerd.log",
        "shim.py",
        "parlerd.lock",
    }
    for path, info in modes.items():
        wanted = 0o700 if stat.S_ISDIR(info.st_mode) else 0o600
        assert stat.S_IMODE(info.st_mode) == wanted, f"{path} has mode {stat.S_IMODE(info.st_mode):o}"
        assert not stat.S_ISLNK(info.st_mode)


def forms(code: str) -> set[bytes]:
    """Every way a key may be written down."""
    plain = codes.normalise(code)
    return {each.encode() for text in (code, plain) for each in (text, text.lower())}


def holding(somebody: Somebody, secrets: set[bytes], *, but: Path | None = None) -> list[Path]:
    """The files of the home that hold one of these."""
    found = []
    for path in somebody.home.root.rglob("*"):
        if path.is_file() and (but is None or but not in path.parents):
            data = path.read_bytes()
            if any(secret in data for secret in secrets):
                found.append(path)
    return found


def test_keys_seeds_and_texts_stand_nowhere_they_need_not(somebody: Somebody) -> None:
    opened = somebody.asks("session", "open", "--topic", "auth", "--context", TEXT)
    ungated = somebody.asks("session", "open", "--topic", "open", "--no-approval", "--context", TEXT)
    keys = forms(opened["key"]) | forms(ungated["key"])
    wrong = forms("9J7T-4K2M-8QQX")
    lines: dict[int, list[str]] = {}

    async def main() -> None:
        async with window(somebody, "codex", variables={"PARLER_SESSION_KEY": ungated["key"]}) as agent:
            await agent.call("parler_rooms")
            await agent.call("parler_send", text=TEXT)
            await agent.call("parler_join_session", key=opened["key"])
            await agent.refused("parler_join_session", key="9J7T-4K2M-8QQX")
            await agent.refused("parler_send", text=TEXT, room="nowhere")
            lines.update(somebody.processes())

    trio.run(main)
    somebody.fails("session", "join", "9J7T-4K2M-8QQX", "--as", "eve", code="unknown_key")
    somebody.fails("send", TEXT, "--room", "nowhere", code="no_such_room")
    somebody.runs("recv", "--all")
    # While it runs, and after it has moved its log of changes into the database.
    for _ in range(2):
        assert holding(somebody, keys | wrong) == []
        seeds = {path.read_bytes().strip() for path in somebody.home.keys.iterdir() if path.suffix == ".seed"}
        seeds |= {path.read_bytes() for path in somebody.home.keys.iterdir() if path.suffix != ".seed"}
        assert len(seeds) > 2
        assert holding(somebody, seeds, but=somebody.home.keys) == []
        bodies = holding(somebody, {TEXT.encode()})
        assert bodies
        assert {path.name for path in bodies} <= {"parler.db", "parler.db-wal"}
        if somebody.daemons():
            somebody.stops()
    assert len(lines) == 2, "the daemon and the window's shim"
    said = " ".join(word for words in lines.values() for word in words).encode()
    assert not any(key in said for key in keys)
