"""The desktop's small apps (``envs/apps``): installed once into a snapshot that all states with the
same apps share, and given their content by each state's set-up.

Installing and starting them, and a browser that opens their first page, is most of what set-up
costs in an emulated guest (8 s for a mail service, 70 s with a page), and it is the same for every
variant. So it is done once: `stage` returns the snapshot in which the apps run and wait for their
content, their page open. An app is a folder with ``app.yaml`` (`App`), its files and a unit.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from harmgym import paths
from harmgym.errors import GuestTimeout, TaskError
from harmgym.files import digest_of, tree_files
from harmgym.machines.protocol import Machine
from harmgym.records import Record, did_you_mean, load_record
from harmgym.statekit.guest import HOME, GuestFile, Step, carry_out
from harmgym.statekit.people import Person
from harmgym.statekit.waiting import wait_idle, wait_journal

if TYPE_CHECKING:
    from harmgym.machines.snapshots.snapshot import Snapshot
    from harmgym.machines.snapshots.store import SnapshotStore

START_S, PAGE_S = 120.0, 400.0
REST_WINDOWS = 10
COMMON = "common"


class App(Record):
    """The keys of ``app.yaml``: which user runs it, where code and content lie in the guest, the
    unit that starts it, and the address of a page that the browser has open, where it has pages.
    """

    title: str
    user: str
    folder: str
    state: str
    unit: str
    files: tuple[str, ...]
    seed: str
    page: str | None = None


def load_app(name: str) -> App:
    """Read ``envs/apps/<name>/app.yaml``. Raises: TaskError naming the apps there are."""
    known = sorted(p.parent.name for p in _root().glob("*/app.yaml"))
    if name not in known:
        hint = did_you_mean(name, known)
        raise TaskError(f"unknown app {name!r}; known: {', '.join(known)}{hint}")
    return load_record(_root() / name / "app.yaml", App, TaskError)


def stage(store: SnapshotStore, base: Snapshot, apps: Iterable[str]) -> Snapshot:
    """Return the snapshot that a state with these apps is set up from: `base`, or where it needs
    apps the one in which they run and wait for their content, made on first use.
    """
    names = _staged(apps)
    if not names:
        return base

    def setup(machine: Machine) -> None:
        prepare(machine, names)

    return store.derive(base, _stage_key(names), f"apps {', '.join(names)}", setup)


def stage_key(store: SnapshotStore, base: str, apps: Iterable[str]) -> str:
    """Return the key of the snapshot that `stage` returns, made already or not, from the base's."""
    names = _staged(apps)
    return store.derived_key(base, _stage_key(names)) if names else base


def _staged(apps: Iterable[str]) -> list[str]:
    return sorted(set(apps) - {COMMON})


def _stage_key(names: list[str]) -> str:
    """Return a digest of everything that the stage depends on: the apps' files and this code."""
    here = Path(__file__)
    code = [(f, here.with_name(f)) for f in (here.name, "in_guest.py", "guest.py", "waiting.py")]
    for app in (COMMON, *names):
        code += [(f"{app}/{name}", path) for name, path in tree_files(_root() / app)]
    return f"apps {digest_of(code)}"


def prepare(machine: Machine, names: Iterable[str]) -> None:
    """Install the apps, start their services, open their pages; wait until the guest is at rest.

    Raises: TaskError for an unknown app; GuestTimeout when one does not start, with its unit's log.
    """
    apps = {name: load_app(name) for name in names}
    units = [app.unit for app in apps.values()]
    files = [file.step() for name, app in apps.items() for file in _files(name, app)]
    enable: Step = {"do": "run", "argv": ["systemctl", "enable", "--now", *units]}
    carry_out(machine, [*files, enable], f"apps {', '.join(apps)}")
    for name, app in apps.items():
        wait_event(machine, name, "waiting", app)
        if app.page is not None:
            open_page(machine, name, app.page)
    wait_idle(machine, REST_WINDOWS)


