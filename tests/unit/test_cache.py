"""The bound of the cache: who goes first, who never goes, in this process and in another."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harmgym.errors import InputError, SnapshotError
from harmgym.machines.snapshots import cache
from harmgym.machines.snapshots.cache import bound_bytes, in_use, make_room, remove, size_of

MIB = 1 << 20


def entry(root: Path, name: str, used: int, mib: int = 4) -> Path:
    """Make a folder of the cache that was last used at second `used`."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(os.urandom(mib * MIB))
    os.utime(folder, (used, used))
    return folder


def bound(monkeypatch: pytest.MonkeyPatch, mib: float) -> None:
    monkeypatch.setenv("HARMGYM_CACHE_GIB", str(mib / 1024))


@pytest.fixture
def holder() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


HOLD = """
import sys
from pathlib import Path
from harmgym.machines.snapshots.cache import in_use
with in_use(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_in_another_process(folder: Path, holder: list[subprocess.Popen[str]]) -> None:
    command = [sys.executable, "-c", HOLD, str(folder)]
    holder.append(subprocess.Popen(command, stdin=-1, stdout=-1, text=True))
    stdout = holder[-1].stdout
    assert stdout is not None and stdout.readline() == "held\n"


def test_the_least_recently_used_goes_first_whatever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("failures/f", "snapshots/a", "images/i", "snapshots/b")
    made = [entry(tmp_path, name, used) for used, name in enumerate(names)]
    bound(monkeypatch, 9)
    assert make_room(tmp_path) >= 8 * MIB
    assert [folder.exists() for folder in made] == [False, False, True, True]


def test_within_the_bound_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = entry(tmp_path, "snapshots/a", 1)
    bound(monkeypatch, 100)
    assert make_room(tmp_path, 50 * MIB) == 0 and folder.exists()


def test_use_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = entry(tmp_path, "snapshots/old", 1), entry(tmp_path, "snapshots/new", 2)
    with in_use(old):
        pass
    bound(monkeypatch, 5)
    make_room(tmp_path)
    assert old.exists() and not new.exists()


def test_the_present_image_and_base_are_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, base = entry(tmp_path, "images/i", 1), entry(tmp_path, "snapshots/base", 2)
    older = entry(tmp_path, "images/older", 0)
    state = entry(tmp_path, "snapshots/state", 3)
    (base / "data").rename(base / "ram")
    os.utime(base, (2, 2))
    bound(monkeypatch, 9)
    make_room(tmp_path)
    assert image.exists() and base.exists() and not state.exists() and not older.exists()


def test_what_another_process_uses_is_never_removed_until_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: list[subprocess.Popen[str]]
) -> None:
    used, free = entry(tmp_path, "snapshots/used", 1), entry(tmp_path, "snapshots/free", 2)
    hold_in_another_process(used, holder)
    os.utime(used, (1, 1))
    bound(monkeypatch, 1)
    make_room(tmp_path)
    assert used.exists() and not free.exists()
    holder[0].kill()
    holder[0].wait()
    make_room(tmp_path)
    assert not used.exists()


def test_a_bound_that_cannot_be_met_is_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: list[subprocess.Popen[str]]
) -> None:
    hold_in_another_process(entry(tmp_path, "snapshots/used", 1, 8), holder)
    bound(monkeypatch, 10)
    with pytest.raises(SnapshotError, match=r"of 0\.0 GiB .* raise HARMGYM_CACHE_GIB"):
        make_room(tmp_path, 5 * MIB)


def test_a_folder_that_was_just_removed_is_an_error_and_not_an_empty_hold(tmp_path: Path) -> None:
    folder = entry(tmp_path, "snapshots/a", 1)
    assert remove(folder)
    with pytest.raises(SnapshotError, match="was removed to make room"), in_use(folder):
        pass


def test_a_folder_that_is_removed_between_opening_and_locking_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lock = entry(tmp_path, "snapshots/a", 1), cache.fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(cache.fcntl, "flock", lock)
        assert remove(folder)
        lock(descriptor, how)

    monkeypatch.setattr(cache.fcntl, "flock", late)
    with pytest.raises(SnapshotError, match="was removed"), in_use(folder):
        pass


def test_users_and_removers_at_once_never_meet_half_an_entry(tmp_path: Path) -> None:
    folder, met = tmp_path / "snapshots" / "a", []
    folder.parent.mkdir()

    def use() -> None:
        for _ in range(300):
            try:
                with in_use(folder):
                    met.append((folder / "data").exists())
            except SnapshotError:
                continue

    user = threading.Thread(target=use)
    user.start()
    while user.is_alive():
        if not folder.exists():
            aside = entry(tmp_path, "aside", 1, 0)
            aside.rename(folder)
        remove(folder)
    user.join()
    assert all(met)


def test_what_is_being_built_is_counted_and_left_alone_and_left_overs_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = entry(tmp_path, "snapshots/.building-live", 1)
    dead = entry(tmp_path, "snapshots/.building-dead", 1)
    half = entry(tmp_path, "snapshots/.gone-x-1", 1)
    locks = tmp_path / "snapshots" / "locks"
    locks.mkdir()
    bound(monkeypatch, 5)
    with (locks / "live").open("w") as file:
        cache.fcntl.flock(file, cache.fcntl.LOCK_EX)
        make_room(tmp_path)
        assert live.exists() and not dead.exists() and not half.exists()
        with pytest.raises(SnapshotError):
            make_room(tmp_path, 4 * MIB)


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf"])
def test_a_bound_that_is_no_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HARMGYM_CACHE_GIB", text)
    with pytest.raises(InputError, match="a number of GiB above 0"):
        bound_bytes(tmp_path, 0)


def test_without_a_bound_a_fifth_of_what_the_disk_has_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARMGYM_CACHE_GIB", raising=False)
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert bound_bytes(tmp_path, 0) == pytest.approx(0.8 * free, rel=0.05)


def test_holes_take_no_space(tmp_path: Path) -> None:
    (tmp_path / "ram").touch()
    os.truncate(tmp_path / "ram", 1 << 30)
    assert size_of(tmp_path) < MIB
