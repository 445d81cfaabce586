"""Whatever a settings file holds, an edit either comes back whole or is refused, and undoes to the byte."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any, Final

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from configs.document import EditRefused, Rules
from tests.support.settings_files import append, created_depth, discard, entry_at, put, take

JSON: Final = Rules("json", comments=False, trailing_commas=False, bom=True)
JSONC: Final = Rules("jsonc", comments=True, trailing_commas=False, bom=False)
LOOSE: Final = Rules("jsonc", comments=True, trailing_commas=True, bom=True)
TOML: Final = Rules("toml", comments=True, trailing_commas=False, bom=True)
YAML_RULES: Final = Rules("yaml", comments=True, trailing_commas=False, bom=True)
ALL: Final = (JSON, JSONC, LOOSE, TOML, YAML_RULES)

ENTRY: Final[dict[str, Any]] = {"command": "/opt/a b/pythön", "args": ["-I", "x\\y"], "env": {"A": "1"}, "timeout": 5}
HOOK: Final[dict[str, Any]] = {"hooks": [{"type": "command", "command": "x", "timeout": 5}]}
AT: Final = ("servers", "parler")
LIST: Final = ("hooks", "Stop")

SEEDS: Final = {
    "json": [
        b'{\n  "servers": {\n    "a": {"x": [1, 1.0, {}]}\n  },\n  "hooks": {"Stop": [{"a": 1}]}\n}\n',
        b'{"servers": {}, "z": "\\ud800 // no /* comment */"}',
        b'\t{\r\n\t"servers": { }\r\n}\r\n',
        b'{"servers": {"parler": {"command": "old", "args": []}}}',
        b'{"hooks": {"Stop": []}}\n',
        b"{}",
        b" \n",
    ],
    "jsonc": [
        b'// top\n{\n\t"servers": {\n\t\t"a": 1, // one\n\t\t/* two */ "b": 2 // last\n\t\t// end\n\t}, // after\n}\n',
        b'{ /* only */ }',
        b'{"servers": {"a": 1,}, "hooks": {"Stop": [ {"a": 1}, /* c */ ],},}',
        b'{\n  // nothing yet\n}\n// bye',
        b'{\n  "servers": {\n    // ours\n    "parler": {"command": "x", /* why */ "args": ["y",]}, // here\n  },\n}',
        b"// only this",
    ],
    "toml": [
        b'# top\na = 1\n\n[servers.x] # here\nb = """\n[no]\n"""\nc = [\n  1, # one\n]\n\n# tui\n[tui]\n'
        b"d = 1979-05-27\n",
        b"servers = { a = { x = 1 }, b = {} }\n[[hooks.Stop]]\na = 1\n[other]\n",
        b"servers.a.x = 1\r\n[servers.b]\r\ny = '''\r\n#'''\r\n[z]\r\n",
        b'[servers.parler]\ncommand = "old" # why\nargs = []\n[servers.parler.env]\nB = "2"\n'
        b"[[hooks.Stop]]\n[[hooks.Stop.hooks]]\n",
        b"[hooks]\nStop = [\n  { a = 1 }, # one\n]\n[servers]",
        b"hooks = {Stop = []}",
        b"# only",
        b"",
    ],
    "yaml": [
        b"# top\na: 1\nservers:\n  x:\n    b: |\n      # no comment\n      text\n  # end\n\n"
        b"hooks:\n  Stop:\n    - a: 1\n",
        b"servers: {a: 1, }\nhooks: {Stop: [1, 2]}\n",
        b"servers:\r\n    y:\r\n        z: 'it''s # not'\r\n        # deep\r\n",
        b"servers: # mine\nz: >-\n  folded\n\n",
        b"---\nservers:\n  parler:\n    command: old # why\n    args:\n    - a\nq: [\n 1]\n...\n",
        b"servers: ~\nhooks: null",
        b"# only",
        b"{}\n",
        b"",
    ],
}  # fmt: skip
PIECES: Final = [
    b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"=", b"#", b"//", b"/*", b"*/", b"\n", b"\r\n", b"\r", b" ", b"\t",
    b"\\", b'"servers"', b"servers", b"parler", b'"parler": 1,', b"[servers]\n", b"[[hooks.Stop]]\n", b"hooks", b"- ",
    b"\xef\xbb\xbf", b"\x00", b"\xff", b"&a ", b"*a", b"!!set ", b"|", b"---\n", b'"""', b"'''", b"null", b"1e999",
    b"\xc2\x85",
    b"\xe2\x80\xa8", b"<<: ", b"? ", b"%YAML 1.1\n", b"NaN", b".", b"{}", b"[]", b"servers: {}\n", b"servers:\n",
]  # fmt: skip
changes = st.lists(
    st.tuples(st.integers(0, 1 << 12), st.integers(0, 6), st.sampled_from(PIECES)), min_size=0, max_size=4
)