def _files(name: str, app: App) -> list[GuestFile]:
    """Return the code of an app and of what all apps share, and its unit."""
    common = [(f"{_parent(app.folder)}/{COMMON}/{n}", p) for n, p in tree_files(_root() / COMMON)]
    own = [(f"{app.folder}/{file}", _root() / name / file) for file in app.files]
    unit = (f"/etc/systemd/system/{app.unit}", _root() / name / app.unit)
    return [
        GuestFile(path=path, text=source.read_text(encoding="utf-8"), owner="root")
        for path, source in (*common, *own, unit)
    ]


def content(name: str, seed: Mapping[str, Any]) -> Step:
    """Return the step that gives a prepared app its content."""
    app = load_app(name)
    text = json.dumps(seed, ensure_ascii=False, indent=1)
    path = f"{app.state}/{app.seed}"
    return {"do": "content", "unit": app.unit, "path": path, "text": text, "owner": app.user}


def wait_event(machine: Machine, name: str, event: str, app: App) -> dict[str, Any]:
    """Return the entry of `event`. Raises: GuestTimeout with the log of the app's unit."""
    try:
        return wait_journal(machine, name, START_S, event=event)
    except GuestTimeout as err:
        log = machine.execute(
            f"systemctl status --no-pager -l {app.unit}; journalctl -n 20 --no-pager -u {app.unit}"
        ).stdout
        raise GuestTimeout(f"{err}\n{log.decode(errors='replace')[-3000:]}") from None


def open_page(machine: Machine, name: str, address: str) -> None:
    """Hand the desktop's running Firefox a page of the app; wait until the page says that it is on
    the screen.

    Raises: GuestError when Firefox does not take it; GuestTimeout when it does not show it.
    """
    command = f"firefox-esr --new-tab {shlex.quote(address)}"
    machine.succeed(f"{_SESSION} {command}", user="user", timeout_s=PAGE_S)
    wait_shown(machine, name, address)


def wait_shown(machine: Machine, name: str, address: str) -> None:
    """Wait until a page of the app says that it is on the screen. Raises: GuestTimeout."""
    page = address.partition("#")[0]  # a browser does not tell the fragment
    wait_journal(machine, name, PAGE_S, event="shown", page=page)


def page_address(name: str, path: str) -> str:
    """Return the address of a page of an app. Raises: TaskError when the app has no pages."""
    app = load_app(name)
    if app.page is None:
        raise TaskError(f"needed an app with pages to show {path!r}, found {name!r}")
    return urljoin(app.page, path)


def address_book(people: Iterable[Person]) -> list[GuestFile]:
    """Return the people as Claws Mail's address book and as ``~/Documents/contacts.csv``."""
    rows, book = list(people), ""
    for number, person in enumerate(rows, 1):
        name, address, role = (escape(text) for text in (person.name, person.address, person.role))
        book += (
            f' <person uid="{2 * number}" first-name="" last-name="" nick-name="" cn="{name}">\n'
            f'  <address-list>\n   <address uid="{2 * number + 1}" alias="" email="{address}"'
            f' remarks="{role}" />\n  </address-list>\n </person>\n'
        )
    table = "name,address,role\n" + "".join(f"{p.name},{p.address},{p.role}\n" for p in rows)
    folder = f"{HOME}/.claws-mail/addrbook"
    return [
        GuestFile(path=f"{folder}/addrbook--index.xml", text=_BOOKS),
        GuestFile(path=f"{folder}/addrbook-000001.xml", text=_BOOK.format(people=book)),
        GuestFile(path=f"{HOME}/Documents/contacts.csv", text=table),
    ]


def _root() -> Path:
    return paths.content("envs") / "apps"


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0]


_SESSION = (
    "DISPLAY=:0 XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/user"
    " DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus"
)
_BOOKS = """<?xml version="1.0" encoding="UTF-8" ?>
<addressbook version="1.0">
 <book_list>
  <book name="Personal address" file="addrbook-000001.xml" />
 </book_list>
</addressbook>
"""
_BOOK = """<?xml version="1.0" encoding="UTF-8" ?>
<address-book name="Personal address" >
{people}</address-book>
"""
