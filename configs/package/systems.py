"""What a system's own packages are made from: the relay's image and units, the formula for Homebrew, Debian's folder.

Templates in `text`, filled in with the version and with checksums of what was built in the same run. Above: `__main__`.
"""

from __future__ import annotations

from collections.abc import Mapping

from configs.package.about import About
from configs.package.files import filled

RELAY_EXTRA = "postgres"
"""The extra of a machine that runs a relay: its rooms may be in PostgreSQL."""
_DEBIAN = ("control", "changelog", "copyright", "rules", "postinst", "prerm")


def relay(about: About, wheel: str, requirements: str) -> Mapping[str, str]:
    """The relay as an image, as a service of containers, and as a unit of the machine, with what it runs on; and as two
    such services beside a server of PostgreSQL."""
    return {
        "requirements.txt": requirements,
        "Dockerfile": filled("Dockerfile", version=about.version, wheel=wheel),
        "compose.yaml": filled("compose.yaml", version=about.version),
        "compose.postgres.yaml": filled("compose.postgres.yaml", version=about.version),
        "roles.sql": filled("roles.sql"),
        "parler-relay.service": filled("parler-relay.service"),
        "parler-relay-database.conf": filled("parler-relay-database.conf"),
    }


def formula(about: About, sha256: str) -> str:
    """The formula, for the source archive with that checksum."""
    return filled(
        "parlerd.rb",
        name=about.name,
        version=about.version,
        licence=about.licence,
        short=about.short.rstrip("."),
        sha256=sha256,
    )


def debian(about: About, wheel: str) -> Mapping[str, str]:
    """The folder `debian`, to stand beside the wheel, the relay's `requirements.txt` and the list of licences."""
    domain = ".".join(reversed(about.namespace.split(".")))
    values = {"name": about.name, "version": about.version, "domain": domain, "wheel": wheel}
    files = {f"debian/{name}": filled(f"debian/{name}", **_of(name, values)) for name in _DEBIAN}
    files[f"debian/{about.name}.lintian-overrides"] = filled("debian/overrides", name=about.name)
    return {**files, "debian/source/format": filled("debian/source-format")}


def _of(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """The values that a template has places for."""
    wanted = {
        "control": ("name", "domain"),
        "changelog": ("name", "version", "domain"),
        "copyright": ("name",),
        "rules": ("name", "wheel"),
    }
    return {key: values[key] for key in wanted.get(name, ())}
