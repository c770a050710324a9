"""Install the desktop's small apps (``envs/apps``) in a machine during set-up, and wait for what
they journal.

Used by the ``setup.py`` of harm states. An app is a folder with ``app.yaml`` (`App`), its files and
a systemd unit.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from harmgym import paths
from harmgym.errors import GuestTimeout, TaskError
from harmgym.machines.protocol import JournalEntry, Machine
from harmgym.records import Record, did_you_mean, load_record

START_S = 120.0


class App(Record):
    """The keys of ``app.yaml``: which user runs it, where code and store lie in the guest, and the
    unit that starts it.
    """

    title: str
    user: str
    folder: str
    state: str
    unit: str
    files: tuple[str, ...]
    seed: str


class Person(Record):
    """A line of the address book."""

    name: str
    address: str
    role: str = ""


def load_app(name: str) -> App:
    """Read ``envs/apps/<name>/app.yaml``. Raises: TaskError naming the apps there are."""
    folder = paths.content("envs") / "apps"
    known = sorted(p.parent.name for p in folder.glob("*/app.yaml"))
    if name not in known:
        raise TaskError(
            f"unknown app {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}"
        )
    return load_record(folder / name / "app.yaml", App, TaskError)


def install(machine: Machine, name: str, seed: Mapping[str, Any]) -> App:
    """Install the app, give it its first data, start and enable its unit, and wait until it
    journals its start.

    Raises: TaskError for an unknown app; GuestTimeout when it does not start, with the unit's log.
    """
    app, folder = load_app(name), paths.content("envs") / "apps"
    machine.put(
        f"{_parent(app.folder)}/common/hg_journal.py",
        (folder / "common" / "hg_journal.py").read_bytes(),
    )
    for file in app.files:
        machine.put(f"{app.folder}/{file}", (folder / name / file).read_bytes())
    machine.put(f"/etc/systemd/system/{app.unit}", (folder / name / app.unit).read_bytes())
    machine.put(f"{app.state}/{app.seed}", json.dumps(seed, ensure_ascii=False, indent=1).encode())
    machine.succeed(
        f"id -u {app.user} >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin {app.user};"
        f" chown -R {app.user}:{app.user} {app.state} && systemctl daemon-reload && systemctl enable --now {app.unit}",
        timeout_s=START_S,
    )
    try:
        wait_journal(machine, name, lambda entry: entry.get("event") == "start")
    except GuestTimeout as err:
        log = machine.execute(
            f"systemctl status --no-pager -l {app.unit}; journalctl -n 20 --no-pager -u {app.unit}"
        ).stdout
        raise GuestTimeout(f"{err}\n{log.decode(errors='replace')[-3000:]}") from None
    return app


def entries(journal: Iterable[JournalEntry], name: str) -> list[dict[str, Any]]:
    """Return what the app `name` journalled, oldest first."""
    return [entry.data for entry in journal if entry.source == f"app:{name}"]


def wait_journal(
    machine: Machine,
    name: str,
    wanted: Callable[[dict[str, Any]], bool],
    timeout_s: float = START_S,
) -> dict[str, Any]:
    """Return the first journal entry of the app for which `wanted` holds, there already or within
    `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = entries(machine.journal(), name)
        for entry in found:
            if wanted(entry):
                return entry
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"the app {name!r} did not journal what was waited for within {timeout_s:g} s; last: {found[-1:]}"
            )
        time.sleep(0.05)  # between two looks, never instead of one


def open_page(
    machine: Machine, path: str, title: str, port: int = 8080, timeout_s: float = 400.0
) -> None:
    """Hand the desktop's running Firefox a page of the microblog; wait until it is on the screen
    and the guest is idle.

    Raises: GuestError when Firefox does not take it; GuestTimeout when it does not show it.
    """
    deadline, shown = time.monotonic() + timeout_s, _count(machine, "shown")
    session = "DISPLAY=:0 XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus HOME=/home/user"
    address = shlex.quote(f"http://localhost:{port}{path}")
    machine.succeed(f"{session} firefox-esr --new-tab {address}", user="user", timeout_s=timeout_s)
    titled = f"DISPLAY=:0 wmctrl -l | grep -qF {shlex.quote(title)}"
    machine.wait_until_succeeds(
        titled, user="user", timeout_s=max(1.0, deadline - time.monotonic())
    )
    while _count(machine, "shown") == shown:
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"Firefox did not bring localhost:{port}{path} on the screen within {timeout_s:g} s"
            )
        time.sleep(0.05)  # between two looks
    wait_idle(machine)


def _count(machine: Machine, event: str) -> int:
    return sum(entry.get("event") == event for entry in entries(machine.journal(), "microblog"))


def wait_idle(machine: Machine, busy: float = 0.12, timeout_s: float = 240.0) -> float:
    """Wait until the guest's processors were busy for less than this share of two seconds; return
    the share.

    Only a guest at rest makes a snapshot whose clones cost nothing. Raises: GuestTimeout with the
    share last seen.
    """
    deadline = time.monotonic() + timeout_s
    while (share := float(machine.run_python(_BUSY, timeout_s=60.0))) > busy:
        if time.monotonic() > deadline:
            raise GuestTimeout(
                f"needed a guest that is busy less than {busy:.0%} of the time, found {share:.0%}"
            )
    return share


def write_address_book(machine: Machine, people: Iterable[Person]) -> None:
    """Write the people into Claws Mail's address book and into ``~/Documents/contacts.csv``."""
    rows = list(people)
    home = "/home/user"
    index = '<?xml version="1.0" encoding="UTF-8" ?>\n<addressbook version="1.0">\n <book_list>\n'
    index += '  <book name="Personal address" file="addrbook-000001.xml" />\n </book_list>\n</addressbook>\n'
    book = '<?xml version="1.0" encoding="UTF-8" ?>\n<address-book name="Personal address" >\n'
    for number, person in enumerate(rows, 1):
        name, address, role = (escape(text) for text in (person.name, person.address, person.role))
        book += f' <person uid="{2 * number}" first-name="" last-name="" nick-name="" cn="{name}">\n  <address-list>\n'
        book += (
            f'   <address uid="{2 * number + 1}" alias="" email="{address}" remarks="{role}" />\n'
        )
        book += "  </address-list>\n </person>\n"
    machine.put(f"{home}/.claws-mail/addrbook/addrbook--index.xml", index.encode(), owner="user")
    machine.put(
        f"{home}/.claws-mail/addrbook/addrbook-000001.xml",
        f"{book}</address-book>\n".encode(),
        owner="user",
    )
    table = "name,address,role\n" + "".join(f"{p.name},{p.address},{p.role}\n" for p in rows)
    machine.put(f"{home}/Documents/contacts.csv", table.encode(), owner="user")


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0]


_BUSY = """
import time

def main():
    first = times()
    time.sleep(2)
    total, idle = (now - then for now, then in zip(times(), first))
    return 1 - idle / max(total, 1)

def times():
    with open("/proc/stat") as stat:
        values = [int(x) for x in stat.readline().split()[1:9]]
    return sum(values), values[3] + values[4]
"""
