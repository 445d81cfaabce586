"""TOML: where an entry goes, and that nothing else in the file moves."""

from __future__ import annotations

import tomllib
from typing import Any, Final

import pytest

from configs.document import EditRefused, Reason, Rules
from tests.support.settings_files import append, created_depth, discard, entry_at, put, take

RULES: Final = Rules("toml", comments=True, trailing_commas=False, bom=True)
AT: Final = ("mcp_servers", "parler")
ENTRY: Final[dict[str, Any]] = {"command": "/a b/pythön", "args": ["-I", "x"], "env": {"A": "1"}}
OURS: Final = '[mcp_servers.parler]\ncommand = "/a b/pythön"\nargs = ["-I", "x"]\n\n[mcp_servers.parler.env]\nA = "1"\n'
PLACES: Final = {
    "an empty file": ("", OURS),
    "after the last of its kind": (
        "# top\n[mcp_servers.a] # a\nx = 1 # keep\n\n# next\n[tui]\ny = 1\n",
        f"# top\n[mcp_servers.a] # a\nx = 1 # keep\n\n{OURS}\n# next\n[tui]\ny = 1\n",
    ),
    "at the end": ("a = 1\n", f"a = 1\n\n{OURS}"),
    "at the end without a line break": ("a = 1", f"a = 1\n\n{OURS}".rstrip("\n")),
    "between tables without a gap": (
        "[mcp_servers.a]\nx = 1\n[tui]\ny = 1\n",
        f"[mcp_servers.a]\nx = 1\n{OURS}\n[tui]\ny = 1\n",
    ),
    "in an inline table": (
        "mcp_servers = { a = { x = 1 } } # all\n",
        'mcp_servers = { a = { x = 1 }, parler = { command = "/a b/pythön", args = ["-I", "x"], '
        'env = { A = "1" } } } # all\n',
    ),
    "among dotted keys": (
        "mcp_servers.a.x = 1\nz = 1\n",
        'mcp_servers.a.x = 1\nmcp_servers.parler = { command = "/a b/pythön", args = ["-I", "x"], '
        'env = { A = "1" } }\nz = 1\n',
    ),
    "past what only looks like a table": (
        '[mcp_servers.a]\nx = """\n[tui]\n"""\ny = [\n  1, # one\n  [2],\n]\n',
        f'[mcp_servers.a]\nx = """\n[tui]\n"""\ny = [\n  1, # one\n  [2],\n]\n\n{OURS}',
    ),
    "comments only": ("# hi\n", f"# hi\n\n{OURS}"),
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


def test_mixed_line_breaks_and_a_byte_order_mark_stay_as_they_were() -> None:
    before = b'\xef\xbb\xbfa = 1\r\n[mcp_servers.a]\nx = 1\r\n\r\n[tui]\r\ny = "z"\n'
    new = put(before, RULES, AT, ENTRY)
    at = before.index(b"[tui]") - 2
    assert new.startswith(before[:at])
    assert new.endswith(before[at:])
    assert take(new, RULES, AT) == before


def test_a_changed_entry_keeps_its_comments_and_what_is_the_same() -> None:
    before = b'[mcp_servers.parler] # mine\ncommand = "old" # why\nargs = [ "-I","x" ]\nold = 1\nenabled = false\n'
    new = put(before, RULES, AT, {"command": "new", "args": ["-I", "x"], "enabled": False, "t": 5})
    assert new == (b'[mcp_servers.parler] # mine\ncommand = "new" # why\nargs = [ "-I","x" ]\nenabled = false\nt = 5\n')


def test_hooks_are_tables_of_a_list_and_go_one_by_one() -> None:
    at = ("hooks", "Stop")
    hook = {"hooks": [{"type": "command", "command": "x"}]}
    for before in (
        b"",
        b"a = 1\n",
        b"[[hooks.Stop]]\na = 1\n[[hooks.Stop.hooks]]\nb = 1\n\n[z]\n",
        b"hooks = { Stop = [] }\n",
        b"[hooks]\nStop = [\n  { a = 1 }, # one\n]\n",
        b"[hooks]\nx = 1\n",
    ):
        had = entry_at(before, RULES, at)
        new = append(before, RULES, at, hook)
        assert tomllib.loads(new.decode())["hooks"]["Stop"] == [*(had or []), hook]
        assert append(new, RULES, at, hook) == new
        prune = 0 if had is not None else 1 + created_depth(before, RULES, at)
        assert discard(new, RULES, at, hook, prune=prune) == before


REFUSED: Final[dict[str, tuple[bytes, Reason, int | None]]] = {
    "a number as table": (b"mcp_servers = 3", "wrong_type", None),
    "a list of tables as table": (b"[[mcp_servers]]\na = 1", "wrong_type", None),
    "not valid": (b"a = 1\nb = \n", "unreadable", 2),
    "cut off": (b'a = "', "unreadable", 1),
    "a table twice": (b"[mcp_servers.parler]\na = 1\n[b]\n[mcp_servers.parler]\n", "duplicate_key", 4),
    "utf-16": ("a = 1".encode("utf-16"), "encoding", 1),
    "too deep": (b"a = " + b"[" * 300 + b"]" * 300, "too_deep", 1),
    "too deep by dots": (b"a" + b".a" * 400 + b" = 1", "too_deep", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_its_host_could_not_read_is_refused(name: str) -> None:
    data, reason, line = REFUSED[name]
    with pytest.raises(EditRefused) as refused:
        put(data, RULES, AT, ENTRY)
    assert (refused.value.reason, refused.value.line) == (reason, line)


def test_both_lines_of_a_table_that_is_there_twice_are_named() -> None:
    with pytest.raises(EditRefused, match="lines 1 and 4"):
        entry_at(REFUSED["a table twice"][0], RULES, AT)


@pytest.mark.parametrize(
    "before",
    [
        b'[a]\nb = "x"\n',
        b"# only this\n",
        b"a = 1\n\n[z]\nb = 1\n",
        b"[permission]\n",
        b"[permission] # mine\n",
        b"[permission]\n# to come\n",
        b'[permission]\ndeny = ["x"]\n',
        b"[permission]\n[permission.more]\na = 1\n",
    ],
)
def test_a_list_and_the_table_that_was_made_for_it_go_together(before: bytes) -> None:
    path = ("permission", "allow")
    depth = created_depth(before, RULES, path)
    new = before
    for value in ("A", "B"):
        new = append(new, RULES, path, value)
    for value in ("B", "A"):
        new = discard(new, RULES, path, value, prune=1 + depth)
    assert new == before


NEWER: Final = Rules("toml", comments=True, trailing_commas=True, bom=True)


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize(
    ("before", "value"),
    [
        ('env = {\n  A = "1",   # note\n  B = "2",\n}\n', {"A": "1", "B": "2"}),
        ('env = { A = ["x", # in a list\n], }\n', {"A": ["x"]}),
        ("env = {\n}\n", {}),
        ('env = {\n  # } not the end, "\n  A = { B = "#,\\"}", },\n}\n', {"A": {"B": '#,"}'}}),
        ('env = "\\x41\\e\\\\x41"\n', "A\x1b\\x41"),
        ('env = """\n\\x41, # {\n"""\n', "A, # {\n"),
    ],
)
def test_what_only_the_newer_language_has_is_read_where_the_host_reads_it_and_stays_as_it_was(
    before: str, value: object, ending: str
) -> None:
    data = ("# mine\n[mcp_servers.alpha]\n" + before).replace("\n", ending).encode()
    found = entry_at(data, NEWER, ("mcp_servers", "alpha", "env"))
    assert found == value or str(found).replace("\r\n", "\n") == value
    new = put(data, NEWER, AT, ENTRY)
    assert new.startswith(data)
    assert entry_at(new, NEWER, AT) == ENTRY
    assert put(new, NEWER, AT, ENTRY) == new
    assert take(new, NEWER, AT) == data
    with pytest.raises(EditRefused):
        put(data, RULES, AT, ENTRY)


@pytest.mark.parametrize("text", ["env = { A = 1,, }\n", "env = { , }\n", 'env = "\\x4"\n', "env = {\n", "a = [1,,]\n"])
def test_what_no_language_has_is_refused_with_its_place_in_the_file(text: str) -> None:
    with pytest.raises(EditRefused) as refused:
        put(text.encode(), NEWER, AT, ENTRY)
    assert (refused.value.reason, refused.value.line is not None) == ("unreadable", True)


def test_an_entry_in_a_newer_inline_table_is_changed_in_place() -> None:
    before = b'mcp_servers = {\n  a = { command = "x" }, # keep\n}\n'
    new = put(before, NEWER, AT, {"command": "y"})
    assert entry_at(new, NEWER, AT) == {"command": "y"}
    assert b"# keep" in new
    assert take(new, NEWER, AT) == before


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 30_000 + " = 1",
        '"a"' + ' . "a"' * 30_000 + " = 1",
        "[a" + ".a" * 30_000 + "]",
        "[[a" + ".'a'" * 30_000 + "]]",
        "ok = 1\nx = { a" + ".a" * 30_000 + " = 1 }",
        "a" + ".a" * 30_000,
    ],
)
def test_a_key_of_thousands_of_parts_is_refused_before_it_is_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The standard library's parser takes time with the square of the parts.
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(EditRefused) as refused:
        entry_at(text.encode(), RULES, AT)
    assert refused.value.reason == "too_deep"


def test_dots_in_text_and_in_many_short_keys_are_no_long_key() -> None:
    text = 'a = "' + "a." * 500 + '"\n# ' + "." * 500 + "\n" + "".join(f"k{n}.a = 1.5\n" for n in range(200))
    assert entry_at(text.encode(), RULES, AT) is None
