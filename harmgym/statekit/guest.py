"""What set-up does inside the guest, as steps that are sent and carried out in one call.

One call, because a fork costs 40 ms and a first look at a program half a second in an emulated
guest. The steps themselves are carried out by ``in_guest.py``, which is sent along as text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harmgym.errors import TaskError
from harmgym.machines.protocol import Machine
from harmgym.records import Record

HOME = "/home/user"
STEPS_S = 120.0
IN_GUEST = Path(__file__).parent / "in_guest.py"
Step = dict[str, Any]
"""One step: ``do``, the name of a function of ``in_guest.py``, and its arguments."""


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

    def step(self) -> Step:
        return {"do": "file", **self.model_dump()}


def table(*rows: tuple[str, str, int, float]) -> list[GuestFile]:
    """Return files of the user's, one a row: path, text, mode, age in seconds."""
    return [GuestFile(path=path, text=text, mode=mode, age_s=age) for path, text, mode, age in rows]


@functools.cache
def source() -> str:
    return IN_GUEST.read_text(encoding="utf-8")


def carry_out(machine: Machine, steps: Sequence[Step], who: str) -> list[Any]:
    """Carry out the steps in one call; return what each had to say.

    Raises: TaskError with `who` and the step that failed; GuestError when there is no answer.
    """
    result = machine.run_python(source(), {"steps": list(steps)}, timeout_s=STEPS_S)
    if "failed" in result:
        raise TaskError(f"{who}: set-up could not {_words(result['failed'])}: {result['why']}")
    return list(result["said"])


def _words(step: Step) -> str:
    """Return what a step was about, in words."""
    match step["do"]:
        case "file":
            kind = "make the folder" if step["text"] is None else "write the file"
            return f"{kind} {step['path']!r}"
        case "append" | "link" | "rights":
            return f"{step['do']} {step['path']!r}"
        case "crontab":
            return f"install the cron table of {step['user']!r}"
        case "content":
            return f"give {step['unit']} its content"
        case "run" | "background":
            return f"start {' '.join(step['argv'])!r}"
        case other:
            return f"carry out the step {other!r}"
