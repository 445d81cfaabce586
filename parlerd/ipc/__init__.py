"""The local door: the Unix socket that shims and the command line come through.

    listener      the socket, the lock and the endpoint file, and that there is one daemon per home
    credentials   who is on the other end, as the kernel says
    workspace     which work tree a connection stands in
    outbound      what waits to be sent, with a bound
    connection    one conversation: its calls, its streams, its lines
    server        the accept loop, the cap on connections, the drain
    host          what all of it needs of the engine and of the MCP session

Above: `parlerd.daemon`. Below: `parlerd.engine` by its face in `host`, `parlerd.operations`, `parlerd.wire`.
Invariant: nothing that one connection sends, or fails to read, reaches another connection.
"""
