"""Settings: defaults, file, environment, and a plain error for whatever is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.settings import Settings, load_settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def _refusal(path: Path, env: dict[str, str]) -> ParlerError:
    with pytest.raises(ParlerError) as caught:
        load_settings(path, env)
    assert caught.value.code == "invalid_settings"
    return caught.value


def test_without_a_file_everything_is_at_its_default(path: Path) -> None:
    assert load_settings(path, {}) == Settings()
    assert (Settings().approval_default, Settings().approval_minimum) == (True, "cli")


def test_the_file_sets_what_it_names_and_leaves_the_rest(path: Path) -> None:
    path.write_text('[approval]\nminimum = "terminal"\n[key]\nttl_ms = 60000\nmax_uses = 9\n')
    expected = Settings(approval_minimum="terminal", key_ttl_ms=60_000, key_max_uses=9)  # type: ignore[arg-type]
    assert load_settings(path, {}) == expected


def test_the_environment_wins_over_the_file(path: Path) -> None:
    path.write_text("[approval]\ndefault = true\n[key]\nmax_uses = 3\n")
    env = {"PARLER_MCP_ERA": "modern", "PARLER_KEY_MAX_USES": "7", "PARLER_HOME": "/x", "PARLER_AGENT": "ann"}
    found = load_settings(path, env)
    assert (found.mcp_era, found.key_max_uses) == ("modern", 7)


@pytest.mark.parametrize(
    ("file", "variable", "value"),
    [
        ("", "PARLER_APPROVAL_DEFAULT", "false"),
        ("[approval]\ndefault = true\n", "PARLER_APPROVAL_DEFAULT", "false"),
        ("", "PARLER_APPROVAL_MINIMUM", "none"),
        ('[approval]\nminimum = "terminal"\n', "PARLER_APPROVAL_MINIMUM", "form"),
    ],
)
def test_no_environment_lowers_how_a_home_approves(path: Path, file: str, variable: str, value: str) -> None:
    path.write_text(file)
    refused = _refusal(path, {variable: value})
    assert refused.details == {"where": variable}
    assert str(path) in refused.message


def test_an_environment_may_ask_for_more_than_the_file(path: Path) -> None:
    path.write_text("[approval]\ndefault = false\n")
    found = load_settings(path, {"PARLER_APPROVAL_DEFAULT": "true", "PARLER_APPROVAL_MINIMUM": "terminal"})
    assert (found.approval_default, found.approval_minimum) == (True, "terminal")


@pytest.mark.parametrize(
    "text",
    [
        '[approval]\nminimun = "form"\n',
        '[aproval]\nminimum = "form"\n',
        'approval_minimum = "form"\n',
        '[approval]\nminimum = "wink"\n',
        "[approval]\ndefault = 1\n",
        '[key]\nmax_uses = "5"\n',
        "[key]\nmax_uses = 0\n",
        "[quota]\nagent_bytes = -1\n",
        "[key]\nttl_ms = -1\n",
        "[key]\nttl_ms = 1.5\n",
        '[dance]\nera = "modern"\n',
        "approval = true\n",
        "[approval\n",
    ],
)
def test_a_file_with_something_nobody_knows_or_of_another_kind_is_refused_by_name(path: Path, text: str) -> None:
    path.write_text(text)
    error = _refusal(path, {})
    assert error.details == {"where": str(path)}
    assert str(path) in error.message


def test_a_file_that_is_not_text_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    _refusal(path, {})


def test_a_file_that_cannot_be_read_is_refused_and_not_taken_for_absent(path: Path) -> None:
    path.mkdir()
    _refusal(path, {})


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PARLER_APPROVAL_MINIMUM", "wink"), ("PARLER_KEY_TTL_MS", "soon"), ("PARLER_KEY_MAX_USES", "0")],
)
def test_a_variable_with_a_wrong_value_is_refused_by_its_name(path: Path, variable: str, value: str) -> None:
    assert _refusal(path, {variable: value}).details == {"where": variable}


@pytest.mark.parametrize(
    "text", ['codex_program = "codex"', 'codex_remote = "http://example.com"', 'codex_remote = "unix://relative"']
)
def test_what_wakes_codex_is_absolute(path: Path, text: str) -> None:
    path.write_text(f"[wake]\n{text}\n")
    assert "must be" in _refusal(path, {}).message


@pytest.mark.parametrize("server", ["http://127.0.0.1:4096", "http://localhost:1", "http://[::1]:65535/"])
def test_opencodes_server_is_one_of_this_machine(path: Path, server: str) -> None:
    path.write_text(f'[wake]\nopencode_server = "{server}"\n')
    assert load_settings(path, {}).wake_opencode_server == server
    path.write_text(f'[wake]\nkilo_server = "{server}"\n')
    assert load_settings(path, {}).wake_kilo_server == server


@pytest.mark.parametrize(
    "server",
    [
        "http://example.com:4096",
        "http://127.0.0.1.example.com:4096",
        "http://127.0.0.1:4096@example.com:80",
        "http://user:password@127.0.0.1:4096",
        "https://127.0.0.1:4096",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:4096/session",
        "http://127.0.0.1:4096\\n",
        "http://0.0.0.0:4096",
        "127.0.0.1:4096",
    ],
)
def test_a_server_elsewhere_or_with_more_in_its_address_is_refused(path: Path, server: str) -> None:
    path.write_text(f'[wake]\nopencode_server = "{server}"\n')
    assert "[wake] opencode_server must be" in _refusal(path, {}).message
    path.write_text(f'[wake]\nkilo_server = "{server}"\n')
    assert "[wake] kilo_server must be" in _refusal(path, {}).message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[approval]\nminimun = "form"\n', "there is no setting 'minimun' in [approval]; did you mean minimum?"),
        ('[aproval]\nminimum = "form"\n', "there is no table [aproval]; did you mean [approval]?"),
        (
            "[dance]\n",
            "there is no table [dance]; known: [approval], [blob], [key], [mcp], [mirror], [quota], [relay], "
            "[retention], [wake]",
        ),
        ("[key]\nzzz = 1\n", "there is no setting 'zzz' in [key]; known: ttl_ms, max_uses"),
        ('approval_minimum = "form"\n', "'approval_minimum' is written as minimum below a line [approval]"),
        ("approval = true\n", "[approval] must be a table: write [approval] on a line, and its settings below"),
        ('[approval]\nminimum = "wink"\n', "[approval] minimum must be one of cli, form, none, sealed, terminal"),
        ("[approval]\ndefault = 1\n", "[approval] default must be true or false"),
        ('[key]\nmax_uses = "5"\n', "[key] max_uses must be a whole number"),
        ("[key]\nmax_uses = 18446744073709551616\n", f"[key] max_uses must be at most {2**53}"),
        ("[key]\nmax_uses = 0\n", "[key] max_uses must be at least 1"),
        ("[quota]\nperson_rooms = -1\n", "[quota] person_rooms must be at least 0"),
        ("[relay]\nlinks = 0\n", "[relay] links must be at least 1"),
        ("[retention]\ndays = -1\n", "[retention] days must be at least 0"),
        ("[relay]\nmetrics_port = 65536\n", "[relay] metrics_port must be from 0 to 65535"),
        ("[wake]\ncodex_program = 1\n", "[wake] codex_program must be text in quotes"),
    ],
)
def test_an_error_calls_a_setting_as_it_was_written_and_names_the_nearest(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    assert _refusal(path, {}).message == f"{path}: {said}"


def test_an_error_of_a_variable_speaks_of_its_value(path: Path) -> None:
    assert (
        _refusal(path, {"PARLER_KEY_TTL_MS": "soon"}).message == "PARLER_KEY_TTL_MS: the value must be a whole number"
    )
    assert _refusal(path, {"PARLER_KEY_MAX_USES": "0"}).message == "PARLER_KEY_MAX_USES: the value must be at least 1"


@pytest.mark.parametrize(
    "text",
    [
        "[key]\nttl_ms = " + "1" * 5000,
        "[key]\nttl_ms = " + "[" * 5000 + "]" * 5000,
        "[key]\nttl_ms = " + "{a=" * 5000 + "1" + "}" * 5000,
        "[key]\na" + ".a" * 5000 + " = 1",
        "[a" + ".a" * 5000 + "]",
        "#" * 100_000,
    ],
    ids=["digits", "lists", "tables", "a dotted name", "a dotted header", "size"],
)
def test_settings_that_keep_a_parser_busy_or_deep_are_refused(path: Path, text: str) -> None:
    path.write_text(text)
    assert "\n" not in _refusal(path, {}).message
