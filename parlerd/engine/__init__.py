"""The engine: the only place that runs room rules.

Each open room decides the commands in its line together and hands them to the store's writer. Whoever asked is
answered, and whoever waits is woken, only after the commit.

Above: the doors (`parlerd.ipc`, `mcp_server`) and `parlerd.daemon`. Below: `operations`, `store`, `identity`, `core`.
"""
