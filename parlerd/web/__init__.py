"""The home over HTTP: for programs that have a token and no Parler. Above: the daemon. Below: the engine's face."""
