"""RAM files: sparse copies and deltas."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from harmgym.errors import SnapshotError
from harmgym.machines.snapshots.ram import (
    PAGE,
    apply_delta,
    copy_sparse,
    data_segments,
    differing_pages,
    write_delta,
)

SIZE = 160 << 20


def sparse(path: Path, pages: dict[int, int]) -> Path:
    """Make a sparse file whose page n is filled with byte value v."""
    with path.open("wb") as file:
        file.truncate(SIZE)
        for page, value in pages.items():
            file.seek(page * PAGE)
            file.write(bytes([value]) * PAGE)
    return path


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


def test_delta_restores_the_new_file_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    old = sparse(tmp_path / "old", dict.fromkeys(range(0, 2000, 3), 3))
    new = tmp_path / "new"
    copy_sparse(old, new)
    with new.open("r+b") as file:
        for page in rng.choice(SIZE // PAGE, 700, replace=False):
            file.seek(int(page) * PAGE + 100)
            file.write(os.urandom(50))
    count = write_delta(old, new, tmp_path / "delta")
    apply_delta(old, tmp_path / "delta", tmp_path / "again")
    assert count == 700
    assert (tmp_path / "again").read_bytes() == new.read_bytes()
    assert (tmp_path / "delta").stat().st_size < 700 * PAGE


def test_delta_of_another_base_or_a_foreign_file_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    old = sparse(tmp_path / "old", {1: 1})
    (tmp_path / "junk").write_bytes(b"not a delta at all, but long enough for a header")
    with pytest.raises(SnapshotError, match="needed a RAM delta"):
        apply_delta(old, tmp_path / "junk", tmp_path / "out")
    small = tmp_path / "small"
    small.write_bytes(bytes(PAGE))
    write_delta(old, sparse(tmp_path / "new", {1: 2}), tmp_path / "delta")
    with pytest.raises(SnapshotError, match="needed a base of"):
        apply_delta(small, tmp_path / "delta", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["delta", "junk", "new", "old", "small"]
