"""What there is to know about one agent host, as data.

A host is a `Host` in its own file under `configs/hosts`. Paths are templates: `~` is the person's home, `${NAME}` a
variable and `${NAME:-other}` a variable with a fallback; a template whose variable is not set is passed over, and a `*`
stands for any one folder. `candidates` turns them into paths. Source of every fact: each host's own documentation or
program; `docs/hosts.md` says which were seen at work in the program itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from configs.events import Hooks
from parlerd.core.records import Record
from parlerd.operations.traits import UNMEASURED, HostTraits

KeyPath = tuple[str, ...]
"""Where a value stands in a settings file: the keys that lead to it, from the outermost table."""
System = Literal["linux", "macos"]
Format = Literal["json", "jsonc", "toml", "yaml"]
"""The language of a file. `json` is strict: a comment in the file stops the host. A file in `jsonc` may hold comments,
which have to survive."""

SERVER: Final = "parler"
"""The name of our entry, in every host."""


class Shim(msgspec.Struct, frozen=True):
    """How a host starts us: absolute paths only, because a host may pass on neither PATH nor cwd nor environment."""

    python: str
    shim: str
    host: str
    home: str

    @property
    def arguments(self) -> list[str]:
        """Isolated and without site packages: the shim stands on the standard library and starts in milliseconds."""
        return ["-I", "-S", self.shim, "--host", self.host, "--home", self.home]


MESSAGING: Final = (
    "parler_open_session",
    "parler_join_session",
    "parler_send",
    "parler_recv",
    "parler_handoff",
    "parler_rooms",
)
"""The tools that a person may let a host use without being asked: those that read, and those that talk. Never
`parler_approve`, which is about a person's decision, and none that ends or deletes something."""


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What a host does when its model calls one of our tools, and the setting that lets it use `MESSAGING` alone.

    `default` completes a sentence that begins with the host's name. `asks` says that it asks or refuses unless it was
    told otherwise; where it is false the setting is written only when the person's own rules make it ask. `files` are
    templates, the first that can be expanded counts; without any it is the file of our entry, and `format` is that of
    the host. `put` are values by key, `appended` elements of lists. `covers` are other settings that allow the same.
    `by_hand` is what to do where a setting for every folder does not exist.
    """

    default: str
    asks: bool = True
    files: tuple[str, ...] = ()
    format: Format | None = None
    put: tuple[tuple[KeyPath, Any], ...] = ()
    appended: tuple[tuple[KeyPath, tuple[Any, ...]], ...] = ()
    covers: tuple[tuple[KeyPath, Any], ...] = ()
    by_hand: str = ""


class Plugin(NamedTuple):
    """Parler as a plugin: what a manifest says of it, and what the program starts, below the plugin's folder."""

    about: Mapping[str, Any]
    starts: str


class Plugins(msgspec.Struct, frozen=True, kw_only=True):
    """How a host takes plugins, of which Parler may be one.

    Which are on it says in `files`, templates of which the first that can be expanded counts, in its own format: `key`
    leads to a table whose keys are `NAME@MARKETPLACE`. Or `kept` is the file that is there when it has Parler, and the
    JSON in `state` says more: `off` looks in it whether Parler is off for this person, whose HOME it is given.

    `manifests` makes the files that this host alone reads in a plugin's folder, by their path. `adds` are the commands
    that install the plugin in the folder `FOLDER`, and `removes` those that take it out.
    """

    files: tuple[str, ...] = ()
    key: KeyPath = ()
    kept: str = ""
    state: str = ""
    off: Callable[[Any, str], bool] | None = None
    manifests: Callable[[Plugin], Mapping[str, Mapping[str, Any]]] | None = None
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()


class FormHooks(msgspec.Struct, frozen=True, kw_only=True):
    """Hooks by which a host lets a program answer the forms that servers show to the person.

    `files` are templates of the person's own settings, the first that can be expanded counts; `project_files` are files
    of a project. In each of them the hooks stand below `hooks`, under the names of `events`.
    """

    files: tuple[str, ...]
    project_files: tuple[str, ...]
    events: tuple[str, ...]


