"""JSON and JSONC: where an entry goes, how it looks there, and what is left alone."""

from __future__ import annotations

from typing import Any, Final

import pytest

from configs.document import EditRefused, Reason, Rules
from tests.support.settings_files import append, created_depth, discard, entry_at, put, take

STRICT: Final = Rules("json", comments=False, trailing_commas=False, bom=True)
NOTED: Final = Rules("jsonc", comments=True, trailing_commas=False, bom=False)
LOOSE: Final = Rules("jsonc", comments=True, trailing_commas=True, bom=True)
AT: Final = ("servers", "parler")
ENTRY: Final[dict[str, Any]] = {"command": "/a b/py", "args": ["-I", "x"], "env": {}}
TWO: Final = '{\n    "command": "/a b/py",\n    "args": ["-I", "x"],\n    "env": {}\n  }'

LOOKS: Final = {
    "an empty file": ("", '{\n  "servers": {\n    "parler": {"x": 1}\n  }\n}\n'),
    "blanks only": (" \n", ' \n{\n  "servers": {\n    "parler": {"x": 1}\n  }\n}\n'),
    "an empty object": ("{}", '{\n  "servers": {\n    "parler": {"x": 1}\n  }\n}'),
    "one line": (
        '{ "servers": { "a": 1 }, "z": 2 }',
        '{ "servers": { "a": 1,\n  "parler": {"x": 1} }, "z": 2 }',
    ),
    "tabs and no end": (
        '{\n\t"servers": {\n\t\t"a": 1\n\t}\n}',
        '{\n\t"servers": {\n\t\t"a": 1,\n\t\t"parler": {"x": 1}\n\t}\n}',
    ),
    "four blanks, new table": (
        '{\n    "a": {\n        "b": 1\n    }\n}\n',
        '{\n    "a": {\n        "b": 1\n    },\n    "servers": {\n        "parler": {"x": 1}\n    }\n}\n',
    ),
    "windows": (
        '{\r\n  "servers": {\r\n    "a": 1\r\n  }\r\n}\r\n',
        '{\r\n  "servers": {\r\n    "a": 1,\r\n    "parler": {"x": 1}\r\n  }\r\n}\r\n',
    ),
    "a comment after the last": (
        '{\n  "servers": {\n    "a": 1 // one,\n    /* two } */\n  }\n}\n',
        '{\n  "servers": {\n    "a": 1, // one,\n    /* two } */\n    "parler": {"x": 1}\n  }\n}\n',
    ),
    "a comma at the end": (
        '{\n  "servers": {\n    "a": 1, // one\n  },\n}\n',
        '{\n  "servers": {\n    "a": 1, // one\n    "parler": {"x": 1},\n  },\n}\n',
    ),
    "comments only": (
        '{\n  "servers": {\n    // none\n  }\n}\n',
        '{\n  "servers": {\n    // none\n    "parler": {"x": 1}\n  }\n}\n',
    ),
    "a file of comments": ("// hi", '// hi\n{\n  "servers": {\n    "parler": {"x": 1}\n  }\n}'),
    "marks in strings": (
        '{"servers": {"a": "// } /* \\" ,]"}}',
        '{"servers": {"a": "// } /* \\" ,]",\n  "parler": {"x": 1}}}',
    ),
    "numbers and surrogates": (
        '{"big": 123456789012345678901234567890, "f": 1.0, "e": 1E5, "s": "\\ud800\\u00e9", "servers": {}}',
        '{"big": 123456789012345678901234567890, "f": 1.0, "e": 1E5, "s": "\\ud800\\u00e9", "servers": {\n'
        '  "parler": {"x": 1}\n}}',
    ),
}


