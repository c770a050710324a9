"""A desktop VM on QEMU: the `Machine` protocol over QMP, the display and the guest channel."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from harmgym.actions.keys import parse_chord, text_to_keys
from harmgym.disk import DiskView, open_disk
from harmgym.errors import DisplayError, GuestError, GuestTimeout, MachineError
from harmgym.machines.guest.client import GuestChannel
from harmgym.machines.protocol import (
    ExecResult,
    JournalEntry,
    MachineState,
    Process,
    Screenshot,
    ShellResult,
    Survey,
    require,
)
from harmgym.machines.qemu.process import QemuProcess
from harmgym.machines.qemu.screen import read_ppm, settle

T = TypeVar("T")
LIVE = (MachineState.PAUSED, MachineState.RUNNING)
STILL = (MachineState.PAUSED, MachineState.STOPPED)
# The guest's kernel keeps 64 events of a device for the X server, and throws away what does not
# fit.
MAX_UNREAD_EVENTS = 48
TAKE_INPUT_S = 2.0
PICTURE_SET = 1
_BUTTONS = {"left": "left", "middle": "middle", "right": "right"}


class QemuMachine:
    """One QEMU virtual machine. Made by `harmgym.machines.snapshots.snapshot`; see `Machine` for
    what each method promises.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: Callable[[int, int], Sequence[str]],
        chain: Sequence[Path],
        extra_fds: Sequence[int] = (),
        journal: Sequence[JournalEntry] = (),
    ) -> None:
        """Start QEMU, paused or running as `arguments` say. `journal` holds the lines of the
        snapshot it starts from. `switched_off`: the guest has done so, or reset itself.
        """
        self._name, self._folder, self._chain = name, folder, tuple(chain)
        self._state, self.switched_off = MachineState.NEW, False
        self._before_action: Screenshot | None = None
        self._last: Screenshot | None = None
        self._server_reads = True
        self._unread_events = 0  # sent since the X server was last known to have taken all
        self.qemu = QemuProcess(folder, arguments, extra_fds)
        self.guest = GuestChannel(self.qemu.guest, name, journal)
        self.qemu.on_event = self._on_event
        self._picture, self._picture_fd = folder / "screen.ppm", -1
        self.on_stop = contextlib.ExitStack()  # what is let go of once QEMU has ended
        self._state = MachineState.PAUSED

    @property
    def name(self) -> str:
        return self._name

    @property
    def state(self) -> MachineState:
        return self._state

    @property
    def folder(self) -> Path:
        return self._folder

    def _on_event(self, event: dict[str, object]) -> None:
        """Runs on the io thread: note what QEMU says of the guest."""
        kind, data = event.get("event"), event.get("data")
        data = data if isinstance(data, dict) else {}
        closed = kind == "VSERPORT_CHANGE" and not data.get("open")
        # A computer that is switched off the hard way closes nothing before.
        ended = kind in ("SHUTDOWN", "RESET") and bool(data.get("guest"))
        self.switched_off |= ended
        closed |= ended
        if closed and self._state is not MachineState.STOPPED:
            self.guest.note_guest_closed(time.monotonic())

    def _guard(self, call: str, action: Callable[[], T], *states: MachineState) -> T:
        """Run `action` in an allowed state; a machine fault leaves the machine BROKEN.

        What is no fault is said at `Machine`: an answer that says no, and a guest that closed its
        own end of the channel (a killed daemon, a computer switched off).
        """
        require(call, self._state, *states)
        try:
            return action()
        except MachineError as err:
            answered = (
                isinstance(err, GuestError)
                and not isinstance(err, GuestTimeout)
                and self.guest.open
            )
            by_guest = isinstance(err, GuestError) and self.guest.guest_closed
            if self._state is not MachineState.STOPPED and not (answered or by_guest):
                self._state = MachineState.BROKEN
            raise

    def qmp(
        self, command: str, arguments: dict[str, object] | None = None, timeout_s: float = 30.0
    ) -> Any:
        """Run a QMP command in any live state."""
        return self.qemu.qmp(command, arguments, timeout_s)

    # Life
    def resume(self) -> None:
        self._guard("resume", lambda: self.qmp("cont"), *LIVE)
        self._state = MachineState.RUNNING

    def pause(self) -> None:
        self._guard("pause", lambda: self.qmp("stop"), *LIVE)
        self._state = MachineState.PAUSED

    def stop(self) -> None:
        if self._state is MachineState.STOPPED:
            return
        self._state = MachineState.STOPPED
        with contextlib.suppress(OSError):
            (self._folder / "transcript.txt").write_text(self.guest.transcript())
        self.guest.close()
        self.qemu.stop()
        if self._picture_fd >= 0:
            os.close(self._picture_fd)
            self._picture_fd = -1
        self.on_stop.close()

    def discard(self) -> None:
        """Stop the machine and remove its folder with overlay and evidence."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    # Display
    def screenshot(self) -> Screenshot:
        return self._guard("screenshot", self._take, *LIVE)

    def _take(self) -> Screenshot:
        # Through a descriptor QEMU writes over the last picture; by name it would cut the file and
        # get 3 MB of memory anew.
        if self._picture_fd < 0:
            self._picture_fd = os.open(
                self._picture, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            self.qemu.add_fd(PICTURE_SET, self._picture_fd)
        os.lseek(self._picture_fd, 0, os.SEEK_SET)
        self.qmp("screendump", {"filename": f"/dev/fdset/{PICTURE_SET}"})
        self._last = read_ppm(self._picture)
        return self._last.copy()

    def wait_until_stable(
        self, cap_s: float = 1.0, between: Callable[[], object] | None = None
    ) -> Screenshot:
        def wait() -> Screenshot:
            first, self._before_action = self._before_action, None
            return settle(self._take, first, react_s=min(0.25, cap_s), cap_s=cap_s, between=between)

        return self._guard("wait_until_stable", wait, *LIVE)

    def _note_before(self) -> None:
        """Remember the screen before an action: the last one seen, which costs nothing, else a new
        one.
        """
        if self._before_action is None:
            self._before_action = self._last if self._last is not None else self._take()

    # Input
    def _send(self, events: list[dict[str, object]]) -> None:
        self._note_before()
        self.qmp("input-send-event", {"events": events})

    def _input(self, call: str, events: list[dict[str, object]]) -> None:
        count = len(events) + 1  # and the one that ends the group
        if self._unread_events + count > MAX_UNREAD_EVENTS:
            # A server that does not read (a stopped one) is given time once; what it then loses, it
            # loses on any computer.
            cap_s = TAKE_INPUT_S if self._server_reads else 0.02
            self._server_reads = self._guard(
                call, lambda: self.guest.input_taken(cap_s), MachineState.RUNNING
            )
            self._unread_events = 0
        self._guard(call, lambda: self._send(events), MachineState.RUNNING)
        self._unread_events += count

    def move(self, x: int, y: int) -> None:
        self._input("move", _pointer(x, y))

    def button(self, button: str, down: bool) -> None:
        if button not in _BUTTONS:
            raise DisplayError(f"needed a button of {', '.join(_BUTTONS)}, found {button!r}")
        self._input("button", [{"type": "btn", "data": {"button": _BUTTONS[button], "down": down}}])

    def scroll(self, dx: int, dy: int) -> None:
        for count, more, less in (
            (dy, "wheel-down", "wheel-up"),
            (dx, "wheel-right", "wheel-left"),
        ):
            for _ in range(abs(count)):
                wheel = more if count > 0 else less
                self._input(
                    "scroll",
                    [
                        {"type": "btn", "data": {"button": wheel, "down": down}}
                        for down in (True, False)
                    ],
                )

    def press(self, keys: str) -> None:
        chord = parse_chord(keys)
        self._input("press", _chord_events(chord))

    def type_text(self, text: str) -> None:
        for chord in text_to_keys(text):  # which raises before anything is sent
            self._input("type_text", _chord_events(chord))

    # Terminal and guest
    def shell(self, command: str, timeout_s: float = 30.0, max_chars: int = 16000) -> ShellResult:
        self._guard("shell", self._note_before, MachineState.RUNNING)
        return self._guest(
            "shell", lambda: self.guest.shell(command, timeout_s=timeout_s, max_chars=max_chars)
        )

    def terminal(self, max_chars: int = 16000) -> str:
        return self._guest("terminal", lambda: self.guest.terminal(max_chars=max_chars))

    def execute(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> ExecResult:
        return self._guest(
            "execute", lambda: self.guest.execute(command, user=user, timeout_s=timeout_s)
        )

    def succeed(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        return self._guest(
            "succeed", lambda: self.guest.succeed(command, user=user, timeout_s=timeout_s)
        )

    def wait_until_succeeds(
        self, command: str | Sequence[str], user: str = "root", timeout_s: float = 30.0
    ) -> str:
        # One guard around all attempts: only the last one's end is the machine's.
        return self._guest(
            "wait_until_succeeds",
            lambda: self.guest.wait_until_succeeds(command, user=user, timeout_s=timeout_s),
        )

    def put(self, path: str, data: bytes, mode: int = 0o644, owner: str = "root") -> None:
        self._guest("put", lambda: self.guest.put(path, data, mode=mode, owner=owner))

    def get(self, path: str, max_bytes: int = 1 << 20) -> bytes:
        return self._guest("get", lambda: self.guest.get(path, max_bytes=max_bytes))

    def run_python(
        self, source: str, args: Mapping[str, object] | None = None, timeout_s: float = 10.0
    ) -> Any:
        return self._guest(
            "run_python", lambda: self.guest.run_python(source, args, timeout_s=timeout_s)
        )

    def processes(self) -> tuple[Process, ...]:
        return self._guest("processes", self.guest.processes)

    def units(self) -> dict[str, tuple[int, ...]]:
        return self._guest("units", self.guest.units)

    def survey(self) -> Survey:
        return self._guest("survey", self.guest.survey)

    def sync(self) -> None:
        self._guest("sync", self.guest.sync)

    def _guest(self, call: str, action: Callable[[], T]) -> T:
        return self._guard(call, action, MachineState.RUNNING)

    # Evidence
    def journal(self) -> tuple[JournalEntry, ...]:
        """Return the lines of the snapshot followed by the lines since; `seq` counts through."""
        return self.guest.journal

    def disk_view(self) -> DiskView:
        require("disk_view", self._state, *STILL)
        # Outside the guard: a disk that makes no sense is the guest's doing (the agent is root in
        # there), not a fault of the machine, which can still be looked at and kept as evidence.
        return open_disk(self._chain)

    def unplugged(self) -> tuple[str, ...]:
        return self._guard("unplugged", self._unplugged, *LIVE)

    def _unplugged(self) -> tuple[str, ...]:
        found: list[str] = []
        for device in self._virtio_devices():
            if device["name"] in ("virtio-blk", "virtio-serial"):
                told = self.qmp("x-query-virtio-status", {"path": device["path"]})["status"]
                # A driver that lets go of its device resets it.
                if not any("DRIVER_OK" in status for status in told["statuses"]):
                    found.append(str(device["name"]))
        return tuple(found)

    def _virtio_devices(self) -> list[dict[str, str]]:
        """Return QEMU's list of devices; none before QEMU 7.2, which does not know the command."""
        try:
            return list(self.qmp("x-query-virtio"))
        except MachineError as err:
            if "was refused" in str(err):
                return []
            raise

    def disk_chain(self) -> tuple[Path, ...]:
        return self._chain

    def open_vnc(self) -> tuple[str, int]:
        """Serve the screen through VNC on loopback, without a password, and return (host, port).

        Raises: DisplayError when this QEMU was started without a VNC server.
        """
        info = self.qmp("query-vnc")
        if not info.get("enabled"):
            raise DisplayError(
                "needed a machine started with a VNC server, found none; start it with clone(...,"
                " vnc=True)"
            )
        return str(info["host"]), int(info["service"])


def _pointer(x: int, y: int) -> list[dict[str, object]]:
    """Return absolute pointer events; the tablet's range is 0 to 32767 on both axes."""

    def axis(name: str, value: int, size: int) -> dict[str, object]:
        # The middle of the pixel, so that rounding in guest and QEMU cannot fall to a neighbour.
        return {
            "type": "abs",
            "data": {"axis": name, "value": (2 * value + 1) * 32767 // (2 * size)},
        }

    return [axis("x", x, SCREEN_WIDTH), axis("y", y, SCREEN_HEIGHT)]


def _chord_events(chord: Sequence[str]) -> list[dict[str, object]]:
    def key(code: str, down: bool) -> dict[str, object]:
        return {"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": code}}}

    return [key(code, True) for code in chord] + [key(code, False) for code in reversed(chord)]
