"""Settings of the test run that every folder shares."""

from __future__ import annotations

from hypothesis import settings

# A property is tried, not timed: a machine that is busy for a moment is not a failure.
settings.register_profile("parler", deadline=None)
settings.load_profile("parler")
