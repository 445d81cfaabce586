"""What packages say of Parler comes from where it stands."""

from __future__ import annotations

from pathlib import Path

import parlerd
from configs.package.about import ROOT, about, with_version
from parlerd.operations.contracts import CONTRACT


def test_it_is_what_the_sources_say() -> None:
    found = about()
    assert (found.name, found.version, found.contract) == ("parlerd", parlerd.__version__, CONTRACT)
    assert found.description.startswith(found.short.rstrip("."))
    assert "trio>=0.30" in found.needs


def test_another_version_changes_the_version_alone() -> None:
    text = (ROOT / "parlerd" / "__init__.py").read_text()
    assert with_version(text, "9.9.9") == text.replace(f'"{parlerd.__version__}"', '"9.9.9"')


def test_no_file_of_the_packages_says_a_version_by_hand() -> None:
    texts = [path for path in Path(ROOT, "configs", "package").rglob("*") if path.suffix not in (".py", ".pyc")]
    assert [path for path in texts if path.is_file() and parlerd.__version__ in path.read_text()] == []
