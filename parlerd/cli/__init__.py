"""`parler`: the command line, a thin client of the daemon. It composes calls and holds no rules.

Not here, and never imported: the engine, the store, the daemon. Below: `parlerd.client` (the socket),
`parlerd.operations` (the shapes), `configs` (the agent hosts). Invariant: to import this package costs nothing, and
each command imports what it needs when it runs.
"""
