"""Takes recognised secrets out of a text before others read it.

This module knows the shapes of common credentials and nothing else: a password in a sentence stays. In place of a
secret it writes what sort of secret stood there, so that a reader sees that something was removed. Above: the engine,
which scrubs a recap. Source: security spec D16.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

_SHAPES: Final[tuple[tuple[str, str], ...]] = (
    (
        "private key",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    ("AWS key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("GitHub token", r"\b(?:gh[oprsu]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b"),
    ("GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("Anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("OpenAI key", r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    ("Stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("Google key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("seed", r"\bS[AU][A-Z2-7]{56}\b"),
    ("JSON web token", r"\beyJ[A-Za-z0-9_-]{10,2048}\.eyJ[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{10,}"),
    ("bearer token", r"(?i:(?<=bearer )[a-z0-9._~+/=-]{20,})"),
    ("password", r"(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"),
)
"""What each secret is called, and its shape. The first shape that fits names the secret, so a special shape stands
before the general shape that it also fits. A repetition that may be tried at many places of a text has a bound, so that
the time for a hostile text stays in proportion to its length."""

_ANY: Final = re.compile("|".join(f"({shape})" for _, shape in _SHAPES))


def scrub(text: str) -> tuple[str, dict[str, int]]:
    """`text` with `[removed: NAME]` in place of every recognised secret, and how many there were of each name."""
    found: Counter[str] = Counter()

    def removed(match: re.Match[str]) -> str:
        assert match.lastindex is not None
        name = _SHAPES[match.lastindex - 1][0]
        found[name] += 1
        return f"[removed: {name}]"

    return _ANY.sub(removed, text), dict(found)
