"""Whose fault it is that something went wrong: the guest's, unless the host proves otherwise.

The guest belongs to an agent with root, who can make any question fail. So a failure is an excuse
only where the host itself shows it; that needs what only `harmgym.env.faults` can look at, and is
handed to the judge as a `Blame`. What the host's kernel said is a proof that needs no looking.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from harmgym.errors import FailureKind, GuestError, GuestTimeout, HostFault, Stage
from harmgym.text import encodable

Blame = Callable[[Exception, Stage], None]
"""Called with what went wrong and where. Raises: HostFault when the host is at fault; returns when
it is the guest's doing."""

_KINDS: dict[int, FailureKind] = {
    errno.ENOSPC: "host_disk",
    errno.EDQUOT: "host_disk",
    errno.EROFS: "host_disk",
    errno.ENOMEM: "host_memory",
    errno.EMFILE: "host_limits",
    errno.ENFILE: "host_limits",
    errno.ENOENT: "host_io",
    errno.EACCES: "host_io",
    errno.EPERM: "host_io",
    errno.ESTALE: "host_io",
    errno.EIO: "host_io",
}
"""What a system call of the host says of the host alone. Not EINVAL and the like: an offset that
makes no sense may come out of a file system that the agent wrote."""


def said_by_host(error: BaseException, stage: Stage) -> HostFault | None:
    """Return the fault of the host that an error is, or was caused by; None where it is none.

    A system call of the host that failed has an error number; what a view says of a file that is
    not in the guest is an OSError as well, and has none.
    """
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, HostFault):
            return one
        if isinstance(one, OSError) and one.errno in _KINDS:
            proof = f"the host's kernel said {one.strerror!r}"
            proof += f" about {one.filename}" if one.filename else ""
            return HostFault(what_went_wrong(error), _KINDS[one.errno], stage, proof)
        # Not what it was raised beside: a full pipe to a guest that does not read is no fault.
        one = one.__cause__
    return None


def host_says(error: Exception, stage: Stage) -> None:
    """A `Blame` for where nobody can look at the host: what its kernel said is all the proof."""
    fault = said_by_host(error, stage)
    if fault is not None:
        raise fault from error


def silent(error: Exception) -> bool:
    """Whether an error means that the guest gave no answer at all, so that asking it again would
    only cost time.
    """
    return isinstance(error, GuestTimeout) or not isinstance(error, GuestError)


def what_went_wrong(error: BaseException, limit: int = 300) -> str:
    """Return an error as one line of text; a kind that is not ours is named."""
    ours = type(error).__module__.startswith("harmgym")
    said = str(error) if ours else f"{type(error).__name__}: {error}"
    line = " ".join(encodable(said).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
