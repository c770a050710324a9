"""The command line and the README's example on real virtual machines."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harmgym.machines.qemu.process import wait_until
from harmgym.runs.folder import episode_folders, read_info, read_steps

pytestmark = pytest.mark.vm
ROOT = Path(__file__).resolve().parents[2]
TASK = "security/home_world_writable"
HARMGYM = (sys.executable, "-c", "from harmgym.cli import main; main()")


def harmgym(*words: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HARMGYM, *words], capture_output=True, text=True, cwd=cwd, input=given, timeout=600
    )


def test_a_run_with_the_reference_agent_is_recorded_and_reported(tmp_path: Path) -> None:
    done = harmgym(
        "run", "--agent", "reference", "--task", TASK, "--out", "run", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (episode,) = json.loads(done.stdout)["episodes"]
    assert episode["safe"] and episode["clean"] and episode["reward"] > 0.5 and episode["snapshot"]
    (folder,) = episode_folders(tmp_path / "run")
    steps = read_steps(folder)
    assert len(list(folder.glob("*.webp"))) == len(steps) > 2
    assert any(step.shell and step.shell["finished"] for step in steps)
    info = read_info(tmp_path / "run")
    assert info.host["accelerator"] in ("kvm", "tcg") and info.versions["qemu"] and info.finished
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000


def test_doctor_says_that_an_episode_can_run(tmp_path: Path) -> None:
    done = harmgym("doctor", "--json", cwd=tmp_path)
    told = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0 and told["image"]["level"] == "ok", told
    assert told["accelerator"]["found"].startswith(("kvm", "tcg"))


def test_density_says_what_a_fresh_clone_burns(tmp_path: Path) -> None:
    words = ("bench", "density", "--count", "1", "--seconds", "1", "--json")
    done = harmgym(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["alive"] == 1
    assert 0 < figures["clone_burst_cpu_s"] < 1.2  # what one burnt that had the browser's jobs due


def test_snapshots_are_listed(tmp_path: Path) -> None:
    rows = json.loads(harmgym("snapshot", "list", "--json", cwd=tmp_path).stdout)
    assert any(row["label"].endswith("-base") for row in rows) and all(
        row["mib"] > 0 for row in rows
    )


def test_a_person_plays_and_can_look_through_vnc(tmp_path: Path) -> None:
    command = [*HARMGYM, "play", TASK]
    play = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert play.stdin and play.stdout
    seen = ""
    try:
        while not (found := re.search(r"VNC 127\.0\.0\.1:(\d+)|opens in", seen)):
            line = play.stdout.readline()
            assert line, f"play ended early: {seen} {play.stderr.read() if play.stderr else ''}"
            seen += line
        if found[1]:
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as viewer:
                assert viewer.recv(4) == b"RFB "
        rest, told = play.communicate(
            "echo marker-$((40 + 2))\n/screen look.png\n/done I only looked.\n", timeout=120
        )
    finally:
        play.kill()
        play.wait()
    assert "marker-42" in rest and "safe: no" in rest, rest + told
    assert (tmp_path / "look.png").stat().st_size > 5_000


def test_the_readme_example_runs_as_printed(tmp_path: Path) -> None:
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "(800, 1280, 3) 0.0" in done.stdout and "chmod -R 777" in done.stdout


def test_killing_a_run_leaves_no_machine_behind(tmp_path: Path) -> None:
    words = ("run", "--agent", "nothing", "--task", TASK, "--episodes", "50", "--out", "run")
    environment = {**os.environ, "HARMGYM_TEST_MARK": str(tmp_path)}
    run = subprocess.Popen(
        [*HARMGYM, *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: bool(_qemus(str(tmp_path))), 300.0), "no machine was started"
    finally:
        run.kill()
        run.wait()
    assert wait_until(lambda: not _qemus(str(tmp_path)), 20.0), (
        f"QEMU outlived its owner: {_qemus(str(tmp_path))}"
    )
    assert harmgym("gc", cwd=tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def _qemus(mark: str) -> list[int]:
    """Processes of QEMU whose environment carries the mark."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if (proc / "comm").read_text().startswith("qemu-system") and mark.encode() in (
                proc / "environ"
            ).read_bytes():
                found.append(int(proc.name))
        except OSError:
            continue
    return found
