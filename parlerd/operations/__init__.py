"""The operations: each is declared once, and every surface is made from the declaration.

    entry, shared, samples -> families (one module for each topic) -> registry -> tools
                                                                    -> types, by which all others name a shape

`traits` is beside them: what an agent host does with answers. Imports core types alone.
"""
