"""What is known of text that others chose, for every surface that shows such text.

Above: the fence for models (`mcp_server.fence`) and the way to a terminal (`parlerd.cli.printable`). This package
imports nothing of the project.
"""
