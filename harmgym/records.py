"""Frozen, strict records, and YAML files read into them with errors that name file, key and fix."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harmgym.errors import InputError


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


R = TypeVar("R", bound=BaseModel)


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Turn a pydantic error into one sentence a problem: where, what was found, what was needed."""
    parts = []
    for item in error.errors():
        where = ".".join(str(p) for p in item["loc"]) or "(top level)"
        if item["type"] == "extra_forbidden":
            known = [field.alias or name for name, field in model.model_fields.items()]
            parts.append(f"unknown key {where!r}{did_you_mean(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            parts.append(f"key {where!r} is missing")
        else:
            parts.append(f"{where}: {item['msg']}, found {item.get('input')!r:.80}")
    return "; ".join(parts)


def parse_record(data: Any, model: type[R], where: str, error: type[InputError] = InputError) -> R:
    """Validate `data` as `model`; raise `error` with `where` and one clear sentence."""
    if not isinstance(data, dict):
        raise error(
            f"{where}: needed a mapping with the keys of {model.__name__}, found {type(data).__name__}"
        )
    try:
        return model.model_validate(data)
    except ValidationError as err:
        raise error(f"{where}: {explain(err, model)}") from None


def load_yaml(path: Path, error: type[InputError] = InputError) -> Any:
    """Read a YAML file (safe loader); raise `error` with file and line when it is missing or
    broken.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: file not found") from None
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        mark = getattr(err, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise error(
            f"{path}{line}: not valid YAML ({getattr(err, 'problem', None) or err})"
        ) from None


def load_record(path: Path, model: type[R], error: type[InputError] = InputError) -> R:
    """Read a YAML file into a record."""
    return parse_record(load_yaml(path, error), model, str(path), error)
