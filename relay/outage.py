"""What is asked again and again and fails for a while: the log says once that it fails, and once that it is over.

Without this a server that is away for a minute is hundreds of lines, each by a task that asks once a second, and by
everybody who comes meanwhile. Above: `holding`, `newest`, `together`. Not here: what is done about it, and how long it
lasts, which `standing` and the metrics say.
"""

from __future__ import annotations

import logging

from parlerd.core.errors import ParlerError

log = logging.getLogger("relay")


class Outage:
    """Whether something that is asked again and again fails now. Tell it of every answer."""

    def __init__(self, what: str) -> None:
        self._what = what
        """What is not known meanwhile, as the beginning of a sentence."""
        self._is_on = False

    def failed(self, error: ParlerError) -> None:
        """It failed. Only the first time after an answer is logged."""
        if not self._is_on:
            self._is_on = True
            log.warning("%s is not known now: %s", self._what, error.code)

    def answered(self) -> None:
        """An answer came. Only the first after a failure is logged."""
        if self._is_on:
            self._is_on = False
            log.info("%s is known again", self._what)
