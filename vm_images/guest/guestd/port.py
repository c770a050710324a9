"""The event loop, and the port through which the host speaks to the daemon.

The loop sleeps in one epoll_wait without a time-out unless a timer is set: an idle daemon costs
nothing.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import select
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

MAX_FRAME = 16 << 20
SYNC = b"\0\0\0\0harmgym\n"
_LENGTH = struct.Struct(">I")

monotonic = time.monotonic


class Loop:
    """File descriptors and timers, each with a callback; an exception in one is reported and the
    loop goes on.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[list[Any]] = []
        self._count = 0
        self.on_crash: Callable[[str], object] = sys.stderr.write

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever `fd` is ready."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; must be called before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, when: float, callback: Callable[[], None]) -> list[Any]:
        """Call `callback` at `when` (monotonic seconds); pass the returned timer to `cancel`."""
        self._count += 1
        timer = [when, self._count, callback]
        heapq.heappush(self._timers, timer)
        return timer

    @staticmethod
    def cancel(timer: list[Any] | None) -> None:
        if timer is not None:
            timer[2] = None

    def run(self) -> None:
        """Serve for ever."""
        while True:
            self.run_once()

    def run_once(self) -> None:
        """Wait for the next descriptors or timers that are due, and call their callbacks."""
        timers = self._timers
        while timers and timers[0][2] is None:
            heapq.heappop(timers)
        timeout = max(0.0, timers[0][0] - monotonic()) if timers else -1
        for fd, events in self._epoll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler is not None:
                try:
                    handler(events)
                except Exception:  # one broken callback must not end the daemon
                    self.on_crash(traceback.format_exc())
        while timers and (timers[0][2] is None or timers[0][0] <= monotonic()):
            callback = heapq.heappop(timers)[2]
            if callback is not None:
                try:
                    callback()
                except Exception:  # as above
                    self.on_crash(traceback.format_exc())


class Port:
    """Frames in, frames out.

    Edge-triggered: while the host is away the port reports a hang-up once instead of spinning.
    Input that is no frame is answered by an error without an id, and what was read so far is
    dropped.
    """

    def __init__(self, loop: Loop, fd: int, on_request: Callable[[Any], None]) -> None:
        self.fd, self._loop, self._on_request = fd, loop, on_request
        self._in = bytearray()
        self._out = bytearray(SYNC)
        os.set_blocking(fd, False)
        loop.watch(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET, self._ready)

    def send(self, message: dict[str, Any]) -> None:
        """Send `message` as one frame."""
        self.send_raw(json.dumps(message).encode())

    def send_raw(self, body: bytes) -> None:
        """Send ready-made JSON as one frame."""
        self._out += _LENGTH.pack(len(body)) + body
        self._flush()

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT and self._out:
            self._flush()
        if events & ~select.EPOLLOUT:
            self._read()

    def _flush(self) -> None:
        while self._out:
            try:
                del self._out[: os.write(self.fd, self._out[:65536])]
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno not in (errno.EPIPE, errno.ENODEV, errno.ECONNRESET):
                    raise
                self._out.clear()

    def _read(self) -> None:
        # An edge is reported once, so read until the port is empty.
        while True:
            try:
                data = os.read(self.fd, 65536)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:  # no host at the other end
                return
            self._in += data
            self._parse()

    def _parse(self) -> None:
        while len(self._in) >= 4:
            (size,) = _LENGTH.unpack_from(self._in)
            if size > MAX_FRAME:
                self._in.clear()
                self._refuse(f"a frame of {size} bytes is larger than {MAX_FRAME}")
                return
            if len(self._in) < 4 + size:
                return
            body = bytes(self._in[4 : 4 + size])
            del self._in[: 4 + size]
            try:
                request = json.loads(body)
            except (ValueError, RecursionError) as err:
                self._refuse(f"a frame is not JSON: {err}")
                continue
            self._on_request(request)

    def _refuse(self, why: str) -> None:
        self.send({"id": None, "ok": False, "kind": "protocol", "error": why})
