"""The page on agent hosts and the README's table of them, for `render`: made from the declarations and from the record
of the last run against real programs.

    configs.hosts -------------> hosts.md: what is written where
    docs/hosts.json (a run) ---> hosts.md, README.md: what was seen at work, with which release, on which day

`PARLER_HOSTS_RECORD=docs/hosts.json python -m pytest tests/e2e/hosts` makes the record again. Not here: what is known
of a host (`configs/hosts`). Invariant: the pages say of a host only what its declaration or the record says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any, Final, NamedTuple

from configs.hosts import HOSTS
from configs.model import PROMPT, Consent, Host, Shim, Start, System
from configs.snippet import snippet

HERE: Final = Path(__file__).resolve().parent
WIDTH: Final = 118
"""The most characters in a line of text in a page."""
RECORD: Final = HERE / "hosts.json"
BEGIN: Final = "<!-- hosts: made by `python docs/render.py` from docs/hosts.json -->\n"
END: Final = "<!-- /hosts -->\n"


class Promise(NamedTuple):
    """What a test with a real program can show: the head of a column, and a sentence about it."""

    column: str
    meaning: str


PROMISES: Final[Mapping[str, Promise]] = {
    "connected": Promise("connects", "The program starts Parler from the entry that `parler connect` wrote."),
    "tools": Promise("lists the tools", "Its model is offered Parler's tools, or finds them by the host's own search."),
    "call": Promise("calls a tool", "A call of its model reaches Parler, and the answer reaches the model."),
    "opens": Promise(
        "opens", "Its model opens a session, answers whoever came, and hands the turn over, with no call in vain."
    ),
    "joins": Promise("joins", "Its model knocks with a key, is let in by a person, asks, and is handed the turn."),
    "brought": Promise(
        "is brought", "`parler bring` starts it without a terminal, and its model reads the session and answers there."
    ),
    "recap": Promise("long recap", "A recap of 30,000 characters arrives whole, in as few calls as the host allows."),
    "messages": Promise("60 messages", "Sixty short messages arrive, each once and in order."),
    "killed": Promise("killed", "The program is killed between two pages: what its model did not get comes later."),
    "form": Promise("approval form", "It shows the person the approval form, and nothing else fills it in."),
    "woken": Promise("woken", "An idle conversation begins a turn when a message comes."),
    "restored": Promise("restored", "After `--remove` its settings are as they were."),
}
SUMMARY: Final[Mapping[str, tuple[str, ...]]] = {
    "connects": ("connected",),
    "opens and joins": ("opens", "joins"),
    "long and many messages arrive whole": ("recap", "messages", "killed"),
    "approval form": ("form",),
    "woken when idle": ("woken",),
    "settings restored": ("restored",),
}
"""The columns of the README's table, and the promises that must hold for a yes in each."""
_FORMATS: Final = {"json": "JSON", "jsonc": "JSON with comments", "toml": "TOML", "yaml": "YAML"}
_REWRITES: Final = "The host writes this file itself, so the daemon watches the file"

HEAD: Final = """\
# Agent hosts

`parler connect` adds one entry named `parler` to a host's own file of servers, and leaves everything else in that file
as it is. This page says what was tested with the real programs, where each file is, and what Parler writes into the
file. [Waking](waking.md) says how an idle host can be reached, and
[which hosts ask or refuse](waking.md#woken-and-then-refused) before their model may use a tool.

The command in every entry names the Python that Parler runs with, the program in Parler's home, the host's id and the
home. All paths are absolute, and nothing depends on PATH, on the directory or on a variable, because hosts pass on none
of these reliably. The entry holds no secret.

## Tested

"""
PROVED: Final = """\
This table was tested with the real programs on {day} ({system}); empty means untested. Each program was
installed, connected with `parler connect` and run, and no program was logged in. The model was a script on the same
machine that follows what Parler's texts say, and a test counts only what arrived at this script. The hosts meet in a
ring of pairs, so that each host opens a session once and joins a session once.

"""
UNSEEN: Final = """\
The same code edits the files of all other hosts, and tests compare the result byte for byte with a saved file of each
host, but the programs of these hosts were not run:
{names}.
The sections below follow the documentation of these hosts.

The inspector of the Model Context Protocol checks the tools' schemas with `--strict`, and finds Parler in its eras
`legacy` and `auto`.

`python -m tests.e2e.hosts.install` fetches the programs into `~/.cache/parler-hosts` (3 GB; `PARLER_HOSTS_CACHE`
names another folder, `--latest` takes the newest releases). `PARLER_HOSTS_RECORD=docs/hosts.json python -m pytest
tests/e2e/hosts` and then `python docs/render.py` make this table again. `./install.sh --test` spends at most four
minutes on fetching the programs, and goes on without those that it could not get; with `PARLER_HOSTS=0` it fetches
none.

"""
FILES_HEAD: Final = """\
## What is written, and what to know

When a host may have several files, Parler edits the file that has Parler already, or else one that has servers, or
else the first that exists. When a variable in a path is set, only the file below this variable counts. Where a
section says *each*, Parler edits all files that are there, because they belong to editions or profiles that read no
other file. Parler makes a new file only for a host that it finds. Each entry is shown with everything around it;
`PYTHON` and `HOME` stand for paths.
"""
WINDOWS_HEAD: Final = """\
Parler does not run on Windows. This table lists the places of the files there, from each host's documentation, for
people who paste an entry by hand into a host that reaches a Parler elsewhere. Nobody has tried these places.

"""


