"""What went wrong inside the nurseries that an exception passed on its way out.

Each nursery wraps what comes out of it in a group. Plain Python, and every layer may use it.
"""

from __future__ import annotations


def unwrapped(error: BaseException, *, first_of_several: bool = False) -> BaseException:
    """The exception in a group of one, in a group of one, and so on; what is no such group comes back as it is.

    A group of several comes back too, because none of them is the reason more than another; with `first_of_several` it
    is its first one, which is enough for a line in a log.
    """
    while isinstance(error, BaseExceptionGroup) and (first_of_several or len(error.exceptions) == 1):
        error = error.exceptions[0]
    return error
