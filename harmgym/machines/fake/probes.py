"""Python probes of the fake machine: run in one process of their own, which lives as long as ours,
so that each costs 1 ms.

A probe's `open` reads the fake's files; nothing else of the fake is there. One that takes too long
is killed with its process.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from harmgym.errors import GuestError

_SERVER = """
import base64, builtins, io, json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a probe prints is no answer
def opener(files):
    def fake_open(path, mode="r", *args, **options):
        if str(path) not in files or set(mode) & set("wax+"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        raw = base64.b64decode(files[str(path)])
        return io.BytesIO(raw) if "b" in mode else io.StringIO(raw.decode("utf-8", "replace"))
    return fake_open
for line in sys.stdin:
    job = json.loads(line)
    scope = {"__name__": "probe", "__builtins__": {**vars(builtins), "open": opener(job["files"])}}
    try:
        exec(compile(job["source"], "<probe>", "exec"), scope)
        answer = json.dumps({"value": scope["main"](**job["args"])})
    except BaseException:
        answer = json.dumps({"error": traceback.format_exc()[-2000:]})
    print(answer, file=answers, flush=True)
"""


class ProbeServer:
    """The process that runs probes, started on first use and again after a probe was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def run(
        self, source: str, args: Mapping[str, object], files: Mapping[str, bytes], timeout_s: float
    ) -> Any:
        """Return the JSON value of `main(**args)`. Raises: GuestError with the traceback,
        or saying that there was no answer within `timeout_s`.
        """
        texts = {path: base64.b64encode(data).decode() for path, data in files.items()}
        job = json.dumps({"source": source, "args": dict(args), "files": texts}) + "\n"
        with self._lock:
            answer = json.loads(self._ask(job.encode(), time.monotonic() + timeout_s, timeout_s))
        if "error" in answer:
            raise GuestError(f"run_python failed: {answer['error']}")
        return answer["value"]

    def _ask(self, job: bytes, deadline: float, timeout_s: float) -> bytes:
        process = self._start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(job)
        process.stdin.flush()
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select(
                [process.stdout], [], [], max(0.0, deadline - time.monotonic())
            )
            piece = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                self.stop()
                if ready:
                    raise GuestError("run_python: the probe ended its process")
                raise GuestError(f"run_python needed an answer within {timeout_s:g} s, found none")
            answer += piece
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            command = [sys.executable, "-I", "-S", "-c", _SERVER]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
            self._owner = os.getpid()
        return self._process

    def stop(self) -> None:
        """End the process, if there is one of ours."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


SERVER = ProbeServer()
atexit.register(SERVER.stop)
