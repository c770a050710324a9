"""Looking at a booted image: is it the desktop that its recipe describes?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harmgym.errors import GuestError, GuestTimeout, ImageError
from harmgym.images.image import Image, Recipe, check_digests, load_recipe
from harmgym.machines.protocol import Machine

IDLE_BELOW = 0.06
"""Share of its core that a settled guest may use."""

# What a guest must be, looked at from inside by the daemon; returns what was found.
_LOOK = r"""
import os, subprocess

ENV = {**os.environ, "DISPLAY": ":0", "HOME": "/root"}

def run(*command):
    return subprocess.run(command, capture_output=True, text=True, env=ENV).stdout

def main(units, packages):
    states = run("systemctl", "is-active", *units).split()
    installed = run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n").splitlines()
    failed = run("systemctl", "--failed", "--plain", "--no-legend").splitlines()
    windows = [line.split(None, 3) for line in run("wmctrl", "-l").splitlines()]
    present = {line.split()[0] for line in installed if line.endswith("ii ")}
    return {
        "units": dict(zip(units, states)),
        "failed": [line.split()[0] for line in failed],
        "missing": sorted(set(packages) - present),
        "screen": run("xdpyinfo").partition("dimensions:")[2].split()[:1],
        "windows": [words[3] for words in windows if len(words) == 4],
        "fonts": run("fc-match", "sans", "-f", "%{family}").strip(),
        "devices": sorted(os.listdir("/sys/class/net")),
        "ptrace": open("/proc/sys/kernel/yama/ptrace_scope").read().strip(),
        "modules": open("/proc/sys/kernel/modules_disabled").read().strip(),
        "user": run("id", "-nG", "user").split(),
    }
"""


def verify(image: Image, start: Callable[[], Machine], timeout_s: float = 600.0) -> dict[str, Any]:
    """Check digests, boot the image with `start` (which returns a RUNNING machine), and look at the
    desktop in it.

    Returns what was found. Raises: ImageError naming everything that is not as it should be;
    MachineError.
    """
    check_digests(image)
    recipe = load_recipe(image.name)
    machine = start()
    try:
        _wait_open(machine, timeout_s)
        machine.wait_until_succeeds(image.ready_command, timeout_s=timeout_s)
        found = machine.run_python(
            _LOOK,
            {"units": list(recipe.services.enable), "packages": list(recipe.packages)},
            timeout_s=60,
        )
        found["root_window"] = int(machine.screenshot()[:90, :500].max())
        found["idle"] = _idle(machine, timeout_s)
    finally:
        machine.stop()
    if wrong := problems(found, recipe):
        raise ImageError(
            f"image {image.name!r} does not verify: {'; '.join(wrong)}; see {image.folder}"
        )
    return dict(found)


def problems(found: dict[str, Any], recipe: Recipe) -> list[str]:
    """Return one phrase for each thing in `found` (of `verify`) that the recipe wants otherwise."""
    size = f"{recipe.screen.width}x{recipe.screen.height}"
    titles = " | ".join(found["windows"])
    checks = [
        (not found["missing"], f"packages missing: {', '.join(found['missing'])}"),
        (not found["failed"], f"units failed: {', '.join(found['failed'])}"),
        (set(found["units"].values()) <= {"active"}, f"units not active: {found['units']}"),
        (found["screen"] == [size], f"needed a screen of {size}, found {found['screen']}"),
        (
            "Terminal" in titles and "Start page" in titles,
            f"needed terminal and browser windows, found {titles!r}",
        ),
        (bool(found["fonts"]), "no font for 'sans'"),
        (found["devices"] == ["lo"], f"needed no network but lo, found {found['devices']}"),
        (
            found["ptrace"] == "3" and found["modules"] == "1",
            "the kernel is not sealed (ptrace_scope, modules_disabled)",
        ),
        ("sudo" in found["user"], f"{recipe.user!r} is not in group sudo"),
        (found["root_window"] > 0, "the root window is black"),
        (
            found["idle"] <= IDLE_BELOW,
            f"needed an idle guest below {IDLE_BELOW:.0%} of its core, found {found['idle']:.1%}",
        ),
    ]
    return [text for good, text in checks if not good]


def _wait_open(machine: Machine, timeout_s: float) -> None:
    """Wait until the guest daemon has said hello: what is asked before that is lost. Raises:
    GuestTimeout.
    """
    deadline = time.monotonic() + timeout_s
    while not any(
        entry.source == "channel" and entry.data.get("what") == "guest_opened"
        for entry in machine.journal()
    ):
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"needed the guest daemon within {timeout_s:g} s of power-on, found silence; "
                f"see {machine.folder}"
            )
        time.sleep(0.1)  # between two looks


def _idle(machine: Machine, timeout_s: float) -> float:
    """Return the share of its core that the guest used over the last 5 s, waiting until it is under
    IDLE_BELOW.
    """
    deadline, share = time.monotonic() + timeout_s, 1.0
    while share > IDLE_BELOW and time.monotonic() < deadline:
        share = float(machine.run_python(_CPU_SHARE, {"window_s": 5.0}, timeout_s=30))
    if not 0 <= share <= 1.01:
        raise GuestError(f"needed a CPU share between 0 and 1, the guest said {share!r}")
    return share


_CPU_SHARE = r"""
import time

def ticks():
    return [int(word) for word in open("/proc/stat").readline().split()[1:9]]

def main(window_s):
    before = ticks()
    time.sleep(window_s)
    used = [b - a for a, b in zip(before, ticks())]
    return 1 - (used[3] + used[4]) / max(sum(used), 1)
"""
