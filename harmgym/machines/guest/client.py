"""The host's end of the guest channel: what can be asked of the daemon in the guest, each answer
checked for its shape.

The guest is hostile: the agent is root in it. Every call has a deadline;
`harmgym.machines.guest.channel` bounds and parses what arrives.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from harmgym.actions.validity import check_command
from harmgym.errors import GuestError, GuestTimeout
from harmgym.machines.guest.channel import Channel, number
from harmgym.machines.protocol import ATTEMPT_S, ExecResult, Process, ShellResult, Survey
from harmgym.text import clean

T = TypeVar("T")

PUT_CHUNK = 4 << 20
# An emulated guest may be slow to answer after its own deadline has passed; it may have to start
# the terminal anew, twice.
SLACK_S = 45.0
SURVEY_S = 30.0
SYNC_S = 60.0
_PROCESSES: TypeAdapter[tuple[Process, ...]] = TypeAdapter(tuple[Process, ...])
_SURVEY = TypeAdapter(Survey)


class GuestChannel(Channel):
    """The channel to the daemon of one machine. Every method may raise GuestError, or GuestTimeout,
    which is one.
    """

    def ping(self, timeout_s: float = 10.0) -> dict[str, object]:
        """Return the daemon's pid, the guest's boot id and uptime_s."""
        return self._mapping("ping", self.call("ping", timeout_s))

    def execute(
        self,
        command: str | Sequence[str],
        user: str = "root",
        timeout_s: float = 30.0,
        *,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        max_bytes: int = 1 << 20,
    ) -> ExecResult:
        """Run a program (argument list) or a bash command (string) beside the terminal; kill it
        after `timeout_s`.
        """
        what = {"command": command} if isinstance(command, str) else {"argv": list(command)}
        rest = {
            "user": user,
            "cwd": cwd,
            "env": env or {},
            "input_b64": _encode(stdin),
            "max_bytes": max_bytes,
        }
        known: dict[str, object] = {**what, **rest}
        args = {key: value for key, value in known.items() if value is not None}
        result = self._mapping("exec", self._timed("exec", timeout_s, args))
        return ExecResult(
            status=self._get(result, "exec", "status", int),
            stdout=self._decode(result, "exec", "stdout_b64"),
            stderr=self._decode(result, "exec", "stderr_b64"),
            timed_out=self._get(result, "exec", "timed_out", bool),
            truncated=self._get(result, "exec", "truncated", bool),
        )

    def succeed(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        """Run a command and return its stdout. Raises: GuestError with both outputs unless its
        status is 0.
        """
        result = self.execute(command, user, timeout_s)
        if result.status != 0:
            raise GuestError(f"{self.name}: {command!r} should succeed, but {_outcome(result)}")
        return result.stdout.decode(errors="replace")

    def fail(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        """Run a command and return its stdout. Raises: GuestError when its status is 0."""
        result = self.execute(command, user, timeout_s)
        if result.status == 0:
            raise GuestError(f"{self.name}: {command!r} should fail, but {_outcome(result)}")
        return result.stdout.decode(errors="replace")

    def wait_until_succeeds(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        """Run a command until its status is 0; return its stdout. Raises: GuestTimeout with the
        last outcome.
        """
        deadline = time.monotonic() + timeout_s
        last = "no attempt has ended"
        while True:
            # The daemon cuts an attempt off and says so: that is an answer, and the next attempt
            # may find what it hung on. A daemon that does not answer raises from `execute`.
            left = max(0.1, deadline - time.monotonic())
            result = self.execute(command, user, min(ATTEMPT_S, left))
            if result.status == 0:
                return result.stdout.decode(errors="replace")
            last = last if result.timed_out else f"it last {_outcome(result)}"
            if time.monotonic() >= deadline or self._closed.wait(0.1):
                raise GuestTimeout(
                    f"{self.name}: {command!r} did not succeed within {timeout_s:g} s; {last}"
                )

    def put(self, path: str, data: bytes, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file in the guest; parents are made."""
        for start in range(0, max(1, len(data)), PUT_CHUNK):
            piece = {
                "path": path,
                "data_b64": _encode(data[start : start + PUT_CHUNK]),
                "append": start > 0,
                "mode": mode,
                "owner": owner,
            }
            self.call("put", 60.0, **piece)

    def get(self, path: str, max_bytes: int = 1 << 20) -> bytes:
        """Return the first `max_bytes` of a regular file of the guest."""
        data = bytearray()
        while len(data) < max_bytes:
            size = min(PUT_CHUNK, max_bytes - len(data))
            result = self._mapping(
                "get", self.call("get", 60.0, path=path, offset=len(data), max_bytes=size)
            )
            piece = self._decode(result, "get", "data_b64")
            data += piece
            if not piece or len(data) >= self._get(result, "get", "size", int):
                break
        return bytes(data[:max_bytes])

    def run_python(
        self, source: str, args: Mapping[str, object] | None = None, timeout_s: float = 10.0
    ) -> Any:
        """Run `main(**args)` of `source` in a fork of the daemon, without touching the guest's
        disk; return its JSON value.
        """
        return self._timed("python", timeout_s, {"source": source, "args": dict(args or {})})

    def shell(self, command: str, timeout_s: float = 30.0, max_chars: int = 16000) -> ShellResult:
        """Type a command into the terminal and wait for its end. Raises: ActionError naming what
        cannot be typed.
        """
        check_command(command)
        result = self._mapping(
            "shell", self._timed("shell", timeout_s, {"command": command, "max_chars": max_chars})
        )
        status = result.get("status")
        if status is not None and not isinstance(status, int):
            self._misshaped("shell", "status")
        return ShellResult(
            status=status,
            text=clean(self._get(result, "shell", "text", str))[: max_chars + 1000],
            finished=self._get(result, "shell", "finished", bool),
            interrupted=self._get(result, "shell", "interrupted", bool),
            truncated=self._get(result, "shell", "truncated", bool),
            seconds=number(result.get("seconds")),
        )

    def terminal(self, max_chars: int = 16000, timeout_s: float = SLACK_S) -> str:
        """Return the text that the terminal window shows."""
        result = self._mapping("terminal", self.call("terminal", timeout_s, max_chars=max_chars))
        return clean(self._get(result, "terminal", "text", str))[: max_chars + 1000]

    def wait_terminal(self, quiet_s: float = 0.15, cap_s: float = 1.0) -> bool:
        """Wait until the terminal is idle, at most `cap_s`; return whether it is."""
        result = self.call(
            "wait_terminal", cap_s + SLACK_S, quiet_ms=quiet_s * 1000, cap_ms=cap_s * 1000
        )
        return self._get(self._mapping("wait_terminal", result), "wait_terminal", "idle", bool)

    def interrupt(self) -> None:
        """Press Ctrl-C in the terminal."""
        self.call("interrupt", 20.0)

    def input_taken(self, cap_s: float) -> bool:
        """Wait until the guest's X server has taken all keys and movements, at most `cap_s`; return
        whether it has.
        """
        result = self.call("input_taken", cap_s + SLACK_S, cap_ms=cap_s * 1000)
        return self._get(self._mapping("input_taken", result), "input_taken", "taken", bool)

    def processes(self) -> tuple[Process, ...]:
        """Return every process of the guest, in order of pid."""
        return self._parsed("processes", _PROCESSES)

    def survey(self) -> Survey:
        """Return all that is alive in the guest."""
        return self._parsed("survey", _SURVEY)

    def _parsed(self, op: str, shape: TypeAdapter[T]) -> T:
        """Call an operation whose whole answer has a shape. Raises: GuestError for another one."""
        answer = self.call(op, SURVEY_S)
        try:
            return shape.validate_json(json.dumps(answer))
        except (ValidationError, ValueError) as err:
            raise GuestError(
                f"{self.name}: the guest's answer to {op!r} is misshaped: {str(err)[:400]}"
            ) from None

    def units(self) -> dict[str, tuple[int, ...]]:
        """Return the live systemd units and their process ids."""
        units: dict[str, tuple[int, ...]] = {}
        found = self.call("units", 30.0)
        for item in found if isinstance(found, list) else self._misshaped("units", "a list"):
            item = self._mapping("units", item)
            pids = self._get(item, "units", "pids", list)
            name = self._get(item, "units", "unit", str)
            units[name] = units.get(name, ()) + tuple(pid for pid in pids if isinstance(pid, int))
        return units

    def sync(self) -> None:
        """Write the guest's dirty pages to its disk."""
        self.call("sync", SYNC_S)

    def journal_processes(self, on: bool) -> bool:
        """Switch the journal of started programs; return whether it is on."""
        return self._get(
            self._mapping("journal_processes", self.call("journal_processes", on=on)),
            "journal_processes",
            "on",
            bool,
        )

    # Strict parsing of results

    def _timed(self, op: str, timeout_s: float, args: dict[str, object]) -> Any:
        """Call an operation that keeps the deadline `timeout_s` itself, inside the guest."""
        return self.request(op, timeout_s + SLACK_S, {**args, "timeout_s": timeout_s})

    def _misshaped(self, op: str, key: str) -> NoReturn:
        raise GuestError(
            f"{self.name}: the guest's answer to {op!r} is misshaped: {key!r} is missing or of"
            " another type"
        )

    def _mapping(self, op: str, value: object) -> dict[str, object]:
        return value if isinstance(value, dict) else self._misshaped(op, "an object")

    def _get(self, result: dict[str, object], op: str, key: str, kind: type[T]) -> T:
        value = result.get(key)
        return value if isinstance(value, kind) else self._misshaped(op, key)

    def _decode(self, result: dict[str, object], op: str, key: str) -> bytes:
        try:
            return base64.b64decode(self._get(result, op, key, str), validate=True)
        except ValueError:  # binascii.Error is one; so is what a letter beyond ASCII raises
            self._misshaped(op, key)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _outcome(result: ExecResult) -> str:
    ended = "did not end in time" if result.timed_out else f"ended with status {result.status}"
    output, errors = (
        data.decode(errors="replace").strip()[-2000:] or "(none)"
        for data in (result.stdout, result.stderr)
    )
    return f"{ended}; stdout: {output}; stderr: {errors}"
