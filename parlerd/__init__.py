"""Parler: the daemon, the room core it shares with relays, and the command line.

This module imports nothing, because every command and every window would pay for it, and a one-shot command has 100 ms.
"""

__version__ = "0.1.0"
