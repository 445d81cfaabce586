"""Connecting, looking and taking out, in a home directory with hosts in it.

`F` numbers are the rows of the table of nasty cases that these hosts' files are known for; `document` and `patch` have
the same rows on their own levels.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from configs import connect as library
from configs.connect import connect
from configs.detect import targets
from configs.disk import Disk
from configs.drift import Drift, drift, watched
from configs.hosts import HOSTS, find_host
from configs.ledger import Ledger
from configs.model import Host, Shim
from configs.outcome import Outcome
from configs.remove import remove
from configs.survey import survey
from parlerd.core.errors import ParlerError
from tests.support.person import Person
from tests.support.settings_files import record

CLAUDE: Final = find_host("claude-code")
CODEX: Final = find_host("codex")
GEMINI: Final = find_host("gemini")
OPENCODE: Final = find_host("opencode")
VSCODE: Final = find_host("vscode")
FULL: Final = b"""{
\t"numStartups": 12345678901234567890,
\t"ratio": 1.0,
\t"mcpServers": {
\t\t"other": {"command": "x", "env": {"TOKEN": "s3cret"}}
\t},
\t"projects": {}
}"""
TOML: Final = b"""# mine
model = "o"   # why

[mcp_servers.other]
command = "x" # keep
"""


def joined(ann: Person, *hosts: Host, **about: Any) -> list[Outcome]:
    return list(connect(ann.place, hosts, **{"chosen": True, **about}))


def one(ann: Person, host: Host = CLAUDE, **about: Any) -> Outcome:
    (outcome,) = joined(ann, host, **about)
    return outcome


def out(ann: Person, host: Host = CLAUDE, **about: Any) -> Outcome:
    (outcome,) = remove(ann.place, [host], **about)
    return outcome


def look(ann: Person, host: Host = CLAUDE) -> Outcome:
    (outcome,) = survey(ann.place, [host])
    return outcome


def drifted(ann: Person) -> Drift:
    (found,) = drift(ann.place)
    return found


def shim(ann: Person, host: Host = CLAUDE) -> Shim:
    return Shim(python=ann.place.python, shim=str(ann.parler.shim), host=host.id, home=str(ann.parler.root))


def entry(ann: Person, name: str = ".claude.json", key: str = "mcpServers") -> Any:
    return json.loads(ann.path(name).read_bytes())[key]["parler"]


def with_entry(value: Any) -> str:
    return json.dumps({"mcpServers": {"parler": value}})


def old_entry(ann: Person, **about: Any) -> dict[str, Any]:
    """What an older version of ours, with another interpreter, wrote."""
    made = CLAUDE.entry(shim(ann))
    return {**made, "command": "/old/python3", **about}


# -- the whole way -------------------------------------------------------------------------------------------------


def test_a_file_that_its_host_left_behind_does_not_count_for_the_one_that_it_reads_now(ann: Person) -> None:
    host = find_host("antigravity")
    ann.write(".gemini/antigravity/mcp_config.json", '{"mcpServers": {"x": {"command": "y"}}}')
    assert [each.status for each in joined(ann, host)] == ["added"]
    ann.write(".gemini/config/mcp_config.json", '{"mcpServers": {}}')
    found = {str(each.path and each.path.parent.name): each.status for each in survey(ann.place, [host])}
    assert found == {"config": "not_connected", "antigravity": "connected"}
    assert [each.status for each in joined(ann, host)] == ["added", "unchanged"]
    assert {each.status for each in remove(ann.place, [host])} == {"removed"}
    assert ann.path(".gemini/config/mcp_config.json").read_text() == '{"mcpServers": {}}'


def test_where_a_host_moved_and_its_new_file_is_still_to_come_that_is_made_too(ann: Person) -> None:
    host = find_host("antigravity")
    ann.write(".gemini/config/.migrated", "")
    ann.write(".gemini/antigravity/mcp_config.json", "{}")
    assert [each.status for each in joined(ann, host)] == ["added", "added"]
    assert ann.path(".gemini/config/mcp_config.json").exists()
    list(remove(ann.place, [host]))
    assert not ann.path(".gemini/config/mcp_config.json").exists()


def test_a_relative_that_reads_another_file_gets_our_entry_where_that_is_there_and_no_file_is_made_for_it(
    ann: Person,
) -> None:
    host = find_host("windsurf")
    ann.path(".codeium/windsurf").mkdir(parents=True)
    assert [each.status for each in joined(ann, host)] == ["added"]
    assert not ann.path(".codeium/mcp_config.json").exists()
    theirs = ann.write(".codeium/mcp_config.json", '{"mcpServers": {"x": {"command": "y"}}}')
    assert [each.status for each in joined(ann, host)] == ["unchanged", "added"]
    assert {each.status for each in remove(ann.place, [host])} == {"removed"}
    assert theirs.read_text() == '{"mcpServers": {"x": {"command": "y"}}}'


def test_a_relative_alone_is_enough(ann: Person) -> None:
    host = find_host("windsurf")
    ann.write(".codeium/mcp_config.json", "{}")
    assert [str(each.path) for each in joined(ann, host)] == [str(ann.path(".codeium/mcp_config.json"))]
    assert not ann.path(".codeium/windsurf").exists()


@pytest.mark.parametrize("id", ["cline", "roo"])
@pytest.mark.parametrize(
    "user",
    [
        ".config/Cursor/User",
        ".config/Windsurf/User",
        ".config/Trae/User",
        ".vscode-server/data/User",
        ".cursor-server/data/User",
        ".local/share/code-server/User",
        ".var/app/com.visualstudio.code/config/Code/User",
    ],
)
def test_an_extension_is_found_in_every_editor_of_the_family_that_has_it(id: str, user: str, ann: Person) -> None:
    host = find_host(id)
    name = {"cline": "saoudrizwan.claude-dev", "roo": "rooveterinaryinc.roo-cline"}[id]
    ann.path(f"{user}/globalStorage/{name}").mkdir(parents=True)
    ann.path(".config/Code/User/globalStorage").mkdir(parents=True)
    assert look(ann, host).status == "not_connected"
    assert one(ann, host).status == "added"
    (file,) = ann.tree()
    assert file.startswith(f"{user}/globalStorage/{name}/settings/")
    assert out(ann, host).status == "removed"
    assert ann.tree() == {}


def test_a_file_that_its_host_would_refuse_without_more_is_made_with_that(ann: Person) -> None:
    ann.path(".continue").mkdir()
    host = find_host("cn")
    assert one(ann, host).status == "added"
    made = ann.path(".continue/config.yaml").read_text()
    assert made.startswith('name: "Main Config"\nversion: "1.0.0"\nschema: "v1"\nmcpServers:\n  - name: "parler"\n')
    assert one(ann, host).status == "unchanged"
    assert out(ann, host).status == "removed"
    assert ann.tree() == {}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_every_host_is_connected_found_and_taken_out_again(host: Host, ann: Person) -> None:
    for program in host.on_path:
        ann.install(program)
    for path in targets(ann.place, host)[:1]:
        path.parent.mkdir(parents=True, exist_ok=True)
    before = ann.tree()
    assert {each.status for each in survey(ann.place, [host])} == {"not_connected"}
    assert {each.status for each in joined(ann, host)} == {"added"}
    assert {each.status for each in survey(ann.place, [host])} == {"connected"}
    assert drift(ann.place) == []
    written = ann.tree()
    assert {each.status for each in joined(ann, host)} == {"unchanged"}
    assert ann.tree() == written
    assert {each.status for each in remove(ann.place, [host])} == {"removed"}
    assert ann.tree() == before
    assert Ledger(ann.parler).entries() == []


@pytest.mark.parametrize(
    ("host", "name", "content"),
    [
        (CLAUDE, ".claude.json", FULL),
        (CLAUDE, ".claude.json", b""),
        (CLAUDE, ".claude.json", b" \n\n"),
        (CLAUDE, ".claude.json", b"{}"),
        (CODEX, ".codex/config.toml", TOML),
        (CODEX, ".codex/config.toml", TOML.replace(b"\n", b"\r\n")),
        (CODEX, ".codex/config.toml", b"\xef\xbb\xbf" + TOML),
        (GEMINI, ".gemini/settings.json", b"// mine\n{ /* a */ }"),
        (OPENCODE, ".config/opencode/opencode.jsonc", b'{\r\n  "mcp": {}, // tail\r\n}\r\n'),
    ],
)
def test_what_was_there_before_comes_back_byte_for_byte(host: Host, name: str, content: bytes, ann: Person) -> None:
    """F1, F2, F4, F5, F8."""
    path = ann.write(name, content, 0o640)
    about = path.stat()
    assert one(ann, host).status == "added"
    assert path.read_bytes() != content
    assert out(ann, host).status == "removed"
    assert ann.tree() == {name: content}
    assert path.stat().st_mode == about.st_mode


@pytest.mark.parametrize(("host", "name"), [(CLAUDE, ".claude.json"), (CODEX, ".codex/config.toml")])
def test_what_others_wrote_since_stays_when_ours_is_taken_out(host: Host, name: str, ann: Person) -> None:
    content = FULL if host is CLAUDE else TOML
    path = ann.write(name, content)
    one(ann, host)
    path.write_bytes(path.read_bytes().replace(b'"x"', b'"y"'))
    assert out(ann, host).status == "removed"
    assert ann.tree() == {name: content.replace(b'"x"', b'"y"')}


def test_a_file_that_we_made_stays_with_what_others_put_into_it(ann: Person) -> None:
    ann.install("claude")
    one(ann)
    path = ann.path(".claude.json")
    whole = json.loads(path.read_bytes())
    path.write_text(json.dumps({**whole, "theirs": 1}, indent=2))
    out(ann)
    assert json.loads(path.read_bytes())["theirs"] == 1
    assert b"parler" not in path.read_bytes()


def test_a_file_that_we_made_and_its_host_only_spaced_otherwise_goes(ann: Person) -> None:
    ann.install("claude")
    one(ann)
    path = ann.path(".claude.json")
    path.write_text(json.dumps(json.loads(path.read_bytes())))
    assert out(ann).status == "removed"
    assert ann.tree() == {}


def test_a_file_we_made_that_got_another_content_and_was_connected_again_is_not_deleted(ann: Person) -> None:
    ann.install("claude")
    one(ann)
    ann.write(".claude.json", FULL)
    assert one(ann).status == "added"
    out(ann)
    assert ann.tree() == {".claude.json": FULL}


def test_folders_that_we_made_go_with_the_file_unless_others_use_them(ann: Person) -> None:
    ann.install("cursor")
    cursor = find_host("cursor")
    one(ann, cursor)
    assert ann.path(".cursor").is_dir()
    out(ann, cursor)
    assert not ann.path(".cursor").exists()
    one(ann, cursor)
    ann.write(".cursor/theirs", "x")
    out(ann, cursor)
    assert ann.tree() == {".cursor/theirs": b"x"}


def test_without_the_backup_ours_is_still_taken_out(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    outcome = one(ann)
    assert outcome.backup is not None
    outcome.backup.write_bytes(b"damaged")
    assert out(ann).status == "removed"
    assert json.loads(ann.path(".claude.json").read_bytes()) == json.loads(FULL)


def test_an_update_in_between_does_not_cost_the_way_back(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    other = Person.__new__(Person)
    other.__dict__.update(ann.__dict__)
    other.python = ann.python.with_name("python3.99")
    other.python.touch(0o755)
    assert [each.status for each in joined(other, CLAUDE)] == ["updated"]
    assert entry(ann)["command"] == str(other.python)
    assert out(other).status == "removed"
    assert ann.tree() == {".claude.json": FULL}


def test_without_a_ledger_an_entry_that_starts_our_shim_is_taken_out(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    Ledger(ann.parler).file.unlink()
    assert out(ann).status == "removed"
    assert json.loads(ann.path(".claude.json").read_bytes()) == json.loads(FULL)


def test_an_entry_that_stood_there_already_is_remembered_as_ours(ann: Person) -> None:
    ann.write(".claude.json", with_entry(CLAUDE.entry(shim(ann))))
    assert one(ann).status == "unchanged"
    assert watched(ann.place) == [ann.path(".claude.json")]
    assert out(ann).status == "removed"
    assert json.loads(ann.path(".claude.json").read_bytes()) == {"mcpServers": {}}


# -- one by one ----------------------------------------------------------------------------------------------------


def test_a_host_that_is_not_here_is_passed_over_unless_it_was_named(ann: Person) -> None:
    (outcome,) = joined(ann, CLAUDE, chosen=False)
    assert (outcome.detected, outcome.status) == (False, "skipped")
    named = one(ann)
    assert (named.detected, named.status) == (False, "failed")
    assert named.hint
    assert named.snippet
    assert ann.tree() == {}
    assert look(ann).status == "not_detected"


def test_a_host_that_has_us_as_a_plugin_is_not_wired_twice(ann: Person) -> None:
    ann.write(".claude/settings.json", '{"enabledPlugins": {"parler@m": true}}')
    outcome = one(ann)
    assert (outcome.status, outcome.path) == ("skipped", None)
    assert "parler@m" in outcome.reason
    assert look(ann).status == "connected"
    assert list(ann.tree()) == [".claude/settings.json"]


def test_an_entry_beside_a_plugin_is_shown_as_one_too_many(ann: Person) -> None:
    ann.write(".claude.json", "{}")
    assert one(ann).status == "added"
    ann.write(".claude/settings.json", '{"enabledPlugins": {"parler@m": true}}')
    plugged, beside = survey(ann.place, [CLAUDE])
    assert (plugged.status, plugged.path, plugged.reason) == ("connected", None, "As the plugin parler@m.")
    assert (beside.status, beside.path) == ("changed", ann.path(".claude.json"))
    assert "twice" in beside.reason


def test_a_dry_run_shows_what_would_change_and_writes_nothing(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    outcome = one(ann, dry_run=True)
    assert outcome.status == "added"
    assert '"parler"' in outcome.diff
    assert "numStartups" not in outcome.diff
    assert ann.tree() == {".claude.json": FULL}
    assert not ann.parler.root.exists()


def test_a_dry_run_of_taking_out_writes_nothing(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    before = ann.tree()
    outcome = out(ann, dry_run=True)
    assert outcome.status == "removed"
    assert outcome.diff
    assert ann.tree() == before
    assert len(Ledger(ann.parler).entries()) == 1


def test_what_was_never_connected_is_unchanged(ann: Person) -> None:
    assert out(ann).status == "unchanged"
    ann.write(".claude.json", FULL)
    assert out(ann).status == "unchanged"
    assert ann.tree() == {".claude.json": FULL}


def test_what_the_host_dropped_or_deleted_is_unchanged_and_forgotten(ann: Person) -> None:
    path = ann.write(".claude.json", FULL)
    one(ann)
    path.write_bytes(FULL)
    assert out(ann).status == "unchanged"
    assert Ledger(ann.parler).entries() == []
    one(ann)
    path.unlink()
    assert out(ann).status == "unchanged"
    assert Ledger(ann.parler).entries() == []


def test_several_editions_have_an_outcome_each(ann: Person) -> None:
    """F18."""
    for name in ("Code/User/profiles/work", "VSCodium/User"):
        ann.path(f".config/{name}").mkdir(parents=True)
    found = joined(ann, VSCODE)
    assert [each.status for each in found] == ["added"] * 3
    assert len({each.path for each in found}) == 3
    assert [each.status for each in survey(ann.place, [VSCODE])] == ["connected"] * 3
    assert [each.status for each in remove(ann.place, [VSCODE])] == ["removed"] * 3
    assert ann.tree() == {}


def test_of_two_files_the_one_that_has_us_is_updated(ann: Person) -> None:
    """F18."""
    ann.write(".config/opencode/opencode.jsonc", "{}")
    ann.write(".config/opencode/opencode.json", json.dumps({"mcp": {"parler": OPENCODE.entry(shim(ann, OPENCODE))}}))
    outcome = one(ann, OPENCODE)
    assert outcome.path == ann.path(".config/opencode/opencode.json")
    assert outcome.status == "unchanged"


def test_a_file_that_moved_its_servers_to_another_table_is_followed(ann: Person) -> None:
    path = ann.write(".config/opencode/opencode.json", "{}")
    one(ann, OPENCODE)
    whole = json.loads(path.read_bytes())
    path.write_text(
        json.dumps({"mcp": {"servers": {"parler": OPENCODE.entry_for(("mcp", "servers"), shim(ann, OPENCODE))}}})
    )
    assert whole["mcp"]["parler"]
    assert drift(ann.place) == []
    assert out(ann, OPENCODE).status == "removed"
    assert b"parler" not in path.read_bytes()


def test_a_link_in_the_place_of_the_file_stays_one(ann: Person) -> None:
    """F6."""
    real = ann.write("dotfiles/claude.json", FULL)
    ann.path(".claude.json").symlink_to(real)
    outcome = one(ann)
    assert outcome.path == ann.path(".claude.json")
    assert any(str(real) in note for note in outcome.notes)
    assert watched(ann.place) == [real]
    out(ann)
    assert ann.path(".claude.json").is_symlink()
    assert real.read_bytes() == FULL


# -- entries that are there already --------------------------------------------------------------------------------


FOREIGN: Final[tuple[dict[str, Any], ...]] = (
    {"command": "/usr/bin/npx", "args": ["parler-chat"]},
    {"type": "http", "url": "https://example.org"},
    {"command": "parler"},
    {"command": ["parlerx", "mcp"]},
    {},
)


@pytest.mark.parametrize("value", FOREIGN, ids=str)
def test_f14_an_entry_of_our_name_that_is_not_ours_stays_unless_asked(value: Any, ann: Person) -> None:
    before = with_entry(value)
    ann.write(".claude.json", before)
    outcome = one(ann)
    assert outcome.status == "failed"
    assert "--replace" in outcome.hint
    assert outcome.snippet
    assert out(ann).status == "unchanged"
    assert look(ann).status == "not_connected"
    assert ann.tree() == {".claude.json": before.encode()}
    assert one(ann, replace=True).status == "updated"
    assert entry(ann) == CLAUDE.entry(shim(ann))
    assert out(ann).status == "removed"
    assert ann.tree() == {".claude.json": before.encode()}


@pytest.mark.parametrize("content", ['{"mcpServers": []}', '{"mcpServers": 3}', with_entry("x"), with_entry([])])
def test_f14_a_value_of_the_wrong_type_is_refused(content: str, ann: Person) -> None:
    ann.write(".claude.json", content)
    outcome = one(ann)
    assert outcome.status == "failed"
    assert outcome.snippet
    assert ann.tree() == {".claude.json": content.encode()}


def test_an_entry_of_an_older_install_is_updated(ann: Person) -> None:
    ann.write(".claude.json", with_entry(old_entry(ann)))
    assert look(ann).status == "changed"
    assert one(ann).status == "updated"
    assert entry(ann) == CLAUDE.entry(shim(ann))
    assert look(ann).status == "connected"


def test_an_entry_of_another_home_is_updated_and_not_taken_out(ann: Person) -> None:
    theirs = CLAUDE.entry(Shim(python="/p", shim="/else/.parler/run/shim.py", host="claude-code", home="/else/.parler"))
    ann.write(".claude.json", with_entry(theirs))
    assert look(ann).status == "changed"
    outcome = out(ann)
    assert outcome.status == "unchanged"
    assert "--home" in outcome.reason
    assert entry(ann) == theirs
    assert one(ann).status == "updated"


def test_an_entry_written_by_hand_with_the_program_is_ours(ann: Person) -> None:
    ann.write(".claude.json", with_entry({"command": "/home/ann/.local/bin/parler", "args": ["mcp"]}))
    assert one(ann).status == "updated"
    assert entry(ann) == {**CLAUDE.entry(shim(ann)), **entry(ann)}


def test_what_the_person_set_in_our_entry_stays_when_it_is_updated(ann: Person) -> None:
    theirs = old_entry(ann, alwaysLoad=False, timeout=9, autoApprove=["parler_recv"])
    ann.write(".claude.json", with_entry(theirs))
    one(ann)
    assert entry(ann) == {**theirs, "command": ann.place.python}
    assert list(entry(ann)) == list(theirs)


def test_what_we_wrote_and_the_person_left_is_updated_with_us(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    ann.write(".codex/config.toml", TOML)
    older = {**CODEX.entry(shim(ann, CODEX)), "startup_timeout_sec": 5, "gone": 1}
    with monkeypatch.context() as patched:
        patched.setattr(library, "entry_of", lambda place, host, keys: older)
        assert one(ann, CODEX).status == "added"
    assert look(ann, CODEX).status == "changed"
    assert one(ann, CODEX).status == "updated"
    assert b"startup_timeout_sec = 20" in ann.path(".codex/config.toml").read_bytes()
    assert b"gone" not in ann.path(".codex/config.toml").read_bytes()
    assert out(ann, CODEX).status == "removed"
    assert ann.tree() == {".codex/config.toml": TOML}


def test_a_key_that_the_person_or_the_host_took_out_of_our_entry_is_not_put_back(ann: Person) -> None:
    path = ann.write(".claude.json", FULL)
    one(ann)
    whole = json.loads(path.read_bytes())
    del whole["mcpServers"]["parler"]["env"]
    path.write_text(json.dumps(whole))
    assert drift(ann.place) == []
    assert one(ann).status == "unchanged"


def test_a_wrapper_around_our_command_stays(ann: Person) -> None:
    made = CLAUDE.entry(shim(ann))
    wrapped = {**made, "command": "/usr/bin/nice", "args": ["-n", "5", made["command"], *made["args"]]}
    ann.write(".claude.json", with_entry(wrapped))
    assert one(ann).status == "unchanged"
    assert look(ann).status == "connected"


@pytest.mark.parametrize("off", [{"disabled": True}, {"enabled": False}], ids=str)
@pytest.mark.parametrize("replace", [False, True])
def test_f17_an_entry_that_was_switched_off_stays_off_and_is_said_to_be(
    off: dict[str, bool], replace: bool, ann: Person
) -> None:
    ann.write(".claude.json", with_entry(old_entry(ann, **off)))
    outcome = one(ann, replace=replace)
    assert outcome.status == "updated"
    assert any("switched off" in note for note in outcome.notes)
    assert entry(ann) | off == entry(ann)
    assert any("switched off" in note for note in look(ann).notes)
    assert drifted(ann).kind == "disabled"


def test_f17_a_list_of_servers_that_are_off_counts_too(ann: Person) -> None:
    ann.write(".claude.json", '{"mcpServers": {}, "disabledMcpServers": ["parler"]}')
    assert any("switched off" in note for note in one(ann).notes)
    assert drifted(ann).kind == "disabled"


def test_f17_a_project_in_which_it_is_off_is_named(ann: Person) -> None:
    off = {"/tmp/a": {}, "/tmp/x": {"disabledMcpServers": ["parler"]}, "/tmp/y": {"disabledMcpServers": ["parler"]}}
    ann.write(".claude.json", json.dumps({"mcpServers": {}, "projects": off}))
    assert any("switched off in Claude Code for /tmp/x and 1 more by `disabledM" in note for note in one(ann).notes)
    ann.write(".claude.json", json.dumps({"mcpServers": {}, "projects": {"/tmp/a": {}, "/tmp/b": 7}}))
    assert not any("switched off" in note for note in one(ann).notes)


def test_an_entry_that_the_person_changed_to_something_else_is_not_taken_out(ann: Person) -> None:
    path = ann.write(".claude.json", FULL)
    one(ann)
    whole = json.loads(path.read_bytes())
    whole["mcpServers"]["parler"] = {"command": "mine"}
    path.write_text(json.dumps(whole))
    before = ann.tree()
    outcome = out(ann)
    assert outcome.status == "failed"
    assert "by hand" in outcome.hint
    assert ann.tree() == before


def test_an_entry_that_the_person_changed_and_that_still_starts_ours_is_taken_out(ann: Person) -> None:
    path = ann.write(".claude.json", FULL)
    one(ann)
    whole = json.loads(path.read_bytes())
    whole["mcpServers"]["parler"]["args"].append("--more")
    path.write_text(json.dumps(whole))
    assert out(ann).status == "removed"
    assert json.loads(path.read_bytes()) == json.loads(FULL)


# -- files that cannot be edited -----------------------------------------------------------------------------------


BROKEN: Final = (
    (CLAUDE, ".claude.json", b'{\n  "mcpServers": {\n', "F16"),
    (CLAUDE, ".claude.json", b'{"mcpServers": {}} trailing', "F16"),
    (CLAUDE, ".claude.json", b'{"a": 1,}', "F3"),
    (CLAUDE, ".claude.json", b'{\n  // mine\n  "a": 1\n}', "F4"),
    (CLAUDE, ".claude.json", b"[]", "F9"),
    (CLAUDE, ".claude.json", b"null", "F9"),
    (CLAUDE, ".claude.json", b'"x"', "F9"),
    (CLAUDE, ".claude.json", b'{"mcpServers": {}, "mcpServers": {}}', "F10"),
    (CLAUDE, ".claude.json", b'{"mcpServers": {"parler": {}, "parler": {}}}', "F10"),
    (CLAUDE, ".claude.json", b'{"a":' * 5000 + b"1" + b"}" * 5000, "F12"),
    (CLAUDE, ".claude.json", '{"a": 1}'.encode("utf-16"), "F1"),
    (CLAUDE, ".claude.json", b'{"a": "\xff"}', "F1"),
    (GEMINI, ".gemini/settings.json", b'{"a": 1,}', "F3"),
    (GEMINI, ".gemini/settings.json", b"\xef\xbb\xbf{}", "F1"),
    (CODEX, ".codex/config.toml", b"a = \n", "F16"),
    (CODEX, ".codex/config.toml", b"mcp_servers = 3\n", "F14"),
    (CODEX, ".codex/config.toml", b"a = 1\na = 2\n", "F10"),
)


@pytest.mark.parametrize(("host", "name", "content", "case"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_file_that_its_host_could_not_read_is_never_touched(
    host: Host, name: str, content: bytes, case: str, ann: Person
) -> None:
    """F1, F3, F4, F9, F10, F12, F14, F16: said with the place and what to paste, and the other hosts go on."""
    ann.write(name, content)
    ann.path(".cursor").mkdir()
    broken, cursor = joined(ann, host, find_host("cursor"))
    assert broken.status == "failed", case
    assert broken.path == ann.path(name)
    assert str(broken.path) in broken.reason
    assert "parler" in broken.snippet
    assert broken.hint
    assert cursor.status == "added"
    assert ann.path(name).read_bytes() == content
    assert ann.backups() == []
    assert look(ann, host).status == "not_connected"
    assert out(ann, host).status == ("failed" if b"parler" in content else "unchanged")
    assert ann.path(name).read_bytes() == content


def test_an_entry_in_a_file_that_broke_since_cannot_be_taken_out_and_is_said(ann: Person) -> None:
    path = ann.write(".claude.json", FULL)
    one(ann)
    broken = path.read_bytes()[:-1]
    path.write_bytes(broken)
    outcome = out(ann)
    assert outcome.status == "failed"
    assert "line" in outcome.reason.lower()
    assert ann.tree() == {".claude.json": broken}
    assert len(Ledger(ann.parler).entries()) == 1


def test_what_a_host_wrote_right_after_us_does_not_make_it_look_as_if_nothing_was_added(
    ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13."""
    path = ann.write(".claude.json", FULL)
    real = Disk.sync_folder

    def then_the_host(self: Disk, folder: Path) -> None:
        if folder == path.parent:
            path.write_bytes(path.read_bytes().replace(b'"x"', b'"y"'))
        real(self, folder)

    with monkeypatch.context() as patched:
        patched.setattr(Disk, "sync_folder", then_the_host)
        assert one(ann).status == "added"
    assert out(ann).status == "removed"
    assert ann.tree() == {".claude.json": FULL.replace(b'"x"', b'"y"')}


