"""The guest daemon: python3 -I -B -u /usr/lib/harmgym/guestd [--fd N | --port PATH] …"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pwd
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import journals
import ops
import procfs
import survey
from inputs import Inputs
from port import Loop, Port, monotonic
from terminal import Terminal

VERSION = 1


class Daemon:
    """Takes requests from the port and hands them to the parts."""

    def __init__(self, options: argparse.Namespace, fd: int) -> None:
        self.loop = Loop()
        self.port = Port(self.loop, fd, self.request)
        self.loop.on_crash = self.crash
        os.makedirs(options.run_dir, exist_ok=True)
        user = pwd.getpwuid(options.uid)
        self.terminal = Terminal(
            self.loop, options.run_dir, options.tmux_label, user, options.shell
        )
        also = os.getuid() if os.getuid() != 0 else None
        self.apps = journals.AppJournal(
            self.loop,
            f"{options.run_dir}/journal.sock",
            f"{options.run_dir}/apps.sock",
            self.port.send,
            also,
        )
        self.programs = journals.ProcessJournal(self.loop, self.port.send)
        self.programs.switch(options.process_journal)
        self._boot_id = procfs.read_at(procfs.PROC, "sys/kernel/random/boot_id").decode().strip()
        self._quick: dict[str, Callable[[dict[str, Any]], Any]] = {
            "ping": lambda _args: {
                "pid": os.getpid(),
                "boot_id": self._boot_id,
                "uptime_s": monotonic(),
            },
            "processes": lambda _args: procfs.processes(),
            "units": lambda _args: procfs.units(),
            "survey": lambda _args: survey.survey(),
            "sync": lambda _args: os.sync(),
            "put": ops.put,
            "get": ops.get,
            "journal_processes": self._journal_processes,
        }
        # Operations that may take a while, one step at a time.
        self._slow: dict[str, Callable[..., Any]] = {
            "shell": self.terminal.shell,
            "terminal": self.terminal.terminal,
            "wait_terminal": self.terminal.wait_terminal,
            "interrupt": self.terminal.interrupt,
            "input_taken": Inputs().taken,
        }

    def hello(self) -> None:
        self.port.send(
            {
                "event": "hello",
                "version": VERSION,
                "pid": os.getpid(),
                "boot_id": self._boot_id,
                "t": monotonic(),
                "process_journal": self.programs.on,
                "why": "" if self.programs.on else self.programs.why,
            }
        )

    def crash(self, text: str) -> None:
        sys.stderr.write(text)
        self.port.send({"event": "crash", "t": monotonic(), "traceback": text[-8000:]})

    def request(self, request: Any) -> None:
        """Answer one request, now or when its work is done; never raises."""
        number = request.get("id") if isinstance(request, dict) else None
        try:
            if not isinstance(number, int) or not isinstance(request.get("op"), str):
                raise ValueError("a request needs an integer 'id' and a string 'op'")
            args = request.get("args", {})
            if not isinstance(args, dict):
                raise ValueError("'args' must be an object")
            self._serve(number, request["op"], args)
        except (ValueError, TypeError, KeyError) as err:
            self._fail(number, "request", f"{type(err).__name__}: {err}")
        except OSError as err:
            self._fail(number, "os", str(err))
        except Exception as err:  # the daemon answers whatever happens
            self._fail(number, "crash", f"{type(err).__name__}: {err}")
            self.crash(traceback.format_exc())

    def _serve(self, number: int, op: str, args: dict[str, Any]) -> None:
        if op in self._slow:
            self.terminal.start(
                self._slow[op](**args), lambda result, err: self._slow_done(number, result, err)
            )
        elif op in self._quick:
            self._reply(number, self._quick[op](args))
        elif op == "exec":
            ops.run_exec(self.loop, args, lambda result: self._reply(number, result))
        elif op == "python":
            private = [self.port.fd, *self.terminal.tmux.private_fds()]
            ops.run_python(
                self.loop,
                args,
                private,
                lambda raw: self._reply_raw(number, raw),
                lambda why: self._fail(number, "python", why),
            )
        else:
            raise ValueError(f"unknown op {op!r}")

    def _journal_processes(self, args: dict[str, Any]) -> dict[str, Any]:
        self.programs.switch(bool(args["on"]))
        return {"on": self.programs.on, "why": "" if self.programs.on else self.programs.why}

    def _slow_done(self, number: int, result: Any, error: Exception | None) -> None:
        if error is None:
            self._reply(number, result)
        else:
            self._fail(
                number,
                "terminal",
                str(error) if type(error).__name__ == "TerminalError" else repr(error),
            )

    def _reply(self, number: int, result: Any) -> None:
        self._reply_raw(number, json.dumps(result).encode())

    def _reply_raw(self, number: int, result: bytes) -> None:
        self.programs.flush()
        self.port.send_raw(b'{"id": %d, "ok": true, "result": %b}' % (number, result))

    def _fail(self, number: int | None, kind: str, error: str) -> None:
        self.port.send({"id": number, "ok": False, "kind": kind, "error": error})

    def run(self) -> None:
        self.hello()
        self.terminal.start(self.terminal.warm(), lambda _result, _error: None)
        self.loop.run()


def open_port(path: str) -> int:
    """Open the port as soon as it is there and nobody else (a daemon that is just dying) has it."""
    said = False
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            if not said:
                sys.stderr.write(f"waiting for {path}: {err}\n")
                said = True
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="/dev/virtio-ports/org.harmgym.guest.0")
    parser.add_argument("--fd", type=int, help="an open stream socket instead of the port (tests)")
    parser.add_argument("--run-dir", default="/run/harmgym")
    parser.add_argument("--tmux-label", default="harmgym")
    parser.add_argument("--uid", type=int, default=1000, help="owner of the terminal")
    parser.add_argument(
        "--shell", help="what a session started by the daemon runs (default: the owner's shell)"
    )
    parser.add_argument("--no-process-journal", dest="process_journal", action="store_false")
    options = parser.parse_args()
    ops.load_all()
    daemon = Daemon(options, options.fd if options.fd is not None else open_port(options.port))
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    daemon.run()


if __name__ == "__main__":
    main()
