"""What the doors of this program and its own link to a relay share: how calls are answered, and how a link's bytes
travel.

    calls        answers the calls and streams of one conversation from the engine
    stream       what a link needs of its transport
    outgoing     the bytes that wait to be sent over such a transport, with a bound
    websocket    the transport over a WebSocket

Above: `parlerd.ipc` and `relay`, which answer calls, and `parlerd.uplink`, which makes them over a link. They must not
know each other, and what two of them need stands here. Below: `parlerd.engine` by its face, `parlerd.wire`. Invariant:
nothing here knows who is on the other end, or what that one may do.
"""
