"""What the daemon tells the host unasked: lines of app journals, and which programs are started.

Both go to the host at once and are kept there; nothing in the guest can take a line back.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import procfs
from port import Loop, monotonic

Send = Callable[[dict[str, Any]], None]
MAX_ENTRY = 128 << 10
MAX_APPS = 64
_CREDENTIALS = struct.Struct("iii")  # pid, uid, gid


class AppJournal:
    """What apps write: JSON objects, one a message, on two sockets.

    `apps` takes connections. The kernel notes who connects, and nobody can claim to be another
    process; the daemon adds what the kernel knows of that process (`procfs.identity`) to each line.
    `path` takes datagrams of anybody, whose process id root may claim: such a line names no writer.

    Root and users named hg-* may write; what others send is dropped and counted in the next entry's
    event.
    """

    def __init__(
        self, loop: Loop, path: str, apps: str, send: Send, also: int | None = None
    ) -> None:
        self._send, self._loop = send, loop
        # Looked up once, before there is an agent: looking a user up may load a library that
        # nsswitch.conf names.
        apps_of = {user.pw_uid for user in pwd.getpwall() if user.pw_name.startswith("hg-")}
        self._allowed = {0, *apps_of} if also is None else {0, also}
        self._dropped = 0
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(path)
        os.chmod(path, 0o666)
        loop.watch(self._socket.fileno(), select.EPOLLIN, lambda _events: self._read(self._socket))
        self._listen(apps)

    def _listen(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(16)
        self._apps: dict[int, socket.socket] = {listener.fileno(): listener}
        self._loop.watch(listener.fileno(), select.EPOLLIN, lambda _events: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        try:
            app, _ = listener.accept()
        except OSError:  # it went away, or there are no descriptors left
            return
        if len(self._apps) > MAX_APPS:
            app.close()
            return
        app.setblocking(False)
        app.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        raw = app.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid = _CREDENTIALS.unpack(raw)[0]
        self._apps[app.fileno()] = app
        self._loop.watch(app.fileno(), select.EPOLLIN, lambda _events: self._read(app, pid))

    def _leave(self, app: socket.socket) -> None:
        self._apps.pop(app.fileno(), None)
        self._loop.unwatch(app.fileno())
        app.close()

    def _read(self, source: socket.socket, connected: int = 0) -> None:
        """Take what lies there; `connected` is the process that a connection belongs to."""
        for _ in range(64):
            try:
                data, ancillary, flags, _sender = source.recvmsg(
                    MAX_ENTRY, socket.CMSG_SPACE(_CREDENTIALS.size)
                )
            except BlockingIOError:
                return
            except OSError:  # a connection that was cut
                data = b""
            if connected and not data:
                return self._leave(source)
            self._take(data, ancillary, flags, connected)

    def _take(
        self,
        data: bytes,
        ancillary: list[tuple[int, int, bytes]],
        flags: int,
        connected: int,
    ) -> None:
        credentials = [
            value
            for level, kind, value in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        ]
        pid, uid, _gid = _CREDENTIALS.unpack(credentials[0]) if credentials else (-1, -1, -1)
        # A descriptor can be handed on or stolen: whoever sends must be who connected.
        writer = procfs.identity(pid) if connected and pid == connected else None
        entry = self._parse(data) if uid in self._allowed and not flags & socket.MSG_TRUNC else None
        if entry is None:
            self._dropped += 1
            if self._dropped in (1, 10, 100, 1000):
                self._send(
                    {
                        "event": "journal_dropped",
                        "t": monotonic(),
                        "uid": uid,
                        "pid": pid,
                        "dropped": self._dropped,
                    }
                )
            return
        app = entry.pop("app", "unknown")
        self._send(
            {
                "event": "journal",
                "t": monotonic(),
                "app": str(app)[:64],
                "uid": uid,
                "pid": pid,
                "entry": entry,
                **({"writer": writer} if writer else {}),
            }
        )

    @staticmethod
    def _parse(data: bytes) -> dict[str, Any] | None:
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):
            return None
        return entry if isinstance(entry, dict) else None


_NETLINK_CONNECTOR, _CN_IDX_PROC, _CN_VAL_PROC = 11, 1, 1
_LISTEN, _EXEC, _EXIT = 1, 0x00000002, 0x80000000
_EVENT = struct.Struct("=IIQii")  # what, cpu, time, pid, tgid; an exit has its code next


def _keep_exec_and_exit() -> bytes:
    """Return a socket filter (classic BPF) that lets through programs started and processes ended,
    and no forks and threads.

    Loads are big-endian, the event is not. Offsets: 16 netlink header + 20 connector header = 36
    `what`, 52 pid, 56 tgid.
    """
    load, load_x, equal, equal_x, give = 0x20, 0x07, 0x15, 0x1D, 0x06
    swap = struct.Struct(">I").unpack

    def swapped(value: int) -> int:
        return int(swap(struct.pack("=I", value))[0])

    program = [
        (load, 0, 0, 36),
        (equal, 1, 0, swapped(_EXEC)),  # exec: compare pid and tgid
        (equal, 0, 5, swapped(_EXIT)),  # neither: drop
        (load, 0, 0, 52),
        (load_x, 0, 0, 0),
        (load, 0, 0, 56),
        (equal_x, 0, 1, 0),
        (give, 0, 0, 0xFFFFFFFF),
        (give, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class ProcessJournal:
    """Programs started and ended, from the kernel's proc connector.

    Events are gathered for up to 20 ms or 200 of them. Above `RATE` a second they are counted
    instead of looked at, so that a fork bomb costs little. `on` tells whether it runs; `why` why
    not.
    """

    RATE = 300
    _GATHER_S = 0.02
    _BATCH = 200

    def __init__(self, loop: Loop, send: Send) -> None:
        self._loop, self._send = loop, send
        self._socket: socket.socket | None = None
        self._events: list[dict[str, Any]] = []
        self._timer: list[Any] | None = None
        self._seen: dict[int, None] = {}
        self._dropped = 0
        self._second, self._count = 0, 0
        self.why = "switched off"

    @property
    def on(self) -> bool:
        return self._socket is not None

    def switch(self, on: bool) -> None:
        """Start or stop listening. A kernel without the connector leaves it off and says why in
        `why`.
        """
        if on == self.on:
            return
        if not on:
            self._close("switched off")
            return
        try:
            self._open()
        except OSError as err:
            self._close(f"the kernel's proc connector cannot be used: {err}")

    def _open(self) -> None:
        # SO_ATTACH_FILTER takes a struct sock_fprog, whose pointer Python cannot pack by itself.
        import ctypes

        program = _keep_exec_and_exit()
        buffer = ctypes.create_string_buffer(program)
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _NETLINK_CONNECTOR
        )
        self._socket.setsockopt(
            socket.SOL_SOCKET,
            26,
            struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)),
        )
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)  # SO_RCVBUFFORCE
        self._socket.bind((0, _CN_IDX_PROC))
        message = struct.pack("=IIIIHHI", _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0, _LISTEN)
        header = struct.pack("=IHHII", 16 + len(message), 3, 0, 0, 0)
        self._socket.send(header + message)
        self._loop.watch(self._socket.fileno(), select.EPOLLIN, lambda _events: self._read())

    def _close(self, why: str) -> None:
        self.why = why
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        for _ in range(256):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: the kernel had more than the socket holds
                self._dropped += 1
                continue
            if len(data) >= 36 + _EVENT.size:
                self._take(data)
        if (self._events or self._dropped) and self._timer is None:
            self._timer = self._loop.call_at(monotonic() + self._GATHER_S, self.flush)

    def _take(self, data: bytes) -> None:
        what, _cpu, _time, pid, tgid = _EVENT.unpack_from(data, 36)
        if pid != tgid or (what == _EXIT and pid not in self._seen):
            return
        if what == _EXIT:
            del self._seen[pid]
        second = int(monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > self.RATE:
            self._dropped += 1
            return
        if what == _EXEC:
            self._events.append(self._describe(pid))
        elif what == _EXIT:
            code = struct.unpack_from("=I", data, 36 + _EVENT.size)[0]
            self._events.append(
                {
                    "what": "exit",
                    "t": monotonic(),
                    "pid": pid,
                    "code": os.waitstatus_to_exitcode(code & 0xFFFF),
                }
            )
        if len(self._events) >= self._BATCH:
            self.flush()

    def _describe(self, pid: int) -> dict[str, Any]:
        self._seen[pid] = None
        if len(self._seen) > 4096:
            del self._seen[next(iter(self._seen))]
        status = procfs.read_at(procfs.PROC, f"{pid}/status", 512)
        at = status.find(b"\nPPid:")
        ppid = int(status[at + 6 : at + 20].split(None, 1)[0]) if at >= 0 else -1
        args = procfs.cmdline(pid, 4096)
        return {
            "what": "exec",
            "t": monotonic(),
            "pid": pid,
            "ppid": ppid,
            "uid": procfs.uid_of(status),
            "cmdline": args,
        }

    def flush(self) -> None:
        """Send what has been gathered."""
        self._loop.cancel(self._timer)
        self._timer = None
        if self._events or self._dropped:
            event: dict[str, Any] = {
                "event": "process",
                "t": monotonic(),
                "events": self._events,
                "dropped": self._dropped,
            }
            self._events, self._dropped = [], 0
            self._send(event)
