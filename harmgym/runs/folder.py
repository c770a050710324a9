"""Run folders: what an evaluation leaves on disk, written so that a crash or Ctrl-C never spoils a
finished episode.

```
runs/<name>/
  run.json                      RunInfo: what was run, where, with which versions and snapshots
  report.html                   written by harmgym.report
  episodes/000/episode.json     FinishedEpisode: task, variant, agent, outcome, reward terms
  episodes/000/steps.jsonl      one StepLine a line, flushed at every step
  episodes/000/step-000.webp    the screen before the first action; step-NNN.webp after step NNN
  episodes/000/verdict.json     Verdict: what the judge found (absent when the machine broke)
  episodes/003.partial/         an episode that was under way; removed when the run is continued
```

An episode is recorded in ``NNN.partial`` and renamed when it is complete: what has a number without
suffix is whole. Files are written aside and renamed. Times are seconds, dates are UTC in ISO 8601.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harmgym import __version__
from harmgym.errors import RunError
from harmgym.files import write_atomic
from harmgym.judging.verdict import Verdict
from harmgym.records import Record, parse_record, read_json, read_json_lines, read_record
from harmgym.text import clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
INCOMPLETE = "the run folder is incomplete: restore the file or delete the episode's folder"
WEBP_QUALITY = 80
MAX_DEPTH, MAX_TEXT = 60, 2000
_HALVES = re.compile("[\ud800-\udfff]")


class RunInfo(Record):
    """What a run is, kept as ``run.json``.

    `plan` holds what decides the episodes (agent, tasks, episodes, steps, seed, split, reward); a
    run is continued only when it is the same. `host` and `versions` say where the figures come
    from.
    """

    format: int = FORMAT
    name: str
    created: str
    finished: str | None = None
    command: tuple[str, ...] = ()
    plan: dict[str, Any]
    versions: dict[str, str]
    host: dict[str, Any]
    snapshots: dict[str, str] = {}


class StepLine(Record):
    """One line of ``steps.jsonl``: the action, what came of it, and what was seen afterwards.

    `t_s` is the time from the end of reset to the end of the step; `seconds` what the step took;
    `screenshot` a file name beside the line. Index 0 is the state before the first action and has
    no action.
    """

    index: int
    t_s: float
    seconds: float = 0.0
    action: dict[str, Any] | None = None
    ok: bool = True
    error: str | None = None
    shell: dict[str, Any] | None = None
    terminal: str = ""
    screenshot: str | None = None


class FinishedEpisode(Record):
    """``episode.json``: one finished episode.

    `infra_failure` (`harmgym.env.faults`) is set when the host failed; such an episode has no
    verdict and counts in no average.
    """

    index: int
    task: str
    title: str
    agent: str
    seed: int
    split: str = "train"
    attempt: int = 1
    variant: dict[str, Any] = {}
    instruction: str = ""
    summary: str = ""
    safe_end: str = ""
    must_not_change: str = ""
    snapshot: str = ""
    started: str = ""
    reset_s: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    max_steps: int = 0
    terminated: bool = False
    truncated: bool = False
    reward: float = 0.0
    reward_terms: dict[str, Any] = {}
    safe: bool | None = None
    clean: bool | None = None
    canary: str = ""
    report: str = ""
    infra_failure: dict[str, Any] | None = None


class RunFolder:
    """A run folder that this process may write to; use it as a context manager."""

    def __init__(self, path: Path, info: RunInfo, lock: IO[str]) -> None:
        self.path, self.info, self._lock = path, info, lock

    @classmethod
    def create(cls, path: Path, info: RunInfo) -> RunFolder:
        """Make the folder, or continue it when it holds the same run.

        Raises: RunError when the folder holds something else, another run, or is being written by
            another process.
        """
        path = Path(path)
        _refuse_foreign(path, info)
        try:
            (path / "episodes").mkdir(parents=True, exist_ok=True)
            lock = (path / ".lock").open("w")
        except OSError as err:
            raise RunError(
                f"{path}: cannot be used as a run folder ({err.strerror}); name another with --out"
            ) from None
        _take_lock(path, lock)
        _drop_partial(path)
        found = read_info(path) if (path / "run.json").is_file() else None
        run = cls(path, found.model_copy(update={"finished": None}) if found else info, lock)
        run._save()
        return run

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        _drop_partial(self.path)  # an interrupt may fall between two lines that begin an episode
        self._lock.close()

    def episodes(self) -> list[FinishedEpisode]:
        """Return the finished episodes in order."""
        return [read_episode(folder) for folder in episode_folders(self.path)]

    def note(self, **changes: object) -> None:
        """Change fields of run.json, atomically."""
        self.info = self.info.model_copy(update=changes)
        self._save()

    def finish(self) -> None:
        self.note(finished=now())

    def start_episode(self) -> EpisodeWriter:
        """Begin the next episode; numbers are never used twice."""
        numbers = [int(folder.name) for folder in episode_folders(self.path)]
        return EpisodeWriter(self.path / "episodes", max(numbers, default=-1) + 1)

    def _save(self) -> None:
        write_atomic(self.path / "run.json", dump(self.info.model_dump()), sync=True)


class EpisodeWriter:
    """Records one episode; pictures are encoded by a thread of its own, off the step path."""

    def __init__(self, parent: Path, index: int) -> None:
        self.index = index
        self.folder = parent / f"{index:03d}.partial"
        self._final = parent / f"{index:03d}"
        self.folder.mkdir(parents=True)
        self._lines = (self.folder / "steps.jsonl").open("w", encoding="utf-8")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="harmgym-webp")
        self._pictures: list[Future[None]] = []

    def step(self, record: StepLine, screenshot: NDArray[np.uint8] | None = None) -> None:
        """Append one step (flushed at once) and queue its picture, uint8 (height, width, 3)."""
        if screenshot is not None:
            name = f"step-{record.index:03d}.webp"
            record = record.model_copy(update={"screenshot": name})
            self._pictures.append(self._encoder.submit(save_webp, self.folder / name, screenshot))
        self._lines.write(as_line(dict(record)) + "\n")
        self._lines.flush()

    def finish(self, record: FinishedEpisode, verdict: Verdict | None) -> Path:
        """Write the outcome and give the episode its number; return its folder."""
        self._close()
        for picture in self._pictures:
            picture.result()
        if verdict is not None:
            write_atomic(
                self.folder / "verdict.json", dump(verdict.model_dump(mode="json")), sync=True
            )
        write_atomic(self.folder / "episode.json", dump(dict(record)), sync=True)
        os.replace(self.folder, self._final)
        return self._final

    def abandon(self) -> None:
        """Drop what was recorded; used when the episode was interrupted."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        self._lines.close()
        self._encoder.shutdown(wait=True)


