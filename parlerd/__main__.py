"""`parlerd`, or `python -m parlerd`: serve one home in the foreground until told to stop.

Clients start it this way when none runs. Its exit status says why it ended: 0 asked to, 75 another daemon serves this
home, 1 it could not serve. Then the last line on stderr, which clients send to the log, is `parlerd: <code>: ` and what
is wrong and what to do.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys

import parlerd.lean  # noqa: F401  # isort: split - used by being first
from parlerd import __version__
from parlerd.core.errors import ParlerError
from parlerd.hardening import harden
from parlerd.ipc.listener import locked
from parlerd.paths import STARTED_BELOW, home_from, prepare

EXIT_FAILED = 1
EXIT_ALREADY_RUNNING = 75  # EX_TEMPFAIL of sysexits(3); parlerd.client.launch knows it


def entry() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="parlerd", description="Serve one Parler home in the foreground.")
    parser.add_argument("--home", help="the home to serve (default: PARLER_HOME, else ~/.parler)")
    parser.add_argument("--version", action="version", version=f"parlerd {__version__}")
    home = home_from(os.environ, parser.parse_args().home)
    below_agent = STARTED_BELOW in os.environ
    harden()
    try:
        prepare(home)
        # After a crash every client and window starts a daemon. All but one end here, before what is slow to import.
        with locked(home):
            # What an import makes stays for good: to look through it for garbage takes a thirtieth of the start.
            gc.disable()
            # Imported here: what the daemon is made of must not read the environment it was started with.
            from parlerd import daemon

            gc.enable()
            daemon.run(home, below_agent=below_agent)
    except ParlerError as error:
        # One line, with the code in front: parlerd.client.launch reads it.
        print(f"parlerd: {error.code}: {error.message} {error.hint}".replace("\n", " "), file=sys.stderr)
        sys.exit(EXIT_ALREADY_RUNNING if error.code == "already_running" else EXIT_FAILED)
    except Exception as error:
        # The last resort, and the same line: whoever started this reads it. The log has all of it once there is one.
        hint = ParlerError("internal").hint
        print(
            f"parlerd: internal: The daemon ended by a mistake in it: {type(error).__name__}. {hint}", file=sys.stderr
        )
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    entry()
