"""`python -m configs.package`: make every package in which people look for Parler, into one folder.

    parlerd-V-py3-none-any.whl, .tar.gz       for pip, pipx and uv; requirements.txt has all they run on, with checksums
    parlerd-V.cdx.json, LICENCES.txt          what comes along, for programs and for people
    plugin/, parler-plugin-V.zip              for programs that take plugins, extensions or skills
    server.json, parler-V.mcpb                for the MCP registry; for Claude Desktop
    relay/                                    the relay: Dockerfile, compose.yaml, a unit of systemd; its
                                              requirements.txt has what speaks to PostgreSQL besides, and
                                              compose.postgres.yaml two relays beside such a server
    homebrew/, debian.tar.gz                  what Homebrew and Debian build from
    SHA256SUMS                                of every file that is one

Not here: the contents of each, and publishing them. Invariant: the same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.package import bom, listing, plugins, systems, wheels
from configs.package.about import ROOT, About, about
from configs.package.files import as_json, digest, put, tarred, zipped


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m configs.package", description="Make every package of Parler.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder, which must be new or empty")
    args = parser.parse_args(argv)
    try:
        made = make(args.out)
    except (wheels.NotBuilt, bom.Mismatch, OSError) as error:
        print(f"configs.package: {error}", file=sys.stderr)
        return 1
    print(f"Parler {made.version} is in {args.out}")
    return 0


def make(out: Path, version: str = "", more: Mapping[str, str] = wheels.NOTHING) -> About:
    """Make all of them in a folder, which must be new or empty."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise wheels.NotBuilt(f"{out} is not empty. Take it away, or name another folder with --out.")
    with wheels.staged(version, more) as root:
        found = about(root)
        wheel, source = wheels.build(root, out)
        materials = (root / f"{found.name}.cdx.json").read_text(encoding="utf-8")
        requirements = (root / "requirements.txt").read_text(encoding="utf-8")
        of_relay = wheels.requirements(root, systems.RELAY_EXTRA)
        licences = bom.licences(found, bom.parts(root, found.name))
    folder = plugins.plugin(found)
    relay = systems.relay(found, wheel.name, of_relay)
    put(out / "plugin", folder)
    put(out / "relay", relay)
    put(out / "homebrew", {f"{found.name}.rb": systems.formula(found, digest(source))})
    put(
        out,
        {
            f"{found.name}-{found.version}.cdx.json": materials,
            "requirements.txt": requirements,
            "LICENCES.txt": licences,
            "server.json": as_json(listing.server(found)),
        },
    )
    debian = systems.debian(found, wheel.name)
    (out / "debian.tar.gz").write_bytes(tarred(f"{found.name}-{found.version}", debian))
    (out / f"parler-plugin-{found.version}.zip").write_bytes(zipped(folder))
    (out / f"parler-{found.version}.mcpb").write_bytes(zipped(listing.bundle(found)))
    every = sorted(path for path in out.rglob("*") if path.is_file())
    sums = "".join(f"{digest(path)}  {path.relative_to(out)}\n" for path in every)
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
