"""Parler: the daemon, the room core it shares with relays, and the command line.

Nothing is imported here: the one-shot command line has 100 ms, and every import is paid by every window.
"""

__version__ = "0.1.0"
