"""What the record of an agent host looks like, as data: where it is, which lines of it are results of tools and which
are replies of the model, and what ends a proof.

A description is a `Record`, one for each host that was measured. A host that is new needs data and no code. Each entry
of a record is a JSON object: a line of a file (`lines`), a row of a database (`rows`), or an element of a list in one
document (`document`). What is true of an entry is said by paths into it.

Not here: the descriptions (`configs.hosts`), what follows from the entries (`judge`), files (`parlerd.sight`). Above:
all of these. Below: nothing. Invariant: no entry, whatever is in it, makes anything here raise, recurse, or take longer
than its own size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

Scalar = str | int | bool
Path = str
"""Where values stand in an entry: names with dots between them, such as `payload.type`. `name[]` stands for each
element of the list `name`, and `name[type=text]` for each element whose `type` is the string `text`. An empty path is
the entry itself."""
MAX_NODES: Final = 20_000
"""Of one value, at most this many strings, lists and objects are looked at. A result of ours is one to three of them; a
result with a thousand times as many is no result of ours."""
_VARIABLE: Final = re.compile(r"\$\{([A-Z_]+)")
_STEP: Final = re.compile(r"([^.\[\]]+)(?:\[(?:([^=\[\]]+)=([^\[\]]*))?\])?")
_Step = tuple[str, bool, str, str]
"""A name, whether it stands for each element of a list, and the name and value that an element must have."""


class Test(msgspec.Struct, frozen=True):
    """One thing that is so of an entry: at `path` stands one of `values`, or anything that says something when there
    are none: not null, false, empty or missing."""

    __test__ = False  # pytest takes every class of this name for one of its own

    path: Path
    values: tuple[Scalar, ...] = ()

    def holds(self, entry: Any) -> bool:
        """Whether it is so."""
        found = at(entry, self.path)
        if not self.values:
            return any(value is not False and (value == 0 or bool(value)) for value in found)
        return any(_same(value, wanted) for value in found for wanted in self.values)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of entry: all of `has` are so, and none of `lacks`. `name` is our own word for it, which a verdict quotes
    as its evidence."""

    name: str
    has: tuple[Test, ...]
    lacks: tuple[Test, ...] = ()

    def fits(self, entry: Any) -> bool:
        """Whether an entry is of this kind."""
        return all(test.holds(entry) for test in self.has) and not any(test.holds(entry) for test in self.lacks)


class Result(Kind, frozen=True, kw_only=True):
    """Results of tools, as the host gives them to its model.

    `each` leads to the results in an entry, which may hold several. In one of them, `call` leads to the id of the call
    and `text` to the field that the model gets, and to no copy of it that the model does not get. With `nested`, the
    text is JSON that holds ours as one of its strings. With `wraps`, the result is that of code, which may itself have
    called our tool under an id of its own: such a result is ours also where the id of the call is another one than that
    with which the host called us. `whole_below` is for a host that cuts after it has written its
    record: a text of that many characters or more may have been cut, which the record does not show.
    """

    each: Path = ""
    call: Path = ""
    text: Path
    nested: bool = False
    wraps: bool = False
    whole_below: int = 0


class Opening(Kind, frozen=True, kw_only=True):
    """An entry that a host writes as it sends a request to its model. `id` leads to the request's id in it."""

    id: Path


class Reply(Kind, frozen=True, kw_only=True):
    """Entries that a reply of the model produced. What must also be so, where it is said:

    `opened` leads to the id of the request that was answered, and an `Opening` with that id stands after the result.
    `differs` leads to an id which is another one than `calling` leads to in the entry that made the call, a `Call`.
    `at_least` leads to a number which is not below the one that `result_at` leads to in the result's entry.
    """

    opened: Path = ""
    differs: Path = ""
    at_least: Path = ""


class Call(Kind, frozen=True, kw_only=True):
    """An entry in which the model calls tools. `calls` leads to the ids of the calls, `id` to the id of the reply."""

    calls: Path
    id: Path


