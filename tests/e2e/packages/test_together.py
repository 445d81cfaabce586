"""A wheel in one environment with a distribution that has modules of the same plain names, in every order.

Nothing is fetched: what both run on is lent by the environment of the tests.
"""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Final

import pytest

from configs.package.wheels import strangers
from tests.support.packaged import Environment, Machine

pytestmark = pytest.mark.e2e

NAMES: Final = ("parlerd", "mcp_server", "relay", "configs")
FOREIGN: Final = "foreign-1.0-py3-none-any.whl"


def foreign(folder: Path) -> Path:
    """A distribution of somebody else, with a program that uses four modules of its own. They are called like ours."""
    wheel = folder / FOREIGN
    files = {f"{name}/__init__.py": f'SAYS = "the foreign {name}"\n' for name in NAMES}
    files["relay/__main__.py"] = 'print("the foreign program")\n'
    files["foreign_program.py"] = (
        "def main():\n    import parlerd, mcp_server, relay, configs\n"
        "    print(parlerd.SAYS, mcp_server.SAYS, relay.SAYS, configs.SAYS, sep=', ')\n"
    )
    info = "foreign-1.0.dist-info"
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = "[console_scripts]\nforeign = foreign_program:main\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return wheel


class Shared(Environment):
    """One environment for both."""

    def __init__(self, machine: Machine, packages: Path, folder: Path) -> None:
        super().__init__(machine, folder / "environment")
        (ours,) = packages.glob("*.whl")
        self.wheels = {"ours": ours, "theirs": foreign(folder)}

    def has(self, *which: str) -> None:
        for each in which:
            self.installs(self.wheels[each])

    def ours_works(self, topic: str) -> None:
        self.machine.two_agents_talk([self.bin / "parler"], topic)

    def theirs_works(self) -> None:
        said = self.machine.runs(self.bin / "foreign").stdout.strip()
        assert said == ", ".join(f"the foreign {name}" for name in NAMES)
        assert self.machine.runs(self.bin / "python", "-m", "relay").stdout == "the foreign program\n"


@pytest.fixture
def environment(machine: Machine, packages: Path, tmp_path: Path) -> Shared:
    return Shared(machine, packages, tmp_path)


def test_a_wheel_puts_one_name_of_its_own_into_an_environment(packages: Path, tmp_path: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    assert strangers(wheel) == []
    assert strangers(foreign(tmp_path)) == sorted([*NAMES, "foreign_program.py"])


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_two_distributions_with_the_same_module_names_both_work_in_either_order(
    environment: Shared, order: tuple[str, str]
) -> None:
    environment.has(*order)
    environment.ours_works("auth")
    environment.theirs_works()
    # The daemon that the command started runs on our modules too, and so does the one after it.
    parler = environment.bin / "parler"
    environment.machine.runs(parler, "daemon", "restart")
    environment.machine.still_talks([parler])


@pytest.mark.parametrize("gone", ["parlerd", "foreign"])
def test_taking_one_of_them_out_leaves_the_other_whole(environment: Shared, gone: str) -> None:
    environment.has("ours", "theirs")
    environment.removes(gone)
    if gone == "parlerd":
        environment.theirs_works()
        assert not (environment.site / "_parler").exists() or not list((environment.site / "_parler").rglob("*.py"))
    else:
        environment.ours_works("auth")
        assert not (environment.site / "relay").exists()


def test_nobody_else_finds_our_modules_by_their_plain_names(environment: Shared) -> None:
    environment.has("ours")
    look = f"import importlib.util as u; print([name for name in {NAMES} if u.find_spec(name)])"
    bare: list[str | Path] = [environment.bin / "python", "-I", "-S", "-c"]
    found = environment.machine.runs(*bare, f"import sys; sys.path.append({str(environment.site)!r}); {look}").stdout
    assert found == "[]\n"


def test_a_start_up_file_that_loads_their_module_first_is_named(environment: Shared) -> None:
    environment.has("ours", "theirs")
    (environment.site / "zz-early.pth").write_text("import relay\n")
    ran = environment.machine.runs(environment.bin / "parler", "--version", expect=1)
    assert "had loaded another program's module named relay before" in ran.stderr
    assert str(environment.site / "relay") in ran.stderr
    assert "uv tool install parlerd" in ran.stderr


@pytest.mark.parametrize("program", ["parler", "parlerd", "relay"])
def test_each_program_can_be_started_without_a_script(environment: Shared, program: str) -> None:
    environment.has("ours")
    python: list[str | Path] = [environment.bin / "python", "-I", "-m", "_parler"]
    assert environment.machine.runs(*python, program, "--version").stdout.startswith(f"{program} ")
    assert "usage: python -m _parler" in environment.machine.runs(*python, "other", expect=1).stderr


def test_a_client_of_the_registry_starts_the_server_by_the_name_of_the_package(environment: Shared) -> None:
    environment.has("ours")
    first = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
    first += '"capabilities":{},"clientInfo":{"name":"a-client","version":"1"}}}\n'
    ran = subprocess.run(
        [str(environment.bin / "parlerd"), "mcp"],
        env=environment.machine.environment(),
        input=first,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert '"serverInfo":{"name":"parler"' in ran.stdout
