"""How long it takes to put one server into a large settings file, with every check, and to take it out again.

The file is a history of many small projects, as hosts keep them beside their servers, once plain and once with
comments.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks import common
from configs.document import Document, Rules

MEGABYTES = 5
AT = ("mcpServers", "parler")
ENTRY = {"command": "/usr/bin/python3", "args": ["-I", "-S", "/home/someone/.parler/run/shim.py", "--host", "any"]}
STRICT = Rules("json", comments=False, trailing_commas=False, bom=True)
LOOSE = Rules("jsonc", comments=True, trailing_commas=True, bom=True)


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=5)
    report = common.Report("config_edit", given.place)
    plain = settings(comments=False)
    report.add(spread("put, JSON", given.runs, lambda: Document.read(plain, STRICT).put(AT, ENTRY).data))
    with_us = Document.read(plain, STRICT).put(AT, ENTRY).data
    report.add(spread("take, JSON", given.runs, lambda: Document.read(with_us, STRICT).take(AT).data))
    noted = settings(comments=True)
    report.add(spread("put, JSON with comments", given.runs, lambda: Document.read(noted, LOOSE).put(AT, ENTRY).data))
    if given.compare:
        rewrites = times(given.runs, lambda: rewritten(plain))
        report.add(common.spread("read and write it all again, 5 MB", "ms", rewrites, who="json"))
    report.print()


def settings(*, comments: bool) -> bytes:
    """A file of about `MEGABYTES`."""
    project = {"history": [{"display": "a question // of a kind", "pasted": {}, "cost": 1.5}] * 20, "trusted": True}
    lines = json.dumps({"mcpServers": {"other": {"command": "x"}}, "projects": {}}, indent=2)
    one = json.dumps(project, indent=2)
    count = MEGABYTES * 1024**2 // len(one)
    note = " // seen\n" if comments else "\n"
    projects = ("," + note).join(f'"/home/someone/{number}": {one}' for number in range(count))
    return lines.replace('"projects": {}', f'"projects": {{\n{projects}\n}}').encode()


def rewritten(data: bytes) -> str:
    """The whole file read and written again, which loses how it looked."""
    whole: dict[str, Any] = json.loads(data)
    whole["mcpServers"]["parler"] = ENTRY
    return json.dumps(whole, indent=2)


def spread(name: str, runs: int, edit: Callable[[], object]) -> common.Figure:
    return common.spread(f"{name}, {MEGABYTES} MB", "ms", times(runs, edit), floor=2000.0)


def times(runs: int, work: Callable[[], object]) -> list[float]:
    """Milliseconds of each run."""
    found = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        found.append((time.perf_counter() - begun) * 1000)
    return found


if __name__ == "__main__":
    main()
