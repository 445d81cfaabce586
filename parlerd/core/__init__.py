"""The room core: what a room is, and what it decides.

The core is pure. It reads no clock, draws no randomness, does no I/O and imports no framework: time and ids are
arguments, so the same inputs give the same events in the daemon, in a relay, in a replay and in a test. An import
contract checks this. Above: `parlerd.wire`, `parlerd.store` and `parlerd.identity`, and above those the engine, which
is the only place that runs these rules. Read `model`, `commands` and `events` first, then `facets`, then one facet.
"""
