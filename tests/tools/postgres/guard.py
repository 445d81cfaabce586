"""Ends a server when whoever started it is gone: `python guard.py PG_CTL FOLDER`, with a pipe for its standard input.

The pipe ends with the process that holds its other end, however that died. Then the server is ended, and its folder is
removed. This uses the standard library alone and imports nothing of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main(pg_ctl: str, folder: str) -> None:
    sys.stdin.buffer.read()
    owner = os.stat(folder)
    other = owner.st_uid if os.geteuid() == 0 else None
    subprocess.run(
        [pg_ctl, "stop", "--mode=immediate", "--wait", "--silent", f"--pgdata={folder}/data"],
        cwd=folder,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=other,
        check=False,
    )
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
