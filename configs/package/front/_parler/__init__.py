"""The start of every program of Parler in an environment that may hold other distributions.

Our packages have plain names (`parlerd`, `mcp_server`, `relay`, `configs`), which others may have too. So a wheel
brings one package, this one, and ours inside it. Their folder is put in front of Python's path, in processes of ours
alone: nobody else's program finds our names, and no program of ours finds those of others. `python -m _parler NAME`
starts a program, also for who has no console script: an agent host's window, or a service manager.

Not here: what a program does. Invariant: outside a process of ours, nothing that is installed has a plain name.
"""

import sys

PROGRAMS = {"parler": "parlerd.cli.main", "parlerd": "parlerd.__main__", "relay": "relay.__main__"}
"""The module of each program, which has a function `entry`."""
NAMES = ("parlerd", "mcp_server", "relay", "configs")
"""Our packages."""
HERE = __file__.rpartition("/")[0]
"""Where they are in what a wheel installs. In a checkout they are elsewhere, and Python's path has that place."""


def parler() -> None:
    """The console script `parler`."""
    run("parler")


def parlerd() -> None:
    """The console script `parlerd`. A client of the MCP registry starts a package by the package's own name and gives
    it the arguments of its entry, which are `mcp`: this is the command of `parler` then."""
    run("parler" if sys.argv[1:2] == ["mcp"] else "parlerd")


def run(name: str) -> None:
    """Become the program of that name; what follows on the command line is for it."""
    # What a start-up file of the environment imported is there before anything of ours.
    for each in NAMES:
        loaded = sys.modules.get(each)
        place = getattr(loaded, "__file__", None) or ""
        if loaded is not None and not place.startswith(f"{HERE}/"):
            sys.exit(
                f"{name}: This Python had loaded another program's module named {each} before ({place or 'no file'}).\n"
                "  A start-up file of the environment does that. Install Parler into an environment of its own:\n"
                "  uv tool install parlerd, or pipx install parlerd."
            )
    sys.path.insert(0, HERE)
    # Not `importlib`, whose import takes as long as `parler --version`.
    __import__(PROGRAMS[name], fromlist=["entry"]).entry()
