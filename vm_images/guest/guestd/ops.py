"""What the host may ask beside the terminal: run a program, run Python, write and read files."""

from __future__ import annotations

import base64
import codecs
import json
import linecache
import os
import pwd
import select
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from port import Loop, monotonic
from spawn import die_with_parent, environment, spawn, user_record

# What checks may import: code on the disk belongs to the agent, so imports from disk are switched
# off in `python`.
PRELOADED = (
    "array ast base64 bisect calendar collections configparser contextlib copy csv ctypes datetime"
    " decimal email email.parser "
    "email.policy enum errno fcntl fnmatch functools getpass glob grp gzip hashlib heapq hmac html"
    " http.client io itertools "
    "json linecache locale mailbox math operator os pathlib posix pwd queue random re secrets"
    " select shlex shutil signal "
    "socket sqlite3 stat statistics string struct subprocess sys tempfile textwrap threading time"
    " traceback typing unicodedata "
    "urllib.error urllib.parse urllib.request uuid xml.etree.ElementTree zlib"
).split()

CODECS = (
    "utf-8 ascii latin-1 utf-16 utf-16-le utf-16-be utf-32 utf-7 utf-8-sig idna punycode cp437"
    " cp1252 unicode_escape raw_unicode_escape base64 hex quopri uu zlib bz2 rot13 undefined"
    " charmap"
).split()
MAX_RESULT = 15 << 20
Done = Callable[[dict[str, Any]], None]


class Job:
    """A child process whose output is collected until it ends or its deadline passes.

    `finish(status, outputs, truncated, timed_out)` is called once. What a left-behind grandchild
    writes is not waited for.
    """

    def __init__(
        self,
        loop: Loop,
        pid: int,
        pipes: list[int],
        max_bytes: int,
        timeout_s: float,
        finish: Callable[..., None],
    ) -> None:
        self._loop, self._pid, self._max, self._finish = loop, pid, max_bytes, finish
        self._pipes = {fd: bytearray() for fd in pipes}
        self._open = set(pipes)
        self._truncated = self._timed_out = False
        self._pidfd = os.pidfd_open(pid)
        for fd in pipes:
            os.set_blocking(fd, False)
            loop.watch(fd, select.EPOLLIN, partial(self._readable, fd))
        loop.watch(self._pidfd, select.EPOLLIN, lambda _events: self._ended())
        self._timer = loop.call_at(monotonic() + timeout_s, self._expire)

    def _readable(self, fd: int, _events: int) -> None:
        self._read(fd)

    def _read(self, fd: int) -> bool:
        """Take one piece of output; return whether there may be more."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._close(fd)
            return False
        kept = self._pipes[fd]
        room = self._max - len(kept)
        kept += data[:room]
        self._truncated |= len(data) > room
        return True

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            self._loop.unwatch(fd)
            os.close(fd)

    def _expire(self) -> None:
        self._timed_out = True
        for kill in (os.killpg, os.kill):
            try:
                kill(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _ended(self) -> None:
        self._loop.cancel(self._timer)
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        for fd in list(self._open):
            pieces = 0
            while pieces < 32 and self._read(fd):  # at most 2 MiB: a grandchild may write for ever
                pieces += 1
            self._close(fd)
        self._finish(status, list(self._pipes.values()), self._truncated, self._timed_out)


def run_exec(loop: Loop, args: dict[str, Any], done: Done) -> None:
    """Run a program or a bash command; reply with status and outputs."""
    argv = args["argv"] if args.get("argv") else ["/bin/bash", "-c", args["command"]]
    user = (
        user_record(args.get("user") or "root") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    )
    stdin = _stdin(args.get("input_b64"))
    (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
    try:
        pid = spawn(
            argv,
            user,
            environment(user, args.get("env")),
            args.get("cwd"),
            (stdin, out_write, err_write),
        )
    finally:
        for fd in (stdin, out_write, err_write):
            os.close(fd)

    def finish(status: int, outputs: list[bytearray], truncated: bool, timed_out: bool) -> None:
        stdout, stderr = (base64.b64encode(data).decode() for data in outputs)
        done(
            {
                "status": status,
                "stdout_b64": stdout,
                "stderr_b64": stderr,
                "truncated": truncated,
                "timed_out": timed_out,
            }
        )

    max_bytes = min(int(args.get("max_bytes", 1 << 20)), 5 << 20)
    Job(loop, pid, [out_read, err_read], max_bytes, float(args.get("timeout_s", 30.0)), finish)


def _stdin(input_b64: str | None) -> int:
    """Return a descriptor from which a program reads `input_b64`, or nothing."""
    if not input_b64:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("input")
    with os.fdopen(os.dup(fd), "wb") as stream:
        stream.write(base64.b64decode(input_b64))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def run_python(
    loop: Loop,
    args: dict[str, Any],
    private: list[int],
    done_raw: Callable[[bytes], None],
    fail: Callable[[str], None],
) -> None:
    """Run `main(**args)` of a source text in a fork of the daemon; reply with its JSON value.

    `private` are descriptors that the child must not keep (the port: a child that outlived the
    daemon would block the next).
    """
    timeout_s = float(args.get("timeout_s", 10.0))
    result_read, result_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _python_child(args, private, result_write)
    os.close(result_write)

    def finish(status: int, outputs: list[bytearray], truncated: bool, timed_out: bool) -> None:
        result = bytes(outputs[0])
        if timed_out:
            fail(f"did not finish within {timeout_s:g} s")
        elif truncated:
            fail(f"the result is larger than {MAX_RESULT} bytes")
        elif status != 0 or result[:1] not in (b"+", b"-"):
            fail(f"ended with status {status} and no result")
        elif result[:1] == b"-":
            fail(result[1:].decode(errors="replace"))
        else:
            done_raw(result[1:])

    Job(loop, pid, [result_read], MAX_RESULT + 1, timeout_s, finish)


def _python_child(args: dict[str, Any], private: list[int], result_fd: int) -> None:
    """Never returns: run the source, write "+JSON" or "-traceback" to `result_fd`, end."""
    try:
        die_with_parent()
        os.setsid()
        for fd in private:
            os.close(fd)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)
        try:
            reply = b"+" + json.dumps(_call_main(args["source"], args.get("args") or {})).encode()
        except BaseException as err:  # whatever the source raises (SystemExit too) is its result
            reply = b"-" + _explain(err).encode(errors="replace")
        with os.fdopen(result_fd, "wb") as stream:
            stream.write(reply)
    finally:
        os._exit(0)


def _explain(err: BaseException) -> str:
    """Return the traceback from the source's first line on."""
    if isinstance(err, ModuleNotFoundError):
        err.add_note(
            "imports from the guest's disk are switched off; these modules are there:"
            f" {' '.join(PRELOADED)}"
        )
    trace = err.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != "<source>":
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(err), err, trace, limit=-8))


