"""The rule of who may import whom, read from the source; and the weight of ``import harmgym``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "harmgym"

# A module may import modules of its own row and of the rows above it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("records", "paths", "templates"),
    ("actions",),
    ("vm", "disk"),
    ("image", "image_build", "image_system", "image_verify"),
    ("apps", "seeding"),
    ("plan",),
    ("task_spec",),
    ("task",),
    ("verdict",),
    ("case",),
    ("noise", "communication", "attributes", "baseline", "collateral"),
    ("judge", "reward"),
    ("spaces", "episode", "agent"),
    ("registration", "startup", "source", "fake_source", "scaffold"),
    ("env",),
    ("vector", "wrappers"),
    ("runs",),
    ("validate", "rollout", "play", "cluster"),
    ("report", "train", "serve"),
    ("bench", "doctor"),
    ("cli",),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
HEAVY = ("torch", "ray", "matplotlib", "scipy", "statsmodels", "stable_baselines3", "transformers", "pandas")


def files() -> list[Path]:
    return [f for f in sorted(PACKAGE.rglob("*.py")) if "_content" not in f.parts]


def part(dotted: str) -> str | None:
    """The part of harmgym that a dotted name belongs to."""
    words = dotted.split(".")
    return words[1] if words[0] == "harmgym" and len(words) > 1 else None


def imported(tree: ast.AST) -> list[tuple[str, int]]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            wide = node.module == "harmgym"
            names += [(f"harmgym.{a.name}", node.lineno) for a in node.names] if wide else [(node.module, node.lineno)]
    return names


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_up_the_list_only(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in RANK, f"harmgym.{own} has no place in the order of imports; give it one in LAYERS"
    for name, line in imported(ast.parse(file.read_text(encoding="utf-8"))):
        other = part(name)
        if other in RANK and other != own:
            assert RANK[other] <= RANK[own], f"{file}:{line}: harmgym.{own} may not import harmgym.{other}, which comes later"


@pytest.mark.parametrize("file", [f for f in files() if "vm" in f.relative_to(PACKAGE).parts], ids=lambda f: f.name)
def test_machines_know_neither_tasks_nor_gymnasium_nor_torch(file: Path) -> None:
    forbidden = {"gymnasium", "torch", "harmgym.task", "harmgym.env", "harmgym.judge", "harmgym.reward"}
    found = {name for name, _ in imported(ast.parse(file.read_text(encoding="utf-8")))}
    assert not {f for f in found for bad in forbidden if f == bad or f.startswith(bad + ".")}


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = ast.Module(body=[n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], type_ignores=[])
    roots = {name.split(".")[0] for name, _ in imported(top)}
    assert not roots & set(HEAVY), f"{file}: import {', '.join(roots & set(HEAVY))} inside the function that needs it"


def test_importing_harmgym_is_light() -> None:
    code = "import sys, time as c; t = c.perf_counter(); import harmgym, harmgym.env; print(c.perf_counter() - t, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert not set(HEAVY) & set(modules)
    assert float(seconds) < 3.0, "import harmgym and its environment: well under a second on an idle host"
