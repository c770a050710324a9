"""Start a program as any user, in a session of its own, in the mount namespace that everybody else
sees.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
from collections.abc import Mapping, Sequence

from procfs import PROC

_CLONE_NEWNS = 0x00020000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _open_namespace() -> int:
    """Return a descriptor of process 1's mount namespace, -1 when it is the daemon's own or may not
    be entered.
    """
    try:
        if os.readlink("self/ns/mnt", dir_fd=PROC) == os.readlink("1/ns/mnt", dir_fd=PROC):
            return -1
        return os.open("1/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=PROC)
    except OSError:
        return -1


_namespace = _open_namespace()


def user_record(name: str) -> pwd.struct_passwd:
    """Return the account `name`. Raises: ValueError naming it."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"no user named {name!r}") from None


def environment(user: pwd.struct_passwd, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a login would set, and for people (uid >= 1000) where their desktop is."""
    env = {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell or "/bin/sh",
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    if user.pw_uid >= 1000:
        run = f"/run/user/{user.pw_uid}"
        env |= {
            "DISPLAY": ":0",
            "XDG_RUNTIME_DIR": run,
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={run}/bus",
        }
    return env | dict(extra or {})


def die_with_parent() -> None:
    """Have the kernel kill this process when the daemon ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _become(user: pwd.struct_passwd) -> None:
    if os.getuid() == 0:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def spawn(
    argv: Sequence[str],
    user: pwd.struct_passwd,
    env: Mapping[str, str],
    cwd: str | None,
    stdio: tuple[int, int, int],
    ends_with_daemon: bool = False,
) -> int:
    """Start `argv` and return its pid; `stdio` are the descriptors that become 0, 1 and 2.

    A program that cannot be started ends with status 127 (126 when it may not be run) and says why
    on stderr, as a shell does.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 127
    try:
        os.setsid()
        for target, source in enumerate(stdio):
            os.dup2(source, target, inheritable=True)
        _ordinary_process()
        _become(user)
        if ends_with_daemon:  # after the change of user, which would undo it
            die_with_parent()
        os.chdir(cwd or user.pw_dir)
        os.execvpe(argv[0], list(argv), dict(env))
    except PermissionError as err:
        status = 126
        os.write(2, f"{argv[0]}: {err}\n".encode(errors="replace"))
    except (OSError, ValueError) as err:
        os.write(2, f"{argv[0]}: {err}\n".encode(errors="replace"))
    finally:
        os._exit(status)


def _ordinary_process() -> None:
    """Take off what sets the daemon apart: its mount namespace and ignored signals, that it runs
    first and is killed last.
    """
    if _namespace >= 0 and _libc.setns(_namespace, _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the mount namespace of process 1")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if os.getuid() == 0:
        fd = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=PROC)
        os.write(fd, b"0")
        os.close(fd)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.umask(0o022)
