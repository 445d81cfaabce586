"""`python -m relay`: serve the relay of one home in the foreground until told to stop; or, with `--migrate`, make the
tables of its database, and with `--move` carry its rooms to another store.

The command line and the service managers start a relay this way. The exit status says why the relay ended: 0 when it
was asked to, 75 when another one serves this home, 1 when it could not serve. In the last case its last line on stderr
is `relay: <code>: ` with what is wrong, `hint: ` and what to do. Not here: what a relay is made of (`program`).
"""

from __future__ import annotations

import argparse
import os
import sys

import parlerd.lean  # noqa: F401  # isort: split - used by being first
from parlerd import __version__
from parlerd.core.errors import ParlerError
from parlerd.hardening import harden
from parlerd.listener import locked
from parlerd.paths import home_from, prepare, relay_home

EXIT_FAILED = 1
EXIT_ALREADY_RUNNING = 75  # EX_TEMPFAIL of sysexits(3), as for the daemon


def entry() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="relay", description="Serve the relay of one Parler home in the foreground.")
    parser.add_argument("--home", help="the home of whoever runs the relay (default: PARLER_HOME, else ~/.parler)")
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    parser.add_argument(
        "--migrate",
        metavar="ROLE",
        help="serve nothing: as the owner of the database whose URL is on stdin, make its tables, for a relay's role",
    )
    parser.add_argument(
        "--move", action="store_true", help="serve nothing: carry the rooms to the store that stdin names, and use it"
    )
    args = parser.parse_args()
    home = home_from(os.environ, args.home)
    harden()
    try:
        if args.migrate is not None:
            from relay import migrating

            migrating.migrate(sys.stdin.read(), args.migrate)
            return
        prepare(home)
        prepare(relay_home(home))
        with locked(relay_home(home)):
            if args.move:
                from relay import moving

                moving.move(relay_home(home), sys.stdin.read())
                return
            from relay import program

            program.run(relay_home(home))
    except ParlerError as error:
        # `parlerd.client.launch` reads this line, which begins with the code.
        print(f"relay: {error.code}: {error.message} hint: {error.hint}".replace("\n", " "), file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_ALREADY_RUNNING if error.code == "already_running" else EXIT_FAILED)
    except Exception as error:
        what = f"The relay ended by a mistake in it: {type(error).__name__}."
        said = f"relay: internal: {what} hint: Its log may say more: parler relay logs"
        print(said, file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    entry()
