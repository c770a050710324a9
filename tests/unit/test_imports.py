"""The rule of who may import whom, read from the source; and the weight of ``import harmgym``."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "harmgym"

# From the ground up: a part may import only the parts before it, wherever the import stands.
ORDER = (
    "errors registration records text globs paths files logs actions disk machines images tasks "
    "statekit judging reward env scaffold runs preferences integrations report bench doctor cli "
    "__main__"
).split()
HEAVY = (
    "torch",
    "ray",
    "matplotlib",
    "scipy",
    "statsmodels",
    "stable_baselines3",
    "transformers",
    "pandas",
)
# What a part must not know although it comes later.
BLIND = {
    "machines": (
        "gymnasium",
        "torch",
        "harmgym.tasks",
        "harmgym.judging",
        "harmgym.env",
        "harmgym.reward",
    ),
    "scaffold": ("harmgym.machines", "harmgym.env"),
    "reward": ("torch", "scipy", "statsmodels"),
}


def source_files() -> list[Path]:
    return [f for f in sorted(PACKAGE.rglob("*.py")) if "_content" not in f.parts]


FILES = source_files()


def module_of(file: Path) -> str:
    dotted = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imported(
    tree: ast.AST, modules: set[str] | dict[str, Path] = MODULES
) -> Iterator[tuple[str, int]]:
    """Every module that is imported, inside functions too: (dotted name, line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in modules else node.module), node.lineno


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def part(dotted: str) -> str:
    """The part of harmgym that a dotted name belongs to, "" for the package or a stranger."""
    words = dotted.split(".")
    return (
        words[1]
        if words[0] == "harmgym" and len(words) > 1 and dotted != "harmgym.__version__"
        else ""
    )


def test_every_part_has_a_place_and_every_place_a_part() -> None:
    parts = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in FILES} - {
        "__init__"
    }
    assert parts == set(ORDER), "ORDER names what is not there, or lacks what is"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down_the_order_only(file: Path) -> None:
    own = part(module_of(file))
    for name, line in imported(parse(file)):
        other = part(name)
        if own and other and other != own:
            assert ORDER.index(other) < ORDER.index(own), (
                f"{file}:{line}: harmgym.{own} may not import harmgym.{other}, which comes later"
            )
        for bad in BLIND.get(own, ()):
            assert name != bad and not name.startswith(bad + "."), (
                f"{file}:{line}: {own} knows {bad}"
            )


def test_no_module_imports_itself_in_a_circle() -> None:
    """Lazy imports count: what two modules need of each other belongs into a third."""
    tree = {
        name: {other for other, _ in imported(parse(file)) if other in MODULES and other != name}
        for name, file in MODULES.items()
    }
    assert circle(tree) == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the names of one circle, [] when there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(graph.get(name, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return []

    return next((found for name in sorted(graph) if (found := visit(name))), [])


def test_the_rules_see_what_they_should() -> None:
    tree = ast.parse("def f():\n    from harmgym.env import core\n    import harmgym.cli\n")
    known = {"harmgym.env": PACKAGE, "harmgym.env.core": PACKAGE}
    assert list(imported(tree, known)) == [("harmgym.env.core", 2), ("harmgym.cli", 3)]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(file: Path) -> None:
    top = [n for n in parse(file).body if isinstance(n, ast.Import | ast.ImportFrom)]
    roots = {name.split(".")[0] for name, _ in imported(ast.Module(body=top, type_ignores=[]))}
    assert not roots & set(HEAVY), (
        f"{file}: import {roots & set(HEAVY)} inside the function that needs it"
    )


def test_importing_harmgym_is_light() -> None:
    code = (
        "import sys, time as c; t = c.process_time(); import harmgym, harmgym.env;"
        "print(c.process_time() - t, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert not set(HEAVY) & set(modules)
    # Processor time, which a busy host does not change much; 0.3 s on the host it was written on.
    assert float(seconds) < 2.0
