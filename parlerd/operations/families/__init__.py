"""One module for each topic: the shapes of its operations, their entries, and the tools that reach them, side by side.

Not here: what an operation does (`parlerd.engine`), or how its answer reads (`mcp_server.tools`, `parlerd.cli`). Above:
`registry`, which composes the families, and `types`, under whose name everyone else uses their shapes. Below: `entry`
and `shared`. Invariant: a family imports no other family.
"""
