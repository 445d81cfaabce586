"""`install.sh` with an empty HOME, and a stand-in for the tool that fetches packages: nothing here needs a network.

The stand-in makes an environment as uv would, with a `parler` in it that writes down what it is asked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "install.sh"
PATIENCE_S: Final = 90.0

UV: Final = """\
#!/bin/sh
# As `uv sync` does: an environment with the project in it, and a script for each command.
[ ! -e "$HOME/network-is-down" ] || exit 1
[ ! -e "$HOME/gate" ] || {{ : >"$HOME/reached"; cat "$HOME/gate"; }}
"{python}" -I -m venv --without-pip "$UV_PROJECT_ENVIRONMENT" || exit 1
site=$("$UV_PROJECT_ENVIRONMENT/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/_parler"
cp "$HOME/stand-in.py" "$site/_parler/__init__.py"
echo "import sys; from . import parler; del sys.argv[1]; parler()" >"$site/_parler/__main__.py"
for name in parler parlerd; do
    {{ echo "#!$UV_PROJECT_ENVIRONMENT/bin/python"; echo "from _parler import parler; parler()"; }} \\
        >"$UV_PROJECT_ENVIRONMENT/bin/$name"
    chmod +x "$UV_PROJECT_ENVIRONMENT/bin/$name"
done
case "$*" in *"--extra postgres"*) : >"$site/psycopg.py" ;; esac
"""

STAND_IN: Final = """\
import os, sys

VERSION = {version!r}

def parler():
    words = sys.argv[1:]
    home = os.environ["HOME"]
    with open(home + "/asked", "a") as file:
        print(VERSION, *words, file=file)
    running = home + "/running"
    if words == ["--version"]:
        if {starts} != 0:
            sys.exit({starts})
        print("parler", VERSION)
    elif words[:1] == ["demo"]:
        sys.exit({demo})
    elif words == ["daemon", "status"]:
        sys.exit(0 if os.path.exists(running) else 3)
    elif words == ["relay", "status", "--json"]:
        if not os.path.exists(home + "/relaying"):
            print('{{"running":false,"pid":null}}')
            sys.exit(3)
        print(open(home + "/relaying").read())
        sys.exit(1 if "error" in open(home + "/relaying").read() else 0)
    elif words == ["daemon", "stop"]:
        if os.path.exists(running):
            os.unlink(running)
    elif words == ["connect", "--help"]:
        print({connect_help!r})
