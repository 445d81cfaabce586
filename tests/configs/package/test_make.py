"""All packages of one build, side by side."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from configs.package.__main__ import make
from configs.package.about import about


def test_one_build_makes_every_package_with_one_version_and_a_checksum_of_each_file(tmp_path: Path) -> None:
    out = tmp_path / "dist"
    make(out, "7.6.5")
    assert {path.name for path in out.iterdir()} == {
        "LICENCES.txt",
        "SHA256SUMS",
        "debian.tar.gz",
        "homebrew",
        "parler-7.6.5.mcpb",
        "parler-plugin-7.6.5.zip",
        "parlerd-7.6.5-py3-none-any.whl",
        "parlerd-7.6.5.cdx.json",
        "parlerd-7.6.5.tar.gz",
        "plugin",
        "relay",
        "requirements.txt",
        "server.json",
    }
    plain, of_relay = (
        set(re.findall(r"^([\w.-]+)==", file.read_text(), re.MULTILINE))
        for file in (out / "requirements.txt", out / "relay" / "requirements.txt")
    )
    assert of_relay - plain == {"psycopg", "psycopg-binary", "tzdata"}
    assert plain <= of_relay
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == {
        **sums,
        "SHA256SUMS": hashlib.sha256((out / "SHA256SUMS").read_bytes()).hexdigest(),
    }
    assert sums["parlerd-7.6.5.tar.gz"] in (out / "homebrew" / "parlerd.rb").read_text()
    texts = [
        path for path in files.values() if path.suffix in (".json", ".rb", ".md", "") and path.name != "SHA256SUMS"
    ]
    assert [path for path in texts if about().version in path.read_text() and "7.6.5" not in path.read_text()] == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    command = [sys.executable, "-m", "configs.package", "--out", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{tmp_path} is not empty" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
