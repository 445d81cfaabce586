"""The registry of operations: each is declared once, and every surface is made from it.

`types` holds the parameter and result shapes, `registry` the entries, `tools` how entries become MCP tools, and
`render` the help and the reference page. Imports core types alone.
"""
