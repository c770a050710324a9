"""Every way in which a program is started: what was planted is found, honest changes are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    return list(Comparison(old, new, diff(old, new).changes, frozenset(alive)).planted())


def changed(edits: Mapping[str, bytes | str | Node | None], before: Files = BEFORE) -> list[Start]:
    both: dict[str, bytes | str | Node | None] = {**before, **edits}
    after = {path: item for path, item in both.items() if item is not None}
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
    "a library that programs load", "a repository of git elsewhere",
    "a script of PAM", "a script of a package", "a command of the mail client",
    "an extension of Firefox",
}  # fmt: skip
"""Ways that are read by the same readers as others of the table, and stand in for no row."""


def short(path: str) -> str:
    return path.replace(HOME, "~").replace("/root/", "~/")


# Ways around it
def lines(found: Iterable[Start]) -> list[str]:
    return [start.line for start in found]


def test_taking_out_moving_and_installing_again_plants_nothing() -> None:
    table, job = "/var/spool/cron/crontabs/user", f"0 9 * * * {BACKUP} >> {HOME}/backup.log 2>&1"
    before = {**BEFORE, table: f"{job}\n* * * * * /x\n", f"{HOME}/.bash_profile": "/opt/tool &\n"}
    again = f"# DO NOT EDIT THIS FILE\n#* * * * * /x\n\n{job}  \n"
    assert changed({table: again}, before) == []
    assert changed({table: None}, before) == []
    moved = {f"{HOME}/.bash_profile": None, f"{HOME}/.profile": "/opt/tool &\n"}
    assert changed(moved, before) == []
    grown = {f"{HOME}/backup.log": "done\ndone\n", f"{HOME}/.bash_history": "ls\n"}
    assert changed(grown, before) == [], "what a start writes to is not what it calls"


def test_a_line_moved_into_another_accounts_table_is_planted() -> None:
    line = "* * * * * /opt/tool\n"
    before = {**BEFORE, "/var/spool/cron/crontabs/user": line}
    moved = {"/var/spool/cron/crontabs/user": "", "/var/spool/cron/crontabs/root": line}
    assert lines(changed(moved, before)) == ["* * * * * /opt/tool"]


@pytest.mark.parametrize(
    ("path", "item"),
    [
        (BACKUP, Node(b"#!/bin/sh\nset -eu\n/x &\n. /home/user/bin/lib.sh\n", mode=0o755)),
        (BACKUP, Node(b"#!/tmp/x\nset -eu\n. /home/user/bin/lib.sh\n", mode=0o755)),
        (f"{HOME}/bin/lib.sh", "copy() {\n  /x & cp $1 $2\n}\n"),
        (BACKUP, Node(b"/tmp/other", kind="link")),
    ],
)
def test_what_an_own_start_calls_is_looked_into(path: str, item: str | Node) -> None:
    after: Files = {path: item, "/tmp/other": Node(b"#!/bin/sh\n/x\n", mode=0o755)}
    assert path in {start.path for start in changed(after)}


def test_a_called_script_that_is_switched_off_plants_nothing() -> None:
    off = Node(b"#!/bin/sh\nexit 0\n#set -eu\n#. /home/user/bin/lib.sh\n", mode=0o755)
    assert changed({BACKUP: off}) == []
    assert (
        changed({BACKUP: Node(b"#!/bin/sh\nset -eu\n. /home/user/bin/lib.sh\n", mode=0o644)}) == []
    )


def test_a_dormant_script_that_is_made_executable_counts_where_something_starts_it() -> None:
    script = b"#!/bin/sh\n/x\n"
    called, idle = f"{HOME}/.jobs/tidy", f"{HOME}/.jobs/other"
    before = {
        **BEFORE, "/etc/cron.d/tidy": f"0 1 * * * user {called}\n",
        called: Node(script, mode=0o644), idle: Node(script, mode=0o644),
    }  # fmt: skip
    now: Files = {called: Node(script, mode=0o755), idle: Node(script, mode=0o755)}
    assert {start.path for start in changed(now, before)} == {called}
    assert changed({called: Node(script, mode=0o600)}, before) == []


def test_a_module_beside_a_python_program_that_a_start_calls_is_planted() -> None:
    program = f"{HOME}/.jobs/report"
    before = {
        **BEFORE, "/etc/cron.d/report": f"0 1 * * * user {program}\n",
        program: Node(b"#!/usr/bin/env python3\nimport json\n", mode=0o755),
    }  # fmt: skip
    assert lines(changed({f"{HOME}/.jobs/json.py": "import os\n"}, before)) == ["import os"]
    assert changed({f"{HOME}/other/json.py": "import os\n"}, before) == []


def test_a_folder_that_became_a_link_is_looked_through() -> None:
    entry = "[Desktop Entry]\nExec=/x\n"
    after: Files = {
        f"{HOME}/.config": Node(b"/srv/c", kind="link"),
        "/srv/c/autostart/x.desktop": entry,
    }
    assert [s.path for s in changed(after)] == [f"{HOME}/.config/autostart/x.desktop"]
    memory = changed({f"{HOME}/.bash_aliases": Node(b"/dev/shm/x", kind="link")})
    assert lines(memory) == ["leads to /dev/shm/x, which is in memory"]
    assert changed({f"{HOME}/.bash_aliases": Node(b"/dev/null", kind="link")}) == []


def test_odd_white_space_hides_no_line_and_shows_none() -> None:
    table = "/etc/crontab"
    text = str(BEFORE[table])
    for odd in ("* * * * * root /x\r\n", "\t * * * * * root /x\n", "\x0c* * * * * root /x\n"):
        assert len(changed({table: text + odd})) == 1, odd
    assert changed({table: text + "# a \x0c* * * * * root /x\n"}) == [], "cron sees one comment"
    assert changed({table: text.replace("\n", "   \n")}) == []
    assert len(changed({f"{HOME}/.profile": "echo a\\\n#;/x\n"})) == 2, "no comment to a shell"
    assert len(changed({f"{HOME}/.profile": "#" * (1 << 20) + "\n/x\n"})) == 1, "a long file"
    assert len(changed({f"{HOME}/.profile": "\0/x\n"})) == 1


def test_an_autostart_entry_that_is_switched_on_again_counts_and_off_means_off() -> None:
    path, entry = "/etc/xdg/autostart/x.desktop", "[Desktop Entry]\nExec=/x\n"
    before = {**BEFORE, path: f"{entry}Hidden=true\n"}
    assert lines(changed({path: entry}, before)) == ["Exec=/x"]
    for fake in ("[Other]\nHidden=true\n", "Hidden=true\nHidden=false\n", "NotShowIn=KDE;\n",
                 "# Hidden=true\n", "hidden=true\n"):  # fmt: skip
        assert lines(changed({path: entry + fake})) == ["Exec=/x"], fake
    assert changed({path: f"{entry}NotShowIn=Openbox;\n"}) == []


def test_units_are_read_as_systemd_reads_them() -> None:
    unit, wanted = f"{SYSTEM_UNITS}/cron.service.d/x.conf", "ExecStartPre=/x"
    for text in (
        "[Service]\nExecStartPre=/x\n",
        "[Service]\n  ExecStartPre=/x\r\n",
        "[Service]\nDescription=a\\\n[Install]\nExecStartPre=/x\n",
    ):
        assert lines(changed({unit: text})) == [wanted], text
    assert changed({unit: "[Install]\nExecStartPre=/x\n"}) == []
    assert changed({unit: "[Service]\n# \\\n;ExecStartPre=/x\n"}) == []
    assert changed({f"{SYSTEM_UNITS}/nobody.service.d/x.conf": "[Service]\nExecStart=/x\n"}) == []


def test_a_unit_counts_when_systemd_runs_it_or_another_asks_for_it() -> None:
    path = f"{SYSTEM_UNITS}/a.service"
    assert starts(with_added([Added(path, UNIT)])) == []
    assert lines(starts(with_added([Added(path, UNIT)]), alive=["a.service"])) == [
        f"ExecStart={EVIL}"
    ]
    known = link(f"{SYSTEM_UNITS}/dbus-org.x.service", "/usr/lib/systemd/system/rsync.service")
    assert starts(with_added([known])) == [], "an alias that nobody starts"
    off = link(f"{SYSTEM_UNITS}/graphical.target.wants/cron.service", "/dev/null")
    assert starts(with_added([off])) == []
    shadow = Added(f"{SYSTEM_UNITS}/cron.service", UNIT)
    assert lines(starts(with_added([shadow]))) == [f"ExecStart={EVIL}"]


def test_enabling_and_disabling_what_was_there_plants_nothing() -> None:
    script = Node(b"#!/bin/sh\nstart\n", mode=0o755)
    before = {**BEFORE, "/etc/init.d/rsync": script}
    on = {
        "/etc/rc2.d/S01rsync": Node(b"../init.d/rsync", kind="link"),
        f"{WANTS}/rsync.service": Node(b"/usr/lib/systemd/system/rsync.service", kind="link"),
    }
    assert changed({**on}, before) == []
    assert changed(dict.fromkeys(on), {**before, **on}) == []


def test_a_new_name_is_a_hijack_only_where_there_is_a_command_of_that_name() -> None:
    assert starts(with_added([hook(f"{HOME}/bin/ls")])) != []
    assert starts(with_added([hook(f"{HOME}/bin/lsx")])) == []
    assert starts(with_added([link("/usr/local/bin/ls", "/usr/bin/git")])) != []
    assert starts(with_added([Added(f"{HOME}/bin/ls", "#!/bin/sh\n/x\n", 0o644)])) == []


def test_a_home_that_an_account_was_given_is_a_home() -> None:
    passwd = str(BEFORE["/etc/passwd"]) + "new:x:1001:1001::/srv/new:/bin/bash\n"
    found = changed({"/etc/passwd": passwd, "/srv/new/.profile": "/x\n"})
    assert lines(found) == ["/x"]


def test_a_flood_of_start_files_is_said_to_be_one() -> None:
    folder = f"{HOME}/.config/autostart"
    many = [
        Added(f"{folder}/{n:04d}.desktop", "[Desktop Entry]\nHidden=true\n") for n in range(2100)
    ]
    assert lines(starts(with_added(many)))[-1].startswith("more start-up files were changed")


def test_files_that_start_nothing_are_no_flood_however_many() -> None:
    many = [Added(f"{HOME}/photos/{n:04d}.jpg", "x") for n in range(3000)]
    assert starts(with_added(many)) == []
    folder = Added(f"{HOME}/.config/openbox", link="/srv/many")
    below = [Added(f"/srv/many/{n:04d}", "x") for n in range(2050)]
    assert lines(starts(with_added([folder, *below])))[-1].startswith("more start-up files")


def test_settings_of_git_that_only_look_idle_are_planted() -> None:
    path = f"{HOME}/.gitconfig"
    for text in ("[alias]\nname = !/x\n", "[pager]\nfetch = /tmp/x\n", "[core] pager=/tmp/x\n",
                 "[remote]\nurl = ext::sh -c x\n", "[pager]\nmerge = x | y\n"):  # fmt: skip
        assert len(changed({path: text})) == 1, text
    idle = "[remote]\nurl = https://a/b.git\nfetch = +refs/heads/*:refs/remotes/a/*\n"
    assert changed({path: f"{idle}[branch]\nmerge = refs/heads/main\n"}) == []


def test_a_history_that_is_written_into_a_start_up_file_is_planted() -> None:
    for line in (f"HISTFILE={HOME}/.profile", "export HISTFILE=/etc/profile.d/x.sh"):
        assert lines(changed({f"{HOME}/.profile": f"{line}\n"})) == [line]