def test_f16_a_refusal_names_line_and_column_and_quotes_nothing(ann: Person) -> None:
    ann.write(".claude.json", '{\n  "token": "s3cret",\n  "a": oops\n}')
    reason = one(ann).reason
    assert "line 3" in reason.lower()
    assert "column" in reason
    assert "s3cret" not in reason
    assert "oops" not in reason


def test_f7_a_file_that_may_not_be_written_is_said_with_what_to_paste(ann: Person) -> None:
    ann.write(".claude.json", FULL, 0o444)
    ann.write(".gemini/settings.json", "{}")
    claude, gemini = joined(ann, CLAUDE, GEMINI)
    assert claude.status == "failed"
    assert "read-only" in claude.reason
    assert "mcpServers" in claude.snippet
    assert gemini.status == "added"
    assert ann.tree()[".claude.json"] == FULL
    assert Ledger(ann.parler).entries("entry", "claude-code") == []


def test_a_full_disk_leaves_neither_half_a_file_nor_a_record(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    ann.write(".claude.json", FULL)

    def full(self: Disk, one: Path, other: Path) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Disk, "exchange", full)
    outcome = one(ann)
    assert outcome.status == "failed"
    assert "disk is full" in outcome.reason.lower()
    assert ann.tree() == {".claude.json": FULL}
    assert Ledger(ann.parler).entries() == []


