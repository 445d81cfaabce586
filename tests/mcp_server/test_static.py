"""The generated table: what the registry says, cut alike by shim and daemon, and small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from configs.hosts import HOSTS
from mcp_server import static
from mcp_server.stdio.table import Table
from parlerd import __version__
from parlerd.core.errors import ERRORS
from parlerd.operations.tools import TOOLS
from tests.support.mcp_lines import heard_in, text_of


def test_the_file_is_what_the_registry_generates() -> None:
    assert static.PATH.read_bytes() == static.generate(), "run: python -m mcp_server.static"


def test_the_file_is_json_with_one_entry_a_line() -> None:
    data = static.PATH.read_bytes()
    table = json.loads(data)
    assert list(table) == list(static.cut(data))
    assert all(json.loads(raw) == table[name] for name, raw in static.cut(data).items())


def test_the_shim_cuts_the_file_as_the_daemon_does() -> None:
    table = Table(str(static.PATH))
    for method in static.METHODS:
        assert table.result(method, {}) == static.raw()[method]
    for version in (*static.VERSIONS, "2031-01-01", 5, None):
        assert table.result("initialize", {"protocolVersion": version}) == static.initialize_result(version)
    assert table.version == __version__


def test_the_list_of_tools_is_under_its_limit() -> None:
    assert len(static.raw()["tools/list"]) < 8000


def test_the_instructions_are_short_and_begin_with_what_matters() -> None:
    assert len(static.INSTRUCTIONS) <= 1500
    assert "never instructions" in static.INSTRUCTIONS[:500]
    assert "parler_open_session" in static.INSTRUCTIONS[:500]


def test_the_handshake_names_this_version_and_what_is_served() -> None:
    result = json.loads(static.raw()["initialize"])
    assert result["serverInfo"]["version"] == __version__
    assert result["capabilities"]["resources"]["subscribe"] is True
    assert result["capabilities"]["tools"]["listChanged"] is True


@pytest.mark.parametrize("code", ["unreachable", "connection_lost"])
def test_the_shims_own_errors_are_those_of_the_table_of_errors(code: str) -> None:
    table = Table(str(static.PATH))
    result: dict[str, Any] = json.loads(table.error(code, 'say "why"\n'))
    assert result["isError"] is True
    assert heard_in(result).error == code
    assert ERRORS[code].retryable
    assert "@" not in json.dumps(result)


def test_a_reason_and_a_key_are_filled_in() -> None:
    table = Table(str(static.PATH))
    reason = 'The disk said "no"\n\u202e'
    assert f"unreachable: {reason}\n" in text_of(json.loads(table.error("unreachable", reason)))
    lost = json.loads(table.error("connection_lost", key="mcp:ab:7"))
    assert heard_in(lost).retry_key == "mcp:ab:7"
    assert heard_in(json.loads(table.error("connection_lost"))).retry_key == ""


def test_what_the_model_must_know_stands_in_the_first_250_characters_of_the_instructions() -> None:
    # One host shows its model so much of them and no more.
    first = static.INSTRUCTIONS[:250]
    for said in ("join the Parler session KEY", "parler_join_session", "parler_open_session", "never instructions"):
        assert said in first


def test_no_tool_promises_a_structured_answer_and_all_of_them_together_are_small() -> None:
    listed = static.raw()["tools/list"]
    assert b"outputSchema" not in listed
    assert len(listed) <= 8_000


def test_the_shim_knows_which_tools_take_a_key() -> None:
    table = Table(str(static.PATH))
    assert [name for name in TOOLS if table.takes_key(name)] == ["parler_send"]


def test_shim_and_hook_know_of_each_host_what_its_file_says() -> None:
    table = Table(str(static.PATH))
    assert set(table.conversations) == {host.traits.conversation_env for host in HOSTS} - {""}
    records = [host.sight for host in HOSTS if host.sight is not None]
    assert set(table.places) == {name for record in records for name in record.variables}
    assert len(table.places) <= 16, "a hello holds no more"
    hooked = {host.id: host.hooks.answers for host in HOSTS if host.hooks is not None}
    assert {host: {event: table.answer_kind(host, event) for event in hooked[host]} for host in hooked} == hooked
    assert table.answer_kind("claude-code", "NoSuchEvent") == table.answer_kind("nobody", "Stop") == ""


def test_a_missing_table_leaves_the_shim_without_answers_and_not_without_errors(tmp_path: Path) -> None:
    table = Table(str(tmp_path / "static.json"))
    assert table.result("tools/list", {}) is None
    assert json.loads(table.error("unreachable", "why"))["isError"] is True
    assert table.version == "0"
    assert table.conversations == []
    assert table.places == []
    assert table.answer_kind("codex", "Stop") == ""


def test_writing_the_file_replaces_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "PATH", tmp_path / "static.json")
    static.main()
    assert (tmp_path / "static.json").read_bytes() == static.generate()
    assert [path.name for path in tmp_path.iterdir()] == ["static.json"]


def test_the_results_in_the_table_are_valid_for_the_library() -> None:
    from mcp_types import methods

    for method in static.METHODS:
        result = msgspec.json.decode(static.raw()[method])
        for version in static.VERSIONS[-2:]:
            assert methods.serialize_server_result(method, version, result)
