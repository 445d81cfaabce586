"""Edits of settings files, whatever the language: what is true of all of them."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import document, jsonc
from configs.document import EditRefused, Rules
from configs.edit import Parsed, Splice
from configs.hosts import HOSTS
from configs.render import toml_table, yaml_lines
from tests.support.settings_files import created_depth, entry_at, put, take

FORMATS: Final = [
    Rules("json", comments=False, trailing_commas=False, bom=True),
    Rules("jsonc", comments=True, trailing_commas=True, bom=True),
    Rules("toml", comments=True, trailing_commas=False, bom=True),
    Rules("yaml", comments=True, trailing_commas=False, bom=True),
]
EVERY: Final = pytest.mark.parametrize("rules", FORMATS, ids=lambda rules: str(rules.format))
AT: Final = ("servers", "parler")

keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
scalars = st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
entries = st.dictionaries(keys, values, min_size=1, max_size=3)


def written(rules: Rules, whole: dict[str, Any]) -> bytes:
    if rules.format == "toml":
        return "\n\n".join(toml_table((key,), value) for key, value in whole.items()).encode()
    if rules.format == "yaml":
        return "\n".join(line for key, value in whole.items() for line in yaml_lines(key, value)).encode()
    return json.dumps(whole, indent=2).encode()


@EVERY
@settings(max_examples=40, deadline=None)
@given(others=st.dictionaries(keys, entries, max_size=2), value=entries, newer=entries)
def test_what_was_put_is_read_put_again_changed_and_taken_out(
    rules: Rules, others: dict[str, Any], value: dict[str, Any], newer: dict[str, Any]
) -> None:
    others = {key: each for key, each in others.items() if key != "servers"}
    before = written(rules, others)
    new = put(before, rules, AT, value)
    assert entry_at(new, rules, AT) == value
    assert {key: each for key, each in entry_at(new, rules, ()).items() if key != "servers"} == others  # type: ignore[union-attr]
    assert put(new, rules, AT, value) == new
    assert take(new, rules, AT, prune=created_depth(before, rules, AT)) == before
    # A value that turns from a table into something else may need lines that are somebody's to change.
    with contextlib.suppress(EditRefused):
        assert entry_at(put(new, rules, AT, newer), rules, AT) == newer


@EVERY
def test_nothing_is_read_and_nothing_taken_out_where_nothing_is(rules: Rules) -> None:
    assert entry_at(b"", rules, AT) is None
    assert entry_at(b"", rules, ()) == {}
    assert take(b"", rules, AT) == b""
    assert created_depth(b"", rules, AT) == (2 if rules.format in ("json", "jsonc") else 1)


@EVERY
def test_a_file_over_the_limit_is_refused(rules: Rules) -> None:
    with pytest.raises(EditRefused) as refused:
        put(b" " * (document.MAX_BYTES + 1), rules, AT, {})
    assert refused.value.reason == "too_large"


def test_an_edit_that_changed_something_else_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = jsonc.Text.set

    def careless(self: Parsed, path: tuple[str, ...], value: Any) -> list[Splice]:
        at = self.text.index("7")
        return [*honest(self, path, value), Splice(at, at + 1, "8")]  # type: ignore[arg-type]

    monkeypatch.setattr(jsonc.Text, "set", careless)
    with pytest.raises(EditRefused) as refused:
        put(b'{"a": 7, "servers": {}}', FORMATS[0], AT, 1)
    assert refused.value.reason == "unverified"


def test_an_edit_that_lost_a_comment_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = jsonc.Text.set

    def careless(self: Parsed, path: tuple[str, ...], value: Any) -> list[Splice]:
        at = self.text.index("/")
        return [*honest(self, path, value), Splice(at, at, "//")]  # type: ignore[arg-type]

    monkeypatch.setattr(jsonc.Text, "set", careless)
    with pytest.raises(EditRefused) as refused:
        put(b'{"servers": {} // a\n}', FORMATS[1], AT, 1)
    assert refused.value.reason == "unverified"


def test_every_hosts_rules_say_what_its_declaration_says() -> None:
    for host in HOSTS:
        rules = Rules.of(host)
        assert (rules.format, rules.trailing_commas, rules.bom) == (host.format, host.trailing_commas, host.bom)
        assert rules.comments == (host.format != "json")
