"""How long an agent host's hook takes, from its start to its end. A host runs a hook at every prompt and every end of a
turn.

The hook is measured with nothing to say, with unread messages, and without a daemon. Beside it stand a bare interpreter
and the command `parler hook`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common
from parlerd.operations import types as t

FLOOR_MS = 60.0
HOST = "claude-code"
PROMPT = "hook at a prompt"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=30)
    report = common.Report("hook", given.place)
    with common.home(given.place) as made:
        shim = made.shim_command(HOST)[:4]
        place = ["--home", str(made.home.root)]
        payload = json.dumps({"session_id": "bench", "cwd": str(made.directory), "prompt": common.TEXT}).encode()

        def run(*words: str, program: Sequence[str] = shim) -> list[float]:
            command = [*program, *words, *place] if words else list(program)
            return times(given.runs, command, payload, made.directory)

        report.add(
            common.spread(f"{PROMPT}, nobody there", "ms", run("hook", HOST, "UserPromptSubmit"), floor=FLOOR_MS)
        )
        with common.RawWindow(made.shim_command(HOST), made.directory) as window:
            window.handshake()
            with common.RawConnection(made, as_name="ann") as ann:
                opened = ann.call("session.open", t.OpenSession(context="benchmark", topic="bench"))
                window.call("parler_join_session", key=opened.session_key)
                window.call("parler_rooms")
                report.add(
                    common.spread(f"{PROMPT}, nothing new", "ms", run("hook", HOST, "UserPromptSubmit"), floor=FLOOR_MS)
                )
                ann.call("message.send", t.Send(text=common.TEXT, room=opened.room))
            report.add(common.spread(f"{PROMPT}, unread", "ms", run("hook", HOST, "UserPromptSubmit"), floor=FLOOR_MS))
            report.add(common.spread("hook at the end of a turn", "ms", run("hook", HOST, "Stop"), floor=FLOOR_MS))
        by_hand = [sys.executable, "-I", "-c", "from parlerd.cli.main import entry; entry()"]
        report.add(
            common.spread(
                f"{PROMPT}, nothing new",
                "ms",
                run("hook", HOST, "UserPromptSubmit", program=by_hand),
                who="parler hook",
            )
        )
        report.add(
            common.spread(
                "bare interpreter", "ms", run(program=[sys.executable, "-I", "-S", "-c", ""]), who="python -I -S"
            )
        )
        absent = ["--home", str(made.directory / "absent")]
        gone = times(given.runs, [*shim, "hook", HOST, "Stop", *absent], payload, made.directory)
        report.add(common.spread("hook, no daemon", "ms", gone, floor=FLOOR_MS))
    report.print()


def times(runs: int, command: Sequence[str], payload: bytes, directory: Path) -> list[float]:
    """How many milliseconds each run takes, after a first run that does not count."""

    def once() -> None:
        subprocess.run(
            command,
            input=payload,
            check=True,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory)},
            stdout=subprocess.DEVNULL,
        )

    once()
    return [common.milliseconds(once) for _ in range(runs)]


if __name__ == "__main__":
    main()
