"""`parler`: the command line. A thin client of the daemon; it composes calls and holds no rules.

Below: `parlerd.client` (the socket), `parlerd.operations` (the shapes), `configs` (the agent hosts). Never imported
here: the engine, the store, the daemon. Importing this package costs nothing: each command imports what it needs when
it runs.
"""
