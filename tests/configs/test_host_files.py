"""A file of each host as somebody may have it: the exact bytes with our entry in it, and the same bytes without.

    tests/configs/hosts/<id>/before.<ext>     other servers, comments where the host allows them, its own indentation
    tests/configs/hosts/<id>/after.<ext>      the same after `parler connect`

A host with a second layout has a pair for that, `before-second` and `after-second`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from configs.document import Rules
from configs.hosts import HOSTS, find_host
from configs.model import SERVER, Shim
from tests.support.settings_files import created_depth, put, take

FILES: Final = Path(__file__).parent / "hosts"
BEFORE: Final = sorted(FILES.glob("*/before*"))
EVERY_FILE: Final = pytest.mark.parametrize("before", BEFORE, ids=lambda path: f"{path.parent.name}-{path.stem}")


def key_of(before: Path) -> tuple[str, ...]:
    host = find_host(before.parent.name)
    (second,) = host.layouts if before.stem.endswith("-second") else (host.key_path,)
    return second


@EVERY_FILE
def test_connecting_makes_exactly_these_bytes_and_taking_us_out_gives_back_those(before: Path) -> None:
    host = find_host(before.parent.name)
    rules, key = Rules.of(host), key_of(before)
    shim = Shim(
        python="/opt/parler/venv/bin/python",
        shim="/home/ann/.parler/run/shim.py",
        host=host.id,
        home="/home/ann/.parler",
    )
    old = before.read_bytes()
    path = (*key, SERVER)
    assert created_depth(old, rules, path) == 0, "the file is to have servers of others"
    new = put(old, rules, path, host.entry_for(key, shim))
    assert new == before.with_stem(before.stem.replace("before", "after")).read_bytes()
    assert put(new, rules, path, host.entry_for(key, shim)) == new
    assert take(new, rules, path) == old


def test_every_host_has_a_file_in_each_of_its_layouts() -> None:
    assert {path.parent.name for path in BEFORE} == {host.id for host in HOSTS}
    assert {(path.parent.name, key_of(path)) for path in BEFORE} >= {
        (host.id, layout) for host in HOSTS for layout in (host.key_path, *host.layouts)
    }


def test_the_files_of_hosts_that_allow_comments_have_some() -> None:
    bare = {path.parent.name for path in BEFORE if not any(mark in path.read_text() for mark in ("//", "/*", "#"))}
    assert {id for id in bare if find_host(id).format != "json"} == set()
