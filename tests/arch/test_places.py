"""The files of the project: what is tested where, and that none speaks of one machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SAME_NAMES: Final = ("core", "wire")
"""Packages in which each module has a test file of its own."""
FOLDERS: Final = {
    "parlerd", "parlerd/core", "parlerd/wire", "parlerd/store", "parlerd/store/postgres", "parlerd/identity",
    "parlerd/operations",
    "parlerd/operations/families", "parlerd/engine", "parlerd/connections", "parlerd/ipc",
    "parlerd/client", "parlerd/cli", "parlerd/expr", "parlerd/text", "parlerd/git", "parlerd/sight",
    "parlerd/uplink", "parlerd/uplink/arriving", "parlerd/uplink/asking",
    "parlerd/web", "parlerd/web/pages",
    "mcp_server", "mcp_server/stdio", "mcp_server/tools", "configs", "configs/hosts", "relay",
    "configs/package", "configs/package/front/_parler",
}  # fmt: skip
ELSEWHERE: Final = {
    "parlerd/cli/probe_model": "cli/test_probe",
    "parlerd/engine/file_seals": "uplink/test_sealed_files",
    "parlerd/uplink/answers": "uplink/test_state",
    "parlerd/uplink/arriving/hearing": "uplink/arriving/test_items",
    "parlerd/uplink/arriving/messages": "uplink/arriving/test_pages",
    "parlerd/uplink/arriving/opener": "uplink/test_sealed",
    "parlerd/uplink/arriving/records": "uplink/test_sealed_lies",
    "parlerd/uplink/arriving/statements": "uplink/arriving/test_members",
    "parlerd/uplink/asking/deciding": "uplink/test_relayed",
    "parlerd/uplink/asking/earlier": "uplink/test_rosters",
    "parlerd/uplink/asking/errands": "uplink/test_relayed",
    "parlerd/uplink/asking/gating": "uplink/test_sealed_gated",
    "parlerd/uplink/asking/going_on": "uplink/test_rewinding",
    "parlerd/uplink/asking/granting": "uplink/test_joins",
    "parlerd/uplink/asking/knocking": "uplink/test_joins",
    "parlerd/uplink/asking/ladder": "uplink/test_requested",
    "parlerd/uplink/asking/line": "uplink/test_relayed",
    "parlerd/uplink/asking/opening": "uplink/test_sealed",
    "parlerd/uplink/asking/questions": "uplink/test_state",
    "parlerd/uplink/asking/room_home": "uplink/test_relayed",
    "parlerd/uplink/asking/tasks": "uplink/test_relayed",
    "parlerd/uplink/composing": "uplink/test_relayed",
    "parlerd/uplink/doors": "uplink/test_relayed",
    "parlerd/uplink/mirrors": "uplink/test_relayed",
    "parlerd/uplink/remote_room": "uplink/test_relayed",
    "parlerd/uplink/reporting": "uplink/test_sights",
    "parlerd/uplink/sealed_rooms": "uplink/test_sealed_readers",
    "parlerd/uplink/secrets": "uplink/test_sealed",
    "parlerd/uplink/speakers": "uplink/test_link",
    "parlerd/uplink/turning": "uplink/test_sealed",
    "parlerd/uplink/walking": "uplink/test_sealed",
    "parlerd/__main__": "client/test_launch",
    "parlerd/bounded": "plain/test_bounded",
    "parlerd/groups": "plain/test_groups",
    "parlerd/beneath": "plain/test_beneath",
    "parlerd/git/repository": "git/test_hostile",
    "parlerd/git/scratch": "git/test_pushing",
    "parlerd/git/worktree": "git/test_pushing",
    "parlerd/cli/transfer": "cli/test_files",
    "parlerd/engine/brought": "engine/test_files",
    "parlerd/engine/minting": "engine/test_bearers",
    "parlerd/engine/token_handlers": "engine/test_bearers",
    "parlerd/engine/sighting": "scenario/test_sight",
    "parlerd/engine/shelving": "scenario/test_files",
    "configs/chosen": "configs/test_keep",
    "parlerd/controller": "settings/test_controller",
    "parlerd/daemon": "e2e/test_cli_main_event",
    "parlerd/floor": "settings/test_floor",
    "parlerd/hardening": "e2e/test_cli_main_event",
    "parlerd/lean": "cli/test_main",
    "parlerd/listener": "plain/test_listener",
    "parlerd/logs": "e2e/test_cli_main_event",
    "relay/control": "relay/test_program",
    "relay/routing": "relay/test_together",
    "parlerd/engine/owning": "relay/test_together",
    "parlerd/engine/requested": "uplink/test_requested",
    "parlerd/store/memory_relays": "contract/test_shared_out",
    "parlerd/store/counts": "contract/test_counts",
    "parlerd/store/memory_counts": "contract/test_counts",
    "parlerd/store/postgres/counts": "contract/test_counts",
    "relay/__main__": "relay/test_program",
    "parlerd/paths": "settings/test_paths",
    "parlerd/process": "ipc/test_process",
    "parlerd/settings": "settings/test_settings",
    "parlerd/store/batching": "contract/test_store",
    "parlerd/store/checking": "contract/test_store",
    "parlerd/store/database": "store/test_sqlite",
    "parlerd/store/judging": "contract/test_store",
    "parlerd/store/memory": "contract/test_store",
    "parlerd/store/numbering": "contract/test_store",
    "parlerd/store/paging": "contract/test_store",
    "parlerd/store/peeking": "contract/test_store",
    "parlerd/sight/port": "core/test_sight",
    "parlerd/store/port": "contract/test_store",
    "parlerd/store/several": "contract/test_store",
    "parlerd/store/postgres/queries": "contract/test_store",
    "parlerd/store/postgres/relays": "store/test_relays",
    "parlerd/store/statements": "store/test_indexing",
    "parlerd/identity/home_secret": "identity/test_keyring",
    "parlerd/identity/keyfiles": "identity/test_keyring",
    "parlerd/operations/contracts": "web/test_contracts",
    "parlerd/operations/entry": "arch/test_registry",
    "parlerd/operations/registry": "arch/test_registry",
    "parlerd/operations/samples": "arch/test_registry",
    "parlerd/operations/shared": "arch/test_registry",
    "parlerd/operations/traits": "configs/test_hosts",
    "parlerd/operations/types": "arch/test_registry",
    "parlerd/engine/face": "engine/test_engine",
    "parlerd/engine/cards": "engine/test_following",
    "parlerd/engine/telling": "web/test_events",
    "parlerd/web/routing": "web/test_app",
    "parlerd/web/streaming": "web/test_events",
    "parlerd/engine/deciding": "engine/test_actor",
    "parlerd/engine/entries_shown": "engine/test_coordination",
    "parlerd/engine/watching": "engine/test_coordination",
    "parlerd/engine/affording": "scenario/test_affordances",
    "parlerd/engine/acting": "scenario/test_actions",
    "parlerd/engine/actions_asked": "scenario/test_actions",
    "parlerd/engine/actions_shown": "scenario/test_actions",
    "parlerd/engine/conditions": "engine/test_coordination",
    "parlerd/engine/standing": "scenario/test_modules",
    "parlerd/engine/sight": "engine/test_coordination",
    "parlerd/engine/state_inputs": "scenario/test_state",
    "parlerd/engine/crossing": "uplink/test_state",
    "parlerd/engine/departing": "scenario/test_channels",
    "parlerd/engine/inviting": "scenario/test_channels",
    "parlerd/engine/keeping": "engine/test_retaining",
    "parlerd/engine/verifying": "uplink/test_sealed_verifying",
    "parlerd/engine/succeeding": "uplink/test_sealed_succeeding",
    "parlerd/engine/knocks": "engine/test_joining",
    "parlerd/engine/absent": "uplink/test_bounds",
    "parlerd/engine/kept": "engine/test_admitting",
    "parlerd/engine/look_back": "uplink/test_relayed",
    "parlerd/engine/links": "engine/test_linking",
    "parlerd/engine/plans": "engine/test_opening",
    "parlerd/engine/private": "engine/test_memory",
    "parlerd/engine/reachable": "engine/test_admitting",
    "parlerd/engine/recalling": "engine/test_memory",
    "parlerd/engine/submissions": "engine/test_actor",
    "parlerd/ipc/connection": "ipc/test_server",
    "parlerd/ipc/host": "ipc/test_server",
    "parlerd/connections/stream": "contract/test_message_stream",
    "parlerd/connections/websocket": "contract/test_message_stream",
    "parlerd/client/connection": "client/test_client",
    "parlerd/client/link": "client/test_client",
    "parlerd/cli/approvals_view": "cli/test_approvals",
    "parlerd/cli/commands": "cli/test_main",
    "parlerd/cli/completion": "cli/test_programs",
    "parlerd/cli/connect_view": "cli/test_connect",
    "parlerd/cli/demo_story": "e2e/test_demo",
    "parlerd/cli/demo_team": "e2e/test_demo",
    "parlerd/cli/doctor": "cli/test_daemon",
    "parlerd/cli/handlers": "cli/test_main",
    "parlerd/cli/hook": "e2e/test_hooks",
    "parlerd/cli/help": "cli/test_main",
    "parlerd/cli/live": "cli/test_board",
    "parlerd/cli/parsing": "cli/test_main",
    "parlerd/cli/table": "cli/test_tabling",
    "parlerd/cli/program": "cli/test_programs",
    "parlerd/cli/render": "cli/test_messages",
    "parlerd/cli/rooms": "cli/test_looking",
    "parlerd/cli/watch": "cli/test_looking",
    "parlerd/web/description": "web/test_app",
    "parlerd/web/describing": "web/test_contracts",
    "parlerd/web/ports": "web/test_app",
    "mcp_server/demo_client": "e2e/test_demo",
    "mcp_server/asking": "mcp_server/test_session",
    "mcp_server/conversations": "mcp_server/test_session",
    "mcp_server/era": "mcp_server/test_modern",
    "mcp_server/forms": "mcp_server/test_modern",
    "mcp_server/knock": "mcp_server/test_session",
    "mcp_server/repeats": "mcp_server/test_window",
    "mcp_server/showing": "mcp_server/test_shown",
    "mcp_server/sdk": "mcp_server/test_session",
    "mcp_server/stdio/launch": "mcp_server/test_shim",
    "mcp_server/stdio/lines": "mcp_server/test_pipe",
    "mcp_server/stdio/link": "mcp_server/test_pipe",
    "mcp_server/stdio/replay": "mcp_server/test_shim",
    "mcp_server/stdio/requests": "mcp_server/test_shim",
    "mcp_server/stdio/system": "mcp_server/test_shim",
    "mcp_server/stdio/table": "mcp_server/test_shim",
    "mcp_server/tools/failures": "mcp_server/test_results",
    "configs/additions": "configs/test_hooks",
    "configs/drift": "configs/test_connect",
    "configs/outcome": "configs/test_connect",
    "configs/remove": "configs/test_connect",
    "configs/survey": "configs/test_connect",
    "configs/edit": "configs/test_document",
    "configs/events": "configs/test_hooks",
    "configs/guard": "configs/test_patch",
    "configs/model": "configs/test_hosts",
    "configs/render": "configs/test_document",
    "configs/package/__main__": "configs/package/test_make",
    "configs/package/front/_parler/__main__": "e2e/packages/test_together",
    "configs/package/listing": "configs/package/test_plugins",
    "configs/shapes": "configs/test_hosts",
    "configs/snippet": "configs/test_hosts",
    **{
        f"parlerd/operations/families/{path.stem}": "arch/test_registry"
        for path in (ROOT / "parlerd/operations/families").glob("[a-z]*.py")
    },
    **{f"configs/hosts/{path.stem}": "configs/test_hosts" for path in (ROOT / "configs/hosts").glob("[a-z]*.py")},
}
"""Where a module is tested that has no test file of its name. A module that is in neither is not tested on purpose."""
TEST_FILES: Final = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
MACHINES: Final = re.compile(
    r"(?<![\w.:/~>})\"'$-])/(?:root|work|farm|mnt|data|Users|home/\w+)/"
    r"|/tmp/(?!parler-)[a-z]+/"
    r"|[a-z]+\.(?:internal|corp|lan)\b"
)
"""Places that only somebody's machine has: a page or a test that names one works there alone."""


