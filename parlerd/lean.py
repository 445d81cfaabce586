"""Imported first by commands and the daemon: msgspec and argparse, without what these two import for others.

msgspec takes a few names from `typing_extensions` when that is installed (the MCP library brings it), although Python's
own `typing` has these names since 3.11. msgspec also imports `uuid` and `decimal`, so that it can encode their types,
and its own modules that describe types and write JSON schemas. argparse asks `gettext` for translations of its
sentences, and Python brings none. Parler needs nothing of this, and importing it takes as long as the rest of msgspec
and argparse.

Therefore this module hides `typing_extensions` while these two are imported, lets empty modules stand in for the
others, and lets the half of `datetime` that is written in C, which has the same types, stand in for the whole. Whoever
wants one of these modules later imports it and finds it; only msgspec and argparse do not know it in this process.
"""

from __future__ import annotations

import sys

_EMPTY = ("uuid", "decimal", "msgspec.inspect", "msgspec._json_schema", "gettext")


class _StandIn(type(sys)):  # type: ignore[misc]  # the type of a module, without the import that gives it a name
    """A module that has every name. A name is a type without instances, or a function that translates nothing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "gettext":
            return lambda sentence: sentence
        if name == "ngettext":
            return lambda one, several, count: one if count == 1 else several
        return type(name, (), {"unknown": None, "__new__": None})


def _import() -> None:
    stands_in = [name for name in _EMPTY if name not in sys.modules]
    for name in stands_in:
        sys.modules[name] = _StandIn(name)
    if "datetime" not in sys.modules:
        sys.modules["datetime"] = __import__("_datetime")
        stands_in.append("datetime")
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # how Python spells "not importable"
        stands_in.append("typing_extensions")
    try:
        import argparse as argparse

        import msgspec
    finally:
        for name in stands_in:
            del sys.modules[name]
    if "msgspec.inspect" in stands_in:
        del msgspec.inspect


if "msgspec" not in sys.modules:
    _import()
