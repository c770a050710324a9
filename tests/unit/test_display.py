"""Pictures from QEMU, and knowing when a screen has come to rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harmgym.errors import DisplayError
from harmgym.machines.protocol import Screenshot
from harmgym.machines.qemu.screen import read_ppm, settle


def picture(value: int) -> Screenshot:
    return np.full((800, 1280, 3), value, np.uint8)


def ppm(path: Path, width: int, height: int, body: bytes) -> Path:
    path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + body)
    return path


def test_a_picture_is_read_pixel_by_pixel_and_is_its_own_array(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (800, 1280, 3), np.uint8)
    file = ppm(tmp_path / "a.ppm", 1280, 800, pixels.tobytes())
    first, second = read_ppm(file), read_ppm(file)
    assert np.array_equal(first, pixels)
    first[0, 0] = 0
    assert np.array_equal(second, pixels)


def test_another_resolution_keeps_pixel_coordinates(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (600, 1400, 3), np.uint8)
    found = read_ppm(ppm(tmp_path / "a.ppm", 1400, 600, pixels.tobytes()))
    assert found.shape == (800, 1280, 3)
    assert np.array_equal(found[:600], pixels[:, :1280])
    assert not found[600:].any()


@pytest.mark.parametrize("data", [b"", b"P6\n1280 800\n255\nshort", b"P5\n2 2\n255\n0000"])
def test_half_a_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ppm").write_bytes(data)
    with pytest.raises(DisplayError, match="needed a binary PPM"):
        read_ppm(tmp_path / "a.ppm")


def frames(*values: int) -> Iterator[Screenshot]:
    last = values[-1]
    yield from (picture(v) for v in values)
    while True:
        yield picture(last)


def test_settle_waits_for_the_reaction_and_then_for_rest() -> None:
    source = frames(0, 0, 0, 1, 2, 3, 3)
    assert settle(lambda: next(source), picture(0), react_s=5, cap_s=10)[0, 0, 0] == 3


def test_settle_without_a_reaction_ends_after_the_time_to_react() -> None:
    source = frames(0)
    assert settle(lambda: next(source), picture(0), react_s=0.05, cap_s=10)[0, 0, 0] == 0


def test_settle_returns_the_newest_picture_of_a_screen_that_never_rests() -> None:
    values = iter(range(1, 10_000))
    taken: list[int] = []

    def take() -> Screenshot:
        taken.append(next(values) % 251)
        return picture(taken[-1])

    assert settle(take, None, react_s=0.1, cap_s=0.2)[0, 0, 0] == taken[-1]


def test_settle_calls_between_in_the_last_gap_and_never_before_the_screen_has_changed() -> None:
    pictures, calls = iter([0, 0, 1, 2, 2]), []
    shown: list[int] = []

    def take() -> Screenshot:
        shown.append(next(pictures))
        return picture(shown[-1])

    settle(take, picture(0), react_s=5, cap_s=10, between=lambda: calls.append(list(shown)))
    assert calls == [[0, 0, 1], [0, 0, 1, 2]]
