"""The bill of materials has everything that Parler runs on, as the lock says."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from configs.package import bom
from configs.package.about import ROOT, about

FOUND = bom.parts(ROOT, "parlerd")


def test_every_requirement_and_what_it_needs_is_in_it_and_nothing_of_the_tests() -> None:
    names = {part.name for part in FOUND}
    assert {"trio", "outcome", "mcp", "pydantic-core"} <= names
    assert names & {"pytest", "hatchling", "parlerd"} == set()
    assert {need for part in FOUND for need in part.needs} <= names


def test_what_comes_with_an_extra_says_so_and_is_optional() -> None:
    extras = {part.name: part.extra for part in FOUND if part.extra}
    assert extras == {"psycopg": "postgres", "psycopg-binary": "postgres", "tzdata": "postgres"}
    document = bom.document(about(), FOUND)
    optional = {each["name"] for each in document["components"] if each["scope"] == "optional"}
    assert optional == set(extras)
    itself, psycopg = document["dependencies"][0], f"pkg:pypi/psycopg@{version('psycopg')}"
    assert psycopg in itself["dependsOn"]
    (needs,) = (each["dependsOn"] for each in document["dependencies"] if each["ref"] == psycopg)
    assert f"pkg:pypi/psycopg-binary@{version('psycopg-binary')}" in needs


def test_each_part_that_is_installed_here_has_a_licence() -> None:
    """The others belong to systems on which Parler does not run, or that a dependency names."""
    assert {part.name for part in FOUND if part.licence == bom.UNKNOWN} <= {
        "pywin32",
        "httpx2-jsfetch",
        "colorama",
        "tzdata",
    }


def test_the_document_is_whole() -> None:
    document = bom.document(about(), FOUND)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    references = [document["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in document["components"])]
    assert len(set(references)) == len(references) == len(FOUND) + 1
    assert [each["ref"] for each in document["dependencies"]] == references
    assert {ref for each in document["dependencies"] for ref in each["dependsOn"]} <= set(references)
    assert f"pkg:pypi/trio@{version('trio')}" in document["dependencies"][0]["dependsOn"]
    assert document == bom.document(about(), list(FOUND))
    assert document["serialNumber"] != bom.document(about(), [*FOUND, bom.Part("x", "1", "MIT", ())])["serialNumber"]


def test_the_list_for_people_has_each_part_with_its_licence() -> None:
    text = bom.licences(about(), FOUND)
    assert all(f"{part.name} {part.version}: {part.licence}" in text for part in FOUND)
    assert f"psycopg {version('psycopg')}: LGPL-3.0-only (postgres)\n" in text


def test_another_version_than_the_locks_is_refused(tmp_path: Path) -> None:
    lock = (ROOT / "uv.lock").read_text()
    (trio,) = (each for each in tomllib.loads(lock)["package"] if each["name"] == "trio")
    old = f'name = "trio"\nversion = "{trio["version"]}"'
    assert lock.count(old) == 1
    (tmp_path / "uv.lock").write_text(lock.replace(old, 'name = "trio"\nversion = "0.0.1"'))
    with pytest.raises(bom.Mismatch, match=r"trio .* is installed, and uv\.lock says 0\.0\.1"):
        bom.parts(tmp_path, "parlerd")
