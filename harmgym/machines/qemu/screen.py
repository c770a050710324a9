"""The screen: pictures without an encoder on the hot path, and knowing when it has stopped
changing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from harmgym.errors import DisplayError
from harmgym.machines.protocol import Screenshot

_HEADER = re.compile(rb"P6\s(\d{1,5})\s(\d{1,5})\s255\s")


def read_ppm(path: Path) -> Screenshot:
    """Read a binary PPM as uint8 (800, 1280, 3); what a larger picture before it left behind in the
    file is not read.

    A guest can change its resolution: another size is cut or padded with black, its top left corner
    kept, so that pixel coordinates stay true. Raises: DisplayError when the file is not a whole
    picture.
    """
    with path.open("rb", buffering=0) as file:
        data = bytearray(
            path.stat().st_size
        )  # the array's own memory: callers keep pictures across steps
        file.readinto(data)
    match = _HEADER.match(data)
    size = int(match[1]) * int(match[2]) * 3 if match else 0
    if match is None or len(data) < match.end() + size:
        raise DisplayError(
            f"needed a binary PPM picture from QEMU, found {len(data)} bytes that begin"
            f" {bytes(data[:15])!r}"
        )
    width, height = int(match[1]), int(match[2])
    picture = np.frombuffer(data, np.uint8, size, match.end()).reshape(height, width, 3)
    return picture if (width, height) == (SCREEN_WIDTH, SCREEN_HEIGHT) else _fit(picture)


def _fit(picture: Screenshot) -> Screenshot:
    fitted = np.zeros((SCREEN_HEIGHT, SCREEN_WIDTH, 3), np.uint8)
    height, width = min(SCREEN_HEIGHT, picture.shape[0]), min(SCREEN_WIDTH, picture.shape[1])
    fitted[:height, :width] = picture[:height, :width]
    return fitted


def settle(
    take: Callable[[], Screenshot],
    first: Screenshot | None,
    react_s: float,
    cap_s: float,
    gap_s: float = 0.008,
    between: Callable[[], object] | None = None,
) -> Screenshot:
    """Return the first picture that equals the one before it, taken `gap_s` (and the time that a
    picture takes) later.

    With `first` (the picture before the action) a change is awaited for up to `react_s`: programs
    need time to answer. `between` is called in the gap of a screen that has changed. After `cap_s`
    the newest picture is returned as it is, since some screens never rest.
    """
    start = time.monotonic()
    last = take()
    changed = False
    while (now := time.monotonic() - start) < cap_s:
        changed = changed or first is None or not np.array_equal(last, first)
        taken = time.monotonic()
        if changed and between is not None:
            between()
        time.sleep(
            max(0.0, taken + gap_s - time.monotonic())
        )  # the interval between two samples, not a wait for readiness
        newest = take()
        still = np.array_equal(newest, last)
        last = newest
        if still and (changed or now >= react_s):
            break
    return last