"""


class Machine:
    """A machine that has Python, the stand-in for uv and the usual tools, and somebody's empty HOME."""

    def __init__(self, room: Path, home: str = "home") -> None:
        self.home = room / home
        self.home.mkdir()
        self.bin = room / "bin"
        self.bin.mkdir()
        self.temporary = room / "tmp"
        self.temporary.mkdir()
        self.releases("1.0")
        self.program("uv", UV.format(python=sys.executable))
        self.program("python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')

    def program(self, name: str, text: str) -> None:
        """Put a program on PATH."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def releases(self, version: str, *, demo: int = 0, starts: int = 0, connect_help: str = "") -> None:
        """What the next install installs, and how its demo and a plain start end."""
        text = STAND_IN.format(version=version, demo=demo, starts=starts, connect_help=connect_help)
        (self.home / "stand-in.py").write_text(text)

    def runs(
        self, *words: str, expect: int = 0, path: str | None = None, umask: int = 0o022, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run install.sh."""
        environment = {
            "HOME": str(self.home),
            "PATH": path or f"{self.bin}:/usr/bin:/bin",
            "TMPDIR": str(self.temporary),
            **more,
        }
        ran = subprocess.run(
            ["/bin/sh", str(SCRIPT), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            umask=umask,
        )
        assert ran.returncode == expect, (ran.stdout, ran.stderr)
        return ran

    def runs_at_a_terminal(self, answer: str) -> str:
        """Run install.sh as a person does who types `answer` when asked; what they saw."""
        ours, theirs = os.openpty()
        child = subprocess.Popen(
            ["/bin/sh", str(SCRIPT)],
            env={"HOME": str(self.home), "PATH": f"{self.bin}:/usr/bin:/bin", "TMPDIR": str(self.temporary)},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        # Typed ahead: the terminal keeps it until somebody reads.
        os.write(ours, answer.encode() + b"\n")
        seen = b""
        # The end of a terminal that nobody holds open any more is an error on Linux.
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                seen += data
        os.close(ours)
        assert child.wait(timeout=PATIENCE_S) == 0, seen
        return seen.decode().replace("\r", "")

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "parler"

    @property
    def link(self) -> Path:
        return self.home / ".local" / "bin" / "parler"

    def asked(self) -> list[str]:
        """What every `parler` was asked since the last time, with its version in front."""
        path = self.home / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def installed(self) -> str:
        """What the installed `parler` says of itself; nothing if there is none."""
        if not self.link.exists():
            return ""
        ran = subprocess.run(
            [str(self.link), "--version"], env={"HOME": str(self.home)}, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_install_runs_the_demo_and_ends_with_the_line_to_type(machine: Machine) -> None:
    ran = machine.runs()
    assert machine.asked() == ["1.0 demo --no-next", "1.0 --version", "1.0 daemon status", "1.0 relay status --json"]
    assert ran.stdout.splitlines()[-1].strip() == "~/.local/bin/parler connect"
    assert "is not on your PATH" in ran.stdout
    assert machine.installed() == "parler 1.0"


def test_with_its_folder_on_the_path_the_line_to_type_is_the_plain_command(machine: Machine) -> None:
    ran = machine.runs(path=f"{machine.bin}:/usr/bin:/bin:{machine.link.parent}")
    assert ran.stdout.splitlines()[-1].strip() == "parler connect"
    assert "PATH" not in ran.stdout


@pytest.mark.parametrize("answer", ["y", "YES"])
def test_at_a_terminal_it_offers_to_connect_and_does_it_after_a_yes(machine: Machine, answer: str) -> None:
    told = machine.runs_at_a_terminal(answer)
    assert "Connect them now? [y/N]" in told
    assert machine.asked()[-1] == "1.0 connect"
    assert "type this next" not in told


@pytest.mark.parametrize("answer", ["", "n", "yep"])
def test_anything_but_a_yes_connects_nothing_and_ends_with_the_line_to_type(machine: Machine, answer: str) -> None:
    told = machine.runs_at_a_terminal(answer)
    assert "1.0 connect" not in machine.asked()
    assert told.splitlines()[-1].strip() == "~/.local/bin/parler connect"


def test_what_is_installed_is_started_by_a_path_that_stays(machine: Machine) -> None:
    machine.runs()
    stable = machine.data / "venv" / "bin" / "python"
    assert machine.link.resolve().read_text().splitlines()[0] == f"#!{stable}"
    machine.releases("2.0")
    machine.runs()
    assert machine.installed() == "parler 2.0"
    assert machine.link.resolve().read_text().splitlines()[0] == f"#!{stable}"
    assert len(list((machine.data / "versions").iterdir())) == 1


def test_an_upgrade_restarts_a_daemon_that_runs_and_starts_none(machine: Machine) -> None:
    machine.runs()
    assert "1.0 daemon restart" not in machine.asked()
    (machine.home / "running").touch()
    machine.releases("2.0")
    ran = machine.runs()
    assert "2.0 daemon restart" in machine.asked()
    assert "now runs this version" in ran.stdout


@pytest.mark.parametrize("says", ['{"running":true,"pid":7}', '{"error":{"code":"unsupported_version"}}'])
def test_an_upgrade_restarts_a_relay_that_runs_and_starts_none(machine: Machine, says: str) -> None:
    machine.runs()
    assert "1.0 relay start" not in machine.asked()
    (machine.home / "relaying").write_text(says)
    machine.releases("2.0")
    ran = machine.runs()
    assert [line for line in machine.asked() if line.startswith("2.0 relay")] == [
        "2.0 relay status --json",
        "2.0 relay stop",
        "2.0 relay start",
    ]
    assert "The relay that was running does too." in ran.stdout


def test_an_upgrade_leaves_a_relay_alone_that_does_not_run_for_another_reason(machine: Machine) -> None:
    machine.runs()
    (machine.home / "relaying").write_text('{"error":{"code":"invalid_settings"}}')
    machine.releases("2.0")
    machine.runs()
    assert [line for line in machine.asked() if line.startswith("2.0 relay")] == ["2.0 relay status --json"]


def test_what_speaks_to_postgresql_comes_where_it_is_asked_for_and_stays(machine: Machine) -> None:
    def has_it() -> bool:
        command = [str(machine.home / ".local/share/parler/venv/bin/python"), "-I", "-c", "import psycopg"]
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0

    machine.runs()
    assert not has_it()
    for words in (["--postgres"], []):
        machine.runs(*words)
        assert has_it()


def test_a_demo_that_fails_leaves_the_older_install_as_it_was(machine: Machine) -> None:
    machine.runs()
    machine.releases("2.0", demo=1)
    ran = machine.runs(expect=1)
    assert "The demo failed" in ran.stderr
    assert machine.installed() == "parler 1.0"
    assert len(list((machine.data / "versions").iterdir())) == 1


def test_a_demo_that_fails_on_a_new_machine_installs_nothing(machine: Machine) -> None:
    machine.releases("1.0", demo=1)
    machine.runs(expect=1)
    assert machine.installed() == ""


def test_a_command_of_somebody_else_is_not_replaced(machine: Machine) -> None:
    machine.link.parent.mkdir(parents=True)
    machine.link.write_text("somebody else's")
    ran = machine.runs(expect=1)
    assert "is not from this installer" in ran.stderr
    assert machine.link.read_text() == "somebody else's"
    machine.runs("--uninstall")
    assert machine.link.read_text() == "somebody else's"


def test_uninstalling_stops_the_daemon_and_leaves_the_home_alone(machine: Machine) -> None:
    machine.runs()
    (machine.home / ".parler").mkdir()
    (machine.home / ".parler" / "parler.db").touch()
    (machine.home / "running").touch()
    machine.asked()
    before = {"asked", "stand-in.py", ".parler"}
    ran = machine.runs("--uninstall")
    assert "1.0 daemon stop" in machine.asked()
    assert {path.name for path in machine.home.iterdir()} | {"asked"} == before
    assert (machine.home / ".parler" / "parler.db").exists()
    assert f"stay in {machine.home}/.parler" in ran.stdout
    assert "was not installed" in machine.runs("--uninstall").stdout


@pytest.mark.parametrize(("help_text", "asked"), [("--print", False), ("[--print] [--remove]", True)])
def test_uninstalling_undoes_connect_where_this_version_can(machine: Machine, help_text: str, asked: bool) -> None:
    machine.releases("1.0", connect_help=help_text)
    machine.runs()
    machine.asked()
    told = machine.runs("--uninstall").stdout
    assert ("1.0 connect --remove" in machine.asked()) is asked
    assert ("take it out there" in told) is not asked


def test_an_install_that_does_not_run_any_more_can_still_be_taken_out(machine: Machine) -> None:
    machine.runs()
    for path in (machine.data / "versions").glob("*/bin/python*"):
        path.unlink()
    machine.runs("--uninstall")
    assert not machine.data.exists()


def test_without_a_python_that_will_do_it_says_so_plainly(machine: Machine, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "mktemp", "rm", "cat", "id", "uname"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    ran = machine.runs(expect=1, path=str(tools))
    assert "Parler needs Python 3.11 or newer" in ran.stderr
    assert "no python3 at all" in ran.stderr
    (tools / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n')
    (tools / "python3").chmod(0o755)
    assert "Found: Python 3.9.2." in machine.runs(expect=1, path=str(tools)).stderr
    assert not machine.data.exists()


def test_help_names_every_form_and_anything_else_is_a_usage_error(machine: Machine) -> None:
    told = machine.runs("--help").stdout
    for form in ("--postgres", "--test", "--uninstall", "--help"):
        assert form in told
    assert "usage:" in machine.runs("--tset", expect=2).stderr
    assert "usage:" in machine.runs("--test", "--uninstall", expect=2).stderr


def test_nothing_is_installed_twice_and_nothing_is_left_behind(machine: Machine) -> None:
    machine.runs()
    machine.runs()
    assert list(machine.temporary.iterdir()) == []
    assert sorted(path.name for path in machine.data.iterdir()) == ["venv", "versions"]


# -- who else is at work, and what others may write -------------------------------------------------------------


def writable_by_others(root: Path) -> list[Path]:
    every = [root, *root.rglob("*")]
    return [path for path in every if not path.is_symlink() and path.stat().st_mode & 0o022]


@pytest.mark.parametrize("umask", [0o000, 0o002])
def test_nothing_that_is_installed_can_be_written_by_others_whatever_the_umask(machine: Machine, umask: int) -> None:
    machine.runs(umask=umask)
    assert machine.installed() == "parler 1.0"
    assert writable_by_others(machine.data) == []
    assert writable_by_others(machine.link.parent) == []


def test_what_an_older_install_left_writable_is_closed_up(machine: Machine) -> None:
    machine.runs()
    for folder in (machine.data, machine.data / "versions"):
        folder.chmod(0o777)
    machine.runs()
    assert writable_by_others(machine.data) == []


def test_a_folder_of_commands_that_everybody_writes_is_named_and_nothing_is_installed(machine: Machine) -> None:
    machine.link.parent.mkdir(parents=True)
    machine.link.parent.chmod(0o777)
    ran = machine.runs(expect=1)
    assert f"chmod go-w '{machine.link.parent}'" in ran.stderr
    assert machine.installed() == ""


def test_a_second_install_at_the_same_time_is_refused_and_harms_nothing(machine: Machine) -> None:
    os.mkfifo(machine.home / "gate")
    first = subprocess.Popen(
        ["/bin/sh", str(SCRIPT)],
        env={"HOME": str(machine.home), "PATH": f"{machine.bin}:/usr/bin:/bin", "TMPDIR": str(machine.temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with first:
        # The stand-in for the package tool waits here until somebody opens its gate; so it is under way.
        with (machine.home / "gate").open("w"):
            for words in ((), ("--uninstall",)):
                ran = machine.runs(*words, expect=1)
                assert f"process {first.pid}) is at work" in ran.stderr
        told, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0, told
    assert machine.installed() == "parler 1.0"
    assert len(list((machine.data / "versions").iterdir())) == 1
    assert not Path(f"{machine.data}.lock").exists()


@pytest.mark.parametrize("pid", ["", "no number", "4194999"])
def test_a_lock_that_an_install_left_behind_holds_nobody(machine: Machine, pid: str) -> None:
    lock = Path(f"{machine.data}.lock")
    lock.mkdir(parents=True)
    if pid:
        (lock / "pid").write_text(pid + "\n")
    machine.runs()
    assert machine.installed() == "parler 1.0"
    assert list(machine.data.parent.glob("parler.lock*")) == []


def test_what_does_not_start_at_its_final_place_does_not_replace_what_did(machine: Machine) -> None:
    machine.runs()
    machine.releases("2.0", starts=1)
    ran = machine.runs(expect=1)
    assert "does not start" in ran.stderr
    assert machine.installed() == "parler 1.0"
    assert len(list((machine.data / "versions").iterdir())) == 1
    machine.releases("3.0")
    machine.runs()
    assert machine.installed() == "parler 3.0"


def test_a_first_install_that_does_not_start_leaves_no_command(machine: Machine) -> None:
    machine.releases("1.0", starts=1)
    machine.runs(expect=1)
    assert not machine.link.is_symlink()
    assert list((machine.data / "versions").iterdir()) == []


# -- odd homes ----------------------------------------------------------------------------------------------------


def test_a_home_with_a_sign_of_the_shell_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    # A short folder: in a long one the sign is refused.
    machine = Machine(tmp_path_factory.mktemp("short"), "h$o`m'e")
    machine.runs()
    assert machine.installed() == "parler 1.0"
    assert "Parler is uninstalled" in machine.runs("--uninstall").stdout


@pytest.mark.parametrize("home", ["a $HOME b", "a `b`", "a\nb", "x" * 120 + "$"])
def test_a_home_from_which_nothing_could_start_is_refused_before_anything_is_written(tmp_path: Path, home: str) -> None:
    machine = Machine(tmp_path, home)
    before = sorted(machine.home.iterdir())
    ran = machine.runs(expect=1)
    assert "No program could be started from" in ran.stderr
    assert "XDG_DATA_HOME" in ran.stderr
    assert sorted(machine.home.iterdir()) == before
    assert list(machine.temporary.iterdir()) == []


def test_a_home_that_is_no_absolute_path_is_refused(machine: Machine) -> None:
    assert "no absolute path" in machine.runs(expect=1, HOME="home").stderr


def test_a_relative_folder_for_data_is_passed_over_as_the_standard_says(machine: Machine) -> None:
    machine.runs(XDG_DATA_HOME="relative")
    assert machine.installed() == "parler 1.0"
    assert machine.data.is_dir()


def test_uninstalling_says_what_open_windows_have_then(machine: Machine) -> None:
    machine.runs()
    assert "still open have no Parler any more" in machine.runs("--uninstall").stdout
    assert "still open" not in machine.runs("--uninstall").stdout
