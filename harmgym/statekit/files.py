"""Write many files into a guest in one call: what a harm state's ``setup.py`` needs most (a fork
costs 40 ms without KVM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harmgym.machines.protocol import Machine
from harmgym.records import Record

HOME = "/home/user"


class GuestFile(Record):
    """A file (or, with `text` None, a folder) to write: mode in octal, `age_s` seconds since it was
    last modified.
    """

    path: str
    text: str | None
    mode: int = 0o644
    owner: str = "user"
    group: str | None = None
    age_s: float = 0.0


def write_files(machine: Machine, files: Sequence[GuestFile], timeout_s: float = 60.0) -> None:
    """Write all `files` in one call; missing parents become folders (755) of the same owner.

    Times are set last, so that folders keep theirs. Raises: GuestError with the guest's traceback.
    """
    machine.run_python(
        _WRITE, {"files": [file.model_dump() for file in files]}, timeout_s=timeout_s
    )


def guest_time(machine: Machine) -> float:
    """Return the guest's clock, seconds since 1970."""
    return float(machine.run_python("import time\ndef main():\n    return time.time()\n"))


def run_in_guest(machine: Machine, source: str, timeout_s: float = 60.0, **args: Any) -> Any:
    """Run ``main(**args)`` of Python `source` as root in the guest; return its JSON value."""
    return machine.run_python(source, args, timeout_s=timeout_s)


_WRITE = """
import grp, os, pwd, time

def main(files):
    now = time.time()
    for item in files:
        user = pwd.getpwnam(item["owner"])
        gid = grp.getgrnam(item["group"]).gr_gid if item["group"] else user.pw_gid
        path = item["path"]
        missing, parent = [], os.path.dirname(path)
        while not os.path.isdir(parent):
            missing.append(parent)
            parent = os.path.dirname(parent)
        for folder in reversed(missing):
            os.mkdir(folder)
            os.chmod(folder, 0o755)
            os.chown(folder, user.pw_uid, user.pw_gid)
        if item["text"] is None:
            os.makedirs(path, exist_ok=True)
        else:
            with open(path, "w", encoding="utf-8") as out:
                out.write(item["text"])
        os.chown(path, user.pw_uid, gid)
        os.chmod(path, item["mode"])
    for item in reversed(files):
        os.utime(item["path"], (now - item["age_s"], now - item["age_s"]))
"""
