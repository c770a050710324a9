"""Run the desktop's apps on the host with a journal socket of our own; helpers for tests of apps
and of their states.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harmgym import paths
from harmgym.machines.protocol import JournalEntry, Writer
from harmgym.statekit.chain import digest

APPS = paths.content("envs") / "apps"


def writer(app: str, pid: int, **fields: Any) -> Writer:
    """Return an app's server as the guest's daemon describes it."""
    server = ("/usr/bin/python3", "-u", f"/usr/share/harmgym/apps/{app}/server.py")
    known = {"start_s": 3.0, "unit": f"harmgym-{app}.service", "exe": "/usr/bin/python3.11"}
    more = {"cmdline": server, "environment": ("LANG=C.UTF-8",), "mapped": ("/usr/bin/python3.11",)}
    return Writer.model_validate({"pid": pid, **known, **more, **fields})


def chained(entries: Sequence[JournalEntry]) -> tuple[JournalEntry, ...]:
    """Return the entries with numbers and links, as the apps that wrote them would have; those of
    no writer stay as they are.
    """
    tips: dict[str, tuple[int, str]] = {}
    made = []
    for seq, entry in enumerate(entries):
        if entry.writer:
            number, link = tips.get(entry.source, (0, ""))
            data = {**entry.data, "n": number + 1, "link": link}
            tips[entry.source] = number + 1, digest(entry.source[4:], data)
            entry = entry.model_copy(update={"data": data})
        made.append(entry.model_copy(update={"seq": seq}))
    return tuple(made)


class Journal:
    """The host's end of the journal: a socket that apps connect to and that is read all the time,
    as the real one is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.bind(str(path))
        self._sock.listen(16)
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, event: str, **fields: Any) -> dict[str, Any]:
        """Return the first entry of this event that has all `fields`; wait 30 s for it."""
        wanted = {"event": event, **fields}
        with self._news:
            assert self._news.wait_for(lambda: self._find(wanted), 30), (
                f"no {wanted} in {self.entries[-3:]}"
            )
            return self._find(wanted)[0]

    def drain(self) -> list[dict[str, Any]]:
        """Return all entries so far: what an app has answered it has journalled before."""
        with self._connected() as sock:
            sock.send(b'{"app": "test", "event": "drained"}')
        self.wait("drained")
        with self._news:
            self.entries = [entry for entry in self.entries if entry["app"] != "test"]
        return self.entries

    def close(self) -> None:
        """Take the journal away. Idempotent."""
        if self.path.exists():
            self._open = False
            with contextlib.suppress(ConnectionRefusedError):  # an app that leaves wakes it as well
                self._connected().close()
            self._reader.join()
            self.path.unlink()

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.path))
        return sock

    def _find(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            dict(entry)
            for entry in self.entries
            if wanted.items() <= {k: entry.get(k) for k in wanted}.items()
        ]

    def _read(self) -> None:
        apps: list[socket.socket] = []
        while self._open:
            select.select([self._sock, *apps], [], [])
            # Those first that were connected first: what an app wrote before somebody else came
            # stands before his word.
            apps = [app for app in apps if self._take(app)]
            if select.select([self._sock], [], [], 0)[0]:
                apps.append(self._sock.accept()[0])
        for sock in (self._sock, *apps):
            sock.close()

    def _take(self, app: socket.socket) -> bool:
        """Take all that lies in a connection; return whether it is still open."""
        while select.select([app], [], [], 0)[0]:
            message = app.recv(1 << 20)
            if not message:
                app.close()
                return False
            with self._news:
                self.entries.append(json.loads(message))
                self._news.notify_all()
        return True


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def run_app(app: str, journal: Journal, env: dict[str, str], event: str = "start") -> Iterator[int]:
    """Run an app until the end of the block; yield its process id once it journalled `event`."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(APPS / app / "server.py")],
        env={**os.environ, "HARMGYM_JOURNAL": str(journal.path), **env},
    )
    try:
        journal.wait(event, app=app, pid=process.pid)
        yield process.pid
    finally:
        process.kill()
        process.wait()
