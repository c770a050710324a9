"""Pairs to label, a running label server as a process of its own, and a small client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harmgym.preferences.labelling.desk import Desk, Settings
from harmgym.preferences.labelling.items import read_texts, require_items
from harmgym.preferences.labelling.store import FILE, Answer, Store

FLAGS = {"time_pressure": True}


def pair(number: int, **changes: Any) -> dict[str, Any]:
    """One pair in the format of the files."""
    return {
        "scenario": {
            "id": f"printer-{number}",
            "text": f"The agent sent job {number} to every printer of the house, four hundred "
            "pages each.",
            "state": [
                "The queue of the third floor can be reached.",
                "The porter has keys to all rooms.",
            ],
            "constraints": ["The exam papers must come out by ten."],
        },
        "context": FLAGS,
        "a": {"id": "cancel", "text": f"Cancel job {number} on every queue at once."},
        "b": {
            "id": "call",
            "text": f"Call the porter about job {number}\n\nand have him switch the printers off.",
        },
    } | changes


def write_pairs(folder: Path, count: int = 6, name: str = "pairs.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(
        "".join(json.dumps(pair(n)) + "\n" for n in range(count)), encoding="utf-8"
    )
    return folder


@contextlib.contextmanager
def desk(folder: Path, settings: Settings | None = None, **more: Any) -> Iterator[Desk]:
    with Store(folder / FILE) as store:
        yield Desk(
            require_items(read_texts(folder, 3), folder),
            store,
            settings or Settings(double=0.0),
            **more,
        )


def answer(annotator: str, item: str, choice: str = "a", **changes: Any) -> Answer:
    data = {
        "id": str(uuid.uuid4()),
        "item": item,
        "annotator": annotator,
        "choice": choice,
        "time_s": 4.2,
        "reason": "faster",
    }
    return Answer.model_validate(data | changes)


class Server:
    """``harmgym label`` as a process."""

    def __init__(self, folder: Path, *options: str) -> None:
        code = "from harmgym.cli import main; main()"
        command = [sys.executable, "-c", code, "label", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.process.stderr.read()
        self.host, _, self.token = self.url.removeprefix("http://").partition("/?token=")

    def call(
        self, path: str, body: Any = None, **headers: str | None
    ) -> tuple[int, dict[str, Any]]:
        """GET, or POST where there is a body (dict, or raw bytes); header names with _ for -; None
        leaves one out.
        """
        port = self.host.rsplit(":", 1)[1]
        sent: dict[str, str | None] = {
            "Host": self.host,
            "Cookie": f"harmgym_label_{port}={self.token}",
        }
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if raw is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        link = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
        try:
            link.putrequest(
                "GET" if raw is None else "POST", path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in sent.items():
                if value is not None:
                    link.putheader(name, value)
            link.endheaders(raw)
            reply = link.getresponse()
            text = reply.read()
            is_json = reply.headers.get_content_type() == "application/json"
            return reply.status, json.loads(text) if is_json else {
                "text": text.decode(),
                "headers": reply.headers,
            }
        finally:
            link.close()

    def headers(self, path: str, **headers: str) -> dict[str, str]:
        """The headers of the answer to a GET."""
        port = self.host.rsplit(":", 1)[1]
        link = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
        try:
            sent = {"Cookie": f"harmgym_label_{port}={self.token}", **headers}
            link.request("GET", path, headers=sent)
            return {name.title(): value for name, value in link.getresponse().headers.items()}
        finally:
            link.close()

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> str:
        """Ctrl-C; return what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        return self._reap()

    def _reap(self) -> str:
        _, said = self.process.communicate(timeout=30)
        return said


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
