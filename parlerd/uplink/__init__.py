"""The daemon's side of homes elsewhere: which relays the person added, the link to each, and what is kept for them.

Above: the daemon, which puts it together. Below: the engine, whose rooms it fills and whose handlers it serves.
"""
