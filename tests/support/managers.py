"""Programs in the place of a system's service manager: `systemctl`, `loginctl` and `launchctl` that note what is asked
and do it with real processes.

They stand in a folder that comes first in PATH. A unit or an agent is started by the command line in its own file. Not
here: the manager in memory, for tests without processes (`service_manager`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

_PROGRAM: Final = """\
#!{python} -IS
import os, plistlib, shlex, signal, subprocess, sys, time
from pathlib import Path

here = Path(__file__).parent
program, words = Path(__file__).name, sys.argv[1:]
with open(here / "asked", "a") as asked:
    asked.write(" ".join([program, *words]) + "\\n")


def running(name):
    try:
        pid = int((here / f"{{name}}.pid").read_text())
        state = Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else pid


def start(name, command):
    if not running(name):
        child = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=open(here / "err", "a"), env={{"PATH": os.defpath}})
        (here / f"{{name}}.pid").write_text(str(child.pid))


def stop(name):
    pid = running(name)
    if pid:
        os.kill(pid, signal.SIGTERM)
        while running(name):
            time.sleep(0.01)


def unit(name):
    path = Path(os.environ["HOME"]) / ".config/systemd/user" / name
    if not path.exists():
        sys.exit(f"Unit {{name}} not found.")
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.partition("=")[2])


def agent(path):
    return plistlib.loads(Path(path).read_bytes())["ProgramArguments"]


if program == "systemctl":
    match words[1:]:
        case ["show", "--property=Version"]:
            print("Version=252")
        case ["daemon-reload"] | ["enable" | "disable" | "reset-failed", _]:
            pass
        case ["start", name]:
            start(name, unit(name))
        case ["restart", name]:
            stop(name)
            start(name, unit(name))
        case ["stop", name]:
            stop(name)
        case _:
            sys.exit(1)
elif program == "loginctl":
    print("Linger=yes")
else:
    known = here / "bootstrapped"
    match words:
        case ["print", target] if target.count("/") == 1:
            pass
        case ["print", target]:
            sys.exit(0 if known.exists() else 113)
        case ["bootstrap", _, path]:
            known.write_text(path)
            start("agent", agent(path))
        case ["bootout", _]:
            if not known.exists():
                sys.exit(3)
            stop("agent")
            known.unlink()
        case ["kickstart", _]:
            start("agent", agent(known.read_text()))
        case _:
            sys.exit(64)
"""


class Managers:
    """The programs, in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        for name in ("systemctl", "loginctl", "launchctl"):
            path = folder / name
            path.write_text(_PROGRAM.format(python=sys.executable))
            path.chmod(0o700)
        self.folder = folder

    def asked(self) -> list[str]:
        """The commands since this was last called."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines
