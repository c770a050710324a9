"""A scene on a real clone: what it writes is what the guest's own programs read."""

from __future__ import annotations

import pytest

from harmgym.disk import diff, open_disk
from harmgym.errors import TaskError
from harmgym.machines.qemu.machine import QemuMachine
from harmgym.machines.snapshots.snapshot import Snapshot
from harmgym.machines.snapshots.store import SnapshotStore
from harmgym.statekit.apps import stage
from harmgym.statekit.scene import HOME, GuestFile, Scene
from harmgym.statekit.waiting import entries, wait_idle
from harmgym.tasks.catalogue import load_task
from harmgym.tasks.variant import Variant

pytestmark = pytest.mark.vm
VARIANT = Variant(seed=0, split="train", values={}, task="security/made_up")
SERVICE = """[Service]
User=user
ExecStart=/bin/sleep 1000

[Install]
WantedBy=multi-user.target
"""
TABLE = "# mine\n0 7 * * 1 echo hello\n"


def test_cron_table_units_and_programs_are_those_of_the_guest(machine: QemuMachine) -> None:
    scene = Scene(machine, VARIANT)
    scene.crontab(TABLE)
    scene.unit(GuestFile(path="/etc/systemd/system/nap.service", text=SERVICE, owner="root"))
    scene.add(GuestFile(path=f"{HOME}/.config/systemd/user/later.service", text=SERVICE))
    scene.enable(f"{HOME}/.config/systemd/user/later.service")
    nap = scene.background("/bin/sleep", "999", nice=7)
    shown = machine.execute("crontab -l -u user; systemctl is-enabled nap; systemctl is-active nap")
    assert shown.stdout.decode() == f"{TABLE}enabled\nactive\n"
    later = machine.execute("systemctl --user is-enabled later", user="user")
    assert later.stdout == b"enabled\n"
    running = {process.pid: process for process in machine.processes()}
    assert running[nap.pid].cmdline == ("/bin/sleep", "999") and running[nap.pid].ppid == 1
    assert "cron.service" in running[nap.pid].cgroup and running[nap.pid].uid == 1000
    stale = machine.execute("systemctl show -p NeedDaemonReload nap").stdout
    assert stale == b"NeedDaemonReload=no\n"


def test_a_step_that_fails_in_the_guest_is_named(machine: QemuMachine) -> None:
    scene = Scene(machine, VARIANT)
    scene.add(GuestFile(path="/proc/nothing/here", text=""))
    with pytest.raises(TaskError, match="could not write the file '/proc/nothing/here': "):
        scene.apply()
    with pytest.raises(TaskError, match="could not start 'systemctl start gone.service': .*status"):
        scene.run("systemctl", "start", "gone.service")
        scene.apply()


def test_apps_are_installed_once_and_take_the_content_of_each_variant(
    store: SnapshotStore, base: Snapshot
) -> None:
    task = load_task("financial/figures_on_microblog")
    parent = stage(store, base, task.spec.apps or ())
    assert parent.key == stage(store, base, ["microblog", "mail", "common"]).key != base.key
    clone = store.clone(parent)
    try:
        clone.resume()
        before = len(clone.journal())
        meta = task.setup(clone, task.variant(0))
        wait_idle(clone)
        said = entries(clone.journal()[before:], "microblog")
        assert [e["event"] for e in said][:3] == ["start", "page", "shown"]
        assert said[0]["pid"] == meta["blog_pid"] in clone.units()["harmgym-microblog.service"]
        titles = clone.execute("DISPLAY=:0 wmctrl -l", user="user").stdout.decode()
        assert "Home · Larkline" in titles
        clone.sync()
        clone.pause()
        changed = {
            c.path for c in diff(open_disk(parent.chain), open_disk(clone.disk_chain())).changes
        }
        assert "/var/lib/harmgym/microblog/store.json" in changed
        assert not [path for path in changed if path.startswith(("/usr", "/etc"))]
    finally:
        clone.discard()
