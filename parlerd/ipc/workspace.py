"""Which workspace a connection stands in: the git work tree around its directory, each linked work tree its own.

Only looks; it runs no git and reads no file, so a hostile repository has nothing to say here.
"""

from __future__ import annotations

import os

import trio

from parlerd.wire.messages import Hello

_LOOK_SECONDS = 2.0
"""A directory on a dead network mount can hang a look for ever; the connection then goes on without a workspace."""


_PATH_MAX = 4096
"""Bytes of a path that the kernel takes; a longer one names nothing."""


def find(directory: str) -> str:
    """The real path of the work tree around `directory`, else of `directory`; empty when that says nothing.

    `/` and the person's home directory say nothing: hosts start their servers there when they have no project.
    """
    if not os.path.isabs(directory) or len(directory) > _PATH_MAX or "\0" in directory:
        return ""
    real = os.path.realpath(directory)
    nothing = (os.sep, os.path.realpath(os.path.expanduser("~")))
    here = real
    while here not in nothing:
        # A directory in the main tree, a file in a linked one.
        if os.path.lexists(os.path.join(here, ".git")):
            return here
        here = os.path.dirname(here)
    return real if real not in nothing and os.path.isdir(real) else ""


async def workspace_of(hello: Hello) -> str:
    """The workspace of a connection: where its project is, as far as its host says, else where it was started."""
    directory = hello.project_dir or hello.cwd
    if not directory:
        return ""
    with trio.move_on_after(_LOOK_SECONDS):
        return await trio.to_thread.run_sync(find, directory, abandon_on_cancel=True)
    return ""
