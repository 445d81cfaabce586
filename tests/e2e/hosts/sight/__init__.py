"""Whether what Parler says of a host's model is true: every host with the real Parler and a scripted model, whose
server's log is the truth."""
