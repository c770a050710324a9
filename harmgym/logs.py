"""The logger of the package, and telling people that something takes long."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

logger = logging.getLogger("harmgym")

NOTE_S, WARN_S = 1.0, 5.0
"""Seconds after which a wait is logged at INFO, and at WARNING, which Python prints by default."""


@contextlib.contextmanager
def announced(what: str, why: str = "") -> Iterator[None]:
    """Log that `what` is under way when it takes longer than `NOTE_S` and `WARN_S` seconds, and how
    long it took in the end. `why` is added to the warning: what the time is spent on, and whether
    it comes again. What is over in less than `NOTE_S` is not logged at all.
    """
    start = time.monotonic()
    timers = [
        threading.Timer(NOTE_S, logger.info, ("%s ...", what)),
        threading.Timer(WARN_S, logger.warning, ("%s takes a while%s", what, why and f": {why}")),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        seconds = time.monotonic() - start
        if seconds >= NOTE_S:
            logger.info("%s took %.1f s", what, seconds)
