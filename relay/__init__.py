"""The face of the engine for other machines. The package is reserved: in this version rooms live on this machine alone.

The package will serve, over the network, the same engine and core as the daemon. It stands beside `parlerd.cli`, and
never reaches what belongs to a local user: `parlerd.daemon`, `parlerd.ipc`, `parlerd.client`, `parlerd.cli`.
"""
