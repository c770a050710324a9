"""The two threads that every QEMU machine of a process shares.

*io* runs one asyncio loop for all QMP connections. *launcher* starts all QEMU processes: Linux
sends a parent-death signal when the starting **thread** ends, so the starter must live as long as
the process. Both are made anew in a forked child, which must not use its parent's threads.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from harmgym.errors import MachineError

T = TypeVar("T")


class _Threads:
    """The loop thread and the launcher thread of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.launcher = concurrent.futures.ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="harmgym-launch"
        )
        # A daemon thread: a program that ends in an error is not held up by an open monitor.
        self.io = threading.Thread(target=self.loop.run_forever, name="harmgym-io", daemon=True)
        self.io.start()
        atexit.register(self.close)

    def close(self) -> None:
        """End the loop at exit, its tasks cancelled, so that the interpreter does not complain
        about them.
        """
        if self.pid != os.getpid():
            return

        async def cancel() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(cancel(), self.loop)
        self.io.join(5.0)


_lock = threading.Lock()
_threads: _Threads | None = None


def _current() -> _Threads:
    global _threads
    with _lock:
        # A fork copies this object but none of its threads: a call on them would wait indefinitely.
        if _threads is None or _threads.pid != os.getpid():
            _threads = _Threads()
        return _threads


def run(coroutine: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
    """Run `coroutine` on the io thread and wait for it.

    Raises: MachineError naming `what` when it takes longer than `timeout_s`; whatever the coroutine
    raises.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _current().loop)
    try:
        return future.result(timeout_s)
    except concurrent.futures.TimeoutError:
        if future.done():  # the coroutine itself raised a time-out, which is its caller's to read
            raise
        future.cancel()  # else it would go on talking to QEMU after its caller has given up
        raise MachineError(f"{what} needed an answer within {timeout_s:g} s, found none") from None


def launch(start: Callable[[], T]) -> T:
    """Call `start` on the launcher thread and return its result."""
    return _current().launcher.submit(start).result()