def files() -> list[Path]:
    """Every file that git would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def modules(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("package", SAME_NAMES)
def test_every_module_that_holds_rules_has_a_test_file_of_its_name(package: str) -> None:
    missing = [name for name in modules(f"parlerd/{package}") if f"tests/{package}/test_{name}.py" not in TEST_FILES]
    assert missing == []


def own_test(module: str) -> str:
    """Where the test file of a module's name would stand."""
    folder, _, name = module.rpartition("/")
    folder = folder.removeprefix("parlerd/")
    if not (ROOT / "tests" / folder).is_dir():
        folder = folder.partition("/")[0]
    return f"tests/{folder}/test_{name}.py"


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_every_module_is_tested_under_its_own_name_or_where_the_map_says(folder: str) -> None:
    every = [f"{folder}/{name}" for name in modules(folder)]
    assert [module for module in every if own_test(module) not in TEST_FILES and module not in ELSEWHERE] == []


def test_the_map_has_every_folder_with_modules_and_no_other() -> None:
    packages = ("parlerd", "mcp_server", "relay", "configs")
    folders = {
        path.parent for package in packages for path in (ROOT / package).rglob("*.py") if path.stem != "__init__"
    }
    assert {folder.relative_to(ROOT).as_posix() for folder in folders} == FOLDERS


def test_the_map_names_no_module_that_has_a_test_file_of_its_name() -> None:
    assert [module for module in ELSEWHERE if own_test(module) in TEST_FILES] == []


@pytest.mark.parametrize(("module", "file"), sorted(ELSEWHERE.items()))
def test_the_map_leads_from_a_module_that_exists_to_a_test_that_exists(module: str, file: str) -> None:
    assert (ROOT / f"{module}.py").exists()
    assert f"tests/{file}.py" in TEST_FILES


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    found = []
    for path in files():
        if path.suffix in (".db", ".log", ".lock", ".bin") or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if MACHINES.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


@pytest.mark.parametrize("text", ["see /root/x", "cd /work/project/a", " /home/ann/x", "in /tmp/mine/x"])
def test_a_place_on_somebodys_machine_is_noticed(text: str) -> None:
    assert MACHINES.search(text)
