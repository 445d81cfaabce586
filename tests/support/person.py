"""A person with a home directory in which agent hosts keep their settings, for tests of what changes those."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from configs.detect import Place
from parlerd.paths import Home

LONG_AGO: int = 1_700_000_000
"""Seconds. Files of this age are not being written any more."""


@dataclass
class Person:
    """`person.write(".claude.json", "{}")`, then call what is tested with `person.place`."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.root / "home"
        programs = self.root / "opt" / "bin"
        for folder in (self.home, programs):
            folder.mkdir(mode=0o755, parents=True)
        self.python = programs / "python3"
        self.python.touch(0o755)
        self.parler = Home(self.home / ".parler")
        self.env = {"HOME": str(self.home), "PATH": str(programs), **self.env}

    @property
    def place(self) -> Place:
        return Place(env=self.env, system="linux", python=str(self.python), home=self.parler)

    def path(self, name: str) -> Path:
        return self.home / name

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> Path:
        """A file that has been there for long."""
        path = self.path(name)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        os.utime(path, (LONG_AGO, LONG_AGO))
        return path

    def install(self, program: str) -> Path:
        """A program on PATH. Running it is an error."""
        path = self.python.parent / program
        path.write_text("#!/bin/sh\nexit 99\n")
        path.chmod(0o755)
        return path

    def tree(self) -> dict[str, bytes]:
        """Every file of the home directory by its name, without Parler's own."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and not path.is_relative_to(self.parler.root)
        }

    def backups(self) -> list[Path]:
        return sorted((self.parler.connect / "backups").rglob("*.bak"))
