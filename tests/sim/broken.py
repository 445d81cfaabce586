"""A promise that does not hold: what a simulation ends with where something is wrong."""

from __future__ import annotations


class Broken(AssertionError):
    """One sentence says what is wrong. `step` is where the simulation was when that showed."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.step = ""


def first_broken(error: BaseException) -> Broken | None:
    """The first broken promise in an error or in a group of errors. Others of the same moment are its consequences."""
    if isinstance(error, Broken):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := first_broken(each)) is not None), None)
    return None
