"""The socket protocol without a socket: frames, codec, and one conversation as a state machine.

    frames      a byte stream in length-prefixed pieces
    codec       one piece as a typed message
    messages    the shapes
    peer        who may say what when: the daemon's end and the client's end

Nothing here does I/O or reads a clock: `parlerd.ipc` drives it with trio, `parlerd.client` with blocking sockets, the
tests with plain calls. The specification is docs/protocol.md.
"""
