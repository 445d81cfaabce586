"""Imported first by programs that have 100 ms: it leaves out what msgspec imports for others.

msgspec takes a few names from `typing_extensions` when that is installed (the MCP library brings it), though Python's
own `typing` has them since 3.11; and it learns of the types in `uuid` and `decimal` so that it can encode them, which
these programs never do. Importing the three takes longer than the rest of msgspec together (measured on a busy machine:
58 ms with all, 44 without the first, 28 without any). So for the length of that one import the first is hidden and the
others stand empty. Whoever wants them later finds them; only msgspec does not know their types in this process.
"""

from __future__ import annotations

import sys

_KNOWN = {"uuid": ("UUID", "SafeUUID"), "decimal": ("Decimal",)}


def _import() -> None:
    stands_in: list[str] = []
    for name, types in _KNOWN.items():
        if name not in sys.modules:
            module = type(sys)(name)
            for known in types:
                setattr(module, known, type(known, (), {"unknown": None}))
            sys.modules[name] = module
            stands_in.append(name)
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # how Python spells "not importable"
        stands_in.append("typing_extensions")
    try:
        import msgspec as msgspec
    finally:
        for name in stands_in:
            del sys.modules[name]


if "msgspec" not in sys.modules:
    _import()
