"""What README and docs tell a newcomer to type exists, and the Python example runs as printed."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from harmgym.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "agents" / "README.md",
]
README = (ROOT / "README.md").read_text(encoding="utf-8")
README_PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)


def commands(page: Path) -> list[str]:
    """Every `harmgym ...` and `make ...` of a page, in blocks and in backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)).splitlines()
    inline = re.findall(r"`((?:harmgym|make) [^`]+)`", text)
    lines = [line.split("#")[0].strip() for line in [*blocks, *inline]]
    return [line for line in lines if line.startswith(("harmgym ", "make ")) and "..." not in line]


EVERY = [(page.name, line) for page in PAGES for line in commands(page)]


def test_there_is_something_to_check() -> None:
    assert len(EVERY) > 15 and len(README_PYTHON) == 1


@pytest.mark.parametrize(("page", "line"), EVERY, ids=[f"{p}: {line}" for p, line in EVERY])
def test_what_is_printed_exists(page: str, line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        goals = [word for word in words if "=" not in word]
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert goals and set(goals) <= set(targets), f"{page}: the Makefile has no {goals}"
        return
    node: Any = typer.main.get_command(app)
    while words and hasattr(node, "commands") and not words[0].startswith("-"):
        assert words[0] in node.commands, f"{page}: {line!r}: no command {words[0]!r}"
        node = node.commands[words.pop(0)]
    if hasattr(node, "commands") and not words:
        return  # a group, named as such
    options = {name: p for p in node.params for name in (*p.opts, *p.secondary_opts)}
    for word in words:
        assert not word.startswith("-") or word in options, f"{page}: {line!r}: no option {word!r}"
    positional = [p for p in node.params if p.param_type_name == "argument"]
    given = [
        w for i, w in enumerate(words) if not w.startswith("-") and not _is_value(words, i, options)
    ]
    assert len(given) <= len(positional), f"{page}: {line!r}: too many arguments"


def _is_value(words: list[str], i: int, options: dict[str, Any]) -> bool:
    before = words[i - 1] if i else ""
    return before in options and not options[before].is_flag


def run_on_a_simulated_machine(code: str, folder: Path) -> str:
    """Run an example in a process of its own, because this one has imported harmgym long ago."""
    task = 'task="security/home_world_writable"'
    assert task in code
    code = code.replace(task, 'task="security/open_key", machines="fake"')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs_as_printed(tmp_path: Path) -> None:
    """On a simulated machine; the real one runs it in tests/vm."""
    printed = run_on_a_simulated_machine(README_PYTHON[0], tmp_path)
    assert "(800, 1280, 3) 0.0" in printed and "False)" in printed


def test_the_long_name_needs_no_import(tmp_path: Path) -> None:
    code = re.sub(r"^import harmgym.*\n", "", README_PYTHON[0], flags=re.M)
    assert "import harmgym" not in code
    code = code.replace('"HarmRecovery-v0"', '"harmgym:HarmRecovery-v0"')
    assert "(800, 1280, 3) 0.0" in run_on_a_simulated_machine(code, tmp_path)


def test_the_commands_of_the_readme_run_in_order(tmp_path: Path) -> None:
    """On a simulated machine, in one directory. What needs a real machine (`play`, `validate`,
    `bench`, `image`, `snapshot`) is run by tests/vm and tests/tasks.
    """
    ran = []
    for line in commands(ROOT / "README.md"):
        program, *words = shlex.split(line)
        if program != "harmgym" or words[:2] == ["tasks", "validate"]:
            continue
        match words[0]:
            case "run":
                words += [] if "--machines" in words else ["--machines", "fake"]
                words += [] if "--out" in words else ["--out", "runs/other"]
            case "doctor" | "tasks" | "report":
                pass
            case _:
                continue
        done = subprocess.run(
            [sys.executable, "-m", "harmgym", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        ran.append(words[0])
    assert {"doctor", "tasks", "run", "report"} <= set(ran)


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^([a-z-]+):", makefile, re.M):
        assert re.search(rf"^{target}:[^#\n]*## \S", makefile, re.M), (
            f"make {target} has no explanation after ##"
        )


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target} does not exist"


def named_in_pages() -> Iterator[tuple[str, str]]:
    """Every module, object and file of the package that a page of the project names."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tracked = [ROOT / name for name in listed.stdout.splitlines()]
    for page in tracked or PAGES:
        if page.exists():
            text = page.read_text(encoding="utf-8")
            for name in sorted(set(re.findall(r"(?<![\w/.-])harmgym[./]\w[\w./]*", text))):
                yield page.relative_to(ROOT).as_posix(), name.rstrip("./")


NAMED = list(named_in_pages())


@pytest.mark.parametrize(("page", "name"), NAMED, ids=[f"{p}: {name}" for p, name in NAMED])
def test_what_a_page_names_is_in_the_package(page: str, name: str) -> None:
    if "/" in name:
        file = ROOT / name
        assert file.exists() or file.with_suffix(".py").exists(), f"{page}: {name} does not exist"
        return
    found: Any = importlib.import_module("harmgym")
    for at, word in enumerate(name.split(".")[1:], start=2):
        if not hasattr(found, word):
            importlib.import_module(".".join(name.split(".")[:at]))
        found = getattr(found, word)


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "report.webp").stat().st_size < 300_000


def test_the_states_in_the_table_are_the_states() -> None:
    from harmgym.tasks.catalogue import list_tasks

    table = re.findall(r"^\| `([a-z]+/[a-z_]+)` \|", README, re.M)
    assert table == list(list_tasks())
