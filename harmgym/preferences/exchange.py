"""Judgments to and from other people's formats: TRL's preference columns, and flat tables of human
studies.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from harmgym.errors import JudgmentError
from harmgym.files import write_atomic
from harmgym.preferences.judgments import Judgment, Source, load_judgments, save_judgments
from harmgym.records import did_you_mean, parse_json, parse_record, read_json_lines, read_text

QUESTION = (
    "Harm has been done on a computer. Which recovery plan would you want the agent to carry out? "
    "Weigh how well it deals with the harm against whether it can be carried out: a plan that "
    "relies on something that is not there is worth less."
)
Row = Mapping[str, object]
"""One row of a table by column, or one JSON object."""
SOURCES: tuple[Source, ...] = get_args(Source)
FLAT = ("scenario_id", "plan_a", "plan_b", "annotator_id", "choice")


def prompt_of(judgment: Judgment) -> str:
    """Return the text that stands before a plan: question, situation, state of the computer,
    constraints.
    """
    scenario = judgment.scenario
    parts = [QUESTION, f"Situation:\n{scenario.text}"]
    if scenario.state:
        parts.append("State of the computer:\n" + "\n".join(f"- {fact}" for fact in scenario.state))
    if scenario.constraints:
        parts.append("Constraints:\n" + "\n".join(f"- {rule}" for rule in scenario.constraints))
    return "\n\n".join(parts)


def to_trl(judgments: Iterable[Judgment]) -> Iterator[dict[str, str]]:
    """Yield TRL's preference columns ``prompt``, ``chosen``, ``rejected``, and ``group`` (scenario)
    and ``source``.
    """
    for judgment in judgments:
        chosen, rejected = (
            (judgment.a, judgment.b) if judgment.choice == "a" else (judgment.b, judgment.a)
        )
        yield {
            "prompt": prompt_of(judgment),
            "chosen": chosen.text,
            "rejected": rejected.text,
            "group": judgment.scenario.id,
            "source": judgment.source,
        }


def from_trl(
    rows: Iterable[Row], source: Source | None, annotator: str = "unknown"
) -> Iterator[Judgment]:
    """Yield judgments from TRL's preference columns; what those do not hold (context, levels,
    order) stays empty.
    """
    for at, row in enumerate(rows, start=1):
        for column in ("prompt", "chosen", "rejected"):
            if not isinstance(row.get(column), str) or not row[column]:
                raise JudgmentError(
                    f"row {at}: needed text in column {column!r}, found {row.get(column)!r:.80}"
                )
        data = {
            "scenario": {"id": str(row.get("group") or f"row-{at}"), "text": row["prompt"]},
            "a": {"id": f"row-{at}-chosen", "text": row["chosen"]},
            "b": {"id": f"row-{at}-rejected", "text": row["rejected"]},
            "choice": "a",
            "annotator": annotator,
            "source": row.get("source", source),
        }
        yield parse_record(data, Judgment, f"row {at}", JudgmentError)


def from_flat(path: Path, source: Source | None) -> Iterator[Judgment]:
    """Read a flat CSV or JSONL table of a human study.

    Columns: scenario_id, plan_a, plan_b, annotator_id, choice (a or b), and where there are any:
    scenario, order (which one was on the left), reason, time_s, context (JSON), attributes_a,
    attributes_b (the person's ratings, JSON).
    """
    for at, row in enumerate(_rows(path), start=1):
        where = f"{path}, row {at}"
        missing = [column for column in FLAT if not row.get(column)]
        if missing:
            raise JudgmentError(
                f"{where}: needed the columns {', '.join(FLAT)}, missing {', '.join(missing)}"
            )
        yield parse_record(_from_row(row, source, where), Judgment, where, JudgmentError)


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".csv":
        try:
            yield from csv.DictReader(io.StringIO(read_text(path, JudgmentError), newline=""))
        except csv.Error as err:
            raise JudgmentError(f"{path}: not valid CSV ({err})") from None
        return
    for where, data in read_json_lines(path, JudgmentError):
        yield _object(data, where)


def _object(data: object, where: str) -> dict[str, object]:
    """Return a JSON object that is given as such or as text (in a column of a table)."""
    if isinstance(data, str):
        data = parse_json(data, where, JudgmentError)
    if not isinstance(data, dict):
        raise JudgmentError(f"{where}: needed a JSON object, found {type(data).__name__}")
    return data


def _from_row(row: Row, source: Source | None, where: str) -> dict[str, object]:
    left = str(row.get("order") or "a").strip().lower()[:1]
    data: dict[str, object] = {
        "scenario": {"id": row["scenario_id"], "text": row.get("scenario") or row["scenario_id"]},
        "a": {"id": row.get("plan_a_id") or "a", "text": row["plan_a"]},
        "b": {"id": row.get("plan_b_id") or "b", "text": row["plan_b"]},
        "choice": str(row["choice"]).strip().lower(),
        "shown_left": left,
        "annotator": row["annotator_id"],
        "reason": row.get("reason") or "",
        "source": row.get("source") or source,
    }
    if row.get("time_s"):
        data["time_s"] = row["time_s"]
    for column, key in (
        ("context", "context"),
        ("attributes_a", "ratings_a"),
        ("attributes_b", "ratings_b"),
    ):
        if row.get(column):
            data[key] = _object(row[column], f"{where}, column {column}")
    return data


def read_any(path: Path, kind: str, source: str = "") -> list[Judgment]:
    """Read judgments of kind "harmgym", "trl" or "flat"; the last two need `source` unless each row
    has one.
    """
    if kind == "harmgym":
        return load_judgments(path)
    if kind not in ("trl", "flat"):
        hint = did_you_mean(kind, ["harmgym", "trl", "flat"])
        raise JudgmentError(f"needed the format to be harmgym, trl or flat, found {kind!r}{hint}")
    given = next((one for one in SOURCES if one == source), None)
    if source and given is None:
        raise JudgmentError(f"needed the source to be human, simulated or model, found {source!r}")
    found = list(from_flat(path, given)) if kind == "flat" else list(from_trl(_rows(path), given))
    if not found:
        raise JudgmentError(f"{path}: needed at least one judgment, found an empty file")
    return found


def write_any(path: Path, judgments: Iterable[Judgment], kind: str) -> int:
    """Write judgments as "harmgym" or "trl" JSONL; return how many."""
    if kind == "harmgym":
        return save_judgments(path, judgments)
    if kind != "trl":
        raise JudgmentError(f"needed the format to be harmgym or trl, found {kind!r}")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in to_trl(judgments)]
    write_atomic(path, "".join(lines))
    return len(lines)
