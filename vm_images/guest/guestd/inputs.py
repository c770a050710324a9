"""Whether the X server has taken every key and movement that the kernel had for it.

The kernel keeps 64 events for each reader of a device and throws away what does not fit, so the
host asks before it sends more. X reads its devices in a thread of its own and hands them on in its
main thread: once both sleep in epoll_wait, nothing is left between the kernel and the programs'
windows.
"""

from __future__ import annotations

import os
from typing import Any

import procfs
from port import monotonic
from tasks import Wait

_READER = "InputThread"
_WAITING = (b"do_epoll_wait", b"ep_poll")  # the kernel functions that an idle thread of X sleeps in


class Inputs:
    """Remembers which process the X server is."""

    def __init__(self) -> None:
        self._server = 0
        self._threads: list[int] = []

    def taken(self, cap_ms: float = 2000.0) -> Wait[dict[str, Any]]:
        """Wait until X has taken its input, at most `cap_ms`; without an X server there is nothing
        to wait for.
        """
        began = monotonic()
        while not self._idle():
            if monotonic() - began >= cap_ms / 1000:
                return {"taken": False}
            yield monotonic() + 0.001
        return {"taken": True}

    def _idle(self) -> bool:
        if procfs.comm(self._server) != "Xorg":
            self._find()
        # The reader first: what it hands on after the look at the main thread cannot be older than
        # this call.
        return all(_waits(self._server, thread) for thread in self._threads)

    def _find(self) -> None:
        pids = (int(name) for name in os.listdir(procfs.PROC) if name.isdigit())
        self._server = next((pid for pid in pids if procfs.comm(pid) == "Xorg"), 0)
        self._threads = []
        if self._server:
            readers = [
                thread for thread in procfs.threads(self._server) if procfs.comm(thread) == _READER
            ]
            self._threads = [*readers, self._server]


def _waits(pid: int, thread: int) -> bool:
    """Whether a thread sleeps until something happens; one that is gone does not count."""
    function = procfs.read_at(procfs.PROC, f"{pid}/task/{thread}/wchan", 64)
    return not function or function in _WAITING
