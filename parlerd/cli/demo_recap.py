"""The recap with which the demo opens its session: the last commits of the repository around it, and the beginning of
the README.

Not here: what becomes of the recap (`demo_story`). Invariant: a repository is not trusted. git runs without any
configuration that could start a program, without the person's own configuration, for a few seconds and a few kilobytes;
a README is read only where it is a plain file.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from parlerd.cli.context import decode_text
from parlerd.core.errors import ParlerError

COMMITS: Final = 8
README_CHARS: Final = 2_000
"""How much of the README is taken. The whole recap then fits into one tool result, as an agent's own recap would."""
_GIT_SECONDS: Final = 3.0
_GIT_BYTES: Final = 16 * 1024
_SUBJECT_COLUMNS: Final = 100
_READMES: Final = ("README.md", "README.rst", "README.txt", "README")

_WITHOUT_REPOSITORY: Final = """\
Designing auth in src/auth.rs. Chose PKCE + refresh tokens.
Done: the endpoints, the login form. Left: token rotation, and the tests for it.
(The demo does not stand in a git repository, so this recap is made up.)"""


class Recap(NamedTuple):
    """What a session is opened with, and where it comes from, in words."""

    text: str
    source: str


def recap_of_file(path: Path) -> Recap:
    """A file as the recap. Raises `ParlerError(invalid_param)` when it cannot be read or is no text."""
    try:
        text = decode_text(path.read_bytes(), str(path))
    except OSError as error:
        raise ParlerError("invalid_param", f"{path} cannot be read: {error.strerror}.", param="context") from error
    if not text.strip():
        raise ParlerError("invalid_param", f"{path} is empty.", param="context")
    return Recap(text, path.name)


def recap_of_repository(directory: Path) -> Recap:
    """The last commits and the beginning of the README of the repository around `directory`, else something made up."""
    root = next((place for place in (directory, *directory.parents) if (place / ".git").exists()), None)
    if root is None:
        return Recap(_WITHOUT_REPOSITORY, "a made-up recap")
    parts, sources = [f"Work on {root.name}."], []
    if commits := _last_commits(root):
        parts.append("The last commits:\n" + "\n".join(f"- {line}" for line in commits))
        sources.append(f"the last {len(commits)} commits" if len(commits) > 1 else "the last commit")
    if readme := _readme(root):
        name, text = readme
        parts.append(f"From {name}:\n{text}")
        sources.append(name)
    if not sources:
        return Recap(_WITHOUT_REPOSITORY, "a made-up recap")
    return Recap("\n\n".join(parts), f"{' and '.join(sources)} of {root.name}")


def _last_commits(root: Path) -> list[str]:
    command = ["git", "--no-pager", "-C", str(root), "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    # A repository may name the program that checks signatures, so no signature is checked.
    command += ["-c", "log.showSignature=false", "log", "--no-show-signature", "--no-color", "--no-decorate"]
    command += [f"--format=%h %<({_SUBJECT_COLUMNS},trunc)%s", f"--max-count={COMMITS}", "HEAD", "--"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "",
    }
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if ran.returncode != 0:
        return []
    lines = ran.stdout[:_GIT_BYTES].decode("utf-8", "replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()]


def _readme(root: Path) -> tuple[str, str] | None:
    for name in _READMES:
        try:
            # O_NOFOLLOW, because a link in a repository could point at any file of this person.
            descriptor = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                continue
            text = file.read(4 * README_CHARS).decode("utf-8", "replace")
        if text.strip():
            return name, text[:README_CHARS].rstrip()
    return None
