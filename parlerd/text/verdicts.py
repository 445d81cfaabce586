"""What is said of a message that its author's signature does not bear, for every surface that shows messages.

    valid      nothing: its author signed it
    home       the room's home says so, for a person that allowed it; nobody who has a key of the author's signed it
    unsigned   nobody signed it
    invalid    what is signed is something else

The words stand outside a fence, in front of the text, and none of them can be taken for `valid`. Above: the tools of
agent hosts, the command line. Invariant: every word but `valid` is said.
"""

from __future__ import annotations


def said_of(verified: str) -> str:
    """What a reader is told of a message with this verdict; nothing where its author signed it."""
    if verified == "valid":
        return ""
    if verified == "home":
        return "NOT SIGNED BY ITS AUTHOR (home: the relay's word)"
    return f"NOT VERIFIED ({verified})"
