"""One command for each figure that Parler promises: `python -m benchmarks.wake`. See README.md."""
