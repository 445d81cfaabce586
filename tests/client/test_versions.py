from __future__ import annotations

import pytest

from parlerd.client.versions import is_older

IN_ORDER = [
    "0.0.9",
    "0.1.0.dev1",
    "0.1.0.dev2",
    "0.1.0a1",
    "0.1.0b1",
    "0.1.0rc1",
    "0.1",
    "0.1.0.post1",
    "0.1.1",
    "0.10.0",
    "1",
]


def test_versions_are_ordered_as_releases_are() -> None:
    for place, earlier in enumerate(IN_ORDER):
        for later in IN_ORDER[place + 1 :]:
            assert is_older(earlier, later)
            assert not is_older(later, earlier)


@pytest.mark.parametrize(("one", "other"), [("0.1", "0.1.0"), ("1.0+local", "1.0"), ("1.0", "1.0"), ("x", "x")])
def test_the_same_version_is_not_older(one: str, other: str) -> None:
    assert not is_older(one, other)
    assert not is_older(other, one)


@pytest.mark.parametrize("odd", ["", "x", "1.0 or so", "1..2", "-1", "9" * 400, "1.0\n"])
def test_what_cannot_be_read_is_never_older(odd: str) -> None:
    assert not is_older(odd, "1.0")
    assert not is_older("1.0", odd)
