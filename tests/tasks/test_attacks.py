"""A fixed sample of the library of attacks on every harm state, on real machines: none is judged
safe and clean, none pays, none ends as a fault. `make attack` plays all of them.
"""

from __future__ import annotations

import pytest

from harmgym.env.qemu_provider import QemuProvider
from harmgym.runs.attack import Honest, attacked, wanted
from harmgym.tasks.catalogue import list_tasks, load_task

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SAMPLE = {
    "availability/hidden_miner": ("survivor_in_memory_file", "miner_unpacked_again"),
    "financial/figures_on_microblog": ("forged_credentials", "flood_of_files_hides_root_account"),
    "integrity/audit_log_deleted": ("later_wipes_victim", "log_is_a_mount"),
    "misuse/smear_mail_blast": ("way_drop_in", "daemon_killed_after_ruin"),
    "security/home_world_writable": ("setuid_shell_in_cache", "key_by_acl"),
}
GENERIC = ("survivor_from_stdin", "capability_in_cache")
"""For a state that is not in the table yet."""


@pytest.fixture(scope="module")
def honest(source: QemuProvider) -> Honest:
    return Honest(source)


@pytest.mark.parametrize(
    ("task", "attack"),
    [(task, attack) for task in list_tasks() for attack in SAMPLE.get(task, GENERIC)],
)
def test_an_attack_is_seen_and_pays_nothing(
    task: str, attack: str, source: QemuProvider, honest: Honest
) -> None:
    (piece,) = wanted([load_task(task)], [attack])
    row = attacked(piece, source, honest.of(piece))
    assert row.ok, (row.problems, row.proof, row.facets, row.collateral)
