"""The command line as a person meets it: in a process of its own, on simulated machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sample_run
import typer.main

from harmgym.cli import app


def harmgym(
    *words: str, cwd: Path | None = None, given: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from harmgym.cli import main; main()", *words]
    environment = {**os.environ, **env}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, input=given, timeout=120
    )


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(node: object, words: tuple[str, ...]) -> None:
        for name, child in getattr(node, "commands", {}).items():
            (
                walk(child, (*words, name))
                if hasattr(child, "commands")
                else found.append((*words, name))
            )

    walk(typer.main.get_command(app), ())
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    node = typer.main.get_command(app)
    for word in words:
        node = node.commands[word]  # type: ignore[attr-defined]
    assert f"Example: harmgym {words[0]}" in (node.help or ""), (
        f"harmgym {' '.join(words)} --help needs an Example"
    )


def test_help_names_the_commands() -> None:
    done = harmgym("--help")
    assert done.returncode == 0
    for word in ("run", "play", "doctor", "report", "image", "snapshot", "tasks", "bench", "gc"):
        assert word in done.stdout


def test_a_run_prints_its_table_and_writes_its_report(tmp_path: Path) -> None:
    done = harmgym(
        "run", "--machines", "fake", "--agent", "reference", "--out", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "integrity/lost_report" in done.stdout and "yes" in done.stdout and "100%" in done.stdout
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_a_run_as_json(tmp_path: Path) -> None:
    words = (
        "run",
        "--machines",
        "fake",
        "--agent",
        "nothing",
        "--task",
        "security",
        "--episodes",
        "2",
        "--out",
        "out",
        "--json",
    )
    done = harmgym(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["summary"]["safe"] == 0.0 and len(told["episodes"]) == 2


def test_the_default_folder_names_the_agent(tmp_path: Path) -> None:
    done = harmgym(
        "run",
        "--machines",
        "fake",
        "--agent",
        "nothing",
        "--task",
        "security/open_key",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("nothing-2")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "--machines", "fake", "--agent", "referense"), "has no plan 'referense'"),
        (
            ("run", "--machines", "fake", "--task", "integrity/lost_reports"),
            "no task of the fake machines matches",
        ),
        (("run", "--machines", "vmware"), "needed machines to be 'qemu', 'fake'"),
        (
            ("run", "--machines", "fake", "--reward", "niceness"),
            "reward: Input should be 'preference'",
        ),
        (
            ("run", "--machines", "fake", "--split", "test"),
            "split: Input should be 'train' or 'heldout'",
        ),
        (
            ("tasks", "show", "security/home_world_writeable"),
            "did you mean 'security/home_world_writable'",
        ),
        (("tasks", "list", "securty"), "did you mean 'security'"),
        (("report", "."), "needed a run folder with run.json"),
        (("snapshot", "list"), "is not built; build it with: harmgym image build"),
        (("image", "build", "debian-13"), "debian-13"),
        (("play", "security/nothing_here"), "no task matches"),
    ],
    ids=" ".join,
)
def test_bad_input_gets_one_sentence(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    done = harmgym(*words, cwd=tmp_path, HARMGYM_CACHE=str(tmp_path / "cache"))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert sentence in last and last.startswith("harmgym: ") and "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in harmgym("--debug", "report", ".", cwd=tmp_path).stderr


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = harmgym("run", "--machines", "fake", "--out", ".", cwd=tmp_path)
    assert done.returncode == 2 and "needed an empty or new folder" in done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_a_read_only_place_is_named(tmp_path: Path) -> None:
    done = harmgym("run", "--machines", "fake", "--out", "/proc/run")
    assert done.returncode == 2 and "cannot be used as a run folder" in done.stderr


def test_report_of_a_run_that_is_there(tmp_path: Path) -> None:
    sample_run.make_run(tmp_path / "run")
    done = harmgym("report", "run", "--out", "page.html", cwd=tmp_path)
    assert (
        done.returncode == 0
        and (tmp_path / "page.html").is_file()
        and "machine fault" in done.stdout
    )


def test_a_person_plays_and_is_judged() -> None:
    lines = (
        "ls .ssh\n/click 10\n/wrong\n/say I am looking into it.\n"
        "chmod 600 .ssh/id_work\n/done I set the key to 600.\n"
    )
    done = harmgym("play", "security/open_key", "--machines", "fake", given=lines)
    assert done.returncode == 0, done.stderr
    assert (
        "id_work" in done.stdout
        and "cannot be read" in done.stdout
        and "unknown command '/wrong'" in done.stdout
    )
    assert "safe: yes" in done.stdout and "key is private" in done.stdout


def test_a_person_may_leave() -> None:
    done = harmgym("play", "security/open_key", "--machines", "fake", given="/help\n/quit\n")
    assert done.returncode == 0 and "left without a verdict" in done.stderr


def test_doctor_as_json(tmp_path: Path) -> None:
    done = harmgym("doctor", "--json", HARMGYM_CACHE=str(tmp_path))
    told = json.loads(done.stdout)
    assert {"python", "qemu", "accelerator", "memory", "image"} <= {
        f["name"] for f in told["findings"]
    }
    assert done.returncode == (0 if told["ok"] else 1)


def test_doctor_exits_with_no_when_no_episode_could_run(tmp_path: Path) -> None:
    done = harmgym("doctor", HARMGYM_CACHE=str(tmp_path), PATH="/nowhere")
    assert done.returncode == 1 and "No episode can run here yet" in done.stdout
    assert "apt-get install qemu-system-x86" in done.stdout


def test_tasks_as_json() -> None:
    rows = json.loads(harmgym("tasks", "list", "--json").stdout)
    assert rows and all(
        {"task", "title", "scenario", "variants", "plans"} <= set(row) for row in rows
    )


def test_gc_says_what_it_did() -> None:
    done = harmgym("gc")
    assert done.returncode == 0 and "left-over machine folder" in done.stderr


def test_ctrl_c_keeps_the_finished_episodes(tmp_path: Path) -> None:
    words = (
        "run",
        "--machines",
        "fake",
        "--agent",
        "random",
        "--task",
        "security/open_key",
        "-n",
        "500",
        "--out",
        "out",
    )
    command = [sys.executable, "-c", "from harmgym.cli import main; main()", *words]
    run = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "episodes" / "001").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130, told
    assert (
        "interrupted" in told and "the same command continues" in told and "Traceback" not in told
    )
    folders = list((tmp_path / "out" / "episodes").iterdir())
    assert len(folders) >= 2 and all(
        f.name.isdigit() and (f / "episode.json").is_file() for f in folders
    )
    assert harmgym("report", "out", cwd=tmp_path).returncode == 0


def test_flags_are_shown_without_a_value_in_the_help() -> None:
    said = harmgym("preference", "card", "--help").stdout
    (line,) = [line for line in said.splitlines() if "--encoder" in line]
    assert "<bool>" not in line and "BOOL" not in line


def test_the_labelling_page_says_what_to_install(tmp_path: Path) -> None:
    pair = {
        "scenario": {"id": "one", "text": "It beeps."},
        "a": {"id": "x", "text": "Stop it."},
        "b": {"id": "y", "text": "Ask."},
    }
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    code = "import sys; sys.modules['uvicorn'] = None; from harmgym.cli import main; main()"
    command = [sys.executable, "-c", code, "label", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert 'needs uvicorn: pip install "harmgym[label]"' in done.stderr
    assert not (tmp_path / "labels.sqlite").exists()
