"""Every error harmgym raises on purpose.

HarmgymError
├── InputError                 the caller can correct it: a wrong name, file, option or setting
│   ├── TaskError              unknown task, broken task.yaml, variant or plan
│   ├── ActionError            an action that is malformed or cannot be carried out as written
│   ├── ImageError             unknown recipe, failed build, image that does not verify
│   ├── SnapshotError          missing, damaged or mismatching snapshot
│   ├── RunError               a run folder that is missing, foreign or half-written
│   ├── JudgmentError          a broken judgment file or value
│   ├── ModelError             a reward model that is missing, foreign or damaged
│   └── MissingDependencyError a program or an optional Python package is not installed
└── MachineError               a machine did not do what it was asked to
    ├── LaunchError            QEMU did not start (carries command, exit code, output)
    ├── StateError             a call that the machine's present state does not allow
    ├── GuestError             the guest channel broke its protocol or went away
    │   └── GuestTimeout       no answer before the deadline
    ├── DisplayError           no usable picture, or an input event was refused
    ├── DiskError              a disk file that cannot be read, or is of an unknown form
    │   └── CorruptFileSystem  the file system on it makes no sense
    ├── CapacityError          the host's memory budget does not allow another machine
    └── HostFault              the host is proved to be at fault (carries kind, stage, proof)

A message says what was needed, what was found and how to fix it, in one sentence where possible,
values as ``repr``. A verdict on an agent is a value (`harmgym.judging.verdict.Verdict`), never an
exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


class HarmgymError(Exception):
    """Base class of every deliberate error."""


class InputError(HarmgymError):
    """What the caller passed cannot be used; the message says how to fix it."""


class TaskError(InputError):
    """An unknown task, or a broken task, variant or plan."""


class ActionError(InputError):
    """A malformed action, or one that cannot be carried out as written."""


class ImageError(InputError):
    """A disk image cannot be found, built or trusted."""


class SnapshotError(InputError):
    """A snapshot is missing, damaged, or does not fit this host."""


class RunError(InputError):
    """A run folder cannot be used."""


class JudgmentError(InputError):
    """A judgment file or value is broken."""


class ModelError(InputError):
    """A reward model is missing, damaged or of another format."""


class MissingDependencyError(InputError):
    """A program or optional package is needed; the message carries the command that installs it."""


class MachineError(HarmgymError):
    """A machine did not do what it was asked to. In an episode that is the guest's doing, and is
    judged, unless the host is proved to be at fault (`HostFault`).
    """


class LaunchError(MachineError):
    """QEMU did not start.

    Attributes: command (argument list), exit_code (None while still running), output (stdout and
    stderr).
    """

    def __init__(
        self,
        message: str,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        output: str = "",
    ) -> None:
        super().__init__(
            f"{message}\n  exit code: {exit_code}\n  output: {output.strip()[-2000:] or '(none)'}"
        )
        self.command, self.exit_code, self.output = list(command), exit_code, output


class StateError(MachineError):
    """A call that the machine's present state does not allow; names both states."""

    def __init__(self, call: str, needed: str, found: str) -> None:
        super().__init__(f"{call} needs a machine that is {needed}, but it is {found}")
        self.needed, self.found = needed, found


class GuestError(MachineError):
    """The guest channel broke its protocol or went away."""


class GuestTimeout(GuestError):
    """The guest did not answer before the deadline."""


class DisplayError(MachineError):
    """No usable picture, or an input event was refused."""


class DiskError(MachineError):
    """A guest's disk file cannot be read from outside, or has a feature that is not known here."""


class CorruptFileSystem(DiskError):
    """The guest's file system makes no sense: damaged, or written to past the kernel."""


class CapacityError(MachineError):
    """The host's memory budget does not allow another machine."""


FailureKind = Literal[
    "qemu_gone",
    "qemu_stuck",
    "host_memory",
    "host_disk",
    "host_limits",
    "host_io",
    "sibling_failed",
    "snapshot_unreadable",
    "fresh_machine",
]
"""What is at fault when an episode ends without a verdict; a table of them is in
``docs/environment.md``.
"""

Stage = Literal[
    "reset",
    "act",
    "settle",
    "observe",
    "resume",
    "ask",
    "sync",
    "pause",
    "probe",
    "read_disk",
    "check",
    "close",
]
"""What was under way when something went wrong: the parts of a reset or a step, in order, and the
end.
"""


class HostFault(MachineError):
    """The host is at fault, not the guest. Ends an episode as truncated with
    ``info["infra_failure"]``; is never a failed agent.

    Attributes: kind, stage, and proof: what was found on the host, in words.
    """

    def __init__(self, message: str, kind: FailureKind, stage: Stage, proof: str) -> None:
        super().__init__(message)
        self.kind, self.stage, self.proof = kind, stage, proof

    def __reduce__(self) -> tuple[object, ...]:
        """An environment in a process of its own sends its errors to the one that asked."""
        return HostFault, (str(self), self.kind, self.stage, self.proof)
