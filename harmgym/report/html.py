"""One self-contained HTML page of a run: no request leaves it, and nothing an agent wrote can run
in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harmgym.records import Record
from harmgym.report.images import Album, fitting_album
from harmgym.report.summary import Summary, summarise
from harmgym.runs.folder import (
    EpisodeRecord,
    RunInfo,
    StepLine,
    episode_folders,
    read_episode,
    read_info,
    read_steps,
    read_verdict,
    write_atomic,
)
from harmgym.runs.words import cut, describe, name_of, reflow, signed

MAX_TERMINAL = 6000
OPEN_EPISODES = 6
TERMS = ("gate", "preference", "harm", "total")


class EpisodePage(Record):
    """What the page shows of one episode."""

    record: EpisodeRecord
    verdict: dict[str, Any] | None
    steps: list[dict[str, Any]]
    terms: list[dict[str, Any]]
    attributes: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    open: bool

    @property
    def anchor(self) -> str:
        return f"episode-{self.record.index:03d}"

    @property
    def judged_s(self) -> float | None:
        """How long judging took, in seconds."""
        seconds = (self.verdict or {}).get("seconds")
        if isinstance(seconds, dict):
            return float(seconds.get("total", max(seconds.values(), default=0.0)))
        return float(seconds) if seconds else None

    @property
    def state(self) -> str:
        """fault, unsafe, collateral or good: decides the colour of the row and what the filter
        shows.
        """
        if self.record.infra_failure is not None:
            return "fault"
        if not self.record.safe:
            return "unsafe"
        return "good" if self.record.clean else "collateral"


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write ``report.html`` of a run folder (or to `out`); return its path.

    Raises: RunError when the folder is no run or a file in it is damaged.
    """
    run = Path(run)
    info = read_info(run)
    folders = episode_folders(run)
    steps = {folder: read_steps(folder) for folder in folders}
    pictures = [folder / s.screenshot for folder in folders for s in steps[folder] if s.screenshot]
    album = fitting_album(pictures)
    pages = [
        _episode(folder, steps[folder], album, len(folders) <= OPEN_EPISODES) for folder in folders
    ]
    target = out or run / "report.html"
    write_atomic(target, render(info, pages, album))
    return target


def render(info: RunInfo, pages: list[EpisodePage], album: Album) -> str:
    """Fill the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    env = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(name=name_of, percent=_percent, signed=signed, reflow=reflow)
    data = {page.anchor: page.steps for page in pages}
    summary: Summary = summarise([page.record for page in pages])
    return env.get_template("template.html.j2").render(
        info=info,
        pages=pages,
        summary=summary,
        data=data,
        images=album.data,
        css=_asset("style.css"),
        js=_asset("player.js"),
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _episode(folder: Path, steps: list[StepLine], album: Album, is_open: bool) -> EpisodePage:
    record = read_episode(folder)
    verdict = read_verdict(folder)
    return EpisodePage(
        record=record,
        verdict=verdict,
        steps=[_step(folder, step, album) for step in steps],
        terms=_terms(record.reward_terms),
        attributes=_attributes(verdict, record.reward_terms),
        messages=[s.action for s in steps if s.action and s.action.get("type") == "message"],
        open=is_open,
    )


def _step(folder: Path, step: StepLine, album: Album) -> dict[str, Any]:
    text = str((step.shell or {}).get("text") or step.terminal)
    action = step.action or {}
    return {
        "index": step.index,
        "kind": action.get("type", "start"),
        "caption": describe(step.action),
        "t": round(step.t_s, 2),
        "ok": step.ok,
        "error": step.error or "",
        "text": cut(text, MAX_TERMINAL),
        "image": album.add(folder / step.screenshot) if step.screenshot else None,
        "point": _point(action),
    }


def _point(action: dict[str, Any]) -> list[float] | None:
    """Where the pointer went, in percent of the screen's width and height."""
    from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH

    x, y = action.get("to_x", action.get("x")), action.get("to_y", action.get("y"))
    if not isinstance(x, int) or not isinstance(y, int):
        return None
    return [round(100 * x / SCREEN_WIDTH, 2), round(100 * y / SCREEN_HEIGHT, 2)]


def _terms(terms: dict[str, Any]) -> list[dict[str, Any]]:
    """Reward terms as bars from -1 to 1: where the bar starts and how wide it is, in percent."""
    rows = []
    for key in TERMS:
        value = terms.get(key)
        if isinstance(value, (bool, int, float)):
            shown = max(-1.0, min(1.0, float(value)))
            rows.append(
                {
                    "name": key,
                    "value": float(value),
                    "left": 50 + min(0.0, shown) * 50,
                    "width": abs(shown) * 50,
                }
            )
    return rows


def _attributes(verdict: dict[str, Any] | None, terms: dict[str, Any]) -> list[dict[str, Any]]:
    """The eight attributes, 1 to 5, with what they are compared with and what they did to the
    log-odds, where known.
    """
    own = (verdict or {}).get("attributes") or terms.get("attributes") or {}
    reference, odds = terms.get("reference") or {}, terms.get("odds") or {}
    return [
        {
            "name": key,
            "value": float(value),
            "width": (float(value) - 1) * 25,
            "reference": float(reference[key]) if key in reference else None,
            "tick": (float(reference[key]) - 1) * 25 if key in reference else None,
            "odds": float(odds[key]) if key in odds else None,
        }
        for key, value in own.items()
        if isinstance(value, (int, float))
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
