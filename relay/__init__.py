"""The face of the engine for other machines. The package is reserved: in this version rooms live on this machine alone.

Its place is beside `parlerd.cli`: it serves the engine and the core that the daemon serves, over the network, and never
reaches what belongs to a local user (`parlerd.daemon`, `parlerd.ipc`, `parlerd.client`, `parlerd.cli`).
"""
