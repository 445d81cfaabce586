"""YAML: where an entry goes, and that nothing else in the file moves."""

from __future__ import annotations

from typing import Any, Final

import pytest

from configs.document import EditRefused, Reason, Rules
from tests.support.settings_files import append, created_depth, discard, entry_at, put, take

RULES: Final = Rules("yaml", comments=True, trailing_commas=False, bom=True)
AT: Final = ("extensions", "parler")
ENTRY: Final[dict[str, Any]] = {"cmd": "/a b/pythön", "args": ["-I", "x"], "envs": {}, "enabled": True}
OURS: Final = '  parler:\n    cmd: "/a b/pythön"\n    args: ["-I", "x"]\n    envs: {}\n    enabled: true\n'
PLACES: Final = {
    "an empty file": ("", "extensions:\n" + OURS),
    "comments only": ("# hi\n", "# hi\nextensions:\n" + OURS),
    "no table yet": ("a: 1 # one\n# end\n", "a: 1 # one\n# end\nextensions:\n" + OURS),
    "no line break at the end": ("a: 1", "a: 1\n" + ("extensions:\n" + OURS).rstrip("\n")),
    "a table with nothing": ("extensions: # mine\nz: 1\n", f"extensions: # mine\n{OURS}z: 1\n"),
    "among others": (
        "extensions:\n  # first\n  a:\n    b: |\n      # text\n      more\n    # deep\n\n# next\nz: 'x # y'\n",
        f"extensions:\n  # first\n  a:\n    b: |\n      # text\n      more\n    # deep\n{OURS}\n# next\nz: 'x # y'\n",
    ),
    "marks of a document": ("---\na: 1\n...\n", f"---\na: 1\nextensions:\n{OURS}...\n"),
    "in braces": (
        "extensions: {a: 1} # all\n",
        'extensions: {a: 1, parler: {"cmd": "/a b/pythön", "args": ["-I", "x"], "envs": {}, "enabled": true}} # all\n',
    ),
    "in empty braces": (
        "extensions: {}\n",
        'extensions: {parler: {"cmd": "/a b/pythön", "args": ["-I", "x"], "envs": {}, "enabled": true}}\n',
    ),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("name", PLACES)
def test_an_entry_stands_beside_its_like_and_goes_without_a_trace(name: str, ending: str) -> None:
    before, after = (text.replace("\n", ending).encode() for text in PLACES[name])
    if ending.encode() not in before:
        after = after.replace(b"\r\n", b"\n")
    new = put(before, RULES, AT, ENTRY)
    assert new == after
    assert entry_at(new, RULES, AT) == ENTRY
    assert put(new, RULES, AT, ENTRY) == new
    assert take(new, RULES, AT, prune=created_depth(before, RULES, AT)) == before


def test_four_blanks_and_a_byte_order_mark_are_kept() -> None:
    before = b"\xef\xbb\xbfextensions:\n    a:\n        b: 1\n"
    new = put(before, RULES, AT, {"cmd": "x"})
    assert new == before + b'    parler:\n        cmd: "x"\n'
    assert take(new, RULES, AT) == before


def test_a_written_null_gives_way_to_the_table() -> None:
    assert put(b"extensions: null # none\n", RULES, AT, {"x": 1}) == b"extensions: # none\n  parler:\n    x: 1\n"


def test_a_changed_entry_keeps_its_comments_and_what_is_the_same() -> None:
    before = b"extensions:\n  parler:\n    cmd: old # why\n    args:\n    - -I\n    - x\n    enabled: false # mine\n"
    new = put(before, RULES, AT, {"cmd": "new", "args": ["-I", "x"], "enabled": False})
    assert new == before.replace(b"old", b'"new"')


def test_a_list_gets_one_element_once_and_loses_it_again() -> None:
    for before in (b"a:\n  - 1\n  - b: 2\n", b"a: [1]\n", b"a: []\n"):
        new = append(before, RULES, ("a",), {"x": 3})
        assert entry_at(new, RULES, ("a",)) == [*(entry_at(before, RULES, ("a",)) or []), {"x": 3}]
        assert append(new, RULES, ("a",), {"x": 3}) == new
        assert discard(new, RULES, ("a",), {"x": 3}) == before


REFUSED: Final[dict[str, tuple[bytes, Reason, int | None]]] = {
    "a list": (b"- a\n", "not_an_object", None),
    "a text": (b"hello\n", "not_an_object", None),
    "a list as table": (b"extensions: [a]\n", "wrong_type", None),
    "a tab": (b"extensions:\n\ta: 1\n", "unreadable", 2),
    "our table twice": (b"extensions:\n  a: 1\nextensions:\n  b: 1\n", "duplicate_key", 3),
    "our entry twice": (b"extensions:\n  parler: 1\n  parler: 2\n", "duplicate_key", 3),
    "our table behind an alias": (b"a: &x {b: 1}\nextensions: *x\n", "unverified", None),
    "our table with a name": (b"extensions: &x\n  b: 1\nz: *x\n", "unverified", None),
    "our entry behind an alias": (b"a: &x {b: 1}\nextensions:\n  parler: *x\n", "unverified", None),
    "an alias of what it stands in": (b"a: &x\n  b: *x\n", "unverified", None),
    "aliases that stand for billions": (
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b", ".join([b"*%c" % n] * 9)) for n in range(97, 105)),
        "too_large",
        None,
    ),
    "two documents": (b"a: 1\n---\nb: 1\n", "unreadable", 2),
    "utf-16": ("a: 1".encode("utf-16"), "encoding", 1),
    "too deep": (b"a: " + b"[" * 300 + b"]" * 300, "too_deep", None),
    "too large": (b"# " + b"x" * 256 * 1024, "too_large", None),
}


