"""The engine: the only place that runs room rules.

One task per open room takes commands, asks the core, commits through the store's writer, and only then answers and
wakes whoever waits.
Above: the doors (`parlerd.ipc`, `mcp_server`) and `parlerd.daemon`. Below: `operations`, `store`, `identity`, `core`.
"""