class PerFolder(msgspec.Struct, frozen=True, kw_only=True):
    """Servers that a host keeps for one folder alone, in the same file as those for every folder.

    `table` leads to the table whose keys are folders, `servers` leads from a folder to its table of servers. A server
    in there is used in the place of the one of the same name for every folder. `remove` is the host's own command that
    takes ours out, run in the folder.
    """

    table: KeyPath
    servers: KeyPath
    remove: str


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """An inbox of a running host that takes a line from a program which has a token.

    `sessions` are templates of the folder in which running conversations publish themselves, the first that can be
    expanded counts. `mint` is the host's own command that makes a token, `revoke` the one that makes it void.
    """

    sessions: tuple[str, ...]
    mint: str
    revoke: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A host's own command that looks at its servers and needs no login.

    `words` are its arguments. `shows` is a pattern that its output has when all is well, as it was printed when the
    command was tried. `starts` says whether the command starts the server, or only reads the settings. `variables` is
    what the environment has to say for it. `beside` is what else is so while the command is asked, and need not be so
    where the person works.
    """

    words: tuple[str, ...]
    shows: str
    starts: bool = True
    variables: Mapping[str, str] = msgspec.field(default_factory=dict)
    beside: str = ""


PROMPT: Final = "{prompt}"
"""Stands for the first prompt among the arguments of a `Start`, as one whole argument."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How a person starts the program of a host in a folder with a first prompt, as it was seen to work.

    `terminal` are the arguments for a conversation in the terminal and `headless` for a run without one; `PROMPT`
    stands for the prompt. A way that is empty is none, or nobody has tried it. `allowed` are arguments that let the
    model use `MESSAGING` in this run, for a host that keeps no setting for every folder.
    """

    terminal: tuple[str, ...] = ()
    headless: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


def switched_off(entry: dict[str, Any]) -> bool:
    """Whether an entry says, in the words that most hosts share, that its server is not to be used."""
    return entry.get("disabled") is True or entry.get("enabled") is False


def names_us(value: Any) -> bool:
    """Whether a list of servers that are not to be used has ours in it."""
    return isinstance(value, list) and SERVER in value


def names_others(value: Any) -> bool:
    """Whether a list of the only servers to be used leaves ours out."""
    return isinstance(value, list) and SERVER not in value


def denies_tools(value: Any) -> bool:
    """Whether a table of patterns, of which the last that fits a tool counts, turns every tool of ours off."""
    if not isinstance(value, dict):
        return False
    fitting = [[on for pattern, on in value.items() if fnmatchcase(f"{SERVER}_{tool}", pattern)] for tool in MESSAGING]
    return all(words and words[-1] is False for words in fitting)


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One agent host.

    `files` are candidates per system, the one that the host itself would create first; of a `multiple` host (editions,
    profiles) each is a place of its own. `also` are files of a relative that reads another one, on every system: used
    beside those where they are there. `windows` has the same for the documentation: nobody has tried them. `key_path`
    leads to the table of servers; a dot inside one of its parts is part of the name. Where the file already has the
    table of one of `layouts`, that is used instead, with the entry that stands beside it there. Of a `listed` host the
    table is a list whose elements have their name inside. `beside` is what a file must also say that we create. `entry`
    gives our entry in this host's shape, `disabled` says of one that was found whether the person switched it off, and
    `left_out` where else in the file it can be, with `*` for every key of a table. `programs`, `editors` and `folders`
    show that the host is installed.
    `programs`, `packages` and `markers` also tell the daemon that a command was started by this host's agent, and
    `editors`, `editor_packages` and `editor_markers` that it was typed in a terminal of this host, where its agent and
    its person both are; `parlerd.process.Hosts` says what each is. `mode` is given to a file that we create. `rewrites`
    says that the host writes its file itself. What makes the host's own reading fail: a comma before a closing bracket
    unless `trailing_commas`, a byte order mark unless `bom`, and any comment where `format` is `json`. `limits` says
    how long it waits for us, for the documentation. `after` is what a person does next. `traits` says what it does with
    our answers while it runs, `consent` whether it lets its model call us, where that is known. `hooks` says at which
    of its events it runs ours; a host without it has none that Parler knows to work. `project_files` are files that a
    project may have, from which the host takes servers, each with the path of their table. `quiet` are variables that
    keep the host from updating itself, reporting or asking when Parler runs its program. `start` is missing for a host
    that has no program with a first prompt, or whose program nobody has tried. `silent` is a sentence on why
    the host may not have started us although all is in place. `sight` says what its record of a conversation looks
    like, for a host whose record was measured. `plugins`, `form_hooks`, `per_folder`, `inbox` and
    `health` are said at their types.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    format: Format
    files: Mapping[System, tuple[str, ...]]
    key_path: KeyPath
    entry: Callable[[Shim], dict[str, Any]]
    layouts: Mapping[KeyPath, Callable[[Shim], dict[str, Any]]] = msgspec.field(default_factory=dict)
    listed: bool = False
    beside: Mapping[str, str] = msgspec.field(default_factory=dict)
    multiple: bool = False
    also: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    trailing_commas: bool = False
    bom: bool = True
    mode: int = 0o644
    disabled: Callable[[dict[str, Any]], bool] = switched_off
    left_out: tuple[tuple[KeyPath, Callable[[Any], bool]], ...] = ()
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    editors: tuple[str, ...] = ()
    editor_packages: tuple[str, ...] = ()
    editor_markers: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    rewrites: bool = False
    limits: str = ""
    after: str = "Restart it."
    traits: HostTraits = UNMEASURED
    consent: Consent | None = None
    hooks: Hooks | None = None
    plugins: Plugins | None = None
    project_files: tuple[tuple[str, KeyPath], ...] = ()
    form_hooks: FormHooks | None = None
    per_folder: PerFolder | None = None
    inbox: Inbox | None = None
    health: Health | None = None
    start: Start | None = None
    sight: Record | None = None
    quiet: Mapping[str, str] = msgspec.field(default_factory=dict)
    silent: str = ""
    quirks: tuple[str, ...] = ()

    @property
    def on_path(self) -> tuple[str, ...]:
        """What may be on PATH where this host is installed."""
        return (*self.programs, *self.editors)

    def entry_for(self, key_path: KeyPath, shim: Shim) -> dict[str, Any]:
        """Our entry for the table at `key_path`: of a layout if that is one, else the usual."""
        return self.layouts.get(key_path, self.entry)(shim)


def this_system() -> System:
    """Which of the systems that hosts' files are listed for this is."""
    return "macos" if sys.platform == "darwin" else "linux"


class UnknownHost(Exception):
    """No host answers to that name."""


_VARIABLE: Final = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


def same_everywhere(*templates: str) -> dict[System, tuple[str, ...]]:
    """The same files on every system."""
    return {"linux": templates, "macos": templates}


def candidates(host: Host, system: System, env: Mapping[str, str]) -> list[Path]:
    """The files that may hold this host's servers, the host's own choice first; at least one. Looks at nothing, so it
    leaves out those whose template has a `*`."""
    paths = [expand(template, env) for template in host.files[system]]
    return [path for path in paths if path is not None and "*" not in path.parts]


def expand(template: str, env: Mapping[str, str]) -> Path | None:
    """A template as an absolute path; `None` when it needs a variable that is not set."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        found = env.get(match[1]) or match[2]
        missing = missing or found is None
        return found or ""

    text = _VARIABLE.sub(value, template)
    if missing:
        return None
    if text.startswith("~/"):
        text = (env.get("HOME") or str(Path.home())) + text[1:]
    return Path(text)


def first(templates: Sequence[str], env: Mapping[str, str]) -> Path | None:
    """The first of these templates that can be expanded, as an absolute path; `None` when none can."""
    return next((path for each in templates if (path := expand(each, env)) is not None), None)
