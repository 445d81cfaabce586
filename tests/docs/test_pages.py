"""What the pages written by hand list is what there is: settings, dependencies, packages, links."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from configs.hosts import HOSTS
from parlerd.settings import Settings
from tests.support.pages import PAGES, ROOT, anchors, blocks, links, rows, spans

DOCS: Final = ROOT / "docs"
PACKAGES: Final = ("parlerd", "mcp_server", "relay", "configs")
MODULE_OF: Final = {
    "cel-expr-python": {"cel_expr_python"},
    "mcp": {"mcp", "mcp_types"},
    "pynacl": {"nacl"},
    "ruamel-yaml": {"ruamel"},
}
"""What a distribution is imported as, where it is not its name."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(requirement: str) -> str:
    """As package indexes compare names: lower case, and a dot is a dash."""
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found
    return found[0].lower().replace(".", "-")


@cache
def imports(folder: Path) -> frozenset[str]:
    """The top-level names that the modules below a folder import."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return frozenset(found)


# -- settings --------------------------------------------------------------------------------------------------


def test_every_setting_has_a_row_with_its_table_variable_and_default() -> None:
    documented = [row[:3] for row in rows(DOCS / "settings.md") if row[0].startswith("`[")]
    expected = []
    for name in Settings.__struct_fields__:
        table, _, key = name.partition("_")
        default = getattr(Settings(), name)
        written = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
        shown = f'"{written}"' if isinstance(default, str) else written
        expected.append([f"`[{table}] {key}`", f"`PARLER_{name.upper()}`", f"`{shown}`"])
    assert sorted(documented) == sorted(expected)


def test_the_example_of_the_settings_page_is_a_valid_file(tmp_path: Path) -> None:
    from parlerd.settings import load_settings

    (example,) = (block.text for block in blocks(DOCS / "settings.md") if block.language == "toml")
    path = tmp_path / "settings.toml"
    path.write_text(example, encoding="utf-8")
    loaded = load_settings(path, {})
    assert loaded != Settings()


def test_every_variable_that_programs_read_is_on_the_settings_page() -> None:
    sources = [path.read_text(encoding="utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    read = set(re.findall(r"[\"'](PARLER_[A-Z_]+|NO_COLOR)[\"']", "\n".join(sources)))
    assert read
    assert read <= set(spans(DOCS / "settings.md"))


# -- dependencies ----------------------------------------------------------------------------------------------


def run_on() -> list[str]:
    """What Parler runs on, with what it does by an extra."""
    data = project()["project"]
    return [*data["dependencies"], *(line for extra in data["optional-dependencies"].values() for line in extra)]


def test_every_dependency_has_its_reason_and_every_reason_a_dependency() -> None:
    data = project()
    declared = run_on() + data["dependency-groups"]["dev"] + data["build-system"]["requires"]
    reasons = {name_of(row[0].strip("`")) for row in rows(DOCS / "dependencies.md") if row[0].startswith("`")}
    assert reasons == {name_of(requirement) for requirement in declared}


def test_a_distribution_that_is_imported_by_another_name_is_one_that_is_declared() -> None:
    declared = {name_of(requirement) for requirement in project()["project"]["dependencies"]}
    assert set(MODULE_OF) <= declared
    assert {name: modules for name, modules in MODULE_OF.items() if modules == {name}} == {}


def test_nothing_is_imported_that_is_not_declared() -> None:
    declared = {name_of(requirement) for requirement in run_on()}
    allowed = set(PACKAGES).union(*(MODULE_OF.get(name, {name}) for name in declared)) | sys.stdlib_module_names
    # posix, _socket and the like: modules of the interpreter itself that the list of the library leaves out.
    allowed |= set(sys.builtin_module_names)
    found = {name for package in PACKAGES for name in imports(ROOT / package)}
    assert found - allowed == set()


def test_what_is_said_to_be_unused_is_and_everything_else_is_used() -> None:
    said = {name_of(row[0].strip("`")): row[1] for row in rows(DOCS / "dependencies.md") if row[0].startswith("`")}
    used = {name for package in PACKAGES for name in imports(ROOT / package)}
    for requirement in run_on():
        name = name_of(requirement)
        unused = said[name] in ("tests", "nothing yet in this version")
        assert bool(MODULE_OF.get(name, {name}) & used) is not unused, name


def test_the_lock_names_public_sources_alone() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text(encoding="utf-8")))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_the_lock_is_of_what_is_declared() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    (parler,) = (package for package in lock["package"] if package["name"] == "parlerd")
    locked = {(entry["name"], entry.get("specifier", "")) for entry in parler["metadata"]["requires-dist"]}
    assert locked == {(name_of(line), re.sub(r"^[\w.-]+(?:\[\w+\])?|;.*", "", line)) for line in run_on()}


# -- architecture, hosts, links ----------------------------------------------------------------------------------


def test_the_architecture_page_has_every_package_and_no_other() -> None:
    page = DOCS / "architecture.md"
    named = set(re.findall(r"`((?:parlerd|mcp_server|relay|configs)/[\w/.]*)`", page.read_text(encoding="utf-8")))
    existing = {f"parlerd/{path.parent.name}/" for path in (ROOT / "parlerd").glob("*/__init__.py")}
    existing |= {f"{name}/" for name in PACKAGES[1:]}
    assert existing <= named
    assert {name for name in named if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()} == set()


SECTIONS: Final = re.findall(
    r"^### `([\w/]+/)`$(.*?)(?=^#|\Z)", (DOCS / "architecture.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
"""The packages whose modules the architecture page lists, and what it says of them."""


def test_the_architecture_page_lists_the_modules_of_every_package_that_has_more_than_one() -> None:
    packages = [path.parent for name in PACKAGES for path in (ROOT / name).glob("**/__init__.py")]
    # A folder that a module list names as one thing (the families, the agent hosts, the tools) is listed no further.
    as_one = {"operations/families", "configs/hosts", "mcp_server/tools"}
    larger = {f"{path.relative_to(ROOT)}/" for path in packages if len(list(path.glob("[a-z]*.py"))) > 0}
    assert {folder for folder, _ in SECTIONS} == {
        name for name in larger if name[:-1].removeprefix("parlerd/") not in as_one
    }


@pytest.mark.parametrize(("folder", "text"), SECTIONS, ids=[folder for folder, _ in SECTIONS])
def test_the_architecture_page_lists_every_module_of_a_package_once_and_no_other(folder: str, text: str) -> None:
    firsts = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name for cell in firsts for name in re.findall(r"`([a-z_]+)`", cell)]
    modules = {path.stem for path in (ROOT / folder).glob("[a-z]*.py")}
    folders = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert len(set(listed)) == len(listed)
    assert modules <= set(listed) <= modules | folders


def test_every_agent_host_is_named_where_a_newcomer_looks() -> None:
    assert {host.id for host in HOSTS} <= {*spans(ROOT / "README.md"), "claude-code"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    assert f"docs/{page.name}" in links(ROOT / "README.md")
