"""The versions of what is promised over HTTP, each called by the day from which on it holds.

    Parler-Version: 2026-12-01      the contract by which a request asks, and by which it is answered

At most two are served: the one of today, and the one before, by which programs go on that were written for it. Whoever
names none is answered by the one of the day on which its token was minted. What each promises stands in
`web/contracts`. Once the file of a contract is frozen, whatever changes needs a new date here.

Above: the engine, which notes a contract with each token, and `parlerd.web`, which answers by it. Invariant: under
each contract that is served all of its description holds; there may be more.
"""

from __future__ import annotations

from typing import Final

CONTRACTS: Final = ("2026-12-01", "2026-12-02")
"""The contracts that are served, the oldest first. Source: contract spec, Version."""
CONTRACT: Final = CONTRACTS[-1]
"""The contract of today."""
UNNOTED: Final = "2026-12-01"
"""That of a token from before contracts were noted with tokens."""
