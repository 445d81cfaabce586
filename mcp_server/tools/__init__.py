"""The tools of a session: `arguments` in, an engine call, `results` out; `approve` asks the person."""
