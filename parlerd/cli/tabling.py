"""Makes `table`, by which a command is found without importing any other.

    python -m parlerd.cli.tabling

writes it from the `HANDLERS` of every module of commands and from the operations that name a command. A test fails
while the file is old. Not here: running anything. Below: every module of commands. Invariant: the same code gives the
same bytes.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from parlerd.cli.handlers import Handler
from parlerd.operations.registry import OPERATIONS

PATH: Final = Path(__file__).with_name("table.py")
MODULES: Final = (
    "session",
    "membership",
    "bring",
    "approvals",
    "messages",
    "memory",
    "files",
    "work",
    "view",
    "state",
    "state_watch",
    "board",
    "actions",
    "modules",
    "handoff",
    "rooms",
    "directory",
    "watch",
    "receipts",
    "token",
    "connect",
    "homes",
    "relay",
    "relay_store",
    "daemon",
    "doctor",
    "program",
    "hook",
    "completion",
    "help",
)
"""The modules of commands, in the order in which the page on the command line has them."""
TITLES: Final = (
    "Begin",
    "Who may come in",
    "Talk",
    "Coordinate",
    "Look around",
    "Programs over HTTP",
    "Sessions across machines",
    "This install",
    "Started by agent hosts",
)
"""The sections of `parler help`, in the order in which a person comes to do these things."""
_HEAD: Final = """\
\"\"\"The table of commands. `python -m parlerd.cli.tabling` makes it of the `HANDLERS` of each module.\"\"\"

from __future__ import annotations

from typing import Final

# fmt: off
"""


def generate() -> str:
    """The text of `table`."""
    found = [(name, words, handler) for name in MODULES for words, handler in handlers_of(name).items()]
    named = {entry.command: entry.name for entry in OPERATIONS.values()}
    lines = [_HEAD + "COMMANDS: Final[tuple[tuple[tuple[str, ...], str, str, str, tuple[str, ...]], ...]] = ("]
    for name, words, handler in found:
        operation = "" if handler.summary else handler.operation or named[f"parler {words}"]
        module, path = f"parlerd.cli.{name}", tuple(words.split())
        lines += [f"    ({path!r}, {module!r}, {operation!r}, {handler.summary!r}, ("]
        lines += [*(f"        {line!r}," for line in handler.examples), "    )),"]
    lines += [")", "SECTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = ("]
    for title in TITLES:
        within = sorted((handler.rank, words) for _, words, handler in found if handler.section == title)
        lines += [f"    ({title!r}, (", *(f"        {words!r}," for _, words in within), "    )),"]
    return "\n".join((*lines, ")", ""))


def handlers_of(name: str) -> dict[str, Handler]:
    """What a module of commands offers."""
    found: dict[str, Handler] = import_module(f"parlerd.cli.{name}").HANDLERS
    return found


if __name__ == "__main__":
    PATH.write_text(generate())
