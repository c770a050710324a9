"""The question to a running guest: what is alive."""

from __future__ import annotations

import time

from harmgym.machines.protocol import Machine
from harmgym.statekit.case import Case
from harmgym.statekit.survivors import survivors

SETTLE_S = 1.5
"""How long a process that nothing explains may take to end: a command that was typed a moment ago
is not left behind.
"""


def look(case: Case, machine: Machine) -> None:
    """Fill in the survey, and that there is one. It is asked again while something is there that
    may be about to end.
    """
    end = time.monotonic() + SETTLE_S
    case.survey, case.live = machine.survey(), True
    while survivors(case) and time.monotonic() < end:
        case.survey = machine.survey()
