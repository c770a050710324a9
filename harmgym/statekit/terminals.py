"""What a person may have open in the foreground of a terminal when they stop: it goes on only when
somebody types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from harmgym.machines.protocol import Process
from harmgym.statekit.programs import STOPPED, is_one_of, programs

MOST = 20
"""Programs that stand between a terminal and what listens to it (sudo, su, a shell, ...)."""
Below = Mapping[int, Sequence[Process]]


def foreground(process: Process) -> bool:
    """Whether a terminal listens to the process."""
    return process.tty != 0 and process.group == process.foreground


def below(processes: Iterable[Process]) -> dict[int, list[Process]]:
    """Return the children of each process."""
    found: dict[int, list[Process]] = {}
    for process in processes:
        found.setdefault(process.ppid, []).append(process)
    return found


def in_the_foreground(
    process: Process, owner: Process, below: Below, intact: Callable[[str], bool]
) -> bool:
    """Whether a terminal listens to a listed program, or to one that it has started. `owner`: its
    parent, which is explained.
    """
    if process.tty == 0 or process.apart:
        return False
    if _reads_keys(process):
        return True
    children = below.get(process.pid, ())
    if is_one_of(owner.exe, programs().between) and not _listed(process):
        children = [child for child in children if is_one_of(child.exe, programs().waited_for)]
    elif not _listed(process):
        return False
    return any(_leads_to_keys(child, below, intact) for child in children)


def _leads_to_keys(
    process: Process, below: Below, intact: Callable[[str], bool], depth: int = 0
) -> bool:
    if depth > MOST or not intact(process.exe) or process.state in STOPPED:
        return False
    children = below.get(process.pid, ())
    return _reads_keys(process) or any(
        _leads_to_keys(child, below, intact, depth + 1) for child in children
    )


def _reads_keys(process: Process) -> bool:
    return foreground(process) and _listed(process)


def _listed(process: Process) -> bool:
    return any(rule.takes(process) for rule in programs().foreground)
