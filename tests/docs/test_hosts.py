"""The page on agent hosts and the README's table say what the declarations and the recorded run say."""

from __future__ import annotations

import json
from datetime import date

import pytest

from configs.hosts import HOSTS
from configs.model import Host
from docs.hosts import PROMISES, RECORD, readme_with_table
from tests.e2e.hosts.programs import PROGRAMS
from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "hosts.md"


def test_the_readme_has_the_table_that_the_record_gives() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_with_table(readme) == readme, "run: python docs/render.py"


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_a_host_has_a_section_with_its_files_key_and_what_to_do_next(host: Host) -> None:
    section = PAGE.read_text(encoding="utf-8").split(f"\n### {host.name} (`{host.id}`)\n")[1].split("\n## ")[0]
    section = section.split("\n### ")[0]
    for paths in host.files.values():
        assert all(f"`{path}`" in section for path in paths)
    assert f"`{host.key_path[0]}`" in section
    assert host.after.rstrip(".") in section
    assert all(quirk in section for quirk in host.quirks)


def test_the_record_is_of_programs_and_promises_that_the_tests_know() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    date.fromisoformat(record["day"])
    assert set(record["hosts"]) <= {program.host or program.name for program in PROGRAMS}
    for about in record["hosts"].values():
        assert about["version"]
        assert set(about["proved"]) <= set(PROMISES)
