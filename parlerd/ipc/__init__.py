"""The local door: the Unix socket through which shims and the command line reach the daemon.

    credentials   who is on the other end, as the kernel says
    workspace     which work tree a connection stands in
    outbound      the bytes that wait to be sent, with a bound
    recorder      the shapes of frames, for a person who follows them
    connection    one conversation: its calls, its streams, its lines
    server        the accept loop, the cap on connections, the drain
    host          what this package needs of the MCP session

Above: `parlerd.daemon`. Below: `parlerd.engine` by its `face`, `parlerd.operations`, `parlerd.wire`.
Invariant: nothing that one connection sends, or fails to read, reaches another connection.
"""
