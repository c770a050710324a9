"""What is measured of a process: how much of a core it wanted, crowded host or not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from harmgym.machines.qemu.process import cpu_seconds, wanted_cpu_seconds

BUSY = "import os\nos.sched_setaffinity(0, {%d})\nprint(flush=True)\nwhile True: pass"
IDLE = "import time\nprint(flush=True)\ntime.sleep(600)"


@pytest.fixture
def crowd() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three busy programs that share one core, and one that sleeps."""
    core = min(os.sched_getaffinity(0))
    programs = [*[BUSY % core] * 3, IDLE]
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        for program in programs
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline()
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_a_busy_program_wants_a_core_also_where_it_gets_a_part_of_one(
    crowd: list[subprocess.Popen[bytes]],
) -> None:
    pids = [process.pid for process in crowd]
    start = time.monotonic()
    wanted, ran = [wanted_cpu_seconds(pid) for pid in pids], [cpu_seconds(pid) for pid in pids]
    time.sleep(3.0)  # the measuring window
    passed = time.monotonic() - start
    *busy, idle = [
        (wanted_cpu_seconds(pid) - w) / passed for pid, w in zip(pids, wanted, strict=True)
    ]
    got = [(cpu_seconds(pid) - r) / passed for pid, r in zip(pids, ran, strict=True)]
    assert all(share > 0.8 for share in busy), busy
    assert idle < 0.05
    assert max(got) < 0.7, got  # what it got says little of what it had to do
