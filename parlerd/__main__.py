"""`parlerd`, or `python -m parlerd`: serve one home in the foreground until told to stop.

Clients start the daemon this way when none runs. The exit status says why the daemon ended: 0 when it was asked to, 75
when another daemon serves this home, 1 when it could not serve. In the last case its last line on stderr, which clients
send to the log, is `parlerd: <code>: ` with what is wrong and what to do. Not here: what the daemon is made of
(`parlerd.daemon`).
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
from parlerd.listener import locked
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
        # After a crash every client and window starts a daemon. All except one end at this lock, before the slow
        # imports.
        with locked(home):
            # What an import makes stays for good: to look through it for garbage takes a thirtieth of the start.
            gc.disable()
            # The daemon's modules are imported after `harden`, so that they do not read the starter's environment.
            from parlerd import daemon

            gc.enable()
            daemon.run(home, below_agent=below_agent)
    except ParlerError as error:
        # `parlerd.client.launch` reads this line, which begins with the code.
        print(f"parlerd: {error.code}: {error.message} hint: {error.hint}".replace("\n", " "), file=sys.stderr)
        sys.exit(EXIT_ALREADY_RUNNING if error.code == "already_running" else EXIT_FAILED)
    except Exception as error:
        # Nobody foresaw this error. The line has the same form, so that clients can read it.
        hint = ParlerError("internal").hint
        print(
            f"parlerd: internal: The daemon ended by a mistake in it: {type(error).__name__}. hint: {hint}",
            file=sys.stderr,
        )
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    entry()
