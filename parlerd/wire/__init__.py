"""The socket protocol without a socket: frames, codec, and one conversation as a state machine.

    frames      a byte stream in length-prefixed pieces
    codec       one piece as a typed message
    messages    the shapes
    peer        who may say what when: the daemon's end and the client's end

Above: `parlerd.ipc`, which drives this package with trio, `parlerd.client`, which drives it with blocking sockets, and
the tests, which drive it with plain calls. Below: `parlerd.core` for the errors. Invariant: nothing in this package
does I/O or reads a clock. The specification is docs/protocol.md.
"""
