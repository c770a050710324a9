"""The set-up of a harm state as a `Scene`: what the guest is to hold, collected, then applied in as
few calls as can be.

    scene = Scene(machine, variant)
    scene.add(*files)
    scene.crontab(table)
    scene.app("mail", seed)
    scene.apply()

Steps are carried out in the order in which they were collected, all in one call; `apply` may be
called again for what comes later. The apps must run already (`harmgym.statekit.apps.stage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harmgym.files import digest_of
from harmgym.machines.protocol import Machine
from harmgym.records import Record
from harmgym.statekit import apps, bait
from harmgym.statekit.guest import HOME, GuestFile, Step, carry_out, table
from harmgym.statekit.people import Person
from harmgym.statekit.waiting import wait_idle
from harmgym.tasks.variant import Variant

__all__ = ["HOME", "Background", "GuestFile", "Person", "Scene", "table"]

UNITS = "/etc/systemd/system"
# What set-up does beside a state's own code: when one of these changes, so does what it makes.
CODE = (
    "scene.py bait.py in_guest.py guest.py waiting.py apps.py texts.py people.py people.yaml"
).split()
# What a browser still does after the snapshot, every clone does again. Four seconds of rest made
# one clone quieter (50 MiB after 20 s instead of 77) and another not (69 and 71), so two must do.
REST_S = 2


@cache
def code_digest() -> str:
    """Return one SHA-256 over the kit's own set-up code; part of the key of a state's snapshot."""
    here = Path(__file__).parent
    return digest_of([(name, here / name) for name in CODE])


class Background(Record):
    """A program that set-up has started: its process, and the CPU time it had used by then."""

    pid: int
    ticks: int


class Scene:
    """What one set-up puts into a running guest, and beside it a file that only a cheat touches."""

    def __init__(self, machine: Machine, variant: Variant) -> None:
        self._machine, self._variant = machine, variant
        self._steps: list[Step] = [file.step() for file in bait.files(variant.task)]
        self._apps: list[str] = []
        self._page: tuple[str, str] | None = None

    @cached_property
    def now(self) -> float:
        """The guest's clock when it was first asked, seconds since 1970."""
        return float(self._ask({"do": "clock"}))

    # Collected
    def add(self, *files: GuestFile) -> None:
        """Files and folders, with modes, owners and ages; missing parents belong to the owner."""
        self._steps += [file.step() for file in files]

    def append(self, path: str, text: str, owner: str = "user") -> None:
        self._step("append", path=path, text=text, owner=owner)

    def link(self, path: str, target: str, owner: str = "user") -> None:
        self._step("link", path=path, target=target, owner=owner)

    def rights(self, path: str, mode: int | None = None, group: str | None = None) -> None:
        """Another mode or group for what is there."""
        self._step("rights", path=path, mode=mode, group=group)

    def crontab(self, table: str, user: str = "user") -> None:
        self._step("crontab", text=table, user=user)

    def unit(self, file: GuestFile) -> None:
        """A system service: enabled, and started when the steps before it are done."""
        self.add(file)
        self.enable(file.path)
        self.run("systemctl", "start", file.path.rpartition("/")[2])

    def enable(self, path: str) -> None:
        """Have a unit file start with the system, or, in the user's home, with the next session.

        The link is what `systemctl enable` makes; that would reload every unit too, for seconds.
        """
        folder, _, name = path.rpartition("/")
        owner, target = ("root", "multi-user") if folder == UNITS else ("user", "default")
        self.link(f"{folder}/{target}.target.wants/{name}", path, owner)

    def address_book(self, people: Iterable[Person]) -> None:
        """The people in the mail program's address book and in ``~/Documents/contacts.csv``."""
        self.add(*apps.address_book(people))

    def app(self, name: str, seed: Mapping[str, Any], page: str | None = None) -> None:
        """The content of an app (``envs/apps``) and the page of it that the browser shows."""
        self._steps.append(apps.content(name, seed if page is None else {**seed, "page": page}))
        self._apps.append(name)
        if page is not None:
            self._page = name, page

    def run(self, *argv: str) -> None:
        """A command, as root."""
        self._step("run", argv=list(argv))

    # Carried out
    def apply(self) -> dict[str, dict[str, Any]]:
        """Carry out what was collected since the last call; wait until the apps have their content
        and the page is on the screen of a guest at rest. Return how each app announced its start.

        Raises: TaskError naming the step that failed; GuestTimeout naming what did not come.
        """
        steps, names, page = self._steps, self._apps, self._page
        self._steps, self._apps, self._page = [], [], None
        carry_out(self._machine, steps, self._variant.task)
        started = {
            name: apps.wait_event(self._machine, name, "start", apps.load_app(name))
            for name in names
        }
        if page is not None:
            name, path = page
            apps.wait_shown(self._machine, name, apps.page_address(name, path))
            wait_idle(self._machine, REST_S)
        return started

    def background(
        self, *argv: str, nice: int = 0, like: str = "cron.service", ticks: int = 0
    ) -> Background:
        """Start a program of the user's as the service `like` would have; wait until it has used
        `ticks` of CPU time, 15 s at most.
        """
        step = {"do": "background", "argv": list(argv), "user": "user", "nice": nice}
        return Background(**self._ask({**step, "unit": like, "ticks": ticks}))

    def modes(self, root: str, skip: Iterable[str] = ()) -> dict[str, int]:
        """Return the mode of each file and folder from `root` down, but for what lies in `skip`."""
        found = self._ask({"do": "modes", "root": root, "skip": list(skip)})
        return {str(path): int(mode) for path, mode in found.items()}

    def _step(self, do: str, **fields: Any) -> None:
        self._steps.append({"do": do, **fields})

    def _ask(self, step: Step) -> Any:
        """Carry out what was collected and then one step more; return what that one says."""
        self._steps.append(step)
        steps, self._steps = self._steps, []
        return carry_out(self._machine, steps, self._variant.task)[-1]
