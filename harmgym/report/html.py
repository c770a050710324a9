"""One self-contained HTML page of a run: no request leaves it, and nothing an agent wrote can run
in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from harmgym.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from harmgym.files import write_atomic
from harmgym.judging.verdict import Verdict
from harmgym.report.images import Album, fitting_album
from harmgym.report.summary import Summary, summarise
from harmgym.runs.folder import (
    FinishedEpisode,
    RunInfo,
    StepLine,
    episode_folders,
    read_episode,
    read_info,
    read_steps,
    read_verdict,
)
from harmgym.runs.words import cut, describe, name_of, reflow, signed
from harmgym.text import clean

MAX_TERMINAL = 6000
OPEN_EPISODES = 6
TERMS = ("gate", "preference", "harm", "total")


class StepView(TypedDict):
    """One step as the player shows it; `point` in percent of the screen's width and height."""

    index: int
    kind: str
    caption: str
    t: float
    ok: bool
    error: str
    text: str
    image: str | None
    point: tuple[float, float] | None


class TermBar(TypedDict):
    """A reward term as a bar from -1 to 1: where it starts and how wide it is, in percent."""

    name: str
    value: float
    left: float
    width: float


class AttributeBar(TypedDict):
    """An attribute, 1 to 5, what it is compared with and what it did to the log-odds."""

    name: str
    value: float
    width: float
    reference: float | None
    tick: float | None
    odds: float | None


@dataclass(frozen=True)
class EpisodePage:
    """What the page shows of one episode."""

    record: FinishedEpisode
    verdict: Verdict | None
    steps: list[StepView]
    terms: list[TermBar]
    attributes: list[AttributeBar]
    messages: list[dict[str, object]]
    open: bool

    @property
    def anchor(self) -> str:
        return f"episode-{self.record.index:03d}"

    @property
    def judged_s(self) -> float | None:
        """How long judging took, in seconds."""
        if self.verdict is None:
            return None
        seconds = self.verdict.seconds
        return seconds.get("total", max(seconds.values(), default=0.0))

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
    write_atomic(target, clean(render(info, pages, album)), sync=True)
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


def _step(folder: Path, step: StepLine, album: Album) -> StepView:
    text = str((step.shell or {}).get("text") or step.terminal)
    action = step.action or {}
    return {
        "index": step.index,
        "kind": str(action.get("type", "start")),
        "caption": describe(step.action),
        "t": round(step.t_s, 2),
        "ok": step.ok,
        "error": step.error or "",
        "text": cut(text, MAX_TERMINAL),
        "image": album.add(folder / step.screenshot) if step.screenshot else None,
        "point": _point(action),
    }


def _point(action: Mapping[str, object]) -> tuple[float, float] | None:
    """Where the pointer went, in percent of the screen's width and height."""
    x, y = action.get("to_x", action.get("x")), action.get("to_y", action.get("y"))
    if not isinstance(x, int) or not isinstance(y, int):
        return None
    return round(100 * x / SCREEN_WIDTH, 2), round(100 * y / SCREEN_HEIGHT, 2)


def _terms(terms: Mapping[str, object]) -> list[TermBar]:
    rows: list[TermBar] = []
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


def _attributes(verdict: Verdict | None, terms: Mapping[str, object]) -> list[AttributeBar]:
    """The eight attributes of the verdict (else those that the reward was given for)."""
    if verdict is not None and verdict.attributes is not None:
        own = _figures(verdict.attributes.model_dump())
    else:
        own = _figures(terms.get("attributes"))
    reference, odds = _figures(terms.get("reference")), _figures(terms.get("odds"))
    return [
        {
            "name": key,
            "value": value,
            "width": (value - 1) * 25,
            "reference": reference.get(key),
            "tick": (reference[key] - 1) * 25 if key in reference else None,
            "odds": odds.get(key),
        }
        for key, value in own.items()
    ]


def _figures(found: object) -> dict[str, float]:
    """The numbers of a mapping by name; nothing where it is none."""
    if not isinstance(found, dict):
        return {}
    return {str(key): float(value) for key, value in found.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
