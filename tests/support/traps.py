"""Repositories that run a program wherever plain git can be told to: each trap sets some of those places."""

from __future__ import annotations

from pathlib import Path

from tests.support.git import Work


class Trap:
    """A program that leaves a mark where it was run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.mark = folder / "ran"
        self.program = folder / "trap.sh"
        self.program.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.mark}\ncat 2>/dev/null\nexit 0\n')
        self.program.chmod(0o755)

    @property
    def ran(self) -> bool:
        return self.mark.exists()


def hooks(work: Work, trap: Trap) -> None:
    folder = work.folder / ".git" / "hooks"
    folder.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "pre-commit", "post-commit", "post-index-change",
                 "pre-auto-gc", "post-update", "update", "pre-receive", "post-merge"):  # fmt: skip
        (folder / name).write_bytes(trap.program.read_bytes())
        (folder / name).chmod(0o755)


def monitor(work: Work, trap: Trap) -> None:
    work.git("config", "core.fsmonitor", str(trap.program))
    work.git("config", "core.untrackedCache", "true")


def programs(work: Work, trap: Trap) -> None:
    for name in ("core.sshCommand", "core.gitProxy", "core.askPass", "core.pager", "core.editor",
                 "core.alternateRefsCommand", "credential.helper", "gpg.program", "diff.external",
                 "uploadpack.packObjectsHook"):  # fmt: skip
        work.git("config", name, str(trap.program))


def filters(work: Work, trap: Trap) -> None:
    for what in ("clean", "smudge", "process"):
        work.git("config", f"filter.trap.{what}", str(trap.program))
    work.git("config", "filter.trap.required", "true")
    work.git("config", "diff.trap.textconv", str(trap.program))
    work.git("config", "diff.trap.command", str(trap.program))
    work.git("config", "merge.trap.driver", str(trap.program))
    work.write(".gitattributes", "* filter=trap diff=trap merge=trap ident\n")
    (work.folder / ".git" / "info").mkdir(exist_ok=True)
    (work.folder / ".git" / "info" / "attributes").write_text("* filter=trap\n")
    work.write("f", "changed")
    work.write("new", "1")
