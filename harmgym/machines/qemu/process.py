"""One QEMU process: started so that it cannot outlive Python, spoken to through QMP, ended with
proof.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient
from qemu.qmp.error import QMPError

from harmgym.errors import LaunchError, MachineError
from harmgym.machines import threads

QMP_TIMEOUT_S = 30.0
_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42  # linux/prctl.h


class QemuProcess:
    """A running QEMU with a QMP connection and the host end of the guest channel.

    The process is started under ``setpriv --pdeathsig KILL``: when Python dies, even by kill -9, so
    does QEMU.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Callable[[int, int], Sequence[str]],
        extra_fds: Sequence[int] = (),
    ) -> None:
        """Start QEMU. `arguments(qmp_fd, guest_fd)` gives its command line; `extra_fds` are
        inherited too.

        Raises: LaunchError with command, exit code and output.
        """
        self.folder, self.owner = folder, os.getpid()
        self.events: list[dict[str, object]] = []
        self.on_event: Callable[[dict[str, object]], None] | None = None
        qmp, qmp_child = socket.socketpair()
        self.guest, guest_child = socket.socketpair()
        command = [
            _setpriv(),
            "--pdeathsig",
            "KILL",
            *arguments(qmp_child.fileno(), guest_child.fileno()),
        ]
        self.command = command
        (folder / "command.txt").write_text("\n".join(command) + "\n")
        self.output = folder / "qemu.log"
        fds = (qmp_child.fileno(), guest_child.fileno(), *extra_fds)
        try:
            self.process = threads.launch(lambda: self._spawn(command, fds))
        finally:
            qmp_child.close()
            guest_child.close()
        _live.add(self)
        self.client = QMPClient("harmgym")
        try:
            threads.run(self._connect(qmp), QMP_TIMEOUT_S, "connecting to QEMU's monitor")
        except (MachineError, QMPError, OSError) as err:
            text = self.output.read_text(errors="replace")
            code = self.kill()
            raise LaunchError(f"QEMU did not start ({err})", command, code, text) from None

    def _spawn(self, command: Sequence[str], fds: Sequence[int]) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as log, _no_huge_pages():
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                process_group=0,
            )

    async def _connect(self, qmp: socket.socket) -> None:
        await self.client.connect(qmp)
        # A filter sees every event at once, on the io thread; answering False keeps the listener's
        # own queue empty.
        self.client.register_listener(EventListener(event_filter=self._note))

    def _note(self, message: Message) -> bool:
        event = dict(message)
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)
        return False

    def qmp(
        self,
        command: str,
        arguments: dict[str, object] | None = None,
        timeout_s: float = QMP_TIMEOUT_S,
    ) -> Any:
        """Run a QMP command and return its value.

        Raises: MachineError with the command, QEMU's words and the process's state.
        """
        return self._ask(
            self.client.execute(command, arguments),
            f"{command} {arguments or ''}".strip(),
            timeout_s,
        )

    def _ask(
        self, talk: Coroutine[Any, Any, Any], what: str, timeout_s: float = QMP_TIMEOUT_S
    ) -> Any:
        try:
            return threads.run(talk, timeout_s, f"QMP {what}")
        except ExecuteError as err:
            raise MachineError(f"QMP {what} was refused: {err}") from None
        except (QMPError, OSError) as err:
            found = f"{type(err).__name__}, exit code {self.process.poll()}, {self.tail()}"
            raise MachineError(f"QMP {what} needed a live QEMU, found {found}") from None

    def give_fd(self, name: str, fd: int) -> None:
        """Hand QEMU a file descriptor under `name`; the caller keeps and closes its own. Raises:
        MachineError as `qmp`.
        """
        self._hand_over(fd, "getfd", {"fdname": name})

    def add_fd(self, number: int, fd: int) -> None:
        """Let QEMU open `fd` as ``/dev/fdset/number``, in the mode it was opened in; else as
        `give_fd`.
        """
        self._hand_over(fd, "add-fd", {"fdset-id": number})

    def _hand_over(self, fd: int, command: str, arguments: dict[str, object]) -> None:
        async def give() -> None:
            self.client.send_fd_scm(fd)
            await self.client.execute(command, arguments)

        self._ask(give(), command)

    def tail(self) -> str:
        """Return the end of QEMU's own output."""
        return (
            self.output.read_text(errors="replace")[-1000:].strip() if self.output.exists() else ""
        )

    def stop(self, grace_s: float = 2.0) -> None:
        """End QEMU: ask, then kill, then prove that the process is gone. Idempotent."""
        if self.process.poll() is None:
            with contextlib.suppress(MachineError):
                self.qmp("quit", timeout_s=grace_s)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)
        self.kill()

    def kill(self) -> int:
        """Kill QEMU at once; return its exit code. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait(10.0)
        _live.discard(self)
        with contextlib.suppress(
            Exception
        ):  # the connection is broken by design now; its own errors say nothing new
            threads.run(self.client.disconnect(), 5.0, "closing the monitor")
        self.guest.close()
        return code


_live: weakref.WeakSet[QemuProcess] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    """End what a program that forgot to stop its machines left running."""
    for process in list(_live):
        if process.owner == os.getpid():
            process.kill()


@contextlib.contextmanager
def _no_huge_pages() -> Iterator[None]:
    """Let processes that are started inside have no transparent huge pages.

    QEMU asks for huge pages for its cache of translated code, where each of 2 MiB is kept for a few
    KiB. Without them an idle clone held 30.8 MiB instead of 36.2 (one of each) and one in use 102.5
    instead of 106.7 (medians of 5); a shell step took as long (16 ms, a fork 0.17 s). On TCG.

    Set on this process because a child inherits it over exec, and `preexec_fn` is not safe beside
    threads. Only the launcher thread comes here, so no two callers undo each other.
    """
    prctl = ctypes.CDLL(None).prctl
    before = prctl(_PR_GET_THP_DISABLE, 0, 0, 0, 0)
    prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_THP_DISABLE, max(0, before), 0, 0, 0)


def _setpriv() -> str:
    found = shutil.which("setpriv")
    if found is None:
        raise LaunchError("needed the program setpriv (package util-linux), found none on PATH")
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.005) -> bool:
    """Poll `condition` until it holds or `timeout_s` passed; return whether it held."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


def private_bytes(pid: int) -> int:
    """Return the memory that process `pid` holds for itself, in bytes: its anonymous pages, swapped
    ones included.

    Pages of the snapshot's RAM that were only read belong to the page cache: every clone maps the
    same ones, and the kernel can drop them. They count from the moment the guest writes to them and
    gets a copy of its own.
    """
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Anonymous:", "Swap:")):
            total += int(line.split()[1]) * 1024
    return total


def cpu_seconds(pid: int) -> float:
    """Return user + system seconds that process `pid` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wanted_cpu_seconds(pid: int) -> float:
    """Return the seconds that the threads of process `pid` have run or waited for a core.

    A kernel without scheduler statistics gives what they have run.
    """
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            ran, waited, _slices = (task / "schedstat").read_text().split()
        except FileNotFoundError:
            if task.exists():
                return cpu_seconds(pid)
            continue  # a thread that has just ended
        nanoseconds += int(ran) + int(waited)
    return nanoseconds / 1e9
