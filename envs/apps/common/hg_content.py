"""What an app starts with: the content that set-up leaves in ``seed.json``.

An app may be started before there is any, so that a snapshot can be taken of it, running and idle;
whoever leaves the content then says so with SIGHUP. Once an app has content the signal means what
it means to every other program, so that nobody can exchange the content of a running app.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def hold_signal() -> None:
    """Keep a SIGHUP that comes from now on until `read` looks for it. Call it before any thread is
    started: threads inherit what they hold back.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def read(seed: Path, waiting: Callable[[], None]) -> Any:
    """Return the content; where there is none yet, call `waiting` and sleep until it comes."""
    if not seed.exists():
        waiting()
    while not seed.exists():
        signal.sigwait({signal.SIGHUP})
    return json.loads(seed.read_text(encoding="utf-8"))


def release_signal() -> None:
    """Let SIGHUP end the app again; one that was held back and is no longer needed is dropped."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # ignoring a signal discards a pending one
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
