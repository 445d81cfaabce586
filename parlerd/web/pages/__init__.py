"""A home in a browser: pages that the daemon writes, for a person who looks on. Above: `local`. Below: Jinja2, the
engine's face."""
