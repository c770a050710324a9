"""Settings for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# A deadline for each example fails on a busy host, and says nothing about the code.
settings.register_profile("harmgym", deadline=None)
settings.load_profile("harmgym")

# A shell starts jobs in the background with Ctrl-C ignored, and programs that tests start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
