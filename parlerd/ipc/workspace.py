"""Which workspace a connection stands in: the git work tree around its directory. Each linked work tree is a workspace
of its own.

This module only looks which files exist. It runs no git and reads no file, so a hostile repository cannot do anything.
Above: `connection`, the daemon.
"""

from __future__ import annotations

import os

import trio

from parlerd.wire.messages import Hello

_LOOK_SECONDS = 2.0
"""How long a look may take. On a dead network mount it never returns; the connection then goes on without a
workspace."""


_PATH_MAX = 4096
"""The most bytes in a path that the kernel takes; a longer path names nothing."""


def find(directory: str) -> str:
    """The real path of the work tree around `directory`, else of `directory` itself; empty for a directory that says
    nothing about a project.

    `/` and the person's home directory say nothing: hosts start their servers there when they have no project.
    """
    if not os.path.isabs(directory) or len(directory) > _PATH_MAX or "\0" in directory:
        return ""
    real = os.path.realpath(directory)
    nothing = (os.sep, os.path.realpath(os.path.expanduser("~")))
    here = real
    while here not in nothing:
        # `.git` is a directory in the main work tree and a file in a linked one.
        if os.path.lexists(os.path.join(here, ".git")):
            return here
        here = os.path.dirname(here)
    return real if real not in nothing and os.path.isdir(real) else ""


async def workspace_of(hello: Hello) -> str:
    """The workspace of a connection: of the project folder that its host names, else of the folder it was started
    in."""
    directory = hello.project_dir or hello.cwd
    if not directory:
        return ""
    with trio.move_on_after(_LOOK_SECONDS):
        return await trio.to_thread.run_sync(find, directory, abandon_on_cancel=True)
    return ""
