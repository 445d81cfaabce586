"""The face of the engine for other machines: a home without a local user, where rooms of several people live.

    door         the one port: who is let in, and where a request belongs
    certificate  the certificate that is served there
    link         the other daemons' links: who they are, and what is answered

The package serves, over the network, the same engine and core as the daemon. Above: nothing; a program is started from
it. Below: the engine by its face, `parlerd.connections`. It never reaches what belongs to a local user:
`parlerd.daemon`, `parlerd.ipc`, `parlerd.uplink`, `parlerd.client`, `parlerd.cli`.
"""
