"""RAM files: sparse copies, deltas, the scratch copy, and pages written into another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harmgym.errors import SnapshotError
from harmgym.machines.snapshots.delta import (
    apply_delta,
    changed_since,
    inject,
    read_delta,
    write_delta,
)
from harmgym.machines.snapshots.ram import PAGE, copy_sparse, data_segments, differing_pages
from harmgym.machines.snapshots.scratch import ScratchRam

SIZE = 160 << 20


def sparse(path: Path, pages: dict[int, int]) -> Path:
    """Make a sparse file whose page n is filled with byte value v."""
    with path.open("wb") as file:
        file.truncate(SIZE)
        for page, value in pages.items():
            file.seek(page * PAGE)
            file.write(bytes([value]) * PAGE)
    return path


def changed(old: Path, new: Path, count: int = 700) -> Path:
    """Make a copy of `old` in which `count` pages differ."""
    copy_sparse(old, new)
    with new.open("r+b") as file:
        for page in np.random.default_rng(0).choice(SIZE // PAGE, count, replace=False):
            file.seek(int(page) * PAGE + 100)
            file.write(os.urandom(50))
    return new


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return sparse(tmp_path / "old", dict.fromkeys(range(0, 2000, 3), 3))


def test_copy_keeps_content_and_holes(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", {0: 1, 20_000: 2})
    copy_sparse(source, tmp_path / "b")
    assert (tmp_path / "b").stat().st_size == SIZE
    assert (tmp_path / "b").stat().st_blocks * 512 < 1 << 20
    assert not len(differing_pages(source, tmp_path / "b"))


def test_segments_of_a_hole_only_file_are_none(tmp_path: Path) -> None:
    assert list(data_segments(sparse(tmp_path / "a", {}))) == []


def test_differing_pages_sees_changed_new_and_zeroed_pages(tmp_path: Path) -> None:
    old = sparse(tmp_path / "old", {1: 7, 2: 7, 39_999: 9})
    new = sparse(tmp_path / "new", {1: 7, 2: 8, 30_000: 5})
    assert differing_pages(old, new).tolist() == [2, 30_000, 39_999]


def test_delta_restores_the_new_file_exactly(old: Path, tmp_path: Path) -> None:
    new, delta, again = changed(old, tmp_path / "new"), tmp_path / "delta", tmp_path / "again"
    pages = differing_pages(old, new)
    write_delta(new, pages, delta)
    copy_sparse(old, again)
    apply_delta(delta, again)
    assert len(pages) == 700
    assert again.read_bytes() == new.read_bytes()
    assert delta.stat().st_size < 700 * PAGE


def test_an_empty_delta_changes_nothing(old: Path, tmp_path: Path) -> None:
    write_delta(old, differing_pages(old, old), tmp_path / "delta")
    before = old.read_bytes()
    apply_delta(tmp_path / "delta", old)
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"not a delta at all, but long enough for a header", "expected a RAM delta"),
        (lambda data: data[:-10], "cut or damaged"),
        (lambda data: data[:32] + b"\xff" * 4 + data[36:], "cut or damaged"),
        (lambda data: data[:-40] + bytes(40), "damaged"),
    ],
)
def test_a_damaged_delta_is_named(old: Path, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    new, delta = changed(old, tmp_path / "new", 300), tmp_path / "delta"
    write_delta(new, differing_pages(old, new), delta)
    delta.write_bytes(damage(delta.read_bytes()))
    with pytest.raises(SnapshotError, match=message):
        apply_delta(delta, old)


def test_a_delta_of_another_base_is_refused(old: Path, tmp_path: Path) -> None:
    write_delta(old, np.array([1], np.uint32), tmp_path / "delta")
    with pytest.raises(SnapshotError, match="expected a base of"):
        read_delta(tmp_path / "delta", PAGE)


def test_a_second_delta_holds_only_what_changed_since_the_first(tmp_path: Path) -> None:
    base = sparse(tmp_path / "base", {1: 1, 2: 2, 3: 3, 4: 4})
    first = sparse(tmp_path / "first", {1: 1, 2: 20, 3: 30, 4: 40})
    # Page 2 stays as in the first, 3 changes again, 4 is the base's again, 5 is new.
    second = sparse(tmp_path / "second", {1: 1, 2: 20, 3: 31, 4: 4, 5: 5})
    write_delta(first, differing_pages(base, first), tmp_path / "delta")
    pages = changed_since([tmp_path / "delta"], second, differing_pages(base, second))
    assert pages.tolist() == [3, 4, 5]
    write_delta(second, pages, tmp_path / "next")
    for delta in ("delta", "next"):
        apply_delta(tmp_path / delta, base)
    assert base.read_bytes() == second.read_bytes()


# A stand-in for QEMU: it maps a file privately, and prints the digest of what it sees when asked.
MAPPER = """
import hashlib, mmap, sys
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0, flags=getattr(mmap, sys.argv[2]))
for _line in sys.stdin:
    print(hashlib.sha256(memory).hexdigest(), flush=True)