def save_webp(path: Path, screenshot: NDArray[np.uint8]) -> None:
    """Write a screenshot as WebP."""
    from PIL import Image

    Image.fromarray(screenshot).save(path, "WEBP", quality=WEBP_QUALITY, method=2)


def dump(data: object) -> str:
    """JSON for people and programs: indented, Unicode kept, odd types as text."""
    return _json(data, indent=1) + "\n"


def as_line(data: object) -> str:
    """JSON in one line, as `dump` otherwise."""
    return _json(data, indent=None)


def _json(data: object, indent: int | None) -> str:
    """Whatever an agent said and a guest answered can be written, and read again: what JSON or
    UTF-8 cannot hold stands there as text.
    """
    try:
        text = json.dumps(
            data, indent=indent, ensure_ascii=False, default=_as_text, allow_nan=False
        )
    except (TypeError, ValueError, RecursionError):  # odd keys, nan, nested without end
        text = json.dumps(_plain(data), indent=indent, ensure_ascii=False)
    # Half a surrogate pair, which no file can hold, is written out: as a text of six characters,
    # since a reader of JSON would make half a pair of an escape.
    return clean(_HALVES.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text))


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception as err:  # an object of the caller's, with a method of its own
        return f"<{type(value).__name__} without a text: {type(err).__name__}>"


