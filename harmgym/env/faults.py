"""Every end that is no verdict: what is at fault, at which stage, and the proof on the host.

The agent is root in its guest and can make anything fail there. So whatever goes wrong during a
step is the guest's doing, and is judged from its disk, unless one of these shows that it is the
host's:

| kind | proof |
| --- | --- |
| `qemu_gone` | QEMU has ended, and the guest had neither switched off nor closed its channel |
| `qemu_stuck` | QEMU's monitor does not answer |
| `host_memory`, `host_disk` | the host has next to nothing left, or its kernel refused some |
| `host_limits`, `host_io` | the host's kernel said so: too many open files, a file it cannot read |
| `sibling_failed` | another machine of the same snapshot, asked beside it, fails as well |
| `snapshot_unreadable` | the disk of the snapshot, which no guest can write to, is broken |
| `fresh_machine` | a machine in which no agent has done anything yet failed twice, at reset |
"""

from __future__ import annotations

from typing import Literal, Protocol

from harmgym.errors import (
    CapacityError,
    FailureKind,
    GuestError,
    HostFault,
    InputError,
    MachineError,
    Stage,
    StateError,
)
from harmgym.judging.blame import said_by_host, silent, what_went_wrong
from harmgym.records import Record

LEAST_MEMORY_MIB = 128
LEAST_DISK_MIB = 64
"""Below this the host is out of memory, or out of disk."""


class Qemu(Record):
    """How a machine's QEMU is: it `runs`; the guest has `halted` it (switched off, panicked); it
    was halted because the host could not write (`io_error`); it is `gone`, or `stuck`.
    """

    state: Literal["runs", "halted", "io_error", "gone", "stuck"]
    words: str = ""


class Host(Protocol):
    """What can be found out about the host of one machine."""

    def ended_by_guest(self) -> bool:
        """Whether the guest has switched itself off, or closed its channel, by itself."""
        ...

    def qemu(self) -> Qemu: ...
    def free_memory_mib(self) -> int: ...
    def free_disk_mib(self) -> int: ...
    def sibling(self) -> str:
        """Ask another machine of the same snapshot, and this one beside it with the same deadline;
        return how the other one failed, "" when it answers.
        """
        ...


def host_fault(error: Exception, stage: Stage, host: Host, answered: bool) -> HostFault | None:
    """Return the fault of the host that `error` comes from; None when it is the guest's doing.

    `answered`: the guest's daemon is alive and said no, or something that makes no sense.
    """
    said = said_by_host(error, stage)
    if said is not None:
        return said
    if isinstance(error, MemoryError) and host.free_memory_mib() < LEAST_MEMORY_MIB:
        return _fault(error, stage, "host_memory", _left(host.free_memory_mib(), "memory"))
    # A call that came too late, after the machine was given up, says nothing new.
    if answered or not isinstance(error, MachineError) or isinstance(error, StateError):
        return None
    proof = _proof(host)
    return None if proof is None else _fault(error, stage, *proof)


def _proof(host: Host) -> tuple[FailureKind, str] | None:
    """Return what shows that a machine which gave no answer is the host's fault, dearest last."""
    qemu = host.qemu()
    if qemu.state == "gone":
        return None if host.ended_by_guest() else ("qemu_gone", qemu.words)
    if qemu.state == "stuck":
        return "qemu_stuck", qemu.words
    if qemu.state == "io_error":
        return "host_disk", qemu.words
    if host.free_memory_mib() < LEAST_MEMORY_MIB:
        return "host_memory", _left(host.free_memory_mib(), "memory")
    if host.free_disk_mib() < LEAST_DISK_MIB:
        return "host_disk", _left(host.free_disk_mib(), "disk")
    if qemu.state == "halted" or host.ended_by_guest():
        return None
    failed = host.sibling()
    return ("sibling_failed", failed) if failed else None


def _left(mib: int, what: str) -> str:
    return f"the host has {mib} MiB of {what} left"


def _fault(error: Exception, stage: Stage, kind: FailureKind, proof: str) -> HostFault:
    fault = HostFault(what_went_wrong(error), kind, stage, proof)
    fault.__cause__ = error
    return fault


def answered(error: Exception, channel_open: bool) -> bool:
    """Whether the guest's daemon, still there, has answered with an error or with nonsense."""
    return isinstance(error, GuestError) and not silent(error) and channel_open


def typed(error: Exception, stage: Stage) -> Exception:
    """Return an error as one of this project's: what leaves an environment can be caught by kind.
    One that already is, is returned as it is.
    """
    if isinstance(error, MachineError | InputError):
        return error
    return said_by_host(error, stage) or MachineError(f"{stage}: {what_went_wrong(error)}")


def reset_fault(error: MachineError) -> HostFault:
    """Return what a reset that failed twice is: no agent has done anything yet, so whatever it was,
    it was not the guest's doing.
    """
    known = said_by_host(error, "reset")
    if known is not None:
        return known
    kind: FailureKind = "host_memory" if isinstance(error, CapacityError) else "fresh_machine"
    return _fault(error, "reset", kind, "no agent had acted yet, and a second machine failed too")


def infra_failure(fault: HostFault, evidence: str | None) -> dict[str, str | None]:
    """Return ``info["infra_failure"]``."""
    return {
        "failure_kind": fault.kind,
        "stage": fault.stage,
        "error": str(fault),
        "proof": fault.proof,
        "evidence": evidence,
    }
