"""What Parler brings along: a bill of materials in CycloneDX 1.6, and the licences of all of it.

Read from `uv.lock`, which fixes every version, and from the metadata of the packages that are installed here. Above:
`wheels`, `__main__`. Invariant: no package of the lock's closure is left out, and none is told of in another version
than the lock's.
"""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from configs.package.about import About

if TYPE_CHECKING:
    from email.message import Message

_BY_CLASSIFIER: Final[Mapping[str, str]] = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""For packages that say their licence in no other way that a program can read."""
_SPACE: Final = uuid.UUID("6f1d7c1e-3d7a-5b52-9d4e-7d2f0c1b8a90")
"""Of the serial numbers, which are drawn from what they number."""
UNKNOWN: Final = "NOASSERTION"


@dataclass(frozen=True, slots=True)
class Part:
    """A package that Parler runs on. `licence` is an SPDX expression, or `UNKNOWN` where the package is not installed
    here because it belongs to another system."""

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]
    extra: str = ""
    """The extra that it comes with; empty for what is always there."""

    @property
    def url(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


class Mismatch(Exception):
    """What is installed here is not what the lock says."""


def parts(root: Path, name: str) -> list[Part]:
    """Every package that the distribution of that name runs on, by name. Raises `Mismatch`."""
    with (root / "uv.lock").open("rb") as file:
        locked = tomllib.load(file)["package"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in locked:
        by_name.setdefault(package["name"], []).append(package)
    (itself,) = by_name[name]
    reached = dict.fromkeys(_closure(by_name, itself.get("dependencies", ())), "")
    for extra, needs in sorted(itself.get("optional-dependencies", {}).items()):
        for each in _closure(by_name, needs):
            reached.setdefault(each, extra)
    return [_part(package, reached[each]) for each in sorted(reached) for package in by_name[each]]


def _closure(by_name: Mapping[str, list[dict[str, Any]]], needs: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names of what is needed, and of what that needs."""
    reached: set[tuple[str, str]] = set()
    wanted = [*_named(needs)]
    while wanted:
        if (each := wanted.pop()) not in reached:
            reached.add(each)
            name, extra = each
            for package in by_name[name]:
                more = (
                    package.get("optional-dependencies", {}).get(extra, ())
                    if extra
                    else package.get("dependencies", ())
                )
                wanted += _named(more)
    return {name for name, _ in reached}


def _named(needs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each of these by its name, and once more with each extra of it that is asked for."""
    for need in needs:
        yield from ((need["name"], extra) for extra in ("", *need.get("extra", ())))


def _part(package: Mapping[str, Any], extra: str) -> Part:
    # What comes with extras of a package is there where the extra is asked for, as far as the lock says.
    with_extras = [need for needs in package.get("optional-dependencies", {}).values() for need in needs]
    return Part(
        package["name"],
        package["version"],
        _licence(package["name"], package["version"]),
        tuple(dict.fromkeys(need["name"] for need in [*package.get("dependencies", ()), *with_extras])),
        extra,
    )


def _licence(name: str, version: str) -> str:
    try:
        about = cast("Message", metadata(name))
    except PackageNotFoundError:
        return UNKNOWN
    if about["Version"] != version:
        raise Mismatch(f"{name} {about['Version']} is installed, and uv.lock says {version}: install what it says")
    if expression := about.get("License-Expression"):
        return str(expression)
    found = [_BY_CLASSIFIER[each] for each in about.get_all("Classifier", []) if each in _BY_CLASSIFIER]
    if found:
        return " OR ".join(dict.fromkeys(found))
    said = str(about.get("License") or UNKNOWN).strip()
    return said if said and "\n" not in said and len(said) < 40 else UNKNOWN


def document(about: About, found: Sequence[Part]) -> dict[str, Any]:
    """The bill of materials."""
    itself = f"pkg:pypi/{about.name}@{about.version}"
    urls = {part.name: part.url for part in found}
    direct = sorted({urls[name] for name in _names([*about.needs, *about.extra_needs])})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, itself + ''.join(sorted(urls.values())))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": itself,
                "name": about.name,
                "version": about.version,
                "description": about.description,
                "licenses": [{"expression": about.licence}],
                "purl": itself,
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": part.url,
                "name": part.name,
                "version": part.version,
                "scope": "optional" if part.extra else "required",
                "licenses": [{"expression": part.licence}] if part.licence != UNKNOWN else [],
                "purl": part.url,
            }
            for part in found
        ],
        "dependencies": [
            {"ref": itself, "dependsOn": direct},
            *(
                {"ref": part.url, "dependsOn": sorted(urls[need] for need in part.needs if need in urls)}
                for part in found
            ),
        ],
    }


def licences(about: About, found: Sequence[Part]) -> str:
    """The list for people."""
    lines = [
        f"Parler {about.version} is under {about.licence}; its text is in LICENSE.",
        "",
        "Each package of Parler holds Parler alone. What is installed beside it, from the Python package index, and",
        "with which licence:",
        "",
        *(f"{part.name} {part.version}: {part.licence}" for part in found if not part.extra),
        "",
        "With the extra that is named, and in the image and on Debian in any case:",
        "",
        *(f"{part.name} {part.version}: {part.licence} ({part.extra})" for part in found if part.extra),
    ]
    return "\n".join(lines) + "\n"


def _names(requirements: Sequence[str]) -> Iterator[str]:
    for line in requirements:
        name = line
        for end in "<>=!~ ;[":
            name = name.partition(end)[0]
        yield name.replace(".", "-").lower()
