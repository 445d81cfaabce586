"""The relay: rooms for people on different machines, and what keeps it running on this one.

    place        where the relay listens and what it is called, in one file
    network      the addresses of this machine
    service      the relay as a service of the system, or as a process that stays by itself
    door         the one port: who is let in, and where a request belongs
    certificate  the certificate that is served there
    standing     the address, the certificate and the door while the relay runs
    link         the links of other daemons: who they are, and what is answered
    enrolment    whom the relay knows, and the secret that enrols
    backup       everything of a relay in one file
    admin        the relay's own socket, for the person who runs it
    control      what is answered there
    program      builds the parts of one relay, and takes them down in order

A relay is a program of its own (`python -m relay`), with a home of its own in the home of the person who runs it. It
serves the same engine and core as the daemon, and never reaches what belongs to a local user: `parlerd.daemon`,
`parlerd.ipc`, `parlerd.client`, `parlerd.cli`. The command line imports the first three modules, and none that serves.
Above: the command line. Below: the engine by its face, `parlerd.connections`.
"""
