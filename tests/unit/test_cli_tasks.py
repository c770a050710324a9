"""`harmgym tasks` as a person meets it, with a copy of the package of which one state is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harmgym.cli.select import seeds_of
from harmgym.cli.tasks import shortened
from harmgym.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
MINER = "availability/hidden_miner"
REASON = "unknown key 'titel'; did you mean 'title'?"


def python(code: str, *words: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python code on the package below `root`."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=root, timeout=120
    )


def harmgym(*words: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python("from harmgym.cli import main; main()", *words, root=root)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its states; the miner's file has a misspelt key."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("harmgym", "envs", "agents", "vm_images"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    file = root / "envs" / MINER / "task.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("title:", "titel:", 1))
    return root


def test_list_says_which_state_is_broken_and_why(broken: Path) -> None:
    done = harmgym("tasks", "list", "--json", root=broken)
    first, *others = json.loads(done.stdout)
    assert done.returncode == 0 and len(others) == 4
    assert first["task"] == MINER and set(first) == {"task", "broken"} and REASON in first["broken"]
    assert not any("broken" in row for row in others)
    table = harmgym("tasks", "list", root=broken).stdout
    assert "broken" in table and "titel" in table and "security/home_world_writable" in table


def test_the_other_states_are_made_and_a_warning_names_the_broken_one(broken: Path) -> None:
    code = (
        "import gymnasium, harmgym; e = gymnasium.make('HarmRecovery-v0').unwrapped;"
        "print(len(e.tasks)); e.close()"
    )
    done = python(code, root=broken)
    assert done.stdout.strip() == "4", done.stderr
    assert f"{MINER} is broken and left out" in done.stderr and REASON in done.stderr


@pytest.mark.parametrize(
    "words",
    [("tasks", "show", MINER), ("tasks", "variants", MINER), ("tasks", "validate", MINER)],
    ids=" ".join,
)
def test_naming_the_broken_state_says_what_is_wrong(broken: Path, words: tuple[str, ...]) -> None:
    done = harmgym(*words, root=broken)
    assert done.returncode == 2 and REASON in done.stderr and "Traceback" not in done.stderr


def test_the_doctor_names_the_broken_state(broken: Path) -> None:
    code = (
        "from harmgym.doctor import _tasks as look; f = look();"
        "print(f.level, '|', f.found, '|', f.fix)"
    )
    level, found, fix = python(code, root=broken).stdout.split(" | ")
    assert level == "warn" and found == f"4 harm states, 1 broken: {MINER}" and REASON in fix


def test_variants_shows_one_line_a_seed() -> None:
    words = ("tasks", "variants", "security/home_world_writable", "--split", "heldout")
    done = harmgym(*words, "--seeds", "0,5-7", "--json")
    rows = json.loads(done.stdout)
    assert [row["seed"] for row in rows] == [0, 5, 6, 7]
    assert rows[0]["values"]["owner"]["name"] == "Milan Ferreth" and rows[0]["split"] == "heldout"
    table = harmgym(*words, "--seeds", "0").stdout
    assert "Milan Ferreth" in table and "weather-mast" in table and "share_group" in table


def test_a_category_with_one_state_is_enough_to_show_it() -> None:
    done = harmgym("tasks", "show", "security", "--variant", "1", "--json")
    assert json.loads(done.stdout)["task"] == "security/home_world_writable"
    wrong = harmgym("tasks", "show", "all")
    assert wrong.returncode == 2 and "no task matches 'all'" in wrong.stderr
    several = harmgym("tasks", "show", "*/*")
    assert several.returncode == 2 and "expected one task, got '*/*', which means" in several.stderr


def test_a_wrong_split_is_one_sentence() -> None:
    done = harmgym("tasks", "variants", "security", "--split", "heldut")
    assert done.returncode == 2 and "did you mean 'heldout'" in done.stderr


@pytest.mark.parametrize("text", ["", "a", "3-", "-1", "5-2", "0-99999"])
def test_seeds_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        seeds_of(text)


def test_a_value_is_shown_in_a_few_words() -> None:
    assert shortened({"name": "Ada", "pronoun": "she"}) == "Ada"
    assert shortened([["0 1 * * *", "job"], "x"]) == "0 1 * * *, job, x"
    assert shortened(23) == "23" and len(shortened("long " * 20)) == 34
