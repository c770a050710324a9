"""Run the desktop's apps on the host with a journal socket of our own; helpers for tests of apps
and of their states.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harmgym import paths

APPS = paths.content("envs") / "apps"


class Journal:
    """The host's end of the journal: a datagram socket that is read all the time, as the real one
    is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
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
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b'{"app": "test", "event": "drained"}', str(self.path))
        self.wait("drained")
        with self._news:
            self.entries = [entry for entry in self.entries if entry["app"] != "test"]
        return self.entries

    def close(self) -> None:
        """Take the journal away. Idempotent."""
        if self.path.exists():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"", str(self.path))
            self._reader.join()
            self._sock.close()
            self.path.unlink()

    def _find(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            dict(entry)
            for entry in self.entries
            if wanted.items() <= {k: entry.get(k) for k in wanted}.items()
        ]

    def _read(self) -> None:
        while message := self._sock.recv(1 << 20):
            with self._news:
                self.entries.append(json.loads(message))
                self._news.notify_all()


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