@pytest.mark.parametrize("name", LOOKS)
def test_an_entry_follows_the_look_of_the_file_and_goes_without_a_trace(name: str) -> None:
    before, after = LOOKS[name]
    # A list of scalars stands on one line, so that the table shows what is around it.
    wanted = after.replace('{"x": 1}', '["x", 1]')
    new = put(before.encode(), LOOSE, AT, ["x", 1])
    assert new.decode() == wanted
    assert put(new, LOOSE, AT, ["x", 1]) == new
    assert take(new, LOOSE, AT, prune=created_depth(before.encode(), LOOSE, AT)) == before.encode()


def test_an_entry_has_its_own_lines_and_its_lists_one() -> None:
    new = put(b'{\n  "servers": {}\n}\n', STRICT, ("parler",), ENTRY)
    assert new.decode() == '{\n  "servers": {},\n  "parler": ' + TWO + "\n}\n"


def test_a_changed_entry_keeps_its_comments_and_what_is_the_same() -> None:
    before = b'{"servers": {"parler": {\n  "command": "old", // mine\n  "args": [ "-I","x" ], "z": 1 }}}'
    new = put(before, LOOSE, AT, {"command": "/a b/py", "args": ["-I", "x"]})
    assert new == b'{"servers": {"parler": {\n  "command": "/a b/py", // mine\n  "args": [ "-I","x" ] }}}'


def test_one_and_true_and_one_point_zero_are_three_values() -> None:
    assert put(b'{"a": 1}', STRICT, ("a",), True) == b'{"a": true}'
    assert put(b'{"a": 1.0}', STRICT, ("a",), 1) == b'{"a": 1}'


def test_a_dot_in_a_key_is_part_of_the_key() -> None:
    before = b'{"amp.mcpServers": {"a": 1}, "amp": {"mcpServers": 3}}'
    new = put(before, LOOSE, ("amp.mcpServers", "parler"), 2)
    assert entry_at(new, LOOSE, ("amp.mcpServers",)) == {"a": 1, "parler": 2}
    assert entry_at(new, LOOSE, ("amp",)) == {"mcpServers": 3}


def test_what_is_taken_out_leaves_the_comments_around_it() -> None:
    before = b'{\n  // a\n  "x": 1, // b\n  // c\n  "parler": 2, // d\n  "z": 3\n}'
    assert take(before, LOOSE, ("parler",)) == b'{\n  // a\n  "x": 1, // b\n  // c\n   // d\n  "z": 3\n}'


def test_a_table_with_a_comment_in_it_stays_when_it_is_empty() -> None:
    before = b'{"servers": {\n  // keep\n  "parler": 1\n}}'
    assert take(before, LOOSE, AT, prune=2) == b'{"servers": {\n  // keep\n}}'


def test_a_byte_order_mark_stays() -> None:
    new = put(b"\xef\xbb\xbf{}", LOOSE, AT, 1)
    assert new.startswith(b"\xef\xbb\xbf{")
    assert take(new, LOOSE, AT, prune=1) == b"\xef\xbb\xbf{}"


