"""Paths into entries, kinds of entries, and descriptions that cannot be meant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.hosts import HOSTS
from parlerd.core import records
from parlerd.core.records import (
    Chain,
    Ending,
    Kind,
    Opening,
    Record,
    Reply,
    Result,
    Summary,
    Test,
    at,
    check,
    one,
    texts,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=20,
)
PATHS = st.sampled_from(("", "a", "a.b", "a[]", "a[].b", "a[b=c]", "a[b=c].a[].c", "a.a.a"))
SMALL = Record(
    versions=("1",),
    folders=("${HERE}/records", "${HERE}/old-${OTHER:-x}", "~/records"),
    files=("*.jsonl",),
    results=(Result(name="result", has=(Test("type", ("result",)),), text="text"),),
    replies=(Reply(name="reply", has=(Test("type", ("reply",)),)),),
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", [{"a": [{"t": "x", "v": 1}, {"t": "y", "v": 2}, 3], "b": {"c": False}}]),
        ("b.c", [False]),
        ("b.missing", []),
        ("a", [[{"t": "x", "v": 1}, {"t": "y", "v": 2}, 3]]),
        ("a[]", [{"t": "x", "v": 1}, {"t": "y", "v": 2}, 3]),
        ("a[].v", [1, 2]),
        ("a[t=y].v", [2]),
        ("a[t=z].v", []),
        ("b[].c", []),
    ],
)
def test_a_path_leads_to_what_stands_there(path: str, found: list[Any]) -> None:
    assert at({"a": [{"t": "x", "v": 1}, {"t": "y", "v": 2}, 3], "b": {"c": False}}, path) == found


@given(JSON, PATHS)
def test_no_entry_makes_looking_into_it_fail(entry: Any, path: str) -> None:
    found = at(entry, path)
    only = one(entry, path)
    assert only is None or found == [only]
    Kind(name="k", has=(Test(path),), lacks=(Test(path, ("c",)),)).fits(entry)
    list(texts(entry))


def test_what_stands_twice_is_not_the_one_value_there() -> None:
    assert one({"a": [{"b": 1}, {"b": 2}]}, "a[].b") is None
    assert one({"a": [{"b": 1}]}, "a[].b") == 1
    assert one({"a": {"b": 1}}, "a") is None
    assert one({"a": 1}, "") is None


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, False), (False, False), ("", False), ([], False), ({}, False), (0, True), ("x", True), (True, True)],
)
def test_something_stands_at_a_path_when_it_says_something(value: Any, says: bool) -> None:
    assert Test("a").holds({"a": value}) is says
    assert not Test("a").holds({"b": value})


def test_a_number_is_no_truth_value() -> None:
    assert not Test("a", (True,)).holds({"a": 1})
    assert not Test("a", (1,)).holds({"a": True})
    assert Test("a", (1, True)).holds({"a": True})


def test_an_entry_is_of_a_kind_when_all_is_so_that_must_be_and_nothing_that_must_not() -> None:
    kind = Kind(name="k", has=(Test("type", ("a", "b")), Test("on")), lacks=(Test("error"),))
    assert kind.fits({"type": "b", "on": 1})
    assert not kind.fits({"type": "b"})
    assert not kind.fits({"type": "c", "on": 1})
    assert not kind.fits({"type": "b", "on": 1, "error": "x"})


def test_the_strings_of_a_value_come_in_their_order_and_keys_are_none_of_them() -> None:
    assert list(texts({"key": ["a", {"other": "b"}, 1], "k": "c"})) == ["a", "b", "c"]


def test_strings_behind_too_many_values_are_not_looked_at() -> None:
    assert list(texts([0] * records.MAX_NODES + ["late"])) == []


def test_a_value_that_is_deep_is_looked_into_without_recursion() -> None:
    value: Any = "deep"
    for _ in range(5_000):
        value = [value]
    assert list(texts(value)) == ["deep"]


def test_a_record_names_the_variables_that_say_where_it_is_once_each() -> None:
    assert SMALL.variables == ("HERE", "OTHER")


@pytest.mark.parametrize("path", ["a[", "a]", "a[b", ".a", "a..b", "a[]b", "[]"])
def test_a_description_with_a_path_that_is_none_is_refused(path: str) -> None:
    kind = Kind(name="k", has=(Test(path),))
    with pytest.raises(ValueError, match="no path"):
        check(msgspec.structs.replace(SMALL, harmless=(kind,)))


def _compaction(**changes: Any) -> Ending:
    return Ending(name="e", has=(), verdict="summarised", reason="compacted", **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "rows"},
        {"form": "document"},
        {"clients": ("0.0.0",)},
        {"summary": Summary(of=".jsonl", file=".s", last="last", mark="", id="id")},
        {"form": "document", "list": "all", "summary": Summary(of=".json", file=".s", last="last", mark="", id="id")},
        {"replies": (Reply(name="r", has=(), opened="id"),)},
        {"replies": (Reply(name="r", has=(), differs="id"),)},
        {"replies": (Reply(name="r", has=(), at_least="n"),)},
        {"endings": (_compaction(upto="id"),)},
        {"endings": (_compaction(since="id"),)},
        {"endings": (_compaction(upto="id", since="id", at="id"),)},
        {"endings": (_compaction(at="id"),)},
        {"endings": (_compaction(kept="ids[]"),)},
        {"endings": (_compaction(upto="id", at="id", read=True),)},
        {"endings": (_compaction(then="stays"),)},
        {"endings": (msgspec.structs.replace(_compaction(then="returns"), verdict="unknown"),)},
    ],
)
def test_a_description_that_leans_on_what_is_not_said_is_refused(changes: dict[str, Any]) -> None:
    check(SMALL)
    with pytest.raises(ValueError, match="says"):
        check(msgspec.structs.replace(SMALL, **changes))


def test_every_path_of_a_description_is_checked() -> None:
    bad = "a["
    kinds: dict[str, Any] = {
        "openings": (Opening(name="o", has=(), id=bad),),
        "endings": (Ending(name="e", has=(Test(bad),), verdict="unknown", reason="unrecognised"),),
        "results": (Result(name="r", has=(), text=bad),),
        "chain": Chain(id="id", parent="up", caller=bad),
        "summary": Summary(of=".jsonl", file=".s", last=bad, mark="", id="id"),
        "conversation": (bad,),
        "version": bad,
    }
    for name, value in kinds.items():
        form = {"form": "document", "list": "all"} if name == "summary" else {}
        with pytest.raises(ValueError, match="no path"):
            check(msgspec.structs.replace(SMALL, **form, **{name: value}))
    chained = msgspec.structs.replace(SMALL, chain=Chain(id="id", parent="up"))
    for paths in (
        {"kept": bad},
        {"upto": bad, "at": "id"},
        {"since": bad, "at": "id"},
        {"upto": "id", "at": bad},
    ):
        with pytest.raises(ValueError, match="no path"):
            check(msgspec.structs.replace(chained, endings=(_compaction(**paths),)))


@pytest.mark.parametrize("host", [host for host in HOSTS if host.sight is not None], ids=lambda host: host.id)
def test_the_description_of_each_host_can_be_meant(host: Any) -> None:
    check(host.sight)
    assert host.sight.versions
    assert host.sight.results
    assert host.sight.replies
