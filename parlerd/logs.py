"""The log of a program that runs for long: one small file that rotates, in the program's home.

Ids, codes and sizes go into it; never bodies, frames or keys. Not here: what is logged, which each module says. Above:
`parlerd.daemon`, the relay. Invariant: a log that cannot be written stops nothing. Source: security spec D16.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from parlerd.core.errors import ParlerError

log = logging.getLogger(__name__)

LOG_BYTES: Final = 4 * 1024 * 1024
LOG_FILES: Final = 3


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log to the file at `path` as long as the block lasts, and what ends the block too."""
    # A log that cannot be written (a full disk) must not take the daemon down or flood it.
    logging.raiseExceptions = False
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    except ParlerError as error:
        log.error("%s: %s %s", error.code, error.message, error.hint)
        raise
    except Exception:
        log.exception("the program failed")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
