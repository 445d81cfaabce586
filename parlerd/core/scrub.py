"""Takes recognised secrets out of a text before others read it.

This module knows the shapes of common credentials, and for a hand-off those of home folders and of assignments to an
environment variable with a telling name. It knows nothing else: a password in a sentence stays. In place of a secret it
writes what sort of secret stood there, so that a reader sees that something was removed. Above: the engine, which
scrubs every recap, every hand-off, and every message that leaves for another home. Source: security spec D16, rooms
spec Handoff.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from parlerd.core.model import SecretKind

_SHAPES: Final[tuple[tuple[SecretKind, str, str], ...]] = (
    (
        "private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    ("AWS key", "AKIA", r"\bAKIA[A-Z0-9]{16}\b"),
    ("AWS key", "ASIA", r"\bASIA[A-Z0-9]{16}\b"),
    ("GitHub token", "gh", r"\b(?:gh[oprsu]_[A-Za-z0-9]{36,255})\b"),
    ("GitHub token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
    ("GitLab token", "glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("Slack token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("Anthropic key", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("OpenAI key", "sk-", r"\bsk-(?!ant-)(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    ("Stripe key", "k_live_", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),
    ("Stripe key", "k_test_", r"\b[rs]k_test_[A-Za-z0-9]{16,}"),
    ("Google key", "AIza", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("npm token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("seed", "SA", r"\bSA[A-Z2-7]{56}\b"),
    ("seed", "SU", r"\bSU[A-Z2-7]{56}\b"),
    ("bearer token", "as_", r"\bas_[0-9A-Za-z]{49}\b"),
    ("bearer token", "aj_", r"\baj_[0-9A-Za-z]{49}\b"),
    ("bearer token", "ah_", r"\bah_[0-9A-Za-z]{49}\b"),
    ("JSON web token", "eyJ", r"\beyJ[A-Za-z0-9_-]{10,2048}\.eyJ[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{10,}"),
    ("bearer token", "earer ", r"(?i:(?<=bearer )[a-z0-9._~+/=-]{20,})"),
    ("password", "://", r"(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"),
)
"""What each secret is called, characters that every one of it holds or stands behind, and its shape. The first shape
that fits names the secret, so a special shape stands before the general shape that it also fits. A repetition that may
be tried at many places of a text has a bound, so that the time for a hostile text stays in proportion to its length."""


def scrub(text: str) -> tuple[str, dict[str, int]]:
    """`text` with `[removed: NAME]` in place of every recognised secret, and how many there were of each name. Takes a
    few microseconds for a text of a kilobyte that holds none, and a millisecond where something looks like one."""
    looked_for = tuple(n for n, (_, mark, _) in enumerate(_SHAPES) if mark in text or _is_spelled(mark, text))
    if not looked_for:
        return text, {}
    found: Counter[str] = Counter()

    def removed(match: re.Match[str]) -> str:
        assert match.lastindex is not None
        name = _SHAPES[looked_for[match.lastindex - 1]][0]
        found[name] += 1
        return f"[removed: {name}]"

    return _shapes(looked_for).sub(removed, text), dict(found)


def kinds_in(text: str) -> set[SecretKind]:
    """What `scrub` would recognise in a text, by name: for texts of any size, of which nobody wants a clean copy. A
    megabyte of a program takes two milliseconds (measured)."""
    return {name for name, mark, shape in _SHAPES if any(_begins(mark, shape, text))}


def _begins(mark: str, shape: str, text: str) -> Iterator[bool]:
    """For each place of a mark in a text, whether a secret of this shape begins there."""
    pattern, spelled = re.compile(shape), _SPELLED.get(mark, (mark,))
    looked_in = text.lower() if mark == _BEARER else text
    for each in spelled:
        at = looked_in.find(each)
        while at >= 0:
            yield _begins_at(mark, pattern, text, at)
            at = looked_in.find(each, at + 1)


def _begins_at(mark: str, pattern: re.Pattern[str], text: str, at: int) -> bool:
    if mark == _ARMOUR:
        return pattern.search(text, max(0, at - _BEFORE_ARMOUR), at + _AFTER_ARMOUR) is not None
    return pattern.match(text, max(0, at + _OFFSETS.get(mark, 0))) is not None


_BEARER: Final = "earer "
_ARMOUR: Final = "PRIVATE KEY"
_BEFORE_ARMOUR, _AFTER_ARMOUR = 96, 64
"""Characters around these words among which the line stands that begins a key."""
_SPELLED: Final[Mapping[str, tuple[str, ...]]] = {"gh": tuple(f"gh{letter}_" for letter in "oprsu")}
"""The marks that many words have, with what follows in a secret."""
_OFFSETS: Final[Mapping[str, int]] = {_BEARER: len(_BEARER), "://": 3, "k_live_": -1, "k_test_": -1}
"""Where a secret begins beside its mark, where that is not at the mark."""
_HOME_PATH: Final = re.compile(
    r"(?<![\w.-])(?:/(?:mnt/[a-z]/)?(?:home|Users)/[^\s/\\:;,'\"`<>|()\[\]]{1,64}|/root(?![\w.-])"
    r"|[A-Za-z]:[\\/]{1,2}Users[\\/]{1,2}[^\s/\\:;,'\"`<>|()\[\]]{1,64})"
)
_ENVIRONMENT: Final = re.compile(
    r"(?<![A-Za-z0-9_])((?:[A-Z0-9]{1,32}_){0,8}[A-Z0-9]{0,16}"
    r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|COOKIE|DSN)(?:_[A-Z0-9]{1,16})?(?:=|: ?))"
    r"(?![\[$<])(\"[^\"\n]{1,4096}\"|'[^'\n]{1,4096}'|[^\s\"';,)]{1,4096})"
)
HOME_PATH: Final = "home path"
ENVIRONMENT_VALUE: Final = "environment value"


def scrub_capsule(text: str) -> tuple[str, dict[str, int]]:
    """`scrub`, and besides `[home]` in place of each path of a person's home folder, and `[removed: environment value]`
    in place of each value that is assigned to a variable such as `API_TOKEN`. What was scrubbed stays as it is when it
    is scrubbed again."""
    # The values go first: what `scrub` leaves of one could not be told from words any more.
    text, values = _ENVIRONMENT.subn(rf"\1[removed: {ENVIRONMENT_VALUE}]", text)
    text, paths = _HOME_PATH.subn("[home]", text)
    text, removed = scrub(text)
    return text, dict(+Counter({**removed, HOME_PATH: paths, ENVIRONMENT_VALUE: values}))


def scrub_value(value: Any) -> tuple[Any, dict[str, int]]:
    """The same for a JSON value that `words.check_data` passed: for every text in it, names of fields included."""
    found: Counter[str] = Counter()

    def text(each: str) -> str:
        clean, removed = scrub(each)
        found.update(removed)
        return clean

    def clean(each: Any) -> Any:
        match each:
            case str():
                return text(each)
            case dict():
                return {text(name): clean(inner) for name, inner in each.items()}
            case list() | tuple():
                return [clean(inner) for inner in each]
            case _:
                return each

    return clean(value), dict(found)


def listed(removed: Mapping[str, int]) -> str:
    """What was removed, for whoever wrote it; empty where nothing was."""
    if not removed:
        return ""
    names = ", ".join(f"{name} ({count})" for name, count in removed.items())
    return f"{names}. Only what is recognised is; look through the rest."


def _is_spelled(mark: str, text: str) -> bool:
    """Whether a mark that counts in capitals too is there in some of its spellings."""
    return mark == _BEARER and mark in text.lower()


@lru_cache(maxsize=256)
def _shapes(numbers: tuple[int, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"({_SHAPES[number][2]})" for number in numbers))
