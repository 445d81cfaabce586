"""This program as another release of it: the same code with another version number, and other protocols if need be.

    python other_release.py VERSION PROTOCOL HOST_PROTOCOL parlerd|parler ARGUMENTS...

What it starts as a daemon is that other release too. Run isolated (`-I`), as the real programs are.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Become the program."""
    version, protocol, host_protocol, program, *arguments = sys.argv[1:]

    # Before anything else of the package is imported: the others copy them on import.
    import parlerd
    from parlerd.wire import messages

    parlerd.__version__ = version
    messages.PROTOCOL = int(protocol)  # type: ignore[misc]  # final for everyone but this impostor
    messages.HOST_PROTOCOL = int(host_protocol)  # type: ignore[misc]

    from parlerd.client import launch

    itself = [sys.executable, "-I", __file__, version, protocol, host_protocol, "parlerd"]
    launch.daemon_command = lambda home: [*itself, "--home", str(home.root)]
    sys.argv = [program, *arguments]
    if program == "parlerd":
        from parlerd.__main__ import entry

        entry()
    else:
        from parlerd.cli.main import entry as command

        command()


if __name__ == "__main__":
    main()
