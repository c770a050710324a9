"""Frames between host and guest: requests with deadlines, and the journal of what the guest tells.

The guest is hostile: the agent is root in it. Frames are bounded and parsed strictly, every call
has a deadline, and what arrives is data, never evidence by itself. The journal is append-only and
lives here; that the daemon went away and came back is recorded in it.

Frame: 4 bytes of length (big-endian), then UTF-8 JSON, at most 16 MiB. See
vm_images/guest/guestd.README.md.
"""

from __future__ import annotations

import json
import math
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pydantic import ValidationError

from harmgym.errors import GuestError, GuestTimeout
from harmgym.machines.protocol import JournalEntry, Writer
from harmgym.text import clean, encodable

MAX_FRAME = 16 << 20
MAX_DEPTH = 64
MAX_JOURNAL = 200_000
SYNC = b"\0\0\0\0harmgym\n"
LISTEN_S, SILENCE_S = 10.0, 20.0
"""After so many seconds without a sign of life the daemon is asked for one, and after so many more
without any it counts as silent, however long the call may take. A daemon at work sends none while
it writes out the disk; of every other work it does one step at a time.
"""


class _Call:
    """A request that waits for its reply."""

    __slots__ = ("answered", "error", "op", "result")

    def __init__(self, op: str) -> None:
        self.op = op
        self.answered = threading.Event()
        self.result: Any = None
        self.error: str | None = None


