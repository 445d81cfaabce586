"""The text of an expression becomes a checked tree (`parse`), and the name of a key becomes the key (`watched_key`).

CEL, the Common Expression Language, with the numbers, maps and bounds of Parler (`docs/dependencies.md` says which
library reads the text). Nothing is evaluated here. Above: the engine, where an agent gives an expression. Below: the
core, which has the shape of a tree (`core.expressions`) and the functions that there are (`core.gates`). Invariant:
what `parse` gives can be evaluated within the bounds of a meter; everything else is refused, with the place in the
text.
"""

from parlerd.expr.checks import Place, parse, watched_key

__all__ = ["Place", "parse", "watched_key"]
