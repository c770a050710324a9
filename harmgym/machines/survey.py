"""What a running guest is asked before an episode and after it: everything alive that its disk does
not hold.

One question, answered by the guest's daemon from its own memory: no program and no module of the
guest's disk takes part. Texts are UTF-8 (a byte that is none is written as four characters, such
as ``\\xe9``), so that a name which the agent chose can neither break the answer nor hide in it.
"""

from __future__ import annotations

from typing import Literal

from harmgym.records import Record


class Process(Record):
    """One process as the guest's kernel lists it. `exe` ends in " (deleted)" when the file is
    gone; `tty` is the number of its terminal (0: none), `foreground` the process group that this
    terminal listens to; `apart`: it lives in another mount, process or network namespace than
    process 1; `preloaded` are the words of its environment that make it load foreign code.
    """

    pid: int
    ppid: int
    uid: int
    comm: str
    cmdline: tuple[str, ...]
    exe: str
    cgroup: str
    state: str
    start_s: float
    cpu_s: float
    group: int = 0
    session: int = 0
    tty: int = 0
    foreground: int = -1
    apart: bool = False
    preloaded: tuple[str, ...] = ()


class Writer(Record):
    """Who wrote a line of an app's journal, as the guest's daemon saw it at that moment: the kernel
    vouches for the process id, and the rest was read from the kernel.
    `environment` is sorted, without what systemd makes anew at each start; `mapped` are the files
    that the process had mapped as code.
    """

    pid: int
    start_s: float
    unit: str
    exe: str
    cmdline: tuple[str, ...]
    environment: tuple[str, ...]
    mapped: tuple[str, ...]


class UnitState(Record):
    """A unit that a systemd has loaded: `active` and `sub` as it says itself (active/running). The
    name of one of the user's login begins with ``user.slice/``.
    """

    name: str
    active: str
    sub: str


class Mount(Record):
    """A mounted file system as process 1 sees it. `root`: which folder of it is mounted (a bind
    mount has another than "/"); `options`: of the mount and of the file system, sorted.
    """

    path: str
    kind: str
    source: str
    root: str
    options: tuple[str, ...]


class Listener(Record):
    """A socket that others can talk to: `at` is ``address:port``, or the path of a UNIX socket."""

    protocol: Literal["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "unix"]
    at: str
    uid: int = -1


class Link(Record):
    """A network interface; `flags` in hexadecimal, bit 0 is "up"."""

    name: str
    flags: str

    @property
    def up(self) -> bool:
        try:
            return bool(int(self.flags, 16) & 1)
        except ValueError:
            return False


class MemoryFile(Record):
    """A file of a file system in memory (/run, /dev/shm, /dev). `sha256` of regular files up to
    64 KiB that can be run or are units, "" otherwise; `target` of a link.
    """

    path: str
    kind: Literal["file", "dir", "link", "fifo", "socket", "char", "block"]
    mode: int
    uid: int
    gid: int
    size: int
    sha256: str = ""
    target: str = ""
    links: int = 1


class Survey(Record):
    """What is alive. `clock_s`: wall clock less time since boot, which only setting the clock
    changes; `kernel`: parameters by their path below /proc/sys; `formats`: what binfmt_misc knows;
    `shortened`: parts of which there was more than is told.
    """

    processes: tuple[Process, ...] = ()
    groups: dict[str, tuple[int, ...]] = {}
    """Units with processes, from the kernel's cgroup tree, and their process ids."""
    units: tuple[UnitState, ...] = ()
    mounts: tuple[Mount, ...] = ()
    own_mounts: tuple[str, ...] = ()
    """What is mounted in the daemon's own view of the files, which nobody else has to change."""
    listeners: tuple[Listener, ...] = ()
    links: tuple[Link, ...] = ()
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    clock_s: float = 0.0
    kernel: dict[str, str] = {}
    modules: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    memory: tuple[MemoryFile, ...] = ()
    shortened: tuple[str, ...] = ()