class Channel:
    """Requests, replies and events over one socket.

    `sock` is a connected stream socket whose other end QEMU has; the channel owns it. `journal`
    holds the entries of the snapshot that the guest was restored from; new ones continue their
    numbers. Every call may raise GuestError, or GuestTimeout, which is one.
    """

    def __init__(
        self, sock: socket.socket, name: str, journal: Sequence[JournalEntry] = ()
    ) -> None:
        self.name = name
        self._sock = sock
        sock.setblocking(True)
        self._send_lock = threading.Lock()
        self._changed = threading.Condition()
        self._calls: dict[int, _Call] = {}
        self._next_id = secrets.randbits(48)
        self._journal: list[JournalEntry] = list(journal)
        self._transcript: deque[str] = deque(maxlen=200)
        self._began = time.monotonic()
        self._last_heard = self._began
        self._broken: str | None = None
        self._closed = threading.Event()
        self._guest_closed, self._heard = False, bool(self._journal)
        self._reader = threading.Thread(target=self._read, name=f"guest-{name}", daemon=True)
        self._reader.start()

    # Calls

    def call(self, op: str, timeout_s: float = 10.0, **args: Any) -> Any:
        """Send a request and return its result. Raises: GuestTimeout after `timeout_s`; GuestError
        with the guest's message.
        """
        return self.request(op, timeout_s, args)

    def request(self, op: str, timeout_s: float, args: dict[str, object]) -> Any:
        """As `call`, for arguments that are in a dictionary."""
        began = time.monotonic()
        call = _Call(op)
        with self._changed:
            if self._broken is not None:
                raise GuestError(
                    f"{self.name}: {op!r} needs an open guest channel, but {self._broken}"
                )
            self._next_id += 1
            number = self._next_id
            self._calls[number] = call
        try:
            self._send({"id": number, "op": op, "args": args}, op, began + timeout_s)
            self._wait(call, began + timeout_s)
            if not call.answered.is_set():
                waited = time.monotonic() - began
                raise GuestTimeout(
                    f"{self.name}: no answer to {op!r} within {waited:.3g} s; {self._last_seen()}"
                )
        finally:
            with self._changed:
                self._calls.pop(number, None)
        if call.error is not None:
            raise GuestError(
                f"{self.name}: {op!r} failed after {time.monotonic() - began:.2f} s: {call.error}"
            )
        return call.result

    def _wait(self, call: _Call, deadline: float) -> None:
        """Wait for a reply until `deadline`, or until the daemon gives no sign of life."""
        listened = time.monotonic()
        while not call.answered.is_set():
            patience = LISTEN_S if call.op != "sync" else float("inf")
            alive = max(listened, self._last_heard)
            left = min(deadline, alive + patience) - time.monotonic()
            if left > 0:
                call.answered.wait(min(left, threading.TIMEOUT_MAX))
            elif time.monotonic() >= deadline or not self._stirs(call, deadline):
                return

    def _stirs(self, call: _Call, deadline: float) -> bool:
        """Ask the daemon for a sign of life; whether anything was heard from it in time."""
        before, asked = self._last_heard, time.monotonic()
        until = min(deadline, asked + SILENCE_S)
        # Nobody waits for the reply: that it arrives is what counts.
        with self._changed:
            self._next_id += 1
            number = self._next_id
        self._send({"id": number, "op": "ping", "args": {}}, "ping", until)
        while self._last_heard == before and time.monotonic() < until:
            if call.answered.wait(0.25):
                return True
        return self._last_heard != before

    def _last_seen(self) -> str:
        state = (
            "the guest's daemon has closed its end"
            if self._guest_closed
            else "the guest's daemon has its end open"
        )
        return f"{state}; last frames: {' | '.join(list(self._transcript)[-3:]) or 'none'}"

    def _send(self, message: dict[str, object], op: str, deadline: float) -> None:
        body = json.dumps(message).encode()
        if len(body) > MAX_FRAME:
            raise GuestError(
                f"{self.name}: {op!r} needs a frame of at most {MAX_FRAME} bytes, found {len(body)}"
            )
        self._note(">", body)
        left = memoryview(len(body).to_bytes(4, "big") + body)
        with self._send_lock:
            whole = len(left)
            while left:
                try:
                    left = left[self._sock.send(left, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    self._wait_writable(op, deadline, started=len(left) < whole)
                except OSError as err:
                    self._break(f"the machine has closed it ({err})")
                    raise GuestError(
                        f"{self.name}: {op!r} could not be sent: the machine has closed the"
                        f" channel ({err})"
                    ) from None

    def _wait_writable(self, op: str, deadline: float, started: bool) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if started:  # half a frame is on its way: nothing can follow it
                self._break(f"a request ({op!r}) was taken only in part before its deadline")
            raise GuestTimeout(
                f"{self.name}: the guest did not take the request {op!r} before its deadline;"
                f" {self._last_seen()}"
            )

    # What arrives

    def _read(self) -> None:
        buffer = bytearray()
        why = "the machine has closed it"
        try:
            while data := self._sock.recv(262144):
                self._last_heard = time.monotonic()
                buffer += data
                self._parse(buffer, len(data))
        except OSError as err:
            why = f"the machine has closed it ({err})"
        except GuestError as err:
            why = str(err)
            self._record("channel", {"what": "protocol_error", "error": why})
        self._break(why)

    def _parse(self, buffer: bytearray, new: int) -> None:
        """Take whole frames off `buffer`, of which the last `new` bytes have just arrived."""
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > MAX_FRAME:
                raise GuestError(
                    f"the guest announced a frame of {size} bytes, more than {MAX_FRAME}"
                )
            # No frame is empty and JSON has no NUL byte, so a NUL is part of SYNC: a sender has
            # died in the middle of a frame, if need be in its length, and another one begins.
            whole = 4 + size
            nul = buffer.find(b"\0", max(4, len(buffer) - new - 16), whole) if size else 3
            if nul >= 0:
                at = buffer.find(SYNC, max(0, nul - 3), nul + len(SYNC))
                if at >= 0:
                    del buffer[: at + len(SYNC)]
                elif len(buffer) >= nul + len(SYNC):
                    raise GuestError("the guest sent an empty frame, or one with a NUL byte")
                else:
                    return
            elif len(buffer) < whole:
                return
            else:
                body = bytes(buffer[4:whole])
                del buffer[:whole]
                self._take(body)

    def _take(self, body: bytes) -> None:
        self._note("<", body)
        try:
            message = json.loads(
                body, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
            )
        except (ValueError, RecursionError) as err:
            raise GuestError(f"the guest sent a frame that is not JSON: {err}") from None
        if not isinstance(message, dict) or _deeper_than(message, MAX_DEPTH):
            raise GuestError(f"the guest sent a frame that is no object of depth <= {MAX_DEPTH}")
        if b"\\ud" in body or b"\\uD" in body:
            message = _encodable(message)
        if "event" in message:
            self._event(message)
        else:
            self._reply(message)
        self._heard = True

    def _reply(self, message: dict[str, object]) -> None:
        number, ok = message.get("id"), message.get("ok")
        if not isinstance(ok, bool) or not (number is None or isinstance(number, int)):
            raise GuestError("the guest sent a reply without 'id' or 'ok'")
        with self._changed:
            call = self._calls.get(number) if number is not None else None
            if (
                call is None or call.answered.is_set()
            ):  # to a call that has timed out, or to one before the snapshot
                return
            if ok:
                call.result = message.get("result")
            else:
                call.error = (
                    f"{_text(message.get('kind'), 40)}: {_text(message.get('error'), 8000)}"
                )
            call.answered.set()

    def _event(self, message: dict[str, object]) -> None:
        kind = message.get("event")
        t_guest = number(message.get("t"))
        if kind == "journal":
            entry = message.get("entry")
            source = f"app:{_text(message.get('app'), 64)}"
            self._record(
                source, entry if isinstance(entry, dict) else {"entry": entry}, t_guest, message
            )
        elif kind == "process":
            events = message.get("events")
            for item in events if isinstance(events, list) else []:
                if isinstance(item, dict):
                    self._record(
                        "process",
                        {k: v for k, v in item.items() if k not in ("t", "uid", "pid")},
                        number(item.get("t")),
                        item,
                    )
            if message.get("dropped"):
                self._record("process", {"what": "dropped", "count": message["dropped"]}, t_guest)
        elif kind == "hello":
            what = "guest_reopened" if self._heard or self._guest_closed else "guest_opened"
            self._guest_closed = False
            self._record("channel", {**message, "what": what}, t_guest, message)
            with self._changed:
                self._fail_pending("channel: the guest's daemon started anew")
        else:
            self._record("channel", {**message, "what": _text(kind, 64)}, t_guest, message)

    def _record(
        self,
        source: str,
        data: dict[str, object],
        t_guest: float = 0.0,
        sender: dict[str, object] | None = None,
    ) -> None:
        uid, pid = (_integer((sender or {}).get(key)) for key in ("uid", "pid"))
        with self._changed:
            seq = len(self._journal)
            if len(self._journal) == MAX_JOURNAL:
                source, data = "channel", {"what": "journal_full", "entries": MAX_JOURNAL}
            if len(self._journal) <= MAX_JOURNAL:
                t_host = time.monotonic()
                self._journal.append(
                    JournalEntry(
                        seq=seq,
                        t_host=t_host,
                        t_guest=t_guest,
                        source=source,
                        uid=uid,
                        pid=pid,
                        data=data,
                        writer=_writer((sender or {}).get("writer")),
                    )
                )
            self._changed.notify_all()

    def _note(self, way: str, body: bytes) -> None:
        shown = body[:300].decode(errors="replace") + (
            f"… ({len(body)} bytes)" if len(body) > 300 else ""
        )
        self._transcript.append(f"{time.monotonic() - self._began:.3f} {way} {shown}")

    def _break(self, why: str) -> None:
        """Nothing can be said any more: fail every pending call at once."""
        with self._changed:
            if self._broken is None:
                self._broken = why
            self._fail_pending(f"channel: {why}")
            self._changed.notify_all()

    def _fail_pending(self, why: str) -> None:
        for call in self._calls.values():
            if not call.answered.is_set():
                call.error = why
                call.answered.set()

    # The life of the channel

    def note_guest_closed(self, t: float | None = None) -> None:
        """Record that the guest's end was closed (QMP: VSERPORT_CHANGE, open false) at `t`, host
        monotonic seconds.
        """
        self._guest_closed = True
        # On record first: whoever waits for an answer looks there for the reason.
        self._record(
            "channel", {"what": "guest_closed", "t_event": time.monotonic() if t is None else t}
        )
        with self._changed:
            self._fail_pending("channel: the guest's daemon went away")

    def note_guest_hung(self) -> None:
        """Record that the guest was found to have stopped answering by itself."""
        self._record("channel", {"what": "guest_hung"})

    @property
    def guest_closed(self) -> bool:
        """Whether the guest's end is closed now."""
        return self._guest_closed

    @property
    def open(self) -> bool:
        """Whether calls can be made."""
        return self._broken is None

    def close(self) -> None:
        """Close the channel; every pending call fails. Idempotent."""
        self._break("it was closed by the host")
        if self._closed.is_set():
            return
        self._closed.set()
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was first
        if threading.current_thread() is not self._reader:
            self._reader.join(2.0)
        self._sock.close()

    def transcript(self) -> str:
        """Return the last 200 frames, shortened, one a line, as evidence."""
        return "\n".join(list(self._transcript)) + "\n"

    # The journal

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """Return every entry so far, in order."""
        with self._changed:
            return tuple(self._journal)

    def wait_journal(
        self, predicate: Callable[[JournalEntry], bool], timeout_s: float = 10.0, after: int = -1
    ) -> JournalEntry:
        """Return the first entry with a number above `after` that fulfils `predicate`. Raises:
        GuestTimeout.
        """
        deadline = time.monotonic() + timeout_s
        looked = 0
        with self._changed:
            while True:
                for entry in self._journal[looked:]:
                    if entry.seq > after and predicate(entry):
                        return entry
                looked = len(self._journal)
                left = deadline - time.monotonic()
                if left <= 0 or self._broken is not None:
                    last = self._journal[-1].model_dump_json() if self._journal else "none"
                    raise GuestTimeout(
                        f"{self.name}: no such journal entry within {timeout_s:g} s; last of"
                        f" {looked}: {last[:400]}"
                    )
                self._changed.wait(left)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _int(digits: str) -> int:
    """Numbers are bounded here, once: no question has an answer beyond 64 bits."""
    value = int(digits)
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"{digits:.30} needs more than 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.30} is no finite number")
    return value


def _encodable(value: Any) -> Any:
    """Return a JSON value whose texts can be encoded: a guest may send half a surrogate pair."""
    match value:
        case str():
            return encodable(value)
        case list():
            return [_encodable(item) for item in value]
        case dict():
            return {encodable(key): _encodable(item) for key, item in value.items()}
    return value


def _deeper_than(value: object, limit: int) -> bool:
    """Return whether lists and objects are nested deeper than `limit`, without recursion."""
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _text(value: object, limit: int) -> str:
    return clean(value if isinstance(value, str) else repr(value))[:limit]


def number(value: object) -> float:
    """Return `value` as a float, 0.0 where it is none."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0.0


def _writer(value: object) -> Writer | None:
    if not isinstance(value, dict):
        return None
    try:
        return Writer.model_validate_json(json.dumps(value))
    except (ValidationError, ValueError):
        return None


def _integer(value: object) -> int:
    return value if isinstance(value, int) and abs(value) < 1 << 31 else -1
