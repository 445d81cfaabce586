"""Five ways in which agents work together over the state of a room, as programs to run. See README.md."""