class Ending(Kind, frozen=True, kw_only=True):
    """What ends a proof: after it, a reply proves nothing about a result that stood before it.

    `then` says what becomes of a result that it ends. `over`: the conversation does not hold the result any more.
    `stays`: the next request holds the result again, so that a later reply still proves that it was shown. `returns`:
    the conversation was written anew without the result, or is about to be, and may be once more with it; there is no
    verdict before the next reply.

    A compaction may spare results. `kept` leads to the ids of the entries that the host keeps as they are, where it
    makes the conversation go on from the entry of the compaction. A summary that takes time, or leaves the end of a
    conversation alone, names an entry: `upto` leads to the id of the last one that is gone, `since` to that of the
    first one that is kept, and `at` leads to these ids in the entries themselves. What came after the last one that is
    gone is kept, with `read` only where that one was read; with `since`, ids have to grow, as those of `Rows` do.
    """

    verdict: Literal["summarised", "not_shown", "unknown"]
    reason: Literal["compacted", "failed_request", "cancelled", "rolled_back", "unrecognised", "compacting"]
    then: Literal["over", "stays", "returns"] = "over"
    kept: Path = ""
    upto: Path = ""
    since: Path = ""
    at: Path = ""
    read: bool = False


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """How entries follow one another where a conversation can branch. `id` leads to an entry's id, `parent` to that of
    the entry before it. `caller` leads, in the entry of a result, to the id of the entry that made the call: results of
    parallel calls are no ancestors of the reply to them, and their callers are."""

    id: Path
    parent: Path
    caller: Path = ""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """A database of SQLite in which a message and its parts are rows. Both tables have `id`, `session_id`, and the JSON
    `data`; ids grow. `parts` has `message_id` as well. An entry is `{"session", "of", "id", "message", "part"}`: the
    session, the id of the message, that of the part, and the JSON of both rows, in the order of the ids. `id` and
    `part` are null for a message that has no part yet."""

    messages: str
    parts: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A document beside another one, which says what took the place of the older entries: a summary, and what is kept.

    `file` is how its name ends where the name of the other document ends in `of`. `last` leads to the id of the last
    entry that it stands for, with `mark` before it, and `id` to the id of an entry. It is one more entry behind that
    one.
    """

    of: str
    file: str
    last: Path
    mark: str
    id: Path


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one host.

    `versions` are those for which all of this was measured. `folders` are templates of the folder that holds the
    records, with `~` and `${NAME}` as in `configs.model`; the first that can be expanded counts. `files` are patterns
    of paths below it, in which `*` stands for anything within one name. `form` says what a file is; `rows` says more of
    a database, `list` leads to the entries of a document, and `summary` says what may stand beside it. `call_meta` is
    the field of a call's `_meta` with the id under which the record has the call.

    `results`, `replies`, `endings` and `harmless` say what each entry is, `endings` first. An entry that none of them
    fits ends every proof in its file as `unknown`: so a host that begins to record something new is believed nothing.
    Entries of one conversation have the same at each of `conversation`. `version` leads to the host's version in the
    entry of a result, or in a document as a whole. `clients` is what a host says of its version in `clientInfo` where
    that is not the release: then the record has to say the release. `anonymous` says of a host that it tells its
    release in neither place, so that nothing is proved of whatever release runs. `blinded_by` are environment variables
    of the host with which it gives its model something else than its record says: where one is set, nothing is proved.
    """

    versions: tuple[str, ...]
    folders: tuple[str, ...]
    files: tuple[str, ...]
    form: Literal["lines", "rows", "document"] = "lines"
    rows: Rows | None = None
    list: Path = ""
    summary: Summary | None = None
    call_meta: str = ""
    version: Path = ""
    clients: tuple[str, ...] = ()
    anonymous: bool = False
    blinded_by: tuple[str, ...] = ()
    conversation: tuple[Path, ...] = ()
    chain: Chain | None = None
    calls: tuple[Call, ...] = ()
    openings: tuple[Opening, ...] = ()
    results: tuple[Result, ...]
    result_at: Path = ""
    replies: tuple[Reply, ...]
    endings: tuple[Ending, ...] = ()
    harmless: tuple[Kind, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables of the host that say where its records are, and what they are worth."""
        named = [name for folder in self.folders for name in _VARIABLE.findall(folder)]
        return tuple(dict.fromkeys((*named, *self.blinded_by)))


# -- looking into an entry -------------------------------------------------------------------------------------


def at(entry: Any, path: Path) -> list[Any]:
    """The values at a path, none where nothing stands there."""
    found = [entry]
    for name, each, key, value in _steps(path):
        found = [one[name] for one in found if isinstance(one, dict) and name in one]
        if each:
            found = [one for many in found if isinstance(many, list) for one in many]
            if key:
                found = [one for one in found if isinstance(one, dict) and one.get(key) == value]
    return found


def one(entry: Any, path: Path) -> Scalar | None:
    """The one string, number or boolean at a path; `None` where there is none, or more than one."""
    found = at(entry, path) if path else []
    if len(found) != 1:
        return None
    value = found[0]
    return value if isinstance(value, str | int | bool) else None


def texts(value: Any) -> Iterator[str]:
    """The strings in a value, in order, of at most `MAX_NODES` values; keys of objects are none."""
    left = [value]
    for _ in range(MAX_NODES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left += reversed(value[:MAX_NODES])
        elif isinstance(value, dict):
            left += reversed(list(value.values())[:MAX_NODES])


_PARSED: Final[dict[Path, tuple[_Step, ...]]] = {}
"""Paths as steps. There are as many as descriptions have."""


def _steps(path: Path) -> tuple[_Step, ...]:
    known = _PARSED.get(path)
    if known is None:
        known = _PARSED[path] = tuple(_parsed(path))
    return known


def _parsed(path: Path) -> Iterator[_Step]:
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (match.end() < len(path) and path[match.end()] != "."):
            raise ValueError(f"{path!r} is no path into an entry")
        yield match[1], match[0].endswith("]"), match[2] or "", match[3] or ""
        position = match.end() + 1


_AFTERWARDS: Final = (("stays", "not_shown"), ("returns", "not_shown"), ("returns", "summarised"))
"""What may follow on an ending, with the verdicts of which something may follow."""


def check(record: Record) -> None:
    """Raise `ValueError` for a description that cannot be meant: a path that is none, or a rule that leans on something
    which is not said."""
    for path in _paths(record):
        _steps(path)
    if (record.form == "rows" and record.rows is None) or (record.form == "document" and not record.list):
        raise ValueError("a description says where the entries are")
    if record.summary is not None and (
        record.form != "document" or not all(name.endswith(record.summary.of) for name in record.files)
    ):
        raise ValueError("nothing says beside which document a summary stands")
    if record.clients and not record.version:
        raise ValueError("nothing says which release of the host wrote the record")
    for ending in record.endings:
        names = bool(ending.upto) + bool(ending.since)
        # Without a chain, what stands before a result is read only where it is looked for.
        if names != bool(ending.at) or ((ending.kept or ending.read) and record.chain is None):
            raise ValueError(f"{ending.name}: nothing says what it spares")
        if ending.then != "over" and (ending.then, ending.verdict) not in _AFTERWARDS:
            raise ValueError(f"{ending.name}: it says nothing that a later reply could disprove")
    for reply in record.replies:
        if (reply.opened and not record.openings) or (reply.at_least and not record.result_at):
            raise ValueError(f"{reply.name}: nothing says what it is compared with")
        if reply.differs and not (record.calls and all(result.call for result in record.results)):
            raise ValueError(f"{reply.name}: nothing says which entry made the call")


def _paths(record: Record) -> Iterator[Path]:
    kinds: Sequence[Kind] = [
        *record.calls, *record.openings, *record.results, *record.replies, *record.endings, *record.harmless,
    ]  # fmt: skip
    for kind in kinds:
        yield from (test.path for test in (*kind.has, *kind.lacks))
    for call in record.calls:
        yield from (call.calls, call.id)
    yield from (opening.id for opening in record.openings)
    for result in record.results:
        yield from (result.each, result.call, result.text)
    for ending in record.endings:
        yield from (ending.kept, ending.upto, ending.since, ending.at)
    for reply in record.replies:
        yield from (reply.opened, reply.differs, reply.at_least)
    if record.chain is not None:
        yield from (record.chain.id, record.chain.parent, record.chain.caller)
    if record.summary is not None:
        yield from (record.summary.last, record.summary.id)
    yield from (record.list, record.version, record.result_at, *record.conversation)


def _same(value: Any, wanted: Scalar) -> bool:
    # True equals 1 in Python, and not in a record.
    return type(value) is type(wanted) and bool(value == wanted)