def test_a_failed_update_leaves_the_record_as_it_was(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    recorded = Ledger(ann.parler).entries()
    ann.python = ann.python.with_name("python4")
    ann.python.touch(0o755)

    def fail(self: Disk, one: Path, other: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Disk, "exchange", fail)
        assert one(ann).status == "failed"
    assert Ledger(ann.parler).entries() == recorded
    assert out(ann).status == "removed"
    assert ann.tree() == {".claude.json": FULL}


def test_when_the_ledger_cannot_be_written_no_file_is(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    ann.write(".claude.json", FULL)

    def full(self: Ledger, entries: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Ledger, "_write", full)
    outcome = one(ann)
    assert outcome.status == "failed"
    assert ann.tree() == {".claude.json": FULL}


def test_a_damaged_ledger_is_said_put_aside_and_stops_nothing(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    Ledger(ann.parler).file.write_bytes(b"{")
    outcome = one(ann)
    assert outcome.status == "unchanged"
    assert any("ledger.json" in note for note in outcome.notes)
    assert len(Ledger(ann.parler).aside()) == 1
    assert not any("ledger" in note for note in one(ann).notes)
    assert out(ann).status == "removed"


# -- whose home, and what is started -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["connect", "remove"])
def test_f20_nothing_is_written_over_another_users_home(
    call: str, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann.write(".claude.json", FULL)
    monkeypatch.setattr(Disk, "uid", lambda self: 54321)
    with pytest.raises(ParlerError) as caught:
        joined(ann, CLAUDE) if call == "connect" else out(ann)
    assert caught.value.code == "foreign_home"
    assert str(ann.home) in caught.value.message
    assert ann.tree() == {".claude.json": FULL}
    assert not ann.parler.root.exists()
    assert look(ann).status == "not_connected"


@pytest.mark.parametrize("what", ["interpreter", "its folder", "shim"])
def test_a_program_that_others_can_change_is_not_put_into_any_host(what: str, ann: Person) -> None:
    """Security, D22."""
    ann.write(".claude.json", FULL)
    ann.parler.run.mkdir(parents=True)
    ann.parler.shim.touch()
    {"interpreter": ann.python, "its folder": ann.python.parent, "shim": ann.parler.shim}[what].chmod(0o777)
    with pytest.raises(ParlerError) as caught:
        joined(ann, CLAUDE)
    assert caught.value.code == "unsafe_program"
    assert ann.tree() == {".claude.json": FULL}


def test_what_a_repository_says_in_our_name_is_said_beside_the_host_that_reads_it(
    ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Security, A2 and D22."""
    ann.write(".claude.json", "{}")
    ann.write(".codex/config.toml", "")
    ann.write("repo/.mcp.json", with_entry({"command": "evil"}))
    ann.write("repo/.codex/config.toml", '[mcp_servers.parler]\ncommand = "evil"\n')
    hook = {"hooks": {"Elicitation": [{"matcher": "", "hooks": [{"type": "command", "command": "yes"}]}]}}
    ann.write("repo/.claude/settings.json", json.dumps(hook))
    ann.path("repo/.git").mkdir()
    monkeypatch.chdir(ann.path("repo"))
    claude, codex = joined(ann, CLAUDE, CODEX)
    assert any(".mcp.json" in note for note in claude.notes)
    assert any("settings.json has a hook" in note for note in claude.notes)
    assert [note for note in codex.notes if "entry named parler of its own" in note]
    assert not any(".codex" in note for note in claude.notes)


def test_a_working_directory_that_is_gone_is_no_error(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "cwd", gone)
    ann.write(".claude.json", "{}")
    assert one(ann).status == "added"


def test_f19_paths_with_spaces_and_other_letters_are_words_of_their_own(tmp_path: Path) -> None:
    ann = Person(tmp_path / "Änn O'Neil  x")
    for host, name in ((CLAUDE, ".claude.json"), (CODEX, ".codex/config.toml")):
        ann.write(name, b"")
        assert one(ann, host).status == "added"
        assert look(ann, host).status == "connected"
    assert entry(ann)["command"] == str(ann.python)
    assert out(ann, CODEX).status == "removed"


# -- drift ---------------------------------------------------------------------------------------------------------


def test_what_is_as_it_was_written_has_not_drifted(ann: Person) -> None:
    path = ann.write(".claude.json", FULL)
    one(ann)
    path.write_bytes(path.read_bytes().replace(b'"x"', b'"y"'))
    assert drift(ann.place) == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (FULL, "lost"),
        (b"{}", "lost"),
        (b"{", "changed"),
        (b"", "lost"),
        (with_entry({"command": "x"}).encode(), "changed"),
        (None, "missing_file"),
    ],
)
def test_what_a_host_did_to_our_entry_is_named_with_its_fix(content: bytes | None, kind: str, ann: Person) -> None:
    ann.install("claude")
    path = ann.write(".claude.json", FULL)
    one(ann)
    path.unlink() if content is None else path.write_bytes(content)
    found = drifted(ann)
    assert (found.kind, found.host, found.path, found.hook) == (kind, CLAUDE, path, False)
    assert str(path) in found.sentence
    assert "parler connect" in found.fix


def test_an_entry_for_an_interpreter_that_is_not_ours_any_more_has_drifted(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    ann.python = Path("/another/python")
    assert drifted(ann).kind == "changed"


def test_a_host_that_was_taken_off_the_machine_is_to_be_taken_out(ann: Person) -> None:
    ann.write(".cursor/mcp.json", "{}")
    one(ann, find_host("cursor"))
    ann.path(".cursor/mcp.json").unlink()
    ann.path(".cursor").rmdir()
    assert drifted(ann).fix == "parler connect --remove cursor"


def test_a_hook_that_is_gone_has_drifted_and_one_that_is_there_has_not(ann: Person) -> None:
    path = ann.write(".claude/settings.json", '{"hooks": {"Stop": [{"x": 1}, {"ours": 2}]}}')
    record(Ledger(ann.parler), "hook", "claude-code", path, ("hooks", "Stop"), {"ours": 2})
    assert drift(ann.place) == []
    path.write_text('{"hooks": {"Stop": [{"x": 1}]}}')
    found = drifted(ann)
    assert (found.kind, found.hook) == ("lost", True)
    assert found.fix.endswith("--wake")


def test_a_host_that_this_version_does_not_know_is_passed_over(ann: Person) -> None:
    record(Ledger(ann.parler), "entry", "forgotten", ann.path("x"), ("a",), 1)
    assert drift(ann.place) == []


# -- killed, or not alone ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The program is gone."""


@pytest.mark.parametrize("step", ["create", "exchange", "unlink", "sync_folder"])
@pytest.mark.parametrize("which", [1, 2, 3])
@pytest.mark.parametrize("is_there", [True, False], ids=["existing", "missing"])
def test_whenever_it_is_killed_taking_out_gives_back_every_byte(
    step: str, which: int, is_there: bool, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann.install("claude")
    if is_there:
        ann.write(".claude.json", FULL)
    before = ann.tree()
    count = 0
    real = getattr(Disk, step)

    def dying(self: Disk, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count >= which:
            raise Killed
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Disk, step, dying)
        if step != "unlink":
            patched.setattr(Disk, "unlink", lambda self, path: None)
        try:
            one(ann)
        except Killed:
            pass
        else:
            assert count < which
    assert {*ann.tree()} <= {".claude.json", *(name for name in ann.tree() if ".parler-" in name)}
    one(ann)
    assert look(ann).status == "connected"
    assert out(ann).status == "removed"
    assert ann.tree() == before


def test_two_at_once_connect_every_host_once(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    ann.write(".gemini/settings.json", "{}")
    found: list[Outcome] = []

    def run() -> None:
        found.extend(joined(ann, CLAUDE, GEMINI))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for host in (CLAUDE, GEMINI):
        assert sorted(each.status for each in found if each.host is host) == ["added", *["unchanged"] * 3]
    assert len(Ledger(ann.parler).entries()) == 2
    assert [each.status for each in remove(ann.place, [CLAUDE, GEMINI])] == ["removed", "removed"]
    assert ann.tree() == {".claude.json": FULL, ".gemini/settings.json": b"{}"}


# -- cost ----------------------------------------------------------------------------------------------------------


def modules_after(script: str, ann: Person) -> set[str]:
    code = (
        "import sys\nfrom pathlib import Path\nfrom configs.detect import Place\n"
        "from configs.drift import drift\nfrom configs.survey import survey\n"
        "from configs.hosts import HOSTS\nfrom parlerd.paths import Home\n"
        "home = Home(Path(sys.argv[1]) / '.parler')\n"
        "place = Place(env={'HOME': sys.argv[1]}, system='linux', python='/p', home=home)\n"
        f"{script}\nprint(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(ann.home)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.split())


@pytest.mark.parametrize("script", ["survey(place, HOSTS)", "drift(place)"])
def test_looking_at_hosts_loads_no_editor_for_files_that_are_not_there(script: str, ann: Person) -> None:
    ann.write(".claude.json", FULL)
    ann.write(".gemini/settings.json", "{}")
    assert modules_after(script, ann).isdisjoint({"tomlkit", "ruamel.yaml", "rich", "trio", "watchfiles"})


def test_no_entry_and_no_message_shows_what_stands_beside_ours(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    ann.write(".codex/config.toml", b'token = "s3cret"\noops')
    outcomes: Sequence[Outcome] = [*joined(ann, CLAUDE, CODEX), *survey(ann.place, [CLAUDE, CODEX])]
    assert not any("s3cret" in str(each) for each in outcomes)


def test_what_is_kept_about_hosts_is_the_persons_alone(ann: Person) -> None:
    ann.write(".claude.json", FULL)
    one(ann)
    for path in [ann.parler.root, *ann.parler.root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert os.access(ann.parler.connect, os.W_OK)
