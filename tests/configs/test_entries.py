"""Whose an entry named parler is, and what becomes of it when ours changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from configs.detect import Place
from configs.document import Glance, Rules
from configs.entries import command_of, entry_of, merged, off_where, shim_of, starts_parler, starts_shim_of
from configs.hosts import HOSTS, find_host
from configs.model import Host
from parlerd.paths import Home

PLACE: Final = Place(env={"HOME": "/h"}, system="linux", python="/py", home=Home(Path("/h/.parler")))
OTHER: Final = Place(env={"HOME": "/h"}, system="linux", python="/py", home=Home(Path("/h/other")))
COMMAND: Final = ["/py", "-I", "-S", "/s/run/shim.py", "--host", "x", "--home", "/s"]
OURS: Final = {"command": COMMAND[0], "args": COMMAND[1:], "timeout": 20}


def off(host: Host, data: bytes, entry: Any) -> str | None:
    return off_where(host, Glance(data, Rules.of(host)), entry)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_what_each_host_is_given_is_known_again_as_that_homes(host: Host) -> None:
    for keys in [host.key_path, *host.layouts]:
        made = entry_of(PLACE, host, (*keys, "parler"))
        assert starts_parler(made)
        assert starts_shim_of(made, PLACE)
        assert not starts_shim_of(made, OTHER)
        assert merged(made, None, made, command_of(PLACE, host)) == made
        assert off(host, b"", made) is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "x",
        [],
        {},
        {"command": None},
        {"command": 3, "args": 4},
        {"command": "npx", "args": ["run/shim.py.bak", "--host"]},
        {"command": "/x/run/shim.py"},
        {"command": "parler"},
        {"command": "parler", "args": ["serve"]},
        {"command": "other", "args": ["mcp"]},
        {"transport": "stdio", "url": "http://x"},
    ],
)
def test_other_entries_are_not_taken_for_ours(entry: Any) -> None:
    assert not starts_parler(entry)
    assert not starts_shim_of(entry, PLACE)


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "parler", "args": ["mcp"]},
        {"command": ["/home/ann/bin/parler", "mcp", "--host", "x"]},
        {"cmd": "/py", "args": COMMAND[1:]},
        {"transport": {"type": "stdio", "command": "/py", "args": COMMAND[1:]}},
        {"command": "nice", "args": ["-n5", *COMMAND]},
    ],
)
def test_every_shape_that_starts_a_parler_is_known(entry: Any) -> None:
    assert starts_parler(entry)


@pytest.mark.parametrize(
    ("found", "base", "expected"),
    [
        pytest.param("not a table", None, OURS, id="replaced"),
        pytest.param({**OURS, "command": "/old"}, None, OURS, id="starts it otherwise"),
        pytest.param({**OURS, "timeout": 9}, None, {**OURS, "timeout": 9}, id="set by nobody knows whom"),
        pytest.param({**OURS, "timeout": 9}, {**OURS, "timeout": 9}, OURS, id="set by us before"),
        pytest.param({**OURS, "timeout": 9}, {**OURS, "timeout": 5}, {**OURS, "timeout": 9}, id="set by them since"),
        pytest.param({**OURS, "more": 1}, OURS, {**OURS, "more": 1}, id="added by them"),
        pytest.param({**OURS, "more": 1}, {**OURS, "more": 1}, OURS, id="added by us before"),
        pytest.param({"command": "/py", "args": COMMAND[1:]}, None, OURS, id="new in ours"),
        pytest.param(
            {"command": "/py", "args": COMMAND[1:]},
            OURS,
            {"command": "/py", "args": COMMAND[1:]},
            id="taken out by them",
        ),
        pytest.param({"timeout": 20}, OURS, {**OURS}, id="no command left"),
        pytest.param(
            {**OURS, "command": "nice", "args": COMMAND},
            OURS,
            {**OURS, "command": "nice", "args": COMMAND},
            id="wrapped",
        ),
    ],
)
def test_what_a_person_set_stays_and_what_was_ours_goes_with_us(found: Any, base: Any, expected: Any) -> None:
    result = merged(found, base, dict(OURS), COMMAND)
    assert result == expected
    assert merged(result, OURS, dict(OURS), COMMAND) == result


def test_the_order_of_what_was_found_stays() -> None:
    found = {"timeout": 9, "args": [], "z": 1, "command": "/old"}
    assert list(merged(found, None, dict(OURS), COMMAND)) == ["timeout", "args", "z", "command"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b'{"disabledMcpServers": ["other"]}', False),
        (b'{"disabledMcpServers": "parler"}', False),
        (b'{"disabledMcpServers": ["parler"]}', True),
        (b'{"disabledMcpServers": ["parler"', False),
    ],
)
def test_a_list_of_servers_that_are_off_is_looked_at(data: bytes, expected: bool) -> None:
    assert (off(find_host("claude-code"), data, {}) is not None) is expected


def test_the_shim_is_named_by_absolute_paths_of_its_home() -> None:
    assert shim_of(PLACE, find_host("codex")).arguments == [
        "-I", "-S", "/h/.parler/run/shim.py", "--host", "codex", "--home", "/h/.parler",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("id", "content", "where"),
    [
        ("gemini", '{"mcp": {"excluded": ["parler"]}} // mine', " by `mcp.excluded`"),
        ("gemini", '{"mcp": {"allowed": ["github"]}}', " by `mcp.allowed`"),
        ("gemini", '{"mcp": {"allowed": ["github", "parler"], "excluded": ["github"]}}', None),
        ("qwen", '{"mcp": {"excluded": ["parler"]}}', " by `mcp.excluded`"),
        ("opencode", '{"tools": {"parler*": false}}', " by `tools`"),
        ("opencode", '{"tools": {"*": false, "parler_*": true}}', None),
        ("opencode", '{"tools": {"parler_parler_send": false}}', None),
        ("opencode", '{"tools": {"bash": false}}', None),
        ("kilo", '{"tools": {"*": false}}', " by `tools`"),
        ("claude-code", '{"disabledMcpServers": ["parler"]}', " by `disabledMcpServers`"),
        ("claude-code", '{"disabledMcpServers": "parler"}', None),
        ("claude-code", '{"disabledMcpServers": [}', None),
    ],
)
def test_a_server_that_is_switched_off_elsewhere_in_the_file_is_known_with_the_place(
    id: str, content: str, where: str | None
) -> None:
    assert off(find_host(id), content.encode(), {}) == where
    assert off(find_host(id), content.encode(), {"disabled": True}) == ""