def hosts_page(made: str) -> str:
    """The whole of hosts.md."""
    record = _record()
    parts = [made, "\n", HEAD]
    parts.append(PROVED.format(day=record["day"], system=record["system"]))
    parts += _seen(record, whole=True)
    parts += ["\n", *(f"- **{promise.column}**: {promise.meaning}\n" for promise in PROMISES.values())]
    names = ", ".join(host.name for host in HOSTS if host.id not in record["hosts"])
    parts += ["\n", UNSEEN.format(names=fill(names, WIDTH))]
    parts.append(FILES_HEAD)
    for host in HOSTS:
        parts += _section(host)
    parts += ["\n## Windows\n\n", WINDOWS_HEAD]
    parts += _table(("host", "file"), [(host.name, _paths(host.windows)) for host in HOSTS])
    return "".join(parts)


def readme_with_table(readme: str) -> str:
    """The README with its table made again from the record."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    record = _record()
    others = ", ".join(f"`{host.id}`" for host in HOSTS if host.id not in record["hosts"])
    table = "".join(_seen(record, whole=False))
    note = (
        f"Tested on {record['day']} with the releases that [agent hosts](docs/hosts.md) lists. The support for these "
        f"hosts follows their documentation, and their programs were not run: {others}."
    )
    note = fill(note, WIDTH, break_on_hyphens=False, break_long_words=False)
    return f"{before}{BEGIN}\n{table}\n{note}\n\n{END}{after}"


def _record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return record


def _seen(record: dict[str, Any], *, whole: bool) -> list[str]:
    """The table of what was tested: with `whole` a column for each promise, otherwise for each line of the summary."""
    columns = {promise.column: (id,) for id, promise in PROMISES.items()} if whole else SUMMARY
    proved = {id: set(about["proved"]) for id, about in record["hosts"].items()}
    shown = [column for column, needed in columns.items() if any(set(needed) <= held for held in proved.values())]
    names = {host.id: host.name for host in HOSTS} | {"inspector": "MCP inspector"}
    rows = []
    for id in sorted(record["hosts"], key=list(names).index):
        second = record["hosts"][id]["version"] if whole else f"`{id}`"
        marks = ["yes" if set(columns[column]) <= proved[id] else "" for column in shown]
        rows.append((names[id], second, *marks))
    return _table(("host", "release" if whole else "id", *shown), rows)


def _section(host: Host) -> list[str]:
    linux, macos = (_files(host, system) for system in ("linux", "macos"))
    files = [f"File: {linux}"] if linux == macos else [f"Linux: {linux}", f"macOS: {macos}"]
    keys = " or ".join(f"`{' → '.join(path)}`" for path in (host.key_path, *host.layouts))
    facts = [
        *files,
        f"{_FORMATS[host.format]}{_looser(host)}; servers are under {keys}",
        *([f"The host waits {host.limits}"] if host.limits else []),
        *([_consent(host.id, host.consent)] if host.consent is not None else []),
        f"Afterwards: {host.after.rstrip('.')}",
        *([_start(host.programs[0], host.start)] if host.start is not None else []),
        *([_REWRITES] if host.rewrites else []),
        *(quirk.rstrip(".") for quirk in host.quirks),
    ]
    fence = {"toml": "toml", "yaml": "yaml"}.get(host.format, "json")
    shim = Shim(python="PYTHON", shim="HOME/run/shim.py", host=host.id, home="HOME")
    head = f"\n### {host.name} (`{host.id}`)\n\n"
    return [head, *(f"- {fact}.\n" for fact in facts), f"\n```{fence}\n{snippet(host, shim)}```\n"]


def _looser(host: Host) -> str:
    """What the host's reader accepts beside the plain language."""
    if not host.trailing_commas:
        return ""
    return " 1.1" if host.format == "toml" else ", trailing commas too"


def _consent(id: str, consent: Consent) -> str:
    """What the host does before its model uses our tools, and where the setting is."""
    default = f"The host {consent.default}"
    if consent.by_hand:
        return f"{default}. {consent.by_hand}"
    if not consent.put and not consent.appended:
        return default
    where = f" in {_paths(consent.files)}" if consent.files else ""
    own = "" if consent.asks else "; where your own rules make the host ask"
    return f"{default}{own}: `parler connect {id} --allow` permits the tools that read and talk{where}"


def _start(program: str, start: Start) -> str:
    """What `parler bring` runs."""
    ways = {"": start.terminal, " with `--headless`": start.headless}
    shown = [
        f"`{' '.join((program, *start.allowed, *words)).replace(PROMPT, 'PROMPT')}`{how}"
        for how, words in ways.items()
        if words
    ]
    return f"`parler bring` runs {', and '.join(shown)}"


def _files(host: Host, system: System) -> str:
    also = f"; {_paths(host.also)} too, where it is there" if host.also else ""
    return ("each of " if host.multiple else "") + _paths(host.files[system]) + also


def _paths(templates: tuple[str, ...]) -> str:
    return ", ".join(f"`{template}`" for template in templates)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(cells)} |\n" for cells in lines]
