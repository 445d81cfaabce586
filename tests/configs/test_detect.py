"""What shows that a host is here, and which of its files is the one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from configs.detect import detected, files, plugin, program, read, server_path, targets
from configs.document import EditRefused, Glance, Rules
from configs.hosts import HOSTS, find_host
from configs.model import Host, KeyPath, same_everywhere
from configs.shapes import bare
from tests.support.person import Person
from tests.support.settings_files import entry_at

SERVERS = '{"mcpServers": {"other": {"command": "x"}}}'
OURS = '{"mcpServers": {"parler": {"command": "x"}}}'


def a_host(**about: Any) -> Host:
    fields: dict[str, Any] = {
        "id": "acme",
        "name": "Acme",
        "format": "json",
        "files": same_everywhere("~/.acme/a.json", "~/.acme/b.json"),
        "key_path": ("mcpServers",),
        "entry": bare,
        "programs": ("acme",),
        "folders": ("~/.acme",),
    }
    return Host(**fields | about)


@pytest.fixture
def ann(tmp_path: Path) -> Person:
    return Person(tmp_path)


def named(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_in_an_empty_home_no_host_is_here(host: Host, ann: Person) -> None:
    assert not detected(ann.place, host)
    assert targets(ann.place, host)


def test_a_folder_shows_a_host(ann: Person) -> None:
    ann.path(".acme").mkdir()
    assert detected(ann.place, a_host())


def test_a_program_on_path_shows_a_host_and_is_not_started(ann: Person) -> None:
    ann.install("acme")
    assert detected(ann.place, a_host())


def test_a_file_shows_a_host(ann: Person) -> None:
    ann.write(".acme.json", "{}")
    assert detected(ann.place, a_host(files=same_everywhere("~/.acme.json")))


def test_a_program_that_cannot_be_run_or_is_a_folder_shows_nothing(ann: Person) -> None:
    ann.install("acme").chmod(0o644)
    ann.python.parent.joinpath("other").mkdir()
    assert program(ann.place, "acme") is None
    assert program(ann.place, "other") is None


def test_entries_of_path_that_are_not_absolute_are_passed_over(
    ann: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme").touch(0o755)
    ann.env["PATH"] = f".{os.pathsep}{os.pathsep}bin"
    assert program(ann.place, "acme") is None


def test_without_a_path_no_program_is_found(ann: Person) -> None:
    del ann.env["PATH"]
    assert program(ann.place, "acme") is None


def test_a_variable_moves_the_whole_configuration(ann: Person) -> None:
    """A host that is told by a variable where its settings are reads no other file, also when that has our entry."""
    host = a_host(files=same_everywhere("${ACME_HOME}/a.json", "~/.acme/a.json"))
    ann.write(".acme/a.json", OURS)
    assert targets(ann.place, host) == [ann.path(".acme/a.json")]
    ann.env["ACME_HOME"] = str(ann.path("elsewhere"))
    assert files(ann.place, host) == targets(ann.place, host) == [ann.path("elsewhere/a.json")]


class TestOfTwoCandidates:
    """F18."""

    def test_the_one_with_our_entry_wins(self, ann: Person) -> None:
        ann.write(".acme/a.json", SERVERS)
        ann.write(".acme/b.json", OURS)
        assert named(targets(ann.place, a_host())) == ["b.json"]

    def test_then_the_one_with_a_table_of_servers(self, ann: Person) -> None:
        ann.write(".acme/a.json", '{"theme": 1}')
        ann.write(".acme/b.json", SERVERS)
        assert named(targets(ann.place, a_host())) == ["b.json"]

    def test_then_the_one_that_the_host_prefers(self, ann: Person) -> None:
        ann.write(".acme/a.json", SERVERS)
        ann.write(".acme/b.json", SERVERS)
        assert named(targets(ann.place, a_host())) == ["a.json"]

    def test_one_that_is_there_wins_over_one_that_is_not(self, ann: Person) -> None:
        ann.write(".acme/b.json", "{}")
        assert named(targets(ann.place, a_host())) == ["b.json"]

    def test_one_that_cannot_be_read_claims_nothing(self, ann: Person) -> None:
        ann.write(".acme/a.json", '{"mcpServers": {"parler"')
        ann.write(".acme/b.json", SERVERS)
        assert named(targets(ann.place, a_host())) == ["b.json"]

    def test_where_there_is_none_it_is_the_one_that_the_host_would_make(self, ann: Person) -> None:
        ann.path(".acme").mkdir()
        assert named(targets(ann.place, a_host())) == ["a.json"]

    def test_a_link_that_leads_nowhere_is_still_the_one_that_is_there(self, ann: Person) -> None:
        ann.path(".acme").mkdir()
        ann.path(".acme/b.json").symlink_to(ann.path("gone"))
        assert named(targets(ann.place, a_host())) == ["b.json"]

    def test_opencode_is_wired_where_it_is_configured(self, ann: Person) -> None:
        ann.write(".config/opencode/opencode.json", '{"mcp": {}}')
        assert named(targets(ann.place, find_host("opencode"))) == ["opencode.json"]


class TestAHostWithSeveralFilesAtOnce:
    """F18, editors with editions and profiles."""

    def test_each_edition_and_profile_that_is_there_is_a_place_of_its_own(self, ann: Person) -> None:
        for name in ("Code/User/profiles/work", "Code/User/profiles/home", "VSCodium/User"):
            ann.path(f".config/{name}").mkdir(parents=True)
        found = [str(path.relative_to(ann.path(".config"))) for path in targets(ann.place, find_host("vscode"))]
        assert found == [
            "Code/User/mcp.json",
            "Code/User/profiles/home/mcp.json",
            "Code/User/profiles/work/mcp.json",
            "VSCodium/User/mcp.json",
        ]

    def test_where_only_the_program_is_there_it_is_the_first(self, ann: Person) -> None:
        ann.install("code")
        assert targets(ann.place, find_host("vscode")) == [ann.path(".config/Code/User/mcp.json")]

    def test_a_folder_of_the_host_makes_its_file_a_place_before_the_files_own_folder_is_there(
        self, ann: Person
    ) -> None:
        host = a_host(
            files=same_everywhere("~/.one/set/a.json", "~/.two/set/a.json"), multiple=True, folders=("~/.two",)
        )
        ann.path(".two").mkdir()
        assert targets(ann.place, host) == [ann.path(".two/set/a.json")]


def where(data: bytes) -> KeyPath:
    opencode = find_host("opencode")
    return server_path(Glance(data, Rules.of(opencode)), opencode)


class TestLayouts:
    def test_a_second_layout_is_used_where_the_file_has_it(self) -> None:
        assert where(b'{"mcp": {"servers": {}}}') == ("mcp", "servers", "parler")
        assert where(b'{"mcp": {"a": {"type": "local"}}}') == ("mcp", "parler")
        assert where(b"") == ("mcp", "parler")

    def test_a_server_that_is_called_servers_is_no_layout(self) -> None:
        data = b'{"mcp": {"servers": {"type": "local", "command": ["x"]}}}'
        assert where(data) == ("mcp", "parler")


class TestPlugins:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"enabledPlugins": {"parler@market": True}}, "parler@market"),
            ({"enabledPlugins": {"parler@market": False}}, None),
            ({"enabledPlugins": {"parlerx@market": True}}, None),
            ({"enabledPlugins": {"other@parler": True}}, None),
            ({"enabledPlugins": ["parler@market"]}, None),
            ({"other": "parler"}, None),
            (["parler"], None),
        ],
    )
    def test_claude_code_has_us_as_a_plugin_only_when_it_is_on(
        self, settings: object, expected: str | None, ann: Person
    ) -> None:
        ann.write(".claude/settings.json", json.dumps(settings))
        assert plugin(ann.place, find_host("claude-code")) == expected

    def test_settings_that_cannot_be_read_say_nothing(self, ann: Person) -> None:
        ann.write(".claude/settings.json", '{"enabledPlugins": {"parler@m": true')
        assert plugin(ann.place, find_host("claude-code")) is None

    def test_the_settings_beside_a_moved_configuration_are_meant(self, ann: Person) -> None:
        ann.write("moved/settings.json", '{"enabledPlugins": {"parler@m": true}}')
        assert plugin(ann.place, find_host("claude-code")) is None
        ann.env["CLAUDE_CONFIG_DIR"] = str(ann.path("moved"))
        assert plugin(ann.place, find_host("claude-code")) == "parler@m"

    @pytest.mark.parametrize(("enabled", "expected"), [("true", "parler@m"), ("false", None)])
    def test_codex_says_the_same_in_a_table(self, enabled: str, expected: str | None, ann: Person) -> None:
        ann.write(".codex/config.toml", f'[plugins."parler@m"]\nenabled = {enabled}\n')
        assert plugin(ann.place, find_host("codex")) == expected

    def test_copilot_says_the_same_as_claude_code(self, ann: Person) -> None:
        ann.write(".copilot/settings.json", '{"enabledPlugins": {"parler@m": true}}')
        assert plugin(ann.place, find_host("copilot")) == "parler@m"
        ann.write(".copilot/settings.json", '{"enabledPlugins": {"parler@m": false}}')
        assert plugin(ann.place, find_host("copilot")) is None

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            (None, "parler"),
            ([], "parler"),
            (["{home}/*"], "parler"),
            (["!{home}/*"], None),
            (["!{home}/*", "{home}/*"], "parler"),
            (["{home}/*", "!{home}/project/*"], "parler"),
            ("no list", "parler"),
        ],
    )
    @pytest.mark.parametrize("host", ["gemini", "qwen"])
    def test_an_extension_is_a_folder_and_a_rule_switches_it_off(
        self, host: str, rules: object, expected: str | None, ann: Person
    ) -> None:
        assert plugin(ann.place, find_host(host)) is None
        ann.write(f".{host}/extensions/parler/{host}-extension.json", "{}")
        assert plugin(ann.place, find_host(host)) == "parler"
        said = [rule.format(home=ann.home) for rule in rules] if isinstance(rules, list) else rules
        if host == "gemini":
            ann.write(".gemini/extensions/extension-enablement.json", json.dumps({"parler": {"overrides": said}}))
        else:
            about = {"name": "parler", "defaultActivation": "enabled", "legacyPathRules": said}
            ann.write(".qwen/extension-store/state.json", json.dumps({"extensions": {"x": about}}))
        assert plugin(ann.place, find_host(host)) == expected

    @pytest.mark.parametrize("data", ["", "[]", "{", '{"parler": 1}', '{"extensions": {"a": 1}}', "[" * 100_000])
    def test_a_state_that_cannot_be_read_switches_nothing_off(self, data: str, ann: Person) -> None:
        for host, state in (("gemini", "extensions/extension-enablement.json"), ("qwen", "extension-store/state.json")):
            ann.write(f".{host}/extensions/parler/{host}-extension.json", "{}")
            ann.write(f".{host}/{state}", data)
            assert plugin(ann.place, find_host(host)) == "parler"

    def test_a_host_that_has_no_plugins_has_none(self, ann: Person) -> None:
        assert plugin(ann.place, find_host("cursor")) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": {"b": 1}}',
        b'{"a": {"b": null}}',
        b'{"a": {}}',
        b"{}",
        b"",
        b'{"a": {"b": {"c": [1, "\xc3\xa4"]}}}',
        b'{"a": 1}',
        b"[]",
        b'{"a": {"b": 1}, "a": {}}',
        b'{"a": {"b": NaN}}',
        b'{"a": {"b": 1,}}',
        b'{"a": {"b": 1}} // c',
        b'\xef\xbb\xbf{"a": {"b": 1}}',
        b'{"a": {"b": "\xff"}}',
        '{"a": {"b": 1}}'.encode("utf-16"),
        b'{"a":' * 5000,
    ],
)
@pytest.mark.parametrize("host", ["claude-code", "gemini", "opencode"])
def test_a_quick_look_sees_what_the_careful_one_sees(data: bytes, host: str) -> None:
    rules = Rules.of(find_host(host))

    def seen(look: Any) -> object:
        try:
            return look(data, rules, ("a", "b"))
        except EditRefused as error:
            return error.reason

    assert seen(lambda *told: Glance(*told[:2]).at(told[2])) == seen(entry_at)


def test_only_a_regular_file_is_read(ann: Person) -> None:
    os.mkfifo(ann.path("pipe"))
    assert read(ann.path("pipe")) is None
    assert read(ann.home) is None
    assert read(ann.path("missing")) is None
    assert read(ann.write("file", "x")) == b"x"