@pytest.mark.parametrize(
    "before",
    [
        b"x: &a\n  k: 1\nextensions:\n  z:\n    <<: *a\n    name: z\n",
        b"x: &a\n  k: 1\nextensions:\n  z: *a\n",
        b"x: &a [1, 2]\nextensions:\n  z:\n    args: *a\n# end\n",
        b"extensions:\n  z: &a\n    k: 1\nother:\n  - *a\n  - *a\n",
    ],
)
def test_an_alias_in_what_is_not_ours_is_no_reason_to_refuse(before: bytes) -> None:
    new = put(before, RULES, AT, ENTRY)
    assert entry_at(new, RULES, AT) == ENTRY
    assert put(new, RULES, AT, {**ENTRY, "enabled": False}) == new.replace(b"enabled: true", b"enabled: false")
    assert take(new, RULES, AT) == before
    assert OURS.encode() in new


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_edited_safely_is_refused(name: str) -> None:
    data, reason, line = REFUSED[name]
    with pytest.raises(EditRefused) as refused:
        put(data, RULES, AT, ENTRY)
    assert (refused.value.reason, refused.value.line) == (reason, line)


LISTED: Final = Rules("yaml", comments=True, trailing_commas=False, bom=True, lists=(("servers",),))
IN_LIST: Final = ("servers", "parler")
NAMED: Final[dict[str, Any]] = {"name": "parler", "command": "/x", "env": {"A": "1"}}
ELEMENT: Final = '  - name: "parler"\n    command: "/x"\n    env:\n      A: "1"\n'
LISTS: Final = {
    "no list yet": ("a: 1\n", "a: 1\nservers:\n" + ELEMENT),
    "an empty file": ("", "servers:\n" + ELEMENT),
    "a list with nothing": ("servers: []\n", 'servers: [{"name": "parler", "command": "/x", "env": {"A": "1"}}]\n'),
    "among others": (
        "servers:\n  - uses: a/b # one\n  - name: x\n    args:\n      - y\n    # of x\n  # of z\nz: 1\n",
        f"servers:\n  - uses: a/b # one\n  - name: x\n    args:\n      - y\n    # of x\n{ELEMENT}  # of z\nz: 1\n",
    ),
    "dashes below the key": (
        "servers:\n- name: x\nz: 1\n",
        'servers:\n- name: x\n- name: "parler"\n  command: "/x"\n  env:\n    A: "1"\nz: 1\n',
    ),
    "in brackets": (
        "servers: [{name: x}] # all\n",
        'servers: [{name: x}, {"name": "parler", "command": "/x", "env": {"A": "1"}}] # all\n',
    ),
    "two of one name that is not ours": (
        "servers:\n  - name: x\n  - name: x\n",
        f"servers:\n  - name: x\n  - name: x\n{ELEMENT}",
    ),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("name", LISTS)
def test_an_element_that_names_itself_is_put_and_taken_by_its_name(name: str, ending: str) -> None:
    before, after = (text.replace("\n", ending).encode() for text in LISTS[name])
    if ending.encode() not in before:
        after = after.replace(b"\r\n", b"\n")
    new = put(before, LISTED, IN_LIST, NAMED)
    assert new == after
    assert entry_at(new, LISTED, IN_LIST) == NAMED
    assert put(new, LISTED, IN_LIST, NAMED) == new
    assert take(new, LISTED, IN_LIST, prune=created_depth(before, LISTED, IN_LIST)) == before


def test_a_written_null_gives_way_to_the_list() -> None:
    assert put(b"servers: # mine\nz: 1\n", LISTED, IN_LIST, NAMED) == f"servers: # mine\n{ELEMENT}z: 1\n".encode()


def test_an_element_between_others_is_changed_and_taken_where_it_stands() -> None:
    before = b"servers:\n  - name: a\n  - name: parler # us\n    command: old # why\n    args: [x]\n  - name: c\n"
    new = put(before, LISTED, IN_LIST, {"name": "parler", "command": "new", "extra": True})
    assert new == (
        b'servers:\n  - name: a\n  - name: parler # us\n    command: "new" # why\n    extra: true\n  - name: c\n'
    )
    assert take(before, LISTED, IN_LIST) == b"servers:\n  - name: a\n  - name: c\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"servers:\n  parler: {}\n", "wrong_type"),
        (b"servers: text\n", "wrong_type"),
        (b"servers:\n  - name: parler\n  - name: parler\n", "duplicate_key"),
        (b"servers:\n  - name: parler\n    a: 1\n    a: 2\n", "duplicate_key"),
    ],
)
def test_a_list_that_cannot_be_read_by_names_is_refused(data: bytes, reason: Reason) -> None:
    with pytest.raises(EditRefused) as refused:
        put(data, LISTED, IN_LIST, NAMED)
    assert refused.value.reason == reason
