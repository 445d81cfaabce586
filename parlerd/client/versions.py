"""Which of two versions is older. The module reads only versions as this project numbers them: `1.2.3`, `1.2.3rc1`,
`1.2.3.dev4`."""

from __future__ import annotations

from typing import Final

_VERSION: Final = r"(\d{1,9}(?:\.\d{1,9})*)(?:\.?(dev|a|b|rc|post)(\d{1,9}))?(?:\+.*)?\Z"
_RANK: Final = {"dev": -4, "a": -3, "b": -2, "rc": -1, None: 0, "post": 1}


def is_older(theirs: str, ours: str) -> bool:
    """Whether `theirs` came before `ours`. False when either cannot be read, so that nothing is replaced on a guess."""
    if theirs == ours:
        return False  # this is the usual case, in which no pattern is compiled
    left, right = _key(theirs), _key(ours)
    return left is not None and right is not None and left < right


def _key(version: str) -> tuple[tuple[int, ...], int, int] | None:
    import re

    match = re.match(_VERSION, version)
    if match is None:
        return None
    release, stage, number = match.groups()
    numbers = [int(part) for part in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), _RANK[stage], int(number or 0)
