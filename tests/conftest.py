"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A deadline for each example fails on a busy host, and says nothing about the code.
settings.register_profile("harmgym", deadline=None)
settings.load_profile("harmgym")
