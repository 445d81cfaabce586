"""The one table of characters that hide, reorder other characters or steer a terminal: for the fence and for terminals.

`CONTROL`, `BIDIRECTIONAL`, `INVISIBLE` and `JOINERS` are each the inside of a character class of a regular expression.
Together they hold every character of the categories Cc, Cf, Cs, Zl and Zp, except tab and newline, and every character
that Unicode calls ignorable. `kinds` says of which kind each character is, and `LOOSE` finds the joiners that hide.

A joiner is the one kind that depends on its neighbours. Beside emoji and in several scripts a joiner shapes the
characters around it and hides nothing; anywhere else, and behind another joiner of its kind, it is invisible. A
terminal, whose widths nobody can rely on, is given no joiner but the selector of a pictograph.

Not here: how a hidden character is shown. Above: `mcp_server.fence`, `parlerd.cli.printable`. Invariant: a character
that is not in the table can be seen, or is a blank with a width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

CONTROL: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0, DEL and C1; without tab and newline, which every surface treats in a way of its own."""

BIDIRECTIONAL: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"

JOINERS: Final = "\u200c\u200d\ufe0e\ufe0f"

INVISIBLE: Final = (
    "\xad\u034f\u06dd\u070f\u08e2"  # soft hyphen, grapheme joiner, Arabic and Syriac marks that are formats
    "\u0600-\u0605\u0890\u0891"
    "\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # fillers and Mongolian selectors: no glyph at all
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f"  # zero width, separators that break lines unseen
    "\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"  # blanks that are no spaces, selectors, byte order mark
    "\ud800-\udfff"  # half a character: bytes that were not UTF-8
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"  # tags and further selectors: text that nothing shows
)

HIDDEN: Final = CONTROL + BIDIRECTIONAL + INVISIBLE + JOINERS
"""Every character of the table, a joiner wherever it stands."""

MARKS: Final = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
"""Marks that stand on the character before them, and pile up."""

PICTOGRAPHS: Final = "\u203c\u2049\u2139\u2190-\u27ff\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
"""Characters that a selector makes colourful or plain, and that joiners put together to one picture. The range stops at
U+27FF because U+2800 to U+28FF are Braille."""

JOINING: Final = (
    "\u0600-\u08ff"  # Arabic and what is written like it
    "\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1b00-\u1c4f"  # from India to Mongolia and Bali
    "\ua8e0-\ua8ff\ua980-\ua9ff\uaa60-\uaa7f\U00011000-\U000114ff"
)
"""Scripts in which a joiner or non-joiner changes the letters beside it."""

LOOSE: Final = re.compile(
    # The joiner comes first and the look behind it second, so that the search stops at joiners alone and is fast.
    f"([{JOINERS}]"
    f"(?<![{PICTOGRAPHS}][\u200d\ufe0e\ufe0f])(?<![{PICTOGRAPHS}]\ufe0f\u200d)"
    f"(?<![{JOINING}](?<![{HIDDEN}])[\u200c\u200d]))"
)
"""A joiner with nothing before it that it could shape. The expression looks two characters back."""


@cache
def kinds() -> Mapping[str, str]:
    """Every hidden character with its kind: `control`, `bidirectional` or `invisible`. A joiner is listed as invisible,
    which it is where it is loose. The some 6,300 characters are listed at the first call."""
    found: dict[str, str] = {}
    classes = {"control": CONTROL, "bidirectional": BIDIRECTIONAL, "invisible": INVISIBLE + JOINERS}
    for kind, inside in classes.items():
        for first, last in re.findall("(.)(?:-(.))?", inside, re.DOTALL):
            found |= dict.fromkeys(map(chr, range(ord(first), ord(last or first) + 1)), kind)
    return found