def _plain(value: object, depth: int = 0) -> object:
    """Return a value as JSON can hold it, what is nested deeper than `MAX_DEPTH` as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case dict() if depth < MAX_DEPTH:
            return {_as_text(key): _plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple() if depth < MAX_DEPTH:
            return [_plain(item, depth + 1) for item in value]
    try:
        return _as_text(value)[:MAX_TEXT]
    except RecursionError:
        return f"<{type(value).__name__}, nested too deeply>"


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def episode_folders(path: Path) -> list[Path]:
    """Folders of the finished episodes, by number."""
    return sorted(
        (f for f in (path / "episodes").glob("[0-9]*") if f.name.isdigit() and f.is_dir()),
        key=lambda f: int(f.name),
    )


def read_info(path: Path) -> RunInfo:
    """Read ``run.json``. Raises: RunError when the folder is no run folder or of another format."""
    file = path / "run.json"
    if not file.is_file():
        raise RunError(
            f"{path}: needed a run folder with run.json, found none; "
            "pass the folder that 'harmgym run --out' wrote"
        )
    data = read_json(file, RunError)
    if data.get("format") != FORMAT:
        raise RunError(
            f"{file}: needed format {FORMAT}, found {data.get('format')!r:.40}; "
            "read it with the version that wrote it"
        )
    return parse_record(data, RunInfo, str(file), RunError)


def read_episode(folder: Path) -> FinishedEpisode:
    """Read one finished episode. Raises: RunError naming the file."""
    return read_record(folder / "episode.json", FinishedEpisode, RunError, INCOMPLETE)


def read_verdict(folder: Path) -> Verdict | None:
    """Read the verdict of an episode, None when it has none. Raises: RunError naming the file."""
    file = folder / "verdict.json"
    return read_record(file, Verdict, RunError) if file.is_file() else None


def read_steps(folder: Path) -> list[StepLine]:
    """Read the steps of an episode. Raises: RunError naming file and line."""
    lines = read_json_lines(folder / "steps.jsonl", RunError, INCOMPLETE)
    return [parse_record(line, StepLine, where, RunError) for where, line in lines]


def host_facts() -> dict[str, object]:
    """Name the host as far as figures depend on it: cores, CPU model, memory (MiB), kernel."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Versions of what shapes a run."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"harmgym": __version__, "python": platform.python_version()}
    for package in ("gymnasium", "numpy", "pillow"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def success_rows(episodes: Sequence[FinishedEpisode]) -> Iterator[FinishedEpisode]:
    """The episodes that count: those whose machine held."""
    return (episode for episode in episodes if episode.infra_failure is None)


def _refuse_foreign(path: Path, info: RunInfo) -> None:
    if path.exists() and not path.is_dir():
        raise RunError(
            f"{path}: needed a folder for the run, found a file; name another with --out"
        )
    if not path.is_dir() or not _holds_anything(path):
        return
    if not (path / "run.json").is_file():
        raise RunError(
            f"{path}: needed an empty or new folder, found one with other files in it; "
            "name another with --out"
        )
    found = read_info(path)
    if found.plan != info.plan:
        differ = sorted(
            k for k in {*found.plan, *info.plan} if found.plan.get(k) != info.plan.get(k)
        )
        was = ", ".join(f"{key}={found.plan.get(key)!r:.60}" for key in differ)
        raise RunError(
            f"{path}: holds another run ({was}); name another folder with --out, "
            "or repeat that run's options"
        )


def _holds_anything(path: Path) -> bool:
    """Whether a folder holds more than what `RunFolder.create` makes before it writes run.json."""
    names = {item.name for item in path.iterdir()}
    return bool(names - {".lock", "episodes"}) or (
        "episodes" in names and any((path / "episodes").iterdir())
    )


def _drop_partial(path: Path) -> None:
    """Remove episodes that were not finished; only for the process that holds the lock."""
    for stale in (path / "episodes").glob("*.partial"):
        shutil.rmtree(stale, ignore_errors=True)


def _take_lock(path: Path, lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RunError(
            f"{path}: another process is writing this run; "
            "wait for it or name another folder with --out"
        ) from None


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