REFUSED: Final[dict[str, tuple[bytes, Rules, Reason, int | None, int | None]]] = {
    "a comment in strict JSON": (b'{\n  "a": 1 // x\n}', STRICT, "host_cannot_read", 2, 10),
    "a comma too many": (b'{\n  "a": [1,],\n  "b": 1\n}', NOTED, "host_cannot_read", 2, 10),
    "a byte order mark": (b"\xef\xbb\xbf{}", NOTED, "host_cannot_read", 1, 1),
    "utf-16": ('{"a": 1}'.encode("utf-16"), LOOSE, "encoding", 1, 1),
    "a nul": (b'{"a": "\0"}', LOOSE, "encoding", 1, 1),
    "latin-1": (b'{\n"a": "\xe9"}', LOOSE, "encoding", 2, 7),
    "our table twice": (b'{"servers": {},\n "b": 1,\n "servers": {}}', LOOSE, "duplicate_key", 3, 2),
    "our entry twice": (b'{"servers": {"parler": 1,\n "parler": 1}}', LOOSE, "duplicate_key", 2, 2),
    "a list as table": (b'{"servers": []}', LOOSE, "wrong_type", None, None),
    "a text as table": (b'{"servers": "x"}', LOOSE, "wrong_type", None, None),
    "null as table": (b'{"servers": null}', LOOSE, "wrong_type", None, None),
    "a list": (b"\n []", LOOSE, "not_an_object", 2, 2),
    "a text": (b'"x"', LOOSE, "not_an_object", 1, 1),
    "null": (b"null", LOOSE, "not_an_object", 1, 1),
    "cut off": (b'{"a": {"b": 1', LOOSE, "unreadable", 1, 14),
    "an open string": (b'{"a": "b', LOOSE, "unreadable", 1, 7),
    "an open comment": (b'{"a": 1} /* b', LOOSE, "unreadable", 1, 10),
    "more behind it": (b'{"a": 1}\n{}', LOOSE, "unreadable", 2, 1),
    "single quotes": (b"{'a': 1}", LOOSE, "unreadable", 1, 2),
    "no comma": (b'{"a": 1 "b": 2}', LOOSE, "unreadable", 1, 9),
    "only a comma": (b'{"a": [,]}', LOOSE, "unreadable", 1, 8),
    "two commas": (b'{"a": [1,,]}', LOOSE, "unreadable", 1, 10),
    "no number": (b'{"a": NaN}', LOOSE, "unreadable", 1, 7),
    "too deep": (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", LOOSE, "too_deep", 1, 205),
    "a bomb": (b"[" * 1_000_000, LOOSE, "too_deep", 1, 201),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_its_host_could_not_read_is_refused_with_the_place(name: str) -> None:
    data, rules, reason, line, column = REFUSED[name]
    for edit in (
        lambda: put(data, rules, AT, ENTRY),
        lambda: take(data, rules, AT),
        lambda: append(data, rules, AT, 1),
        lambda: discard(data, rules, AT, 1),
        lambda: entry_at(data, rules, AT),
    ):
        with pytest.raises(EditRefused) as refused:
            edit()
        assert (refused.value.reason, refused.value.line, refused.value.column) == (reason, line, column)
        assert line is None or reason == "encoding" or f"{line}" in str(refused.value)


def test_both_lines_of_a_key_that_is_there_twice_are_named() -> None:
    with pytest.raises(EditRefused, match="lines 1 and 3"):
        entry_at(b'{"servers": {},\n "b": 1,\n "servers": {}}', LOOSE, AT)


def test_a_refusal_never_shows_what_is_in_the_file() -> None:
    with pytest.raises(EditRefused) as refused:
        entry_at(b'{"token": "s3cret" "x"}', LOOSE, AT)
    assert "s3cret" not in str(refused.value)


def test_a_list_gets_one_element_once_and_gives_it_back() -> None:
    for before in (
        b'{"hooks": {"Stop": [{"a": 1}]}}',
        b'{\n  "hooks": {\n    "Stop": [\n      {"a": 1}, // one\n    ],\n  },\n}\n',
        b'{"hooks": {"Stop": []}}',
        b'{"hooks": {}}',
        b"{}",
        b"",
    ):
        at = ("hooks", "Stop")
        had = entry_at(before, LOOSE, at)
        prune = 0 if had is not None else 1 + created_depth(before, LOOSE, at)
        new = append(before, LOOSE, at, ENTRY)
        assert entry_at(new, LOOSE, at) == [*(had or []), ENTRY]
        assert append(new, LOOSE, at, ENTRY) == new
        assert discard(new, LOOSE, at, ENTRY, prune=prune) == before


def test_every_element_that_is_equal_goes() -> None:
    assert discard(b'{"a": [1, 2, 1, 3, 1]}', LOOSE, ("a",), 1) == b'{"a": [ 2, 3]}'
    assert discard(b'{"a": [1, 1]}', LOOSE, ("a",), 1, prune=1) == b"{}"