"""


@pytest.fixture
def mapper(old: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", MAPPER, str(old), "MAP_PRIVATE"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.kill()


def seen_by(process: subprocess.Popen[str]) -> str:
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pages_are_written_into_another_process_and_not_into_the_file(
    old: Path, tmp_path: Path, mapper: subprocess.Popen[str]
) -> None:
    new, delta, before = changed(old, tmp_path / "new"), tmp_path / "delta", sha256(old)
    write_delta(new, differing_pages(old, new), delta)
    assert seen_by(mapper) == before
    inject(delta, mapper.pid, old)
    assert seen_by(mapper) == sha256(new)
    assert sha256(old) == before


def test_a_process_without_the_mapping_is_refused(
    old: Path, tmp_path: Path, mapper: subprocess.Popen[str]
) -> None:
    seen_by(mapper)
    write_delta(old, np.array([1], np.uint32), tmp_path / "delta")
    other = sparse(tmp_path / "other", {1: 1})
    with pytest.raises(SnapshotError, match="to map .*other privately"):
        inject(tmp_path / "delta", mapper.pid, other)


def test_the_scratch_copy_is_used_again_and_equal_to_the_base(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = sparse(tmp_path / "base" / "ram", dict.fromkeys(range(0, 900, 3), 3))
    scratch = ScratchRam(tmp_path / "scratch")
    assert scratch.cost(base) > 0
    scratch.take(base, tmp_path / "one")
    inode = (tmp_path / "one").stat().st_ino
    changed(base, tmp_path / "new")
    os.replace(tmp_path / "new", tmp_path / "copy")
    with (tmp_path / "one").open("r+b") as file:
        file.write((tmp_path / "copy").read_bytes())
    scratch.give_back(base, tmp_path / "one", differing_pages(base, tmp_path / "one"))
    assert scratch.cost(base) == 0
    scratch.take(base, tmp_path / "two")
    assert (tmp_path / "two").stat().st_ino == inode
    assert (tmp_path / "two").read_bytes() == base.read_bytes()


def test_two_builders_never_get_the_same_scratch_copy(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = sparse(tmp_path / "base" / "ram", {5: 1})
    scratch = ScratchRam(tmp_path / "scratch")
    scratch.take(base, tmp_path / "one")
    scratch.give_back(base, tmp_path / "one", differing_pages(base, tmp_path / "one"))
    scratch.take(base, tmp_path / "one")
    scratch.take(base, tmp_path / "two")
    assert not os.path.samefile(tmp_path / "one", tmp_path / "two")


def test_a_scratch_copy_of_a_base_that_is_gone_is_removed(tmp_path: Path) -> None:
    for name in ("gone", "base"):
        (tmp_path / name).mkdir()
        sparse(tmp_path / name / "ram", {5: 1})
    scratch, used = ScratchRam(tmp_path / "scratch"), tmp_path / "used"
    gone = tmp_path / "gone" / "ram"
    scratch.take(gone, used)
    scratch.give_back(gone, used, differing_pages(gone, used))
    gone.unlink()
    gone.parent.rmdir()
    scratch.take(tmp_path / "base" / "ram", used)
    assert not list((tmp_path / "scratch").iterdir())
