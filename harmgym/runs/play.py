"""Playing a harm state by hand: through a VNC viewer, and by commands typed here.

What is done in the viewer happens on the machine and is judged like everything else; only what is
typed here counts as steps.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harmgym.actions import Action, Click, Done, Key, Message, Shell, TypeText, Wait
from harmgym.env import HarmRecoveryEnv
from harmgym.env.provider import Lease
from harmgym.env.qemu_provider import QemuProvider, lease_of
from harmgym.errors import ActionError
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

VIEWERS = {
    "remote-viewer": "vnc://{host}:{port}",
    "vncviewer": "{host}::{port}",
    "gvncviewer": "{host}:{display}",
}
HELP = """\
Type a shell command and it runs in the terminal on the desktop. Or:
  /click X Y [COUNT]     click at a pixel of the 1280 x 800 screen
  /key CHORD             press a chord such as ctrl+alt+t or Return
  /type TEXT             type text on the keyboard
  /say [NAME:] TEXT      send a message to the user, or to NAME
  /wait SECONDS          let time pass
  /screen FILE.png       save what the screen shows
  /done [REPORT]         finish and be judged (also: done)
  /quit                  leave without a verdict"""


class VncProvider(QemuProvider):
    """Lends machines that serve their screen through VNC on loopback."""

    def acquire(self, task: Task, variant: Variant) -> Lease:
        snapshot = self.snapshot(task, variant)
        return lease_of(self.store.clone(snapshot, vnc=True), task, variant, snapshot)


def play(
    env: HarmRecoveryEnv, lines: Iterable[str], say: Callable[[str], None], seed: int = 0
) -> dict[str, Any] | None:
    """Play one episode from `lines`; return the last `info`, None when the person left without a
    verdict.
    """
    observation, _ = env.reset(seed=seed)
    say(str(observation.get("instruction") or env.task.instruction(env.variant)))
    _offer_screen(env, say)
    say(HELP)
    for line in lines:
        words = line.strip()
        if words in ("/quit", "/q"):
            return None
        if not words or _handled_here(env, words, say):
            continue
        try:
            action = read_line(words)
        except ActionError as err:
            say(str(err))
            continue
        _, _, terminated, truncated, info = env.step(action)
        _tell(info, say)
        if terminated or truncated:
            return dict(info)
    return None


def read_line(line: str) -> Action:
    """Turn what a person typed into an action. Raises: ActionError saying how to write it."""
    if not line.startswith("/"):
        return Done() if line == "done" else Shell(command=line)
    name, _, rest = line[1:].partition(" ")
    try:
        return _COMMANDS[name](rest.strip())
    except KeyError:
        raise ActionError(
            f"unknown command '/{name}'; "
            f"known: {', '.join('/' + key for key in _COMMANDS)}, /screen, /quit"
        ) from None
    except ValueError as err:
        reason = str(err).splitlines()[0]
        raise ActionError(
            f"'/{name} {rest}' cannot be read ({reason}); see the list of commands with /help"
        ) from None


def _click(rest: str) -> Action:
    x, y, *count = (int(word) for word in rest.split())
    return Click(x=x, y=y, count=count[0] if count else 1)


def _say(rest: str) -> Action:
    name, colon, text = rest.partition(":")
    return (
        Message(to=name.strip(), text=text.strip())
        if colon and " " not in name.strip()
        else Message(text=rest)
    )


_COMMANDS: dict[str, Callable[[str], Action]] = {
    "click": _click,
    "key": lambda rest: Key(keys=rest),
    "type": lambda rest: TypeText(text=rest),
    "say": _say,
    "wait": lambda rest: Wait(seconds=float(rest or 1)),
    "done": lambda rest: Done(report=rest),
}


def _handled_here(env: HarmRecoveryEnv, line: str, say: Callable[[str], None]) -> bool:
    """Commands that are no actions."""
    if line == "/help":
        say(HELP)
        return True
    if line.startswith("/screen"):
        from PIL import Image

        target = Path(line.removeprefix("/screen").strip() or "screen.png")
        Image.fromarray(env.machine.screenshot()).save(target)
        say(f"saved {target}")
        return True
    return False


def _tell(info: dict[str, Any], say: Callable[[str], None]) -> None:
    if info.get("error"):
        say(f"! {info['error']}")
    if info.get("shell"):
        say(str(info["shell"].get("text", "")))
    say(f"({info.get('steps_left')} steps left)")


def _offer_screen(env: HarmRecoveryEnv, say: Callable[[str], None]) -> None:
    """Open a viewer where there is one and a display; else say how to look."""
    open_vnc = getattr(env.machine, "open_vnc", None)
    if open_vnc is None:
        return
    host, port = open_vnc()
    command = viewer_command(host, port)
    if command and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        say(f"the desktop opens in {command[0]}")
        return
    shown = shlex.join(command) if command else f"vncviewer {host}::{port}"
    say(f"the desktop is at VNC {host}:{port}; look at it with: {shown}")


def viewer_command(host: str, port: int) -> list[str] | None:
    """Return the command of an installed VNC viewer, None when there is none."""
    for name, form in VIEWERS.items():
        if shutil.which(name):
            return [name, form.format(host=host, port=port, display=port - 5900)]
    return None
