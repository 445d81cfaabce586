"""The MCP face: the pipe an agent host starts (`shim`), and the session that the daemon runs for it (`session`)."""