def mutated(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in edits:
        at %= len(data) + 1
        data = data[:at] + piece + data[at + length :]
    return data


def oracle(rules: Rules, data: bytes) -> Any:
    """What another reader makes of the result."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode()
    if rules.format == "toml":
        # Another reader than the editor's own.
        return tomlkit.parse(text).unwrap()
    if rules.format == "yaml":
        return YAML(typ="safe", pure=True).load(text) or {}
    string = r'("(?:[^"\\]|\\.)*")'
    text = re.sub(string + r"|//[^\n\r]*|/\*.*?\*/", lambda match: match[1] or " ", text, flags=re.DOTALL)
    text = re.sub(string + r"|,(?=\s*[}\]])", lambda match: match[1] or "", text)
    return json.loads(text) if text.strip() else {}


def at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if value is not None else None
    return value


def tried(edit: Callable[[], bytes]) -> bytes | None:
    """What an edit gives, `None` when it is refused; anything else that it raises is a failure."""
    with contextlib.suppress(EditRefused):
        return edit()
    return None


def check(data: bytes, rules: Rules) -> None:
    new = tried(lambda: put(data, rules, AT, ENTRY))
    if new is not None:
        assert at(oracle(rules, new), AT) == ENTRY
        assert entry_at(new, rules, AT) == ENTRY
        assert put(new, rules, AT, ENTRY) == new
        if entry_at(data, rules, AT[:1]) is not None or rules.format != "yaml":
            back = tried(lambda: take(new, rules, AT, prune=created_depth(data, rules, AT)))
            if entry_at(data, rules, AT) is None and not _has(data, rules):
                assert back == data
    gone = tried(lambda: take(data, rules, AT))
    if gone is not None:
        assert at(oracle(rules, gone), AT) is None
    more = tried(lambda: append(data, rules, LIST, HOOK))
    if more is not None:
        assert at(oracle(rules, more), LIST)[-1] == HOOK or append(data, rules, LIST, HOOK) == data
        assert append(more, rules, LIST, HOOK) == more
        had = entry_at(data, rules, LIST)
        prune = 0 if had is not None else 1 + created_depth(data, rules, LIST)
        less = tried(lambda: discard(more, rules, LIST, HOOK, prune=prune))
        if less is not None:
            assert HOOK not in (at(oracle(rules, less), LIST) or [])
            if more != data and rules.format != "yaml":
                assert less == data


def _has(data: bytes, rules: Rules) -> bool:
    """Whether the key is there with nothing for a value, which `entry_at` does not tell from absent."""
    table = entry_at(data, rules, AT[:1])
    return table is None or (isinstance(table, dict) and AT[1] in table)


@pytest.mark.parametrize("rules", ALL, ids=lambda rules: f"{rules.format}-{rules.trailing_commas}")
@settings(max_examples=60, deadline=None)
@given(data=st.data(), edits=changes)
def test_an_edit_of_a_damaged_file_is_whole_or_refused(rules: Rules, data: st.DataObject, edits: Any) -> None:
    seeds = [*SEEDS[rules.format], *(SEEDS["json"] if rules.format == "jsonc" else [])]
    check(mutated(data.draw(st.sampled_from(seeds)), edits), rules)


@pytest.mark.parametrize("rules", ALL, ids=lambda rules: f"{rules.format}-{rules.trailing_commas}")
@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=60))
def test_an_edit_of_any_bytes_is_whole_or_refused(rules: Rules, data: bytes) -> None:
    check(data, rules)
