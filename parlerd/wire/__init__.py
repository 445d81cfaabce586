"""The protocols without their transports: frames, codec, and each conversation as a state machine at both ends.

    frames      a byte stream in length-prefixed pieces
    codec       one piece as a typed message
    messages    the shapes of the local socket, and of calls everywhere
    calls       calls and streams under way, at the end that answers and at the end that asks
    peer        the local socket: who may say what when
    link        the link between a daemon and a relay: who proves what when, and then calls

Above: `parlerd.ipc` and `parlerd.connections`, which drive this package with trio, `parlerd.client`, which drives it
with blocking sockets, and the tests, which drive it with plain calls. Below: `parlerd.core` for the errors. Invariant:
nothing in this package does I/O or reads a clock. The specification is docs/protocol.md.
"""
