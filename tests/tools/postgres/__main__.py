"""PostgreSQL for tests and for a look by hand: `python -m tests.tools.postgres --help`.

    install [MAJOR...]      the server and pgTAP, from the system's packages (root, Debian and its like)
    versions                what is installed that a relay takes
    run [COMMAND...]        a server while a command runs, which finds its address in PARLER_POSTGRES_URL; `sh` if none
    start                   a server that stays; prints its folder and its address
    stop FOLDER             end that server, and remove its folder

`run` and `start` take `--major N`, `--on-disk`, and `--set NAME=VALUE` for a setting of the server. `install` uses the
standard library alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.tools.postgres.installing import MAJOR, NotInstalled, install


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools.postgres",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    wanted = verbs.add_parser("install")
    wanted.add_argument("majors", nargs="*", type=int, metavar="MAJOR", default=[MAJOR])
    verbs.add_parser("versions")
    for verb in ("run", "start"):
        made = verbs.add_parser(verb)
        made.add_argument("--major", type=int, metavar="N")
        made.add_argument("--on-disk", action="store_true")
        made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
        if verb == "run":
            made.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    verbs.add_parser("stop").add_argument("folder", type=Path, metavar="FOLDER")
    asked = parser.parse_args(argv)
    if asked.verb != "install":
        return _serve(asked)
    try:
        install(tuple(asked.majors))
    except NotInstalled as error:
        print(f"PostgreSQL was not installed: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(asked: argparse.Namespace) -> int:
    from tests.tools.postgres import server

    installed = server.versions()
    if asked.verb == "versions":
        for version in installed:
            print(f"{version.major}  {version.programs}  pgTAP: {version.pgtap or 'not installed'}")
        return 0 if installed else 1
    if asked.verb == "stop":
        server.remove(asked.folder)
        return 0
    chosen = [version for version in installed if asked.major in (None, version.major)]
    if not chosen:
        print("There is no such server here. Run: python -m tests.tools.postgres install", file=sys.stderr)
        return 1
    settings = dict(line.partition("=")[::2] for line in asked.set)
    if asked.verb == "start":
        made = server.staying(chosen[0], on_disk=asked.on_disk, settings=settings)
        print(f"{made.folder}\n{made.url()}")
        return 0
    with server.throwaway(chosen[0], on_disk=asked.on_disk, settings=settings) as running:
        command = [word for word in asked.command if word != "--"] or [os.environ.get("SHELL", "sh")]
        return subprocess.run(command, env={**os.environ, "PARLER_POSTGRES_URL": running.url()}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
