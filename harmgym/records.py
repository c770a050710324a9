"""Frozen, strict records, and the readers of YAML and JSON: the one place that parses files.

A file may come from anybody, so whatever is wrong with it is one sentence of `InputError` (or the
subclass that the caller names) with file and line: not there, not UTF-8, not the format, nested
thousands deep, an integer of thousands of digits, a date that no calendar has, nan.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harmgym.errors import InputError


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


R = TypeVar("R", bound=BaseModel)
MAX_DEPTH = 100
# libyaml where it is there: the reader in pure Python takes seconds for a corpus.
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


def parse_record(
    data: object, model: type[R], where: str, error: type[InputError] = InputError
) -> R:
    """Validate `data` as `model`; raise `error` with `where` and one clear sentence."""
    if not isinstance(data, dict):
        found = type(data).__name__
        raise error(f"{where}: needed a mapping with the keys of {model.__name__}, found {found}")
    try:
        return model.model_validate(data)
    except ValidationError as err:
        raise error(f"{where}: {explain(err, model)}") from None


def read_text(path: Path, error: type[InputError] = InputError, missing: str = "") -> str:
    """Read a UTF-8 file; raise `error` when that cannot be done.

    `missing`: what to say after "file not found", e.g. how to make the file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"{path}: file not found{missing and '; '}{missing}") from None
    except UnicodeDecodeError as err:
        raise error(f"{path}: needed UTF-8 text, byte {err.start} is not") from None
    except OSError as err:
        raise error(f"{path}: cannot be read ({err.strerror})") from None


def parse_json(text: str | bytes, where: str, error: type[InputError] = InputError) -> object:
    """Parse JSON text (no nan, no infinities); raise `error` with `where` when it is not JSON."""
    try:
        parsed: object = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as err:
        at = f"line {err.lineno}, " if err.lineno > 1 else ""
        raise error(f"{where}: not valid JSON ({err.msg} at {at}character {err.colno})") from None
    except RecursionError:
        raise error(f"{where}: not valid JSON (nested too deeply)") from None
    except ValueError as err:  # an integer of thousands of digits, a nan, or not UTF-8
        raise error(f"{where}: not valid JSON ({_why(err)})") from None
    return parsed


def read_json(
    path: Path, error: type[InputError] = InputError, missing: str = ""
) -> dict[str, object]:
    """Read a JSON file that holds one object; raise `error` when it does not."""
    data = parse_json(read_text(path, error, missing), str(path), error)
    if not isinstance(data, dict):
        raise error(f"{path}: needed a JSON object, found {type(data).__name__}")
    return data


def read_json_lines(
    path: Path, error: type[InputError] = InputError, missing: str = ""
) -> Iterator[tuple[str, object]]:
    """Yield ("file:line", value) of each line that is not blank; raise `error` at a broken one."""
    # Not splitlines(): JSON may hold U+2028 and U+0085 as they are, and those end no line of it.
    for number, line in enumerate(read_text(path, error, missing).split("\n"), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, parse_json(line, where, error)


def _why(err: ValueError) -> str:
    """Say what a parser did not like; Python's own words for a long integer are about Python."""
    said = str(err)
    return "an integer of too many digits" if said.startswith("Exceeds the limit") else said[:120]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"needed finite numbers, found {name}")


def load_yaml(path: Path, error: type[InputError] = InputError) -> object:
    """Read a YAML file (safe loader); raise `error` with file and line when it is missing or
    broken.
    """
    text = read_text(path, error)
    try:
        if _depth(text) > MAX_DEPTH:
            raise error(f"{path}: not valid YAML (nested too deeply)")
        parsed: object = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(err, "problem", None) or " ".join(str(err).split())
        raise error(f"{path}{line}: not valid YAML ({problem})") from None
    except ValueError as err:  # a date that no calendar has, an integer of thousands of digits
        raise error(f"{path}: not valid YAML ({_why(err)})") from None
    return parsed


def _depth(text: str) -> int:
    """Return how deep YAML is nested. Reading events is no recursion: libyaml's composer is one in
    C, and a file that is nested deeply enough ends the process there.
    """
    depth = deepest = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def load_mapping(path: Path, error: type[InputError] = InputError) -> dict[str, object]:
    """Read a YAML file that holds a mapping with names as keys."""
    data = load_yaml(path, error)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise error(f"{path}: needed a mapping from names, found {type(data).__name__}")
    return data


def load_record(path: Path, model: type[R], error: type[InputError] = InputError) -> R:
    """Read a YAML file into a record."""
    return parse_record(load_yaml(path, error), model, str(path), error)


def read_record(
    path: Path, model: type[R], error: type[InputError] = InputError, missing: str = ""
) -> R:
    """Read a JSON file into a record."""
    return parse_record(read_json(path, error, missing), model, str(path), error)
