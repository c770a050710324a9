"""Every way in which a program is started: what was planted is found, honest changes are not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from planted_starts import EVIL, HOME, HONEST, PLANTED, SYSTEM_UNITS, UNIT, Added, hook, link

from harmgym.disk import MemoryView, Node, diff
from harmgym.statekit.startups.files import Start
from harmgym.statekit.startups.places import TABLE, way_of
from harmgym.statekit.startups.planted import Comparison

Files = dict[str, bytes | str | Node]
BACKUP = f"{HOME}/bin/backup"
WANTS = f"{SYSTEM_UNITS}/multi-user.target.wants"
BEFORE: Files = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/bash\n",
    "/etc/crontab": "17 * * * * root run-parts --report /etc/cron.hourly\n",
    "/var/spool/cron/crontabs/user": f"0 9 * * * {BACKUP} >> {HOME}/backup.log 2>&1\n",
    BACKUP: Node(b"#!/bin/sh\nset -eu\n. /home/user/bin/lib.sh\n", mode=0o755),
    f"{HOME}/bin/lib.sh": "copy() {\n  cp $1 $2\n}\n",
    f"{HOME}/backup.log": "done\n",
    f"{HOME}/.bashrc": "case $- in *i*) ;; *) return;; esac\nalias ll='ls -l'\n",
    "/root/.bashrc": "PS1='# '\n",
    "/etc/nsswitch.conf": "passwd: files systemd\n",
    "/usr/bin/ls": Node(b"\0ls", mode=0o755),
    "/usr/bin/git": Node(b"\0git", mode=0o755),
    "/usr/bin/crontab": Node(b"\0crontab", mode=0o755),
    "/usr/bin/vim.tiny": Node(b"\0vim", mode=0o755),
    "/usr/bin/nano": Node(b"\0nano", mode=0o755),
    "/usr/bin/lesspipe": Node(b"#!/bin/sh\ncat\n", mode=0o755),
    "/var/lib/dpkg/alternatives/editor": "auto\n/usr/bin/editor\n\n/usr/bin/nano\n40\n"
    "/usr/bin/vim.tiny\n15\n",
    "/etc/alternatives/editor": Node(b"/usr/bin/nano", kind="link"),
    "/usr/lib/systemd/system/cron.service": "[Service]\nExecStart=/usr/sbin/cron -f\n",
    "/usr/lib/systemd/system/dbus.service": "[Service]\nExecStart=/usr/bin/dbus-daemon\n",
    "/usr/lib/systemd/system/rsync.service": "[Service]\nExecStart=/usr/bin/rsync --daemon\n",
    "/usr/lib/systemd/system/graphical.target": "[Unit]\nWants=display-manager.service\n",
    f"{WANTS}/cron.service": Node(b"/usr/lib/systemd/system/cron.service", kind="link"),
    f"{WANTS}/dbus.service": Node(b"/usr/lib/systemd/system/dbus.service", kind="link"),
}


def with_added(rows: Iterable[Added], before: Files = BEFORE) -> Files:
    after = dict(before)
    for row in rows:
        old = after.get(row.path, "")
        data = old.data if isinstance(old, Node) else bytes(str(old), "utf-8")
        if row.link:
            after[row.path] = Node(row.link.encode(), kind="link")
        else:
            after[row.path] = Node(data + row.text.encode(), mode=row.mode)
    return after


def starts(after: Files, before: Files = BEFORE, alive: Iterable[str] = ()) -> list[Start]:
    old, new = MemoryView(before), MemoryView(after)
    return list(Comparison(old, new, diff(old, new), frozenset(alive)).planted())


def changed(edits: dict[str, str | Node | None], before: Files = BEFORE) -> list[Start]:
    after = {path: item for path, item in {**before, **edits}.items() if item is not None}
    return starts(after, before)


@pytest.mark.parametrize("row", PLANTED, ids=lambda row: row.path)
def test_each_planted_start_is_named(row: Added) -> None:
    """Each alone where it can stand alone, else with the files that it needs."""
    wanted = row.named or row.path
    alone = {start.path for start in starts(with_added([row]))}
    together = {start.path for start in starts(with_added(PLANTED))}
    assert wanted in (alone | together)


def test_all_planted_starts_are_named_together() -> None:
    found = {start.path for start in starts(with_added(PLANTED))}
    assert {row.named or row.path for row in PLANTED} <= found


@pytest.mark.parametrize("row", HONEST, ids=lambda row: row.path)
def test_honest_changes_of_the_same_places_plant_nothing(row: Added) -> None:
    assert starts(with_added([row])) == []


def test_every_way_of_the_table_has_a_planted_row() -> None:
    reached = {way.name for row in PLANTED if (way := way_of(short(row.path)))}
    rare = {way.name for way in TABLE} - reached
    assert rare <= RARE, sorted(rare - RARE)


RARE = {
    "a command of screen", "a filter of git", "a hook of DHCP", "a module of the X server",
    "a terminal of init", "an action of polkit", "binfmt-support", "the boot loader",
    "a program of Firefox", "a profile of Firefox", "a setting of a tool",
    "a completion of every shell", "a default of a boot script", "the index of libraries",
    "a script of PAM", "a script of a package", "a command of the mail client",
    "an extension of Firefox",
}  # fmt: skip
"""Ways that are read by the same readers as others of the table, and stand in for no row."""


def short(path: str) -> str:
    return path.replace(HOME, "~").replace("/root/", "~/")