def load_all() -> None:
    """Load what checks may use, before there is an agent: afterwards nothing is read from the disk,
    which is the agent's. A codec is a module too, loaded when a text is first converted.
    """
    for name in PRELOADED:
        __import__(name)
    for codec in CODECS:
        codecs.lookup(codec)


def _call_main(source: str, args: dict[str, Any]) -> Any:
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()
    linecache.cache["<source>"] = (len(source), None, source.splitlines(keepends=True), "<source>")
    names: dict[str, Any] = {"__name__": "harmgym_source"}
    exec(compile(source, "<source>", "exec"), names)
    if "main" not in names:
        raise NameError("the source defines no function main(**args)")
    return names["main"](**args)


def put(args: dict[str, Any]) -> dict[str, Any]:
    """Write a file (or append to it), its mode and its owner; parents are made unless `parents` is
    false.
    """
    path, data = args["path"], base64.b64decode(args["data_b64"], validate=True)
    if args.get("parents", True):
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
    uid, gid = args.get("uid"), args.get("gid")
    if args.get("owner") is not None:
        owner = user_record(args["owner"])
        uid, gid = owner.pw_uid, owner.pw_gid
    how = os.O_APPEND if args.get("append") else os.O_TRUNC
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | how, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)
        stream.flush()
        if uid is not None or gid is not None:
            os.fchown(fd, -1 if uid is None else uid, -1 if gid is None else gid)
        if args.get("mode") is not None:
            os.fchmod(fd, args["mode"])
    return {"bytes": len(data)}


def get(args: dict[str, Any]) -> dict[str, Any]:
    """Read part of a regular file."""
    fd = os.open(args["path"], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{args['path']!r} is not a regular file")
        data = os.pread(
            fd, min(int(args.get("max_bytes", 1 << 20)), 10 << 20), int(args.get("offset", 0))
        )
        return {"data_b64": base64.b64encode(data).decode(), "size": info.st_size}
    finally:
        os.close(fd)
