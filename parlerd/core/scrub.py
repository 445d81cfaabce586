"""Takes recognised secrets out of a text before others read it.

It knows the shapes of common credentials and nothing else: a password in a sentence stays. What it takes out it
replaces by what it was, so that a reader sees that something stood there. Source: security spec D16.
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
"""What each is called, and its shape. The first that fits names it, so a shape within another's stands before it. What
may be tried at many places of a text is bounded, so that a hostile text costs no more than its length."""

_ANY: Final = re.compile("|".join(f"({shape})" for _, shape in _SHAPES))


def scrub(text: str) -> tuple[str, dict[str, int]]:
    """`text` with every recognised secret replaced by `[removed: what it was]`, and how many there were of each."""
    found: Counter[str] = Counter()

    def removed(match: re.Match[str]) -> str:
        assert match.lastindex is not None
        name = _SHAPES[match.lastindex - 1][0]
        found[name] += 1
        return f"[removed: {name}]"

    return _ANY.sub(removed, text), dict(found)
